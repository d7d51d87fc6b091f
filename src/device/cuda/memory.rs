//! Device memory that is kept and reused, and pinned host memory for copies that nobody waits for.
//!
//! A training step asks for the same few hundred buffers every time, and asking the driver costs microseconds each. So a freed
//! buffer goes to a list by size and the next request of that size takes it. No event is needed for that: everything runs on one
//! compute stream, so work that still reads the old content was given before work that writes the new one. Of several buffers the one
//! with the lowest address is taken: a step that does the same again gets the same memory again, which is what [graphs](super::step)
//! need. They also have a plan of where a step's memory lies; what it has no place for comes from here.
//!
//! Batches are the exception. They travel on the copy stream, beside the computation, into buffers of their own: when such a
//! buffer is dropped, an event marks the point on the compute stream after which nobody reads it, and the copy stream waits for
//! that event before it writes the next batch into it. Inside a step, where work is gathered, that point is behind the list.
//!
//! When the driver has no more memory, the lists are emptied and it is asked once more, before the request fails.

use super::Gpu;
use super::driver::{Address, Event, Failure, Stream, Transfer};
use super::step::{PlanSize, Planner, Ticket, Turn, Work};
use crate::{Error, ErrorKind, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A block of device memory. Dropped, it goes back to its device.
pub struct Memory {
    gpu: Gpu,
    address: Address,
    /// What was asked for.
    bytes: usize,
    home: Home,
}

/// Where memory goes back to.
#[derive(Clone, Copy, Debug)]
enum Home {
    /// To whoever computes next.
    Compute,
    /// To the batches of this turn.
    Batch(Turn),
}

impl Memory {
    /// Where it is; [`Address::NULL`] when it has no bytes.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Its size.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Its device.
    pub fn gpu(&self) -> Gpu {
        self.gpu
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.gpu.pool().give(self.gpu, self);
        }
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Memory({} bytes on {})", self.bytes, self.gpu)
    }
}

/// Free memory of one device, of all kinds.
#[derive(Debug, Default)]
pub(super) struct Pool {
    lists: Mutex<Lists>,
}

#[derive(Debug, Default)]
struct Lists {
    /// By size: addresses that the compute stream may write to at once.
    compute: BTreeMap<usize, BTreeSet<Address>>,
    /// Where the memory of steps lies.
    planner: Planner,
    batches: Vec<BatchBuffer>,
    /// Pinned host memory, each with the event after which it may be written to.
    pinned: Vec<Pinned>,
    in_use: usize,
    peak: usize,
}

/// A free buffer for a batch, and the event after which it may be written to.
#[derive(Debug)]
struct BatchBuffer {
    size: usize,
    address: Address,
    turn: Turn,
    event: Event,
}

