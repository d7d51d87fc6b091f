//! The gradients' norm on a GPU: `kernels/gradient_norm.cu`.

use super::GradientNorm;
use crate::Result;
use crate::device::Device;
use crate::device::cuda::driver::{Address, Launch};
use crate::device::cuda::{Gpu, geometry, kernel};
use crate::ops::optimizer_step::cuda::pieces;
use crate::tensor::{DType, Tensor};

geometry! {
    /// One of many gradients.
    pub(crate) struct Gradient {
        d: Address,
    }
}

/// `norm` is of these gradients, and on their device.
pub(super) fn clip(gpu: Gpu, gradients: &mut [Tensor], norm: &Tensor, most: f64) -> Result<()> {
    let pieces = pieces(gradients.iter().map(|d| d.numel()));
    if pieces.is_empty() {
        return Ok(());
    }
    let table: Result<Vec<Gradient>> = gradients.iter_mut().map(|d| Ok(Gradient { d: d.address_mut()? })).collect();
    let (table, work) = (gpu.upload_table(&table?)?, gpu.upload_table(&pieces)?);
    let arguments = (table.address(), work.address(), norm.address(), most as f32);
    // SAFETY: every piece lies inside its gradient, and no two gradients share memory, now that they are written to.
    unsafe { gpu.launch(kernel!("gradient_clip"), Launch::blocks(pieces.len()), arguments) }
}

pub(super) fn gradient_norm(gpu: Gpu, gradients: &[&Tensor]) -> Result<GradientNorm> {
    let device = Device::Cuda(gpu);
    let pieces = pieces(gradients.iter().map(|d| d.numel()));
    let n = pieces.len();
    let table: Vec<Gradient> = gradients.iter().map(|d| Gradient { d: d.address() }).collect();
    let (table, work) = (gpu.upload_table(&table)?, gpu.upload_table(&pieces)?);
    let (squares, counts) = (gpu.allocate(n * 8)?, gpu.allocate(n * 8)?);
    let arguments = (table.address(), work.address(), squares.address(), counts.address());
    // SAFETY: every piece lies inside its gradient; there is an f64 and an i64 for each.
    unsafe { gpu.launch(kernel!("gradient_norm_pieces"), Launch::blocks(n), arguments)? };
    let mut norm = Tensor::uninit([], DType::F32, device)?;
    let mut not_finite = Tensor::uninit([], DType::I64, device)?;
    let arguments = (squares.address(), counts.address(), n as i64, norm.address_mut()?, not_finite.address_mut()?);
    // SAFETY: as above; the results are one f32 and one i64; one block does it.
    unsafe { gpu.launch(kernel!("gradient_norm_finish"), Launch::blocks(1), arguments)? };
    Ok(GradientNorm { norm, not_finite })
}
