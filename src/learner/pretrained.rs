//! A learner that begins with a body trained on ImageNet.
//!
//! fastai's `vision_learner` does this unless told `pretrained=False`. Here it is a step of its own, because it may need a network:
//!
//! ```no_run
//! # use onecycle::prelude::*;
//! # fn demo(dls: DataLoaders) -> onecycle::Result<()> {
//! let mut learn = vision_learner(&dls, resnet34)?.pretrained(Weights::Default)?.metrics(error_rate);
//! learn.fine_tune(2)?;
//! # Ok(()) }
//! ```
//!
//! What happens is fastai's: the body's tensors are loaded and the head stays fresh, pictures are normalised by ImageNet's statistics
//! unless they are normalised already, and everything below the head is frozen (norms go on training). The normalisation is
//! exported with the model.

use super::Learner;
use crate::data::BatchTransforms;
use crate::nn::{Pretrained, Weights};
use crate::ops::augment::{IMAGENET_STATS, Statistics};
use crate::vision::{AugTransforms, aug_transforms};
use crate::{Error, ErrorKind, Result};
use std::sync::Arc;

impl Learner {
    /// Loads pretrained weights into the body, normalises the pictures as these weights expect, and freezes the body: fastai's
    /// `pretrained=True`, `weights=..`. The weights are [`Weights::Default`], [`Weights::V1`], [`Weights::V2`], a path, a URL, or
    /// `hf-hub:timm/resnet34.tv_in1k`; what isn't here is fetched and kept.
    ///
    /// # Errors
    /// As [`Weights::load`]; the learner is gone then, and a fresh one is [`vision_learner`](super::vision_learner) away.
    pub fn pretrained(self, weights: impl Into<Weights>) -> Result<Learner> {
        let pretrained = weights.into().load(&self.arch)?;
        self.with_pretrained(&pretrained, true)
    }

    /// [`Learner::pretrained`] with weights that have been read; `normalize` says whether pictures shall be normalised.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] when they are for another architecture; [`ErrorKind::Argument`] when batch transforms of one's own can't
    /// be given a normalisation; the device has too little memory.
    pub fn with_pretrained(mut self, pretrained: &Pretrained, normalize: bool) -> Result<Learner> {
        if let Some(body) = self.model.get(0) {
            pretrained.load_into(body)?;
        }
        if normalize && self.dls.batch_tfms().statistics().is_none() {
            let transforms = normalized(self.dls.batch_tfms().as_ref(), IMAGENET_STATS)?;
            self.dls.set_batch_tfms(transforms);
        }
        self.weights = Some(pretrained.to_string());
        self.freeze()?;
        Ok(self)
    }

    /// Where the body's pretrained weights came from, with the first digits of the file's SHA-256; none when they were fresh.
    pub fn pretrained_from(&self) -> Option<&str> {
        self.weights.as_deref()
    }

    /// Whether weight decay acts on norms and biases too, as it does not unless asked for. fastai: `wd_bn_bias`.
    pub fn wd_bn_bias(mut self, on: bool) -> Learner {
        self.opt.wd_bn_bias(on);
        self
    }
}

/// The same batch transforms with a normalisation at their end.
fn normalized(transforms: &dyn BatchTransforms, statistics: Statistics) -> Result<Arc<dyn BatchTransforms>> {
    let settings = transforms.settings();
    let with = match settings["name"].as_str() {
        Some("aug_transforms") => AugTransforms::from_settings(&settings)?,
        // Bytes to floats and nothing else: as `aug_transforms` with everything off.
        Some("IntToFloatTensor") => {
            aug_transforms().do_flip(false).max_rotate(0.0).zoom(1.0, 1.0).max_lighting(0.0).max_warp(0.0)
        }
        other => {
            let error = Error::new(ErrorKind::Argument, "these batch transforms can't be given a normalisation");
            return Err(error.on(other.unwrap_or("batch_tfms")).remedy(
                "let them normalise by IMAGENET_STATS and say so in `statistics`, or do without: with_pretrained(.., false)",
            ));
        }
    };
    Ok(Arc::new(with.normalize(statistics)))
}
