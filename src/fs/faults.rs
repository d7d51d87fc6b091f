//! Failures on demand, for tests: what a disk does once in ten years happens at the N-th call.
//!
//! [`write_atomic`](super::write_atomic) and its neighbours announce each step before they take it. Nobody listens, unless a test has
//! called [`with`] on the same thread: then its function may let the step fail with an error of its choice, or end the process there.

use std::cell::RefCell;
use std::io;
use std::path::Path;

/// What is about to happen to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The temporary file is made.
    Create,
    /// Some bytes are written into it.
    Write,
    /// It is synced.
    Sync,
    /// It gets its name.
    Rename,
    /// The directory is synced.
    SyncDirectory,
    /// A file that isn't needed any more is removed.
    Remove,
}

type Listener = Box<dyn FnMut(Step, &Path) -> io::Result<()>>;

thread_local! {
    static LISTENER: RefCell<Option<Listener>> = const { RefCell::new(None) };
}

/// Runs `work` while `listener` hears of every step that this thread takes, and decides whether it succeeds.
pub fn with<R>(listener: impl FnMut(Step, &Path) -> io::Result<()> + 'static, work: impl FnOnce() -> R) -> R {
    /// Takes the listener away even if `work` panics.
    struct Deaf;
    impl Drop for Deaf {
        fn drop(&mut self) {
            LISTENER.with(|l| l.take());
        }
    }
    LISTENER.with(|l| l.replace(Some(Box::new(listener))));
    let _deaf = Deaf;
    work()
}

/// A step is about to be taken.
pub(super) fn announce(step: Step, path: &Path) -> io::Result<()> {
    LISTENER.with_borrow_mut(|listener| listener.as_mut().map_or(Ok(()), |heard| heard(step, path)))
}
