//! Where numbers live and where operations run.
//!
//! A [`Device`] is a plain value that travels with every tensor; a [`Storage`] is a block of memory on one of them. Operations
//! ask a tensor for its device and branch to that device's implementation in their own folder (`ops/conv2d/cpu.rs`,
//! `ops/conv2d/cuda.rs`).
//!
//! What there is of all that on this machine, and what was built in for it, is in [`report`].
//!
//! The CPU computes on a thread pool of its own ([`cpu::threads`]) and recycles its buffers ([`cpu::buffer`]). A GPU is driven
//! through a small trait ([`cuda::driver::Driver`]), so that the tests can put an emulator in its place.

pub mod cpu;
pub mod cuda;
pub mod report;

use crate::tensor::{DType, Element};
use crate::{Error, ErrorKind, Result};
use cpu::buffer::Buffer;
use cuda::{Gpu, Memory};
use std::fmt;
use std::str::FromStr;

/// Where a tensor's memory is and where operations on it run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Device {
    /// The processor, all threads of [`cpu::threads`].
    #[default]
    Cpu,
    /// A GPU.
    Cuda(Gpu),
}

impl Device {
    /// The GPU with this number, counted from 0.
    ///
    /// # Errors
    /// [`ErrorKind::Device`] naming what is missing and what to do about it: no driver, no such device, a driver or a device
    /// that is too old.
    pub fn cuda(number: usize) -> Result<Device> {
        cuda::open(number).map(Device::Cuda)
    }

    /// The fastest device of this machine: its first GPU that can be used, or the processor where there is none.
    pub fn best() -> Device {
        Device::first_gpu().unwrap_or_default()
    }

    /// The first GPU of this machine that can be used: an old one in the first slot doesn't hide a new one in the second.
    ///
    /// # Errors
    /// [`ErrorKind::Device`] when there is none: why the first of them can't be used, and what to do about it.
    pub fn first_gpu() -> Result<Device> {
        let first = Device::cuda(0);
        if first.is_ok() {
            return first;
        }
        (1..cuda::count()).find_map(|number| Device::cuda(number).ok()).map_or(first, Ok)
    }

    /// Runs a step of a loop, which has a name and a number in the loop. On a GPU that uses graphs, steps that do the same are one launch each: [`cuda::step`].
    ///
    /// # Errors
    /// As [`Gpu::step`].
    pub fn step<T, E: From<Error>>(
        self,
        which: (&'static str, usize),
        work: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        match self {
            Device::Cpu => work(),
            Device::Cuda(gpu) => gpu.step(which, work),
        }
    }

    /// Every device of this machine, for code that does the same on each (tests do).
    pub fn all() -> Vec<Device> {
        let gpus = (0..cuda::count()).filter_map(|i| Device::cuda(i).ok());
        std::iter::once(Device::Cpu).chain(gpus).collect()
    }

    /// # Errors
    /// [`ErrorKind::Shape`] in the name of `op` when the device doesn't compute in `dtype`.
    pub(crate) fn computes_in(self, op: &str, dtype: DType) -> Result<()> {
        match self {
            Device::Cuda(_) if dtype == DType::F64 => {
                Err(Error::shape(op, "a GPU computes in f32, f16 and bf16, not f64")
                    .remedy("cast the operands to f32, or compute on the CPU"))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(gpu) => gpu.fmt(f),
        }
    }
}

impl FromStr for Device {
    type Err = Error;

    /// `auto` (the best there is), `cpu`, `cuda` (the first GPU) or `cuda:N`.
    fn from_str(name: &str) -> Result<Device> {
        let number = name.strip_prefix("cuda:").and_then(|n| n.parse().ok());
        match (name, number) {
            ("auto", _) => Ok(Device::best()),
            ("cpu", _) => Ok(Device::Cpu),
            ("cuda", _) => Device::cuda(0),
            (_, Some(number)) => Device::cuda(number),
            _ => Err(Error::new(ErrorKind::Device, format!("no device is called `{name}`"))
                .remedy("use auto, cpu, cuda or cuda:N")),
        }
    }
}

/// A block of memory on a device: the untyped half of a tensor.
#[derive(Debug)]
pub enum Storage {
    /// Host memory.
    Cpu(Buffer),
    /// Memory of a GPU.
    Cuda(Memory),
}

impl Storage {
    /// `len` numbers of type `dtype` on `device`, of unspecified value: whoever asks writes every one of them.
    pub(crate) fn uninit(device: Device, dtype: DType, len: usize) -> Result<Storage> {
        Ok(match device {
            Device::Cpu => Storage::Cpu(Buffer::uninit(len * dtype.size())),
            Device::Cuda(gpu) => Storage::Cuda(gpu.allocate(len * dtype.size())?),
        })
    }

    /// A copy of `data` on `device`.
    pub(crate) fn from_slice<T: Element>(device: Device, data: &[T]) -> Result<Storage> {
        Ok(match device {
            Device::Cpu => {
                let mut buffer = Buffer::uninit(size_of_val(data));
                buffer.as_mut_slice::<T>().copy_from_slice(data);
                Storage::Cpu(buffer)
            }
            Device::Cuda(gpu) => Storage::Cuda(gpu.upload(bytemuck::cast_slice(data))?),
        })
    }

    /// A copy on the same device.
    pub(crate) fn duplicate(&self) -> Result<Storage> {
        match self {
            Storage::Cpu(buffer) => Storage::from_slice(Device::Cpu, buffer.as_slice::<u8>()),
            Storage::Cuda(memory) => Ok(Storage::Cuda(memory.gpu().duplicate(memory)?)),
        }
    }

    /// The device it is on.
    pub fn device(&self) -> Device {
        match self {
            Storage::Cpu(_) => Device::Cpu,
            Storage::Cuda(memory) => Device::Cuda(memory.gpu()),
        }
    }

    /// The memory as numbers. Only for host memory: operations branch by device before they get here.
    pub(crate) fn cpu<T: Element>(&self) -> &[T] {
        match self {
            Storage::Cpu(buffer) => buffer.as_slice(),
            Storage::Cuda(memory) => unreachable!("{memory:?} was taken for host memory"),
        }
    }

    /// The memory as numbers to write. Only for host memory.
    pub(crate) fn cpu_mut<T: Element>(&mut self) -> &mut [T] {
        match self {
            Storage::Cpu(buffer) => buffer.as_mut_slice(),
            Storage::Cuda(memory) => unreachable!("{memory:?} was taken for host memory"),
        }
    }
}
