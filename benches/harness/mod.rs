//! A small bench harness: medians, rates, and the fraction of what this machine can do.
//!
//! Each case runs for about half a second after a warm-up; the median, the spread (fastest to 90th percentile) are printed,
//! then FLOP/s or bytes/s, then the fraction of the roofline: the larger of "all arithmetic at the machine's own
//! multiply-add rate" and "all bytes at its own copy rate", both measured in this process, divided by the time taken.
//! `cargo bench -- FILTER` runs the cases whose name contains FILTER; `--json FILE` appends one JSON line per case, with the
//! names that the scripts in `benches/peers` use. On a machine shared with others compare the fastest runs, not the medians.

#![allow(dead_code)] // every bench uses its part of it

use onecycle::device::cpu;
use std::io::Write;
use std::time::{Duration, Instant};

/// Runs and prints cases.
pub struct Bench {
    filter: Vec<String>,
    flags: Vec<String>,
    json: Option<std::path::PathBuf>,
    ceilings: cpu::ceilings::Ceilings,
    quick: bool,
}

impl Bench {
    /// Reads the arguments, measures the ceilings, prints the heading.
    pub fn start(title: &str) -> Bench {
        let mut args = std::env::args().skip(1).peekable();
        let (mut filter, mut flags, mut json, mut quick) = (Vec::new(), Vec::new(), None, false);
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--bench" | "--exact" => {}
                "--quick" => quick = true,
                "--json" => json = args.next().map(Into::into),
                flag if flag.starts_with("--") => flags.push(flag.to_string()),
                name => filter.push(name.to_string()),
            }
        }
        let ceilings = cpu::ceilings::measure();
        println!(
            "{title}: {} threads, {:?}; ceilings measured now: {:.0} GFLOP/s, {:.1} GB/s",
            cpu::thread_count(),
            cpu::simd::level(),
            ceilings.flops / 1e9,
            ceilings.bytes / 1e9
        );
        println!("{:<44} {:>10} {:>16} {:>13} {:>9}", "case", "median", "spread", "rate", "roofline");
        Bench { filter, flags, json, ceilings, quick }
    }

    /// Whether the command line asks for the case `name`.
    pub fn wants(&self, name: &str) -> bool {
        self.filter.is_empty() || self.filter.iter().any(|p| name.contains(p.as_str()))
    }

    /// Whether the command line has the flag `name`, such as `--profile`.
    pub fn flag(&self, name: &str) -> bool {
        self.flags.iter().any(|f| f == name)
    }

    /// Times `f`, which does `flop` operations on `bytes` of distinct input and output.
    pub fn case(&self, name: &str, flop: f64, bytes: f64, mut f: impl FnMut()) {
        self.timed(name, flop, bytes, || {
            let t = Instant::now();
            f();
            t.elapsed()
        });
    }

    /// As [`Bench::case`], for work that needs a preparation outside the clock: `f` says how long its work took.
    pub fn timed(&self, name: &str, flop: f64, bytes: f64, f: impl FnMut() -> Duration) {
        self.run(name, Work { flop, bytes, items: 0 }, f);
    }

    /// Times `f`, which handles `items` pictures: pictures a second, and the time of one in place of the roofline.
    pub fn items(&self, name: &str, items: usize, f: impl FnMut() -> Duration) {
        self.run(name, Work { flop: 0.0, bytes: 0.0, items }, f);
    }

    fn run(&self, name: &str, work: Work, mut f: impl FnMut() -> Duration) {
        if !self.wants(name) {
            return;
        }
        f();
        f();
        let budget = Duration::from_millis(if self.quick { 50 } else { 500 });
        let (start, mut times, cpu_before) = (Instant::now(), Vec::new(), cpu_seconds());
        while times.len() < 5 || (start.elapsed() < budget && times.len() < 1000) {
            times.push(f().as_secs_f64());
        }
        let cpu = (cpu_seconds() - cpu_before) / times.len() as f64;
        times.sort_by(f64::total_cmp);
        let at = |q: f64| times[((times.len() - 1) as f64 * q).round() as usize];
        let (median, low, high) = (at(0.5), at(0.0), at(0.9));
        let Work { flop, bytes, items } = work;
        let floor = (flop / self.ceilings.flops).max(bytes / self.ceilings.bytes);
        let by_flops = flop / self.ceilings.flops >= bytes / self.ceilings.bytes;
        let rate = match (items, by_flops) {
            (1.., _) => format!("{:.0} img/s", items as f64 / median),
            (0, true) => format!("{:.1} GFLOP/s", flop / median / 1e9),
            (0, false) => format!("{:.1} GB/s", bytes / median / 1e9),
        };
        let last = match items {
            0 => format!("{:.0}%", 100.0 * floor / median),
            n => time(median / n as f64),
        };
        let spread = format!("{}..{}", time(low), time(high));
        println!("{name:<44} {:>10} {spread:>16} {rate:>13} {last:>9}", time(median));
        if let Some(path) = &self.json {
            let line = format!(
                "{{\"bench\":\"{name}\",\"us\":{:.1},\"us_min\":{:.1},\"us_p90\":{:.1},\"us_cpu\":{:.0},\"flop\":{flop},\"bytes\":{bytes},\"items\":{items},\
                 \"threads\":{},\"peak_rss_mb\":{:.0}}}\n",
                median * 1e6,
                low * 1e6,
                high * 1e6,
                cpu * 1e6,
                cpu::thread_count(),
                peak_rss_mb()
            );
            let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
            if let Err(e) = file.and_then(|mut f| f.write_all(line.as_bytes())) {
                eprintln!("cannot append to {}: {e}", path.display());
            }
        }
    }
}

/// What one run of a case does.
struct Work {
    flop: f64,
    bytes: f64,
    /// Pictures; 0 where the roofline says more.
    items: usize,
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
