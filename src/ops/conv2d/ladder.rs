//! The rungs of a GPU's convolution, one by one: for benches and for tests that compare them. [`crate::ops::ladder`] says which of them
//! training uses.

use super::Geometry;
use super::cuda::{self, Finish};
use super::tile::Tile;
use crate::device::Device;
use crate::device::cuda::Gpu;
use crate::ops::batch_norm::notes::Origin;
use crate::ops::ladder::{self, tf32};
use crate::tensor::{DType, Tensor, same_kind};
use crate::{Error, ErrorKind, Result};
use std::fmt;

pub use crate::ops::ladder::Rung;

impl Rung {
    /// Whether it computes a convolution of these sizes in `dtype`.
    pub fn serves(self, g: &Geometry, dtype: DType) -> bool {
        self < Rung::TensorCores || in_chunks(g, dtype) || is_stem(g, dtype)
    }

    /// What training uses for a layer.
    ///
    /// # Errors
    /// As [`ladder::highest`].
    pub(crate) fn best(g: &Geometry, dtype: DType) -> Result<Rung> {
        let highest = ladder::highest()?;
        Ok(if highest.serves(g, dtype) { highest } else { Rung::Tiled })
    }
}

/// Channels come in 16 bytes at a time: multiples of 8, in f32 (where tensor cores may) of 4.
pub(crate) fn in_chunks(g: &Geometry, dtype: DType) -> bool {
    let chunk = if dtype.is_half() { 8 } else { 4 };
    (dtype.is_half() || (dtype == DType::F32 && tf32())) && g.c.is_multiple_of(chunk) && g.k.is_multiple_of(chunk)
}

/// What `kernels/conv2d_stem.cu` is for: the first layer of a ResNet.
pub(super) fn is_stem(g: &Geometry, dtype: DType) -> bool {
    dtype.is_half() && g.c <= 4 && g.k.is_multiple_of(8) && g.r == 7 && g.s <= 8 && g.stride == [2, 2]
}

/// Whether the kernels that bring the pixels under a 3x3 window once serve a layer's forward pass and its input gradient: where the window leaves
/// pixels where they are, channels come in steps of 32, and a slab of rows fits.
pub(super) fn is_slab(g: &Geometry, dtype: DType) -> bool {
    let window = [g.r, g.s] == [3, 3] && g.stride == [1, 1] && g.padding == [1, 1];
    let channels = g.c > 0 && g.k > 0 && g.c.is_multiple_of(32) && g.k.is_multiple_of(32);
    dtype.is_half() && window && channels && g.w <= 127
}

/// Whether the kernel that makes such a window's weight gradient of all taps at once serves a layer: 64 channels of both sides are a block, and three of
/// its slabs have to fit.
pub(super) fn is_taps(g: &Geometry, dtype: DType) -> bool {
    is_slab(g, dtype) && g.c.is_multiple_of(64) && g.k.is_multiple_of(64) && g.w <= 64 && g.h <= 1 << 14
}

/// One of a convolution's three products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// `y`.
    Forward,
    /// `dx`.
    InputGradient,
    /// `dw`.
    WeightGradient,
}

/// The kernels of the two upper rungs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Way {
    /// `conv2d_mma.cu`: tiles of results.
    Tile(Tile),
    /// `conv2d_stem.cu`: the first layer of a network.
    Stem,
    /// `conv2d_slab.cu`: tiles of results of a 3x3 window, the pixels under them brought once.
    Slab(Tile),
    /// `conv2d_taps.cu`: a weight gradient of nine taps at once.
    Taps,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Way::Tile(tile) => tile.fmt(f),
            Way::Slab(tile) => write!(f, "{tile} of a slab"),
            Way::Stem => f.write_str("stem"),
            Way::Taps => f.write_str("nine taps of 64x64"),
        }
    }
}

/// How the two upper rungs divide a product among blocks; a function of the sizes and the type alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Plan {
    /// The kernel, and what its blocks make.
    pub way: Way,
    /// Blocks, all parts together.
    pub blocks: usize,
    /// Parts of the reduction, whose sums are added at the end.
    pub splits: usize,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} blocks", self.way, self.blocks)?;
        if self.splits > 1 { write!(f, " in {} parts", self.splits) } else { Ok(()) }
    }
}

