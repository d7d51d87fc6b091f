//! Convolution on a GPU: `kernels/conv2d.cu`, which explains the rungs, `conv2d_mma.cu`, `conv2d_slab.cu`, `conv2d_taps.cu` and
//! `conv2d_stem.cu`.

use super::Geometry;
use super::ladder::{Plan, Rung, Way, in_chunks, is_slab, is_stem, is_taps};
use super::tile::{self, Depth, Tile};
use crate::device::Device;
use crate::device::cuda::driver::{Address, Launch, PROCESSORS, THREADS};
use crate::device::cuda::kernels::KernelId;
use crate::device::cuda::{Gpu, geometry, kernel, per_float};
use crate::ops::batch_norm::cuda::Norm;
use crate::ops::batch_norm::notes::Origin;
use crate::ops::linear::cuda::tiles;
use crate::tensor::{DType, Tensor};
use crate::{Error, Result};

geometry! {
    /// The kernel's sizes.
    pub(crate) struct Conv {
        n: i32,
        h: i32,
        w: i32,
        c: i32,
        k: i32,
        r: i32,
        s: i32,
        p: i32,
        q: i32,
        stride_h: i32,
        stride_w: i32,
        pad_h: i32,
        pad_w: i32,
    }
}

impl Conv {
    /// # Errors
    /// A size beyond the kernels' 32-bit indices.
    fn new(g: &Geometry) -> Result<Conv> {
        let most = i32::MAX as usize;
        let (pixels, taps) = (g.n * (g.h * g.w).max(g.p * g.q), g.r * g.s * g.c.max(g.k));
        // Bytes between the first and the last number that a tap's channels, or the filters of a layer, are apart.
        let apart = 4 * (g.r * (g.w * g.c).max(g.q * g.k)).max((g.k + 128) * g.r * g.s * g.c);
        // Where a phase of the input gradient begins is computed from stride times padding, and phases are layers of a grid.
        let phase = |axis: usize| g.stride[axis].saturating_mul(g.padding[axis].max(1));
        let (far, phases) = (phase(0).max(phase(1)), g.stride[0].saturating_mul(g.stride[1]));
        let borders = g.padding[0].max(g.padding[1]) > most / 2 || far > most / 2;
        if pixels > most || taps > most || apart > most || borders || phases > 65_535 {
            return Err(
                Error::shape("conv2d", format!("{g:?} is too large for a GPU's kernels")).remedy("use smaller batches")
            );
        }
        let i = |v: usize| v as i32;
        let (stride_h, stride_w, pad_h, pad_w) = (i(g.stride[0]), i(g.stride[1]), i(g.padding[0]), i(g.padding[1]));
        let (n, h, w, c, k) = (i(g.n), i(g.h), i(g.w), i(g.c), i(g.k));
        Ok(Conv { n, h, w, c, k, r: i(g.r), s: i(g.s), p: i(g.p), q: i(g.q), stride_h, stride_w, pad_h, pad_w })
    }
}

/// The kernels of an entry of `conv2d_slab.cu`, one for each half type and tile.
macro_rules! half_by_tile {
    ($name:literal) => {
        [
            [
                kernel!(concat!($name, "<f16, 128, 128>")),
                kernel!(concat!($name, "<f16, 128, 64>")),
                kernel!(concat!($name, "<f16, 64, 64>")),
            ],
            [
                kernel!(concat!($name, "<bf16, 128, 128>")),
                kernel!(concat!($name, "<bf16, 128, 64>")),
                kernel!(concat!($name, "<bf16, 64, 64>")),
            ],
        ]
    };
}

/// The kernels of an entry of `conv2d_mma.cu`, which exist in f32, too: but for the wide tile, which isn't chosen in f32.
macro_rules! by_tile {
    ($name:literal) => {{
        let [f16, bf16] = half_by_tile!($name);
        let small = kernel!(concat!($name, "<f32, 64, 64>"));
        let tall = kernel!(concat!($name, "<f32, 128, 64>"));
        [f16, bf16, [tall, tall, small]]
    }};
}

/// Of kernels by type (f16, bf16 and, where there are three, f32) and tile, the one for these.
fn of_tile(kernels: &[[KernelId; 3]], dtype: DType, tile: Tile) -> KernelId {
    let of_type = match dtype {
        DType::F16 => 0,
        DType::BF16 => 1,
        _ => 2,
    };
    kernels[of_type][tile as usize]
}

