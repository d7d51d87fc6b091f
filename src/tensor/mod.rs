//! The tensor: a block of memory, a shape, a number type, and the place in the graph where it came from.
//!
//! A [`Tensor`] is contiguous and row-major, always. There are no strides: a view that isn't contiguous would make every
//! operation handle it, and nothing in a convolutional network needs one. Images are **NHWC**, convolution weights **KRSC**
//! (out, kernel rows, kernel columns, in). Cloning is cheap: the memory is shared, and never changes under a second owner
//! (writing goes through `Tensor::make_mut`, which copies when the memory is shared).
//!
//! The type has no generic parameters. Device, number type and rank are values, checked where operations meet, with an
//! [`Error`] that names the operation and both operands: shapes in types cost the user more than they give.
//!
//! ```
//! use onecycle::{Device, Tensor};
//! # fn main() -> onecycle::Result<()> {
//! let t = Tensor::from_slice(&[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 3], Device::Cpu)?;
//! assert_eq!(t.shape()[..], [2, 3]);
//! assert_eq!(t.to_vec::<f32>()?[4], 5.0);
//! # Ok(()) }
//! ```

mod arith;
mod dtype;
mod layout;
mod shape;

pub use dtype::{DType, Element, Float};
pub use shape::Shape;

use crate::autograd::Node;
use crate::device::{Device, Storage};
use crate::{Error, ErrorKind, Result};
use std::fmt;
use std::sync::Arc;

/// A contiguous, row-major array of numbers on a device; see the [module](self).
#[derive(Clone)]
pub struct Tensor {
    storage: Arc<Storage>,
    shape: Shape,
    dtype: DType,
    node: Option<Arc<Node>>,
}

impl Tensor {
    /// A tensor of `shape` with a copy of `data` on `device`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] when the lengths differ.
    pub fn from_slice<T: Element>(data: &[T], shape: impl Into<Shape>, device: Device) -> Result<Tensor> {
        let shape = shape.into();
        if shape.numel() != data.len() {
            return Err(Error::shape("Tensor::from_slice", format!("{} numbers for shape {shape}", data.len())));
        }
        Ok(Tensor::from_storage(Storage::from_slice(device, data), shape, T::DTYPE))
    }

    /// A tensor filled with `value`.
    pub fn full(value: f64, shape: impl Into<Shape>, dtype: DType, device: Device) -> Tensor {
        let mut t = Tensor::uninit(shape, dtype, device);
        let Device::Cpu = device;
        let storage = t.make_mut();
        match dtype {
            DType::U8 => storage.cpu_mut::<u8>().fill(value as u8),
            DType::I64 => storage.cpu_mut::<i64>().fill(value as i64),
            DType::F32 => storage.cpu_mut::<f32>().fill(value as f32),
            DType::F64 => storage.cpu_mut::<f64>().fill(value),
        }
        t
    }

    /// A tensor of zeros.
    pub fn zeros(shape: impl Into<Shape>, dtype: DType, device: Device) -> Tensor {
        Tensor::full(0.0, shape, dtype, device)
    }

    /// A single number, of shape `[]`.
    pub fn scalar(value: f64, dtype: DType, device: Device) -> Tensor {
        Tensor::full(value, [], dtype, device)
    }

    /// Memory for an operation's result; its numbers are unspecified until the operation writes them.
    pub(crate) fn uninit(shape: impl Into<Shape>, dtype: DType, device: Device) -> Tensor {
        let shape = shape.into();
        Tensor::from_storage(Storage::uninit(device, dtype, shape.numel()), shape, dtype)
    }

    pub(crate) fn from_storage(storage: Storage, shape: Shape, dtype: DType) -> Tensor {
        Tensor { storage: Arc::new(storage), shape, dtype, node: None }
    }

    /// The sizes of the axes.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Number of elements.
    pub fn numel(&self) -> usize {
        self.shape.numel()
    }

    /// What the numbers are.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Where the numbers are.
    pub fn device(&self) -> Device {
        self.storage.device()
    }

