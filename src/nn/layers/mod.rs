//! The layers of an image classifier, with PyTorch's names, meanings and defaults.

mod batch_norm;
mod conv2d;
mod linear;
mod pool;
mod simple;

pub use batch_norm::BatchNorm;
#[cfg(feature = "onnx")]
pub(crate) use batch_norm::EPS as BATCH_NORM_EPS;
pub use conv2d::Conv2d;
pub use linear::Linear;
pub use pool::{AdaptiveConcatPool2d, MaxPool2d};
pub use simple::{Dropout, Flatten, ReLU};

use super::Param;

/// The parameter list of a layer whose bias is optional.
fn weight_and_bias<'a>(weight: &'a Param, bias: Option<&'a Param>) -> Vec<(&'static str, &'a Param)> {
    std::iter::once(("weight", weight)).chain(bias.map(|b| ("bias", b))).collect()
}
