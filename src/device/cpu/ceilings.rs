//! What this processor can do at best, measured now: the two roofs of a roofline.

use super::gemm::Gemm;
use super::{par_chunks_mut, par_for, thread_count};
use std::hint::black_box;
use std::time::Instant;

/// The two roofs, for all threads together.
#[derive(Clone, Copy, Debug)]
pub struct Ceilings {
    /// f32 operations a second of independent fused multiply-adds on registers; one multiply-add counts two.
    pub flops: f64,
    /// Bytes a second, read and written, of a copy far larger than the caches.
    pub bytes: f64,
}

/// Measures both roofs, best of five; takes about half a second and 256 MiB.
pub fn measure() -> Ceilings {
    Ceilings { flops: multiply_add_rate(), bytes: copy_rate() }
}

const ROUNDS: usize = 200_000;

fn multiply_add_rate() -> f64 {
    let kernels = f32::kernels();
    let each = kernels.spin(1); // multiply-adds of one round; wakes the wide registers up as well
    let seconds = best(|| {
        par_for(thread_count(), |_| {
            black_box(kernels.spin(black_box(ROUNDS)));
        });
    });
    2.0 * (each * ROUNDS * thread_count()) as f64 / seconds
}

fn copy_rate() -> f64 {
    let from = vec![1u8; 128 << 20];
    let mut to = vec![0u8; 128 << 20];
    let seconds = best(|| {
        par_chunks_mut(&mut to, 1 << 20, |i, piece| piece.copy_from_slice(&from[i << 20..][..piece.len()]));
    });
    2.0 * from.len() as f64 / seconds
}

fn best(mut f: impl FnMut()) -> f64 {
    let time = |_| {
        let start = Instant::now();
        f();
        start.elapsed().as_secs_f64()
    };
    (0..5).map(time).fold(f64::INFINITY, f64::min)
}
