//! Augmentation on the processor: one picture a task.

use super::{
    Augment, Erase, Interpolation, Light, Padding, Pass, Sample, Statistics, Window, base_positions, source_position,
};
use crate::device::cpu::buffer::Buffer;
use crate::device::cpu::par_chunks_mut;
use crate::rng::{Purpose, Rng, philox};
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
        if let Some(shift) = a.hues.get(n) {
            shift_hue(image.data_mut(), *shift);
        }
        finish(image.data(), a.normalize.as_ref(), out);
        erase(&a.erase, n, (oh, ow), out);
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
            out.copy_from_slice(&look(&source, window, px, py, pass));
        }
    }
    out
}

/// From -1..1 to pixels.
fn pixel_position(g: f32, size: usize, align_corners: bool) -> f32 {
    if align_corners { (g + 1.0) / 2.0 * (size as f32 - 1.0) } else { ((g + 1.0) * size as f32 - 1.0) / 2.0 }
}

/// The picture at a position in pixels.
fn look(source: &View<'_>, window: Window, x: f32, y: f32, pass: &Pass) -> [f32; 3] {
    let x = inside(x, window.width, pass.padding, pass.align_corners);
    let y = inside(y, window.height, pass.padding, pass.align_corners);
    match pass.interpolation {
        Interpolation::Bilinear => bilinear(source, window, x, y),
        Interpolation::Nearest => {
            let (x, y) = (x.round_ties_even(), y.round_ties_even());
            if x < 0.0 || y < 0.0 || x >= window.width as f32 || y >= window.height as f32 {
                return [0.0; 3];
            }
            let at = ((window.top + y as usize) * source.width + window.left + x as usize) * 3;
            [source.data[at], source.data[at + 1], source.data[at + 2]]
        }
    }
}

fn bilinear(source: &View<'_>, window: Window, x: f32, y: f32) -> [f32; 3] {
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

/// Changes brightness, contrast and saturation of RGB pixels in 0..1, in place, all in logit space.
pub fn relight(data: &mut [f32], light: &Light) {
    let shift = logit(light.brightness);
    let s = light.saturation;
    for rgb in data.chunks_exact_mut(3) {
        rgb.iter_mut().for_each(|v| *v = (logit(*v) + shift) * light.contrast);
        if s != 1.0 {
            let grey = (1.0 - s) * (rgb[0] * 0.2989 + rgb[1] * 0.5870 + rgb[2] * 0.1140);
            rgb.iter_mut().for_each(|v| *v = *v * s + grey);
        }
        rgb.iter_mut().for_each(|v| *v = 1.0 / (1.0 + (-*v).exp()));
    }
}

/// Moves the hue of RGB pixels in 0..1 by `shift` of a full turn, in place: to HSV and back, with fastai's rules (a grey has hue and
/// saturation 0; of equal largest channels red goes before green before blue).
pub fn shift_hue(data: &mut [f32], shift: f32) {
    for rgb in data.chunks_exact_mut(3) {
        let [r, g, b] = [rgb[0], rgb[1], rgb[2]];
        let (max, min) = (r.max(g).max(b), r.min(g).min(b));
        let range = max - min;
        let (divisor, saturation) = if range == 0.0 { (1.0, 0.0) } else { (range, range / max) };
        let (rc, gc, bc) = ((max - r) / divisor, (max - g) / divisor, (max - b) / divisor);
        let sextant = if max == r {
            bc - gc
        } else if max == g {
            2.0 + rc - bc
        } else {
            4.0 + gc - rc
        };
        // `rem_euclid` is Python's and PyTorch's `%`, which is what wraps the moved hue.
        let hue = ((sextant / 6.0 + 1.0) % 1.0 + shift).rem_euclid(1.0);
        let place = (hue * 6.0).floor();
        let f = hue * 6.0 - place;
        let p = (max * (1.0 - saturation)).clamp(0.0, 1.0);
        let q = (max * (1.0 - saturation * f)).clamp(0.0, 1.0);
        let t = (max * (1.0 - saturation * (1.0 - f))).clamp(0.0, 1.0);
        let moved = match place as i32 % 6 {
            0 => [max, t, p],
            1 => [q, max, p],
            2 => [p, max, t],
            3 => [p, q, max],
            4 => [t, p, max],
            _ => [max, p, q],
        };
        rgb.copy_from_slice(&moved);
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

/// Fills the boxes of picture `n` with normal noise. Each number has an address of its own, so that a GPU draws the same: two words of
/// the block that its place among all numbers of the batch names.
fn erase<T: Float>(e: &Erase, n: usize, (height, width): (usize, usize), out: &mut [T]) {
    let (seed, epoch, item) = e.noise;
    let (key, counter) = Rng::at(seed, Purpose::Erase, epoch, item).address();
    for b in &e.boxes {
        for y in b.top..b.top + b.height {
            for i in (y * width + b.left) * 3..(y * width + b.left + b.width) * 3 {
                let place = (n * height * width * 3 + i) as u32;
                let bits = philox(key, [place, counter[1], counter[2], counter[3]]);
                let unit = |bits: u32| (f64::from(bits >> 8) + 0.5) / f64::from(1 << 24);
                let (u, v) = (unit(bits[0]), unit(bits[1]));
                out[i] = T::of((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos());
            }
        }
    }
}
