//! Callbacks that watch one number of the table: the best model is kept, steps become smaller, the fit ends.
//!
//! All three ask the same question after an epoch: is the watched number better than the best so far by more than `min_delta`? Losses
//! and errors (by their name) are better when they are smaller, everything else when it is larger. A number that isn't in the table is
//! an error at the start of the fit, not a fit of hours without a saved model. An epoch without the number (one that was left out)
//! counts neither way. The learning-rate finder doesn't call them.

use super::super::callback::{AFTER_EPOCH, AFTER_FIT, BEFORE_FIT, Callback, Event, Level, Signal, Stop};
use super::super::{Learner, StateDict};
use crate::data::python;
use crate::{Error, ErrorKind, Result};

/// The best value of a watched number so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Watched {
    best: Option<f64>,
    /// Epochs without a better one.
    wait: usize,
}

/// What an epoch says about the watched number.
#[derive(Clone, Copy, PartialEq)]
enum Outcome {
    Better(f64),
    NoBetter,
    /// There is no number.
    Missing,
}

/// Whether a watched number is better than the best so far by more than `min_delta`; NaN never is.
pub(in crate::learner) fn is_better(monitor: &str, value: f64, best: Option<f64>, min_delta: f64) -> bool {
    let smaller = monitor.contains("loss") || monitor.contains("error");
    match best {
        _ if value.is_nan() => false,
        None => true,
        Some(best) if smaller => value < best - min_delta,
        Some(best) => value > best + min_delta,
    }
}

impl Watched {
    /// # Errors
    /// [`ErrorKind::Argument`] when the table will have no such column, naming those that there are.
    fn begin(&mut self, monitor: &str, min_delta: f64, reset: bool, learn: &Learner) -> Result<()> {
        let metrics = learn.metric_names();
        let names = || ["train_loss", "valid_loss"].into_iter().chain(metrics.iter().map(String::as_str));
        if !names().any(|name| name == monitor) {
            let remedy = format!("watch one of {}", names().collect::<Vec<_>>().join(", "));
            return Err(Error::new(ErrorKind::Argument, "is not in the table of epochs").on(monitor).remedy(remedy));
        }
        if !(min_delta.is_finite() && min_delta >= 0.0) {
            let message = format!("an improvement of more than {min_delta} is nothing that can be asked for");
            return Err(Error::new(ErrorKind::Argument, message).on("min_delta").remedy("use 0 or more"));
        }
        self.wait = 0;
        if reset {
            self.best = None;
        }
        Ok(())
    }

    fn state_dict(&self) -> StateDict {
        StateDict::new().with_some("best", self.best).with("wait", self.wait)
    }

    fn load_state_dict(&mut self, state: &StateDict) -> Result<()> {
        (self.best, self.wait) = (state.find("best")?, state.get("wait")?);
        Ok(())
    }

    fn look(&mut self, monitor: &str, min_delta: f64, learn: &Learner) -> Outcome {
        let row = learn.recorder().rows().last().filter(|row| row.epoch == learn.epoch());
        let Some(value) = row.and_then(|row| row.get(monitor)) else { return Outcome::Missing };
        if is_better(monitor, value, self.best, min_delta) {
            (self.best, self.wait) = (Some(value), 0);
            return Outcome::Better(value);
        }
        self.wait += 1;
        Outcome::NoBetter
    }

    /// Whether this epoch was no better, and the last of as many as one waits for.
    fn out_of_patience(&mut self, monitor: &str, min_delta: f64, patience: usize, learn: &Learner) -> bool {
        self.look(monitor, min_delta, learn) == Outcome::NoBetter && self.wait >= patience
    }
}

/// # Errors
/// [`ErrorKind::Argument`] for no epoch at all: fastai takes it as 1, which is said here.
fn check_patience(patience: usize) -> Result<()> {
    match patience {
        0 => Err(Error::new(ErrorKind::Argument, "a patience of 0 epochs")
            .on("patience")
            .remedy("use 1 or more: 1 acts after the first epoch that is no better")),
        _ => Ok(()),
    }
}

