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
//! Backward is two passes: one for the sums, one for `dx`. `dz` is formed on the way in both. With a residual the first writes it,
//! because it is the residual's gradient; without, where the ReLU clipped is computed again from `x` (`w xh + b > 0`, the same
//! expression, so the same bits), and neither `y` is read nor `dz` written: 5 instead of 8 visits to an activation.
//!
//! Why one operation instead of three: normalising, adding and clipping are limited by memory, and each pass over an
//! activation costs the same. Together they read `x` (and the residual) and write `y` once; apart they would do it three times.

mod cpu;
pub(crate) mod cuda;
pub(crate) mod notes;

use crate::autograd::{self, Backward};
use crate::device::Device;
use crate::device::cuda::Gpu;
use crate::ops::ladder::{self, Rung};
use crate::ops::rounded::{self, half_on_cpu};
use crate::tensor::{DType, Element, Tensor, for_float, same_kind_with};
use crate::{Error, Result};
use notes::{Origin, Reduced, Sums};
use std::sync::Arc;

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

/// Normalises `x [.., C]` per channel; see the [module](self). With `x` (and the residual) in half precision, parameters, statistics
/// and their gradients are f32.
///
/// # Errors
/// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when shapes, dtypes or devices don't fit, or a training batch has fewer than
/// two values per channel, whose variance says nothing (as PyTorch).
pub fn batch_norm(x: &Tensor, args: BatchNorm<'_>) -> Result<Tensor> {
    let (dtype, device) = args.check(x)?;
    let c = x.shape().channels();
    let (weight, bias) = (args.weight, args.bias);
    let mut inputs = vec![x, weight, bias];
    inputs.extend(args.residual);
    if let Some(dtype) = half_on_cpu(x) {
        let residual = args.residual.map(rounded::activation).transpose()?;
        let args = BatchNorm { residual: residual.as_ref(), ..args };
        return rounded::to(dtype, &batch_norm(&rounded::activation(x)?, args)?);
    }
    let mut y = Tensor::uninit(x.shape(), dtype, device)?;
    let (relu, residual, training) = (args.relu, args.residual, args.training);
    let (mean, invstd) = match device {
        Device::Cpu => for_float!(dtype, T => {
            let mut mean = Tensor::uninit([c], dtype.master(), device)?;
            let mut invstd = Tensor::uninit([c], dtype.master(), device)?;
            let statistics = cpu::Statistics { mean: mean.cpu_mut(), invstd: invstd.cpu_mut() };
            if args.training {
                let running = (args.running_mean.cpu_mut(), args.running_var.cpu_mut());
                cpu::batch_statistics::<T>(x.cpu(), statistics, running, args.eps, args.momentum);
            } else {
                cpu::fixed_statistics::<T>(args.running_mean.cpu(), args.running_var.cpu(), statistics, args.eps);
            }
            let affine = cpu::Affine { mean: mean.cpu(), invstd: invstd.cpu(), weight: weight.cpu(), bias: bias.cpu() };
            cpu::normalize::<T>(x.cpu(), &affine, residual.map(|r| r.cpu()), relu, y.cpu_mut());
            (mean, invstd)
        }),
        Device::Cuda(gpu) => {
            let (mean, invstd) = args.statistics(gpu, x)?;
            let affine = cuda::Affine { mean: &mean, invstd: &invstd, weight, bias };
            cuda::normalize(gpu, x, affine, residual, relu, &mut y)?;
            (mean, invstd)
        }
    };
    // Who knows how y was made can do a part of this norm's way back: a convolution on the fused rung.
    let tells = relu && device != Device::Cpu && autograd::enabled() && ladder::highest()? == Rung::Fused;
    let origin = tells.then(|| {
        let (x, weight, bias) = (x.detach(), weight.detach(), bias.detach());
        let (mean, invstd) = (mean.clone(), invstd.clone());
        Arc::new(Origin { x, mean, invstd, weight, bias, residual: residual.is_some() })
    });
    let relu = match (relu, residual) {
        (false, _) => Relu::None,
        (true, Some(_)) => Relu::Output(y.detach()),
        (true, None) => Relu::Input,
    };
    let save = |_: &[bool]| BatchNormBackward {
        x: x.detach(),
        weight: weight.detach(),
        bias: bias.detach(),
        relu,
        mean,
        invstd,
        training,
        origin: origin.clone(),
    };
    let y = autograd::record("batch_norm", &inputs, y, save);
    Ok(match origin {
        Some(origin) if y.requires_grad() => y.noted(origin),
        _ => y,
    })
}

