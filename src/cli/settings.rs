//! From flags and a file to settings that are complete and checked.
//!
//! A value comes from its flag; without one from `--config`; without that from the default, which is fastai's wherever fastai
//! has one. Afterwards it is checked once, in one place, in words that name the flag: so a typo in the file gets
//! the same answer as one on the command line.
//!
//! [`TrainSettings::to_toml`] writes every value down, defaults included: the file in a run directory repeats the run
//! even if a later version has other defaults.
//!
//! ```
//! use onecycle::cli::{flags::*, settings::TrainSettings};
//! let flags = TrainFlags { dir: Some("pets".into()), epochs: Some(3), ..TrainFlags::default() };
//! let settings = TrainSettings::resolve(flags, CommonFlags::default())?;
//! assert_eq!((settings.epochs, settings.data.bs, settings.common.seeds[0]), (3, 64, 42));
//! assert!(settings.to_toml()?.contains("epochs = 3"));
//! # Ok::<(), onecycle::Error>(())
//! ```

mod check;
mod file;

use super::flags::*;
use crate::data::Remote;
use crate::learner::LrFind;
use crate::nn::Weights;
use crate::{Error, ErrorKind, Result};
use check::Check;
use serde::Serialize;
use std::fmt;
use std::path::{Path, PathBuf};

/// Settings of every command.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Common {
    /// At least one; each makes a run.
    #[serde(rename = "seed")]
    pub seeds: Vec<u64>,
    /// Where to compute.
    pub device: Device,
    /// Threads that compute; none: one for each processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
}

impl Common {
    fn resolve(flags: CommonFlags) -> Result<Common> {
        let seeds = if flags.seed.is_empty() { vec![42] } else { flags.seed };
        if let Some(twice) = seeds.iter().enumerate().find(|(i, seed)| seeds[..*i].contains(seed)) {
            return Err(check::wrong("--seed", format!("{} is there twice", twice.1)));
        }
        // TOML's integers are signed, and the file in the run directory has to hold the seed.
        if let Some(seed) = seeds.iter().find(|s| **s > i64::MAX as u64) {
            return Err(check::wrong("--seed", format!("{seed} is larger than {}", i64::MAX)));
        }
        if let Some(threads) = flags.threads {
            Check("--threads").within(threads, 1, 1024)?;
        }
        Ok(Common { seeds, device: flags.device.unwrap_or_default(), threads: flags.threads })
    }
}

/// Pictures and labels.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DataSettings {
    /// Where labels come from.
    pub label: LabelRule,
    /// The expression for [`LabelRule::Re`]; it compiles and has a group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_re: Option<String>,
    /// The table with a row for each picture, when there is one; files are below the folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub csv: Option<PathBuf>,
    /// The table's column of file names; none: the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub x: Option<String>,
    /// The table's column of labels; none: the second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub y: Option<String>,
    /// What the table's file names lack at their end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suff: Option<String>,
    /// The table's column that says which rows validate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid_col: Option<String>,
    /// The classes to use; none: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classes: Option<Vec<String>>,
    /// Name of the training folder, when folders split the data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train: Option<String>,
    /// Name of the validation folder; there exactly when `train` is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid: Option<String>,
    /// Share held back for validation, when folders don't split the data.
    pub valid_pct: f64,
    /// Size of the item transform's crop.
    pub item_size: usize,
    /// Size that the network sees.
    pub size: usize,
    /// Smallest share of the area that augmentation keeps.
    pub min_scale: f64,
    /// Batch size.
    pub bs: usize,
    /// Batch size in validation.
    pub val_bs: usize,
    /// Threads that load pictures; none: the library decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<usize>,
    /// What becomes of decoded pictures between epochs.
    pub cache: CacheRule,
    /// What decoded pictures may take, in 10^9 bytes; none: as the rule says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_gb: Option<f64>,
    /// Whether unreadable pictures are left out.
    pub skip_bad: bool,
    /// Whether pictures are turned as EXIF says.
    pub exif: ExifRule,
    /// What becomes of JPEGs that end early.
    pub truncated: TruncatedRule,
}

