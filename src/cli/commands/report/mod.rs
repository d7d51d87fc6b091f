//! `onecycle report`: several runs on one page, with their curves above each other and the settings in which they differ.

mod page;

use crate::cli::settings::{ReportSettings, TrainSettings};
use crate::cli::{Context, run};
use crate::learner::format_time;
use crate::{Error, ErrorKind, Result};
use serde_json::json;
use std::path::{Path, PathBuf};

/// What a run directory says.
struct Run {
    name: String,
    dir: PathBuf,
    /// Names of the history's columns, and its rows; a cell that is no number is none.
    columns: Vec<String>,
    rows: Vec<Vec<Option<f64>>>,
    seconds: f64,
    settings: toml::Table,
    environment: toml::Table,
}

/// Runs the command.
///
/// # Errors
/// When a directory is no run's, or the page can't be written.
pub fn run(settings: &ReportSettings, context: &Context) -> Result<()> {
    let mut runs = Vec::new();
    for dir in settings.dirs.iter().map(|dir| with_seeds(dir)).collect::<Result<Vec<_>>>()?.concat() {
        runs.push(Run::read(dir)?);
    }
    name_apart(&mut runs);
    page::page(&runs).save(&settings.out)?;
    if settings.json {
        let lines: Vec<_> = runs.iter().map(Run::json).collect();
        return context.console.result(&serde_json::Value::from(lines).to_string());
    }
    let header = ["run"].into_iter().chain(COLUMNS).map(String::from).collect();
    let rows: Vec<Vec<String>> = [header].into_iter().chain(runs.iter().map(Run::cells)).collect();
    let width = |i: usize| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0);
    for row in &rows {
        let cells: Vec<String> = row.iter().enumerate().map(|(i, cell)| format!("{cell:0$}", width(i))).collect();
        context.console.result(cells.join("  ").trim_end())?;
    }
    context.console.note(&format!("the page is {}", settings.out.display()));
    Ok(())
}

/// Columns of the tables, after the run's name.
const COLUMNS: [&str; 6] = ["epochs", "train_loss", "valid_loss", "error_rate", "lowest error_rate", "time"];

/// A run with several seeds is a directory of runs.
fn with_seeds(dir: &Path) -> Result<Vec<PathBuf>> {
    if dir.join(run::HISTORY).exists() {
        return Ok(vec![dir.to_path_buf()]);
    }
    let entries = std::fs::read_dir(dir).map_err(|e| Error::io("open the run directory", dir, e))?;
    let inner = entries.flatten().map(|entry| entry.path());
    let mut seeds: Vec<PathBuf> = inner.filter(|path| path.join(run::HISTORY).exists()).collect();
    seeds.sort();
    match seeds.is_empty() {
        false => Ok(seeds),
        true => {
            let error = Error::new(ErrorKind::Data, "there is no history.csv in this directory, nor in one below it");
            Err(error
                .on(dir.display())
                .remedy("name directories that `train` has made; a run that was killed has one after `export`"))
        }
    }
}

/// Names with as much of the path as tells them apart.
fn name_apart(runs: &mut [Run]) {
    for depth in 2..=8 {
        let twice = |run: &Run| runs.iter().filter(|other| other.name == run.name).count() > 1;
        let unclear: Vec<bool> = runs.iter().map(twice).collect();
        if !unclear.contains(&true) {
            return;
        }
        for (run, _) in runs.iter_mut().zip(unclear).filter(|(_, unclear)| *unclear) {
            run.name = last_names(&run.dir, depth);
        }
    }
}

fn last_names(dir: &Path, n: usize) -> String {
    let names: Vec<_> = dir.components().map(|c| c.as_os_str().to_string_lossy().into_owned()).collect();
    names[names.len().saturating_sub(n)..].join("/")
}

impl Run {
    fn read(dir: PathBuf) -> Result<Run> {
        let file = dir.join(run::HISTORY);
        let text = std::fs::read_to_string(&file).map_err(|e| Error::io("read the history", &file, e))?;
        let mut lines = text.lines().map(|line| line.split(',').map(String::from).collect::<Vec<_>>());
        let columns = lines.next().unwrap_or_default();
        let (mut rows, mut seconds) = (Vec::new(), 0.0);
        for (i, cells) in lines.enumerate() {
            if cells.len() > columns.len() {
                let message = format!("line {} has more cells than the heading", i + 2);
                return Err(Error::new(ErrorKind::Format, message).on(file.display()));
            }
            seconds += cells.last().map_or(0.0, |time| of_time(time));
            rows.push(cells.iter().map(|cell| cell.parse().ok()).collect());
        }
        let whole = dir.canonicalize().unwrap_or_else(|_| dir.clone());
        let (settings, environment) = (table(&dir.join(TrainSettings::FILE))?, table(&dir.join(run::ENVIRONMENT))?);
        Ok(Run { name: last_names(&whole, 1), dir, columns, rows, seconds, settings, environment })
    }

    /// The numbers of a column, with the epoch over all fits, from 0.
    fn curve(&self, name: &str) -> Vec<(f64, f64)> {
        let Some(place) = self.columns.iter().position(|column| column == name) else { return Vec::new() };
        let number = |row: &Vec<Option<f64>>| row.get(place).copied().flatten();
        self.rows.iter().enumerate().filter_map(|(i, row)| Some((i as f64, number(row)?))).collect()
    }

    fn last(&self, name: &str) -> Option<f64> {
        self.curve(name).last().map(|(_, value)| *value)
    }

    fn lowest_error(&self) -> Option<f64> {
        self.curve("error_rate").into_iter().map(|(_, value)| value).min_by(f64::total_cmp)
    }

    fn cells(&self) -> Vec<String> {
        let cell = |value: Option<f64>| value.map_or("–".into(), |v| format!("{v:.6}"));
        let numbers = ["train_loss", "valid_loss", "error_rate"].map(|name| cell(self.last(name)));
        let [train, valid, error] = numbers;
        let lowest = cell(self.lowest_error());
        vec![self.name.clone(), self.rows.len().to_string(), train, valid, error, lowest, format_time(self.seconds)]
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "name": self.name,
            "dir": self.dir.display().to_string(),
            "epochs": self.rows.len(),
            "train_loss": self.last("train_loss"),
            "valid_loss": self.last("valid_loss"),
            "error_rate": self.last("error_rate"),
            "best": self.lowest_error(),
            "seconds": self.seconds,
        })
    }
}

/// A table that need not be there.
fn table(path: &Path) -> Result<toml::Table> {
    match std::fs::read_to_string(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(toml::Table::new()),
        Err(e) => Err(Error::io("read", path, e)),
        Ok(text) => toml::from_str(&text).map_err(|e| {
            Error::new(ErrorKind::Format, format!("is not valid TOML: {}", e.message())).on(path.display())
        }),
    }
}

/// `01:05` and `1:01:05`, in seconds.
fn of_time(text: &str) -> f64 {
    let part = |sum: f64, part: &str| sum * 60.0 + part.parse::<f64>().unwrap_or(0.0);
    if text.contains(':') { text.split(':').fold(0.0, part) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_back() {
        for seconds in [0.0, 59.0, 61.0, 3599.0, 3661.0] {
            assert_eq!(of_time(&format_time(seconds)), seconds);
        }
        assert_eq!(of_time("0.5"), 0.0);
    }
}
