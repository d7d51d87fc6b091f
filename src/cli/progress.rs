//! The table on standard output and the bar on standard error.
//!
//! The [`Table`] is fastai's, character for character, trailing blanks included: whoever compares two runs with `diff`
//! should see two runs. It is a pure function of names and numbers.
//!
//! [`Progress`] is one line that says where training is:
//!
//! ```text
//! epoch 1/5 [###########             ] 45/92 00:31<00:33 loss 0.9881
//! ```
//!
//! On a terminal it is redrawn in place. In a log file it is a plain line, at most one every [`EVERY`] seconds, so that a night
//! of training leaves some thousand lines instead of a million.

use super::output::{Console, Verbosity, colour};
use crate::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::time::{Duration, Instant};

/// Seconds between two lines where there is no terminal.
pub const EVERY: f64 = 10.0;

/// The width of a cell at least: six decimals of a loss.
const NARROWEST: usize = 8;

/// fastai's training table.
///
/// ```
/// use onecycle::cli::progress::Table;
/// let table = Table::new(["error_rate"]);
/// assert_eq!(table.header(), "epoch     train_loss  valid_loss  error_rate  time    ");
/// let row = table.row(0, &[Some(1.661858), Some(0.836439), Some(0.7)], 65.4);
/// assert_eq!(row, "0         1.661858    0.836439    0.700000    01:05     ");
/// ```
#[derive(Clone, Debug)]
pub struct Table {
    names: Vec<String>,
}

impl Table {
    /// A table with a column for each metric, between the losses and the time.
    pub fn new<S: Into<String>>(metrics: impl IntoIterator<Item = S>) -> Table {
        let fixed = ["epoch", "train_loss", "valid_loss"].map(String::from);
        let names = fixed.into_iter().chain(metrics.into_iter().map(Into::into)).chain(["time".to_string()]);
        Table { names: names.collect() }
    }

    /// The columns' names.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The header line.
    pub fn header(&self) -> String {
        let cells: Vec<String> = self.names.iter().map(|n| format!("{n:NARROWEST$}")).collect();
        cells.join("  ")
    }

    /// The cells of an epoch: train_loss, valid_loss and metrics (`None` without validation), then the time.
    pub fn cells(&self, epoch: usize, values: &[Option<f64>], seconds: f64) -> Vec<String> {
        let number = |v: &Option<f64>| v.map_or("None".to_string(), |v| format!("{v:.6}"));
        let numbers = values.iter().map(number);
        [epoch.to_string()].into_iter().chain(numbers).chain([format_time(seconds)]).collect()
    }

    /// The line of an epoch.
    pub fn row(&self, epoch: usize, values: &[Option<f64>], seconds: f64) -> String {
        let width = |i: usize| self.names.get(i).map_or(0, |n| n.chars().count()).max(NARROWEST) + 2;
        let cells = self.cells(epoch, values, seconds);
        cells.iter().enumerate().map(|(i, cell)| format!("{cell:0$}", width(i))).collect()
    }
}

/// Whole seconds, truncated: `01:05`, from one hour on `1:01:05`.
pub fn format_time(seconds: f64) -> String {
    // A cast of NaN or of a negative number is 0.
    let s = seconds as u64;
    let (h, m, s) = (s / 3600, s / 60 % 60, s % 60);
    if h > 0 { format!("{h}:{m:02}:{s:02}") } else { format!("{m:02}:{s:02}") }
}

enum Mode {
    Silent,
    Bar(ProgressBar),
    Lines { last: Option<Instant> },
}

/// Where training is, on standard error.
pub struct Progress {
    mode: Mode,
    what: String,
    batches: usize,
    started: Instant,
}

impl Progress {
    /// A bar on a terminal, lines elsewhere, nothing with `-q`.
    pub fn new(console: &Console) -> Progress {
        let mode = match console.verbosity() {
            Verbosity::Quiet => Mode::Silent,
            _ if std::io::stderr().is_terminal() => Mode::Bar(bar(colour(&std::io::stderr()))),
            _ => Mode::Lines { last: None },
        };
        Progress { mode, what: String::new(), batches: 0, started: Instant::now() }
    }

    /// A pass of `batches` begins; `what` is such as `epoch 1/5` or `valid 1/5`.
    pub fn begin(&mut self, what: impl Into<String>, batches: usize) {
        (self.what, self.batches, self.started) = (what.into(), batches, Instant::now());
        if let Mode::Bar(bar) = &self.mode {
            bar.reset();
            bar.set_length(batches as u64);
            bar.set_prefix(self.what.clone());
            bar.set_message("");
        }
    }