/// A kernel of `conv2d_stem.cu` or `conv2d_taps.cu`, which exist in half precision only.
fn half(kernels: [KernelId; 2], dtype: DType) -> KernelId {
    kernels[usize::from(dtype == DType::BF16)]
}

/// Output pixels of a tile of the stem's kernels, rows and columns; output channels of a block; tiles of a block, forward; numbers of a
/// patch and of the filters in shared memory. `conv2d_stem.cu` says the same.
const STEM_TILE: [usize; 2] = [8, 16];
const STEM_CHANNELS: usize = 64;
const STEM_TILES: usize = 16;
/// Blocks of its weight gradient that work at the same time: two on each processor.
const STEM_TOGETHER: usize = 2 * PROCESSORS;
const STEM_PATCH: usize = 21 * 38 * 4;
const STEM_FILTERS: usize = 7 * 64 * 32;
/// What the way out of a tile of 128 x 64 needs; `mma_tile.cuh` says the same.
const STEM_OUT: usize = 128 * 72 * 2 + 2 * 32 * 64 * 4;

fn stem_tiles(g: &Geometry) -> usize {
    g.n * g.p.div_ceil(STEM_TILE[0]) * g.q.div_ceil(STEM_TILE[1])
}

/// Output pixels of a tile of the kernel that makes nine taps at once; channels of a block on both sides. `conv2d_taps.cu` says the same.
const TAPS_PIXELS: usize = 64;
const TAPS_CHANNELS: usize = 64;

fn taps_tiles(g: &Geometry) -> usize {
    (g.n * g.p * g.q).div_ceil(TAPS_PIXELS)
}

/// Shared memory of a block: three stages of dy, the slab under it and 16 bits for each thread, and zeros.
fn taps_shared(g: &Geometry) -> usize {
    2 * (3 * (TAPS_CHANNELS * (TAPS_PIXELS + TAPS_PIXELS + 2 * g.w + 2) + THREADS as usize) + TAPS_CHANNELS)
}

fn takes_stem(g: &Geometry, dtype: DType) -> bool {
    is_stem(g, dtype) && !in_chunks(g, dtype)
}

pub(super) fn forward_plan(g: &Geometry, dtype: DType) -> Plan {
    let pixels = g.n * g.p * g.q;
    if takes_stem(g, dtype) {
        let blocks = stem_tiles(g).div_ceil(STEM_TILES) * g.k.div_ceil(STEM_CHANNELS);
        return Plan { way: Way::Stem, blocks, splits: 1 };
    }
    let steps = g.r * g.s * steps(g.c, dtype);
    let depth = if is_slab(g, dtype) { Depth::InRounds(steps) } else { Depth::Steps(steps) };
    or_slab(g, dtype, plan(pixels, g.k, 1, depth, dtype))
}

pub(super) fn input_plan(g: &Geometry, dtype: DType) -> Plan {
    let [u, v] = g.stride;
    // Of the largest phase.
    let depth = Depth::InRounds(g.r.div_ceil(u) * g.s.div_ceil(v) * steps(g.k, dtype));
    or_slab(g, dtype, plan(g.n * g.h.div_ceil(u) * g.w.div_ceil(v), g.c, u * v, depth, dtype))
}

/// The same tiles from slabs, where these serve.
fn or_slab(g: &Geometry, dtype: DType, plan: Plan) -> Plan {
    match plan.way {
        Way::Tile(tile) if is_slab(g, dtype) => Plan { way: Way::Slab(tile), ..plan },
        _ => plan,
    }
}

/// Shared memory of a block: four stages of 64 bytes of each column, two slabs of 64 bytes of each pixel under the tile, and zeros.
fn slab_shared(tile: Tile, g: &Geometry) -> usize {
    let (m, n) = tile.sides();
    64 * (4 * n + 2 * (m + 2 * g.w + 2) + 1)
}

pub(super) fn weight_plan(g: &Geometry, dtype: DType) -> Plan {
    let (pixels, width) = (g.n * g.p * g.q, g.r * g.s * g.c);
    if takes_stem(g, dtype) {
        let across = g.k.div_ceil(STEM_CHANNELS);
        let splits = splits(STEM_TOGETHER, across, g.k * width, pixels);
        let tiles = stem_tiles(g).max(1);
        let splits = tiles.div_ceil(tiles.div_ceil(splits)); // no part without a tile
        return Plan { way: Way::Stem, blocks: splits * across, splits };
    }
    if is_taps(g, dtype) {
        let across = (g.k / TAPS_CHANNELS) * (g.c / TAPS_CHANNELS);
        let tiles = taps_tiles(g).max(1);
        let splits = (PROCESSORS / across).clamp(1, tile::most_parts(g.k * width, pixels));
        let splits = tiles.div_ceil(tiles.div_ceil(splits)); // no part without a tile
        return Plan { way: Way::Taps, blocks: splits * across, splits };
    }
    let tile = Tile::of(g.k, g.c, g.r * g.s, Depth::InParts, dtype);
    let blocks = blocks(tile, g.k, g.c, g.r * g.s);
    let splits = tile::parts(tile, blocks, g.k * width, pixels);
    Plan { way: Way::Tile(tile), blocks: blocks * splits, splits }
}

