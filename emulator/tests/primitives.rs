//! Each primitive against plain Rust, in all orders, with the checker and without.

mod support;

use half::{bf16, f16};
use onecycle_emulator::{Memory, Options, Report, kernel, kernels, layouts};
use support::{Arg, download, download_f32, download_u32, number, run, upload};

/// Runs in all twelve ways and compares what comes back.
fn same_everywhere<T: PartialEq + std::fmt::Debug>(once: impl Fn(&Options) -> T) -> T {
    let first = once(&Options::default());
    for check in [false, true] {
        for options in Options::all(check) {
            assert_eq!(once(&options), first, "{options:?}");
        }
    }
    first
}

fn go(memory: &Memory, name: &str, grid: u32, block: u32, shared: u32, args: Vec<Arg>, o: &Options) -> Report {
    run(memory, name, [grid, 1, 1], [block, 1, 1], shared, args, o).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn sixteen_bits_become_32_exactly() {
    need_emulator!();
    for (name, to_f32) in [
        ("convert_up<f16>", (|x| f16::from_bits(x).to_f32()) as fn(u16) -> f32),
        ("convert_up<bf16>", |x| bf16::from_bits(x).to_f32()),
    ] {
        let memory = Memory::new();
        let x = upload(&memory, (0..=u16::MAX).map(u16::to_ne_bytes));
        let y = memory.allocate(65_536 * 4).unwrap();
        go(&memory, name, 16, 256, 0, vec![x.into(), y.into(), 65_536i64.into()], &Options::default());
        for (i, got) in download_f32(&memory, y, 65_536).into_iter().enumerate() {
            let want = to_f32(i as u16);
            if want.is_nan() {
                assert!(got.is_nan(), "{name} {i:#x}");
                // The GPU's f16 has one NaN; a bf16 is only shifted.
                let bits = if name.contains("bf16") { (i as u32) << 16 } else { 0x7fff_ffff };
                assert_eq!(got.to_bits(), bits, "{name} {i:#x}");
            } else {
                assert_eq!(got.to_bits(), want.to_bits(), "{name} {i:#x}");
            }
        }
    }
}

#[test]
fn thirty_two_bits_round_to_the_nearest_even() {
    need_emulator!();
    // Each 16-bit pattern in the upper half, with lower halves at, next to and between all ties of both formats; and around every
    // f16 and the middle between two.
    let lows = [0u32, 1, 0x0fff, 0x1000, 0x1001, 0x2000, 0x3000, 0x7fff, 0x8000, 0x8001, 0xffff];
    let mut bits: Vec<u32> = (0..=0xffffu32).flat_map(|high| lows.map(|low| high << 16 | low)).collect();
    for h in 0..0x7c00u16 {
        let (a, b) = (f16::from_bits(h).to_f32(), f16::from_bits(h + 1).to_f32());
        let middle = if b.is_infinite() { 65520.0 } else { (a + b) / 2.0 };
        for x in [a, middle] {
            bits.extend([x.to_bits().wrapping_sub(1), x.to_bits(), x.to_bits() + 1]);
            bits.extend([x.to_bits() | 1 << 31, (x.to_bits() + 1) | 1 << 31]);
        }
    }
    let n = bits.len();
    for (name, from_f32) in [
        ("convert_down<f16>", (|x| f16::from_f32(x).to_bits()) as fn(f32) -> u16),
        ("convert_down<bf16>", |x| bf16::from_f32(x).to_bits()),
    ] {
        let memory = Memory::new();
        let x = upload(&memory, bits.iter().map(|b| b.to_ne_bytes()));
        let y = memory.allocate(n * 2).unwrap();
        go(&memory, name, 64, 256, 0, vec![x.into(), y.into(), (n as i64).into()], &Options::default());
        for (got, &b) in download(&memory, y, n * 2).chunks_exact(2).zip(&bits) {
            let (got, x) = (u16::from_ne_bytes([got[0], got[1]]), f32::from_bits(b));
            let want = if x.is_nan() { 0x7fff } else { from_f32(x) };
            assert_eq!(got, want, "{name} {b:#x}");
        }
    }
}

#[test]
fn lanes_exchange() {
    need_emulator!();
    let n = 96usize;
    let got = same_everywhere(|o| {
        let memory = Memory::new();
        let out = memory.allocate(13 * n * 4).unwrap();
        let report = go(&memory, "lanes", 1, n as u32, 0, vec![out.into()], o);
        assert_eq!(report.barriers, 3);
        download_u32(&memory, out, 13 * n)
    });
    let x = |i: usize| (i * i + 3) as u32;
    for i in 0..n {
        let (lane, base) = (i % 32, i / 32 * 32);
        let warp = || base..base + 32;
        let is = |row: usize, want: u32| assert_eq!(got[row * n + i], want, "operation {row}, thread {i}");
        is(0, x(base + (lane ^ 5)));
        is(1, x(if lane + 7 < 32 { i + 7 } else { i }));
        is(2, x(base + 9));
        is(3, x(if lane >= 3 { i - 3 } else { i }));
        is(4, warp().filter(|&j| x(j) % 3 == 0).map(|j| 1u32 << (j - base)).sum());
        is(5, x(base + (lane ^ 3)) + x(base + lane / 8 * 8 + 2));
        is(6, u32::from(warp().contains(&40)) * 2 + u32::from(base == 0));
        is(7, warp().map(x).sum());
        is(8, warp().map(x).max().unwrap() - warp().map(x).min().unwrap());
        is(9, if lane < 16 { x(i ^ 1) } else { x(i) + 1 });
        is(10, x(i ^ 1) + (i ^ 1) as u32);
        is(11, (x(base + (lane ^ 16)) as f32).to_bits());
        is(12, 32 * 4 + 2);
    }
}

#[test]
fn every_thread_has_its_place() {
    need_emulator!();
    let (grid, block) = ([3, 4, 2], [5, 3, 4]);
    let got = same_everywhere(|o| {
        let memory = Memory::new();
        let out = memory.allocate(24 * 60 * 4).unwrap();
        let report = run(&memory, "places", grid, block, 0, vec![out.into()], o).unwrap();
        assert_eq!((report.blocks, report.threads), (24, 24 * 60));
        download_u32(&memory, out, 24 * 60)
    });
    let want: Vec<u32> = (0..24 * 60).map(|i| ((i % 60) << 16) | (i / 60)).collect();
    assert_eq!(got, want);
}

#[test]
fn matrices_load_as_described() {
    need_emulator!();
    let got = same_everywhere(|o| {
        let memory = Memory::new();
        let (x, out) = (upload(&memory, (0..256u16).map(u16::to_ne_bytes)), memory.allocate(1024).unwrap());
        go(&memory, "load_matrix", 1, 32, 512, vec![x.into(), out.into()], o);
        download_u32(&memory, out, 256)
    });
    for l in 0..32u32 {
        for i in 0..4u32 {
            // The address of matrix i's rows: rows 8(i % 2).., columns 8(i / 2)..
            let at = |row: u32, column: u32| (row + i % 2 * 8) * 16 + column + i / 2 * 8;
            let pair = |a: u32, b: u32| a | b << 16;
            let k = (l * 4 + i) as usize;
            assert_eq!(got[k], pair(at(l / 4, l % 4 * 2), at(l / 4, l % 4 * 2 + 1)), "lane {l}, matrix {i}");
            assert_eq!(got[128 + k], pair(at(l % 4 * 2, l / 4), at(l % 4 * 2 + 1, l / 4)), "transposed, lane {l}, {i}");
        }
    }
}

#[test]
fn a_warp_multiplies() {
    need_emulator!();
    let a = |i: usize| number(i);
    let b = |i: usize| number(i + 1000);
    let d = |i: usize| number(i + 2000);
    let want: Vec<f32> =
        (0..128).map(|i| d(i) + (0..16).map(|k| a(i / 8 * 16 + k) * b(k * 8 + i % 8)).sum::<f32>()).collect();
    for (name, bits) in [
        ("multiply<bf16>", (|x| bf16::from_f32(x).to_bits()) as fn(f32) -> u16),
        ("multiply<f16>", |x| f16::from_f32(x).to_bits()),
    ] {
        let got = same_everywhere(|o| {
            let memory = Memory::new();
            let pa = upload(&memory, (0..256).map(|i| bits(a(i)).to_ne_bytes()));
            let pb = upload(&memory, (0..128).map(|i| bits(b(i)).to_ne_bytes()));
            let pd = upload(&memory, (0..128).map(|i| d(i).to_ne_bytes()));
            assert_eq!(go(&memory, name, 1, 32, 0, vec![pa.into(), pb.into(), pd.into()], o).mma, 1);
            download_f32(&memory, pd, 128)
        });
        assert_eq!(got, want, "{name}: eighths, so every order of sums is exact");
    }
}

#[test]
fn infinities_subnormals_and_nan_pass_through_a_product() {
    need_emulator!();
    // Row i of a holds x[i] once, b is the identity's beginning: d = x.
    let x = [0.0, 6e-8, -6e-8, 5.9e-5, 65504.0, -65504.0, f32::INFINITY, f32::NAN].map(f16::from_f32);
    let memory = Memory::new();
    let pa =
        upload(&memory, (0..256).map(|i| if i % 16 == 0 && i / 16 < 8 { x[i / 16] } else { f16::ZERO }.to_ne_bytes()));
    let pb = upload(&memory, (0..128).map(|i| f16::from_f32(if i < 8 { 1.0 } else { 0.0 }).to_ne_bytes()));
    let pd = upload(&memory, (0..128).map(|_| 0f32.to_ne_bytes()));
    go(&memory, "multiply<f16>", 1, 32, 0, vec![pa.into(), pb.into(), pd.into()], &Options::default());
    for (i, got) in download_f32(&memory, pd, 64).into_iter().enumerate() {
        let want = x[i / 8].to_f32();
        assert!(got == want || (got.is_nan() && want.is_nan()), "{got} is not {want}");
    }
}

#[test]
fn blocks_sum() {
    need_emulator!();
    for threads in [32usize, 96, 256, 1024] {
        let x: Vec<f32> = (0..threads * 3).map(|i| number(i) + 0.1).collect();
        let got = same_everywhere(|o| {
            let memory = Memory::new();
            let (px, out) = (upload(&memory, x.iter().map(|v| v.to_ne_bytes())), memory.allocate(72).unwrap());
            let report = go(&memory, "sums", 3, threads as u32, 256, vec![px.into(), out.into()], o);
            assert_eq!(report.barriers, 3 * 6);
            assert_eq!(report.warp_collectives, (3 * 3 * 5 * threads / 32) as u64);
            download(&memory, out, 72)
                .chunks_exact(8)
                .map(|b| f64::from_ne_bytes(b.try_into().unwrap()))
                .collect::<Vec<_>>()
        });
        for block in 0..3 {
            let want: f64 = x[block * threads..][..threads].iter().map(|&v| f64::from(v)).sum();
            assert!((got[block * 3] - want).abs() < 1e-3 && (got[block * 3 + 1] - 2.0 * want).abs() < 2e-3);
            assert!((got[block * 3 + 2] - want).abs() < 1e-9);
        }
    }
}

#[test]
fn copies_come_early_or_late() {
    need_emulator!();
    let nan = u32::MAX;
    for valid in [16u32, 12, 4, 0] {
        let number = |i: u32| if i * 4 < valid { 100 + i } else { 0 };
        let (a, b) = ([0, 1, 2, 3].map(number), [0, 1, 2, 3].map(|i| if i * 4 < valid { 104 + i } else { 0 }));
        for late in [false, true] {
            let memory = Memory::new();
            let x = upload(&memory, (100..108u32).map(u32::to_ne_bytes));
            let out = memory.allocate(96).unwrap();
            let copies = if late { onecycle_emulator::Copies::Late } else { onecycle_emulator::Copies::Early };
            let options = Options { copies, ..Options::default() };
            let report = go(&memory, "copies", 1, 1, 32, vec![x.into(), out.into(), valid.into()], &options);
            assert_eq!(report.async_copies, 2);
            let poison = [nan; 4];
            let want = match late {
                false => [a, b, a, b, a, b],
                true => [poison, poison, a, poison, a, b],
            };
            assert_eq!(download_u32(&memory, out, 24), want.as_flattened(), "valid {valid}, late {late}");
        }
    }
}

#[test]
fn integers_count_atomically() {
    need_emulator!();
    let (blocks, threads) = (40u32, 96u32);
    same_everywhere(|o| {
        let memory = Memory::new();
        let out = upload(&memory, [0u32; 4].into_iter().map(u32::to_ne_bytes));
        let wide = upload(&memory, [1i64 << 40].into_iter().map(i64::to_ne_bytes));
        let least = upload(&memory, [0i32].into_iter().map(i32::to_ne_bytes));
        go(&memory, "counts", blocks, threads, 0, vec![out.into(), wide.into(), least.into()], o);
        let all = blocks * threads;
        let sum = threads * (threads - 1) / 2 * blocks;
        assert_eq!(download_u32(&memory, out, 4), [sum, (blocks - 1) * 100 + threads - 1, all % 10, all * 2]);
        let wide = i64::from_ne_bytes(download(&memory, wide, 8).try_into().unwrap());
        assert_eq!(wide, (1 << 40) - i64::from(sum));
        assert_eq!(download_u32(&memory, least, 1)[0] as i32, -60);
    });
}

#[test]
fn many_blocks_spread_over_the_cores_and_lose_nothing() {
    need_emulator!();
    let (blocks, threads) = (20_000u32, 128u32);
    for options in [Options::default(), Options::all(false)[2]] {
        let memory = Memory::new();
        let out = upload(&memory, [0u32; 4].into_iter().map(u32::to_ne_bytes));
        let wide = upload(&memory, [0i64].into_iter().map(i64::to_ne_bytes));
        let least = upload(&memory, [0i32].into_iter().map(i32::to_ne_bytes));
        let report = go(&memory, "counts", blocks, threads, 0, vec![out.into(), wide.into(), least.into()], &options);
        assert_eq!((report.blocks, report.threads), (u64::from(blocks), u64::from(blocks * threads)));
        let sum = threads * (threads - 1) / 2 * blocks;
        let all = blocks * threads;
        assert_eq!(download_u32(&memory, out, 4), [sum, (blocks - 1) * 100 + threads - 1, all % 10, all * 2]);
        assert_eq!(i64::from_ne_bytes(download(&memory, wide, 8).try_into().unwrap()), -i64::from(sum));
    }
}

#[test]
fn functions_mean_what_they_mean_on_a_gpu() {
    need_emulator!();
    let x = [0.25f32, 1.5, 2.5, 7.0, 1e10];
    let memory = Memory::new();
    let (px, out) = (upload(&memory, x.iter().map(|v| v.to_ne_bytes())), memory.allocate(x.len() * 32).unwrap());
    go(&memory, "functions", 1, x.len() as u32, 0, vec![px.into(), out.into()], &Options::default());
    for (o, x) in download_f32(&memory, out, x.len() * 8).chunks_exact(8).zip(x) {
        let bits = x.to_bits();
        let counts = bits.count_ones() * 10000 + bits.leading_zeros() * 100 + bits.trailing_zeros() + 1;
        let want = [
            1.0 / x.sqrt(),
            x.exp(),
            x.ln(),
            1.0 / x,
            if x > 1e9 { i32::MAX as f32 } else { x.round_ties_even() },
            x.min(1.0),
            x.mul_add(x, -1.0),
            counts as f32,
        ];
        for (got, want) in o.iter().zip(want) {
            assert!(*got == want || (got - want).abs() <= want.abs() * 1e-6, "{got} is not {want} for {x}");
        }
    }
}

#[test]
fn structs_arrive_by_value() {
    need_emulator!();
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Mixed {
        a: u8,
        b: f64,
        c: u16,
        d: u64,
        e: [i32; 3],
    }
    let parameters = kernel("parameters").unwrap();
    assert_eq!(parameters.parameters(), [1, size_of::<Mixed>(), 8, 8]);
    let memory = Memory::new();
    let d = upload(&memory, [0f32, 0.5].into_iter().map(f32::to_ne_bytes));
    let out = memory.allocate(8).unwrap();
    let (small, n) = (3u8, 1i64 << 50);
    let mixed = Mixed { a: 200, b: 0.125, c: 60_000, d, e: [0, 0, -7] };
    for options in Options::all(true) {
        let args = [
            ((&raw const small).cast(), 1),
            ((&raw const mixed).cast(), size_of::<Mixed>()),
            ((&raw const n).cast(), 8),
            ((&raw const out).cast(), 8),
        ];
        // SAFETY: four parameters of these types.
        let report =
            unsafe { onecycle_emulator::launch(&memory, parameters, [1; 3], [32, 1, 1], 0, &args, &options) }.unwrap();
        assert_eq!((report.global_bytes_read, report.global_bytes_written), (4, 8));
        let got = f64::from_ne_bytes(download(&memory, out, 8).try_into().unwrap());
        assert_eq!(got, 3.0 + 200.0 + 0.125 + 60_000.0 + 0.5 - 7.0 + (1u64 << 50) as f64);
    }
}

#[test]
fn impossible_launches_are_refused() {
    need_emulator!();
    let memory = Memory::new();
    let out = memory.allocate(4 * 2048).unwrap();
    let refused = |grid, block, shared, args: Vec<Arg>| {
        let text = run(&memory, "wrong_mask", grid, block, shared, args, &Options::default()).unwrap_err().to_string();
        assert!(text.starts_with("wrong_mask can't be launched: "), "{text}");
        text
    };
    assert!(refused([1; 3], [1; 3], 0, vec![]).contains("parameters"));
    assert!(refused([1; 3], [1; 3], 0, vec![1i32.into()]).contains("[8]"));
    assert!(refused([1, 0, 1], [1; 3], 0, vec![out.into()]).contains("empty"));
    assert!(refused([1; 3], [32, 0, 1], 0, vec![out.into()]).contains("empty"));
    assert!(refused([1; 3], [1025, 1, 1], 0, vec![out.into()]).contains("too large"));
    assert!(refused([1; 3], [32, 32, 2], 0, vec![out.into()]).contains("too large"));
    assert!(refused([1, 65_536, 1], [32, 1, 1], 0, vec![out.into()]).contains("too large"));
    assert!(refused([1; 3], [32, 1, 1], 227 * 1024 + 1, vec![out.into()]).contains("shared memory"));
    assert!(kernel("no_such_kernel").is_none());
}

#[test]
fn the_emulators_own_kernels_are_not_the_crates() {
    need_emulator!();
    assert!(kernel("lanes").is_some() && !kernels().contains(&"lanes"));
    assert!(!layouts().iter().any(|l| l.name == "Mixed"));
}

#[test]
fn launches_at_the_same_time_do_not_disturb_each_other() {
    need_emulator!();
    std::thread::scope(|scope| {
        for t in 0..6usize {
            scope.spawn(move || {
                for i in 0..10 {
                    let options = Options::all(t % 2 == 1)[(t + i) % 6];
                    let memory = Memory::new();
                    let x = upload(&memory, (0..4096u32).map(|j| (j * t as u32).to_ne_bytes()));
                    let y = memory.allocate(4096 * 4).unwrap();
                    let result = run(
                        &memory,
                        "neighbours<true>",
                        [32, 1, 1],
                        [128, 1, 1],
                        0,
                        vec![x.into(), y.into()],
                        &options,
                    );
                    assert!(result.is_ok());
                    let want: Vec<u32> = (0..4096u32).map(|j| (j ^ 1) * t as u32).collect();
                    assert!(download_u32(&memory, y, 4096) == want);
                }
            });
        }
    });
}
