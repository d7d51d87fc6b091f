//! Everything that a fit in the middle of its work is made of, and the way back.
//!
//! Random numbers are no part of it: they are functions of the seed and of what they are for ([`rng`](crate::rng)), so counters are enough.

use super::Checkpoint;
use super::folder::Place;
use crate::data::Subset;
use crate::device::cpu;
use crate::learner::callback::Callback;
use crate::learner::save::{OPTIMIZER, SavedOptimizer, load_optimizer, model_tensors, optimizer_tensors};
use crate::learner::{Learner, Row, Smooth, StateDict};
use crate::nn::Module;
use crate::nn::safetensors::Contents;
use crate::{Device, Error, ErrorKind, Result, Tensor};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::time::Duration;

const MODEL: &str = "model.";
const GRADIENT: &str = "gradient.";
const RECORDER: &str = "recorder.";

/// What a checkpoint says besides its tensors.
#[derive(Serialize, Deserialize)]
pub struct Description {
    pub place: Place,
    /// What must be the same where the fit goes on.
    pub fit: Identity,
    /// What should be, for the same bits.
    pub surroundings: Surroundings,
    epochs_seen: u64,
    train_iter: usize,
    optimizer: SavedOptimizer,
    /// What an exported model would say about itself.
    exported: String,
    callbacks: Vec<(String, StateDict)>,
    rows: Vec<SavedRow>,
    history: Vec<SavedRow>,
    iters: Vec<usize>,
    messages: Vec<String>,
}

/// What makes a fit this one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    pub arch: String,
    pub vocab: Vec<String>,
    pub precision: String,
    pub seed: u64,
    pub epochs: usize,
    /// Training batches of an epoch.
    pub batches: usize,
    pub frozen_groups: usize,
    /// SHA-256 of the items' names, their files' sizes, their targets and their split.
    pub data: String,
    /// What the caller says that it depends on.
    pub config: String,
}

/// What other bits may come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Surroundings {
    pub library: String,
    pub device: String,
    pub instructions: String,
}

/// A row of the table, with numbers that come back as they were.
#[derive(Serialize, Deserialize)]
struct SavedRow {
    epoch: usize,
    names: Vec<String>,
    numbers: StateDict,
}

impl SavedRow {
    fn of(row: &Row) -> SavedRow {
        let numbers = StateDict::new().with("seconds", row.seconds).with("waited", row.waited);
        let numbers = numbers.with_some("train_loss", row.train_loss);
        let named = row.names.iter().enumerate();
        let numbers = named.fold(numbers, |all, (i, name)| {
            all.with_some(&format!("{i} {name}"), row.valid.as_ref().and_then(|valid| valid.get(i)))
        });
        SavedRow { epoch: row.epoch, names: row.names.clone(), numbers }
    }

    fn row(self) -> Result<Row> {
        let number = |(i, name): (usize, &String)| self.numbers.find(&format!("{i} {name}"));
        let valid = self.names.iter().enumerate().map(number).collect::<Result<Option<Vec<f64>>>>()?;
        Ok(Row {
            epoch: self.epoch,
            train_loss: self.numbers.find("train_loss")?,
            valid: valid.filter(|valid| !valid.is_empty()),
            seconds: self.numbers.get("seconds")?,
            waited: self.numbers.get("waited")?,
            names: self.names,
        })
    }
}

impl Identity {
    /// That of the learner's present fit, as far as it is known before one.
    pub fn of(learn: &Learner, config: &str) -> Identity {
        Identity {
            arch: learn.arch.name.clone(),
            vocab: learn.dls.vocab().to_vec(),
            precision: learn.dtype.to_string(),
            seed: learn.seed,
            epochs: learn.at.n_epoch,
            batches: learn.dls.train.len(),
            frozen_groups: learn.opt.frozen_idx(),
            data: learn.data_digest.get_or_init(|| data_digest(learn)).clone(),
            config: config.to_string(),
        }
    }

    /// # Errors
    /// [`ErrorKind::Argument`] naming the first thing that is another one in `here`, which fits don't matter for unless `all`.
    pub fn compare(&self, here: &Identity, all: bool) -> Result<()> {
        let pair = |name, there: &dyn ToString, here: &dyn ToString| (name, there.to_string(), here.to_string());
        let mut pairs = vec![
            pair("the network", &self.arch, &here.arch),
            pair("the classes", &self.vocab.join(", "), &here.vocab.join(", ")),
            pair("the precision", &self.precision, &here.precision),
            pair("the seed", &self.seed, &here.seed),
            pair("the number of training batches", &self.batches, &here.batches),
        ];
        if all {
            pairs.push(pair("the number of epochs", &self.epochs, &here.epochs));
            pairs.push(pair("the number of frozen parameter groups", &self.frozen_groups, &here.frozen_groups));
        }
        let differs = |text: String| {
            let error = Error::new(ErrorKind::Argument, text).on("resume");
            Err(error.remedy("go on with what the run was begun with, or begin a new one"))
        };
        if let Some((name, there, now)) = pairs.into_iter().find(|(_, there, now)| there != now) {
            return differs(format!("{name} was {there} when the checkpoint was written, and is {now}"));
        }
        if self.data != here.data {
            return differs("the pictures, their labels or their split are not those of the checkpoint".into());
        }
        match self.config.lines().zip(here.config.lines()).find(|(a, b)| a != b) {
            Some((there, now)) => differs(format!("a setting was `{there}`, and is `{now}`")),
            None if self.config != here.config => differs("there are more or fewer settings than there were".into()),
            None => Ok(()),
        }
    }
}

