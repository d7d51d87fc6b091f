//! Batch normalisation over the channel axis, for pictures and for vectors.

use crate::nn::{Buffer, Context, MaxPool2d, Module, ModuleId, Param, Parameter, ReLU, Role};
use crate::{DType, Result, Tensor, ops};

/// Added to the variance: PyTorch's default, and so every ResNet's.
pub(crate) const EPS: f64 = 1e-5;

/// PyTorch's `BatchNorm2d` and `BatchNorm1d`: per channel over all other axes; see [`ops::batch_norm`](mod@crate::ops::batch_norm).
///
/// In training it normalises by the batch's statistics whether or not its parameters are frozen, and moves the running ones:
/// that is fastai's behaviour in a frozen body. [`Context::rest_frozen_norms`] is the other one.
#[derive(Debug)]
pub struct BatchNorm {
    id: ModuleId,
    kind: &'static str,
    weight: Param,
    bias: Param,
    running_mean: Buffer,
    running_var: Buffer,
    num_batches_tracked: Buffer,
    /// How far the running statistics move towards the batch's, per batch.
    momentum: f64,
    eps: f64,
}

impl BatchNorm {
    /// For pictures `[N, H, W, channels]`.
    pub fn new_2d(channels: usize) -> BatchNorm {
        BatchNorm::new("BatchNorm2d", channels)
    }

    /// For vectors `[N, channels]`.
    pub fn new_1d(channels: usize) -> BatchNorm {
        BatchNorm::new("BatchNorm1d", channels)
    }

    fn new(kind: &'static str, channels: usize) -> BatchNorm {
        BatchNorm {
            id: ModuleId::new(),
            kind,
            weight: Parameter::full(1.0, [channels], Role::Norm),
            bias: Parameter::zeros([channels], Role::Norm),
            running_mean: Buffer::full(0.0, [channels], DType::F32),
            running_var: Buffer::full(1.0, [channels], DType::F32),
            num_batches_tracked: Buffer::full(0.0, [], DType::I64),
            momentum: 0.1,
            eps: EPS,
        }
    }

    /// Sets the momentum, 0.1 by default.
    pub fn momentum(mut self, momentum: f64) -> BatchNorm {
        self.momentum = momentum;
        self
    }

    /// `norm(x) [+ residual]`, clipped at zero with `relu`: all in one pass over memory.
    ///
    /// # Errors
    /// As [`ops::batch_norm()`].
    pub fn forward_fused(&self, x: &Tensor, residual: Option<&Tensor>, relu: bool, cx: &Context) -> Result<Tensor> {
        self.with(x, cx, |args| ops::batch_norm(x, ops::batch_norm::BatchNorm { residual, relu, ..args }))
    }

    /// Calls `f` with what normalises `x`, and keeps count.
    fn with(
        &self,
        x: &Tensor,
        cx: &Context,
        f: impl FnOnce(ops::batch_norm::BatchNorm<'_>) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let training = cx.trains_norm(&self.weight);
        let (weight, bias) = (self.weight.tensor(), self.bias.tensor());
        let y = self.running_mean.update(|mean| {
            self.running_var.update(|var| {
                f(ops::batch_norm::BatchNorm {
                    weight: &weight,
                    bias: &bias,
                    running_mean: mean,
                    running_var: var,
                    eps: self.eps,
                    momentum: self.momentum,
                    training,
                    residual: None,
                    relu: false,
                })
            })
        })?;
        if training {
            self.num_batches_tracked.update(|count| {
                *count = Tensor::on_cpu(count.item()? + 1.0, [], DType::I64);
                Ok(())
            })?;
        }
        cx.saw(self.id, x.shape(), x.shape()); // of the norm alone, whatever else was done on the way
        Ok(y)
    }
}

impl Module for BatchNorm {
    fn forward(&self, x: &Tensor, cx: &Context) -> Result<Tensor> {
        self.forward_fused(x, None, false, cx)
    }

    fn forward_relu(&self, x: &Tensor, cx: &Context) -> Result<Tensor> {
        self.forward_fused(x, None, true, cx)
    }

    fn forward_relu_pool(&self, x: &Tensor, relu: &ReLU, pool: &MaxPool2d, cx: &Context) -> Result<Tensor> {
        let y = self.with(x, cx, |args| ops::norm_pool(x, args, pool.window()))?;
        relu.ran_fused(x, cx); // its shape is the input's
        pool.ran_fused(x, &y, cx);
        Ok(y)
    }

    fn kind(&self) -> &'static str {
        self.kind
    }

    fn id(&self) -> Option<ModuleId> {
        Some(self.id)
    }

    fn parameters(&self) -> Vec<(&'static str, &Param)> {
        vec![("weight", &self.weight), ("bias", &self.bias)]
    }

    fn buffers(&self) -> Vec<(&'static str, &Buffer)> {
        vec![
            ("running_mean", &self.running_mean),
            ("running_var", &self.running_var),
            ("num_batches_tracked", &self.num_batches_tracked),
        ]
    }
}
