//! Pooling layers.

use crate::nn::{Context, Leaf, Module, ModuleId};
use crate::ops::norm_pool::Window;
use crate::{Result, Tensor, ops};

/// PyTorch's `MaxPool2d` with a square window; see [`ops::max_pool`](mod@crate::ops::max_pool).
#[derive(Debug)]
pub struct MaxPool2d {
    id: ModuleId,
    window: Window,
}

impl MaxPool2d {
    /// Window, step and border in pixels.
    pub fn new(window: usize, stride: usize, padding: usize) -> MaxPool2d {
        MaxPool2d { id: ModuleId::new(), window: Window { size: window, stride, padding } }
    }

    /// Its sizes.
    pub(crate) fn window(&self) -> Window {
        self.window
    }

    /// Tells a trace that this pooling ran inside another operation's pass over memory.
    pub(crate) fn ran_fused(&self, x: &Tensor, y: &Tensor, cx: &Context) {
        cx.saw(self.id, x.shape(), y.shape());
    }
}

impl Module for MaxPool2d {
    fn forward(&self, x: &Tensor, cx: &Context) -> Result<Tensor> {
        let Window { size, stride, padding } = self.window;
        let y = ops::max_pool(x, size, stride, padding)?;
        cx.saw(self.id, x.shape(), y.shape());
        Ok(y)
    }

    fn kind(&self) -> &'static str {
        "MaxPool2d"
    }

    fn id(&self) -> Option<ModuleId> {
        Some(self.id)
    }
}

/// fastai's `AdaptiveConcatPool2d(1)`: `[N, H, W, C]` to `[N, 1, 1, 2C]`, maxima first; see
/// [`ops::concat_pool`](mod@crate::ops::concat_pool).
///
/// fastai builds it from two modules, registered average first; `summary()` shows both.
#[derive(Debug)]
pub struct AdaptiveConcatPool2d {
    average: ModuleId,
    maximum: ModuleId,
}

impl AdaptiveConcatPool2d {
    /// The layer; it has no settings.
    #[allow(clippy::new_without_default)] // like its ids, no two are the same
    pub fn new() -> AdaptiveConcatPool2d {
        AdaptiveConcatPool2d { average: ModuleId::new(), maximum: ModuleId::new() }
    }
}

impl Module for AdaptiveConcatPool2d {
    fn forward(&self, x: &Tensor, cx: &Context) -> Result<Tensor> {
        let y = ops::concat_pool(x)?;
        let [n, _, _, c] = x.dims4("concat_pool")?;
        cx.saw(self.average, x.shape(), &[n, 1, 1, c].into());
        cx.saw(self.maximum, x.shape(), &[n, 1, 1, c].into());
        Ok(y)
    }

    fn kind(&self) -> &'static str {
        "AdaptiveConcatPool2d"
    }

    fn leaves(&self) -> Vec<Leaf> {
        let leaf = |id, kind| Leaf { id, kind, parameters: Vec::new() };
        vec![leaf(self.average, "AdaptiveAvgPool2d"), leaf(self.maximum, "AdaptiveMaxPool2d")]
    }
}
