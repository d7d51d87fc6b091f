//! Saving a learner in the middle of its work, and loading it again: fastai's `save` and `load`.
//!
//! Unlike an [exported](Learner::export) model the file knows nothing of the data; it is read by a learner of the same network. It is a
//! safetensors file with the model's state under its own names, what the optimizer remembers as `optimizer.<parameter>.grad_avg` and
//! `.sqr_avg`, its hyper-parameters as `optimizer.hyper` (a row of lr, mom, sqr_mom, eps, wd for each group, f64: JSON readers may round),
//! and a JSON description with step counts under the metadata key `onecycle-learner`. What is frozen, the
//! place in a schedule and the numbers of random draws are not saved, as in fastai.
//!
//! The file lies in `models` under the learner's [path](Learner::path), which is the current directory unless
//! [`Learner::at_path`] says otherwise. (fastai's is the directory of the data, which here is never written to.)
//!
//! What fastai's own `learn.save` has written is read too: `fastai.rs`.

use super::Learner;
use crate::fs::create_dir;
use crate::nn::{Module, safetensors};
use crate::ops::optimizer_step::State;
use crate::optim::{Hyper, Optimizer};
use crate::{Device, Error, ErrorKind, Result, Tensor};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

const KEY: &str = "onecycle-learner";
const FORMAT: u32 = 1;
pub(super) const OPTIMIZER: &str = "optimizer.";
const HYPER: &str = "optimizer.hyper";

/// fastai's warnings where an optimizer was wanted.
pub(super) const NO_OPTIMIZER: &str = "Saved file doesn't contain an optimizer state.";
pub(super) const OTHER_OPTIMIZER: &str = "Could not load the optimizer state.";

/// What the file says about itself.
#[derive(Serialize, Deserialize)]
struct Description {
    format: u32,
    library: String,
    arch: String,
    /// None when it was saved without.
    optimizer: Option<SavedOptimizer>,
}

/// Of a [`Description`] what every format has.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// An optimizer but for its averages, as JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SavedOptimizer {
    kind: String,
    /// By parameter.
    steps: BTreeMap<String, u64>,
}

/// What [`Learner::load_with`] takes from a file. `true` and `false` are [`LoadOptions::with_opt`] alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadOptions {
    /// The optimizer's state too, not the model's alone.
    pub with_opt: bool,
    /// Every tensor of the model must be in the file, and no other; otherwise what is missing stays as it is, and what is too many is
    /// left out. A shape that differs is an error in both cases.
    pub strict: bool,
}

impl Default for LoadOptions {
    fn default() -> LoadOptions {
        LoadOptions { with_opt: true, strict: true }
    }
}

impl From<bool> for LoadOptions {
    fn from(with_opt: bool) -> LoadOptions {
        LoadOptions { with_opt, ..LoadOptions::default() }
    }
}

impl Learner {
    /// Sets the directory that this learner writes to: `models/` of [`Learner::save`], `history.csv` of
    /// [`CSVLogger`](super::CSVLogger). fastai: the argument `path`.
    pub fn at_path(mut self, path: impl Into<PathBuf>) -> Learner {
        self.path = path.into();
        self
    }

    /// The directory that this learner writes to: the current one unless [`Learner::at_path`] has said otherwise.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes model and optimizer to `models/<name>.safetensors`, atomically, and returns the path.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] or [`ErrorKind::StorageFull`] naming the file; one that was there before stays.
    pub fn save(&self, name: &str) -> Result<PathBuf> {
        self.save_with(name, true)
    }

    /// [`Learner::save`], with or without the optimizer.
    ///
    /// # Errors
    /// As [`Learner::save`].
    pub fn save_with(&self, name: &str, with_opt: bool) -> Result<PathBuf> {
        let path = self.path.join("models").join(format!("{name}.safetensors"));
        let mut tensors = model_tensors(&self.model);
        let mut optimizer = None;
        if with_opt {
            let (saved, more) = optimizer_tensors(&self.opt)?;
            tensors.extend(more);
            optimizer = Some(saved);
        }
        let description = Description {
            format: FORMAT,
            library: env!("CARGO_PKG_VERSION").into(),
            arch: self.arch.name.clone(),
            optimizer,
        };
        let text = serde_json::to_string(&description)
            .map_err(|e| Error::new(ErrorKind::Format, format!("the learner cannot be described: {e}")))?;
        path.parent().map_or(Ok(()), create_dir)?;
        safetensors::write(&path, &tensors, &BTreeMap::from([(KEY.to_string(), text)]))?;
        Ok(path)
    }

