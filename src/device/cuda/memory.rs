//! Device memory that is kept and reused, and pinned host memory for copies that nobody waits for.
//!
//! A training step asks for the same few hundred buffers every time, and asking the driver costs microseconds each. So a freed
//! buffer goes to a list by size and the next request of that size takes it. No event is needed for that: everything runs on one
//! compute stream, so work that still reads the old content was given before work that writes the new one.
//!
//! Batches are the exception. They travel on the copy stream, beside the computation, into buffers of their own: when such a
//! buffer is dropped, an event marks the point on the compute stream after which nobody reads it, and the copy stream waits for
//! that event before it writes the next batch into it.
//!
//! When the driver has no more memory, the lists are emptied and it is asked once more, before the request fails.

use super::Gpu;
use super::driver::{Address, Event, Failure, Stream, Transfer};
use crate::{Error, ErrorKind, Result};
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A block of device memory. Dropped, it goes back to its device.
pub struct Memory {
    gpu: Gpu,
    address: Address,
    /// What was asked for.
    bytes: usize,
    home: Stream,
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
    compute: BTreeMap<usize, Vec<Address>>,
    /// Batch buffers, each with the event after which it may be written to.
    copy: Vec<(usize, Address, Event)>,
    /// Pinned host memory, each with the event after which it may be written to.
    pinned: Vec<Pinned>,
    in_use: usize,
    peak: usize,
}

/// Sizes are rounded up, so that nearly equal requests share buffers: to 512 bytes, from 1 MiB on to an eighth of the power of
/// two below.
fn rounded(bytes: usize) -> usize {
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

    /// `bytes` of unspecified content, for the work of `home`'s stream.
    pub fn take(&self, gpu: Gpu, bytes: usize, home: Stream) -> Result<Memory> {
        let memory = |address| Memory { gpu, address, bytes, home };
        if bytes == 0 {
            return Ok(memory(Address::NULL));
        }
        let size = if gpu.description().caches { rounded(bytes) } else { bytes };
        let mut lists = self.lock();
        lists.in_use += size;
        lists.peak = lists.peak.max(lists.in_use);
        let kept = match home {
            Stream::Compute => lists.compute.get_mut(&size).and_then(Vec::pop),
            Stream::Copy => match lists.copy.iter().position(|(s, ..)| *s == size) {
                Some(i) => {
                    let (_, address, event) = lists.copy.swap_remove(i);
                    let waits = gpu.driver().wait(Stream::Copy, event);
                    gpu.driver().destroy(event);
                    waits.map_err(|f| gpu.failed("reusing a batch buffer", f))?;
                    Some(address)
                }
                None => None,
            },
        };
        if let Some(address) = kept {
            return Ok(memory(address));
        }
        let address = match gpu.driver().allocate(size) {
            Err(f) if f.out_of_memory => {
                lists.release(gpu);
                gpu.driver().allocate(size)
            }
            other => other,
        };
        match address {
            Ok(address) => Ok(memory(address)),
            Err(failure) => {
                lists.in_use -= size;
                Err(out_of_memory(gpu, size, lists.in_use, &failure))
            }
        }
    }

    fn give(&self, gpu: Gpu, memory: &Memory) {
        let caches = gpu.description().caches;
        let size = if caches { rounded(memory.bytes) } else { memory.bytes };
        let mut lists = self.lock();
        lists.in_use -= size;
        let kept = match memory.home {
            _ if !caches => false,
            Stream::Compute => {
                lists.compute.entry(size).or_default().push(memory.address);
                true
            }
            Stream::Copy => match gpu.marked(Stream::Compute) {
                Ok(event) => {
                    lists.copy.push((size, memory.address, event));
                    true
                }
                Err(_) => false,
            },
        };
        if !kept {
            // SAFETY: the address came from this driver with this size; its only owner is being dropped. `free` lets the work
            // that was given before finish first.
            unsafe { gpu.driver().free(memory.address, size) };
        }
    }

    /// Gives all kept memory back to the driver.
    pub fn release(&self, gpu: Gpu) {
        self.lock().release(gpu);
    }

    /// Pinned memory of at least `bytes` that no copy uses any more.
    fn take_pinned(&self, gpu: Gpu, bytes: usize) -> Result<Pinned> {
        let driver = gpu.driver();
        let mut lists = self.lock();
        for i in 0..lists.pinned.len() {
            let block = &lists.pinned[i];
            // A block more than twice as large is kept for whoever needs its size.
            if (bytes..=bytes.max(4096) * 2).contains(&block.bytes)
                && driver.is_done(block.event).map_err(|f| gpu.failed("a copy", f))?
            {
                return Ok(lists.pinned.swap_remove(i));
            }
        }
        drop(lists);
        let size = bytes.next_multiple_of(4096);
        let at = driver.allocate_pinned(size).map_err(|f| gpu.failed(format!("pinning {size} bytes of memory"), f))?;
        let event = driver.event().map_err(|f| gpu.failed("making an event", f))?;
        Ok(Pinned { at, bytes: size, event })
    }

    fn give_pinned(&self, block: Pinned) {
        self.lock().pinned.push(block);
    }
}

