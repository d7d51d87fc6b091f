//! Fits that survive their process: what is killed goes on, and ends with the same bits as if nothing had happened.
//!
//! [`Checkpoint`] is a callback that writes everything a fit is made of into a file, after every epoch and, if asked, every so many
//! batches. The program that was killed is simply run again, with one line more; [`Learner::resume`] finds the newest file, fits that
//! were done are passed over, and the one that was interrupted goes on at the very batch:
//!
//! ```no_run
//! # use onecycle::prelude::*;
//! # use onecycle::learner::Checkpoint;
//! # fn demo(dls: DataLoaders) -> onecycle::Result<()> {
//! let mut learn = vision_learner(&dls, resnet34)?.metrics(error_rate).callback(Checkpoint::new("run/checkpoints").every(100));
//! if let Some(resumed) = learn.resume("run/checkpoints")? {
//!     println!("{resumed}"); // goes on with epoch 3, batch 200, from run/checkpoints/fit1-epoch00003-batch0000200.ckpt
//! }
//! learn.fine_tune(6)?; // two fits
//! # Ok(()) }
//! ```
//!
//! The same bits come from the same device, the same vector instructions and the same version of this crate; what differs is
//! told ([`Resumed::warnings`]), and it goes on all the same. What must not differ (pictures, labels, network, epochs, callbacks with a
//! memory) is an error. Threads and workers may differ.
//!
//! A file is written under a temporary name, synced, renamed: at any moment the last good one is there. The last two are kept, and the
//! one after the best epoch. One that was damaged since is noticed by its digest ([`file`]), set aside under another name, and the one before it is used.
//! A model that holds NaN is never written.
//!
//! It costs the time to write the parameters three times (with Adam's two averages): 262 MB for ResNet-34, 0.5 to 0.7 s with the digest and the
//! sync (two cores of an AMD EPYC, a virtual disk).

mod file;
mod folder;
mod state;

pub use folder::{Place, clear as clear_checkpoints};

use super::callback::{AFTER_BATCH, AFTER_EPOCH, BEFORE_FIT, Callback, Event, Level, Signal};
use super::callbacks::is_better;
use super::fit::Resume;
use super::{Learner, Predictor, StateDict};
use crate::nn::safetensors::Contents;
use crate::{Error, ErrorKind, Result};
use folder::{Folder, Found};
use state::{Description, Identity, Surroundings};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Writes checkpoints; see the [module](self).
pub struct Checkpoint {
    dir: PathBuf,
    every_batches: Option<usize>,
    keep: usize,
    monitor: String,
    config: String,
    stop: Option<Arc<AtomicUsize>>,
    folder: Option<Arc<Folder>>,
    /// The best epoch's number, and its file.
    best: Option<(f64, String)>,
}

impl Checkpoint {
    pub(super) const NAME: &str = "Checkpoint";

    /// After every epoch into `dir`; the last two and the one with the best `valid_loss` are kept.
    pub fn new(dir: impl Into<PathBuf>) -> Checkpoint {
        Checkpoint {
            dir: dir.into(),
            every_batches: None,
            keep: 2,
            monitor: "valid_loss".into(),
            config: String::new(),
            stop: None,
            folder: None,
            best: None,
        }
    }

    /// After every `n` batches, too.
    pub fn every(self, n: usize) -> Checkpoint {
        Checkpoint { every_batches: Some(n), ..self }
    }

    /// Keeps the newest `n`; 2 unless told otherwise.
    pub fn keep(self, n: usize) -> Checkpoint {
        Checkpoint { keep: n, ..self }
    }

    /// Keeps the one after the epoch whose number called `name` is best; `valid_loss` unless told otherwise. Losses and errors are
    /// better when they are smaller.
    pub fn monitor(self, name: impl Into<String>) -> Checkpoint {
        Checkpoint { monitor: name.into(), ..self }
    }

    /// And once `flag` is raised, before [`StopOnFlag`](super::StopOnFlag) ends the fit.
    pub fn on_flag(self, flag: Arc<AtomicUsize>) -> Checkpoint {
        Checkpoint { stop: Some(flag), ..self }
    }

    /// Settings that the fits depend on, line by line: [`Learner::resume_with`] compares them.
    pub fn config(self, config: impl Into<String>) -> Checkpoint {
        Checkpoint { config: config.into(), ..self }
    }

