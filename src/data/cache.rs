//! Decoded pictures kept in memory, so that only the first epoch decodes.
//!
//! Decoding a JPEG of 500 x 375 takes about a millisecond, copying its decoded bytes some thirty microseconds. What is kept is the
//! picture as the file has it, before any transform: a random crop stays random, and every byte is what it would have been
//! without the cache. Pictures are kept until a budget is used up; those that come later are decoded each time, as before.
//!
//! Files are read once. Someone who changes a picture while a run goes on trains on what it was.

use super::{OpenPicture, Picture};
use crate::Result;
use crate::device::cpu;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// Whether decoded pictures are kept in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cache {
    /// Decode at every use.
    #[default]
    Off,
    /// Keep as many as fit into a quarter of the memory that is free when loading starts; 1 GiB where that isn't known.
    Auto,
    /// Keep as many as fit into so many bytes.
    Ram(usize),
}

impl Cache {
    /// The budget in bytes.
    pub(super) fn budget(self) -> usize {
        match self {
            Cache::Off => 0,
            Cache::Auto => cpu::memory().map_or(1 << 30, |(free, _)| free / 4),
            Cache::Ram(bytes) => bytes,
        }
    }
}

/// An opener that remembers what it opened.
pub(super) struct Remembering {
    inner: Arc<dyn OpenPicture>,
    kept: RwLock<HashMap<PathBuf, Arc<Picture>>>,
    left: AtomicUsize,
}

impl Remembering {
    /// Remembers up to `budget` bytes of what `inner` opens; with 0 it is `inner` itself that is returned.
    pub(super) fn around(inner: Arc<dyn OpenPicture>, budget: usize) -> Arc<dyn OpenPicture> {
        match budget {
            0 => inner,
            left => Arc::new(Remembering { inner, kept: RwLock::default(), left: AtomicUsize::new(left) }),
        }
    }
}

impl OpenPicture for Remembering {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn open(&self, path: &Path) -> Result<Picture> {
        let found = self.kept.read().unwrap_or_else(PoisonError::into_inner).get(path).cloned();
        if let Some(picture) = found {
            return Ok(Picture::clone(&picture));
        }
        let picture = self.inner.open(path)?;
        let bytes = picture.rgb.len();
        let take = |left: usize| left.checked_sub(bytes);
        if self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
            let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
            kept.insert(path.to_owned(), Arc::new(picture.clone()));
        }
        Ok(picture)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Opens every path as a picture of 4 pixels, and counts.
    struct Count(AtomicUsize);

    impl OpenPicture for Count {
        fn name(&self) -> &str {
            "Count"
        }
        fn open(&self, path: &Path) -> Result<Picture> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(Picture { width: 2, height: 2, rgb: vec![path.to_string_lossy().len() as u8; 12] })
        }
    }

    #[test]
    fn what_fits_is_opened_once() {
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let opener = Remembering::around(count.clone(), 25); // two pictures
        for _ in 0..3 {
            for (path, byte) in [("a", 1), ("bb", 2), ("ccc", 3)] {
                assert_eq!(opener.open(Path::new(path)).unwrap().rgb, vec![byte; 12]);
            }
        }
        assert_eq!(count.0.load(Ordering::Relaxed), 2 + 3);
        assert!(Cache::Auto.budget() > 1 << 20);
        let plain: Arc<dyn OpenPicture> = count;
        assert!(Arc::ptr_eq(&plain, &Remembering::around(plain.clone(), Cache::Off.budget())));
    }
}
