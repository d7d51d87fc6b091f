//! The memory of steps while they run: what is recorded of a step, and the arena that serves the next one like it.
//!
//! A step is recorded as it goes: each allocation and each release. When a step does what an earlier one did, the [`Plan`] for them
//! is made, and from then on the n-th allocation of such a step gets the n-th place, if it asks for as many bytes and nobody is there: a
//! block that was kept from an earlier step keeps its bytes. In all other cases the pool serves, as ever, so that a wrong guess costs
//! memory and nothing else. The guess is that after a step comes what came after it the last time, among steps of one name that ask for
//! the same first: so steps that take turns, as those that accumulate gradients do, each have their plan.
//!
//! All plans of a device share one arena, as large as the largest needs: steps run one after the other on one stream.

use super::super::Gpu;
use super::super::driver::{Address, Driver};
use super::plan::{Block, Plan};
use std::collections::{BTreeMap, HashMap};

/// Kinds of steps that are told apart; more are no kinds.
const KINDS: usize = 32;

/// Steps of one kind that are told apart.
const VARIANTS: usize = 8;

/// A kind of step: its name, and what it asks for first.
type Kind = (&'static str, usize);

#[derive(Debug, Default)]
pub struct Planner {
    step: Option<Step>,
    known: HashMap<Kind, Known>,
    /// The one in use, and before it those that somebody is still in.
    arenas: Vec<Arena>,
}

/// The step that runs.
#[derive(Debug)]
struct Step {
    name: &'static str,
    blocks: Vec<Block>,
    /// Allocations and releases so far.
    time: usize,
    /// Its blocks that live.
    living: HashMap<Address, usize>,
    /// It asked for something that the plan doesn't have.
    lost: bool,
}

/// Steps of one kind.
#[derive(Debug, Default)]
struct Known {
    variants: Vec<Variant>,
    /// What the last one was.
    last: Option<usize>,
}

/// Steps that ask for the same.
#[derive(Debug)]
struct Variant {
    blocks: Vec<Block>,
    /// Since there was a second one.
    plan: Option<Plan>,
    /// What came after it the last time.
    next: Option<usize>,
}

impl Known {
    /// The plan of what should come now.
    fn plan(&self) -> Option<&Plan> {
        let next = self.variants.get(self.last?)?.next?;
        self.variants.get(next)?.plan.as_ref()
    }

    /// A step has ended. The plan that was made for it, if one was.
    fn add(&mut self, blocks: Vec<Block>, rounded: impl Fn(usize) -> usize) -> Option<&Plan> {
        let found = self.variants.iter().position(|variant| variant.blocks == blocks);
        let now = found.unwrap_or_else(|| {
            if self.variants.len() == VARIANTS {
                *self = Known::default();
            }
            self.variants.push(Variant { blocks, plan: None, next: None });
            self.variants.len() - 1
        });
        if let Some(last) = self.last.replace(now) {
            self.variants[last].next = Some(now);
        }
        let variant = &mut self.variants[now];
        if found.is_none() || variant.plan.is_some() {
            return None;
        }
        Some(variant.plan.insert(Plan::new(&variant.blocks, rounded)))
    }
}

#[derive(Debug)]
struct Arena {
    at: Address,
    bytes: usize,
    /// Blocks in use: where they begin and end.
    living: BTreeMap<usize, usize>,
}

impl Arena {
    fn is_free(&self, from: usize, until: usize) -> bool {
        self.living.range(..until).next_back().is_none_or(|(_, end)| *end <= from)
    }
}

/// What a plan saves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlanSize {
    /// Bytes of the arena that serves all steps.
    pub arena: usize,
    /// Bytes of the buffers in which the pool would keep the same blocks.
    pub pool: usize,
}

impl Planner {
    pub fn begin(&mut self, name: &'static str) {
        self.step = Some(Step { name, blocks: Vec::new(), time: 0, living: HashMap::new(), lost: false });
    }

