//! Max pooling: the largest number under each window, per channel.
//!
//! ```text
//! y[n, p, q, c] = max over r, s inside the picture of x[n, p*u + r - pad, q*u + s - pad, c]
//! dx gets dy at the place of each window's maximum
//! ```
//!
//! Which element won is kept as one byte per output, the tap's number `r * S + s`. PyTorch's rules decide: the first
//! maximum in row-major order wins a tie, a NaN beats everything, padding never wins.

mod cpu;
pub(crate) mod cuda;

use crate::autograd::{self, Backward};
use crate::device::Device;
use crate::ops::rounded::{self, half_on_cpu};
use crate::tensor::{Tensor, for_float, same_kind};
use crate::{DType, Error, Result};

/// The sizes of a pooling, by value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Geometry {
    /// `[N, H, W, C]` of the input.
    pub input: [usize; 4],
    /// Window rows and columns (the window is square).
    pub window: usize,
    /// Step between windows.
    pub stride: usize,
    /// Border around the picture.
    pub padding: usize,
    /// Output rows and columns.
    pub output: [usize; 2],
}

impl Geometry {
    /// The sizes of a pooling of `x`, or what is wrong with them.
    pub(super) fn new(x: &Tensor, window: usize, stride: usize, padding: usize) -> Result<Geometry> {
        let input @ [_, h, w, _] = x.dims4("max_pool")?;
        if stride == 0 || window == 0 || window > 15 || padding > window / 2 {
            let message = format!("window {window}, stride {stride}, padding {padding} are out of range");
            return Err(Error::shape("max_pool", message));
        }
        if h + 2 * padding < window || w + 2 * padding < window {
            return Err(Error::shape(
                "max_pool",
                format!("window {window} is larger than the padded picture {}", x.shape()),
            ));
        }
        let output = [(h + 2 * padding - window) / stride + 1, (w + 2 * padding - window) / stride + 1];
        Ok(Geometry { input, window, stride, padding, output })
    }
}

/// Max pooling of `x [N, H, W, C]` with a square window: `[N, P, Q, C]`, `P = (H + 2 pad - window) / stride + 1` rounded down.
/// As PyTorch's `MaxPool2d(window, stride, padding)`.
///
/// # Errors
/// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when the window is larger than the padded picture or than 15, the stride is 0,
/// or the padding more than half the window.
pub fn max_pool(x: &Tensor, window: usize, stride: usize, padding: usize) -> Result<Tensor> {
    let (dtype, device) = same_kind("max_pool", &[x])?;
    let g = Geometry::new(x, window, stride, padding)?;
    if let Some(dtype) = half_on_cpu(x) {
        return rounded::to(dtype, &max_pool(&rounded::activation(x)?, window, stride, padding)?);
    }
    let mut y = Tensor::uninit([g.input[0], g.output[0], g.output[1], g.input[3]], dtype, device)?;
    let mut winner = Tensor::uninit(y.shape(), DType::U8, device)?;
    match device {
        Device::Cpu => for_float!(dtype, T => cpu::forward::<T>(&g, x.cpu(), y.cpu_mut(), winner.cpu_mut())),
        Device::Cuda(gpu) => cuda::forward(gpu, &g, x, &mut y, &mut winner)?,
    }
    Ok(autograd::record("max_pool", &[x], y, |_| MaxPoolBackward { g, winner }))
}

struct MaxPoolBackward {
    g: Geometry,
    winner: Tensor,
}

impl Backward for MaxPoolBackward {
    fn backward(self: Box<Self>, dy: Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let mut dx = Tensor::uninit(self.g.input, dy.dtype(), dy.device())?;
        match dy.device() {
            Device::Cpu => {
                for_float!(dy.dtype(), T => cpu::backward::<T>(&self.g, dy.cpu(), self.winner.cpu(), dx.cpu_mut()));
            }
            Device::Cuda(gpu) => cuda::backward(gpu, &self.g, &dy, &self.winner, &mut dx)?,
        }
        Ok(vec![Some(dx)])
    }
}
