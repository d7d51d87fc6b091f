//! A training step as one launch.
//!
//! A step is three hundred kernels, and giving them to the driver one by one takes the host longer than small batches take the GPU;
//! besides, about a microsecond passes between a kernel and the next. NVIDIA's driver can keep work as a graph and start all of it at
//! once. This module makes such graphs without anybody above knowing: inside [`Gpu::step`] the host's code runs as it always does,
//! tape, callbacks, optimizer and all, but the work is gathered in a list (`list.rs`) and handed over at the end. A list that
//! has come before, equal in every byte, is a graph by then (`graphs.rs`); one that is new is given piece by piece. So a graph never has
//! to be right about what a step does: each step says so itself, and the graph is only the fast way to do the same again.
//!
//! | what would make every list a new one | what is done about it |
//! |---|---|
//! | memory lies elsewhere | a plan gives the n-th allocation its place (`plan.rs`, `arena.rs`); the pool gives the lowest address |
//! | values change: rates, seeds, random crops | they travel as tables, not as arguments, from fixed host memory (`staging.rs`) |
//! | batches and losses travel beside | their buffers belong to one of three turns, as the staging memory does |
//!
//! Nobody sees work that isn't given yet: who waits for the device (a download, [`Gpu::synchronize`], a number that is read back) has
//! the list handed over first, and the step goes on in a second list. An event that stands for work in the list is recorded behind it.
//! Where steps don't repeat, because a callback keeps a tensor of each, gathering is left for a while.
//!
//! The host waits before the third step ahead of the device. Its own work per step stays what it was, so graphs help where that is less
//! than the device's: 2 to 3 % of a step on an H200. With an entry `graph` in `kernels/verified.json`, which is what a GPU has seen to be right, it is on
//! unless `ONECYCLE_GRAPH=0` is in the environment; without one it is off until asked for, by 1 or [`Gpu::use_graphs`].
//!
//! ```no_run
//! # use onecycle::{Device, Result};
//! # fn train_on_a_batch() -> Result<()> { Ok(()) }
//! # fn main() -> Result<()> {
//! let device = Device::cuda(0)?;
//! for i in 0..100 {
//!     device.step(("train", i), || train_on_a_batch())?;
//! }
//! # Ok(())
//! # }
//! ```

mod arena;
mod graphs;
mod list;
mod plan;
mod staging;

pub use arena::PlanSize;
pub(super) use arena::Planner;
pub use list::Arguments;
pub(super) use list::Work;

use super::Gpu;
use super::driver::{Address, Event, Failure};
use crate::device::report::graphs_are_verified;
use crate::{Error, ErrorKind, Result};
use graphs::Graphs;
use list::{List, Refused};
use staging::{SETS, Set};
use std::ffi::OsStr;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// The variable of the environment that turns graphs on or off.
pub const VARIABLE: &str = "ONECYCLE_GRAPH";

/// After so many lists without one that came before, steps are left alone ..
const PATIENCE: usize = 96;
/// .. for so many steps.
const PAUSE: usize = 1024;

/// The steps of one device.
#[derive(Debug, Default)]
pub(super) struct Steps {
    /// Whether work is gathered, to be looked at without the lock: whoever needs what another thread gathered has heard of it.
    open: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What [`Gpu::use_graphs`] has said.
    wanted: Option<bool>,
    open: bool,
    list: List,
    /// How many lists were handed over.
    handed: u64,
    /// To be recorded behind the list.
    events: Vec<Event>,
    /// Batch buffers that work in the list reads, and which nobody needs after it.
    given: Vec<(usize, Address, Turn)>,
    sets: [Set; SETS],
    turn: usize,
    graphs: Graphs,
    pause: usize,
}

/// Which of the staging memories a step has; `None` outside of steps. Buffers that travel are used again in the same turn only, so that
/// the same step finds the same ones.
pub(super) type Turn = Option<usize>;

/// What was read back inside a step is there after a list with this number was handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket(u64);

