//! Dropout on a GPU: `kernels/dropout.cu`.

use crate::Result;
use crate::device::cuda::driver::Launch;
use crate::device::cuda::{Gpu, Memory, geometry, per_float};
use crate::rng::Rng;
use crate::tensor::Tensor;

geometry! {
    /// The address of a mask.
    pub(crate) struct Draw {
        key: [u32; 2],
        counter: [u32; 4],
    }
}

geometry! {
    /// What a mask keeps, and what becomes of it.
    pub(crate) struct Dropout {
        threshold: u64,
        factor: f32,
    }
}

/// The mask at `rng`'s address.
pub(super) fn draw(gpu: Gpu, rng: &Rng) -> Result<Memory> {
    let (key, counter) = rng.address();
    gpu.upload_table(&[Draw { key, counter }])
}

/// `x` becomes what is left of it by the mask at an address.
pub(super) fn apply(gpu: Gpu, draw: &Memory, threshold: u64, factor: f64, x: &mut Tensor) -> Result<()> {
    let g = Dropout { threshold, factor: factor as f32 };
    let (n, kernel) = (x.numel(), per_float!("dropout").of(x.dtype())?);
    let at = x.address_mut()?;
    // SAFETY: x has n numbers of the kernel's type, which allows the result in its place; the draw is one.
    unsafe { gpu.launch(kernel, Launch::over(n.div_ceil(4)), (g, draw.address(), at, at, n as i64)) }
}

/// `x` becomes what is left of it by a mask of bytes.
pub(super) fn apply_mask(gpu: Gpu, mask: &Tensor, factor: f64, x: &mut Tensor) -> Result<()> {
    let (n, kernel) = (x.numel(), per_float!("dropout_masked").of(x.dtype())?);
    let at = x.address_mut()?;
    // SAFETY: mask and x have n elements, x of the kernel's type, which allows the result in its place.
    unsafe { gpu.launch(kernel, Launch::over(n), (mask.address(), factor as f32, at, at, n as i64)) }
}
