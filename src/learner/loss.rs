//! Losses: what training makes small, and what a prediction means under it.
//!
//! A [`Loss`] knows four things: the mean of a batch with its gradient, the loss of each item, what turns a network's raw numbers into
//! what people read (the *activation*: probabilities), and what is read from those (*decodes*: a class). fastai keeps them together in the
//! same way, and so a network trained with [`BCEWithLogitsLossFlat`] answers with several labels without being told.
//!
//! The data say which loss fits, and a learner starts with it: cross entropy for classes, binary cross entropy for several labels an
//! item, the squared error for numbers. Another one:
//!
//! ```no_run
//! # use onecycle::prelude::*;
//! # use onecycle::learner::LabelSmoothingCrossEntropyFlat;
//! # fn demo(dls: DataLoaders) -> onecycle::Result<()> {
//! let learn = vision_learner(&dls, resnet34)?.loss_func(LabelSmoothingCrossEntropyFlat::default());
//! # Ok(()) }
//! ```
//!
//! A loss of your own implements [`Loss::mean`] out of operations, and the rest.

use super::metrics::first_largest;
use crate::data::{Target, Targets};
use crate::ops::cross_entropy::{CrossEntropy, cross_entropy_per_item};
use crate::ops::pointwise_loss::{Pointwise, pointwise_loss_per_item};
use crate::{DType, Error, ErrorKind, Result, Tensor, ops};
use serde::{Deserialize, Serialize};

/// What targets are, and so what a prediction is.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetKind {
    /// A class for each item.
    #[default]
    Classes,
    /// Several labels for each item, each there or not.
    Labels,
    /// Numbers.
    Numbers,
}

impl TargetKind {
    /// The kind of these targets.
    pub fn of(targets: &Targets) -> TargetKind {
        match targets {
            Targets::Categories(_) => TargetKind::Classes,
            Targets::MultiCategories(_) => TargetKind::Labels,
            Targets::Number(_) | Targets::Numbers(_) => TargetKind::Numbers,
        }
    }

    fn shown(self) -> &'static str {
        match self {
            TargetKind::Classes => "a class for each item",
            TargetKind::Labels => "several labels for each item",
            TargetKind::Numbers => "numbers",
        }
    }

    /// The loss that fits: fastai's inferred one.
    pub(super) fn loss(self) -> Box<dyn Loss> {
        match self {
            TargetKind::Classes => Box::new(CrossEntropyLossFlat::default()),
            TargetKind::Labels => Box::new(BCEWithLogitsLossFlat::default()),
            TargetKind::Numbers => Box::new(MSELossFlat),
        }
    }
}

/// See the [module](self).
pub trait Loss: Send + Sync {
    /// The name that `learn.summary()` prints, such as `CrossEntropyLoss()`.
    fn name(&self) -> String;

    /// The targets that it is for.
    fn targets(&self) -> TargetKind;

    /// The mean over a batch, a scalar: of predictions `[N, C]` against targets (class numbers i64 `[N]`, else f32 `[N, C]` or `[N]`). With
    /// `weights [N]` each item's loss is multiplied by its weight, and the divisor is the number of items whatever the weights are.
    ///
    /// # Errors
    /// The operands don't fit.
    fn mean(&self, predictions: &Tensor, targets: &Tensor, weights: Option<&Tensor>) -> Result<Tensor>;

    /// The loss of each item, `[N]`, without a gradient.
    ///
    /// # Errors
    /// The operands don't fit.
    fn per_item(&self, predictions: &Tensor, targets: &Tensor) -> Result<Vec<f64>>;

    /// What raw predictions `[N, C]` mean, row after row: probabilities of classes, of each label, or the numbers as they are.
    ///
    /// # Errors
    /// The predictions can't be read from their device.
    fn activation(&self, predictions: &Tensor) -> Result<Vec<f64>> {
        match self.targets() {
            TargetKind::Classes => ops::softmax(predictions)?.to_f64_vec(),
            TargetKind::Labels => Ok(predictions.to_f64_vec()?.into_iter().map(sigmoid).collect()),
            TargetKind::Numbers => predictions.to_f64_vec(),
        }
    }

