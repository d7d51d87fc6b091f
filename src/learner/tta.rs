//! Test-time augmentation: a picture is predicted in several augmented versions, and the answers are averaged. fastai's `tta`.
//!
//! ```no_run
//! # use onecycle::prelude::*;
//! # fn demo(learn: Learner) -> Result<()> {
//! let preds = learn.tta()?;
//! println!("error rate {:?} instead of {:?}", preds.error_rate(), learn.get_preds()?.error_rate());
//! # Ok(()) }
//! ```
//!
//! `n` passes go over the set with the transforms of *training*, each with other draws, and one pass with those of validation. With
//! the mean `A` of the first and the probabilities `P` of the last, the result is `A + beta (P - A)`: a quarter of it is what the
//! plain picture says. With [`Tta::use_max`] each probability is the largest of all passes instead, and a row's sum is no longer 1.
//!
//! Pass `k` draws what epoch `k` would (seed, epoch, item), so the result is a function of the learner's seed and of the set. It costs `n + 1`
//! times [`Learner::get_preds`].

use super::{GetPreds, Learner, Predictions};
use crate::data::{DataLoader, Subset};
use crate::{Error, ErrorKind, Result};

/// How much [`Learner::tta_with`] does; the defaults are fastai's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tta {
    /// Augmented passes.
    pub n: usize,
    /// The plain pass's share of the result, 0 to 1.
    pub beta: f64,
    /// The largest probability of all passes instead of a mean.
    pub use_max: bool,
}

impl Default for Tta {
    fn default() -> Tta {
        Tta { n: 4, beta: 0.25, use_max: false }
    }
}

impl Learner {
    /// Predictions over the validation set with four augmented passes.
    ///
    /// # Errors
    /// When a picture can't be read.
    pub fn tta(&self) -> Result<Predictions> {
        self.tta_with(&self.dls.valid, &Tta::default())
    }

    /// [`Learner::tta`] over any loader, in the order of its items. Losses and metrics are of single passes, so there are none here;
    /// [`Predictions::error_rate`] is of the averages.
    ///
    /// # Errors
    /// When a picture can't be read; [`ErrorKind::Argument`] without a pass, or with a share outside 0 to 1.
    pub fn tta_with(&self, loader: &DataLoader, how: &Tta) -> Result<Predictions> {
        if !(0.0..=1.0).contains(&how.beta) {
            let message = format!("the plain pass can't have the share {}", how.beta);
            return Err(Error::new(ErrorKind::Argument, message).on("beta").remedy("use a number from 0 to 1"));
        }
        let (augmented, mut plain) = self.tta_parts(loader, how.n, how.use_max)?;
        let join = |a: f64, p: f64| if how.use_max { a.max(p) } else { a + how.beta * (p - a) };
        for (row, augmented) in plain.probabilities.iter_mut().zip(augmented) {
            row.iter_mut().zip(augmented).for_each(|(p, a)| *p = join(a, *p));
        }
        plain.decoded = plain.probabilities.iter().map(|row| self.loss.decodes(row)).collect();
        Ok(plain)
    }

    /// The two parts of [`Learner::tta_with`] apart: the mean, or the maximum, of `n` augmented passes, a row an item, and the plain
    /// predictions. fastai: `tta(beta=None)`.
    ///
    /// # Errors
    /// When a picture can't be read; [`ErrorKind::Argument`] when `n` is 0.
    pub fn tta_parts(&self, loader: &DataLoader, n: usize, use_max: bool) -> Result<(Vec<Vec<f64>>, Predictions)> {
        if n == 0 {
            let error = Error::new(ErrorKind::Argument, "there must be an augmented pass").on("n");
            return Err(error.remedy("use 1 or more; get_preds is the plain pass alone"));
        }
        let gather = GetPreds { with_decoded: false, with_loss: false, ..GetPreds::default() };
        let as_trained = loader.in_order(Subset::Train);
        let mut all: Vec<Vec<f64>> = Vec::new();
        for pass in 0..n as u64 {
            let one = self.predictions(&as_trained, &[], &gather, (Subset::Train, pass))?.probabilities;
            if all.is_empty() {
                all = one;
                continue;
            }
            for (row, more) in all.iter_mut().zip(one) {
                row.iter_mut().zip(more).for_each(|(a, b)| *a = if use_max { a.max(b) } else { *a + b });
            }
        }
        if !use_max {
            all.iter_mut().flatten().for_each(|sum| *sum /= n as f64);
        }
        let plain = self.predictions(&loader.in_order(Subset::Valid), &[], &gather, (Subset::Valid, 0))?;
        Ok((all, plain))
    }
}