/// Steps of a tap with so many channels.
fn steps(channels: usize, dtype: DType) -> usize {
    (channels * dtype.size()).div_ceil(64)
}

/// `layers` products of `rows` x `columns`.
fn plan(rows: usize, columns: usize, layers: usize, depth: Depth, dtype: DType) -> Plan {
    let tile = Tile::of(rows, columns, layers, depth, dtype);
    Plan { way: Way::Tile(tile), blocks: blocks(tile, rows, columns, layers), splits: 1 }
}

fn blocks(tile: Tile, rows: usize, columns: usize, layers: usize) -> usize {
    let (m, n) = tile.sides();
    rows.div_ceil(m) * columns.div_ceil(n) * layers
}

/// One line of blocks for each of `layers`.
fn line(plan: &Plan, layers: usize, shared: usize) -> Launch {
    let grid = [(plan.blocks / layers) as u32, layers as u32, 1];
    let threads = if matches!(plan.way, Way::Tile(_) | Way::Slab(_)) { tile::THREADS } else { THREADS };
    Launch { grid, block: [threads, 1, 1], shared: 0 }.shared(shared)
}

/// A plan that names a kernel which doesn't make this product.
fn no_way(g: &Geometry, way: Way) -> Error {
    Error::shape("conv2d", format!("{g:?} isn't what a kernel for {way} makes"))
}

/// With `statistics` the fused rung leaves `[tiles, 2, K]`: the sums of `y` and `y²` over each tile of pixels.
#[allow(clippy::too_many_arguments)] // the operands of a convolution
pub(crate) fn forward(
    gpu: Gpu,
    rung: Rung,
    g: &Geometry,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    statistics: bool,
    y: &mut Tensor,
) -> Result<Option<Tensor>> {
    let (dtype, pixels) = (x.dtype(), g.n * g.p * g.q);
    let (conv, bias) = (Conv::new(g)?, bias.map_or(Address::NULL, Tensor::address));
    if rung < Rung::TensorCores {
        let (kernel, launch) = match rung {
            Rung::Naive => (per_float!("conv_forward_naive").of(dtype)?, Launch::over(y.numel())),
            _ => (per_float!("conv_forward_tiled").of(dtype)?, tiles(pixels, g.k, 1)),
        };
        let arguments = (conv, x.address(), weight.address(), bias, y.address_mut()?);
        // SAFETY: the tensors have the geometry's shapes and the kernel's types, the bias is [k] f32 or absent.
        unsafe { gpu.launch(kernel, launch, arguments)? };
        return Ok(None);
    }
    let plan = forward_plan(g, dtype);
    let (kernel, launch, rows) = match plan.way {
        Way::Tile(tile) => {
            let (_, n) = tile.sides();
            let launch = line(&plan, 1, tile.shared());
            (of_tile(&by_tile!("conv_forward_mma"), dtype, tile), launch, plan.blocks / g.k.div_ceil(n).max(1))
        }
        Way::Slab(tile) => {
            let (_, n) = tile.sides();
            let launch = line(&plan, 1, slab_shared(tile, g));
            (of_tile(&half_by_tile!("conv_forward_slab"), dtype, tile), launch, plan.blocks / g.k.div_ceil(n).max(1))
        }
        Way::Taps => return Err(no_way(g, plan.way)),
        Way::Stem => {
            let kernels = [kernel!("conv_forward_stem<f16>"), kernel!("conv_forward_stem<bf16>")];
            let across = g.k.div_ceil(STEM_CHANNELS).max(1);
            let launch = line(&plan, across, STEM_OUT + 2 * (STEM_FILTERS + STEM_PATCH));
            (half(kernels, dtype), launch, plan.blocks / across)
        }
    };
    let mut sums = match rung == Rung::Fused && statistics {
        true => Some(Tensor::uninit([rows, 2, g.k], DType::F32, Device::Cuda(gpu))?),
        false => None,
    };
    let to = sums.as_mut().map_or(Ok(Address::NULL), Tensor::address_mut)?;
    let arguments = (conv, x.address(), weight.address(), bias, y.address_mut()?, to);
    // SAFETY: the tensors have the geometry's shapes and the kernel's types, the bias is [k] f32 or absent; the sums, or none, are
    // [rows of blocks, 2, k] f32.
    unsafe { gpu.launch(kernel, launch, arguments)? };
    Ok(sums)
}