/// Saves the model whenever the watched number gets better, and loads the best one back at the end of the fit: fastai's
/// `SaveModelCallback`. The file is [`Learner::save`]'s.
#[derive(Clone, Debug)]
pub struct SaveModel {
    /// The watched number.
    pub monitor: String,
    /// What counts as better: more than this.
    pub min_delta: f64,
    /// The file's name, without its ending.
    pub fname: String,
    /// Saves every so many epochs instead, to a file each (`model_4`), and loads none.
    pub every_epoch: Option<usize>,
    /// Saves the last model at the end instead of loading the best.
    pub at_end: bool,
    /// Saves what the optimizer remembers, too.
    pub with_opt: bool,
    /// Begins anew with each fit; otherwise a second fit has to beat the first.
    pub reset_on_fit: bool,
    /// What was seen so far.
    pub watched: Watched,
    /// The best model is in the file.
    pub saved: bool,
}

impl Default for SaveModel {
    fn default() -> Self {
        SaveModel {
            monitor: "valid_loss".into(),
            min_delta: 0.0,
            fname: "model".into(),
            every_epoch: None,
            at_end: false,
            with_opt: false,
            reset_on_fit: true,
            watched: Watched::default(),
            saved: false,
        }
    }
}

impl Callback for SaveModel {
    fn name(&self) -> &'static str {
        "SaveModelCallback"
    }

    fn order(&self) -> i32 {
        61
    }

    fn events(&self) -> Option<&'static [Event]> {
        Some(&[BEFORE_FIT, AFTER_EPOCH, AFTER_FIT])
    }

    fn runs_in_lr_find(&self) -> bool {
        false
    }

    fn state_dict(&self) -> StateDict {
        self.watched.state_dict().with("saved", self.saved)
    }

    fn load_state_dict(&mut self, state: &StateDict) -> Result<()> {
        self.saved = state.get("saved")?;
        self.watched.load_state_dict(state)
    }

    fn before_fit(&mut self, learn: &mut Learner) -> Signal {
        let wrong = |message: &str, remedy: &str| Err(Error::new(ErrorKind::Argument, message).remedy(remedy));
        match self.every_epoch {
            Some(_) if self.at_end => {
                wrong("every_epoch and at_end cannot both be asked for", "the last epoch's file is there anyway")?;
            }
            Some(0) => wrong("a model cannot be saved every 0 epochs", "use 1 or more")?,
            _ => {}
        }
        self.saved &= !self.reset_on_fit;
        Ok(self.watched.begin(&self.monitor, self.min_delta, self.reset_on_fit, learn)?)
    }

    fn after_epoch(&mut self, learn: &mut Learner) -> Signal {
        if let Some(every) = self.every_epoch {
            if learn.epoch().is_multiple_of(every) && learn.recorder().last("train_loss").is_some() {
                learn.save_with(&format!("{}_{}", self.fname, learn.epoch()), self.with_opt)?;
            }
            return Ok(());
        }
        if let Outcome::Better(value) = self.watched.look(&self.monitor, self.min_delta, learn) {
            let (epoch, value) = (learn.epoch(), python::float(value));
            learn.say(format!("Better model found at epoch {epoch} with {} value: {value}.", self.monitor));
            learn.save_with(&self.fname, self.with_opt)?;
            self.saved = true;
        }
        Ok(())
    }

    fn after_fit(&mut self, learn: &mut Learner) -> Signal {
        if self.at_end {
            learn.save_with(&self.fname, self.with_opt)?;
        } else if self.every_epoch.is_none() && self.saved {
            let warning = learn.load_with(&self.fname, self.with_opt)?;
            warning.into_iter().for_each(|line| learn.say(line));
        }
        Ok(())
    }
}

/// Ends the fit after `patience` epochs in which the watched number got no better: fastai's `EarlyStoppingCallback`. With
/// [`SaveModel`] the best model is loaded then.
#[derive(Clone, Debug)]
pub struct EarlyStopping {
    /// The watched number.
    pub monitor: String,
    /// What counts as better: more than this.
    pub min_delta: f64,
    /// Epochs without a better number that end the fit.
    pub patience: usize,
    /// Begins anew with each fit.
    pub reset_on_fit: bool,
    /// What was seen so far.
    pub watched: Watched,
}

impl Default for EarlyStopping {
    fn default() -> Self {
        let (monitor, watched) = ("valid_loss".into(), Watched::default());
        EarlyStopping { monitor, min_delta: 0.0, patience: 1, reset_on_fit: true, watched }
    }
}

