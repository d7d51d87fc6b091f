//! Batch augmentation: from the bytes of a batch to the floats that a network sees, in one operation.
//!
//! For every picture, in this order, each step optional but the first and the last:
//!
//! ```text
//! x = bytes / 255
//! for each sampling pass:
//!     x = x[crop]                                            an integer window
//!     x = area average to `shrink`                           when the pass makes the picture much smaller
//!     y[i, j] = bilinear x at warp(theta * (u_j, v_i, 1))     u, v: output positions in -1..1
//! l = (logit(x) + logit(brightness)) * contrast
//! l = l * saturation + (1 - saturation) * (0.2989 l[R] + 0.5870 l[G] + 0.1140 l[B])
//! x = sigmoid(l)
//! x = rgb(hsv(x) with the hue moved)
//! out = (x - mean) / std
//! out[boxes] = normal noise                               the same boxes in all pictures of a batch
//! ```
//!
//! That is fastai's chain `IntToFloatTensor`, affine group, `RandomResizedCropGPU`, lighting group, `Hue`, `Normalize`,
//! `RandomErasing`; every random
//! draw comes in as an input; who draws is decided further up. A picture goes through all
//! steps before the next one starts, so what is between the steps stays in the cache and no batch of floats at the input's
//! size is ever made.
//!
//! The operation makes inputs for a network and has no gradient.

mod cpu;
pub(crate) mod cuda;

pub use cpu::{logit, relight, shift_hue};

use crate::device::Device;
use crate::tensor::{Tensor, for_float};
use crate::{DType, Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

/// How pixels outside the picture are made up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Padding {
    /// Mirror at the border.
    #[default]
    Reflection,
    /// Repeat the border.
    Border,
    /// Black.
    Zeros,
}

/// How a number between pixels is made up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Interpolation {
    /// From the four pixels around, by distance.
    #[default]
    Bilinear,
    /// The nearest pixel's; half-way, the even one's.
    Nearest,
}

/// An integer window of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Window {
    /// First row.
    pub top: usize,
    /// First column.
    pub left: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// One picture's part in a sampling pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// The window that is looked at; the whole picture when `None`.
    pub crop: Option<Window>,
    /// Output position to input position, both in -1..1: the first two rows of a 3x3 matrix.
    pub theta: [f32; 6],
    /// The eight numbers of a perspective warp, applied after `theta`.
    pub warp: Option<[f32; 8]>,
    /// The window is first averaged down to this height and width.
    pub shrink: Option<(usize, usize)>,
}

impl Sample {
    /// The `theta` that changes nothing.
    pub const IDENTITY: [f32; 6] = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0];
}

/// A resampling of all pictures to one size.
#[derive(Clone, Debug, PartialEq)]
pub struct Pass {
    /// Rows of the result.
    pub height: usize,
    /// Columns of the result.
    pub width: usize,
    /// Beyond the border.
    pub padding: Padding,
    /// Between pixels.
    pub interpolation: Interpolation,
    /// -1 and 1 are the centres of the outermost pixels (true, what fastai's transforms use) or the picture's edges.
    pub align_corners: bool,
    /// One for each picture.
    pub samples: Vec<Sample>,
}

/// Brightness, contrast and saturation of one picture, in logit space.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Light {
    /// 0.5 changes nothing.
    pub brightness: f32,
    /// 1 changes nothing.
    pub contrast: f32,
    /// 1 changes nothing, 0 leaves greys.
    pub saturation: f32,
}

impl Light {
    /// Changes nothing.
    pub const NEUTRAL: Light = Light { brightness: 0.5, contrast: 1.0, saturation: 1.0 };
}

/// Boxes that are filled with noise, in every picture of a batch alike: fastai's `RandomErasing`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Erase {
    /// Windows of the finished pictures; later ones cover earlier ones.
    pub boxes: Vec<Window>,
    /// The noise's address: seed, epoch, item.
    pub noise: (u64, u64, u64),
}

/// The most boxes of an [`Erase`].
pub const MOST_BOXES: usize = 8;

/// Mean and standard deviation per channel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Statistics {
    /// Subtracted.
    pub mean: [f32; 3],
    /// Divided by.
    pub std: [f32; 3],
}

/// ImageNet's statistics, which pretrained networks expect.
pub const IMAGENET_STATS: Statistics = Statistics { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

/// What [`augment`] does to a batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Augment {
    /// Resampling passes, in order.
    pub passes: Vec<Pass>,
    /// One for each picture, or empty for none.
    pub lights: Vec<Light>,
    /// Added to each picture's hue, which goes round from 0 to 1; one for each picture, or empty for none.
    pub hues: Vec<f32>,
    /// Normalisation at the end.
    pub normalize: Option<Statistics>,
    /// Noise at the end.
    pub erase: Erase,
}

