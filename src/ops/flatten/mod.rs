//! `[N, H, W, C]` seen as `[N, H * W * C]`, the same memory; the gradient is seen the other way round.
//!
//! PyTorch flattens in the order C, H, W. After a global pool, where H = W = 1, the two orders are one.

use crate::autograd::{self, Backward};
use crate::tensor::{Shape, Tensor};
use crate::{Error, Result};

/// All axes but the first as one: `[N, ...]` becomes `[N, rest]`.
///
/// # Errors
/// [`ErrorKind::Shape`](crate::ErrorKind::Shape) for a scalar.
pub fn flatten(x: &Tensor) -> Result<Tensor> {
    let Some((&n, rest)) = x.shape().split_first() else {
        return Err(Error::shape("flatten", "a scalar has no axes"));
    };
    let y = x.with_shape([n, rest.iter().product()]);
    let shape = x.shape().clone();
    Ok(autograd::record("flatten", &[x], y, |_| FlattenBackward { shape }))
}

struct FlattenBackward {
    shape: Shape,
}

impl Backward for FlattenBackward {
    fn backward(self: Box<Self>, dy: Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(dy.with_shape(self.shape))])
    }
}
