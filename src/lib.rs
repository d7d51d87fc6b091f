//! Chapter 5 of fastai as one Rust crate.
#![deny(missing_docs)]

#[cfg(feature = "cli")]
pub mod cli;
pub mod data;
mod error;
pub mod fs;
#[cfg(feature = "plot")]
pub mod plot;
pub mod rng;
pub mod vision;

pub use error::{Error, ErrorKind, Result};