    /// Takes the directory for this process now, not with the first fit: before a program removes or writes anything that another one,
    /// which trains there, would miss. It is held as long as the callback lives.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when the directory can't be made, or another process has it.
    pub fn claim(mut self) -> Result<Checkpoint> {
        self.folder = Some(Arc::new(Folder::open(&self.dir)?));
        Ok(self)
    }

    /// Writes one when all callbacks have seen this event.
    fn write(&self, learn: &mut Learner, place: Place) {
        let Some(folder) = self.folder.clone() else { return };
        let (keep, config) = (self.keep, self.config.clone());
        let best = self.best.clone().map_or(String::new(), |(_, name)| name);
        learn.deferred.push(Box::new(move |learn, cancelled| {
            let place = match cancelled {
                Some(Level::Fit) => Place { epoch: learn.at.n_epoch, batch: 0, ..place },
                Some(Level::Train) => Place { batch: learn.dls.train.len(), ..place },
                Some(Level::Epoch) => return Ok(()), // the next one is after this epoch
                _ => place,
            };
            let (description, tensors) = state::capture(learn, place, &config)?;
            if !learn.at.loss_value.is_finite() {
                return Ok(()); // a GPU's loss comes late: the weights are spoilt, and the fit is about to end
            }
            if let Some(name) = state::first_not_finite(&tensors) {
                learn.say(format!("No checkpoint of epoch {}, batch {}: {name} holds NaN", place.epoch, place.batch));
                return Ok(());
            }
            let text = serde_json::to_string(&description)
                .map_err(|e| Error::new(ErrorKind::Format, format!("the fit cannot be described: {e}")))?;
            folder.write(place, |path| file::write(path, &tensors, text), keep, &best)
        }));
    }

    /// Whether this epoch is the best so far; its file is the one that is about to be written.
    fn look(&mut self, learn: &Learner, place: Place) {
        let Some(value) = learn.recorder().last(&self.monitor) else { return };
        if is_better(&self.monitor, value, self.best.as_ref().map(|(best, _)| *best), 0.0) {
            self.best = Some((value, place.file_name()));
        }
    }
}

impl Callback for Checkpoint {
    fn name(&self) -> &'static str {
        Checkpoint::NAME
    }

    fn order(&self) -> i32 {
        // Before those that end an epoch or a fit: it writes when all are done, whatever they say.
        -10
    }

    fn events(&self) -> Option<&'static [Event]> {
        Some(&[BEFORE_FIT, AFTER_BATCH, AFTER_EPOCH])
    }

    fn runs_in_lr_find(&self) -> bool {
        false
    }

    fn before_fit(&mut self, _: &mut Learner) -> Signal {
        if self.every_batches == Some(0) {
            let error = Error::new(ErrorKind::Argument, "a checkpoint after every 0 batches").on("every");
            return Err(error.remedy("use 1 or more").into());
        }
        if self.folder.is_none() {
            self.folder = Some(Arc::new(Folder::open(&self.dir)?));
        }
        self.best = None; // another fit, another table
        Ok(())
    }

    fn after_batch(&mut self, learn: &mut Learner) -> Signal {
        let (batches, stopped) =
            (learn.dls.train.len(), self.stop.as_ref().is_some_and(|s| s.load(Ordering::SeqCst) != 0));
        let batch = if learn.is_training() { learn.iter() + 1 } else { batches };
        let due = learn.is_training() && self.every_batches.is_some_and(|n| batch.is_multiple_of(n));
        if due || stopped {
            self.write(learn, Place { fit: learn.fits, epoch: learn.epoch(), batch });
        }
        Ok(())
    }

    fn after_epoch(&mut self, learn: &mut Learner) -> Signal {
        let place = Place { fit: learn.fits, epoch: learn.epoch() + 1, batch: 0 };
        self.look(learn, place);
        self.write(learn, place);
        Ok(())
    }

    fn state_dict(&self) -> StateDict {
        match &self.best {
            None => StateDict::new(),
            Some((value, name)) => StateDict::new().with("best", value).with("file", name),
        }
    }

    fn load_state_dict(&mut self, state: &StateDict) -> Result<()> {
        self.best = Some((state.get("best")?, state.get("file")?));
        Ok(())
    }
}

/// What a learner goes on with.
#[derive(Clone, Debug)]
pub struct Resumed {
    /// The checkpoint.
    pub path: PathBuf,
    /// Where it goes on.
    pub place: Place,
    /// Newer checkpoints that are damaged, and what may make a difference in the last bits.
    pub warnings: Vec<String>,
}

impl fmt::Display for Resumed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "goes on with epoch {}, batch {}, from {}", self.place.epoch, self.place.batch, self.path.display())
    }
}

