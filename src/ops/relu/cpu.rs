//! ReLU on the processor.

use crate::device::cpu::{PIECE, par_chunks_mut, simd::vectorized};
use crate::tensor::Float;

pub(super) fn forward<T: Float>(x: &[T], y: &mut [T]) {
    par_chunks_mut(y, PIECE, |i, y| rectify(&x[i * PIECE..], y));
}

vectorized! {
    fn rectify<T: Float>(x: &[T], y: &mut [T]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = if x <= T::ZERO { T::ZERO } else { x };
        }
    }
}

/// `dy` becomes `dx`: it is set to 0 where `y` was clipped.
pub(super) fn backward<T: Float>(y: &[T], dy: &mut [T]) {
    par_chunks_mut(dy, PIECE, |i, dy| clear(&y[i * PIECE..], dy));
}

vectorized! {
    fn clear<T: Float>(y: &[T], dy: &mut [T]) {
        for (dy, &y) in dy.iter_mut().zip(y) {
            *dy = if y > T::ZERO { *dy } else { T::ZERO };
        }
    }
}
