//! Addition on the processor.

use crate::device::cpu::{PIECE, par_chunks_mut, simd::vectorized};
use crate::tensor::Float;

pub(super) fn forward<T: Float>(a: &[T], b: &[T], y: &mut [T]) {
    par_chunks_mut(y, PIECE, |i, y| sum(&a[i * PIECE..], &b[i * PIECE..], y));
}

vectorized! {
    fn sum<T: Float>(a: &[T], b: &[T], y: &mut [T]) {
        for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
            *y = a + b;
        }
    }
}
