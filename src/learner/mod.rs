//! The [`Learner`]: a model, its data, its loss and its optimizer, and what one does with them.
//!
//! ```no_run
//! use onecycle::prelude::*;
//! # fn main() -> onecycle::Result<()> {
//! # let dls: DataLoaders = todo!();
//! let mut learn = vision_learner(&dls, resnet34)?.metrics(error_rate);
//! learn.fit_one_cycle(2, 1e-2)?;
//! println!("{}", learn.summary()?);
//! let (label, probabilities) = learn.predict("cat.jpg")?;
//! learn.export("model.safetensors")?;
//! # Ok(()) }
//! ```
//!
//! | question | file |
//! |---|---|
//! | what happens in a fit, in which order | `fit.rs`, the loop on one screen |
//! | how it computes in half precision | `mixed_precision.rs` |
//! | which learning rate when | `policies.rs`, `scheduler.rs` |
//! | which learning rate at all | `lr_find.rs`, `suggest.rs` |
//! | how batches get to the device | `feed.rs` |
//! | how to take part in it | `callback.rs`, `batch.rs`, `show_loop.rs` |
//! | what fastai's callbacks do | `callbacks/` |
//! | what it leaves behind | `recorder.rs`, `table.rs` |
//! | what it makes small, and what people judge by | `loss.rs`, `metrics.rs` |
//! | how well it did | `predict.rs`, `tta.rs` |
//! | where it errs | `interpret.rs`, `classification_report.rs`, `show_results.rs` |
//! | how a model leaves the program and comes back | `export.rs`, `save.rs`, `fastai.rs`, `onnx/` |
//! | how a fit survives its process | `checkpoint/` |
//! | where the model comes from | `vision_learner.rs`, `pretrained.rs` |

mod batch;
pub mod callback;
pub mod callbacks;
#[cfg(feature = "checkpoint")]
pub mod checkpoint;
mod classification_report;
mod export;
mod fastai;
mod feed;
mod fit;
mod interpret;
pub mod loss;
mod lr_find;
pub mod metrics;
mod mixed_precision;
#[cfg(feature = "onnx")]
mod onnx;
mod policies;
mod predict;
mod pretrained;
#[cfg(feature = "cli")]
mod progress;
#[cfg(test)]
mod recorded;
mod recorder;
mod save;
mod scheduler;
mod show_loop;
#[cfg(feature = "plot")]
mod show_results;
mod state_dict;
pub mod suggest;
mod table;
mod tta;
mod vision_learner;

pub use callback::{Callback, Event, Level, Signal, Stop};
#[cfg(feature = "tensorboard")]
pub use callbacks::TensorBoardCallback;
pub use callbacks::{
    BnFreeze, CSVLogger, CutMix, EarlyStopping, GradientAccumulation, GradientClip, MixUp, ReduceLROnPlateau,
    SaveModel, SkipToEpoch, StopOnFlag, TerminateOnNaN,
};
#[cfg(feature = "checkpoint")]
pub use checkpoint::{Checkpoint, Resumed};
pub use classification_report::{ClassificationReport, Scores};
pub use export::{Prediction, Predictor, load_learner};
pub use interpret::{ConfusionMatrix, Interpretation, TopLoss};
pub use loss::{
    BCEWithLogitsLossFlat, CrossEntropyLossFlat, FocalLossFlat, L1LossFlat, LabelSmoothingCrossEntropyFlat, Loss,
    MSELossFlat, TargetKind,
};
pub use lr_find::{LrFind, SuggestedLrs};
pub use metrics::{
    Average, Metric, accuracy, accuracy_multi, accuracy_multi_at, argmax, error_rate, f1_score, f1_score_multi, mae,
    mse, precision, precision_multi, recall, recall_multi, rmse, top_k_accuracy,
};
pub use mixed_precision::{GradScaler, MixedPrecision};
pub use policies::{FineTune, FitOptions};
pub use predict::{GetPreds, Predictions};
#[cfg(feature = "cli")]
pub use progress::{Progress, ProgressCallback, Verbosity, colour};
#[cfg(feature = "plot")]
pub use recorder::PlotLoss;
pub use recorder::{Recorder, Row, Smooth};
pub use save::LoadOptions;
pub use scheduler::ParamScheduler;
pub use state_dict::StateDict;
pub use table::{Table, format_time};
pub use tta::Tta;
pub use vision_learner::{vision_learner, vision_learner_on};

