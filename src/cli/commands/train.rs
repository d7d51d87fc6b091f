//! `onecycle train`: trains on a folder of pictures.

use crate::Result;
use crate::cli::Context;
use crate::cli::settings::TrainSettings;

/// Runs the command.
///
/// # Errors
/// When the data cannot be trained on, the run directory exists already or cannot be written, or the training fails.
pub fn run(settings: &TrainSettings, context: &Context) -> Result<()> {
    let _ = (settings, context);
    Err(super::not_yet("train"))
}