    /// Reads what [`Learner::save`] has written, or fastai's `learn.save`: the model, and the optimizer where it is there and fits. Returns
    /// fastai's warning otherwise. The file is `models/<name>.safetensors`, or `models/<name>.pth` where only that is there; a name
    /// with one of these endings means that file.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when there is no such file; [`ErrorKind::Format`] naming file and tensor when it isn't a learner's, or of another
    /// network. The learner is unchanged then.
    pub fn load(&mut self, name: &str) -> Result<Option<&'static str>> {
        self.load_with(name, LoadOptions::default())
    }

    /// [`Learner::load`], with or without the optimizer, and with a model that fits in part.
    ///
    /// ```no_run
    /// # use onecycle::prelude::*;
    /// # use onecycle::learner::LoadOptions;
    /// # fn demo(mut learn: Learner) -> Result<()> {
    /// learn.load_with("stage-1", false)?; // the model alone
    /// learn.load_with("from_fastai.pth", LoadOptions { strict: false, ..LoadOptions::default() })?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Learner::load`].
    pub fn load_with(&mut self, name: &str, options: impl Into<LoadOptions>) -> Result<Option<&'static str>> {
        let (path, options) = (self.file_to_load(name), options.into());
        if super::fastai::is_torch(&path) {
            return self.load_fastai(&path, options);
        }
        let contents = safetensors::read(&path)?;
        let foreign = |why: String| misfit(&path, why);
        let text = contents.metadata.get(KEY).ok_or_else(|| foreign("is not a saved learner".into()))?;
        let invalid = |e: serde_json::Error| foreign(format!("the description is not valid: {e}"));
        // First, because another format may have other fields.
        let Format { format } = serde_json::from_str(text).map_err(invalid)?;
        if format != FORMAT {
            return Err(foreign(format!("is a learner of format {format}, this version reads {FORMAT}")));
        }
        let d: Description = serde_json::from_str(text).map_err(invalid)?;
        if d.arch != self.arch.name {
            return Err(foreign(format!("is of a {}, this learner has a {}", d.arch, self.arch.name)));
        }
        let (averages, model): (HashMap<_, _>, HashMap<_, _>) =
            contents.tensors.into_iter().partition(|(name, _)| name.starts_with(OPTIMIZER));
        self.load_model(&path, model, options.strict)?;
        match d.optimizer.filter(|_| options.with_opt) {
            None => Ok(options.with_opt.then_some(NO_OPTIMIZER)),
            Some(saved) => Ok((!load_optimizer(&mut self.opt, &saved, averages)?).then_some(OTHER_OPTIMIZER)),
        }
    }

    /// Replaces the model's state by the tensors of a file.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] naming file and tensor; the model is unchanged then.
    pub(super) fn load_model(&self, path: &Path, mut tensors: HashMap<String, Tensor>, strict: bool) -> Result<()> {
        if !strict {
            let state = self.model.state();
            tensors.retain(|name, _| state.iter().any(|(known, _)| known == name));
            for (name, entry) in &state {
                tensors.entry(name.clone()).or_insert_with(|| entry.value());
            }
        }
        self.model.load_state(&tensors).map_err(|e| {
            let what = e.item().unwrap_or_default().to_string();
            misfit(path, format!("tensor {what:?} {}", e.message()))
        })
    }

    fn file_to_load(&self, name: &str) -> PathBuf {
        let file = |name: &str| self.path.join("models").join(name);
        if name.ends_with(".pth") || name.ends_with(".safetensors") {
            return file(name);
        }
        let (ours, theirs) = (file(&format!("{name}.safetensors")), file(&format!("{name}.pth")));
        if !ours.exists() && theirs.exists() { theirs } else { ours }
    }
}

