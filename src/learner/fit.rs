//! The training loop.
//!
//! [`Learner::fit_loop`] and the four short functions below it are all of it. Read them top to bottom: a fit is epochs, an
//! epoch is a training pass and a validation pass, a pass is batches, a training batch is forward, loss, backward, step.
//! Everything else happens in the [callbacks](super::callback) that the events in between call.

use super::Learner;
use super::callback::{Callback, Event, Level, Signal, Stop};
use super::callbacks::SkipToEpoch;
use super::callbacks::mix::Mixed;
use super::feed::{Fed, Feed};
use super::metrics::Running;
use super::policies::FitOptions;
use super::scheduler::ParamScheduler;
use super::{Slot, Stay, loss};
use crate::data::{Batch, BatchDraws, Subset};
use crate::nn::{Context, Module};
use crate::optim::LrMax;
use crate::tensor::Pending;
use crate::{DType, Device, Error, ErrorKind, Result, Tensor, autograd};
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
    /// The second targets of mixed items.
    pub mixed: Option<Mixed>,
    /// Norms whose weights don't train keep their statistics.
    pub norms_rest: bool,
    /// What the walk back begins with: 1 unless a callback scales the loss.
    pub loss_scale: f64,
    /// The scale of each step, in f16.
    pub scales: Vec<f64>,
    /// Losses that are on their way from the device, each with its batch.
    pub coming: VecDeque<(usize, Pending)>,
    /// Training losses that have arrived and are not in the recorder yet.
    pub arrived: Vec<f64>,
    /// The last loss that has arrived, and its batch.
    pub loss_value: f64,
    pub loss_iter: usize,
    /// Batches of the present epoch that were trained before the fit was interrupted, and the time that it took.
    pub first_batch: usize,
    pub earlier: Duration,
    pub waited: Duration,
    pub epoch_start: Option<Instant>,
    /// The validation loss's sum, weighted by the batches' sizes, and the weight.
    pub loss_sum: f64,
    pub weight: f64,
    pub running: Running,
}

impl Progress {
    /// How long the present epoch has taken so far.
    pub fn spent(&self) -> Duration {
        self.earlier + self.epoch_start.map_or(Duration::ZERO, |start| start.elapsed())
    }
}

/// Where an interrupted program was: in which of its fits, and what brings that fit to where it was.
#[cfg_attr(not(feature = "checkpoint"), allow(dead_code))]
pub(super) struct Resume {
    pub fit: usize,
    pub go_on: GoOn,
}

type GoOn = Box<dyn FnOnce(&mut Learner) -> Result<()>>;

/// Work for when all callbacks have had their turn; the second argument is what one of them has cancelled.
pub(super) type Deferred = Box<dyn FnOnce(&mut Learner, Option<Level>) -> Result<()>>;

impl Learner {
    /// A fit of `epochs` with the learning rates `lr`, which a scheduler among `options` may change before each batch.
    pub(super) fn run_fit(
        &mut self,
        epochs: usize,
        lr: &LrMax,
        scheduler: Option<ParamScheduler>,
        options: &mut FitOptions,
    ) -> Result<()> {
        let argument = |text: &str| Error::new(ErrorKind::Argument, text);
        if epochs == 0 {
            return Err(argument("a fit needs at least one epoch").on("epochs").remedy("say how many; 1 is fine"));
        }
        if options.start_epoch >= epochs {
            let message = format!("a fit of {epochs} epochs cannot start at epoch {}", options.start_epoch);
            return Err(argument(&message)
                .on("start_epoch")
                .remedy("count from 0, and give the whole number of epochs"));
        }
        let wd = options.wd.or(self.wd);
        if let Some(bad) = wd.filter(|wd| !(wd.is_finite() && *wd >= 0.0)) {
            return Err(argument(&format!("a weight decay of {bad}")).on("wd").remedy("use 0 or more, such as 0.01"));
        }
        self.check_targets()?;
        lr.check(self.opt.param_groups().len())?;
        let lrs = lr.per_group(self.opt.param_groups().len());
        if self.resume.as_ref().is_some_and(|resume| self.fits < resume.fit && !self.finding_lr) {
            // The interrupted program was past this fit.
            self.fits += 1;
            return Ok(());
        }
        if options.reset_opt {
            self.opt.reset();
        }
        self.opt.set(|g, h| {
            h.lr = lrs[g];
            h.wd = wd.unwrap_or(h.wd);
        });
        self.at = Progress { n_epoch: epochs, ..Progress::default() };
        let own = scheduler.map(|s| Box::new(s) as Box<dyn Callback>);
        let skip = (options.start_epoch > 0).then(|| Box::new(SkipToEpoch(options.start_epoch)) as Box<dyn Callback>);
        self.cbs.extend(own.into_iter().chain(skip).map(|cb| Slot::new(cb, Stay::ThisFit)));
        self.cbs.extend(options.cbs.drain(..).map(|cb| Slot::new(cb, Stay::GoBack)));
        self.sort_cbs();
        if let Device::Cuda(gpu) = self.device {
            gpu.reset_peak();
        }
        let outcome = self.fit_loop();
        (self.at.pred, self.at.loss) = (None, None);
        for slot in std::mem::take(&mut self.cbs) {
            match slot.stay {
                Stay::Always => self.cbs.push(slot),
                Stay::ThisFit => {}
                Stay::GoBack => options.cbs.push(slot.cb),
            }
        }
        self.opt.zero_grad();
        self.fits += usize::from(!self.finding_lr);
        match outcome {
            Err(Stop::Failed(e)) => Err(self.advise(e)),
            Ok(()) | Err(Stop::Cancel(_)) => Ok(()),
        }
    }

