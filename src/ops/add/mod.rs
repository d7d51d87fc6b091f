//! The sum of two tensors of one shape: `y = a + b`, `da = db = dy`. Both gradients share one memory; whoever writes first
//! makes a copy.

mod cpu;
mod cuda;

use crate::autograd::{self, Backward};
use crate::device::Device;
use crate::ops::rounded::{self, half_on_cpu};
use crate::tensor::{Tensor, for_float, same_kind};
use crate::{Error, Result};

/// `a + b`, element by element.
///
/// # Errors
/// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when shapes, dtypes or devices differ.
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if a.shape() != b.shape() {
        return Err(Error::shape("add", format!("shapes {} and {} differ", a.shape(), b.shape())));
    }
    let (dtype, device) = same_kind("add", &[a, b])?;
    if let Some(dtype) = half_on_cpu(a) {
        return rounded::to(dtype, &add(&rounded::activation(a)?, &rounded::activation(b)?)?);
    }
    let mut y = Tensor::uninit(a.shape(), dtype, device)?;
    match device {
        Device::Cpu => for_float!(dtype, T => cpu::forward::<T>(a.cpu(), b.cpu(), y.cpu_mut())),
        Device::Cuda(gpu) => cuda::forward(gpu, a, b, &mut y)?,
    }
    Ok(autograd::record("add", &[a, b], y, |_| AddBackward))
}

struct AddBackward;

impl Backward for AddBackward {
    fn backward(self: Box<Self>, dy: Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(dy.clone()), Some(dy)])
    }
}
