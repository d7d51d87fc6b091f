//! The settings of each command but training.

use super::check::{self, Check};
use super::{Common, DataSettings, ModelSettings};
use crate::Result;
use crate::cli::flags::*;
use crate::data::Remote;
use crate::learner::LrFind;
use std::path::PathBuf;

/// The quickstart.
#[derive(Clone, Debug, PartialEq)]
pub struct QuickstartSettings {
    /// The run directory.
    pub out: PathBuf,
    /// Whether it may exist already.
    pub overwrite: bool,
    /// Epochs, when the user wants other than the quickstart's own.
    pub epochs: Option<usize>,
    /// Whether to compute in bf16.
    pub bf16: bool,
    /// Seeds, device, threads.
    pub common: Common,
}

impl QuickstartSettings {
    /// The run directory unless the user names another.
    pub const OUT: &str = "runs/quickstart";

    /// # Errors
    /// [`ErrorKind::Argument`](crate::ErrorKind::Argument) naming the flag.
    pub fn resolve(flags: QuickstartFlags, common: CommonFlags) -> Result<QuickstartSettings> {
        flags.epochs.map_or(Ok(()), |n| Check("--epochs").within(n, 1, 100_000))?;
        let out = flags.out.unwrap_or_else(|| QuickstartSettings::OUT.into());
        Ok(QuickstartSettings {
            out,
            overwrite: flags.overwrite,
            epochs: flags.epochs,
            bf16: flags.bf16,
            common: Common::resolve(common)?,
        })
    }
}

/// A measurement.
#[derive(Clone, Debug, PartialEq)]
pub struct EvaluateSettings {
    /// The model file.
    pub model: PathBuf,
    /// The folder with the pictures.
    pub dir: PathBuf,
    /// Batch size.
    pub bs: usize,
    /// Where labels come from, when not from the folders; it compiles and has a group.
    pub label_re: Option<String>,
    /// Whether to print JSON.
    pub json: bool,
    /// Seeds, device, threads.
    pub common: Common,
}

impl EvaluateSettings {
    /// # Errors
    /// [`ErrorKind::Argument`](crate::ErrorKind::Argument) naming the flag.
    pub fn resolve(flags: EvaluateFlags, common: CommonFlags) -> Result<EvaluateSettings> {
        let EvaluateFlags { model, dir, bs, label_re, json } = flags;
        let bs = bs.unwrap_or(64);
        Check("--bs").within(bs, 1, 65_536)?;
        let rule = if label_re.is_some() { LabelRule::Re } else { LabelRule::Parent };
        check::label(rule, label_re.as_deref())?;
        Ok(EvaluateSettings { model, dir, bs, label_re, json, common: Common::resolve(common)? })
    }
}

/// Where a model errs.
#[derive(Clone, Debug, PartialEq)]
pub struct InterpretSettings {
    /// What is measured.
    pub on: EvaluateSettings,
    /// The directory for the page and its pictures.
    pub out: PathBuf,
    /// Pictures with the largest losses to show.
    pub worst: usize,
}

impl InterpretSettings {
    /// # Errors
    /// [`ErrorKind::Argument`](crate::ErrorKind::Argument) naming the flag.
    pub fn resolve(flags: InterpretFlags, common: CommonFlags) -> Result<InterpretSettings> {
        let InterpretFlags { model, dir, out, worst, bs, label_re, json } = flags;
        Check("--worst").within(worst, 0, 1000)?;
        let out = out.unwrap_or_else(|| model.with_file_name("interpret"));
        let on = EvaluateSettings::resolve(EvaluateFlags { model, dir, bs, label_re, json }, common)?;
        Ok(InterpretSettings { on, out, worst })
    }
}

/// A measurement of loading and computing.
#[derive(Clone, Debug, PartialEq)]
pub struct BenchLoaderSettings {
    /// The folder with the pictures.
    pub dir: PathBuf,
    /// Seconds for each measurement.
    pub seconds: f64,
    /// Whether to print JSON.
    pub json: bool,
    /// Pictures and labels.
    pub data: DataSettings,
    /// The network.
    pub model: ModelSettings,
    /// Seeds, device, threads.
    pub common: Common,
}

impl BenchLoaderSettings {
    /// # Errors
    /// [`ErrorKind::Argument`](crate::ErrorKind::Argument) naming the flag.
    pub fn resolve(flags: BenchLoaderFlags, common: CommonFlags) -> Result<BenchLoaderSettings> {
        let BenchLoaderFlags { dir, seconds, json, data, model } = flags;
        Check("--seconds").above(seconds, 0.0, 3600.0)?;
        let (data, model) = (DataSettings::resolve(data)?, ModelSettings::resolve(model)?);
        Ok(BenchLoaderSettings { dir, seconds, json, data, model, common: Common::resolve(common)? })
    }
}

