//! Where training is, on standard error, and the table of epochs on standard output.
//!
//! [`Progress`] is one line:
//!
//! ```text
//! epoch 1/5 [###########             ] 45/92 00:31<00:33 loss 0.9881
//! ```
//!
//! On a terminal it is redrawn in place. In a log file it is a plain line, at most one every [`EVERY`] seconds, so that a night
//! of training leaves some thousand lines instead of a million. Nothing here panics over a closed pipe: a training run whose
//! table nobody reads any more goes on.

use super::callback::{
    AFTER_BATCH, AFTER_EPOCH, AFTER_FIT, BEFORE_EPOCH, BEFORE_FIT, BEFORE_TRAIN, BEFORE_VALIDATE, Callback, Event,
    Signal,
};
use super::table::format_time;
use super::{Learner, Table};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::time::{Duration, Instant};

/// Seconds between two lines where there is no terminal.
pub const EVERY: f64 = 10.0;

/// How much of a fit is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verbosity {
    /// The table of epochs on standard output, and progress on standard error.
    #[default]
    Full,
    /// The table only.
    TableOnly,
}

/// Prints the table and the progress of a fit: fastai's `ProgressCallback`.
pub struct ProgressCallback {
    progress: Progress,
    table: Option<Table>,
    /// Rows and messages that have been printed.
    rows: usize,
    told: usize,
}

impl ProgressCallback {
    /// Shows as much as `verbosity` says.
    pub fn new(verbosity: Verbosity) -> ProgressCallback {
        ProgressCallback { progress: Progress::new(verbosity == Verbosity::TableOnly), table: None, rows: 0, told: 0 }
    }

    /// Prints what the recorder has since the last time: rows, then what callbacks have said. Somebody may have ended the fit before
    /// [`Callback::after_epoch`] was this callback's turn.
    fn tell(&mut self, learn: &Learner) {
        let rows = learn.recorder().rows();
        for row in &rows[self.rows.min(rows.len())..] {
            if let Some(table) = &self.table {
                self.progress.result(&table.row(row.epoch, &row.values(), row.seconds));
            }
        }
        self.rows = rows.len();
        let messages = learn.recorder().messages();
        messages[self.told.min(messages.len())..].iter().for_each(|line| self.progress.result(line));
        self.told = messages.len();
    }
}

impl Callback for ProgressCallback {
    fn name(&self) -> &'static str {
        "ProgressCallback"
    }

    fn order(&self) -> i32 {
        60
    }

    fn events(&self) -> Option<&'static [Event]> {
        Some(&[BEFORE_FIT, BEFORE_EPOCH, BEFORE_TRAIN, BEFORE_VALIDATE, AFTER_BATCH, AFTER_EPOCH, AFTER_FIT])
    }

    fn before_fit(&mut self, learn: &mut Learner) -> Signal {
        (self.rows, self.told) = (0, 0);
        self.table = (!learn.in_lr_find()).then(|| Table::new(learn.metric_names()));
        if let Some(table) = &self.table {
            self.progress.result(&table.header());
        }
        Ok(())
    }

    fn before_epoch(&mut self, learn: &mut Learner) -> Signal {
        self.tell(learn);
        Ok(())
    }

    fn before_train(&mut self, learn: &mut Learner) -> Signal {
        let what = if learn.in_lr_find() { "lr_find" } else { "epoch" };
        self.progress.begin(format!("{what} {}/{}", learn.epoch() + 1, learn.n_epoch()), learn.n_iter());
        Ok(())
    }

    fn before_validate(&mut self, learn: &mut Learner) -> Signal {
        self.progress.begin(format!("valid {}/{}", learn.epoch() + 1, learn.n_epoch()), learn.n_iter());
        Ok(())
    }

    fn after_batch(&mut self, learn: &mut Learner) -> Signal {
        let loss = if learn.is_training() { learn.recorder().losses().last().copied() } else { None };
        self.progress.batch(learn.iter() + 1, loss);
        self.tell(learn);
        Ok(())
    }

    fn after_epoch(&mut self, learn: &mut Learner) -> Signal {
        self.tell(learn);
        Ok(())
    }

    fn after_fit(&mut self, learn: &mut Learner) -> Signal {
        self.tell(learn);
        self.progress.finish();
        Ok(())
    }
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
    /// A bar on a terminal, lines elsewhere, nothing when `silent`.
    pub fn new(silent: bool) -> Progress {
        let mode = match silent {
            true => Mode::Silent,
            false if std::io::stderr().is_terminal() => Mode::Bar(bar(colour(&std::io::stderr()))),
            false => Mode::Lines { last: None },
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

    /// Prints a line of results on standard output without tearing the bar.
    pub fn result(&self, line: &str) {
        let print = || {
            // A closed pipe is nobody's loss: the rows are in the recorder and in history.csv.
            let _ = writeln!(std::io::stdout().lock(), "{line}");
        };
        match &self.mode {
            // `suspend` draws the bar again afterwards, and before the first pass there is none to draw.
            Mode::Bar(bar) if self.batches > 0 => bar.suspend(print),
            _ => print(),
        }
    }

    /// Takes the bar away; what follows starts on a clean line.
    pub fn finish(&mut self) {
        if let Mode::Bar(bar) = &self.mode {
            bar.finish_and_clear();
        }
        self.batches = 0;
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

/// Whether `stream` may have colours: it is a terminal, and neither `NO_COLOR` nor `TERM=dumb` objects.
pub fn colour(stream: &impl IsTerminal) -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
    stream.is_terminal() && set("NO_COLOR").is_none() && set("TERM").is_none_or(|t| t != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_tells_place_time_and_loss() {
        let line = plain("epoch 1/5", 45, 92, Duration::from_secs(31), "loss 0.9881");
        assert_eq!(line, "epoch 1/5 45/92 00:31<00:32 loss 0.9881");
        assert_eq!(plain("valid 1/5", 0, 9, Duration::ZERO, ""), "valid 1/5 0/9 00:00<00:00");
    }
}