    /// A copy of the numbers on the host, in row-major order.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] when `T` isn't the tensor's dtype.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        if T::DTYPE != self.dtype {
            return Err(Error::shape(
                "Tensor::to_vec",
                format!("{} was asked of a tensor of {}", T::DTYPE, self.dtype),
            ));
        }
        Ok(self.storage.cpu::<T>().to_vec())
    }

    /// The numbers as doubles, whatever the float or integer type.
    pub fn to_f64_vec(&self) -> Vec<f64> {
        match self.dtype {
            DType::U8 => self.storage.cpu::<u8>().iter().map(|&v| f64::from(v)).collect(),
            DType::I64 => self.storage.cpu::<i64>().iter().map(|&v| v as f64).collect(),
            DType::F32 => self.storage.cpu::<f32>().iter().map(|&v| f64::from(v)).collect(),
            DType::F64 => self.storage.cpu::<f64>().to_vec(),
        }
    }

    /// The only number of a tensor with one element, as a double.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] when there are more or none.
    pub fn item(&self) -> Result<f64> {
        match self.to_f64_vec()[..] {
            [value] => Ok(value),
            _ => Err(Error::shape("Tensor::item", format!("shape {} has not exactly one element", self.shape))),
        }
    }

    /// The same numbers as another type; the result stands outside the graph.
    pub fn cast(&self, dtype: DType) -> Tensor {
        if dtype == self.dtype {
            return self.detach();
        }
        let values = self.to_f64_vec();
        let mut t = Tensor::uninit(self.shape.clone(), dtype, self.device());
        let storage = t.make_mut();
        match dtype {
            DType::U8 => storage.cpu_mut::<u8>().iter_mut().zip(&values).for_each(|(o, &v)| *o = v as u8),
            DType::I64 => storage.cpu_mut::<i64>().iter_mut().zip(&values).for_each(|(o, &v)| *o = v as i64),
            DType::F32 => storage.cpu_mut::<f32>().iter_mut().zip(&values).for_each(|(o, &v)| *o = v as f32),
            DType::F64 => storage.cpu_mut::<f64>().copy_from_slice(&values),
        }
        t
    }

    /// The same memory outside the graph: no gradient flows through it.
    pub fn detach(&self) -> Tensor {
        Tensor { node: None, ..self.clone() }
    }

    /// The same memory seen with another shape, outside the graph; operations that reshape wrap it with their own backward.
    pub(crate) fn with_shape(&self, shape: impl Into<Shape>) -> Tensor {
        let shape = shape.into();
        debug_assert_eq!(shape.numel(), self.numel());
        Tensor { storage: self.storage.clone(), shape, dtype: self.dtype, node: None }
    }

    /// True when a gradient will flow to or through this tensor.
    pub fn requires_grad(&self) -> bool {
        self.node.is_some()
    }

    pub(crate) fn node(&self) -> Option<&Arc<Node>> {
        self.node.as_ref()
    }

    pub(crate) fn with_node(mut self, node: Option<Arc<Node>>) -> Tensor {
        self.node = node;
        self
    }

    /// The memory as numbers. Operations check dtype and device before; a mix-up here is a defect of ours.
    pub(crate) fn cpu<T: Element>(&self) -> &[T] {
        debug_assert_eq!(T::DTYPE, self.dtype);
        self.storage.cpu()
    }

    /// The memory to write, copied first when another tensor shares it.
    pub(crate) fn make_mut(&mut self) -> &mut Storage {
        if Arc::get_mut(&mut self.storage).is_none() {
            let copy = match self.dtype {
                DType::U8 => Storage::from_slice(self.device(), self.storage.cpu::<u8>()),
                DType::I64 => Storage::from_slice(self.device(), self.storage.cpu::<i64>()),
                DType::F32 => Storage::from_slice(self.device(), self.storage.cpu::<f32>()),
                DType::F64 => Storage::from_slice(self.device(), self.storage.cpu::<f64>()),
            };
            self.storage = Arc::new(copy);
        }
        Arc::get_mut(&mut self.storage).expect("the storage has one owner now")
    }

    /// True when no other tensor shares the memory.
    pub(crate) fn is_unique(&self) -> bool {
        Arc::strong_count(&self.storage) == 1
    }

    /// The memory to write as numbers; see [`Tensor::make_mut`].
    pub(crate) fn cpu_mut<T: Element>(&mut self) -> &mut [T] {
        debug_assert_eq!(T::DTYPE, self.dtype);
        self.make_mut().cpu_mut()
    }

    /// `[N, H, W, C]` of an image tensor, or an error in the name of `op`.
    pub(crate) fn dims4(&self, op: &str) -> Result<[usize; 4]> {
        <[usize; 4]>::try_from(&self.shape[..])
            .map_err(|_| Error::shape(op, format!("needs an image tensor [N, H, W, C], got {}", self.shape)))
    }

    /// `[N, C]` of a matrix, or an error in the name of `op`.
    pub(crate) fn dims2(&self, op: &str) -> Result<[usize; 2]> {
        <[usize; 2]>::try_from(&self.shape[..])
            .map_err(|_| Error::shape(op, format!("needs a matrix [N, C], got {}", self.shape)))
    }
}

/// The common float dtype and device of an operation's operands, or an error that names the two that differ.
pub(crate) fn same_kind(op: &str, operands: &[&Tensor]) -> Result<(DType, Device)> {
    let first = operands[0];
    if !first.dtype.is_float() {
        return Err(Error::shape(op, format!("computes in floats, got {} of shape {}", first.dtype, first.shape)));
    }
    for t in &operands[1..] {
        if t.dtype != first.dtype || t.device() != first.device() {
            let message = format!(
                "operands differ: {} {} on {} and {} {} on {}",
                first.dtype,
                first.shape,
                first.device(),
                t.dtype,
                t.shape,
                t.device()
            );
            return Err(Error::new(ErrorKind::Shape, message).on(op));
        }
    }
    Ok((first.dtype, first.device()))
}

/// Runs `$body` with the type alias `$t` set to the Rust type of float dtype `$dtype`.
macro_rules! for_float {
    ($dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            $crate::tensor::DType::F32 => {
                type $t = f32;
                $body
            }
            $crate::tensor::DType::F64 => {
                type $t = f64;
                $body
            }
            other => unreachable!("{other} was refused when the operands were checked"),
        }
    };
}
pub(crate) use for_float;

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({} {} on {}", self.dtype, self.shape, self.device())?;
        if self.numel() <= 16 {
            write!(f, ", {:?}", self.to_f64_vec())?;
        }
        f.write_str(")")
    }
}
