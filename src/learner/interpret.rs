//! Where a classifier errs: confusion matrix, most confused classes, top losses. fastai's `ClassificationInterpretation`.
//!
//! ```no_run
//! # use onecycle::prelude::*;
//! # fn demo(learn: Learner) -> Result<()> {
//! let interp = Interpretation::from_learner(&learn)?;
//! println!("{}", interp.classification_report());
//! for (actual, predicted, times) in interp.most_confused(2) {
//!     println!("{actual} was taken for {predicted} {times} times");
//! }
//! for worst in interp.top_losses(9, true) {
//!     println!("{} {:.2}", worst.path.display(), worst.loss);
//! }
//! # Ok(()) }
//! ```
//!
//! **The set is predicted once**, when the interpretation is made, and everything is read from those predictions; fastai predicts
//! again for each question. Memory: the predictions (8 bytes for each item and class), and `n_classes`² counts for a matrix,
//! however many items were counted. Pictures are not kept: a plot opens the ones that it shows.

use super::{ClassificationReport, Learner, Predictions};
use crate::data::DataLoader;
use crate::{Error, ErrorKind, Result};
use std::fmt;
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

    /// Each row as shares of its sum: of the items of a class, the share that was taken for each class. A class without items has a row of
    /// zeros.
    pub fn normalized(&self) -> Vec<Vec<f64>> {
        let row = |counts: &Vec<usize>| {
            let sum = counts.iter().sum::<usize>().max(1) as f64;
            counts.iter().map(|&n| n as f64 / sum).collect()
        };
        self.counts.iter().map(row).collect()
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

/// Predictions over a set, looked at from several sides; see the top of `interpret.rs`.
#[derive(Clone)]
pub struct Interpretation {
    vocab: Vec<String>,
    predictions: Predictions,
    /// (place, true, predicted) of items with a label.
    classes: Vec<(usize, usize, usize)>,
    /// How the pictures looked to the network; unknown of predictions that were handed in.
    #[cfg(feature = "plot")]
    pub(super) seen: Option<super::show_results::Seen>,
}

impl Interpretation {
    /// From one pass over the learner's validation set.
    ///
    /// # Errors
    /// When a picture can't be read, or the targets are no classes.
    pub fn from_learner(learn: &Learner) -> Result<Interpretation> {
        Interpretation::from_dl(learn, &learn.dls().valid)
    }

    /// From one pass over any loader, such as the training set's or a labelled test set's. fastai: `from_learner(learn, dl=..)`.
    ///
    /// # Errors
    /// When a picture can't be read, or the targets are no classes.
    pub fn from_dl(learn: &Learner, loader: &DataLoader) -> Result<Interpretation> {
        let interp = Interpretation::new(learn.dls().vocab().to_vec(), learn.preds_of(loader)?)?;
        #[cfg(feature = "plot")]
        let interp = Interpretation { seen: Some(super::show_results::Seen::new(learn, loader)), ..interp };
        Ok(interp)
    }

    /// From predictions that are there, such as those of [`Learner::tta`].
    ///
    /// # Errors
    /// [`ErrorKind::Data`] when their targets are no classes; [`ErrorKind::Argument`] when a class has no name.
    pub fn new(vocab: Vec<String>, predictions: Predictions) -> Result<Interpretation> {
        let classes = predictions.classes()?;
        if let Some((place, ..)) = classes.iter().find(|(_, a, p)| *a.max(p) >= vocab.len()) {
            let message = format!("item {place} has a class that is none of the {} of the vocabulary", vocab.len());
            return Err(Error::new(ErrorKind::Argument, message).on("vocab").remedy("use the data's: dls.vocab()"));
        }
        Ok(Interpretation {
            vocab,
            predictions,
            classes,
            #[cfg(feature = "plot")]
            seen: None,
        })
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

    /// [`ConfusionMatrix::most_confused`] of the whole set.
    pub fn most_confused(&self, min_val: usize) -> Vec<(String, String, usize)> {
        self.confusion_matrix().most_confused(min_val)
    }

    /// [`ConfusionMatrix::classification_report`] of the whole set. fastai prints it: `print_classification_report`.
    pub fn classification_report(&self) -> ClassificationReport {
        self.confusion_matrix().classification_report()
    }

    /// The `k` items with the largest losses, or the smallest; none where no losses were computed.
    pub fn top_losses(&self, k: usize, largest: bool) -> Vec<TopLoss> {
        let p = &self.predictions;
        let mut order = self.classes.clone();
        order.retain(|&(i, ..)| i < p.losses.len());
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
            probability: p.probabilities.get(i).and_then(|row| row.get(predicted)).copied().unwrap_or(f64::NAN),
        };
        order.into_iter().take(k).map(item).collect()
    }
}

impl fmt::Debug for Interpretation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interpretation").field("vocab", &self.vocab).field("items", &self.predictions.len()).finish()
    }
}