impl Callback for EarlyStopping {
    fn name(&self) -> &'static str {
        "EarlyStoppingCallback"
    }

    fn order(&self) -> i32 {
        63
    }

    fn events(&self) -> Option<&'static [Event]> {
        Some(&[BEFORE_FIT, AFTER_EPOCH])
    }

    fn runs_in_lr_find(&self) -> bool {
        false
    }

    fn state_dict(&self) -> StateDict {
        self.watched.state_dict()
    }

    fn load_state_dict(&mut self, state: &StateDict) -> Result<()> {
        self.watched.load_state_dict(state)
    }

    fn before_fit(&mut self, learn: &mut Learner) -> Signal {
        check_patience(self.patience)?;
        Ok(self.watched.begin(&self.monitor, self.min_delta, self.reset_on_fit, learn)?)
    }

    fn after_epoch(&mut self, learn: &mut Learner) -> Signal {
        if !self.watched.out_of_patience(&self.monitor, self.min_delta, self.patience, learn) {
            return Ok(());
        }
        // In a fit that has to beat an earlier one, the first epochs may be among those that were waited for.
        let since = learn.epoch() as i64 - self.watched.wait as i64;
        learn.say(format!("No improvement since epoch {since}: early stopping"));
        Err(Stop::Cancel(Level::Fit))
    }
}

/// Divides all learning rates by `factor` after `patience` epochs in which the watched number got no better: fastai's
/// `ReduceLROnPlateau`. It is for [`Learner::fit`]: a schedule sets the rates anew before each batch.
#[derive(Clone, Debug)]
pub struct ReduceLROnPlateau {
    /// The watched number.
    pub monitor: String,
    /// What counts as better: more than this.
    pub min_delta: f64,
    /// Epochs without a better number that reduce the rates.
    pub patience: usize,
    /// What they are divided by.
    pub factor: f64,
    /// No rate becomes smaller than this.
    pub min_lr: f64,
    /// Begins anew with each fit.
    pub reset_on_fit: bool,
    /// What was seen so far.
    pub watched: Watched,
}

impl Default for ReduceLROnPlateau {
    fn default() -> Self {
        ReduceLROnPlateau {
            monitor: "valid_loss".into(),
            min_delta: 0.0,
            patience: 1,
            factor: 10.0,
            min_lr: 0.0,
            reset_on_fit: true,
            watched: Watched::default(),
        }
    }
}

impl Callback for ReduceLROnPlateau {
    fn name(&self) -> &'static str {
        "ReduceLROnPlateau"
    }

    fn order(&self) -> i32 {
        62
    }

    fn events(&self) -> Option<&'static [Event]> {
        Some(&[BEFORE_FIT, AFTER_EPOCH])
    }

    fn runs_in_lr_find(&self) -> bool {
        false
    }

    fn state_dict(&self) -> StateDict {
        self.watched.state_dict()
    }

    fn load_state_dict(&mut self, state: &StateDict) -> Result<()> {
        self.watched.load_state_dict(state)
    }

    fn before_fit(&mut self, learn: &mut Learner) -> Signal {
        if !(self.factor.is_finite() && self.factor > 1.0) {
            let message = format!("a learning rate is not reduced when it is divided by {}", self.factor);
            return Err(Error::new(ErrorKind::Argument, message).on("factor").remedy("use more than 1").into());
        }
        if !(self.min_lr.is_finite() && self.min_lr >= 0.0) {
            let error = Error::new(ErrorKind::Argument, format!("no learning rate is {} at least", self.min_lr));
            return Err(error.on("min_lr").remedy("use 0 or more").into());
        }
        check_patience(self.patience)?;
        Ok(self.watched.begin(&self.monitor, self.min_delta, self.reset_on_fit, learn)?)
    }

    fn after_epoch(&mut self, learn: &mut Learner) -> Signal {
        if !self.watched.out_of_patience(&self.monitor, self.min_delta, self.patience, learn) {
            return Ok(());
        }
        self.watched.wait = 0;
        let last = |learn: &Learner| learn.opt().param_groups().last().map_or(0.0, |group| group.hyper.lr);
        let before = last(learn);
        learn.opt_mut().set(|_, h| h.lr = (h.lr / self.factor).max(self.min_lr));
        let now = last(learn);
        if now < before {
            learn.say(format!("Epoch {}: reducing lr to {}", learn.epoch(), python::float(now)));
        }
        Ok(())
    }
}
