//! Batch normalisation on a GPU: `kernels/batch_norm.cu`, which explains the passes.

use super::notes::Origin;
use crate::device::Device;
use crate::device::cuda::driver::{Address, Launch, PROCESSORS, THREADS};
use crate::device::cuda::{Gpu, geometry, kernel, per_float};
use crate::tensor::{DType, Tensor};
use crate::{Error, Result};

/// Rows whose sums are taken in f32 before f64 takes over, and threads side by side along the channels; `norm_sums.cuh` says the same.
const TILE_ROWS: usize = 128;
const SIDE: usize = 8;
/// Channels of a block that adds the tiles' sums; `batch_norm.cu` says the same.
const FINISH_CHANNELS: usize = 2;
/// Packs that a thread of the passes over all numbers takes at once; `batch_norm.cu` says the same.
const PACKS: usize = 2;
/// Blocks that a processor holds of the pass that applies a norm, and of its input gradient, whose registers allow fewer; `batch_norm.cu` says the
/// same.
const APPLY_RESIDENT: usize = 4;
const GRADIENT_RESIDENT: usize = 3;

geometry! {
    /// What turns `x` into `z`: `[C]` f32 each.
    pub(crate) struct Norm {
        mean: Address,
        invstd: Address,
        weight: Address,
        bias: Address,
    }
}

/// The tensors behind a [`Norm`].
#[derive(Clone, Copy)]
pub(crate) struct Affine<'a> {
    pub mean: &'a Tensor,
    pub invstd: &'a Tensor,
    pub weight: &'a Tensor,
    pub bias: &'a Tensor,
}

impl From<Affine<'_>> for Norm {
    fn from(a: Affine<'_>) -> Norm {
        Norm { mean: a.mean.address(), invstd: a.invstd.address(), weight: a.weight.address(), bias: a.bias.address() }
    }
}

impl Origin {
    /// What the kernels need to know.
    pub fn norm(&self) -> Norm {
        Affine { mean: &self.mean, invstd: &self.invstd, weight: &self.weight, bias: &self.bias }.into()
    }
}

/// From what backward knows where the ReLU clipped; the numbers are the kernel's.
#[derive(Clone, Copy)]
pub(super) enum Mask<'a> {
    None,
    Output(&'a Tensor),
    Input,
}

impl Mask<'_> {
    fn number(self) -> i32 {
        match self {
            Mask::None => 0,
            Mask::Output(_) => 1,
            Mask::Input => 2,
        }
    }
}

/// Numbers, rows, channels and tiles of rows of `x [.., C]`.
pub(crate) struct Sizes {
    n: usize,
    m: i64,
    c: i32,
    tiles: usize,
    /// Numbers that a thread takes at once: 16 bytes where channels come in such packs.
    pack: usize,
}

impl Sizes {
    pub fn of(x: &Tensor) -> Result<Sizes> {
        let c = x.shape().channels();
        let m = x.numel() / c.max(1);
        if x.numel() > u32::MAX as usize || c > i32::MAX as usize {
            return Err(Error::shape("batch_norm", format!("{} is too large for a GPU's kernels", x.shape())));
        }
        let pack = 16 / x.dtype().size();
        let pack = if c.is_multiple_of(pack) { pack } else { 1 };
        Ok(Sizes { n: x.numel(), m: m as i64, c: c as i32, tiles: m.div_ceil(TILE_ROWS), pack })
    }

    /// The same in so many tiles, where a kernel has tiles of its own.
    pub fn in_tiles(self, tiles: usize) -> Sizes {
        Sizes { tiles, ..self }
    }

    /// Packs of a pixel's channels, or `None` where they don't come in packs.
    pub fn packs(&self) -> Option<usize> {
        (self.pack > 1).then(|| self.c as usize / self.pack)
    }

