//! Gradients times a number on the processor.

use crate::tensor::Float;

pub(super) fn scale<T: Float>(d: &mut [T], by: f64) {
    d.iter_mut().for_each(|d| *d = T::of(d.f64() * by));
}
