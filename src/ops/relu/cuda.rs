//! ReLU on a GPU: `kernels/relu.cu`.

use crate::Result;
use crate::device::cuda::driver::Launch;
use crate::device::cuda::{Gpu, per_float};
use crate::tensor::Tensor;

pub(super) fn forward(gpu: Gpu, x: &Tensor, y: &mut Tensor) -> Result<()> {
    let n = x.numel();
    let arguments = (x.address(), y.address_mut()?, n as i64);
    // SAFETY: both have `n` numbers of the kernel's type.
    unsafe { gpu.launch(per_float!("relu_forward").of(x.dtype())?, Launch::over(n), arguments) }
}

/// `dy` becomes `dx`.
pub(super) fn backward(gpu: Gpu, y: &Tensor, dy: &mut Tensor) -> Result<()> {
    let (n, dtype) = (y.numel(), y.dtype());
    let d = dy.address_mut()?;
    // SAFETY: all have `n` numbers of the kernel's type; the kernel allows `dx` in the place of `dy`.
    unsafe { gpu.launch(per_float!("relu_backward").of(dtype)?, Launch::over(n), (y.address(), d, d, n as i64)) }
}
