//! `onecycle summary`: the layers of an architecture with their shapes and parameters, as `learn.summary()` prints them.

use crate::Result;
use crate::cli::Context;
use crate::cli::settings::SummarySettings;

/// Runs the command.
///
/// # Errors
/// When the architecture cannot be built for that size.
pub fn run(settings: &SummarySettings, context: &Context) -> Result<()> {
    let _ = (settings, context);
    Err(super::not_yet("summary"))
}
