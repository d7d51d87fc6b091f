//! Two-dimensional convolution.
//!
//! With `x [N, H, W, C]`, `w [K, R, S, C]`, stride `u` and padding `p` (per axis), the output `y [N, P, Q, K]` is
//!
//! ```text
//! y[n, i, j, k] = b[k] + sum over r, s, c of  x[n, i*u0 + r - p0, j*u1 + s - p1, c] * w[k, r, s, c]
//! P = (H + 2 p0 - R) / u0 + 1,   Q likewise; x counts as 0 outside the picture
//! ```
//!
//! Its derivative: every product above sends `dy` times one factor to the other.
//!
//! ```text
//! dx[n, h, v, c]  = sum over r, s, k with i*u0 + r - p0 = h, j*u1 + s - p1 = v of  dy[n, i, j, k] * w[k, r, s, c]
//! dw[k, r, s, c]  = sum over n, i, j of  dy[n, i, j, k] * x[n, i*u0 + r - p0, j*u1 + s - p1, c]
//! db[k]           = sum over n, i, j of  dy[n, i, j, k]
//! ```
//!
//! All three are matrix products with the picture's pixels as rows (forward, `dx`) or as the depth (`dw`); `cpu.rs` says how.

mod cpu;
pub(crate) mod cuda;
pub mod ladder;
pub mod tile;

use crate::autograd::watch::{self, Phase};
use crate::autograd::{self, Backward};
use crate::device::Device;
use crate::ops::batch_norm::notes::{Origin, Reduced, Sums};
use crate::ops::rounded::{self, half_on_cpu};
use crate::tensor::{Tensor, for_float, same_kind_with};
use crate::{Error, Result};
use cuda::Finish;
use ladder::Rung;
use std::sync::Arc;

/// The sizes of a convolution, by value: what a kernel needs to know besides the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Geometry {
    /// Pictures in the batch.
    pub n: usize,
    /// Input rows.
    pub h: usize,
    /// Input columns.
    pub w: usize,
    /// Input channels.
    pub c: usize,
    /// Output channels.
    pub k: usize,
    /// Filter rows.
    pub r: usize,
    /// Filter columns.
    pub s: usize,
    /// Output rows.
    pub p: usize,
    /// Output columns.
    pub q: usize,
    /// Step between outputs, rows and columns.
    pub stride: [usize; 2],
    /// Zeros around the picture, rows and columns.
    pub padding: [usize; 2],
}

impl Geometry {
    /// The geometry of `x * w`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when ranks or channels don't fit, a stride is 0, or the filter is larger
    /// than the padded picture.
    pub fn new(x: &Tensor, w: &Tensor, stride: [usize; 2], padding: [usize; 2]) -> Result<Geometry> {
        let [n, h, width, c] = x.dims4("conv2d")?;
        let [k, r, s, wc] = w.dims4("conv2d")?;
        if wc != c {
            let message = format!("input {} has {c} channels, weight {} wants {wc}", x.shape(), w.shape());
            return Err(Error::shape("conv2d", message));
        }
        if stride.contains(&0) || r == 0 || s == 0 {
            return Err(Error::shape("conv2d", format!("stride {stride:?} and filter {r}x{s} must be at least 1")));
        }
        let out = |size: usize, filter: usize, axis: usize| {
            let padded = padding[axis].checked_mul(2)?.checked_add(size)?;
            padded.checked_sub(filter).map(|room| room / stride[axis] + 1)
        };
        match (out(h, r, 0), out(width, s, 1)) {
            (Some(p), Some(q)) => Ok(Geometry { n, h, w: width, c, k, r, s, p, q, stride, padding }),
            _ => {
                let message =
                    format!("the {r}x{s} filter doesn't fit the picture {} with padding {padding:?}", x.shape());
                Err(Error::shape("conv2d", message))
            }
        }
    }
}

/// Convolution of `x [N, H, W, C]` with `weight [K, R, S, C]` and an optional `bias [K]`: `[N, P, Q, K]`. Same result as
/// PyTorch's `torch.nn.functional.conv2d` (without groups and dilation) in this crate's layouts. With `x` and `weight` in half
/// precision, the bias and the gradients of both are f32.
///
/// # Errors
/// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when shapes, dtypes or devices don't fit.
pub fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: [usize; 2],
    padding: [usize; 2],
) -> Result<Tensor> {
    let g = Geometry::new(x, weight, stride, padding)?;
    let mut inputs = vec![x, weight];
    inputs.extend(bias);
    let (dtype, device) = same_kind_with("conv2d", &[x, weight], bias.as_slice())?;
    if let Some(b) = bias.filter(|b| b.shape()[..] != [g.k]) {
        return Err(Error::shape("conv2d", format!("bias {} for {} output channels", b.shape(), g.k)));
    }
    if let Some(dtype) = half_on_cpu(x) {
        let (x, weight) = (rounded::activation(x)?, rounded::parameter(weight)?);
        return rounded::to(dtype, &conv2d(&x, &weight, bias, stride, padding)?);
    }
    let mut y = Tensor::uninit([g.n, g.p, g.q, g.k], dtype, device)?;
    let sums = match device {
        Device::Cpu => for_float!(dtype, T => {
            cpu::forward::<T>(&g, x.cpu(), weight.cpu(), bias.map(|b| b.cpu()), y.cpu_mut());
            None
        }),
        // A norm may follow, if this is training.
        Device::Cuda(gpu) => {
            cuda::forward(gpu, Rung::best(&g, dtype)?, &g, x, weight, bias, autograd::enabled(), &mut y)?
        }
    };
    let save = |needs: &[bool]| Conv2dBackward {
        g,
        // Each factor is needed for the other one's gradient only: a frozen weight lets go of the input, the first layer
        // of the weight.
        x: needs[1].then(|| x.detach()),
        weight: needs[0].then(|| weight.detach()),
        origin: x.note::<Origin>().filter(|_| needs[0]).map(|origin| {
            let made = origin.residual.then(|| x.detach());
            (origin, made)
        }),
    };
    let y = autograd::record("conv2d", &inputs, y, save);
    Ok(match sums {
        Some(sums) => y.noted(Arc::new(Sums(sums))),
        None => y,
    })
}