/// Sizes are rounded up, so that nearly equal requests share buffers: to 512 bytes, from 1 MiB on to an eighth of the power of
/// two below.
pub(super) fn rounded(bytes: usize) -> usize {
    let step = if bytes < 1 << 20 { 512 } else { 1 << (bytes.ilog2() - 3) };
    bytes.next_multiple_of(step)
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, Lists> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes in use now, and the most that ever were.
    pub fn usage(&self) -> (usize, usize) {
        let lists = self.lock();
        (lists.in_use, lists.peak)
    }

    /// Forgets the peak: it starts anew at what is in use.
    pub fn reset_peak(&self) {
        let mut lists = self.lock();
        lists.peak = lists.in_use;
    }

    /// `bytes` of unspecified content.
    fn take(&self, gpu: Gpu, bytes: usize, home: Home) -> Result<Memory> {
        let memory = |address| Memory { gpu, address, bytes, home };
        if bytes == 0 {
            return Ok(memory(Address::NULL));
        }
        let (size, driver) = (size_on(gpu, bytes), gpu.driver());
        let mut lists = self.lock();
        let kept = match home {
            Home::Compute => lists.planner.place(bytes).or_else(|| lists.compute.get_mut(&size)?.pop_first()),
            Home::Batch(turn) => lists.take_batch(gpu, size, turn)?,
        };
        let address = match kept.map_or_else(|| driver.allocate(size), Ok) {
            Err(f) if f.out_of_memory => {
                drop(lists);
                // Work that was gathered still needs what is in the lists.
                gpu.hand_over()?;
                lists = self.lock();
                lists.release(gpu);
                driver.allocate(size)
            }
            other => other,
        };
        let address = address.map_err(|failure| out_of_memory(gpu, size, lists.in_use, &failure))?;
        lists.in_use += size;
        lists.peak = lists.peak.max(lists.in_use);
        if let Home::Compute = home {
            lists.planner.took(address, bytes);
        }
        Ok(memory(address))
    }

    fn give(&self, gpu: Gpu, memory: &Memory) {
        let (size, address) = (size_on(gpu, memory.bytes), memory.address);
        if let Home::Batch(turn) = memory.home {
            match gpu.gathering() {
                Some(mut list) => list.give(size, address, turn),
                None => self.give_batch(gpu, size, address, turn),
            }
        }
        let mut lists = self.lock();
        lists.in_use -= size;
        if let Home::Batch(_) = memory.home {
            return;
        }
        if !gpu.description().caches {
            // SAFETY: the address came from this driver with this size; its only owner is being dropped. `free` lets the work
            // that was given before finish first, and without a cache nothing is gathered.
            unsafe { gpu.driver().free(address, size) };
        } else if !lists.planner.gave(address) {
            lists.compute.entry(size).or_default().insert(address);
        }
    }

    /// A batch buffer that work given from now on doesn't need.
    pub fn give_batch(&self, gpu: Gpu, size: usize, address: Address, turn: Turn) {
        let event = if gpu.description().caches { gpu.marked(Stream::Compute).ok() } else { None };
        match event {
            Some(event) => self.lock().batches.push(BatchBuffer { size, address, turn, event }),
            // SAFETY: as in `give`.
            None => unsafe { gpu.driver().free(address, size) },
        }
    }

    /// A step begins: what it takes and gives is recorded, and served by plan if there is one.
    pub fn begin_step(&self, name: &'static str) {
        self.lock().planner.begin(name);
    }

    /// The step has ended and its work is given. A new plan may want a larger arena; for that the buffers go which it replaces.
    pub fn end_step(&self, gpu: Gpu) {
        let (mut lists, driver) = (self.lock(), gpu.driver());
        if let Some(size) = lists.planner.end(rounded) {
            lists.release_compute(gpu);
            // Without memory for it the plan has no place, and the pool goes on.
            if let Ok(at) = driver.allocate(size) {
                lists.planner.grow(at, size);
            }
        }
        lists.planner.sweep(driver);
    }

    pub fn plan(&self) -> Option<PlanSize> {
        self.lock().planner.size()
    }

    /// Gives all kept memory back to the driver.
    pub fn release(&self, gpu: Gpu) {
        self.lock().release(gpu);
    }

    /// Pinned memory of at least `bytes` that no copy uses any more.
    fn take_pinned(&self, gpu: Gpu, bytes: usize, turn: Turn) -> Result<Pinned> {
        let driver = gpu.driver();
        let mut lists = self.lock();
        // A block more than twice as large is kept for whoever needs its size.
        let suits = |block: &Pinned| block.turn == turn && (bytes..=bytes.max(4096) * 2).contains(&block.bytes);
        if turn.is_some() {
            // The step has waited for the last one of its turn, and so for every copy of it.
            let all = lists.pinned.iter().enumerate().filter(|(_, block)| suits(block));
            if let Some(i) = all.min_by_key(|(_, block)| block.at).map(|(i, _)| i) {
                return Ok(lists.pinned.swap_remove(i));
            }
        } else {
            for i in 0..lists.pinned.len() {
                let block = &lists.pinned[i];
                if suits(block) && driver.is_done(block.event).map_err(|f| gpu.failed("a copy", f))? {
                    return Ok(lists.pinned.swap_remove(i));
                }
            }
        }
        drop(lists);
        let size = bytes.next_multiple_of(4096);
        let at = driver.allocate_pinned(size).map_err(|f| gpu.failed(format!("pinning {size} bytes of memory"), f))?;
        let event = driver.event().map_err(|f| gpu.failed("making an event", f))?;
        Ok(Pinned { at, bytes: size, turn, event })
    }

    fn give_pinned(&self, block: Pinned) {
        self.lock().pinned.push(block);
    }
}

impl Lists {
    /// The first batch buffer of this size and turn, once nobody reads it.
    fn take_batch(&mut self, gpu: Gpu, size: usize, turn: Turn) -> Result<Option<Address>> {
        let suits = |b: &BatchBuffer| (b.size, b.turn) == (size, turn);
        let all = self.batches.iter().enumerate().filter(|(_, buffer)| suits(buffer));
        let Some(i) = all.min_by_key(|(_, buffer)| buffer.address).map(|(i, _)| i) else { return Ok(None) };
        let BatchBuffer { address, event, .. } = self.batches.swap_remove(i);
        let waits = gpu.driver().wait(Stream::Copy, event);
        gpu.driver().destroy(event);
        waits.map_err(|f| gpu.failed("reusing a batch buffer", f))?;
        Ok(Some(address))
    }

