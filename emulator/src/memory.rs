//! The emulated device's memory: buffers by address, each with its exact size between two red zones.
//!
//! New memory holds 0xFF in every byte, which is NaN in every float format: a result that came from memory nobody wrote shows
//! itself. Beside each buffer lies a bit for every byte, set when the host or a checked kernel writes it; so the checker can tell
//! a read of such memory with its place.
//!
//! A kernel that runs without the checker writes unseen. After such a launch nothing that then existed counts as unwritten.
//!
//! Freed buffers stay mapped, filled with 0xFF again, until newer ones push them out of the quarantine: an address that outlives
//! its buffer leads to NaN and to a finding, never into somebody else's memory.

use crate::ffi;
use std::alloc::{Layout, alloc, dealloc};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

/// Bytes before and behind each buffer that belong to nobody; also what addresses are multiples of.
pub const RED_ZONE: usize = 256;
/// What unwritten memory holds.
const FILLING: u8 = 0xff;
/// Freed bytes that are kept to catch late uses.
const QUARANTINE: usize = 64 << 20;

/// Why the memory refused something, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryError {
    /// There is not enough memory; nothing else is wrong.
    pub out_of_memory: bool,
    message: String,
}

impl fmt::Display for MemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for MemoryError {}

fn refuse<T>(message: String) -> Result<T, MemoryError> {
    Err(MemoryError { out_of_memory: false, message })
}

/// One allocation with its red zones.
pub(crate) struct Buffer {
    start: NonNull<u8>,
    layout: Layout,
    size: usize,
    written: Vec<AtomicU64>,
    /// The count of unchecked launches when it was made.
    born: u64,
}

// SAFETY: the bytes are only touched through raw pointers, by whom the callers of `launch` and of the copies allow.
unsafe impl Send for Buffer {}
// SAFETY: as above; the bits are atomic.
unsafe impl Sync for Buffer {}

impl Buffer {
    fn new(size: usize, born: u64) -> Option<Buffer> {
        let total = size.checked_add(2 * RED_ZONE)?;
        let layout = Layout::from_size_align(total, RED_ZONE).ok()?;
        // SAFETY: the layout isn't empty.
        let start = NonNull::new(unsafe { alloc(layout) })?;
        // SAFETY: `total` bytes were just allocated.
        unsafe { start.write_bytes(FILLING, total) };
        let written = std::iter::repeat_with(|| AtomicU64::new(0)).take(size.div_ceil(64)).collect();
        Some(Buffer { start, layout, size, written, born })
    }

    fn base(&self) -> *mut u8 {
        self.start.as_ptr().wrapping_add(RED_ZONE)
    }

    fn mark(&self, from: usize, bytes: usize) {
        let (mut at, end) = (from, from + bytes);
        while at < end {
            let n = (64 - at % 64).min(end - at);
            let bits = if n == 64 { u64::MAX } else { ((1 << n) - 1) << (at % 64) };
            self.written[at / 64].fetch_or(bits, Relaxed);
            at += n;
        }
    }

    /// The marks of at most 64 bytes from `at` on, the first in the lowest bit.
    fn marks(&self, at: usize, bytes: usize) -> u64 {
        let word = |i: usize| self.written.get(i).map_or(0, |w| w.load(Relaxed));
        let low = word(at / 64) >> (at % 64);
        let high = if at.is_multiple_of(64) { 0 } else { word(at / 64 + 1) << (64 - at % 64) };
        (low | high) & if bytes == 64 { u64::MAX } else { (1 << bytes) - 1 }
    }

    fn add_marks(&self, at: usize, bits: u64) {
        self.written[at / 64].fetch_or(bits << (at % 64), Relaxed);
        if !at.is_multiple_of(64) && bits >> (64 - at % 64) != 0 {
            self.written[at / 64 + 1].fetch_or(bits >> (64 - at % 64), Relaxed);
        }
    }

