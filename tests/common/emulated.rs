//! The emulator as a device of the crate: the second thing behind the `Driver` trait.
//!
//! Memory is host memory that the emulator watches; streams need no order, because everything is done when the call returns.

use onecycle::Device;
use onecycle::device::cuda::Gpu;
use onecycle::device::cuda::driver::{
    Address, Argument, Description, Driver, Event, Failure, Function, Launch, Stream, Transfer,
};
use onecycle::device::cuda::kernels::KernelId;
use onecycle::ops::ladder::{Rung, highest, set_highest};
use onecycle_emulator::{Copies, Kernel, Memory, Options, Order};
use std::collections::BTreeSet;
use std::ffi::c_void;
use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard};

/// How the emulator runs: order of threads, when asynchronous copies arrive, checker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Threads in order, copies at once, every access checked.
    Checked,
    /// Threads in a shuffled order, copies as late as allowed, every access checked.
    ShuffledLate,
    /// Threads backwards, copies as late as allowed, unchecked: the fastest of the strict ones.
    ReverseLate,
    /// Threads in order, copies at once, unchecked.
    Plain,
}

impl Mode {
    pub const ALL: [Mode; 4] = [Mode::Checked, Mode::ShuffledLate, Mode::ReverseLate, Mode::Plain];

    fn options(self) -> Options {
        let (order, copies, check) = match self {
            Mode::Checked => (Order::Forward, Copies::Early, true),
            Mode::ShuffledLate => (Order::Shuffled(7), Copies::Late, true),
            Mode::ReverseLate => (Order::Reverse, Copies::Late, false),
            Mode::Plain => (Order::Forward, Copies::Early, false),
        };
        Options { order, copies, check }
    }
}

/// The emulated device in a mode; `None` where the emulator was not compiled or `ONECYCLE_EMULATOR=off` is set (where only a GPU is to
/// be tested), which is said once.
pub fn device(mode: Mode) -> Option<Device> {
    static DEVICES: [OnceLock<Device>; 4] = [const { OnceLock::new() }; 4];
    static SAID: OnceLock<()> = OnceLock::new();
    if std::env::var_os("ONECYCLE_EMULATOR").is_some_and(|v| v == "off") {
        SAID.get_or_init(|| super::skip(format_args!("the emulator, because of ONECYCLE_EMULATOR=off")));
        return None;
    }
    if !onecycle_emulator::available() {
        SAID.get_or_init(|| super::skip(format_args!("the emulator needs a C++ compiler, and none was found")));
        return None;
    }
    let place = Mode::ALL.iter().position(|m| *m == mode).unwrap();
    Some(*DEVICES[place].get_or_init(|| Device::Cuda(Gpu::with_driver(Box::new(Emulated::new(mode))))))
}

/// The ladder is the whole program's: tests that go to another rung of it do so alone.
static LADDER: RwLock<()> = RwLock::new(());

/// While it lives, the ladder stays where it is.
pub fn ladder() -> RwLockReadGuard<'static, ()> {
    LADDER.read().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `f` with `rung` as the highest, and goes back.
pub fn at_rung<R>(rung: Rung, f: impl FnOnce() -> R) -> R {
    let _alone = LADDER.write().unwrap_or_else(PoisonError::into_inner);
    struct Back(Rung);
    impl Drop for Back {
        fn drop(&mut self) {
            set_highest(self.0);
        }
    }
    let _back = Back(highest().unwrap());
    set_highest(rung);
    f()
}

/// A device of its own with `bytes` of memory that keeps freed buffers as a GPU does, and counts what it is asked for.
pub fn watched(bytes: usize, mode: Mode) -> Option<(Device, Watch)> {
    device(mode)?;
    let mut emulated = Emulated::new(mode);
    emulated.description.caches = true;
    emulated.description.label = "emulator (watched)".into();
    emulated.size = bytes;
    let watch = Watch(emulated.counts.clone());
    Some((Device::Cuda(Gpu::with_driver(Box::new(emulated))), watch))
}

/// Looks at the counts of a watched device.
#[derive(Clone, Debug)]
pub struct Watch(Arc<Mutex<Counts>>);

impl Watch {
    pub fn counts(&self) -> Counts {
        self.0.lock().unwrap().clone()
    }

    /// Names of the kernels that were launched so far.
    pub fn kernels(&self) -> BTreeSet<&'static str> {
        self.counts().kernels
    }

    /// Makes the next launch of this kernel fail.
    pub fn fail_next(&self, kernel: &'static str) {
        self.0.lock().unwrap().fails = Some(kernel);
    }
}

/// What a device was asked for so far.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub launched: u64,
    pub synchronized: u64,
    pub allocated: u64,
    pub allocated_bytes: u64,
    pub uploads_on_copy_stream: u64,
    pub kernels: BTreeSet<&'static str>,
    pub fails: Option<&'static str>,
}

struct Emulated {
    description: Description,
    options: Options,
    size: usize,
    counts: Arc<Mutex<Counts>>,
    memory: Memory,
    kernels: Mutex<Vec<Kernel>>,
    fault: Mutex<Option<String>>,
    events: AtomicU64,
}