    fn release(&mut self, gpu: Gpu) {
        self.release_compute(gpu);
        self.planner.release(gpu.driver());
        for BatchBuffer { size, address, event, .. } in std::mem::take(&mut self.batches) {
            gpu.driver().destroy(event);
            // SAFETY: the address came from this driver with this size and has no owner; the work that reads the buffer is on the
            // compute stream, which `free` waits for.
            unsafe { gpu.driver().free(address, size) };
        }
    }

    fn release_compute(&mut self, gpu: Gpu) {
        for (size, addresses) in std::mem::take(&mut self.compute) {
            for address in addresses {
                // SAFETY: addresses in the list came from this driver with this size and have no owner.
                unsafe { gpu.driver().free(address, size) };
            }
        }
    }
}

/// What a request for `bytes` (not 0) gets from the driver.
fn size_on(gpu: Gpu, bytes: usize) -> usize {
    if gpu.description().caches { rounded(bytes) } else { bytes }
}

fn out_of_memory(gpu: Gpu, needed: usize, in_use: usize, failure: &Failure) -> Error {
    if !failure.out_of_memory {
        return gpu.failed(format!("allocating {needed} bytes"), failure.clone());
    }
    let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    let free = gpu
        .driver()
        .memory()
        .map_or(String::new(), |(free, total)| format!(", {:.0} of its {:.0} MiB are free", mib(free), mib(total)));
    let (needed, in_use) = (mib(needed), mib(in_use));
    let message =
        format!("out of memory: {needed:.1} MiB more were needed{free}, tensors of this program use {in_use:.0}");
    Error::new(ErrorKind::OutOfMemory, message)
        .on(gpu)
        .remedy("use a smaller batch (--bs) or smaller pictures (--size)")
}

/// Host memory that the device copies from or to while the host goes on, with an event that says when it is done.
#[derive(Debug)]
struct Pinned {
    at: NonNull<u8>,
    bytes: usize,
    turn: Turn,
    event: Event,
}

// SAFETY: the memory has no thread: it belongs to whoever owns the struct.
unsafe impl Send for Pinned {}
// SAFETY: there is no access through a shared reference.
unsafe impl Sync for Pinned {}

impl Gpu {
    /// Device memory of unspecified content.
    pub(crate) fn allocate(self, bytes: usize) -> Result<Memory> {
        self.pool().take(self, bytes, Home::Compute)
    }

    /// Device memory with a copy of `data`. The host goes on at once; work on the compute stream sees the data.
    pub(crate) fn upload(self, data: &[u8]) -> Result<Memory> {
        let memory = self.allocate(data.len())?;
        self.copy_up(data, &memory, Stream::Compute)?;
        Ok(memory)
    }

    /// As [`Gpu::upload`], on the copy stream: the bytes travel while earlier kernels still run.
    pub(crate) fn upload_beside(self, data: &[u8]) -> Result<Memory> {
        let turn = self.gathering().and_then(|list| list.turn());
        let memory = self.pool().take(self, data.len(), Home::Batch(turn))?;
        self.copy_up(data, &memory, Stream::Copy)?;
        let arrived = self.marked(Stream::Copy)?;
        let waits = self.driver().wait(Stream::Compute, arrived);
        self.driver().destroy(arrived);
        waits.map_err(|f| self.failed("waiting for a batch", f))?;
        Ok(memory)
    }

