//! The one piece of arithmetic that the graph itself needs: adding gradients.

use super::{Float, Tensor, for_float, same_kind};
use crate::device::Device;
use crate::device::cpu::{PIECE, par_chunks_mut, simd::vectorized};
use crate::{DType, Error, Result};

impl Tensor {
    /// `self += other`, in place when nobody else holds the memory of one of them.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when shapes, dtypes or devices differ.
    pub(crate) fn accumulate(&mut self, mut other: Tensor) -> Result<()> {
        if self.shape() != other.shape() {
            return Err(Error::shape("accumulate", format!("{} and {}", self.shape(), other.shape())));
        }
        let (dtype, device) = same_kind("accumulate", &[self, &other])?;
        if !self.is_unique() && other.is_unique() {
            std::mem::swap(self, &mut other); // a + b = b + a exactly, and this way nothing is copied
        }
        match device {
            // The processor computes half precision in f32, and rounds.
            Device::Cpu if dtype.is_half() => {
                let mut sum = self.cast(DType::F32)?;
                sum.accumulate(other.cast(DType::F32)?)?;
                *self = sum.cast(dtype)?;
            }
            Device::Cpu => for_float!(dtype, T => add_assign::<T>(self.cpu_mut(), other.cpu())),
            Device::Cuda(gpu) => super::cuda::accumulate(gpu, self, &other)?,
        }
        Ok(())
    }
}

fn add_assign<T: Float>(a: &mut [T], b: &[T]) {
    par_chunks_mut(a, PIECE, |i, a| {
        let b = &b[i * PIECE..];
        add_piece(a, b);
    });
}

vectorized! {
    fn add_piece<T: Float>(a: &mut [T], b: &[T]) {
        for (a, &b) in a.iter_mut().zip(b) {
            *a += b;
        }
    }
}
