//! `onecycle doctor`: what this machine and this program can compute on, and what is missing; `--json` for scripts. What to send
//! along with a question.

use crate::cli::flags::Device as Named;
use crate::cli::settings::DoctorSettings;
use crate::cli::{Context, run};
use crate::device::cuda::step;
use crate::device::report::{Gpu, Kernels, Memory, Report, Standing};
use crate::fs::size;
use crate::learner::colour;
use crate::ops::ladder;
use crate::{Device, Result};
use std::collections::BTreeMap;

/// A heading, and names with what there is to say of them.
type Section = (&'static str, Vec<(String, String)>);

/// Runs the command.
///
/// # Errors
/// When `--device` names a GPU that can't be used; the report has been printed then. What is missing otherwise is no failure, it is
/// what the report is for.
pub fn run(settings: &DoctorSettings, context: &Context) -> Result<()> {
    run::use_threads(settings.common.threads);
    let report = Report::new();
    let named = settings.common.device;
    let device = match named {
        Named::Auto => Ok(Device::best()),
        _ => run::device(named, context),
    };
    let text = match settings.json {
        true => json(&report, device.as_ref().ok()),
        false => text(&sections(&report, named, device.as_ref().ok())),
    };
    context.console.result(text.trim_end())?;
    device.map(drop)
}

fn json(report: &Report, device: Option<&Device>) -> String {
    let mut value = serde_json::json!(report);
    value["computes_on"] = serde_json::json!(device.map(Device::to_string));
    format!("{value:#}")
}

fn text(sections: &[Section]) -> String {
    let bold = colour(&std::io::stdout());
    let width = sections.iter().flat_map(|(_, rows)| rows).map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for (heading, rows) in sections {
        out += &if bold { format!("\x1b[1m{heading}\x1b[0m\n") } else { format!("{heading}\n") };
        rows.iter().for_each(|(name, value)| out += &format!("  {name:width$}  {value}\n"));
        out += "\n";
    }
    out
}

fn sections(report: &Report, named: Named, device: Option<&Device>) -> Vec<Section> {
    let row = |name: &str, value: String| (name.to_owned(), value);
    let (build, processor, cuda) = (&report.build, &report.processor, &report.cuda);
    let unknown = || "unknown".to_owned();
    let here = vec![
        row("version", report.onecycle.to_owned()),
        row("built by", format!("{}, {}, {}", build.rustc, build.profile, build.target)),
        row(
            "computes on",
            match device {
                Some(device) => format!("{device} (--device {named})"),
                None => format!("nothing: {named} can't be used"),
            },
        ),
    ];
    let processor = vec![
        row("name", processor.name.clone().unwrap_or_else(unknown)),
        row("cores", format!("{}; {} threads compute", processor.cores, processor.threads)),
        row("vectors", processor.vectors.clone()),
        row("memory", processor.memory.map_or_else(unknown, memory)),
    ];
    let mut gpus = vec![
        row("libcuda", cuda.libcuda.as_ref().map_or("not loaded".into(), |path| path.display().to_string())),
        row("driver", cuda.driver.clone().unwrap_or_else(|| "none that can be used".into())),
    ];
    gpus.extend(cuda.fault.iter().map(|fault| row("no GPU", fault.to_string())));
    gpus.extend(cuda.gpus.iter().map(|gpu| (gpu.device.clone(), describe(gpu))));
    vec![("onecycle", here), ("processor", processor), ("GPUs", gpus), ("kernels for a GPU", kernels(&report.kernels))]
}

fn memory(memory: Memory) -> String {
    format!("{} of {} free", size(memory.free as u64), size(memory.total as u64))
}

/// `NVIDIA H200, compute capability 9.0, 139 GiB of 141 GiB free`, or why it can't be used.
fn describe(gpu: &Gpu) -> String {
    let capability = gpu.capability.as_ref().map(|c| format!("compute capability {c}"));
    let fault = gpu.fault.as_ref().map(|fault| format!("can't be used: {fault}"));
    let parts = [gpu.name.clone(), capability, gpu.memory.map(memory), fault];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Which versions of the kernels training uses, and whether a step is a graph.
fn taken() -> Result<String> {
    let rung = ladder::highest()?.name();
    let graphs = if step::by_default()? { "as graphs" } else { "kernel by kernel" };
    Ok(format!("{rung} kernels ({}), steps {graphs} ({})", ladder::VARIABLE, step::VARIABLE))
}

fn kernels(kernels: &Kernels) -> Vec<(String, String)> {
    let row = |name: &str, value: String| (name.to_owned(), value);
    let architectures = |counts: &BTreeMap<&str, usize>| match counts.is_empty() {
        true => "none".to_owned(),
        false => counts.iter().map(|(arch, files)| format!("{arch} ({files} files)")).collect::<Vec<_>>().join(", "),
    };
    let of_primitives = |wanted: fn(&Standing) -> bool| kernels.primitives.values().filter(|s| wanted(s)).count();
    let primitives = match of_primitives(|s| matches!(s, Standing::Verified(_))) {
        // Of its functions the emulator has versions of its own, so its test runs say nothing of these.
        0 => "none of its functions was compared on a GPU yet".to_owned(),
        n => format!("{n} functions verified on a GPU"),
    };
    let changed = match of_primitives(|s| matches!(s, Standing::Changed(_))) {
        0 => String::new(),
        n => format!("; {n} were verified, but the source has changed since"),
    };
    let mut rows = vec![
        row("files", format!("{}, with {} kernels", kernels.files.len(), kernels.entries)),
        row("from", kernels.origin.to_owned()),
        row("machine code", architectures(&kernels.machine_code)),
        row("text", format!("{}; the driver compiles it at the first use", architectures(&kernels.text))),
        row("training takes", taken().unwrap_or_else(|e| e.to_string())),
        row("prim.cuh", format!("{primitives}{changed}")),
    ];
    if kernels.nvrtc.is_none() {
        let remedy = "scripts/nvrtc.sh fetches it; build again then, for machine code";
        rows.insert(2, row("NVRTC", format!("was not found when this was built ({remedy})")));
    }
    rows.extend(kernels.files.iter().map(|file| (format!("{}.cu", file.name), file.standing.to_string())));
    rows
}