impl Emulated {
    fn new(mode: Mode) -> Emulated {
        let description = Description {
            name: "emulator".into(),
            capability: (9, 0),
            driver: env!("CARGO_PKG_VERSION").into(),
            caches: false,
            label: format!("emulator ({mode:?})"),
        };
        let (memory, kernels, fault, events) = (Memory::new(), Mutex::default(), Mutex::default(), AtomicU64::new(1));
        let (options, counts) = (mode.options(), Arc::default());
        Emulated { description, options, size: 16 << 30, counts, memory, kernels, fault, events }
    }

    /// What was found when memory was given back.
    fn told(&self) -> Result<(), Failure> {
        self.fault.lock().unwrap().take().map_or(Ok(()), |text| Err(Failure::new(text)))
    }

    fn count(&self, f: impl FnOnce(&mut Counts)) {
        f(&mut self.counts.lock().unwrap());
    }
}

impl fmt::Debug for Emulated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.description.label)
    }
}

fn failed(e: impl fmt::Display) -> Failure {
    Failure::new(e.to_string())
}

impl Driver for Emulated {
    fn description(&self) -> &Description {
        &self.description
    }

    fn memory(&self) -> Result<(usize, usize), Failure> {
        Ok((self.size - self.memory.in_use().min(self.size), self.size))
    }

    fn allocate(&self, bytes: usize) -> Result<Address, Failure> {
        if bytes > self.memory()?.0 {
            return Err(Failure { out_of_memory: true, message: "there is no more memory".into() });
        }
        self.count(|c| {
            c.allocated += 1;
            c.allocated_bytes += bytes as u64;
        });
        self.memory.allocate(bytes).map(Address).map_err(failed)
    }

    unsafe fn free(&self, at: Address, _bytes: usize) {
        // A buffer that was written around is noticed when it is given back; the next call that can fail tells.
        if let Err(e) = self.memory.free(at.0) {
            self.fault.lock().unwrap().get_or_insert(e.to_string());
        }
    }

    fn allocate_pinned(&self, bytes: usize) -> Result<NonNull<u8>, Failure> {
        Ok(NonNull::from(Box::leak(vec![0xffu8; bytes].into_boxed_slice())).cast())
    }

    unsafe fn free_pinned(&self, at: NonNull<u8>, bytes: usize) {
        // SAFETY: `allocate_pinned` made it from a box of this size.
        drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(at.as_ptr(), bytes)) });
    }

    unsafe fn copy(&self, stream: Stream, transfer: Transfer, bytes: usize) -> Result<(), Failure> {
        self.told()?;
        if stream == Stream::Copy {
            self.count(|c| c.uploads_on_copy_stream += 1);
        }
        match transfer {
            // SAFETY: the caller says that the host memory has this size.
            Transfer::Up(from, to) => self.memory.write(to.0, unsafe { std::slice::from_raw_parts(from, bytes) }),
            // SAFETY: as above.
            Transfer::Down(from, to) => self.memory.read(from.0, unsafe { std::slice::from_raw_parts_mut(to, bytes) }),
            Transfer::Across(from, to) => self.memory.copy(from.0, to.0, bytes),
        }
        .map_err(failed)
    }

    unsafe fn fill(&self, _: Stream, at: Address, value: u8, bytes: usize) -> Result<(), Failure> {
        self.memory.fill(at.0, value, bytes).map_err(failed)
    }

    fn function(&self, kernel: KernelId) -> Result<Function, Failure> {
        let name = kernel.kernel().name;
        let kernel =
            onecycle_emulator::kernel(name).ok_or_else(|| failed(format!("the emulator has no kernel {name}")))?;
        let mut kernels = self.kernels.lock().unwrap();
        kernels.push(kernel);
        Ok(Function(kernels.len() as u64 - 1))
    }

    unsafe fn launch(&self, _: Stream, f: Function, launch: &Launch, arguments: &[Argument]) -> Result<(), Failure> {
        self.told()?;
        let kernel = self.kernels.lock().unwrap()[f.0 as usize];
        self.count(|c| {
            c.launched += 1;
            c.kernels.insert(kernel.name());
        });
        if self.counts.lock().unwrap().fails.take_if(|name| *name == kernel.name()).is_some() {
            return Err(Failure::new("as the test wished"));
        }
        let arguments: Vec<(*const c_void, usize)> = arguments.iter().map(|a| (a.at, a.size)).collect();
        // SAFETY: the emulator compares number and sizes of the arguments and checks every address that the kernel uses.
        let ran = unsafe {
            onecycle_emulator::launch(
                &self.memory,
                kernel,
                launch.grid,
                launch.block,
                launch.shared,
                &arguments,
                &self.options,
            )
        };
        ran.map(|_| ()).map_err(failed)
    }

    fn event(&self) -> Result<Event, Failure> {
        Ok(Event(self.events.fetch_add(1, Ordering::Relaxed)))
    }

    fn record(&self, _: Event, _: Stream) -> Result<(), Failure> {
        Ok(())
    }

    fn wait(&self, _: Stream, _: Event) -> Result<(), Failure> {
        Ok(())
    }

    fn synchronize(&self, _: Event) -> Result<(), Failure> {
        self.count(|c| c.synchronized += 1);
        Ok(())
    }

    fn is_done(&self, _: Event) -> Result<bool, Failure> {
        Ok(true)
    }

    fn destroy(&self, _: Event) {}
}
