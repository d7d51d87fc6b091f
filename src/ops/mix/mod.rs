//! Mixed pictures: every item of a batch together with another one of it.
//!
//! ```text
//! mix_up    y[i] = share[i] x[i] + (1 - share[i]) x[partner[i]]                       Zhang et al., "mixup", 2018
//! cut_mix   y[i] = x[partner[i]] inside a rectangle, x[i] outside                     Yun et al., "CutMix", 2019
//! ```
//!
//! What becomes of the targets is the loss's matter: it is the mean of both targets' losses, with the same shares. Neither has a
//! gradient, since both make inputs. The draws are the caller's.

mod cpu;
pub(crate) mod cuda;

use crate::autograd::refuse_grad;
use crate::device::Device;
use crate::ops::rounded::{self, half_on_cpu};
use crate::tensor::{Tensor, for_float, same_kind};
use crate::{Error, Result};

/// A rectangle of a picture: first row and column, and those behind the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patch {
    /// The first row.
    pub top: usize,
    /// The row behind the last.
    pub bottom: usize,
    /// The first column.
    pub left: usize,
    /// The column behind the last.
    pub right: usize,
}

/// Every item of `x [N, ..]` mixed with its partner: `shares` are those of the item itself.
///
/// # Errors
/// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when there isn't a partner and a share for each item, a partner isn't in the batch, or a
/// share isn't in 0..=1.
pub fn mix_up(x: &Tensor, partners: &[usize], shares: &[f32]) -> Result<Tensor> {
    check("mix_up", x, partners)?;
    if shares.len() != partners.len() || !shares.iter().all(|share| (0.0..=1.0).contains(share)) {
        let message = format!("{} items need as many shares from 0 to 1, got {shares:?}", partners.len());
        return Err(Error::shape("mix_up", message));
    }
    if let Some(dtype) = half_on_cpu(x) {
        return rounded::to(dtype, &mix_up(&rounded::activation(x)?, partners, shares)?);
    }
    let mut y = Tensor::uninit(x.shape().clone(), x.dtype(), x.device())?;
    match x.device() {
        _ if x.numel() == 0 => {}
        Device::Cpu => for_float!(x.dtype(), T => cpu::mix_up::<T>(x.cpu(), partners, shares, y.cpu_mut())),
        Device::Cuda(gpu) => cuda::mix_up(gpu, x, partners, shares, &mut y)?,
    }
    Ok(y)
}

/// Every picture of `x [N, H, W, C]` with the part of its partner that is inside `patch`.
///
/// # Errors
/// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when there isn't a partner for each picture, a partner isn't in the batch, or the patch
/// isn't in the pictures.
pub fn cut_mix(x: &Tensor, partners: &[usize], patch: Patch) -> Result<Tensor> {
    check("cut_mix", x, partners)?;
    let [_, h, w, c] = x.dims4("cut_mix")?;
    let Patch { top, bottom, left, right } = patch;
    if top > bottom || bottom > h || left > right || right > w {
        return Err(Error::shape("cut_mix", format!("{patch:?} is not inside pictures of {h} rows and {w} columns")));
    }
    if let Some(dtype) = half_on_cpu(x) {
        return rounded::to(dtype, &cut_mix(&rounded::activation(x)?, partners, patch)?);
    }
    let mut y = Tensor::uninit(x.shape().clone(), x.dtype(), x.device())?;
    match x.device() {
        _ if x.numel() == 0 => {}
        Device::Cpu => for_float!(x.dtype(), T => cpu::cut_mix::<T>(x.cpu(), partners, patch, [w, c], y.cpu_mut())),
        Device::Cuda(gpu) => cuda::cut_mix(gpu, x, partners, patch, &mut y)?,
    }
    Ok(y)
}

fn check(op: &str, x: &Tensor, partners: &[usize]) -> Result<()> {
    refuse_grad(op, &[x])?;
    same_kind(op, &[x])?;
    let Some(&n) = x.shape().first() else { return Err(Error::shape(op, "a scalar has no items")) };
    if partners.len() != n || partners.iter().any(|&p| p >= n) {
        return Err(Error::shape(op, format!("{n} items need as many partners among them, got {partners:?}")));
    }
    Ok(())
}
