//! `onecycle download NAME`: a data set's folder, fetched and unpacked where it isn't there yet. The folder is the result; where
//! it is in the work goes to standard error.

use crate::cli::output::Console;
use crate::cli::settings::DownloadSettings;
use crate::cli::{Context, transfer::watched};
use crate::data::{Remote, URLs, UntarData};
use crate::{Error, ErrorKind, Result};

/// Runs the command.
///
/// # Errors
/// Those of [`UntarData::run`].
pub fn run(settings: &DownloadSettings, context: &Context) -> Result<()> {
    let console = &context.console;
    let Some(from) = &settings.from else { return list(settings.json, console) };
    let mut job = UntarData::new(from.clone()).force_download(settings.force);
    if let Some(home) = &settings.home {
        job = job.home(home);
    }
    let path = watched(context, |watch| job.run(watch))?;
    // A path that isn't Unicode would be another one in the output.
    let shown = path.to_str().ok_or_else(|| {
        let error = Error::new(ErrorKind::Argument, "this folder's name can't be printed").on(path.display());
        error.remedy("choose another one with --home; the data is there")
    })?;
    match settings.json {
        true => console.result(&serde_json::json!({"name": from.name(), "url": from.url(), "path": shown}).to_string()),
        false => console.result(shown),
    }
}

fn list(json: bool, console: &Console) -> Result<()> {
    if json {
        let of = |r: &Remote| serde_json::json!({"name": r.name(), "url": r.url(), "size": r.size()});
        let all: Vec<_> = URLs::ALL.iter().map(of).collect();
        return console.result(&format!("{:#}", serde_json::json!(all)));
    }
    let width = URLs::ALL.iter().map(|r| r.name().len()).max().unwrap_or(0);
    for remote in URLs::ALL.iter().take_while(|_| !console.closed()) {
        let size = remote.size().map(|bytes| format!("{:.1} MB", bytes as f64 / 1e6)).unwrap_or_default();
        console.result(&format!("{:width$}  {size:>9}  {}", remote.name(), remote.url()))?;
    }
    Ok(())
}
