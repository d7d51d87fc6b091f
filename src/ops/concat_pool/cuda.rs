//! Global maximum and mean on a GPU: `kernels/concat_pool.cu`.

use crate::device::cuda::driver::{Launch, PROCESSORS};
use crate::device::cuda::{Gpu, per_float};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// Pictures, pixels and channels.
///
/// # Errors
/// More numbers than the kernels' 32-bit indices reach.
fn sizes([n, h, w, c]: [usize; 4]) -> Result<(u32, u32, u32)> {
    if n * h * w * c.max(2) > u32::MAX as usize {
        return Err(Error::shape("concat_pool", format!("[{n}, {h}, {w}, {c}] is too large for a GPU's kernels"))
            .remedy("use smaller batches"));
    }
    Ok((n as u32, (h * w) as u32, c as u32))
}

pub(super) fn forward(gpu: Gpu, size: [usize; 4], x: &Tensor, y: &mut Tensor, winner: &mut Tensor) -> Result<()> {
    let (n, pixels, c) = sizes(size)?;
    let arguments = (x.address(), y.address_mut()?, winner.address_mut()?, n, pixels, c);
    // SAFETY: x has n * pixels * c numbers, y n * 2c, winner n * c, of the kernel's types; there is at least one pixel.
    unsafe { gpu.launch(per_float!("concat_pool_forward").of(x.dtype())?, Launch::over(winner.numel()), arguments) }
}

pub(super) fn backward(gpu: Gpu, size: [usize; 4], dy: &Tensor, winner: &Tensor, dx: &mut Tensor) -> Result<()> {
    let (n, pixels, c) = sizes(size)?;
    let pack = 16 / dy.dtype().size();
    let across = Launch::over(winner.numel() / if (c as usize).is_multiple_of(pack) { pack } else { 1 });
    // Two blocks for each processor, if there are so many pixels.
    let layers = (2 * PROCESSORS).div_ceil(across.grid[0].max(1) as usize).min(pixels as usize) as u32;
    let launch = Launch { grid: [across.grid[0], layers, 1], ..across };
    let arguments = (dy.address(), winner.address(), dx.address_mut()?, n, pixels, c);
    // SAFETY: dx has n * pixels * c numbers, dy n * 2c, winner n * c, of the kernel's types; memory is aligned to 256 bytes, so packs of
    // 16 bytes are too.
    unsafe { gpu.launch(per_float!("concat_pool_backward").of(dy.dtype())?, launch, arguments) }
}
