//! Pictures: decoding, resizing, augmentation, showing.

mod learner;

pub use learner::resnet_groups;
