//! The callback that every scheduled fit has.

use super::Learner;
use super::callback::{BEFORE_BATCH, BEFORE_FIT, Callback, Event, Signal};
use crate::optim::schedule::Schedule;

/// Sets learning rate and momentum of every group before each training batch, by the position in the fit. The first batch
/// is at 0, the last one step before 1.
pub struct ParamScheduler {
    lr: Vec<Schedule>,
    mom: Option<Vec<Schedule>>,
}

impl ParamScheduler {
    /// A schedule for each group, of the learning rate and of the momentum, which stays as it is without any.
    pub fn new(lr: Vec<Schedule>, mom: Option<Vec<Schedule>>) -> ParamScheduler {
        ParamScheduler { lr, mom }
    }
}

impl Callback for ParamScheduler {
    fn name(&self) -> &'static str {
        "ParamScheduler"
    }

    fn order(&self) -> i32 {
        60
    }

    fn events(&self) -> Option<&'static [Event]> {
        Some(&[BEFORE_FIT, BEFORE_BATCH])
    }

    fn before_fit(&mut self, learn: &mut Learner) -> Signal {
        learn.recorder.scheduled = if self.mom.is_some() { &["lr", "mom"] } else { &["lr"] };
        Ok(())
    }

    fn before_batch(&mut self, learn: &mut Learner) -> Signal {
        if learn.is_training() {
            let position = learn.pct_train();
            learn.opt_mut().set(|g, h| {
                h.lr = self.lr[g](position);
                h.mom = self.mom.as_ref().map_or(h.mom, |mom| mom[g](position));
            });
        }
        Ok(())
    }
}
