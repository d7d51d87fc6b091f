//! The thread pool that kernels run on.
//!
//! The pool is this crate's own: a program that embeds the trainer keeps rayon's global pool to itself. How many threads is
//! decided once, by [`set_threads`], else by `ONECYCLE_THREADS`, else by the processor.
//!
//! Work is always cut into pieces by the *size of the problem*, never by the number of threads, and every piece writes its
//! own part of the output. So results are the same bits with 1 thread and with 64.

use rayon::prelude::*;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Elements of one piece of element-wise work: 64 KiB of f32, big enough to pay for the hand-over to a thread.
pub const PIECE: usize = 16 * 1024;

static WANTED: AtomicUsize = AtomicUsize::new(0);
static POOL: OnceLock<Option<rayon::ThreadPool>> = OnceLock::new();

/// Sets how many threads kernels use; takes effect if no kernel has run yet, and says whether it did.
pub fn set_threads(n: usize) -> bool {
    WANTED.store(n.max(1), Ordering::Relaxed);
    POOL.get().is_none() || thread_count() == n
}

/// How many threads kernels use.
pub fn thread_count() -> usize {
    pool().map_or(1, rayon::ThreadPool::current_num_threads)
}

fn wanted() -> usize {
    let set = WANTED.load(Ordering::Relaxed);
    if set > 0 {
        return set;
    }
    let from_env =
        std::env::var("ONECYCLE_THREADS").ok().and_then(|v| v.parse().ok()).filter(|&n| (1..=4096).contains(&n));
    from_env.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// `None` where threads cannot be started at all: everything then runs on the caller's.
fn pool() -> Option<&'static rayon::ThreadPool> {
    POOL.get_or_init(|| {
        let builder = rayon::ThreadPoolBuilder::new().num_threads(wanted());
        builder.thread_name(|i| format!("onecycle-{i}")).build().ok()
    })
    .as_ref()
}

/// Runs `f` on the pool, so that parallel iterators inside it use its threads.
pub fn install<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    match pool() {
        Some(pool) => pool.install(f),
        None => f(),
    }
}

/// Runs `f(i)` for `i` in `0..n` on the pool.
pub fn par_for(n: usize, f: impl Fn(usize) + Send + Sync) {
    match n {
        0 => {}
        1 => f(0),
        _ => install(|| (0..n).into_par_iter().with_max_len(1).for_each(f)),
    }
}

/// As [`par_chunks_mut`] with two outputs, cut into equally many pieces of `sizes.0` and `sizes.1` elements.
pub fn par_chunks2_mut<A: Send, B: Send>(
    (a, b): (&mut [A], &mut [B]),
    sizes: (usize, usize),
    f: impl Fn(usize, &mut [A], &mut [B]) + Send + Sync,
) {
    if a.is_empty() || b.is_empty() {
        return;
    }
    debug_assert_eq!(a.len().div_ceil(sizes.0), b.len().div_ceil(sizes.1));
    let pieces = a.par_chunks_mut(sizes.0).zip(b.par_chunks_mut(sizes.1));
    install(|| pieces.enumerate().for_each(|(i, (a, b))| f(i, a, b)));
}

/// Cuts `out` into pieces of `size` elements and runs `f(index, piece)` on each, in parallel.
pub fn par_chunks_mut<T: Send>(out: &mut [T], size: usize, f: impl Fn(usize, &mut [T]) + Send + Sync) {
    if out.len() <= size {
        if !out.is_empty() {
            f(0, out);
        }
        return;
    }
    install(|| out.par_chunks_mut(size).enumerate().for_each(|(i, piece)| f(i, piece)));
}
