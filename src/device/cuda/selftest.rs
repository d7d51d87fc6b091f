//! Each primitive of `kernels/prim.cuh` by itself: fixed inputs, a launch of its kernel in `kernels/selftest.cu`, the bytes that come
//! out.
//!
//! On the CPU the kernels run in an emulator that has its own version of every primitive. Whether that version is what a GPU does
//! can't be found out without one. So a GPU's outputs are recorded once (`tests/fixtures/ptx/`), and from then on the emulator has to
//! reproduce them on every machine; `tests/ptx_selftest.rs` does both. A primitive that no GPU has recorded is *unverified*.
//!
//! Inputs are pseudo-random and contain what implementations get wrong: NaN with and without the quiet bit, infinities, subnormal
//! numbers, numbers half-way between two results and next to it, the border to overflow.

use super::driver::Launch;
use super::kernels::{KernelId, kernel};
use super::{Gpu, Memory};
use crate::Result;
use crate::rng::{Purpose, Rng};

/// How outputs of two devices are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// Every bit.
    Bits,
    /// As f32 numbers: a tensor core adds in an order of its own. The first so many are sums of small whole numbers, which come out
    /// the same in any order, so these by every bit.
    Sums(usize),
}

/// One primitive in one number type.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The primitive's name, a dot, and the type where there are several: `from_f32.bf16`.
    pub name: &'static str,
    /// How outputs are compared.
    pub compare: Compare,
    work: Work,
}

#[derive(Clone, Copy, Debug)]
enum Work {
    /// [`NUMBERS`] in, as many of so many bytes out.
    Each(KernelId, fn() -> Vec<u8>, usize),
    /// 16-byte pieces: so many of a thread in, so many out.
    Copies(KernelId, usize, usize),
    Matrices(KernelId),
    /// How many numbers of an operand's register there are, and one of them in its bytes.
    Products(KernelId, usize, fn(f32) -> Vec<u8>),
    /// 32 steps, each with so many bytes from a thread.
    Lanes(KernelId, usize),
}

/// Two warps, so that a mistake across warps would show.
const THREADS: u32 = 64;
/// Threads of the copies: each number of valid bytes, 0 to 16, at least twice.
const COPYING: u32 = 64;
/// Blocks of `ldmatrix`, each with another order of rows.
const ORDERS: u32 = 8;
/// Blocks of `mma`: whole numbers, then real ones, then one with NaN and infinities.
const PRODUCTS: [u32; 3] = [4, 11, 1];
/// Numbers of the conversions.
const NUMBERS: usize = 8192;

/// All cases.
pub fn cases() -> Vec<Case> {
    use Compare::Bits;
    let case = |name, work| Case { name, compare: Bits, work };
    let sums = Compare::Sums(PRODUCTS[0] as usize * 32 * 4);
    vec![
        case("float_bits", Work::Each(kernel!("selftest_float_bits"), singles, 4)),
        case("bits_float", Work::Each(kernel!("selftest_bits_float"), singles, 4)),
        case("to_f32.f32", Work::Each(kernel!("selftest_to_f32<f32>"), singles, 4)),
        case("to_f32.f16", Work::Each(kernel!("selftest_to_f32<f16>"), halves, 4)),
        case("to_f32.bf16", Work::Each(kernel!("selftest_to_f32<bf16>"), halves, 4)),
        case("from_f32.f32", Work::Each(kernel!("selftest_from_f32<f32>"), singles, 4)),
        case("from_f32.f16", Work::Each(kernel!("selftest_from_f32<f16>"), singles, 2)),
        case("from_f32.bf16", Work::Each(kernel!("selftest_from_f32<bf16>"), singles, 2)),
        case("cp_async16", Work::Copies(kernel!("selftest_cp_async16"), 2, 2)),
        case("cp_async_commit", Work::Copies(kernel!("selftest_cp_async_commit"), 3, 2)),
        case("cp_async_wait", Work::Copies(kernel!("selftest_cp_async_wait"), 4, 4)),
        case("ldmatrix_x4", Work::Matrices(kernel!("selftest_ldmatrix_x4"))),
        case("ldmatrix_x4_trans", Work::Matrices(kernel!("selftest_ldmatrix_x4_trans"))),
        Case {
            name: "mma_m16n8k16.f16",
            compare: sums,
            work: Work::Products(kernel!("selftest_mma_m16n8k16<f16>"), 2, |x| {
                half::f16::from_f32(x).to_le_bytes().into()
            }),
        },
        Case {
            name: "mma_m16n8k16.bf16",
            compare: sums,
            work: Work::Products(kernel!("selftest_mma_m16n8k16<bf16>"), 2, |x| {
                half::bf16::from_f32(x).to_le_bytes().into()
            }),
        },
        case("to_tf32", Work::Each(kernel!("selftest_to_tf32"), singles, 4)),
        Case {
            name: "mma_m16n8k8_tf32",
            compare: sums,
            work: Work::Products(kernel!("selftest_mma_m16n8k8_tf32"), 1, |x| x.to_le_bytes().into()),
        },
        case("shuffle_xor.u32", Work::Lanes(kernel!("selftest_shuffle_xor<u32>"), 4)),
        case("shuffle_xor.f32", Work::Lanes(kernel!("selftest_shuffle_xor<f32>"), 4)),
        case("shuffle_xor.f64", Work::Lanes(kernel!("selftest_shuffle_xor<f64>"), 8)),
        case("shuffle_down.u32", Work::Lanes(kernel!("selftest_shuffle_down<u32>"), 4)),
        case("shuffle_down.f32", Work::Lanes(kernel!("selftest_shuffle_down<f32>"), 4)),
        case("shuffle_down.f64", Work::Lanes(kernel!("selftest_shuffle_down<f64>"), 8)),
        case("shuffle_from.u32", Work::Lanes(kernel!("selftest_shuffle_from<u32>"), 4)),
        case("shuffle_from.f32", Work::Lanes(kernel!("selftest_shuffle_from<f32>"), 4)),
        case("shuffle_from.f64", Work::Lanes(kernel!("selftest_shuffle_from<f64>"), 8)),
        case("ballot", Work::Lanes(kernel!("selftest_ballot"), 4)),
    ]
}