/// The work of a step that is being gathered.
pub(super) struct Gathering<'a>(MutexGuard<'a, State>);

impl Deref for Gathering<'_> {
    type Target = List;
    fn deref(&self) -> &List {
        &self.0.list
    }
}

impl DerefMut for Gathering<'_> {
    fn deref_mut(&mut self) -> &mut List {
        &mut self.0.list
    }
}

impl Gathering<'_> {
    pub fn turn(&self) -> Turn {
        Some(self.0.turn)
    }

    /// A copy of `data` for work in the list.
    pub fn stage(&mut self, gpu: Gpu, data: &[u8]) -> Result<*const u8, Failure> {
        let turn = self.0.turn;
        self.0.sets[turn].stage(gpu.driver(), data)
    }

    /// Has an event recorded behind the list.
    pub fn record(&mut self, event: Event) -> Ticket {
        self.0.events.push(event);
        Ticket(self.0.handed)
    }

    /// A batch buffer may be used again behind the list.
    pub fn give(&mut self, size: usize, address: Address, turn: Turn) {
        self.0.given.push((size, address, turn));
    }
}

impl Steps {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Gives the list to the driver. Events are recorded whatever happens: somebody may wait for them.
    fn hand_over(&mut self, gpu: Gpu) -> Result<()> {
        let (list, driver) = (std::mem::take(&mut self.list), gpu.driver());
        self.handed += 1;
        let did = list.len() > 0;
        // SAFETY: who put the work into the list has vouched for it, as for work that is given at once: memory is given back in the
        // order of the stream, which is that of the list, and staging memory after its event.
        let run = if did { unsafe { self.graphs.run(driver, list) } } else { Ok(()) };
        let mut result = run.map_err(|Refused { what, failure }| gpu.failed(what, failure));
        for event in self.events.drain(..) {
            let recorded = driver.record(event, super::driver::Stream::Compute);
            result = result.and(recorded.map_err(|f| gpu.failed("recording an event", f)));
        }
        for (size, address, turn) in self.given.drain(..) {
            gpu.pool().give_batch(gpu, size, address, turn);
        }
        if did {
            let turn = self.turn;
            result = result.and(self.sets[turn].end(driver).map_err(|f| gpu.failed("recording an event", f)));
        }
        result
    }
}

impl Gpu {
    /// Runs a step whose work is given to the device as a whole, if graphs are in use; see the [module](self). `name` tells
    /// kinds of steps apart that ask for memory differently, and `number` counts those of a pass: every third has the same staging
    /// memory, so that in each pass the same steps have the same. A step within a step is part of it.
    ///
    /// # Errors
    /// Those of `work`; [`ErrorKind::Device`] when what it asked for failed.
    pub fn step<T, E: From<Error>>(
        self,
        (name, number): (&'static str, usize),
        work: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        if !self.begin_step(name, number)? {
            return work();
        }
        let open = Open(self);
        let done = work();
        let ended = open.close();
        let done = done?;
        ended?;
        Ok(done)
    }

    /// Uses graphs on this device, or not, whatever the environment says.
    pub fn use_graphs(self, on: bool) {
        self.steps().lock().wanted = Some(on);
    }

    /// Runs `f` with graphs in use, and leaves that as it was.
    pub(super) fn with_graphs<R>(self, f: impl FnOnce() -> R) -> R {
        let before = self.steps().lock().wanted.replace(true);
        let done = f();
        self.steps().lock().wanted = before;
        done
    }

    /// Whether steps become graphs.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] when [`VARIABLE`] is neither 0 nor 1.
    pub fn uses_graphs(self) -> Result<bool> {
        match self.steps().lock().wanted {
            Some(wanted) => Ok(wanted),
            None => by_default(),
        }
    }

    /// How often a step, or the part of one up to where somebody waited, was given as one launch.
    pub fn replays(self) -> u64 {
        self.steps().lock().graphs.replays
    }

    fn begin_step(self, name: &'static str, number: usize) -> Result<bool> {
        if !self.description().caches || !self.uses_graphs()? {
            return Ok(false);
        }
        let mut state = self.steps().lock();
        if state.open || !state.graphs.work() {
            return Ok(false);
        }
        if state.graphs.misses >= PATIENCE {
            (state.graphs.misses, state.pause) = (0, PAUSE);
        }
        if state.pause > 0 {
            state.pause -= 1;
            return Ok(false);
        }
        let turn = number % SETS;
        state.turn = turn;
        state.sets[turn].begin(self.driver()).map_err(|f| self.failed("an earlier step", f))?;
        self.pool().begin_step(name);
        state.open = true;
        self.steps().open.store(true, Ordering::Release);
        Ok(true)
    }

    fn end_step(self) -> Result<()> {
        let mut state = self.steps().lock();
        let handed = state.hand_over(self);
        state.open = false;
        self.steps().open.store(false, Ordering::Release);
        self.pool().end_step(self);
        handed
    }

    /// The work of the step that runs; `None` outside of steps.
    pub(super) fn gathering(self) -> Option<Gathering<'static>> {
        if !self.steps().open.load(Ordering::Acquire) {
            return None;
        }
        let state = self.steps().lock();
        state.open.then_some(Gathering(state))
    }

