//! Max pooling on the processor.

use super::Geometry;
use crate::device::cpu::{par_chunks_mut, par_chunks2_mut, simd::vectorized};
use crate::tensor::Float;

impl Geometry {
    /// The windows' taps that lie inside the picture, for output row or column `i` of an axis of `size`: tap and position.
    fn taps(&self, i: usize, size: usize) -> impl Iterator<Item = (usize, usize)> + Clone {
        let (start, padding) = (i * self.stride, self.padding);
        (0..self.window)
            .filter(move |t| (start + t).wrapping_sub(padding) < size)
            .map(move |t| (t, start + t - padding))
    }

    /// The windows (of `count` along the axis) that cover input row or column `at`, each with the tap that sees it.
    fn windows(&self, at: usize, count: usize) -> impl Iterator<Item = (usize, usize)> {
        let (place, stride, window) = (at + self.padding, self.stride, self.window);
        let first = (place + 1).saturating_sub(window).div_ceil(stride);
        (first..(place / stride + 1).min(count)).map(move |i| (i, place - i * stride))
    }
}

pub(super) fn forward<T: Float>(g: &Geometry, x: &[T], y: &mut [T], winner: &mut [u8]) {
    let [_, h, w, c] = g.input;
    let [p, q] = g.output;
    let row = (q * c).max(1);
    par_chunks2_mut((y, winner), (row, row), |i, y, winner| {
        let picture = &x[i / p * h * w * c..][..h * w * c];
        for j in 0..q {
            let (y, winner) = (&mut y[j * c..][..c], &mut winner[j * c..][..c]);
            let mut first = true;
            for (r, row) in g.taps(i % p, h) {
                for (s, column) in g.taps(j, w) {
                    let x = &picture[(row * w + column) * c..][..c];
                    let tap = (r * g.window + s) as u8;
                    if std::mem::take(&mut first) {
                        y.copy_from_slice(x);
                        winner.fill(tap);
                    } else {
                        take_larger(x, tap, y, winner);
                    }
                }
            }
        }
    });
}

vectorized! {
    fn take_larger<T: Float>(x: &[T], tap: u8, y: &mut [T], winner: &mut [u8]) {
        for ((&x, y), winner) in x.iter().zip(y).zip(winner) {
            let wins = x > *y || (x.is_nan() && !y.is_nan());
            *y = if wins { x } else { *y };
            *winner = if wins { tap } else { *winner };
        }
    }
}

/// Every input row collects from the windows that cover it, in their order: nothing is written twice by two threads.
pub(super) fn backward<T: Float>(g: &Geometry, dy: &[T], winner: &[u8], dx: &mut [T]) {
    let [_, h, w, c] = g.input;
    let [p, q] = g.output;
    par_chunks_mut(dx, w * c, |row, dx| {
        dx.fill(T::ZERO);
        let (n, row) = (row / h, row % h);
        for (i, r) in g.windows(row, p) {
            for column in 0..w {
                for (j, s) in g.windows(column, q) {
                    let at = ((n * p + i) * q + j) * c;
                    let tap = (r * g.window + s) as u8;
                    collect(&dy[at..at + c], &winner[at..at + c], tap, &mut dx[column * c..][..c]);
                }
            }
        }
    });
}

vectorized! {
    fn collect<T: Float>(dy: &[T], winner: &[u8], tap: u8, dx: &mut [T]) {
        for ((&dy, &winner), dx) in dy.iter().zip(winner).zip(dx) {
            *dx += if winner == tap { dy } else { T::ZERO };
        }
    }
}
