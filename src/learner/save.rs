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

use super::Learner;
use crate::fs::create_dir;
use crate::nn::{Module, safetensors};
use crate::ops::optimizer_step::State;
use crate::optim::Hyper;
use crate::{Device, Error, ErrorKind, Result, Tensor};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

const KEY: &str = "onecycle-learner";
const FORMAT: u32 = 1;
pub(super) const OPTIMIZER: &str = "optimizer.";
const HYPER: &str = "optimizer.hyper";

/// What the file says about itself.
#[derive(Serialize, Deserialize)]
struct Description {
    format: u32,
    library: String,
    arch: String,
    /// None when it was saved without.
    optimizer: Option<Saved>,
}

/// An optimizer but for its averages.
#[derive(Serialize, Deserialize)]
pub(super) struct Saved {
    kind: String,
    /// By parameter.
    steps: BTreeMap<String, u64>,
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
        let path = self.file(name);
        let mut tensors: Vec<(String, Tensor)> = self.model.state().into_iter().map(|(n, e)| (n, e.value())).collect();
        let optimizer = if with_opt { Some(self.save_optimizer(&mut tensors)?) } else { None };
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

    /// Adds what the optimizer remembers to `tensors`; what isn't a tensor is returned.
    pub(super) fn save_optimizer(&self, tensors: &mut Vec<(String, Tensor)>) -> Result<Saved> {
        let mut saved = Saved { kind: self.opt.kind().name().into(), steps: BTreeMap::new() };
        let mut hypers = Vec::new();
        for group in self.opt.param_groups() {
            let Hyper { lr, mom, sqr_mom, eps, wd } = group.hyper;
            hypers.extend([lr, mom, sqr_mom, eps, wd]);
            for (name, state) in group.states() {
                let averages = [("grad_avg", &state.grad_avg), ("sqr_avg", &state.sqr_avg)];
                let there = averages.into_iter().filter_map(|(what, t)| Some((what, t.clone()?)));
                tensors.extend(there.map(|(what, t)| (format!("{OPTIMIZER}{name}.{what}"), t)));
                saved.steps.insert(name.to_string(), state.step);
            }
        }
        let shape = [hypers.len() / 5, 5];
        tensors.push((HYPER.into(), Tensor::from_slice(&hypers, shape, Device::Cpu)?));
        Ok(saved)
    }

    /// Reads what [`Learner::save`] has written: the model, and the optimizer where it is there and fits. Returns fastai's warning
    /// otherwise.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when there is no such file; [`ErrorKind::Format`] naming file and tensor when it isn't a learner's, or of another
    /// network. The learner is unchanged then.
    pub fn load(&mut self, name: &str) -> Result<Option<&'static str>> {
        self.load_with(name, true)
    }

    /// [`Learner::load`], with or without the optimizer.
    ///
    /// # Errors
    /// As [`Learner::load`].
    pub fn load_with(&mut self, name: &str, with_opt: bool) -> Result<Option<&'static str>> {
        let path = self.file(name);
        let contents = safetensors::read(&path)?;
        let foreign = |why: String| {
            let error = Error::new(ErrorKind::Format, why).on(path.display());
            error.remedy("use a file that Learner::save wrote, of a learner with the same network")
        };
        let text = contents.metadata.get(KEY).ok_or_else(|| foreign("is not a saved learner".into()))?;
        let d: Description =
            serde_json::from_str(text).map_err(|e| foreign(format!("the description is not valid: {e}")))?;
        if d.format != FORMAT {
            return Err(foreign(format!("is a learner of format {}, this version reads {FORMAT}", d.format)));
        }
        if d.arch != self.arch.name {
            return Err(foreign(format!("is of a {}, this learner has a {}", d.arch, self.arch.name)));
        }
        let (averages, model): (HashMap<_, _>, HashMap<_, _>) =
            contents.tensors.into_iter().partition(|(name, _)| name.starts_with(OPTIMIZER));
        self.model.load_state(&model).map_err(|e| {
            let what = e.item().unwrap_or_default().to_string();
            foreign(format!("tensor {what:?} {}", e.message()))
        })?;
        match d.optimizer.filter(|_| with_opt) {
            None => Ok(with_opt.then_some("Saved file doesn't contain an optimizer state.")),
            Some(saved) => match self.load_optimizer(&saved, averages)? {
                true => Ok(None),
                false => Ok(Some("Could not load the optimizer state.")),
            },
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join("models").join(format!("{name}.safetensors"))
    }

    /// Whether it fits; otherwise the optimizer is unchanged.
    pub(super) fn load_optimizer(&mut self, saved: &Saved, mut averages: HashMap<String, Tensor>) -> Result<bool> {
        let groups = self.opt.param_groups();
        let hypers = averages.remove(HYPER).and_then(|t| t.to_vec::<f64>().ok()).unwrap_or_default();
        if saved.kind != self.opt.kind().name() || hypers.len() != 5 * groups.len() {
            return Ok(false);
        }
        let mut states = Vec::new();
        for group in groups {
            for ((name, _), (param, _)) in group.states().zip(group.parameters()) {
                let Some(&step) = saved.steps.get(name) else { return Ok(false) };
                let mut average = |what: &str| averages.remove(&format!("{OPTIMIZER}{name}.{what}"));
                let (grad_avg, sqr_avg) = (average("grad_avg"), average("sqr_avg"));
                let value = param.value();
                let fits = |t: &Tensor| t.shape() == value.shape() && t.dtype() == value.dtype();
                if ![&grad_avg, &sqr_avg].into_iter().flatten().all(fits) {
                    return Ok(false);
                }
                let here = |t: Option<Tensor>| t.map(|t| t.to(value.device())).transpose();
                states.push(State { grad_avg: here(grad_avg)?, sqr_avg: here(sqr_avg)?, step });
            }
        }
        if !averages.is_empty() {
            return Ok(false);
        }
        self.opt.set_states(states);
        self.opt.set(|g, h| {
            let row = &hypers[5 * g..][..5];
            *h = Hyper { lr: row[0], mom: row[1], sqr_mom: row[2], eps: row[3], wd: row[4] };
        });
        Ok(true)
    }
}
