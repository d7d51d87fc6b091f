//! What this crate asks of a GPU: the [`Driver`] trait.
//!
//! Two things stand behind it: NVIDIA's driver (`nvidia.rs`), and in the tests an emulator that runs the same kernels
//! on the processor. Everything above (the allocator, the launches in `ops/*/cuda.rs`, the learner) is written once and can't tell
//! which it has.
//!
//! The trait is small and dumb on purpose: memory by address, two streams, events, launches, and work that is kept to be given again
//! as a whole. What is clever (caching, staging, graphs, error texts) stands above it, so that both sides get it.

use super::kernels::KernelId;
use std::ffi::c_void;
use std::fmt;
use std::ptr::NonNull;

/// A device address. 0 is no memory: an optional operand that isn't there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Address(pub u64);

impl Address {
    /// No memory.
    pub const NULL: Address = Address(0);

    /// The address `bytes` further on.
    pub fn offset(self, bytes: usize) -> Address {
        Address(self.0 + bytes as u64)
    }
}

/// Work on one stream runs in the order in which it was given; the two streams run side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Where kernels run.
    Compute,
    /// Where batches travel to the device while kernels run.
    Copy,
    /// Nothing runs here: between [`Driver::capture_begin`] and [`Driver::capture_end`] the work is kept.
    Capture,
}

/// A marker in a stream, by the number that the driver gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Event(pub u64);

/// Work that was captured and can be replayed, by the number that the driver gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Graph(pub u64);

/// A kernel that is ready to be launched, by the number that the driver gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Function(pub u64);

/// How many blocks and threads a kernel gets, and how much shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Launch {
    /// Blocks along x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block along x, y and z.
    pub block: [u32; 3],
    /// Bytes of shared memory of a block.
    pub shared: u32,
}

/// Threads of a block where nothing speaks for another number.
pub const THREADS: u32 = 256;
/// Multiprocessors of the GPU that formulas for blocks have in mind, an H200's: a constant, so that every GPU makes the same bits.
pub(crate) const PROCESSORS: usize = 132;

impl Launch {
    /// One thread for each of `n` things, at most 2^20 blocks: kernels loop over the rest.
    pub fn over(n: usize) -> Launch {
        Launch::blocks(n.div_ceil(THREADS as usize).min(1 << 20))
    }

    /// As [`Launch::over`], with a warp for each.
    pub fn warps(n: usize) -> Launch {
        Launch::over(n.saturating_mul(32))
    }

    /// `n` blocks of [`THREADS`].
    pub fn blocks(n: usize) -> Launch {
        Launch { grid: [n.min(u32::MAX as usize) as u32, 1, 1], block: [THREADS, 1, 1], shared: 0 }
    }

    /// With `bytes` of shared memory.
    pub fn shared(self, bytes: usize) -> Launch {
        Launch { shared: bytes.min(u32::MAX as usize) as u32, ..self }
    }
}

impl fmt::Display for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([x, y, z], [a, b, c]) = (self.grid, self.block);
        write!(f, "{x}x{y}x{z} blocks of {a}x{b}x{c} threads, {} bytes of shared memory", self.shared)
    }
}

/// One parameter of a kernel: where its value lies on the host, and its size.
#[derive(Clone, Copy, Debug)]
pub struct Argument {
    /// The value, for the duration of the launch call.
    pub at: *const c_void,
    /// Its size in bytes.
    pub size: usize,
}

/// Where a copy comes from and where it goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transfer {
    /// Host to device. The host memory stays as it is until the copy is done.
    Up(*const u8, Address),
    /// Device to host. The host memory belongs to the copy until it is done.
    Down(Address, *mut u8),
    /// Device to device.
    Across(Address, Address),
}

/// What a device says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// What people call it, `NVIDIA H200`.
    pub name: String,
    /// Compute capability, major and minor: (9, 0).
    pub capability: (u32, u32),
    /// The driver's version, as far as it has one.
    pub driver: String,
    /// Freed memory is worth keeping for the next request: true for a GPU. False for the emulator, which then sees every buffer
    /// with its true size and its true end of life.
    pub caches: bool,
    /// How it is shown, `cuda:0`.
    pub label: String,
}

/// Why a driver could not do something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// There is not enough memory.
    pub out_of_memory: bool,
    /// The driver's word.
    pub message: String,
}

impl Failure {
    /// A failure that is not about memory.
    pub fn new(message: impl Into<String>) -> Failure {
        Failure { out_of_memory: false, message: message.into() }
    }
}

