//! What the emulator costs, part by part: `cargo run -p onecycle-emulator --example speed`.

use onecycle_emulator::{Copies, Memory, Options, available, kernel, launch};
use std::ffi::c_void;
use std::time::Instant;

fn time(
    memory: &Memory,
    name: &str,
    grid: [u32; 3],
    block: u32,
    shared: u32,
    args: &[&[u8]],
    options: &Options,
) -> f64 {
    let kernel = kernel(name).expect("tests/kernels has it");
    let args: Vec<(*const c_void, usize)> = args.iter().map(|a| (a.as_ptr().cast(), a.len())).collect();
    let mut best = f64::MAX;
    for _ in 0..3 {
        let start = Instant::now();
        // SAFETY: every call below gives the kernel what it takes, and buffers that are large enough.
        let done = unsafe { launch(memory, kernel, grid, [block, 1, 1], shared, &args, options) };
        best = best.min(start.elapsed().as_secs_f64());
        done.unwrap_or_else(|e| panic!("{e}"));
    }
    best
}

fn main() {
    if !available() {
        return println!("the emulator was built without a C++ compiler");
    }
    let memory = Memory::new();
    let plain = Options::default();
    let checked = Options { check: true, ..plain };
    let size = 1 << 20;
    let (x, y) = (memory.allocate(size * 4).unwrap(), memory.allocate(size * 4).unwrap());
    for p in [x, y] {
        memory.fill(p, 0, size * 4).unwrap();
    }
    let (x, y) = (x.to_ne_bytes(), y.to_ne_bytes());

    for (what, options) in [("plain", plain), ("checked", checked)] {
        println!("{what}");
        let t = time(&memory, "nothing", [1, 1, 1], 32, 0, &[], &options);
        println!("  a launch of one block, 32 threads         {:8.1} us", t * 1e6);
        let t = time(&memory, "nothing", [2000, 1, 1], 256, 0, &[], &options);
        println!("  a thread that does nothing                {:8.1} ns", t * 1e9 / (2000.0 * 256.0));
        for threads in [32, 256, 1024] {
            let n = 3_000_000 / threads as i32;
            let t = time(&memory, "barriers", [1, 1, 1], threads, 0, &[&n.to_ne_bytes()], &options);
            println!(
                "  __syncthreads, {threads:4} threads, a thread      {:8.1} ns",
                t * 1e9 / (f64::from(n) * f64::from(threads))
            );
        }
        let n = 20_000i32;
        let t = time(&memory, "shuffles", [1, 1, 1], 128, 0, &[&n.to_ne_bytes(), &x], &options);
        println!("  a shuffle, a lane                         {:8.1} ns", t * 1e9 / (f64::from(n) * 128.0));
        let t = time(&memory, "products", [1, 1, 1], 128, 0, &[&n.to_ne_bytes(), &x], &options);
        println!("  an mma of a warp                          {:8.1} ns", t * 1e9 / (f64::from(n) * 4.0));
        for (name, blocks) in [("axpy", 4096), ("axpy_packs", 1024)] {
            let t = time(&memory, name, [blocks, 1, 1], 256, 0, &[&x, &y, &(size as i64).to_ne_bytes()], &options);
            println!("  {name:<10} of f32, a number                {:8.2} ns", t * 1e9 / size as f64);
        }
        for (n, copies) in [(256usize, Copies::Early), (256, Copies::Late), (512, Copies::Early)] {
            let (a, b, c) = (
                memory.allocate(n * n * 2).unwrap(),
                memory.allocate(n * n * 2).unwrap(),
                memory.allocate(n * n * 4).unwrap(),
            );
            memory.fill(a, 0, n * n * 2).unwrap();
            memory.fill(b, 0, n * n * 2).unwrap();
            let shape: Vec<u8> = [n as i32; 4].iter().flat_map(|v| v.to_ne_bytes()).collect();
            let args = [&a.to_ne_bytes()[..], &b.to_ne_bytes(), &c.to_ne_bytes(), &shape];
            let grid = [n.div_ceil(32) as u32, n.div_ceil(64) as u32, 1];
            let options = Options { copies, ..options };
            let t = time(&memory, "gemm<bf16, CORRECT>", grid, 128, 15_360, &args, &options);
            println!(
                "  GEMM {n}^3, copies {copies:?}                  {:8.2} GFLOP/s",
                2.0 * (n * n * n) as f64 / t / 1e9
            );
            for p in [a, b, c] {
                memory.free(p).unwrap();
            }
        }
    }
}
