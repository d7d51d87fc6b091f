//! Losses number by number: binary cross entropy with logits, squared error, absolute error; loss and gradient in one pass.
//!
//! For a prediction `x`, its target `y`, and `s = sigmoid(x)`:
//!
//! ```text
//! BCE with logits   loss = -(k y log s + (1 - y) log(1 - s)),   dx = (1 - y) - (1 + (k - 1) y) (1 - s)    k: weight of the positive
//! MSE               loss = (x - y)²,                            dx = 2 (x - y)
//! L1                loss = |x - y|,                             dx = sign(x - y)
//! ```
//!
//! The mean over all numbers, each row's times its own weight if there is one (MixUp), divided by how many numbers there are whatever
//! the weights. The logarithms are taken as `log(1 - s) = -max(x, 0) - log(1 + exp(-|x|))`, so logits of any size are safe. These are fastai's
//! `BCEWithLogitsLossFlat`, `MSELossFlat` and `L1LossFlat`.

mod cpu;
pub(crate) mod cuda;

use crate::autograd::{self, Backward};
use crate::device::Device;
use crate::ops::cross_entropy;
use crate::ops::rounded::{self, half_on_cpu};
use crate::tensor::{Tensor, for_float, same_kind};
use crate::{Error, Result};

/// Which of the losses.
#[derive(Clone, Debug, PartialEq)]
pub enum Pointwise {
    /// Binary cross entropy of logits: several labels an item, each there or not.
    BceWithLogits {
        /// How much a label that is there weighs, for each label; 1 by default. Above 1 rare labels are missed less.
        pos_weight: Option<Vec<f64>>,
    },
    /// Squared error.
    Mse,
    /// Absolute error.
    L1,
}

impl Pointwise {
    fn pos_weight(&self) -> Option<&[f64]> {
        match self {
            Pointwise::BceWithLogits { pos_weight } => pos_weight.as_deref(),
            Pointwise::Mse | Pointwise::L1 => None,
        }
    }
}

/// The mean loss of `x [N, ..]` against `targets`, which hold as many numbers (f32 beside half precision), with a weight for each
/// row in `weights [N]` if given: a scalar, f32 for `x` in half precision.
///
/// # Errors
/// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when the operands don't fit, or there is nothing to take the mean of.
pub fn pointwise_loss(x: &Tensor, targets: &Tensor, weights: Option<&Tensor>, loss: &Pointwise) -> Result<Tensor> {
    let rows = check(x, targets, loss)?;
    let (dtype, device) = same_kind("pointwise_loss", &[x])?;
    if x.numel() == 0 {
        return Err(Error::shape("pointwise_loss", "there are no numbers to take the mean of"));
    }
    cross_entropy::check_weights("pointwise_loss", weights, rows, (dtype, device))?;
    if half_on_cpu(x).is_some() {
        return pointwise_loss(&rounded::activation(x)?, targets, weights, loss);
    }
    let mut dx = Tensor::uninit(x.shape(), dtype, device)?;
    let mean = match device {
        Device::Cpu => for_float!(dtype, T => {
            let weights = weights.map(Tensor::cpu::<T>);
            let mean = cpu::mean_and_gradient(loss, rows, x.cpu::<T>(), targets.cpu(), weights, dx.cpu_mut());
            Tensor::scalar(mean, dtype, device)?
        }),
        Device::Cuda(gpu) => cuda::mean_and_gradient(gpu, loss, rows, x, targets, weights, &mut dx)?,
    };
    Ok(autograd::record("pointwise_loss", &[x], mean, |_| PointwiseBackward { dx }))
}

/// The mean loss of every row, without a gradient: `[N]`. Rows whose target is no number have loss 0.
///
/// # Errors
/// As [`pointwise_loss`].
pub fn pointwise_loss_per_item(x: &Tensor, targets: &Tensor, loss: &Pointwise) -> Result<Vec<f64>> {
    autograd::refuse_grad("pointwise_loss_per_item", &[x])?;
    // The result goes to the host anyway, so it is computed there.
    let (x, targets) = (x.to(Device::Cpu)?.cast(x.dtype().master())?, targets.to(Device::Cpu)?);
    let rows = check(&x, &targets, loss)?;
    Ok(for_float!(x.dtype(), T => cpu::per_item::<T>(loss, rows, x.cpu(), targets.cpu())))
}

/// The number of rows, if all fits.
fn check(x: &Tensor, targets: &Tensor, loss: &Pointwise) -> Result<usize> {
    let (dtype, device) = same_kind("pointwise_loss", &[x])?;
    if targets.numel() != x.numel() || targets.dtype() != dtype.master() || targets.device() != device {
        let of = |t: &Tensor| format!("{} {} on {}", t.dtype(), t.shape(), t.device());
        return Err(Error::shape("pointwise_loss", format!("targets {} for predictions {}", of(targets), of(x))));
    }
    let rows = x.shape().first().copied().unwrap_or(1);
    let columns = x.numel() / rows.max(1);
    match loss.pos_weight() {
        Some(w) if w.len() != columns => {
            Err(Error::shape("pointwise_loss", format!("{} weights for {columns} labels", w.len())))
        }
        _ => Ok(rows),
    }
}

struct PointwiseBackward {
    dx: Tensor,
}

impl Backward for PointwiseBackward {
    fn backward(self: Box<Self>, dy: Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(cross_entropy::scaled(self.dx, &dy)?)])
    }
}
