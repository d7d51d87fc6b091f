//! Runs onecycle's CUDA kernels on the CPU, for its tests: the unchanged `kernels/*.cu`, compiled by the C++ compiler of the machine.
//!
//! # What it is
//! A [`Memory`] stands for the memory of a device, [`kernel`] finds an entry point by its name, [`launch`] runs it with a grid, a
//! block, shared memory and parameters by address, just as a driver does. So the Rust code above a launch is the same for a GPU and
//! for this.
//!
//! Each CUDA thread is a fiber with a stack of its own, and a block is a crowd of fibers on one thread of the operating system
//! (`engine.cc`). A barrier costs about as much as a few function calls, so whole networks of toy size fit into a test.
//!
//! # How faults show
//! A kernel that synchronises wrongly may still compute the right numbers, on a CPU even more often than on a GPU. Three things make
//! it fail here:
//! - **Nothing starts as zero.** Shared memory and new global memory are NaN.
//! - **The order is chosen.** Threads and blocks run forward, in reverse or shuffled ([`Order`]), asynchronous copies happen as early
//!   or as late as the rules allow ([`Copies`]). A correct kernel gives the same bits in all of them.
//! - **The checker** ([`Options::check`]) sees each access to memory through the compiler's own hooks, and finds races, accesses out
//!   of bounds, misaligned ones, and reads of what nobody wrote, each with its line ([`Finding`], `checker.cc`).
//!
//! Deadlocks and diverging barriers are found in any case.
//!
//! # What it can't tell
//! An access that misses its buffer by far may hit another buffer, and then it is a wrong number like any other. A thread's use of
//! another thread's local variables isn't seen. With clang++ instead of g++, a misaligned copy of a whole struct isn't, either.
//! Without the checker, a wild address crashes the program, as in any C++; and so does a kernel that needs more than 64 KiB of stack,
//! in any case.
//!
//! It runs *our reading* of the PTX manual: that a fragment's layout is what we think is a question for a GPU. So are speed, bank
//! conflicts, the tensor cores' order of sums, and the last bits of the fast functions.
//!
//! # Example
//! ```
//! use onecycle_emulator::{Memory, Options, kernel, launch};
//! # if !onecycle_emulator::available() { return }
//! let memory = Memory::new();
//! let (x, y) = (memory.allocate(8).unwrap(), memory.allocate(8).unwrap());
//! memory.write(x, [-1f32, 2.0].map(f32::to_le_bytes).as_flattened()).unwrap();
//!
//! let n = 2i64;
//! let args = [(&raw const x).cast(), (&raw const y).cast(), (&raw const n).cast()].map(|at| (at, 8));
//! let relu = kernel("relu_forward<f32>").unwrap();
//! let options = Options { check: true, ..Options::default() };
//! // SAFETY: two buffers of two numbers, as the kernel expects.
//! let report = unsafe { launch(&memory, relu, [1; 3], [32, 1, 1], 0, &args, &options) }.unwrap();
//! assert_eq!(report.threads, 32);
//!
//! let mut out = [0; 8];
//! memory.read(y, &mut out).unwrap();
//! assert_eq!(out, [0f32, 2.0].map(f32::to_le_bytes).as_flattened());
//! ```
//!
//! Without a C++ compiler the crate builds, too, but it is empty: [`available`] is false, and a launch says why it can't run.

#![cfg_attr(no_emu, allow(dead_code))]

mod ffi;
mod findings;
mod memory;
mod symbols;

#[cfg(not(no_emu))]
mod run;
#[cfg(no_emu)]
#[path = "absent.rs"]
mod run;

pub use findings::{Access, Finding, FindingKind, Frame, Other, Place, Space};
pub use memory::{Memory, MemoryError, RED_ZONE};
pub use run::{available, compiler, kernel, kernels, launch, layouts};

use std::fmt;
use std::time::Duration;

/// The most shared memory of a block, in bytes: that of an H100.
pub const MAX_SHARED: u32 = 227 * 1024;
/// The most threads of a block.
pub const MAX_THREADS: u32 = 1024;

