//! Mistakes planted in one realistic kernel: what the values show, and what the checker says of each.

mod support;

use half::bf16;
use onecycle_emulator::{Access, Failure, Finding, FindingKind, Memory, Options, Place, Report, Space};
use support::{download_f32, number, run, upload};

const M: usize = 100;
const N: usize = 40;
const K: usize = 72;
const SHARED: u32 = 2 * (64 * 40 + 32 * 40) * 2;

fn gemm(fault: &str, options: &Options) -> (Vec<f32>, Result<Report, Failure>) {
    let memory = Memory::new();
    let numbers = |n: usize, seed: usize| (0..n).map(move |i| bf16::from_f32(number(i + seed)).to_ne_bytes());
    let (a, b) = (upload(&memory, numbers(M * K, 0)), upload(&memory, numbers(K * N, 7)));
    let c = memory.allocate(M * N * 4).unwrap();
    let shape = [M as i32, N as i32, K as i32, N as i32];
    let result = run(
        &memory,
        &format!("gemm<bf16, {fault}>"),
        [N.div_ceil(32) as u32, M.div_ceil(64) as u32, 1],
        [128, 1, 1],
        SHARED,
        vec![a.into(), b.into(), c.into(), shape.into()],
        options,
    );
    (download_f32(&memory, c, M * N), result)
}

fn expected() -> Vec<f32> {
    let (a, b) = (|i: usize| number(i), |i: usize| number(i + 7));
    let cell = |i: usize| (0..K).map(|k| a(i / N * K + k) * b(k * N + i % N)).sum();
    (0..M * N).map(cell).collect()
}

/// In how many of the six ways the values are wrong, without the checker (three of them make copies early, three late).
fn wrong(fault: &str) -> usize {
    let right = expected();
    Options::all(false).iter().filter(|o| gemm(fault, o).0 != right).count()
}

/// What is found in each of the six ways: always something of this kind, whose first occurrence in forward order comes back.
fn found(failures: impl Fn(&Options) -> Option<Failure>, check: bool, kind: FindingKind) -> (Finding, Failure) {
    let mut first = None;
    for options in Options::all(check) {
        let failure = failures(&options).unwrap_or_else(|| panic!("nothing is found with {options:?}"));
        assert!(failure.has(kind), "no {kind:?} in {failure}");
        first.get_or_insert(failure);
    }
    let failure = first.expect("there are six");
    println!("{failure}");
    (failure.findings().iter().find(|f| f.kind == kind).expect("it has one").clone(), failure)
}

fn found_in_gemm(fault: &str, check: bool, kind: FindingKind) -> (Finding, Failure) {
    found(|o| gemm(fault, o).1.err(), check, kind)
}

