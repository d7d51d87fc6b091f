//! Half precision on the processor: computed in f32, and rounded where a GPU would store half precision.
//!
//! The processor has no arithmetic for f16 and bf16. So that a network in half precision behaves alike everywhere, an operation there
//! widens its operands to f32, runs as f32, and rounds its result; on the way back, gradients of activations are rounded too, and gradients
//! of parameters are not, because they are f32 on a GPU as well. What differs from a GPU is the order of sums inside an operation.
//! It costs time and memory: it is for trying, comparing and testing, not for speed.
//!
//! Operations begin with
//!
//! ```ignore
//! if let Some(dtype) = rounded::half_on_cpu(x) {
//!     return rounded::to(dtype, &linear(&rounded::activation(x)?, &rounded::parameter(weight)?, bias)?);
//! }
//! ```

use crate::autograd::{self, Backward};
use crate::tensor::Tensor;
use crate::{DType, Device, Result};

/// The operand's type if it is half precision on the processor.
pub(super) fn half_on_cpu(x: &Tensor) -> Option<DType> {
    (x.device() == Device::Cpu && x.dtype().is_half()).then(|| x.dtype())
}

/// An activation in f32; its gradient is rounded to the activation's type.
pub(super) fn activation(x: &Tensor) -> Result<Tensor> {
    let dtype = x.dtype();
    Ok(autograd::record("widen", &[x], x.detach().cast(DType::F32)?, |_| Cast { dtype: Some(dtype) }))
}

/// A parameter's copy in f32; its gradient stays f32.
pub(super) fn parameter(w: &Tensor) -> Result<Tensor> {
    Ok(autograd::record("widen", &[w], w.detach().cast(DType::F32)?, |_| Cast { dtype: None }))
}

/// A result in half precision.
pub(super) fn to(dtype: DType, y: &Tensor) -> Result<Tensor> {
    Ok(autograd::record("round", &[y], y.detach().cast(dtype)?, |_| Cast { dtype: Some(DType::F32) }))
}

/// Gives the gradient another type.
struct Cast {
    dtype: Option<DType>,
}

impl Backward for Cast {
    fn backward(self: Box<Self>, dy: Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(match self.dtype {
            Some(dtype) => dy.cast(dtype)?,
            None => dy,
        })])
    }
}
