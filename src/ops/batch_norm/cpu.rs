//! Batch normalisation on the processor.
//!
//! Sums over a million pixels are taken in two levels: blocks of rows whose size depends on the channel count alone, in the
//! tensor's own precision, and over the blocks in f64, in order. A block's variance is taken around the block's own mean and
//! the blocks are joined by Chan's formula, so a channel that is large and nearly constant loses nothing. The same bits come
//! out for every number of threads.

use crate::device::cpu::{par_chunks_mut, simd::vectorized};
use crate::tensor::Float;

/// Numbers of one block: 64 KiB of f32, which stays in the first or second cache between the two looks at it.
const BLOCK: usize = 16 * 1024;

fn block_rows(c: usize) -> usize {
    (BLOCK / c).max(1)
}

/// Per channel, `[C]` each: the mean, and 1 / sqrt(var + eps).
pub(super) struct Statistics<'a, T> {
    pub mean: &'a mut [T],
    pub invstd: &'a mut [T],
}

pub(super) fn batch_statistics<T: Float>(
    x: &[T],
    out: Statistics<'_, T>,
    running: (&mut [T], &mut [T]),
    eps: f64,
    momentum: f64,
) {
    let c = out.mean.len();
    let m = x.len() / c;
    let rows = block_rows(c);
    let mut partial = vec![T::ZERO; m.div_ceil(rows) * 2 * c]; // [blocks, 2, C]: mean, and sum of squares around it
    par_chunks_mut(&mut partial, 2 * c, |i, out| {
        let x = &x[i * rows * c..((i + 1) * rows * c).min(x.len())];
        let (mean, squares) = out.split_at_mut(c);
        block_statistics(x, mean, squares);
    });
    for ch in 0..c {
        let (mut count, mut mean, mut squares) = (0f64, 0f64, 0f64);
        for (i, block) in partial.chunks_exact(2 * c).enumerate() {
            let n = rows.min(m - i * rows) as f64;
            let delta = block[ch].f64() - mean;
            count += n;
            mean += delta * n / count;
            squares += block[c + ch].f64() + delta * delta * n * (count - n) / count;
        }
        let var = squares / count;
        out.mean[ch] = T::of(mean);
        out.invstd[ch] = T::of(1.0 / (var + eps).sqrt());
        let unbiased = squares / (count - 1.0);
        running.0[ch] = T::of((1.0 - momentum) * running.0[ch].f64() + momentum * mean);
        running.1[ch] = T::of((1.0 - momentum) * running.1[ch].f64() + momentum * unbiased);
    }
}

vectorized! {
    fn block_statistics<T: Float>(x: &[T], mean: &mut [T], squares: &mut [T]) {
        let c = mean.len();
        for row in x.chunks_exact(c) {
            for (sum, &v) in mean.iter_mut().zip(row) {
                *sum += v;
            }
        }
        let n = T::of((x.len() / c) as f64);
        for sum in mean.iter_mut() {
            *sum = *sum / n;
        }
        for row in x.chunks_exact(c) {
            for ((sum, &v), &mean) in squares.iter_mut().zip(row).zip(mean.iter()) {
                *sum += (v - mean) * (v - mean);
            }
        }
    }
}

pub(super) fn fixed_statistics<T: Float>(mean: &[T], var: &[T], out: Statistics<'_, T>, eps: f64) {
    out.mean.copy_from_slice(mean);
    for (o, v) in out.invstd.iter_mut().zip(var) {
        *o = T::of(1.0 / (v.f64() + eps).sqrt());
    }
}

/// What turns `x` into `z`, `[C]` each.
pub(super) struct Affine<'a, T> {
    pub mean: &'a [T],
    pub invstd: &'a [T],
    pub weight: &'a [T],
    pub bias: &'a [T],
}

pub(super) fn normalize<T: Float>(x: &[T], a: &Affine<'_, T>, residual: Option<&[T]>, relu: bool, y: &mut [T]) {
    let c = a.mean.len();
    let scale: Vec<T> = a.weight.iter().zip(a.invstd).map(|(&w, &s)| w * s).collect();
    let piece = block_rows(c) * c;
    par_chunks_mut(y, piece, |i, y| {
        let x = &x[i * piece..][..y.len()];
        match residual {
            Some(r) => apply(x, Some(&r[i * piece..][..y.len()]), a.mean, &scale, a.bias, relu, y),
            None => apply(x, None, a.mean, &scale, a.bias, relu, y),
        };
    });
}

