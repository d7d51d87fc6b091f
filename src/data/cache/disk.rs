//! Decoded pictures in one file, for this run and the next ones.
//!
//! ```text
//! pictures    each [H, W, 3], one byte a channel, at a multiple of 64 bytes
//! index       JSON: who decoded, and for each file its size, its time of change, and where its pixels lie
//! trailer     32 bytes: where the index begins, its length (u64, little-endian), its CRC-32, and "onecycle p1\n"
//! ```
//!
//! The file is written when loaders are made, by all worker threads, under a temporary name: it is whole or it isn't there. A later
//! run looks at each picture's size and time of change; what has changed or is new is decoded, what is still good is copied, and the
//! file is written anew. Every picture has a CRC-32, which is compared at each use. A picture whose time of change was put back by hand isn't noticed. Files that are no pictures are not kept;
//! they fail when they are used, as without the cache.
//!
//! Pictures are **read at a position** rather than mapped into memory. Both come out of the same pages, which the system keeps for all
//! processes and drops when memory is short; reading takes 43 us for a picture of 500 x 375, a mapping 43 to 52 us at first touch and 30 us
//! later (`Resize(460)` takes 400). For that price a failing disk or a file cut short by someone else is an error here, and the picture is decoded
//! instead, where a mapping would kill the process.

use super::Kept;
use crate::data::worker::guarded;
use crate::data::{OpenPicture, Picture, buffer};
use crate::fs::{create_dir, read_exact_at, remove_stale, write_atomic};
use crate::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant, UNIX_EPOCH};

const MAGIC: &[u8; 12] = b"onecycle p1\n";
const TRAILER: u64 = 32;
/// Pictures begin at multiples of this.
const ALIGN: u64 = 64;
/// A temporary file that nobody has written to for so long was left by a process that was killed.
const STALE: Duration = Duration::from_secs(3600);

/// What the file says about itself.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Index {
    /// [`OpenPicture::fingerprint`] of what decoded the pictures.
    decoder: String,
    /// The budget that ended it, where one did: with a larger one there is more to keep.
    full_at: Option<u64>,
    /// By [`name`].
    pictures: HashMap<String, Entry>,
}

/// The name of a file for every run, wherever it is started; nothing where JSON can't hold it.
fn name(path: &Path) -> Option<String> {
    std::path::absolute(path).ok()?.into_os_string().into_string().ok()
}

/// One picture.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
struct Entry {
    of: Stamp,
    /// Where its pixels are; nothing for what is no picture.
    at: Option<Place>,
}

/// Which state of a file it was.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
struct Stamp {
    bytes: u64,
    /// Time of change, in nanoseconds since 1970.
    changed: u64,
}

impl Stamp {
    fn of(path: impl AsRef<Path>) -> Option<Stamp> {
        let meta = path.as_ref().metadata().ok()?;
        let changed = meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some(Stamp { bytes: meta.len(), changed: u64::try_from(changed.as_nanos()).ok()? })
    }
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
struct Place {
    start: u64,
    width: u32,
    height: u32,
    crc: u32,
}

impl Place {
    fn bytes(self) -> u64 {
        u64::from(self.width) * u64::from(self.height) * 3
    }
}

/// An opener that reads what is in the file.
struct Reading {
    inner: Arc<dyn OpenPicture>,
    file: File,
    places: HashMap<PathBuf, Place>,
}

impl OpenPicture for Reading {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn open(&self, path: &Path) -> Result<Picture> {
        let Some(&place) = self.places.get(path) else { return self.inner.open(path) };
        let mut rgb = buffer::zeroed(place.bytes() as usize); // [H, W, 3]
        match read_exact_at(&self.file, &mut rgb, place.start) {
            Ok(()) if crc32fast::hash(&rgb) == place.crc => {
                Ok(Picture { width: place.width as usize, height: place.height as usize, rgb })
            }
            // The disk fails, or someone changed the file: the picture itself is still there.
            _ => self.inner.open(path),
        }
    }

    fn settings(&self) -> serde_json::Value {
        self.inner.settings()
    }

