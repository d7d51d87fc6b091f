//! Augmentation on a GPU: `kernels/augment.cu`, one launch.

use super::{Augment as Plan, Erase, Interpolation, Padding, Pass, Sample as Part, Window, logit};
use crate::device::cuda::driver::{Address, Launch};
use crate::device::cuda::kernels::KernelId;
use crate::device::cuda::{Gpu, geometry, per_float};
use crate::rng::{Purpose, Rng};
use crate::tensor::{DType, Tensor};
use crate::{Error, Result};

geometry! {
    /// One picture's part in a resampling.
    pub(crate) struct Sample {
        top: i32,
        left: i32,
        height: i32,
        width: i32,
        shrink_h: i32,
        shrink_w: i32,
        theta: [f32; 6],
        warp: [f32; 8],
        warps: i32,
    }
}

geometry! {
    /// Light and colour of one picture.
    pub(crate) struct Light {
        shift: f32,
        contrast: f32,
        saturation: f32,
        hue: f32,
    }
}

geometry! {
    /// What all pictures share in a resampling.
    pub(crate) struct Resample {
        height: i32,
        width: i32,
        padding: i32,
        nearest: i32,
        align_corners: i32,
    }
}

geometry! {
    /// What all pictures share.
    pub(crate) struct Augment {
        n: i32,
        h: i32,
        w: i32,
        pass: [Resample; 2],
        normalizes: i32,
        mean: [f32; 3],
        std: [f32; 3],
    }
}

geometry! {
    /// Boxes of noise, and where the noise is drawn from.
    pub(crate) struct Erased {
        boxes: i32,
        areas: [Rect; 8],
        key: [u32; 2],
        counter: [u32; 4],
    }
}

geometry! {
    /// A window of the result.
    pub(crate) struct Rect {
        top: i32,
        left: i32,
        height: i32,
        width: i32,
    }
}

impl Resample {
    const NONE: Resample = Resample { height: 0, width: 0, padding: 0, nearest: 0, align_corners: 0 };

    fn new(pass: &Pass) -> Resample {
        let padding = match pass.padding {
            Padding::Zeros => 0,
            Padding::Border => 1,
            Padding::Reflection => 2,
        };
        let (height, width) = (pass.height as i32, pass.width as i32);
        let nearest = i32::from(pass.interpolation == Interpolation::Nearest);
        Resample { height, width, padding, nearest, align_corners: i32::from(pass.align_corners) }
    }
}

impl Rect {
    const NONE: Rect = Rect { top: 0, left: 0, height: 0, width: 0 };

    fn new(w: &Window) -> Rect {
        Rect { top: w.top as i32, left: w.left as i32, height: w.height as i32, width: w.width as i32 }
    }
}

impl Sample {
    /// The part in a pass over pictures of `h` x `w`.
    fn new(part: &Part, (h, w): (usize, usize)) -> Sample {
        let window = part.crop.unwrap_or(Window { top: 0, left: 0, height: h, width: w });
        let (shrink_h, shrink_w) = part.shrink.unwrap_or((0, 0));
        Sample {
            top: window.top as i32,
            left: window.left as i32,
            height: window.height as i32,
            width: window.width as i32,
            shrink_h: shrink_h as i32,
            shrink_w: shrink_w as i32,
            theta: part.theta,
            warp: part.warp.unwrap_or_default(),
            warps: i32::from(part.warp.is_some()),
        }
    }
}

/// The kernel for `dtype` with this many resamplings.
fn kernel(passes: usize, dtype: DType) -> Result<KernelId> {
    match passes {
        0 => per_float!("augment", ", 0").of(dtype),
        1 => per_float!("augment", ", 1").of(dtype),
        2 => per_float!("augment", ", 2").of(dtype),
        n => Err(Error::shape("augment", format!("{n} resampling passes, a GPU does at most 2 in one go"))),
    }
}

/// The boxes as the kernel wants them; none where there are none.
fn erased(erase: &Erase) -> Option<Erased> {
    let (seed, epoch, item) = erase.noise;
    let (key, counter) = Rng::at(seed, Purpose::Erase, epoch, item).address();
    let boxes = &erase.boxes;
    (!boxes.is_empty()).then(|| Erased {
        boxes: boxes.len() as i32,
        areas: std::array::from_fn(|i| boxes.get(i).map_or(Rect::NONE, Rect::new)),
        key,
        counter,
    })
}

pub(super) fn augment(gpu: Gpu, bytes: &Tensor, (h, w): (usize, usize), a: &Plan, out: &mut Tensor) -> Result<()> {
    let kernel = kernel(a.passes.len(), out.dtype())?;
    if bytes.numel().max(out.numel()) > i32::MAX as usize * 3 {
        return Err(Error::shape("augment", format!("{} is too large for a GPU's kernels", bytes.shape())));
    }
    let n = bytes.shape()[0];
    let (mut samples, mut size) = (Vec::new(), (h, w));
    for pass in &a.passes {
        samples.extend(pass.samples.iter().map(|part| Sample::new(part, size)));
        size = (pass.height, pass.width);
    }
    let light = |i: usize| {
        let l = a.lights.get(i).unwrap_or(&super::Light::NEUTRAL);
        let hue = a.hues.get(i).copied().unwrap_or(0.0);
        Light { shift: logit(l.brightness), contrast: l.contrast, saturation: l.saturation, hue }
    };
    let lights: Vec<Light> =
        if a.lights.is_empty() && a.hues.is_empty() { Vec::new() } else { (0..n).map(light).collect() };
    let (samples, light_table) = (gpu.upload_table(&samples)?, gpu.upload_table(&lights)?);
    let erased = gpu.upload_table(erased(&a.erase).as_slice())?;
    let pass = |i: usize| a.passes.get(i).map_or(Resample::NONE, Resample::new);
    let normalize = a.normalize.unwrap_or(super::Statistics { mean: [0.0; 3], std: [1.0; 3] });
    let all = Augment {
        n: n as i32,
        h: h as i32,
        w: w as i32,
        pass: [pass(0), pass(1)],
        normalizes: i32::from(a.normalize.is_some()),
        mean: normalize.mean,
        std: normalize.std,
    };
    let lights_at = if lights.is_empty() { Address::NULL } else { light_table.address() };
    let launch = Launch::over(out.numel() / 3);
    let arguments = (all, bytes.address(), samples.address(), lights_at, erased.address(), out.address_mut()?);
    // SAFETY: bytes are [n, h, w, 3], there is a sample for each picture and pass, windows lie inside their pictures (checked by the
    // caller), lights are [n] or absent, boxes one or absent, and out has the last pass's size and the kernel's type.
    unsafe { gpu.launch(kernel, launch, arguments) }
}
