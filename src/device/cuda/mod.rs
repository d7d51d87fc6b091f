//! GPUs.
//!
//! A [`Gpu`] is a plain value, as a [`Device`](crate::Device) is: a name for a device that was opened once and stays open as long
//! as the program runs. Behind it stands a [`driver::Driver`]; `ops/*/cuda.rs` never see it, they ask the `Gpu` for memory
//! and launch kernels on it.
//!
//! | question | file |
//! |---|---|
//! | what a driver must be able to do | `driver.rs` |
//! | how it is done with NVIDIA's | `nvidia.rs` |
//! | which kernels there are, and how code names them | `kernels.rs` |
//! | where memory comes from and goes to | `memory.rs` |
//! | how a kernel gets its parameters | `launch.rs` |
//! | how a training step becomes one launch | `step/` |
//! | how fast its memory is | `ceilings.rs` |
//! | whether a GPU does what the emulator does, one instruction at a time | `selftest.rs` |
//!
//! The host runs ahead: a launch returns at once, kernels run one after the other on the compute stream. Nothing in a training
//! step waits for the device; the loss is copied back behind the computation and read when it has arrived.

pub mod ceilings;
pub mod driver;
pub mod kernels;
pub mod launch;
mod memory;
mod nvidia;
#[doc(hidden)]
pub mod selftest;
pub mod step;

pub(crate) use kernels::{kernel, per_float};
pub(crate) use launch::geometry;
pub use memory::Memory;
pub(crate) use memory::ReadBack;
pub use nvidia::{driver_version, libcuda_path};

use crate::{Error, ErrorKind, Result};
use driver::{Description, Driver, Event, Failure, Function, Stream};
use kernels::KernelId;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Mutex, OnceLock, PoisonError};

/// A GPU that was opened; see the [module](self). Two are equal when they are one device.
#[derive(Clone, Copy)]
pub struct Gpu(&'static Context);

struct Context {
    driver: Box<dyn Driver>,
    functions: Box<[OnceLock<Function>]>,
    pool: memory::Pool,
    steps: step::Steps,
}

/// The GPU with this number, opened at the first call.
///
/// # Errors
/// [`ErrorKind::Device`] naming what is missing.
pub(super) fn open(number: usize) -> Result<Gpu> {
    static OPENED: Mutex<BTreeMap<usize, Gpu>> = Mutex::new(BTreeMap::new());
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(gpu) = opened.get(&number) {
        return Ok(*gpu);
    }
    let gpu = Gpu::with_driver(Box::new(nvidia::open(number)?));
    opened.insert(number, gpu);
    Ok(gpu)
}

/// How many GPUs there are; 0 where none can be used.
pub(super) fn count() -> usize {
    nvidia::count()
}

impl Gpu {
    /// A device behind a driver of the caller's. It stays open as long as the program runs.
    pub fn with_driver(driver: Box<dyn Driver>) -> Gpu {
        let functions = KernelId::all().map(|_| OnceLock::new()).collect();
        Gpu(Box::leak(Box::new(Context {
            driver,
            functions,
            pool: memory::Pool::default(),
            steps: step::Steps::default(),
        })))
    }

    /// What the device says of itself.
    pub fn description(&self) -> &'static Description {
        self.0.driver.description()
    }

    /// Bytes in use by tensors now, and the most that ever were (since [`Gpu::reset_peak`]).
    pub fn usage(&self) -> (usize, usize) {
        self.0.pool.usage()
    }

    /// Forgets the peak of [`Gpu::usage`].
    pub fn reset_peak(&self) {
        self.0.pool.reset_peak();
    }

    /// Gives memory that is kept for reuse back to the driver, and graphs. Inside a [step](Gpu::step) nothing happens: its work, which
    /// is not given to the driver yet, needs them.
    pub fn release(&self) {
        if self.gathering().is_none() {
            self.release_graphs();
            self.0.pool.release(*self);
        }
    }

    /// Bytes free and in all, as the driver says.
    ///
    /// # Errors
    /// [`ErrorKind::Device`] when it doesn't answer.
    pub fn memory(&self) -> Result<(usize, usize)> {
        self.0.driver.memory().map_err(|f| self.failed("asking for the memory", f))
    }

    /// Waits until all work given so far is done.
    ///
    /// # Errors
    /// [`ErrorKind::Device`] when a kernel failed.
    pub fn synchronize(&self) -> Result<()> {
        self.hand_over()?;
        let event = self.marked(Stream::Compute)?;
        let done = self.0.driver.synchronize(event);
        self.0.driver.destroy(event);
        done.map_err(|f| self.failed("the work so far", f))
    }

    fn driver(&self) -> &'static dyn Driver {
        self.0.driver.as_ref()
    }

    fn pool(&self) -> &'static memory::Pool {
        &self.0.pool
    }

    fn steps(&self) -> &'static step::Steps {
        &self.0.steps
    }

    /// A new event behind the work that is on `stream`.
    fn marked(&self, stream: Stream) -> Result<Event> {
        let event = self.0.driver.event().map_err(|f| self.failed("making an event", f))?;
        match self.0.driver.record(event, stream) {
            Ok(()) => Ok(event),
            Err(f) => {
                self.0.driver.destroy(event);
                Err(self.failed("recording an event", f))
            }
        }
    }

    fn function(&self, kernel: KernelId) -> Result<Function> {
        let place = &self.0.functions[kernel.0];
        if let Some(function) = place.get() {
            return Ok(*function);
        }
        let name = kernel.kernel().name;
        let function =
            self.0.driver.function(kernel).map_err(|f| self.failed(format!("loading the kernel {name}"), f))?;
        Ok(*place.get_or_init(|| function))
    }

    /// An error in the user's words.
    fn failed(&self, what: impl fmt::Display, failure: Failure) -> Error {
        let kind = if failure.out_of_memory { ErrorKind::OutOfMemory } else { ErrorKind::Device };
        Error::new(kind, format!("{what} failed: {}", failure.message)).on(self)
    }
}

impl PartialEq for Gpu {
    fn eq(&self, other: &Gpu) -> bool {
        std::ptr::eq(self.0, other.0)
    }
}
impl Eq for Gpu {}
impl Hash for Gpu {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::ptr::from_ref(self.0).hash(state);
    }
}
impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gpu({self})")
    }
}
impl fmt::Display for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.description().label)
    }
}
