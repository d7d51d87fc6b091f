//! What the system says of the machine, for reports and for budgets. Linux tells it in files; elsewhere nothing is known, and
//! whoever asks has an answer for that.

use std::fs::read_to_string;

/// The processor's name, `AMD EPYC 9654`, where the system tells.
pub fn model_name() -> Option<String> {
    let text = read_to_string("/proc/cpuinfo").ok()?;
    // On ARM there is no such line.
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'))?.1.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// Bytes of memory that a program can still have, and bytes in all, where the system tells.
pub fn memory() -> Option<(usize, usize)> {
    let text = read_to_string("/proc/meminfo").ok()?;
    let of = |name: &str| -> Option<usize> {
        let kib = text.lines().find_map(|line| line.strip_prefix(name))?.trim().strip_suffix("kB")?;
        kib.trim().parse::<usize>().ok().map(|kib| kib << 10)
    };
    Some((of("MemAvailable:")?, of("MemTotal:")?))
}
