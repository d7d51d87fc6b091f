//! `DataBlock`: the description of a data set, before there is any data.
//!
//! A [`DataBlock`] says how to get from a folder to batches: which blocks make up a sample, how items are found, labelled,
//! split and transformed. It holds no data and can be used on any number of folders. This is the article's, in full:
//!
//! ```no_run
//! # fn main() -> onecycle::Result<()> {
//! use onecycle::data::*;
//! use onecycle::vision::{ImageBlock, Resize};
//! let dblock = DataBlock::new((ImageBlock, CategoryBlock))
//!     .get_items(get_image_files)
//!     .get_y(using_attr(RegexLabeller::new(r"(.+)_\d+.jpg$")?, "name"))
//!     .splitter(RandomSplitter::seed(42))
//!     .item_tfms(Resize::new(460));
//! print!("{}", dblock.summary("pets/images")?);
//! let dls = dblock.bs(64).dataloaders("pets/images")?;
//! # Ok(())
//! # }
//! ```
//!
//! The layer knows no picture format: an input block hands in something that opens a path ([`OpenPicture`]), and `vision`
//! has the one that decodes files. Nothing is checked while the block is being described; [`DataBlock::datasets`],
//! [`DataBlock::summary`] and [`DataBlock::dataloaders`] say what is missing.
//!
//! Items are found in a folder, or are the rows of a [`Table`]. This is a data set of several labels a picture:
//!
//! ```no_run
//! # fn main() -> onecycle::Result<()> {
//! use onecycle::data::*;
//! use onecycle::vision::{ImageBlock, Resize};
//! let table = Table::read_csv("pascal/train.csv")?; // fname, labels, is_valid
//! let dls = DataBlock::new((ImageBlock, MultiCategoryBlock))
//!     .get_x(ColReader::new("fname").folder("pascal/train"))
//!     .get_y(ColReader::new("labels").label_delim(" "))
//!     .splitter(ColSplitter::default())
//!     .item_tfms(Resize::new(128))
//!     .dataloaders(&table)?;
//! # Ok(())
//! # }
//! ```

use super::cache::Cache;
use super::item::Item;
use super::items;
use super::label::{Getter, IntoGetters};
use super::loader::{DataLoaders, LoaderOptions};
use super::split::{RandomSplitter, Splitter};
use super::table::Table;
use super::target::TargetBlock;
use super::transform::{BatchTransforms, IntToFloat, IntoItemTransforms, ItemTransform, arrange};
use super::{Datasets, Picture};
use crate::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Opens the picture behind a path.
pub trait OpenPicture: Send + Sync {
    /// The name under which `summary` shows it.
    fn name(&self) -> &str;

    /// The decoded picture.
    ///
    /// # Errors
    /// The file cannot be read or is no picture; the error names `path`.
    fn open(&self, path: &Path) -> Result<Picture>;

    /// All that the pixels depend on besides the file: the decoder's version, its options. Pictures kept on disk are used while this
    /// stays the same, and are kept there only when there is such a text.
    fn fingerprint(&self) -> Option<String> {
        None
    }

    /// How pictures are opened, as far as pixels depend on it; an exported model keeps this and opens its own the same way.
    fn settings(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    /// Files that were opened although something is wrong with them, and what.
    fn remarks(&self) -> Vec<(PathBuf, String)> {
        Vec::new()
    }
}

/// A block for the input of a sample: something that opens pictures.
pub trait InputBlock {
    /// How this block opens an item.
    fn opener(self) -> Arc<dyn OpenPicture>;
}

/// Where items come from: a folder by its path, in which `get_items` finds them; a list of [`Files`]; or a [`Table`], whose
/// rows they are.
pub trait Source {
    /// The items; `get_items` is the `DataBlock`'s.
    ///
    /// # Errors
    /// As `get_items`.
    fn items(&self, get_items: &dyn Fn(&Path) -> Result<Vec<PathBuf>>) -> Result<Vec<Item>>;