impl Lists {
    fn release(&mut self, gpu: Gpu) {
        for (size, addresses) in std::mem::take(&mut self.compute) {
            for address in addresses {
                // SAFETY: addresses in the list came from this driver with this size and have no owner.
                unsafe { gpu.driver().free(address, size) };
            }
        }
        for (size, address, event) in std::mem::take(&mut self.copy) {
            gpu.driver().destroy(event);
            // SAFETY: as above; the work that reads the buffer is on the compute stream, which `free` waits for.
            unsafe { gpu.driver().free(address, size) };
        }
    }
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
    event: Event,
}

// SAFETY: the memory has no thread: it belongs to whoever owns the struct.
unsafe impl Send for Pinned {}
// SAFETY: there is no access through a shared reference.
unsafe impl Sync for Pinned {}

impl Gpu {
    /// Device memory of unspecified content.
    pub(crate) fn allocate(self, bytes: usize) -> Result<Memory> {
        self.pool().take(self, bytes, Stream::Compute)
    }

    /// Device memory with a copy of `data`. The host goes on at once; work on the compute stream sees the data.
    pub(crate) fn upload(self, data: &[u8]) -> Result<Memory> {
        let memory = self.allocate(data.len())?;
        self.copy_up(data, &memory, Stream::Compute)?;
        Ok(memory)
    }

    /// As [`Gpu::upload`], on the copy stream: the bytes travel while earlier kernels still run.
    pub(crate) fn upload_beside(self, data: &[u8]) -> Result<Memory> {
        let memory = self.pool().take(self, data.len(), Stream::Copy)?;
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
        let block = self.pool().take_pinned(self, data.len())?;
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
            return Ok(ReadBack { gpu: self, block: None, bytes: 0 });
        }
        let block = self.pool().take_pinned(self, from.bytes)?;
        // SAFETY: both ends have the size; the block belongs to this read-back until it is done, the device memory is reused in
        // stream order.
        let copied =
            unsafe { self.driver().copy(Stream::Compute, Transfer::Down(from.address, block.at.as_ptr()), from.bytes) };
        let marked = self.driver().record(block.event, Stream::Compute);
        let read = ReadBack { gpu: self, block: Some(block), bytes: from.bytes };
        copied.and(marked).map_err(|f| self.failed("copying from the device", f))?;
        Ok(read)
    }

    /// A copy on the device.
    pub(crate) fn duplicate(self, from: &Memory) -> Result<Memory> {
        let to = self.allocate(from.bytes)?;
        if from.bytes > 0 {
            let transfer = Transfer::Across(from.address, to.address);
            // SAFETY: both ends have the size and are reused in stream order.
            let copied = unsafe { self.driver().copy(Stream::Compute, transfer, from.bytes) };
            copied.map_err(|f| self.failed("copying on the device", f))?;
        }
        Ok(to)
    }

    /// Sets all bytes to 0.
    pub(crate) fn zero(self, memory: &mut Memory) -> Result<()> {
        if memory.bytes == 0 {
            return Ok(());
        }
        // SAFETY: the memory has the size and is reused in stream order.
        let filled = unsafe { self.driver().fill(Stream::Compute, memory.address, 0, memory.bytes) };
        filled.map_err(|f| self.failed("zeroing memory", f))
    }
}

/// Bytes on their way from the device to the host.
#[derive(Debug)]
pub(crate) struct ReadBack {
    gpu: Gpu,
    block: Option<Pinned>,
    bytes: usize,
}

impl ReadBack {
    /// Waits until the bytes have arrived and copies them into `out`.
    pub fn wait(mut self, out: &mut [u8]) -> Result<()> {
        let Some(block) = self.block.take() else { return Ok(()) };
        let arrived = self.gpu.driver().synchronize(block.event);
        if arrived.is_ok() {
            let n = self.bytes.min(out.len());
            // SAFETY: the block has at least `bytes` bytes, and the copy that wrote them is done.
            unsafe { std::ptr::copy_nonoverlapping(block.at.as_ptr(), out.as_mut_ptr(), n) };
        }
        self.gpu.pool().give_pinned(block);
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
