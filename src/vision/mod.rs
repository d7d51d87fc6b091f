//! Pictures: decoding, resizing, augmentation, showing.
//!
//! `data` moves pictures without knowing what they are; here is what they are. The way of a file: [`decode()`] makes bytes
//! into a [`Picture`](crate::data::Picture) under limits, [`Resize`] takes a region of it and [`resample`]s it with Pillow's
//! arithmetic. [`item_tfms`] has the smaller transforms, [`loaders`] the usual data sets in one call. [`crop`] is the search for
//! random crops, [`quickstart`] draws a data set for the first run. What a file says about itself is in [`facts`], what is wrong with
//! a folder of them in [`check`](mod@check).

pub mod augment;
pub mod check;
pub mod crop;
pub mod decode;
pub mod facts;
pub mod item_tfms;
pub mod loaders;
pub mod quickstart;
mod resample;
pub mod resize;
#[cfg(feature = "plot")]
mod show;

pub use augment::{AugTransforms, aug_transforms};
pub use check::Check;
pub use crop::{Crop, choose_crop, valid_crop};
pub use decode::{DecodeOptions, ImageBlock, PilImage, decode, open};
pub use facts::{Colour, Facts, Scan};
pub use item_tfms::{CropPad, DihedralItem, FlipItem, RandomCrop, RatioResize, dihedral};
pub use loaders::{Columns, ImageDataLoaders};
pub use quickstart::{QUICKSTART_CLASSES, quickstart_picture, render_quickstart};
pub use resample::resample;
pub use resize::{PadMode, RandomResizedCrop, Resize, ResizeMethod};
#[cfg(feature = "plot")]
pub use show::{ShowBatch, pictures};
