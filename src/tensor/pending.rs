//! A number on its way to the host.
//!
//! A training step wants to know its loss, but not so much that the device should stand still for it: [`Tensor::read_back`] asks
//! for the number and goes on, [`Pending::wait`] takes it when it has had time to arrive.

use super::{DType, Element, Tensor};
use crate::device::cuda::ReadBack;
use crate::device::{Device, Storage};
use crate::{Error, Result};

/// The only number of a tensor, on its way to the host.
#[derive(Debug)]
pub struct Pending(State);

#[derive(Debug)]
enum State {
    Here(f64),
    Coming(ReadBack, DType),
}

impl Tensor {
    /// Starts to copy the only number of a tensor to the host. The numbers of the processor are there at once.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when there isn't exactly one; [`ErrorKind::Device`](crate::ErrorKind::Device) when
    /// the device is lost.
    pub fn read_back(&self) -> Result<Pending> {
        if self.numel() != 1 {
            return Err(Error::shape("read_back", format!("shape {} has not exactly one element", self.shape())));
        }
        Ok(Pending(match (&*self.storage, self.device()) {
            (Storage::Cuda(memory), Device::Cuda(gpu)) => State::Coming(gpu.read_back(memory)?, self.dtype()),
            _ => State::Here(self.item()?),
        }))
    }
}

impl Pending {
    /// The number; waits until it has arrived.
    ///
    /// # Errors
    /// [`ErrorKind::Device`](crate::ErrorKind::Device) when the work that makes it failed.
    pub fn wait(self) -> Result<f64> {
        let (read, dtype) = match self.0 {
            State::Here(value) => return Ok(value),
            State::Coming(read, dtype) => (read, dtype),
        };
        let mut bytes = [0u8; 8];
        read.wait(&mut bytes)?;
        fn number<T: Element>(bytes: &[u8]) -> f64 {
            bytemuck::pod_read_unaligned::<T>(&bytes[..size_of::<T>()]).double()
        }
        Ok(super::for_element!(dtype, T => number::<T>(&bytes)))
    }
}
