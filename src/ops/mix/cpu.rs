//! Mixed pictures on the processor.

use super::Patch;
use crate::device::cpu::par_chunks_mut;
use crate::tensor::Float;

pub(super) fn mix_up<T: Float>(x: &[T], partners: &[usize], shares: &[f32], y: &mut [T]) {
    let n = x.len() / partners.len();
    par_chunks_mut(y, n, |i, y| {
        let (own, other) = (&x[i * n..][..n], &x[partners[i] * n..][..n]);
        let (share, rest) = (T::of(shares[i].into()), T::of((1.0 - shares[i]).into()));
        for ((y, &own), &other) in y.iter_mut().zip(own).zip(other) {
            *y = share * own + rest * other;
        }
    });
}

/// Lines of pictures have `w` pixels of `c` numbers.
pub(super) fn cut_mix<T: Float>(x: &[T], partners: &[usize], patch: Patch, [w, c]: [usize; 2], y: &mut [T]) {
    let n = x.len() / partners.len();
    par_chunks_mut(y, n, |i, y| {
        y.copy_from_slice(&x[i * n..][..n]);
        for row in patch.top..patch.bottom {
            let part = (row * w + patch.left) * c..(row * w + patch.right) * c;
            y[part.clone()].copy_from_slice(&x[partners[i] * n..][part]);
        }
    });
}