struct Conv2dBackward {
    g: Geometry,
    x: Option<Tensor>,
    weight: Option<Tensor>,
    /// How a norm with ReLU made `x`, and `x` where nothing else tells what the ReLU clipped.
    origin: Option<(Arc<Origin>, Option<Tensor>)>,
}

impl Conv2dBackward {
    /// `dx`; on the fused rung with what `x` has received already, and what the norm that made `x` would begin with.
    fn input_gradient(&self, dy: &Tensor, weight: &Tensor, so_far: &mut Option<Tensor>) -> Result<Tensor> {
        let (g, dtype, device) = (&self.g, dy.dtype(), dy.device());
        let empty = || Tensor::uninit([g.n, g.h, g.w, g.c], dtype, device);
        let gpu = match device {
            Device::Cuda(gpu) => gpu,
            Device::Cpu => {
                let mut dx = empty()?;
                for_float!(dtype, T => cpu::input_gradient::<T>(g, dy.cpu(), weight.cpu(), dx.cpu_mut()));
                return Ok(dx);
            }
        };
        let rung = Rung::best(g, dtype)?;
        if rung != Rung::Fused || !ladder::in_chunks(g, dtype) {
            let mut dx = empty()?;
            cuda::input_gradient(gpu, rung, g, dy, weight, Finish::default(), &mut dx)?;
            return Ok(dx);
        }
        let norm = self.origin.as_ref().map(|(origin, made)| (&**origin, made.as_ref()));
        // A gradient of another kind, which an operation from elsewhere may have made, is left where it is: adding says what is wrong.
        let added = so_far.take_if(|sum| (sum.dtype(), sum.device()) == (dtype, device));
        let finish = Finish { so_far: added.as_ref().map(Tensor::address), norm };
        // The sum takes the place of what is added, unless others look at that.
        let (mut dx, _kept) = match added {
            Some(added) if added.is_unique() => (added, None),
            kept => (empty()?, kept),
        };
        let sums = cuda::input_gradient(gpu, rung, g, dy, weight, finish, &mut dx)?;
        Ok(match (sums, &self.origin) {
            (Some(sums), Some((origin, _))) => dx.noted(Arc::new(Reduced { origin: origin.clone(), sums })),
            _ => dx,
        })
    }
}

impl Backward for Conv2dBackward {
    fn backward(self: Box<Self>, dy: Tensor, needs: &[bool]) -> Result<Vec<Option<Tensor>>> {
        self.backward_onto(dy, needs, &mut None)
    }

    fn backward_onto(
        mut self: Box<Self>,
        dy: Tensor,
        needs: &[bool],
        so_far: &mut Option<Tensor>,
    ) -> Result<Vec<Option<Tensor>>> {
        let (dtype, device) = (dy.dtype(), dy.device());
        let dx = self.weight.take().filter(|_| needs[0]).map(|weight| -> Result<Tensor> {
            let dx = self.input_gradient(&dy, &weight, so_far)?;
            watch::lap(Phase::Backward, "conv2d input gradient", dy.shape());
            Ok(dx)
        });
        let g = &self.g;
        let dw = self.x.take().filter(|_| needs[1]).map(|x| -> Result<Tensor> {
            let mut dw = Tensor::uninit([g.k, g.r, g.s, g.c], dtype.master(), device)?;
            match device {
                Device::Cpu => for_float!(dtype, T => cpu::weight_gradient::<T>(g, x.cpu(), dy.cpu(), dw.cpu_mut())),
                Device::Cuda(gpu) => cuda::weight_gradient(gpu, Rung::best(g, dtype)?, g, &x, &dy, &mut dw)?,
            }
            watch::lap(Phase::Backward, "conv2d weight gradient", dy.shape());
            Ok(dw)
        });
        let mut grads = vec![dx.transpose()?, dw.transpose()?];
        if let Some(&needed) = needs.get(2) {
            let mut db = Tensor::uninit([g.k], dtype.master(), device)?;
            match device {
                _ if !needed => {}
                Device::Cpu => for_float!(dtype, T => cpu::bias_gradient::<T>(dy.cpu(), db.cpu_mut())),
                Device::Cuda(gpu) => super::linear::cuda::bias_gradient(gpu, &dy, &mut db)?,
            }
            grads.push(needed.then_some(db));
        }
        Ok(grads)
    }
}