    /// Threads that go through all numbers in turns: enough to fill a large GPU, and each keeps its channels' numbers for many turns.
    pub fn by_pack(&self) -> Launch {
        const MOST: usize = 8 * PROCESSORS;
        Launch::blocks((self.n / self.pack).div_ceil(THREADS as usize).min(MOST))
    }

    /// Threads that take [`PACKS`] packs at once or more, in no more blocks than processors hold at a time, `resident` each: what a thread fetches
    /// of its channels serves several packs, and no block waits for another's place.
    fn in_one_turn(&self, resident: usize) -> Launch {
        let each = THREADS as usize * PACKS;
        Launch::blocks((self.n / self.pack).div_ceil(each).min(resident * PROCESSORS))
    }

    /// A block for each tile and as many channels as 8 threads take.
    pub fn by_tile(&self) -> Launch {
        let grid = [self.tiles as u32, (self.c as usize).div_ceil(SIDE * self.pack) as u32, 1];
        Launch { grid, block: [THREADS, 1, 1], shared: 0 }
    }

    /// Sums of the tiles, two for each channel: `[tiles, 2, C]`.
    pub fn partial(&self, gpu: Gpu) -> Result<Tensor> {
        Tensor::uninit([self.tiles, 2, self.c as usize], DType::F32, Device::Cuda(gpu))
    }
}

/// A block for each few channels, to add what tiles have left: of so many threads, in whole warps, that each adds four tiles; or more tiles, where
/// they are too many for a block.
fn finish(channels: usize, tiles: usize) -> Launch {
    let threads = (tiles.div_ceil(4) * FINISH_CHANNELS).next_power_of_two().clamp(32, 1024) as u32;
    Launch { block: [threads, 1, 1], ..Launch::blocks(channels.div_ceil(FINISH_CHANNELS)) }
}

/// The sums of `x` and of its squares over each tile of rows: `[tiles, 2, C]`.
pub(super) fn tile_sums(gpu: Gpu, x: &Tensor) -> Result<Tensor> {
    let s = Sizes::of(x)?;
    let mut partial = s.partial(gpu)?;
    let arguments = (x.address(), partial.address_mut()?, s.m, s.c);
    // SAFETY: x is [m, c] of the kernel's type, `partial` [tiles, 2, c] f32.
    unsafe { gpu.launch(per_float!("batch_norm_tile_sums").of(x.dtype())?, s.by_tile(), arguments)? };
    Ok(partial)
}

/// Mean and 1 / sqrt(var + eps) of a batch from the sums of its tiles; moves the running statistics.
pub(super) fn finish_statistics(
    gpu: Gpu,
    x: &Tensor,
    partial: &Tensor,
    (mean, invstd): (&mut Tensor, &mut Tensor),
    (running_mean, running_var): (&mut Tensor, &mut Tensor),
    eps: f64,
    momentum: f64,
) -> Result<()> {
    let (s, tiles) = (Sizes::of(x)?, partial.shape()[0] as i32);
    let out = (mean.address_mut()?, invstd.address_mut()?, running_mean.address_mut()?, running_var.address_mut()?);
    let arguments = (partial.address(), tiles, s.m, s.c, eps, momentum, out.0, out.1, out.2, out.3);
    // SAFETY: `partial` is [tiles, 2, c], the four results are [c] f32.
    unsafe { gpu.launch(kernel!("batch_norm_finish"), finish(s.c as usize, tiles as usize), arguments) }
}

/// 1 / sqrt(var + eps) of the running variance.
pub(super) fn fixed_invstd(gpu: Gpu, running_var: &Tensor, eps: f64, invstd: &mut Tensor) -> Result<()> {
    let c = invstd.numel();
    let arguments = (running_var.address(), eps, invstd.address_mut()?, c as i64);
    // SAFETY: both are [c] f32.
    unsafe { gpu.launch(kernel!("batch_norm_fixed"), Launch::over(c), arguments) }
}

