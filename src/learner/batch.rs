//! The present batch, as callbacks see and change it, and what they have to say.

use super::Learner;
use crate::Tensor;
use crate::nn::Module;

impl Learner {
    /// During a batch: what the model sees, `[N, H, W, 3]`.
    pub fn x(&self) -> Option<&Tensor> {
        self.at.x.as_ref()
    }

    /// During a batch: what the model should say, class numbers `[N]` or numbers `[N]` or `[N, C]`.
    pub fn y(&self) -> Option<&Tensor> {
        self.at.y.as_ref()
    }

    /// During a batch, from [`Event::AfterPred`](super::Event::AfterPred) on: what the model says, `[N, C]`.
    pub fn pred(&self) -> Option<&Tensor> {
        self.at.pred.as_ref()
    }

    /// During a batch: how many items it has.
    pub fn batch_len(&self) -> usize {
        self.y().and_then(|y| y.shape().first().copied()).unwrap_or(0)
    }

    /// The first tensor that holds NaN or an infinity, along the way of a batch: what the model sees, its parameters and statistics from
    /// input to output, what it says. Waits for the device.
    pub fn first_not_finite(&self) -> Option<String> {
        let bad = |t: &Tensor| t.is_finite().is_ok_and(|finite| !finite);
        let state = self.model.state().into_iter().map(|(name, entry)| (name, Some(entry.value())));
        let mut all = std::iter::once(("the batch".to_string(), self.x().cloned()))
            .chain(state)
            .chain([("the predictions".to_string(), self.pred().cloned())]);
        all.find(|(_, t)| t.as_ref().is_some_and(bad)).map(|(name, _)| name)
    }

    /// Before a batch's predictions: shows the model something else.
    pub fn set_x(&mut self, x: Tensor) {
        self.at.x = Some(x);
    }

    /// During a fit: from now on, and until it ends, norms whose weights don't train keep their running statistics and use them, as in
    /// evaluation.
    pub fn rest_frozen_norms(&mut self) {
        self.at.norms_rest = true;
    }

    /// A callback's word to whoever watches the training, one line: kept in [`Recorder::messages`](super::Recorder::messages), and printed
    /// by the progress callback where there is one. The library itself prints nothing.
    pub fn say(&mut self, line: impl Into<String>) {
        self.recorder.messages.push(line.into());
    }

    /// What an event of a callback does that has nothing to do there; see [`Learner::show_training_loop`].
    pub(super) fn pass(&mut self) -> super::Signal {
        self.passed = true;
        Ok(())
    }
}
