//! The linear layer.

use crate::nn::{Context, Module, ModuleId, Param, Parameter, Role};
use crate::{Result, Tensor, ops};

/// `y = x Wᵀ + b`; see [`ops::linear`](mod@crate::ops::linear).
#[derive(Debug)]
pub struct Linear {
    id: ModuleId,
    /// `[outputs, inputs]`
    weight: Param,
    /// `[outputs]`
    bias: Option<Param>,
}

impl Linear {
    /// `inputs` features to `outputs`.
    pub fn new(inputs: usize, outputs: usize, bias: bool) -> Linear {
        Linear {
            id: ModuleId::new(),
            weight: Parameter::zeros([outputs, inputs], Role::Weight),
            bias: bias.then(|| Parameter::zeros([outputs], Role::Bias)),
        }
    }
}

impl Module for Linear {
    fn forward(&self, x: &Tensor, cx: &Context) -> Result<Tensor> {
        let bias = self.bias.as_ref().map(|b| b.tensor());
        let y = ops::linear(x, &self.weight.tensor_in(x.dtype())?, bias.as_ref())?;
        cx.saw(self.id, x.shape(), y.shape());
        Ok(y)
    }

    fn kind(&self) -> &'static str {
        "Linear"
    }

    fn id(&self) -> Option<ModuleId> {
        Some(self.id)
    }

    fn parameters(&self) -> Vec<(&'static str, &Param)> {
        super::weight_and_bias(&self.weight, self.bias.as_ref())
    }
}
