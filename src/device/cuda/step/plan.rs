//! Where the memory of a step lies: a layout that is computed once and used for every later step.
//!
//! A training step is known in advance to the last byte once it has been seen: which buffer is asked for when, how large it is, when it
//! is given back. The pool (`memory.rs`) doesn't know that and keeps a buffer for every size that ever was; so an activation of 100 MB
//! waits for the next step while the gradient beside it, of 98 MB, gets memory of its own. [`Plan::new`] lays all of them out in one
//! arena, in which blocks may share bytes when they don't live at the same time.
//!
//! The best layout is hard to find (dynamic storage allocation is NP-complete), a good one is easy: largest block first, each into the
//! narrowest gap that is free for as long as it lives, behind everything if there is none. This is within a few per cent of the
//! most that lives at once for such programs (Pisarchyk and Lee, *Efficient Memory Management for Deep Neural Net Inference*, 2020). For
//! the rare case in which it is not even as good as the pool, the pool's own layout is computed too, and the smaller one taken.
//!
//! Blocks that outlive the step (parameters' averages in the first one, what a callback keeps) have no place in the plan.

use std::collections::BTreeMap;

/// Blocks begin at multiples of this, as the pool's do.
const GRAIN: usize = 512;

/// One allocation of a step; time is counted in allocations and releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    pub bytes: usize,
    pub from: usize,
    /// The first moment at which it is no longer needed; `None` if it outlives the step.
    pub until: Option<usize>,
}

/// The places of a step's allocations, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What was asked for, and where in the arena it lies.
    pub places: Vec<(usize, Option<usize>)>,
    /// Bytes of the arena.
    pub size: usize,
    /// Bytes that the pool has for the same blocks.
    pub pooled: usize,
}

/// A block that has a place: in time and in the arena, each from and until.
#[derive(Clone, Copy)]
struct Placed {
    time: (usize, usize),
    at: (usize, usize),
}

impl Plan {
    /// The plan for a step like `blocks`, whose sizes the pool rounds up by `rounded`.
    pub fn new(blocks: &[Block], rounded: impl Fn(usize) -> usize) -> Plan {
        let (size, places) = best_fit(blocks);
        let (pooled, as_pool) = size_classes(blocks, rounded);
        let (size, places) = if size <= pooled { (size, places) } else { (pooled, as_pool) };
        Plan { places: blocks.iter().map(|b| b.bytes).zip(places).collect(), size, pooled }
    }
}

fn best_fit(blocks: &[Block]) -> (usize, Vec<Option<usize>>) {
    let mut places = vec![None; blocks.len()];
    let mut order: Vec<(usize, usize, (usize, usize))> = blocks
        .iter()
        .enumerate()
        .filter_map(|(i, b)| Some((i, b.bytes.next_multiple_of(GRAIN), (b.from, b.until?))))
        .collect();
    order.sort_by_key(|&(i, bytes, _)| (std::cmp::Reverse(bytes), i));
    let mut placed: Vec<Placed> = Vec::new(); // by place
    let mut size = 0;
    for (i, bytes, time) in order {
        let (mut end, mut best) = (0, None);
        for other in placed.iter().filter(|p| p.time.0 < time.1 && time.0 < p.time.1) {
            let gap = other.at.0.saturating_sub(end);
            if gap >= bytes && best.is_none_or(|(narrowest, _)| gap < narrowest) {
                best = Some((gap, end));
            }
            end = end.max(other.at.1);
        }
        let from = best.map_or(end, |(_, from)| from);
        let block = Placed { time, at: (from, from + bytes) };
        placed.insert(placed.partition_point(|p| p.at.0 <= from), block);
        size = size.max(from + bytes);
        places[i] = Some(from);
    }
    (size, places)
}

/// A region for each size, with as many places as there are blocks of that size at once.
fn size_classes(blocks: &[Block], rounded: impl Fn(usize) -> usize) -> (usize, Vec<Option<usize>>) {
    let mut classes: BTreeMap<usize, Vec<usize>> = BTreeMap::new(); // until when each place is taken
    let mut slots = vec![None; blocks.len()];
    for (block, slot) in blocks.iter().zip(&mut slots) {
        let Some(until) = block.until else { continue };
        let class = rounded(block.bytes);
        let places = classes.entry(class).or_default();
        let free = places.iter().position(|taken| *taken <= block.from).unwrap_or(places.len());
        match places.get_mut(free) {
            Some(taken) => *taken = until,
            None => places.push(until),
        }
        *slot = Some((class, free));
    }
    let mut size = 0;
    let starts: BTreeMap<usize, usize> = classes
        .iter()
        .map(|(class, places)| {
            let start = size;
            size += class * places.len();
            (*class, start)
        })
        .collect();
    (size, slots.iter().map(|slot| slot.map(|(class, n)| starts[&class] + class * n)).collect())
}

