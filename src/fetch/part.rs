//! The file that is growing, and what is remembered of its server.
//!
//! `NAME.part` holds the bytes that have come, `NAME.part.json` from where they came and by which mark the server knows the version
//! (its ETag, else its Last-Modified). A later request asks for the rest "if it is still that version". Without a mark, or with a
//! weak one, which promises only that versions mean the same, the bytes are not gone on with: two halves of two files would be worse than a
//! second download.

use super::{Checks, beside, write_failed};
use crate::{Error, ErrorKind, Result, fs as whole};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// What a server said of a file when its first byte came.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub(super) struct Origin {
    pub(super) url: String,
    /// For `If-Range`: a strong ETag, or a date.
    pub(super) validator: Option<String>,
    pub(super) total: Option<u64>,
}

pub(super) struct Part {
    path: PathBuf,
    file: File,
    have: u64,
    origin: Origin,
}

impl Part {
    /// Opens what there is of `to`; nothing of another URL counts.
    pub(super) fn open(to: &Path, url: &str) -> Result<Part> {
        let path = beside(to, "", ".part");
        let failed = |e| write_failed("write", &path, e);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        // A memory that can't be read is no memory: the download begins anew.
        let origin = fs::read(memory(&path)).ok().and_then(|text| serde_json::from_slice::<Origin>(&text).ok());
        let origin = origin.filter(|o| o.url == url && o.validator.is_some()).unwrap_or_default();
        let kept = if origin.validator.is_some() { file.metadata().map_err(failed)?.len() } else { 0 };
        let mut part = Part { path, file, have: 0, origin };
        // More than the whole is nobody's half.
        match part.origin.total.is_some_and(|total| kept > total) {
            true => part.cut(0)?,
            false => part.cut(kept)?,
        }
        Ok(part)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that have come.
    pub(super) fn have(&self) -> u64 {
        self.have
    }

    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Whether the server has nothing to add.
    pub(super) fn is_complete(&self) -> bool {
        self.have > 0 && self.origin.total == Some(self.have)
    }

    /// Begins anew, with a file of this origin.
    pub(super) fn restart(&mut self, origin: Origin) -> Result<()> {
        // First the bytes, then the memory: whoever stops in between leaves an empty file, which fits every origin.
        self.cut(0)?;
        let text = serde_json::to_vec(&origin).unwrap_or_default();
        whole::write_atomic(&memory(&self.path), |w| w.write_all(&text))?;
        self.origin = origin;
        Ok(())
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.file.write_all(bytes);
        if let Err(e) = written {
            // Half of a buffer may be there; what is kept ends where the last whole one did.
            let _ = self.cut(self.have);
            return Err(write_failed("write", &self.path, e));
        }
        self.have += bytes.len() as u64;
        Ok(())
    }

    /// Gives the file its final name, once it is what it should be; a file that isn't is removed.
    pub(super) fn finish(self, checks: &Checks, to: &Path) -> Result<()> {
        self.file.sync_all().map_err(|e| write_failed("write", &self.path, e))?;
        if let Err(error) = checks.verify(&self.path) {
            // Bytes that can't be read just now may still be right.
            if error.kind() == ErrorKind::Network {
                self.discard();
            }
            return Err(error.rather_on(to.display()));
        }
        // Windows renames no open file.
        let Part { path, file, .. } = self;
        drop(file);
        whole::rename(&path, to)?;
        let _ = fs::remove_file(memory(&path));
        Ok(())
    }

    /// Removes what has come.
    pub(super) fn discard(self) {
        let Part { path, file, .. } = self;
        drop(file);
        // Whatever can't be removed is begun anew the next time: without its memory it fits no origin.
        let _ = fs::remove_file(memory(&path));
        let _ = fs::remove_file(&path);
    }

    fn cut(&mut self, length: u64) -> Result<()> {
        let failed = |e| Error::io("write", &self.path, e);
        self.file.set_len(length).map_err(failed)?;
        self.file.seek(SeekFrom::Start(length)).map_err(failed)?;
        self.have = length;
        Ok(())
    }
}

fn memory(part: &Path) -> PathBuf {
    beside(part, "", ".json")
}
