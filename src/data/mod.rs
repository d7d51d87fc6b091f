//! From a folder to batches of bytes: DataBlock, blocks, getters, labellers, splitters, loaders.
//!
//! The way of an item through this module, one file a station:
//!
//! | station | file | what |
//! |---|---|---|
//! | fetch | `external.rs` | `untar_data`: fastai's data sets from the network (feature `download`) |
//! | find | `items.rs`, `table.rs` | [`get_image_files`]: a folder's pictures, sorted; [`Table`]: a CSV file's rows |
//! | list | `item.rs` | [`Item`]: a path or a row; [`Value`]: what a getter finds in it |
//! | split | `split.rs`, `train_test.rs` | [`RandomSplitter`] and others: indices of training and validation |
//! | label | `label.rs`, `getter.rs` | [`RegexLabeller`], [`parent_label`]: a path's class name; [`ColReader`]: a row's |
//! | encode | `category.rs`, `target.rs` | [`CategoryBlock`], [`MultiCategoryBlock`], [`RegressionBlock`]: labels to numbers |
//! | transform | `transform.rs` | [`ItemTransform`] on one picture, [`BatchTransforms`] on a batch |
//! | describe | `block.rs`, `summary.rs` | [`DataBlock`]: all of the above in one description, and its printed walk-through |
//! | hold | `datasets.rs` | [`Datasets`]: what a description makes of a folder |
//! | batch | `loader.rs`, `worker.rs` | [`DataLoaders`]: worker threads, order, prefetch |
//! | keep | `cache/` | [`Cache`]: decoded pictures in memory or in a file |
//!
//! The module knows no picture format: something above it opens files ([`OpenPicture`]), and something above it carries a
//! [`Batch`] to a device.

pub mod block;
pub(crate) mod buffer;
pub mod cache;
pub mod category;
pub mod datasets;
#[cfg(feature = "download")]
pub mod external;
pub mod getter;
pub mod item;
pub mod items;
pub mod label;
pub mod loader;
mod picture;
pub(crate) mod python;
pub mod split;
mod summary;
pub mod table;
pub mod target;
pub mod train_test;
pub mod transform;
mod worker;

pub use block::{DataBlock, Files, InputBlock, OpenPicture, Source};
pub use cache::{Cache, Kept};
pub use category::{Categorize, CategoryBlock, MultiCategorize, MultiCategoryBlock, Vocab};
pub use datasets::Datasets;
#[cfg(feature = "download")]
pub use external::{Remote, URLs, UntarData, untar_data};
pub use getter::{AttrGetter, ColReader, ItemGetter, getter};
pub use item::{Col, Item, Row, Value};
pub use items::{get_files, get_image_files};
pub use label::{Getter, IntoGetters, Labeller, RegexLabeller, parent_label, using_attr};
pub use loader::{DataLoader, DataLoaders, Dataset, LoaderOptions};
pub use picture::Picture;
pub use split::{
    ColSplitter, EndSplitter, FileSplitter, FuncSplitter, GrandparentSplitter, IndexSplitter, MaskSplitter, Names,
    RandomSplitter, RandomSubsetSplitter, Splits, Splitter,
};
pub use table::{CsvOptions, Table};
pub use target::{Encode, RegressionBlock, RegressionSetup, Rows, Target, TargetBlock, Targets};
pub use train_test::{Share, TrainTestSplitter};
pub use transform::{BatchDraws, BatchTransforms, IntToFloat, IntoItemTransforms, ItemTransform, Stage, Subset};
pub(crate) use worker::guarded;
pub use worker::{Batch, Batches, Slab};