use crate::data::DataLoaders;
use crate::nn::summary::{self, Layout};
use crate::nn::{Arch, HeadOptions, Module, Sequential};
use crate::optim::{Optimizer, OptimizerKind};
use crate::{DType, Device, Result};
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// A model with its data, loss and optimizer; see the [module](self).
pub struct Learner {
    model: Sequential,
    arch: Arch,
    head: HeadOptions,
    dls: DataLoaders,
    opt: Optimizer,
    loss: Box<dyn Loss>,
    metrics: Vec<Metric>,
    cbs: Vec<Slot>,
    recorder: Recorder,
    /// Where the body's first weights came from; none: they were fresh.
    weights: Option<String>,
    wd: Option<f64>,
    seed: u64,
    device: Device,
    /// What activations are.
    dtype: DType,
    /// Pictures that stay on the device.
    kept: Option<Arc<Mutex<feed::Kept>>>,
    at: fit::Progress,
    /// Fits that are done, those of the learning-rate finder left out.
    fits: usize,
    /// What waits for its fit, in a program that was interrupted.
    resume: Option<fit::Resume>,
    /// What waits for the end of the present event.
    deferred: Vec<fit::Deferred>,
    /// Epochs over all fits: the address of shuffling, augmentation and, with the batch, of dropout.
    epochs_seen: u64,
    /// The learning-rate finder is at work.
    finding_lr: bool,
    /// Where it writes to.
    path: PathBuf,
    /// The last event that was called was one that does nothing.
    passed: bool,
    /// What a checkpoint knows its data by; computed once, as it asks the system for every file.
    #[cfg(feature = "checkpoint")]
    data_digest: std::sync::OnceLock<String>,
}

/// A callback, and how long it stays.
struct Slot {
    cb: Box<dyn Callback>,
    stay: Stay,
    /// Its methods, by [`Event::place`], that were seen to do nothing.
    passes: u32,
}

#[derive(Clone, Copy)]
enum Stay {
    /// Until it is removed.
    Always,
    /// Until the fit ends.
    ThisFit,
    /// Until the fit ends; then it goes back to who lent it.
    GoBack,
}

impl Learner {
    fn new(model: Sequential, arch: Arch, head: HeadOptions, dls: DataLoaders) -> Learner {
        let opt = optimizer(&model, OptimizerKind::Adam);
        Learner {
            model,
            arch,
            head,
            seed: dls.seed(),
            opt,
            loss: loss::TargetKind::of(dls.datasets().targets()).loss(),
            metrics: Vec::new(),
            cbs: vec![Slot::new(Box::new(TerminateOnNaN), Stay::Always)],
            recorder: Recorder::default(),
            weights: None,
            wd: None,
            device: Device::Cpu,
            dtype: DType::F32,
            kept: None,
            at: Default::default(),
            fits: 0,
            resume: None,
            deferred: Vec::new(),
            dls,
            epochs_seen: 0,
            finding_lr: false,
            path: PathBuf::from("."),
            passed: false,
            #[cfg(feature = "checkpoint")]
            data_digest: Default::default(),
        }
    }

    /// Adds a metric: a function such as [`error_rate`], or a [`Metric`].
    pub fn metrics(mut self, metric: impl Into<Metric>) -> Learner {
        self.metrics.push(metric.into());
        self
    }

    /// Sets the weight decay; otherwise it is the optimizer's own, 0.01 for Adam.
    pub fn wd(mut self, wd: f64) -> Learner {
        self.wd = Some(wd);
        self
    }

