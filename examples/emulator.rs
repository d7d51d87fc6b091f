//! The CUDA kernels on a machine without a GPU: runs one of them on a few numbers and tells what it did.
//!
//! ```sh
//! cargo run --example emulator               # which kernels there are
//! cargo run --example emulator -- relu       # one of them, beside what it should compute
//! cargo run --example emulator -- --race     # a kernel with a mistake, and what the checker says about it
//! ```
//!
//! The emulator compiles `kernels/*.cu` with the C++ compiler of this machine and gives each CUDA thread a stack of its own; change
//! a kernel and run this again. Its own story stands at the top of `emulator/src/lib.rs`.
//!
//! To show another kernel here, write a function like `relu` below and name it in `CASES`.

use onecycle_emulator::{Memory, Options, Report, available, kernel, kernels, launch};
use std::collections::BTreeMap;
use std::ffi::c_void;

/// A kernel with prepared parameters. They are given in the kernel's order.
struct Case {
    kernel: &'static str,
    about: &'static str,
    blocks: u32,
    threads: u32,
    shared: u32,
    arguments: Vec<Argument>,
}

enum Argument {
    /// A buffer with these bytes.
    Input(Vec<u8>),
    /// A buffer that the kernel fills, with what it should hold then.
    Output(Vec<f32>),
    /// A number or a struct by value.
    Value(Vec<u8>),
}

impl Case {
    fn new(kernel: &'static str, about: &'static str, blocks: u32, threads: u32) -> Case {
        Case { kernel, about, blocks, threads, shared: 0, arguments: Vec::new() }
    }
    fn shared(self, bytes: usize) -> Case {
        Case { shared: bytes as u32, ..self }
    }
    fn with(mut self, argument: Argument) -> Case {
        self.arguments.push(argument);
        self
    }
    fn input<T: bytemuck::NoUninit>(self, numbers: &[T]) -> Case {
        self.with(Argument::Input(bytemuck::cast_slice(numbers).to_vec()))
    }
    fn output(self, expected: impl IntoIterator<Item = f32>) -> Case {
        self.with(Argument::Output(expected.into_iter().collect()))
    }
    fn value<T: bytemuck::NoUninit>(self, value: T) -> Case {
        self.with(Argument::Value(bytemuck::bytes_of(&value).to_vec()))
    }
}

/// What `cargo run --example emulator -- NAME` can show.
const CASES: &[(&str, Make)] = &[
    ("relu", relu),
    ("relu_backward", relu_backward),
    ("softmax", softmax),
    ("linear", linear),
    ("conv_naive", || conv("conv_forward_naive<f32>", "one thread for each result")),
    ("conv_tiled", || conv("conv_forward_tiled<f32>", "a matrix product through shared memory")),
    ("max_pool", max_pool),
    ("batch_norm", batch_norm),
];
type Make = fn() -> Case;

/// Numbers from -2 to 2 that look like noise.
fn numbers(n: usize, seed: usize) -> Vec<f32> {
    let number = |i: usize| (((i + seed) as u64 * 2_654_435_761) >> 7) % 4001;
    (0..n).map(|i| number(i) as f32 / 1000.0 - 2.0).collect()
}

fn relu() -> Case {
    let x = numbers(1000, 1);
    Case::new("relu_forward<f32>", "y = max(x, 0)", 4, 256)
        .input(&x)
        .output(x.iter().map(|v| v.max(0.0)))
        .value(x.len() as i64)
}

fn relu_backward() -> Case {
    let (y, dy) = (numbers(1000, 1), numbers(1000, 5000));
    Case::new("relu_backward<f32>", "dx = dy where y > 0, else 0", 4, 256)
        .input(&y)
        .input(&dy)
        .output(y.iter().zip(&dy).map(|(y, dy)| if *y > 0.0 { *dy } else { 0.0 }))
        .value(y.len() as i64)
}

fn softmax() -> Case {
    let (rows, classes) = (5, 37);
    let x = numbers(rows * classes, 11);
    Case::new("softmax<f32>", "probabilities of rows of logits; a warp takes a row", 1, 256)
        .input(&x)
        .output(x.chunks(classes).flat_map(softmax_of))
        .value(rows as i64)
        .value(classes as i64)
}

fn linear() -> Case {
    let (n, i, o) = (5, 70, 3);
    let (x, w, bias) = (numbers(n * i, 1), numbers(o * i, 2), numbers(o, 3));
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let y = x.chunks(i).flat_map(|x| w.chunks(i).zip(&bias).map(|(w, b)| dot(x, w) + b).collect::<Vec<_>>());
    let y: Vec<f32> = y.collect();
    Case::new("linear_forward<f32>", "y = x Wᵀ + b, a tile of 64 x 64 results for a block", 1, 256)
        .input(&x)
        .input(&w)
        .input(&bias)
        .output(y)
        .value(n as i64)
        .value(i as i64)
        .value(o as i64)
}

