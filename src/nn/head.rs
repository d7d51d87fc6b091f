//! fastai's classification head.

use super::{AdaptiveConcatPool2d, BatchNorm, Dropout, Flatten, Linear, Module, Sequential};
use crate::{Result, Tensor};

/// What a head looks like; the default is fastai's.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadOptions {
    /// Sizes of the hidden layers.
    pub lin_ftrs: Vec<usize>,
    /// Dropout before the last linear layer; the others get half of it.
    pub ps: f64,
}

impl Default for HeadOptions {
    fn default() -> Self {
        HeadOptions { lin_ftrs: vec![512], ps: 0.5 }
    }
}

/// fastai's `create_head(features, classes)`: concat pool and flatten, then for every linear layer a norm, dropout, the layer
/// (without bias, the norm has one) and, except after the last, a ReLU. For ResNet-34 and 37 classes:
///
/// ```text
/// 0 AdaptiveConcatPool2d  1 Flatten  2 BatchNorm1d(1024)  3 Dropout(0.25)  4 Linear(1024, 512)  5 ReLU
/// 6 BatchNorm1d(512)  7 Dropout(0.5)  8 Linear(512, 37)
/// ```
///
/// The norms' biases start at 0.001. A dropout of probability 0 is left out, as in fastai: the modules after it then have
/// other numbers, and a checkpoint of such a head other names.
pub fn create_head(features: usize, classes: usize, options: &HeadOptions) -> Sequential {
    let mut sizes = vec![2 * features];
    sizes.extend(&options.lin_ftrs);
    sizes.push(classes);
    let last = sizes.len() - 2;
    let pool = Sequential::new().push(AdaptiveConcatPool2d::new()).push(Flatten::new());
    sizes.windows(2).enumerate().fold(pool, |head, (i, pair)| {
        let p = if i == last { options.ps } else { options.ps / 2.0 };
        let head = head.push(BatchNorm::new_1d(pair[0]));
        let head = if p > 0.0 { head.push(Dropout::new(p)) } else { head };
        let head = head.push(Linear::new(pair[0], pair[1], false));
        if i == last { head } else { head.push_relu() }
    })
}

/// Fresh weights for a head: as [`Module::init_with`], then norm biases of 0.001.
pub(crate) fn init_head(head: &dyn Module, seed: u64) -> Result<()> {
    head.init_with(seed)?;
    for (name, p) in head.named_parameters() {
        if p.role() == super::Role::Norm && name.ends_with("bias") {
            let value = p.value();
            p.set(Tensor::full(0.001, value.shape(), value.dtype(), value.device())?)?;
        }
    }
    Ok(())
}
