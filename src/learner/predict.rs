//! Predictions of a learner: over a whole set, over files, and what they are worth.

use super::Learner;
use super::loss::{Loss, TargetKind};
use super::metrics::{Metric, Running};
use crate::data::{Batch, DataLoader, Subset, Target, Targets};
use crate::nn::{Context, Module};
use crate::{Error, ErrorKind, Result, Tensor, autograd};
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
    /// The loss of each; 0 without a label.
    pub losses: Vec<f64>,
    /// Each metric of the learner, if the files have labels.
    pub metrics: Vec<(String, f64)>,
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

    /// Mean loss over the files that have a label.
    pub fn loss(&self) -> Option<f64> {
        let labelled = self.labelled().into_iter().filter(|&has| has).count();
        (labelled > 0).then(|| self.losses.iter().sum::<f64>() / labelled as f64)
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

    /// Predictions over the files of any loader, as the validation set is treated.
    ///
    /// # Errors
    /// When a picture can't be read, or the learner's loss doesn't fit the data.
    pub fn preds_of(&self, loader: &DataLoader) -> Result<Predictions> {
        self.predictions(loader, &self.metrics)
    }

    fn predictions(&self, loader: &DataLoader, metrics: &[Metric]) -> Result<Predictions> {
        predictions(&self.model, loader, |batch| self.inputs(batch, Subset::Valid, 0), &*self.loss, metrics)
    }

    /// Validation loss and metrics: fastai's `validate`.
    ///
    /// # Errors
    /// When a picture can't be read.
    pub fn validate(&self) -> Result<Vec<(String, f64)>> {
        let all = self.get_preds()?;
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
        let mut all = self.predictions(&loader, &[])?;
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
    let (mut all, mut running, mut blind) = (Predictions::default(), Running::default(), 0);
    for batch in loader.epoch(0) {
        let batch = batch?;
        let raw = autograd::no_grad(|| model.forward(&inputs(&batch)?, &Context::eval()))?; // [N, C]
        let labels: Vec<bool> = (0..batch.len()).map(|i| has_label(&batch.targets.get(i))).collect();
        let labelled = labels.iter().filter(|&&has| has).count();
        blind += labels.len() - labelled;
        let fits = TargetKind::of(&batch.targets) == loss.targets();
        match labelled {
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
        for row in loss.activation(&raw)?.chunks_exact(raw.shape().channels().max(1)) {
            all.decoded.push(loss.decodes(row));
            all.probabilities.push(row.to_vec());
        }
        all.targets.append(batch.targets)?;
        all.paths.extend(batch.paths);
    }
    if blind == 0 && !all.is_empty() {
        let names = metrics.iter().map(|m| m.name().to_string());
        all.metrics = names.zip(running.values(metrics)?).collect();
    }
    Ok(all)
}