/// A 3x3 convolution with a border of one, in either version.
fn conv(kernel: &'static str, about: &'static str) -> Case {
    let (n, h, w, c, k) = (1, 6, 7, 3, 4);
    let (x, weight) = (numbers(n * h * w * c, 1), numbers(k * 9 * c, 2));
    let mut y = Vec::new();
    for at in 0..n * h * w * k {
        let (k, q, p) = (at % k, at / k % w, at / k / w);
        let mut sum = 0.0;
        for tap in 0..9 {
            let (row, column) = ((p + tap / 3).wrapping_sub(1), (q + tap % 3).wrapping_sub(1));
            if row < h && column < w {
                sum += (0..c).map(|c_| x[(row * w + column) * c + c_] * weight[(k * 9 + tap) * c + c_]).sum::<f32>();
            }
        }
        y.push(sum);
    }
    // The struct Conv of conv2d.cu: N H W C, K R S, P Q, strides, borders.
    let sizes: [i32; 13] = [n as i32, h as i32, w as i32, c as i32, k as i32, 3, 3, h as i32, w as i32, 1, 1, 1, 1];
    Case::new(kernel, about, 1, 256).value(sizes).input(&x).input(&weight).value(0u64).output(y)
}

fn max_pool() -> Case {
    let (h, w, c) = (7, 6, 2);
    let (p, q) = (4, 3);
    let x = numbers(h * w * c, 4);
    let largest = |at: usize| {
        let (c_, column, row) = (at % c, at / c % q, at / c / q);
        let taps = (0..9).map(|t| ((row * 2 + t / 3).wrapping_sub(1), (column * 2 + t % 3).wrapping_sub(1)));
        taps.filter(|(a, b)| *a < h && *b < w).map(|(a, b)| x[(a * w + b) * c + c_]).fold(f32::MIN, f32::max)
    };
    // The struct MaxPool of max_pool.cu: N H W C, P Q, window, stride, border.
    let sizes: [i32; 9] = [1, h as i32, w as i32, c as i32, p as i32, q as i32, 3, 2, 1];
    let y: Vec<f32> = (0..p * q * c).map(largest).collect();
    Case::new("max_pool_forward<f32>", "the largest under each 3x3 window, and which it was", 1, 256)
        .value(sizes)
        .input(&x)
        .output(y)
        .input(&[0u8; 24])
}

fn batch_norm() -> Case {
    let (m, c) = (300, 5);
    let x = numbers(m * c, 7);
    let mut sums = vec![0f32; m.div_ceil(128) * 2 * c];
    for (i, v) in x.iter().enumerate() {
        let (tile, channel) = (i / c / 128, i % c);
        sums[tile * 2 * c + channel] += v;
        sums[(tile * 2 + 1) * c + channel] += v * v;
    }
    Case::new("batch_norm_tile_sums<f32>", "sums of x and of x*x for each channel, by tiles of 128 rows", 3, 256)
        .input(&x)
        .output(sums)
        .value(m as i64)
        .value(c as i32)
}

fn softmax_of(row: &[f32]) -> Vec<f32> {
    let most = row.iter().copied().fold(f32::MIN, f32::max);
    let sum: f32 = row.iter().map(|v| (v - most).exp()).sum();
    row.iter().map(|v| (v - most).exp() / sum).collect()
}

/// A softmax in which nothing makes the threads wait for each other's numbers.
fn race() -> Case {
    let (rows, n) = (2, 200);
    let x = numbers(rows * n, 3);
    Case::new("softmax<NO_BARRIER>", "a softmax of rows that lacks a __syncthreads()", rows as u32, 128)
        .shared(n * 4)
        .input(&x)
        .input(&[0f32])
        .output(x.chunks(n).flat_map(softmax_of))
        .value(n as i32)
}

/// What a kernel wrote, and what it should have written.
struct Output {
    got: Vec<f32>,
    expected: Vec<f32>,
}