    /// Loss and metrics on one made-up item: what doesn't fit the data shall be said now, not after the first epoch.
    fn check_targets(&self) -> Result<()> {
        let all = self.dls.datasets().targets();
        loss::check(&*self.loss, all)?;
        let Some(&first) = self.dls.train.indices().first() else { return Ok(()) };
        let y = all.select(&[first]).to_tensor(Device::Cpu)?;
        let pred = Tensor::on_cpu(0.0, [1, self.dls.c()], DType::F32);
        self.loss.mean(&pred, &y, None)?;
        self.metrics
            .iter()
            .try_for_each(|metric| metric.of(&pred, &y).map(|_| ()).map_err(|e| e.rather_on(metric.name())))
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
            learn.go_on()?;
            for epoch in learn.at.epoch..learn.at.n_epoch {
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
        let first = std::mem::take(&mut self.at.first_batch);
        let mut batches = Feed::new(&self.dls.train, (epoch, first), self.device, self.kept.clone());
        self.each_batch("train", first, &mut batches, |learn, i, batch| {
            learn.set_batch(i, batch, Subset::Train, epoch)?;
            learn.level(Level::Batch, Learner::train_batch)
        })?;
        self.at.waited += batches.waited();
        self.take_losses(0)?;
        self.record_losses();
        Ok(())
    }

    fn train_batch(&mut self) -> Signal {
        let step = self.epochs_seen * self.at.n_iter as u64 + self.at.iter as u64;
        self.forward(&Context::train(self.seed, step).rest_frozen_norms(self.at.norms_rest))?;
        self.event(Event::BeforeBackward)?;
        if let Some(loss) = &self.at.loss {
            // As data, not as the argument of a kernel that fills: in f16 it changes, and a step as a graph does not.
            let scale = Tensor::on_cpu(self.at.loss_scale, loss.shape(), loss.dtype()).to(loss.device())?;
            autograd::backward_with(loss, scale)?;
        }
        self.event(Event::AfterBackward)?;
        self.level(Level::Step, |learn| Ok(learn.opt.step()?))?;
        self.opt.zero_grad(); // of a cancelled step
        Ok(())
    }

    fn validate_pass(&mut self) -> Signal {
        let mut batches = Feed::new(&self.dls.valid, (0, 0), self.device, self.kept.clone());
        self.each_batch("validate", 0, &mut batches, |learn, i, batch| {
            learn.set_batch(i, batch, Subset::Valid, 0)?;
            learn.level(Level::Batch, |learn| autograd::no_grad(|| learn.forward(&Context::eval())))
        })?;
        self.at.waited += batches.waited();
        Ok(())
    }

    /// Work on every batch from number `first` on; each is a step of the device, which a GPU may get as a whole.
    fn each_batch(
        &mut self,
        name: &'static str,
        first: usize,
        batches: &mut Feed,
        mut work: impl FnMut(&mut Learner, usize, Fed) -> Signal,
    ) -> Signal {
        let device = self.device;
        for i in first.. {
            let one = || match batches.next() {
                Some(batch) => work(self, i, batch?).map(|()| true),
                None => Ok::<bool, Stop>(false),
            };
            if !device.step((name, i), one)? {
                break;
            }
        }
        Ok(())
    }

    fn forward(&mut self, cx: &Context) -> Signal {
        let (Some(x), Some(y)) = (self.at.x.clone(), self.at.y.clone()) else { return Ok(()) };
        self.at.pred = Some(self.model.forward(&x, cx)?);
        self.event(Event::AfterPred)?;
        if let Some(pred) = &self.at.pred {
            let loss = match &self.at.mixed {
                Some(mixed) => mixed.loss(&*self.loss, pred, &y)?,
                None => self.loss.mean(pred, &y, None)?,
            };
            self.at.coming.push_back((self.at.iter, loss.read_back()?));
            self.at.loss = Some(loss);
        }
        // A GPU is still busy with this batch. Waiting for the loss before it keeps the host one batch ahead and no more. Where steps
        // are given as a whole, that batch is what the GPU has to do while this one is prepared, so there it is the one before that.
        let behind = match self.device {
            Device::Cuda(gpu) if self.at.training => 1 + usize::from(gpu.uses_graphs()?),
            _ => 0,
        };
        self.take_losses(behind)?;
        self.event(Event::AfterLoss)
    }

    /// Takes the losses that were asked for, but for the last `behind`.
    pub(super) fn take_losses(&mut self, behind: usize) -> Result<()> {
        while self.at.coming.len() > behind {
            let Some((iter, loss)) = self.at.coming.pop_front() else { break };
            (self.at.loss_iter, self.at.loss_value) = (iter, loss.wait()?);
            if self.at.training {
                self.at.arrived.push(self.at.loss_value);
            }
        }
        Ok(())
    }

    pub(super) fn record_losses(&mut self) {
        for loss in self.at.arrived.drain(..) {
            self.recorder.raw.push(loss);
            self.recorder.losses.push(self.recorder.smooth.push(loss));
        }
    }

    /// Makes a batch the present one: batch transforms on the device.
    fn set_batch(&mut self, i: usize, batch: Fed, subset: Subset, epoch: u64) -> Result<()> {
        // The batch before goes first: this one gets its memory.
        (self.at.x, self.at.y) = (None, None);
        (self.at.iter, self.at.loss_scale, self.at.mixed) = (i, 1.0, None);
        let draws = BatchDraws { seed: self.dls.seed(), epoch, items: &batch.indices };
        self.at.x = Some(self.dls.batch_tfms().apply(&batch.bytes, subset, &draws, self.dtype)?);
        self.at.y = Some(batch.targets.to_tensor(self.device)?);
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
        let outcome = cbs.iter_mut().try_for_each(|slot| slot.call(event, self));
        cbs.append(&mut self.cbs); // callbacks that callbacks have added
        self.cbs = cbs;
        if !self.deferred.is_empty() {
            let cancelled = if let Err(Stop::Cancel(level)) = outcome { Some(level) } else { None };
            std::mem::take(&mut self.deferred).into_iter().try_for_each(|work| work(self, cancelled))?;
        }
        outcome
    }

    /// Where an interrupted fit was, if this is the one.
    fn go_on(&mut self) -> Result<()> {
        let here = |resume: &mut Resume| resume.fit == self.fits && !self.finding_lr;
        match self.resume.take_if(here) {
            Some(resume) => (resume.go_on)(self),
            None => Ok(()),
        }
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
                if at.first_batch == 0 {
                    at.waited = Duration::ZERO;
                }

                (at.loss_sum, at.weight, at.running) = (0.0, 0.0, Running::default());
            }
            Event::Before(Level::Train) => {
                (at.training, at.n_iter) = (true, self.dls.train.len());
                if at.first_batch == 0 {
                    at.pct_train = at.epoch as f64 / at.n_epoch as f64;
                }
            }
            Event::Before(Level::Validate) => (at.training, at.n_iter) = (false, self.dls.valid.len()),
            Event::After(Level::Batch) if at.training => {
                if let Some(last) = self.opt.param_groups().last() {
                    self.recorder.lrs.push(last.hyper.lr);
                    self.recorder.moms.push(last.hyper.mom);
                }
                at.train_iter += 1;
                at.pct_train += 1.0 / (at.n_iter as f64 * at.n_epoch as f64);
                (at.pred, at.loss) = (None, None);
            }
            Event::After(Level::Batch) => {
                if let (Some(pred), Some(y)) = (at.pred.take(), &at.y) {
                    let n = y.shape().first().copied().unwrap_or(1) as f64;
                    at.weight += n;
                    at.loss_sum += n * at.loss_value;
                    at.running.add(&self.metrics, &pred, y)?;
                }
            }
            Event::After(Level::Epoch) => {
                self.epochs_seen += 1; // here, since a callback may end the fit now
                self.recorder.iters.push(at.train_iter);
                let valid = match at.weight > 0.0 {
                    true => Some([vec![at.loss_sum / at.weight], at.running.values(&self.metrics)?].concat()),
                    false => None,
                };
                let row = super::Row {
                    epoch: at.epoch,
                    train_loss: self.recorder.smooth.get(),
                    valid,
                    names: std::iter::once("valid_loss")
                        .chain(self.metrics.iter().map(|m| m.name()))
                        .map(String::from)
                        .collect(),
                    seconds: at.spent().as_secs_f64(),
                    waited: at.waited.as_secs_f64(),
                };
                self.recorder.rows.push(row.clone());
                self.recorder.history.push(row);
                self.at.earlier = Duration::ZERO;
            }
            Event::After(Level::Fit) => (at.x, at.y, at.pred, at.loss, at.mixed) = (None, None, None, None, None),
            _ => {}
        }
        Ok(())
    }
}
