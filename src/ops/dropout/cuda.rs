//! Dropout on a GPU: `kernels/dropout.cu`.

use crate::Result;
use crate::device::cuda::driver::Launch;
use crate::device::cuda::{Gpu, geometry, per_float};
use crate::rng::Rng;
use crate::tensor::Tensor;

geometry! {
    /// The address of a mask, and what becomes of what it keeps.
    pub(crate) struct Dropout {
        key: [u32; 2],
        counter: [u32; 4],
        threshold: u64,
        factor: f32,
    }
}

/// `x` becomes what is left of it by the mask at `rng`'s address.
pub(super) fn apply(gpu: Gpu, rng: &Rng, threshold: u64, factor: f64, x: &mut Tensor) -> Result<()> {
    let (key, counter) = rng.address();
    let g = Dropout { key, counter, threshold, factor: factor as f32 };
    let (n, kernel) = (x.numel(), per_float!("dropout").of(x.dtype())?);
    let at = x.address_mut()?;
    // SAFETY: x has n numbers of the kernel's type, which allows the result in its place.
    unsafe { gpu.launch(kernel, Launch::over(n.div_ceil(4)), (g, at, at, n as i64)) }
}

/// `x` becomes what is left of it by a mask of bytes.
pub(super) fn apply_mask(gpu: Gpu, mask: &Tensor, factor: f64, x: &mut Tensor) -> Result<()> {
    let (n, kernel) = (x.numel(), per_float!("dropout_masked").of(x.dtype())?);
    let at = x.address_mut()?;
    // SAFETY: mask and x have n elements, x of the kernel's type, which allows the result in its place.
    unsafe { gpu.launch(kernel, Launch::over(n), (mask.address(), factor as f32, at, at, n as i64)) }
}