impl Surroundings {
    pub fn of(learn: &Learner) -> Surroundings {
        let device = match learn.device {
            Device::Cpu => "the CPU".into(),
            Device::Cuda(gpu) => gpu.description().name.clone(),
        };
        let instructions = format!("{:?}", cpu::simd::level()).to_lowercase();
        Surroundings { library: env!("CARGO_PKG_VERSION").into(), device, instructions }
    }

    /// What is another one in `here`: from there on, the run may differ from one that was never interrupted in the last bits.
    pub fn warnings(&self, here: &Surroundings) -> Vec<String> {
        let pairs = [
            ("onecycle", &self.library, &here.library),
            ("the device", &self.device, &here.device),
            ("the vector instructions", &self.instructions, &here.instructions),
        ];
        let differ = pairs.into_iter().filter(|(_, there, here)| there != here);
        let tell = |(name, there, here)| format!("{name}: {there} then, {here} now; the last bits may differ");
        differ.map(tell).collect()
    }
}

/// Folders may be elsewhere after an interruption, and copies have times of their own: the last two names of each path count, and the
/// size of the file. Reading the files would take as long as an epoch, so another picture of the very same size isn't noticed.
fn data_digest(learn: &Learner) -> String {
    let (data, mut hash) = (learn.dls.datasets(), Sha256::new());
    for path in data.paths().iter() {
        let names: Vec<_> = path.components().rev().take(2).collect();
        names.iter().for_each(|name| hash.update(name.as_os_str().as_encoded_bytes()));
        hash.update([0]);
        // One that can't be asked is missed by whoever decodes it.
        hash.update(std::fs::metadata(path).map_or(0, |file| file.len()).to_le_bytes());
    }
    for subset in [Subset::Train, Subset::Valid] {
        hash.update(format!("{subset:?}"));
        data.indices(subset).iter().for_each(|&i| hash.update((i as u64).to_le_bytes()));
    }
    hash.update(format!("{:?}", data.targets()));
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The fit as it is, with all tensors on the host.
///
/// # Errors
/// The device can't be read.
pub fn capture(learn: &mut Learner, place: Place, config: &str) -> Result<(Description, Vec<(String, Tensor)>)> {
    // A GPU's last loss is still on its way.
    learn.take_losses(0)?;
    learn.record_losses();
    let (at, recorder) = (&learn.at, &learn.recorder);
    let model = model_tensors(&learn.model).into_iter().map(|(name, t)| (format!("{MODEL}{name}"), t));
    let (optimizer, averages) = optimizer_tensors(&learn.opt)?;
    let mut tensors: Vec<(String, Tensor)> = model.chain(averages).collect();
    for group in learn.opt.param_groups() {
        let gradients = group.names().zip(group.parameters()).filter_map(|(name, (p, _))| Some((name, p.grad()?)));
        tensors.extend(gradients.map(|(name, grad)| (format!("{GRADIENT}{name}"), grad)));
    }
    for (_, t) in &mut tensors {
        *t = t.to(Device::Cpu)?;
    }
    let smooth = &recorder.smooth;
    let numbers = [
        at.pct_train,
        at.spent().as_secs_f64(),
        at.waited.as_secs_f64(),
        smooth.value.into(),
        smooth.count.into(),
        at.loss_value,
    ];
    let lists: [(&str, &[f64]); 6] = [
        ("raw", &recorder.raw),
        ("losses", &recorder.losses),
        ("lrs", &recorder.lrs),
        ("moms", &recorder.moms),
        ("scales", &at.scales),
        ("numbers", &numbers),
    ];
    for (name, list) in lists {
        tensors.push((format!("{RECORDER}{name}"), Tensor::from_slice(list, [list.len()], Device::Cpu)?));
    }
    let states = learn.cbs.iter().map(|slot| (slot.cb.name().to_string(), slot.cb.state_dict()));
    let description = Description {
        place,
        fit: Identity::of(learn, config),
        surroundings: Surroundings::of(learn),
        epochs_seen: learn.epochs_seen,
        train_iter: at.train_iter,
        optimizer,
        exported: learn.description()?,
        callbacks: states.filter(|(_, state)| !state.is_empty()).collect(),
        rows: recorder.rows.iter().map(SavedRow::of).collect(),
        history: recorder.history.iter().map(SavedRow::of).collect(),
        iters: recorder.iters.clone(),
        messages: recorder.messages.clone(),
    };
    Ok((description, tensors))
}

/// The first of the model's tensors that holds NaN or an infinity.
pub fn first_not_finite(tensors: &[(String, Tensor)]) -> Option<&str> {
    let bad = |t: &Tensor| t.is_finite().is_ok_and(|finite| !finite);
    tensors.iter().filter_map(|(name, t)| Some((name.strip_prefix(MODEL)?, t))).find(|(_, t)| bad(t)).map(|(n, _)| n)
}

/// Takes the model out of `contents`.
///
/// # Errors
/// [`ErrorKind::Format`] naming the tensor that doesn't fit; the learner is unchanged then.
pub fn restore_model(learn: &Learner, contents: &mut Contents) -> Result<()> {
    learn.model.load_state(&take(contents, MODEL))
}

/// The model in `contents` and its description, as [`Learner::export`] has them.
pub fn model(d: Description, mut contents: Contents) -> (HashMap<String, Tensor>, String) {
    (take(&mut contents, MODEL), d.exported)
}

/// The best epoch's file, as the [`Checkpoint`] callback remembers it.
pub fn best(d: &Description) -> Result<Option<String>> {
    let own = d.callbacks.iter().find(|(name, _)| name == Checkpoint::NAME);
    own.map_or(Ok(None), |(_, state)| state.find("file"))
}

/// Brings the present fit to where it was, between its `before_fit` and its first epoch.
///
/// # Errors
/// [`ErrorKind::Argument`] when it is another fit; [`ErrorKind::Format`] when the checkpoint doesn't fit the learner.
pub fn restore_fit(learn: &mut Learner, d: Description, mut contents: Contents) -> Result<()> {
    d.fit.compare(&Identity::of(learn, &d.fit.config), true)?;
    let bad = |what: &str| Error::new(ErrorKind::Format, format!("the checkpoint's {what} doesn't fit")).on("resume");

    let averages = take(&mut contents, OPTIMIZER).into_iter().map(|(name, t)| (format!("{OPTIMIZER}{name}"), t));
    if !load_optimizer(&mut learn.opt, &d.optimizer, averages.collect())? {
        return Err(bad("optimizer"));
    }
    let mut gradients = take(&mut contents, GRADIENT);
    for group in learn.opt.param_groups() {
        for (name, (param, _)) in group.names().zip(group.parameters()) {
            if let Some(grad) = gradients.remove(name) {
                param.set_grad(grad.to(learn.device)?);
            }
        }
    }
    let mut lists = take(&mut contents, RECORDER);
    let mut list = |name: &str| lists.remove(name).map_or_else(|| Err(bad(name)), |t| t.to_vec::<f64>());
    let [pct_train, spent, waited, value, count, loss] = list("numbers")?[..] else { return Err(bad("numbers")) };
    let seconds = |s: f64| Duration::try_from_secs_f64(s).unwrap_or_default();
    let rows = |rows: Vec<SavedRow>| rows.into_iter().map(SavedRow::row).collect::<Result<Vec<Row>>>();

    let recorder = &mut learn.recorder;
    recorder.smooth = Smooth { value: value as f32, count: count as i32, ..Smooth::default() };
    (recorder.raw, recorder.losses) = (list("raw")?, list("losses")?);
    (recorder.lrs, recorder.moms) = (list("lrs")?, list("moms")?);
    (recorder.rows, recorder.history) = (rows(d.rows)?, rows(d.history)?);
    (recorder.iters, recorder.messages) = (d.iters, d.messages);
    let at = &mut learn.at;
    (at.epoch, at.first_batch) = (d.place.epoch, d.place.batch);
    (at.pct_train, at.train_iter, at.loss_value) = (pct_train, d.train_iter, loss);
    (at.earlier, at.waited) = (seconds(spent), seconds(waited));
    at.scales = list("scales")?;
    learn.epochs_seen = d.epochs_seen;
    restore_callbacks(learn, d.callbacks)
}

/// Each gets its own; of several with one name, the first gets the first.
fn restore_callbacks(learn: &mut Learner, mut states: Vec<(String, StateDict)>) -> Result<()> {
    // This runs while all callbacks are in their slots: between two events.
    for slot in &mut learn.cbs {
        let cb: &mut dyn Callback = &mut *slot.cb;
        if let Some(place) = states.iter().position(|(name, _)| name == cb.name()) {
            let (_, state) = states.remove(place);
            cb.load_state_dict(&state).map_err(|e| e.on(cb.name()))?;
        }
    }
    // A fit may well go on without writing checkpoints.
    match states.into_iter().find(|(name, _)| name != Checkpoint::NAME) {
        None => Ok(()),
        Some((name, _)) => {
            let message = "the interrupted fit had this callback, and this one has not";
            Err(Error::new(ErrorKind::Argument, message).on(name).remedy("add it, as the program did then"))
        }
    }
}

/// The tensors whose names begin with `prefix`, without it.
fn take(contents: &mut Contents, prefix: &str) -> HashMap<String, Tensor> {
    contents
        .tensors
        .extract_if(|name, _| name.starts_with(prefix))
        .map(|(name, t)| (name[prefix.len()..].to_string(), t))
        .collect()
}
