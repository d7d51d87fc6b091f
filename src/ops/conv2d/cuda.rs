//! Convolution on a GPU: `kernels/conv2d.cu`, which explains the rungs, and `conv2d_mma.cu`.

use super::Geometry;
use super::ladder::Rung;
use crate::device::Device;
use crate::device::cuda::driver::{Address, Launch, THREADS};
use crate::device::cuda::kernels::KernelId;
use crate::device::cuda::{Gpu, geometry, kernel, per_float};
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
        if pixels > most || taps > most || g.padding.iter().chain(&g.stride).any(|&v| v > most / 2) {
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

/// What a block of the tensor-core kernels makes, and its shared memory; `mma_tile.cuh` says the same.
const MMA_TILE: (usize, usize) = (128, 64);
const MMA_SHARED: usize = 3 * (128 + 64) * 32 * 2;

/// A block for each tile of a `rows` x `columns` result (`columns` blocks of columns, where they are counted already).
fn mma_blocks(rows: usize, column_blocks: usize, layers: usize) -> Launch {
    let grid = [rows.div_ceil(MMA_TILE.0) as u32, column_blocks as u32, layers as u32];
    Launch { grid, block: [THREADS, 1, 1], shared: 0 }.shared(MMA_SHARED)
}

/// A kernel of the tensor-core rung, which exists in half precision only.
fn half(kernels: [KernelId; 2], dtype: DType) -> KernelId {
    kernels[usize::from(dtype == DType::BF16)]
}

pub(super) fn forward(
    gpu: Gpu,
    rung: Rung,
    g: &Geometry,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    y: &mut Tensor,
) -> Result<()> {
    let (dtype, pixels) = (x.dtype(), g.n * g.p * g.q);
    let (kernel, launch) = match rung {
        Rung::Naive => (per_float!("conv_forward_naive").of(dtype)?, Launch::over(y.numel())),
        Rung::Tiled => (per_float!("conv_forward_tiled").of(dtype)?, tiles(pixels, g.k, 1)),
        Rung::TensorCores => {
            let kernels = [kernel!("conv_forward_mma<f16>"), kernel!("conv_forward_mma<bf16>")];
            (half(kernels, dtype), mma_blocks(pixels, g.k.div_ceil(MMA_TILE.1), 1))
        }
    };
    let bias = bias.map_or(Address::NULL, Tensor::address);
    let arguments = (Conv::new(g)?, x.address(), weight.address(), bias, y.address_mut()?);
    // SAFETY: the tensors have the geometry's shapes and the kernel's types, the bias is [k] f32 or absent.
    unsafe { gpu.launch(kernel, launch, arguments) }
}

pub(super) fn input_gradient(
    gpu: Gpu,
    rung: Rung,
    g: &Geometry,
    dy: &Tensor,
    weight: &Tensor,
    dx: &mut Tensor,
) -> Result<()> {
    let (dtype, [u, v]) = (dy.dtype(), g.stride);
    let pixels = g.n * g.h.div_ceil(u) * g.w.div_ceil(v); // of the largest phase
    let (kernel, launch) = match rung {
        Rung::Naive => (per_float!("conv_input_gradient_naive").of(dtype)?, Launch::over(dx.numel())),
        Rung::Tiled => (per_float!("conv_input_gradient_tiled").of(dtype)?, tiles(pixels, g.c, u * v)),
        Rung::TensorCores => {
            let kernels = [kernel!("conv_input_gradient_mma<f16>"), kernel!("conv_input_gradient_mma<bf16>")];
            (half(kernels, dtype), mma_blocks(pixels, g.c.div_ceil(MMA_TILE.1), u * v))
        }
    };
    let arguments = (Conv::new(g)?, dy.address(), weight.address(), dx.address_mut()?);
    // SAFETY: the tensors have the geometry's shapes and the kernel's types.
    unsafe { gpu.launch(kernel, launch, arguments) }
}

pub(super) fn weight_gradient(
    gpu: Gpu,
    rung: Rung,
    g: &Geometry,
    x: &Tensor,
    dy: &Tensor,
    dw: &mut Tensor,
) -> Result<()> {
    let conv = Conv::new(g)?;
    if rung == Rung::Naive {
        let arguments = (conv, x.address(), dy.address(), dw.address_mut()?);
        let kernel = per_float!("conv_weight_gradient_naive").of(x.dtype())?;
        // SAFETY: the tensors have the geometry's shapes and the kernel's types, dw is f32.
        return unsafe { gpu.launch(kernel, Launch::over(dw.numel()), arguments) };
    }
    let (pixels, width) = (g.n * g.p * g.q, g.r * g.s * g.c);
    let (kernel, blocks) = match rung {
        Rung::TensorCores => {
            let kernels = [kernel!("conv_weight_gradient_mma<f16>"), kernel!("conv_weight_gradient_mma<bf16>")];
            (half(kernels, x.dtype()), mma_blocks(g.k, g.r * g.s * g.c.div_ceil(MMA_TILE.1), 1))
        }
        _ => (per_float!("conv_weight_gradient_tiled").of(x.dtype())?, tiles(g.k, width, 1)),
    };
    let splits = splits((blocks.grid[0] * blocks.grid[1]) as usize, g.k * width, pixels);
    let share = pixels.div_ceil(splits).max(1);
    let launch = Launch { grid: [blocks.grid[0], blocks.grid[1], splits as u32], ..blocks };
    if splits == 1 {
        let arguments = (conv, x.address(), dy.address(), dw.address_mut()?, share as i64);
        // SAFETY: the tensors have the geometry's shapes and the kernel's types, dw is f32; one split fills it whole.
        return unsafe { gpu.launch(kernel, launch, arguments) };
    }
    let mut partial = Tensor::uninit([splits, g.k, width], DType::F32, Device::Cuda(gpu))?;
    let n = g.k * width;
    let arguments = (conv, x.address(), dy.address(), partial.address_mut()?, share as i64);
    // SAFETY: as above; every split fills its own [k, width] of `partial`.
    unsafe { gpu.launch(kernel, launch, arguments)? };
    let arguments = (partial.address(), dw.address_mut()?, splits as i32, n as i64);
    // SAFETY: `partial` has splits * n numbers, dw has n, all f32.
    unsafe { gpu.launch(kernel!("conv_add_splits"), Launch::over(n), arguments) }
}

/// Into how many parts the sum over pixels is cut. A function of the sizes alone, never of the device: the same bits
/// everywhere. About 528 blocks (4 for each of 132 processors), but no part below 256 pixels and no workspace above 64 MiB.
fn splits(blocks: usize, results: usize, pixels: usize) -> usize {
    let most = (pixels / 256).min((16 << 20) / results.max(1));
    528usize.div_ceil(blocks.max(1)).min(most).max(1)
}
