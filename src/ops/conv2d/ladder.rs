//! The rungs of a GPU's convolution, one by one: for benches and for tests that compare them. Training takes the best by itself.

use super::{Geometry, cuda};
use crate::device::Device;
use crate::tensor::{Tensor, same_kind};
use crate::{Error, ErrorKind, Result};

/// A version of the kernels; `kernels/conv2d.cu` tells what each is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rung {
    /// One thread per result.
    Naive,
    /// Matrix products through shared memory.
    Tiled,
}

impl Rung {
    /// All of them, from the ground up.
    pub const ALL: [Rung; 2] = [Rung::Naive, Rung::Tiled];
    /// What training uses.
    pub(super) const BEST: Rung = Rung::Tiled;
}

fn gpu(op: &str, operands: &[&Tensor]) -> Result<crate::device::cuda::Gpu> {
    match same_kind(op, operands)?.1 {
        Device::Cuda(gpu) => Ok(gpu),
        other => {
            Err(Error::new(ErrorKind::Device, format!("the ladder is for GPUs, the operands are on {other}")).on(op))
        }
    }
}

/// `x [N, H, W, C]` and `weight [K, R, S, C]` to `y [N, P, Q, K]`.
///
/// # Errors
/// As [`ops::conv2d`](crate::ops::conv2d()); [`ErrorKind::Device`] when the operands are not on a GPU.
pub fn forward(rung: Rung, x: &Tensor, weight: &Tensor, stride: [usize; 2], padding: [usize; 2]) -> Result<Tensor> {
    let g = Geometry::new(x, weight, stride, padding)?;
    let gpu = gpu("conv2d", &[x, weight])?;
    let mut y = Tensor::uninit([g.n, g.p, g.q, g.k], x.dtype(), x.device())?;
    cuda::forward(gpu, rung, &g, x, weight, None, &mut y)?;
    Ok(y)
}

/// `dy [N, P, Q, K]` to `dx`, for an `x` of that shape; its numbers are not looked at.
///
/// # Errors
/// As [`forward`].
pub fn input_gradient(
    rung: Rung,
    x: &Tensor,
    weight: &Tensor,
    dy: &Tensor,
    stride: [usize; 2],
    padding: [usize; 2],
) -> Result<Tensor> {
    let g = Geometry::new(x, weight, stride, padding)?;
    let gpu = gpu("conv2d", &[x, weight, dy])?;
    check_gradient(&g, dy)?;
    let mut dx = Tensor::uninit(x.shape(), x.dtype(), x.device())?;
    cuda::input_gradient(gpu, rung, &g, dy, weight, &mut dx)?;
    Ok(dx)
}

/// `x [N, H, W, C]` and `dy [N, P, Q, K]` to `dw` (f32), for a `weight` of that shape; its numbers are not looked at.
///
/// # Errors
/// As [`forward`].
pub fn weight_gradient(
    rung: Rung,
    x: &Tensor,
    weight: &Tensor,
    dy: &Tensor,
    stride: [usize; 2],
    padding: [usize; 2],
) -> Result<Tensor> {
    let g = Geometry::new(x, weight, stride, padding)?;
    let gpu = gpu("conv2d", &[x, weight, dy])?;
    check_gradient(&g, dy)?;
    let mut dw = Tensor::uninit(weight.shape(), x.dtype().master(), x.device())?;
    cuda::weight_gradient(gpu, rung, &g, x, dy, &mut dw)?;
    Ok(dw)
}

fn check_gradient(g: &Geometry, dy: &Tensor) -> Result<()> {
    match dy.shape()[..] == [g.n, g.p, g.q, g.k] {
        true => Ok(()),
        false => Err(Error::shape("conv2d", format!("gradient {} for {g:?}", dy.shape()))),
    }
}
