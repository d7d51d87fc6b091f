//! A training run.

use super::check::{self, Check};
use super::{Common, DataSettings, ModelSettings, file};
use crate::cli::flags::{CommonFlags, TrainFlags};
use crate::{Error, ErrorKind, Result};
use serde::Serialize;
use std::fmt;
use std::path::{Path, PathBuf};

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
    /// Minutes after which it stops; of the moment as well.
    #[serde(skip)]
    pub time_limit: Option<f64>,
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
            return Err(match flags.out.filter(|_| flags.resume) {
                // Of a run that is to go on it is known, if the run has left its settings.
                Some(out) => error.on(out.join(TrainSettings::FILE).display()).remedy(
                    "this file of the run is not there, or doesn't say it: name the folder, onecycle train DIR",
                ),
                None => error.remedy("onecycle train DIR, or `dir = \"..\"` in the file of --config"),
            });
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
            time_limit: flags.time_limit,
            checkpoint_every: flags.checkpoint_every,
            data: DataSettings::resolve(flags.data)?,
            epochs: flags.epochs.unwrap_or(5),
            lr: flags.lr.unwrap_or(1e-2),
            lr_slice: flags.lr_slice.as_deref().map(check::lr_slice).transpose()?,
            common: Common::resolve(common)?,
        };
        Check("--epochs").within(settings.epochs, 1, 100_000)?;
        settings.time_limit.map_or(Ok(()), |minutes| Check("--time-limit").above(minutes, 0.0, 1e6))?;
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
