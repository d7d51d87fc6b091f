//! Predictions of a learner: over a whole set, over files, and what they are worth.
//!
//! ```no_run
//! # use onecycle::prelude::*;
//! # use onecycle::learner::GetPreds;
//! # fn demo(learn: Learner) -> Result<()> {
//! let valid = learn.get_preds()?;
//! println!("{:?} of {} are wrong", valid.error_rate(), valid.len());
//! let test = learn.preds_of(&learn.dls().test_dl(["a.jpg", "b.jpg"])?)?;
//! let train = learn.preds_with(&learn.dls().train, &GetPreds { with_input: true, ..GetPreds::default() })?;
//! # Ok(()) }
//! ```
//!
//! Whatever loader it is, its items come in their own order, all of them, and nothing is drawn at random: results belong to items by
//! their place, and two passes agree to the bit. (fastai lets the training set's transforms act in `get_preds(ds_idx=0)`; here the
//! training set is treated as the validation set is. Predictions of augmented pictures are [`Learner::tta`]'s.)

use super::Learner;
use super::loss::{Loss, TargetKind};
use super::metrics::{Metric, Running};
use crate::data::{Batch, DataLoader, Subset, Target, Targets};
use crate::nn::{Context, Module};
use crate::{DType, Device, Error, ErrorKind, Result, Tensor, autograd};
use std::path::{Path, PathBuf};

/// What a model says about a set, in the set's order.
#[derive(Clone, Debug, Default)]
pub struct Predictions {
    /// The files.
    pub paths: Vec<PathBuf>,
    /// What the loss's activation makes of the network's numbers, a row each: probabilities of the classes, or of each label, or the
    /// numbers of a regression.
    pub probabilities: Vec<Vec<f64>>,
    /// The truth; class -1 where files have no label.
    pub targets: Targets,
    /// What is read from the probabilities: the most likely class, the likely labels, the numbers.
    pub decoded: Vec<Target>,
    /// The loss of each; 0 without a label. Empty where none was computed.
    pub losses: Vec<f64>,
    /// Each metric of the learner, if the files have labels.
    pub metrics: Vec<(String, f64)>,
    /// What the network saw, `[N, H, W, 3]` on the processor, if [`GetPreds::with_input`] asked for it.
    pub inputs: Option<Tensor>,
}

/// What [`Learner::preds_with`] gathers: fastai's arguments of `get_preds`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetPreds {
    /// The pictures as the network saw them: 600 KB each at 224 pixels.
    pub with_input: bool,
    /// What is read from the probabilities.
    pub with_decoded: bool,
    /// The loss of each item.
    pub with_loss: bool,
    /// Puts the network's numbers through the loss's activation; otherwise they stay as they are. fastai: `act=noop` for the latter.
    pub act: bool,
}

impl Default for GetPreds {
    fn default() -> GetPreds {
        GetPreds { with_input: false, with_decoded: true, with_loss: true, act: true }
    }
}

impl Predictions {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Which items have a label.
    pub fn labelled(&self) -> Vec<bool> {
        (0..self.targets.len()).map(|i| has_label(&self.targets.get(i))).collect()
    }

    /// Mean loss over the files that have a label; none without such files, or where no loss was computed.
    pub fn loss(&self) -> Option<f64> {
        let labelled = self.labelled().into_iter().filter(|&has| has).count();
        (labelled > 0 && self.losses.len() == self.len()).then(|| self.losses.iter().sum::<f64>() / labelled as f64)
    }

    /// True and predicted class of each item with a label: (place, true, predicted).
    ///
    /// # Errors
    /// [`ErrorKind::Data`] when the targets are no classes.
    pub fn classes(&self) -> Result<Vec<(usize, usize, usize)>> {
        let targets = self.targets.categories()?;
        let pair = |(i, (t, d)): (usize, (&i64, &Target))| match d {
            Target::Category(d) => Some((i, usize::try_from(*t).ok()?, usize::try_from(*d).ok()?)),
            _ => None,
        };
        Ok(targets.iter().zip(&self.decoded).enumerate().filter_map(pair).collect())
    }

