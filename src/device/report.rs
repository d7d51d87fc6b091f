//! What there is to compute with, and what was built in for it: the facts that `onecycle doctor` prints, as values.
//!
//! [`Report::new`] asks everything once and never fails: what is missing is part of the report, with the reason and the remedy
//! that the attempt to use it would give. All of it can be written as JSON.
//!
//! Kernels carry a record of where they were seen to be right. The emulator, in which the tests launch every kernel, takes
//! `kernels/prim.cuh` as its authors read NVIDIA's manual; only a GPU can tell whether they read it right. So runs on GPUs are
//! noted in `kernels/verified.json`, each with the hash of the source it was made with: after an edit the note is still there and
//! says that it is about another source. The file is built in.
//!
//! ```
//! use onecycle::device::report::Report;
//! let report = Report::new();
//! assert!(report.processor.cores >= 1 && !report.kernels.files.is_empty());
//! for gpu in &report.cuda.gpus {
//!     println!("{}: {}", gpu.device, gpu.name.as_deref().unwrap_or("can't be used"));
//! }
//! ```

use super::cuda::kernels::{FILES, IMAGES, Image, ORIGIN, PRIMITIVES};
use super::{Device, cpu, cuda};
use crate::Error;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// What was seen on a GPU, as `kernels/verified.json` says.
const VERIFIED: &str = include_str!("../../kernels/verified.json");

/// This machine, and this build; see the [module](self).
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The crate's version.
    pub onecycle: &'static str,
    /// How it was compiled.
    pub build: Build,
    /// The CPU.
    pub processor: Processor,
    /// The driver, and the GPUs.
    pub cuda: Cuda,
    /// The GPU's kernels in this build.
    pub kernels: Kernels,
}

/// How the crate was compiled.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Build {
    /// What `rustc --version` said.
    pub rustc: &'static str,
    /// The target, `x86_64-unknown-linux-gnu`.
    pub target: &'static str,
    /// `release`, or `debug`.
    pub profile: &'static str,
}

/// The CPU.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Processor {
    /// Its name, where the system tells.
    pub name: Option<String>,
    /// Cores that this process may use.
    pub cores: usize,
    /// Threads that compute.
    pub threads: usize,
    /// Vector instructions: `portable`, `avx2` or `avx512`.
    pub vectors: String,
    /// Its memory, where the system tells.
    pub memory: Option<Memory>,
}

/// Bytes of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Free now.
    pub free: usize,
    /// In all.
    pub total: usize,
}

impl From<(usize, usize)> for Memory {
    fn from((free, total): (usize, usize)) -> Memory {
        Memory { free, total }
    }
}

/// The driver, and the GPUs.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Cuda {
    /// The library that was loaded.
    pub libcuda: Option<PathBuf>,
    /// The driver's version and the CUDA version that it knows.
    pub driver: Option<String>,
    /// Every GPU that the driver shows.
    pub gpus: Vec<Gpu>,
    /// Why there is none.
    pub fault: Option<Fault>,
}

/// A GPU, usable or not.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Gpu {
    /// `cuda:0`.
    pub device: String,
    /// What people call it, `NVIDIA H200`.
    pub name: Option<String>,
    /// Compute capability, `9.0`.
    pub capability: Option<String>,
    /// Its memory.
    pub memory: Option<Memory>,
    /// Why it can't be used.
    pub fault: Option<Fault>,
}

/// Why something can't be used, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// What failed.
    pub message: String,
    /// What the reader can do; empty when nothing is known.
    pub remedy: String,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        Fault { message: error.message().to_owned(), remedy: error.advice().to_owned() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.remedy.as_str() {
            "" => f.write_str(&self.message),
            remedy => write!(f, "{} ({remedy})", self.message),
        }
    }
}

