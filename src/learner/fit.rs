//! The training loop.
//!
//! [`Learner::fit_loop`] and the four short functions below it are all of it. Read them top to bottom: a fit is epochs, an
//! epoch is a training pass and a validation pass, a pass is batches, a training batch is forward, loss, backward, step.
//! Everything else happens in the [callbacks](super::callback) that the events in between call.

use super::Learner;
use super::callback::{self, Callback, Event, Level, Signal, Stop};
use super::feed::{Fed, Feed};
use super::scheduler::ParamScheduler;
use crate::data::{Batch, BatchDraws, Subset};
use crate::nn::{Context, Module};
use crate::optim::LrMax;
use crate::optim::schedule::{OneCycle, Schedule, one_cycle};
use crate::tensor::Pending;
use crate::{Device, Error, ErrorKind, Result, Tensor, autograd, ops};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Where a fit is. Callbacks read it through the learner's methods.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub epoch: usize,
    pub n_epoch: usize,
    pub iter: usize,
    pub n_iter: usize,
    pub training: bool,
    pub pct_train: f64,
    pub train_iter: usize,
    /// The present batch: what the model saw, what it should say, what it says, and how wrong that is.
    pub x: Option<Tensor>,
    pub y: Option<Tensor>,
    pub pred: Option<Tensor>,
    pub loss: Option<Tensor>,
    /// Losses that are on their way from the device, each with its batch.
    pub coming: VecDeque<(usize, Pending)>,
    /// Training losses that have arrived and are not in the recorder yet.
    pub arrived: Vec<f64>,
    /// The last loss that has arrived, and its batch.
    pub loss_value: f64,
    pub loss_iter: usize,
    pub waited: Duration,
    pub epoch_start: Option<Instant>,
    /// Weighted sums of validation loss and metrics, and the weight.
    pub sums: Vec<f64>,
    pub weight: f64,
}

impl Learner {
    /// Trains for `epochs` with constant learning rates: fastai's `fit`. A number is for all parameter groups, a range from
    /// the first group to the last.
    ///
    /// # Errors
    /// What a batch, the model or a callback fails with; [`ErrorKind::NotFinite`] when the loss becomes NaN or infinite.
    pub fn fit(&mut self, epochs: usize, lr: impl Into<LrMax>) -> Result<()> {
        self.run_fit(epochs, &lr.into(), None)
    }

    /// Trains for `epochs` with the one-cycle policy up to the learning rate `lr_max`: fastai's `fit_one_cycle`.
    /// `lr_max` is a number (`1e-2`), a range from the first parameter group to the last (`1e-6..1e-4`, or
    /// [`slice(1e-6, 1e-4)`](crate::optim::slice)), or a list.
    ///
    /// # Errors
    /// As [`Learner::fit`].
    pub fn fit_one_cycle(&mut self, epochs: usize, lr_max: impl Into<LrMax>) -> Result<()> {
        self.fit_one_cycle_with(epochs, lr_max, &OneCycle::default())
    }

    /// [`Learner::fit_one_cycle`] with another shape of the cycle.
    ///
    /// # Errors
    /// As [`Learner::fit`].
    pub fn fit_one_cycle_with(&mut self, epochs: usize, lr_max: impl Into<LrMax>, cycle: &OneCycle) -> Result<()> {
        let lr_max = lr_max.into();
        lr_max.check(self.opt.param_groups().len())?;
        let lrs = lr_max.per_group(self.opt.param_groups().len());
        let (lr, mom): (Vec<Schedule>, Vec<Schedule>) = lrs.into_iter().map(|lr| one_cycle(lr, cycle)).unzip();
        self.run_fit(epochs, &lr_max, Some(ParamScheduler::new(lr, mom)))
    }

    fn run_fit(&mut self, epochs: usize, lr: &LrMax, scheduler: Option<ParamScheduler>) -> Result<()> {
        if epochs == 0 {
            return Err(Error::new(ErrorKind::Argument, "a fit needs at least one epoch").on("epochs"));
        }
        lr.check(self.opt.param_groups().len())?;
        let lrs = lr.per_group(self.opt.param_groups().len());
        let wd = self.wd;
        self.opt.set(|g, h| {
            h.lr = lrs[g];
            h.wd = wd.unwrap_or(h.wd);
        });
        self.at = Progress { n_epoch: epochs, ..Progress::default() };
        self.cbs.extend(scheduler.map(|s| Box::new(s) as Box<dyn Callback>));
        self.cbs.sort_by_key(|cb| cb.order());
        if let Device::Cuda(gpu) = self.device {
            gpu.reset_peak();
        }
        let outcome = self.fit_loop();
        (self.at.pred, self.at.loss) = (None, None);
        self.cbs.retain(|cb| cb.name() != ParamScheduler::NAME);
        self.opt.zero_grad();
        match outcome {
            Err(Stop::Failed(e)) => Err(self.advise(e)),
            Ok(()) | Err(Stop::Cancel(_)) => Ok(()),
        }
    }