pub(super) fn normalize(
    gpu: Gpu,
    x: &Tensor,
    a: Affine<'_>,
    residual: Option<&Tensor>,
    relu: bool,
    y: &mut Tensor,
) -> Result<()> {
    let s = Sizes::of(x)?;
    let residual = residual.map_or(Address::NULL, Tensor::address);
    let arguments = (x.address(), residual, Norm::from(a), y.address_mut()?, s.n as i64, s.c as u32, i32::from(relu));
    // SAFETY: x, y and the residual (or none) have n numbers of the kernel's type, the statistics are [c] f32; memory is aligned to
    // 256 bytes, so packs of 16 bytes are too.
    unsafe { gpu.launch(per_float!("batch_norm_apply").of(x.dtype())?, s.in_one_turn(APPLY_RESIDENT), arguments) }
}

/// `dw` and `db`. With [`Mask::Output`] `dy` becomes `dz`.
pub(super) fn reduce(
    gpu: Gpu,
    x: &Tensor,
    dy: &mut Tensor,
    a: Affine<'_>,
    mask: Mask<'_>,
    dw: &mut Tensor,
    db: &mut Tensor,
) -> Result<()> {
    let s = Sizes::of(x)?;
    let mut partial = s.partial(gpu)?;
    let (d, y, dz) = match mask {
        Mask::Output(y) => {
            let d = dy.address_mut()?;
            (d, y.address(), d)
        }
        _ => (dy.address(), Address::NULL, Address::NULL),
    };
    let arguments = (x.address(), d, y, Norm::from(a), dz, partial.address_mut()?, s.m, s.c, mask.number());
    // SAFETY: x and dy (and y and dz where the mask is the output) are [m, c] of the kernel's type, `partial` is [tiles, 2, c] f32;
    // the kernel allows dz in the place of dy.
    unsafe { gpu.launch(per_float!("batch_norm_reduce").of(x.dtype())?, s.by_tile(), arguments)? };
    finish_reduce(gpu, &partial, a.invstd, dw, db)
}

/// `dw` and `db` from the sums of tiles, `[tiles, 2, C]`.
pub(crate) fn finish_reduce(
    gpu: Gpu,
    partial: &Tensor,
    invstd: &Tensor,
    dw: &mut Tensor,
    db: &mut Tensor,
) -> Result<()> {
    let (tiles, c) = (partial.shape()[0] as i32, invstd.numel());
    let arguments = (partial.address(), tiles, c as i32, invstd.address(), dw.address_mut()?, db.address_mut()?);
    // SAFETY: `partial` is [tiles, 2, c], the others are [c] f32.
    unsafe { gpu.launch(kernel!("batch_norm_reduce_finish"), finish(c, tiles as usize), arguments) }
}

/// `dx` from `dz`, or from `dy` with [`Mask::Input`]. Without a `dz` of its own, `dx` holds it at the start.
pub(super) fn input_gradient(
    gpu: Gpu,
    x: &Tensor,
    dz: Option<&Tensor>,
    a: Affine<'_>,
    mask: Mask<'_>,
    sums: Option<(&Tensor, &Tensor)>,
    dx: &mut Tensor,
) -> Result<()> {
    let s = Sizes::of(x)?;
    let dx = dx.address_mut()?;
    let dz = dz.map_or(dx, Tensor::address);
    let (dw, db) = sums.map_or((Address::NULL, Address::NULL), |(dw, db)| (dw.address(), db.address()));
    let arguments = (x.address(), dz, Norm::from(a), dw, db, dx, s.n as i64, s.c as u32, mask.number());
    // SAFETY: x, dz and dx have n numbers of the kernel's type, dw and db (or none) are [c] f32; the kernel allows dx in the place
    // of dz.
    unsafe {
        gpu.launch(per_float!("batch_norm_input_gradient").of(x.dtype())?, s.in_one_turn(GRADIENT_RESIDENT), arguments)
    }
}
