//! Models that leave the program: one safetensors file with weights, architecture, vocabulary and pipeline.
//!
//! fastai exports a pickle, which needs the code that made it and executes what it holds. Here everything besides the
//! weights is a JSON description in the file's metadata, under the key `onecycle`: nothing in it is code.
//! [`Predictor::load`] rebuilds the network and the pipeline from it, on a machine that has only this crate.

use super::save::model_tensors;
use super::vision_learner::build;
use super::{BCEWithLogitsLossFlat, Learner, Loss, Predictions, TargetKind, predict};
use crate::data::{
    Batch, BatchTransforms, DataLoader, InputBlock, IntToFloat, ItemTransform, OpenPicture, Subset, Target, Targets,
    Vocab,
};
use crate::nn::safetensors::{self, Contents};
use crate::nn::{Arch, HeadOptions, Module, Sequential};
use crate::vision::resize::item_transform_from;
use crate::vision::{AugTransforms, ImageBlock, PilImage};
use crate::{DType, Device, Error, ErrorKind, Result, Tensor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const KEY: &str = "onecycle";
const FORMAT: u32 = 1;

/// What a model file says about itself.
#[derive(Debug, Serialize, Deserialize)]
struct Description {
    format: u32,
    library: String,
    arch: String,
    bottleneck: bool,
    blocks: [usize; 4],
    widths: [usize; 4],
    lin_ftrs: Vec<usize>,
    ps: f64,
    vocab: Vec<String>,
    /// How pictures are opened; null where the program has a block of its own for that, which no file can bring along.
    #[serde(default)]
    open: serde_json::Value,
    item_tfms: Vec<serde_json::Value>,
    batch_tfms: serde_json::Value,
    /// What a prediction is; classes in files that don't say.
    #[serde(default)]
    targets: TargetKind,
    /// Numbers that the network says; as many as classes in files that don't say.
    #[serde(default)]
    n_out: Option<usize>,
    /// Labels with a larger probability are said.
    #[serde(default = "half")]
    threshold: f64,
}

/// Of a [`Description`] what every format has.
#[derive(Deserialize)]
struct Format {
    format: u32,
    library: String,
}

fn half() -> f64 {
    0.5
}

impl Learner {
    /// Writes the model for prediction, atomically: fastai's `export`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] or [`ErrorKind::StorageFull`] naming `path`; a file that was there before stays.
    pub fn export(&self, path: impl AsRef<Path>) -> Result<()> {
        write(path.as_ref(), model_tensors(&self.model), self.description()?)
    }

    /// What an exported file says about itself.
    ///
    /// # Errors
    /// None in practice: all of it can be JSON.
    pub(super) fn description(&self) -> Result<String> {
        let description = Description {
            format: FORMAT,
            library: env!("CARGO_PKG_VERSION").into(),
            arch: self.arch.name.clone(),
            bottleneck: self.arch.bottleneck,
            blocks: self.arch.blocks,
            widths: self.arch.widths,
            lin_ftrs: self.head.lin_ftrs.clone(),
            ps: self.head.ps,
            vocab: self.dls.vocab().to_vec(),
            open: self.dls.opener().settings(),
            item_tfms: self.dls.item_tfms().iter().map(|t| t.settings()).collect(),
            batch_tfms: self.dls.batch_tfms().settings(),
            targets: self.loss.targets(),
            n_out: Some(self.dls.c()),
            threshold: self.loss.threshold(),
        };
        serde_json::to_string(&description)
            .map_err(|e| Error::new(ErrorKind::Format, format!("the model cannot be described: {e}")))
    }
}

/// What an exported file holds.
#[cfg(feature = "checkpoint")]
pub(super) fn contents(tensors: std::collections::HashMap<String, Tensor>, description: String) -> Contents {
    Contents { tensors, metadata: BTreeMap::from([(KEY.to_string(), description)]) }
}

/// Writes an exported model's file: tensors by name, so that the same model is the same file wherever it comes from.
pub(super) fn write(path: &Path, mut tensors: Vec<(String, Tensor)>, description: String) -> Result<()> {
    tensors.sort_by(|(a, _), (b, _)| a.cmp(b));
    safetensors::write(path, &tensors, &BTreeMap::from([(KEY.to_string(), description)]))
}

/// fastai's `load_learner`: an exported model, ready to predict.
///
/// # Errors
/// As [`Predictor::load`].
pub fn load_learner(path: impl AsRef<Path>) -> Result<Predictor> {
    Predictor::load(path)
}

/// One file's prediction.
#[derive(Clone, Debug)]
pub struct Prediction {
    /// The file.
    pub path: PathBuf,
    /// The most likely class; the likely labels, between semicolons; the numbers.
    pub label: String,
    /// The probability of every class, in the vocabulary's order; the numbers where it says numbers.
    pub probabilities: Vec<f64>,
}

/// An exported model: predicts, knows nothing of training. Cheap to share between threads.
pub struct Predictor {
    model: Sequential,
    arch: Arch,
    vocab: Vocab,
    opener: Arc<dyn OpenPicture>,
    item_tfms: Vec<Arc<dyn ItemTransform>>,
    batch_tfms: Arc<dyn BatchTransforms>,
    loss: Box<dyn Loss>,
    device: Device,
}

impl Predictor {
    /// Reads a file that [`Learner::export`] wrote.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it can't be read, [`ErrorKind::Format`] when it is no such file or damaged; both name `path`.
    pub fn load(path: impl AsRef<Path>) -> Result<Predictor> {
        Predictor::load_on(path, Device::best())
    }

    /// [`Predictor::load`] onto a device of the caller's choice. No other device is touched.
    ///
    /// # Errors
    /// As [`Predictor::load`]; or the device has too little memory.
    pub fn load_on(path: impl AsRef<Path>, device: Device) -> Result<Predictor> {
        let path = path.as_ref();
        Predictor::read(path).map_err(|e| e.within(path.display()))?.to_device(device)
    }

    fn read(path: &Path) -> Result<Predictor> {
        if super::fastai::is_torch(path) {
            return Err(super::fastai::refused());
        }
        Predictor::of(safetensors::read(path)?)
    }

    /// The model that an exported file holds.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] when it is none.
    pub(super) fn of(contents: Contents) -> Result<Predictor> {
        let foreign = |why: String| {
            Error::new(ErrorKind::Format, why).remedy("use a file that `onecycle train` or Learner::export wrote")
        };
        let text =
            contents.metadata.get(KEY).ok_or_else(|| foreign("is no exported model: it has weights only".into()))?;
        let invalid = |e: serde_json::Error| foreign(format!("the model's description is not valid: {e}"));
        // First, because another format may have other fields.
        let Format { format, library } = serde_json::from_str(text).map_err(invalid)?;
        if format != FORMAT {
            let message =
                format!("is a model of format {format}, written by version {library}; this one reads {FORMAT}");
            return Err(Error::new(ErrorKind::Format, message).remedy("use the version that wrote it, or export again"));
        }
        let d: Description = serde_json::from_str(text).map_err(invalid)?;
        let (n_out, least) = (d.n_out.unwrap_or(d.vocab.len()), if d.targets == TargetKind::Classes { 2 } else { 1 });
        let limit = |n: &[usize], max: usize| n.iter().all(|n| (1..=max).contains(n));
        if !limit(&d.blocks, 1000)
            || !limit(&d.widths, 65_536)
            || !limit(&d.lin_ftrs, 1 << 20)
            || n_out < least
            || n_out > 1 << 20
            || d.targets != TargetKind::Numbers && n_out != d.vocab.len()
        {
            return Err(foreign("the model's description has sizes out of range".into()));
        }
        if let Some(name) = d.vocab.iter().enumerate().find_map(|(i, name)| d.vocab[..i].contains(name).then_some(name))
        {
            return Err(foreign(format!("the model's vocabulary has {name:?} twice")));
        }
        let arch = Arch { name: d.arch, bottleneck: d.bottleneck, blocks: d.blocks, widths: d.widths };
        let model = build(&arch, &HeadOptions { lin_ftrs: d.lin_ftrs, ps: d.ps }, n_out);
        model.load_state(&contents.tensors)?;
        let batch_tfms: Arc<dyn BatchTransforms> = match d.batch_tfms["name"].as_str() {
            Some("aug_transforms") => Arc::new(AugTransforms::from_settings(&d.batch_tfms)?),
            Some("IntToFloatTensor") => Arc::new(IntToFloat),
            other => return Err(foreign(format!("batch transforms of an unknown kind: {other:?}"))),
        };
        let item_tfms = d.item_tfms.iter().map(item_transform_from).collect::<Result<_>>()?;
        let loss = match d.targets {
            TargetKind::Labels => Box::new(BCEWithLogitsLossFlat { thresh: d.threshold, ..Default::default() }),
            other => other.loss(),
        };
        let opener: Arc<dyn OpenPicture> = match d.open.is_null() {
            true => ImageBlock.opener(),
            false => Arc::new(PilImage::from_settings(&d.open)?),
        };
        Ok(Predictor {
            model,
            arch,
            vocab: Vocab::new(d.vocab, false),
            opener,
            item_tfms,
            batch_tfms,
            loss,
            device: Device::Cpu,
        })
    }

    /// Moves the model to a device; after loading it is on the best one.
    ///
    /// # Errors
    /// The device has too little memory.
    pub fn to_device(mut self, device: Device) -> Result<Predictor> {
        self.model.to_device(device)?;
        self.device = device;
        Ok(self)
    }

    /// Where the model is.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The class names; none where it says numbers.
    pub fn vocab(&self) -> &[String] {
        self.vocab.names()
    }

    /// What it says about a picture: a class, labels, or numbers.
    pub fn targets(&self) -> TargetKind {
        self.loss.targets()
    }

    /// The architecture.
    pub fn arch(&self) -> &Arch {
        &self.arch
    }

    /// Number of parameters.
    pub fn parameters(&self) -> usize {
        self.model.named_parameters().iter().map(|(_, p)| p.numel()).sum()
    }

    /// Label and probabilities of one picture.
    ///
    /// # Errors
    /// When the picture can't be read.
    pub fn predict(&self, path: impl AsRef<Path>) -> Result<Prediction> {
        let mut all = self.predict_files(vec![path.as_ref().to_path_buf()], 1)?;
        all.pop().ok_or_else(|| Error::new(ErrorKind::Data, "there is nothing to predict").on(path.as_ref().display()))
    }

    /// Label and probabilities of many pictures, `bs` at a time, in their order.
    ///
    /// # Errors
    /// When a picture can't be read; the error names it.
    pub fn predict_files(&self, paths: Vec<PathBuf>, bs: usize) -> Result<Vec<Prediction>> {
        let all = self.predictions(paths, None, bs)?;
        let one = |((path, decoded), probabilities): ((PathBuf, Target), Vec<f64>)| Prediction {
            path,
            label: self.vocab.title(&decoded),
            probabilities,
        };
        Ok(all.paths.into_iter().zip(all.decoded).zip(all.probabilities).map(one).collect())
    }

    /// Predictions with losses for files whose targets are known (classes are places in the vocabulary).
    ///
    /// # Errors
    /// When a picture can't be read, or there are more or fewer targets than files.
    pub fn predictions(&self, paths: Vec<PathBuf>, targets: Option<Targets>, bs: usize) -> Result<Predictions> {
        let loader = DataLoader::for_files(self.opener.clone(), self.item_tfms.clone(), paths, targets, bs, 0)?;
        predict::predictions(&self.model, &loader, |batch| self.inputs(batch), &*self.loss, &[])
    }

    /// The network, and the normalisation of what it sees.
    #[cfg(feature = "onnx")]
    pub(super) fn network(&self) -> (&Sequential, Option<crate::ops::augment::Statistics>) {
        (&self.model, self.batch_tfms.statistics())
    }

    fn inputs(&self, batch: &Batch) -> Result<Tensor> {
        batch.inputs(self.batch_tfms.as_ref(), Subset::Valid, (0, 0), (self.device, DType::F32))
    }
}
