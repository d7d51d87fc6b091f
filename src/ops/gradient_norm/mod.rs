//! The norm of all gradients together, whether one of them is not finite, and clipping by the norm.
//!
//! ```text
//! norm       = sqrt(sum over all numbers of all gradients of d²)
//! not_finite = how many numbers are infinite or NaN
//! clip:        d = d min(1, max_norm / (norm + 1e-6))
//! ```
//!
//! Clipping divides by the first, loss scaling looks at the second. Both stay on the gradients' device: whoever asks
//! for the number waits for it, whoever hands it to the next kernel doesn't.
//!
//! Clipping can go by another norm, `(sum |d|^p)^(1/p)`, or the largest `|d|` where `p` is infinite. That is rare, so on a GPU it has no
//! kernel: the gradients are copied to the host, which costs a wait for each step.

mod cpu;
pub(crate) mod cuda;

use crate::device::Device;
use crate::tensor::{Tensor, for_float, same_kind};
use crate::{DType, Error, ErrorKind, Result};

/// What [`gradient_norm`] finds.
#[derive(Clone, Debug)]
pub struct GradientNorm {
    /// The norm: a scalar of the gradients' dtype.
    pub norm: Tensor,
    /// How many numbers are infinite or NaN: an i64 scalar.
    pub not_finite: Tensor,
}

/// Scales `gradients` in place so that their norm, taken as one long vector, is at most `max_norm`: PyTorch's `clip_grad_norm_`. The norm
/// is the p-norm for `norm_type` = p, 2 for the usual one, infinity for the largest number. Returns the norm they had. On a GPU
/// nobody waits for it, if it is the usual one. If it isn't finite, no gradient is afterwards.
///
/// # Errors
/// As [`gradient_norm`]; [`ErrorKind::Argument`] when `norm_type` is not above 0.
pub fn clip_gradients(gradients: &mut [Tensor], max_norm: f64, norm_type: f64) -> Result<GradientNorm> {
    let all: Vec<&Tensor> = gradients.iter().collect();
    let found = if norm_type == 2.0 { gradient_norm(&all)? } else { p_norm(&all, norm_type)? };
    match found.norm.device() {
        Device::Cpu => {
            let factor = max_norm / (found.norm.item()? + 1e-6);
            for d in gradients.iter_mut().filter(|_| factor < 1.0 || factor.is_nan()) {
                for_float!(d.dtype(), T => cpu::scale::<T>(d.cpu_mut(), factor));
            }
        }
        Device::Cuda(gpu) => cuda::clip(gpu, gradients, &found.norm, max_norm)?,
    }
    Ok(found)
}

/// As [`gradient_norm`], by another norm, computed on the host.
fn p_norm(gradients: &[&Tensor], p: f64) -> Result<GradientNorm> {
    if p.is_nan() || p <= 0.0 {
        let error = Error::new(ErrorKind::Argument, format!("there is no norm of type {p}")).on("norm_type");
        return Err(error.remedy("use 2, another number above 0, or f64::INFINITY for the largest number"));
    }
    if gradients.is_empty() {
        return Err(Error::shape("gradient_norm", "there are no gradients"));
    }
    let (dtype, device) = same_kind("gradient_norm", gradients)?;
    let (mut sum, mut bad) = (0.0, 0);
    for d in gradients {
        for v in d.to_f64_vec()? {
            bad += i64::from(!v.is_finite());
            sum = match p.is_infinite() {
                // Not `max`, which passes over NaN.
                true if v.abs() > sum || v.is_nan() => v.abs(),
                true => sum,
                false => sum + v.abs().powf(p),
            };
        }
    }
    let norm = if p.is_infinite() { sum } else { sum.powf(1.0 / p) };
    Ok(GradientNorm { norm: Tensor::scalar(norm, dtype, device)?, not_finite: Tensor::from_slice(&[bad], [], device)? })
}

/// Norm and health of `gradients`, taken as one long vector.
///
/// # Errors
/// [`ErrorKind::Shape`] when there are none, or dtypes or devices differ; on a GPU they are f32.
pub fn gradient_norm(gradients: &[&Tensor]) -> Result<GradientNorm> {
    if gradients.is_empty() {
        return Err(Error::shape("gradient_norm", "there are no gradients"));
    }
    let (dtype, device) = same_kind("gradient_norm", gradients)?;
    match device {
        Device::Cpu => {
            let (mut squares, mut bad) = (0.0, 0);
            for d in gradients {
                for_float!(dtype, T => cpu::add_to::<T>(d.cpu(), &mut squares, &mut bad));
            }
            let norm = Tensor::scalar(squares.sqrt(), dtype, device)?;
            Ok(GradientNorm { norm, not_finite: Tensor::from_slice(&[bad], [], device)? })
        }
        Device::Cuda(gpu) if dtype == DType::F32 => cuda::gradient_norm(gpu, gradients),
        Device::Cuda(_) => Err(Error::shape("gradient_norm", format!("gradients of parameters are f32, not {dtype}"))),
    }
}