    /// Gives what was gathered to the driver. For whoever will wait for the device.
    pub(super) fn hand_over(self) -> Result<()> {
        self.gathering().map_or(Ok(()), |mut gathering| gathering.0.hand_over(self))
    }

    /// As [`Gpu::hand_over`], if the ticket's work is not given yet.
    pub(super) fn hand_over_for(self, ticket: Ticket) -> Result<()> {
        match self.gathering() {
            Some(mut gathering) if gathering.0.handed == ticket.0 => gathering.0.hand_over(self),
            _ => Ok(()),
        }
    }

    /// Gives all graphs back.
    pub(super) fn release_graphs(self) {
        self.steps().lock().graphs.release(self.driver());
    }
}

/// A step that runs; ends with it, also when it panics.
struct Open(Gpu);

impl Open {
    fn close(self) -> Result<()> {
        let gpu = self.0;
        std::mem::forget(self);
        gpu.end_step()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // Somebody panics: what failed with it is told by the panic.
        drop(self.0.end_step());
    }
}

/// Whether steps become graphs where [`Gpu::use_graphs`] has said nothing.
///
/// # Errors
/// [`ErrorKind::Argument`] when [`VARIABLE`] is neither 0 nor 1.
pub fn by_default() -> Result<bool> {
    static SAID: OnceLock<bool> = OnceLock::new();
    if let Some(said) = SAID.get() {
        return Ok(*said);
    }
    let on = named(std::env::var_os(VARIABLE).as_deref(), graphs_are_verified())?;
    Ok(*SAID.get_or_init(|| on))
}

fn named(value: Option<&OsStr>, verified: bool) -> Result<bool> {
    match value.map(|v| v.to_str()) {
        None | Some(Some("")) => Ok(verified),
        Some(Some("1")) => Ok(true),
        Some(Some("0")) => Ok(false),
        Some(_) => {
            let error = Error::new(ErrorKind::Argument, "it is neither 0 nor 1");
            Err(error
                .on(VARIABLE)
                .remedy("1 makes graphs of training steps, 0 doesn't; unset, it is as a GPU has verified"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_used_unverified_and_nonsense_is_refused() {
        assert!(
            !named(None, false).unwrap() && named(None, true).unwrap() && !named(Some(OsStr::new("")), false).unwrap()
        );
        assert!(named(Some(OsStr::new("1")), false).unwrap() && !named(Some(OsStr::new("0")), true).unwrap());
        let error = named(Some(OsStr::new("yes")), true).unwrap_err().to_string();
        assert!(error.starts_with("ONECYCLE_GRAPH: it is neither 0 nor 1"), "{error}");
    }
}
