//! Callbacks that end a fit, or leave a part of it out.

use super::super::Learner;
use super::super::callback::{AFTER_BATCH, AFTER_TRAIN, BEFORE_EPOCH, Callback, Event, Level, Signal, Stop};
use crate::{Device, Error, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Leaves out the first epochs of a fit, whose schedule goes on from where they would have ended; their rows in the table have only a
/// number and a time. fastai: `SkipToEpoch`, the argument `start_epoch` of every fit.
#[derive(Clone, Copy, Debug)]
pub struct SkipToEpoch(pub usize);

impl Callback for SkipToEpoch {
    fn name(&self) -> &'static str {
        "SkipToEpoch"
    }

    fn order(&self) -> i32 {
        70
    }

    fn events(&self) -> Option<&'static [Event]> {
        Some(&[BEFORE_EPOCH])
    }

    fn before_epoch(&mut self, learn: &mut Learner) -> Signal {
        match learn.epoch() < self.0 {
            true => Err(Stop::Cancel(Level::Epoch)),
            false => Ok(()),
        }
    }
}

/// Ends the fit with an error when a training loss is NaN or infinite. Every learner has it: nothing after such a batch would be
/// worth its electricity. On the processor the weights are still those before the batch; a GPU's loss arrives a batch later, when
/// they are spoilt.
#[derive(Debug, Default)]
pub struct TerminateOnNaN;

impl Callback for TerminateOnNaN {
    fn name(&self) -> &'static str {
        "TerminateOnNaN"
    }

    fn order(&self) -> i32 {
        -9
    }

    /// The finder looks for the learning rate at which this happens.
    fn runs_in_lr_find(&self) -> bool {
        false
    }

    fn events(&self) -> Option<&'static [Event]> {
        Some(&[Event::AfterLoss, AFTER_TRAIN])
    }

    fn after_loss(&mut self, learn: &mut Learner) -> Signal {
        TerminateOnNaN::check(learn)
    }

    /// The last losses of a pass may arrive at its end only.
    fn after_train(&mut self, learn: &mut Learner) -> Signal {
        TerminateOnNaN::check(learn)
    }
}

impl TerminateOnNaN {
    fn check(learn: &Learner) -> Signal {
        let loss = learn.loss();
        if !learn.is_training() || loss.is_finite() {
            return Ok(());
        }
        let place = format!("epoch {}, batch {}", learn.epoch(), learn.loss_iter());
        let first = learn.first_not_finite().map_or(String::new(), |name| format!("; the first bad tensor is {name}"));
        let error = Error::new(ErrorKind::NotFinite, format!("the training loss became {loss}{first}")).on(place);
        let remedy = match learn.device() {
            Device::Cpu => "use a smaller learning rate; the weights are those before this batch",
            _ => "use a smaller learning rate; the weights are spoilt, start from saved ones",
        };
        Err(error.remedy(remedy).into())
    }
}

/// Ends the fit between two batches when a flag is raised, with [`ErrorKind::Interrupted`]: how Ctrl-C reaches a fit. The
/// learner stays as it was after the last batch, ready to be saved.
#[derive(Clone, Debug)]
pub struct StopOnFlag(Arc<AtomicUsize>);

impl StopOnFlag {
    /// Watches `flag`; 0 means go on.
    pub fn new(flag: Arc<AtomicUsize>) -> StopOnFlag {
        StopOnFlag(flag)
    }
}

impl Callback for StopOnFlag {
    fn name(&self) -> &'static str {
        "StopOnFlag"
    }

    fn order(&self) -> i32 {
        90
    }

    fn events(&self) -> Option<&'static [Event]> {
        Some(&[AFTER_BATCH])
    }

    fn after_batch(&mut self, learn: &mut Learner) -> Signal {
        if self.0.load(Ordering::SeqCst) != 0 {
            let place = format!("epoch {}, batch {}", learn.epoch(), learn.iter());
            return Err(Error::new(ErrorKind::Interrupted, "stopped on request").on(place).into());
        }
        Ok(())
    }
}
