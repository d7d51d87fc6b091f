//! Predictions of a learner: over a whole set, over files, and what they are worth.

use super::Learner;
use crate::data::{DataLoader, Subset};
use crate::nn::{Context, Module};
use crate::ops::cross_entropy::{cross_entropy_per_item, softmax};
use crate::{Device, Error, ErrorKind, Result, Tensor, autograd};
use std::path::{Path, PathBuf};

/// What a model says about a set, in the set's order.
#[derive(Clone, Debug)]
pub struct Predictions {
    /// The files.
    pub paths: Vec<PathBuf>,
    /// Class probabilities, a row each.
    pub probabilities: Vec<Vec<f64>>,
    /// The true classes; -1 where a file has no label.
    pub targets: Vec<i64>,
    /// The most likely classes.
    pub decoded: Vec<usize>,
    /// The loss of each; 0 without a label.
    pub losses: Vec<f64>,
    /// Mean of each metric of the learner, over labelled files.
    pub metrics: Vec<(String, f64)>,
}

impl Predictions {
    /// Mean loss over the files that have a label.
    pub fn loss(&self) -> Option<f64> {
        let labelled = self.targets.iter().filter(|&&t| t >= 0).count();
        (labelled > 0).then(|| self.losses.iter().sum::<f64>() / labelled as f64)
    }

    /// Share of the labelled files whose most likely class is wrong.
    pub fn error_rate(&self) -> Option<f64> {
        let labelled: Vec<_> = self.targets.iter().zip(&self.decoded).filter(|(t, _)| **t >= 0).collect();
        let wrong = labelled.iter().filter(|(t, d)| **t != **d as i64).count();
        (!labelled.is_empty()).then(|| wrong as f64 / labelled.len() as f64)
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
    /// When a picture can't be read.
    pub fn preds_of(&self, loader: &DataLoader) -> Result<Predictions> {
        let mut all = predictions(&self.model, loader, |batch| self.inputs(batch, Subset::Valid, 0), &self.loss)?;
        for metric in &self.metrics {
            let logits: Vec<f64> = all.probabilities.concat();
            let rows = all.targets.len();
            let c = logits.len() / rows.max(1);
            let p = Tensor::from_slice(&logits, [rows, c], Device::Cpu)?;
            let value = metric.of(&p, &Tensor::from_slice(&all.targets, [rows], Device::Cpu)?)?;
            all.metrics.push((metric.name().to_string(), value));
        }
        Ok(all)
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

    /// The most likely class of a picture, and the probabilities of all classes in the vocabulary's order: fastai's `predict`.
    ///
    /// # Errors
    /// When the picture can't be read.
    pub fn predict(&self, path: impl AsRef<Path>) -> Result<(String, Vec<f64>)> {
        let loader = self.dls.test_loader::<&str>(vec![path.as_ref().to_path_buf()], None)?;
        let mut all = self.preds_of_unlabelled(&loader)?;
        match (all.decoded.pop(), all.probabilities.pop()) {
            (Some(class), Some(probabilities)) => Ok((self.dls.vocab()[class].clone(), probabilities)),
            _ => Err(Error::new(ErrorKind::Data, "there is nothing to predict").on(path.as_ref().display())),
        }
    }

    fn preds_of_unlabelled(&self, loader: &DataLoader) -> Result<Predictions> {
        predictions(&self.model, loader, |batch| self.inputs(batch, Subset::Valid, 0), &self.loss)
    }
}

/// Runs a model over a loader in evaluation mode.
pub(super) fn predictions(
    model: &dyn Module,
    loader: &DataLoader,
    inputs: impl Fn(&crate::data::Batch) -> Result<Tensor>,
    loss: &crate::ops::cross_entropy::CrossEntropy,
) -> Result<Predictions> {
    let mut all = Predictions {
        paths: Vec::new(),
        probabilities: Vec::new(),
        targets: Vec::new(),
        decoded: Vec::new(),
        losses: Vec::new(),
        metrics: Vec::new(),
    };
    for batch in loader.epoch(0) {
        let batch = batch?;
        let logits = autograd::no_grad(|| model.forward(&inputs(&batch)?, &Context::eval()))?;
        // A file without a label is one that doesn't count in the loss.
        let classes = batch.targets.into_categories()?;
        let known: Vec<i64> = classes.iter().map(|&t| if t < 0 { loss.ignore_index } else { t }).collect();
        let targets = Tensor::from_slice(&known, [known.len()], logits.device())?;
        all.losses.extend(cross_entropy_per_item(&logits, &targets, loss)?);
        all.decoded.extend(super::argmax(&logits)?);
        let probabilities = softmax(&logits)?.to_f64_vec()?;
        all.probabilities.extend(probabilities.chunks(logits.shape().channels()).map(<[f64]>::to_vec));
        all.targets.extend(&classes);
        all.paths.extend(batch.paths);
    }
    Ok(all)
}