    /// Share of the labelled files whose most likely class is wrong; none without such files, or where there are no classes.
    pub fn error_rate(&self) -> Option<f64> {
        let all = self.classes().ok().filter(|all| !all.is_empty())?;
        Some(all.iter().filter(|(_, t, d)| t != d).count() as f64 / all.len() as f64)
    }
}

fn has_label(target: &Target) -> bool {
    match target {
        Target::Category(n) => *n >= 0,
        Target::Number(v) => !v.is_nan(),
        Target::MultiCategory(row) | Target::Numbers(row) => !row.iter().any(|v| v.is_nan()),
    }
}

impl Learner {
    /// Predictions over the validation set, without randomness: fastai's `get_preds`.
    ///
    /// # Errors
    /// When a picture can't be read.
    pub fn get_preds(&self) -> Result<Predictions> {
        self.preds_of(&self.dls.valid)
    }

    /// Predictions over the items of any loader, in their order, as the validation set is treated. fastai: `get_preds(dl=..)`.
    ///
    /// # Errors
    /// When a picture can't be read, or the learner's loss doesn't fit the data.
    pub fn preds_of(&self, loader: &DataLoader) -> Result<Predictions> {
        self.preds_with(loader, &GetPreds::default())
    }

    /// [`Learner::preds_of`] with more or less than usual.
    ///
    /// # Errors
    /// As [`Learner::preds_of`]; with inputs also when pictures have several sizes.
    pub fn preds_with(&self, loader: &DataLoader, gather: &GetPreds) -> Result<Predictions> {
        self.predictions(&loader.in_order(Subset::Valid), &self.metrics, gather, (Subset::Valid, 0))
    }

    /// One pass in which pictures are treated as those of `subset` are in `epoch`.
    pub(super) fn predictions(
        &self,
        loader: &DataLoader,
        metrics: &[Metric],
        gather: &GetPreds,
        (subset, epoch): (Subset, u64),
    ) -> Result<Predictions> {
        let inputs = |batch: &Batch| self.inputs(batch, subset, epoch);
        predictions_with(&self.model, loader, epoch, inputs, &*self.loss, metrics, gather)
    }

    /// Validation loss and metrics: fastai's `validate`.
    ///
    /// # Errors
    /// When a picture can't be read.
    pub fn validate(&self) -> Result<Vec<(String, f64)>> {
        self.validate_on(&self.dls.valid)
    }

    /// Loss and metrics over any loader with labels; the loss is NaN without any. fastai: `validate(dl=..)`.
    ///
    /// # Errors
    /// When a picture can't be read, or the learner's loss doesn't fit the data.
    pub fn validate_on(&self, loader: &DataLoader) -> Result<Vec<(String, f64)>> {
        let all = self.preds_of(loader)?;
        let loss = all.loss().unwrap_or(f64::NAN);
        Ok(std::iter::once(("valid_loss".to_string(), loss)).chain(all.metrics).collect())
    }

    /// What the model says about a picture, in words (the most likely class; the likely labels, between semicolons; the numbers), and the
    /// probabilities behind it, in the vocabulary's order: fastai's `predict`.
    ///
    /// # Errors
    /// When the picture can't be read.
    pub fn predict(&self, path: impl AsRef<Path>) -> Result<(String, Vec<f64>)> {
        let loader = self.dls.test_loader::<&str>(vec![path.as_ref().to_path_buf()], None)?;
        let mut all = self.predictions(&loader, &[], &GetPreds::default(), (Subset::Valid, 0))?;
        match (all.decoded.pop(), all.probabilities.pop()) {
            (Some(target), Some(probabilities)) => Ok((self.dls.datasets().encode().title(&target), probabilities)),
            _ => Err(Error::new(ErrorKind::Data, "there is nothing to predict").on(path.as_ref().display())),
        }
    }
}

/// Runs a model over a loader in evaluation mode.
pub(super) fn predictions(
    model: &dyn Module,
    loader: &DataLoader,
    inputs: impl Fn(&Batch) -> Result<Tensor>,
    loss: &dyn Loss,
    metrics: &[Metric],
) -> Result<Predictions> {
    predictions_with(model, loader, 0, inputs, loss, metrics, &GetPreds::default())
}

