//! Loaders: which items make up which batch of which epoch.
//!
//! A [`DataLoader`] knows its items, its order and its batch size; [`DataLoader::epoch`] starts the worker threads on one
//! pass. Training loaders shuffle, differently in each epoch, and drop the last short batch (a batch of one picture
//! would spoil batch normalisation); validation loaders keep the order and the last batch. The order of epoch 7 is a
//! function of the seed and the number 7: it can be had without the six before, which is how a run is resumed.
//!
//! [`DataLoaders`] is the pair for training and validation, with the vocabulary.
//!
//! ```no_run
//! # fn demo(dls: onecycle::data::DataLoaders) -> onecycle::Result<()> {
//! let mut batches = dls.train.epoch(0);
//! for batch in &mut batches {
//!     let batch = batch?;
//!     println!("{} pictures of {}x{}", batch.len(), batch.height, batch.width);
//! }
//! println!("waited {:.1} s for data", batches.waited().as_secs_f64());
//! # Ok(())
//! # }
//! ```

use super::block::{OpenPicture, Source};
use super::cache::{Cache, Kept};
use super::datasets::Datasets;
use super::item::Value;
use super::picture::Picture;
use super::target::{Target, Targets};
use super::transform::{BatchTransforms, ItemTransform, Subset, arrange};
use super::worker::{self, Batch, Batches, Plan, SlabPool};
use crate::rng::{Purpose, Rng};
use crate::{Error, ErrorKind, Result};
use rayon::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What `DataBlock`'s builder says about loading.
#[derive(Clone, Debug)]
pub struct LoaderOptions {
    /// Pictures in a training batch.
    pub bs: usize,
    /// Pictures in a validation batch; `bs` when `None`.
    pub val_bs: Option<usize>,
    /// Worker threads; 0 is as many as there are cores, at most 16.
    pub workers: usize,
    /// Seed of the order and of all item transforms.
    pub seed: u64,
    /// Decode all files once at the start and leave out those that fail.
    pub skip_bad: bool,
    /// Keep decoded pictures.
    pub cache: Cache,
}

impl Default for LoaderOptions {
    fn default() -> LoaderOptions {
        LoaderOptions { bs: 64, val_bs: None, workers: 0, seed: 0, skip_bad: false, cache: Cache::Off }
    }
}

/// Batches of one set, pass after pass; see the [module](self). Cloning is cheap.
#[derive(Clone)]
pub struct DataLoader {
    plan: Arc<Plan>,
    indices: Arc<Vec<usize>>,
    pool: Arc<rayon::ThreadPool>,
    slabs: Arc<SlabPool>,
    bs: usize,
    shuffle: bool,
    drop_last: bool,
}

impl DataLoader {
    /// A loader over files that belong to no `DataBlock`, as prediction with an exported model needs it: in order, with
    /// the validation behaviour of `item_tfms`, keeping the last short batch. Without `targets` they are all -1.
    /// `workers` 0 is as many as there are cores, at most 16.
    ///
    /// # Errors
    /// `bs` is 0, the numbers of paths and targets differ, or threads cannot be started.
    pub fn for_files(
        opener: Arc<dyn OpenPicture>,
        item_tfms: Vec<Arc<dyn ItemTransform>>,
        paths: Vec<PathBuf>,
        targets: Option<Targets>,
        bs: usize,
        workers: usize,
    ) -> Result<DataLoader> {
        DataLoader::over_files(pool(workers)?, opener, arrange(item_tfms), paths, targets, bs)
    }

    fn over_files(
        pool: Arc<rayon::ThreadPool>,
        opener: Arc<dyn OpenPicture>,
        item_tfms: Vec<Arc<dyn ItemTransform>>,
        paths: Vec<PathBuf>,
        targets: Option<Targets>,
        bs: usize,
    ) -> Result<DataLoader> {
        check_bs(bs)?;
        let n = paths.len();
        let targets = Arc::new(targets.unwrap_or_else(|| Targets::unknown(n)));
        if targets.len() != n {
            return Err(Error::new(ErrorKind::Argument, format!("{} labels for {n} files", targets.len()))
                .on("targets")
                .remedy("give one label a file, or none at all"));
        }
        let plan = Plan { opener, item_tfms, subset: Subset::Valid, seed: 0, items: Arc::new(paths), targets };
        Ok(DataLoader {
            plan: Arc::new(plan),
            indices: Arc::new((0..n).collect()),
            pool,
            slabs: Arc::default(),
            bs,
            shuffle: false,
            drop_last: false,
        })
    }

