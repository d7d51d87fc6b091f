//! Global maximum and mean on a GPU: `kernels/concat_pool.cu`.

use crate::Result;
use crate::device::cuda::driver::Launch;
use crate::device::cuda::{Gpu, per_float};
use crate::tensor::Tensor;

pub(super) fn forward(
    gpu: Gpu,
    [n, h, w, c]: [usize; 4],
    x: &Tensor,
    y: &mut Tensor,
    winner: &mut Tensor,
) -> Result<()> {
    let sizes = (n as i64, (h * w) as i64, c as i64);
    let arguments = (x.address(), y.address_mut()?, winner.address_mut()?, sizes.0, sizes.1, sizes.2);
    // SAFETY: x has n * h * w * c numbers, y n * 2c, winner n * c, of the kernel's types; there is at least one pixel.
    unsafe { gpu.launch(per_float!("concat_pool_forward").of(x.dtype())?, Launch::over(n * c), arguments) }
}

pub(super) fn backward(
    gpu: Gpu,
    [n, h, w, c]: [usize; 4],
    dy: &Tensor,
    winner: &Tensor,
    dx: &mut Tensor,
) -> Result<()> {
    let sizes = (n as i64, (h * w) as i64, c as i64);
    let arguments = (dy.address(), winner.address(), dx.address_mut()?, sizes.0, sizes.1, sizes.2);
    // SAFETY: dx has n * h * w * c numbers, dy n * 2c, winner n * c, of the kernel's types.
    unsafe { gpu.launch(per_float!("concat_pool_backward").of(dy.dtype())?, Launch::over(n * h * w * c), arguments) }
}
