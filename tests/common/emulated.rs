//! The emulator as a device of the crate: the second thing behind the `Driver` trait.
//!
//! Memory is host memory that the emulator watches. Work is done when the call returns, unless a device is made by [`late`]: there the
//! compute stream does nothing before somebody waits for it, while copies of batches are done as early as they may be. Host memory that
//! is written to too soon, and an event that is recorded too soon, show then.

use onecycle::Device;
use onecycle::device::cuda::Gpu;
use onecycle::device::cuda::driver::{
    Address, Argument, Description, Driver, Event, Failure, Function, Graph, Launch, Stream, Transfer,
};
use onecycle::device::cuda::kernels::KernelId;
use onecycle::ops::ladder::{Rung, highest, set_highest};
use onecycle_emulator::{Copies, Kernel, Memory, Options, Order};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::c_void;
use std::fmt;
use std::ptr::NonNull;
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
    watched_with(bytes, mode, |_| {})
}

/// As [`watched`], with a compute stream that does its work when it is waited for.
pub fn late(mode: Mode) -> Option<(Device, Watch)> {
    watched_with(usize::MAX, mode, |emulated| emulated.late = true)
}

/// As [`watched`], on a driver that makes no graphs.
pub fn without_graphs(mode: Mode) -> Option<(Device, Watch)> {
    watched_with(usize::MAX, mode, |emulated| emulated.captures = false)
}

fn watched_with(bytes: usize, mode: Mode, change: impl FnOnce(&mut Emulated)) -> Option<(Device, Watch)> {
    device(mode)?;
    let mut emulated = Emulated::new(mode);
    change(&mut emulated);
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
    /// Kernels that were given to the compute stream one by one.
    pub launched: u64,
    /// Copies and fills likewise.
    pub moved: u64,
    pub captured: u64,
    pub replayed: u64,
    pub forgotten: u64,
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
    late: bool,
    captures: bool,
    counts: Arc<Mutex<Counts>>,
    memory: Memory,
    kernels: Mutex<Vec<Kernel>>,
    fault: Mutex<Option<String>>,
    streams: Mutex<Streams>,
}

/// What a stream can be asked for.
#[derive(Clone)]
enum Work {
    Copy(Transfer, usize),
    Fill(Address, u8, usize),
    /// With copies of the arguments, aligned, and their sizes.
    Launch(Function, Launch, Vec<(Vec<u128>, usize)>),
    /// An event, and how many times it had been recorded.
    Record(u64, u64),
    Free(Address),
}

// SAFETY: addresses of host memory; who gave the work vouches for them.
unsafe impl Send for Work {}

