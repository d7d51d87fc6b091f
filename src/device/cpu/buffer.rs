//! Host memory that is kept and reused.
//!
//! A training step asks for the same few hundred buffers every time. Given back to the system, each large one would be
//! unmapped and mapped again, and every page of it faulted in and zeroed: at 160 MB of activations a step that is some
//! 40,000 page faults. So a dropped [`Buffer`] goes to a free list by size, and the next request of that size takes it.
//! The list holds at most [`set_keep_limit`] bytes (default 2 GiB); beyond it, buffers go back to the system.
//!
//! Memory is aligned to 64 bytes, one cache line and one AVX-512 register. A recycled buffer holds old numbers: it is
//! initialised memory in Rust's sense, and an operation that forgets to write an element is found by the tests, which run
//! with [`poison`] on.

use bytemuck::{Pod, Zeroable};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// 64 bytes, aligned to 64.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

// SAFETY: `Line` is 64 plain bytes without padding; every bit pattern, zero included, is a value of it.
unsafe impl Zeroable for Line {}
// SAFETY: as above; it is `Copy`, has no interior mutability, no pointers, and its size (64) is a multiple of its alignment.
unsafe impl Pod for Line {}

/// A block of host memory, aligned to 64 bytes; see the [module](self).
pub struct Buffer {
    lines: Vec<Line>,
    bytes: usize,
}

struct FreeList {
    by_lines: BTreeMap<usize, Vec<Vec<Line>>>,
    kept: usize,
}

static FREE: Mutex<FreeList> = Mutex::new(FreeList { by_lines: BTreeMap::new(), kept: 0 });
static KEEP_LIMIT: AtomicUsize = AtomicUsize::new(2 << 30);
static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static POISON: AtomicBool = AtomicBool::new(false);

/// Buffers smaller than this are left to the system's allocator, which is fast for them.
const SMALL: usize = 4096;

impl Buffer {
    /// `bytes` bytes of unspecified value.
    pub fn uninit(bytes: usize) -> Buffer {
        let lines = bytes.div_ceil(64);
        let taken = if bytes >= SMALL { take(lines) } else { None };
        let mut memory = taken.unwrap_or_else(|| vec![Line([0; 64]); lines]);
        if POISON.load(Ordering::Relaxed) {
            memory.fill(Line([0xff; 64])); // NaN in every float format, -1 in integers
        }
        let now = IN_USE.fetch_add(lines * 64, Ordering::Relaxed) + lines * 64;
        PEAK.fetch_max(now, Ordering::Relaxed);
        Buffer { lines: memory, bytes }
    }

    /// The memory as numbers.
    pub fn as_slice<T: Pod>(&self) -> &[T] {
        bytemuck::cast_slice(&bytemuck::cast_slice::<Line, u8>(&self.lines)[..self.bytes])
    }

    /// The memory as numbers to write.
    pub fn as_mut_slice<T: Pod>(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(&mut bytemuck::cast_slice_mut::<Line, u8>(&mut self.lines)[..self.bytes])
    }
}

fn take(lines: usize) -> Option<Vec<Line>> {
    let mut free = FREE.lock().unwrap_or_else(|e| e.into_inner());
    let found = free.by_lines.get_mut(&lines)?.pop()?;
    free.kept -= lines * 64;
    Some(found)
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let lines = self.lines.len();
        IN_USE.fetch_sub(lines * 64, Ordering::Relaxed);
        if self.bytes < SMALL {
            return;
        }
        let mut free = FREE.lock().unwrap_or_else(|e| e.into_inner());
        if free.kept + lines * 64 <= KEEP_LIMIT.load(Ordering::Relaxed) {
            free.kept += lines * 64;
            free.by_lines.entry(lines).or_default().push(std::mem::take(&mut self.lines));
        }
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} bytes)", self.bytes)
    }
}

/// Sets how many bytes of unused buffers are kept for reuse; 0 keeps none.
pub fn set_keep_limit(bytes: usize) {
    KEEP_LIMIT.store(bytes, Ordering::Relaxed);
    if bytes == 0 {
        release();
    }
}

/// Gives all unused buffers back to the system.
pub fn release() {
    let mut free = FREE.lock().unwrap_or_else(|e| e.into_inner());
    free.by_lines.clear();
    free.kept = 0;
}

/// Fills every new buffer with NaN patterns, so that an element nobody wrote is noticed. Tests switch it on.
pub fn poison(on: bool) {
    POISON.store(on, Ordering::Relaxed);
}

/// Bytes in use now, and the most that ever were.
pub fn usage() -> (usize, usize) {
    (IN_USE.load(Ordering::Relaxed), PEAK.load(Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligned_and_reused() {
        let mut a = Buffer::uninit(100_000 * 4);
        assert_eq!(a.as_slice::<f32>().as_ptr() as usize % 64, 0);
        a.as_mut_slice::<f32>().fill(1.0);
        let at = a.as_slice::<f32>().as_ptr();
        drop(a);
        // Other tests share the free list, but hardly ask for exactly this size.
        assert_eq!(Buffer::uninit(100_000 * 4).as_slice::<f32>().as_ptr(), at);
        assert_eq!(Buffer::uninit(0).as_slice::<f64>().len(), 0);
        assert_eq!(Buffer::uninit(3).as_slice::<u8>().len(), 3);
    }
}
