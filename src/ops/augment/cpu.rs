//! Augmentation on the processor: one picture a task.

use super::{Augment, Light, Padding, Pass, Sample, Statistics, Window, base_positions, source_position};
use crate::device::cpu::par_chunks_mut;
use crate::tensor::Float;

/// A float picture `[height, width, 3]`.
struct Image {
    data: Vec<f32>,
    height: usize,
    width: usize,
}

pub(super) fn augment<T: Float>(bytes: &[u8], (h, w): (usize, usize), a: &Augment, out: &mut [T]) {
    let (oh, ow) = a.passes.last().map_or((h, w), |p| (p.height, p.width));
    let positions: Vec<_> = a
        .passes
        .iter()
        .map(|p| (base_positions(p.height, p.align_corners), base_positions(p.width, p.align_corners)))
        .collect();
    par_chunks_mut(out, oh * ow * 3, |n, out| {
        let pixels = &bytes[n * h * w * 3..][..h * w * 3];
        // A true division: multiplying by 1/255 differs in the last bit.
        let data = pixels.iter().map(|&b| f32::from(b) / 255.0).collect();
        let mut image = Image { data, height: h, width: w };
        for (pass, (rows, columns)) in a.passes.iter().zip(&positions) {
            image = resample(&image, pass, &pass.samples[n], rows, columns);
        }
        if let Some(light) = a.lights.get(n) {
            relight(&mut image.data, light);
        }
        finish(&image.data, a.normalize.as_ref(), out);
    });
}

fn resample(image: &Image, pass: &Pass, sample: &Sample, rows: &[f32], columns: &[f32]) -> Image {
    let whole = Window { top: 0, left: 0, height: image.height, width: image.width };
    let mut window = sample.crop.unwrap_or(whole);
    let shrunk = sample.shrink.map(|to| average(image, window, to));
    let source = shrunk.as_ref().unwrap_or(image);
    if let Some(s) = &shrunk {
        window = Window { top: 0, left: 0, height: s.height, width: s.width };
    }
    let mut data = Vec::with_capacity(pass.height * pass.width * 3);
    for &y in rows {
        for &x in columns {
            let (gx, gy) = source_position(sample, x, y);
            let px = pixel_position(gx, window.width, pass.align_corners);
            let py = pixel_position(gy, window.height, pass.align_corners);
            data.extend(bilinear(source, window, px, py, pass.padding, pass.align_corners));
        }
    }
    Image { data, height: pass.height, width: pass.width }
}

/// From -1..1 to pixels.
fn pixel_position(g: f32, size: usize, align_corners: bool) -> f32 {
    if align_corners { (g + 1.0) / 2.0 * (size as f32 - 1.0) } else { ((g + 1.0) * size as f32 - 1.0) / 2.0 }
}

fn bilinear(source: &Image, window: Window, x: f32, y: f32, padding: Padding, align_corners: bool) -> [f32; 3] {
    let x = inside(x, window.width, padding, align_corners);
    let y = inside(y, window.height, padding, align_corners);
    let (x0, y0) = (x.floor(), y.floor());
    let (fx, fy) = (x - x0, y - y0);
    let mut sum = [0f32; 3];
    for (dy, wy) in [(0.0, 1.0 - fy), (1.0, fy)] {
        for (dx, wx) in [(0.0, 1.0 - fx), (1.0, fx)] {
            let (tx, ty) = (x0 + dx, y0 + dy);
            // Where the neighbour is outside, its weight is 0 unless the padding is black, which adds nothing either.
            if tx < 0.0 || ty < 0.0 || tx >= window.width as f32 || ty >= window.height as f32 {
                continue;
            }
            let at = ((window.top + ty as usize) * source.width + window.left + tx as usize) * 3;
            let weight = wx * wy;
            for c in 0..3 {
                sum[c] += source.data[at + c] * weight;
            }
        }
    }
    sum
}

/// Brings a position into the picture, as the padding says.
fn inside(x: f32, size: usize, padding: Padding, align_corners: bool) -> f32 {
    let last = size as f32 - 1.0;
    match padding {
        // Positions far outside, or not numbers at all, must not become addresses.
        Padding::Zeros => {
            if x.is_finite() {
                x.clamp(-2.0, last + 2.0)
            } else {
                -2.0
            }
        }
        Padding::Border => clamp(x, last),
        Padding::Reflection if align_corners => clamp(reflect(x, 0.0, last), last),
        Padding::Reflection => clamp(reflect(x, -0.5, last + 0.5), last),
    }
}

fn clamp(x: f32, last: f32) -> f32 {
    if x >= 0.0 { x.min(last) } else { 0.0 } // NaN too
}

/// Mirrors `x` between `low` and `high` as often as it takes.
fn reflect(x: f32, low: f32, high: f32) -> f32 {
    let span = high - low;
    if span <= 0.0 {
        return 0.0;
    }
    let x = (x - low).abs();
    let (times, rest) = ((x / span).floor(), x % span);
    if times % 2.0 == 0.0 { low + rest } else { high - rest }
}

/// The window averaged down: output row `i` is the mean of input rows `floor(i H / h)` to `ceil((i + 1) H / h) - 1`.
fn average(image: &Image, window: Window, (height, width): (usize, usize)) -> Image {
    let range = |i: usize, from: usize, to: usize| (i * from / to)..((i + 1) * from).div_ceil(to);
    let mut data = Vec::with_capacity(height * width * 3);
    for i in 0..height {
        let rows = range(i, window.height, height);
        for j in 0..width {
            let columns = range(j, window.width, width);
            let mut sum = [0f32; 3];
            for y in rows.clone() {
                for x in columns.clone() {
                    let at = ((window.top + y) * image.width + window.left + x) * 3;
                    for c in 0..3 {
                        sum[c] += image.data[at + c];
                    }
                }
            }
            let count = (rows.len() * columns.len()) as f32;
            data.extend(sum.map(|s| s / count));
        }
    }
    Image { data, height, width }
}

/// `logit` with fastai's clamp, in f32: the ends are -16.118 and +15.942.
pub(super) fn logit(x: f32) -> f32 {
    let x = x.clamp(1e-7, 1.0 - 1e-7);
    -(1.0 / x - 1.0).ln()
}

fn relight(data: &mut [f32], light: &Light) {
    let shift = logit(light.brightness);
    for v in data {
        let x = (logit(*v) + shift) * light.contrast;
        *v = 1.0 / (1.0 + (-x).exp());
    }
}

fn finish<T: Float>(data: &[f32], normalize: Option<&Statistics>, out: &mut [T]) {
    match normalize {
        Some(s) => {
            for (out, rgb) in out.chunks_exact_mut(3).zip(data.chunks_exact(3)) {
                for c in 0..3 {
                    out[c] = T::of(f64::from((rgb[c] - s.mean[c]) / s.std[c]));
                }
            }
        }
        None => out.iter_mut().zip(data).for_each(|(o, &v)| *o = T::of(v.into())),
    }
}