    /// The place in the arena for the next block, if there is one.
    pub fn place(&mut self, bytes: usize) -> Option<Address> {
        let step = self.step.as_mut().filter(|step| !step.lost)?;
        let n = step.blocks.len();
        let kind = (step.name, step.blocks.first().map_or(bytes, |first| first.bytes));
        let plan = self.known.get(&kind)?.plan()?;
        let Some((_, place)) = plan.places.get(n).filter(|(planned, _)| *planned == bytes) else {
            step.lost = true;
            return None;
        };
        let from = (*place)?;
        let arena =
            self.arenas.last_mut().filter(|arena| from + bytes <= arena.bytes && arena.is_free(from, from + bytes))?;
        arena.living.insert(from, from + bytes);
        Some(arena.at.offset(from))
    }

    /// A block of this step, wherever it lies.
    pub fn took(&mut self, at: Address, bytes: usize) {
        let Some(step) = &mut self.step else { return };
        step.living.insert(at, step.blocks.len());
        step.blocks.push(Block { bytes, from: step.time, until: None });
        step.time += 1;
    }

    /// A block is given back; whether it is the arena's.
    pub fn gave(&mut self, at: Address) -> bool {
        if let Some(step) = &mut self.step
            && let Some(n) = step.living.remove(&at)
        {
            step.blocks[n].until = Some(step.time);
            step.time += 1;
        }
        let home = |arena: &&mut Arena| (arena.at.0..arena.at.0 + arena.bytes as u64).contains(&at.0);
        let Some(arena) = self.arenas.iter_mut().find(home) else { return false };
        arena.living.remove(&((at.0 - arena.at.0) as usize));
        true
    }

    /// The step has ended. What the arena must grow to, when a new plan needs it.
    pub fn end(&mut self, rounded: impl Fn(usize) -> usize) -> Option<usize> {
        let step = self.step.take()?;
        let kind = (step.name, step.blocks.first()?.bytes);
        if self.known.len() >= KINDS && !self.known.contains_key(&kind) {
            return None;
        }
        let size = self.known.entry(kind).or_default().add(step.blocks, rounded)?.size;
        (size > self.arenas.last().map_or(0, |arena| arena.bytes)).then_some(size)
    }

    /// Replaces the arena. `at` has `bytes`.
    pub fn grow(&mut self, at: Address, bytes: usize) {
        self.arenas.push(Arena { at, bytes, living: BTreeMap::new() });
    }

    /// Gives arenas back in which nobody is any more, all but the one in use.
    pub fn sweep(&mut self, driver: &dyn Driver) {
        let newest = self.arenas.last().map(|arena| arena.at);
        self.arenas.retain(|arena| Some(arena.at) == newest || !arena.free(driver));
    }

    /// Gives back what can be given back, and forgets the plans if that is all; whether it was.
    pub fn release(&mut self, driver: &dyn Driver) -> bool {
        self.arenas.retain(|arena| !arena.free(driver));
        if self.arenas.is_empty() {
            self.known.clear();
        }
        self.arenas.is_empty()
    }

    /// Bytes of the arena, and what the pool would have for the largest plan.
    pub fn size(&self) -> Option<PlanSize> {
        let arena = self.arenas.last()?.bytes;
        let pool = self
            .known
            .values()
            .flat_map(|known| &known.variants)
            .filter_map(|v| Some(v.plan.as_ref()?.pooled))
            .max()?;
        Some(PlanSize { arena, pool })
    }
}

impl Arena {
    /// Gives the memory back, unless somebody is in it; whether it did.
    fn free(&self, driver: &dyn Driver) -> bool {
        if self.living.is_empty() {
            // SAFETY: the address came from this driver with this size and nobody has a block in it. Work that did was given before.
            unsafe { driver.free(self.at, self.bytes) };
        }
        self.living.is_empty()
    }
}

impl Gpu {
    /// What the memory plan of the steps so far saves; `None` before there is one.
    pub fn plan(&self) -> Option<PlanSize> {
        self.pool().plan()
    }
}
