//! Convolution on a GPU: `kernels/conv2d.cu`, which explains the rungs.

use super::Geometry;
use super::ladder::Rung;
use crate::device::Device;
use crate::device::cuda::driver::{Address, Launch};
use crate::device::cuda::{Gpu, geometry, kernel, per_float};
use crate::ops::linear::cuda::{TILE, tiles};
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

pub(super) fn forward(
    gpu: Gpu,
    rung: Rung,
    g: &Geometry,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    y: &mut Tensor,
) -> Result<()> {
    let (kernels, launch) = match rung {
        Rung::Naive => (per_float!("conv_forward_naive"), Launch::over(y.numel())),
        Rung::Tiled => (per_float!("conv_forward_tiled"), tiles(g.n * g.p * g.q, g.k, 1)),
    };
    let bias = bias.map_or(Address::NULL, Tensor::address);
    let arguments = (Conv::new(g)?, x.address(), weight.address(), bias, y.address_mut()?);
    // SAFETY: the tensors have the geometry's shapes and the kernel's types, the bias is [k] f32 or absent.
    unsafe { gpu.launch(kernels.of(x.dtype())?, launch, arguments) }
}

pub(super) fn input_gradient(
    gpu: Gpu,
    rung: Rung,
    g: &Geometry,
    dy: &Tensor,
    weight: &Tensor,
    dx: &mut Tensor,
) -> Result<()> {
    let (kernels, launch) = match rung {
        Rung::Naive => (per_float!("conv_input_gradient_naive"), Launch::over(dx.numel())),
        Rung::Tiled => {
            let [u, v] = g.stride;
            let pixels = g.n * g.h.div_ceil(u) * g.w.div_ceil(v); // of the largest phase
            (per_float!("conv_input_gradient_tiled"), tiles(pixels, g.c, u * v))
        }
    };
    let arguments = (Conv::new(g)?, dy.address(), weight.address(), dx.address_mut()?);
    // SAFETY: the tensors have the geometry's shapes and the kernel's types.
    unsafe { gpu.launch(kernels.of(dy.dtype())?, launch, arguments) }
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
    let splits = splits(g.k, width, pixels);
    let share = pixels.div_ceil(splits).max(1);
    let kernel = per_float!("conv_weight_gradient_tiled").of(x.dtype())?;
    let launch = tiles(g.k, width, splits);
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
fn splits(k: usize, width: usize, pixels: usize) -> usize {
    let tiles = k.div_ceil(TILE) * width.div_ceil(TILE);
    let most = (pixels / 256).min((16 << 20) / (k * width).max(1));
    528usize.div_ceil(tiles.max(1)).min(most).max(1)
}
