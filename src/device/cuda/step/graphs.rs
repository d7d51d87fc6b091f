//! Graphs of work that came more than once.
//!
//! What is seen for the first time is given to the driver piece by piece. Seen a second time, it is captured as well: the driver
//! makes a graph of it, which it starts as a whole. From the third time on nothing but that start is needed.

use super::super::driver::{Driver, Failure, Graph, Stream};
use super::list::{List, Refused};
use std::collections::VecDeque;

/// Graphs that are kept. A training step, a validation batch and its last short one have one for each set of staging memory, and some
/// are in parts, where a callback reads numbers from the device.
const KEPT: usize = 48;

/// How many lists are remembered by their hash alone.
const SEEN: usize = 256;

/// Less work than this is not worth a graph, whose start costs as much as two or three kernels'.
const LEAST: usize = 4;

#[derive(Debug, Default)]
pub struct Graphs {
    /// The latest last.
    kept: VecDeque<Kept>,
    seen: VecDeque<u64>,
    /// A capture has failed: there are no graphs here.
    refused: bool,
    /// Lists in a row that were new.
    pub misses: usize,
    /// How often a list was a graph.
    pub replays: u64,
}

#[derive(Debug)]
struct Kept {
    list: List,
    graph: Graph,
}

impl Graphs {
    /// Whether the driver makes graphs, as far as was seen.
    pub fn work(&self) -> bool {
        !self.refused
    }

    /// Gives a list to the compute stream, as a graph if there is one.
    ///
    /// # Safety
    /// As for [`List::issue`].
    pub unsafe fn run(&mut self, driver: &dyn Driver, list: List) -> Result<(), Refused> {
        if list.len() < LEAST || self.refused {
            // SAFETY: the caller's promise.
            return unsafe { list.issue(driver, Stream::Compute) };
        }
        // Lists differ early, in what they copy from which staging memory, so looking at all of them costs little.
        if let Some(place) = self.kept.iter().position(|kept| kept.list == list) {
            self.misses = 0;
            let kept = self.kept.remove(place);
            self.kept.extend(kept);
        } else if self.is_new(list.hash()) {
            // SAFETY: the caller's promise.
            return unsafe { list.issue(driver, Stream::Compute) };
        } else {
            // SAFETY: the caller's promise; the graph is replayed only for equal lists, for which it is made anew.
            match unsafe { capture(driver, &list) } {
                Ok(graph) => self.keep(driver, Kept { list, graph }),
                Err(_) => {
                    self.refused = true;
                    // SAFETY: the caller's promise.
                    return unsafe { list.issue(driver, Stream::Compute) };
                }
            }
        }
        let Some(last) = self.kept.pop_back() else { return Ok(()) };
        // SAFETY: the graph does what the list says, for which the caller vouches now.
        match unsafe { driver.replay(last.graph) } {
            Ok(()) => {
                self.replays += 1;
                self.kept.push_back(last);
                Ok(())
            }
            Err(failure) => {
                forget(driver, last.graph);
                Err(Refused { what: format!("a step of {} pieces of work", last.list.len()), failure })
            }
        }
    }

    /// Whether a list wasn't seen yet. It is seen now.
    fn is_new(&mut self, hash: u64) -> bool {
        if let Some(place) = self.seen.iter().position(|seen| *seen == hash) {
            self.seen.remove(place);
            return false;
        }
        self.misses += 1;
        self.seen.push_back(hash);
        if self.seen.len() > SEEN {
            self.seen.pop_front();
        }
        true
    }

    fn keep(&mut self, driver: &dyn Driver, new: Kept) {
        self.kept.push_back(new);
        if self.kept.len() > KEPT
            && let Some(oldest) = self.kept.pop_front()
        {
            forget(driver, oldest.graph);
        }
    }

    /// Gives all of them back.
    pub fn release(&mut self, driver: &dyn Driver) {
        self.seen.clear();
        for kept in self.kept.drain(..) {
            forget(driver, kept.graph);
        }
    }
}

/// A graph of the list's work, none of which is done now.
///
/// # Safety
/// As for [`List::issue`].
unsafe fn capture(driver: &dyn Driver, list: &List) -> Result<Graph, Failure> {
    driver.capture_begin()?;
    // SAFETY: the caller's promise.
    let issued = unsafe { list.issue(driver, Stream::Capture) };
    let graph = driver.capture_end();
    match issued {
        Ok(()) => graph,
        Err(refused) => {
            if let Ok(graph) = graph {
                driver.forget(graph);
            }
            Err(refused.failure)
        }
    }
}

/// Gives a graph back when its last replay is done; if that can't be known, never.
fn forget(driver: &dyn Driver, graph: Graph) {
    let Ok(event) = driver.event() else { return };
    if driver.record(event, Stream::Compute).and_then(|()| driver.synchronize(event)).is_ok() {
        driver.forget(graph);
    }
    driver.destroy(event);
}