    /// Sets the loss; otherwise it is the one that fits the data's targets. fastai: `loss_func`.
    pub fn loss_func(mut self, loss: impl Loss + 'static) -> Learner {
        self.loss = Box::new(loss);
        self
    }

    /// The loss.
    pub fn loss_fn(&self) -> &dyn Loss {
        &*self.loss
    }

    /// Uses another optimizer than Adam.
    pub fn opt_func(mut self, kind: OptimizerKind) -> Learner {
        self.opt.set_kind(kind);
        self
    }

    /// Whether norms in frozen groups train, as they do by default. fastai: the argument `train_bn`.
    pub fn train_bn(mut self, on: bool) -> Learner {
        self.opt.train_bn(on);
        self
    }

    /// Moves the model to a device; [`vision_learner`] has put it on the best one. What the optimizer remembers is forgotten.
    ///
    /// # Errors
    /// The device has too little memory, or can't compute in the learner's precision.
    pub fn to_device(mut self, device: Device) -> Result<Learner> {
        device.computes_in("to_device", self.dtype)?;
        self.model.to_device(device)?;
        self.opt.clear_state();
        self.device = device;
        self.kept = None;
        Ok(self)
    }

    /// Keeps the pictures on the GPU, as bytes after the item transforms, if they fit into half of its free memory: from the second
    /// epoch on nothing is decoded and nothing travels. What item transforms draw at random (where `Resize` crops) is then drawn
    /// once for each picture instead of once for each epoch. On the processor it does nothing: there `DataBlock`'s
    /// [`cache`](crate::data::DataBlock::cache) keeps decoded pictures, and every draw.
    pub fn cache_on_gpu(mut self, on: bool) -> Learner {
        let capacity = self.dls.train.n_items() + self.dls.valid.n_items();
        let wanted = on && self.device != Device::Cpu;
        self.kept = wanted.then(|| Arc::new(Mutex::new(feed::Kept::new(self.device, capacity))));
        self
    }

    /// Why [`Learner::cache_on_gpu`] keeps nothing, once a first batch has shown it.
    pub fn cache_refused(&self) -> Option<String> {
        let kept = self.kept.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        kept.refused().map(String::from)
    }

    /// Where the model is.
    pub fn device(&self) -> Device {
        self.device
    }

    /// What activations and gradients are.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Adds a callback.
    pub fn callback(mut self, cb: impl Callback + 'static) -> Learner {
        self.add_cb(cb);
        self
    }

    /// Adds a callback.
    pub fn add_cb(&mut self, cb: impl Callback + 'static) {
        self.cbs.push(Slot::new(Box::new(cb), Stay::Always));
        self.sort_cbs();
    }

    fn sort_cbs(&mut self) {
        self.cbs.sort_by_key(|slot| slot.cb.order());
    }

    /// Removes the callbacks called `name`.
    pub fn remove_cb(&mut self, name: &str) {
        self.cbs.retain(|slot| slot.cb.name() != name);
    }

    /// Lets all parameter groups but the last (the head) rest; norms go on training. As in fastai.
    ///
    /// # Errors
    /// When there is only one group.
    pub fn freeze(&mut self) -> Result<()> {
        self.opt.freeze()
    }

    /// Lets the first `n` parameter groups rest; a negative `n` counts from the end.
    ///
    /// # Errors
    /// When there is no such group.
    pub fn freeze_to(&mut self, n: isize) -> Result<()> {
        self.opt.freeze_to(n)
    }

    /// Trains all parameter groups.
    ///
    /// # Errors
    /// None in practice; a result so that the three read alike.
    pub fn unfreeze(&mut self) -> Result<()> {
        self.opt.freeze_to(0)
    }

    /// fastai's `learn.summary()`: the layers with their shapes and parameters, for a training batch.
    ///
    /// # Errors
    /// When a training picture can't be read.
    pub fn summary(&self) -> Result<String> {
        self.summary_as(Layout::Current)
    }

