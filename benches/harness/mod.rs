//! A small bench harness: medians, rates, and the fraction of what this machine can do.
//!
//! Each case runs for about half a second after a warm-up; the median, the spread (fastest to 90th percentile) are printed,
//! then FLOP/s or bytes/s, then the fraction of the roofline: the larger of "all arithmetic at the machine's own
//! multiply-add rate" and "all bytes at its own copy rate", both measured in this process, divided by the time taken.
//! `cargo bench -- FILTER` runs the cases whose name contains FILTER; `--json FILE` appends one JSON line per case, with the
//! names that the scripts in `benches/peers` use. On a machine shared with others compare the fastest runs, not the medians.
//!
//! `--device cuda` (or `cuda:N`) and `--dtype f32|f16|bf16` choose where and in what numbers to compute. A GPU works while the host
//! goes on, so a sample there is a batch of runs between two waits. Its only roof is memory's: a case that computes shows no
//! fraction, because nothing here measures a GPU's arithmetic. `--device emulator` runs the GPU's path without a GPU, and `--tiny`
//! shrinks the shapes: neither's times mean anything, they show that the bench itself works.

#![allow(dead_code)] // every bench uses its part of it

#[path = "../../tests/common/emulated.rs"]
mod emulated;

use onecycle::device::cpu;
use onecycle::device::cuda::{Gpu, ceilings};
use onecycle::{DType, Device, Result};
use std::io::Write;
use std::time::{Duration, Instant};

/// Runs and prints cases.
pub struct Bench {
    filter: Vec<String>,
    flags: Vec<String>,
    json: Option<std::path::PathBuf>,
    roofs: Roofs,
    quick: bool,
    /// Where the cases compute.
    pub device: Device,
    /// The type of activations.
    pub dtype: DType,
    /// Shapes are to be small: nothing is measured.
    pub tiny: bool,
}

#[derive(Clone, Copy)]
struct Roofs {
    /// Operations a second, where that was measured.
    flops: Option<f64>,
    /// Bytes a second.
    bytes: f64,
}

/// What the emulator's file asks of the tests that it usually stands among.
fn skip(why: std::fmt::Arguments<'_>) {
    eprintln!("skipped: {why}");
}

impl Bench {
    /// Reads the arguments, measures the ceilings, prints the heading. Ends the program where the arguments can't be followed.
    pub fn start(title: &str) -> Bench {
        Bench::try_start(title).unwrap_or_else(|e| {
            eprintln!("{e}");
            std::process::exit(1);
        })
    }

