//! Training in half precision: fastai's `to_fp16` and `to_bf16`.
//!
//! Activations and their gradients are half precision; parameters, their gradients, statistics, sums, the loss and the optimizer's
//! averages stay f32. bf16 has f32's range and needs nothing more. f16 has more digits but a small range: gradients below 6e-8
//! become 0, above 65,504 infinite. So the loss is multiplied by a large number before the walk back, and the parameters' gradients are
//! divided by it before the step ([`GradScaler`]; *Mixed Precision Training*, Micikevicius and others, 2018).
//!
//! When a gradient is infinite or NaN, the step is left out and the number halved: no weight decays, no average moves, no step is counted; the
//! schedule, the batch counter and the recorder go on. The first steps of a fit are often left out in this way. Whether there was such a
//! gradient is a number on the device, for which each step waits (as PyTorch's does); bf16 waits for nothing.
//!
//! On the processor the same is computed in f32 with results rounded to half precision ([`ops`](crate::ops)): slower than f32, for trying
//! and comparing.

use super::callback::{BEFORE_FIT, BEFORE_STEP, Callback, Event, Level, Signal, Stop};
use super::{Learner, StateDict};
use crate::ops::{gradient_norm, unscale};
use crate::{DType, Result};

/// The number by which the loss is multiplied, and when it changes: PyTorch's `GradScaler`.
///
/// ```
/// use onecycle::learner::GradScaler;
/// let mut scaler = GradScaler { growth_interval: 2, ..GradScaler::default() };
/// scaler.update(true); // a gradient was infinite
/// assert_eq!(scaler.scale, 32768.0);
/// scaler.update(false);
/// scaler.update(false);
/// assert_eq!(scaler.scale, 65536.0);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct GradScaler {
    /// The loss is multiplied by this.
    pub scale: f64,
    /// What it grows by.
    pub growth_factor: f64,
    /// What it is multiplied by when a gradient isn't finite.
    pub backoff_factor: f64,
    /// Steps without such a gradient after which it grows.
    pub growth_interval: usize,
    /// How many of them there were.
    pub growth_tracker: usize,
}

impl Default for GradScaler {
    fn default() -> Self {
        GradScaler { scale: 65536.0, growth_factor: 2.0, backoff_factor: 0.5, growth_interval: 2000, growth_tracker: 0 }
    }
}

impl GradScaler {
    /// After a step: whether one of its gradients was infinite or NaN.
    pub fn update(&mut self, not_finite: bool) {
        if not_finite {
            self.scale *= self.backoff_factor;
            self.growth_tracker = 0;
            return;
        }
        self.growth_tracker += 1;
        if self.growth_tracker == self.growth_interval {
            // The number is f32 where it is used.
            let grown = self.scale * self.growth_factor;
            if (grown as f32).is_finite() {
                self.scale = grown;
            }
            self.growth_tracker = 0;
        }
    }
}

/// Scales the loss of every batch, and looks at the gradients before every step. fastai: `MixedPrecision`.
pub struct MixedPrecision {
    settings: GradScaler,
    scaler: GradScaler,
}

impl MixedPrecision {
    /// Starts every fit with these settings.
    pub fn new(settings: GradScaler) -> MixedPrecision {
        MixedPrecision { scaler: settings.clone(), settings }
    }
}

impl Callback for MixedPrecision {
    fn name(&self) -> &'static str {
        "MixedPrecision"
    }

    fn order(&self) -> i32 {
        10
    }

    fn events(&self) -> Option<&'static [Event]> {
        Some(&[BEFORE_FIT, Event::BeforeBackward, BEFORE_STEP])
    }

    fn before_fit(&mut self, learn: &mut Learner) -> Signal {
        self.scaler = self.settings.clone();
        learn.at.scales.clear();
        Ok(())
    }

    fn before_backward(&mut self, learn: &mut Learner) -> Signal {
        learn.scale_loss(self.scaler.scale);
        Ok(())
    }

    fn before_step(&mut self, learn: &mut Learner) -> Signal {
        let by = 1.0 / self.scaler.scale;
        let not_finite = learn.opt.with_gradients(|gradients| {
            if gradients.is_empty() {
                return Ok(false);
            }
            let found = gradient_norm(&gradients.iter().collect::<Vec<_>>())?.not_finite.item()? > 0.0;
            if !found {
                unscale(gradients, by)?;
            }
            Ok(found)
        })?;
        learn.at.scales.push(self.scaler.scale);
        self.scaler.update(not_finite);
        match not_finite {
            true => Err(Stop::Cancel(Level::Step)),
            false => Ok(()),
        }
    }

    fn state_dict(&self) -> StateDict {
        StateDict::new().with("scale", self.scaler.scale).with("growth_tracker", self.scaler.growth_tracker)
    }

    fn load_state_dict(&mut self, state: &StateDict) -> Result<()> {
        (self.scaler.scale, self.scaler.growth_tracker) = (state.get("scale")?, state.get("growth_tracker")?);
        Ok(())
    }
}

impl Learner {
    /// Computes in f16, with the loss scaled: half the memory for activations and gradients. Parameters, statistics and sums stay f32.
    /// fastai: `to_fp16`.
    ///
    /// # Errors
    /// None in practice; a result so that it reads like [`Learner::to_device`].
    pub fn to_fp16(self) -> Result<Learner> {
        self.to_fp16_with(GradScaler::default())
    }

    /// [`Learner::to_fp16`] with another scale, or other rules for it.
    ///
    /// # Errors
    /// As [`Learner::to_fp16`].
    pub fn to_fp16_with(mut self, settings: GradScaler) -> Result<Learner> {
        self = self.computing_in(DType::F16)?;
        self.add_cb(MixedPrecision::new(settings));
        Ok(self)
    }

    /// Computes in bf16: activations and gradients in half the memory, with f32's range. Parameters, statistics and sums stay f32.
    /// fastai: `to_bf16`.
    ///
    /// # Errors
    /// As [`Learner::to_fp16`].
    pub fn to_bf16(self) -> Result<Learner> {
        self.computing_in(DType::BF16)
    }

    /// Computes in f32 again. fastai: `to_fp32`.
    ///
    /// # Errors
    /// As [`Learner::to_fp16`].
    pub fn to_fp32(self) -> Result<Learner> {
        self.computing_in(DType::F32)
    }

    fn computing_in(mut self, dtype: DType) -> Result<Learner> {
        self.device.computes_in("dtype", dtype)?;
        self.remove_cb("MixedPrecision");
        self.dtype = dtype;
        Ok(self)
    }

    /// The factors by which the losses of this fit's steps were multiplied, in f16: how often it halved says how often a step was left
    /// out.
    pub fn loss_scales(&self) -> &[f64] {
        &self.at.scales
    }
}
