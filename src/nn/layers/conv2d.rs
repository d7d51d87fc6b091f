//! The convolution layer.

use crate::nn::{Context, Module, ModuleId, Param, Parameter, Role};
use crate::{Result, Tensor, ops};

/// Two-dimensional convolution with a square filter; see [`ops::conv2d`](mod@crate::ops::conv2d).
#[derive(Debug)]
pub struct Conv2d {
    id: ModuleId,
    /// `[K, R, S, C]`
    weight: Param,
    /// `[K]`
    bias: Option<Param>,
    stride: usize,
    padding: usize,
}

impl Conv2d {
    /// `inputs` channels to `outputs`, a `filter x filter` window, without bias.
    pub fn new(inputs: usize, outputs: usize, filter: usize, stride: usize, padding: usize) -> Conv2d {
        let weight = Parameter::zeros([outputs, filter, filter, inputs], Role::Weight);
        Conv2d { id: ModuleId::new(), weight, bias: None, stride, padding }
    }

    /// Adds a bias per output channel.
    pub fn with_bias(mut self) -> Conv2d {
        self.bias = Some(Parameter::zeros([self.weight.value().shape()[0]], Role::Bias));
        self
    }
}

impl Module for Conv2d {
    fn forward(&self, x: &Tensor, cx: &Context) -> Result<Tensor> {
        let bias = self.bias.as_ref().map(|b| b.tensor());
        let y = ops::conv2d(x, &self.weight.tensor_in(x.dtype())?, bias.as_ref(), [self.stride; 2], [self.padding; 2])?;
        cx.saw(self.id, x.shape(), y.shape());
        Ok(y)
    }

    fn kind(&self) -> &'static str {
        "Conv2d"
    }

    fn id(&self) -> Option<ModuleId> {
        Some(self.id)
    }

    fn parameters(&self) -> Vec<(&'static str, &Param)> {
        super::weight_and_bias(&self.weight, self.bias.as_ref())
    }
}
