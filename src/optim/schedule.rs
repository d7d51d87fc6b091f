//! Curves that a hyper-parameter follows during training.
//!
//! A schedule maps the position in training, 0 at the first batch and 1 after the last, to a value. [`one_cycle`] is Leslie
//! Smith's policy as fastai has it: up along half a cosine, then down along another (*Super-Convergence*, 2017).

use std::f64::consts::PI;
use std::sync::Arc;

/// A hyper-parameter's value at a position in `0..=1`.
pub type Schedule = Arc<dyn Fn(f64) -> f64 + Send + Sync>;

/// From `start` to `end` along half a cosine.
pub fn cos(start: f64, end: f64, q: f64) -> f64 {
    start + (1.0 + (PI * (1.0 - q)).cos()) * (end - start) / 2.0
}

/// From `start` to `end` in a straight line.
pub fn lin(start: f64, end: f64, q: f64) -> f64 {
    start + q * (end - start)
}

/// From `start` to `end`, multiplying by the same factor at every step.
pub fn exp(start: f64, end: f64, q: f64) -> f64 {
    start * (end / start).powf(q)
}

/// `start` to `middle` along a cosine on the first fraction `pct`, then `middle` to `end` along another: fastai's `combined_cos`.
pub fn combined_cos(pct: f64, start: f64, middle: f64, end: f64) -> Schedule {
    Arc::new(move |position| {
        if position < pct || pct >= 1.0 {
            cos(start, middle, (position / pct).min(1.0))
        } else {
            cos(middle, end, (position - pct) / (1.0 - pct))
        }
    })
}

/// The settings of a one-cycle fit; the default is fastai's `fit_one_cycle`.
#[derive(Clone, Debug, PartialEq)]
pub struct OneCycle {
    /// The first learning rate is the largest divided by this.
    pub div: f64,
    /// The last learning rate is the largest divided by this.
    pub div_final: f64,
    /// Fraction of the training after which the largest is reached.
    pub pct_start: f64,
    /// Momentum at the start, at the largest learning rate, and at the end.
    pub moms: (f64, f64, f64),
}

impl Default for OneCycle {
    fn default() -> Self {
        OneCycle { div: 25.0, div_final: 1e5, pct_start: 0.25, moms: (0.95, 0.85, 0.95) }
    }
}

/// The learning rate's and the momentum's schedule for a largest learning rate.
pub fn one_cycle(lr_max: f64, c: &OneCycle) -> (Schedule, Schedule) {
    let lr = combined_cos(c.pct_start, lr_max / c.div, lr_max, lr_max / c.div_final);
    let mom = combined_cos(c.pct_start, c.moms.0, c.moms.1, c.moms.2);
    (lr, mom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_and_peak() {
        let (lr, mom) = one_cycle(1.0, &OneCycle::default());
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
        close(lr(0.0), 1.0 / 25.0);
        close(lr(0.25), 1.0);
        close(lr(1.0), 1e-5);
        close(mom(0.0), 0.95);
        close(mom(0.25), 0.85);
        close(mom(1.0), 0.95);
        close(exp(1e-4, 1e-2, 0.5), 1e-3);
        close(lin(1.0, 3.0, 0.25), 1.5);
    }
}