    /// The same items in their own order, the last short batch included, treated as those of `subset` are: with
    /// [`Subset::Train`] item transforms draw at random, with [`Subset::Valid`] they don't. fastai: `dl.new(shuffle=False,
    /// drop_last=False)` with `set_split_idx`.
    pub fn in_order(&self, subset: Subset) -> DataLoader {
        let plan = Arc::new(Plan { subset, ..(*self.plan).clone() });
        DataLoader { plan, shuffle: false, drop_last: false, ..self.clone() }
    }

    /// A loader over some of the items, by their places in this loader's set; places that it doesn't have are left out.
    pub fn of_items(&self, places: &[usize]) -> DataLoader {
        let indices = places.iter().filter_map(|&place| self.indices.get(place).copied()).collect();
        DataLoader { indices: Arc::new(indices), ..self.clone() }
    }

    /// Starts one pass. The worker threads begin at once, two batches ahead of the consumer.
    pub fn epoch(&self, epoch: u64) -> Batches {
        self.epoch_from(epoch, 0)
    }

    /// The rest of a pass, from batch `first` on: the same batches that [`DataLoader::epoch`] yields there, without
    /// making those before.
    pub fn epoch_from(&self, epoch: u64, first: usize) -> Batches {
        let batches = self.order(epoch).into_iter().skip(first).collect();
        self.load(epoch, batches)
    }

    /// Which items make up which batch of a pass, as indices into the whole list of items; opens no file.
    pub fn order(&self, epoch: u64) -> Vec<Vec<usize>> {
        let order: Vec<usize> = match self.shuffle {
            true => {
                let places = Rng::at(self.plan.seed, Purpose::Shuffle, epoch, 0).permutation(self.indices.len());
                places.into_iter().map(|p| self.indices[p]).collect()
            }
            false => self.indices.to_vec(),
        };
        order.chunks(self.bs).take(self.len()).map(<[usize]>::to_vec).collect()
    }

    /// Starts to load these batches of a pass, some of [`DataLoader::order`]'s.
    pub(crate) fn load(&self, epoch: u64, batches: Vec<Vec<usize>>) -> Batches {
        Batches::new(self.plan.clone(), self.pool.clone(), self.slabs.clone(), epoch, batches)
    }

    /// Batches in a pass.
    pub fn len(&self) -> usize {
        match self.drop_last {
            true => self.indices.len() / self.bs,
            false => self.indices.len().div_ceil(self.bs),
        }
    }

    /// Whether a pass has no batch.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Items in the set, those of a dropped last batch included.
    pub fn n_items(&self) -> usize {
        self.indices.len()
    }

    /// Pictures in a full batch.
    pub fn bs(&self) -> usize {
        self.bs
    }

    /// The set's items as indices into the whole list of items: [`Batch::indices`](super::Batch::indices).
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }

    /// The file of the item at `index` in the whole list of items.
    pub fn path(&self, index: usize) -> &Path {
        &self.plan.items[index]
    }

    /// The targets of all items, by their index in the whole list: a class number is -1 without label.
    pub fn targets(&self) -> &Targets {
        &self.plan.targets
    }

    /// The first batch of the first pass. fastai: `one_batch`.
    ///
    /// # Errors
    /// There is none, or a picture can't be read.
    pub fn one_batch(&self) -> Result<Batch> {
        self.load(0, self.order(0).into_iter().take(1).collect()).next().unwrap_or_else(|| {
            Err(Error::new(ErrorKind::Data, "This DataLoader does not contain any batches")
                .remedy("use smaller batches"))
        })
    }

    /// Worker threads of the loader.
    pub fn workers(&self) -> usize {
        self.pool.current_num_threads()
    }
}

/// The training and the validation loader of a data set. fastai: `DataLoaders`.
#[derive(Clone)]
pub struct DataLoaders {
    /// Shuffled, without the last short batch.
    pub train: DataLoader,
    /// In order, with the last short batch.
    pub valid: DataLoader,
    datasets: Datasets,
    skipped: Vec<(PathBuf, String)>,
    kept: Kept,
}