/// Runs to compare.
#[derive(Clone, Debug, PartialEq)]
pub struct ReportSettings {
    /// The run directories; at least one.
    pub dirs: Vec<PathBuf>,
    /// The page to write.
    pub out: PathBuf,
    /// Whether to print JSON.
    pub json: bool,
}

impl ReportSettings {
    /// # Errors
    /// None: there is nothing to check.
    pub fn resolve(flags: ReportFlags, _: CommonFlags) -> Result<ReportSettings> {
        let ReportFlags { dirs, out, json } = flags;
        Ok(ReportSettings { dirs, out, json })
    }
}

/// A model file to make.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportSettings {
    /// A run directory, a checkpoint, or a model file.
    pub from: PathBuf,
    /// The file to write; its extension is safetensors or onnx.
    pub out: PathBuf,
    /// Whether the best epoch's checkpoint is wanted, and not the newest.
    pub best: bool,
    /// Whether `out` may exist.
    pub overwrite: bool,
}

impl ExportSettings {
    /// # Errors
    /// [`ErrorKind::Argument`](crate::ErrorKind::Argument) naming the flag.
    pub fn resolve(flags: ExportFlags, _: CommonFlags) -> Result<ExportSettings> {
        let ExportFlags { from, out, best, overwrite } = flags;
        check::model_file("--out", &out)?;
        Ok(ExportSettings { from, out, best, overwrite })
    }
}

/// A shell to complete in.
#[derive(Clone, Debug, PartialEq)]
pub struct CompletionsSettings {
    /// The shell.
    pub shell: clap_complete::Shell,
}

impl CompletionsSettings {
    /// # Errors
    /// None: there is nothing to check.
    pub fn resolve(flags: CompletionsFlags, _: CommonFlags) -> Result<CompletionsSettings> {
        Ok(CompletionsSettings { shell: flags.shell })
    }
}

/// Pictures to label.
#[derive(Clone, Debug, PartialEq)]
pub struct PredictSettings {
    /// The model file.
    pub model: PathBuf,
    /// The pictures; at least one.
    pub files: Vec<PathBuf>,
    /// Whether to print JSON.
    pub json: bool,
    /// Seeds, device, threads.
    pub common: Common,
}

impl PredictSettings {
    /// # Errors
    /// [`ErrorKind::Argument`](crate::ErrorKind::Argument) naming the flag.
    pub fn resolve(flags: PredictFlags, common: CommonFlags) -> Result<PredictSettings> {
        let PredictFlags { model, files, json } = flags;
        Ok(PredictSettings { model, files, json, common: Common::resolve(common)? })
    }
}

/// A batch to show.
#[derive(Clone, Debug, PartialEq)]
pub struct ShowBatchSettings {
    /// The folder with the pictures.
    pub dir: PathBuf,
    /// The picture to write; its extension is png or svg.
    pub out: PathBuf,
    /// Whether to show one picture in all its augmentations.
    pub unique: bool,
    /// Pictures to show, at most.
    pub max_n: usize,
    /// Pictures and labels.
    pub data: DataSettings,
    /// Seeds, device, threads.
    pub common: Common,
}

impl ShowBatchSettings {
    /// # Errors
    /// [`ErrorKind::Argument`](crate::ErrorKind::Argument) naming the flag.
    pub fn resolve(flags: ShowBatchFlags, common: CommonFlags) -> Result<ShowBatchSettings> {
        let ShowBatchFlags { dir, out, unique, max_n, data } = flags;
        Check("--max-n").within(max_n, 1, 1000)?;
        check::figure_file("--out", &out)?;
        Ok(ShowBatchSettings {
            dir,
            out,
            unique,
            max_n,
            data: DataSettings::resolve(data)?,
            common: Common::resolve(common)?,
        })
    }
}

/// A search for a learning rate.
#[derive(Clone, Debug, PartialEq)]
pub struct LrFindSettings {
    /// The folder with the pictures.
    pub dir: PathBuf,
    /// The plot to write; its extension is png or svg.
    pub out: PathBuf,
    /// Over which rates, in how many batches.
    pub find: LrFind,
    /// Whether to print JSON.
    pub json: bool,
    /// Pictures and labels.
    pub data: DataSettings,
    /// The network.
    pub model: ModelSettings,
    /// Seeds, device, threads.
    pub common: Common,
}