/// The GPU's kernels in this build.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Kernels {
    /// Where they come from: `NVRTC 12.9.86, /path/libnvrtc.so`, `kernels/prebuilt`, or `nowhere`.
    pub origin: &'static str,
    /// The compiler that the build found: its version and its path.
    pub nvrtc: Option<&'static str>,
    /// Kernels in all files.
    pub entries: usize,
    /// Machine code: for each architecture how many files have it.
    pub machine_code: BTreeMap<&'static str, usize>,
    /// Text, which the driver compiles: for each architecture how many files have it.
    pub text: BTreeMap<&'static str, usize>,
    /// The files.
    pub files: Vec<KernelFile>,
    /// The functions of `kernels/prim.cuh` that were compared on a GPU, by name.
    pub primitives: BTreeMap<String, Standing>,
}

/// A file of `kernels/`.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct KernelFile {
    /// Without its ending.
    pub name: &'static str,
    /// How many kernels it has.
    pub entries: usize,
    /// The hash of its source.
    pub source: &'static str,
    /// Where it was seen to be right.
    pub standing: Standing,
}

/// Where something was seen to be right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Standing {
    /// On a GPU, as it is now.
    Verified(Verified),
    /// On a GPU, and the source has changed since.
    Changed(Verified),
    /// In the emulator only.
    Emulated,
}

/// A note that something was right on a GPU: an entry of `kernels/verified.json`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Verified {
    /// The hash of the source.
    pub source: String,
    /// The GPU's name.
    pub gpu: String,
    /// The driver's version.
    pub driver: String,
    /// The day, `2026-01-31`.
    pub date: String,
}

/// `kernels/verified.json`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    kernels: BTreeMap<String, Verified>,
    primitives: BTreeMap<String, Verified>,
}

impl Record {
    /// What was built in; a test has read it.
    fn built_in() -> Record {
        serde_json::from_str(VERIFIED).unwrap_or_default()
    }
}

/// Whether a GPU has been seen to compute rightly with the kernels of `kernels/<file>.cu` as they are now.
pub(crate) fn is_verified(file: &str) -> bool {
    let record = Record::built_in();
    let present = FILES.iter().find(|f| f.name == file);
    present.is_some_and(|f| matches!(Standing::of(record.kernels.get(file), f.hash), Standing::Verified(_)))
}

/// The note on training steps as graphs, which are no kernel file: `scripts/bundle/run.sh` writes it where all of their tests have passed.
const GRAPH: &str = "graph";

/// Whether training steps have been seen to run rightly as graphs on a GPU.
pub(crate) fn graphs_are_verified() -> bool {
    Record::built_in().kernels.contains_key(GRAPH)
}

impl Standing {
    fn of(note: Option<&Verified>, source: &str) -> Standing {
        match note {
            None => Standing::Emulated,
            Some(note) if note.source == source => Standing::Verified(note.clone()),
            Some(note) => Standing::Changed(note.clone()),
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Standing::Verified(v) => write!(f, "verified on {} (driver {}, {})", v.gpu, v.driver, v.date),
            Standing::Changed(v) => write!(f, "verified, but the source has changed since ({}, {})", v.gpu, v.date),
            Standing::Emulated => f.write_str("not on a GPU yet, in the emulator on every test run"),
        }
    }
}

impl Report {
    /// Looks at this machine. Every GPU is opened, which takes part of a second and some of its memory.
    pub fn new() -> Report {
        Report {
            onecycle: env!("CARGO_PKG_VERSION"),
            build: Build {
                rustc: env!("ONECYCLE_RUSTC"),
                target: env!("ONECYCLE_TARGET"),
                profile: env!("ONECYCLE_PROFILE"),
            },
            processor: Processor {
                name: cpu::model_name(),
                cores: std::thread::available_parallelism().map_or(1, usize::from),
                threads: cpu::thread_count(),
                vectors: format!("{:?}", cpu::simd::level()).to_lowercase(),
                memory: cpu::memory().map(Memory::from),
            },
            cuda: Cuda::new(),
            kernels: Kernels::with(&Record::built_in()),
        }
    }
}

