//! `onecycle completions`: a script that completes commands and flags in a shell, on standard output.

use crate::cli::Context;
use crate::cli::flags::Cli;
use crate::cli::settings::CompletionsSettings;
use crate::{Error, ErrorKind, Result};
use clap::CommandFactory;

/// Runs the command.
///
/// # Errors
/// When standard output can't be written.
pub fn run(settings: &CompletionsSettings, context: &Context) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(settings.shell, &mut Cli::command(), "onecycle", &mut script);
    let script =
        String::from_utf8(script).map_err(|e| Error::new(ErrorKind::Format, "the script is no text").caused_by(e))?;
    context.console.result(script.trim_end())
}
