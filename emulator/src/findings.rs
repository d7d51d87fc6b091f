//! What a launch can be found guilty of, in words with file and line.

use crate::ffi;
use std::fmt;

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FindingKind {
    /// Two threads touch the same byte, at least one of them with a plain write, and nothing orders the two.
    Race,
    /// An access outside of every buffer, or beyond the shared memory of the block.
    OutOfBounds,
    /// An access to a buffer that the host freed.
    UseAfterFree,
    /// A vector access, an asynchronous copy or a matrix row whose address isn't a multiple of its size.
    Misaligned,
    /// A read of shared memory that nothing wrote in this block, or of global memory that nothing wrote since its allocation.
    Uninitialised,
    /// An access to shared memory that an asynchronous copy may still write, since nobody waited for it.
    CopyUnderWay,
    /// Lanes of one warp are at different `__syncthreads`.
    DivergentBarrier,
    /// Threads that wait forever.
    Deadlock,
    /// A lane calls a collective whose mask leaves it out.
    BadMask,
}

const KINDS: [FindingKind; 9] = [
    FindingKind::Race,
    FindingKind::OutOfBounds,
    FindingKind::UseAfterFree,
    FindingKind::Misaligned,
    FindingKind::Uninitialised,
    FindingKind::CopyUnderWay,
    FindingKind::DivergentBarrier,
    FindingKind::Deadlock,
    FindingKind::BadMask,
];

/// Which memory a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Space {
    /// A buffer of the device, or the nearest one.
    Global,
    /// The shared memory whose size comes with the launch.
    DynamicShared,
    /// A `__shared__` array of the kernel.
    StaticShared,
    /// No memory that belongs to the kernel, or none at all.
    Nowhere,
}

const SPACES: [Space; 4] = [Space::Global, Space::DynamicShared, Space::StaticShared, Space::Nowhere];

/// How a thread touches memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Access {
    /// A load.
    Read,
    /// A store.
    Write,
    /// An atomic operation.
    Atomic,
    /// The destination of an asynchronous copy.
    Copy,
}

const ACCESSES: [Access; 4] = [Access::Read, Access::Write, Access::Atomic, Access::Copy];

/// One function at a code address; several where calls were inlined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// From the repository's root: `kernels/relu.cu`. Empty when the program has no line tables.
    pub file: String,
    /// From 1; 0 when unknown.
    pub line: u32,
    /// `relu_forward<float>`.
    pub function: String,
}

/// A place in the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The code address.
    pub address: u64,
    /// The innermost function first, then those it was inlined into.
    pub frames: Vec<Frame>,
}

impl Place {
    /// The innermost frame, where it is known.
    pub fn frame(&self) -> Option<&Frame> {
        self.frames.iter().find(|f| !f.file.is_empty())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known: Vec<_> = self.frames.iter().filter(|f| !f.file.is_empty()).collect();
        let Some(inner) = known.first() else {
            return match self.frames.first() {
                Some(frame) => write!(f, "{} ({:#x})", frame.function, self.address),
                None => write!(f, "code address {:#x}", self.address),
            };
        };
        write!(f, "{}:{}", inner.file, inner.line)?;
        if let Some(outer) = known.last().filter(|o| o.file != inner.file || o.function != inner.function) {
            write!(f, " (from {}:{})", outer.file, outer.line)?;
        }
        Ok(())
    }
}

/// The other side of a race.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// Where.
    pub place: Place,
    /// Which thread of its block.
    pub thread: [u32; 3],
    /// Which block.
    pub block: [u32; 3],
    /// What it did.
    pub access: Access,
}

/// Something that a kernel must not do, at one place; the first occurrence in detail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub kind: FindingKind,
    /// How often at this place.
    pub count: u64,
    /// The kernel that was launched.
    pub kernel: &'static str,
    /// Where in the source.
    pub place: Place,
    /// The first thread that did it.
    pub thread: [u32; 3],
    /// Its block.
    pub block: [u32; 3],
    /// What it did to memory.
    pub access: Access,
    /// How many bytes.
    pub size: u32,
    /// Which memory.
    pub space: Space,
    /// The name of a static shared array.
    pub array: Option<String>,
    /// The address.
    pub address: u64,
    /// The address from the beginning of the buffer or array, negative before it.
    pub offset: i64,
    /// That buffer's size.
    pub buffer_size: u64,
    /// Whom it disagrees with: of a race, a copy under way, a divergent barrier.
    pub other: Option<Other>,
    /// What a thread waits in: of a deadlock, or of a bad mask.
    pub waits_in: &'static str,
    /// The lanes that it waits for.
    pub mask: u32,
}

const OPERATIONS: [&str; 12] = [
    "nothing",
    "__syncthreads",
    "__syncwarp",
    "a shuffle",
    "a vote",
    "a reduction",
    "ldmatrix",
    "ldmatrix (transposed)",
    "mma (bf16)",
    "mma (f16)",
    "mma (tf32)",
    "its end",
];

