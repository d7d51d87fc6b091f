//! Ctrl-C and its relatives: the first asks, the second ends.
//!
//! The first SIGINT, SIGTERM or SIGHUP only stores its number in an atomic that the training loop reads between two batches;
//! so what there is gets saved, and the exit status can say which signal it was (130, 143, 129). A second one ends the
//! process inside the handler, even if the loop hangs.
//!
//! signal-hook does this without unsafe code of ours. ctrlc, the usual choice, cannot tell SIGTERM from SIGINT,
//! and starts a thread; it also brings ten packages for macOS and Windows along.
//!
//! A time limit (`train --time-limit`) stops in the same way, with the status 75.
//!
//! A signal that was ignored when the program started stays ignored: that is how `nohup` and a script's `&` say that the
//! run is to go on when the terminal closes.

use crate::learner::Learner;
use crate::learner::callback::{AFTER_BATCH, Callback, Event, Signal};
use crate::{Error, ErrorKind, Result};
use signal_hook::consts::signal;
use signal_hook::flag;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

#[cfg(unix)]
const SIGNALS: [i32; 3] = [signal::SIGINT, signal::SIGTERM, signal::SIGHUP];
#[cfg(not(unix))]
const SIGNALS: [i32; 2] = [signal::SIGINT, signal::SIGTERM];

/// Exit status: stopped because the time is up, with all that is needed to go on. (`EX_TEMPFAIL` of sysexits.h: try again later.)
pub const OUT_OF_TIME: u8 = 75;

/// No signal's number: the time is up.
const LATE: usize = usize::MAX;

/// Asks to stop when the time is up.
pub struct Deadline {
    at: Instant,
    flag: Arc<AtomicUsize>,
}

impl Callback for Deadline {
    fn name(&self) -> &'static str {
        "Deadline"
    }

    fn order(&self) -> i32 {
        -20 // before those that look at the flag
    }

    fn events(&self) -> Option<&'static [Event]> {
        Some(&[AFTER_BATCH])
    }

    /// In training only: a validation that begins is finished, so that every start gets further than the one before.
    fn after_batch(&mut self, learn: &mut Learner) -> Signal {
        if learn.is_training() && Instant::now() >= self.at {
            // A signal that came before is the better reason.
            let _ = self.flag.compare_exchange(0, LATE, Ordering::SeqCst, Ordering::SeqCst);
        }
        Ok(())
    }
}

/// Whether, and by which signal, the process has been asked to stop. Clones share the answer.
#[derive(Clone, Debug)]
pub struct Interrupt(Arc<AtomicUsize>);

impl Interrupt {
    /// Takes the signals over.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when the system refuses a handler.
    pub fn install() -> Result<Interrupt> {
        let (which, asked) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let ignored = ignored_signals();
        for number in SIGNALS.into_iter().filter(|n| ignored >> (n - 1) & 1 == 0) {
            // Handlers run in this order: the first signal finds `asked` unset, passes, and sets it for the second.
            flag::register_conditional_shutdown(number, 128 + number, Arc::clone(&asked))
                .and_then(|_| flag::register(number, Arc::clone(&asked)))
                .and_then(|_| flag::register_usize(number, Arc::clone(&which), number as usize))
                .map_err(|e| Error::new(ErrorKind::Io, "cannot install a signal handler").caused_by(e))?;
        }
        Ok(Interrupt(which))
    }

    /// One that no signal sets; for tests and for embedding.
    pub fn never() -> Interrupt {
        Interrupt(Arc::new(AtomicUsize::new(0)))
    }

    /// What the library polls: 0, or the number of the signal.
    pub fn flag(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.0)
    }

    /// The signal that came.
    pub fn signal(&self) -> Option<usize> {
        Some(self.0.load(Ordering::SeqCst)).filter(|n| *n != 0)
    }

    /// From when on the answer is yes, with the status [`OUT_OF_TIME`]. Whoever trains looks at it with every batch.
    pub fn deadline(&self, at: Instant) -> Deadline {
        Deadline { at, flag: self.flag() }
    }

    /// Whether one came.
    pub fn is_set(&self) -> bool {
        self.signal().is_some()
    }

    /// The exit status that tells the signal: 128 and its number, as shells have it.
    pub fn status(&self) -> Option<u8> {
        match self.signal()? {
            LATE => Some(OUT_OF_TIME),
            n => u8::try_from(128 + n).ok(),
        }
    }
}

/// The mask of signals that the program's parent had ignored, where the system tells (Linux); bit 0 is signal 1.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|m| u64::from_str_radix(m.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use signal_hook::low_level::raise;
    use std::process::Command;

    /// Runs an ignored test of this module in a process of its own.
    fn child(name: &str) -> std::process::Output {
        let test = format!("cli::signals::tests::{name}");
        let program = std::env::current_exe().unwrap();
        Command::new(program).args(["--exact", &test, "--ignored", "--test-threads=1"]).output().unwrap()
    }

    #[test]
    fn the_first_signal_is_a_request_the_second_an_end() {
        assert!(String::from_utf8_lossy(&child("asked_once").stdout).contains("1 passed"));
        assert_eq!(child("asked_twice").status.code(), Some(143), "the second was SIGTERM");
    }

    /// A signal that this environment lets through: under `nohup`, or in a script's background, some are ignored from the start.
    fn heeded() -> i32 {
        let ignored = ignored_signals();
        SIGNALS.into_iter().rev().find(|n| ignored >> (n - 1) & 1 == 0).expect("SIGTERM is hardly ever ignored")
    }

    #[test]
    #[ignore = "runs in a process of its own"]
    fn asked_once() {
        let (interrupt, number) = (Interrupt::install().unwrap(), heeded());
        assert_eq!(interrupt.status(), None);
        raise(number).unwrap();
        assert_eq!((interrupt.signal(), interrupt.status()), (Some(number as usize), Some(128 + number as u8)));
    }

    #[test]
    #[ignore = "runs in a process of its own"]
    fn asked_twice() {
        let interrupt = Interrupt::install().unwrap();
        raise(heeded()).unwrap();
        assert!(interrupt.is_set());
        raise(signal::SIGTERM).unwrap();
        unreachable!("the second signal ends the process");
    }
}