#[derive(Default)]
struct Streams {
    /// What waits on the compute stream.
    waiting: VecDeque<Work>,
    /// By number: how many times an event was recorded, and up to which of them its work is done.
    events: BTreeMap<u64, (u64, u64)>,
    capture: Option<Vec<Work>>,
    graphs: BTreeMap<u64, Vec<Work>>,
    numbers: u64,
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
        Emulated {
            description,
            options: mode.options(),
            size: 16 << 30,
            late: false,
            captures: true,
            counts: Arc::default(),
            memory: Memory::new(),
            kernels: Mutex::default(),
            fault: Mutex::default(),
            streams: Mutex::default(),
        }
    }

    /// What was found when memory was given back.
    fn told(&self) -> Result<(), Failure> {
        self.fault.lock().unwrap().take().map_or(Ok(()), |text| Err(Failure::new(text)))
    }

    fn count(&self, f: impl FnOnce(&mut Counts)) {
        f(&mut self.counts.lock().unwrap());
    }

    fn give(&self, stream: Stream, work: Work) -> Result<(), Failure> {
        let mut streams = self.streams.lock().unwrap();
        if stream == Stream::Capture {
            streams.capture.as_mut().ok_or_else(|| failed("nothing is captured now"))?.push(work);
            return Ok(());
        }
        self.count(|c| match work {
            Work::Launch(..) => c.launched += 1,
            Work::Copy(..) | Work::Fill(..) if stream == Stream::Compute => c.moved += 1,
            Work::Copy(..) => c.uploads_on_copy_stream += 1,
            _ => {}
        });
        if self.late && stream == Stream::Compute {
            streams.waiting.push_back(work);
            return Ok(());
        }
        self.run(&mut streams, &work)
    }

    fn run(&self, streams: &mut Streams, work: &Work) -> Result<(), Failure> {
        self.told()?;
        match work {
            Work::Copy(Transfer::Up(from, to), bytes) => {
                // SAFETY: the caller said that the host memory has this size, until the copy is done.
                let from = unsafe { std::slice::from_raw_parts(*from, *bytes) };
                self.memory.write(to.0, from)
            }
            Work::Copy(Transfer::Down(from, to), bytes) => {
                // SAFETY: as above.
                let to = unsafe { std::slice::from_raw_parts_mut(*to, *bytes) };
                self.memory.read(from.0, to)
            }
            Work::Copy(Transfer::Across(from, to), bytes) => self.memory.copy(from.0, to.0, *bytes),
            Work::Fill(at, value, bytes) => self.memory.fill(at.0, *value, *bytes),
            Work::Launch(f, launch, arguments) => return self.run_kernel(*f, launch, arguments),
            Work::Record(event, time) => {
                if let Some((_, done)) = streams.events.get_mut(event) {
                    *done = (*done).max(*time);
                }
                return Ok(());
            }
            Work::Free(at) => {
                // A buffer that was written around is noticed when it is given back; the next call that can fail tells.
                if let Err(e) = self.memory.free(at.0) {
                    self.fault.lock().unwrap().get_or_insert(e.to_string());
                }
                return Ok(());
            }
        }
        .map_err(failed)
    }

    fn run_kernel(&self, f: Function, launch: &Launch, arguments: &[(Vec<u128>, usize)]) -> Result<(), Failure> {
        let kernel = self.kernels.lock().unwrap()[f.0 as usize];
        self.count(|c| c.kernels.extend([kernel.name()]));
        if self.counts.lock().unwrap().fails.take_if(|name| *name == kernel.name()).is_some() {
            return Err(Failure::new("as the test wished"));
        }
        let arguments: Vec<(*const c_void, usize)> = arguments.iter().map(|(a, n)| (a.as_ptr().cast(), *n)).collect();
        let (memory, options) = (&self.memory, &self.options);
        let Launch { grid, block, shared } = *launch;
        // SAFETY: the emulator compares number and sizes of the arguments and checks every address that the kernel uses.
        let ran = unsafe { onecycle_emulator::launch(memory, kernel, grid, block, shared, &arguments, options) };
        ran.map(|_| ()).map_err(failed)
    }

    /// Does what waits, up to this recording of an event or to the end; the first failure.
    fn catch_up(&self, streams: &mut Streams, until: Option<(u64, u64)>) -> Result<(), Failure> {
        let mut result = Ok(());
        while let Some(work) = streams.waiting.pop_front() {
            result = result.and(self.run(streams, &work));
            if matches!(work, Work::Record(event, time) if until == Some((event, time))) {
                break;
            }
        }
        result
    }

    /// Does what an event stands for.
    fn reach(&self, event: Event) -> Result<(), Failure> {
        let mut streams = self.streams.lock().unwrap();
        match streams.events.get(&event.0) {
            None => Err(failed("an event that was destroyed, or never made")),
            Some((recorded, done)) if done == recorded => Ok(()),
            Some((recorded, _)) => {
                let until = Some((event.0, *recorded));
                self.catch_up(&mut streams, until)
            }
        }
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
            self.catch_up(&mut self.streams.lock().unwrap(), None)?;
        }
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
        // Freeing cannot fail.
        let _ = self.give(Stream::Compute, Work::Free(at));
    }

    fn allocate_pinned(&self, bytes: usize) -> Result<NonNull<u8>, Failure> {
        Ok(NonNull::from(Box::leak(vec![0xffu8; bytes].into_boxed_slice())).cast())
    }

    unsafe fn free_pinned(&self, at: NonNull<u8>, bytes: usize) {
        // SAFETY: `allocate_pinned` made it from a box of this size.
        drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(at.as_ptr(), bytes)) });
    }

    unsafe fn copy(&self, stream: Stream, transfer: Transfer, bytes: usize) -> Result<(), Failure> {
        self.give(stream, Work::Copy(transfer, bytes))
    }

    unsafe fn fill(&self, stream: Stream, at: Address, value: u8, bytes: usize) -> Result<(), Failure> {
        self.give(stream, Work::Fill(at, value, bytes))
    }

    fn function(&self, kernel: KernelId) -> Result<Function, Failure> {
        let name = kernel.kernel().name;
        let kernel =
            onecycle_emulator::kernel(name).ok_or_else(|| failed(format!("the emulator has no kernel {name}")))?;
        let mut kernels = self.kernels.lock().unwrap();
        kernels.push(kernel);
        Ok(Function(kernels.len() as u64 - 1))
    }

    unsafe fn launch(&self, stream: Stream, f: Function, launch: &Launch, args: &[Argument]) -> Result<(), Failure> {
        let copied = args.iter().map(|a| {
            let mut bytes = vec![0u128; a.size.div_ceil(16)];
            // SAFETY: the caller says that the value has this size.
            unsafe { std::ptr::copy_nonoverlapping(a.at.cast::<u8>(), bytes.as_mut_ptr().cast(), a.size) };
            (bytes, a.size)
        });
        self.give(stream, Work::Launch(f, *launch, copied.collect()))
    }

    fn event(&self) -> Result<Event, Failure> {
        let mut streams = self.streams.lock().unwrap();
        streams.numbers += 1;
        let number = streams.numbers;
        streams.events.insert(number, (0, 0));
        Ok(Event(number))
    }

    fn record(&self, event: Event, stream: Stream) -> Result<(), Failure> {
        let time = {
            let mut streams = self.streams.lock().unwrap();
            let (recorded, _) = streams.events.get_mut(&event.0).ok_or_else(|| failed("no such event"))?;
            *recorded += 1;
            *recorded
        };
        self.give(stream, Work::Record(event.0, time))
    }

    fn wait(&self, stream: Stream, event: Event) -> Result<(), Failure> {
        // What the compute stream waits for is done: the copy stream doesn't wait with its work.
        if stream == Stream::Copy { self.reach(event) } else { Ok(()) }
    }

    fn synchronize(&self, event: Event) -> Result<(), Failure> {
        self.count(|c| c.synchronized += 1);
        self.reach(event)
    }

    fn is_done(&self, event: Event) -> Result<bool, Failure> {
        Ok(self.streams.lock().unwrap().events.get(&event.0).is_some_and(|(recorded, done)| recorded == done))
    }

    fn destroy(&self, event: Event) {
        self.streams.lock().unwrap().events.remove(&event.0);
    }

    fn capture_begin(&self) -> Result<(), Failure> {
        if !self.captures {
            return Err(failed("this driver makes no graphs"));
        }
        self.streams.lock().unwrap().capture = Some(Vec::new());
        Ok(())
    }

    fn capture_end(&self) -> Result<Graph, Failure> {
        let mut streams = self.streams.lock().unwrap();
        let works = streams.capture.take().ok_or_else(|| failed("nothing is captured now"))?;
        streams.numbers += 1;
        let number = streams.numbers;
        streams.graphs.insert(number, works);
        self.count(|c| c.captured += 1);
        Ok(Graph(number))
    }

    unsafe fn replay(&self, graph: Graph) -> Result<(), Failure> {
        let mut streams = self.streams.lock().unwrap();
        let works = streams.graphs.get(&graph.0).cloned().ok_or_else(|| failed("no such graph"))?;
        self.count(|c| c.replayed += 1);
        if self.late {
            streams.waiting.extend(works);
            return Ok(());
        }
        works.iter().try_for_each(|work| self.run(&mut streams, work))
    }

    fn forget(&self, graph: Graph) {
        self.count(|c| c.forgotten += 1);
        self.streams.lock().unwrap().graphs.remove(&graph.0);
    }
}