impl DataSettings {
    fn resolve(flags: DataFlags) -> Result<DataSettings> {
        let implied = if flags.label_re.is_some() { LabelRule::Re } else { LabelRule::Parent };
        let bs = flags.bs.unwrap_or(64);
        let settings = DataSettings {
            label: flags.label.unwrap_or(implied),
            label_re: flags.label_re,
            csv: flags.csv,
            x: flags.x,
            y: flags.y,
            suff: flags.suff,
            valid_col: flags.valid_col,
            classes: flags.classes,
            train: flags.train,
            valid: flags.valid,
            valid_pct: flags.valid_pct.unwrap_or(0.2),
            item_size: flags.item_size.unwrap_or(460),
            size: flags.size.unwrap_or(224),
            min_scale: flags.min_scale.unwrap_or(0.75),
            bs,
            val_bs: flags.val_bs.unwrap_or(bs),
            workers: flags.workers,
            cache: flags.cache.unwrap_or_default(),
            cache_gb: flags.cache_gb,
            skip_bad: flags.skip_bad.unwrap_or(false),
            exif: flags.exif.unwrap_or_default(),
            truncated: flags.truncated.unwrap_or_default(),
        };
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<()> {
        check::label(self.label, self.label_re.as_deref())?;
        check::folders(self.train.as_deref(), self.valid.as_deref())?;
        check::table(self)?;
        self.cache_gb.map_or(Ok(()), |gb| Check("--cache-gb").above(gb, 0.0, 1e6))?;
        Check("--valid-pct").between(self.valid_pct, 0.0, 1.0)?;
        Check("--item-size").within(self.item_size, 1, 4096)?;
        Check("--size").within(self.size, 1, 4096)?;
        Check("--min-scale").above(self.min_scale, 0.0, 1.0)?;
        Check("--bs").within(self.bs, 1, 65_536)?;
        Check("--val-bs").within(self.val_bs, 1, 65_536)?;
        self.workers.map_or(Ok(()), |n| Check("--workers").within(n, 0, 256))
    }
}

/// Learning rates from the first layers to the last, written `1e-6..1e-4`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LrSlice {
    /// The first layers' rate.
    pub low: f64,
    /// The last layers' rate.
    pub high: f64,
}

impl fmt::Display for LrSlice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:e}..{:e}", self.low, self.high)
    }
}

impl Serialize for LrSlice {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// A network and how it computes.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ModelSettings {
    /// A name that [`Arch::by_name`](crate::nn::Arch::by_name) knows.
    pub arch: String,
    /// Where the body's weights come from, as [`Weights`] reads it; none: fresh ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pretrained: Option<String>,
    /// Which of torchvision's, when `pretrained` is `auto`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<WeightSet>,
    /// Weight decay.
    pub wd: f64,
    /// Whether to compute in bf16.
    pub bf16: bool,
    /// Whether to compute in f16; not both.
    pub fp16: bool,
}

impl ModelSettings {
    fn resolve(flags: ModelFlags) -> Result<ModelSettings> {
        let ModelFlags { arch, pretrained, weights, no_pretrained: _, wd, bf16, fp16 } = flags;
        let settings = ModelSettings {
            arch: arch.unwrap_or_else(|| "resnet34".into()),
            pretrained: pretrained.or_else(|| weights.map(|_| "auto".into())),
            weights,
            wd: wd.unwrap_or(0.01),
            bf16: bf16.unwrap_or(false),
            fp16: fp16.unwrap_or(false),
        };
        check::architecture(&settings.arch)?;
        check::pretrained(settings.pretrained.as_deref(), weights)?;
        Check("--wd").within(settings.wd, 0.0, 10.0)?;
        if settings.bf16 && settings.fp16 {
            let error = Error::new(ErrorKind::Argument, "a network computes in bf16 or in f16").on("--bf16 and --fp16");
            return Err(error.remedy("leave one of them out"));
        }
        Ok(settings)
    }

    /// Whether activations are half precision.
    pub fn is_half(&self) -> bool {
        self.bf16 || self.fp16
    }

    /// The weights that the body begins with; none: fresh ones.
    pub fn body_weights(&self) -> Option<Weights> {
        Some(match (self.pretrained.as_deref()?, self.weights) {
            ("auto" | "default", Some(WeightSet::V1)) => Weights::V1,
            ("auto" | "default", Some(WeightSet::V2)) => Weights::V2,
            (from, _) => Weights::from(from),
        })
    }
}

/// A training run.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct TrainSettings {
    /// The folder with the pictures.
    pub dir: PathBuf,
    /// The run directory.
    pub out: PathBuf,
    /// Whether it may exist already; a decision of the moment, so not in the file.
    #[serde(skip)]
    pub overwrite: bool,
    /// Whether it goes on with an interrupted run; also of the moment.
    #[serde(skip)]
    pub resume: bool,
    /// Batches between two checkpoints; none: epochs only; 0: there are no checkpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_every: Option<usize>,
    /// Pictures and labels.
    #[serde(flatten)]
    pub data: DataSettings,
    /// The network.
    #[serde(flatten)]
    pub model: ModelSettings,
    /// Epochs for the head alone; there exactly when `pretrained` is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub freeze_epochs: Option<usize>,
    /// At least 1.
    pub epochs: usize,
    /// Highest learning rate of all layers, unless there is a slice.
    pub lr: f64,
    /// Highest learning rates from first to last layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr_slice: Option<LrSlice>,
    /// Seeds, device, threads.
    #[serde(flatten)]
    pub common: Common,
}

