//! Where a classifier errs: confusion matrix, most confused classes, top losses. fastai's `ClassificationInterpretation`.

use super::{Learner, Predictions};
use crate::Result;
use std::path::PathBuf;

/// Counts of items by actual class (row) and predicted class (column).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfusionMatrix {
    /// Class names.
    pub vocab: Vec<String>,
    /// `counts[actual][predicted]`.
    pub counts: Vec<Vec<usize>>,
}

impl ConfusionMatrix {
    /// Pairs of classes that were confused at least `min_val` times: (actual, predicted, count), most often first, equal
    /// counts in the matrix's order.
    pub fn most_confused(&self, min_val: usize) -> Vec<(String, String, usize)> {
        let mut pairs = Vec::new();
        for (a, row) in self.counts.iter().enumerate() {
            for (p, &n) in row.iter().enumerate() {
                if a != p && n >= min_val.max(1) {
                    pairs.push((self.vocab[a].clone(), self.vocab[p].clone(), n));
                }
            }
        }
        pairs.sort_by_key(|(_, _, n)| std::cmp::Reverse(*n)); // stable
        pairs
    }

    /// For every class: items, right ones, and how often it was predicted.
    pub fn per_class(&self) -> Vec<(String, usize, usize, usize)> {
        let predicted = |c: usize| self.counts.iter().map(|row| row[c]).sum();
        let row = |c: usize| (self.vocab[c].clone(), self.counts[c].iter().sum(), self.counts[c][c], predicted(c));
        (0..self.vocab.len()).map(row).collect()
    }
}

/// An item with its loss.
#[derive(Clone, Debug, PartialEq)]
pub struct TopLoss {
    /// Its place in the set.
    pub index: usize,
    /// Its file.
    pub path: PathBuf,
    /// Its loss.
    pub loss: f64,
    /// Its class.
    pub actual: String,
    /// What the model took it for.
    pub predicted: String,
    /// The probability of what the model took it for.
    pub probability: f64,
}

/// Predictions over a set, looked at from several sides.
#[derive(Clone, Debug)]
pub struct Interpretation {
    vocab: Vec<String>,
    predictions: Predictions,
    /// (place, true, predicted) of items with a label.
    classes: Vec<(usize, usize, usize)>,
}

impl Interpretation {
    /// From one pass over the learner's validation set.
    ///
    /// # Errors
    /// When a picture can't be read, or the targets are no classes.
    pub fn from_learner(learn: &Learner) -> Result<Interpretation> {
        Interpretation::new(learn.dls().vocab().to_vec(), learn.get_preds()?)
    }

    /// From predictions that are there.
    ///
    /// # Errors
    /// [`ErrorKind::Data`](crate::ErrorKind::Data) when their targets are no classes.
    pub fn new(vocab: Vec<String>, predictions: Predictions) -> Result<Interpretation> {
        let classes = predictions.classes()?;
        Ok(Interpretation { vocab, predictions, classes })
    }

    /// The predictions.
    pub fn predictions(&self) -> &Predictions {
        &self.predictions
    }

    /// The confusion matrix; items without a label don't count.
    pub fn confusion_matrix(&self) -> ConfusionMatrix {
        let mut counts = vec![vec![0; self.vocab.len()]; self.vocab.len()];
        for &(_, actual, predicted) in &self.classes {
            if let Some(n) = counts.get_mut(actual).and_then(|row| row.get_mut(predicted)) {
                *n += 1;
            }
        }
        ConfusionMatrix { vocab: self.vocab.clone(), counts }
    }

    /// The `k` items with the largest losses, or the smallest.
    pub fn top_losses(&self, k: usize, largest: bool) -> Vec<TopLoss> {
        let p = &self.predictions;
        let mut order = self.classes.clone();
        order.sort_by(|&(a, ..), &(b, ..)| {
            let by_loss = p.losses[a].total_cmp(&p.losses[b]);
            if largest { by_loss.reverse() } else { by_loss }
        });
        let item = |(i, actual, predicted): (usize, usize, usize)| TopLoss {
            index: i,
            path: p.paths.get(i).cloned().unwrap_or_default(),
            loss: p.losses[i],
            actual: self.vocab[actual].clone(),
            predicted: self.vocab[predicted].clone(),
            probability: p.probabilities[i][predicted],
        };
        order.into_iter().take(k).map(item).collect()
    }
}
