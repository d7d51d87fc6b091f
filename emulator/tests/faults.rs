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
