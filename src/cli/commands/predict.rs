//! `onecycle predict`: label and probabilities for each file.

use crate::Result;
use crate::cli::Context;
use crate::cli::settings::PredictSettings;

/// Runs the command.
///
/// # Errors
/// When the model or a picture cannot be read.
pub fn run(settings: &PredictSettings, context: &Context) -> Result<()> {
    let _ = (settings, context);
    Err(super::not_yet("predict"))
}
