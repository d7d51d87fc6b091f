//! Training on mixed pictures: MixUp and CutMix.
//!
//! Each picture of a batch is mixed with another one of it, its partner, and so is what is asked for: the loss is
//! `share l(pred, y) + (1 - share) l(pred, y[partner])`, averaged over the batch, which works for every [`Loss`]. The table's
//! `train_loss` is that of the mixed pictures, and higher for it; validation is untouched. What is drawn depends on the seed, the
//! epoch and the batch alone. One of the two at a time: a second one is refused, since it would mix the targets of the first away.

use super::super::callback::{BEFORE_BATCH, BEFORE_FIT, Callback, Event, Signal};
use super::super::{Learner, Loss};
use crate::ops::mix::Patch;
use crate::rng::{Purpose, Rng};
use crate::{Error, ErrorKind, Result, Tensor, ops};

/// The second targets of a batch.
#[derive(Debug)]
pub(in crate::learner) struct Mixed {
    targets: Tensor,
    /// The first targets' part in each item's loss, `[N]`.
    shares: Tensor,
    /// What is left for the second ones.
    rest: Tensor,
}

impl Mixed {
    fn new(y: &Tensor, partners: &[usize], shares: &[f32]) -> Result<Mixed> {
        let rest: Vec<f32> = shares.iter().map(|share| 1.0 - share).collect();
        let column = |values: &[f32]| Tensor::from_slice(values, [values.len()], y.device());
        Ok(Mixed { targets: ops::take_rows(y, partners)?, shares: column(shares)?, rest: column(&rest)? })
    }

    /// The mean of both losses over the batch.
    pub fn loss(&self, loss: &dyn Loss, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
        let own = loss.mean(pred, y, Some(&self.shares))?;
        ops::add(&own, &loss.mean(pred, &self.targets, Some(&self.rest))?)
    }
}

impl Learner {
    /// During a training batch, before its predictions: item `i` shall also be what its partner is. The loss of its own target counts
    /// `shares[i]`, that of its partner's the rest.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] when a partner is not in the batch, or there is not one partner and one share for each item;
    /// [`ErrorKind::Argument`] when this batch is mixed already: the first partners would be in the pictures and not in the loss.
    pub fn mix_targets(&mut self, partners: &[usize], shares: &[f32]) -> Result<()> {
        let Some(y) = &self.at.y else { return Ok(()) };
        if partners.len() != self.batch_len() || shares.len() != partners.len() {
            let message =
                format!("{} partners and {} shares for {} items", partners.len(), shares.len(), self.batch_len());
            return Err(Error::shape("mix_targets", message));
        }
        if self.at.mixed.is_some() {
            let error = Error::new(ErrorKind::Argument, "the batch is mixed already, by another callback");
            return Err(error.on("mix_targets").remedy("use one of MixUp and CutMix at a time"));
        }
        self.at.mixed = Some(Mixed::new(y, partners, shares)?);
        Ok(())
    }

    /// The numbers of this batch.
    fn mixing_rng(&self) -> Rng {
        Rng::at(self.seed, Purpose::Mix, self.epochs_seen, self.at.iter as u64)
    }
}

fn check(alpha: f64) -> Signal {
    match alpha.is_finite() && alpha > 0.0 {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::Argument, format!("Beta({alpha}, {alpha}) is no distribution"))
            .on("alpha")
            .remedy("use a number above 0, such as 0.4")
            .into()),
    }
}

/// Trains on weighted means of two pictures: fastai's `MixUp` (Zhang et al., *mixup: Beyond Empirical Risk Minimization*, 2018). The share of
/// a picture is drawn from Beta(alpha, alpha), each its own, and is at least a half: no picture is mixed into its partner's copy twice.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MixUp {
    /// How strongly: with 0.4 most shares are near 1, with 1 they are uniform.
    pub alpha: f64,
}

impl Default for MixUp {
    fn default() -> Self {
        MixUp { alpha: 0.4 }
    }
}

