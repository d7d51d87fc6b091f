//! What to know about a folder of pictures before training on it.
//!
//! [`Check`] opens every file and returns a [`Report`]: files that training would stop at, pictures that are there twice, classes that
//! are too small, and what the pictures look like as a whole. It prints nothing and changes nothing; `onecycle check` prints the report.
//!
//! ```
//! # fn main() -> onecycle::Result<()> {
//! use onecycle::data::parent_label;
//! use onecycle::vision::Check;
//! # let dir = tempfile::tempdir().unwrap();
//! # for class in ["rose", "tulip"] {
//! #     std::fs::create_dir(dir.path().join(class)).unwrap();
//! #     image::GrayImage::new(40, 40).save(dir.path().join(class).join("1.png")).unwrap();
//! # }
//! # let flowers = dir.path();
//! let report = Check::folder(flowers).label(parent_label).run()?;
//! assert_eq!(report.images, 2);
//! assert!(report.bad.is_empty());
//! // The rose and the tulip are the same grey square.
//! assert!(report.findings.iter().any(|f| f.kind == "label-conflict"));
//! # Ok(())
//! # }
//! ```
//!
//! What was decided:
//!
//! * **A finding is bad, a warning or a note.** Bad is what training stops at; a file is bad or it isn't, so `report.bad` is empty
//!   exactly when nothing is. Warnings make a model worse or its error rate wrong. Notes are good to know.
//! * **A file is opened twice before it is called bad.** A network drive stumbles; a list of bad files that names good ones has
//!   cost people their pictures. For the same reason nothing is ever moved or deleted.
//! * **Twice means the same pixels**, whatever the file's name, format or compression. Candidates share size and a 64-bit hash
//!   of the pixels; then they are decoded again and compared byte for byte, so that no two different pictures are called the same. The same
//!   photograph at two sizes, or saved again as JPEG, is not found.
//! * **Labels and split are those of the training.** Any [`Labeller`] and any [`Splitter`] can be given, so the check sees the very
//!   validation set that training will use.
//!
//! It takes as long as an epoch of decoding, and half of that again for [`Facts`](super::Facts). Memory: for each thread a file and a
//! decoded picture (of one kind of file, pictures with copies, two), and some 200 bytes a file.

mod file;
mod findings;
mod report;

pub use report::{Bad, ClassCount, Finding, Noted, Report, Severity, Shapes};

use super::DecodeOptions;
use crate::data::loader::pool;
use crate::data::{Datasets, Item, Labeller, Splits, Splitter, Target, get_files, get_image_files};
use crate::{Error, ErrorKind, Result};
use rayon::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

type Progress = Box<dyn Fn(usize, usize) -> bool + Send + Sync>;

/// A check that can be run; see the [module](self).
pub struct Check {
    source: Source,
    labeller: Option<Arc<dyn Labeller>>,
    splitter: Option<Arc<dyn Splitter>>,
    options: DecodeOptions,
    min_side: u32,
    bs: usize,
    threads: usize,
    progress: Option<Progress>,
}

enum Source {
    Folder(PathBuf),
    Files(Vec<PathBuf>),
    /// Files whose labels and split are known already.
    Datasets(Box<Datasets>),
}

impl Check {
    /// Of all pictures in a folder and below it, as [`get_image_files`] finds them; and of what lies beside them.
    pub fn folder(dir: impl AsRef<Path>) -> Check {
        Check::new(Source::Folder(dir.as_ref().to_owned()))
    }

    /// Of these files.
    pub fn files(paths: Vec<PathBuf>) -> Check {
        Check::new(Source::Files(paths))
    }

    /// Of what a `DataBlock` has made of a folder or a table, with its split; of single labels, with its classes too.
    pub fn datasets(datasets: &Datasets) -> Check {
        Check::new(Source::Datasets(Box::new(datasets.clone())))
    }

    fn new(source: Source) -> Check {
        Check {
            source,
            labeller: None,
            splitter: None,
            options: DecodeOptions::default(),
            min_side: 32,
            bs: 64,
            threads: 0,
            progress: None,
        }
    }

    /// How to get labels; without it, and without datasets, nothing is said of classes.
    pub fn label(mut self, labeller: impl Labeller + 'static) -> Check {
        self.labeller = Some(Arc::new(labeller));
        self
    }

    /// How training will split the files; without it, and without datasets, nothing is said of validation.
    pub fn splitter(mut self, splitter: impl Splitter + 'static) -> Check {
        self.splitter = Some(Arc::new(splitter));
        self
    }

    /// How training will open files: its limits, whether cut JPEGs count, whether the EXIF orientation is applied.
    pub fn options(mut self, options: DecodeOptions) -> Check {
        self.options = options;
        self
    }

    /// Pictures with a side shorter than this many pixels get a note; 32 unless said.
    pub fn min_side(mut self, pixels: u32) -> Check {
        self.min_side = pixels;
        self
    }

    /// The training's batch size, 64 unless said: a training set has to fill one.
    pub fn bs(mut self, bs: usize) -> Check {
        self.bs = bs;
        self
    }