/// What the fused rung does with an input gradient on its way out.
#[derive(Default)]
pub(crate) struct Finish<'a> {
    /// Where `[N, H, W, C]` lies that is to be added: what `x` has received already.
    pub so_far: Option<Address>,
    /// How `x` was made by a norm with ReLU, and `x` itself, which tells where that clipped if a residual was added.
    pub norm: Option<(&'a Origin, Option<&'a Tensor>)>,
}

/// `dx`, which may be the memory of `finish.so_far`. With a norm to finish for, `dx` is the gradient before its ReLU, and the sums
/// `[tiles, 2, C]` of `dx (x' - mean)` and of `dx` come back, where `x'` is what the norm saw.
pub(crate) fn input_gradient(
    gpu: Gpu,
    rung: Rung,
    g: &Geometry,
    dy: &Tensor,
    weight: &Tensor,
    finish: Finish<'_>,
    dx: &mut Tensor,
) -> Result<Option<Tensor>> {
    let (dtype, [u, v]) = (dy.dtype(), g.stride);
    let conv = Conv::new(g)?;
    if rung < Rung::TensorCores || !in_chunks(g, dtype) {
        let pixels = g.n * g.h.div_ceil(u) * g.w.div_ceil(v); // of the largest phase
        let (kernel, launch) = match rung {
            Rung::Naive => (per_float!("conv_input_gradient_naive").of(dtype)?, Launch::over(dx.numel())),
            _ => (per_float!("conv_input_gradient_tiled").of(dtype)?, tiles(pixels, g.c, u * v)),
        };
        let arguments = (conv, dy.address(), weight.address(), dx.address_mut()?);
        // SAFETY: the tensors have the geometry's shapes and the kernel's types.
        unsafe { gpu.launch(kernel, launch, arguments)? };
        return Ok(None);
    }
    let plan = input_plan(g, dtype);
    let (kernel, tile, shared) = match plan.way {
        Way::Tile(tile) => (of_tile(&by_tile!("conv_input_gradient_mma"), dtype, tile), tile, tile.shared()),
        Way::Slab(tile) => {
            (of_tile(&half_by_tile!("conv_input_gradient_slab"), dtype, tile), tile, slab_shared(tile, g))
        }
        Way::Stem | Way::Taps => return Err(no_way(g, plan.way)),
    };
    let rows = plan.blocks / g.c.div_ceil(tile.sides().1).max(1);
    let mut sums = match finish.norm {
        Some(_) => Some(Tensor::uninit([rows, 2, g.c], DType::F32, Device::Cuda(gpu))?),
        None => None,
    };
    let none = Norm { mean: Address::NULL, invstd: Address::NULL, weight: Address::NULL, bias: Address::NULL };
    let (y, z, norm, mask) = match &finish.norm {
        None => (Address::NULL, Address::NULL, none, 0),
        Some((origin, None)) => (origin.x.address(), Address::NULL, origin.norm(), 2),
        Some((origin, Some(z))) => (origin.x.address(), z.address(), origin.norm(), 1),
    };
    let so_far = finish.so_far.unwrap_or(Address::NULL);
    let to = sums.as_mut().map_or(Ok(Address::NULL), Tensor::address_mut)?;
    let arguments = (conv, dy.address(), weight.address(), dx.address_mut()?, so_far, z, y, norm, to, mask);
    // SAFETY: the tensors have the geometry's shapes and the kernel's types; what is added, what the norm saw and what it made, or
    // none of them, have dx's shape, its numbers are [c] f32, and the sums are [phases and rows of blocks, 2, c] f32. The kernel
    // allows dx in the place of what is added.
    unsafe { gpu.launch(kernel, line(&plan, u * v, shared), arguments)? };
    Ok(sums)
}

