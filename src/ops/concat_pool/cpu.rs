//! Global maximum and mean on the processor. The pictures are 7x7 when they get here: plain loops will do.

use crate::tensor::Float;

/// `winner[n, c]` is the pixel of the maximum.
pub(super) fn forward<T: Float>(c: usize, x: &[T], y: &mut [T], winner: &mut [i64]) {
    let pixels = x.len() / (winner.len() / c).max(1) / c;
    for (n, (y, winner)) in y.chunks_exact_mut(2 * c).zip(winner.chunks_exact_mut(c)).enumerate() {
        let picture = &x[n * pixels * c..][..pixels * c];
        let (max, mean) = y.split_at_mut(c);
        for ch in 0..c {
            let (mut best, mut at, mut sum) = (picture[ch], 0, 0f64);
            for pixel in 0..pixels {
                let v = picture[pixel * c + ch];
                sum += v.f64();
                if v > best || (v.is_nan() && !best.is_nan()) {
                    (best, at) = (v, pixel);
                }
            }
            max[ch] = best;
            winner[ch] = at as i64;
            mean[ch] = T::of(sum / pixels as f64);
        }
    }
}

pub(super) fn backward<T: Float>(c: usize, dy: &[T], winner: &[i64], dx: &mut [T]) {
    let pixels = dx.len() / (winner.len() / c).max(1) / c;
    let share = T::of(pixels as f64);
    for (n, picture) in dx.chunks_exact_mut(pixels * c).enumerate() {
        let (max, mean) = dy[n * 2 * c..][..2 * c].split_at(c);
        for pixel in picture.chunks_exact_mut(c) {
            for (dx, &d) in pixel.iter_mut().zip(mean) {
                *dx = d / share;
            }
        }
        for ch in 0..c {
            picture[winner[n * c + ch] as usize * c + ch] += max[ch];
        }
    }
}
