//! `onecycle show-batch`: a batch as a grid of pictures, as PNG and in the terminal.

use crate::Result;
use crate::cli::Context;
use crate::cli::settings::ShowBatchSettings;

/// Runs the command.
///
/// # Errors
/// When the data has no batch, or the picture cannot be written.
pub fn run(settings: &ShowBatchSettings, context: &Context) -> Result<()> {
    let _ = (settings, context);
    Err(super::not_yet("show-batch"))
}
