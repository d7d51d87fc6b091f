//! Losses number by number on the processor, in f64.

use super::Pointwise;
use crate::tensor::Float;

/// A number's loss and its derivative.
fn one(loss: &Pointwise, column: usize, x: f64, y: f64) -> (f64, f64) {
    match loss {
        Pointwise::BceWithLogits { .. } => {
            let k = 1.0 + (loss.pos_weight().map_or(1.0, |w| w[column]) - 1.0) * y;
            let softplus = (-x).max(0.0) + (-x.abs()).exp().ln_1p(); // log(1 + exp(-x))
            ((1.0 - y) * x + k * softplus, (1.0 - y) - k / (1.0 + x.exp()))
        }
        Pointwise::Mse => ((x - y) * (x - y), 2.0 * (x - y)),
        // No sign at 0, as PyTorch's.
        Pointwise::L1 => ((x - y).abs(), if x == y { 0.0 } else { (x - y).signum() }),
    }
}

/// `x` and `targets` are [rows, columns], `weights` [rows].
pub(super) fn mean_and_gradient<T: Float>(
    loss: &Pointwise,
    rows: usize,
    x: &[T],
    targets: &[T],
    weights: Option<&[T]>,
    dx: &mut [T],
) -> f64 {
    let (columns, mut sum) = (x.len() / rows, 0.0);
    for (i, ((x, y), dx)) in x.iter().zip(targets).zip(dx).enumerate() {
        let share = weights.map_or(1.0, |w| w[i / columns].f64()) / (rows * columns) as f64;
        let (value, slope) = one(loss, i % columns, x.f64(), y.f64());
        sum += share * value;
        *dx = T::of(share * slope);
    }
    sum
}

pub(super) fn per_item<T: Float>(loss: &Pointwise, rows: usize, x: &[T], targets: &[T]) -> Vec<f64> {
    let columns = (x.len() / rows.max(1)).max(1);
    let row = |(x, y): (&[T], &[T])| {
        let sum: f64 = x.iter().zip(y).enumerate().map(|(c, (x, y))| one(loss, c, x.f64(), y.f64()).0).sum();
        if y.iter().any(|y| y.is_nan()) { 0.0 } else { sum / columns as f64 }
    };
    x.chunks_exact(columns).zip(targets.chunks_exact(columns)).map(row).collect()
}
