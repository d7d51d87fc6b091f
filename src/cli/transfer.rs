//! How far a download is, on standard error: a bar on a terminal, a line every ten seconds in a log.
//!
//! ```text
//! download [############            ] 405.9 MB of 811.7 MB, 24.1 MB/s, 00:17 left
//! ```

use super::Context;
use super::output::{Console, Verbosity};
use crate::Result;
use crate::fetch::{Step, Watch};
use crate::learner::{colour, format_time};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// Between two lines of a log.
const EVERY: Duration = Duration::from_secs(10);
/// Between two drawings of the bar; steps come thousandfold.
const REDRAW: Duration = Duration::from_millis(50);

/// Shows the steps of a download.
pub struct Transfer {
    bar: Option<ProgressBar>,
    silent: bool,
    /// What is being done, since when, and how much of it was there before.
    phase: Option<(&'static str, Instant, u64)>,
    shown: Option<Instant>,
    queued: bool,
}

/// Does work that tells its steps: they are shown, unless with `-q`, and Ctrl-C ends it.
pub fn watched<T>(context: &Context, work: impl FnOnce(&mut Watch) -> Result<T>) -> Result<T> {
    let console = &context.console;
    let mut transfer = Transfer::new(console.verbosity() == Verbosity::Quiet);
    work(&mut |step: &Step| {
        transfer.show(step, console);
        if context.interrupt.is_set() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
}

impl Transfer {
    /// Nothing is shown when `silent`.
    pub fn new(silent: bool) -> Transfer {
        let bar = (!silent && std::io::stderr().is_terminal()).then(|| bar(colour(&std::io::stderr())));
        Transfer { bar, silent, phase: None, shown: None, queued: false }
    }

    /// Shows a step.
    pub fn show(&mut self, step: &Step, console: &Console) {
        match step {
            Step::Download { done, total } => self.progress("download", *done, *total, None, console),
            Step::Unpack { done, total, entries } => {
                self.progress("unpack", *done, Some(*total), Some(*entries), console)
            }
            Step::Retry { reason, left, wait } => {
                let (s, attempts) =
                    (wait.as_secs_f64(), if *left == 0 { "the last attempt" } else { "another attempt" });
                self.note(&format!("{reason}; {attempts} in {s:.0} s"), console);
                self.phase = None;
            }
            Step::Outdated => self.note("the file that is there is another version; it is fetched anew", console),
            Step::Queued if !self.queued => {
                self.queued = true;
                self.note("another process is at it; waiting for it", console);
            }
            _ => {}
        }
    }

    /// Takes the bar away.
    pub fn finish(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn progress(&mut self, what: &'static str, done: u64, total: Option<u64>, entries: Option<u64>, console: &Console) {
        let now = Instant::now();
        let same = self.phase.filter(|(phase, ..)| *phase == what);
        let every = if self.bar.is_some() { REDRAW } else { EVERY };
        if self.silent || (same.is_some() && self.shown.is_some_and(|shown| now - shown < every)) {
            return;
        }
        self.shown = Some(now);
        let (_, began, before) = *self.phase.insert(same.unwrap_or((what, now, done)));
        let message = text(done, total, entries, (now - began).as_secs_f64(), before);
        match &self.bar {
            None => console.note(&format!("{what} {message}")),
            Some(bar) => {
                bar.set_length(total.unwrap_or(done).max(1));
                bar.set_position(done);
                bar.set_prefix(what);
                bar.set_message(message);
                bar.tick();
            }
        }
    }

    fn note(&self, line: &str, console: &Console) {
        match &self.bar {
            Some(bar) => bar.suspend(|| console.note(line)),
            None => console.note(line),
        }
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.finish();
    }
}

fn bar(coloured: bool) -> ProgressBar {
    let template = if coloured { "{prefix} [{bar:24.cyan}] {msg}" } else { "{prefix} [{bar:24}] {msg}" };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr()).with_style(style.progress_chars("##-"))
}

/// `405.9 MB of 811.7 MB, 24.1 MB/s, 00:17 left`; the rate counts only what came in these `seconds`.
fn text(done: u64, total: Option<u64>, entries: Option<u64>, seconds: f64, before: u64) -> String {
    let mut text = megabytes(done as f64);
    if let Some(total) = total {
        text += &format!(" of {}", megabytes(total as f64));
    }
    if let Some(entries) = entries {
        text += &format!(", {entries} entries");
    }
    let rate = done.saturating_sub(before) as f64 / seconds;
    if rate.is_finite() && rate > 0.0 {
        text += &format!(", {}/s", megabytes(rate));
        if let Some(total) = total {
            text += &format!(", {} left", format_time(total.saturating_sub(done) as f64 / rate));
        }
    }
    text
}

fn megabytes(bytes: f64) -> String {
    format!("{:.1} MB", bytes / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_how_far_and_how_fast() {
        assert_eq!(
            text(405_900_000, Some(811_700_000), None, 10.0, 164_900_000),
            "405.9 MB of 811.7 MB, 24.1 MB/s, 00:16 left"
        );
        assert_eq!(text(5_000_000, None, None, 0.0, 5_000_000), "5.0 MB");
        assert_eq!(text(0, Some(1_000_000), Some(3), 1.0, 0), "0.0 MB of 1.0 MB, 3 entries");
    }
}
