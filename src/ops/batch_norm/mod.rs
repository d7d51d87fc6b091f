//! Batch normalisation (Ioffe and Szegedy, 2015), with the addition and the ReLU that follow it in a residual network.
//!
//! Over `x` seen as `[M, C]` (`M` = N·H·W for pictures, N for vectors), per channel:
//!
//! ```text
//! training:   mu = mean(x),  var = mean((x - mu)²)                     over the M rows
//!             running_mean = (1 - m) running_mean + m mu
//!             running_var  = (1 - m) running_var  + m var M/(M-1)      the unbiased variance
//! evaluation: mu = running_mean,  var = running_var
//!
//! xh = (x - mu) / sqrt(var + eps)
//! z  = w xh + b  [+ residual]                  y = max(z, 0) if relu, else z
//! ```
//!
//! Backward, with `dz = dy` where `y > 0` (everywhere without ReLU):
//!
//! ```text
//! db = sum(dz)      dw = sum(dz xh)      dresidual = dz
//! dx = w / sqrt(var + eps) (dz - db/M - xh dw/M)      training: mu and var depend on x
//! dx = w / sqrt(var + eps)  dz                        evaluation
//! ```
//!
//! Why one operation instead of three: normalising, adding and clipping are limited by memory, and each pass over a
//! activation costs the same. Together they read `x` (and the residual) and write `y` once; apart they would do it three times.

mod cpu;

use crate::autograd::{self, Backward};
use crate::device::Device;
use crate::tensor::{Tensor, for_float, same_kind};
use crate::{Error, Result};

/// What a batch normalisation works with besides its input.
pub struct BatchNorm<'a> {
    /// Scale per channel, `[C]`.
    pub weight: &'a Tensor,
    /// Shift per channel, `[C]`.
    pub bias: &'a Tensor,
    /// Running mean `[C]`; training moves it.
    pub running_mean: &'a mut Tensor,
    /// Running variance `[C]`; training moves it.
    pub running_var: &'a mut Tensor,
    /// Added to the variance before the square root.
    pub eps: f64,
    /// How far the running statistics move towards the batch's.
    pub momentum: f64,
    /// Normalise by the batch's statistics (and move the running ones), or by the running ones.
    pub training: bool,
    /// Added after normalising: the shortcut of a residual block. Same shape as the input.
    pub residual: Option<&'a Tensor>,
    /// Clip at zero at the end.
    pub relu: bool,
}

/// Normalises `x [.., C]` per channel; see the [module](self).
///
/// # Errors
/// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when shapes, dtypes or devices don't fit, or a training batch has fewer than
/// two values per channel, whose variance says nothing (as PyTorch).
pub fn batch_norm(x: &Tensor, args: BatchNorm<'_>) -> Result<Tensor> {
    let c = x.shape().channels();
    let m = x.numel() / c.max(1);
    let (weight, bias) = (args.weight, args.bias);
    let mut inputs = vec![x, weight, bias];
    inputs.extend(args.residual);
    let (dtype, device) = same_kind("batch_norm", &inputs)?;
    same_kind("batch_norm", &[x, args.running_mean, args.running_var])?;
    for t in [weight, bias, args.running_mean, args.running_var] {
        if t.shape()[..] != [c] {
            return Err(Error::shape("batch_norm", format!("input {} needs [{c}], got {}", x.shape(), t.shape())));
        }
    }
    if let Some(r) = args.residual.filter(|r| r.shape() != x.shape()) {
        return Err(Error::shape("batch_norm", format!("residual {} for input {}", r.shape(), x.shape())));
    }
    if args.training && m < 2 {
        let message = format!("needs more than one value per channel in training, got {}", x.shape());
        return Err(Error::shape("batch_norm", message).remedy("use a larger batch"));
    }
    let mut y = Tensor::uninit(x.shape(), dtype, device);
    let mut mean = Tensor::uninit([c], dtype, device);
    let mut invstd = Tensor::uninit([c], dtype, device);
    match device {
        Device::Cpu => for_float!(dtype, T => {
            let statistics = cpu::Statistics { mean: mean.cpu_mut(), invstd: invstd.cpu_mut() };
            if args.training {
                let running = (args.running_mean.cpu_mut(), args.running_var.cpu_mut());
                cpu::batch_statistics::<T>(x.cpu(), statistics, running, args.eps, args.momentum);
            } else {
                cpu::fixed_statistics::<T>(args.running_mean.cpu(), args.running_var.cpu(), statistics, args.eps);
            }
            let affine = cpu::Affine { mean: mean.cpu(), invstd: invstd.cpu(), weight: weight.cpu(), bias: bias.cpu() };
            cpu::normalize::<T>(x.cpu(), &affine, args.residual.map(|r| r.cpu()), args.relu, y.cpu_mut());
        }),
    }
    let saved_y = args.relu.then(|| y.detach());
    let save = |_: &[bool]| BatchNormBackward {
        x: x.detach(),
        weight: weight.detach(),
        y: saved_y,
        mean,
        invstd,
        training: args.training,
    };
    Ok(autograd::record("batch_norm", &inputs, y, save))
}

struct BatchNormBackward {
    x: Tensor,
    weight: Tensor,
    y: Option<Tensor>,
    mean: Tensor,
    invstd: Tensor,
    training: bool,
}

impl Backward for BatchNormBackward {
    fn backward(self: Box<Self>, mut dy: Tensor, needs: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let (dtype, device) = (dy.dtype(), dy.device());
        let Device::Cpu = device;
        let mut dw = Tensor::uninit(self.weight.shape(), dtype, device);
        let mut db = Tensor::uninit(self.weight.shape(), dtype, device);
        let (mean, invstd) = (&self.mean, &self.invstd);
        for_float!(dtype, T => {
            if let Some(y) = &self.y {
                crate::ops::relu::mask::<T>(y.cpu(), dy.cpu_mut()); // dy is dz from here on
            }
            cpu::reduce::<T>(self.x.cpu(), dy.cpu(), mean.cpu(), invstd.cpu(), dw.cpu_mut(), db.cpu_mut());
        });
        let wants_residual = needs.get(3).copied().unwrap_or(false);
        let dx = needs[0].then(|| {
            let mut dx = if wants_residual { Tensor::uninit(dy.shape(), dtype, device) } else { dy.clone() };
            let dz = wants_residual.then(|| dy.clone());
            if !wants_residual {
                // dx takes the place of dz in memory: the last owner lets go, so that nothing is copied.
                drop(std::mem::replace(&mut dy, Tensor::uninit([0], dtype, device)));
            }
            for_float!(dtype, T => {
                let terms = cpu::Terms {
                    mean: mean.cpu(),
                    invstd: invstd.cpu(),
                    weight: self.weight.cpu(),
                    sums: self.training.then(|| (dw.cpu(), db.cpu())),
                };
                cpu::input_gradient::<T>(self.x.cpu(), dz.as_ref().map(|t| t.cpu()), &terms, dx.cpu_mut());
            });
            dx
        });
        let mut grads = vec![dx, needs[1].then_some(dw), needs[2].then_some(db)];
        if needs.len() > 3 {
            grads.push(wants_residual.then_some(dy));
        }
        Ok(grads)
    }
}
