//! Batch norms that rest entirely.

use super::super::Learner;
use super::super::callback::{BEFORE_TRAIN, Callback, Event, Signal};

/// Lets batch norms whose weights don't train keep their statistics, and use them: fastai's `BnFreeze`.
///
/// In a frozen body norms go on training by default, so this does something only after [`Learner::train_bn`]`(false)`.
#[derive(Clone, Copy, Debug, Default)]
pub struct BnFreeze;

impl Callback for BnFreeze {
    fn name(&self) -> &'static str {
        "BnFreeze"
    }

    fn events(&self) -> Option<&'static [Event]> {
        Some(&[BEFORE_TRAIN])
    }

    fn before_train(&mut self, learn: &mut Learner) -> Signal {
        learn.rest_frozen_norms();
        Ok(())
    }
}
