//! What a fit leaves behind: smoothed losses, learning rates, and a row of numbers for every epoch.
//!
//! The training loss is smoothed as fastai smooths it: an exponential moving average of the batches' losses with beta 0.98,
//! divided by `1 - 0.98^n` so that it starts at the first loss instead of at zero. It runs on over epochs; the column
//! `train_loss` is its value at the end of an epoch, not the epoch's mean. Validation numbers are exact means over items.
//!
//! fastai empties its recorder whenever anything is predicted. Here [`Recorder::losses`] and its kin belong to the last fit,
//! whatever happens after it, and [`Recorder::history`] keeps the rows of all fits.

use super::SuggestedLrs;
use super::table::{csv_header, csv_line};
use crate::Result;
use crate::fs::write_atomic;
use std::path::Path;

/// An epoch's numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The epoch within its fit, from 0.
    pub epoch: usize,
    /// The smoothed training loss; none when no batch was trained.
    pub train_loss: Option<f64>,
    /// The validation loss and the metrics; none without validation.
    pub valid: Option<Vec<f64>>,
    /// Names of the validation loss and the metrics.
    pub names: Vec<String>,
    /// Seconds that training and validation took.
    pub seconds: f64,
    /// Seconds of these in which nothing was computed because the next batch was not there yet: the loader's share, and what
    /// more workers or smaller pictures could save at most.
    pub waited: f64,
}

impl Row {
    /// train_loss, valid_loss, metrics.
    pub fn values(&self) -> Vec<Option<f64>> {
        let valid = (0..self.names.len()).map(|i| self.valid.as_ref().and_then(|v| v.get(i).copied()));
        std::iter::once(self.train_loss).chain(valid).collect()
    }

    /// The number called `name`, such as `error_rate`.
    pub fn get(&self, name: &str) -> Option<f64> {
        if name == "train_loss" {
            return self.train_loss;
        }
        let place = self.names.iter().position(|n| n == name)?;
        self.valid.as_ref()?.get(place).copied()
    }
}

/// Smooths losses; see the top of `recorder.rs`. Computed in f32 like fastai's, whose values it has to the last digits.
#[derive(Clone, Debug)]
pub struct Smooth {
    pub(super) beta: f32,
    pub(super) value: f32,
    pub(super) count: i32,
}

impl Default for Smooth {
    fn default() -> Self {
        Smooth { beta: 0.98, value: 0.0, count: 0 }
    }
}

impl Smooth {
    /// Takes a batch's loss in and returns the smoothed one.
    pub fn push(&mut self, loss: f64) -> f64 {
        self.count += 1;
        self.value = loss as f32 + self.beta * (self.value - loss as f32);
        self.get().unwrap_or(loss)
    }

    /// The smoothed loss, once there was one.
    pub fn get(&self) -> Option<f64> {
        (self.count > 0).then(|| f64::from(self.value) / (1.0 - f64::from(self.beta).powi(self.count)))
    }
}

/// The record of a learner's fits; see the top of `recorder.rs`.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    pub(super) smooth: Smooth,
    pub(super) raw: Vec<f64>,
    pub(super) losses: Vec<f64>,
    pub(super) lrs: Vec<f64>,
    pub(super) moms: Vec<f64>,
    pub(super) iters: Vec<usize>,
    pub(super) rows: Vec<Row>,
    pub(super) history: Vec<Row>,
    pub(super) messages: Vec<String>,
    /// Hyper-parameters that the last fit has scheduled.
    pub(super) scheduled: &'static [&'static str],
    pub(super) lr_find: Option<SuggestedLrs>,
}

impl Recorder {
    /// The smoothed training loss after each batch of the last fit.
    pub fn losses(&self) -> &[f64] {
        &self.losses
    }

    /// The training loss of each batch of the last fit.
    pub fn batch_losses(&self) -> &[f64] {
        &self.raw
    }

    /// The last group's learning rate at each batch of the last fit.
    pub fn lrs(&self) -> &[f64] {
        &self.lrs
    }

    /// The momentum at each batch of the last fit.
    pub fn moms(&self) -> &[f64] {
        &self.moms
    }

    /// Batches done at the end of each epoch of the last fit.
    pub fn iters(&self) -> &[usize] {
        &self.iters
    }