/// The plan of a product; `None` where tensor cores don't serve it.
pub fn plan(direction: Direction, g: &Geometry, dtype: DType) -> Option<Plan> {
    let stem = is_stem(g, dtype) && direction != Direction::InputGradient && !in_chunks(g, dtype);
    match (in_chunks(g, dtype) || stem, direction) {
        (true, Direction::Forward) => Some(cuda::forward_plan(g, dtype)),
        (true, Direction::InputGradient) => Some(cuda::input_plan(g, dtype)),
        (true, Direction::WeightGradient) => Some(cuda::weight_plan(g, dtype)),
        (false, _) => None,
    }
}

fn gpu(op: &str, operands: &[&Tensor]) -> Result<Gpu> {
    match same_kind(op, operands)?.1 {
        Device::Cuda(gpu) => Ok(gpu),
        other => {
            Err(Error::new(ErrorKind::Device, format!("the ladder is for GPUs, the operands are on {other}")).on(op))
        }
    }
}

/// `x [N, H, W, C]` and `weight [K, R, S, C]` to `y [N, P, Q, K]`. [`Rung::Fused`] takes the sums that a batch norm would ask for, too.
///
/// # Errors
/// As [`ops::conv2d`](crate::ops::conv2d()); [`ErrorKind::Device`] when the operands are not on a GPU; [`ErrorKind::Argument`] when the
/// rung doesn't serve them.
pub fn forward(rung: Rung, x: &Tensor, weight: &Tensor, stride: [usize; 2], padding: [usize; 2]) -> Result<Tensor> {
    let g = Geometry::new(x, weight, stride, padding)?;
    let gpu = gpu("conv2d", &[x, weight])?;
    check_rung(rung, &g, x)?;
    let mut y = Tensor::uninit([g.n, g.p, g.q, g.k], x.dtype(), x.device())?;
    cuda::forward(gpu, rung, &g, x, weight, None, true, &mut y)?;
    Ok(y)
}

/// `dy [N, P, Q, K]` to `dx`, for an `x` of that shape; its numbers are not looked at. This is the bare product on all rungs.
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
    check_rung(rung, &g, x)?;
    check_gradient(&g, dy)?;
    let mut dx = Tensor::uninit(x.shape(), x.dtype(), x.device())?;
    cuda::input_gradient(gpu, rung, &g, dy, weight, Finish::default(), &mut dx)?;
    Ok(dx)
}

/// What [`input_gradient_finished`] does besides.
#[derive(Clone, Copy)]
pub struct Finished<'a> {
    /// `[N, H, W, C]`, added to the gradient.
    pub so_far: Option<&'a Tensor>,
    /// What the norm saw whose output, behind a ReLU, is the convolution's input: `[N, H, W, C]`.
    pub seen: &'a Tensor,
    /// Its mean, 1 / sqrt(var + eps), weight and bias: `[C]` f32 each.
    pub numbers: [&'a Tensor; 4],
    /// The convolution's input, where something was added before the ReLU, so that only this tells where it clipped.
    pub made: Option<&'a Tensor>,
}

/// As [`input_gradient`] on [`Rung::Fused`], with all that the rung does on the way: the gradient before the ReLU of the norm that
/// made `x`, and its sums over tiles, `[tiles, 2, C]`: of the gradient times (`seen` - mean), and of the gradient.
///
/// # Errors
/// As [`forward`].
pub fn input_gradient_finished(
    x: &Tensor,
    weight: &Tensor,
    dy: &Tensor,
    finished: Finished<'_>,
    stride: [usize; 2],
    padding: [usize; 2],
) -> Result<(Tensor, Tensor)> {
    let g = Geometry::new(x, weight, stride, padding)?;
    let Finished { so_far, seen, numbers, made } = finished;
    let alike: Vec<&Tensor> = [x, weight, dy, seen].into_iter().chain(so_far).chain(made).collect();
    let gpu = gpu("conv2d", &alike)?;
    check_rung(Rung::Fused, &g, x)?;
    check_gradient(&g, dy)?;
    let all = alike[3..].iter().all(|t| t.shape() == x.shape());
    if !all || numbers.iter().any(|t| t.shape()[..] != [g.c] || t.dtype() != DType::F32 || t.device() != x.device()) {
        return Err(Error::shape("conv2d", format!("a norm that doesn't fit the input {}", x.shape())));
    }
    let [mean, invstd, scale, bias] = numbers.map(Tensor::detach);
    let origin = Origin { x: seen.detach(), mean, invstd, weight: scale, bias, residual: made.is_some() };
    let mut dx = Tensor::uninit(x.shape(), x.dtype(), x.device())?;
    let finish = Finish { so_far: so_far.map(Tensor::address), norm: Some((&origin, made)) };
    match cuda::input_gradient(gpu, Rung::Fused, &g, dy, weight, finish, &mut dx)? {
        Some(sums) => Ok((dx, sums)),
        None => {
            Err(Error::new(ErrorKind::Argument, format!("no tensor cores for {g:?} in {}", x.dtype())).on("conv2d"))
        }
    }
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
    check_rung(rung, &g, x)?;
    check_gradient(&g, dy)?;
    let mut dw = Tensor::uninit(weight.shape(), x.dtype().master(), x.device())?;
    cuda::weight_gradient(gpu, rung, &g, x, dy, &mut dw)?;
    Ok(dw)
}