    /// Labels with a larger probability are predicted, where there are several an item.
    fn threshold(&self) -> f64 {
        0.5
    }

    /// What is read from an item's row of [`Loss::activation`]: the most likely class (the first of equals), the labels with a probability above
    /// the [`Loss::threshold`], the numbers.
    fn decodes(&self, activated: &[f64]) -> Target {
        decode(self.targets(), self.threshold(), activated)
    }
}

pub(super) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// What an item's activated predictions say, where `threshold` decides about each label.
fn decode(kind: TargetKind, threshold: f64, activated: &[f64]) -> Target {
    match (kind, activated) {
        (TargetKind::Classes, x) => Target::Category(first_largest(x) as i64),
        (TargetKind::Labels, x) => {
            Target::MultiCategory(x.iter().map(|&p| f32::from(u8::from(p > threshold))).collect())
        }
        (TargetKind::Numbers, [x]) => Target::Number(*x as f32),
        (TargetKind::Numbers, x) => Target::Numbers(x.iter().map(|&x| x as f32).collect()),
    }
}

/// Cross entropy over classes: fastai's `CrossEntropyLossFlat`. The options are PyTorch's: class weights, a class that doesn't
/// count, label smoothing.
#[derive(Clone, Debug, Default)]
pub struct CrossEntropyLossFlat(pub CrossEntropy);

impl CrossEntropyLossFlat {
    /// A weight for each class, in the vocabulary's order.
    pub fn weight(mut self, weights: impl Into<Vec<f64>>) -> Self {
        self.0.class_weights = Some(weights.into());
        self
    }

    /// Items with this target don't count.
    pub fn ignore_index(mut self, index: i64) -> Self {
        self.0.ignore_index = index;
        self
    }

    /// Label smoothing, 0 for none.
    pub fn label_smoothing(mut self, share: f64) -> Self {
        self.0.label_smoothing = share;
        self
    }
}

/// Cross entropy with a tenth of each target spread over all classes: fastai's `LabelSmoothingCrossEntropyFlat`.
#[derive(Clone, Copy, Debug)]
pub struct LabelSmoothingCrossEntropyFlat {
    /// The share that is spread.
    pub eps: f64,
}

impl Default for LabelSmoothingCrossEntropyFlat {
    fn default() -> Self {
        LabelSmoothingCrossEntropyFlat { eps: 0.1 }
    }
}

/// The focal loss, in which items count less that are right already: fastai's `FocalLossFlat`.
#[derive(Clone, Debug)]
pub struct FocalLossFlat {
    /// How much less; 0 is cross entropy.
    pub gamma: f64,
    /// A weight for each class.
    pub weight: Option<Vec<f64>>,
}

impl Default for FocalLossFlat {
    fn default() -> Self {
        FocalLossFlat { gamma: 2.0, weight: None }
    }
}

/// Implements [`Loss`] for a kind of cross entropy.
macro_rules! cross_entropies {
    ($($loss:ty, $name:literal, |$l:ident| $options:expr;)*) => {$(
        impl Loss for $loss {
            fn name(&self) -> String {
                $name.into()
            }
            fn targets(&self) -> TargetKind {
                TargetKind::Classes
            }
            fn mean(&self, predictions: &Tensor, targets: &Tensor, weights: Option<&Tensor>) -> Result<Tensor> {
                let $l = self;
                match weights {
                    Some(weights) => ops::weighted_cross_entropy(predictions, targets, weights, &$options),
                    None => ops::cross_entropy(predictions, targets, &$options),
                }
            }
            fn per_item(&self, predictions: &Tensor, targets: &Tensor) -> Result<Vec<f64>> {
                let $l = self;
                cross_entropy_per_item(predictions, targets, &$options)
            }
        }
    )*};
}

