//! The one error type of the crate.
//!
//! An [`Error`] says three things, in the reader's words: what failed, on which item (a file, a tensor, a flag), and what
//! to do about it. Programs that want to react look at [`Error::kind`]; people read its `Display`, which is one sentence
//! or three:
//!
//! ```
//! use onecycle::{Error, ErrorKind};
//! let e = Error::new(ErrorKind::Image, "the picture ends early").on("cats/7.jpg").remedy("leave it out with --skip-bad");
//! assert_eq!(e.to_string(), "cats/7.jpg: the picture ends early (leave it out with --skip-bad)");
//! ```
//!
//! One struct instead of an enum of fifty variants: a new failure needs no new public name, and every failure can carry
//! its item and its remedy.

use std::fmt;
use std::path::Path;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What sort of thing went wrong; for programs that decide by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file or directory could not be read or written.
    Io,
    /// The disk is full, or the quota is used up.
    StorageFull,
    /// A picture could not be decoded, or exceeds the limits.
    Image,
    /// The data set cannot be trained on: empty, one class, a label without a training item.
    Data,
    /// A label could not be found for an item.
    Label,
    /// Shapes, dtypes or devices of operands don't fit together.
    Shape,
    /// An argument is out of its range.
    Argument,
    /// A tensor that needs a gradient met an operation without one, or `backward` was called where it cannot be.
    Autograd,
    /// A model file is damaged or doesn't fit.
    Format,
    /// A file could not be fetched: no way to the server, a refusal, or other bytes than were expected.
    Network,
    /// An archive is damaged, or holds what is not unpacked: links, names that lead elsewhere, more than the limits.
    Archive,
    /// The loss became NaN or infinite.
    NotFinite,
    /// The run was interrupted and has saved what there was.
    Interrupted,
    /// A device is missing or failed.
    Device,
    /// A device has too little memory.
    OutOfMemory,
}

/// A failure: what, on which item, and what to do.
///
/// Its `Debug` is its `Display` with the causes below, since that is what a program prints whose `main` returns an error.
pub struct Error {
    kind: ErrorKind,
    message: String,
    item: Option<String>,
    remedy: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind`; `message` says what failed, in lower case and without a full stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error { kind, message: message.into(), item: None, remedy: None, source: None }
    }

    /// Names the item concerned: a path, a tensor, a flag. The innermost name stays when there is one already.
    pub fn on(mut self, item: impl fmt::Display) -> Error {
        self.item.get_or_insert_with(|| item.to_string());
        self
    }

    /// Names another item than the innermost one: the file, where the failure only saw a part of its name.
    pub(crate) fn rather_on(mut self, item: impl fmt::Display) -> Error {
        self.item = Some(item.to_string());
        self
    }

    /// Names the file that the item is a part of. The part's name stays, before the message.
    pub(crate) fn within(mut self, file: impl fmt::Display) -> Error {
        let file = file.to_string();
        match self.item.replace(file.clone()) {
            Some(part) if part != file => self.message = format!("{part}: {}", self.message),
            _ => {}
        }
        self
    }

    /// Adds a report of the steps before the failure, below the message.
    pub(crate) fn after_text(mut self, text: &str) -> Error {
        self.message = format!("{}\nUp to there:\n{text}", self.message);
        self
    }

    /// Says what the reader can do.
    pub fn remedy(mut self, remedy: impl Into<String>) -> Error {
        self.remedy = Some(remedy.into());
        self
    }

    /// Keeps the underlying error for [`std::error::Error::source`].
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        self.source = Some(source.into());
        self
    }

    /// An I/O failure on `path`; a full disk gets its own kind and remedy.
    pub fn io(doing: &str, path: &Path, err: std::io::Error) -> Error {
        use std::io::ErrorKind as K;
        // A file-size limit (ulimit -f) fills up like a disk, as far as the user is concerned.
        let full = matches!(err.kind(), K::StorageFull | K::QuotaExceeded | K::FileTooLarge);
        let error =
            Error::new(if full { ErrorKind::StorageFull } else { ErrorKind::Io }, format!("cannot {doing}: {err}"))
                .on(path.display());
        let error = match err.kind() {
            K::StorageFull | K::QuotaExceeded | K::FileTooLarge => {
                error.remedy("free some space, or choose another directory with --out")
            }
            K::PermissionDenied => error.remedy("check the permissions, or choose another place"),
            K::NotFound => error.remedy("check the spelling of the path"),
            K::NotADirectory => {
                error.remedy("this, or a part of it, is a file where a folder is needed: choose another place")
            }
            K::AlreadyExists => error.remedy("something of this name is in the way: move it, or choose another place"),
            K::IsADirectory => error.remedy("this is a folder: name a file"),
            K::InvalidFilename => error.remedy("choose a shorter name of plain letters"),
            _ => error,
        };
        error.caused_by(err)
    }

    /// Operands that don't fit together; `op` is the operation's name.
    pub(crate) fn shape(op: &str, message: impl fmt::Display) -> Error {
        Error::new(ErrorKind::Shape, message.to_string()).on(op)
    }

    /// What sort of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The item concerned, when there is one.
    pub fn item(&self) -> Option<&str> {
        self.item.as_deref()
    }

    /// What the reader can do; empty when nothing is known.
    pub fn advice(&self) -> &str {
        self.remedy.as_deref().unwrap_or_default()
    }

    /// What failed, without item and remedy.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            write!(f, "\n  because: {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(item) = &self.item {
            write!(f, "{item}: ")?;
        }
        f.write_str(&self.message)?;
        match &self.remedy {
            Some(remedy) => write!(f, " ({remedy})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|s| s.as_ref() as _)
    }
}
