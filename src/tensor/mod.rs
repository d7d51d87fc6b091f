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
mod cuda;
mod dtype;
mod layout;
mod pending;
mod shape;

pub(crate) use dtype::for_element;
pub use dtype::{DType, Element, Float};
pub use pending::Pending;
pub use shape::Shape;

use crate::autograd::Node;
use crate::device::cpu::buffer::Buffer;
use crate::device::cuda::driver::Address;
use crate::device::{Device, Storage};
use crate::{Error, Result};
use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// A contiguous, row-major array of numbers on a device; see the [module](self).
#[derive(Clone)]
pub struct Tensor {
    storage: Arc<Storage>,
    shape: Shape,
    dtype: DType,
    node: Option<Arc<Node>>,
    note: Option<Note>,
}

/// Something that an operation knows about a tensor's numbers.
type Note = Arc<dyn Any + Send + Sync>;

impl Tensor {
    /// A tensor of `shape` with a copy of `data` on `device`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when the lengths differ.
    pub fn from_slice<T: Element>(data: &[T], shape: impl Into<Shape>, device: Device) -> Result<Tensor> {
        let shape = shape.into();
        if shape.numel() != data.len() {
            return Err(Error::shape("Tensor::from_slice", format!("{} numbers for shape {shape}", data.len())));
        }
        Ok(Tensor::from_storage(Storage::from_slice(device, data)?, shape, T::DTYPE))
    }

    /// A tensor filled with `value`.
    ///
    /// # Errors
    /// The device has too little memory.
    pub fn full(value: f64, shape: impl Into<Shape>, dtype: DType, device: Device) -> Result<Tensor> {
        match device {
            Device::Cpu => Ok(Tensor::on_cpu(value, shape, dtype)),
            Device::Cuda(gpu) => cuda::full(gpu, value, shape.into(), dtype),
        }
    }

    /// A tensor filled with `value` on the processor.
    pub(crate) fn on_cpu(value: f64, shape: impl Into<Shape>, dtype: DType) -> Tensor {
        let shape = shape.into();
        let mut buffer = Buffer::uninit(shape.numel() * dtype.size());
        for_element!(dtype, T => buffer.as_mut_slice::<T>().fill(T::nearest(value)));
        Tensor::from_storage(Storage::Cpu(buffer), shape, dtype)
    }

    /// A tensor of zeros.
    ///
    /// # Errors
    /// The device has too little memory.
    pub fn zeros(shape: impl Into<Shape>, dtype: DType, device: Device) -> Result<Tensor> {
        Tensor::full(0.0, shape, dtype, device)
    }

    /// A single number, of shape `[]`.
    ///
    /// # Errors
    /// The device has too little memory.
    pub fn scalar(value: f64, dtype: DType, device: Device) -> Result<Tensor> {
        Tensor::full(value, [], dtype, device)
    }

    /// Memory for an operation's result; its numbers are unspecified until the operation writes them.
    ///
    /// # Errors
    /// The device has too little memory.
    pub(crate) fn uninit(shape: impl Into<Shape>, dtype: DType, device: Device) -> Result<Tensor> {
        let shape = shape.into();
        Ok(Tensor::from_storage(Storage::uninit(device, dtype, shape.numel())?, shape, dtype))
    }

    /// A batch of bytes on its way to the device, beside the computation where the device can do that.
    ///
    /// # Errors
    /// As [`Tensor::from_slice`].
    pub(crate) fn from_batch(data: &[u8], shape: impl Into<Shape>, device: Device) -> Result<Tensor> {
        match device {
            Device::Cpu => Tensor::from_slice(data, shape, device),
            Device::Cuda(gpu) => {
                let shape = shape.into();
                if shape.numel() != data.len() {
                    return Err(Error::shape("Tensor::from_batch", format!("{} bytes for shape {shape}", data.len())));
                }
                Ok(Tensor::from_storage(Storage::Cuda(gpu.upload_beside(data)?), shape, DType::U8))
            }
        }
    }