/// The text of the line that a place names.
fn source(place: &Place) -> String {
    let frame = place.frame().unwrap_or_else(|| panic!("{place} has no line"));
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(&frame.file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines().nth(frame.line as usize - 1).expect("the file has the line").trim().to_string()
}

#[test]
fn the_correct_kernel_is_clean_and_gives_the_same_bits_in_all_orders() {
    need_emulator!();
    let right = expected(); // small integers over 64: exact in f32
    for check in [false, true] {
        for options in Options::all(check) {
            let (values, result) = gemm("CORRECT", &options);
            let report = result.unwrap_or_else(|e| panic!("{e}"));
            assert!(values == right, "{options:?}");
            assert_eq!((report.blocks, report.threads, report.barriers), (4, 512, 4 * 3 * 2));
            assert_eq!(report.mma, 4 * 4 * 3 * 2 * 4);
            assert_eq!(report.async_copies, 4 * 3 * (64 * 4 + 32 * 4));
            // All but the padding behind the last row.
            assert_eq!(report.shared_bytes_used, u64::from(SHARED) - 16);
        }
    }
}

#[test]
fn a_barrier_less_before_the_use() {
    need_emulator!();
    assert_eq!(wrong("NO_BARRIER_AFTER_WAIT"), 6);
    let (race, failure) = found_in_gemm("NO_BARRIER_AFTER_WAIT", true, FindingKind::Race);
    assert_eq!((race.space, race.access, race.size), (Space::DynamicShared, Access::Read, 16));
    assert!(source(&race.place).starts_with("ldmatrix_x4"), "{race}");
    let other = race.other.as_ref().expect("a race has two sides");
    assert_eq!((other.access, other.block), (Access::Write, race.block));
    assert!(source(&other.place).starts_with("cp_async16("), "{race}");
    assert!(failure.findings().iter().map(|f| f.count).sum::<u64>() > 1000);
}

#[test]
fn a_barrier_less_after_the_use() {
    need_emulator!();
    assert_eq!(wrong("NO_BARRIER_AFTER_USE"), 6);
    let (race, _) = found_in_gemm("NO_BARRIER_AFTER_USE", true, FindingKind::Race);
    assert_eq!(race.access, Access::Copy);
    assert!(source(&race.place).starts_with("cp_async16("), "{race}");
    assert!(source(&race.other.as_ref().unwrap().place).starts_with("ldmatrix_x4"), "{race}");
}

#[test]
fn a_wait_that_lets_one_group_too_many() {
    need_emulator!();
    assert_eq!(wrong("WAIT_ONE_GROUP_TOO_FEW"), 3, "late copies show it, early ones hide it");
    let (copy, failure) = found_in_gemm("WAIT_ONE_GROUP_TOO_FEW", true, FindingKind::CopyUnderWay);
    assert!(source(&copy.place).starts_with("ldmatrix_x4"), "{copy}");
    assert!(source(&copy.other.unwrap().place).starts_with("cp_async16("));
    // 4 blocks, 4 warps, one step; for a: 2 loads of 32 rows, for b: 4.
    let counts: Vec<_> = failure.findings().iter().map(|f| f.count).collect();
    assert_eq!(counts, [4 * 4 * 2 * 32, 4 * 4 * 4 * 32]);
}

#[test]
fn a_row_too_many() {
    need_emulator!();
    assert_eq!(wrong("BOUND_OF_ROWS"), 0, "values can't show what lies behind them");
    let (bound, _) = found_in_gemm("BOUND_OF_ROWS", true, FindingKind::OutOfBounds);
    assert_eq!((bound.space, bound.access, bound.size), (Space::Global, Access::Write, 4));
    assert_eq!((bound.offset, bound.buffer_size), ((M * N * 4) as i64, (M * N * 4) as u64));
    assert_eq!((bound.count, bound.block, bound.thread), (N as u64, [0, 1, 0], [80, 0, 0]));
    assert!(source(&bound.place).starts_with("c[(i64)r"), "{bound}");
}

#[test]
fn a_predicate_less() {
    need_emulator!();
    assert_eq!(wrong("NO_PREDICATE"), 6);
    let (bound, failure) = found_in_gemm("NO_PREDICATE", true, FindingKind::OutOfBounds);
    assert_eq!((bound.space, bound.access, bound.size), (Space::Global, Access::Read, 16));
    assert!(source(&bound.place).starts_with("cp_async16("), "{bound}");
    // Of b, whole rows of k = 72 .. 95 are missing, in each of the 4 blocks; columns past the end of a row lead into the next.
    let b =
        failure.findings().iter().filter(|f| f.kind == FindingKind::OutOfBounds && f.buffer_size == (K * N * 2) as u64);
    assert!(b.map(|f| f.count).sum::<u64>() >= 4 * 24 * 4, "{failure}");
}

#[test]
fn two_blocks_that_write_one_tile() {
    need_emulator!();
    let (race, _) = found_in_gemm("BLOCKS_OVERLAP", true, FindingKind::Race);
    assert_eq!((race.space, race.access, race.block), (Space::Global, Access::Write, [1, 0, 0]));
    assert_eq!(race.other.as_ref().unwrap().block, [0, 0, 0]);
    assert_eq!(race.count, (M * 32) as u64);
}

#[test]
fn threads_that_never_meet() {
    need_emulator!();
    for check in [false, true] {
        let (dead, failure) = found_in_gemm("DIVERGENT_BARRIER", check, FindingKind::Deadlock);
        assert_eq!((dead.waits_in, dead.count), ("__syncthreads", 16));
        assert_eq!(source(&dead.place), "__syncthreads();");
        assert!(failure.findings().iter().any(|f| f.waits_in == "ldmatrix" && f.count == 16), "{failure}");

        let (dead, _) = found_in_gemm("LANE_MISSING", check, FindingKind::Deadlock);
        assert!(dead.waits_in.starts_with("mma") && dead.count == 124, "{dead}");
    }
}

fn softmax(fault: &str, options: &Options) -> (Vec<f32>, Result<Report, Failure>) {
    let (rows, n) = (3, 200);
    let memory = Memory::new();
    let x = upload(&memory, (0..rows * n).map(|i| number(i).to_ne_bytes()));
    let (bias, y) = (memory.allocate(n * 4).unwrap(), memory.allocate(rows * n * 4).unwrap());
    let args = vec![x.into(), bias.into(), y.into(), (n as i32).into()];
    let result =
        run(&memory, &format!("softmax<{fault}>"), [rows as u32, 1, 1], [128, 1, 1], n as u32 * 4, args, options);
    (download_f32(&memory, y, rows * n), result)
}

fn found_in_softmax(fault: &str, kind: FindingKind) -> (Finding, Failure) {
    found(|o| softmax(fault, o).1.err(), true, kind)
}

#[test]
fn the_correct_softmax_is_clean() {
    need_emulator!();
    let right = softmax("CORRECT", &Options::default()).0;
    for row in right.chunks(200) {
        assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    }
    for check in [false, true] {
        for options in Options::all(check) {
            let (values, result) = softmax("CORRECT", &options);
            let report = result.unwrap_or_else(|e| panic!("{e}"));
            assert!(values == right);
            assert_eq!(report.shared_bytes_used, 800);
            if check {
                assert_eq!((report.global_bytes_read, report.global_bytes_written), (2400, 2400));
            }
        }
    }
}

#[test]
fn a_softmax_without_a_barrier() {
    need_emulator!();
    let right = softmax("CORRECT", &Options::default()).0;
    let wrong = Options::all(false).iter().filter(|o| softmax("NO_BARRIER", o).0 != right).count();
    assert!(wrong >= 4, "wrong in {wrong} of 6");
    let (race, _) = found_in_softmax("NO_BARRIER", FindingKind::Race);
    assert_eq!((race.space, race.size), (Space::DynamicShared, 4));
    assert!(source(&race.place).contains("row[i]"), "{race}");
}

#[test]
fn a_shared_array_read_before_it_is_written() {
    need_emulator!();
    let (read, _) = found_in_softmax("READ_TOO_SOON", FindingKind::Uninitialised);
    assert_eq!((read.space, read.access, read.size), (Space::StaticShared, Access::Read, 4));
    assert_eq!(read.array.as_deref(), Some("most"));
    assert!(source(&read.place).contains("most[0]"), "{read}");
}

#[test]
fn a_number_too_far_in_shared_memory() {
    need_emulator!();
    let (bound, _) = found_in_softmax("ROW_TOO_LONG", FindingKind::OutOfBounds);
    assert_eq!(
        (bound.space, bound.access, bound.offset, bound.buffer_size),
        (Space::DynamicShared, Access::Write, 800, 800)
    );
    assert!(source(&bound.place).starts_with("row[i] = v"), "{bound}");

    // The kernel's arrays may lie side by side, so the step too far may hit the other one: then something is read unwritten.
    let failure = softmax("SCRATCH_TOO_SMALL", &Options { check: true, ..Options::default() }).1.unwrap_err();
    println!("{failure}");
    assert!(failure.has(FindingKind::OutOfBounds) || failure.has(FindingKind::Uninitialised), "{failure}");
}

#[test]
fn a_buffer_that_nobody_filled() {
    need_emulator!();
    let (values, _) = softmax("UNWRITTEN_BIAS", &Options::default());
    assert!(values.iter().all(|x| x.is_nan()));
    let (read, _) = found_in_softmax("UNWRITTEN_BIAS", FindingKind::Uninitialised);
    assert_eq!((read.space, read.offset, read.buffer_size, read.count), (Space::Global, 0, 800, 600));
    assert!(source(&read.place).contains("bias[i"), "{read}");
}

#[test]
fn memory_that_an_unchecked_kernel_wrote_counts_as_written() {
    need_emulator!();
    let memory = Memory::new();
    let x = upload(&memory, [5u32].into_iter().map(u32::to_ne_bytes));
    let (y, z) = (memory.allocate(4).unwrap(), memory.allocate(4).unwrap());
    let go = |from: u64, to: u64, check| {
        let options = Options { check, ..Options::default() };
        run(&memory, "read_one", [1; 3], [1; 3], 0, vec![from.into(), to.into()], &options)
    };
    assert!(go(y, z, true).unwrap_err().has(FindingKind::Uninitialised));
    go(x, y, false).unwrap();
    go(y, z, true).unwrap();
    let late = memory.allocate(4).unwrap();
    assert!(go(late, z, true).unwrap_err().has(FindingKind::Uninitialised));
    // A checked kernel's writes are known, and so are a copy's.
    go(x, late, true).unwrap();
    go(late, z, true).unwrap();
    let (a, b) = (memory.allocate(4).unwrap(), memory.allocate(4).unwrap());
    memory.copy(late, a, 4).unwrap();
    go(a, z, true).unwrap();
    memory.copy(b, a, 4).unwrap();
}

#[test]
fn a_buffer_that_was_freed() {
    need_emulator!();
    let memory = Memory::new();
    let (x, y) = (upload(&memory, [5u32].into_iter().map(u32::to_ne_bytes)), memory.allocate(4).unwrap());
    memory.free(x).unwrap();
    let options = Options { check: true, ..Options::default() };
    let failure = run(&memory, "read_one", [1; 3], [1; 3], 0, vec![x.into(), y.into()], &options).unwrap_err();
    println!("{failure}");
    assert!(failure.has(FindingKind::UseAfterFree));
}

#[test]
fn wild_addresses_end_the_launch_and_not_the_program() {
    need_emulator!();
    let options = Options { check: true, ..Options::default() };
    for far in [1i64 << 40, -(1 << 30), 100_000] {
        let memory = Memory::new();
        let y = memory.allocate(4).unwrap();
        let failure = run(&memory, "wild", [8, 1, 1], [64, 1, 1], 0, vec![y.into(), far.into()], &options).unwrap_err();
        println!("{failure}");
        assert!(failure.has(FindingKind::OutOfBounds) && failure.findings().len() == 1);
    }
    let memory = Memory::new();
    let null = 0u64;
    let failure = run(&memory, "read_one", [1; 3], [1; 3], 0, vec![null.into(), null.into()], &options).unwrap_err();
    assert_eq!((failure.findings()[0].space, failure.findings()[0].address), (Space::Nowhere, 0));
}

#[test]
fn vectors_at_odd_addresses() {
    need_emulator!();
    let memory = Memory::new();
    let x = upload(&memory, (0..16u32).map(u32::to_ne_bytes));
    let y = memory.allocate(16).unwrap();
    let options = Options { check: true, ..Options::default() };
    let go = |from: i32| run(&memory, "misaligned", [1; 3], [1; 3], 0, vec![x.into(), y.into(), from.into()], &options);
    go(4).unwrap();
    if onecycle_emulator::compiler().contains("clang") {
        return eprintln!("skipped: clang++ doesn't test the address of a struct that is copied as a whole");
    }
    let failure = go(1).unwrap_err();
    println!("{failure}");
    assert!(failure.has(FindingKind::Misaligned) && failure.findings()[0].size == 16);
    assert!(source(&failure.findings()[0].place).starts_with("const Vec4 v"));
}

#[test]
fn lanes_that_trust_in_marching_in_step() {
    need_emulator!();
    let neighbours = |kernel: &str, options: &Options| {
        let memory = Memory::new();
        let (x, y) = (upload(&memory, (0..128u32).map(u32::to_ne_bytes)), memory.allocate(512).unwrap());
        run(&memory, kernel, [1; 3], [128, 1, 1], 0, vec![x.into(), y.into()], options)
    };
    for options in Options::all(true) {
        neighbours("neighbours<true>", &options).unwrap_or_else(|e| panic!("{e}"));
    }
    let (race, _) = found(|o| neighbours("neighbours<false>", o).err(), true, FindingKind::Race);
    assert_eq!((race.space, race.array.as_deref()), (Space::StaticShared, Some("tile")));
}

#[test]
fn the_last_block_may_finish_the_sum_behind_a_fence() {
    need_emulator!();
    let total = |kernel: &str, options: &Options| {
        let memory = Memory::new();
        let x = upload(&memory, (0..256 * 20).map(|i| number(i).to_ne_bytes()));
        let (parts, out) = (memory.allocate(80).unwrap(), memory.allocate(4).unwrap());
        let ticket = upload(&memory, [0u32].into_iter().map(u32::to_ne_bytes));
        let args = vec![x.into(), parts.into(), ticket.into(), out.into()];
        let result = run(&memory, kernel, [20, 1, 1], [256, 1, 1], 0, args, options);
        (download_f32(&memory, out, 1)[0], result)
    };
    let want: f32 = (0..256 * 20).map(number).sum();
    for check in [false, true] {
        for options in Options::all(check) {
            let (got, result) = total("total<true>", &options);
            result.unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(got, want);
        }
    }
    let (race, _) = found(|o| total("total<false>", o).1.err(), true, FindingKind::Race);
    assert!(source(&race.place).contains("parts[i]"), "{race}");
}

#[test]
fn two_barriers_that_look_like_one() {
    need_emulator!();
    let go = |kernel: &'static str| {
        move |options: &Options| {
            let memory = Memory::new();
            let y = memory.allocate(128).unwrap();
            run(&memory, kernel, [1; 3], [32, 1, 1], 0, vec![y.into()], options).err()
        }
    };
    for check in [false, true] {
        let (finding, _) = found(go("two_barriers"), check, FindingKind::DivergentBarrier);
        assert!(finding.other.is_some());
        let (finding, _) = found(go("wrong_mask"), check, FindingKind::BadMask);
        assert_eq!((finding.mask, finding.thread), (0x7fff_ffff, [31, 0, 0]));
    }
}