impl DataLoaders {
    /// Loaders over `datasets`. Both share one pool of worker threads, which lives as long as they do.
    ///
    /// # Errors
    /// A batch size is 0, or the training set is smaller than one batch; with `skip_bad` also when nothing is left; the file of a
    /// [`Cache::Disk`] can't be written.
    pub fn new(mut datasets: Datasets, options: LoaderOptions) -> Result<DataLoaders> {
        let val_bs = options.val_bs.unwrap_or(options.bs);
        check_bs(options.bs)?;
        check_bs(val_bs)?;
        let pool = pool(options.workers)?;
        let used = [datasets.indices(Subset::Train), datasets.indices(Subset::Valid)].concat();
        let paths: Vec<&Path> = used.iter().map(|&i| datasets.paths()[i].as_path()).collect();
        // Before bad files are looked for: what is decoded for that is kept.
        let (opener, kept) = options.cache.around(datasets.block.opener.clone(), &paths, &pool)?;
        let skipped = match options.skip_bad {
            true => leave_out_bad(&mut datasets, &*opener, &used, &pool),
            false => Vec::new(),
        };
        let n = datasets.len(Subset::Train);
        if n < options.bs {
            let left =
                if skipped.is_empty() { String::new() } else { format!(", {} bad files left out", skipped.len()) };
            return Err(Error::new(
                ErrorKind::Data,
                format!(
                    "This DataLoader does not contain any batches: the training set has {n} items{left}, fewer than a \
                     batch of {}",
                    options.bs
                ),
            )
            .on(datasets.source().display())
            .remedy(if n > 0 {
                format!("use smaller batches, such as {0}: bs({0}), on the command line --bs {0}", (n / 2).max(1))
            } else {
                "add pictures".into()
            }));
        }
        let (items, targets) = (datasets.paths().clone(), datasets.targets().clone());
        // One set of slabs for both loaders: they are not iterated over at the same time.
        let slabs = Arc::<SlabPool>::default();
        let loader = |subset, bs| DataLoader {
            plan: Arc::new(Plan {
                opener: opener.clone(),
                item_tfms: datasets.block.item_tfms.clone(),
                subset,
                seed: options.seed,
                items: items.clone(),
                targets: targets.clone(),
            }),
            indices: Arc::new(datasets.indices(subset).to_vec()),
            pool: pool.clone(),
            slabs: slabs.clone(),
            bs,
            shuffle: subset == Subset::Train,
            drop_last: subset == Subset::Train,
        };
        let (train, valid) = (loader(Subset::Train, options.bs), loader(Subset::Valid, val_bs));
        Ok(DataLoaders { train, valid, datasets, skipped, kept })
    }

    /// The class names, by class number; empty where targets are numbers.
    pub fn vocab(&self) -> &[String] {
        self.datasets.vocab().names()
    }

    /// How many numbers a network has to say about a picture: classes, or numbers of a regression.
    pub fn c(&self) -> usize {
        self.datasets.c()
    }

    /// The first training batch. fastai: `dls.one_batch()`.
    ///
    /// # Errors
    /// A picture can't be read.
    pub fn one_batch(&self) -> Result<Batch> {
        self.train.one_batch()
    }

    /// The training set. fastai: `dls.train_ds`.
    pub fn train_ds(&self) -> Dataset<'_> {
        Dataset { datasets: &self.datasets, subset: Subset::Train }
    }

    /// The validation set. fastai: `dls.valid_ds`.
    pub fn valid_ds(&self) -> Dataset<'_> {
        Dataset { datasets: &self.datasets, subset: Subset::Valid }
    }

    /// The seed of order, transforms and, unless told otherwise, a learner's weights.
    pub fn seed(&self) -> u64 {
        self.train.plan.seed
    }

    /// The items behind the loaders.
    pub fn datasets(&self) -> &Datasets {
        &self.datasets
    }

    /// Files that `skip_bad` left out, with the reasons. Nothing is deleted.
    pub fn skipped(&self) -> &[(PathBuf, String)] {
        &self.skipped
    }

    /// What became of the [`Cache`] that was asked for.
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// What opens the pictures.
    pub fn opener(&self) -> &Arc<dyn OpenPicture> {
        &self.datasets.block.opener
    }

    /// The transforms of single pictures, in running order.
    pub fn item_tfms(&self) -> &[Arc<dyn ItemTransform>] {
        &self.datasets.block.item_tfms
    }

    /// The transforms of batches on the device.
    pub fn batch_tfms(&self) -> &Arc<dyn BatchTransforms> {
        &self.datasets.block.batch_tfms
    }

    /// Replaces the batch transforms, as a learner does when it adds the normalisation of its pretrained model.
    pub fn set_batch_tfms(&mut self, transforms: Arc<dyn BatchTransforms>) {
        self.datasets.block.batch_tfms = transforms;
    }

    /// A loader over other files with the validation behaviour of these, without labels. fastai: `dls.test_dl(items)`.
    ///
    /// # Errors
    /// Threads cannot be started.
    pub fn test_dl<P: Into<PathBuf>>(&self, files: impl IntoIterator<Item = P>) -> Result<DataLoader> {
        self.test_loader::<&str>(files.into_iter().map(Into::into).collect(), None)
    }

    /// A loader over the items of another folder, list or table, found as the `DataBlock` finds its own, with the validation
    /// behaviour of these, and with their labels if wanted. fastai: `dls.test_dl(df, with_labels=True)`.
    ///
    /// ```no_run
    /// # fn demo(dls: onecycle::data::DataLoaders) -> onecycle::Result<()> {
    /// use onecycle::data::Table;
    /// let test = dls.test_source(&Table::read_csv("planet/test.csv")?, false)?; // get_x of the DataBlock names the files
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`DataBlock::datasets`](super::DataBlock::datasets); a label is not in the vocabulary.
    pub fn test_source(&self, source: impl Source, with_labels: bool) -> Result<DataLoader> {
        let (paths, labels) = self.datasets.find(&source, with_labels)?;
        self.test_loader(paths, labels.as_deref())
    }

    /// A loader over other files with their labels, if there are any; of these the validation behaviour. fastai:
    /// `dls.test_dl(items, with_labels=True)`.
    ///
    /// # Errors
    /// A label is not in the vocabulary (the error names its file), or there are more or fewer labels than paths.
    pub fn test_loader<S: Clone + Into<Value>>(&self, paths: Vec<PathBuf>, labels: Option<&[S]>) -> Result<DataLoader> {
        let targets = match labels {
            Some(labels) => {
                let file = |i: usize| paths.get(i).map_or_else(|| format!("label {i}"), |p| p.display().to_string());
                let target = |(i, label): (usize, &S)| -> Result<(usize, Target)> {
                    let target = self.datasets.encode().encode(&label.clone().into());
                    Ok((i, target.map_err(|e| e.rather_on(file(i)))?))
                };
                let known = labels.iter().enumerate().map(target).collect::<Result<Vec<_>>>()?;
                Some(Targets::collect(labels.len(), known).map_err(|(i, e)| e.on(file(i)))?)
            }
            None => None,
        };
        let (opener, tfms) = (self.opener().clone(), self.item_tfms().to_vec());
        DataLoader::over_files(self.valid.pool.clone(), opener, tfms, paths, targets, self.valid.bs)
    }
}