impl Callback for MixUp {
    fn name(&self) -> &'static str {
        "MixUp"
    }

    fn events(&self) -> Option<&'static [Event]> {
        Some(&[BEFORE_FIT, BEFORE_BATCH])
    }

    fn before_fit(&mut self, _: &mut Learner) -> Signal {
        check(self.alpha)
    }

    fn before_batch(&mut self, learn: &mut Learner) -> Signal {
        let Some(x) = learn.x().filter(|_| learn.is_training()).cloned() else { return Ok(()) };
        let mut rng = learn.mixing_rng();
        let share = |rng: &mut Rng| {
            let share = rng.beta(self.alpha, self.alpha);
            share.max(1.0 - share) as f32
        };
        let shares: Vec<f32> = (0..learn.batch_len()).map(|_| share(&mut rng)).collect();
        let partners = rng.permutation(shares.len());
        learn.set_x(ops::mix_up(&x, &partners, &shares)?);
        Ok(learn.mix_targets(&partners, &shares)?)
    }
}

/// Trains on pictures in which a rectangle is another picture's: fastai's `CutMix` (Yun et al., 2019). One rectangle a batch, whose area
/// is drawn from Beta(alpha, alpha) and whose centre is anywhere; what of it lies in the picture is its share in the loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CutMix {
    /// 1 for areas of every size, less for very small and very large ones.
    pub alpha: f64,
}

impl Default for CutMix {
    fn default() -> Self {
        CutMix { alpha: 1.0 }
    }
}

impl CutMix {
    /// The rectangle around a centre: sides of `sqrt(1 - share)` of the picture's, cut at its edges.
    fn patch([h, w]: [usize; 2], share: f64, centre: [f64; 2]) -> Patch {
        let side = (1.0 - share).sqrt();
        let span = |size: usize, centre: f64| {
            let (half, centre) =
                ((size as f64 * side).round_ties_even() as usize / 2, centre.round_ties_even() as usize);
            (centre.saturating_sub(half).min(size), (centre + half).min(size))
        };
        let ((top, bottom), (left, right)) = (span(h, centre[0]), span(w, centre[1]));
        Patch { top, bottom, left, right }
    }
}

impl Callback for CutMix {
    fn name(&self) -> &'static str {
        "CutMix"
    }

    fn events(&self) -> Option<&'static [Event]> {
        Some(&[BEFORE_FIT, BEFORE_BATCH])
    }

    fn before_fit(&mut self, _: &mut Learner) -> Signal {
        check(self.alpha)
    }

    fn before_batch(&mut self, learn: &mut Learner) -> Signal {
        let Some(x) = learn.x().filter(|_| learn.is_training()).cloned() else { return Ok(()) };
        let [n, h, w, _] = x.dims4("CutMix")?;
        let mut rng = learn.mixing_rng();
        let share = rng.beta(self.alpha, self.alpha);
        let patch = CutMix::patch([h, w], share, [rng.range(0.0, h as f64), rng.range(0.0, w as f64)]);
        let partners = rng.permutation(n);
        learn.set_x(ops::cut_mix(&x, &partners, patch)?);
        let area = (patch.bottom - patch.top) * (patch.right - patch.left);
        let share = 1.0 - area as f64 / (h * w) as f64;
        Ok(learn.mix_targets(&partners, &vec![share as f32; n])?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rectangle_has_the_area_that_is_left_and_stays_inside() {
        let middle = CutMix::patch([20, 40], 0.75, [10.0, 20.0]);
        assert_eq!(middle, Patch { top: 5, bottom: 15, left: 10, right: 30 });
        let corner = CutMix::patch([20, 40], 0.75, [0.0, 39.7]);
        assert_eq!(corner, Patch { top: 0, bottom: 5, left: 30, right: 40 });
        let nothing = CutMix::patch([20, 40], 1.0, [3.0, 3.0]);
        assert_eq!((nothing.top, nothing.left), (nothing.bottom, nothing.right));
        assert_eq!(CutMix::patch([20, 40], 0.0, [10.0, 20.0]), Patch { top: 0, bottom: 20, left: 0, right: 40 });
    }
}
