//! One step for several batches: a large batch on a small device.

use super::super::Learner;
use super::super::callback::{BEFORE_FIT, BEFORE_STEP, Callback, Event, Level, Signal, Stop};
use crate::{Error, ErrorKind};

/// Steps once `n_acc` *items* were seen, with the gradient of their mean loss: fastai's `GradientAccumulation`.
///
/// A batch of `b` items adds `b / n_acc` times the gradient of its mean loss. When the batches don't add up to `n_acc` exactly, the
/// count begins again at 0 after the step, and the surplus has made the step larger. What is left at the end of an epoch waits for the
/// next one; what is left at the end of the fit is dropped. Schedules advance batch by batch, and the reported losses are those of the batches.
///
/// Four batches of 16 are one of 64 up to rounding, but for batch norm, whose statistics are still those of 16.
#[derive(Clone, Debug)]
pub struct GradientAccumulation {
    /// Items for a step.
    pub n_acc: usize,
    seen: usize,
}

impl GradientAccumulation {
    /// Steps once `n_acc` items were seen; fastai's default is 32.
    pub fn new(n_acc: usize) -> GradientAccumulation {
        GradientAccumulation { n_acc, seen: 0 }
    }
}

impl Callback for GradientAccumulation {
    fn name(&self) -> &'static str {
        "GradientAccumulation"
    }

    fn order(&self) -> i32 {
        6
    }

    fn events(&self) -> Option<&'static [Event]> {
        Some(&[BEFORE_FIT, Event::AfterLoss, BEFORE_STEP])
    }

    fn before_fit(&mut self, _: &mut Learner) -> Signal {
        self.seen = 0;
        match self.n_acc {
            0 => Err(Error::new(ErrorKind::Argument, "no item is enough for a step")
                .on("n_acc")
                .remedy("say how many items make a step; 32 is fastai's")
                .into()),
            _ => Ok(()),
        }
    }

    fn after_loss(&mut self, learn: &mut Learner) -> Signal {
        if learn.is_training() {
            learn.scale_loss(learn.batch_len() as f64 / self.n_acc as f64);
        }
        Ok(())
    }

    fn before_step(&mut self, learn: &mut Learner) -> Signal {
        self.seen += learn.batch_len();
        if self.seen < self.n_acc {
            // Of the batch, not of the step: that would clear the gradients.
            return Err(Stop::Cancel(Level::Batch));
        }
        self.seen = 0;
        Ok(())
    }
}
