//! Dropout (Srivastava et al., 2014), inverted: in training each number is kept with probability `1 - p` and divided by it,
//! so that evaluation does nothing at all.
//!
//! ```text
//! y = x * mask / (1 - p)      dx = dy * mask / (1 - p)
//! ```
//!
//! The mask is a function of (seed, step, layer) and of the element's place: the same on every device.

mod cpu;
pub(crate) mod cuda;

use crate::autograd::{self, Backward};
use crate::device::Device;
use crate::device::cuda::Memory;
use crate::ops::rounded::{self, half_on_cpu};
use crate::rng::{Purpose, Rng};
use crate::tensor::{Tensor, for_float, same_kind};
use crate::{DType, Error, ErrorKind, Result};

/// Drops numbers of `x` with probability `p`, by the mask at the address (`seed`, `step`, `layer`).
///
/// # Errors
/// [`ErrorKind::Argument`] unless `0 <= p < 1`.
pub fn dropout(x: &Tensor, p: f64, seed: u64, step: u64, layer: u64) -> Result<Tensor> {
    if !(0.0..1.0).contains(&p) {
        return Err(Error::new(ErrorKind::Argument, format!("the probability must be in 0..1, not {p}")).on("dropout"));
    }
    same_kind("dropout", &[x])?;
    if let Some(dtype) = half_on_cpu(x) {
        return rounded::to(dtype, &dropout(&rounded::activation(x)?, p, seed, step, layer)?);
    }
    let rng = Rng::at(seed, Purpose::Dropout, step, layer);
    // 32 bits decide: the chance is exact to 2^-32.
    let threshold = (p * (1u64 << 32) as f64) as u64;
    let mask = match x.device() {
        Device::Cpu => {
            let mut rng = rng;
            let mask: Vec<u8> = (0..x.numel()).map(|_| u8::from(u64::from(rng.next_u32()) >= threshold)).collect();
            Mask::Stored(Tensor::from_slice(&mask, x.shape(), x.device())?)
        }
        Device::Cuda(gpu) => Mask::Address(cuda::draw(gpu, &rng)?, threshold),
    };
    masked(x, p, mask)
}

/// Dropout with a given `mask` of 0 and 1, u8, in the shape of `x`.
///
/// # Errors
/// [`ErrorKind::Shape`] when the mask doesn't fit.
pub fn dropout_with(x: &Tensor, p: f64, mask: &Tensor) -> Result<Tensor> {
    same_kind("dropout", &[x])?;
    if mask.dtype() != DType::U8 || mask.shape() != x.shape() || mask.device() != x.device() {
        let of = |t: &Tensor| format!("{} {} on {}", t.dtype(), t.shape(), t.device());
        return Err(Error::shape("dropout", format!("mask {} for {}", of(mask), of(x))));
    }
    if let Some(dtype) = half_on_cpu(x) {
        return rounded::to(dtype, &masked(&rounded::activation(x)?, p, Mask::Stored(mask.detach()))?);
    }
    masked(x, p, Mask::Stored(mask.detach()))
}

/// Which numbers stay.
enum Mask {
    /// One byte each.
    Stored(Tensor),
    /// Those whose 32 random bits are not below the threshold: computed where they are needed.
    Address(Memory, u64),
}

impl Mask {
    /// `x` becomes `x * mask / (1 - p)`.
    fn apply(&self, p: f64, x: &mut Tensor) -> Result<()> {
        let factor = 1.0 / (1.0 - p);
        match (self, x.device()) {
            (Mask::Stored(mask), Device::Cpu) => {
                for_float!(x.dtype(), T => cpu::scale::<T>(mask.cpu(), factor, x.cpu_mut()));
                Ok(())
            }
            (Mask::Stored(mask), Device::Cuda(gpu)) => cuda::apply_mask(gpu, mask, factor, x),
            (Mask::Address(draw, threshold), Device::Cuda(gpu)) => cuda::apply(gpu, draw, *threshold, factor, x),
            (Mask::Address(..), Device::Cpu) => unreachable!("the processor's masks are stored"),
        }
    }
}

fn masked(x: &Tensor, p: f64, mask: Mask) -> Result<Tensor> {
    let mut y = x.detach();
    mask.apply(p, &mut y)?;
    Ok(autograd::record("dropout", &[x], y, |_| DropoutBackward { p, mask }))
}

struct DropoutBackward {
    p: f64,
    mask: Mask,
}

impl Backward for DropoutBackward {
    fn backward(self: Box<Self>, mut dy: Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        self.mask.apply(self.p, &mut dy)?;
        Ok(vec![Some(dy)])
    }
}
