//! A small bench harness: medians, rates, and the fraction of what this machine can do.
//!
//! Each case runs for half a second at most after a warm-up. A row has the median, the spread (fastest to 90th percentile, in the median's
//! unit), FLOP/s and bytes/s, the floor in microseconds and which roof it is (`roofs.rs`), the fraction of the floor that was reached, and
//! on a GPU what `predict.py` had said before. `cargo bench -- FILTER` runs the cases whose name contains FILTER; `--json FILE` appends
//! one JSON line per case, with the names that the scripts in `benches/peers` use. On a machine shared with others compare the
//! fastest runs, not the medians.
//!
//! Without `--device` a GPU is taken where there is one, else the processor, and why is said in one line. `--device cpu`, `cuda` or
//! `cuda:N`, `--dtype f32|f16|bf16` (bf16 on a GPU, unless said otherwise) and `--batch N` choose where, in what numbers and on how
//! many pictures to compute; `--kernels naive|tiled|tensor|fused` which rung of the ladder whole steps take, `--tf32` that f32 may be computed
//! by tensor cores. A GPU works while the host goes on, so a sample there is a batch of runs between two waits. `--once` runs each
//! case once and measures nothing: for a profiler that does. `--device emulator` runs the GPU's path without a GPU, and `--tiny` shrinks the
//! shapes: neither's times mean anything, they show that the bench itself works.

#![allow(dead_code)] // every bench uses its part of it

mod check;
#[path = "../../tests/common/emulated.rs"]
mod emulated;
mod predictions;
mod roofs;
mod row;

use onecycle::device::cuda::Gpu;
use onecycle::ops::ladder::{self, Rung};
use onecycle::{DType, Device, Error, ErrorKind, Result};
use predictions::Predictions;
use roofs::Roofs;
use row::{Samples, Work};
use std::cell::Cell;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

/// Runs and prints cases.
pub struct Bench {
    filter: Vec<String>,
    flags: Vec<String>,
    json: Option<std::path::PathBuf>,
    roofs: Option<Roofs>,
    predictions: Predictions,
    quick: bool,
    /// Kernels that computed something else.
    wrong: Cell<usize>,
    /// Where the cases compute.
    pub device: Device,
    /// The type of activations.
    pub dtype: DType,
    /// Pictures, where the command line says how many.
    pub batch: Option<usize>,
    /// Shapes are to be small: nothing is measured.
    pub tiny: bool,
}

/// What the emulator's file asks of the tests that it usually stands among.
fn skip(why: std::fmt::Arguments<'_>) {
    eprintln!("skipped: {why}");
}

/// What the command line says.
pub fn arguments() -> Vec<String> {
    std::env::args().skip(1).collect()
}

impl Bench {
    /// Reads the arguments, measures the ceilings, prints the heading. Ends the program where the arguments can't be followed.
    pub fn start(title: &str, arguments: Vec<String>) -> Bench {
        Bench::try_start(title, arguments).unwrap_or_else(|e| {
            eprintln!("{e}");
            std::process::exit(1);
        })
    }