    /// What `summary` and errors call it.
    fn shown(&self) -> String;
}

impl<P: AsRef<Path>> Source for P {
    fn items(&self, get_items: &dyn Fn(&Path) -> Result<Vec<PathBuf>>) -> Result<Vec<Item>> {
        Ok(get_items(self.as_ref())?.into_iter().map(Item::Path).collect())
    }

    fn shown(&self) -> String {
        self.as_ref().display().to_string()
    }
}

impl Source for &Table {
    fn items(&self, _: &dyn Fn(&Path) -> Result<Vec<PathBuf>>) -> Result<Vec<Item>> {
        Ok(Table::items(self))
    }

    fn shown(&self) -> String {
        self.name().to_owned()
    }
}

/// Files as the source of a data set, in the order given: `dblock.dataloaders(Files(paths))`.
#[derive(Clone, Debug)]
pub struct Files(pub Vec<PathBuf>);

impl Source for Files {
    fn items(&self, _: &dyn Fn(&Path) -> Result<Vec<PathBuf>>) -> Result<Vec<Item>> {
        Ok(self.0.iter().cloned().map(Item::Path).collect())
    }

    fn shown(&self) -> String {
        format!("a list of {} files", self.0.len())
    }
}

type GetItems = Arc<dyn Fn(&Path) -> Result<Vec<PathBuf>> + Send + Sync>;

/// The description of a data set; see the [module](self). Cloning is cheap. fastai: `DataBlock`.
#[derive(Clone)]
pub struct DataBlock {
    pub(super) opener: Arc<dyn OpenPicture>,
    pub(super) target: Arc<dyn TargetBlock>,
    get_items: GetItems,
    get_x: Vec<Arc<dyn Getter>>,
    get_y: Vec<Arc<dyn Getter>>,
    splitter: Arc<dyn Splitter>,
    pub(super) item_tfms: Vec<Arc<dyn ItemTransform>>,
    pub(super) batch_tfms: Arc<dyn BatchTransforms>,
    pub(super) options: LoaderOptions,
}

impl DataBlock {
    /// A block for the input and a block for the target. As in fastai the split is a random 20 % without seed until
    /// [`DataBlock::splitter`] says otherwise; items are the folder's pictures.
    pub fn new<I: InputBlock, T: TargetBlock + 'static>((input, target): (I, T)) -> DataBlock {
        DataBlock {
            opener: input.opener(),
            target: Arc::new(target),
            get_items: Arc::new(items::get_image_files),
            get_x: Vec::new(),
            get_y: Vec::new(),
            splitter: Arc::new(RandomSplitter::new(0.2, None)),
            item_tfms: Vec::new(),
            batch_tfms: Arc::new(IntToFloat),
            options: LoaderOptions::default(),
        }
    }

    /// How to find the items under a path, such as [`get_image_files`](super::get_image_files).
    pub fn get_items(mut self, get: impl Fn(&Path) -> Result<Vec<PathBuf>> + Send + Sync + 'static) -> DataBlock {
        self.get_items = Arc::new(get);
        self
    }

    /// How to get from an item to its picture's path. Items that are paths are it; rows of a table need this.
    pub fn get_x(mut self, getters: impl IntoGetters) -> DataBlock {
        self.get_x = getters.into_getters();
        self
    }

    /// How to get an item's label.
    pub fn get_y(mut self, getters: impl IntoGetters) -> DataBlock {
        self.get_y = getters.into_getters();
        self
    }

    /// How to divide the items into training and validation.
    pub fn splitter(mut self, splitter: impl Splitter + 'static) -> DataBlock {
        self.splitter = Arc::new(splitter);
        self
    }

    /// Transforms of single pictures: one, a tuple or a `Vec`. Of several of one class the last counts; they run by
    /// [`ItemTransform::order`].
    pub fn item_tfms(mut self, transforms: impl IntoItemTransforms) -> DataBlock {
        self.item_tfms = arrange(transforms.into_list());
        self
    }

