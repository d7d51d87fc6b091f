//! Callbacks: code that runs at named moments of a fit and may change its course.
//!
//! The loop in `fit.rs` does nothing but call events in fastai's order; everything else (recording, scheduling, progress,
//! stopping) is a [`Callback`]. At every level, *before* runs, then the work, then *after*; a callback that returns
//! [`Stop::Cancel`] of a level skips the rest of that level's work, and *after* still runs.
//!
//! ```text
//! before_fit
//!   before_epoch
//!     before_train     [ before_batch  after_pred  after_loss  before_backward  after_backward  before_step  after_step  after_batch ]*
//!     after_train
//!     before_validate  [ before_batch  after_pred  after_loss  after_batch ]*
//!     after_validate
//!   after_epoch
//! after_fit
//! ```
//!
//! ```
//! use onecycle::learner::{Callback, Learner, Level, Signal, Stop};
//!
//! /// Ends the fit when the training loss is good enough.
//! struct GoodEnough(f64);
//!
//! impl Callback for GoodEnough {
//!     fn name(&self) -> &'static str {
//!         "GoodEnough"
//!     }
//!     fn after_train(&mut self, learn: &mut Learner) -> Signal {
//!         match learn.recorder().losses().last() {
//!             Some(loss) if *loss < self.0 => Err(Stop::Cancel(Level::Fit)),
//!             _ => Ok(()),
//!         }
//!     }
//! }
//! ```

use super::{Learner, StateDict};
use crate::{Error, Result};

/// A part of a fit that can be cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The whole fit.
    Fit,
    /// An epoch.
    Epoch,
    /// An epoch's training pass.
    Train,
    /// An epoch's validation pass.
    Validate,
    /// One batch.
    Batch,
    /// The optimizer's step of one batch: gradients are cleared, parameters stay.
    Step,
}

/// Why a callback stops what is going on.
#[derive(Debug)]
pub enum Stop {
    /// Skip the rest of this level.
    Cancel(Level),
    /// The fit fails.
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(e: Error) -> Stop {
        Stop::Failed(e)
    }
}

/// What events return.
pub type Signal = Result<(), Stop>;

/// A moment of a fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A level begins.
    Before(Level),
    /// A level was cancelled.
    Cancelled(Level),
    /// A level ends, cancelled or not.
    After(Level),
    /// The predictions are there.
    AfterPred,
    /// The loss is there.
    AfterLoss,
    /// The walk back begins.
    BeforeBackward,
    /// The gradients are there.
    AfterBackward,
}

/// [`Event::Before`] a fit.
pub const BEFORE_FIT: Event = Event::Before(Level::Fit);
/// [`Event::Before`] an epoch.
pub const BEFORE_EPOCH: Event = Event::Before(Level::Epoch);
/// [`Event::Before`] an epoch's training pass.
pub const BEFORE_TRAIN: Event = Event::Before(Level::Train);
/// [`Event::Before`] an epoch's validation pass.
pub const BEFORE_VALIDATE: Event = Event::Before(Level::Validate);
/// [`Event::Before`] a batch.
pub const BEFORE_BATCH: Event = Event::Before(Level::Batch);
/// [`Event::Before`] an optimizer's step.
pub const BEFORE_STEP: Event = Event::Before(Level::Step);
/// [`Event::After`] a batch.
pub const AFTER_BATCH: Event = Event::After(Level::Batch);
/// [`Event::After`] an epoch's training pass.
pub const AFTER_TRAIN: Event = Event::After(Level::Train);
/// [`Event::After`] an epoch.
pub const AFTER_EPOCH: Event = Event::After(Level::Epoch);
/// [`Event::After`] a fit.
pub const AFTER_FIT: Event = Event::After(Level::Fit);

impl Event {
    /// fastai's name: `before_fit`, `after_cancel_batch`.
    pub fn name(self) -> String {
        let (when, level) = match self {
            Event::Before(level) => ("before", level),
            Event::Cancelled(level) => ("after_cancel", level),
            Event::After(level) => ("after", level),
            Event::AfterPred => return "after_pred".into(),
            Event::AfterLoss => return "after_loss".into(),
            Event::BeforeBackward => return "before_backward".into(),
            Event::AfterBackward => return "after_backward".into(),
        };
        format!("{when}_{}", format!("{level:?}").to_lowercase())
    }

    /// The number of the method that it calls, below 32.
    pub(super) fn place(self) -> u32 {
        match self {
            Event::Before(level) => level as u32,
            Event::After(level) => 6 + level as u32,
            Event::Cancelled(_) => 12,
            Event::AfterPred => 13,
            Event::AfterLoss => 14,
            Event::BeforeBackward => 15,
            Event::AfterBackward => 16,
        }
    }
}

