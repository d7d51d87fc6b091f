//! What this GPU can do at best, measured now: the roofs of a roofline.
//!
//! A datasheet's figure isn't what a card reaches, and another program's figure was taken at another clock. So each roof is a loop of
//! ours with nothing in its way (`kernels/ceilings.cu` says what limits each), timed in the process that measures the rest. Each
//! takes a tenth of a second or less, which is too short for a card to get hot: a roof is what it does while it is cool.
//!
//! The roof over arithmetic is that of the instruction which our kernels are made of: [`Ceilings::mma`] of `mma.sync`,
//! [`Ceilings::fma`] of the f32 units. On a Hopper card the tensor cores can do more than the first, with instructions that no kernel
//! here uses yet.

use super::driver::{Launch, Stream, THREADS, Transfer};
use super::kernels::{KernelId, kernel};
use super::launch::Parameters;
use super::{Gpu, Memory};
use crate::tensor::DType;
use crate::{Error, ErrorKind, Result};
use std::time::Instant;

/// The roofs of one GPU.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ceilings {
    /// Bytes a second, read and written, of a copy that is far larger than the caches.
    pub copy: f64,
    /// Bytes a second of reading 20 MB again and again, from the second-level cache.
    pub l2_read: f64,
    /// f32 operations a second outside the tensor cores; one multiply-add counts two.
    pub fma: f64,
    /// Operations a second of `mma.sync` in f16, in bf16 and in tf32, with f32 sums.
    pub mma: [f64; 3],
    /// Seconds from one empty kernel to the next in the stream.
    pub launch_gap: f64,
    /// The same where many are one graph; the stream's where the device makes none.
    pub graph_gap: f64,
}

impl Ceilings {
    /// Operations a second that products in `dtype` can reach, and the name of the instruction whose roof that is. f32 is computed by the
    /// tensor cores, in tf32, or outside of them.
    pub fn math(&self, dtype: DType, tf32: bool) -> (f64, &'static str) {
        match dtype {
            DType::F16 => (self.mma[0], "mma.sync"),
            DType::BF16 => (self.mma[1], "mma.sync"),
            _ if tf32 => (self.mma[2], "mma.sync tf32"),
            _ => (self.fma, "fma"),
        }
    }
}

/// Pieces of the buffer in the second-level cache, each 16 KB; a prime number, as the kernel asks for.
const PIECES: usize = 1279;
/// Bytes of a piece: four 16-byte loads of each thread of a block.
const PIECE: usize = 4 * 16 * THREADS as usize;
/// FLOP of a warp in one step of `ceiling_mma`: 8 products of 16x16 by 16x8.
const MMA_STEP: usize = 8 * 2 * 16 * 16 * 8;
/// FLOP of a thread in one step of `ceiling_fma`: 16 multiply-adds.
const FMA_STEP: usize = 16 * 2;

/// Measures all roofs. With `tiny` each loop runs only a few times, which shows that it works and measures nothing.
///
/// # Errors
/// The device has too little memory (2 GiB are needed), or fails.
pub fn measure(gpu: Gpu, tiny: bool) -> Result<Ceilings> {
    // Many more blocks than a card holds at once, so that the last ones don't count.
    let (blocks, samples) = if tiny { (2, 1) } else { (4224, 11) };
    let pick = |steps: i32| if tiny { 3 } else { steps };
    let (threads, warps) = (blocks * THREADS as usize, blocks * THREADS as usize / 32);
    let out = gpu.allocate(threads * 4)?;
    let rate = |work: usize, seconds: f64| work as f64 / seconds;
    let loops = Loops { gpu, blocks, samples };

    let pieces = if tiny { 3 } else { PIECES };
    let buffer = gpu.allocate(pieces * PIECE)?;
    fill(gpu, &buffer)?;
    let steps = pick(320);
    // SAFETY: the buffer is so many pieces, of which the kernel reads no others; `out` has a word for each thread, here and below.
    let seconds =
        unsafe { loops.time(kernel!("ceiling_l2_read"), (buffer.address(), out.address(), pieces as i32, steps)) }?;
    let l2_read = rate(blocks * steps as usize * PIECE, seconds);

    let steps = pick(1200);
    let mut mma = [0.0; 3];
    let kernels = [kernel!("ceiling_mma<f16>"), kernel!("ceiling_mma<bf16>"), kernel!("ceiling_mma<f32>")];
    // A product of tf32 is half as deep.
    for ((rate_of, kernel), step) in mma.iter_mut().zip(kernels).zip([MMA_STEP, MMA_STEP, MMA_STEP / 2]) {
        // SAFETY: as above.
        let seconds = unsafe { loops.time(kernel, (out.address(), steps)) }?;
        *rate_of = rate(warps * steps as usize * step, seconds);
    }

    let steps = pick(4000);
    // SAFETY: as above.
    let seconds = unsafe { loops.time(kernel!("ceiling_fma"), (0.999f32, 0.5f32, out.address(), steps)) }?;
    let fma = rate(threads * steps as usize * FMA_STEP, seconds);

    let launches = if tiny { 2 } else { 2000 };
    let empty = || -> Result<()> {
        for _ in 0..launches {
            let launch = Launch { grid: [1; 3], block: [32, 1, 1], shared: 0 };
            // SAFETY: it takes a number, and touches nothing.
            unsafe { gpu.launch(kernel!("ceiling_empty"), launch, (0i32,)) }?;
        }
        Ok(())
    };
    let launch_gap = median(gpu, samples, empty)? / f64::from(launches);
    let graph_gap = gpu.with_graphs(|| {
        // The second time it becomes a graph, which the median doesn't see.
        gpu.step(("ceiling", 0), empty)?;
        median(gpu, samples, || gpu.step(("ceiling", 0), empty))
    })? / f64::from(launches);

    let copy = copy_rate(gpu, if tiny { 1 << 20 } else { 1 << 30 })?;
    Ok(Ceilings { copy, l2_read, fma, mma, launch_gap, graph_gap })
}

