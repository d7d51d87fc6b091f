//! Mixed pictures on a GPU: `kernels/mix.cu`.

use super::Patch;
use crate::Result;
use crate::device::cuda::driver::{Launch, THREADS};
use crate::device::cuda::{Gpu, Memory, geometry, per_float};
use crate::tensor::Tensor;

geometry! {
    /// Pictures.
    pub(crate) struct CutMix {
        height: i32,
        width: i32,
        channels: i32,
    }
}

geometry! {
    /// A rectangle in them.
    pub(crate) struct Cut {
        top: i32,
        bottom: i32,
        left: i32,
        right: i32,
    }
}

/// A column of blocks for each item of `n` numbers.
fn launch(items: usize, n: usize) -> Launch {
    let blocks = n.div_ceil(THREADS as usize).min(1 << 16);
    Launch { grid: [blocks as u32, items.min(65_535) as u32, 1], block: [THREADS, 1, 1], shared: 0 }
}

fn upload(gpu: Gpu, partners: &[usize]) -> Result<Memory> {
    let partners: Vec<i64> = partners.iter().map(|&p| p as i64).collect();
    gpu.upload_table(&partners)
}

pub(super) fn mix_up(gpu: Gpu, x: &Tensor, partners: &[usize], shares: &[f32], y: &mut Tensor) -> Result<()> {
    let (items, n) = (partners.len(), x.numel() / partners.len());
    let (partners, shares) = (upload(gpu, partners)?, gpu.upload_table(shares)?);
    let addresses = (x.address(), partners.address(), shares.address(), y.address_mut()?);
    let arguments = (addresses.0, addresses.1, addresses.2, addresses.3, items as i64, n as i64);
    // SAFETY: x and y have n numbers for each item, of the kernel's type; every partner is one of the items.
    unsafe { gpu.launch(per_float!("mix_up").of(x.dtype())?, launch(items, n), arguments) }
}

pub(super) fn cut_mix(gpu: Gpu, x: &Tensor, partners: &[usize], patch: Patch, y: &mut Tensor) -> Result<()> {
    let [items, h, w, c] = x.dims4("cut_mix")?;
    let Patch { top, bottom, left, right } = patch;
    let [height, width, channels, top, bottom, left, right] = [h, w, c, top, bottom, left, right].map(|n| n as i32);
    let g = CutMix { height, width, channels };
    let (cut, partners) = (gpu.upload_table(&[Cut { top, bottom, left, right }])?, upload(gpu, partners)?);
    let arguments = (g, cut.address(), x.address(), partners.address(), y.address_mut()?, items as i64);
    // SAFETY: x and y are pictures of the geometry's size, of the kernel's type; every partner is one of them, and there is
    // one rectangle.
    unsafe { gpu.launch(per_float!("cut_mix").of(x.dtype())?, launch(items, h * w * c), arguments) }
}
