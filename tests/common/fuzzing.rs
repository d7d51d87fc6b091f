//! Damage by the thousand, for readers of files: cases that are always the same, what spoils a file, and what reading it holds at most.
//! A test program that names this module counts its memory.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, counting for each thread what it holds and has held at most.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    // A thread that is ending has no counters any more.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + change);
        PEAK.try_with(|peak| peak.set(peak.get().max(held.get())))
    });
}

// SAFETY: every call goes to the system's allocator with the caller's own arguments; counting allocates nothing, since both
// counters are constants without destructors.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as above; `at` came from the system's allocator.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// What `work` returns, and the bytes that it held at most on this thread.
pub fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    PEAK.set(before);
    let result = work();
    (result, (PEAK.get() - before) as usize)
}

/// Runs `test` on `default` cases, or on as many as `ONECYCLE_FUZZ_CASES` says.
pub fn cases<S: Strategy>(default: u32, strategy: S, test: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let named = std::env::var("ONECYCLE_FUZZ_CASES").ok();
    let cases = named.as_ref().map_or(default, |n| n.parse().expect("ONECYCLE_FUZZ_CASES is a number"));
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut runner = match named {
        None => TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha)),
        Some(_) => TestRunner::new(config),
    };
    runner.run(&strategy, test).unwrap_or_else(|e| panic!("{e}"));
}

/// A change of a file: a byte replaced, a bit flipped, a piece taken out, doubled or cut off, a number made large.
#[derive(Clone, Debug)]
pub enum Damage {
    Byte(usize, u8),
    Flip(usize, u8),
    Remove(usize, usize),
    Repeat(usize, usize),
    Cut(usize),
    Extreme(usize, usize, u8),
}

pub fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<usize>;
    prop_oneof![
        4 => (at(), any::<u8>()).prop_map(|(at, v)| Damage::Byte(at, v)),
        4 => (at(), 0..8u8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        1 => (at(), 1..40usize).prop_map(|(at, n)| Damage::Remove(at, n)),
        1 => (at(), 1..40usize).prop_map(|(at, n)| Damage::Repeat(at, n)),
        1 => at().prop_map(Damage::Cut),
        2 => (at(), 1..5usize, prop_oneof![Just(0), Just(0x7f), Just(0xff)]).prop_map(|(at, n, v)| Damage::Extreme(at, n, v)),
    ]
}

/// Positions count modulo the length; half of them fall into the first 64 bytes, where headers are.
pub fn spoil(bytes: &mut Vec<u8>, damage: &Damage) {
    let len = bytes.len();
    if len == 0 {
        return;
    }
    let place = |at: usize| if at.is_multiple_of(2) { (at / 2) % len.min(64) } else { (at / 2) % len };
    match *damage {
        Damage::Byte(at, v) => bytes[place(at)] = v,
        Damage::Flip(at, bit) => bytes[place(at)] ^= 1 << bit,
        Damage::Remove(at, n) => drop(bytes.drain(place(at)..(place(at) + n).min(len))),
        Damage::Repeat(at, n) => {
            let piece = bytes[place(at)..(place(at) + n).min(len)].to_vec();
            bytes.splice(place(at)..place(at), piece);
        }
        Damage::Cut(at) => bytes.truncate(place(at)),
        Damage::Extreme(at, n, v) => (place(at)..(place(at) + n).min(len)).for_each(|i| bytes[i] = v),
    }
}