impl BatchNorm<'_> {
    /// Number type and device of a norm over `x`, or why there can't be one.
    pub(super) fn check(&self, x: &Tensor) -> Result<(DType, Device)> {
        let c = x.shape().channels();
        let m = x.numel() / c.max(1);
        let activations: Vec<&Tensor> = std::iter::once(x).chain(self.residual).collect();
        let masters = [self.weight, self.bias, &*self.running_mean, &*self.running_var];
        let kind = same_kind_with("batch_norm", &activations, &masters)?;
        for t in masters {
            if t.shape()[..] != [c] {
                return Err(Error::shape("batch_norm", format!("input {} needs [{c}], got {}", x.shape(), t.shape())));
            }
        }
        if let Some(r) = self.residual.filter(|r| r.shape() != x.shape()) {
            return Err(Error::shape("batch_norm", format!("residual {} for input {}", r.shape(), x.shape())));
        }
        if self.training && m < 2 {
            let message = format!("needs more than one value per channel in training, got {}", x.shape());
            return Err(Error::shape("batch_norm", message).remedy("use a larger batch"));
        }
        Ok(kind)
    }

    /// Mean and 1 / sqrt(var + eps) on a GPU: the batch's, which moves the running ones, or the running ones.
    pub(super) fn statistics(self, gpu: Gpu, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let (c, device) = (x.shape().channels(), x.device());
        let mut invstd = Tensor::uninit([c], DType::F32, device)?;
        if !self.training {
            cuda::fixed_invstd(gpu, self.running_var, self.eps, &mut invstd)?;
            return Ok((self.running_mean.detach(), invstd));
        }
        let mut mean = Tensor::uninit([c], DType::F32, device)?;
        let sums = match x.note::<Sums>() {
            Some(sums) => sums.0.clone(), // the convolution before has taken them
            None => cuda::tile_sums(gpu, x)?,
        };
        let running = (self.running_mean, self.running_var);
        cuda::finish_statistics(gpu, x, &sums, (&mut mean, &mut invstd), running, self.eps, self.momentum)?;
        Ok((mean, invstd))
    }
}

/// From what the backward pass knows where the ReLU clipped.
enum Relu {
    /// There was none.
    None,
    /// From the output: with a residual nothing else tells.
    Output(Tensor),
    /// From `x`, whose affine image is computed again.
    Input,
}

struct BatchNormBackward {
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    relu: Relu,
    mean: Tensor,
    invstd: Tensor,
    training: bool,
    /// What it has told others of itself.
    origin: Option<Arc<Origin>>,
}

impl Backward for BatchNormBackward {
    fn backward(self: Box<Self>, mut dy: Tensor, needs: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let (dtype, device) = (dy.dtype(), dy.device());
        let mut dw = Tensor::uninit(self.weight.shape(), dtype.master(), device)?;
        let mut db = Tensor::uninit(self.weight.shape(), dtype.master(), device)?;
        let wants_residual = needs.get(3).copied().unwrap_or(false);
        let masked = self.reduce(&mut dy, &mut dw, &mut db)?;
        let dx = match needs[0] {
            false => None,
            true => {
                let sums = self.training.then_some((&dw, &db));
                if wants_residual {
                    // dy has become dz, the residual's gradient: dx needs memory of its own.
                    let mut dx = Tensor::uninit(dy.shape(), dtype, device)?;
                    self.input_gradient(Some(&dy), masked, sums, &mut dx)?;
                    Some(dx)
                } else {
                    // dx takes dy's place.
                    let mut dx = std::mem::replace(&mut dy, Tensor::uninit([0], dtype, device)?);
                    self.input_gradient(None, masked, sums, &mut dx)?;
                    Some(dx)
                }
            }
        };
        let mut grads = vec![dx, needs[1].then_some(dw), needs[2].then_some(db)];
        if needs.len() > 3 {
            grads.push(wants_residual.then_some(dy));
        }
        Ok(grads)
    }
}