    /// A row for each epoch of the last fit.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The rows of all fits.
    pub fn history(&self) -> &[Row] {
        &self.history
    }

    /// What the callbacks of the last fit had to say, line by line; see [`Learner::say`](super::Learner::say).
    pub fn messages(&self) -> &[String] {
        &self.messages
    }

    /// The hyper-parameters that the last fit has scheduled, each with its value at every batch: `lr`, and `mom` under one-cycle. fastai: `hps`.
    pub fn hps(&self) -> Vec<(&'static str, &[f64])> {
        let values = |name| if name == "lr" { self.lrs() } else { self.moms() };
        self.scheduled.iter().map(|&name| (name, values(name))).collect()
    }

    /// What the learning-rate finder has found last.
    pub fn lr_find(&self) -> Option<&SuggestedLrs> {
        self.lr_find.as_ref()
    }

    /// The last epoch's number called `name`: `train_loss`, `valid_loss`, or a metric.
    pub fn last(&self, name: &str) -> Option<f64> {
        self.rows.last()?.get(name)
    }

    /// Validation losses of the last fit with the batch after which they were measured.
    pub fn valid_losses(&self) -> Vec<(usize, f64)> {
        let at = |(i, row): (&usize, &Row)| Some((*i, row.get("valid_loss")?));
        self.iters.iter().zip(&self.rows).filter_map(at).collect()
    }

    pub(super) fn begin_fit(&mut self) {
        let (history, lr_find) = (std::mem::take(&mut self.history), self.lr_find.take());
        *self = Recorder { history, lr_find, ..Recorder::default() };
    }

    /// Writes the rows of all fits as CSV, atomically: fastai's `history.csv`, numbers at full precision.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) naming `path`.
    pub fn save_csv(&self, path: &Path) -> Result<()> {
        write_atomic(path, |out| {
            let Some(first) = self.history.first() else { return Ok(()) };
            writeln!(out, "{}", csv_header(&first.names[1..]))?;
            self.history.iter().try_for_each(|row| writeln!(out, "{}", csv_line(row)))
        })
    }
}

/// The settings of [`Recorder::plot_loss_with`]; the default is fastai's.
#[cfg(feature = "plot")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlotLoss {
    /// Batches at the start that are left out: their losses would squeeze all others.
    pub skip_start: usize,
    /// The validation loss, too.
    pub with_valid: bool,
    /// Both axes logarithmic.
    pub log: bool,
    /// A line at the end of each epoch.
    pub show_epochs: bool,
}

#[cfg(feature = "plot")]
impl Default for PlotLoss {
    fn default() -> Self {
        PlotLoss { skip_start: 5, with_valid: true, log: false, show_epochs: false }
    }
}

#[cfg(feature = "plot")]
mod plots {
    use super::{PlotLoss, Recorder};
    use crate::plot::{self, Figure, Scale};

    impl Recorder {
        /// fastai's `plot_loss`: the smoothed training loss from the fifth batch on, and the validation loss.
        pub fn plot_loss(&self) -> Figure {
            self.plot_loss_with(&PlotLoss::default())
        }

        /// [`Recorder::plot_loss`] with other settings.
        pub fn plot_loss_with(&self, settings: &PlotLoss) -> Figure {
            let valid = if settings.with_valid { self.valid_losses() } else { Vec::new() };
            let mut chart = plot::loss_chart(self.losses(), &valid, settings.skip_start);
            if settings.log {
                chart = chart.scales(Scale::Log, Scale::Log);
            }
            if settings.show_epochs {
                chart = chart.verticals(self.iters().iter().map(|&i| i as f64));
            }
            Figure::of(chart)
        }

        /// fastai's `plot_sched`: what the last fit has scheduled, over the batches; without a schedule the learning rate as it was.
        pub fn plot_sched(&self) -> Figure {
            match self.hps()[..] {
                [] => plot::schedule(&[("lr", self.lrs())]),
                ref hps => plot::schedule(hps),
            }
        }

        /// fastai's `plot_lr_find`: the last finder's curve, if there was one.
        pub fn plot_lr_find(&self) -> Option<Figure> {
            self.lr_find().map(crate::learner::SuggestedLrs::plot)
        }
    }
}