fn misfit(path: &Path, why: String) -> Error {
    let error = Error::new(ErrorKind::Format, why).on(path.display());
    error.remedy(
        "use a file that Learner::save or fastai's learn.save wrote, of a learner with the same network; `strict: false` takes what fits",
    )
}

/// A model's state, by its names.
pub(super) fn model_tensors(model: &dyn Module) -> Vec<(String, Tensor)> {
    model.state().into_iter().map(|(name, entry)| (name, entry.value())).collect()
}

/// What an optimizer remembers: its averages and hyper-parameters under names that begin with `optimizer.`, and the rest.
///
/// # Errors
/// None in practice: there is memory for a few numbers.
pub(super) fn optimizer_tensors(opt: &Optimizer) -> Result<(SavedOptimizer, Vec<(String, Tensor)>)> {
    let mut saved = SavedOptimizer { kind: opt.kind().name().into(), steps: BTreeMap::new() };
    let (mut tensors, mut hypers) = (Vec::new(), Vec::new());
    for group in opt.param_groups() {
        let Hyper { lr, mom, sqr_mom, eps, wd } = group.hyper;
        hypers.extend([lr, mom, sqr_mom, eps, wd]);
        for (name, state) in group.states() {
            let averages = [("grad_avg", &state.grad_avg), ("sqr_avg", &state.sqr_avg)];
            let there = averages.into_iter().filter_map(|(what, t)| Some((what, t.clone()?)));
            tensors.extend(there.map(|(what, t)| (format!("{OPTIMIZER}{name}.{what}"), t)));
            saved.steps.insert(name.to_string(), state.step);
        }
    }
    tensors.push((HYPER.into(), Tensor::from_slice(&hypers, [hypers.len() / 5, 5], Device::Cpu)?));
    Ok((saved, tensors))
}

/// Puts what [`optimizer_tensors`] has given into an optimizer. False when it is another one's; this one is unchanged then.
///
/// # Errors
/// The device has too little memory.
pub(super) fn load_optimizer(
    opt: &mut Optimizer,
    saved: &SavedOptimizer,
    mut tensors: HashMap<String, Tensor>,
) -> Result<bool> {
    let hypers = tensors.remove(HYPER).and_then(|t| t.to_vec::<f64>().ok()).unwrap_or_default();
    if saved.kind != opt.kind().name() || hypers.len() != 5 * opt.param_groups().len() {
        return Ok(false);
    }
    let mut states = Vec::new();
    for (name, _) in opt.param_groups().iter().flat_map(|group| group.states()) {
        let Some(&step) = saved.steps.get(name) else { return Ok(false) };
        let mut average = |what: &str| tensors.remove(&format!("{OPTIMIZER}{name}.{what}"));
        states.push(State { grad_avg: average("grad_avg"), sqr_avg: average("sqr_avg"), step });
    }
    if !tensors.is_empty() || !put_states(opt, states)? {
        return Ok(false);
    }
    opt.set(|g, h| {
        let row = &hypers[5 * g..][..5];
        *h = Hyper { lr: row[0], mom: row[1], sqr_mom: row[2], eps: row[3], wd: row[4] };
    });
    Ok(true)
}

/// Replaces what an optimizer remembers, in the order of its groups' parameters; averages go to the parameters' device. False when there
/// are more or fewer, or when a shape or type is not its parameter's; nothing has changed then.
///
/// # Errors
/// The device has too little memory.
pub(super) fn put_states(opt: &mut Optimizer, mut states: Vec<State>) -> Result<bool> {
    let params: Vec<_> =
        opt.param_groups().iter().flat_map(|group| group.parameters()).map(|(p, _)| p.value()).collect();
    if params.len() != states.len() {
        return Ok(false);
    }
    for (value, state) in params.iter().zip(&mut states) {
        for average in [&mut state.grad_avg, &mut state.sqr_avg].into_iter().flatten() {
            if average.shape() != value.shape() || average.dtype() != value.dtype() {
                return Ok(false);
            }
            *average = average.to(value.device())?;
        }
    }
    opt.set_states(states);
    Ok(true)
}
