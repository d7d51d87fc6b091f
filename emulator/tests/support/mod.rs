//! What the emulator's tests share: buffers of numbers, and launches in a line.

#![allow(dead_code)] // each test file uses a part of it

use onecycle_emulator::{Failure, Memory, Options, Report, kernel, launch};
use std::ffi::c_void;

/// A parameter's bytes.
pub struct Arg(Vec<u8>);

macro_rules! arg_from {
    ($($t:ty),*) => { $(impl From<$t> for Arg {
        fn from(x: $t) -> Arg {
            Arg(x.to_ne_bytes().to_vec())
        }
    })* };
}
arg_from!(u32, i32, u64, i64, f32);

impl<const N: usize> From<[i32; N]> for Arg {
    /// A struct of integers.
    fn from(x: [i32; N]) -> Arg {
        Arg(x.iter().flat_map(|v| v.to_ne_bytes()).collect())
    }
}

/// Runs a kernel of the name.
pub fn run(
    memory: &Memory,
    name: &str,
    grid: [u32; 3],
    block: [u32; 3],
    shared: u32,
    args: Vec<Arg>,
    options: &Options,
) -> Result<Report, Failure> {
    let kernel = kernel(name).unwrap_or_else(|| panic!("no kernel {name}"));
    let args: Vec<(*const c_void, usize)> = args.iter().map(|a| (a.0.as_ptr().cast(), a.0.len())).collect();
    // SAFETY: the tests give each kernel what it takes; where they don't, on purpose, the checker is on or the fault stays within
    // red zones.
    unsafe { launch(memory, kernel, grid, block, shared, &args, options) }
}

/// A new buffer with the bytes of `x`.
pub fn upload<const N: usize>(memory: &Memory, x: impl Iterator<Item = [u8; N]>) -> u64 {
    let bytes: Vec<u8> = x.flatten().collect();
    let at = memory.allocate(bytes.len()).expect("there is room");
    memory.write(at, &bytes).expect("it is as large");
    at
}

/// `n` bytes of a buffer.
pub fn download(memory: &Memory, at: u64, n: usize) -> Vec<u8> {
    let mut bytes = vec![0; n];
    memory.read(at, &mut bytes).expect("the buffer is as large");
    bytes
}

/// Numbers of a buffer.
pub fn download_f32(memory: &Memory, at: u64, n: usize) -> Vec<f32> {
    download(memory, at, n * 4).chunks_exact(4).map(|b| f32::from_ne_bytes(b.try_into().expect("four"))).collect()
}
/// Numbers of a buffer.
pub fn download_u32(memory: &Memory, at: u64, n: usize) -> Vec<u32> {
    download_f32(memory, at, n).iter().map(|x| x.to_bits()).collect()
}

/// Small numbers that bf16 holds exactly, different at each place.
pub fn number(i: usize) -> f32 {
    let h = (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    (h % 33) as f32 / 8.0 - 2.0
}

/// Leaves the test where there is no emulator, and says so.
#[macro_export]
macro_rules! need_emulator {
    () => {
        if !onecycle_emulator::available() {
            eprintln!("skipped: the emulator was built without a C++ compiler");
            return;
        }
    };
}
