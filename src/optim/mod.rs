//! Optimizers, parameter groups and schedules, with fastai's meanings.
//!
//! An [`Optimizer`] holds parameters in *groups*, each with learning rate, momentum and weight decay of its own:
//! that is how a pretrained body trains slowly while its head trains fast ("discriminative learning rates"), and how
//! [`Optimizer::freeze_to`] stops the first groups. [`schedule`] has the curves that one-cycle training follows.

mod optimizer;
pub mod schedule;

pub use optimizer::{Group, Hyper, LrMax, Optimizer, OptimizerKind, Snapshot, slice};
