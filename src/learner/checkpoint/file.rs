//! One checkpoint, one file, and a digest at its end.
//!
//! ```text
//! 14 bytes  "onecycle ckpt" and a 0
//! 2 bytes   version of the format, little-endian
//! body      a safetensors file: all numbers, and a JSON description under the metadata key `onecycle-checkpoint`
//! 32 bytes  SHA-256 of everything before
//! ```
//!
//! The digest is compared before anything else of the file is looked at: a file that a dying disk, a copy that was cut off or a flipped
//! bit has changed is known as such, and never half loaded. (`head -c -32 FILE | sha256sum` shows it, too.)

use crate::fs::{size, write_atomic};
use crate::nn::safetensors::{self, Contents};
use crate::{Error, ErrorKind, Result, Tensor};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

const MAGIC: &[u8; 14] = b"onecycle ckpt\0";
const VERSION: u16 = 1;
const DIGEST: usize = 32;
const KEY: &str = "onecycle-checkpoint";

/// Writes what is described by `text`, atomically.
///
/// # Errors
/// [`ErrorKind::StorageFull`] when less than 1.2 times its size is free, before anything is written; [`ErrorKind::Io`] naming `path`.
pub fn write(path: &Path, tensors: &[(String, Tensor)], text: String) -> Result<()> {
    let numbers: usize = tensors.iter().map(|(name, t)| t.numel() * t.dtype().size() + name.len() + 100).sum();
    check_room(path, (numbers + text.len()) as u64)?;
    write_atomic(path, |out| {
        let mut out = Hashed { out, hash: Sha256::new() };
        out.write_all(MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        safetensors::write_to(&mut out, tensors, &BTreeMap::from([(KEY.to_string(), text)]))?;
        out.out.write_all(&out.hash.finalize())
    })
}

/// A disk that is full after half of the file has cost that time for nothing, and leaves no room for anybody else meanwhile.
fn check_room(path: &Path, bytes: u64) -> Result<()> {
    let needed = bytes + bytes / 5;
    match path.parent().map(fs4::available_space) {
        Some(Ok(free)) if free < needed => {
            let message = format!("a checkpoint needs {}, and {} are free", size(needed), size(free));
            let error = Error::new(ErrorKind::StorageFull, message).on(path.display());
            Err(error.remedy("free some space, or choose another directory with --out"))
        }
        // Where nobody knows, the writes will tell.
        _ => Ok(()),
    }
}

/// Reads and verifies: the description and the tensors.
///
/// # Errors
/// [`ErrorKind::Io`] when it can't be read, [`ErrorKind::Format`] when it is damaged or no checkpoint, both naming `path`.
pub fn read(path: &Path) -> Result<(String, Contents)> {
    let bytes = std::fs::read(path).map_err(|e| Error::io("read the checkpoint", path, e))?;
    parse(&bytes).map_err(|e| e.on(path.display()))
}

fn parse(bytes: &[u8]) -> Result<(String, Contents)> {
    let bad = |message: &str| Error::new(ErrorKind::Format, message);
    let (content, digest) = bytes
        .split_last_chunk::<DIGEST>()
        .filter(|(content, _)| content.len() > MAGIC.len() + 2)
        .ok_or_else(|| bad("is too short for a checkpoint"))?;
    if Sha256::digest(content)[..] != digest[..] {
        return Err(bad("is damaged: its digest doesn't fit"));
    }
    let version = content.strip_prefix(MAGIC).and_then(|rest| rest.split_first_chunk::<2>());
    let (version, body) = version.ok_or_else(|| bad("is no checkpoint"))?;
    match u16::from_le_bytes(*version) {
        VERSION => {}
        other => {
            let message = format!("is of format {other}, this version reads {VERSION}");
            return Err(bad(&message).remedy("go on with the version that wrote it"));
        }
    }
    let mut contents = safetensors::parse(body)?;
    let text = contents.metadata.remove(KEY).ok_or_else(|| bad("has no description"))?;
    Ok((text, contents))
}

/// Hashes what is written through it.
struct Hashed<'a> {
    out: &'a mut dyn Write,
    hash: Sha256,
}

impl Write for Hashed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.hash.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
