//! Batch normalisation, ReLU and max pooling, one after the other: what a ResNet's stem does with its first convolution.
//!
//! ```text
//! z = max(batch_norm(x), 0)          y = max_pool(z)
//! ```
//!
//! [`mod@super::batch_norm`] and [`mod@super::max_pool`] have the formulas, forward and backward, and on most devices this
//! operation *is* those two, one after the other: they are its reference. On a GPU's fused rung
//! ([`ladder`]) it is one pass over memory forward and two backward, and `z`, the largest tensor of a ResNet, is never
//! stored: backward keeps `x` and the winners, one byte for each result.

pub(crate) mod cuda;

use crate::autograd::{self, Backward};
use crate::device::Device;
use crate::ops::batch_norm::{BatchNorm, batch_norm};
use crate::ops::ladder::{self, Rung};
use crate::ops::max_pool::{Geometry, max_pool};
use crate::tensor::{DType, Tensor};
use crate::{Error, Result};

/// A square window of a pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Rows and columns.
    pub size: usize,
    /// Step between windows.
    pub stride: usize,
    /// Border around the picture.
    pub padding: usize,
}

/// `max_pool(relu(batch_norm(x)))` of `x [N, H, W, C]`: `[N, P, Q, C]`. `args` says how to normalise; its `relu` is taken as true.
///
/// # Errors
/// As [`ops::batch_norm`](crate::ops::batch_norm()) and [`ops::max_pool`](crate::ops::max_pool());
/// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when `args` has a residual.
pub fn norm_pool(x: &Tensor, args: BatchNorm<'_>, window: Window) -> Result<Tensor> {
    if args.residual.is_some() {
        return Err(Error::shape("norm_pool", "a residual has no place between a norm and its pooling".to_owned()));
    }
    let args = BatchNorm { relu: true, ..args };
    let gpu = match x.device() {
        Device::Cuda(gpu) if ladder::highest()? == Rung::Fused => gpu,
        _ => return max_pool(&batch_norm(x, args)?, window.size, window.stride, window.padding),
    };
    let (dtype, device) = args.check(x)?;
    let g = Geometry::new(x, window.size, window.stride, window.padding)?;
    let (weight, bias, training) = (args.weight, args.bias, args.training);
    let (mean, invstd) = args.statistics(gpu, x)?;
    let mut y = Tensor::uninit([g.input[0], g.output[0], g.output[1], g.input[3]], dtype, device)?;
    let mut winner = Tensor::uninit(y.shape(), DType::U8, device)?;
    let norm = cuda::norm(&mean, &invstd, weight, bias);
    cuda::forward(gpu, &g, x, norm, &mut y, &mut winner)?;
    let save = |_: &[bool]| {
        let (x, weight, bias) = (x.detach(), weight.detach(), bias.detach());
        NormPoolBackward { g, x, weight, bias, mean, invstd, winner, training }
    };
    Ok(autograd::record("norm_pool", &[x, weight, bias], y, save))
}

struct NormPoolBackward {
    g: Geometry,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    invstd: Tensor,
    winner: Tensor,
    training: bool,
}

impl Backward for NormPoolBackward {
    fn backward(self: Box<Self>, dy: Tensor, needs: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let Device::Cuda(gpu) = dy.device() else {
            return Err(Error::shape("norm_pool", format!("a gradient on {} for a GPU's result", dy.device())));
        };
        let of_channel = || Tensor::uninit(self.weight.shape(), DType::F32, dy.device());
        let (mut dw, mut db) = (of_channel()?, of_channel()?);
        let norm = cuda::norm(&self.mean, &self.invstd, &self.weight, &self.bias);
        let from = cuda::Arriving { g: &self.g, dy: &dy, winner: &self.winner, norm };
        cuda::reduce(gpu, &from, &self.x, &self.invstd, (&mut dw, &mut db))?;
        let dx = match needs[0] {
            true => {
                let mut dx = Tensor::uninit(self.x.shape(), self.x.dtype(), dy.device())?;
                cuda::input_gradient(gpu, &from, &self.x, self.training.then_some((&dw, &db)), &mut dx)?;
                Some(dx)
            }
            false => None,
        };
        Ok(vec![dx, needs[1].then_some(dw), needs[2].then_some(db)])
    }
}
