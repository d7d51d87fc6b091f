//! Softmax cross entropy, loss and gradient in one pass.
//!
//! For a row of logits `x [C]` with target `t`, weights `w [C]` of the classes, and label smoothing `e`:
//!
//! ```text
//! ce   = (1 - e) w[t] (lse - x[t]) + e/C sum over c of w[c] (lse - x[c]),     lse = log sum exp(x)
//! dx   = ((1 - e) w[t] + e/C sum(w)) softmax(x) - (1 - e) w[t] onehot(t) - e/C w
//! ```
//!
//! The mean over rows is weighted: the divisor is the sum of the targets' weights, 1 each by default, and a row whose target is
//! [`CrossEntropy::ignore_index`] doesn't count at all. This is PyTorch's, weights and smoothing together too, and fastai's `CrossEntropyLossFlat` and `LabelSmoothingCrossEntropy`. The
//! largest logit is subtracted before `exp`, so logits of any size are safe.
//!
//! Two variants divide by the number of rows instead, as fastai's do:
//!
//! - the **focal** loss (Lin and others, *Focal Loss for Dense Object Detection*, 2017) makes rows count less that are right already:
//!   `loss = (1 - p)^g ce` with `p = exp(-ce)`, and `dx` times `(1 - p)^g + g (1 - p)^(g-1) p ce`;
//! - [`weighted_cross_entropy`] multiplies each row's loss by a given number, which is how MixUp counts two targets for a picture.

mod cpu;
pub(crate) mod cuda;

use crate::autograd::{self, Backward};
use crate::device::Device;
use crate::ops::rounded::{self, half_on_cpu};
use crate::tensor::{Tensor, for_float, same_kind};
use crate::{DType, Error, Result};

/// Options of the loss; the default is the plain mean.
#[derive(Clone, Debug)]
pub struct CrossEntropy {
    /// A weight per class.
    pub class_weights: Option<Vec<f64>>,
    /// Rows with this target don't count (PyTorch's default is -100).
    pub ignore_index: i64,
    /// Label smoothing, 0 for none.
    pub label_smoothing: f64,
    /// The focal loss's exponent (2 is usual); none for plain cross entropy.
    pub focal_gamma: Option<f64>,
}

impl Default for CrossEntropy {
    fn default() -> Self {
        CrossEntropy { class_weights: None, ignore_index: -100, label_smoothing: 0.0, focal_gamma: None }
    }
}

/// The mean cross entropy of `logits [.., C]` against the class indices `targets` (i64, one per row): a scalar, f32 for logits in
/// half precision.
///
/// # Errors
/// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when the numbers of rows differ, there are no rows, a target is no class, or an option is out
/// of range. (On a GPU, where looking at the targets would mean waiting for them, such a target makes the loss NaN.)
pub fn cross_entropy(logits: &Tensor, targets: &Tensor, options: &CrossEntropy) -> Result<Tensor> {
    mean(logits, targets, None, options)
}

/// The mean over all rows of each row's cross entropy times its number in `weights [rows]` (f32 beside half precision): a scalar. The
/// divisor is the number of rows, whatever the weights are.
///
/// # Errors
/// As [`cross_entropy`]; [`ErrorKind::Shape`](crate::ErrorKind::Shape) when there isn't a weight for each row.
pub fn weighted_cross_entropy(
    logits: &Tensor,
    targets: &Tensor,
    weights: &Tensor,
    options: &CrossEntropy,
) -> Result<Tensor> {
    mean(logits, targets, Some(weights), options)
}

fn mean(logits: &Tensor, targets: &Tensor, weights: Option<&Tensor>, options: &CrossEntropy) -> Result<Tensor> {
    let rows = check(logits, targets, options)?;
    let (dtype, device) = same_kind("cross_entropy", &[logits])?;
    if rows == 0 {
        return Err(Error::shape("cross_entropy", "there are no rows to take the mean of"));
    }
    check_weights("cross_entropy", weights, rows, (dtype, device))?;
    if half_on_cpu(logits).is_some() {
        return mean(&rounded::activation(logits)?, targets, weights, options);
    }
    let mut dx = Tensor::uninit(logits.shape(), dtype, device)?;
    let loss = match device {
        Device::Cpu => for_float!(dtype, T => {
            let weights = weights.map(Tensor::cpu::<T>);
            let loss = cpu::mean_and_gradient(logits.cpu::<T>(), targets.cpu(), weights, options, dx.cpu_mut());
            Tensor::scalar(loss, dtype, device)?
        }),
        Device::Cuda(gpu) => cuda::mean_and_gradient(gpu, logits, targets, weights, options, &mut dx)?,
    };
    Ok(autograd::record("cross_entropy", &[logits], loss, |_| CrossEntropyBackward { dx }))
}

/// The loss of every row, without a gradient: `[rows]`. Rows that are ignored have loss 0.
///
/// # Errors
/// As [`cross_entropy`].
pub fn cross_entropy_per_item(logits: &Tensor, targets: &Tensor, options: &CrossEntropy) -> Result<Vec<f64>> {
    check(logits, targets, options)?;
    autograd::refuse_grad("cross_entropy_per_item", &[logits])?;
    // The result goes to the host anyway, so it is computed there.
    let (logits, targets) = (logits.to(Device::Cpu)?.cast(logits.dtype().master())?, targets.to(Device::Cpu)?);
    check(&logits, &targets, options)?;
    Ok(for_float!(logits.dtype(), T => cpu::per_item::<T>(logits.cpu(), targets.cpu(), options)))
}