impl TrainSettings {
    /// Flags over file over defaults, checked.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] naming the flag or key; [`ErrorKind::Io`] when the file cannot be read.
    pub fn resolve(flags: TrainFlags, common: CommonFlags) -> Result<TrainSettings> {
        let (flags, common) = match flags.config.clone() {
            Some(path) => file::merge(flags, common, &path)?,
            None => (flags, common),
        };
        let (flags, common) = match run_to_resume(&flags) {
            Some(path) => file::merge(flags, common, &path)?,
            None => (flags, common),
        };
        let Some(dir) = flags.dir else {
            let error = Error::new(ErrorKind::Argument, "the folder with the pictures is missing");
            return Err(error.remedy("onecycle train DIR, or `dir = \"..\"` in the file of --config"));
        };
        let model = ModelSettings::resolve(flags.model)?;
        check::frozen(model.pretrained.is_some(), flags.freeze_epochs, flags.lr_slice.as_deref())?;
        let settings = TrainSettings {
            freeze_epochs: model.pretrained.as_ref().map(|_| flags.freeze_epochs.unwrap_or(1)),
            model,
            out: flags.out.unwrap_or_else(|| default_out(&dir)),
            dir,
            overwrite: flags.overwrite,
            resume: flags.resume,
            checkpoint_every: flags.checkpoint_every,
            data: DataSettings::resolve(flags.data)?,
            epochs: flags.epochs.unwrap_or(5),
            lr: flags.lr.unwrap_or(1e-2),
            lr_slice: flags.lr_slice.as_deref().map(check::lr_slice).transpose()?,
            common: Common::resolve(common)?,
        };
        Check("--epochs").within(settings.epochs, 1, 100_000)?;
        settings.checkpoint_every.map_or(Ok(()), |n| Check("--checkpoint-every").within(n, 0, 1_000_000_000))?;
        settings.freeze_epochs.map_or(Ok(()), |n| Check("--freeze-epochs").within(n, 0, 100_000))?;
        Check("--lr").above(settings.lr, 0.0, 100.0)?;
        Ok(settings)
    }

    /// The file with the settings in a run directory.
    pub const FILE: &str = "settings.toml";

    /// What a run that goes on must have in common with the one that was interrupted: all settings but where things are and how fast they
    /// come. The seed and the number of epochs have a place of their own in a checkpoint.
    ///
    /// # Errors
    /// As [`TrainSettings::to_toml`].
    pub fn binding(&self) -> Result<String> {
        let free =
            ["dir", "out", "device", "threads", "workers", "cache", "cache-gb", "checkpoint-every", "seed", "epochs"];
        let text = self.to_toml()?;
        let binds = |line: &&str| line.split_once(" =").is_none_or(|(key, _)| !free.contains(&key));
        Ok(text.lines().filter(binds).collect::<Vec<_>>().join("\n"))
    }

    /// The settings as the file that `--config` reads.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] when a path is not Unicode, which TOML cannot hold.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| {
            let error = Error::new(ErrorKind::Argument, "the settings cannot be written as TOML");
            error.remedy("use paths without bytes that are not Unicode").caused_by(e)
        })
    }
}

/// The settings of the run that is to go on, where it has left some.
fn run_to_resume(flags: &TrainFlags) -> Option<PathBuf> {
    let out = flags.out.clone().or_else(|| flags.dir.as_deref().map(default_out)).filter(|_| flags.resume)?;
    Some(out.join(TrainSettings::FILE)).filter(|path| path.exists())
}

/// `runs/pets` for `/data/pets/`.
fn default_out(dir: &Path) -> PathBuf {
    // `.` and `..` have no name of their own until they are resolved; if that fails, training will say why.
    let whole = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
    Path::new("runs").join(whole.file_name().unwrap_or("train".as_ref()))
}

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
    /// [`ErrorKind::Argument`] naming the flag.
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
    /// [`ErrorKind::Argument`] naming the flag.
    pub fn resolve(flags: EvaluateFlags, common: CommonFlags) -> Result<EvaluateSettings> {
        let EvaluateFlags { model, dir, bs, label_re, json } = flags;
        let bs = bs.unwrap_or(64);
        Check("--bs").within(bs, 1, 65_536)?;
        let rule = if label_re.is_some() { LabelRule::Re } else { LabelRule::Parent };
        check::label(rule, label_re.as_deref())?;
        Ok(EvaluateSettings { model, dir, bs, label_re, json, common: Common::resolve(common)? })
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
    /// [`ErrorKind::Argument`] naming the flag.
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
    /// [`ErrorKind::Argument`] naming the flag.
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
    /// [`ErrorKind::Argument`] naming the flag.
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
    /// [`ErrorKind::Argument`] naming the flag.
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
    /// [`ErrorKind::Argument`] naming the flag.
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
    /// [`ErrorKind::Argument`] naming the flag.
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
    /// [`ErrorKind::Argument`] naming what is no data set.
    pub fn resolve(flags: DownloadFlags, common: CommonFlags) -> Result<DownloadSettings> {
        let DownloadFlags { name, home, force, list: _, json } = flags;
        let from = name.map(|name| check::data_set(&name)).transpose()?;
        Ok(DownloadSettings { from, home, force, json, common: Common::resolve(common)? })
    }
}