vectorized! {
    fn apply<T: Float>(x: &[T], residual: Option<&[T]>, mean: &[T], scale: &[T], bias: &[T], relu: bool, y: &mut [T]) {
        let c = mean.len();
        let floor = |z: T| if relu && z <= T::ZERO { T::ZERO } else { z };
        for (i, (y, x)) in y.chunks_exact_mut(c).zip(x.chunks_exact(c)).enumerate() {
            match residual {
                Some(r) => {
                    let r = &r[i * c..][..c];
                    for ch in 0..c {
                        y[ch] = floor((x[ch] - mean[ch]) * scale[ch] + bias[ch] + r[ch]);
                    }
                }
                None => {
                    for ch in 0..c {
                        y[ch] = floor((x[ch] - mean[ch]) * scale[ch] + bias[ch]);
                    }
                }
            }
        }
    }
}

/// `dw = sum(dz xh)` and `db = sum(dz)`.
pub(super) fn reduce<T: Float>(x: &[T], dz: &[T], mean: &[T], invstd: &[T], dw: &mut [T], db: &mut [T]) {
    let c = mean.len();
    let piece = block_rows(c) * c;
    let mut partial = vec![T::ZERO; x.len().div_ceil(piece) * 2 * c]; // [blocks, 2, C]
    par_chunks_mut(&mut partial, 2 * c, |i, out| {
        let range = i * piece..((i + 1) * piece).min(x.len());
        let (dw, db) = out.split_at_mut(c);
        block_sums(&x[range.clone()], &dz[range], mean, dw, db);
    });
    for ch in 0..c {
        let sum = |at: usize| partial.chunks_exact(2 * c).map(|block| block[at].f64()).sum::<f64>();
        dw[ch] = T::of(sum(ch) * invstd[ch].f64());
        db[ch] = T::of(sum(c + ch));
    }
}

vectorized! {
    fn block_sums<T: Float>(x: &[T], dz: &[T], mean: &[T], dw: &mut [T], db: &mut [T]) {
        let c = mean.len();
        for (x, dz) in x.chunks_exact(c).zip(dz.chunks_exact(c)) {
            for ch in 0..c {
                dw[ch] += dz[ch] * (x[ch] - mean[ch]);
                db[ch] += dz[ch];
            }
        }
    }
}

/// What turns `dz` into `dx`, `[C]` each; `sums` are `dw` and `db` where the statistics depend on `x`.
pub(super) struct Terms<'a, T> {
    pub mean: &'a [T],
    pub invstd: &'a [T],
    pub weight: &'a [T],
    pub sums: Option<(&'a [T], &'a [T])>,
}

/// `dx` from `dz`; without a `dz` of its own, `dx` holds it at the start.
pub(super) fn input_gradient<T: Float>(x: &[T], dz: Option<&[T]>, t: &Terms<'_, T>, dx: &mut [T]) {
    let c = t.mean.len();
    let m = T::of((x.len() / c) as f64);
    let scale: Vec<T> = t.weight.iter().zip(t.invstd).map(|(&w, &s)| w * s).collect();
    // dx = scale (dz - a - (x - mean) b)
    let (a, b): (Vec<T>, Vec<T>) = match t.sums {
        Some((dw, db)) => (0..c).map(|ch| (db[ch] / m, t.invstd[ch] * dw[ch] / m)).unzip(),
        None => (vec![T::ZERO; c], vec![T::ZERO; c]),
    };
    let piece = block_rows(c) * c;
    par_chunks_mut(dx, piece, |i, dx| {
        let x = &x[i * piece..][..dx.len()];
        if let Some(dz) = dz {
            dx.copy_from_slice(&dz[i * piece..][..dx.len()]); // the piece stays in the cache
        }
        combine(x, t.mean, &scale, &a, &b, dx);
    });
}

vectorized! {
    fn combine<T: Float>(x: &[T], mean: &[T], scale: &[T], a: &[T], b: &[T], dx: &mut [T]) {
        let c = mean.len();
        for (dx, x) in dx.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
            for ch in 0..c {
                dx[ch] = scale[ch] * (dx[ch] - a[ch] - (x[ch] - mean[ch]) * b[ch]);
            }
        }
    }
}