    fn copy_up(self, data: &[u8], to: &Memory, stream: Stream) -> Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        if stream == Stream::Compute
            && let Some(mut list) = self.gathering()
        {
            let from = list.stage(self, data).map_err(|f| self.failed("pinning memory", f))?;
            list.push(Work::Copy { transfer: Transfer::Up(from, to.address), bytes: data.len() });
            return Ok(());
        }
        let block = self.pool().take_pinned(self, data.len(), None)?;
        // SAFETY: the block has at least `data.len()` bytes, no copy uses it, and it belongs to us alone.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), block.at.as_ptr(), data.len()) };
        // SAFETY: both ends have the size; the block is not written to again before its event is done, and device memory is
        // reused in stream order.
        let copied = unsafe { self.driver().copy(stream, Transfer::Up(block.at.as_ptr(), to.address), data.len()) };
        let marked = self.driver().record(block.event, stream);
        self.pool().give_pinned(block);
        copied.and(marked).map_err(|f| self.failed("copying to the device", f))
    }

    /// Copies device memory into `out`, after all work given so far. The host waits.
    pub(crate) fn download(self, from: &Memory, out: &mut [u8]) -> Result<()> {
        debug_assert_eq!(from.bytes, out.len());
        let read = self.read_back(from)?;
        read.wait(out)
    }

    /// Starts to copy device memory to the host, after all work given so far; the host goes on.
    pub(crate) fn read_back(self, from: &Memory) -> Result<ReadBack> {
        if from.bytes == 0 {
            return Ok(ReadBack { gpu: self, block: None, bytes: 0, ticket: None });
        }
        let (bytes, mut gathering) = (from.bytes, self.gathering());
        let turn = gathering.as_ref().and_then(|list| list.turn());
        let block = self.pool().take_pinned(self, bytes, turn)?;
        let transfer = Transfer::Down(from.address, block.at.as_ptr());
        if let Some(list) = &mut gathering {
            list.push(Work::Copy { transfer, bytes });
            let ticket = Some(list.record(block.event));
            return Ok(ReadBack { gpu: self, block: Some(block), bytes, ticket });
        }
        // SAFETY: both ends have the size; the block belongs to this read-back until it is done, the device memory is reused in
        // stream order.
        let copied = unsafe { self.driver().copy(Stream::Compute, transfer, bytes) };
        let marked = self.driver().record(block.event, Stream::Compute);
        let read = ReadBack { gpu: self, block: Some(block), bytes, ticket: None };
        copied.and(marked).map_err(|f| self.failed("copying from the device", f))?;
        Ok(read)
    }

    /// A copy on the device.
    pub(crate) fn duplicate(self, from: &Memory) -> Result<Memory> {
        let (to, bytes) = (self.allocate(from.bytes)?, from.bytes);
        if bytes > 0 {
            let transfer = Transfer::Across(from.address, to.address);
            if let Some(mut list) = self.gathering() {
                list.push(Work::Copy { transfer, bytes });
                return Ok(to);
            }
            // SAFETY: both ends have the size and are reused in stream order.
            let copied = unsafe { self.driver().copy(Stream::Compute, transfer, bytes) };
            copied.map_err(|f| self.failed("copying on the device", f))?;
        }
        Ok(to)
    }

    /// Sets all bytes to 0.
    pub(crate) fn zero(self, memory: &mut Memory) -> Result<()> {
        let Memory { address: at, bytes, .. } = *memory;
        if bytes == 0 {
            return Ok(());
        }
        if let Some(mut list) = self.gathering() {
            list.push(Work::Fill { at, value: 0, bytes });
            return Ok(());
        }
        // SAFETY: the memory has the size and is reused in stream order.
        let filled = unsafe { self.driver().fill(Stream::Compute, at, 0, bytes) };
        filled.map_err(|f| self.failed("zeroing memory", f))
    }
}

/// Bytes on their way from the device to the host.
#[derive(Debug)]
pub(crate) struct ReadBack {
    gpu: Gpu,
    block: Option<Pinned>,
    bytes: usize,
    /// Of the step's work that it is part of.
    ticket: Option<Ticket>,
}

impl ReadBack {
    /// Waits until the bytes have arrived and copies them into `out`.
    pub fn wait(mut self, out: &mut [u8]) -> Result<()> {
        let Some(block) = self.block.take() else { return Ok(()) };
        let given = self.ticket.map_or(Ok(()), |ticket| self.gpu.hand_over_for(ticket));
        let arrived = self.gpu.driver().synchronize(block.event);
        if given.is_ok() && arrived.is_ok() {
            let n = self.bytes.min(out.len());
            // SAFETY: the block has at least `bytes` bytes, and the copy that wrote them is done.
            unsafe { std::ptr::copy_nonoverlapping(block.at.as_ptr(), out.as_mut_ptr(), n) };
        }
        self.gpu.pool().give_pinned(block);
        given?;
        arrived.map_err(|f| self.gpu.failed("the work before a copy from the device", f))
    }
}

impl Drop for ReadBack {
    /// Unread, its block goes back; its event says when it may be used.
    fn drop(&mut self) {
        if let Some(block) = self.block.take() {
            self.gpu.pool().give_pinned(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::rounded;

    #[test]
    fn rounding_wastes_little() {
        assert_eq!([rounded(1), rounded(512), rounded(513)], [512, 512, 1024]);
        for bytes in [1 << 20, (1 << 20) + 1, 3_000_000, 1 << 30, 2_500_000_001] {
            let size = rounded(bytes);
            assert!(size >= bytes && size - bytes <= bytes / 8, "{bytes} became {size}");
            assert_eq!(rounded(size), size);
        }
    }
}