impl LrFindSettings {
    /// # Errors
    /// [`ErrorKind::Argument`](crate::ErrorKind::Argument) naming the flag.
    pub fn resolve(flags: LrFindFlags, common: CommonFlags) -> Result<LrFindSettings> {
        let LrFindFlags { dir, out, start_lr, end_lr, num_it, no_stop, json, data, model } = flags;
        Check("--start-lr").above(start_lr, 0.0, 100.0)?;
        Check("--end-lr").above(end_lr, start_lr, 1e6)?;
        Check("--num-it").within(num_it, 12, 100_000)?;
        check::figure_file("--out", &out)?;
        Ok(LrFindSettings {
            dir,
            out,
            find: LrFind { start_lr, end_lr, num_it, stop_div: !no_stop },
            json,
            data: DataSettings::resolve(data)?,
            model: ModelSettings::resolve(model)?,
            common: Common::resolve(common)?,
        })
    }
}

/// A network to describe.
#[derive(Clone, Debug, PartialEq)]
pub struct SummarySettings {
    /// A name that [`Arch::by_name`](crate::nn::Arch::by_name) knows.
    pub arch: String,
    /// Classes to tell apart.
    pub classes: usize,
    /// Size of a picture.
    pub size: usize,
    /// Batch size.
    pub bs: usize,
    /// Whether all but the last group are frozen.
    pub frozen: bool,
    /// Seeds, device, threads.
    pub common: Common,
}

impl SummarySettings {
    /// # Errors
    /// [`ErrorKind::Argument`](crate::ErrorKind::Argument) naming the flag.
    pub fn resolve(flags: SummaryFlags, common: CommonFlags) -> Result<SummarySettings> {
        let SummaryFlags { arch, classes, size, bs, frozen } = flags;
        check::architecture(&arch)?;
        Check("--classes").within(classes, 2, 1_000_000)?;
        Check("--size").within(size, 1, 4096)?;
        Check("--bs").within(bs, 1, 65_536)?;
        Ok(SummarySettings { arch, classes, size, bs, frozen, common: Common::resolve(common)? })
    }
}

/// A folder to check.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckSettings {
    /// The folder with the pictures.
    pub dir: PathBuf,
    /// Whether to print JSON.
    pub json: bool,
    /// Where the list of bad files goes.
    pub quarantine: Option<PathBuf>,
    /// Pictures and labels, as for training.
    pub data: DataSettings,
    /// Seeds, device, threads.
    pub common: Common,
}

impl CheckSettings {
    /// # Errors
    /// [`ErrorKind::Argument`](crate::ErrorKind::Argument) naming the flag.
    pub fn resolve(flags: CheckFlags, common: CommonFlags) -> Result<CheckSettings> {
        let CheckFlags { dir, json, quarantine, data } = flags;
        Ok(CheckSettings {
            dir,
            json,
            quarantine,
            data: DataSettings::resolve(data)?,
            common: Common::resolve(common)?,
        })
    }
}

/// What a report is about.
#[derive(Clone, Debug, PartialEq)]
pub struct DoctorSettings {
    /// Whether to print JSON.
    pub json: bool,
    /// Seeds, device, threads.
    pub common: Common,
}

impl DoctorSettings {
    /// # Errors
    /// [`ErrorKind::Argument`](crate::ErrorKind::Argument) naming the flag.
    pub fn resolve(flags: DoctorFlags, common: CommonFlags) -> Result<DoctorSettings> {
        Ok(DoctorSettings { json: flags.json, common: Common::resolve(common)? })
    }
}

/// A data set to fetch, or the list of those that there are.
#[derive(Clone, Debug, PartialEq)]
pub struct DownloadSettings {
    /// The data set; none: the list.
    pub from: Option<Remote>,
    /// The folder with `archive/` and `data/`, where it is not the usual one.
    pub home: Option<PathBuf>,
    /// Whether to fetch it even if it is there.
    pub force: bool,
    /// Whether to print JSON.
    pub json: bool,
    /// Seeds, device, threads.
    pub common: Common,
}

impl DownloadSettings {
    /// # Errors
    /// [`ErrorKind::Argument`](crate::ErrorKind::Argument) naming what is no data set.
    pub fn resolve(flags: DownloadFlags, common: CommonFlags) -> Result<DownloadSettings> {
        let DownloadFlags { name, home, force, list: _, json } = flags;
        let from = name.map(|name| check::data_set(&name)).transpose()?;
        Ok(DownloadSettings { from, home, force, json, common: Common::resolve(common)? })
    }
}
