//! Addition on a GPU: `kernels/add.cu`.

use crate::Result;
use crate::device::cuda::driver::Launch;
use crate::device::cuda::{Gpu, per_float};
use crate::tensor::Tensor;

pub(super) fn forward(gpu: Gpu, a: &Tensor, b: &Tensor, y: &mut Tensor) -> Result<()> {
    let n = y.numel();
    let arguments = (a.address(), b.address(), y.address_mut()?, n as i64);
    // SAFETY: all three have `n` numbers of the kernel's type.
    unsafe { gpu.launch(per_float!("add_forward").of(a.dtype())?, Launch::over(n), arguments) }
}
