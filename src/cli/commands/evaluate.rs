//! `onecycle evaluate`: loss and error rate of a model on a folder, with a table of its classes; `--json` for scripts.

use crate::Result;
use crate::cli::Context;
use crate::cli::settings::EvaluateSettings;

/// Runs the command.
///
/// # Errors
/// When the model or a picture cannot be read.
pub fn run(settings: &EvaluateSettings, context: &Context) -> Result<()> {
    let _ = (settings, context);
    Err(super::not_yet("evaluate"))
}
