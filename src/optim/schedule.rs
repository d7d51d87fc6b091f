//! Curves that a hyper-parameter follows during training.
//!
//! A schedule maps the position in training, 0 at the first batch and 1 after the last, to a value. [`one_cycle`] is Leslie
//! Smith's policy as fastai has it: up along half a cosine, then down along another (*Super-Convergence*, 2017).

use crate::{Error, ErrorKind, Result};
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

/// Schedules one after the other, each with its part of the whole; the last one goes on to the end. fastai: `combine_scheds`.
pub fn combine(parts: Vec<(f64, Schedule)>) -> Schedule {
    Arc::new(move |position| {
        let (mut start, last) = (0.0, parts.len().saturating_sub(1));
        for (i, (part, schedule)) in parts.iter().enumerate() {
            if position < start + part || i == last {
                return schedule(((position - start) / part).clamp(0.0, 1.0));
            }
            start += part;
        }
        f64::NAN // of no parts
    })
}

/// `lr` for the first fraction `pct_start`, then down to `lr / div_final` along half a cosine: fastai's `fit_flat_cos`.
pub fn flat_cos(lr: f64, div_final: f64, pct_start: f64) -> Schedule {
    Arc::new(move |position| match position < pct_start || pct_start >= 1.0 {
        true => lr,
        false => cos(lr, lr / div_final, (position - pct_start) / (1.0 - pct_start)),
    })
}

/// Half a cosine from `lr_max` down to 0, again and again, each time `cycle_mult` as long as before: SGDR (Loshchilov and Hutter,
/// 2017), fastai's `fit_sgdr`.
pub fn sgdr(lr_max: f64, n_cycles: usize, cycle_mult: f64) -> Schedule {
    let lengths: Vec<f64> = (0..n_cycles).map(|i| cycle_mult.powi(i as i32)).collect();
    let whole: f64 = lengths.iter().sum();
    let cycle: Schedule = Arc::new(move |q| cos(lr_max, 0.0, q));
    combine(lengths.into_iter().map(|length| (length / whole, cycle.clone())).collect())
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

impl OneCycle {
    /// # Errors
    /// [`ErrorKind::Argument`] naming the number that is out of range.
    pub(crate) fn check(&self) -> Result<()> {
        let OneCycle { div, div_final, pct_start, moms } = *self;
        for (name, value) in [("div", div), ("div_final", div_final)] {
            if !(value.is_finite() && value > 0.0) {
                return Err(out_of_range(name, value, "above 0"));
            }
        }
        if !(pct_start > 0.0 && pct_start <= 1.0) {
            return Err(out_of_range("pct_start", pct_start, "above 0 and at most 1, such as 0.25"));
        }
        match [moms.0, moms.1, moms.2].into_iter().find(|mom| !(0.0..1.0).contains(mom)) {
            Some(mom) => Err(out_of_range("moms", mom, "at least 0 and below 1, such as 0.95")),
            None => Ok(()),
        }
    }
}

/// A number that a schedule cannot follow.
pub(crate) fn out_of_range(name: &str, value: f64, range: &str) -> Error {
    Error::new(ErrorKind::Argument, format!("{value} is out of range")).on(name).remedy(format!("use a number {range}"))
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
        let restarts = sgdr(1.0, 2, 2.0); // a third of the time, then two
        [(0.0, 1.0), (1.0 / 6.0, 0.5), (1.0 / 3.0, 1.0), (2.0 / 3.0, 0.5), (1.0, 0.0)]
            .into_iter()
            .for_each(|(at, value)| close(restarts(at), value));
        assert!(combine(Vec::new())(0.5).is_nan());
    }
}