impl Case {
    /// Runs it on `gpu`; the bytes that came out.
    ///
    /// # Errors
    /// [`ErrorKind::Device`](crate::ErrorKind::Device) when a launch fails.
    pub fn run(&self, gpu: Gpu) -> Result<Vec<u8>> {
        let up = |bytes: &[u8]| gpu.upload(bytes);
        match self.work {
            Work::Each(kernel, input, size) => {
                let (x, out) = (up(&input())?, blank(gpu, NUMBERS * size)?);
                // SAFETY: both have so many numbers of the kernel's types.
                unsafe { gpu.launch(kernel, Launch::blocks(4), (x.address(), out.address(), NUMBERS as i64)) }?;
                read(gpu, &out)
            }
            Work::Copies(kernel, pieces_in, pieces_out) => {
                let threads = COPYING as usize;
                let (x, out) = (up(&words(threads * pieces_in * 4))?, blank(gpu, threads * pieces_out * 16)?);
                let launch = Launch { grid: [1; 3], block: [COPYING, 1, 1], shared: 0 };
                let launch = launch.shared(threads * pieces_in * 16);
                // SAFETY: the threads read and write the pieces that are there, and use 16 bytes of shared memory for each.
                unsafe { gpu.launch(kernel, launch, (x.address(), out.address())) }?;
                read(gpu, &out)
            }
            Work::Matrices(kernel) => {
                let (x, out) = (up(&words(32 * 4))?, blank(gpu, ORDERS as usize * 32 * 16)?);
                let launch = Launch { grid: [ORDERS, 1, 1], block: [32, 1, 1], shared: 32 * 48 };
                // SAFETY: 32 rows of 16 bytes in, 4 registers a lane out; rows lie 48 bytes apart in shared memory.
                unsafe { gpu.launch(kernel, launch, (x.address(), out.address())) }?;
                read(gpu, &out)
            }
            Work::Products(kernel, numbers, bytes) => {
                let [a, b, c] = operands(numbers, bytes);
                let (a, b, c, out) = (up(&a)?, up(&b)?, up(&c)?, blank(gpu, c.len())?);
                let launch = Launch { grid: [PRODUCTS.iter().sum(), 1, 1], block: [32, 1, 1], shared: 0 };
                // SAFETY: a block has its 32 x 4, 32 x 2 and 32 x 4 words of the operands, and 32 x 4 of the output.
                unsafe { gpu.launch(kernel, launch, (a.address(), b.address(), c.address(), out.address())) }?;
                read(gpu, &out)
            }
            Work::Lanes(kernel, size) => {
                let threads = THREADS as usize;
                let (x, out) = (up(&words(threads))?, blank(gpu, 32 * threads * size)?);
                let launch = Launch { grid: [1; 3], block: [THREADS, 1, 1], shared: 0 };
                // SAFETY: a word for each thread in, 32 values of this size for each out.
                unsafe { gpu.launch(kernel, launch, (x.address(), out.address())) }?;
                read(gpu, &out)
            }
        }
    }

    /// Where `got` differs from `want`, in words; `None` where it doesn't.
    pub fn difference(&self, got: &[u8], want: &[u8]) -> Option<String> {
        if got.len() != want.len() {
            return Some(format!("{} bytes instead of {}", got.len(), want.len()));
        }
        let exact = match self.compare {
            Compare::Bits => got.len(),
            Compare::Sums(first) => first * 4,
        };
        let word = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |w, b| w << 8 | u64::from(*b));
        let (mut wrong, mut example) = (0, None);
        let mut note = |place: String| {
            wrong += 1;
            example.get_or_insert(place);
        };
        let size = match self.work {
            Work::Each(_, _, size) | Work::Lanes(_, size) => size,
            _ => 4,
        };
        for (i, (g, w)) in got.chunks(size).zip(want.chunks(size)).enumerate() {
            let (g, w) = (word(g), word(w));
            if i * size < exact {
                if g != w {
                    note(format!("element {i} is {g:#x} instead of {w:#x}"));
                }
                continue;
            }
            let (g, w) = (f32::from_bits(g as u32), f32::from_bits(w as u32));
            // Sums of 17 numbers, each far below 32: the last place of such a sum is 4e-6.
            if !(g == w || (g.is_nan() && w.is_nan()) || (g - w).abs() < 1e-4) {
                note(format!("element {i} is {g} instead of {w}"));
            }
        }
        example.map(|place| format!("{wrong} of {} differ; {place}", got.len() / size))
    }
}

