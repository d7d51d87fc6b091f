//! From an architecture and data to a learner.

use super::{Learner, TargetKind};
use crate::data::DataLoaders;
use crate::nn::{Arch, HeadOptions, Module, Sequential, create_head, init_head};
use crate::{Device, Error, ErrorKind, Result};

/// fastai's `vision_learner` (once `cnn_learner`): the architecture's body, a fresh head for the data's classes, the loss that fits the
/// data's targets, and Adam. The weights are fresh, from the data's seed, and all of them train, as with `pretrained=False`;
/// [`Learner::pretrained`] loads ImageNet's, which may have to be fetched. They are on the [best device](Device::best);
/// [`vision_learner_on`] takes another one.
///
/// ```no_run
/// # use onecycle::prelude::*;
/// # fn demo(dls: DataLoaders) -> onecycle::Result<()> {
/// let fresh = vision_learner(&dls, resnet34)?.metrics(error_rate);
/// let learn = vision_learner(&dls, resnet34)?.pretrained(Weights::Default)?.metrics(error_rate);
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`ErrorKind::Data`] when the data has fewer than two classes, or no label at all.
pub fn vision_learner(dls: &DataLoaders, arch: impl FnOnce() -> Arch) -> Result<Learner> {
    vision_learner_on(dls, arch, Device::best())
}

/// [`vision_learner`] on a device of the caller's choice. No other device is touched: this works where the best one is broken,
/// or is full.
///
/// # Errors
/// As [`vision_learner`]; or the device has too little memory.
pub fn vision_learner_on(dls: &DataLoaders, arch: impl FnOnce() -> Arch, device: Device) -> Result<Learner> {
    let arch = arch();
    let least = if TargetKind::of(dls.datasets().targets()) == TargetKind::Classes { 2 } else { 1 };
    if dls.c() < least {
        let message =
            format!("a network needs at least {least} classes, labels or numbers to say, the data has {}", dls.c());
        return Err(Error::new(ErrorKind::Data, message).on(dls.datasets().source().display()));
    }
    let options = HeadOptions::default();
    let model = build(&arch, &options, dls.c());
    init(&model, dls.seed())?;
    #[allow(unused_mut)]
    let mut learn = Learner::new(model, arch, options, dls.clone()).to_device(device)?;
    #[cfg(feature = "cli")]
    learn.add_cb(super::ProgressCallback::new(super::Verbosity::Full));
    Ok(learn)
}

/// `Sequential(body, head)`, with weights of zero.
pub(super) fn build(arch: &Arch, head: &HeadOptions, classes: usize) -> Sequential {
    Sequential::new().push(arch.body()).push(create_head(arch.features(), classes, head))
}

fn init(model: &Sequential, seed: u64) -> Result<()> {
    model.init_with(seed)?;
    if let Some(head) = model.get(1) {
        init_head(head, seed.wrapping_add(1))?;
    }
    Ok(())
}
