//! The tables of what was compiled in, and the launch.

use crate::findings::Finding;
use crate::symbols::Array;
use crate::{Copies, Failure, Kernel, Layout, MAX_SHARED, MAX_THREADS, Memory, Options, Order, Report, ffi, symbols};
use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

/// Files of the emulator's own tests; `kernels` leaves them out.
const TESTING: &str = "testing_";

/// Whether kernels can run: true, there was a C++ compiler when this was built.
pub fn available() -> bool {
    true
}

/// The C++ compiler that compiled the kernels: `g++ (Debian 12.2.0-14) 12.2.0`.
pub fn compiler() -> &'static str {
    env!("EMU_COMPILER")
}

/// # Safety
/// `text` is a C string that is never freed.
unsafe fn text(text: *const c_char) -> &'static str {
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_str().expect("names in kernels are ASCII")
}

/// # Safety
/// `n` values lie at `at` as long as the program lives; of none the address may be anything.
unsafe fn slice(at: *const usize, n: usize) -> &'static [usize] {
    if n == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(at, n) }
}

struct Tables {
    kernels: Vec<Kernel>,
    by_name: HashMap<&'static str, usize>,
    /// By the engine's number of a kernel.
    arrays: Vec<Vec<Array>>,
}

fn tables() -> &'static Tables {
    static TABLES: OnceLock<Tables> = OnceLock::new();
    TABLES.get_or_init(|| {
        let (mut kernels, mut by_name, mut entries) = (Vec::<Kernel>::new(), HashMap::new(), Vec::new());
        // SAFETY: registration ended before `main`.
        for i in 0..unsafe { ffi::emu_kernel_count() } {
            let (mut unit, mut name, mut sizes) = (std::ptr::null(), std::ptr::null(), std::ptr::null());
            let (mut checked, mut n, mut entry) = (0, 0, std::ptr::null());
            // SAFETY: `i` is below the count; what comes back lives as long as the program.
            let (unit, name, sizes) = unsafe {
                ffi::emu_kernel(i, &mut unit, &mut name, &mut checked, &mut entry, &mut sizes, &mut n);
                (text(unit), text(name), slice(sizes, n))
            };
            let at = *by_name.entry(name).or_insert_with(|| {
                kernels.push(Kernel { name, file: unit, parameters: sizes, plain: u32::MAX, checked: u32::MAX });
                kernels.len() - 1
            });
            let kernel = &mut kernels[at];
            assert_eq!(kernel.file, unit, "two files have a kernel {name}");
            *(if checked == 1 { &mut kernel.checked } else { &mut kernel.plain }) = i as u32;
            entries.push(entry as u64);
        }
        Tables { kernels, by_name, arrays: symbols::arrays(&entries) }
    })
}

/// An entry point by its name, as the `KERNEL` line has it.
pub fn kernel(name: &str) -> Option<Kernel> {
    let tables = tables();
    tables.by_name.get(name).map(|&i| tables.kernels[i])
}

/// The names of all entry points of `kernels/*.cu`.
pub fn kernels() -> Vec<&'static str> {
    tables().kernels.iter().filter(|k| !k.file.starts_with(TESTING)).map(|k| k.name).collect()
}

/// All structs that kernels take by value, each once, unless two files see it differently.
pub fn layouts() -> Vec<Layout> {
    layouts_of(|unit| !unit.starts_with(TESTING))
}

fn layouts_of(wanted: impl Fn(&str) -> bool) -> Vec<Layout> {
    let mut all = Vec::<Layout>::new();
    // SAFETY: registration ended before `main`.
    for i in 0..unsafe { ffi::emu_layout_count() } {
        let (mut unit, mut name, mut fields, mut offsets) =
            (std::ptr::null(), std::ptr::null(), std::ptr::null(), std::ptr::null());
        let (mut size, mut align, mut n) = (0, 0, 0);
        // SAFETY: `i` is below the count; what comes back lives as long as the program.
        let (unit, name, fields, offsets) = unsafe {
            ffi::emu_layout(i, &mut unit, &mut name, &mut size, &mut align, &mut fields, &mut offsets, &mut n);
            (text(unit), text(name), text(fields), slice(offsets, n))
        };
        let fields = fields.split(',').map(|f| f.trim().to_string()).zip(offsets.iter().copied()).collect();
        let layout = Layout { name: name.to_string(), size, align, fields };
        if wanted(unit) && !all.contains(&layout) {
            all.push(layout);
        }
    }
    all
}