cross_entropies! {
    CrossEntropyLossFlat, "CrossEntropyLoss()", |l| l.0;
    LabelSmoothingCrossEntropyFlat, "LabelSmoothingCrossEntropy()",
        |l| CrossEntropy { label_smoothing: l.eps, ..CrossEntropy::default() };
    FocalLossFlat, "FocalLoss()",
        |l| CrossEntropy { focal_gamma: Some(l.gamma), class_weights: l.weight.clone(), ..CrossEntropy::default() };
}

/// Binary cross entropy for each label: fastai's `BCEWithLogitsLossFlat`.
#[derive(Clone, Debug, PartialEq)]
pub struct BCEWithLogitsLossFlat {
    /// Labels with a larger probability are predicted.
    pub thresh: f64,
    /// How much a label that is there weighs, for each label: above 1, rare ones are missed less.
    pub pos_weight: Option<Vec<f64>>,
}

impl Default for BCEWithLogitsLossFlat {
    fn default() -> Self {
        BCEWithLogitsLossFlat { thresh: 0.5, pos_weight: None }
    }
}

/// The mean squared error: fastai's `MSELossFlat`.
#[derive(Clone, Copy, Debug, Default)]
pub struct MSELossFlat;

/// The mean absolute error: fastai's `L1LossFlat`.
#[derive(Clone, Copy, Debug, Default)]
pub struct L1LossFlat;

/// Implements [`Loss`] for a loss that is taken number by number.
macro_rules! pointwise {
    ($($loss:ty, $name:literal, $targets:expr, |$l:ident| $kind:expr, $threshold:expr;)*) => {$(
        impl Loss for $loss {
            fn name(&self) -> String {
                $name.into()
            }
            fn targets(&self) -> TargetKind {
                $targets
            }
            fn mean(&self, predictions: &Tensor, targets: &Tensor, weights: Option<&Tensor>) -> Result<Tensor> {
                let $l = self;
                ops::pointwise_loss(predictions, &masters(targets, predictions)?, weights, &$kind)
            }
            fn per_item(&self, predictions: &Tensor, targets: &Tensor) -> Result<Vec<f64>> {
                let $l = self;
                pointwise_loss_per_item(predictions, &masters(targets, predictions)?, &$kind)
            }
            fn threshold(&self) -> f64 {
                let $l = self;
                $threshold
            }
        }
    )*};
}

pointwise! {
    BCEWithLogitsLossFlat, "BCEWithLogitsLoss()", TargetKind::Labels,
        |l| Pointwise::BceWithLogits { pos_weight: l.pos_weight.clone() }, l.thresh;
    MSELossFlat, "MSELoss()", TargetKind::Numbers, |_l| Pointwise::Mse, 0.5;
    L1LossFlat, "L1Loss()", TargetKind::Numbers, |_l| Pointwise::L1, 0.5;
}

/// Targets in the type that goes with the predictions: f32, but for a network that was cast to f64. Class numbers stay what they are, for
/// the operation to refuse.
fn masters(targets: &Tensor, predictions: &Tensor) -> Result<Tensor> {
    match targets.dtype() {
        DType::F32 if predictions.dtype() == DType::F64 => targets.cast(DType::F64),
        _ => Ok(targets.detach()),
    }
}

/// # Errors
/// [`ErrorKind::Argument`] when the loss is for other targets than the data's.
pub(super) fn check(loss: &dyn Loss, targets: &Targets) -> Result<()> {
    let (wants, has) = (loss.targets(), TargetKind::of(targets));
    if wants == has {
        return Ok(());
    }
    let message = format!("{} is for {}, and the data have {}", loss.name(), wants.shown(), has.shown());
    Err(Error::new(ErrorKind::Argument, message).on("loss_func").remedy(format!("use {}", has.loss().name())))
}
