//! The checkpoints of a run: which there are, which is the newest, which are kept.
//!
//! ```text
//! checkpoints/
//!   fit1-epoch00002-batch0000000.ckpt     goes on with the third epoch of the second fit
//!   fit1-epoch00002-batch0000120.ckpt     and from its batch 120 on
//!   latest                                the name of the newest
//!   lock                                  held by the process that writes here
//! ```

use super::file;
use crate::fs::{create_dir, lock, remove, remove_stale, write_atomic};
use crate::nn::safetensors::Contents;
use crate::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

const ENDING: &str = ".ckpt";
const LATEST: &str = "latest";

/// Where a fit goes on: fits, epochs and batches before it are done, each counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The fit, in the order in which the program calls them.
    pub fit: usize,
    /// The epoch in it; as many as it has when it is done.
    pub epoch: usize,
    /// The training batch in it; as many as it has when only validation is missing.
    pub batch: usize,
}

impl Place {
    /// The file of this place.
    pub fn file_name(self) -> String {
        format!("fit{}-epoch{:05}-batch{:07}{ENDING}", self.fit, self.epoch, self.batch)
    }

    fn of(name: &str) -> Option<Place> {
        let mut parts = name.strip_suffix(ENDING)?.split('-');
        let mut number = |what: &str| parts.next()?.strip_prefix(what)?.parse().ok();
        let (fit, epoch, batch) = (number("fit")?, number("epoch")?, number("batch")?);
        let place = Place { fit, epoch, batch };
        (place.file_name() == name).then_some(place)
    }
}

/// A directory that this process alone writes checkpoints to.
pub struct Folder {
    dir: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes the directory if need be, locks it, and removes what killed processes have left half written.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it can't be made, or another process has it.
    pub fn open(dir: &Path) -> Result<Folder> {
        create_dir(dir)?;
        let Some(lock) = lock(&dir.join("lock"))? else {
            let error = Error::new(ErrorKind::Io, "another process writes checkpoints here").on(dir.display());
            return Err(error.remedy("wait until it is done, stop it, or choose another directory"));
        };
        for name in names(dir)?.iter().filter_map(|name| name.split_once(".tmp.")).map(|(name, _)| name) {
            remove_stale(&dir.join(name), Duration::ZERO);
        }
        Ok(Folder { dir: dir.to_path_buf(), _lock: lock })
    }

    /// Writes the checkpoint of `place`, points `latest` to it, and removes all but the newest `keep` and the `best`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] or [`ErrorKind::StorageFull`]; those before it are still there then.
    pub fn write(&self, place: Place, write: impl FnOnce(&Path) -> Result<()>, keep: usize, best: &str) -> Result<()> {
        let name = place.file_name();
        write(&self.dir.join(&name))?;
        write_atomic(&self.dir.join(LATEST), |out| writeln!(out, "{name}"))?;
        let there = places(&self.dir)?;
        let newest = there.iter().rev().filter(|p| **p <= place).take(keep.max(1));
        let kept: Vec<String> = newest.map(|p| p.file_name()).collect();
        let names = there.iter().map(|p| p.file_name());
        names.filter(|name| name != best && !kept.contains(name)).try_for_each(|name| remove(&self.dir.join(name)))
    }
}

/// Removes all checkpoints in `dir`: those of a run that begins anew.
///
/// # Errors
/// [`ErrorKind::Io`] naming what can't be removed.
pub fn clear(dir: &Path) -> Result<()> {
    remove(&dir.join(LATEST))?; // first: without it and them nothing goes on
    places(dir)?.iter().try_for_each(|place| remove(&dir.join(place.file_name())))
}

/// A checkpoint that is whole.
pub struct Found {
    pub path: PathBuf,
    /// Its description.
    pub text: String,
    pub contents: Contents,
    /// What is wrong with newer ones.
    pub damaged: Vec<String>,
}

