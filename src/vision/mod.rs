//! Pictures: decoding, resizing, augmentation, showing.

pub mod augment;
pub mod crop;
pub mod decode;
pub mod quickstart;
mod resample;
pub mod resize;

pub use augment::{AugTransforms, aug_transforms};
pub use crop::{Crop, choose_crop, valid_crop};
pub use decode::{DecodeOptions, ImageBlock, PilImage, decode, open};
pub use quickstart::{QUICKSTART_CLASSES, quickstart_picture, render_quickstart};
pub use resample::resample;
pub use resize::{PadMode, RandomResizedCrop, Resize, ResizeMethod};