/// `bytes` (u8 `[N, H, W, 3]`) to a float batch `[N, h, w, 3]`, where `h` and `w` are those of the last pass.
///
/// # Errors
/// [`ErrorKind::Shape`] when `bytes` is no batch of RGB pictures, a list has another length than the
/// batch, or a window lies outside its picture; [`ErrorKind::Argument`] for an integer `dtype`.
pub fn augment(bytes: &Tensor, a: &Augment, dtype: DType) -> Result<Tensor> {
    let [n, h, w, c] = bytes.dims4("augment")?;
    if bytes.dtype() != DType::U8 || c != 3 || n * h * w == 0 {
        let message = format!("needs a batch of bytes [N, H, W, 3], got {} {}", bytes.dtype(), bytes.shape());
        return Err(Error::shape("augment", message));
    }
    if !dtype.is_float() {
        return Err(Error::new(ErrorKind::Argument, format!("makes floats, not {dtype}")).on("augment"));
    }
    let (mut height, mut width) = (h, w);
    for pass in &a.passes {
        if pass.samples.len() != n || pass.height * pass.width == 0 {
            let message = format!("{} samples to {}x{} for {n} pictures", pass.samples.len(), pass.height, pass.width);
            return Err(Error::shape("augment", message));
        }
        for crop in pass.samples.iter().filter_map(|s| s.crop) {
            let inside = crop.top + crop.height <= height && crop.left + crop.width <= width;
            if !inside || crop.height * crop.width == 0 {
                return Err(Error::shape("augment", format!("{crop:?} is not inside {height}x{width}")));
            }
        }
        (height, width) = (pass.height, pass.width);
    }
    if !a.lights.is_empty() && a.lights.len() != n {
        return Err(Error::shape("augment", format!("{} lights for {n} pictures", a.lights.len())));
    }
    if !a.hues.is_empty() && a.hues.len() != n {
        return Err(Error::shape("augment", format!("{} hues for {n} pictures", a.hues.len())));
    }
    let inside = |b: &Window| b.top + b.height <= height && b.left + b.width <= width;
    if a.erase.boxes.len() > MOST_BOXES || !a.erase.boxes.iter().all(inside) {
        let message = format!("{:?} are not at most {MOST_BOXES} boxes inside {height}x{width}", a.erase.boxes);
        return Err(Error::shape("augment", message));
    }
    bytes.device().computes_in("augment", dtype)?;
    if bytes.device() == Device::Cpu && dtype.is_half() {
        return augment(bytes, a, DType::F32)?.cast(dtype);
    }
    let mut out = Tensor::uninit([n, height, width, 3], dtype, bytes.device())?;
    match bytes.device() {
        Device::Cpu => for_float!(dtype, T => cpu::augment::<T>(bytes.cpu(), (h, w), a, out.cpu_mut())),
        Device::Cuda(gpu) => cuda::augment(gpu, bytes, (h, w), a, &mut out)?,
    }
    Ok(out)
}

/// When a pass shrinks a lot, bilinear sampling would skip pixels: fastai averages the window first. For a window `(h, w)`,
/// an output `(oh, ow)`, and `zoom` = 2 / (extent of the sampling grid, 1 for a plain resize), the size to average to.
///
/// The rule mixes the axes (input height over output *width*), as fastai's does; for squares it makes no difference.
/// The order of the arithmetic is fixed: 460 to 224 gives 448, 457 gives 447.
pub fn preshrink((h, w): (usize, usize), (_, ow): (usize, usize), zoom: f64) -> Option<(usize, usize)> {
    let d = (h as f64 / ow as f64).min(w as f64 / 2.0) / 2.0;
    let to = |size: usize| ((size as f64 * (1.0 / d)) as usize).max(1);
    (d > 1.0 && d > zoom).then(|| (to(h), to(w)))
}

/// Where a pass looks for output pixel position (`x`, `y`) in -1..1.
pub fn source_position(sample: &Sample, x: f32, y: f32) -> (f32, f32) {
    let t = &sample.theta;
    let (gx, gy) = (t[0] * x + t[1] * y + t[2], t[3] * x + t[4] * y + t[5]);
    match sample.warp {
        None => (gx, gy),
        Some([a, b, c, d, e, f, g, h]) => {
            let q = g * gx + h * gy + 1.0;
            ((a * gx + b * gy + c) / q, (d * gx + e * gy + f) / q)
        }
    }
}

/// The positions in -1..1 of `n` output pixels along an axis.
pub fn base_positions(n: usize, align_corners: bool) -> Vec<f32> {
    if n == 1 {
        return vec![0.0];
    }
    let step = 2.0 / (n - 1) as f32;
    let edge = if align_corners { 1.0 } else { (n - 1) as f32 / n as f32 };
    // As PyTorch's linspace: the upper half counts back from 1, which keeps the ends exact and the axis symmetric.
    let at = |i: usize| if i < n / 2 { -1.0 + step * i as f32 } else { 1.0 - step * (n - 1 - i) as f32 };
    (0..n).map(|i| at(i) * edge).collect()
}