/// Memory, copies, launches and events of one device; see the [module](self).
pub trait Driver: Send + Sync + fmt::Debug {
    /// What the device says of itself.
    fn description(&self) -> &Description;

    /// Bytes free and in all.
    ///
    /// # Errors
    /// The device is lost.
    fn memory(&self) -> Result<(usize, usize), Failure>;

    /// `bytes` (not 0) of device memory of unspecified content, aligned to 256.
    ///
    /// # Errors
    /// There is not enough, or the device is lost.
    fn allocate(&self, bytes: usize) -> Result<Address, Failure>;

    /// Gives memory back, once the work that is on the compute stream now is done.
    ///
    /// # Safety
    /// `at` came from [`Driver::allocate`] with this size, is given back once, and no work given later touches it.
    unsafe fn free(&self, at: Address, bytes: usize);

    /// `bytes` (not 0) of host memory that the device can copy from and to while the host goes on.
    ///
    /// # Errors
    /// There is not enough.
    fn allocate_pinned(&self, bytes: usize) -> Result<NonNull<u8>, Failure>;

    /// Gives pinned memory back.
    ///
    /// # Safety
    /// `at` came from [`Driver::allocate_pinned`] with this size, is given back once, and no copy uses it.
    unsafe fn free_pinned(&self, at: NonNull<u8>, bytes: usize);

    /// Copies `bytes` (not 0), in the stream's order; may return before it is done.
    ///
    /// # Safety
    /// Both ends are memory of that size which lives until the copy is done. A host end that is not pinned may be copied at once.
    unsafe fn copy(&self, stream: Stream, transfer: Transfer, bytes: usize) -> Result<(), Failure>;

    /// Sets `bytes` (not 0) to `value`, in the stream's order.
    ///
    /// # Safety
    /// `at` is memory of that size which lives until it is done.
    unsafe fn fill(&self, stream: Stream, at: Address, value: u8, bytes: usize) -> Result<(), Failure>;

    /// Makes a kernel ready.
    ///
    /// # Errors
    /// The device can't run it: no image for its architecture, or the driver refuses it.
    fn function(&self, kernel: KernelId) -> Result<Function, Failure>;

    /// Starts a kernel, in the stream's order.
    ///
    /// # Safety
    /// The arguments are the kernel's parameters in number, order and type, and the addresses in them lead to memory that is large
    /// enough for what the kernel does and lives until it is done. No side of `grid` and `block` is 0.
    unsafe fn launch(
        &self,
        stream: Stream,
        function: Function,
        launch: &Launch,
        arguments: &[Argument],
    ) -> Result<(), Failure>;

    /// A new event.
    ///
    /// # Errors
    /// The device is lost.
    fn event(&self) -> Result<Event, Failure>;

    /// The event now stands for all work that is on `stream` so far.
    ///
    /// # Errors
    /// The device is lost.
    fn record(&self, event: Event, stream: Stream) -> Result<(), Failure>;

    /// Later work on `stream` waits for the event; the host does not.
    ///
    /// # Errors
    /// The device is lost.
    fn wait(&self, stream: Stream, event: Event) -> Result<(), Failure>;

    /// The host waits for the event.
    ///
    /// # Errors
    /// Work before it failed, or the device is lost.
    fn synchronize(&self, event: Event) -> Result<(), Failure>;

    /// True when the event's work is done.
    ///
    /// # Errors
    /// Work before it failed, or the device is lost.
    fn is_done(&self, event: Event) -> Result<bool, Failure>;

    /// Gives an event back.
    fn destroy(&self, event: Event);

    /// From now on work that this thread gives to [`Stream::Capture`] is kept: kernels with copies of their arguments, copies
    /// and fills with their addresses.
    ///
    /// # Errors
    /// The driver keeps nothing now.
    fn capture_begin(&self) -> Result<(), Failure>;

    /// Ends what [`Driver::capture_begin`] began, also after work was refused in between.
    ///
    /// # Errors
    /// The work can't be kept.
    fn capture_end(&self) -> Result<Graph, Failure>;

    /// Does all the work of a graph, in its order, on the compute stream; may return before it is done. A graph may be replayed
    /// again before the last time is done.
    ///
    /// # Safety
    /// What was promised for each piece of work when it was kept is true for this time too.
    unsafe fn replay(&self, graph: Graph) -> Result<(), Failure>;

    /// Gives back a graph that isn't replayed again, and whose last replay is done.
    fn forget(&self, graph: Graph);
}
