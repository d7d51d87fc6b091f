//! Gradients that are too large.

use super::super::Learner;
use super::super::callback::{BEFORE_FIT, BEFORE_STEP, Callback, Event, Signal};
use crate::{Error, ErrorKind};

/// Scales the gradients down to a norm of `max_norm` before each step where they exceed it, all of them by the same factor
/// `max_norm / (norm + 1e-6)`: fastai's `GradientClip`. On a GPU the host doesn't wait for the norm, if it is the usual one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GradientClip {
    /// The largest norm.
    pub max_norm: f64,
    /// Which norm: 2 is the usual one, 1 the sum, [`f64::INFINITY`] the largest number.
    pub norm_type: f64,
}

impl Default for GradientClip {
    fn default() -> Self {
        GradientClip { max_norm: 1.0, norm_type: 2.0 }
    }
}

impl Callback for GradientClip {
    fn name(&self) -> &'static str {
        "GradientClip"
    }

    /// After mixed precision has unscaled them.
    fn order(&self) -> i32 {
        11
    }

    fn events(&self) -> Option<&'static [Event]> {
        Some(&[BEFORE_FIT, BEFORE_STEP])
    }

    fn before_fit(&mut self, _: &mut Learner) -> Signal {
        let GradientClip { max_norm, norm_type } = *self;
        let (what, message, usual) = match (max_norm > 0.0, norm_type > 0.0) {
            (true, true) => return Ok(()),
            (false, _) => ("max_norm", format!("gradients cannot have a norm of {max_norm}"), 1),
            (_, false) => ("norm_type", format!("there is no norm of type {norm_type}"), 2),
        };
        let error = Error::new(ErrorKind::Argument, message).on(what);
        Err(error.remedy(format!("use a number above 0; {usual} is fastai's")).into())
    }

    fn before_step(&mut self, learn: &mut Learner) -> Signal {
        learn.opt_mut().clip_gradients(self.max_norm, self.norm_type)?;
        Ok(())
    }
}
