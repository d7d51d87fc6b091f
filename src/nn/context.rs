//! What a forward pass knows besides its input.

use super::module::ModuleId;
use super::parameter::Param;
use crate::tensor::Shape;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;

/// Training or evaluating, and the address of this pass's random numbers; see [`Context::train`].
#[derive(Debug, Default)]
pub struct Context {
    training: bool,
    frozen_norms_rest: bool,
    seed: u64,
    step: u64,
    dropouts: Cell<u64>,
    trace: Option<RefCell<Trace>>,
}

/// What [`Context::tracing`] saw of a module: the shape of its first input and first output, and of its last output.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub input: Shape,
    pub first_output: Shape,
    pub last_output: Shape,
}

pub(crate) type Trace = HashMap<ModuleId, Seen>;

impl Context {
    /// Evaluation: batch norm uses its running statistics, dropout does nothing.
    pub fn eval() -> Context {
        Context::default()
    }

    /// Training: batch norm uses (and remembers) the batch's statistics, dropout drops by the numbers at (`seed`, `step`).
    pub fn train(seed: u64, step: u64) -> Context {
        Context { training: true, seed, step, ..Context::default() }
    }

    /// In training: norms whose weights don't train keep their running statistics and use them, if `on`.
    pub fn rest_frozen_norms(self, on: bool) -> Context {
        Context { frozen_norms_rest: on, ..self }
    }

    /// Evaluation that remembers the shapes every module sees.
    pub(crate) fn tracing() -> Context {
        Context { trace: Some(RefCell::default()), ..Context::default() }
    }

    /// True in training.
    pub fn is_training(&self) -> bool {
        self.training
    }

    /// Whether a norm uses the batch's statistics.
    pub(crate) fn trains_norm(&self, weight: &Param) -> bool {
        self.training && (weight.is_trainable() || !self.frozen_norms_rest)
    }

    /// The address of the next dropout mask: seed, step, and the how-manieth dropout of this pass it is.
    pub fn next_dropout(&self) -> (u64, u64, u64) {
        let layer = self.dropouts.replace(self.dropouts.get() + 1);
        (self.seed, self.step, layer)
    }

    /// Called by every leaf module with the shapes it saw; does something only while tracing.
    pub fn saw(&self, id: ModuleId, input: &Shape, output: &Shape) {
        if let Some(trace) = &self.trace {
            let mut trace = trace.borrow_mut();
            let first = || Seen { input: input.clone(), first_output: output.clone(), last_output: output.clone() };
            trace.entry(id).or_insert_with(first).last_output = output.clone();
        }
    }

    pub(crate) fn into_trace(self) -> Trace {
        self.trace.map(RefCell::into_inner).unwrap_or_default()
    }
}
