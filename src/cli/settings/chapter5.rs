//! The article, on other pictures and with other weights.

use super::check::Check;
use super::{Common, DataSettings, ModelSettings};
use crate::Result;
use crate::cli::flags::{Chapter5Flags, CommonFlags, DataFlags, ModelFlags, WeightSet};
use std::path::PathBuf;

/// The article.
#[derive(Clone, Debug)]
pub struct Chapter5Settings {
    /// A folder of pictures; none: the article's.
    pub dir: Option<PathBuf>,
    /// Where the body's weights come from; none: the article's, if they can be had.
    pub weights: Option<String>,
    /// The network, where another is wanted.
    pub arch: Option<String>,
    /// Epochs of the last fit, where another number is wanted.
    pub epochs: Option<usize>,
    /// Whether the ResNet-50 trains on a processor too.
    pub resnet50: bool,
    /// Whether to compute in bf16.
    pub bf16: bool,
    /// Whether to compute in f16.
    pub fp16: bool,
    /// The directory for everything that is written.
    pub out: PathBuf,
    /// Whether it may exist already.
    pub overwrite: bool,
    /// Seeds, device, threads.
    pub common: Common,
    pictures: DataFlags,
}

impl Chapter5Settings {
    /// # Errors
    /// [`ErrorKind::Argument`](crate::ErrorKind::Argument) naming the flag.
    pub fn resolve(flags: Chapter5Flags, common: CommonFlags) -> Result<Chapter5Settings> {
        let Chapter5Flags { dir, weights, arch, epochs, resnet50, bf16, fp16, out, overwrite, pictures } = flags;
        epochs.map_or(Ok(()), |n| Check("--epochs").within(n, 1, 100_000))?;
        let out = out.unwrap_or_else(|| "runs/chapter5".into());
        let common = Common::resolve(common)?;
        let settings =
            Chapter5Settings { dir, weights, arch, epochs, resnet50, bf16, fp16, out, overwrite, common, pictures };
        // What is wrong is said now, and not after a download.
        settings.data_of(false, None)?;
        settings.model_of(false)?;
        Ok(settings)
    }

    /// The pictures' settings; those that are drawn are small.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`](crate::ErrorKind::Argument) naming the flag.
    pub fn data_of(&self, drawn: bool, label_re: Option<&str>) -> Result<DataSettings> {
        let mut flags = self.pictures.clone();
        if drawn {
            flags.size = flags.size.or(Some(64));
            flags.item_size = flags.item_size.or(Some(72));
            flags.bs = flags.bs.or(Some(32));
        }
        flags.label_re = flags.label_re.or(label_re.map(String::from));
        DataSettings::resolve(flags)
    }

    /// The network's settings; drawings don't need a large one, nor weights that know photographs.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`](crate::ErrorKind::Argument) naming the flag.
    pub fn model_of(&self, drawn: bool) -> Result<ModelSettings> {
        let usual = if drawn { "resnet18-w32" } else { "resnet34" };
        let pretrained = match self.weights.as_deref() {
            Some("none") => None,
            None if drawn => None,
            None => Some("auto".into()),
            Some(weights) => Some(weights.into()),
        };
        let weights = (pretrained.as_deref() == Some("auto")).then_some(WeightSet::V1);
        let arch = self.arch.clone().or_else(|| Some(usual.into()));
        let (bf16, fp16) = (Some(self.bf16), Some(self.fp16));
        ModelSettings::resolve(ModelFlags { arch, pretrained, weights, bf16, fp16, ..ModelFlags::default() })
    }

    /// The last run's network, if it is to train on `device`: the article's, with its weights or fresh ones as before.
    pub fn resnet50_of(&self, device: crate::Device, before: &ModelSettings) -> Option<ModelSettings> {
        let gpu = device != crate::Device::Cpu;
        // A file of weights is one network's.
        let pretrained = before.pretrained.as_ref().filter(|from| *from == "auto").cloned();
        let weights = before.weights.filter(|_| pretrained.is_some());
        let (bf16, fp16) = (self.bf16 || gpu && !self.fp16, self.fp16);
        let arch = "resnet50".into();
        (gpu || self.resnet50).then(|| ModelSettings { arch, pretrained, weights, bf16, fp16, ..before.clone() })
    }

    /// The command that does the same again.
    pub fn command(&self) -> String {
        let mut parts = vec!["onecycle chapter5".to_string()];
        let mut flag = |name: &str, value: Option<String>| parts.extend(value.map(|value| format!("--{name} {value}")));
        flag("data", self.dir.as_ref().map(|dir| dir.display().to_string()));
        flag("weights", self.weights.clone());
        flag("arch", self.arch.clone());
        flag("epochs", self.epochs.map(|n| n.to_string()));
        flag("train", self.pictures.train.clone());
        flag("valid", self.pictures.valid.clone());
        flag("label-re", self.pictures.label_re.as_ref().map(|re| format!("'{re}'")));
        flag("size", self.pictures.size.map(|n| n.to_string()));
        flag("item-size", self.pictures.item_size.map(|n| n.to_string()));
        flag("bs", self.pictures.bs.map(|n| n.to_string()));
        flag("seed", Some(self.common.seeds[0].to_string()));
        for (name, on) in [("resnet50", self.resnet50), ("bf16", self.bf16), ("fp16", self.fp16)] {
            parts.extend(on.then(|| format!("--{name}")));
        }
        parts.join(" ")
    }
}
