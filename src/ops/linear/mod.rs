//! The linear layer `y = x Wᵀ + b`.
//!
//! With `x [N, I]`, `W [O, I]`, `b [O]`:
//!
//! ```text
//! y[n, o]  = b[o] + sum over i of x[n, i] * W[o, i]
//! dx[n, i] = sum over o of dy[n, o] * W[o, i]
//! dW[o, i] = sum over n of dy[n, o] * x[n, i]
//! db[o]    = sum over n of dy[n, o]
//! ```

mod cpu;
pub(crate) mod cuda;

use crate::autograd::{self, Backward};
use crate::device::Device;
use crate::ops::rounded::{self, half_on_cpu};
use crate::tensor::{Tensor, for_float, same_kind_with};
use crate::{Error, Result};

/// `x [N, I]` times the transpose of `weight [O, I]`, plus an optional `bias [O]`: `[N, O]`. As PyTorch's
/// `torch.nn.functional.linear`. With `x` and `weight` in half precision, the bias and the gradients of both are f32.
///
/// # Errors
/// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when shapes, dtypes or devices don't fit.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let [n, i] = x.dims2("linear")?;
    let [o, wi] = weight.dims2("linear")?;
    if wi != i || bias.is_some_and(|b| b.shape()[..] != [o]) {
        let bias = bias.map_or(String::new(), |b| format!(" and bias {}", b.shape()));
        return Err(Error::shape("linear", format!("input {} doesn't fit weight {}{bias}", x.shape(), weight.shape())));
    }
    let mut inputs = vec![x, weight];
    inputs.extend(bias);
    let (dtype, device) = same_kind_with("linear", &[x, weight], bias.as_slice())?;
    if let Some(dtype) = half_on_cpu(x) {
        return rounded::to(dtype, &linear(&rounded::activation(x)?, &rounded::parameter(weight)?, bias)?);
    }
    let mut y = Tensor::uninit([n, o], dtype, device)?;
    match device {
        Device::Cpu => for_float!(dtype, T => {
            cpu::forward::<T>([n, i, o], x.cpu(), weight.cpu(), bias.map(|b| b.cpu()), y.cpu_mut());
        }),
        Device::Cuda(gpu) => cuda::forward(gpu, [n, i, o], x, weight, bias, &mut y)?,
    }
    let save = |needs: &[bool]| LinearBackward {
        size: [n, i, o],
        x: needs[1].then(|| x.detach()),
        weight: needs[0].then(|| weight.detach()),
    };
    Ok(autograd::record("linear", &inputs, y, save))
}

struct LinearBackward {
    size: [usize; 3],
    x: Option<Tensor>,
    weight: Option<Tensor>,
}

impl Backward for LinearBackward {
    fn backward(self: Box<Self>, dy: Tensor, needs: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let size @ [n, i, o] = self.size;
        let (dtype, device) = (dy.dtype(), dy.device());
        let dx = self.weight.filter(|_| needs[0]).map(|weight| -> Result<Tensor> {
            let mut dx = Tensor::uninit([n, i], dtype, device)?;
            match device {
                Device::Cpu => {
                    for_float!(dtype, T => cpu::input_gradient::<T>(size, dy.cpu(), weight.cpu(), dx.cpu_mut()));
                }
                Device::Cuda(gpu) => cuda::input_gradient(gpu, size, &dy, &weight, &mut dx)?,
            }
            Ok(dx)
        });
        let dw = self.x.filter(|_| needs[1]).map(|x| -> Result<Tensor> {
            let mut dw = Tensor::uninit([o, i], dtype.master(), device)?;
            match device {
                Device::Cpu => for_float!(dtype, T => cpu::weight_gradient::<T>(size, x.cpu(), dy.cpu(), dw.cpu_mut())),
                Device::Cuda(gpu) => cuda::weight_gradient(gpu, size, &x, &dy, &mut dw)?,
            }
            Ok(dw)
        });
        let mut grads = vec![dx.transpose()?, dw.transpose()?];
        if let Some(&needed) = needs.get(2) {
            let mut db = Tensor::uninit([o], dtype.master(), device)?;
            match device {
                _ if !needed => {}
                Device::Cpu => for_float!(dtype, T => cpu::bias_gradient::<T>(dy.cpu(), db.cpu_mut())),
                Device::Cuda(gpu) => cuda::bias_gradient(gpu, &dy, &mut db)?,
            }
            grads.push(needed.then_some(db));
        }
        Ok(grads)
    }
}
