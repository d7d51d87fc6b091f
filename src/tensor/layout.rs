//! To and from the NCHW order that PyTorch and fastai use.

use super::{Element, Shape, Tensor};
use crate::device::Device;
use crate::{Error, Result};

impl Tensor {
    /// An image tensor from numbers in PyTorch's order: `dims` are N, C, H, W; the result is `[N, H, W, C]`. Convolution
    /// weights `[K, C, R, S]` become `[K, R, S, C]` the same way.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when the lengths differ.
    pub fn from_nchw<T: Element>(data: &[T], dims: [usize; 4], device: Device) -> Result<Tensor> {
        let [n, c, h, w] = dims;
        if data.len() != n * c * h * w {
            return Err(Error::shape("Tensor::from_nchw", format!("{} numbers for shape {dims:?}", data.len())));
        }
        let mut out = Vec::with_capacity(data.len());
        for i in 0..n {
            for p in 0..h * w {
                out.extend((0..c).map(|k| data[(i * c + k) * h * w + p]));
            }
        }
        Tensor::from_slice(&out, [n, h, w, c], device)
    }

    /// The numbers in PyTorch's order: N, C, H, W for an image tensor, K, C, R, S for convolution weights, unchanged otherwise.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when `T` isn't the tensor's dtype.
    pub fn to_nchw_vec<T: Element>(&self) -> Result<Vec<T>> {
        let data = self.to_vec::<T>()?;
        let [n, h, w, c] = match self.shape()[..] {
            [n, h, w, c] => [n, h, w, c],
            _ => return Ok(data),
        };
        let mut out = Vec::with_capacity(data.len());
        for i in 0..n {
            for k in 0..c {
                out.extend((0..h * w).map(|p| data[(i * h * w + p) * c + k]));
            }
        }
        Ok(out)
    }

    /// A tensor from numbers with PyTorch's shape: four axes are taken as N, C, H, W, others as they are.
    ///
    /// # Errors
    /// As [`Tensor::from_slice`].
    pub fn from_torch<T: Element>(data: &[T], shape: &[usize], device: Device) -> Result<Tensor> {
        match <[usize; 4]>::try_from(shape) {
            Ok(dims) => Tensor::from_nchw(data, dims, device),
            Err(_) => Tensor::from_slice(data, Shape::from(shape), device),
        }
    }
}
