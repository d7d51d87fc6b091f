//! What this GPU can do at best, measured now: the roof over memory.
//!
//! There is none over arithmetic. A datasheet's figure isn't what a card reaches, and no kernel here measures it.

use super::Gpu;
use super::driver::{Stream, Transfer};
use crate::Result;
use std::time::Instant;

/// Bytes a second, read and written, of the driver's copy of `bytes` on the device: the median of eleven samples. To say something of
/// the memory, `bytes` has to be far more than the caches hold.
///
/// # Errors
/// The device has too little memory, or fails.
pub fn copy_rate(gpu: Gpu, bytes: usize) -> Result<f64> {
    /// Copies of a sample, so that waiting for the last one doesn't count.
    const COPIES: usize = 5;
    // A fixed value wouldn't do: memory that compresses may be faster.
    let piece: Vec<u8> = (0..bytes.min(1 << 20)).map(|i| (i * 7919 % 251) as u8).collect();
    let (from, to) = (gpu.allocate(bytes)?, gpu.allocate(bytes)?);
    let piece_there = gpu.upload(&piece)?;
    let copy = |transfer, n| {
        // SAFETY: both ends are device memory of at least `n` bytes that lives until the end of this function, which waits.
        unsafe { gpu.driver().copy(Stream::Compute, transfer, n) }.map_err(|f| gpu.failed("copying on the device", f))
    };
    for at in (0..bytes).step_by(piece.len().max(1)) {
        copy(Transfer::Across(piece_there.address(), from.address().offset(at)), piece.len().min(bytes - at))?;
    }
    let mut samples = Vec::new();
    for _ in 0..12 {
        gpu.synchronize()?;
        let start = Instant::now();
        for _ in 0..COPIES {
            copy(Transfer::Across(from.address(), to.address()), bytes)?;
        }
        gpu.synchronize()?;
        samples.push((2 * bytes * COPIES) as f64 / start.elapsed().as_secs_f64());
    }
    samples.remove(0); // it touched the memory for the first time
    samples.sort_by(f64::total_cmp);
    Ok(samples[samples.len() / 2])
}