impl Finding {
    pub(crate) fn new(raw: &ffi::Finding, kernel: &'static str, array: impl Fn(u64) -> Option<String>) -> Finding {
        let space = SPACES[raw.space as usize];
        Finding {
            kind: KINDS[raw.kind as usize],
            count: raw.count,
            kernel,
            place: crate::symbols::place(raw.pc),
            thread: raw.thread,
            block: raw.block,
            access: ACCESSES[raw.access as usize],
            size: raw.size,
            space,
            array: if space == Space::StaticShared { array(raw.region) } else { None },
            address: raw.address,
            offset: raw.offset,
            buffer_size: raw.region_size,
            other: (raw.other_pc != 0).then(|| Other {
                place: crate::symbols::place(raw.other_pc),
                thread: raw.other_thread,
                block: raw.other_block,
                access: ACCESSES[raw.other_access as usize],
            }),
            waits_in: OPERATIONS[raw.op as usize],
            mask: raw.mask,
        }
    }
}

fn triple([x, y, z]: [u32; 3]) -> String {
    format!("({x},{y},{z})")
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = format!("thread {} of block {}", triple(self.thread), triple(self.block));
        let verb = match self.access {
            Access::Read => "reads",
            Access::Write => "writes",
            Access::Atomic => "changes (atomically)",
            Access::Copy => "starts to copy",
        };
        let memory = match (self.space, &self.array) {
            (Space::Global, _) => format!("a global buffer of {} bytes", self.buffer_size),
            (Space::DynamicShared, _) => format!("the {} bytes of shared memory", self.buffer_size),
            (Space::StaticShared, Some(name)) => format!("shared array `{name}` of {} bytes", self.buffer_size),
            (Space::StaticShared, None) => format!("a shared array of {} bytes", self.buffer_size),
            (Space::Nowhere, _) => "no memory of the kernel".to_string(),
        };
        let what = match self.space {
            Space::Nowhere => format!("{verb} {} bytes at {:#x}, {memory}", self.size, self.address),
            _ => format!("{verb} {} bytes at offset {} of {memory}", self.size, self.offset),
        };
        let other = self.other.as_ref().map(|o| {
            let did = match o.access {
                Access::Read => "read",
                Access::Write => "wrote",
                Access::Atomic => "changed (atomically)",
                Access::Copy => "copied to",
            };
            let block = if o.block == self.block { String::new() } else { format!(" of block {}", triple(o.block)) };
            (did, format!("thread {}{block}", triple(o.thread)), &o.place)
        });
        match (self.kind, other) {
            (FindingKind::Race, Some((did, whom, place))) => {
                write!(f, "race: {}: {who} {what}, which {whom} {did} at {place}; nothing orders the two", self.place)
            }
            (FindingKind::CopyUnderWay, Some((_, whom, place))) => write!(
                f,
                "copy under way: {}: {who} {what}, which {whom} copies to since {place}; its wait is missing",
                self.place
            ),
            (FindingKind::DivergentBarrier, Some((_, whom, place))) => write!(
                f,
                "divergent barrier: {}: {who} is at this __syncthreads, {whom} of the same warp at {place}",
                self.place
            ),
            (FindingKind::Deadlock, _) => {
                let lanes = match self.waits_in {
                    "__syncthreads" => String::new(),
                    _ => format!(" for the lanes {:#010x}", self.mask),
                };
                write!(
                    f,
                    "deadlock: {}: {} threads wait in {}{lanes}, the first is {who}",
                    self.place, self.count, self.waits_in
                )?;
                return Ok(());
            }
            (FindingKind::BadMask, _) => write!(
                f,
                "bad mask: {}: {who} calls {} with the mask {:#010x}, which leaves it out",
                self.place, self.waits_in, self.mask
            ),
            (FindingKind::Misaligned, _) => write!(
                f,
                "misaligned: {}: {who} {verb} {} bytes at {:#x}, {} above a multiple of {}",
                self.place,
                self.size,
                self.address,
                self.address % u64::from(self.size.max(1)),
                self.size
            ),
            (FindingKind::UseAfterFree, _) => write!(f, "use after free: {}: {who} {what}", self.place),
            (FindingKind::Uninitialised, _) => {
                write!(f, "uninitialised: {}: {who} {what}, which nothing wrote before", self.place)
            }
            (FindingKind::OutOfBounds, _) => write!(f, "out of bounds: {}: {who} {what}", self.place),
            (_, None) => write!(f, "{:?}: {}: {who} {what}", self.kind, self.place),
        }?;
        if self.count > 1 {
            write!(f, " ({} times)", self.count)?;
        }
        Ok(())
    }
}
