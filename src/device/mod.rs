//! Where numbers live and where operations run.
//!
//! A [`Device`] is a plain value that travels with every tensor; a [`Storage`] is a block of memory on one of them. Operations
//! ask a tensor for its device and branch to that device's implementation in their own folder (`ops/conv2d/cpu.rs`), so a
//! second device is a second variant here, a second file in each operation's folder, and nothing else.
//!
//! The CPU computes on a thread pool of its own ([`cpu::threads`]) and recycles its buffers ([`cpu::buffer`]).

pub mod cpu;

use crate::tensor::{DType, Element};
use crate::{Error, ErrorKind, Result};
use cpu::buffer::Buffer;
use std::fmt;
use std::str::FromStr;

/// Where a tensor's memory is and where operations on it run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Device {
    /// The processor, all threads of [`cpu::threads`].
    #[default]
    Cpu,
}

impl Device {
    /// The fastest device of this machine.
    pub fn best() -> Device {
        Device::Cpu
    }

    /// Every device of this machine, for code that does the same on each (tests do).
    pub fn all() -> Vec<Device> {
        vec![Device::Cpu]
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
        }
    }
}

impl FromStr for Device {
    type Err = Error;

    /// `auto` (the best there is) or `cpu`.
    fn from_str(name: &str) -> Result<Device> {
        match name {
            "auto" => Ok(Device::best()),
            "cpu" => Ok(Device::Cpu),
            _ => Err(Error::new(ErrorKind::Device, format!("no device is called `{name}`")).remedy("use auto or cpu")),
        }
    }
}

/// A block of memory on a device: the untyped half of a tensor.
#[derive(Debug)]
pub enum Storage {
    /// Host memory.
    Cpu(Buffer),
}

impl Storage {
    /// `len` numbers of type `dtype` on `device`, of unspecified value: whoever asks writes every one of them.
    pub(crate) fn uninit(device: Device, dtype: DType, len: usize) -> Storage {
        match device {
            Device::Cpu => Storage::Cpu(Buffer::uninit(len * dtype.size())),
        }
    }

    /// A copy of `data` on `device`.
    pub(crate) fn from_slice<T: Element>(device: Device, data: &[T]) -> Storage {
        match device {
            Device::Cpu => {
                let mut buffer = Buffer::uninit(size_of_val(data));
                buffer.as_mut_slice::<T>().copy_from_slice(data);
                Storage::Cpu(buffer)
            }
        }
    }

    /// The device it is on.
    pub fn device(&self) -> Device {
        match self {
            Storage::Cpu(_) => Device::Cpu,
        }
    }

    /// The memory as numbers, when it is host memory.
    pub(crate) fn cpu<T: Element>(&self) -> &[T] {
        match self {
            Storage::Cpu(buffer) => buffer.as_slice(),
        }
    }

    /// The memory as numbers to write, when it is host memory.
    pub(crate) fn cpu_mut<T: Element>(&mut self) -> &mut [T] {
        match self {
            Storage::Cpu(buffer) => buffer.as_mut_slice(),
        }
    }
}
