//! Max pooling on a GPU: `kernels/max_pool.cu`.

use super::Geometry;
use crate::Result;
use crate::device::cuda::driver::Launch;
use crate::device::cuda::{Gpu, geometry, per_float};
use crate::tensor::Tensor;

geometry! {
    /// The kernel's sizes.
    pub(crate) struct MaxPool {
        n: i32,
        h: i32,
        w: i32,
        c: i32,
        p: i32,
        q: i32,
        window: i32,
        stride: i32,
        padding: i32,
    }
}

impl From<&Geometry> for MaxPool {
    fn from(g: &Geometry) -> MaxPool {
        let [n, h, w, c] = g.input.map(|v| v as i32);
        let [p, q] = g.output.map(|v| v as i32);
        MaxPool { n, h, w, c, p, q, window: g.window as i32, stride: g.stride as i32, padding: g.padding as i32 }
    }
}

pub(super) fn forward(gpu: Gpu, g: &Geometry, x: &Tensor, y: &mut Tensor, winner: &mut Tensor) -> Result<()> {
    let launch = Launch::over(y.numel());
    let arguments = (MaxPool::from(g), x.address(), y.address_mut()?, winner.address_mut()?);
    // SAFETY: x has the input's size, y and winner the output's, of the kernel's types.
    unsafe { gpu.launch(per_float!("max_pool_forward").of(x.dtype())?, launch, arguments) }
}

pub(super) fn backward(gpu: Gpu, g: &Geometry, dy: &Tensor, winner: &Tensor, dx: &mut Tensor) -> Result<()> {
    let launch = Launch::over(dx.numel());
    let arguments = (MaxPool::from(g), dy.address(), winner.address(), dx.address_mut()?);
    // SAFETY: dx has the input's size, dy and winner the output's, of the kernel's types.
    unsafe { gpu.launch(per_float!("max_pool_backward").of(dy.dtype())?, launch, arguments) }
}
