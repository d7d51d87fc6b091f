//! The linear layer on a GPU: `kernels/linear.cu`.

use crate::Result;
use crate::device::cuda::driver::{Address, Launch, THREADS};
use crate::device::cuda::{Gpu, per_float};
use crate::ops::conv2d::cuda::{self as conv2d, Finish};
use crate::ops::conv2d::{Geometry, ladder::in_chunks};
use crate::ops::ladder::{self, Rung};
use crate::tensor::{DType, Tensor};

/// Rows and columns of a block's tile; `tile.cuh` says the same.
pub(crate) const TILE: usize = 64;

/// Up to so many results, as many as 16 tiles have, are made by a warp each. It reads both rows of its result from caches, all warps together at about
/// 3 TB/s; a tile's block goes 16 numbers deeper in 1.5 microseconds, however few blocks there are. With 16 tiles both take as long, whatever the depth.
const FEW: usize = 16 * TILE * TILE;

/// One block for each tile of a `rows` x `columns` result, times `depth` layers.
pub(crate) fn tiles(rows: usize, columns: usize, layers: usize) -> Launch {
    let grid = [rows.div_ceil(TILE) as u32, columns.div_ceil(TILE) as u32, layers as u32];
    Launch { grid, block: [THREADS, 1, 1], shared: 0 }
}

/// On tensor cores the layer is a convolution of pictures with one pixel: the same products, the same kernels. `None` where they don't
/// serve it, or may not.
fn on_tensor_cores([n, i, o]: [usize; 3], dtype: DType) -> Result<Option<Geometry>> {
    let (stride, padding) = ([1; 2], [0; 2]);
    let g = Geometry { n, h: 1, w: 1, c: i, k: o, r: 1, s: 1, p: 1, q: 1, stride, padding };
    Ok((ladder::highest()? >= Rung::TensorCores && in_chunks(&g, dtype)).then_some(g))
}

fn sizes([n, i, o]: [usize; 3]) -> (i64, i64, i64) {
    (n as i64, i as i64, o as i64)
}

pub(super) fn forward(
    gpu: Gpu,
    size: [usize; 3],
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    y: &mut Tensor,
) -> Result<()> {
    if let Some(g) = on_tensor_cores(size, x.dtype())? {
        return conv2d::forward(gpu, Rung::TensorCores, &g, x, weight, bias, false, y).map(drop);
    }
    let (n, i, o) = sizes(size);
    let bias = bias.map_or(Address::NULL, Tensor::address);
    let arguments = (x.address(), weight.address(), bias, y.address_mut()?, n, i, o);
    let (kernels, launch) = match y.numel() {
        results @ 0..=FEW => (per_float!("linear_forward_few"), Launch::warps(results)),
        _ => (per_float!("linear_forward"), tiles(size[0], size[2], 1)),
    };
    // SAFETY: x is [n, i], weight [o, i], bias [o] f32 or absent, y [n, o], of the kernel's types; memory is aligned to 256 bytes, so packs
    // of 16 bytes are too.
    unsafe { gpu.launch(kernels.of(x.dtype())?, launch, arguments) }
}

pub(super) fn input_gradient(gpu: Gpu, size: [usize; 3], dy: &Tensor, weight: &Tensor, dx: &mut Tensor) -> Result<()> {
    if let Some(g) = on_tensor_cores(size, dy.dtype())? {
        return conv2d::input_gradient(gpu, Rung::TensorCores, &g, dy, weight, Finish::default(), dx).map(drop);
    }
    let (n, i, o) = sizes(size);
    let arguments = (dy.address(), weight.address(), dx.address_mut()?, n, i, o);
    // SAFETY: dy is [n, o], weight [o, i], dx [n, i], of the kernel's types.
    unsafe { gpu.launch(per_float!("linear_input_gradient").of(dy.dtype())?, tiles(size[0], size[1], 1), arguments) }
}

pub(super) fn weight_gradient(gpu: Gpu, size: [usize; 3], x: &Tensor, dy: &Tensor, dw: &mut Tensor) -> Result<()> {
    if let Some(g) = on_tensor_cores(size, x.dtype())? {
        return conv2d::weight_gradient(gpu, Rung::TensorCores, &g, x, dy, dw);
    }
    let (n, i, o) = sizes(size);
    let arguments = (dy.address(), x.address(), dw.address_mut()?, n, i, o);
    // SAFETY: dy is [n, o], x [n, i], of the kernel's types; dw is [o, i] f32.
    unsafe { gpu.launch(per_float!("linear_weight_gradient").of(dy.dtype())?, tiles(size[2], size[1], 1), arguments) }
}

/// The sum of each column of `dy [rows, o]`; a convolution's pixels are rows too.
pub(crate) fn bias_gradient(gpu: Gpu, dy: &Tensor, db: &mut Tensor) -> Result<()> {
    let o = db.numel();
    let rows = dy.numel() / o.max(1);
    let arguments = (dy.address(), db.address_mut()?, rows as i64, o as i64);
    // SAFETY: dy has rows * o numbers of the kernel's type, db o of f32; there is one block for each.
    unsafe { gpu.launch(per_float!("column_sums").of(dy.dtype())?, Launch::blocks(o), arguments) }
}
