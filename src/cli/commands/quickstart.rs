//! `onecycle quickstart`: makes its pictures, trains on them, prints the table, writes the report, the plots and the model.

use crate::Result;
use crate::cli::Context;
use crate::cli::settings::QuickstartSettings;

/// Runs the command.
///
/// # Errors
/// When the run directory exists already or cannot be written, or the training fails.
pub fn run(settings: &QuickstartSettings, context: &Context) -> Result<()> {
    let _ = (settings, context);
    Err(super::not_yet("quickstart"))
}
