//! One file for each subcommand. Each `run` takes checked settings and returns when its work is done, failed or stopped.

pub mod evaluate;
pub mod predict;
pub mod quickstart;
pub mod show_batch;
pub mod summary;
pub mod train;

use crate::{Error, ErrorKind};

/// What a command answers while the part of the library that it calls is not there.
fn not_yet(command: &str) -> Error {
    Error::new(ErrorKind::Argument, "this version cannot do that yet").on(command)
}
