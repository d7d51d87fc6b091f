//! From a folder to batches of bytes: DataBlock, blocks, getters, labellers, splitters, loaders.
//!
//! The way of an item through this module, one file a station:
//!
//! | station | file | what |
//! |---|---|---|
//! | find | `items.rs` | [`get_image_files`]: a folder's pictures, sorted |
//! | split | `split.rs` | [`RandomSplitter`] and others: indices of training and validation |
//! | label | `label.rs` | [`RegexLabeller`], [`parent_label`]: a path's class name |
//! | number | `category.rs` | [`CategoryBlock`]: class names to class numbers |
//! | transform | `transform.rs` | [`ItemTransform`] on one picture, [`BatchTransforms`] on a batch |
//! | describe | `block.rs`, `summary.rs` | [`DataBlock`]: all of the above in one description, and its printed walk-through |
//! | hold | `datasets.rs` | [`Datasets`]: what a description makes of a folder |
//! | batch | `loader.rs`, `worker.rs` | [`DataLoaders`]: worker threads, order, prefetch |
//!
//! The module knows no picture format: something above it opens files ([`OpenPicture`]), and something above it carries a
//! [`Batch`] to a device.

pub mod block;
pub(crate) mod buffer;
pub mod cache;
pub mod category;
pub mod datasets;
pub mod items;
pub mod label;
pub mod loader;
mod picture;
pub(crate) mod python;
pub mod split;
mod summary;
pub mod transform;
mod worker;

pub use block::{DataBlock, InputBlock, OpenPicture, TargetBlock};
pub use cache::Cache;
pub use category::{Categorize, CategoryBlock, Vocab};
pub use datasets::Datasets;
pub use items::{get_files, get_image_files};
pub use label::{Labeller, RegexLabeller, parent_label, using_attr};
pub use loader::{DataLoader, DataLoaders, LoaderOptions};
pub use picture::Picture;
pub use split::{EndSplitter, FuncSplitter, GrandparentSplitter, IndexSplitter, RandomSplitter, Splits, Splitter};
pub use transform::{BatchDraws, BatchTransforms, IntToFloat, IntoItemTransforms, ItemTransform, Stage, Subset};
pub use worker::{Batch, Batches, Slab};
