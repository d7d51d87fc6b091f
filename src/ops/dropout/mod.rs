//! Dropout (Srivastava et al., 2014), inverted: in training each number is kept with probability `1 - p` and divided by it,
//! so that evaluation does nothing at all.
//!
//! ```text
//! y = x * mask / (1 - p)      dx = dy * mask / (1 - p)
//! ```
//!
//! The mask is a function of (seed, step, layer) and of the element's place: the same on every device.

mod cpu;

use crate::autograd::{self, Backward};
use crate::device::Device;
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
    let mut rng = Rng::at(seed, Purpose::Dropout, step, layer);
    // 32 bits decide: the chance is exact to 2^-32.
    let threshold = (p * (1u64 << 32) as f64) as u64;
    let mask: Vec<u8> = (0..x.numel()).map(|_| u8::from(u64::from(rng.next_u32()) >= threshold)).collect();
    dropout_with(x, p, &Tensor::from_slice(&mask, x.shape(), x.device())?)
}

/// Dropout with a given `mask` of 0 and 1, u8, in the shape of `x`.
///
/// # Errors
/// [`ErrorKind::Shape`] when the mask doesn't fit.
pub fn dropout_with(x: &Tensor, p: f64, mask: &Tensor) -> Result<Tensor> {
    let (dtype, device) = same_kind("dropout", &[x])?;
    if mask.dtype() != DType::U8 || mask.shape() != x.shape() {
        return Err(Error::shape("dropout", format!("mask {} {} for {}", mask.dtype(), mask.shape(), x.shape())));
    }
    let mut y = x.detach();
    let Device::Cpu = device;
    for_float!(dtype, T => cpu::scale::<T>(mask.cpu(), 1.0 / (1.0 - p), y.cpu_mut()));
    Ok(autograd::record("dropout", &[x], y, |_| DropoutBackward { p, mask: mask.detach() }))
}

struct DropoutBackward {
    p: f64,
    mask: Tensor,
}

impl Backward for DropoutBackward {
    fn backward(self: Box<Self>, mut dy: Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let Device::Cpu = dy.device();
        for_float!(dy.dtype(), T => cpu::scale::<T>(self.mask.cpu(), 1.0 / (1.0 - self.p), dy.cpu_mut()));
        Ok(vec![Some(dy)])
    }
}
