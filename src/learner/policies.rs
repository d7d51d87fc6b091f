//! Fits with a schedule: which learning rate and momentum each batch gets.
//!
//! ```no_run
//! # use onecycle::prelude::*;
//! # use onecycle::learner::{FineTune, FitOptions};
//! # use onecycle::optim::schedule::OneCycle;
//! # fn demo(mut learn: Learner) -> onecycle::Result<()> {
//! learn.fine_tune(2)?; // one epoch for the head, two for everything
//! learn.fine_tune_with(6, &FineTune { base_lr: 1e-2, freeze_epochs: 3, ..FineTune::default() }, FitOptions::default())?;
//! learn.fit_one_cycle(12, slice(1e-6, 1e-4))?;
//! let warm = OneCycle { pct_start: 0.4, ..OneCycle::default() };
//! learn.fit_one_cycle_with(12, 3e-3, &warm, FitOptions { wd: Some(0.1), ..FitOptions::default() })?;
//! # Ok(()) }
//! ```
//!
//! The curves themselves are in [`optim::schedule`](crate::optim::schedule), the loop they steer in `fit.rs`.

use super::Learner;
use super::callback::Callback;
use super::scheduler::ParamScheduler;
use crate::optim::LrMax;
use crate::optim::schedule::{self, OneCycle, one_cycle, out_of_range};
use crate::{Error, ErrorKind, Result};

/// What every fit takes besides its schedule. The default changes nothing.
#[derive(Default)]
pub struct FitOptions {
    /// Weight decay from now on; otherwise the learner's, otherwise the optimizer's own.
    pub wd: Option<f64>,
    /// Forget what the optimizer remembers, and its hyper-parameters, first.
    pub reset_opt: bool,
    /// Epochs that are left out at the start, as when an interrupted fit goes on: the schedule starts where they would end.
    pub start_epoch: usize,
    /// Callbacks for this fit only; they are here again afterwards.
    pub cbs: Vec<Box<dyn Callback>>,
}

impl FitOptions {
    /// Adds a callback for this fit.
    pub fn cb(mut self, cb: impl Callback + 'static) -> FitOptions {
        self.cbs.push(Box::new(cb));
        self
    }
}

/// The settings of [`Learner::fine_tune_with`]; the default is fastai's.
#[derive(Clone, Debug, PartialEq)]
pub struct FineTune {
    /// The head's highest learning rate while the body rests. Afterwards half of it.
    pub base_lr: f64,
    /// Epochs in which only the head trains.
    pub freeze_epochs: usize,
    /// The first layers' learning rate is the head's divided by this, once all train.
    pub lr_mult: f64,
    /// Fraction of the second phase after which its learning rates are highest. In the first phase it is 0.99.
    pub pct_start: f64,
    /// The second phase's first learning rates are its highest divided by this. In the first phase it is 25.
    pub div: f64,
    /// The last learning rates of both phases are their highest divided by this.
    pub div_final: f64,
    /// Momentum at the start, at the highest learning rate, and at the end, of both phases.
    pub moms: (f64, f64, f64),
}

impl Default for FineTune {
    fn default() -> Self {
        let OneCycle { div_final, moms, .. } = OneCycle::default();
        FineTune { base_lr: 2e-3, freeze_epochs: 1, lr_mult: 100.0, pct_start: 0.3, div: 5.0, div_final, moms }
    }
}

impl FineTune {
    /// The first phase, for the head.
    fn frozen(&self) -> (LrMax, OneCycle) {
        let cycle = OneCycle { pct_start: 0.99, div_final: self.div_final, moms: self.moms, ..OneCycle::default() };
        (LrMax::Last(self.base_lr), cycle)
    }

    /// The second phase, for all.
    fn unfrozen(&self) -> (LrMax, OneCycle) {
        let top = self.base_lr / 2.0;
        let FineTune { pct_start, div, div_final, moms, .. } = *self;
        (LrMax::Between(top / self.lr_mult, top), OneCycle { div, div_final, pct_start, moms })
    }
}