    /// An out-of-memory error with a batch size that should fit.
    fn advise(&self, e: Error) -> Error {
        let (ErrorKind::OutOfMemory, Device::Cuda(gpu)) = (e.kind(), self.device) else { return e };
        let bs = self.dls.train.bs();
        gpu.release();
        let free = gpu.memory().map_or(0, |(free, _)| free);
        let (in_use, peak) = gpu.usage();
        // What is left after the failed batch is gone is there whatever the batch size; the rest grows with it. It failed before its
        // peak, which is why a quarter is left as margin.
        let batch = peak.saturating_sub(in_use).max(1);
        let fits = (bs as f64 * free as f64 / batch as f64 * 0.75) as usize;
        match fits.min(bs * 3 / 4) {
            0 | 1 => e.remedy("use smaller pictures (--size) or a smaller network: not even a batch of 2 would fit"),
            n => {
                let n = if n >= 8 { n / 8 * 8 } else { n };
                e.remedy(format!("use a smaller batch: about {n} pictures should fit, bs({n}) or --bs {n}"))
            }
        }
    }

    fn fit_loop(&mut self) -> Signal {
        self.level(Level::Fit, |learn| {
            for epoch in 0..learn.at.n_epoch {
                learn.at.epoch = epoch;
                learn.level(Level::Epoch, |learn| {
                    learn.level(Level::Train, Learner::train_pass)?;
                    learn.level(Level::Validate, Learner::validate_pass)
                })?;
            }
            Ok(())
        })
    }

    fn train_pass(&mut self) -> Signal {
        let epoch = self.epochs_seen;
        self.epochs_seen += 1;
        let mut batches = Feed::new(&self.dls.train, epoch, self.device, self.kept.clone());
        for (i, batch) in (&mut batches).enumerate() {
            self.load(i, &batch?, Subset::Train, epoch)?;
            self.level(Level::Batch, Learner::train_batch)?;
            self.step_number += 1;
        }
        self.at.waited += batches.waited();
        self.take_losses(0)?;
        self.record_losses();
        Ok(())
    }

    fn train_batch(&mut self) -> Signal {
        self.forward(&Context::train(self.seed, self.step_number))?;
        self.event(Event::BeforeBackward)?;
        if let Some(loss) = &self.at.loss {
            autograd::backward(loss)?;
        }
        self.event(Event::AfterBackward)?;
        self.level(Level::Step, |learn| Ok(learn.opt.step()?))?;
        self.opt.zero_grad(); // of a cancelled step
        Ok(())
    }

    fn validate_pass(&mut self) -> Signal {
        let mut batches = Feed::new(&self.dls.valid, 0, self.device, self.kept.clone());
        for (i, batch) in (&mut batches).enumerate() {
            self.load(i, &batch?, Subset::Valid, 0)?;
            self.level(Level::Batch, |learn| autograd::no_grad(|| learn.forward(&Context::eval())))?;
        }
        self.at.waited += batches.waited();
        Ok(())
    }

    fn forward(&mut self, cx: &Context) -> Signal {
        let (Some(x), Some(y)) = (self.at.x.clone(), self.at.y.clone()) else { return Ok(()) };
        self.at.pred = Some(self.model.forward(&x, cx)?);
        self.event(Event::AfterPred)?;
        if let Some(pred) = &self.at.pred {
            let loss = ops::cross_entropy(pred, &y, &self.loss)?;
            self.at.coming.push_back((self.at.iter, loss.read_back()?));
            self.at.loss = Some(loss);
        }
        // A GPU is still busy with this batch. Waiting for the loss before it keeps the host one batch ahead and no more.
        self.take_losses(usize::from(self.at.training && self.device != Device::Cpu))?;
        self.event(Event::AfterLoss)
    }

    /// Takes the losses that were asked for, but for the last `behind`.
    fn take_losses(&mut self, behind: usize) -> Result<()> {
        while self.at.coming.len() > behind {
            let Some((iter, loss)) = self.at.coming.pop_front() else { break };
            (self.at.loss_iter, self.at.loss_value) = (iter, loss.wait()?);
            if self.at.training {
                self.at.arrived.push(self.at.loss_value);
            }
        }
        Ok(())
    }

