//! Numbers that belong to a module: parameters, which are trained, and buffers, which are not.

use crate::autograd::GradSlot;
use crate::tensor::{Shape, Tensor};
use crate::{DType, Error, Result};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

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
///
/// Where a network computes in half precision, the parameter itself (the master) stays f32, and forward passes use a copy: a step
/// that is small beside the number would be rounded away in 8 or 11 bits. The optimizer writes both.
#[derive(Debug)]
pub struct Parameter {
    value: RwLock<Value>,
    slot: Arc<GradSlot>,
    trainable: AtomicBool,
    role: Role,
}

/// The numbers of a [`Parameter`].
#[derive(Debug)]
pub(crate) struct Value {
    pub master: Tensor,
    /// The copy that forward passes compute with, once one has asked for it.
    pub half: Option<Tensor>,
}

impl Parameter {
    /// A trainable parameter of zeros (f32, on the processor), to be initialised or loaded.
    pub fn zeros(shape: impl Into<Shape>, role: Role) -> Param {
        Parameter::full(0.0, shape, role)
    }

    /// A trainable parameter filled with `value`.
    pub fn full(value: f64, shape: impl Into<Shape>, role: Role) -> Param {
        let value = RwLock::new(Value { master: Tensor::on_cpu(value, shape, DType::F32), half: None });
        Arc::new(Parameter { value, slot: GradSlot::new(), trainable: AtomicBool::new(true), role })
    }

    /// For a forward pass: a leaf of the graph when the parameter is trainable, a plain tensor when it is frozen.
    pub fn tensor(&self) -> Tensor {
        self.leaf(self.value())
    }

    /// As [`Parameter::tensor`], in the type that the network computes in: for half precision a rounded copy, whose gradient is
    /// still f32.
    ///
    /// # Errors
    /// The device has too little memory for the copy.
    pub fn tensor_in(&self, dtype: DType) -> Result<Tensor> {
        if !dtype.is_half() {
            return Ok(self.tensor());
        }
        let known = self.read().half.clone().filter(|half| half.dtype() == dtype);
        if let Some(half) = known {
            return Ok(self.leaf(half));
        }
        let mut value = self.lock();
        let half = value.master.cast(dtype)?;
        value.half = Some(half.clone());
        drop(value);
        Ok(self.leaf(half))
    }

    fn leaf(&self, value: Tensor) -> Tensor {
        if self.is_trainable() { self.slot.leaf(&value) } else { value }
    }

    fn read(&self) -> RwLockReadGuard<'_, Value> {
        self.value.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Master and copy, for an optimizer that changes both.
    pub(crate) fn lock(&self) -> RwLockWriteGuard<'_, Value> {
        self.value.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The present numbers, outside any graph.
    pub fn value(&self) -> Tensor {
        self.read().master.clone()
    }

    /// Replaces the numbers.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when the shape is another one.
    pub fn set(&self, value: Tensor) -> Result<()> {
        let mut present = self.lock();
        let shape = present.master.shape();
        if shape != value.shape() {
            return Err(Error::shape("parameter", format!("is {shape}, was given {}", value.shape())));
        }
        *present = Value { master: value.detach(), half: None };
        Ok(())
    }

    /// Changes the numbers in place.
    ///
    /// # Errors
    /// Whatever `f` fails with.
    pub fn update(&self, f: impl FnOnce(&mut Tensor) -> Result<()>) -> Result<()> {
        let mut present = self.lock();
        present.half = None;
        f(&mut present.master)
    }

    /// The gradient gathered so far.
    pub fn grad(&self) -> Option<Tensor> {
        self.slot.get()
    }

    /// The gradient gathered so far, which is forgotten.
    pub fn take_grad(&self) -> Option<Tensor> {
        self.slot.take()
    }

    /// Replaces the gradient gathered so far.
    pub(crate) fn set_grad(&self, grad: Tensor) {
        self.slot.set(grad);
    }

    /// Number of elements.
    pub fn numel(&self) -> usize {
        self.read().master.numel()
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
        Buffer(RwLock::new(Tensor::on_cpu(value, shape, dtype)))
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