/// The newest checkpoint in `dir` that is whole. Damaged ones are renamed, and what cannot be read is passed over. None in an empty or missing
/// directory.
///
/// # Errors
/// [`ErrorKind::Format`] when there are checkpoints, but none is whole; [`ErrorKind::Io`] when they can't be read.
pub fn newest(dir: &Path) -> Result<Option<Found>> {
    let latest = std::fs::read_to_string(dir.join(LATEST)).ok().and_then(|text| Place::of(text.trim()));
    let mut there = places(dir)?;
    // A kill between the two leaves `latest` one behind; both are whole then, and lead to the same end.
    there.sort_by_key(|place| (Some(*place) == latest, *place));
    let mut damaged = Vec::new();
    for place in there.iter().rev() {
        let path = dir.join(place.file_name());
        match file::read(&path) {
            Ok((text, contents)) => return Ok(Some(Found { path, text, contents, damaged })),
            Err(e) => {
                damaged.push(e.to_string());
                if e.kind() != ErrorKind::Format {
                    continue; // what can't be read now may be readable tomorrow
                }
                let mut aside = path.clone().into_os_string();
                aside.push(".damaged");
                // Only so that it isn't counted as one of the last: where it can't be renamed, it stays.
                let _ = std::fs::rename(&path, aside);
            }
        }
    }
    match damaged.first() {
        None => Ok(None),
        Some(first) => {
            let message = format!("none of the {} checkpoints is whole; the newest: {first}", damaged.len());
            let error = Error::new(ErrorKind::Format, message).on(dir.display());
            Err(error.remedy("begin anew with --overwrite, or restore one of them from a copy"))
        }
    }
}

/// The places of the checkpoints in `dir`, first to last.
fn places(dir: &Path) -> Result<Vec<Place>> {
    let mut places: Vec<Place> = names(dir)?.iter().filter_map(|name| Place::of(name)).collect();
    places.sort();
    Ok(places)
}

fn names(dir: &Path) -> Result<Vec<String>> {
    let failed = |e| Error::io("look for checkpoints in", dir, e);
    let entries = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    entries.map(|entry| Ok(entry.map_err(failed)?.file_name().to_string_lossy().into_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_places_do() {
        let place = |fit, epoch, batch| Place { fit, epoch, batch };
        let all = [place(0, 9, 8), place(0, 10, 0), place(1, 0, 99), place(1, 0, 100), place(10, 0, 0)];
        for (a, b) in all.iter().zip(&all[1..]) {
            assert!(a < b);
            assert_eq!(Place::of(&a.file_name()), Some(*a));
        }
        for other in ["latest", "fit1.ckpt", "fit1-epoch1-batch2.ckpt", "fit0-epoch00001-batch0000002.ckpt.tmp.7"] {
            assert_eq!(Place::of(other), None, "{other}");
        }
    }

    #[test]
    fn one_process_at_a_time_and_leftovers_go() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("latest.tmp.12-3-4"), "half").unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        assert!(!dir.path().join("latest.tmp.12-3-4").exists());
        let e = Folder::open(dir.path()).err().unwrap().to_string();
        assert!(e.contains("another process"), "{e}");
        drop(folder);
        Folder::open(dir.path()).unwrap();
    }

    #[test]
    fn the_last_and_the_best_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let place = |epoch| Place { fit: 0, epoch, batch: 0 };
        let best = place(2).file_name();
        for epoch in 1..=6 {
            let fill = |path: &Path| write_atomic(path, |out| out.write_all(b"x"));
            folder.write(place(epoch), fill, 2, &best).unwrap();
        }
        assert_eq!(places(dir.path()).unwrap(), [place(2), place(5), place(6)]);
        assert_eq!(std::fs::read_to_string(dir.path().join("latest")).unwrap().trim(), place(6).file_name());
        clear(dir.path()).unwrap();
        assert_eq!(places(dir.path()).unwrap(), []);
    }
}