    /// Transforms of whole batches on the device.
    pub fn batch_tfms(mut self, transforms: impl BatchTransforms + 'static) -> DataBlock {
        self.batch_tfms = Arc::new(transforms);
        self
    }

    /// Pictures in a training batch (64 by default), and in a validation batch unless [`DataBlock::val_bs`] differs.
    pub fn bs(mut self, bs: usize) -> DataBlock {
        self.options.bs = bs;
        self
    }

    /// Pictures in a validation batch.
    pub fn val_bs(mut self, bs: usize) -> DataBlock {
        self.options.val_bs = Some(bs);
        self
    }

    /// Worker threads that decode and transform pictures; 0, the default, is as many as there are cores, at most 16.
    pub fn workers(mut self, workers: usize) -> DataBlock {
        self.options.workers = workers;
        self
    }

    /// The seed of the training order and of all random transforms (0 by default). The splitter has its own.
    pub fn seed(mut self, seed: u64) -> DataBlock {
        self.options.seed = seed;
        self
    }

    /// Decodes every file once while the loaders are built and leaves out those that fail; see
    /// [`DataLoaders::skipped`].
    pub fn skip_bad(mut self, skip: bool) -> DataBlock {
        self.options.skip_bad = skip;
        self
    }

    /// Keeps decoded pictures, so that later epochs, or later runs too, don't decode again; off by default. See
    /// [`DataLoaders::kept`].
    pub fn cache(mut self, cache: Cache) -> DataBlock {
        self.options.cache = cache;
        self
    }

    /// Finds, splits and labels the items of `source`.
    ///
    /// # Errors
    /// There are no items, one has no label, there are fewer than two classes, a validation label has no training
    /// item, or there are more getters than blocks.
    pub fn datasets(&self, source: impl Source) -> Result<Datasets> {
        self.datasets_of(&source)
    }

    pub(super) fn datasets_of(&self, source: &dyn Source) -> Result<Datasets> {
        let items = self.items(source)?;
        one_each("get_x", &self.get_x, "input")?;
        one_each("get_y", &self.get_y, "target")?;
        let label = self.labels().ok_or_else(no_labels)?;
        let splits = self.splitter.split(&items)?;
        Datasets::new(self, source.shown(), items, splits, label)
    }

    /// The items of `source`; none is an error.
    pub(super) fn items(&self, source: &dyn Source) -> Result<Vec<Item>> {
        let items = source.items(&*self.get_items)?;
        match items.is_empty() {
            true => Err(Error::new(ErrorKind::Data, "no items found")
                .on(source.shown())
                .remedy("check the path and the get_items function")),
            false => Ok(items),
        }
    }

    /// Datasets and the loaders over them.
    ///
    /// # Errors
    /// As [`DataBlock::datasets`]; also when the training set is smaller than one batch.
    pub fn dataloaders(&self, source: impl Source) -> Result<DataLoaders> {
        DataLoaders::new(self.datasets(source)?, self.options.clone())
    }

    /// Finds pictures, if items are not paths.
    pub(super) fn paths(&self) -> Option<&dyn Getter> {
        self.get_x.first().map(AsRef::as_ref)
    }

    /// Finds labels.
    pub(super) fn labels(&self) -> Option<&dyn Getter> {
        self.get_y.first().map(AsRef::as_ref)
    }
}

/// What a data set without `get_y` lacks.
pub(super) fn no_labels() -> Error {
    Error::new(ErrorKind::Data, "the DataBlock has no labels")
        .on("get_y")
        .remedy("add .get_y(parent_label), or another labeller")
}

/// fastai's complaint about getters that have no block.
fn one_each(what: &str, getters: &[Arc<dyn Getter>], block: &str) -> Result<()> {
    match getters.len() {
        0 | 1 => Ok(()),
        n => Err(Error::new(
            ErrorKind::Argument,
            format!("{what} contains {n} functions, but must contain 1 (one for each {block})"),
        )
        .on(what)
        .remedy("give one getter; getter(|item| ..) makes one of several steps")),
    }
}
