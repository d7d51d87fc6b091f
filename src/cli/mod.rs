//! The command line: arguments in, printing out, nothing else.
//!
//! A command goes through four rooms, each of which can be read alone:
//!
//! 1. [`flags`] says which flags there are, and their help. Nothing is checked there but the form (a number is a number).
//! 2. [`settings`] fills flags from `--config` and from defaults and checks every value once, whichever way it came; the
//!    result is a plain struct that can be written as the TOML which repeats the run.
//! 3. [`commands`] has one file for each subcommand; its `run` takes checked settings and calls the library.
//! 4. [`output`] and [`signals`] are what they print through and are stopped by.
//!
//! Results go to standard output and everything meant for people to standard error, so that `onecycle predict .. | sort`
//! does what it looks like. The exit status is 0 done, 1 failed, 2 wrong usage, 75 out of time, 130
//! interrupted, 143 terminated.

pub mod commands;
pub mod data;
pub mod flags;
pub mod interpretation;
pub mod output;
pub mod run;
pub mod run_dir;
pub mod settings;
pub mod signals;
pub mod transfer;

use crate::{Error, Result};
use clap::Parser;
use flags::{Cli, Command};
use output::{Console, Verbosity};
use signals::Interrupt;
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Instant;

/// What a command prints through, and what tells it to stop.
#[derive(Debug)]
pub struct Context {
    /// Standard output and standard error.
    pub console: Console,
    /// Set by the first Ctrl-C, SIGTERM or SIGHUP.
    pub interrupt: Interrupt,
    /// When the program began.
    pub began: Instant,
}

/// The program: parses its arguments, runs the command, says what went wrong.
pub fn main() -> ExitCode {
    run_with(std::env::args_os())
}

/// [`main`] with given arguments; the first is the program's name.
pub fn run_with(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let began = Instant::now();
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(message) => {
            // Help and version are not errors to clap either: they go to standard output and the status is 0. A closed
            // pipe behind them is nobody's problem.
            return ExitCode::from(match message.print() {
                _ if message.use_stderr() => output::USAGE,
                Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
                    let console = Console::new(Verbosity::Normal);
                    console.error(&Error::io("write the help", "standard output".as_ref(), e));
                    output::FAILED
                }
                _ => output::DONE,
            });
        }
    };
    let console = Console::new(Verbosity::of(cli.quiet, cli.verbose));
    let job = match job(cli) {
        Ok(job) => job,
        Err(error) => {
            console.error(&error);
            return ExitCode::from(output::USAGE);
        }
    };
    let interrupt = match Interrupt::install() {
        Ok(interrupt) => interrupt,
        Err(error) => {
            console.error(&error);
            return ExitCode::from(output::FAILED);
        }
    };
    let context = Context { console, interrupt, began };
    let outcome = job(&context);
    if let Err(error) = &outcome {
        context.console.error(error);
    }
    ExitCode::from(output::status(&outcome, &context.interrupt))
}

/// A command with its settings, ready to run.
type Job = Box<dyn FnOnce(&Context) -> Result<()>>;

/// Checks the settings of the command asked for. Everything that fails here is wrong usage; everything later is a failure.
fn job(cli: Cli) -> Result<Job> {
    let common = cli.common;
    Ok(match cli.command.unwrap_or_default() {
        Command::Quickstart(flags) => {
            let settings = settings::QuickstartSettings::resolve(flags, common)?;
            Box::new(move |context| commands::quickstart::run(&settings, context))
        }
        Command::Train(flags) => {
            let settings = settings::TrainSettings::resolve(flags, common)?;
            Box::new(move |context| commands::train::run(&settings, context))
        }
        Command::LrFind(flags) => {
            let settings = settings::LrFindSettings::resolve(flags, common)?;
            Box::new(move |context| commands::lr_find::run(&settings, context))
        }
        Command::Evaluate(flags) => {
            let settings = settings::EvaluateSettings::resolve(flags, common)?;
            Box::new(move |context| commands::evaluate::run(&settings, context))
        }
        Command::Interpret(flags) => {
            let settings = settings::InterpretSettings::resolve(flags, common)?;
            Box::new(move |context| commands::interpret::run(&settings, context))
        }
        Command::BenchLoader(flags) => {
            let settings = settings::BenchLoaderSettings::resolve(flags, common)?;
            Box::new(move |context| commands::bench_loader::run(&settings, context))
        }
        Command::Report(flags) => {
            let settings = settings::ReportSettings::resolve(flags, common)?;
            Box::new(move |context| commands::report::run(&settings, context))
        }
        Command::Export(flags) => {
            let settings = settings::ExportSettings::resolve(flags, common)?;
            Box::new(move |context| commands::export::run(&settings, context))
        }
        Command::Chapter5(flags) => {
            let settings = settings::Chapter5Settings::resolve(flags, common)?;
            Box::new(move |context| commands::chapter5::run(&settings, context))
        }
        Command::Completions(flags) => {
            let settings = settings::CompletionsSettings::resolve(flags, common)?;
            Box::new(move |context| commands::completions::run(&settings, context))
        }
        Command::Predict(flags) => {
            let settings = settings::PredictSettings::resolve(flags, common)?;
            Box::new(move |context| commands::predict::run(&settings, context))
        }
        Command::ShowBatch(flags) => {
            let settings = settings::ShowBatchSettings::resolve(flags, common)?;
            Box::new(move |context| commands::show_batch::run(&settings, context))
        }
        Command::Summary(flags) => {
            let settings = settings::SummarySettings::resolve(flags, common)?;
            Box::new(move |context| commands::summary::run(&settings, context))
        }
        Command::Check(flags) => {
            let settings = settings::CheckSettings::resolve(flags, common)?;
            Box::new(move |context| commands::check::run(&settings, context))
        }
        Command::Download(flags) => {
            let settings = settings::DownloadSettings::resolve(flags, common)?;
            Box::new(move |context| commands::download::run(&settings, context))
        }
        Command::Doctor(flags) => {
            let settings = settings::DoctorSettings::resolve(flags, common)?;
            Box::new(move |context| commands::doctor::run(&settings, context))
        }
    })
}
