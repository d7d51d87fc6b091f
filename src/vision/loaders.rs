//! `ImageDataLoaders`: the usual data sets in one call each.
//!
//! Every constructor describes a [`DataBlock`] with fastai's defaults; the methods that follow change what is to be changed,
//! and [`ImageDataLoaders::dataloaders`] builds. What has no method of its own is reached by [`ImageDataLoaders::block`].
//!
//! ```no_run
//! # fn main() -> onecycle::Result<()> {
//! use onecycle::vision::{Columns, ImageDataLoaders, Resize, aug_transforms};
//! // flowers/train/rose/1.jpg, flowers/valid/rose/2.jpg
//! let dls = ImageDataLoaders::from_folder("flowers").item_tfms(Resize::new(224)).dataloaders()?;
//! // pascal/train.csv with a line such as 000012.jpg,car person,True
//! let columns = Columns::default().folder("train").label_delim(" ").valid_col("is_valid");
//! let dls = ImageDataLoaders::from_csv("pascal", "train.csv", columns)?
//!     .item_tfms(Resize::new(128))
//!     .batch_tfms(aug_transforms())
//!     .bs(32)
//!     .dataloaders()?;
//! # Ok(())
//! # }
//! ```
//!
//! fastai's first argument, the place where a learner keeps its files, is here only where pictures are looked for below it.

