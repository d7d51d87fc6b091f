//! Gradients times a number on a GPU: `kernels/unscale.cu`.

use crate::Result;
use crate::device::cuda::driver::{Address, Launch};
use crate::device::cuda::{Gpu, geometry, kernel};
use crate::ops::optimizer_step::cuda::pieces;
use crate::tensor::Tensor;

geometry! {
    /// One of many gradients.
    pub(crate) struct Scaled {
        d: Address,
    }
}

pub(super) fn unscale(gpu: Gpu, gradients: &mut [Tensor], by: f64) -> Result<()> {
    let pieces = pieces(gradients.iter().map(|d| d.numel()));
    let table: Vec<Scaled> = gradients.iter_mut().map(|d| Ok(Scaled { d: d.address_mut()? })).collect::<Result<_>>()?;
    if pieces.is_empty() {
        return Ok(());
    }
    let (table, work) = (gpu.upload_table(&table)?, gpu.upload_table(&pieces)?);
    let arguments = (table.address(), work.address(), by as f32);
    // SAFETY: every piece lies inside its gradient, which is f32 and ours alone.
    unsafe { gpu.launch(kernel!("unscale"), Launch::blocks(pieces.len()), arguments) }
}
