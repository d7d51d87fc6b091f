//! What is printed where, and the exit status.
//!
//! Results go to standard output; progress, remarks and errors to standard error. Nothing here panics over a closed pipe:
//! `onecycle predict .. | head -1` ends quietly, and a training run whose table nobody reads any more goes on, because
//! its product is the run directory. Commands that only print ask [`Console::closed`] and stop early.

use super::signals::Interrupt;
use crate::learner::colour;
use crate::{Error, Result};
use std::cell::Cell;
use std::io::{ErrorKind, Write};

/// Exit status: done.
pub const DONE: u8 = 0;
/// Exit status: failed.
pub const FAILED: u8 = 1;
/// Exit status: wrong usage.
pub const USAGE: u8 = 2;

/// How much is said on standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Errors only.
    Quiet,
    /// Progress and remarks.
    #[default]
    Normal,
    /// Details.
    Verbose,
}

impl Verbosity {
    /// From `-q` and the number of `-v`.
    pub fn of(quiet: bool, verbose: u8) -> Verbosity {
        match (quiet, verbose) {
            (true, _) => Verbosity::Quiet,
            (false, 0) => Verbosity::Normal,
            (false, _) => Verbosity::Verbose,
        }
    }
}

/// Standard output and standard error, with manners.
#[derive(Debug)]
pub struct Console {
    verbosity: Verbosity,
    closed: Cell<bool>,
}

impl Console {
    /// A console that says as much as asked.
    pub fn new(verbosity: Verbosity) -> Console {
        Console { verbosity, closed: Cell::new(false) }
    }

    /// How much is said.
    pub fn verbosity(&self) -> Verbosity {
        self.verbosity
    }

    /// A line of results, to standard output at once.
    ///
    /// # Errors
    /// When it cannot be written (a full disk behind `> file`); a closed pipe is no error, see [`Console::closed`].
    pub fn result(&self, line: &str) -> Result<()> {
        if self.closed.get() {
            return Ok(());
        }
        let mut out = std::io::stdout().lock();
        match writeln!(out, "{line}").and_then(|()| out.flush()) {
            Err(e) if e.kind() == ErrorKind::BrokenPipe => {
                self.closed.set(true);
                Ok(())
            }
            Err(e) => Err(Error::io("write the results", "standard output".as_ref(), e)),
            Ok(()) => Ok(()),
        }
    }

    /// Whether nobody reads standard output any more.
    pub fn closed(&self) -> bool {
        self.closed.get()
    }

    /// A remark, to standard error; not with `-q`.
    pub fn note(&self, line: &str) {
        if self.verbosity >= Verbosity::Normal {
            to_stderr(line);
        }
    }

    /// A detail, to standard error; only with `-v`.
    pub fn detail(&self, line: &str) {
        if self.verbosity >= Verbosity::Verbose {
            to_stderr(line);
        }
    }

    /// What failed: one sentence with its remedy, and with `-v` the causes underneath.
    pub fn error(&self, error: &Error) {
        let label = if colour(&std::io::stderr()) { "\x1b[1;31merror:\x1b[0m" } else { "error:" };
        to_stderr(&format!("{label} {error}"));
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            self.detail(&format!("  because: {error}"));
            cause = error.source();
        }
    }
}

/// `eprintln!` panics when standard error is closed; there is nobody to tell then.
fn to_stderr(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// The exit status of a command.
pub fn status(outcome: &Result<()>, interrupt: &Interrupt) -> u8 {
    match outcome {
        Ok(()) => DONE,
        Err(error) if error.kind() == crate::ErrorKind::Interrupted => interrupt.status().unwrap_or(FAILED),
        Err(_) => FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn the_status_tells_what_stopped_the_run() {
        let interrupt = Interrupt::never();
        let stopped = Err(Error::new(crate::ErrorKind::Interrupted, "stopped"));
        assert_eq!(status(&Ok(()), &interrupt), DONE);
        assert_eq!(status(&stopped, &interrupt), FAILED);
        interrupt.flag().store(15, Ordering::SeqCst);
        assert_eq!(status(&stopped, &interrupt), 143);
        assert_eq!(status(&Err(Error::new(crate::ErrorKind::Io, "no")), &interrupt), FAILED);
        assert_eq!(status(&Ok(()), &interrupt), DONE, "a signal after the last batch changes nothing");
    }

    #[test]
    fn quiet_wins() {
        assert_eq!(Verbosity::of(true, 2), Verbosity::Quiet);
        assert_eq!(Verbosity::of(false, 0), Verbosity::Normal);
        assert!(Verbosity::of(false, 1) > Verbosity::Normal);
    }
}