impl Default for Report {
    fn default() -> Report {
        Report::new()
    }
}

impl Cuda {
    fn new() -> Cuda {
        let count = cuda::count();
        Cuda {
            // Without a GPU the first one is asked for all the same: its error says what is missing.
            fault: (count == 0).then(|| Device::cuda(0).err().map(Fault::from)).flatten(),
            gpus: (0..count).map(Gpu::new).collect(),
            driver: cuda::driver_version(),
            libcuda: cuda::libcuda_path(),
        }
    }
}

impl Gpu {
    fn new(number: usize) -> Gpu {
        let known = Gpu { device: format!("cuda:{number}"), ..Gpu::default() };
        let gpu = match cuda::open(number) {
            Ok(gpu) => gpu,
            Err(error) => return Gpu { fault: Some(error.into()), ..known },
        };
        let of = gpu.description();
        let (memory, fault) = match gpu.memory() {
            Ok(memory) => (Some(memory.into()), None),
            Err(error) => (None, Some(error.into())),
        };
        let (major, minor) = of.capability;
        Gpu { name: Some(of.name.clone()), capability: Some(format!("{major}.{minor}")), memory, fault, ..known }
    }
}

impl Kernels {
    fn with(record: &Record) -> Kernels {
        let count = |has: fn(&Image) -> bool| {
            let mut counts = BTreeMap::new();
            IMAGES.iter().filter(|image| has(image)).for_each(|image| *counts.entry(image.arch).or_default() += 1);
            counts
        };
        let file = |f: &cuda::kernels::File| KernelFile {
            name: f.name,
            entries: f.entries,
            source: f.hash,
            standing: Standing::of(record.kernels.get(f.name), f.hash),
        };
        let primitive = |(name, note): (&String, &Verified)| (name.clone(), Standing::of(Some(note), PRIMITIVES));
        Kernels {
            origin: ORIGIN,
            nvrtc: ORIGIN.strip_prefix("NVRTC "),
            entries: FILES.iter().map(|file| file.entries).sum(),
            machine_code: count(|image| !image.cubin.is_empty()),
            text: count(|image| !image.ptx.is_empty()),
            files: FILES.iter().map(file).collect(),
            primitives: record.primitives.iter().map(primitive).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_names_what_there_is() {
        let record: Record = serde_json::from_str(VERIFIED).unwrap();
        for (name, note) in &record.kernels {
            if name == GRAPH {
                assert_eq!(note.source, "steps");
                continue;
            }
            assert!(FILES.iter().any(|file| file.name == name), "kernels/{name}.cu is not there");
            assert_eq!(note.source.len(), 64, "{name}: a hash");
        }
        assert!(FILES.iter().all(|file| file.hash.len() == 64) && PRIMITIVES.len() == 64);
    }

    #[test]
    fn a_note_holds_for_its_source() {
        let note = |source: &str| Verified {
            source: source.into(),
            gpu: "NVIDIA H200".into(),
            driver: "575.57.08, CUDA 12.9".into(),
            date: "2026-01-31".into(),
        };
        let file = FILES[0];
        let mut record = Record::default();
        let standing = |record: &Record| Kernels::with(record).files[0].standing.to_string();
        assert_eq!(standing(&record), "not on a GPU yet, in the emulator on every test run");
        record.kernels.insert(file.name.into(), note(file.hash));
        assert_eq!(standing(&record), "verified on NVIDIA H200 (driver 575.57.08, CUDA 12.9, 2026-01-31)");
        record.kernels.insert(file.name.into(), note("of old"));
        assert_eq!(standing(&record), "verified, but the source has changed since (NVIDIA H200, 2026-01-31)");
        record.primitives.insert("ldmatrix_x4".into(), note(PRIMITIVES));
        assert!(matches!(Kernels::with(&record).primitives["ldmatrix_x4"], Standing::Verified(_)));
    }
}