fn check_rung(rung: Rung, g: &Geometry, x: &Tensor) -> Result<()> {
    match rung.serves(g, x.dtype()) {
        true => Ok(()),
        false => {
            Err(Error::new(ErrorKind::Argument, format!("{rung:?} doesn't serve {g:?} in {}", x.dtype())).on("conv2d"))
        }
    }
}

fn check_gradient(g: &Geometry, dy: &Tensor) -> Result<()> {
    match dy.shape()[..] == [g.n, g.p, g.q, g.k] {
        true => Ok(()),
        false => Err(Error::shape("conv2d", format!("gradient {} for {g:?}", dy.shape()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry(c: usize, k: usize, r: usize, stride: usize) -> Geometry {
        let p = 16 / stride;
        Geometry { n: 1, h: 16, w: 16, c, k, r, s: r, p, q: p, stride: [stride; 2], padding: [r / 2; 2] }
    }

    #[test]
    fn training_takes_what_serves_and_no_more_than_it_may() {
        let best = |c, k, dtype| Rung::best(&geometry(c, k, 3, 1), dtype).unwrap();
        ladder::set_highest(Rung::Tiled);
        assert_eq!(best(64, 64, DType::BF16), Rung::Tiled);
        ladder::set_highest(Rung::TensorCores);
        assert_eq!(best(64, 64, DType::BF16), Rung::TensorCores);
        assert_eq!(best(3, 64, DType::BF16), Rung::Tiled, "three channels are no chunk of eight");
        assert_eq!(best(64, 64, DType::F32), Rung::Tiled, "f32 means f32");
        assert_eq!(Rung::best(&geometry(3, 64, 7, 2), DType::BF16).unwrap(), Rung::TensorCores, "the stem's own way");
        ladder::set_highest(Rung::Naive);
        assert_eq!(best(64, 64, DType::BF16), Rung::Naive);
        ladder::set_highest(Rung::Tiled);
    }

    #[test]
    fn nine_taps_at_once_where_channels_fill_blocks() {
        let map = |c, k, side, stride| {
            is_taps(&Geometry { h: side, w: side, p: side, q: side, ..geometry(c, k, 3, stride) }, DType::BF16)
        };
        assert!(map(64, 64, 56, 1), "layer1 of a ResNet");
        assert!(map(512, 512, 7, 1), "layer4");
        assert!(!map(64, 64, 56, 2), "a stride");
        assert!(!map(96, 64, 56, 1), "half a block of channels");
        assert!(!map(64, 64, 65, 1), "rows too long");
    }

    #[test]
    fn plans_are_printed() {
        let of = |direction, g| plan(direction, &g, DType::BF16).map(|plan| plan.to_string());
        let wide = Geometry { n: 128, h: 28, w: 28, p: 28, q: 28, ..geometry(128, 128, 3, 1) };
        assert_eq!(of(Direction::Forward, wide).unwrap(), "128x128 of a slab, 784 blocks");
        assert_eq!(of(Direction::WeightGradient, wide).unwrap(), "nine taps of 64x64, 132 blocks in 33 parts");
        let taps = Geometry { n: 128, h: 56, w: 56, p: 56, q: 56, ..geometry(64, 64, 3, 1) };
        assert_eq!(of(Direction::WeightGradient, taps).unwrap(), "nine taps of 64x64, 131 blocks in 131 parts");
        assert_eq!(of(Direction::Forward, geometry(3, 64, 7, 2)).unwrap(), "stem, 1 blocks");
        assert_eq!(of(Direction::InputGradient, geometry(3, 64, 7, 2)), None);
    }
}
