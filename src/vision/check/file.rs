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

/// Opens the file; when that fails, once more.
pub(super) fn look(path: &Path, options: &DecodeOptions) -> Looked {
    let opened = match open(path, options) {
        Ok(opened) => Ok(opened),
        Err(first) => match open(path, options) {
            Ok(opened) => Ok(Opened { stumbled: Some(without_path(&first)), ..opened }),
            Err(again) => Err(without_path(&again)),
        },
    };
    let bytes = std::fs::metadata(path).map_or(0, |m| m.len());
    Looked { bytes, opened }
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

/// The reader sees the path beside it.
fn without_path(e: &crate::Error) -> String {
    e.message().to_owned()
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
