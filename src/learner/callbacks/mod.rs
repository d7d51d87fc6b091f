//! fastai's callbacks: what a fit can do besides training.
//!
//! | callback | order | what it does | file |
//! |---|---|---|---|
//! | [`TerminateOnNaN`] | -9 | ends the fit at a loss that is no number | `stop.rs` |
//! | [`MixUp`], [`CutMix`] | 0 | train on mixed pictures | `mix.rs` |
//! | [`BnFreeze`] | 0 | norms that don't train keep their statistics | `bn_freeze.rs` |
//! | [`GradientAccumulation`] | 6 | steps once for several batches | `accumulate.rs` |
//! | [`GradientClip`] | 11 | bounds the gradients' norm | `clip.rs` |
//! | `TensorBoardCallback` | 51 | writes curves for TensorBoard (feature `tensorboard`) | `tensorboard.rs` |
//! | [`CSVLogger`] | 60 | writes the table to a file, epoch by epoch | `csv.rs` |
//! | [`SaveModel`] | 61 | keeps the best model | `trackers.rs` |
//! | [`ReduceLROnPlateau`] | 62 | smaller steps when nothing gets better | `trackers.rs` |
//! | [`EarlyStopping`] | 63 | ends the fit when nothing gets better | `trackers.rs` |
//! | [`SkipToEpoch`] | 70 | leaves out the first epochs | `stop.rs` |
//! | [`StopOnFlag`] | 90 | ends the fit when a flag is raised | `stop.rs` |
//!
//! ```no_run
//! use onecycle::learner::{EarlyStopping, FitOptions, MixUp, SaveModel};
//! # use onecycle::prelude::*;
//! # use onecycle::optim::schedule::OneCycle;
//! # fn demo(mut learn: Learner) -> onecycle::Result<()> {
//! let options = FitOptions::default()
//!     .cb(MixUp::default())
//!     .cb(SaveModel { monitor: "error_rate".into(), ..SaveModel::default() })
//!     .cb(EarlyStopping { patience: 3, ..EarlyStopping::default() });
//! learn.fit_one_cycle_with(20, 1e-2, &OneCycle::default(), options)?;
//! for line in learn.recorder().messages() {
//!     println!("{line}"); // Better model found at epoch 0 with error_rate value: 0.32.
//! }
//! # Ok(()) }
//! ```
//!
//! Their settings are public fields with fastai's defaults. None of them prints: what fastai prints is handed to
//! [`Learner::say`](super::Learner::say), kept by the recorder, and shown by the progress callback where there is one.

mod accumulate;
mod bn_freeze;
mod clip;
mod csv;
pub(super) mod mix;
mod stop;
#[cfg(feature = "tensorboard")]
mod tensorboard;
mod trackers;

pub use accumulate::GradientAccumulation;
pub use bn_freeze::BnFreeze;
pub use clip::GradientClip;
pub use csv::CSVLogger;
pub use mix::{CutMix, MixUp};
pub use stop::{SkipToEpoch, StopOnFlag, TerminateOnNaN};
#[cfg(feature = "tensorboard")]
pub use tensorboard::TensorBoardCallback;
#[cfg(feature = "checkpoint")]
pub(super) use trackers::is_better;
pub use trackers::{EarlyStopping, ReduceLROnPlateau, SaveModel, Watched};
