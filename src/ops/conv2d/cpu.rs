//! Convolution on the processor, as products of gathered rows (see [`crate::device::cpu::gemm`]): no column matrix is made.
//!
//! - **Forward**: one row per output pixel; its runs are the input pixels under the filter's taps, `C` numbers each.
//! - **Input gradient**: one row per input pixel; its runs are the output pixels that the taps send to it, `K` numbers each.
//!   With a stride, which taps reach a pixel depends on its position modulo the stride, so the pixels are done in
//!   `stride x stride` phases, each a dense product over its own taps: a 3x3 filter with stride 2 does 1 + 2 + 2 + 4 taps
//!   instead of 4 times 9 of which most would miss.
//! - **Weight gradient**: for every tap the sum over output pixels of an outer product.
//!
//! Pictures with few channels (the first layer has 3) would make runs too short to be worth a table look-up. There the
//! picture is copied once with its padding, and the `S * C` numbers under a filter row become one run.

use super::Geometry;
use crate::device::cpu::gemm::{ABSENT, Gather, Gemm, Outer, Packed, Run, gather_rows, sum_outer};
use crate::device::cpu::par_chunks_mut;
use crate::tensor::Float;

/// Below this many channels a filter row is one run over a padded copy.
const FEW_CHANNELS: usize = 16;

pub(super) fn forward<T: Gemm>(g: &Geometry, x: &[T], w: &[T], bias: Option<&[T]>, y: &mut [T]) {
    let weights = Packed::from_columns(g.r * g.s * g.c, g.k, w); // [R*S*C, K]
    let rows = g.n * g.p * g.q;
    if g.c < FEW_CHANNELS {
        let padded = Padded::new(g, x);
        let locate = |m: usize, runs: &mut [u32]| {
            let (n, p, q) = (m / g.q / g.p, m / g.q % g.p, m % g.q);
            for (r, run) in runs.iter_mut().enumerate() {
                *run = padded.at(n, p * g.stride[0] + r, q * g.stride[1]) as u32;
            }
            m * g.k
        };
        let a = Gather { source: &padded.data, taps: g.r, len: g.s * g.c, rows, locate: &locate };
        gather_rows(&a, &weights, y);
    } else {
        let locate = |m: usize, runs: &mut [u32]| {
            let (n, p, q) = (m / g.q / g.p, m / g.q % g.p, m % g.q);
            for r in 0..g.r {
                let h = (p * g.stride[0] + r).wrapping_sub(g.padding[0]);
                for s in 0..g.s {
                    let v = (q * g.stride[1] + s).wrapping_sub(g.padding[1]);
                    // A position left of or above the picture wraps to a huge number, so one comparison covers both sides.
                    let inside = h < g.h && v < g.w;
                    runs[r * g.s + s] = if inside { (((n * g.h + h) * g.w + v) * g.c) as u32 } else { ABSENT };
                }
            }
            m * g.k
        };
        gather_rows(&Gather { source: x, taps: g.r * g.s, len: g.c, rows, locate: &locate }, &weights, y);
    }
    if let Some(bias) = bias {
        par_chunks_mut(y, g.k * 256, |_, rows| {
            for row in rows.chunks_exact_mut(g.k) {
                row.iter_mut().zip(bias).for_each(|(y, &b)| *y += b);
            }
        });
    }
}

pub(super) fn input_gradient<T: Gemm>(g: &Geometry, dy: &[T], w: &[T], dx: &mut [T]) {
    for phase0 in 0..g.stride[0] {
        for phase1 in 0..g.stride[1] {
            // Input rows h with (h + padding) % stride == phase0, and the filter rows that reach them; columns likewise.
            let (first0, taps0) = phase(g.padding[0], g.stride[0], g.r, phase0);
            let (first1, taps1) = phase(g.padding[1], g.stride[1], g.s, phase1);
            let height = g.h.saturating_sub(first0).div_ceil(g.stride[0]);
            let width = g.w.saturating_sub(first1).div_ceil(g.stride[1]);
            let taps: Vec<(usize, usize)> = taps0.iter().flat_map(|&r| taps1.iter().map(move |&s| (r, s))).collect();
            // [taps * K, C]: row (t, k) is w[k, r, s, :]
            let weights = Packed::from_rows(taps.len() * g.k, g.c, |d| {
                let ((r, s), k) = (taps[d / g.k], d % g.k);
                &w[((k * g.r + r) * g.s + s) * g.c..][..g.c]
            });
            let locate = |m: usize, runs: &mut [u32]| {
                let (n, i, j) = (m / width / height, m / width % height, m % width);
                let (h, v) = (first0 + i * g.stride[0], first1 + j * g.stride[1]);
                for (run, &(r, s)) in runs.iter_mut().zip(&taps) {
                    let p = (h + g.padding[0]).wrapping_sub(r) as isize / g.stride[0] as isize;
                    let q = (v + g.padding[1]).wrapping_sub(s) as isize / g.stride[1] as isize;
                    let reaches = h + g.padding[0] >= r && v + g.padding[1] >= s;
                    let inside = reaches && (p as usize) < g.p && (q as usize) < g.q;
                    *run = if inside { (((n * g.p + p as usize) * g.q + q as usize) * g.k) as u32 } else { ABSENT };
                }
                ((n * g.h + h) * g.w + v) * g.c
            };
            let rows = g.n * height * width;
            gather_rows(&Gather { source: dy, taps: taps.len(), len: g.k, rows, locate: &locate }, &weights, dx);
        }
    }
}