impl Learner {
    /// Trains for `epochs` with constant learning rates: fastai's `fit`. A number is for all parameter groups, a range from
    /// the first group to the last.
    ///
    /// # Errors
    /// What a batch, the model or a callback fails with; [`ErrorKind::NotFinite`] when the loss becomes NaN or infinite;
    /// [`ErrorKind::Argument`] when a learning rate is not above 0, or a range runs the wrong way round.
    pub fn fit(&mut self, epochs: usize, lr: impl Into<LrMax>) -> Result<()> {
        self.fit_with(epochs, lr, FitOptions::default())
    }

    /// [`Learner::fit`] with options.
    ///
    /// # Errors
    /// As [`Learner::fit`].
    pub fn fit_with(&mut self, epochs: usize, lr: impl Into<LrMax>, mut options: FitOptions) -> Result<()> {
        self.run_fit(epochs, &lr.into(), None, &mut options)
    }

    /// Trains for `epochs` with the one-cycle policy up to the learning rate `lr_max`: fastai's `fit_one_cycle`.
    /// `lr_max` is a number (`1e-2`), a range from the first parameter group to the last (`1e-6..1e-4`, or
    /// [`slice(1e-6, 1e-4)`](crate::optim::slice)), or a list.
    ///
    /// # Errors
    /// As [`Learner::fit`].
    pub fn fit_one_cycle(&mut self, epochs: usize, lr_max: impl Into<LrMax>) -> Result<()> {
        self.fit_one_cycle_with(epochs, lr_max, &OneCycle::default(), FitOptions::default())
    }

    /// [`Learner::fit_one_cycle`] with another shape of the cycle, and options.
    ///
    /// # Errors
    /// As [`Learner::fit`]; [`ErrorKind::Argument`] when the cycle's numbers are out of range.
    pub fn fit_one_cycle_with(
        &mut self,
        epochs: usize,
        lr_max: impl Into<LrMax>,
        cycle: &OneCycle,
        mut options: FitOptions,
    ) -> Result<()> {
        self.one_cycle(epochs, &lr_max.into(), cycle, &mut options)
    }

    fn one_cycle(&mut self, epochs: usize, lr_max: &LrMax, cycle: &OneCycle, options: &mut FitOptions) -> Result<()> {
        cycle.check()?;
        let (lr, mom) = self.each_lr(lr_max, |lr| one_cycle(lr, cycle))?.into_iter().unzip();
        self.run_fit(epochs, lr_max, Some(ParamScheduler::new(lr, Some(mom))), options)
    }

    /// fastai's recipe for a pretrained model: `freeze`, one epoch for the head up to 2e-3, `unfreeze`, then `epochs` for everything,
    /// with a hundredth of the head's learning rate for the first layers.
    ///
    /// # Errors
    /// As [`Learner::fit`]; and when the model has only one parameter group, so that nothing can be frozen.
    pub fn fine_tune(&mut self, epochs: usize) -> Result<()> {
        self.fine_tune_with(epochs, &FineTune::default(), FitOptions::default())
    }

    /// [`Learner::fine_tune`] with other numbers; the options are for both phases.
    ///
    /// # Errors
    /// As [`Learner::fine_tune`].
    pub fn fine_tune_with(&mut self, epochs: usize, settings: &FineTune, mut options: FitOptions) -> Result<()> {
        if !(settings.lr_mult.is_finite() && settings.lr_mult > 0.0) {
            return Err(out_of_range("lr_mult", settings.lr_mult, "above 0; 100 is fastai's"));
        }
        let ((head, frozen), (all, unfrozen)) = (settings.frozen(), settings.unfrozen());
        // Both phases are looked at before the first one changes anything.
        unfrozen.check()?;
        self.freeze()?;
        if settings.freeze_epochs > 0 {
            self.one_cycle(settings.freeze_epochs, &head, &frozen, &mut options)?;
        }
        self.unfreeze()?;
        self.one_cycle(epochs, &all, &unfrozen, &mut options)
    }

