//! The trait that every layer and network implements.

use super::context::Context;
use super::init;
use super::layers::{MaxPool2d, ReLU};
use super::parameter::{Buffer, Param, Parameter};
use crate::tensor::Tensor;
use crate::{DType, Device, Error, ErrorKind, Result};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// Tells modules apart, however small they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ModuleId(u64);

impl ModuleId {
    /// An id that no other module has.
    #[allow(clippy::new_without_default)] // two defaults would differ
    pub fn new() -> ModuleId {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        ModuleId(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// A row of `summary()`: a module without children.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// The module.
    pub id: ModuleId,
    /// Its class name, as PyTorch's.
    pub kind: &'static str,
    /// Its parameters, weight first.
    pub parameters: Vec<Param>,
}

/// One entry of a module's state.
#[derive(Clone, Copy, Debug)]
pub enum StateKind<'a> {
    /// A trained tensor.
    Parameter(&'a Param),
    /// An untrained one.
    Buffer(&'a Buffer),
}

impl StateKind<'_> {
    /// The present numbers.
    pub fn value(&self) -> Tensor {
        match self {
            StateKind::Parameter(p) => p.value(),
            StateKind::Buffer(b) => b.value(),
        }
    }

    /// Replaces the numbers.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] when the shape is another one.
    pub fn set(&self, value: Tensor) -> Result<()> {
        match self {
            StateKind::Parameter(p) => p.set(value),
            StateKind::Buffer(b) => b.set(value),
        }
    }
}

/// A module's state: names such as `0.4.1.bn2.weight` and what they stand for, in PyTorch's order.
pub type State<'a> = Vec<(String, StateKind<'a>)>;

/// A layer or a network.
///
/// Only [`Module::forward`] and [`Module::kind`] must be written; a module with parts lists them in
/// [`Module::children`], one with numbers in [`Module::parameters`] and [`Module::buffers`], in the order of its
/// construction, which is the order of the state and of the summary.
pub trait Module: Send + Sync {
    /// The output for `x`.
    ///
    /// # Errors
    /// When the shape of `x` doesn't suit the module.
    fn forward(&self, x: &Tensor, cx: &Context) -> Result<Tensor>;

    /// `relu(forward(x))`, which some modules can do in one pass.
    ///
    /// # Errors
    /// As [`Module::forward`].
    fn forward_relu(&self, x: &Tensor, cx: &Context) -> Result<Tensor> {
        crate::ops::relu(&self.forward(x, cx)?)
    }

    /// `pool(relu(forward(x)))`, which some modules can do in one pass.
    ///
    /// # Errors
    /// As [`Module::forward`], and when the window doesn't suit the result.
    fn forward_relu_pool(&self, x: &Tensor, relu: &ReLU, pool: &MaxPool2d, cx: &Context) -> Result<Tensor> {
        let y = self.forward_relu(x, cx)?;
        relu.ran_fused(&y, cx);
        pool.forward(&y, cx)
    }

    /// The class name, as PyTorch's: `Conv2d`.
    fn kind(&self) -> &'static str;

    /// What tells this module apart in a trace; modules with children don't need it.
    fn id(&self) -> Option<ModuleId> {
        None
    }

    /// Named parts.
    fn children(&self) -> Vec<(String, &dyn Module)> {
        Vec::new()
    }

    /// Named parameters of its own.
    fn parameters(&self) -> Vec<(&'static str, &Param)> {
        Vec::new()
    }

    /// Named buffers of its own.
    fn buffers(&self) -> Vec<(&'static str, &Buffer)> {
        Vec::new()
    }

    /// The rows it contributes to a summary.
    fn leaves(&self) -> Vec<Leaf> {
        let children = self.children();
        match self.id() {
            Some(id) if children.is_empty() => {
                let parameters = self.parameters().into_iter().map(|(_, p)| p.clone()).collect();
                vec![Leaf { id, kind: self.kind(), parameters }]
            }
            _ => children.into_iter().flat_map(|(_, child)| child.leaves()).collect(),
        }
    }

