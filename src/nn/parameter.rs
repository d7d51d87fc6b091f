//! Numbers that belong to a module: parameters, which are trained, and buffers, which are not.

use crate::autograd::GradSlot;
use crate::tensor::{Shape, Tensor};
use crate::{DType, Device, Error, Result};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// A shared handle to a [`Parameter`]: the module and the optimizer both hold one.
pub type Param = Arc<Parameter>;

/// What a parameter does in its layer; fastai's rules about decay and freezing go by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A convolution's or linear layer's weight.
    Weight,
    /// A convolution's or linear layer's bias: no weight decay.
    Bias,
    /// A normalisation's weight or bias: no weight decay, and trained even in a frozen group.
    Norm,
}

/// A tensor that training changes, and the place where its gradient gathers.
#[derive(Debug)]
pub struct Parameter {
    value: RwLock<Tensor>,
    slot: Arc<GradSlot>,
    trainable: AtomicBool,
    role: Role,
}

impl Parameter {
    /// A trainable parameter of zeros (f32, on the processor), to be initialised or loaded.
    pub fn zeros(shape: impl Into<Shape>, role: Role) -> Param {
        Parameter::full(0.0, shape, role)
    }

    /// A trainable parameter filled with `value`.
    pub fn full(value: f64, shape: impl Into<Shape>, role: Role) -> Param {
        let value = RwLock::new(Tensor::full(value, shape, DType::F32, Device::Cpu));
        Arc::new(Parameter { value, slot: GradSlot::new(), trainable: AtomicBool::new(true), role })
    }

    /// For a forward pass: a leaf of the graph when the parameter is trainable, a plain tensor when it is frozen.
    pub fn tensor(&self) -> Tensor {
        let value = self.value();
        if self.is_trainable() { self.slot.leaf(&value) } else { value }
    }

    /// The present numbers, outside any graph.
    pub fn value(&self) -> Tensor {
        self.value.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the numbers.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when the shape is another one.
    pub fn set(&self, value: Tensor) -> Result<()> {
        let mut present = self.value.write().unwrap_or_else(PoisonError::into_inner);
        if present.shape() != value.shape() {
            return Err(Error::shape("parameter", format!("is {}, was given {}", present.shape(), value.shape())));
        }
        *present = value.detach();
        Ok(())
    }

    /// Changes the numbers in place.
    ///
    /// # Errors
    /// Whatever `f` fails with.
    pub fn update(&self, f: impl FnOnce(&mut Tensor) -> Result<()>) -> Result<()> {
        f(&mut self.value.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// The gradient gathered so far.
    pub fn grad(&self) -> Option<Tensor> {
        self.slot.get()
    }

    /// The gradient gathered so far, which is forgotten.
    pub fn take_grad(&self) -> Option<Tensor> {
        self.slot.take()
    }

    /// Number of elements.
    pub fn numel(&self) -> usize {
        self.value.read().unwrap_or_else(PoisonError::into_inner).numel()
    }

    /// What it does in its layer.
    pub fn role(&self) -> Role {
        self.role
    }

    /// True unless it is frozen.
    pub fn is_trainable(&self) -> bool {
        self.trainable.load(Ordering::Relaxed)
    }

    /// Freezes or unfreezes it. A frozen parameter's gradient is forgotten, so that no optimizer moves it.
    pub fn set_trainable(&self, on: bool) {
        self.trainable.store(on, Ordering::Relaxed);
        if !on {
            self.slot.take();
        }
    }
}

/// A tensor that belongs to a module's state without being trained, such as running statistics.
#[derive(Debug)]
pub struct Buffer(RwLock<Tensor>);

impl Buffer {
    /// A buffer filled with `value`.
    pub fn full(value: f64, shape: impl Into<Shape>, dtype: DType) -> Buffer {
        Buffer(RwLock::new(Tensor::full(value, shape, dtype, Device::Cpu)))
    }

    /// The present numbers.
    pub fn value(&self) -> Tensor {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the numbers.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when the shape is another one.
    pub fn set(&self, value: Tensor) -> Result<()> {
        self.update(|present| {
            if present.shape() != value.shape() {
                return Err(Error::shape("buffer", format!("is {}, was given {}", present.shape(), value.shape())));
            }
            *present = value.detach();
            Ok(())
        })
    }

    /// Changes the numbers in place.
    ///
    /// # Errors
    /// Whatever `f` fails with.
    pub fn update<R>(&self, f: impl FnOnce(&mut Tensor) -> Result<R>) -> Result<R> {
        f(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }
}
