//! The linear layer on the processor: the products of [`crate::device::cpu::gemm`] with one run a row.

use crate::device::cpu::gemm::{Gather, Gemm, Outer, Packed, Run, gather_rows, sum_outer};
use crate::tensor::Float;

pub(super) fn forward<T: Gemm>([n, i, o]: [usize; 3], x: &[T], w: &[T], bias: Option<&[T]>, y: &mut [T]) {
    product(n, i, o, x, &Packed::from_columns(i, o, w), y);
    if let Some(bias) = bias {
        for row in y.chunks_exact_mut(o) {
            row.iter_mut().zip(bias).for_each(|(y, &b)| *y += b);
        }
    }
}

pub(super) fn input_gradient<T: Gemm>([n, i, o]: [usize; 3], dy: &[T], w: &[T], dx: &mut [T]) {
    product(n, o, i, dy, &Packed::from_rows(o, i, |row| &w[row * i..][..i]), dx);
}

pub(super) fn weight_gradient<T: Gemm>([n, i, o]: [usize; 3], x: &[T], dy: &[T], dw: &mut [T]) {
    let groups = [vec![Run { left: 0, right: 0, count: n }]];
    sum_outer(&Outer { left: dy, left_step: o, right: x, right_step: i, rows: o, cols: i, groups: &groups }, dw);
}

pub(super) fn bias_gradient<T: Float>(dy: &[T], db: &mut [T]) {
    let o = db.len();
    for (j, d) in db.iter_mut().enumerate() {
        *d = T::of(dy.iter().skip(j).step_by(o).map(|v| v.f64()).sum());
    }
}

/// `out[rows, cols] = a[rows, depth] · b[depth, cols]`
fn product<T: Gemm>(rows: usize, depth: usize, cols: usize, a: &[T], b: &Packed<T>, out: &mut [T]) {
    let locate = |m: usize, runs: &mut [u32]| {
        runs[0] = (m * depth) as u32;
        m * cols
    };
    gather_rows(&Gather { source: a, taps: 1, len: depth, rows, locate: &locate }, b, out);
}