    fn record_losses(&mut self) {
        for loss in self.at.arrived.drain(..) {
            self.recorder.losses.push(self.recorder.smooth.push(loss));
        }
    }

    /// Makes a batch the present one: batch transforms on the device.
    fn load(&mut self, i: usize, batch: &Fed, subset: Subset, epoch: u64) -> Result<()> {
        self.at.iter = i;
        let draws = BatchDraws { seed: self.dls.seed(), epoch, items: &batch.indices };
        self.at.x = Some(self.dls.batch_tfms().apply(&batch.bytes, subset, &draws, self.dtype)?);
        self.at.y = Some(Tensor::from_slice(&batch.targets, [batch.targets.len()], self.device)?);
        Ok(())
    }

    /// What the model sees of a batch.
    pub(super) fn inputs(&self, batch: &Batch, subset: Subset, epoch: u64) -> Result<Tensor> {
        batch.inputs(self.dls.batch_tfms().as_ref(), subset, (self.dls.seed(), epoch), (self.device, self.dtype))
    }

    /// Before, the work, after; a cancelled level still has its after.
    fn level(&mut self, level: Level, work: impl FnOnce(&mut Learner) -> Signal) -> Signal {
        let outcome = self.event(Event::Before(level)).and_then(|()| work(self));
        match outcome {
            Err(Stop::Cancel(l)) if l == level => self.event(Event::Cancelled(level))?,
            other => other?,
        }
        self.event(Event::After(level))
    }

    /// Lets the learner's own bookkeeping, then every callback, see the event.
    fn event(&mut self, event: Event) -> Signal {
        self.keep_books(event)?;
        let mut cbs = std::mem::take(&mut self.cbs);
        let outcome = cbs.iter_mut().try_for_each(|cb| callback::call(cb.as_mut(), event, self));
        cbs.append(&mut self.cbs); // callbacks that callbacks have added
        self.cbs = cbs;
        outcome
    }

    /// fastai's `TrainEvalCallback` and `Recorder`: counters, the smoothed loss, the rows of the table.
    fn keep_books(&mut self, event: Event) -> Signal {
        if event == Event::After(Level::Batch) {
            self.record_losses();
        }
        let at = &mut self.at;
        match event {
            Event::Before(Level::Fit) => self.recorder.begin_fit(),
            Event::Before(Level::Epoch) => {
                at.epoch_start = Some(Instant::now());
                at.waited = Duration::ZERO;
                (at.sums, at.weight) = (vec![0.0; self.metrics.len() + 1], 0.0);
            }
            Event::Before(Level::Train) => {
                (at.training, at.n_iter) = (true, self.dls.train.len());
                at.pct_train = at.epoch as f64 / at.n_epoch as f64;
            }
            Event::Before(Level::Validate) => (at.training, at.n_iter) = (false, self.dls.valid.len()),
            Event::After(Level::Batch) if at.training => {
                if let Some(last) = self.opt.param_groups().last() {
                    self.recorder.lrs.push(last.hyper.lr);
                    self.recorder.moms.push(last.hyper.mom);
                }
                at.train_iter += 1;
                at.pct_train += 1.0 / (at.n_iter * at.n_epoch) as f64;
                (at.pred, at.loss) = (None, None);
            }
            Event::After(Level::Batch) => {
                if let (Some(pred), Some(y)) = (at.pred.take(), &at.y) {
                    let n = y.numel() as f64;
                    at.weight += n;
                    at.sums[0] += n * at.loss_value;
                    for (sum, metric) in at.sums[1..].iter_mut().zip(&self.metrics) {
                        *sum += n * metric.of(&pred, y)?;
                    }
                }
            }
            Event::After(Level::Epoch) => {
                self.recorder.iters.push(at.train_iter);
                let row = super::Row {
                    epoch: at.epoch,
                    train_loss: self.recorder.smooth.get(),
                    valid: (at.weight > 0.0).then(|| at.sums.iter().map(|sum| sum / at.weight).collect()),
                    names: std::iter::once("valid_loss")
                        .chain(self.metrics.iter().map(|m| m.name()))
                        .map(String::from)
                        .collect(),
                    seconds: at.epoch_start.map_or(0.0, |t| t.elapsed().as_secs_f64()),
                    waited: at.waited.as_secs_f64(),
                };
                self.recorder.rows.push(row.clone());
                self.recorder.history.push(row);
            }
            Event::After(Level::Fit) => (at.x, at.y, at.pred, at.loss) = (None, None, None, None),
            _ => {}
        }
        Ok(())
    }
}
