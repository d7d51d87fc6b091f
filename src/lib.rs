//! Chapter 5 of fastai as one Rust crate.
#![deny(missing_docs)]

pub mod autograd;
#[cfg(feature = "cli")]
pub mod cli;
pub mod data;
pub mod device;
mod error;
pub mod fs;
pub mod learner;
pub mod nn;
pub mod ops;
pub mod optim;
#[cfg(feature = "plot")]
pub mod plot;
pub mod prelude;
pub mod rng;
pub mod tensor;
pub mod vision;

pub use device::Device;
pub use error::{Error, ErrorKind, Result};
pub use tensor::{DType, Tensor};