#[cfg(test)]
mod tests {
    use super::super::super::memory::rounded;
    use super::*;
    use crate::rng::{Purpose, Rng};

    /// Most bytes that live at once: no layout is smaller.
    fn most(blocks: &[Block]) -> usize {
        let lives = |t: usize| blocks.iter().filter(move |b| b.until.is_some_and(|u| b.from <= t && t < u));
        let at = |t: usize| lives(t).map(|b| b.bytes.next_multiple_of(GRAIN)).sum::<usize>();
        blocks.iter().map(|b| at(b.from)).max().unwrap_or(0)
    }

    /// What a plan must be, whatever the step.
    fn check(blocks: &[Block], plan: &Plan) {
        assert_eq!(plan.places.len(), blocks.len());
        let ends = |i: usize| plan.places[i].1.map(|at| (at, at + blocks[i].bytes));
        for (i, a) in blocks.iter().enumerate() {
            assert_eq!((plan.places[i].0, plan.places[i].1.is_some()), (a.bytes, a.until.is_some()));
            let Some((from, until)) = ends(i) else { continue };
            assert!(until <= plan.size && from.is_multiple_of(GRAIN), "block {i} at {from} of {}", plan.size);
            for (j, b) in blocks.iter().enumerate().skip(i + 1) {
                let Some((other, other_end)) = ends(j) else { continue };
                let together = b.from < a.until.unwrap() && a.from < b.until.unwrap();
                assert!(!together || until <= other || other_end <= from, "blocks {i} and {j} overlap");
            }
        }
        assert!(plan.size <= plan.pooled, "{} bytes for the pool's {}", plan.size, plan.pooled);
        assert!(plan.size >= most(blocks));
    }

    #[test]
    fn no_two_living_blocks_share_a_byte_and_none_is_worse_than_the_pool() {
        let (mut sum, mut bound) = (0, 0);
        for case in 0..200 {
            let mut rng = Rng::at(11, Purpose::Init, case, 0);
            let (mut blocks, mut living): (Vec<Block>, Vec<usize>) = (Vec::new(), Vec::new());
            let mut free = Vec::new();
            for time in 0..20 + rng.below(200) {
                if living.is_empty() || rng.chance(0.55) {
                    // From a handful of bytes to many, in few and in many sizes.
                    let most = 1 << rng.below(24);
                    let bytes = match case % 3 {
                        0 => 1 + rng.below(most),
                        1 => 700 << rng.below(5),
                        _ => (1 << 20) + rng.below(1 << 18),
                    };
                    living.push(blocks.len());
                    blocks.push(Block { bytes, from: time, until: None });
                } else {
                    let i = living.swap_remove(rng.below(living.len()));
                    blocks[i].until = Some(time);
                    free.push(i);
                }
            }
            let plan = Plan::new(&blocks, rounded);
            check(&blocks, &plan);
            (sum, bound) = (sum + plan.size, bound + most(&blocks));
        }
        println!("{:.3} of the least possible", sum as f64 / bound as f64);
        assert!(sum as f64 <= 1.1 * bound as f64, "{sum} bytes where {bound} are needed at once");
    }

    /// Activations that wait for the way back, and gradients that come and go: the shape of a training step.
    #[test]
    fn a_step_takes_little_more_than_what_lives_at_once() {
        let (mut blocks, mut time) = (Vec::new(), 0);
        let sizes: Vec<usize> = (0..60).map(|i| (3_000_000 >> (i / 15)) + 4096 * i).collect();
        for &bytes in &sizes {
            blocks.push(Block { bytes, from: time, until: None });
            time += 1;
        }
        let mut gradient: Option<usize> = None;
        for (i, &bytes) in sizes.iter().enumerate().rev() {
            blocks.push(Block { bytes, from: time, until: None });
            blocks[i].until = Some(time + 1);
            if let Some(before) = gradient.replace(blocks.len() - 1) {
                blocks[before].until = Some(time + 2);
            }
            time += 3;
        }
        let plan = Plan::new(&blocks, rounded);
        check(&blocks, &plan);
        assert_eq!(plan.places[blocks.len() - 1].1, None, "the last gradient outlives the step");
        assert!(plan.size as f64 <= 1.05 * most(&blocks) as f64, "{} for {}", plan.size, most(&blocks));
        println!("{} bytes, the pool has {}", plan.size, plan.pooled);
    }
}