/// Something that takes part in a fit; see the [module](self). All events do nothing unless overridden.
pub trait Callback: Send {
    /// Its name, as `summary()` lists it.
    fn name(&self) -> &'static str;

    /// Callbacks run in ascending order; those of equal order as they were added. fastai's numbers: the recorder has 50,
    /// schedulers and progress 60.
    fn order(&self) -> i32 {
        0
    }

    /// Whether it takes part when the learning-rate finder trains and throws the result away. What stops, saves or reports shouldn't.
    fn runs_in_lr_find(&self) -> bool {
        true
    }

    /// The events at which it acts, for [`Learner::show_training_loop`]; none when it doesn't say. Whether they are called doesn't depend
    /// on it.
    fn events(&self) -> Option<&'static [Event]> {
        None
    }

    /// The fit begins.
    fn before_fit(&mut self, learn: &mut Learner) -> Signal {
        learn.pass()
    }
    /// An epoch begins.
    fn before_epoch(&mut self, learn: &mut Learner) -> Signal {
        learn.pass()
    }
    /// The training pass of an epoch begins.
    fn before_train(&mut self, learn: &mut Learner) -> Signal {
        learn.pass()
    }
    /// The validation pass of an epoch begins.
    fn before_validate(&mut self, learn: &mut Learner) -> Signal {
        learn.pass()
    }
    /// A batch is there, in training or validation.
    fn before_batch(&mut self, learn: &mut Learner) -> Signal {
        learn.pass()
    }
    /// Its predictions are there.
    fn after_pred(&mut self, learn: &mut Learner) -> Signal {
        learn.pass()
    }
    /// Its loss is there.
    fn after_loss(&mut self, learn: &mut Learner) -> Signal {
        learn.pass()
    }
    /// The walk back begins (training).
    fn before_backward(&mut self, learn: &mut Learner) -> Signal {
        learn.pass()
    }
    /// The gradients are there (training).
    fn after_backward(&mut self, learn: &mut Learner) -> Signal {
        learn.pass()
    }
    /// The optimizer is about to step (training).
    fn before_step(&mut self, learn: &mut Learner) -> Signal {
        learn.pass()
    }
    /// The optimizer has stepped, or its step was cancelled (training).
    fn after_step(&mut self, learn: &mut Learner) -> Signal {
        learn.pass()
    }
    /// The batch is done.
    fn after_batch(&mut self, learn: &mut Learner) -> Signal {
        learn.pass()
    }
    /// The training pass is done.
    fn after_train(&mut self, learn: &mut Learner) -> Signal {
        learn.pass()
    }
    /// The validation pass is done.
    fn after_validate(&mut self, learn: &mut Learner) -> Signal {
        learn.pass()
    }
    /// The epoch is done.
    fn after_epoch(&mut self, learn: &mut Learner) -> Signal {
        learn.pass()
    }
    /// The fit is done.
    fn after_fit(&mut self, learn: &mut Learner) -> Signal {
        learn.pass()
    }
    /// What it remembers between two batches, for a checkpoint (`Checkpoint`); nothing unless a callback says otherwise.
    fn state_dict(&self) -> StateDict {
        StateDict::new()
    }
    /// Remembers what [`Callback::state_dict`] gave, after [`Callback::before_fit`] of the fit that goes on.
    ///
    /// # Errors
    /// [`ErrorKind::Format`](crate::ErrorKind::Format) when that cannot be.
    fn load_state_dict(&mut self, _: &StateDict) -> Result<()> {
        Ok(())
    }
    /// A level was cancelled.
    fn after_cancel(&mut self, _: Level, learn: &mut Learner) -> Signal {
        learn.pass()
    }
}

/// Calls the method that belongs to `event`.
pub(super) fn call(cb: &mut dyn Callback, event: Event, learn: &mut Learner) -> Signal {
    use Level::*;
    match event {
        Event::Before(Fit) => cb.before_fit(learn),
        Event::Before(Epoch) => cb.before_epoch(learn),
        Event::Before(Train) => cb.before_train(learn),
        Event::Before(Validate) => cb.before_validate(learn),
        Event::Before(Batch) => cb.before_batch(learn),
        Event::Before(Step) => cb.before_step(learn),
        Event::AfterPred => cb.after_pred(learn),
        Event::AfterLoss => cb.after_loss(learn),
        Event::BeforeBackward => cb.before_backward(learn),
        Event::AfterBackward => cb.after_backward(learn),
        Event::After(Step) => cb.after_step(learn),
        Event::After(Batch) => cb.after_batch(learn),
        Event::After(Train) => cb.after_train(learn),
        Event::After(Validate) => cb.after_validate(learn),
        Event::After(Epoch) => cb.after_epoch(learn),
        Event::After(Fit) => cb.after_fit(learn),
        Event::Cancelled(level) => cb.after_cancel(level, learn),
    }
}
