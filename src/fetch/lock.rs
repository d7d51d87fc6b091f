//! One process at a time, and one thread.
//!
//! The lock is the system's, on a file `NAME.lock` beside what it guards: a process that dies lets go of it. The file stays, because
//! whoever removed it could remove the one that a third process has just locked. On file systems without locks (some network
//! drives) the work goes on without: the checks of size and digest are what decides there.

use super::{Step, Watch, beside, tell};
use crate::Result;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

/// Held until it is dropped.
pub(super) struct Lock {
    _file: File,
    /// Whether somebody else had it before: what was missing may be there now.
    pub(super) waited: bool,
}

impl Lock {
    /// Waits for the lock of `path`, which need not exist, in a folder that does.
    pub(super) fn take(path: &Path, watch: &mut Watch) -> Result<Lock> {
        let name = beside(path, ".", ".lock");
        let mut waited = false;
        loop {
            if let Some(file) = crate::fs::lock(&name)? {
                return Ok(Lock { _file: file, waited });
            }
            // Asked again and again rather than waited for, so that Ctrl-C is heard.
            waited = true;
            tell(watch, Step::Queued)?;
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