    /// [`Learner::summary`] in the layout of another release.
    ///
    /// # Errors
    /// As [`Learner::summary`].
    pub fn summary_as(&self, layout: Layout) -> Result<String> {
        let (picture, _) = self.dls.datasets().get(crate::data::Subset::Train, 0)?;
        let (h, w) = self.dls.batch_tfms().output_size((picture.height, picture.width));
        let mut out = summary::table(&self.model, &[self.dls.train.bs(), h, w, 3].into(), layout)?;
        // fastai shows the address of its function; here it is that of the optimizer.
        let _ = writeln!(out, "Optimizer used: <function {} at {:p}>", self.opt.kind().name(), &self.opt);
        let _ = write!(out, "Loss function: FlattenedLoss of {}\n\n", self.loss.name());
        match self.opt.frozen_idx() {
            0 => out += "Model unfrozen\n\n",
            n => _ = write!(out, "Model frozen up to parameter group #{n}\n\n"),
        }
        out += "Callbacks:";
        // The first and the second of fastai's list are the learner itself here.
        let names = ["TrainEvalCallback", "Recorder"].into_iter().chain(self.cbs.iter().map(|slot| slot.cb.name()));
        names.for_each(|name| _ = write!(out, "\n  - {name}"));
        Ok(out)
    }

    /// The model.
    pub fn model(&self) -> &Sequential {
        &self.model
    }

    /// The architecture it was made from.
    pub fn arch(&self) -> &Arch {
        &self.arch
    }

    /// The data.
    pub fn dls(&self) -> &DataLoaders {
        &self.dls
    }

    /// The optimizer.
    pub fn opt(&self) -> &Optimizer {
        &self.opt
    }

    /// The optimizer, for schedulers.
    pub fn opt_mut(&mut self) -> &mut Optimizer {
        &mut self.opt
    }

    /// What the fits have left behind.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Names of the validation columns: the metrics.
    pub fn metric_names(&self) -> Vec<String> {
        self.metrics.iter().map(|m| m.name().to_string()).collect()
    }

    /// During a fit: the epoch, from 0.
    pub fn epoch(&self) -> usize {
        self.at.epoch
    }

    /// During a fit: how many epochs it has.
    pub fn n_epoch(&self) -> usize {
        self.at.n_epoch
    }

    /// During a pass: the batch, from 0.
    pub fn iter(&self) -> usize {
        self.at.iter
    }

    /// During a pass: how many batches it has.
    pub fn n_iter(&self) -> usize {
        self.at.n_iter
    }

    /// During a fit: training pass or validation pass.
    pub fn is_training(&self) -> bool {
        self.at.training
    }

    /// During a fit: whether it is the learning-rate finder's, which is forgotten afterwards.
    pub fn in_lr_find(&self) -> bool {
        self.finding_lr
    }

    /// During a fit: how much of the training is done, 0 at the first batch.
    pub fn pct_train(&self) -> f64 {
        self.at.pct_train
    }

    /// During a fit: the mean loss of the latest batch whose loss is known, [`Learner::loss_iter`]. A GPU's is that of the batch
    /// before, since nobody waits for the present one; where steps are [graphs](crate::device::cuda::step), of the one before that.
    pub fn loss(&self) -> f64 {
        self.at.loss_value
    }

    /// During a batch, before the walk back: multiplies the gradient of its loss, and so all gradients, by `factor`. What is recorded is
    /// the loss as it is.
    pub fn scale_loss(&mut self, factor: f64) {
        self.at.loss_scale *= factor;
    }

    /// During a fit: the batch that [`Learner::loss`] belongs to, from 0.
    pub fn loss_iter(&self) -> usize {
        self.at.loss_iter
    }
}

fn optimizer(model: &dyn Module, kind: OptimizerKind) -> Optimizer {
    Optimizer::new(kind, crate::nn::resnet::param_groups(model), false, true)
}
