//! fastai's `AdaptiveConcatPool2d(1)`: the largest and the mean value of each channel over the whole picture.
//!
//! ```text
//! y[n, 0, 0, c]     = max  over h, w of x[n, h, w, c]         the maximum half comes first
//! y[n, 0, 0, C + c] = mean over h, w of x[n, h, w, c]
//! dx[n, h, w, c]    = dy[n, C + c] / (H W)  +  dy[n, c] at the first maximum
//! ```

mod cpu;
mod cuda;

use crate::autograd::{self, Backward};
use crate::device::Device;
use crate::ops::rounded::{self, half_on_cpu};
use crate::tensor::{Tensor, for_float, same_kind};
use crate::{DType, Error, Result};

/// `[N, H, W, C]` to `[N, 1, 1, 2C]`; see the [module](self).
///
/// # Errors
/// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when `x` isn't a float image tensor with at least one pixel.
pub fn concat_pool(x: &Tensor) -> Result<Tensor> {
    let [n, h, w, c] = x.dims4("concat_pool")?;
    let (dtype, device) = same_kind("concat_pool", &[x])?;
    if h * w == 0 {
        return Err(Error::shape("concat_pool", format!("pictures {} have no pixels", x.shape())));
    }
    if let Some(dtype) = half_on_cpu(x) {
        return rounded::to(dtype, &concat_pool(&rounded::activation(x)?)?);
    }
    let mut y = Tensor::uninit([n, 1, 1, 2 * c], dtype, device)?;
    let mut winner = Tensor::uninit([n, c], DType::I64, device)?;
    match device {
        Device::Cpu => for_float!(dtype, T => cpu::forward::<T>(c, x.cpu(), y.cpu_mut(), winner.cpu_mut())),
        Device::Cuda(gpu) => cuda::forward(gpu, [n, h, w, c], x, &mut y, &mut winner)?,
    }
    let shape = [n, h, w, c];
    Ok(autograd::record("concat_pool", &[x], y, |_| ConcatPoolBackward { shape, winner }))
}

struct ConcatPoolBackward {
    shape: [usize; 4],
    winner: Tensor,
}

impl Backward for ConcatPoolBackward {
    fn backward(self: Box<Self>, dy: Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let mut dx = Tensor::uninit(self.shape, dy.dtype(), dy.device())?;
        match dy.device() {
            Device::Cpu => {
                for_float!(dy.dtype(), T => cpu::backward::<T>(self.shape[3], dy.cpu(), self.winner.cpu(), dx.cpu_mut()));
            }
            Device::Cuda(gpu) => cuda::backward(gpu, self.shape, &dy, &self.winner, &mut dx)?,
        }
        Ok(vec![Some(dx)])
    }
}