/// Parameters where a launch reads them, each aligned as the strictest of them may need.
struct Parameters {
    _bytes: Vec<Line>,
    pointers: Vec<*mut c_void>,
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

impl Parameters {
    /// # Safety
    /// Each pointer leads to as many bytes as stand beside it.
    unsafe fn new(args: &[(*const c_void, usize)]) -> Parameters {
        let lines: usize = args.iter().map(|a| a.1.div_ceil(64)).sum();
        let mut bytes = vec![Line([0; 64]); lines];
        let mut at = bytes.as_mut_ptr();
        let mut pointers = Vec::with_capacity(args.len());
        for &(from, size) in args {
            // SAFETY: the source by the caller's promise; room for it was counted above.
            unsafe {
                at.cast::<u8>().copy_from_nonoverlapping(from.cast(), size);
                pointers.push(at.cast());
                at = at.add(size.div_ceil(64));
            }
        }
        Parameters { _bytes: bytes, pointers }
    }
}

/// A launch of the engine, ended when dropped.
struct Running(*mut ffi::Running);

// SAFETY: `emu_work` may run on several threads at once; that is what it is for.
unsafe impl Sync for Running {}

impl Drop for Running {
    fn drop(&mut self) {
        // SAFETY: begun by `emu_begin`, and nobody works on it any more.
        unsafe { ffi::emu_end(self.0) }
    }
}

impl Running {
    /// Runs blocks; true when some are left after the time is over.
    fn work(&self, budget_ns: u64) -> Result<bool, Failure> {
        // SAFETY: the launch lives as long as `self`.
        match unsafe { ffi::emu_work(self.0, budget_ns) } {
            2 => Err(Failure::refused("no memory for the stacks of a block's threads")),
            left => Ok(left == 1),
        }
    }
}

/// A launch that is not over after this time gets help from other threads. Starting one costs a tenth of it.
const ALONE_NS: u64 = 300_000;
/// Threads that help launches now, in the whole program.
static HELPERS: AtomicUsize = AtomicUsize::new(0);

fn take_helpers(blocks: u64) -> usize {
    static CORES: OnceLock<usize> = OnceLock::new(); // the system reads files to tell
    let cores = *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, |n| n.get()));
    let most = (cores - 1).min(blocks.saturating_sub(1).min(64) as usize);
    let mut taken = 0;
    // A helper too many does no harm, so two launches at the same moment may both take the last.
    while taken < most && HELPERS.load(Relaxed) < cores - 1 {
        HELPERS.fetch_add(1, Relaxed);
        taken += 1;
    }
    taken
}

/// One finding for each line of the source: where a compiler unrolls a loop, a line has several code addresses.
fn merged(findings: impl Iterator<Item = Finding>) -> Vec<Finding> {
    let mut all = Vec::<Finding>::new();
    for finding in findings {
        let same = |f: &&mut Finding| {
            f.kind == finding.kind
                && f.access == finding.access
                && f.place.frame().is_some()
                && f.place.frames == finding.place.frames
        };
        match all.iter_mut().find(same) {
            Some(first) => first.count += finding.count,
            None => all.push(finding),
        }
    }
    all
}

