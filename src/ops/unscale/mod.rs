//! Gradients times a number, all of them in one launch: `d = d * by`.
//!
//! Training in f16 multiplies the loss by a large number, so that small gradients don't vanish in 11 bits of precision and 5 of
//! exponent; before the optimizer's step the gradients are divided by it again. The number is a power of two, so nothing is rounded.

mod cpu;
pub(crate) mod cuda;

use crate::device::Device;
use crate::tensor::{Tensor, for_float, same_kind};
use crate::{DType, Error, Result};

/// Multiplies every number of `gradients` by `by`, in place.
///
/// # Errors
/// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when dtypes or devices differ; on a GPU they are f32.
pub fn unscale(gradients: &mut [Tensor], by: f64) -> Result<()> {
    if gradients.is_empty() {
        return Ok(());
    }
    let (dtype, device) = same_kind("unscale", &gradients.iter().collect::<Vec<_>>())?;
    match device {
        Device::Cpu => {
            for_float!(dtype.master(), T => gradients.iter_mut().for_each(|d| cpu::scale::<T>(d.cpu_mut(), by)));
            Ok(())
        }
        Device::Cuda(gpu) if dtype == DType::F32 => cuda::unscale(gpu, gradients, by),
        Device::Cuda(_) => Err(Error::shape("unscale", format!("gradients of parameters are f32, not {dtype}"))),
    }
}
