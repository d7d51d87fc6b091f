//! Dropout on the processor.

use crate::tensor::Float;

/// `x *= mask * factor`
pub(super) fn scale<T: Float>(mask: &[u8], factor: f64, x: &mut [T]) {
    let factor = T::of(factor);
    for (x, &keep) in x.iter_mut().zip(mask) {
        *x = if keep != 0 { *x * factor } else { T::ZERO };
    }
}