/// Which checkpoint of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The newest that is whole.
    Newest,
    /// The one after the best epoch of its last fit.
    Best,
}

/// A checkpoint that has been read: a model without data or learner.
pub struct Stored {
    path: PathBuf,
    description: Description,
    contents: Contents,
}

impl fmt::Display for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { fit, epoch, batch } = self.description.place;
        write!(f, "the model after fit {fit}, epoch {epoch}, batch {batch}, of {}", self.path.display())
    }
}

impl Stored {
    /// The checkpoint in the file `path`.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] when it is damaged or no checkpoint; [`ErrorKind::Io`] when it can't be read.
    pub fn read(path: &Path) -> Result<Stored> {
        let (text, contents) = file::read(path)?;
        Ok(Stored { path: path.to_path_buf(), description: description(path, &text)?, contents })
    }

    /// A checkpoint in the directory `dir`.
    ///
    /// # Errors
    /// As [`Stored::read`]; [`ErrorKind::Data`] when there is no such checkpoint.
    pub fn of_run(dir: &Path, which: Which) -> Result<Stored> {
        let none = |what: &str| {
            let error = Error::new(ErrorKind::Data, format!("there is no {what} in this directory")).on(dir.display());
            error.remedy("train writes one after every epoch, unless --checkpoint-every 0 says otherwise")
        };
        let Found { path, text, contents, .. } = folder::newest(dir)?.ok_or_else(|| none("checkpoint"))?;
        let description = description(&path, &text)?;
        match which {
            Which::Newest => Ok(Stored { path, description, contents }),
            Which::Best => Stored::read(&dir.join(state::best(&description)?.ok_or_else(|| none("best epoch"))?)),
        }
    }

    /// Writes the model as [`Learner::export`] would have.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] or [`ErrorKind::StorageFull`] naming `to`.
    pub fn export(self, to: &Path) -> Result<()> {
        let (tensors, text) = state::model(self.description, self.contents);
        super::export::write(to, tensors.into_iter().collect(), text)
    }

    /// The model, ready to predict.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] when it doesn't fit its description.
    pub fn predictor(self) -> Result<Predictor> {
        let (tensors, text) = state::model(self.description, self.contents);
        Predictor::of(super::export::contents(tensors, text))
    }
}

fn description(path: &Path, text: &str) -> Result<Description> {
    serde_json::from_str(text).map_err(|e| {
        let message = format!("the description is not one that this version reads: {e}");
        Error::new(ErrorKind::Format, message).on(path.display()).caused_by(e)
    })
}

impl Learner {
    /// Takes up the newest checkpoint in `dir`, if there is one: the model at once, all else when the fit that was interrupted is called
    /// again. The fits before it do nothing. So this is the first thing to do with a learner; the rest of the program stays as it is.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] when none of the checkpoints is whole; [`ErrorKind::Argument`] when it is of another network, or the data
    /// are others. The learner is unchanged then.
    pub fn resume(&mut self, dir: impl AsRef<Path>) -> Result<Option<Resumed>> {
        self.resume_with(dir.as_ref(), None)
    }

    /// [`Learner::resume`] that compares the [settings](Checkpoint::config), too.
    ///
    /// # Errors
    /// As [`Learner::resume`]; [`ErrorKind::Argument`] naming a setting that is another one.
    pub fn resume_with(&mut self, dir: &Path, config: Option<&str>) -> Result<Option<Resumed>> {
        let Some(found) = folder::newest(dir)? else { return Ok(None) };
        let Found { path, text, mut contents, damaged: mut warnings } = found;
        let d = description(&path, &text)?;
        d.fit.compare(&Identity::of(self, config.unwrap_or(&d.fit.config)), false)?;
        if self.fits > d.place.fit {
            let message = format!("the checkpoint is of fit {}, and {} are done already", d.place.fit, self.fits);
            return Err(Error::new(ErrorKind::Argument, message).on("resume").remedy("resume before the first fit"));
        }
        state::restore_model(self, &mut contents).map_err(|e| e.on(path.display()))?;
        warnings.extend(d.surroundings.warnings(&Surroundings::of(self)));
        let resumed = Resumed { path, place: d.place, warnings };
        let go_on = move |learn: &mut Learner| state::restore_fit(learn, d, contents);
        self.resume = Some(Resume { fit: resumed.place.fit, go_on: Box::new(go_on) });
        Ok(Some(resumed))
    }
}
