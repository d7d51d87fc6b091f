//! Files from the network, whole or not there; archives, unpacked within bounds or refused.
//!
//! | file | what |
//! |---|---|
//! | `download.rs` | [`Download`]: one file, from a URL to a path, through interruptions |
//! | `request.rs` | one request: what is asked for, and what each answer means |
//! | `part.rs` | the file that is growing, and what is remembered of its server |
//! | `checks.rs` | [`Checks`]: size and digests that the file must have |
//! | `unpack.rs` | [`Unpack`]: a tar archive into a folder, by rules stricter than tar's |
//! | `names.rs` | which names may become files |
//! | `meter.rs` | how much an archive may grow while it is read |
//! | `lock.rs` | one process at a time |
//! | `environment.rs` | [`home`], [`is_offline`] and the proxy's variables |
//!
//! **What was decided.** A server is not trusted: a name, a length, a link in an archive are claims, and what is done with them is
//! our rule. A file gets its final name after its size and digest are right and its bytes are on the disk; until then it is
//! `NAME.part`. An archive is unpacked beside its folder, which gets its name when the last entry is there. So whatever has its
//! name is whole, and whoever finds it needs no second check.
//!
//! **What it costs.** The digest reads the file once more at the end (a resumed download has not seen all of its bytes), and
//! unpacking needs the archive and the folder at the same time on one disk.
//!
//! Nothing is printed here. Whoever wants to know how far it is hands in a [`Watch`], which is also how to stop:
//!
//! ```no_run
//! use onecycle::fetch::{Checks, Download, Step};
//! use std::ops::ControlFlow;
//!
//! # fn main() -> onecycle::Result<()> {
//! Download::new("https://download.pytorch.org/models/resnet34-b627a593.pth", "models/resnet34.pth")
//!     .checks(Checks::sha256("b627a593")) // the name holds the digest's first digits
//!     .run(&mut |step| {
//!         if let Step::Download { done, total: Some(total) } = step {
//!             eprintln!("{} %", done * 100 / total);
//!         }
//!         ControlFlow::Continue(())
//!     })
//! # }
//! ```

mod checks;
mod download;
mod environment;
mod lock;
mod meter;
mod names;
mod part;
mod request;
mod unpack;

pub use checks::Checks;
pub(crate) use checks::{sha256, sha256_of};
pub use download::{Download, Patience};
pub(crate) use environment::variable;
pub use environment::{HOME, OFFLINE, home, is_offline};
pub(crate) use names::of_url;
pub use unpack::Unpack;

use crate::{Error, ErrorKind, Result};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is being done, told while it is done.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Step {
    /// Somebody else fetches or unpacks the same thing; that is waited for.
    Queued,
    /// The file that is kept is not what it should be any more, and is fetched again.
    Outdated,
    /// Bytes of the file that are there, and how many there will be if the server said so.
    Download {
        /// Bytes that are there, those of earlier attempts included.
        done: u64,
        /// Bytes of the whole file.
        total: Option<u64>,
    },
    /// An attempt failed and another one follows.
    Retry {
        /// What went wrong.
        reason: String,
        /// Attempts that are left.
        left: u32,
        /// How long the next one waits.
        wait: Duration,
    },
    /// The wait before that attempt; told many times, so that a request to stop is heard.
    Wait {
        /// How long it still takes.
        left: Duration,
    },
    /// Size and digest are compared.
    Check,
    /// An archive is unpacked.
    Unpack {
        /// Bytes of the archive that have been read.
        done: u64,
        /// Bytes of the archive.
        total: u64,
        /// Entries that are there.
        entries: u64,
    },
}

/// Told each [`Step`]; says whether to go on. `Break` ends the work with [`ErrorKind::Interrupted`], and what can be gone on with
/// is kept.
pub type Watch<'a> = dyn FnMut(&Step) -> ControlFlow<()> + 'a;

/// A [`Watch`] that doesn't look.
pub fn unwatched(_: &Step) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn tell(watch: &mut Watch, step: Step) -> Result<()> {
    match watch(&step) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => {
            let error = Error::new(ErrorKind::Interrupted, "stopped on request");
            Err(error.remedy("the same call goes on where this one stopped"))
        }
    }
}

/// `path` with something around its name, in the same folder.
fn beside(path: &Path, before: &str, after: &str) -> PathBuf {
    let mut name = std::ffi::OsString::from(before);
    name.push(path.file_name().unwrap_or_default());
    name.push(after);
    path.with_file_name(name)
}

/// A write that failed; a full disk gets the advice that helps here.
fn write_failed(doing: &str, path: &Path, error: std::io::Error) -> Error {
    let error = Error::io(doing, path, error);
    match error.kind() {
        ErrorKind::StorageFull => error
            .remedy(format!("free some space, or let {HOME} name a folder on a larger disk; what has come is kept")),
        _ => error,
    }
}

/// Bytes as people read them, and exactly: `3.2 MB (3214948 bytes)`.
fn bytes(n: u64) -> String {
    match n {
        0..1_000_000 => format!("{n} bytes"),
        1_000_000..1_000_000_000 => format!("{:.1} MB ({n} bytes)", n as f64 / 1e6),
        _ => format!("{:.1} GB ({n} bytes)", n as f64 / 1e9),
    }
}