/// Runs a kernel to its end. `args` are its parameters, each by address and size.
///
/// Launches may run at the same time, also on one memory.
///
/// # Errors
/// The launch is impossible (a wrong number or size of parameters, too large a block), the kernel can't end, or the checker
/// found something. Memory then holds whatever the kernel had written so far.
///
/// # Safety
/// Each argument leads to a value of its parameter's type. Addresses in them are null or lead to buffers of `memory`, and the
/// kernel stays inside of those, or `check` is on. No buffer is freed, and no other thread uses the same bytes, before it returns.
pub unsafe fn launch(
    memory: &Memory,
    kernel: Kernel,
    grid: [u32; 3],
    block: [u32; 3],
    shared: u32,
    args: &[(*const c_void, usize)],
    options: &Options,
) -> Result<Report, Failure> {
    let start = Instant::now();
    let refuse = |why: String| Err(Failure::refused(format!("{} can't be launched: {why}", kernel.name)));
    let sizes: Vec<_> = args.iter().map(|a| a.1).collect();
    if sizes != kernel.parameters {
        return refuse(format!("its parameters have {:?} bytes, the arguments {sizes:?}", kernel.parameters));
    }
    if grid.contains(&0) || block.contains(&0) {
        return refuse(format!("a grid of {grid:?} blocks of {block:?} threads is empty"));
    }
    if grid[0] > i32::MAX as u32 || grid[1] > 65_535 || grid[2] > 65_535 {
        return refuse(format!("a grid of {grid:?} blocks is too large"));
    }
    if block.iter().map(|&n| u64::from(n)).product::<u64>() > u64::from(MAX_THREADS) || block[2] > 64 {
        return refuse(format!("a block of {block:?} threads is too large"));
    }
    if shared > MAX_SHARED {
        return refuse(format!("{shared} bytes of shared memory are more than {MAX_SHARED}"));
    }
    if sizes.iter().sum::<usize>() > 4096 {
        return refuse("its parameters have more than 4,096 bytes".into());
    }

    // SAFETY: the caller's promise.
    let mut parameters = unsafe { Parameters::new(args) };
    let number = if options.check { kernel.checked } else { kernel.plain };
    let arrays = &tables().arrays[number as usize];
    let array_regions: Vec<_> = arrays
        .iter()
        .map(|a| ffi::Region { base: a.offset as u64, size: a.size, written: std::ptr::null_mut(), known: 0, freed: 0 })
        .collect();
    let snapshot = options.check.then(|| memory.snapshot());
    let regions: &[ffi::Region] = snapshot.as_ref().map_or(&[], |s| &s.regions);
    let (order, seed) = match options.order {
        Order::Forward => (0, 0),
        Order::Reverse => (1, 0),
        Order::Shuffled(seed) => (2, seed),
    };
    let wish = ffi::Launch {
        kernel: number,
        check: u32::from(options.check),
        grid,
        block,
        shared,
        order,
        late: u32::from(options.copies == Copies::Late),
        pad: 0,
        seed,
        args: parameters.pointers.as_mut_ptr(),
        regions: regions.as_ptr(),
        region_count: regions.len() as u64,
        arrays: array_regions.as_ptr(),
        array_count: array_regions.len() as u64,
    };
    if !options.check {
        memory.unchecked_launch();
    }
    // SAFETY: everything that `wish` points to outlives the launch.
    let running = Running(unsafe { ffi::emu_begin(&wish) });
    let blocks = grid.iter().map(|&n| u64::from(n)).product::<u64>();
    if options.check || blocks == 1 {
        running.work(u64::MAX)?;
    } else if running.work(ALONE_NS)? {
        let helpers = take_helpers(blocks);
        let result = std::thread::scope(|scope| {
            for _ in 0..helpers {
                // A helper without memory leaves its work to the others.
                scope.spawn(|| _ = running.work(u64::MAX));
            }
            running.work(u64::MAX)
        });
        HELPERS.fetch_sub(helpers, Relaxed);
        result?;
    }

    let mut raw = std::mem::MaybeUninit::<ffi::Report>::uninit();
    // SAFETY: the launch is over, and the report is a plain struct that the call fills.
    let raw = unsafe {
        ffi::emu_report_of(running.0, raw.as_mut_ptr());
        raw.assume_init()
    };
    let findings: &[ffi::Finding] = match raw.finding_count {
        0 => &[],
        // SAFETY: as many findings lie there until the launch is ended.
        n => unsafe { std::slice::from_raw_parts(raw.findings, n as usize) },
    };
    let name = |i: u64| arrays.get(i as usize).map(|a| a.name.clone());
    let report = Report {
        blocks: raw.blocks,
        threads: raw.threads,
        barriers: raw.barriers,
        warp_collectives: raw.collectives,
        async_copies: raw.copies,
        mma: raw.mma,
        shared_bytes_used: raw.shared_used,
        static_shared_bytes: raw.static_used,
        global_bytes_read: raw.global_read,
        global_bytes_written: raw.global_written,
        findings: merged(findings.iter().map(|f| Finding::new(f, kernel.name, name))),
        time: start.elapsed(),
    };
    if report.findings.is_empty() {
        return Ok(report);
    }
    let (places, times) = (report.findings.len(), report.findings.iter().map(|f| f.count).sum::<u64>());
    let message = format!(
        "{} ({grid:?} blocks of {block:?} threads, {shared} bytes shared, {options:?}): {times} fault{} at {places} place{}",
        kernel.name,
        if times == 1 { "" } else { "s" },
        if places == 1 { "" } else { "s" }
    );
    Err(Failure { message, report: Box::new(report) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_name_all_fields() {
        let all = layouts_of(|unit| unit == "testing_prim");
        let fields = [("a", 0), ("b", 8), ("c", 16), ("d", 24), ("e", 32)].map(|(n, at)| (n.to_string(), at)).to_vec();
        assert_eq!(all, [Layout { name: "Mixed".into(), size: 48, align: 8, fields }]);
        assert!(layouts_of(|_| true).len() >= 2);
    }
}