    fn remarks(&self) -> Vec<(PathBuf, String)> {
        self.inner.remarks()
    }
}

/// Pictures of `paths` out of the file `at`, which is written first where it lacks some and its `budget` in bytes allows it.
pub(super) fn around(
    inner: Arc<dyn OpenPicture>,
    at: &Path,
    budget: u64,
    paths: &[&Path],
    pool: &rayon::ThreadPool,
) -> Result<(Arc<dyn OpenPicture>, Kept)> {
    let start = Instant::now();
    let decoder = inner.fingerprint().ok_or_else(|| {
        let text = format!(
            "{} doesn't say what its pictures depend on, so nobody can tell whether kept ones are still good",
            inner.name()
        );
        Error::new(ErrorKind::Argument, text)
            .on("cache")
            .remedy("keep pictures in memory (Cache::Auto), or write OpenPicture::fingerprint")
    })?;
    let (mut found, mut decoded) = (Found::open(at, &decoder, budget), 0);
    let missing = found.missing(paths);
    if !missing.is_empty() {
        decoded = write(&*inner, at, budget, &decoder, &found, &missing, pool)?;
        found = Found::open(at, &decoder, budget);
    }
    let Found { file, index } = found;
    let entry = |path: &Path| index.pictures.get(&name(path)?);
    let place = |path: &&Path| Some((path.to_path_buf(), entry(path)?.at?));
    let places: HashMap<PathBuf, Place> = paths.iter().filter_map(place).collect();
    let bytes = at.metadata().map_or(0, |meta| meta.len());
    let left_out = match index.full_at {
        Some(_) => paths.iter().filter(|path| entry(path).is_none()).count(),
        None => 0,
    };
    let seconds = start.elapsed().as_secs_f64();
    let kept = Kept::OnDisk { file: at.to_owned(), bytes, pictures: places.len(), decoded, left_out, seconds };
    match file {
        Some(file) => Ok((Arc::new(Reading { inner, file, places }), kept)),
        // All pictures changed or vanished while they were being kept.
        None => Ok((inner, kept)),
    }
}

/// A picture to decode.
struct Missing<'a> {
    path: &'a Path,
    name: String,
    of: Stamp,
}

/// A file of pictures as an earlier run left it.
struct Found {
    file: Option<File>,
    index: Index,
}

impl Found {
    /// What is usable in the file at `path`: nothing if it isn't there, is damaged, or was written by another decoder.
    fn open(path: &Path, decoder: &str, budget: u64) -> Found {
        let read = || {
            let file = File::open(path).ok()?;
            let mut index = read_index(&file).filter(|index| index.decoder == decoder)?;
            // With a larger budget what was left out is missing again.
            index.full_at = index.full_at.filter(|&full| full >= budget);
            Some(Found { file: Some(file), index })
        };
        read().unwrap_or(Found { file: None, index: Index::default() })
    }

    /// The pictures that the file should have and lacks, and those that have changed since.
    fn missing<'a>(&self, paths: &[&'a Path]) -> Vec<Missing<'a>> {
        let full = self.index.full_at.is_some();
        let missing = |path: &&'a Path| {
            let (name, of) = (name(path)?, Stamp::of(path)?);
            let wanted = match self.index.pictures.get(&name) {
                Some(entry) => entry.of != of,
                None => !full,
            };
            wanted.then_some(Missing { path, name, of })
        };
        paths.iter().filter_map(missing).collect()
    }
}

/// The index, if all that it says can be true.
fn read_index(file: &File) -> Option<Index> {
    let len = file.metadata().ok()?.len();
    let end = len.checked_sub(TRAILER)?;
    let mut trailer = [0; TRAILER as usize];
    read_exact_at(file, &mut trailer, end).ok()?;
    let number = |at: usize| trailer[at..at + 8].try_into().map(u64::from_le_bytes).ok();
    let (start, bytes) = (number(0)?, number(8)?);
    let crc = trailer[16..20].try_into().map(u32::from_le_bytes).ok()?;
    if trailer[20..] != MAGIC[..] || start.checked_add(bytes)? != end {
        return None;
    }
    let mut json = vec![0; usize::try_from(bytes).ok()?];
    read_exact_at(file, &mut json, start).ok()?;
    if crc32fast::hash(&json) != crc {
        return None;
    }
    let index: Index = serde_json::from_slice(&json).ok()?;
    let inside =
        |place: &Place| place.bytes() > 0 && place.start.checked_add(place.bytes()).is_some_and(|end| end <= start);
    index.pictures.values().filter_map(|entry| entry.at.as_ref()).all(inside).then_some(index)
}

