//! Files that are either whole or not there.
//!
//! [`write_atomic`] writes to a temporary name in the same directory, syncs, and renames: a full disk or a killed process
//! leaves the previous file as it was. Every write's own result is checked, because a full tmpfs reports the failure on
//! `write` and then returns `Ok` from `sync_all`.

use crate::{Error, Result};
use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Writes a file through `fill`, atomically: afterwards `path` holds everything, or what it held before.
///
/// # Errors
/// [`ErrorKind::Io`](crate::ErrorKind::Io) or [`ErrorKind::StorageFull`](crate::ErrorKind::StorageFull) naming `path`.
pub fn write_atomic(path: &Path, fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
    let tmp = temporary_name(path);
    let failed = |e| Error::io("write", path, e);
    let written = (|| {
        let file = OpenOptions::new().write(true).create_new(true).open(&tmp)?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        fill(&mut out)?;
        out.flush()?;
        out.get_ref().sync_all()?;
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

fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".tmp.{}", std::process::id()));
    path.with_file_name(name)
}

/// Makes the rename itself durable where directories can be synced (Unix); elsewhere the rename is all there is.
fn sync_directory(path: &Path) {
    if cfg!(unix) {
        let dir = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
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
}
