//! Cross entropy on the processor. A batch has a few thousand logits, so everything is computed in f64.

use super::CrossEntropy;
use crate::tensor::Float;

/// log sum exp of a row, by its largest element.
fn log_sum_exp<T: Float>(row: &[T]) -> f64 {
    let max = row.iter().fold(f64::NEG_INFINITY, |m, v| if v.is_nan() { f64::NAN } else { m.max(v.f64()) });
    if max == f64::NEG_INFINITY || !max.is_finite() {
        return max;
    }
    max + row.iter().map(|v| (v.f64() - max).exp()).sum::<f64>().ln()
}

fn weight(options: &CrossEntropy, target: i64) -> f64 {
    match &options.class_weights {
        _ if target == options.ignore_index => 0.0,
        Some(weights) => weights[target as usize],
        None => 1.0,
    }
}

/// The unweighted loss of a row.
fn row_loss<T: Float>(row: &[T], target: i64, lse: f64, smoothing: f64) -> f64 {
    let plain = lse - row[target as usize].f64();
    if smoothing == 0.0 {
        return plain;
    }
    let spread = row.iter().map(|v| lse - v.f64()).sum::<f64>() / row.len() as f64;
    (1.0 - smoothing) * plain + smoothing * spread
}

/// What the focal loss makes of a row's cross entropy, and its derivative.
fn focal(options: &CrossEntropy, ce: f64) -> (f64, f64) {
    let Some(gamma) = options.focal_gamma else { return (ce, 1.0) };
    let p = (-ce).exp();
    let missing = 1.0 - p;
    if missing <= 0.0 {
        // 0^(gamma - 1) would be infinite below 1. A row that cannot be better has no gradient.
        return (0.0, if gamma == 0.0 { 1.0 } else { 0.0 });
    }
    let power = missing.powf(gamma);
    (power * ce, power + gamma * missing.powf(gamma - 1.0) * p * ce)
}

pub(super) fn per_item<T: Float>(logits: &[T], targets: &[i64], options: &CrossEntropy) -> Vec<f64> {
    let c = logits.len() / targets.len().max(1);
    let one = |(row, &t): (&[T], &i64)| {
        let w = weight(options, t);
        if w == 0.0 { 0.0 } else { focal(options, w * row_loss(row, t, log_sum_exp(row), options.label_smoothing)).0 }
    };
    logits.chunks_exact(c.max(1)).zip(targets).map(one).collect()
}

pub(super) fn mean_and_gradient<T: Float>(
    logits: &[T],
    targets: &[i64],
    weights: Option<&[T]>,
    options: &CrossEntropy,
    dx: &mut [T],
) -> f64 {
    let c = logits.len() / targets.len();
    let by_rows = weights.is_some() || options.focal_gamma.is_some();
    let total = match by_rows {
        true => targets.len() as f64,
        false => targets.iter().map(|&t| weight(options, t)).sum(),
    };
    let (e, mut sum) = (options.label_smoothing, 0.0);
    for (i, ((row, &t), dx)) in logits.chunks_exact(c).zip(targets).zip(dx.chunks_exact_mut(c)).enumerate() {
        if t == options.ignore_index {
            dx.fill(T::ZERO);
            continue;
        }
        let (w, share) = (weight(options, t), weights.map_or(1.0, |w| w[i].f64()) / total);
        let lse = log_sum_exp(row);
        let (loss, slope) = focal(options, w * row_loss(row, t, lse, e));
        sum += share * loss;
        for (i, (dx, v)) in dx.iter_mut().zip(row).enumerate() {
            let hot = if i as i64 == t { 1.0 - e } else { 0.0 };
            *dx = T::of(share * slope * w * ((v.f64() - lse).exp() - hot - e / c as f64));
        }
    }
    sum
}

/// Logits become probabilities, in place.
pub(super) fn softmax<T: Float>(c: usize, x: &mut [T]) {
    for row in x.chunks_exact_mut(c) {
        let lse = log_sum_exp(row);
        row.iter_mut().for_each(|v| *v = T::of((v.f64() - lse).exp()));
    }
}

/// Rows whose largest element, the first of equals, is the target's.
pub(super) fn count_correct<T: Float>(c: usize, x: &[T], targets: &[i64]) -> i64 {
    let first_largest = |row: &[T]| (1..c).fold(0, |best, i| if row[i] > row[best] { i } else { best });
    x.chunks_exact(c.max(1)).zip(targets).filter(|(row, t)| first_largest(row) as i64 == **t).count() as i64
}
