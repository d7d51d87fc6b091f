//! Losses number by number on a GPU: `kernels/pointwise_loss.cu`.

use super::Pointwise;
use crate::Result;
use crate::device::Device;
use crate::device::cuda::driver::{Address, Launch};
use crate::device::cuda::{Gpu, geometry, kernel, per_float};
use crate::tensor::{DType, Tensor};

geometry! {
    /// The kernel's sizes and its loss.
    pub(crate) struct PointwiseLoss {
        rows: i64,
        columns: i64,
        kind: i32,
        pad: i32,
    }
}

/// The mean loss, an f32 scalar; `dx` becomes its gradient.
pub(super) fn mean_and_gradient(
    gpu: Gpu,
    loss: &Pointwise,
    rows: usize,
    x: &Tensor,
    targets: &Tensor,
    weights: Option<&Tensor>,
    dx: &mut Tensor,
) -> Result<Tensor> {
    let (columns, device) = (x.numel() / rows, Device::Cuda(gpu));
    let kind = match loss {
        Pointwise::BceWithLogits { .. } => 0,
        Pointwise::Mse => 1,
        Pointwise::L1 => 2,
    };
    let pos_weight = match loss.pos_weight() {
        Some(w) => Some(Tensor::from_slice(&w.iter().map(|&w| w as f32).collect::<Vec<_>>(), [columns], device)?),
        None => None,
    };
    let g = PointwiseLoss { rows: rows as i64, columns: columns as i64, kind, pad: 0 };
    let at = |t: Option<&Tensor>| t.map_or(Address::NULL, Tensor::address);
    let mut losses = Tensor::uninit([rows], DType::F32, device)?;
    let given = (targets.address(), at(pos_weight.as_ref()), at(weights));
    let arguments = (g, x.address(), given.0, given.1, given.2, dx.address_mut()?, losses.address_mut()?);
    let kernel = per_float!("pointwise_loss_rows").of(x.dtype())?;
    // SAFETY: x and dx are [rows, columns] of the kernel's type, targets [rows, columns] f32, losses [rows] f32, the positives'
    // weights [columns] f32 or absent, the rows' [rows] f32 or absent. A warp does a row.
    unsafe { gpu.launch(kernel, Launch::over(rows.saturating_mul(32)), arguments)? };
    let mut mean = Tensor::uninit([], DType::F32, device)?;
    let arguments = (losses.address(), mean.address_mut()?, rows as i64);
    // SAFETY: losses has `rows` numbers, mean one, all f32; one block does it.
    unsafe { gpu.launch(kernel!("pointwise_loss_sum"), Launch::blocks(1), arguments)? };
    Ok(mean)
}
