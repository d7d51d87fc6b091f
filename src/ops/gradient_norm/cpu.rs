//! The gradients' norm on the processor: f64 sums of pieces, added in order.

use crate::device::cpu::{PIECE, par_chunks_mut};
use crate::tensor::Float;

pub(super) fn scale<T: Float>(d: &mut [T], factor: f64) {
    let factor = T::of(factor);
    par_chunks_mut(d, PIECE, |_, d| d.iter_mut().for_each(|v| *v *= factor));
}

pub(super) fn add_to<T: Float>(d: &[T], squares: &mut f64, bad: &mut i64) {
    let mut sums = vec![(0f64, 0i64); d.len().div_ceil(PIECE)];
    par_chunks_mut(&mut sums, 1, |i, sum| {
        for v in d[i * PIECE..].iter().take(PIECE) {
            let v = v.f64();
            sum[0].0 += v * v;
            sum[0].1 += i64::from(!v.is_finite());
        }
    });
    for (sum, count) in sums {
        *squares += sum;
        *bad += count;
    }
}