    /// All parameters and buffers with their names.
    fn state(&self) -> State<'_> {
        let own = self.parameters().into_iter().map(|(name, p)| (name.to_string(), StateKind::Parameter(p)));
        let mut all: State<'_> = own.collect();
        all.extend(self.buffers().into_iter().map(|(name, b)| (name.to_string(), StateKind::Buffer(b))));
        for (prefix, child) in self.children() {
            all.extend(child.state().into_iter().map(|(name, entry)| (format!("{prefix}.{name}"), entry)));
        }
        all
    }

    /// All parameters, with their names.
    fn named_parameters(&self) -> Vec<(String, Param)> {
        let parameter = |(name, entry)| match entry {
            StateKind::Parameter(p) => Some((name, Param::clone(p))),
            StateKind::Buffer(_) => None,
        };
        self.state().into_iter().filter_map(parameter).collect()
    }

    /// Fresh weights from a seed: convolutions as torchvision's ResNet (normal, fan out), linear layers as fastai's head
    /// (normal, fan in), normalisations 1 and 0, biases 0. The same numbers on every device.
    ///
    /// # Errors
    /// The device has too little memory.
    fn init_with(&self, seed: u64) -> Result<()> {
        init::initialize(&self.named_parameters(), seed)
    }

    /// Replaces the state by `tensors`, which must hold every name with its shape; `num_batches_tracked` may be missing
    /// (old files lack it) and counts as 0.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] naming a tensor that is missing or has another shape, or that the module doesn't know; the
    /// module is unchanged then.
    fn load_state(&self, tensors: &HashMap<String, Tensor>) -> Result<()> {
        let state = self.state();
        let mut known = 0;
        for (name, entry) in &state {
            match tensors.get(name) {
                Some(t) if t.shape() == entry.value().shape() => known += 1,
                Some(t) => {
                    // As PyTorch writes them, and as files have them.
                    let (has, needs) = (t.shape().nchw(), entry.value().shape().nchw());
                    let message = format!("has shape {has:?}, the model needs {needs:?}");
                    return Err(Error::new(ErrorKind::Format, message).on(name));
                }
                None if name.ends_with("num_batches_tracked") => {}
                None => return Err(Error::new(ErrorKind::Format, "is missing from the file").on(name)),
            }
        }
        if known < tensors.len() {
            let has = |name: &String| state.iter().any(|(known, _)| known == name);
            let extra = tensors.keys().find(|name| !has(name)).map_or("", |s| s.as_str());
            return Err(Error::new(ErrorKind::Format, "is in the file, but not in the model").on(extra));
        }
        for (name, entry) in &state {
            let present = entry.value();
            let value = match tensors.get(name) {
                Some(t) => t.cast(present.dtype())?.to(present.device())?,
                None => Tensor::scalar(0.0, present.dtype(), present.device())?,
            };
            entry.set(value)?;
        }
        Ok(())
    }

    /// Changes the float type of all parameters and float buffers: f64 to check a whole network's gradients.
    ///
    /// # Errors
    /// The device has too little memory.
    fn set_dtype(&self, dtype: DType) -> Result<()> {
        for (_, entry) in self.state() {
            let value = entry.value();
            if value.dtype().is_float() {
                entry.set(value.cast(dtype)?)?;
            }
        }
        Ok(())
    }

    /// Moves parameters and statistics to `device`. Counters stay with the host, which alone counts with them.
    ///
    /// # Errors
    /// The device has too little memory.
    fn to_device(&self, device: Device) -> Result<()> {
        for (_, entry) in self.state() {
            let value = entry.value();
            if value.dtype().is_float() {
                entry.set(value.to(device)?)?;
            }
        }
        Ok(())
    }
}

/// Number of elements of all `parameters`, and of the trainable ones.
pub(crate) fn count<'a>(parameters: impl IntoIterator<Item = &'a Parameter>) -> (usize, usize) {
    parameters
        .into_iter()
        .fold((0, 0), |(all, trainable), p| (all + p.numel(), trainable + if p.is_trainable() { p.numel() } else { 0 }))
}
