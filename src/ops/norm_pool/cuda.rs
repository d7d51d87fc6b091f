//! Norm, ReLU and pooling in one pass on a GPU: `kernels/norm_pool.cu`, which explains the passes.

use crate::Result;
use crate::device::cuda::driver::Address;
use crate::device::cuda::{Gpu, per_float};
use crate::ops::batch_norm::cuda::{Affine, Norm, Sizes, finish_reduce};
use crate::ops::max_pool::Geometry;
use crate::ops::max_pool::cuda::MaxPool;
use crate::tensor::Tensor;

/// What the kernels normalise by.
pub(super) fn norm(mean: &Tensor, invstd: &Tensor, weight: &Tensor, bias: &Tensor) -> Norm {
    Affine { mean, invstd, weight, bias }.into()
}

pub(super) fn forward(
    gpu: Gpu,
    g: &Geometry,
    x: &Tensor,
    norm: Norm,
    y: &mut Tensor,
    winner: &mut Tensor,
) -> Result<()> {
    Sizes::of(x)?; // refuses what is too large
    let launch = Sizes::of(y)?.by_pack();
    let arguments = (MaxPool::from(g), x.address(), norm, y.address_mut()?, winner.address_mut()?);
    // SAFETY: x has the input's size, y and winner the output's, of the kernel's types; the norm's numbers are [c] f32.
    unsafe { gpu.launch(per_float!("norm_pool_forward").of(x.dtype())?, launch, arguments) }
}

/// What the gradient before the pooling is made of.
pub(super) struct Arriving<'a> {
    pub g: &'a Geometry,
    pub dy: &'a Tensor,
    pub winner: &'a Tensor,
    pub norm: Norm,
}

/// `dw` and `db`.
pub(super) fn reduce(
    gpu: Gpu,
    from: &Arriving<'_>,
    x: &Tensor,
    invstd: &Tensor,
    (dw, db): (&mut Tensor, &mut Tensor),
) -> Result<()> {
    let s = Sizes::of(x)?;
    let mut partial = s.partial(gpu)?;
    let (g, dy, winner) = (MaxPool::from(from.g), from.dy.address(), from.winner.address());
    let arguments = (g, x.address(), dy, winner, from.norm, partial.address_mut()?);
    // SAFETY: x has the input's size, dy and winner the output's, of the kernel's types; the norm's numbers are [c] f32, the sums
    // [tiles, 2, c] f32.
    unsafe { gpu.launch(per_float!("norm_pool_reduce").of(x.dtype())?, s.by_tile(), arguments)? };
    finish_reduce(gpu, &partial, invstd, dw, db)
}

/// `dx`; in training with the sums, `dw` and `db`.
pub(super) fn input_gradient(
    gpu: Gpu,
    from: &Arriving<'_>,
    x: &Tensor,
    sums: Option<(&Tensor, &Tensor)>,
    dx: &mut Tensor,
) -> Result<()> {
    let (g, dy, winner) = (MaxPool::from(from.g), from.dy.address(), from.winner.address());
    let (dw, db) = sums.map_or((Address::NULL, Address::NULL), |(dw, db)| (dw.address(), db.address()));
    let arguments = (g, x.address(), dy, winner, from.norm, dw, db, dx.address_mut()?);
    let launch = Sizes::of(x)?.by_pack();
    // SAFETY: as above; dx has the input's size, dw and db (or none) are [c] f32.
    unsafe { gpu.launch(per_float!("norm_pool_input_gradient").of(x.dtype())?, launch, arguments) }
}
