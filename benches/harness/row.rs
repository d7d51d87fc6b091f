//! A case's row: printed, and as JSON.

use super::roofs::{Floor, Roofs};
use super::{Bench, peak_rss_mb};
use onecycle::Device;
use onecycle::device::cpu;
use std::io::Write;

/// What one run of a case does.
#[derive(Clone, Copy)]
pub struct Work {
    pub flop: f64,
    pub bytes: f64,
    /// Pictures; 0 where that is no measure.
    pub items: usize,
}

/// Sorted seconds, and the processor's for each.
pub struct Samples {
    pub times: Vec<f64>,
    pub cpu: f64,
}

impl Bench {
    pub(super) fn print_heading(&self, title: &str) {
        let place = match self.device {
            Device::Cuda(gpu) => {
                let d = gpu.description();
                format!("{} ({}, driver {})", d.name, self.device, d.driver)
            }
            _ => format!("{} threads, {:?}", cpu::thread_count(), cpu::simd::level()),
        };
        println!("{title}: {place}, {}", self.dtype);
        match &self.roofs {
            Some(roofs) => println!("ceilings, measured now: {}", roofs.words()),
            None => return println!("each case once, nothing is measured"),
        }
        if self.tiny {
            println!("tiny shapes: the times mean nothing");
        }
        let predicted = match self.predictions.card.as_str() {
            "" => "",
            card => {
                println!("predicted: for one {card}, before any run");
                "predicted"
            }
        };
        let line = format!(
            "{:<53} {:>8} {:>12} {:>7} {:>7} {:>19} {:>4} {predicted:>9}",
            "case", "median", "spread", "FLOP/s", "bytes/s", "floor, us", "%"
        );
        println!("{}", line.trim_end());
    }

    pub(super) fn print(&self, name: &str, way: &str, work: Work, Samples { times, cpu }: Samples) {
        let Some(roofs) = &self.roofs else { return };
        let at = |q: f64| times[((times.len() - 1) as f64 * q).round() as usize];
        let (median, low, high) = (at(0.5), at(0.0), at(0.9));
        let step = self.predictions.step(name);
        let bytes = step.map_or(work.bytes, |(bytes, _)| bytes);
        let floor = match step {
            Some((_, parts)) => roofs.floor_of_both(parts.flop, parts.bytes),
            None => roofs.floor(work.flop, work.bytes),
        };
        let predicted = self.predictions.us(name, way);

        let shown = if way.is_empty() { name.to_owned() } else { format!("{name} {way}") };
        let shown = match work.items {
            0 => shown,
            items => format!("{shown:<39} {:>7.0} img/s", items as f64 / median),
        };
        let (unit, scale) = match median {
            s if s < 1e-3 => ("us", 1e6),
            s if s < 1.0 => ("ms", 1e3),
            _ => ("s", 1.0),
        };
        let three = |x: f64| significant(x * scale);
        let line = format!(
            "{shown:<53} {:>8} {:>12} {:>7} {:>7} {:>19} {:>4} {:>9}",
            format!("{} {unit}", three(median)),
            format!("{}..{}", three(low), three(high)),
            rate(work.flop / median),
            rate(bytes / median),
            if floor.seconds > 0.0 {
                format!("{} {}", significant(floor.seconds * 1e6), floor.kind)
            } else {
                "-".into()
            },
            if floor.seconds > 0.0 { format!("{:.0}", 100.0 * floor.seconds / median) } else { "-".into() },
            predicted.map_or(String::new(), |us| significant(us / 1e6 * scale)),
        );
        println!("{}", line.trim_end());
        if let Some(path) = &self.json {
            let line =
                self.json_line(name, way, Work { bytes, ..work }, [median, low, high, cpu], roofs, &floor, predicted);
            let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
            if let Err(e) = file.and_then(|mut f| f.write_all(line.as_bytes())) {
                eprintln!("cannot append to {}: {e}", path.display());
            }
        }
    }

    /// The heading of what [`Bench::beside_operation`] says.
    pub fn heading_of_operations(&self) -> String {
        match self.predictions.card.as_str() {
            "" => String::new(),
            _ => format!(" {:>9} {:>4} {:>9}", "floor, ms", "%", "predicted"),
        }
    }

    /// Beside the seconds that an operation of a step takes: the floor of all its kernels, the fraction, and what was predicted. Empty where nothing was
    /// predicted.
    pub fn beside_operation(&self, step: &str, operation: &str, way: &str, seconds: f64) -> String {
        let (Some(roofs), Some((parts, us))) = (&self.roofs, self.predictions.operation(step, operation, way)) else {
            return String::new();
        };
        let floor = roofs.floor_of_both(parts.flop, parts.bytes).seconds;
        let (fraction, predicted) =
            (100.0 * floor / seconds, us.map_or(String::new(), |us| format!("{:.2}", us / 1e3)));
        format!(" {:>9.2} {fraction:>4.0} {predicted:>9}", floor * 1e3).trim_end().to_owned()
    }

    fn json_line(
        &self,
        name: &str,
        way: &str,
        Work { flop, bytes, items }: Work,
        [median, low, high, cpu]: [f64; 4],
        roofs: &Roofs,
        floor: &Floor,
        predicted: Option<f64>,
    ) -> String {
        let (device, peak_gpu_mb) = match self.device {
            Device::Cuda(gpu) => (gpu.description().name.clone(), gpu.usage().1 as f64 / 1e6),
            _ => ("cpu".to_owned(), 0.0),
        };
        format!(
            "{{\"bench\":\"{name}\",\"mode\":\"{way}\",\"device\":\"{device}\",\"dtype\":\"{}\",\"us\":{:.1},\"us_min\":{:.1},\
             \"us_p90\":{:.1},\"us_cpu\":{:.0},\"flop\":{flop},\"bytes\":{bytes},\"items\":{items},\"floor_us\":{:.2},\
             \"floor_kind\":\"{}\",\"fraction\":{:.4},\"predicted_us\":{},\"copy_gb_s\":{:.1},\"ceilings\":{},\"threads\":{},\
             \"peak_rss_mb\":{:.0},\"peak_gpu_mb\":{peak_gpu_mb:.0}}}\n",
            self.dtype,
            median * 1e6,
            low * 1e6,
            high * 1e6,
            cpu * 1e6,
            floor.seconds * 1e6,
            floor.kind,
            floor.seconds / median,
            predicted.map_or("null".to_owned(), |us| us.to_string()),
            roofs.bytes / 1e9,
            roofs.json(),
            cpu::thread_count(),
            peak_rss_mb(),
        )
    }
}

/// Three digits and no more than needed.
fn significant(x: f64) -> String {
    match x {
        x if x >= 100.0 => format!("{x:.0}"),
        x if x >= 10.0 => format!("{x:.1}"),
        x => format!("{x:.2}"),
    }
}

/// Of a second, with the prefix of the unit.
fn rate(x: f64) -> String {
    match x {
        x if x >= 1e12 => format!("{} T", significant(x / 1e12)),
        x if x >= 1e9 => format!("{} G", significant(x / 1e9)),
        x if x > 0.0 => format!("{} M", significant(x / 1e6)),
        _ => "-".to_owned(),
    }
}