fn predictions_with(
    model: &dyn Module,
    loader: &DataLoader,
    epoch: u64,
    inputs: impl Fn(&Batch) -> Result<Tensor>,
    loss: &dyn Loss,
    metrics: &[Metric],
    gather: &GetPreds,
) -> Result<Predictions> {
    let (mut all, mut running, mut blind) = (Predictions::default(), Running::default(), 0);
    let mut seen = Vec::new();
    for batch in loader.epoch(epoch) {
        let batch = batch?;
        let x = inputs(&batch)?; // [N, H, W, 3]
        let raw = autograd::no_grad(|| model.forward(&x, &Context::eval()))?; // [N, C]
        if gather.with_input {
            seen.push(x.to(Device::Cpu)?);
        }
        let labels: Vec<bool> = (0..batch.len()).map(|i| has_label(&batch.targets.get(i))).collect();
        let labelled = labels.iter().filter(|&&has| has).count();
        blind += labels.len() - labelled;
        let fits = TargetKind::of(&batch.targets) == loss.targets();
        match labelled {
            _ if !gather.with_loss && metrics.is_empty() => {}
            0 => all.losses.extend(labels.iter().map(|_| 0.0)),
            // A user's `test_dl` with labels of another kind than the loss's.
            _ if !fits => super::loss::check(loss, &batch.targets)?,
            _ => {
                // Without a label an item doesn't count; a class number has to be one for the loss to be asked.
                let some = |targets: Targets| match targets {
                    Targets::Categories(all) => Targets::Categories(all.into_iter().map(|t| t.max(0)).collect()),
                    other => other,
                };
                let targets = some(batch.targets.clone()).to_tensor(raw.device())?;
                let losses = loss.per_item(&raw, &targets)?;
                all.losses.extend(losses.into_iter().zip(&labels).map(|(loss, &has)| if has { loss } else { 0.0 }));
                if blind == 0 {
                    running.add(metrics, &raw, &targets)?;
                }
            }
        }
        let activated = loss.activation(&raw)?;
        let width = raw.shape().channels().max(1);
        if gather.with_decoded {
            all.decoded.extend(activated.chunks_exact(width).map(|row| loss.decodes(row)));
        }
        let kept = if gather.act { activated } else { raw.to_f64_vec()? };
        all.probabilities.extend(kept.chunks_exact(width).map(<[f64]>::to_vec));
        all.targets.append(batch.targets)?;
        all.paths.extend(batch.paths);
    }
    if blind == 0 && !all.is_empty() {
        let names = metrics.iter().map(|m| m.name().to_string());
        all.metrics = names.zip(running.values(metrics)?).collect();
    }
    if !gather.with_loss {
        all.losses.clear();
    }
    all.inputs = if gather.with_input { stacked(&seen)? } else { None };
    Ok(all)
}

/// Batches `[n, H, W, 3]`, one after the other; none of no batch.
fn stacked(batches: &[Tensor]) -> Result<Option<Tensor>> {
    let Some(first) = batches.first() else { return Ok(None) };
    let picture = &first.shape()[1..];
    if let Some(other) = batches.iter().find(|b| b.shape()[1..] != *picture) {
        let message = format!("pictures of {:?} and of {:?} make no one tensor", &picture[..2], &other.shape()[1..3]);
        return Err(Error::new(ErrorKind::Shape, message)
            .on("with_input")
            .remedy("resize the pictures: Resize::new(224)"));
    }
    let mut shape = first.shape().to_vec();
    shape[0] = batches.iter().map(|b| b.shape()[0]).sum();
    let mut numbers: Vec<f32> = Vec::with_capacity(shape.iter().product());
    for batch in batches {
        numbers.extend(batch.cast(DType::F32)?.to_vec::<f32>()?);
    }
    Ok(Some(Tensor::from_slice(&numbers, shape, Device::Cpu)?))
}
