//! Augmentation on the processor: one picture a task.

use super::{Augment, Light, Padding, Pass, Sample, Statistics, Window, base_positions, source_position};
use crate::device::cpu::buffer::Buffer;
use crate::device::cpu::par_chunks_mut;
use crate::tensor::Float;

/// A float picture `[height, width, 3]`. Its memory is recycled: fresh pages for every pass of every picture were a sixth of
/// the time.
struct Image {
    memory: Buffer,
    height: usize,
    width: usize,
}

/// An [`Image`] to read.
struct View<'a> {
    data: &'a [f32],
    width: usize,
}

impl Image {
    /// Of unspecified content.
    fn new(height: usize, width: usize) -> Image {
        Image { memory: Buffer::uninit(height * width * 3 * size_of::<f32>()), height, width }
    }

    fn data(&self) -> &[f32] {
        self.memory.as_slice()
    }

    fn data_mut(&mut self) -> &mut [f32] {
        self.memory.as_mut_slice()
    }
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
        let mut image = Image::new(h, w);
        image.data_mut().iter_mut().zip(pixels).for_each(|(x, &b)| *x = f32::from(b) / 255.0);
        for (pass, (rows, columns)) in a.passes.iter().zip(&positions) {
            image = resample(&image, pass, &pass.samples[n], rows, columns);
        }
        if let Some(light) = a.lights.get(n) {
            relight(image.data_mut(), light);
        }
        finish(image.data(), a.normalize.as_ref(), out);
    });
}

fn resample(image: &Image, pass: &Pass, sample: &Sample, rows: &[f32], columns: &[f32]) -> Image {
    let whole = Window { top: 0, left: 0, height: image.height, width: image.width };
    let mut window = sample.crop.unwrap_or(whole);
    let shrunk = sample.shrink.map(|to| average(image, window, to));
    let source = shrunk.as_ref().unwrap_or(image);
    let source = View { data: source.data(), width: source.width };
    if let Some(s) = &shrunk {
        window = Window { top: 0, left: 0, height: s.height, width: s.width };
    }
    let mut out = Image::new(pass.height, pass.width);
    for (&y, row) in rows.iter().zip(out.data_mut().chunks_exact_mut(pass.width * 3)) {
        for (&x, out) in columns.iter().zip(row.chunks_exact_mut(3)) {
            let (gx, gy) = source_position(sample, x, y);
            let px = pixel_position(gx, window.width, pass.align_corners);
            let py = pixel_position(gy, window.height, pass.align_corners);
            out.copy_from_slice(&bilinear(&source, window, px, py, pass.padding, pass.align_corners));
        }
    }
    out
}

/// From -1..1 to pixels.
fn pixel_position(g: f32, size: usize, align_corners: bool) -> f32 {
    if align_corners { (g + 1.0) / 2.0 * (size as f32 - 1.0) } else { ((g + 1.0) * size as f32 - 1.0) / 2.0 }
}

fn bilinear(source: &View<'_>, window: Window, x: f32, y: f32, padding: Padding, align_corners: bool) -> [f32; 3] {
    let x = inside(x, window.width, padding, align_corners);
    let y = inside(y, window.height, padding, align_corners);
    let (x0, y0) = (floor(x), floor(y));
    let (fx, fy) = (x - x0, y - y0);
    let mut sum = [0f32; 3];
    // Nearly every pixel has its four neighbours inside; the same sum without looking at each.
    if x0 >= 0.0 && y0 >= 0.0 && x0 + 1.0 < window.width as f32 && y0 + 1.0 < window.height as f32 {
        let at = ((window.top + y0 as usize) * source.width + window.left + x0 as usize) * 3;
        let (upper, lower) = (&source.data[at..at + 6], &source.data[at + source.width * 3..][..6]);
        let weights = [(1.0 - fx) * (1.0 - fy), fx * (1.0 - fy), (1.0 - fx) * fy, fx * fy];
        for c in 0..3 {
            sum[c] =
                upper[c] * weights[0] + upper[c + 3] * weights[1] + lower[c] * weights[2] + lower[c + 3] * weights[3];
        }
        return sum;
    }
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

/// Positions are small and, but for black padding, not negative: cutting the fraction off is the floor then. The library's `floor` is
/// a call on processors as old as the crate is compiled for, and was a tenth of the operation.
fn floor(x: f32) -> f32 {
    if x >= 0.0 { x as i32 as f32 } else { x.floor() }
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
    if x < span {
        return low + x; // what follows would say the same, with a division and a remainder
    }
    let (times, rest) = ((x / span).floor(), x % span);
    if times % 2.0 == 0.0 { low + rest } else { high - rest }
}

/// The window averaged down: output row `i` is the mean of input rows `floor(i H / h)` to `ceil((i + 1) H / h) - 1`.
fn average(image: &Image, window: Window, (height, width): (usize, usize)) -> Image {
    let range = |i: usize, from: usize, to: usize| (i * from / to)..((i + 1) * from).div_ceil(to);
    let columns: Vec<_> = (0..width).map(|j| range(j, window.width, width)).collect();
    let data = image.data();
    let mut out = Image::new(height, width);
    for (i, out) in out.data_mut().chunks_exact_mut((width * 3).max(1)).enumerate() {
        let rows = range(i, window.height, height);
        for (columns, out) in columns.iter().zip(out.chunks_exact_mut(3)) {
            let mut sum = [0f32; 3];
            for y in rows.clone() {
                let at = ((window.top + y) * image.width + window.left) * 3;
                for rgb in data[at + columns.start * 3..at + columns.end * 3].chunks_exact(3) {
                    for c in 0..3 {
                        sum[c] += rgb[c];
                    }
                }
            }
            let count = (rows.len() * columns.len()) as f32;
            out.copy_from_slice(&sum.map(|s| s / count));
        }
    }
    out
}

/// `logit` with fastai's clamp, in f32: the ends are -16.118 and +15.942.
pub fn logit(x: f32) -> f32 {
    let x = x.clamp(1e-7, 1.0 - 1e-7);
    -(1.0 / x - 1.0).ln()
}

/// Changes brightness and contrast of pixels in 0..1, in place: `sigmoid((logit(x) + logit(brightness)) * contrast)`.
pub fn relight(data: &mut [f32], light: &Light) {
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