/// Writes the file with the good pictures of `old` and those that are `missing`. Returns how many were decoded.
fn write(
    opener: &dyn OpenPicture,
    at: &Path,
    budget: u64,
    decoder: &str,
    old: &Found,
    missing: &[Missing],
    pool: &rayon::ThreadPool,
) -> Result<usize> {
    if let Some(dir) = at.parent() {
        create_dir(dir)?;
    }
    remove_stale(at, STALE);
    let mut decoded = 0;
    let written = write_atomic(at, |out| {
        let mut out = Pictures { out, at: 0, budget, index: Index { decoder: decoder.into(), ..Index::default() } };
        out.copy(old)?;
        // Two pictures a thread wait at most while the disk is slow.
        let (sender, receiver) = sync_channel(2 * pool.current_num_threads());
        pool.in_place_scope(|scope| {
            use rayon::prelude::*;
            scope.spawn(move |_| {
                // An error of the channel: the writer has given up, or needs no more.
                let _ = missing.par_iter().try_for_each_with(sender, |sender, one| {
                    let picture = guarded(one.path, || opener.open(one.path)).ok();
                    sender.send((one, picture))
                });
            });
            for (one, picture) in receiver {
                if !out.add(one, picture)? {
                    break;
                }
                decoded += 1;
            }
            // A picture with something to say about stays one that is opened at each use, so that each run says it.
            for (path, _) in opener.remarks() {
                if let Some(entry) = name(&path).and_then(|name| out.index.pictures.get_mut(&name)) {
                    entry.at = None;
                }
            }
            io::Result::Ok(())
        })?;
        out.finish()
    });
    written.map_err(|e| match e.kind() {
        ErrorKind::StorageFull => {
            e.remedy("free some space, give the cache a smaller budget, or keep pictures in memory")
        }
        _ => e,
    })?;
    Ok(decoded)
}

/// The file in the making.
struct Pictures<'a> {
    out: &'a mut dyn Write,
    at: u64,
    budget: u64,
    index: Index,
}

impl Pictures<'_> {
    /// Appends a picture, or notes that there is none in the file; false when there is no more room.
    fn add(&mut self, one: &Missing, picture: Option<Picture>) -> io::Result<bool> {
        let mut at = None;
        if let Some(picture) = picture {
            let Some(start) = self.append(&picture.rgb)? else { return Ok(false) };
            let crc = crc32fast::hash(&picture.rgb);
            // A side has 32 bits in every format.
            at = Some(Place { start, width: picture.width as u32, height: picture.height as u32, crc });
            picture.recycle();
        }
        self.index.pictures.insert(one.name.clone(), Entry { of: one.of, at });
        Ok(true)
    }

    /// Appends bytes, and says where; nothing when there is no more room.
    fn append(&mut self, bytes: &[u8]) -> io::Result<Option<u64>> {
        let start = self.at.next_multiple_of(ALIGN);
        let end = start.saturating_add(bytes.len() as u64);
        if end > self.budget {
            self.index.full_at = Some(self.budget);
            return Ok(None);
        }
        self.out.write_all(&[0; ALIGN as usize][..(start - self.at) as usize])?;
        self.out.write_all(bytes)?;
        self.at = end;
        Ok(Some(start))
    }

    /// Takes over what is still good, whether or not this run asks for it: another one over the same folder may.
    fn copy(&mut self, old: &Found) -> io::Result<()> {
        let Some(file) = &old.file else { return Ok(()) };
        let mut good: Vec<_> = old.index.pictures.iter().filter(|(name, e)| Stamp::of(name) == Some(e.of)).collect();
        // As they lie in the file, so that the disk reads forward.
        good.sort_by_key(|(_, entry)| entry.at.map(|place| place.start));
        for (name, entry) in good {
            let mut entry = *entry;
            if let Some(place) = &mut entry.at {
                let mut bytes = buffer::zeroed(place.bytes() as usize);
                read_exact_at(file, &mut bytes, place.start)?;
                // What is wrong now stays wrong, for its sum is copied too: it is decoded at each use.
                let start = self.append(&bytes)?;
                buffer::give(bytes);
                let Some(start) = start else { break };
                place.start = start;
            }
            self.index.pictures.insert(name.clone(), entry);
        }
        Ok(())
    }

    fn finish(self) -> io::Result<()> {
        let json = serde_json::to_vec(&self.index)?;
        self.out.write_all(&json)?;
        self.out.write_all(&self.at.to_le_bytes())?;
        self.out.write_all(&(json.len() as u64).to_le_bytes())?;
        self.out.write_all(&crc32fast::hash(&json).to_le_bytes())?;
        self.out.write_all(MAGIC)
    }
}
