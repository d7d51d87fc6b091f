//! Files that are either whole or not there.
//!
//! [`write_atomic`] writes to a temporary name in the same directory, syncs, and renames: a full disk or a killed process
//! leaves the previous file as it was. Every write's own result is checked, because a full tmpfs reports the failure on
//! `write` and then returns `Ok` from `sync_all`.

#[doc(hidden)]
pub mod faults;

use crate::{Error, Result};
use faults::{Step, announce};
#[cfg(any(feature = "checkpoint", feature = "download"))]
use std::fs::TryLockError;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Writes a file through `fill`, atomically: afterwards `path` holds everything, or what it held before.
///
/// # Errors
/// [`ErrorKind::Io`](crate::ErrorKind::Io) or [`ErrorKind::StorageFull`](crate::ErrorKind::StorageFull) naming `path`.
pub fn write_atomic(path: &Path, fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
    let tmp = temporary_name(path);
    let failed = |e| Error::io("write", path, e);
    let written = (|| {
        announce(Step::Create, path)?;
        let file = OpenOptions::new().write(true).create_new(true).open(&tmp)?;
        let mut out = BufWriter::with_capacity(1 << 16, Announced { file, path });
        fill(&mut out)?;
        out.flush()?;
        announce(Step::Sync, path)?;
        out.get_ref().file.sync_all()?;
        announce(Step::Rename, path)?;
        fs::rename(&tmp, path)
    })();
    if written.is_err() {
        // The write's own error is what the user needs; a temporary file that cannot be removed either is secondary.
        let _ = fs::remove_file(&tmp);
    }
    written.map_err(failed)?;
    sync_directory(path);
    Ok(())
}

/// A file that says when it is written to.
struct Announced<'a> {
    file: File,
    path: &'a Path,
}

impl Write for Announced<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        announce(Step::Write, self.path)?;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Removes a file, which need not be there.
///
/// # Errors
/// [`ErrorKind::Io`](crate::ErrorKind::Io) naming `path`.
pub fn remove(path: &Path) -> Result<()> {
    match announce(Step::Remove, path).and_then(|()| fs::remove_file(path)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path, e)),
        _ => Ok(()),
    }
}

/// Creates `dir` and its parents.
///
/// # Errors
/// [`ErrorKind::Io`](crate::ErrorKind::Io) naming `dir`.
pub fn create_dir(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).map_err(|e| Error::io("create the directory", dir, e))
}

/// Gives the file or folder at `from` the name `to`, durably. A file that has the name is replaced.
///
/// # Errors
/// [`ErrorKind::Io`](crate::ErrorKind::Io) naming `to`.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|e| Error::io("give the final name to", to, e))?;
    sync_directory(to);
    Ok(())
}

/// Takes the system's lock on the file `path`, which is made if need be and whose folder is there; none when another process or thread
/// has it. It is let go when the file is closed, or the process dies. On file systems without locks (some network drives) everybody
/// gets it.
///
/// # Errors
/// [`ErrorKind::Io`](crate::ErrorKind::Io) naming `path`.
#[cfg(any(feature = "checkpoint", feature = "download"))]
pub(crate) fn lock(path: &Path) -> Result<Option<File>> {
    let failed = |e| Error::io("lock", path, e);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => Ok(Some(file)),
        Err(TryLockError::Error(e)) => Err(failed(e)),
    }
}

/// Removes what a killed [`write_atomic`] of `path` left behind, once nobody has written to it for `age`. Processes that write now
/// keep their files.
pub(crate) fn remove_stale(path: &Path, age: Duration) {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return };
    let mut prefix = name.to_os_string();
    prefix.push(TEMPORARY);
    // Nothing here is needed by anyone: what can't be looked at or removed stays.
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let ours = entry.file_name().as_encoded_bytes().starts_with(prefix.as_encoded_bytes());
        let changed = entry.metadata().and_then(|meta| meta.modified());
        if ours && changed.is_ok_and(|at| at.elapsed().is_ok_and(|since| since >= age)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Fills `bytes` with what the file has from `at` on; does not move the file's cursor, so threads can share it.
///
/// # Errors
/// The file ends before, or can't be read.
pub(crate) fn read_exact_at(file: &File, bytes: &mut [u8], at: u64) -> std::io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::read_exact_at(file, bytes, at);
    #[cfg(windows)]
    {
        let mut done = 0;
        while done < bytes.len() {
            match std::os::windows::fs::FileExt::seek_read(file, &mut bytes[done..], at + done as u64)? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                n => done += n,
            }
        }
        Ok(())
    }
    #[cfg(not(any(unix, windows)))]
    Err(std::io::ErrorKind::Unsupported.into())
}

/// Bytes as people read them.
///
/// ```
/// assert_eq!(onecycle::fs::size(3_435_973_837), "3.2 GiB");
/// ```
pub fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < units.len() {
        (value, unit) = (value / 1024.0, unit + 1);
    }
    let decimals = usize::from(unit > 0 && value < 100.0);
    format!("{value:.decimals$} {}", units[unit])
}

/// Between a file's name and the process that writes it.
const TEMPORARY: &str = ".tmp.";

/// In a container the process after a killed one has its number, so a number of the process alone is no name of one's own.
fn temporary_name(path: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!("{TEMPORARY}{}-{now:x}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    path.with_file_name(name)
}

/// Makes the rename itself durable where directories can be synced (Unix); elsewhere the rename is all there is.
fn sync_directory(path: &Path) {
    if cfg!(unix) {
        let dir = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // What a directory answers to a sync is not for us: the file has its name, and is whole, either way.
        let _ = announce(Step::SyncDirectory, path);
        if let Ok(handle) = File::open(dir) {
            let _ = handle.sync_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn a_failed_write_keeps_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model");
        write_atomic(&path, |w| w.write_all(b"old")).unwrap();
        let err = write_atomic(&path, |w| {
            w.write_all(b"half of the new one")?;
            Err(std::io::ErrorKind::StorageFull.into())
        })
        .unwrap_err();
        assert_eq!(err.kind(), ErrorKind::StorageFull);
        assert!(err.to_string().contains("model"));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn sizes_have_units() {
        let sizes = [0, 1023, 1536, 3 << 30, 139 << 30];
        assert_eq!(sizes.map(size), ["0 B", "1023 B", "1.5 KiB", "3.0 GiB", "139 GiB"]);
    }

    #[test]
    fn only_what_nobody_writes_any_more_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["model.tmp.7", "model.tmp.8", "model", "models.tmp.7"];
        names.iter().for_each(|name| fs::write(dir.path().join(name), "x").unwrap());
        let long_ago = std::time::SystemTime::now() - Duration::from_secs(90);
        for old in ["model.tmp.7", "model", "models.tmp.7"] {
            File::options().write(true).open(dir.path().join(old)).unwrap().set_modified(long_ago).unwrap();
        }
        remove_stale(&dir.path().join("model"), Duration::from_secs(60));
        let left: Vec<_> = names.iter().filter(|name| dir.path().join(name).exists()).collect();
        assert_eq!(left, [&"model.tmp.8", &"model", &"models.tmp.7"]);
    }
}