    fn try_start(title: &str) -> std::result::Result<Bench, String> {
        let mut args = std::env::args().skip(1);
        let (mut filter, mut flags, mut json, mut quick, mut tiny) = (Vec::new(), Vec::new(), None, false, false);
        let (mut device, mut dtype) = (Device::Cpu, DType::F32);
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--bench" | "--exact" => {}
                "--quick" => quick = true,
                "--tiny" => tiny = true,
                "--json" => json = args.next().map(Into::into),
                "--device" => device = device_called(&args.next().unwrap_or_default())?,
                "--dtype" => {
                    let name = args.next().unwrap_or_default();
                    let known = [DType::F32, DType::F16, DType::BF16].into_iter().find(|d| d.to_string() == name);
                    dtype = known.ok_or(format!("--dtype takes f32, f16 or bf16, not `{name}`"))?;
                }
                flag if flag.starts_with("--") => flags.push(flag.to_string()),
                name => filter.push(name.to_string()),
            }
        }
        let emulated = device.to_string().starts_with("emulator");
        tiny |= emulated;
        quick |= tiny;
        let roofs = match device {
            Device::Cuda(gpu) => roofs_of(gpu, tiny).map_err(|e| e.to_string())?,
            _ if dtype.is_half() => return Err(format!("the processor computes in f32, not in {dtype}")),
            _ => {
                let cpu::ceilings::Ceilings { flops, bytes } = cpu::ceilings::measure();
                Roofs { flops: Some(flops), bytes }
            }
        };
        let place = match device {
            Device::Cuda(gpu) => {
                let d = gpu.description();
                format!("{} ({device}, driver {}), {dtype}", d.name, d.driver)
            }
            _ => format!("{} threads, {:?}, {dtype}", cpu::thread_count(), cpu::simd::level()),
        };
        let flops = roofs.flops.map_or("-".to_owned(), |f| format!("{:.0}", f / 1e9));
        println!("{title}: {place}; ceilings measured now: {flops} GFLOP/s, {:.1} GB/s", roofs.bytes / 1e9);
        if tiny {
            println!("tiny shapes: the times mean nothing");
        }
        println!("{:<52} {:>10} {:>16} {:>13} {:>9}", "case", "median", "spread", "rate", "roofline");
        Ok(Bench { filter, flags, json, roofs, quick, device, dtype, tiny })
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
        if self.on_gpu() && !self.tiny { (400e6 / bytes.max(1.0)).ceil().clamp(1.0, 16.0) as usize } else { 1 }
    }

    /// Times `f`, which does `flop` operations on `bytes` of distinct input and output.
    pub fn case(&self, name: &str, flop: f64, bytes: f64, mut f: impl FnMut()) {
        self.run(name, "", Work { flop, bytes, items: 0 }, 200, || (), |()| f());
    }

    /// As [`Bench::case`], for one of several ways to do the same.
    pub fn way(&self, name: &str, way: &str, flop: f64, bytes: f64, mut f: impl FnMut()) {
        self.run(name, way, Work { flop, bytes, items: 0 }, 200, || (), |()| f());
    }

    /// As [`Bench::case`], for work on something that is prepared outside the clock.
    pub fn prepared<T>(&self, name: &str, flop: f64, bytes: f64, prepare: impl FnMut() -> T, f: impl FnMut(T)) {
        // A few at once on a GPU: what was prepared takes memory.
        self.run(name, "", Work { flop, bytes, items: 0 }, 8, prepare, f);
    }

    /// Times `f`, one of several ways to handle `items` pictures with `flop` operations: pictures a second.
    pub fn pictures(&self, name: &str, way: &str, items: usize, flop: f64, mut f: impl FnMut()) {
        self.run(name, way, Work { flop, bytes: 0.0, items }, 200, || (), |()| f());
    }

    /// Times work of the processor on `items` pictures, which says itself how long it took: pictures a second, and the time of one.
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
        most: usize,
        mut prepare: impl FnMut() -> T,
        mut f: impl FnMut(T),
    ) {
        if !self.wants(name) {
            return;
        }
        f(prepare());
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
            true if !self.tiny => (3e-3 / sample(1).max(1e-9)).ceil().clamp(1.0, most as f64) as usize,
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
        let least = if self.tiny { 2 } else { 5 };
        let (start, mut times, cpu_before) = (Instant::now(), Vec::new(), cpu_seconds());
        while times.len() < least || (start.elapsed() < budget && times.len() < 1000) {
            times.push(sample());
        }
        let cpu = (cpu_seconds() - cpu_before) / times.len() as f64;
        times.sort_by(f64::total_cmp);
        Samples { times, cpu }
    }

    fn print(&self, name: &str, way: &str, work: Work, Samples { times, cpu }: Samples) {
        let at = |q: f64| times[((times.len() - 1) as f64 * q).round() as usize];
        let (median, low, high) = (at(0.5), at(0.0), at(0.9));
        let Work { flop, bytes, items } = work;
        let by_bytes = bytes / self.roofs.bytes;
        let by_flops = match self.roofs.flops {
            Some(rate) => Some(flop / rate),
            None if flop == 0.0 => Some(0.0),
            None => None,
        };
        let computes = by_flops.is_none_or(|seconds| seconds >= by_bytes);
        let flops = || match flop / median {
            rate if rate < 1e12 => format!("{:.1} GFLOP/s", rate / 1e9),
            rate => format!("{:.1} TFLOP/s", rate / 1e12),
        };
        let rate = match items {
            1.. => format!("{:.0} img/s", items as f64 / median),
            0 if computes => flops(),
            0 => format!("{:.1} GB/s", bytes / median / 1e9),
        };
        let last = match (items, by_flops) {
            (1.., _) if flop > 0.0 => flops(),
            (1.., _) => time(median / items as f64),
            (0, Some(by_flops)) => format!("{:.0}%", 100.0 * by_flops.max(by_bytes) / median),
            (0, None) => "-".to_owned(),
        };
        let spread = format!("{}..{}", time(low), time(high));
        let shown = if way.is_empty() { name.to_owned() } else { format!("{name} ({way})") };
        println!("{shown:<52} {:>10} {spread:>16} {rate:>13} {last:>9}", time(median));
        if let Some(path) = &self.json {
            let device = self.gpu().map_or("cpu".to_owned(), |gpu| gpu.description().name.clone());
            let line = format!(
                "{{\"bench\":\"{name}\",\"mode\":\"{way}\",\"device\":\"{device}\",\"dtype\":\"{}\",\"us\":{:.1},\"us_min\":{:.1},\
                 \"us_p90\":{:.1},\"us_cpu\":{:.0},\"flop\":{flop},\"bytes\":{bytes},\"items\":{items},\"copy_gb_s\":{:.1},\
                 \"threads\":{},\"peak_rss_mb\":{:.0},\"peak_gpu_mb\":{:.0}}}\n",
                self.dtype,
                median * 1e6,
                low * 1e6,
                high * 1e6,
                cpu * 1e6,
                self.roofs.bytes / 1e9,
                cpu::thread_count(),
                peak_rss_mb(),
                self.gpu().map_or(0.0, |gpu| gpu.usage().1 as f64 / 1e6),
            );
            let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
            if let Err(e) = file.and_then(|mut f| f.write_all(line.as_bytes())) {
                eprintln!("cannot append to {}: {e}", path.display());
            }
        }
    }

    /// The last line on a GPU: its roof once more. Far from the first, it says that the numbers between are not to be trusted.
    pub fn end(self) {
        if let Some(gpu) = self.gpu().filter(|_| !self.tiny) {
            match roofs_of(gpu, self.tiny) {
                Ok(Roofs { bytes, .. }) => {
                    let off = 100.0 * (bytes / self.roofs.bytes - 1.0);
                    let mark = if off.abs() > 3.0 { ": the GPU wasn't the same all the time" } else { "" };
                    println!("copying at the end: {:.1} GB/s, {off:+.1} %{mark}", bytes / 1e9);
                }
                Err(e) => eprintln!("{e}"),
            }
        }
    }
}

fn device_called(name: &str) -> std::result::Result<Device, String> {
    match name {
        "emulator" => emulated::device(emulated::Mode::Plain).ok_or_else(|| "there is no emulator".to_owned()),
        name => name.parse::<Device>().map_err(|e| e.to_string()),
    }
}

fn roofs_of(gpu: Gpu, tiny: bool) -> Result<Roofs> {
    Ok(Roofs { flops: None, bytes: ceilings::copy_rate(gpu, if tiny { 1 << 20 } else { 1 << 30 })? })
}

/// What one run of a case does.
struct Work {
    flop: f64,
    bytes: f64,
    /// Pictures; 0 where the roofline says more.
    items: usize,
}

/// Sorted seconds, and the processor's for each.
struct Samples {
    times: Vec<f64>,
    cpu: f64,
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

fn time(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{:.0} us", s * 1e6),
        s if s < 1.0 => format!("{:.2} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}
