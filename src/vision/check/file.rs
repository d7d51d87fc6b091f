//! One file: opened, described, hashed; and the comparison of those that look the same.

use crate::Result;
use crate::data::{Picture, guarded};
use crate::vision::decode::{DecodeOptions, decode, ends_early, read_file};
use crate::vision::facts::Facts;
use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::io::Read;
use std::path::{Path, PathBuf};

/// A file that could be opened.
pub(super) struct Opened {
    pub facts: Facts,
    /// Size and hash of the pixels.
    pub pixels: (usize, usize, u64),
    /// Cut, and accepted nevertheless.
    pub cut: bool,
    /// Why it could not be opened at first.
    pub stumbled: Option<String>,
}

/// What became of a file.
pub(super) struct Looked {
    pub bytes: u64,
    pub opened: std::result::Result<Opened, String>,
}

/// Opens the file, a second time if need be.
pub(super) fn look(path: &Path, options: &DecodeOptions) -> Looked {
    let opened = twice(|| open(path, options));
    let opened = opened.map(|(opened, stumbled)| Opened { stumbled, ..opened }).map_err(|e| e.message().to_owned());
    let bytes = std::fs::metadata(path).map_or(0, |m| m.len());
    Looked { bytes, opened }
}

/// What `open` returns; when it fails, what it returns the second time, with the reason of the first failure.
fn twice<T>(mut open: impl FnMut() -> Result<T>) -> Result<(T, Option<String>)> {
    match open() {
        Ok(opened) => Ok((opened, None)),
        Err(first) => open().map(|opened| (opened, Some(first.message().to_owned()))),
    }
}

fn open(path: &Path, options: &DecodeOptions) -> Result<Opened> {
    guarded(path, || {
        let bytes = read_file(path, options)?;
        let Picture { width, height, rgb } = decode(&bytes, options)?;
        let facts = Facts::of(&bytes)?;
        let mut hasher = DefaultHasher::new();
        hasher.write(&rgb);
        let cut = options.allow_truncated && ends_early(&bytes);
        Ok(Opened { facts, pixels: (width, height, hasher.finish()), cut, stumbled: None })
    })
}

/// Whether a file that isn't called so is a picture. Its first bytes decide; only what begins like one is read as a whole, because two
/// letters make a BMP and a text may begin with them.
pub(super) fn is_picture(path: &Path, options: &DecodeOptions) -> bool {
    let mut head = Vec::new();
    let read = File::open(path).and_then(|f| f.take(64).read_to_end(&mut head));
    let begins_like_one = read.is_ok() && crate::vision::decode::sniff(&head).is_ok();
    begins_like_one && guarded(path, || Facts::of(&read_file(path, options)?)).is_ok()
}

/// Groups of files, by position, that have the same size and the same hash.
pub(super) fn same_pixels(looked: &[Looked]) -> Vec<Vec<usize>> {
    let mut groups: BTreeMap<(usize, usize, u64), Vec<usize>> = BTreeMap::new();
    for (i, looked) in looked.iter().enumerate() {
        if let Ok(opened) = &looked.opened {
            groups.entry(opened.pixels).or_default().push(i);
        }
    }
    let mut groups: Vec<_> = groups.into_values().filter(|g| g.len() > 1).collect();
    groups.sort();
    groups
}

/// The group without those whose pixels aren't the first one's after all.
pub(super) fn confirmed(group: &[usize], paths: &[PathBuf], options: &DecodeOptions) -> Vec<usize> {
    let picture = |i: usize| guarded(&paths[i], || crate::vision::open(&paths[i], options)).ok();
    let Some(first) = picture(group[0]) else { return Vec::new() };
    group.iter().copied().filter(|&i| i == group[0] || picture(i).is_some_and(|p| p == first)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Error, ErrorKind};

    #[test]
    fn a_file_is_bad_when_it_fails_twice() {
        let mut answers = vec![Ok(7), Err(Error::new(ErrorKind::Io, "the network is down"))];
        let (value, stumbled) = twice(|| answers.pop().unwrap()).unwrap();
        assert_eq!((value, stumbled.as_deref()), (7, Some("the network is down")));
        let mut tries = 0;
        let failed: Result<((), _)> = twice(|| {
            tries += 1;
            Err(Error::new(ErrorKind::Image, format!("try {tries}")))
        });
        assert_eq!(failed.unwrap_err().message(), "try 2");
        assert_eq!(twice(|| Ok(1)).unwrap(), (1, None));
    }

    #[test]
    fn the_same_hash_is_not_yet_the_same_picture() {
        let dir = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> = (0..3).map(|i| dir.path().join(format!("{i}.png"))).collect();
        for (path, v) in paths.iter().zip([5, 6, 5]) {
            image::GrayImage::from_pixel(4, 4, image::Luma([v])).save(path).unwrap();
        }
        assert_eq!(confirmed(&[0, 1, 2], &paths, &DecodeOptions::default()), [0, 2]);
        std::fs::remove_file(&paths[0]).unwrap();
        assert!(confirmed(&[0, 2], &paths, &DecodeOptions::default()).is_empty(), "it vanished meanwhile");
    }
}
