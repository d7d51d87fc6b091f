//! The rectified linear unit: `y = max(x, 0)`; `dx = dy` where `x > 0`, else 0 (also at exactly 0, as PyTorch).
//!
//! The backward looks at `y` instead of `x`: `y > 0` exactly where `x > 0`, and `y` is kept by the next layer anyway.

mod cpu;
mod cuda;

use crate::Result;
use crate::autograd::{self, Backward};
use crate::device::Device;
use crate::ops::rounded::{self, half_on_cpu};
use crate::tensor::{Tensor, for_float, same_kind};

/// `max(x, 0)`, element by element; NaN stays NaN.
///
/// # Errors
/// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when `x` isn't a float tensor.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    let (dtype, device) = same_kind("relu", &[x])?;
    if let Some(dtype) = half_on_cpu(x) {
        return rounded::to(dtype, &relu(&rounded::activation(x)?)?);
    }
    let mut y = Tensor::uninit(x.shape(), dtype, device)?;
    match device {
        Device::Cpu => for_float!(dtype, T => cpu::forward::<T>(x.cpu(), y.cpu_mut())),
        Device::Cuda(gpu) => cuda::forward(gpu, x, &mut y)?,
    }
    let saved = y.detach();
    Ok(autograd::record("relu", &[x], y, |_| ReluBackward { y: saved }))
}

struct ReluBackward {
    y: Tensor,
}

impl Backward for ReluBackward {
    fn backward(self: Box<Self>, mut dy: Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        match dy.device() {
            Device::Cpu => for_float!(dy.dtype(), T => cpu::backward::<T>(self.y.cpu(), dy.cpu_mut())),
            Device::Cuda(gpu) => cuda::backward(gpu, &self.y, &mut dy)?,
        }
        Ok(vec![Some(dy)])
    }
}
