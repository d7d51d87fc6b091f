//! Decoded pictures kept in memory.

use crate::Result;
use crate::data::{OpenPicture, Picture, buffer};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// An opener that remembers what it opened.
struct Remembering {
    inner: Arc<dyn OpenPicture>,
    kept: RwLock<HashMap<PathBuf, Arc<Picture>>>,
    left: AtomicUsize,
}

/// Remembers up to `budget` bytes of what `inner` opens.
pub(super) fn around(inner: Arc<dyn OpenPicture>, budget: usize) -> Arc<dyn OpenPicture> {
    Arc::new(Remembering { inner, kept: RwLock::default(), left: AtomicUsize::new(budget) })
}

impl OpenPicture for Remembering {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn open(&self, path: &Path) -> Result<Picture> {
        let found = self.kept.read().unwrap_or_else(PoisonError::into_inner).get(path).cloned();
        if let Some(picture) = found {
            let mut rgb = buffer::empty(picture.rgb.len());
            rgb.extend_from_slice(&picture.rgb);
            return Ok(Picture { rgb, ..*picture });
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

    fn settings(&self) -> serde_json::Value {
        self.inner.settings()
    }

    fn remarks(&self) -> Vec<(PathBuf, String)> {
        self.inner.remarks()
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
        let opener = around(count.clone(), 25); // two pictures
        for _ in 0..3 {
            for (path, byte) in [("a", 1), ("bb", 2), ("ccc", 3)] {
                assert_eq!(opener.open(Path::new(path)).unwrap().rgb, vec![byte; 12]);
            }
        }
        assert_eq!(count.0.load(Ordering::Relaxed), 2 + 3);
    }
}