/// The first input position of a phase (those with `(position + padding) % stride == phase`), and the taps that reach it.
fn phase(padding: usize, stride: usize, filter: usize, phase: usize) -> (usize, Vec<usize>) {
    let first = (phase + stride * padding - padding) % stride;
    (first, (phase..filter).step_by(stride).collect())
}

pub(super) fn weight_gradient<T: Gemm>(g: &Geometry, x: &[T], dy: &[T], dw: &mut [T]) {
    if g.c < FEW_CHANNELS {
        let padded = Padded::new(g, x);
        // The numbers under a filter row (7 * 3 = 21) are the rows of the product and the channels its columns: columns come in
        // whole vectors, and 21 of 32 lanes would waste a third of the arithmetic (61 ms instead of 46, of the first layer).
        let row = |r: usize| -> Vec<Run> {
            let of = |n: usize, p: usize| Run {
                left: padded.at(n, p * g.stride[0] + r, 0),
                right: (n * g.p + p) * g.q * g.k,
                count: g.q,
            };
            (0..g.n * g.p).map(|i| of(i / g.p, i % g.p)).collect()
        };
        let groups: Vec<Vec<Run>> = (0..g.r).map(row).collect();
        let (rows, left_step) = (g.s * g.c, g.stride[1] * g.c);
        let left = &padded.data;
        let a = Outer { left, left_step, right: dy, right_step: g.k, rows, cols: g.k, groups: &groups };
        let mut transposed = vec![T::ZERO; dw.len()]; // [S*C, R, K]
        sum_outer(&a, &mut transposed);
        for (k, dw) in dw.chunks_exact_mut(g.r * rows).enumerate() {
            for (i, dw) in dw.iter_mut().enumerate() {
                *dw = transposed[((i % rows) * g.r + i / rows) * g.k + k]; // [K, R, S*C]
            }
        }
        return;
    }
    let tap = |r: usize, s: usize| -> Vec<Run> {
        // Output columns whose pixel under this tap lies inside the picture: q * stride + s - padding in 0..W.
        let first = g.padding[1].saturating_sub(s).div_ceil(g.stride[1]);
        let end = (g.w + g.padding[1]).saturating_sub(s).div_ceil(g.stride[1]).min(g.q);
        let mut runs = Vec::with_capacity(g.n * g.p);
        for n in 0..g.n {
            for p in 0..g.p {
                let h = (p * g.stride[0] + r).wrapping_sub(g.padding[0]);
                if h < g.h && first < end {
                    let v = first * g.stride[1] + s - g.padding[1];
                    runs.push(Run {
                        left: ((n * g.p + p) * g.q + first) * g.k,
                        right: ((n * g.h + h) * g.w + v) * g.c,
                        count: end - first,
                    });
                }
            }
        }
        runs
    };
    let groups: Vec<Vec<Run>> = (0..g.r * g.s).map(|t| tap(t / g.s, t % g.s)).collect();
    let right_step = g.stride[1] * g.c;
    let a = Outer { left: dy, left_step: g.k, right: x, right_step, rows: g.k, cols: g.c, groups: &groups };
    sum_outer(&a, dw); // [K, R*S, C]
}

/// `db[k] = sum over pixels dy[pixel, k]`, in f64: there are up to a million pixels.
pub(super) fn bias_gradient<T: Float>(dy: &[T], db: &mut [T]) {
    let k = db.len();
    let mut sums = vec![0f64; k];
    for row in dy.chunks_exact(k) {
        sums.iter_mut().zip(row).for_each(|(sum, v)| *sum += v.f64());
    }
    db.iter_mut().zip(sums).for_each(|(d, sum)| *d = T::of(sum));
}

/// A copy of the pictures with their padding: `[N, H + 2p, W + 2p, C]`.
struct Padded<T> {
    data: Vec<T>,
    height: usize,
    width: usize,
    channels: usize,
}

impl<T: Float> Padded<T> {
    fn new(g: &Geometry, x: &[T]) -> Padded<T> {
        let (height, width) = (g.h + 2 * g.padding[0], g.w + 2 * g.padding[1]);
        let mut data = vec![T::ZERO; g.n * height * width * g.c];
        par_chunks_mut(&mut data, height * width * g.c, |n, picture| {
            for h in 0..g.h {
                let from = ((h + g.padding[0]) * width + g.padding[1]) * g.c;
                picture[from..][..g.w * g.c].copy_from_slice(&x[(n * g.h + h) * g.w * g.c..][..g.w * g.c]);
            }
        });
        Padded { data, height, width, channels: g.c }
    }

    fn at(&self, n: usize, h: usize, w: usize) -> usize {
        ((n * self.height + h) * self.width + w) * self.channels
    }
}
