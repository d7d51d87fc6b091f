//! One step of an optimizer on one parameter: the formulas of fastai's Adam, SGD and RMSProp.
//!
//! With gradient `d`, learning rate `lr`, weight decay `wd`, momentum `mom`, and for this parameter `t` steps so far:
//!
//! ```text
//! p = p (1 - lr wd)                              decoupled decay ("AdamW"); coupled: d = d + wd p
//! Adam     m = mom m + (1 - mom) d,   v = sq v + (1 - sq) d²,   t = t + 1
//!          p = p - lr/(1 - mom^t) m / (sqrt(v/(1 - sq^t)) + eps)
//! SGD      m = mom m + d,             p = p - lr m               (mom = 0: p = p - lr d)
//! RMSProp  v = sq v + (1 - sq) d²,    m = mom m + d,             p = p - lr m / (sqrt(v) + eps)
//! ```
//!
//! Adam's debiasing uses the *current* momentum with the parameter's own `t`, although one-cycle changes the momentum every
//! step; the product of past momenta would give other numbers from the second step on. `eps` stands outside the root, after
//! the debiasing. Scalars are computed in f64.
//!
//! These are not differentiable operations: they change the parameter in place, outside the graph.

mod cpu;
pub(crate) mod cuda;

use crate::device::Device;
use crate::tensor::{Tensor, for_float, same_kind};
use crate::{Error, Result};

/// Which rule a step follows.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Rule {
    /// Adam with momentum `mom`, `sqr_mom` for the squares, and `eps`.
    Adam {
        /// Momentum of the gradient's average.
        mom: f64,
        /// Momentum of the squares' average.
        sqr_mom: f64,
        /// Added to the root.
        eps: f64,
    },
    /// Stochastic gradient descent with momentum.
    Sgd {
        /// Momentum; 0 for none.
        mom: f64,
    },
    /// RMSProp.
    RmsProp {
        /// Momentum; 0 for none.
        mom: f64,
        /// Momentum of the squares' average.
        sqr_mom: f64,
        /// Added to the root.
        eps: f64,
    },
}

/// What a step needs besides parameter, gradient and state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// The rule and its momenta.
    pub rule: Rule,
    /// Learning rate.
    pub lr: f64,
    /// Weight decay; 0 for none.
    pub wd: f64,
    /// Decay the weights (true) or add `wd p` to the gradient (false).
    pub decoupled: bool,
}

/// What an optimizer remembers of one parameter.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Average of the gradient, once there was a step that needs it.
    pub grad_avg: Option<Tensor>,
    /// Average of its square.
    pub sqr_avg: Option<Tensor>,
    /// Steps this parameter has taken.
    pub step: u64,
}

/// One parameter's part in a step.
#[derive(Debug)]
pub struct Item<'a> {
    /// The parameter, changed in place.
    pub p: &'a mut Tensor,
    /// Its copy in half precision that forward passes compute with, if it has one; it follows.
    pub half: Option<&'a mut Tensor>,
    /// Its gradient.
    pub grad: &'a Tensor,
    /// What the optimizer remembers of it.
    pub state: &'a mut State,
    /// How to move it.
    pub step: Step,
    /// Its name, for errors.
    pub name: &'a str,
}

/// Moves `p` by one step along `grad`; see the [module](self).
///
/// # Errors
/// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when parameter, gradient and state differ in shape, dtype or device.
pub fn optimizer_step(p: &mut Tensor, grad: &Tensor, state: &mut State, step: &Step) -> Result<()> {
    optimizer_steps(&mut [Item { p, half: None, grad, state, step: *step, name: "optimizer_step" }])
}

/// Moves many parameters, on a GPU all of them in one launch.
///
/// # Errors
/// [`ErrorKind::Shape`](crate::ErrorKind::Shape) naming the parameter, when it, its gradient and its state differ in shape, dtype or
/// device. Nothing has been moved then.
pub fn optimizer_steps(items: &mut [Item<'_>]) -> Result<()> {
    for item in items.iter_mut() {
        prepare(item).map_err(|e| e.rather_on(item.name))?;
    }
    let Some(device) = items.first().map(|item| item.p.device()) else { return Ok(()) };
    match device {
        Device::Cpu => {
            for Item { p, half, grad, state, step, .. } in items {
                for_float!(p.dtype(), T => {
                    let m = state.grad_avg.as_mut().filter(|_| step.rule.needs().0).map(|t| t.cpu_mut());
                    let v = state.sqr_avg.as_mut().filter(|_| step.rule.needs().1).map(|t| t.cpu_mut());
                    cpu::step::<T>(p.cpu_mut(), grad.cpu(), m, v, state.step, step);
                });
                if let Some(half) = half {
                    **half = p.cast(half.dtype())?;
                }
            }
            Ok(())
        }
        Device::Cuda(gpu) => cuda::steps(gpu, items),
    }
}

impl Rule {
    /// Whether the rule keeps an average of the gradient, and one of its square.
    fn needs(&self) -> (bool, bool) {
        match *self {
            Rule::Adam { .. } => (true, true),
            Rule::Sgd { mom } => (mom != 0.0, false),
            Rule::RmsProp { mom, .. } => (mom != 0.0, true),
        }
    }
}

/// Checks the operands, makes the averages that are missing and counts the step.
fn prepare(Item { p, half, grad, state, step, .. }: &mut Item<'_>) -> Result<()> {
    let (dtype, device) = same_kind("optimizer_step", &[p, grad])?;
    let (needs_m, needs_v) = step.rule.needs();
    let zeros = || Tensor::zeros(p.shape(), dtype, device);
    if needs_m && state.grad_avg.is_none() {
        state.grad_avg = Some(zeros()?);
    }
    if needs_v && state.sqr_avg.is_none() {
        state.sqr_avg = Some(zeros()?);
    }
    let averages = [state.grad_avg.as_ref(), state.sqr_avg.as_ref()];
    for other in std::iter::once(*grad).chain(averages.into_iter().flatten()) {
        if other.shape() != p.shape() || other.dtype() != dtype || other.device() != device {
            let of = |t: &Tensor| format!("{} {} on {}", t.dtype(), t.shape(), t.device());
            return Err(Error::shape("optimizer_step", format!("parameter {} and {}", of(p), of(other))));
        }
    }
    if half.as_ref().is_some_and(|h| h.shape() != p.shape() || !h.dtype().is_half() || h.device() != device) {
        return Err(Error::shape("optimizer_step", format!("parameter {} and a copy that isn't one", p.shape())));
    }
    state.step += 1;
    Ok(())
}