/// Runs a case once. The outputs come back with what they should be, also when the launch failed.
fn run(case: &Case, options: &Options) -> (Vec<Output>, Result<Report, String>) {
    let memory = Memory::new();
    let mut values = Vec::new();
    let mut outputs = Vec::new();
    for argument in &case.arguments {
        values.push(match argument {
            Argument::Value(bytes) => bytes.clone(),
            Argument::Input(bytes) => {
                let at = memory.allocate(bytes.len()).expect("there is room for a few numbers");
                memory.write(at, bytes).expect("the buffer is as large");
                at.to_ne_bytes().to_vec()
            }
            Argument::Output(expected) => {
                let at = memory.allocate(expected.len() * 4).expect("there is room for a few numbers");
                outputs.push((at, expected));
                at.to_ne_bytes().to_vec()
            }
        });
    }
    let args: Vec<(*const c_void, usize)> = values.iter().map(|v| (v.as_ptr().cast(), v.len())).collect();
    let Some(kernel) = kernel(case.kernel) else { return (Vec::new(), Err(format!("there is no {}", case.kernel))) };
    // SAFETY: the cases above give their kernels what they take, and buffers of the right sizes.
    let result =
        unsafe { launch(&memory, kernel, [case.blocks, 1, 1], [case.threads, 1, 1], case.shared, &args, options) };
    let outputs = outputs.into_iter().map(|(at, expected)| {
        let mut bytes = vec![0; expected.len() * 4];
        memory.read(at, &mut bytes).expect("the buffer is as large");
        Output { got: bytemuck::pod_collect_to_vec(&bytes), expected: expected.clone() }
    });
    (outputs.collect(), result.map_err(|e| e.to_string()))
}

fn show(case: &Case) {
    println!("{}: {}", case.kernel, case.about);
    println!(
        "  launched  {} blocks of {} threads, {} bytes of dynamic shared memory",
        case.blocks, case.threads, case.shared
    );
    let (outputs, result) = run(case, &Options { check: true, ..Options::default() });
    match &result {
        Ok(r) => {
            let barriers = format!("{} barriers, {} warp collectives", r.barriers, r.warp_collectives);
            println!("  ran       {} threads, {barriers}, in {:.3} ms", r.threads, r.time.as_secs_f64() * 1e3);
            if r.async_copies + r.mma > 0 {
                println!("  used      {} asynchronous copies, {} matrix products", r.async_copies, r.mma);
            }
            println!("  shared    {} bytes", r.shared_bytes_used + r.static_shared_bytes);
            println!("  global    {} bytes read, {} bytes written", r.global_bytes_read, r.global_bytes_written);
        }
        Err(text) => println!("  FAILED    {}", text.replace('\n', "\n          ")),
    }
    for Output { got, expected } in &outputs {
        println!("  output    {:>10} {:>12} {:>12}", "index", "got", "expected");
        for (i, (g, e)) in got.iter().zip(expected).enumerate().take(6) {
            println!("            {i:>10} {g:>12.6} {e:>12.6}");
        }
        let far =
            got.iter().zip(expected).filter(|(g, e)| g.is_nan() || (*g - *e).abs() > 1e-5 * (1.0 + e.abs())).count();
        println!("            {far} of {} numbers are not as expected", got.len());
    }
    let mut ways = BTreeMap::<Vec<u32>, Vec<Options>>::new();
    for options in Options::all(false) {
        let bits = run(case, &options).0.iter().flat_map(|o| o.got.iter().map(|x| x.to_bits())).collect();
        ways.entry(bits).or_default().push(options);
    }
    match ways.len() {
        1 => println!("  orders    the same bits in all six orders of threads and copies"),
        n => {
            println!("  orders    {n} different results, by the order of threads and the time of copies:");
            for way in ways.values() {
                let names: Vec<_> = way.iter().map(|o| format!("{:?}/{:?}", o.order, o.copies)).collect();
                println!("            {}", names.join(" = "));
            }
        }
    }
    println!("  findings  {}", if result.is_ok() { "none" } else { "above" });
}

fn main() {
    if !available() {
        return println!(
            "The emulator was built without a C++ compiler. With g++ or clang++ installed: touch emulator/build.rs"
        );
    }
    let names: Vec<String> = std::env::args().skip(1).collect();
    for name in &names {
        match CASES.iter().find(|c| c.0 == name) {
            Some((_, case)) => show(&case()),
            None if name == "--race" => show(&race()),
            None => println!("There is no {name} here; without arguments this program lists what there is."),
        }
    }
    if names.is_empty() {
        println!("To show, with `cargo run --example emulator -- NAME`:");
        for (name, case) in CASES {
            let case = case();
            println!("  {name:<16} {}: {}", case.kernel, case.about);
        }
        let race = race();
        println!("  {:<16} {}: {}", "--race", race.kernel, race.about);
        println!("All kernels of this crate that the emulator can launch:");
        for name in kernels() {
            let kernel = kernel(name).expect("it was just listed");
            println!("  {:<40} kernels/{}.cu", kernel.name(), kernel.file());
        }
    }
}