    /// `done` batches are done; `loss` is the smoothed one.
    pub fn batch(&mut self, done: usize, loss: Option<f64>) {
        let message = loss.map(|l| format!("loss {l:.4}")).unwrap_or_default();
        match &mut self.mode {
            Mode::Silent => {}
            Mode::Bar(bar) => {
                bar.set_message(message);
                bar.set_position(done as u64);
            }
            Mode::Lines { last } => {
                let now = Instant::now();
                // The first line comes at once, so that a log shows that training has begun and how fast it goes.
                if last.is_none_or(|l| (now - l).as_secs_f64() >= EVERY) {
                    *last = Some(now);
                    let line = plain(&self.what, done, self.batches, now - self.started, &message);
                    let _ = writeln!(std::io::stderr().lock(), "{line}");
                }
            }
        }
    }

    /// Prints a line of results without tearing the bar.
    ///
    /// # Errors
    /// See [`Console::result`].
    pub fn result(&self, console: &Console, line: &str) -> Result<()> {
        match &self.mode {
            Mode::Bar(bar) => bar.suspend(|| console.result(line)),
            _ => console.result(line),
        }
    }

    /// Takes the bar away; what follows starts on a clean line.
    pub fn finish(&mut self) {
        if let Mode::Bar(bar) = &self.mode {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        // An error in mid-epoch must not be printed behind half a bar.
        self.finish();
    }
}

fn bar(coloured: bool) -> ProgressBar {
    let template = match coloured {
        true => "{prefix} [{bar:24.cyan}] {pos}/{len} {spent}<{left} {msg}",
        false => "{prefix} [{bar:24}] {pos}/{len} {spent}<{left} {msg}",
    };
    let time = |out: &mut dyn std::fmt::Write, d: Duration| {
        let _ = out.write_str(&format_time(d.as_secs_f64()));
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let style = style
        .progress_chars("##-")
        .with_key("spent", move |state: &ProgressState, out: &mut dyn std::fmt::Write| time(out, state.elapsed()))
        .with_key("left", move |state: &ProgressState, out: &mut dyn std::fmt::Write| time(out, state.eta()));
    ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr()).with_style(style)
}

/// The line for a log.
fn plain(what: &str, done: usize, batches: usize, spent: Duration, message: &str) -> String {
    let spent = spent.as_secs_f64();
    let left = if done > 0 { spent / done as f64 * batches.saturating_sub(done) as f64 } else { 0.0 };
    let mut line = format!("{what} {done}/{batches} {}<{}", format_time(spent), format_time(left));
    if !message.is_empty() {
        let _ = write!(line, " {message}");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    /// A recorded value, or nothing (and a word about it) in a package without fixtures.
    fn fixture(name: &str) -> Option<String> {
        let named = std::env::var_os("ONECYCLE_FIXTURES").map(PathBuf::from);
        let places = named.into_iter().chain(["../shared/fixtures".into(), "tests/fixtures".into()]);
        let path = places.map(|d: PathBuf| d.join("training").join(name)).find(|p| p.exists());
        if path.is_none() {
            eprintln!("skipped: {name} is not there; set ONECYCLE_FIXTURES to the directory of recorded values");
        }
        path.map(|p| std::fs::read_to_string(p).unwrap())
    }

    #[test]
    fn parity_with_fastais_table() {
        let (Some(json), Some(text)) = (fixture("recorder.json"), fixture("recorder_table.txt")) else { return };
        let recorded: serde_json::Value = serde_json::from_str(&json).unwrap();
        let names: Vec<String> = serde_json::from_value(recorded["metric_names"].clone()).unwrap();
        let rows: Vec<Vec<f64>> = serde_json::from_value(recorded["values"].clone()).unwrap();
        let table = Table::new(names[3..names.len() - 1].to_vec());
        assert_eq!(table.names(), names);
        let row = |(epoch, values): (usize, &Vec<f64>)| {
            table.row(epoch, &values.iter().map(|v| Some(*v)).collect::<Vec<_>>(), 0.0)
        };
        let lines: Vec<String> = [table.header()].into_iter().chain(rows.iter().enumerate().map(row)).collect();
        assert_eq!(lines.join("\n"), text.trim_matches('\n'));
    }

    #[test]
    fn parity_of_times() {
        let Some(json) = fixture("recorder.json") else { return };
        let recorded: serde_json::Value = serde_json::from_str(&json).unwrap();
        let times: Vec<(f64, String)> = serde_json::from_value(recorded["time_format"].clone()).unwrap();
        for (seconds, text) in times {
            assert_eq!(format_time(seconds), text);
        }
        assert_eq!(format_time(f64::NAN), "00:00");
    }

    #[test]
    fn without_validation_the_cells_say_none() {
        let row = Table::new(["error_rate"]).row(12, &[Some(0.5), None, None], 3665.0);
        assert_eq!(row, "12        0.500000    None        None        1:01:05   ");
    }

    #[test]
    fn a_log_line_tells_place_time_and_loss() {
        let line = plain("epoch 1/5", 45, 92, Duration::from_secs(31), "loss 0.9881");
        assert_eq!(line, "epoch 1/5 45/92 00:31<00:32 loss 0.9881");
        assert_eq!(plain("valid 1/5", 0, 9, Duration::ZERO, ""), "valid 1/5 0/9 00:00<00:00");
    }
}
