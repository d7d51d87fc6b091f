//! Host memory from which a step's tables travel.
//!
//! A replayed copy reads the host address that it was captured with. So the tables of a step (targets, random crops, what the
//! optimizer does) are put one behind the other into pinned memory that belongs to steps: the same tables in the same order lie at
//! the same addresses, with other content. The copy may still wait behind the step before when the host writes the next tables; so
//! there are [`SETS`] such memories, in turns, and before one is used again the host waits for the step that used it last. That
//! is also what holds the host back: it is never more than two steps ahead of the device.

use super::super::driver::{Driver, Event, Failure, Stream};
use std::ptr::NonNull;

/// Steps of which each has memory of its own: one that the device computes, one that waits behind it, and one that the host makes.
pub const SETS: usize = 3;

/// Bytes that are pinned at once, if not more are needed.
const CHUNK: usize = 1 << 20;

/// Tables begin at multiples of this.
const GRAIN: usize = 256;

/// The memory of every third step.
#[derive(Debug, Default)]
pub struct Set {
    chunks: Vec<(NonNull<u8>, usize)>,
    /// The chunk in use, and how much of it is.
    next: (usize, usize),
    /// Behind the last work that reads it.
    used: Option<Event>,
}

// SAFETY: the memory has no thread; it belongs to whoever owns the set.
unsafe impl Send for Set {}

impl Set {
    /// Waits until nothing reads it any more, and starts anew.
    pub fn begin(&mut self, driver: &dyn Driver) -> Result<(), Failure> {
        self.next = (0, 0);
        match self.used.take() {
            Some(event) => {
                let done = driver.is_done(event).and_then(|done| if done { Ok(()) } else { driver.synchronize(event) });
                driver.destroy(event);
                done
            }
            None => Ok(()),
        }
    }

    /// Work that reads it was given to the compute stream.
    pub fn end(&mut self, driver: &dyn Driver) -> Result<(), Failure> {
        let event = match self.used {
            Some(event) => event,
            None => *self.used.insert(driver.event()?),
        };
        driver.record(event, Stream::Compute)
    }

    /// A copy of `data` that stays until the set's next turn.
    pub fn stage(&mut self, driver: &dyn Driver, data: &[u8]) -> Result<*const u8, Failure> {
        let (mut chunk, mut from) = self.next;
        while self.chunks.get(chunk).is_some_and(|(_, size)| size - from < data.len()) {
            (chunk, from) = (chunk + 1, 0);
        }
        let (start, size) = match self.chunks.get(chunk) {
            Some(there) => *there,
            None => {
                let size = data.len().next_multiple_of(4096).max(CHUNK);
                self.chunks.push((driver.allocate_pinned(size)?, size));
                self.chunks[chunk]
            }
        };
        // SAFETY: the chunk has `data.len()` bytes behind `from`, and no copy reads them: `begin` has waited.
        let at = unsafe {
            let at = start.as_ptr().add(from);
            std::ptr::copy_nonoverlapping(data.as_ptr(), at, data.len());
            at
        };
        self.next = (chunk, (from + data.len()).next_multiple_of(GRAIN).min(size));
        Ok(at)
    }
}
