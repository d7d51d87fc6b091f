//! Layers without numbers of their own.

use crate::nn::{Context, Module, ModuleId};
use crate::{Result, Tensor, ops};

/// `max(x, 0)`; see [`ops::relu`](mod@crate::ops::relu).
#[derive(Debug)]
pub struct ReLU(ModuleId);

impl ReLU {
    /// The layer; it has no settings.
    #[allow(clippy::new_without_default)] // like its id, no two are the same
    pub fn new() -> ReLU {
        ReLU(ModuleId::new())
    }

    /// Tells a trace that this ReLU ran inside another operation's pass over memory.
    pub(crate) fn ran_fused(&self, y: &Tensor, cx: &Context) {
        cx.saw(self.0, y.shape(), y.shape());
    }
}

impl Module for ReLU {
    fn forward(&self, x: &Tensor, cx: &Context) -> Result<Tensor> {
        cx.saw(self.0, x.shape(), x.shape());
        ops::relu(x)
    }

    fn kind(&self) -> &'static str {
        "ReLU"
    }

    fn id(&self) -> Option<ModuleId> {
        Some(self.0)
    }
}

/// `[N, ...]` to `[N, rest]`; see [`ops::flatten`](mod@crate::ops::flatten).
#[derive(Debug)]
pub struct Flatten(ModuleId);

impl Flatten {
    /// The layer; it has no settings.
    #[allow(clippy::new_without_default)] // like its id, no two are the same
    pub fn new() -> Flatten {
        Flatten(ModuleId::new())
    }
}

impl Module for Flatten {
    fn forward(&self, x: &Tensor, cx: &Context) -> Result<Tensor> {
        let y = ops::flatten(x)?;
        cx.saw(self.0, x.shape(), y.shape());
        Ok(y)
    }

    fn kind(&self) -> &'static str {
        "Flatten"
    }

    fn id(&self) -> Option<ModuleId> {
        Some(self.0)
    }
}

/// Drops numbers in training; see [`ops::dropout`](mod@crate::ops::dropout).
#[derive(Debug)]
pub struct Dropout {
    id: ModuleId,
    p: f64,
}

impl Dropout {
    /// Drops with probability `p`.
    pub fn new(p: f64) -> Dropout {
        Dropout { id: ModuleId::new(), p }
    }
}

impl Module for Dropout {
    fn forward(&self, x: &Tensor, cx: &Context) -> Result<Tensor> {
        cx.saw(self.id, x.shape(), x.shape());
        if !cx.is_training() || self.p == 0.0 {
            return Ok(x.clone());
        }
        let (seed, step, layer) = cx.next_dropout();
        ops::dropout(x, self.p, seed, step, layer)
    }

    fn kind(&self) -> &'static str {
        "Dropout"
    }

    fn id(&self) -> Option<ModuleId> {
        Some(self.id)
    }
}