/// One of the two sets: [`Datasets`] with the subset said. fastai: `dls.train_ds`, `dls.valid_ds`.
#[derive(Clone, Copy)]
pub struct Dataset<'a> {
    datasets: &'a Datasets,
    subset: Subset,
}

impl<'a> Dataset<'a> {
    /// How many items there are.
    pub fn len(self) -> usize {
        self.datasets.len(self.subset)
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The files of the items' pictures, in order.
    pub fn paths(self) -> impl Iterator<Item = &'a Path> {
        self.datasets.indices(self.subset).iter().map(|&i| self.datasets.paths()[i].as_path())
    }

    /// The decoded picture of item `i`, before any transform, and its target. fastai: `dls.train_ds[i]`.
    ///
    /// # Errors
    /// `i` is out of range, or the file is no picture.
    pub fn get(self, i: usize) -> Result<(Picture, Target)> {
        self.datasets.get(self.subset, i)
    }
}

fn check_bs(bs: usize) -> Result<()> {
    match bs {
        0 => {
            Err(Error::new(ErrorKind::Argument, "a batch of 0 pictures").on("bs").remedy("use 1 or more; 64 is usual"))
        }
        _ => Ok(()),
    }
}

/// Threads of our own: a library must not seize rayon's global pool, which belongs to the program around it.
pub(crate) fn pool(workers: usize) -> Result<Arc<rayon::ThreadPool>> {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let threads = if workers == 0 { cores.min(16) } else { workers };
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|i| format!("onecycle-data-{i}"))
        // Tasks catch panics themselves. Should one escape, its batch is reported as failed; without a handler rayon
        // would abort the process.
        .panic_handler(|_| {})
        .build();
    pool.map(Arc::new).map_err(|e| {
        Error::new(ErrorKind::Io, format!("{threads} worker threads cannot be started"))
            .on("workers")
            .remedy("use fewer workers")
            .caused_by(e)
    })
}

/// Opens every file of both sets once, drops those that fail, and returns them with the reason. A failure counts only
/// when it happens twice: a network drive that stumbles once should not cost a picture.
fn leave_out_bad(
    datasets: &mut Datasets,
    opener: &dyn OpenPicture,
    indices: &[usize],
    pool: &rayon::ThreadPool,
) -> Vec<(PathBuf, String)> {
    let items = datasets.paths();
    let failure = |i: usize| worker::guarded(&items[i], || opener.open(&items[i])).err();
    let mut bad: Vec<(usize, String)> = pool.install(|| {
        let twice = |i: usize| failure(i).and_then(|_| failure(i));
        indices.par_iter().filter_map(|&i| twice(i).map(|e| (i, e.to_string()))).collect()
    });
    bad.sort();
    let skipped = bad.iter().map(|(i, reason)| (items[*i].clone(), reason.clone())).collect();
    datasets.remove(|i| bad.binary_search_by_key(&i, |(b, _)| *b).is_ok());
    skipped
}