    /// In words, if somebody wrote into a red zone.
    fn intact(&self) -> Result<(), MemoryError> {
        let (address, size) = (self.base() as u64, self.size);
        match self.damage() {
            None => Ok(()),
            Some(at) if at < 0 => {
                refuse(format!("something wrote {} bytes before the buffer at {address:#x} ({size} bytes)", -at))
            }
            Some(at) => refuse(format!(
                "something wrote {} bytes behind the end of the buffer at {address:#x} ({size} bytes)",
                at - size as i64
            )),
        }
    }

    /// Where the first byte of a red zone lies that somebody wrote, as an offset from the buffer.
    fn damage(&self) -> Option<i64> {
        let zone = |from: *const u8| {
            // SAFETY: both zones are part of the allocation.
            let bytes = unsafe { std::slice::from_raw_parts(from, RED_ZONE) };
            bytes.iter().position(|&b| b != FILLING)
        };
        zone(self.start.as_ptr())
            .map(|i| i as i64 - RED_ZONE as i64)
            .or_else(|| zone(self.base().wrapping_add(self.size)).map(|i| (self.size + i) as i64))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and freed only here.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

#[derive(Default)]
struct State {
    live: BTreeMap<u64, Arc<Buffer>>,
    freed: VecDeque<Arc<Buffer>>,
    in_use: usize,
    peak: usize,
    quarantined: usize,
    unchecked_launches: u64,
}

/// The memory of one emulated device.
pub struct Memory {
    limit: usize,
    state: Mutex<State>,
}

impl Default for Memory {
    fn default() -> Memory {
        Memory::new()
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memory({} of {} bytes in use)", self.in_use(), self.limit)
    }
}

/// The buffers as they are at a launch.
pub(crate) struct Snapshot {
    pub(crate) regions: Vec<ffi::Region>,
    _alive: Vec<Arc<Buffer>>,
}

impl Memory {
    /// As much as the machine has.
    pub fn new() -> Memory {
        Memory::with_limit(usize::MAX)
    }

    /// A device with `bytes` of memory, red zones not counted: requests beyond them fail as on a GPU that is full.
    pub fn with_limit(bytes: usize) -> Memory {
        Memory { limit: bytes, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// `bytes` (not 0) of new memory, at an address that is a multiple of 256.
    ///
    /// # Errors
    /// There is not enough, or 0 bytes are asked for.
    pub fn allocate(&self, bytes: usize) -> Result<u64, MemoryError> {
        if bytes == 0 {
            return refuse("an allocation of 0 bytes".into());
        }
        let mut state = self.state();
        let short = || MemoryError {
            out_of_memory: true,
            message: format!("the emulated device has no room for {bytes} bytes more (limit {})", self.limit),
        };
        if state.in_use.checked_add(bytes).is_none_or(|sum| sum > self.limit) {
            return Err(short());
        }
        let buffer = Buffer::new(bytes, state.unchecked_launches).ok_or_else(short)?;
        let address = buffer.base() as u64;
        state.in_use += bytes;
        state.peak = state.peak.max(state.in_use);
        state.live.insert(address, Arc::new(buffer));
        Ok(address)
    }

    /// Gives a buffer back.
    ///
    /// # Errors
    /// No live buffer begins at `address`, for instance because it was freed before; or somebody wrote next to it (it is freed then).
    pub fn free(&self, address: u64) -> Result<(), MemoryError> {
        let mut state = self.state();
        let Some(buffer) = state.live.remove(&address) else {
            if state.freed.iter().any(|b| b.base() as u64 == address) {
                return refuse(format!("the buffer at {address:#x} was freed before"));
            }
            return refuse(format!("{address:#x} is no buffer's beginning"));
        };
        let damage = buffer.intact();
        // SAFETY: the buffer's own bytes; the caller is done with them.
        unsafe { buffer.base().write_bytes(FILLING, buffer.size) };
        let size = buffer.size;
        state.in_use -= size;
        state.quarantined += size;
        state.freed.push_back(buffer);
        while state.quarantined > QUARANTINE
            && let Some(oldest) = state.freed.pop_front()
        {
            state.quarantined -= oldest.size;
        }
        damage
    }

    /// Looks whether all red zones are as they were: a cheap test for writes out of bounds after launches without the checker.
    ///
    /// # Errors
    /// Somebody wrote next to a buffer.
    pub fn verify(&self) -> Result<(), MemoryError> {
        self.state().live.values().try_for_each(|b| b.intact())
    }

    /// The buffer that holds all of `address .. address + bytes`, and where in it that lies.
    fn locate(&self, address: u64, bytes: usize) -> Result<(Arc<Buffer>, usize), MemoryError> {
        let state = self.state();
        if let Some((&base, buffer)) = state.live.range(..=address).next_back() {
            let at = (address - base) as usize;
            if at < buffer.size || (at == buffer.size && bytes == 0) {
                if bytes > buffer.size - at {
                    return refuse(format!(
                        "{bytes} bytes from offset {at} reach beyond a buffer of {} bytes",
                        buffer.size
                    ));
                }
                return Ok((buffer.clone(), at));
            }
        }
        let dead = |b: &&Arc<Buffer>| (b.base() as u64..b.base() as u64 + b.size as u64).contains(&address);
        if state.freed.iter().any(|b| dead(&b)) {
            return refuse(format!("{address:#x} lies in a buffer that was freed"));
        }
        refuse(format!("{address:#x} lies in no buffer"))
    }

    /// Copies from the host.
    ///
    /// # Errors
    /// The range is not inside one live buffer.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        let (buffer, at) = self.locate(address, bytes.len())?;
        // SAFETY: `locate` checked the range.
        unsafe { buffer.base().add(at).copy_from(bytes.as_ptr(), bytes.len()) };
        buffer.mark(at, bytes.len());
        Ok(())
    }

    /// Copies to the host.
    ///
    /// # Errors
    /// The range is not inside one live buffer.
    pub fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), MemoryError> {
        let (buffer, at) = self.locate(address, bytes.len())?;
        // SAFETY: `locate` checked the range.
        unsafe { buffer.base().add(at).copy_to(bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    /// Copies within the device. The ranges may overlap. What was unwritten stays so at its new place.
    ///
    /// # Errors
    /// A range is not inside one live buffer.
    pub fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<(), MemoryError> {
        let (source, a) = self.locate(from, bytes)?;
        let (target, b) = self.locate(to, bytes)?;
        // SAFETY: `locate` checked both ranges.
        unsafe { target.base().add(b).copy_from(source.base().add(a), bytes) };
        let assumed = self.state().unchecked_launches > source.born;
        if assumed {
            target.mark(b, bytes);
        } else {
            for i in (0..bytes).step_by(64) {
                target.add_marks(b + i, source.marks(a + i, (bytes - i).min(64)));
            }
        }
        Ok(())
    }

    /// Sets every byte.
    ///
    /// # Errors
    /// The range is not inside one live buffer.
    pub fn fill(&self, address: u64, value: u8, bytes: usize) -> Result<(), MemoryError> {
        let (buffer, at) = self.locate(address, bytes)?;
        // SAFETY: `locate` checked the range.
        unsafe { buffer.base().add(at).write_bytes(value, bytes) };
        buffer.mark(at, bytes);
        Ok(())
    }

    /// Bytes allocated now.
    pub fn in_use(&self) -> usize {
        self.state().in_use
    }

    /// The most bytes that were ever allocated at a time.
    pub fn peak(&self) -> usize {
        self.state().peak
    }

    /// Buffers alive now.
    pub fn buffers(&self) -> usize {
        self.state().live.len()
    }

    /// From now on nothing that exists counts as unwritten.
    pub(crate) fn unchecked_launch(&self) {
        self.state().unchecked_launches += 1;
    }

    /// Live and freed buffers, sorted by address. They stay mapped as long as the snapshot lives.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let state = self.state();
        let region = |b: &Arc<Buffer>, freed: bool| ffi::Region {
            base: b.base() as u64,
            size: b.size as u64,
            written: b.written.as_ptr() as *mut u64,
            known: u32::from(state.unchecked_launches > b.born),
            freed: u32::from(freed),
        };
        let alive: Vec<_> = state.live.values().chain(&state.freed).cloned().collect();
        let mut regions: Vec<_> = alive.iter().enumerate().map(|(i, b)| region(b, i >= state.live.len())).collect();
        regions.sort_by_key(|r| r.base);
        Snapshot { regions, _alive: alive }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_and_bounds_hold() {
        let memory = Memory::new();
        let a = memory.allocate(10).unwrap();
        assert_eq!(a % 256, 0);
        let mut out = [0; 10];
        memory.read(a, &mut out).unwrap();
        assert_eq!(out, [0xff; 10]);
        memory.write(a + 2, &[1, 2, 3]).unwrap();
        memory.fill(a + 9, 7, 1).unwrap();
        memory.read(a, &mut out).unwrap();
        assert_eq!(out, [255, 255, 1, 2, 3, 255, 255, 255, 255, 7]);
        for (at, n) in [(a, 11), (a + 10, 1), (a - 1, 1), (0, 1)] {
            assert!(memory.write(at, &vec![0; n]).is_err(), "{n} bytes at {at:#x}");
        }
        let b = memory.allocate(4).unwrap();
        memory.copy(a + 1, b, 4).unwrap();
        let mut out = [0; 4];
        memory.read(b, &mut out).unwrap();
        assert_eq!(out, [255, 1, 2, 3]);
        assert!(memory.copy(a, b, 5).is_err());
        assert_eq!((memory.in_use(), memory.buffers()), (14, 2));
        memory.free(a).unwrap();
        assert!(memory.free(a).unwrap_err().to_string().contains("freed before"));
        assert!(memory.read(a, &mut out).unwrap_err().to_string().contains("was freed"));
        assert!(memory.free(a + 1).is_err());
        assert_eq!((memory.in_use(), memory.peak()), (4, 14));
    }

    #[test]
    fn a_copy_takes_along_what_is_written() {
        let memory = Memory::new();
        let (n, from, to) = (300usize, 7usize, 90usize);
        let (a, b) = (memory.allocate(500).unwrap(), memory.allocate(500).unwrap());
        let written = |i: usize| !i.is_multiple_of(5) && !(130..200).contains(&i);
        for i in (0..500).filter(|&i| written(i)) {
            memory.fill(a + i as u64, 1, 1).unwrap();
        }
        memory.copy(a + from as u64, b + to as u64, n).unwrap();
        let target = memory.state().live[&b].clone();
        for i in 0..500 {
            let want = (to..to + n).contains(&i) && written(i - to + from);
            assert_eq!(target.marks(i, 1) == 1, want, "byte {i}");
        }
    }

    #[test]
    fn a_full_device_says_so() {
        let memory = Memory::with_limit(100);
        let a = memory.allocate(60).unwrap();
        assert!(memory.allocate(41).unwrap_err().out_of_memory);
        assert!(!memory.allocate(0).unwrap_err().out_of_memory);
        memory.free(a).unwrap();
        memory.allocate(100).unwrap();
    }

    #[test]
    fn free_notices_writes_next_to_the_buffer() {
        for (at, word) in [(-3i64, "3 bytes before"), (9, "1 bytes behind")] {
            let memory = Memory::new();
            let a = memory.allocate(8).unwrap();
            // SAFETY: the red zones belong to the allocation.
            unsafe { *((a as i64 + at) as *mut u8) = 1 };
            assert!(memory.verify().unwrap_err().to_string().contains(word));
            assert!(memory.free(a).unwrap_err().to_string().contains(word));
        }
    }
}