pub(crate) fn weight_gradient(
    gpu: Gpu,
    rung: Rung,
    g: &Geometry,
    x: &Tensor,
    dy: &Tensor,
    dw: &mut Tensor,
) -> Result<()> {
    let (conv, dtype) = (Conv::new(g)?, x.dtype());
    if rung == Rung::Naive {
        let arguments = (conv, x.address(), dy.address(), dw.address_mut()?);
        let kernel = per_float!("conv_weight_gradient_naive").of(dtype)?;
        // SAFETY: the tensors have the geometry's shapes and the kernel's types, dw is f32.
        return unsafe { gpu.launch(kernel, Launch::over(dw.numel()), arguments) };
    }
    let (pixels, width) = (g.n * g.p * g.q, g.r * g.s * g.c);
    if rung == Rung::Tiled {
        let blocks = tiles(g.k, width, 1);
        let splits = splits(528, (blocks.grid[0] * blocks.grid[1]) as usize, g.k * width, pixels);
        let launch = Launch { grid: [blocks.grid[0], blocks.grid[1], splits as u32], ..blocks };
        let share = pixels.div_ceil(splits).max(1) as i64;
        let kernel = per_float!("conv_weight_gradient_tiled").of(dtype)?;
        return in_parts(gpu, splits, dw, |to| {
            let arguments = (conv, x.address(), dy.address(), to, share);
            // SAFETY: the tensors have the geometry's shapes and the kernel's types; every split fills its own [k, width] f32 of `to`.
            unsafe { gpu.launch(kernel, launch, arguments) }
        });
    }
    let plan = weight_plan(g, dtype);
    in_parts(gpu, plan.splits, dw, |to| match plan.way {
        Way::Tile(tile) => {
            let share = pixels.div_ceil(plan.splits).max(1) as i64;
            let arguments = (conv, x.address(), dy.address(), to, share);
            let kernel = of_tile(&by_tile!("conv_weight_gradient_mma"), dtype, tile);
            // SAFETY: as above.
            unsafe { gpu.launch(kernel, line(&plan, plan.splits, tile.shared()), arguments) }
        }
        Way::Taps => {
            let share = taps_tiles(g).div_ceil(plan.splits) as i32;
            let arguments = (conv, x.address(), dy.address(), to, share);
            let kernels = [kernel!("conv_weight_gradient_taps<f16>"), kernel!("conv_weight_gradient_taps<bf16>")];
            // SAFETY: as above.
            unsafe { gpu.launch(half(kernels, dtype), line(&plan, plan.splits, taps_shared(g)), arguments) }
        }
        Way::Slab(_) => Err(no_way(g, plan.way)),
        Way::Stem => {
            let share = stem_tiles(g).div_ceil(plan.splits) as i32;
            let arguments = (conv, x.address(), dy.address(), to, share);
            let kernels = [kernel!("conv_weight_gradient_stem<f16>"), kernel!("conv_weight_gradient_stem<bf16>")];
            let grid = [plan.splits as u32, g.k.div_ceil(STEM_CHANNELS) as u32, 1];
            let launch = Launch { grid, block: [THREADS, 1, 1], shared: 0 }
                .shared(2 * (2 * STEM_TILE[0] * STEM_TILE[1] * STEM_CHANNELS + STEM_PATCH));
            // SAFETY: as above.
            unsafe { gpu.launch(half(kernels, dtype), launch, arguments) }
        }
    })
}

/// `fill` writes `splits` results like `dw` one behind the other; their sum, added in order, is `dw`.
fn in_parts(gpu: Gpu, splits: usize, dw: &mut Tensor, fill: impl FnOnce(Address) -> Result<()>) -> Result<()> {
    if splits == 1 {
        return fill(dw.address_mut()?);
    }
    let n = dw.numel();
    let mut partial = Tensor::uninit([splits, n], DType::F32, Device::Cuda(gpu))?;
    fill(partial.address_mut()?)?;
    let arguments = (partial.address(), dw.address_mut()?, splits as i32, n as i64);
    // Where numbers are few, threads are, too: then many parts are added by eight of them.
    let runs: u32 = if splits < 16 || n >= 1 << 16 { 1 } else { 8 };
    let numbers = THREADS / runs;
    let launch = Launch { block: [numbers, runs, 1], ..Launch::blocks(n.div_ceil(numbers as usize).min(1 << 20)) };
    // SAFETY: `partial` has splits * n numbers, dw has n, all f32; a block has 256 threads.
    unsafe { gpu.launch(kernel!("conv_add_splits"), launch, arguments) }
}

/// Into how many parts the sum over pixels is cut. A function of the sizes alone, never of the device: the same bits
/// everywhere. About `together` blocks, but within [`tile::most_parts`].
fn splits(together: usize, blocks: usize, results: usize, pixels: usize) -> usize {
    together.div_ceil(blocks.max(1)).clamp(1, tile::most_parts(results, pixels))
}