    /// Threads that open files; 0, the default, is as many as there are cores, at most 16.
    pub fn threads(mut self, threads: usize) -> Check {
        self.threads = threads;
        self
    }

    /// Is told, from any thread, how many of how many files are done. When it returns `false` the check stops.
    pub fn progress(mut self, tell: impl Fn(usize, usize) -> bool + Send + Sync + 'static) -> Check {
        self.progress = Some(Box::new(tell));
        self
    }

    /// Opens all files.
    ///
    /// # Errors
    /// There are no pictures, the splitter refuses them, threads can't be started, or [`ErrorKind::Interrupted`] when the progress said
    /// stop. A bad file is no error; it is in the report.
    pub fn run(&self) -> Result<Report> {
        let (paths, others) = match &self.source {
            Source::Files(paths) => (paths.clone(), Vec::new()),
            Source::Folder(dir) => (get_image_files(dir)?, beside(dir)?),
            Source::Datasets(datasets) => (datasets.paths().to_vec(), Vec::new()),
        };
        let labels = self.labels(&paths);
        let splits = self.split(&paths)?;
        let pool = pool(self.threads)?;
        let looked = self.each(&pool, &paths, |path| file::look(path, &self.options))?;
        let hidden = self.quietly(&pool, &others, |path| file::is_picture(path, &self.options))?;
        let hidden = others.into_iter().zip(hidden).filter_map(|(path, is)| is.then_some(path)).collect();
        let groups = file::same_pixels(&looked);
        let groups = self.quietly(&pool, &groups, |group| file::confirmed(group, &paths, &self.options))?;
        let groups = groups.into_iter().filter(|g| g.len() > 1).collect();
        let empty = match &self.source {
            Source::Folder(dir) => findings::empty_folders(dir, &paths),
            Source::Files(_) | Source::Datasets(_) => Vec::new(),
        };
        Ok(findings::report(self, findings::Seen { paths, labels, splits, looked, hidden, groups, empty }))
    }

    /// Each file's label, or why it has none; none where labels aren't asked for.
    fn labels(&self, paths: &[PathBuf]) -> Vec<Option<Result<String>>> {
        let labelled = |(i, path): (usize, &PathBuf)| match (&self.labeller, &self.source) {
            (Some(labeller), _) => Some(labeller.label(path)),
            (None, Source::Datasets(datasets)) => match datasets.targets().get(i) {
                Target::Category(n) => {
                    usize::try_from(n).ok().and_then(|n| datasets.vocab().names().get(n)).cloned().map(Ok)
                }
                _ => None,
            },
            (None, _) => None,
        };
        paths.iter().enumerate().map(labelled).collect()
    }

    fn split(&self, paths: &[PathBuf]) -> Result<Option<Splits>> {
        match (&self.splitter, &self.source) {
            (None, Source::Datasets(datasets)) => Ok(Some(datasets.splits().clone())),
            (None, _) => Ok(None),
            (Some(splitter), source) => {
                let items: Vec<Item> = paths.iter().cloned().map(Item::Path).collect();
                let named = |e: Error| if let Source::Folder(dir) = source { e.on(dir.display()) } else { e };
                splitter.split(&items).map(Some).map_err(named)
            }
        }
    }

    /// `work` on every item in the pool's threads, in order, with progress.
    fn each<T: Sync, R: Send>(
        &self,
        pool: &rayon::ThreadPool,
        items: &[T],
        work: impl Fn(&T) -> R + Sync,
    ) -> Result<Vec<R>> {
        let done = AtomicUsize::new(0);
        self.go(pool, items, |item| {
            let result = work(item);
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            (result, self.progress.as_ref().is_none_or(|tell| tell(done, items.len())))
        })
    }

    /// The same without counting: what follows the main part.
    fn quietly<T: Sync, R: Send>(
        &self,
        pool: &rayon::ThreadPool,
        items: &[T],
        work: impl Fn(&T) -> R + Sync,
    ) -> Result<Vec<R>> {
        self.go(pool, items, |item| (work(item), true))
    }

    fn go<T: Sync, R: Send>(
        &self,
        pool: &rayon::ThreadPool,
        items: &[T],
        work: impl Fn(&T) -> (R, bool) + Sync,
    ) -> Result<Vec<R>> {
        let stop = AtomicBool::new(false);
        let one = |item: &T| {
            if stop.load(Ordering::Relaxed) {
                return None;
            }
            let (result, go_on) = work(item);
            stop.fetch_or(!go_on, Ordering::Relaxed);
            Some(result)
        };
        let all: Option<Vec<R>> = pool.install(|| items.par_iter().map(one).collect());
        all.filter(|_| !stop.load(Ordering::Relaxed))
            .ok_or_else(|| Error::new(ErrorKind::Interrupted, "the check was stopped before its last file"))
    }
}

/// Files that no extension makes a picture.
fn beside(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut all = get_files(dir, &[])?;
    all.retain(|path| !crate::data::items::is_image_file(path));
    Ok(all)
}
