//! Byte buffers that a worker thread uses again.
//!
//! A picture needs three or four buffers of half a megabyte, each for a millisecond. Allocators return such blocks to the
//! system at once, and the next picture's first touch of every page is a trap into the kernel: of `Resize(460)`'s time that
//! was two thirds, and decoding with `Resize(460)` went from 560 to 805 pictures a second on one core of a Xeon when buffers
//! were kept (500x375, 40 KB JPEGs). So each thread keeps a few buffers. Whoever is done with one may [`give`] it; whoever forgets merely
//! frees it.
//!
//! Kept per thread at most: [`KEPT`] buffers of [`LARGEST`] bytes.

use std::cell::RefCell;

/// Buffers kept by a thread.
const KEPT: usize = 4;
/// Larger buffers are freed: a single panorama should not stay for the rest of the run.
const LARGEST: usize = 16 << 20;

thread_local! {
    static FREE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer with room for `len` bytes.
pub(crate) fn empty(len: usize) -> Vec<u8> {
    FREE.with_borrow_mut(|free| {
        let fitting = (0..free.len()).filter(|&i| free[i].capacity() >= len).min_by_key(|&i| free[i].capacity());
        fitting.map(|i| free.swap_remove(i))
    })
    .map(|mut bytes| {
        bytes.clear();
        bytes
    })
    .unwrap_or_else(|| Vec::with_capacity(len))
}

/// A buffer of `len` zeros.
pub(crate) fn zeroed(len: usize) -> Vec<u8> {
    let mut bytes = empty(len);
    bytes.resize(len, 0);
    bytes
}

/// Keeps a buffer for the next one who asks.
pub(crate) fn give(bytes: Vec<u8>) {
    if bytes.capacity() == 0 || bytes.capacity() > LARGEST {
        return;
    }
    FREE.with_borrow_mut(|free| {
        free.push(bytes);
        if free.len() > KEPT {
            let smallest = (0..free.len()).min_by_key(|&i| free[i].capacity()).unwrap_or(0);
            free.swap_remove(smallest);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_and_their_number_is_bounded() {
        let bytes = vec![7u8; 1000];
        let at = bytes.as_ptr();
        give(bytes);
        let again = zeroed(900);
        assert!(again.as_ptr() == at && again == [0; 900]);
        (1..20).for_each(|i| give(vec![0; i * 10]));
        give(vec![0; LARGEST + 1]);
        assert_eq!(FREE.with_borrow(Vec::len), KEPT);
        assert!(empty(5000).capacity() >= 5000);
    }
}
