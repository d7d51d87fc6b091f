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

/// The loss of a row with its classes' weights.
fn row_loss<T: Float>(row: &[T], target: i64, lse: f64, options: &CrossEntropy) -> f64 {
    let (e, plain) = (options.label_smoothing, weight(options, target) * (lse - row[target as usize].f64()));
    if e == 0.0 {
        return plain;
    }
    let spread = row.iter().zip(class_weights(options)).map(|(v, w)| w * (lse - v.f64())).sum::<f64>();
    (1.0 - e) * plain + e * spread / row.len() as f64
}

/// The weight of each class, without end where there are none.
fn class_weights(options: &CrossEntropy) -> impl Iterator<Item = f64> {
    let weights = options.class_weights.as_deref();
    (0..).map(move |c| weights.map_or(1.0, |w| w[c]))
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
    let one = |(row, &t): (&[T], &i64)| match t == options.ignore_index {
        true => 0.0,
        false => focal(options, row_loss(row, t, log_sum_exp(row), options)).0,
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
    // What label smoothing gives each class for its weight, and all of them together.
    let each = e / c as f64;
    let all = each * class_weights(options).take(c).sum::<f64>();
    for (i, ((row, &t), dx)) in logits.chunks_exact(c).zip(targets).zip(dx.chunks_exact_mut(c)).enumerate() {
        if t == options.ignore_index {
            dx.fill(T::ZERO);
            continue;
        }
        let (hot, share) = ((1.0 - e) * weight(options, t), weights.map_or(1.0, |w| w[i].f64()) / total);
        let lse = log_sum_exp(row);
        let (loss, slope) = focal(options, row_loss(row, t, lse, options));
        sum += share * loss;
        for (i, ((dx, v), w)) in dx.iter_mut().zip(row).zip(class_weights(options)).enumerate() {
            let target = if i as i64 == t { hot } else { 0.0 };
            *dx = T::of(share * slope * ((hot + all) * (v.f64() - lse).exp() - target - each * w));
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