/// In which order threads run between two barriers, and blocks after each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Order {
    /// From the first to the last.
    #[default]
    Forward,
    /// From the last to the first.
    Reverse,
    /// At random, another order after each barrier; the number chooses which. It makes a failure repeatable.
    Shuffled(u64),
}

/// When asynchronous copies happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Copies {
    /// When they are issued.
    #[default]
    Early,
    /// At the wait that guarantees them. Until then their destination is NaN.
    Late,
}

/// How a launch runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Options {
    /// Of threads and blocks.
    pub order: Order,
    /// Of asynchronous copies.
    pub copies: Copies,
    /// With the checker. It runs the blocks on one thread of the operating system.
    pub check: bool,
}

impl Options {
    /// Six ways to run that a correct kernel can't tell apart, each with the checker or without.
    pub fn all(check: bool) -> [Options; 6] {
        let orders = [Order::Forward, Order::Reverse, Order::Shuffled(1)];
        let with = |copies| orders.map(|order| Options { order, copies, check });
        let ([a, b, c], [d, e, f]) = (with(Copies::Early), with(Copies::Late));
        [a, b, c, d, e, f]
    }
}

/// An entry point of a `.cu` file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Kernel {
    name: &'static str,
    file: &'static str,
    parameters: &'static [usize],
    /// The engine's numbers of the plain and the checked copy.
    #[cfg_attr(no_emu, allow(dead_code))]
    plain: u32,
    #[cfg_attr(no_emu, allow(dead_code))]
    checked: u32,
}

impl Kernel {
    /// As its `KERNEL` line names it: `relu_forward<f32>`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The file that it stands in, without its ending: `relu`.
    pub fn file(&self) -> &'static str {
        self.file
    }

    /// The sizes of its parameters in bytes.
    pub fn parameters(&self) -> &'static [usize] {
        self.parameters
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}.cu, parameters of {:?} bytes", self.name, self.file, self.parameters)
    }
}

/// How C++ laid out a struct that kernels take by value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The struct.
    pub name: String,
    /// Bytes.
    pub size: usize,
    /// What its address is a multiple of.
    pub align: usize,
    /// Name and offset of each field.
    pub fields: Vec<(String, usize)>,
}

/// What a launch did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Blocks that ran.
    pub blocks: u64,
    /// Threads that ran.
    pub threads: u64,
    /// `__syncthreads`, counted once for a block.
    pub barriers: u64,
    /// Shuffles, votes, matrix operations and so on, counted once for a warp.
    pub warp_collectives: u64,
    /// Asynchronous copies of 16 bytes, counted for each thread.
    pub async_copies: u64,
    /// Matrix multiplications of a warp.
    pub mma: u64,
    /// The shared memory up to the last byte that was touched, of what the launch asked for: with the checker exact, without
    /// it taken from the bytes that one block left changed.
    pub shared_bytes_used: u64,
    /// The static `__shared__` arrays that the kernel used, in bytes. Only the checker knows.
    pub static_shared_bytes: u64,
    /// Bytes read from global memory. Only the checker counts them.
    pub global_bytes_read: u64,
    /// Bytes written to global memory. Only the checker counts them.
    pub global_bytes_written: u64,
    /// Faults; empty in what a successful launch returns.
    pub findings: Vec<Finding>,
    /// How long it took.
    pub time: Duration,
}

/// Why a launch failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What is wrong with the launch itself, or how many faults the kernel has.
    pub message: String,
    /// What ran before it failed; [`Report::findings`] holds the faults.
    pub report: Box<Report>,
}

impl Failure {
    fn refused(message: impl Into<String>) -> Failure {
        Failure { message: message.into(), report: Box::default() }
    }

    /// The faults, those of most weight for the reader first.
    pub fn findings(&self) -> &[Finding] {
        &self.report.findings
    }

    /// Whether there is a fault of this kind.
    pub fn has(&self, kind: FindingKind) -> bool {
        self.findings().iter().any(|f| f.kind == kind)
    }
}

/// How many findings a failure's text shows.
const SHOWN: usize = 10;

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for finding in self.findings().iter().take(SHOWN) {
            write!(f, "\n  {finding}")?;
        }
        match self.findings().len() {
            n if n > SHOWN => write!(f, "\n  and {} more", n - SHOWN),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}
