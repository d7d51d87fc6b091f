//! Gradients that are too large.

use super::super::Learner;
use super::super::callback::{BEFORE_FIT, BEFORE_STEP, Callback, Event, Signal};
use crate::{Error, ErrorKind};

/// Scales the gradients down to a norm of `max_norm` before each step where they exceed it, all of them by the same factor
/// `max_norm / (norm + 1e-6)`: fastai's `GradientClip`, in the L2 norm. On a GPU the host doesn't wait for the norm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GradientClip {
    /// The largest norm.
    pub max_norm: f64,
}

impl Default for GradientClip {
    fn default() -> Self {
        GradientClip { max_norm: 1.0 }
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
        match self.max_norm > 0.0 {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Argument, format!("gradients cannot have a norm of {}", self.max_norm))
                .on("max_norm")
                .remedy("use a number above 0; 1 is fastai's")
                .into()),
        }
    }

    fn before_step(&mut self, learn: &mut Learner) -> Signal {
        learn.opt_mut().clip_gradients(self.max_norm)?;
        Ok(())
    }
}