    pub(crate) fn from_storage(storage: Storage, shape: Shape, dtype: DType) -> Tensor {
        Tensor { storage: Arc::new(storage), shape, dtype, node: None, note: None }
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

    /// A copy of the numbers on the host, in row-major order. On a GPU this waits for all work given so far.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when `T` isn't the tensor's dtype; [`ErrorKind::Device`](crate::ErrorKind::Device) when that work failed.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        if T::DTYPE != self.dtype {
            return Err(Error::shape(
                "Tensor::to_vec",
                format!("{} was asked of a tensor of {}", T::DTYPE, self.dtype),
            ));
        }
        match &*self.storage {
            Storage::Cpu(buffer) => Ok(buffer.as_slice().to_vec()),
            Storage::Cuda(memory) => {
                let mut out = vec![T::zeroed(); self.numel()];
                memory.gpu().download(memory, bytemuck::cast_slice_mut(&mut out))?;
                Ok(out)
            }
        }
    }

    /// The numbers as doubles, whatever the float or integer type.
    ///
    /// # Errors
    /// [`ErrorKind::Device`](crate::ErrorKind::Device) when the work before it failed.
    pub fn to_f64_vec(&self) -> Result<Vec<f64>> {
        for_element!(self.dtype, T => Ok(self.to_vec::<T>()?.into_iter().map(T::double).collect()))
    }

    /// Whether no number is NaN or infinite. Waits for the device.
    ///
    /// # Errors
    /// The device can't be read.
    pub fn is_finite(&self) -> Result<bool> {
        let host = self.to(Device::Cpu)?;
        Ok(match host.dtype() {
            DType::F32 => host.cpu::<f32>().iter().all(|v| v.is_finite()),
            dtype if dtype.is_float() => host.to_f64_vec()?.iter().all(|v| v.is_finite()),
            _ => true,
        })
    }

    /// The only number of a tensor with one element, as a double.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when there are more or none; [`ErrorKind::Device`](crate::ErrorKind::Device) when the work before it failed.
    pub fn item(&self) -> Result<f64> {
        match self.to_f64_vec()?[..] {
            [value] => Ok(value),
            _ => Err(Error::shape("Tensor::item", format!("shape {} has not exactly one element", self.shape))),
        }
    }

    /// The same numbers as another type, rounded to nearest; the result stands outside the graph.
    ///
    /// # Errors
    /// The device has too little memory.
    pub fn cast(&self, dtype: DType) -> Result<Tensor> {
        if dtype == self.dtype {
            return Ok(self.detach());
        }
        if let Device::Cuda(gpu) = self.device()
            && let Some(cast) = cuda::cast(gpu, self, dtype)
        {
            return cast;
        }
        let values = self.to_f64_vec()?;
        let numbers = |device| -> Result<Storage> {
            for_element!(dtype, T => {
                let values: Vec<T> = values.iter().map(|&v| T::nearest(v)).collect();
                Storage::from_slice(device, &values)
            })
        };
        Ok(Tensor::from_storage(numbers(self.device())?, self.shape.clone(), dtype))
    }

    /// The same numbers on another device; the result stands outside the graph.
    ///
    /// # Errors
    /// The device has too little memory, or the work before it failed.
    pub fn to(&self, device: Device) -> Result<Tensor> {
        if device == self.device() {
            return Ok(self.detach());
        }
        for_element!(self.dtype, T => Tensor::from_slice(&self.to_vec::<T>()?, &self.shape, device))
    }

    /// The same memory outside the graph: no gradient flows through it.
    pub fn detach(&self) -> Tensor {
        Tensor { node: None, ..self.clone() }
    }

    /// The same memory seen with another shape, outside the graph; operations that reshape wrap it with their own backward.
    pub(crate) fn with_shape(&self, shape: impl Into<Shape>) -> Tensor {
        let shape = shape.into();
        debug_assert_eq!(shape.numel(), self.numel());
        Tensor { storage: self.storage.clone(), shape, dtype: self.dtype, node: None, note: None }
    }

    /// True when a gradient will flow to or through this tensor.
    pub fn requires_grad(&self) -> bool {
        self.node.is_some()
    }

    pub(crate) fn node(&self) -> Option<&Arc<Node>> {
        self.node.as_ref()
    }

    /// The same numbers at another place in the graph. What was noted of their way there holds no longer: a norm's output that becomes a
    /// leaf gets a gradient that nobody may mask.
    pub(crate) fn with_node(self, node: Option<Arc<Node>>) -> Tensor {
        Tensor { node, note: None, ..self }
    }

    /// With a note for the operation that receives the tensor. It holds for these numbers at this place in the graph, and is lost when
    /// either changes.
    pub(crate) fn noted<T: Any + Send + Sync>(mut self, note: Arc<T>) -> Tensor {
        self.note = Some(note);
        self
    }

    /// The note, if it is of this type.
    pub(crate) fn note<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.note.clone()?.downcast().ok()
    }

    /// The memory as numbers. Operations check dtype and device before; a mix-up here is a defect of ours.
    pub(crate) fn cpu<T: Element>(&self) -> &[T] {
        debug_assert_eq!(T::DTYPE, self.dtype);
        self.storage.cpu()
    }

    /// The memory to write, copied first when another tensor shares it.
    pub(crate) fn make_mut(&mut self) -> Result<&mut Storage> {
        self.note = None;
        if Arc::get_mut(&mut self.storage).is_none() {
            self.storage = Arc::new(self.storage.duplicate()?);
        }
        Ok(Arc::get_mut(&mut self.storage).expect("the storage has one owner now"))
    }

    /// Where the numbers are on their GPU, for a kernel that reads them.
    pub(crate) fn address(&self) -> Address {
        match &*self.storage {
            Storage::Cuda(memory) => memory.address(),
            Storage::Cpu(buffer) => unreachable!("{buffer:?} was taken for a GPU's memory"),
        }
    }

    /// Where the numbers are on their GPU, for a kernel that writes them; copied first when another tensor shares them.
    pub(crate) fn address_mut(&mut self) -> Result<Address> {
        self.make_mut()?;
        Ok(self.address())
    }

    /// True when no other tensor shares the memory.
    pub(crate) fn is_unique(&self) -> bool {
        Arc::strong_count(&self.storage) == 1
    }

    /// The memory to write as numbers, copied first when another tensor shares it. Only for host memory.
    pub(crate) fn cpu_mut<T: Element>(&mut self) -> &mut [T] {
        debug_assert_eq!(T::DTYPE, self.dtype);
        self.note = None;
        if Arc::get_mut(&mut self.storage).is_none() {
            let mut copy = Buffer::uninit(self.numel() * size_of::<T>());
            copy.as_mut_slice::<T>().copy_from_slice(self.storage.cpu());
            self.storage = Arc::new(Storage::Cpu(copy));
        }
        Arc::get_mut(&mut self.storage).expect("the storage has one owner now").cpu_mut()
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
    same_kind_with(op, operands, &[])
}

/// As [`same_kind`], for operations with `masters`: parameters and statistics, which are f32 beside half-precision operands
/// and of the operands' own type otherwise.
pub(crate) fn same_kind_with(op: &str, operands: &[&Tensor], masters: &[&Tensor]) -> Result<(DType, Device)> {
    let first = operands[0];
    if !first.dtype.is_float() {
        return Err(Error::shape(op, format!("computes in floats, got {} of shape {}", first.dtype, first.shape)));
    }
    let wanted =
        operands[1..].iter().map(|t| (t, first.dtype)).chain(masters.iter().map(|t| (t, first.dtype.master())));
    for (t, dtype) in wanted {
        if t.dtype != dtype || t.device() != first.device() {
            let of = |t: &Tensor| format!("{} {} on {}", t.dtype, t.shape, t.device());
            return Err(Error::shape(op, format!("operands differ: {} and {}", of(first), of(t))));
        }
    }
    first.device().computes_in(op, first.dtype)?;
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
        if self.numel() <= 16
            && let Ok(values) = self.to_f64_vec()
        {
            write!(f, ", {values:?}")?;
        }
        f.write_str(")")
    }
}