/// Class probabilities: the softmax over the last axis, in f64 for logits in f64, else in f32. Without a gradient.
///
/// # Errors
/// [`ErrorKind::Autograd`](crate::ErrorKind::Autograd) when `logits` needs one.
pub fn softmax(logits: &Tensor) -> Result<Tensor> {
    let (dtype, device) = same_kind("softmax", &[logits])?;
    autograd::refuse_grad("softmax", &[logits])?;
    match device {
        Device::Cpu => {
            let (mut y, dtype) = (logits.detach().cast(dtype.master())?, dtype.master());
            let c = logits.shape().channels();
            for_float!(dtype, T => cpu::softmax::<T>(c, y.cpu_mut()));
            Ok(y)
        }
        Device::Cuda(gpu) => cuda::softmax(gpu, logits),
    }
}

/// How many rows of `predictions [.., C]` have their largest number at the row's target (ties go to the lower class): an i64
/// scalar on the operands' device. Without a gradient.
///
/// # Errors
/// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when the numbers of rows differ.
pub fn count_correct(predictions: &Tensor, targets: &Tensor) -> Result<Tensor> {
    check_rows("count_correct", predictions, targets)?;
    autograd::refuse_grad("count_correct", &[predictions])?;
    match predictions.device() {
        Device::Cpu => {
            let predictions = &predictions.detach().cast(predictions.dtype().master())?;
            let c = predictions.shape().channels();
            let right =
                for_float!(predictions.dtype(), T => cpu::count_correct::<T>(c, predictions.cpu(), targets.cpu()));
            Tensor::from_slice(&[right], [], Device::Cpu)
        }
        Device::Cuda(gpu) => cuda::count_correct(gpu, predictions, targets),
    }
}

/// The number of rows, if there is a target for each.
fn check_rows(op: &str, logits: &Tensor, targets: &Tensor) -> Result<usize> {
    same_kind(op, &[logits])?;
    let rows = logits.numel() / logits.shape().channels().max(1);
    if targets.dtype() != DType::I64 || targets.numel() != rows || targets.device() != logits.device() {
        let of = |t: &Tensor| format!("{} {} on {}", t.dtype(), t.shape(), t.device());
        return Err(Error::shape(op, format!("targets {} for logits {}", of(targets), of(logits))));
    }
    Ok(rows)
}

/// Whether there is a weight for each row of predictions, where there are weights.
pub(super) fn check_weights(
    op: &str,
    weights: Option<&Tensor>,
    rows: usize,
    (dtype, device): (DType, Device),
) -> Result<()> {
    match weights {
        Some(w) if w.numel() != rows || w.dtype() != dtype.master() || w.device() != device => {
            Err(Error::shape(op, format!("weights {} {} for {rows} rows of {dtype}", w.dtype(), w.shape())))
        }
        _ => Ok(()),
    }
}

fn check(logits: &Tensor, targets: &Tensor, options: &CrossEntropy) -> Result<usize> {
    let rows = check_rows("cross_entropy", logits, targets)?;
    let c = logits.shape().channels();
    if targets.device() == Device::Cpu {
        let is_class = |t: i64| (0..c as i64).contains(&t) || t == options.ignore_index;
        if let Some(bad) = targets.cpu::<i64>().iter().find(|&&t| !is_class(t)) {
            return Err(Error::shape("cross_entropy", format!("target {bad} is not one of the {c} classes")));
        }
    }
    if let Some(w) = options.class_weights.as_ref().filter(|w| w.len() != c) {
        let error = Error::shape("cross_entropy", format!("{} class weights for {c} classes", w.len()));
        return Err(error.remedy("give one for each class, in the vocabulary's order"));
    }
    let weights = options.class_weights.as_deref().unwrap_or(&[1.0]);
    if !weights.iter().all(|w| w.is_finite() && *w >= 0.0) || weights.iter().all(|&w| w == 0.0) {
        let error = Error::shape("cross_entropy", format!("class weights {weights:?}"));
        return Err(error.remedy("use numbers of 0 or more, and at least one above 0"));
    }
    let e = options.label_smoothing;
    if !(0.0..=1.0).contains(&e) {
        return Err(Error::shape(
            "cross_entropy",
            format!("a label smoothing of {e}; it is from 0 to 1, 0.1 is usual"),
        ));
    }
    if let Some(gamma) = options.focal_gamma.filter(|g| !(g.is_finite() && *g >= 0.0)) {
        return Err(Error::shape("cross_entropy", format!("a focal exponent of {gamma}; 2 is usual")));
    }
    Ok(rows)
}

struct CrossEntropyBackward {
    dx: Tensor,
}

impl Backward for CrossEntropyBackward {
    fn backward(self: Box<Self>, dy: Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(scaled(self.dx, &dy)?)])
    }
}

/// `dx` times the scalar `dy`: 1 unless the loss is scaled. How the gradient of every loss begins.
pub(super) fn scaled(mut dx: Tensor, dy: &Tensor) -> Result<Tensor> {
    match dy.device() {
        Device::Cpu => for_float!(dy.dtype(), T => {
            let by = dy.cpu::<T>()[0];
            dx.cpu_mut::<T>().iter_mut().for_each(|d| *d *= by);
        }),
        Device::Cuda(gpu) => cuda::scale(gpu, &mut dx, dy)?,
    }
    Ok(dx)
}