impl BatchNormBackward {
    /// The sums `dw` and `db`; with a residual `dy` becomes `dz`. Says whether `dy` was `dz` already.
    fn reduce(&self, dy: &mut Tensor, dw: &mut Tensor, db: &mut Tensor) -> Result<bool> {
        let mine =
            |reduced: &Arc<Reduced>| self.origin.as_ref().is_some_and(|origin| Arc::ptr_eq(origin, &reduced.origin));
        if let (Device::Cuda(gpu), Some(reduced)) = (dy.device(), dy.note::<Reduced>().filter(mine)) {
            cuda::finish_reduce(gpu, &reduced.sums, &self.invstd, dw, db)?;
            return Ok(true);
        }
        match dy.device() {
            Device::Cpu => for_float!(dy.dtype(), T => {
                cpu::reduce::<T>(self.x.cpu(), dy.cpu_mut(), &self.cpu_affine(), &self.cpu_mask(), dw.cpu_mut(), db.cpu_mut());
                Ok(())
            }),
            Device::Cuda(gpu) => cuda::reduce(gpu, &self.x, dy, self.cuda_affine(), self.cuda_mask(), dw, db),
        }?;
        Ok(false)
    }

    /// `dx` from `dz`, or from what it holds itself.
    fn input_gradient(
        &self,
        dz: Option<&Tensor>,
        masked: bool,
        sums: Option<(&Tensor, &Tensor)>,
        dx: &mut Tensor,
    ) -> Result<()> {
        match dx.device() {
            Device::Cpu => for_float!(dx.dtype(), T => {
                let sums = sums.map(|(dw, db)| (dw.cpu(), db.cpu()));
                let (affine, mask) = (self.cpu_affine(), self.cpu_mask());
                cpu::input_gradient::<T>(self.x.cpu(), dz.map(|d| d.cpu()), &affine, &mask, sums, dx.cpu_mut());
                Ok(())
            }),
            Device::Cuda(gpu) => {
                let mask = if masked { cuda::Mask::None } else { self.cuda_mask() };
                cuda::input_gradient(gpu, &self.x, dz, self.cuda_affine(), mask, sums, dx)
            }
        }
    }

    fn cpu_affine<T: Element>(&self) -> cpu::Affine<'_, T> {
        let (mean, invstd) = (self.mean.cpu(), self.invstd.cpu());
        cpu::Affine { mean, invstd, weight: self.weight.cpu(), bias: self.bias.cpu() }
    }

    fn cpu_mask<T: Element>(&self) -> cpu::Mask<'_, T> {
        match &self.relu {
            Relu::None => cpu::Mask::None,
            Relu::Output(y) => cpu::Mask::Output(y.cpu()),
            Relu::Input => cpu::Mask::Input(self.bias.cpu()),
        }
    }

    fn cuda_affine(&self) -> cuda::Affine<'_> {
        cuda::Affine { mean: &self.mean, invstd: &self.invstd, weight: &self.weight, bias: &self.bias }
    }

    fn cuda_mask(&self) -> cuda::Mask<'_> {
        match &self.relu {
            Relu::None => cuda::Mask::None,
            Relu::Output(y) => cuda::Mask::Output(y),
            Relu::Input => cuda::Mask::Input,
        }
    }
}
