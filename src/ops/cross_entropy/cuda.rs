//! Cross entropy on a GPU: `kernels/cross_entropy.cu`.

use super::CrossEntropy as Options;
use crate::Result;
use crate::device::Device;
use crate::device::cuda::driver::{Address, Launch};
use crate::device::cuda::{Gpu, geometry, kernel, per_float};
use crate::tensor::{DType, Tensor};

geometry! {
    /// The kernel's sizes and options.
    pub(crate) struct CrossEntropy {
        rows: i64,
        classes: i64,
        ignore_index: i64,
        smoothing: f32,
        gamma: f32,
    }
}

/// Rows and classes.
fn sizes(logits: &Tensor) -> (usize, usize) {
    let c = logits.shape().channels();
    (logits.numel() / c.max(1), c)
}

/// The mean loss, an f32 scalar; `dx` becomes its gradient.
pub(super) fn mean_and_gradient(
    gpu: Gpu,
    logits: &Tensor,
    targets: &Tensor,
    weights: Option<&Tensor>,
    options: &Options,
    dx: &mut Tensor,
) -> Result<Tensor> {
    let (rows, classes) = sizes(logits);
    let device = Device::Cuda(gpu);
    let class_weights = match &options.class_weights {
        Some(w) => Some(Tensor::from_slice(&w.iter().map(|&w| w as f32).collect::<Vec<_>>(), [classes], device)?),
        None => None,
    };
    let g = CrossEntropy {
        rows: rows as i64,
        classes: classes as i64,
        ignore_index: options.ignore_index,
        smoothing: options.label_smoothing as f32,
        gamma: options.focal_gamma.map_or(-1.0, |gamma| gamma as f32),
    };
    let mut losses = Tensor::uninit([rows], DType::F32, device)?;
    let at = |t: Option<&Tensor>| t.map_or(Address::NULL, Tensor::address);
    let given = (targets.address(), at(class_weights.as_ref()), at(weights));
    let arguments = (g, logits.address(), given.0, given.1, given.2, dx.address_mut()?, losses.address_mut()?);
    let kernel = per_float!("cross_entropy_rows").of(logits.dtype())?;
    // SAFETY: logits and dx are [rows, classes] of the kernel's type, targets [rows] i64, losses [rows] f32, the classes' weights
    // [classes] f32 or absent, the rows' [rows] f32 or absent.
    unsafe { gpu.launch(kernel, Launch::warps(rows), arguments)? };
    let mut loss = Tensor::uninit([], DType::F32, device)?;
    let arguments = (losses.address(), loss.address_mut()?, rows as i64);
    // SAFETY: losses has `rows` numbers, loss one, all f32; one block does it.
    unsafe { gpu.launch(kernel!("cross_entropy_sum"), Launch::blocks(1), arguments)? };
    Ok(loss)
}

/// `dx *= by`, a scalar on the device.
pub(super) fn scale(gpu: Gpu, dx: &mut Tensor, by: &Tensor) -> Result<()> {
    let (n, kernel) = (dx.numel(), per_float!("cross_entropy_scale").of(dx.dtype())?);
    let arguments = (dx.address_mut()?, by.address(), n as i64);
    // SAFETY: dx has n numbers of the kernel's type, `by` one f32.
    unsafe { gpu.launch(kernel, Launch::over(n), arguments) }
}

/// Probabilities, f32.
pub(super) fn softmax(gpu: Gpu, logits: &Tensor) -> Result<Tensor> {
    let (rows, classes) = sizes(logits);
    let mut y = Tensor::uninit(logits.shape(), DType::F32, Device::Cuda(gpu))?;
    let arguments = (logits.address(), y.address_mut()?, rows as i64, classes as i64);
    // SAFETY: both are [rows, classes], logits of the kernel's type, y f32.
    unsafe { gpu.launch(per_float!("softmax").of(logits.dtype())?, Launch::warps(rows), arguments)? };
    Ok(y)
}

/// How many rows have their largest number at the target.
pub(super) fn count_correct(gpu: Gpu, predictions: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let (rows, classes) = sizes(predictions);
    let mut count = Tensor::uninit([], DType::I64, Device::Cuda(gpu))?;
    let arguments = (predictions.address(), targets.address(), count.address_mut()?, rows as i64, classes as i64);
    // SAFETY: predictions are [rows, classes] of the kernel's type, targets [rows] i64, the count one i64; one block does it.
    unsafe { gpu.launch(per_float!("count_correct").of(predictions.dtype())?, Launch::blocks(1), arguments)? };
    Ok(count)
}
