//! Batch normalisation on the processor.
//!
//! Sums over a million pixels are taken in two levels: blocks of rows whose size depends on the channel count alone, in the
//! tensor's own precision, and over the blocks in f64, in order. A block's variance is taken around the block's own mean and
//! the blocks are joined by Chan's formula, so a channel that is large and nearly constant loses nothing. The same bits come
//! out for every number of threads.

use crate::device::cpu::{par_chunks_mut, par_chunks2_mut, simd::vectorized};
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
    let (mut mean, mut squares) = (vec![0f64; c], vec![0f64; c]);
    join_blocks(&partial, rows, m, &mut mean, &mut squares);
    for ch in 0..c {
        let (mean, squares, count) = (mean[ch], squares[ch], m as f64);
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

vectorized! {
    /// Chan's formula, block after block. Channels are the inner loop: it runs on one thread, and one channel after the other
    /// (a chain of divisions each) it took 1.5 % of a ResNet-50's step.
    fn join_blocks<T: Float>(blocks: &[T], rows: usize, m: usize, mean: &mut [f64], squares: &mut [f64]) {
        let c = mean.len();
        for (i, block) in blocks.chunks_exact(2 * c).enumerate() {
            let before = (i * rows) as f64;
            let n = (m - i * rows).min(rows) as f64;
            let share = n / (before + n);
            let (block_mean, block_squares) = block.split_at(c);
            for (((mean, squares), x), s) in mean.iter_mut().zip(squares.iter_mut()).zip(block_mean).zip(block_squares) {
                let delta = x.f64() - *mean;
                *mean += delta * share;
                *squares += s.f64() + delta * delta * (share * before);
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
    let scale = scale(a.weight, a.invstd);
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

/// Where the ReLU let the gradient through.
pub(super) enum Mask<'a, T> {
    /// No ReLU: everywhere.
    None,
    /// Where the output is positive. `dy` is overwritten by `dz`, which the residual's gradient is.
    Output(&'a [T]),
    /// Where the affine image of `x` is positive, computed again as the forward pass did: without a residual that saves reading
    /// `y` and writing `dz`. Bits are the same, because the expression is.
    Input(&'a [T]),
}

/// `dw = sum(dz xh)` and `db = sum(dz)`.
pub(super) fn reduce<T: Float>(
    x: &[T],
    dy: &mut [T],
    a: &Affine<'_, T>,
    mask: &Mask<'_, T>,
    dw: &mut [T],
    db: &mut [T],
) {
    let c = a.mean.len();
    let piece = block_rows(c) * c;
    let scale = scale(a.weight, a.invstd);
    let mut partial = vec![T::ZERO; x.len().div_ceil(piece) * 2 * c]; // [blocks, 2, C]
    par_chunks2_mut((dy, &mut partial), (piece, 2 * c), |i, dy, sums| {
        let range = i * piece..i * piece + dy.len();
        let (dw, db) = sums.split_at_mut(c);
        let x = &x[range.clone()];
        match mask {
            Mask::None => block_sums(x, dy, &[a.mean], dw, db),
            Mask::Output(y) => {
                clear(&y[range], dy); // the block stays in the cache
                block_sums(x, dy, &[a.mean], dw, db);
            }
            Mask::Input(bias) => block_sums(x, dy, &[a.mean, &scale, bias], dw, db),
        }
    });
    let (mut dw_sum, mut db_sum) = (vec![0f64; c], vec![0f64; c]);
    for block in partial.chunks_exact(2 * c) {
        dw_sum.iter_mut().zip(block).for_each(|(sum, v)| *sum += v.f64());
        db_sum.iter_mut().zip(&block[c..]).for_each(|(sum, v)| *sum += v.f64());
    }
    for ch in 0..c {
        dw[ch] = T::of(dw_sum[ch] * a.invstd[ch].f64());
        db[ch] = T::of(db_sum[ch]);
    }
}

fn scale<T: Float>(weight: &[T], invstd: &[T]) -> Vec<T> {
    weight.iter().zip(invstd).map(|(&w, &s)| w * s).collect()
}

vectorized! {
    fn clear<T: Float>(y: &[T], dy: &mut [T]) {
        for (dy, &y) in dy.iter_mut().zip(y) {
            *dy = if y > T::ZERO { *dy } else { T::ZERO };
        }
    }
}

/// Channels whose sums stay in registers while a block's rows go by: 2 vectors of 512 bits, 4 of 256.
const TOGETHER: usize = 32;

vectorized! {
    /// Sums over the rows of a block, for all channels. `per_channel` is the mean, followed by scale and bias when `dz` is `dy`
    /// under the mask that they give.
    fn block_sums<T: Float>(x: &[T], dz: &[T], per_channel: &[&[T]], dw: &mut [T], db: &mut [T]) {
        let c = dw.len();
        let whole = c / TOGETHER * TOGETHER;
        for from in (0..whole).step_by(TOGETHER) {
            column_sums::<T, TOGETHER>(x, dz, from, per_channel, dw, db);
        }
        for from in whole..c {
            column_sums::<T, 1>(x, dz, from, per_channel, dw, db);
        }
    }
}

#[inline(always)]
fn column_sums<T: Float, const N: usize>(
    x: &[T],
    dz: &[T],
    from: usize,
    per_channel: &[&[T]],
    dw: &mut [T],
    db: &mut [T],
) {
    let c = dw.len();
    let part = |of: &[T]| -> [T; N] { std::array::from_fn(|i| of[from + i]) };
    let (mut dw_sum, mut db_sum) = ([T::ZERO; N], [T::ZERO; N]);
    let rows = x.chunks_exact(c).zip(dz.chunks_exact(c)).map(|(x, dz)| (&x[from..from + N], &dz[from..from + N]));
    if let [mean, scale, bias] = per_channel {
        let (mean, scale, bias) = (part(mean), part(scale), part(bias));
        for (x, dy) in rows {
            for i in 0..N {
                let (centred, dy) = (x[i] - mean[i], dy[i]);
                let dz = if centred * scale[i] + bias[i] > T::ZERO { dy } else { T::ZERO };
                dw_sum[i] += dz * centred;
                db_sum[i] += dz;
            }
        }
    } else {
        let mean = part(per_channel[0]);
        for (x, dz) in rows {
            for i in 0..N {
                dw_sum[i] += dz[i] * (x[i] - mean[i]);
                db_sum[i] += dz[i];
            }
        }
    }
    dw[from..from + N].copy_from_slice(&dw_sum);
    db[from..from + N].copy_from_slice(&db_sum);
}

/// `dx` from `dz` (from `dy`, with [`Mask::Input`]): `dx = scale (dz - p - (x - mean) q)`, where `p` and `q` come from the sums `dw`
/// and `db` if the statistics depend on `x`. Without a `dz` of its own, `dx` holds it at the start.
pub(super) fn input_gradient<T: Float>(
    x: &[T],
    dz: Option<&[T]>,
    a: &Affine<'_, T>,
    mask: &Mask<'_, T>,
    sums: Option<(&[T], &[T])>,
    dx: &mut [T],
) {
    let c = a.mean.len();
    let m = T::of((x.len() / c) as f64);
    let scale = scale(a.weight, a.invstd);
    let (p, q): (Vec<T>, Vec<T>) = match sums {
        Some((dw, db)) => (0..c).map(|ch| (db[ch] / m, a.invstd[ch] * dw[ch] / m)).unzip(),
        None => (vec![T::ZERO; c], vec![T::ZERO; c]),
    };
    let piece = block_rows(c) * c;
    par_chunks_mut(dx, piece, |i, dx| {
        let x = &x[i * piece..][..dx.len()];
        if let Some(dz) = dz {
            dx.copy_from_slice(&dz[i * piece..][..dx.len()]); // the piece stays in the cache
        }
        match mask {
            Mask::Input(bias) => masked_combine(x, a.mean, &scale, bias, &p, &q, dx),
            _ => combine(x, a.mean, &scale, &p, &q, dx),
        }
    });
}

vectorized! {
    fn combine<T: Float>(x: &[T], mean: &[T], scale: &[T], p: &[T], q: &[T], dx: &mut [T]) {
        let c = mean.len();
        for (dx, x) in dx.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
            for ch in 0..c {
                dx[ch] = scale[ch] * (dx[ch] - p[ch] - (x[ch] - mean[ch]) * q[ch]);
            }
        }
    }
}

vectorized! {
    fn masked_combine<T: Float>(x: &[T], mean: &[T], scale: &[T], bias: &[T], p: &[T], q: &[T], dx: &mut [T]) {
        let c = mean.len();
        for (dx, x) in dx.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
            for ch in 0..c {
                let centred = x[ch] - mean[ch];
                let dz = if centred * scale[ch] + bias[ch] > T::ZERO { dx[ch] } else { T::ZERO };
                dx[ch] = scale[ch] * (dz - p[ch] - centred * q[ch]);
            }
        }
    }
}