    fn try_start(title: &str, arguments: Vec<String>) -> std::result::Result<Bench, String> {
        let mut args = arguments.into_iter();
        let (mut filter, mut flags, mut json, mut quick, mut tiny) = (Vec::new(), Vec::new(), None, false, false);
        let (mut device, mut dtype, mut batch, mut predictions, mut once) = (None, None, None, None, false);
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--bench" | "--exact" => {}
                "--quick" => quick = true,
                "--once" => once = true,
                "--tiny" => tiny = true,
                "--json" => json = args.next().map(Into::into),
                "--predictions" => predictions = args.next(),
                "--device" => device = Some(device_called(&args.next().unwrap_or_default())?),
                "--dtype" => {
                    let name = args.next().unwrap_or_default();
                    let known = [DType::F32, DType::F16, DType::BF16].into_iter().find(|d| d.to_string() == name);
                    dtype = Some(known.ok_or(format!("--dtype takes f32, f16 or bf16, not `{name}`"))?);
                }
                "--kernels" => {
                    let name = args.next().unwrap_or_default();
                    let rung = Rung::ALL.into_iter().find(|rung| rung.name() == name);
                    let known = "--kernels takes naive, tiled, tensor or fused";
                    ladder::set_highest(rung.ok_or(format!("{known}, not `{name}`"))?);
                }
                "--tf32" => ladder::set_tf32(true),
                "--batch" => {
                    let number = args.next().unwrap_or_default();
                    let pictures = number.parse().ok().filter(|n| *n > 0);
                    batch = Some(pictures.ok_or(format!("--batch takes a number of pictures, not `{number}`"))?);
                }
                flag if flag.starts_with("--") => flags.push(flag.to_string()),
                name => filter.push(name.to_string()),
            }
        }
        let device = device.unwrap_or_else(|| {
            "cuda".parse().unwrap_or_else(|e: onecycle::Error| {
                let why = e.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
                println!("no rows of a GPU: {why}");
                Device::Cpu
            })
        });
        let on_gpu = matches!(device, Device::Cuda(_));
        let dtype = dtype.unwrap_or(if on_gpu { DType::BF16 } else { DType::F32 });
        if !on_gpu && dtype.is_half() {
            return Err(format!("the processor computes in f32, not in {dtype}"));
        }
        tiny |= device.to_string().starts_with("emulator");
        quick |= tiny;
        let roofs = if once { None } else { Some(Roofs::measure(device, dtype, tiny).map_err(|e| e.to_string())?) };
        let predictions =
            if on_gpu { Predictions::read(predictions.as_deref(), dtype)? } else { Predictions::default() };
        let bench =
            Bench { filter, flags, json, roofs, predictions, quick, wrong: Cell::new(0), device, dtype, batch, tiny };
        bench.print_heading(title);
        Ok(bench)
    }

    /// Whether the command line asks for the case `name`.
    pub fn wants(&self, name: &str) -> bool {
        self.filter.is_empty() || self.filter.iter().any(|p| name.contains(p.as_str()))
    }

    /// Whether the command line has the flag `name`, such as `--profile`.
    pub fn flag(&self, name: &str) -> bool {
        self.flags.iter().any(|f| f == name)
    }

    /// Whether the cases compute on a GPU, or on what stands for one.
    pub fn on_gpu(&self) -> bool {
        self.gpu().is_some()
    }

    fn gpu(&self) -> Option<Gpu> {
        match self.device {
            Device::Cuda(gpu) => Some(gpu),
            _ => None,
        }
    }

    /// Waits for the device.
    pub fn synchronize(&self) -> Result<()> {
        self.gpu().map_or(Ok(()), |gpu| gpu.synchronize())
    }

    /// How many sets of inputs of `bytes` in turns no cache keeps; 1 on the processor.
    pub fn rotation(&self, bytes: f64) -> usize {
        // Several times the 60 MB of the largest cache of a GPU.
        let measured = self.on_gpu() && !self.tiny && self.roofs.is_some() && !self.flag("--warm");
        if measured { (400e6 / bytes.max(1.0)).ceil().clamp(1.0, 16.0) as usize } else { 1 }
    }

    /// Times `f`, which does `flop` operations on `bytes` of distinct input and output.
    pub fn case(&self, name: &str, flop: f64, bytes: f64, mut f: impl FnMut()) {
        self.run(name, "", Work { flop, bytes, items: 0 }, 1..=200, || (), |()| f());
    }

    /// As [`Bench::case`], for one of several ways to do the same.
    pub fn way(&self, name: &str, way: &str, flop: f64, bytes: f64, mut f: impl FnMut()) {
        self.run(name, way, Work { flop, bytes, items: 0 }, 1..=200, || (), |()| f());
    }

    /// As [`Bench::case`], for work on something that is prepared outside the clock.
    pub fn prepared<T>(&self, name: &str, flop: f64, bytes: f64, prepare: impl FnMut() -> T, f: impl FnMut(T)) {
        // A few at once on a GPU: what was prepared takes memory.
        self.run(name, "", Work { flop, bytes, items: 0 }, 1..=8, prepare, f);
    }

    /// Times `f`, one of several ways to handle `items` pictures with `flop` operations: pictures a second.
    pub fn pictures(&self, name: &str, way: &str, items: usize, flop: f64, mut f: impl FnMut()) {
        // Several in a row on a GPU: in a training the host is a step ahead, and so it should be here.
        self.run(name, way, Work { flop, bytes: 0.0, items }, 6..=200, || (), |()| f());
    }

    /// Times work of the processor on `items` pictures, which says itself how long it took: pictures a second.
    pub fn items(&self, name: &str, items: usize, mut f: impl FnMut() -> Duration) {
        if self.wants(name) {
            f();
            f();
            let times = self.samples(|| f().as_secs_f64());
            self.print(name, "", Work { flop: 0.0, bytes: 0.0, items }, times);
        }
    }

    fn run<T>(
        &self,
        name: &str,
        way: &str,
        work: Work,
        batch: RangeInclusive<usize>,
        mut prepare: impl FnMut() -> T,
        mut f: impl FnMut(T),
    ) {
        if !self.wants(name) {
            return;
        }
        f(prepare());
        if self.roofs.is_none() {
            self.wait();
            return println!("{name} {way}");
        }
        f(prepare());
        let mut sample = |runs: usize| {
            let ready: Vec<T> = (0..runs).map(|_| prepare()).collect();
            self.wait();
            let start = Instant::now();
            ready.into_iter().for_each(&mut f);
            self.wait();
            start.elapsed().as_secs_f64() / runs as f64
        };
        // The processor is done when the call returns. A GPU's run is shorter than the wait for it may be.
        let runs = match self.on_gpu() {
            true if !self.tiny => {
                let enough = (3e-3 / sample(*batch.start()).max(1e-9)).ceil() as usize;
                enough.clamp(*batch.start(), *batch.end())
            }
            _ => 1,
        };
        let times = self.samples(|| sample(runs));
        self.print(name, way, work, times);
    }

    /// A failed device would only be noticed by its wrong times.
    fn wait(&self) {
        self.synchronize().unwrap_or_else(|e| panic!("{e}"));
    }

    /// Seconds of a run, many times; the processor's seconds come last.
    fn samples(&self, mut sample: impl FnMut() -> f64) -> Samples {
        let budget = Duration::from_millis(if self.tiny {
            0
        } else if self.quick {
            50
        } else {
            500
        });
        // A GPU's samples are batches of runs, and its time is dear.
        let (least, most) = if self.tiny { (2, 2) } else { (5, if self.on_gpu() { 30 } else { 1000 }) };
        let (start, mut times, cpu_before) = (Instant::now(), Vec::new(), cpu_seconds());
        while times.len() < least || (start.elapsed() < budget && times.len() < most) {
            times.push(sample());
        }
        let cpu = (cpu_seconds() - cpu_before) / times.len() as f64;
        times.sort_by(f64::total_cmp);
        Samples { times, cpu }
    }

    /// The last line on a GPU: its roof over memory once more. Far from the first, it says that the numbers between are not to be trusted.
    ///
    /// # Errors
    /// A kernel computed something else than a lower rung.
    pub fn end(self) -> Result<()> {
        if let (Some(gpu), Some(roofs), false) = (self.gpu(), &self.roofs, self.tiny) {
            match roofs::copy_rate(gpu, self.tiny) {
                Ok(bytes) => {
                    let off = 100.0 * (bytes / roofs.bytes - 1.0);
                    let mark = if off.abs() > 3.0 { ": the GPU wasn't the same all the time" } else { "" };
                    println!("copying at the end: {:.1} GB/s, {off:+.1} %{mark}", bytes / 1e9);
                }
                Err(e) => eprintln!("{e}"),
            }
        }
        match self.wrong.get() {
            0 => Ok(()),
            n => Err(Error::new(ErrorKind::Device, format!("{n} results are wrong; what is off stands above"))),
        }
    }
}

fn device_called(name: &str) -> std::result::Result<Device, String> {
    match name {
        "emulator" => emulated::device(emulated::Mode::Plain).ok_or_else(|| "there is no emulator".to_owned()),
        name => name.parse::<Device>().map_err(|e| e.to_string()),
    }
}

/// Seconds that all threads of this process computed, in steps of 10 ms; 0 where the system doesn't tell. On a crowded machine they
/// say more than wall time: waiting for a turn doesn't count.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Fields 14 and 15, counted from behind the program's name, which may hold spaces.
    let ticks = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    ticks.filter_map(|t| t.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// The most memory this process ever had, in MB (10^6 bytes); 0 where the system doesn't tell.
pub fn peak_rss_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = line.and_then(|l| l.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(0.0) * 1024.0 / 1e6
}