struct Loops {
    gpu: Gpu,
    blocks: usize,
    samples: usize,
}

impl Loops {
    /// Seconds of one launch.
    ///
    /// # Safety
    /// As [`Gpu::launch`].
    unsafe fn time(&self, kernel: KernelId, parameters: impl Parameters + Copy) -> Result<f64> {
        /// Launches of a sample, so that waiting for the last one doesn't count.
        const LAUNCHES: u32 = 3;
        let seconds = median(self.gpu, self.samples, || {
            for _ in 0..LAUNCHES {
                // SAFETY: the caller's promise.
                unsafe { self.gpu.launch(kernel, Launch::blocks(self.blocks), parameters) }?;
            }
            Ok(())
        })?;
        Ok(seconds / f64::from(LAUNCHES))
    }
}

/// The median of so many samples, in seconds, after one that isn't counted.
fn median(gpu: Gpu, samples: usize, mut f: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut seconds = Vec::with_capacity(samples);
    for i in 0..=samples {
        gpu.synchronize()?;
        let start = Instant::now();
        f()?;
        gpu.synchronize()?;
        if i > 0 {
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied().ok_or_else(|| Error::new(ErrorKind::Argument, "no sample was asked for"))
}

/// Bytes a second, read and written, of the driver's copy of `bytes` on the device: the median of eleven samples. To say something of
/// the memory, `bytes` has to be far more than the caches hold.
///
/// # Errors
/// The device has too little memory, or fails.
pub fn copy_rate(gpu: Gpu, bytes: usize) -> Result<f64> {
    /// Copies of a sample, so that waiting for the last one doesn't count.
    const COPIES: usize = 5;
    let (from, to) = (gpu.allocate(bytes)?, gpu.allocate(bytes)?);
    fill(gpu, &from)?;
    let seconds = median(gpu, 11, || (0..COPIES).try_for_each(|_| copy(gpu, &from, &to, 0, bytes)))?;
    Ok((2 * bytes * COPIES) as f64 / seconds)
}

/// Fills memory with numbers that repeat after a MiB. A fixed value wouldn't do: memory that compresses may be faster.
fn fill(gpu: Gpu, memory: &Memory) -> Result<()> {
    let piece: Vec<u8> = (0..memory.bytes().min(1 << 20)).map(|i| (i * 7919 % 251) as u8).collect();
    let there = gpu.upload(&piece)?;
    (0..memory.bytes())
        .step_by(piece.len().max(1))
        .try_for_each(|at| copy(gpu, &there, memory, at, piece.len().min(memory.bytes() - at)))
}

/// The first `n` bytes of `from` to the place `at` of `to`.
fn copy(gpu: Gpu, from: &Memory, to: &Memory, at: usize, n: usize) -> Result<()> {
    debug_assert!(n <= from.bytes() && at + n <= to.bytes());
    let transfer = Transfer::Across(from.address(), to.address().offset(at));
    // SAFETY: both ends are device memory of this size, and memory is given back in the stream's order.
    unsafe { gpu.driver().copy(Stream::Compute, transfer, n) }.map_err(|f| gpu.failed("copying on the device", f))
}