/// What a word is that no thread has written.
pub const BLANK: u8 = 0xA5;

fn blank(gpu: Gpu, bytes: usize) -> Result<Memory> {
    gpu.upload(&vec![BLANK; bytes])
}

fn read(gpu: Gpu, memory: &Memory) -> Result<Vec<u8>> {
    let mut out = vec![0; memory.bytes()];
    gpu.download(memory, &mut out)?;
    Ok(out)
}

fn rng(what: u64) -> Rng {
    Rng::at(what, Purpose::Init, 0, 0)
}

/// `n` random words.
fn words(n: usize) -> Vec<u8> {
    let mut rng = rng(1);
    (0..n).flat_map(|_| rng.next_u32().to_le_bytes()).collect()
}

/// 16-bit numbers: one of each eight neighbours, so all exponents, with NaNs, infinities and subnormals, and the ends of each range.
fn halves() -> Vec<u8> {
    let mut rng = rng(2);
    let mut all: Vec<u16> = (0..NUMBERS).map(|i| (i * 8 + rng.below(8)) as u16).collect();
    let ends = [
        0, 1, 0x3ff, 0x400, 0x7bff, 0x7c00, 0x7c01, 0x7dff, 0x7e00, 0x7fff, 0x7f, 0x80, 0x7f7f, 0x7f80, 0x7f81, 0x7fc0,
    ];
    for (place, end) in all.iter_mut().step_by(97).zip(ends.iter().flat_map(|&e| [e, e | 0x8000])) {
        *place = end;
    }
    all.into_iter().flat_map(u16::to_le_bytes).collect()
}

/// f32 numbers for conversions to 16 bits, as bits: all of it at random, then numbers of the range of f16, numbers half-way between
/// two of f16 and of bf16 and their neighbours, then the special ones.
fn singles() -> Vec<u8> {
    let mut rng = rng(3);
    let mut all: Vec<u32> = Vec::with_capacity(NUMBERS);
    for i in 0..NUMBERS {
        let bits = rng.next_u32();
        // From 2^-27, which f16 rounds to 0, to 2^17, which it rounds to infinity.
        let middle = bits & 0x807f_ffff | (100 + rng.below(45) as u32) << 23;
        let near = [0, 1, u32::MAX][rng.below(3)];
        all.push(match i % 4 {
            0 => bits,
            1 => middle,
            2 => (middle & !0x1fff | 0x1000).wrapping_add(near), // f16 drops 13 bits
            _ => (bits & !0xffff | 0x8000).wrapping_add(near),   // bf16 drops 16
        });
    }
    let subnormal_ties = (0..10).map(|k| ((2 * k + 1) as f32 * 2f32.powi(-25)).to_bits());
    let special =
        [0, 1, 0x007f_ffff, 0x0080_0000, 0x7f7f_ffff, 0x7f80_0000, 0x7f80_0001, 0x7fbf_ffff, 0x7fc0_0000, 0x7fff_ffff];
    let borders =
        [65519.0f32, 65519.996, 65520.0, 65504.0, 6.103_515_6e-5, 6.1e-5, 5.96e-8, 2.98e-8, 2.980_232_4e-8, 3.4e38];
    let special = special.into_iter().chain(borders.map(f32::to_bits)).chain(subnormal_ties);
    for (place, bits) in all.iter_mut().step_by(101).zip(special.flat_map(|b| [b, b | 0x8000_0000])) {
        *place = bits;
    }
    all.into_iter().flat_map(u32::to_le_bytes).collect()
}

/// The operands of all products, register by register.
fn operands(numbers: usize, bytes: fn(f32) -> Vec<u8>) -> [Vec<u8>; 3] {
    let mut rng = rng(4);
    let [mut a, mut b, mut c] = [const { Vec::new() }; 3];
    let [whole, real, _] = PRODUCTS;
    for block in 0..PRODUCTS.iter().sum() {
        let mut draw = |i: usize| match block {
            _ if block < whole => rng.below(17) as f32 - 8.0,
            _ if block < whole + real => rng.normal() as f32,
            // Few enough that some sums stay free of them.
            _ => match i {
                5 => f32::NAN,
                70 => f32::INFINITY,
                131 => f32::NEG_INFINITY,
                _ => rng.normal() as f32,
            },
        };
        for i in 0..32 * 4 * numbers {
            a.extend(bytes(draw(i)));
        }
        for i in 0..32 * 2 * numbers {
            b.extend(bytes(draw(i + 1000)));
        }
        for i in 0..32 * 4 {
            c.extend(draw(i + 1000).to_le_bytes());
        }
    }
    [a, b, c]
}
