//! Norm, ReLU and pooling in one pass on a GPU: `kernels/norm_pool.cu`, which explains the passes.

use crate::Result;
use crate::device::cuda::driver::{Address, Launch, THREADS};
use crate::device::cuda::{Gpu, per_float};
use crate::ops::batch_norm::cuda::{Affine, Norm, Sizes, finish_reduce};
use crate::ops::max_pool::Geometry;
use crate::ops::max_pool::cuda::MaxPool;
use crate::tensor::Tensor;

/// What the kernels normalise by.
pub(super) fn norm(mean: &Tensor, invstd: &Tensor, weight: &Tensor, bias: &Tensor) -> Norm {
    Affine { mean, invstd, weight, bias }.into()
}

/// Windows below one another in a strip; `max_pool.cuh` says the same. Strips of a tile: `norm_sums.cuh`'s rows of threads.
const STRIP: usize = 8;
const TILE_STRIPS: usize = 32;

/// The strips that threads go down instead of through single pixels: where windows are a ResNet's, and channels come in packs.
fn strips(g: &Geometry, s: &Sizes) -> Option<usize> {
    let [p, q] = g.output;
    let resnets = (g.window, g.stride, g.padding) == (3, 2, 1) && s.packs().is_some();
    resnets.then(|| g.input[0] * p.div_ceil(STRIP) * q)
}

/// A thread for each pack of each strip, or those that go through all numbers.
fn by_strip(strips: Option<usize>, s: &Sizes) -> Launch {
    match strips.zip(s.packs()) {
        Some((strips, packs)) => Launch::blocks((strips * packs).div_ceil(THREADS as usize)),
        None => s.by_pack(),
    }
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
    let s = Sizes::of(y)?;
    let launch = by_strip(strips(g, &s).filter(|_| y.dtype().is_half()), &s);
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
    let s = match strips(from.g, &s) {
        Some(strips) => s.in_tiles(strips.div_ceil(TILE_STRIPS)),
        None => s,
    };
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
    let s = Sizes::of(x)?;
    let launch = by_strip(strips(from.g, &s), &s);
    // SAFETY: as above; dx has the input's size, dw and db (or none) are [c] f32.
    unsafe { gpu.launch(per_float!("norm_pool_input_gradient").of(x.dtype())?, launch, arguments) }
}