    /// Trains with `lr` for three quarters of the time, then with less and less, along a cosine: fastai's `fit_flat_cos`. The
    /// momentum stays as it is.
    ///
    /// # Errors
    /// As [`Learner::fit`].
    pub fn fit_flat_cos(&mut self, epochs: usize, lr: impl Into<LrMax>) -> Result<()> {
        self.fit_flat_cos_with(epochs, lr, 1e5, 0.75, FitOptions::default())
    }

    /// [`Learner::fit_flat_cos`] that ends at `lr / div_final`, and begins to fall after the fraction `pct_start`.
    ///
    /// # Errors
    /// As [`Learner::fit`]; [`ErrorKind::Argument`] when `div_final` or `pct_start` is out of range.
    pub fn fit_flat_cos_with(
        &mut self,
        epochs: usize,
        lr: impl Into<LrMax>,
        div_final: f64,
        pct_start: f64,
        mut options: FitOptions,
    ) -> Result<()> {
        OneCycle { div_final, pct_start, ..OneCycle::default() }.check()?;
        let lr = lr.into();
        let curves = self.each_lr(&lr, |lr| schedule::flat_cos(lr, div_final, pct_start))?;
        self.run_fit(epochs, &lr, Some(ParamScheduler::new(curves, None)), &mut options)
    }

    /// Trains for `n_cycles` in each of which the learning rate falls from `lr_max` to 0, the first `cycle_len` epochs long, each next
    /// one twice as long: fastai's `fit_sgdr`. The momentum stays as it is.
    ///
    /// # Errors
    /// As [`Learner::fit`].
    pub fn fit_sgdr(&mut self, n_cycles: usize, cycle_len: usize, lr_max: impl Into<LrMax>) -> Result<()> {
        self.fit_sgdr_with(n_cycles, cycle_len, lr_max, 2, FitOptions::default())
    }

    /// [`Learner::fit_sgdr`] whose cycles are `cycle_mult` times as long as the one before.
    ///
    /// # Errors
    /// As [`Learner::fit`]; [`ErrorKind::Argument`] when a number is 0, or there would be more than a million epochs.
    pub fn fit_sgdr_with(
        &mut self,
        n_cycles: usize,
        cycle_len: usize,
        lr_max: impl Into<LrMax>,
        cycle_mult: usize,
        mut options: FitOptions,
    ) -> Result<()> {
        let mut epochs = 0usize;
        for i in 0..n_cycles {
            let length = u32::try_from(i).ok().and_then(|i| cycle_mult.checked_pow(i)?.checked_mul(cycle_len));
            epochs =
                length.and_then(|n| epochs.checked_add(n)).filter(|&n| n > 0 && n <= 1_000_000).ok_or_else(|| {
                    let text = format!("{n_cycles} cycles of {cycle_len} epochs, each {cycle_mult} times as long");
                    Error::new(ErrorKind::Argument, text)
                        .on("fit_sgdr")
                        .remedy("use numbers above 0, and fewer or shorter cycles")
                })?;
        }
        let lr_max = lr_max.into();
        let curves = self.each_lr(&lr_max, |lr| schedule::sgdr(lr, n_cycles, cycle_mult as f64))?;
        self.run_fit(epochs, &lr_max, Some(ParamScheduler::new(curves, None)), &mut options)
    }

    /// Something for each parameter group's learning rate.
    fn each_lr<S>(&self, lr: &LrMax, of: impl Fn(f64) -> S) -> Result<Vec<S>> {
        let groups = self.opt.param_groups().len();
        lr.check(groups)?;
        Ok(lr.per_group(groups).into_iter().map(of).collect())
    }
}