use super::ImageBlock;
use crate::Result;
use crate::data::{
    BatchTransforms, CategoryBlock, Col, ColReader, ColSplitter, DataBlock, DataLoaders, Files, Getter,
    GrandparentSplitter, IntoItemTransforms, ItemGetter, Labeller, MultiCategoryBlock, RandomSplitter, RegexLabeller,
    RegressionBlock, Table, TargetBlock, Value, parent_label, using_attr,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// fastai's share of validation, where nothing else is said.
const VALID_PCT: f64 = 0.2;

/// A data set about to be built; see the [module](self). fastai: `ImageDataLoaders`.
#[must_use = "nothing is read before .dataloaders()"]
pub struct ImageDataLoaders {
    source: Source,
    target: Arc<dyn TargetBlock>,
    valid_pct: Option<f64>,
    seed: Option<u64>,
    changes: Vec<Box<dyn FnOnce(DataBlock) -> DataBlock>>,
}

enum Source {
    Folder { path: PathBuf, train: String, valid: String },
    Files(Vec<PathBuf>),
    Table { table: Table, valid_col: Option<Col> },
}

/// Which columns of a table say what. fastai: the arguments of `from_df`.
#[derive(Clone, Debug)]
pub struct Columns {
    file: Col,
    labels: Vec<Col>,
    folder: PathBuf,
    suff: String,
    label_delim: Option<String>,
    valid_col: Option<Col>,
}

impl Default for Columns {
    /// File names in the first column, labels in the second.
    fn default() -> Columns {
        Columns::new(0, 1)
    }
}

impl Columns {
    /// File names in the column `file`, labels in `label`; each by name or by position.
    pub fn new(file: impl Into<Col>, label: impl Into<Col>) -> Columns {
        Columns {
            file: file.into(),
            labels: vec![label.into()],
            folder: PathBuf::new(),
            suff: String::new(),
            label_delim: None,
            valid_col: None,
        }
    }

    /// Another column of labels. Several make rows of labels: of 0 and 1 with `MultiCategoryBlock::encoded`, of numbers with
    /// `RegressionBlock`.
    pub fn label(mut self, col: impl Into<Col>) -> Columns {
        self.labels.push(col.into());
        self
    }

    /// The folder of the pictures below the data set's.
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Columns {
        self.folder = folder.into();
        self
    }

    /// What a file's name ends with, beyond what the column says.
    pub fn suff(mut self, suff: &str) -> Columns {
        self.suff = suff.into();
        self
    }

    /// What stands between the labels of one picture: then there are any number of them.
    pub fn label_delim(mut self, delim: &str) -> Columns {
        self.label_delim = Some(delim.into());
        self
    }

    /// The column that says which rows validate, instead of a random share.
    pub fn valid_col(mut self, col: impl Into<Col>) -> Columns {
        self.valid_col = Some(col.into());
        self
    }
}

impl ImageDataLoaders {
    fn new(source: Source, target: Arc<dyn TargetBlock>) -> ImageDataLoaders {
        ImageDataLoaders { source, target, valid_pct: None, seed: None, changes: Vec::new() }
    }

    /// Folders such as `path/train/rose` and `path/valid/rose`. With [`ImageDataLoaders::valid_pct`] it is all pictures below
    /// `path`, and a random share of them validates. fastai: `from_folder`.
    pub fn from_folder(path: impl Into<PathBuf>) -> ImageDataLoaders {
        let source = Source::Folder { path: path.into(), train: "train".into(), valid: "valid".into() };
        ImageDataLoaders::new(source, Arc::new(CategoryBlock)).block(|b| b.get_y(parent_label))
    }

    /// [`ImageDataLoaders::from_folder`] with other names for the two folders.
    pub fn from_folders(path: impl Into<PathBuf>, train: &str, valid: &str) -> ImageDataLoaders {
        let source = Source::Folder { path: path.into(), train: train.into(), valid: valid.into() };
        ImageDataLoaders::new(source, Arc::new(CategoryBlock)).block(|b| b.get_y(parent_label))
    }

    /// Files whose label a function finds in their path. fastai: `from_path_func`.
    pub fn from_path_func(files: Vec<PathBuf>, label: impl Getter + 'static) -> ImageDataLoaders {
        ImageDataLoaders::new(Source::Files(files), Arc::new(CategoryBlock)).block(|b| b.get_y(label))
    }

    /// Files whose label a function finds in their name. fastai: `from_name_func`.
    pub fn from_name_func(files: Vec<PathBuf>, label: impl Labeller + 'static) -> ImageDataLoaders {
        ImageDataLoaders::from_path_func(files, using_attr(label, "name"))
    }

    /// Files whose label is the first group of an expression in their path. fastai: `from_path_re`.
    ///
    /// # Errors
    /// As [`RegexLabeller::new`].
    pub fn from_path_re(files: Vec<PathBuf>, pattern: &str) -> Result<ImageDataLoaders> {
        Ok(ImageDataLoaders::from_path_func(files, RegexLabeller::new(pattern)?))
    }

    /// Files whose label is the first group of an expression in their name. fastai: `from_name_re`.
    ///
    /// # Errors
    /// As [`RegexLabeller::new`].
    pub fn from_name_re(files: Vec<PathBuf>, pattern: &str) -> Result<ImageDataLoaders> {
        Ok(ImageDataLoaders::from_name_func(files, RegexLabeller::new(pattern)?))
    }

    /// The rows of a table, whose pictures lie below `path`. Several columns of labels or a delimiter between labels make it
    /// [`MultiCategoryBlock`]. fastai: `from_df`.
    pub fn from_df(table: Table, path: impl AsRef<Path>, columns: Columns) -> ImageDataLoaders {
        let Columns { file, labels, folder, suff, label_delim, valid_col } = columns;
        let several = labels.len() > 1 || label_delim.is_some();
        let x = ColReader::new(file).folder(path.as_ref().join(folder)).suff(&suff);
        let mut y = ColReader::new(labels);
        if let Some(delim) = label_delim {
            y = y.label_delim(&delim);
        }
        let target: Arc<dyn TargetBlock> = if several { Arc::new(MultiCategoryBlock) } else { Arc::new(CategoryBlock) };
        ImageDataLoaders::new(Source::Table { table, valid_col }, target).block(|b| b.get_x(x).get_y(y))
    }

    /// The rows of the CSV file `csv_fname` in the folder `path`, as [`ImageDataLoaders::from_df`]. fastai: `from_csv`.
    ///
    /// # Errors
    /// As [`Table::read_csv`].
    pub fn from_csv(path: impl AsRef<Path>, csv_fname: &str, columns: Columns) -> Result<ImageDataLoaders> {
        let table = Table::read_csv(path.as_ref().join(csv_fname))?;
        Ok(ImageDataLoaders::from_df(table, path, columns))
    }

    /// Files and their labels, one each. Lists of labels make it [`MultiCategoryBlock`], numbers with a fraction
    /// [`RegressionBlock`]. fastai: `from_lists`.
    ///
    /// # Errors
    /// There are more or fewer labels than files.
    pub fn from_lists<V: Into<Value>>(files: Vec<PathBuf>, labels: Vec<V>) -> Result<ImageDataLoaders> {
        let labels: Vec<Value> = labels.into_iter().map(Into::into).collect();
        if files.len() != labels.len() {
            let message = format!("{} labels for {} files", labels.len(), files.len());
            return Err(crate::Error::new(crate::ErrorKind::Argument, message)
                .on("from_lists")
                .remedy("give one label a file"));
        }
        let target: Arc<dyn TargetBlock> = match labels.first() {
            Some(Value::List(_)) => Arc::new(MultiCategoryBlock),
            Some(Value::Float(_)) => Arc::new(RegressionBlock),
            _ => Arc::new(CategoryBlock),
        };
        let rows = files.into_iter().zip(labels).map(|(file, label)| vec![Value::Path(file), label]).collect();
        let table = Table::new("the lists", vec!["file".into(), "label".into()], rows)?;
        let made = ImageDataLoaders::new(Source::Table { table, valid_col: None }, target);
        Ok(made.block(|b| b.get_x(ItemGetter(0)).get_y(ItemGetter(1))))
    }

    /// The share of items that validate, 0.2 unless said; a random one.
    pub fn valid_pct(mut self, share: f64) -> ImageDataLoaders {
        self.valid_pct = Some(share);
        self
    }

    /// The seed of the random split. Without one, every split differs.
    pub fn seed(mut self, seed: u64) -> ImageDataLoaders {
        self.seed = Some(seed);
        self
    }

    /// The classes, sorted; without them they are learned.
    pub fn vocab<S: Into<String>>(self, names: impl IntoIterator<Item = S>) -> ImageDataLoaders {
        self.y_block(CategoryBlock::vocab(names))
    }

    /// The block of the targets, instead of the one that the labels suggest.
    pub fn y_block(mut self, block: impl TargetBlock + 'static) -> ImageDataLoaders {
        self.target = Arc::new(block);
        self
    }

    /// Transforms of single pictures.
    pub fn item_tfms(self, transforms: impl IntoItemTransforms + 'static) -> ImageDataLoaders {
        self.block(|b| b.item_tfms(transforms))
    }

    /// Transforms of whole batches on the device.
    pub fn batch_tfms(self, transforms: impl BatchTransforms + 'static) -> ImageDataLoaders {
        self.block(|b| b.batch_tfms(transforms))
    }

    /// Pictures in a batch, 64 unless said.
    pub fn bs(self, bs: usize) -> ImageDataLoaders {
        self.block(move |b| b.bs(bs))
    }

    /// Pictures in a validation batch, as many as in a training batch unless said.
    pub fn val_bs(self, bs: usize) -> ImageDataLoaders {
        self.block(move |b| b.val_bs(bs))
    }

    /// Any other change of the `DataBlock`: `.block(|b| b.skip_bad(true))`.
    pub fn block(mut self, change: impl FnOnce(DataBlock) -> DataBlock + 'static) -> ImageDataLoaders {
        self.changes.push(Box::new(change));
        self
    }

    /// Finds, splits and labels the items, and starts the workers.
    ///
    /// # Errors
    /// As [`DataBlock::dataloaders`].
    pub fn dataloaders(self) -> Result<DataLoaders> {
        let random = RandomSplitter::new(self.valid_pct.unwrap_or(VALID_PCT), self.seed);
        let block = DataBlock::new((ImageBlock, self.target));
        let block = match &self.source {
            Source::Folder { train, valid, .. } if self.valid_pct.is_none() => {
                block.splitter(GrandparentSplitter::new(train, valid))
            }
            Source::Table { valid_col: Some(col), .. } => block.splitter(ColSplitter::new(col.clone())),
            _ => block.splitter(random),
        };
        let block = self.changes.into_iter().fold(block, |block, change| change(block));
        match self.source {
            Source::Folder { path, .. } => block.dataloaders(path),
            Source::Files(files) => block.dataloaders(Files(files)),
            Source::Table { table, .. } => block.dataloaders(&table),
        }
    }
}
