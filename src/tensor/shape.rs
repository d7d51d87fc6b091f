//! The sizes of a tensor's axes.

use std::fmt;
use std::ops::Deref;

/// The sizes of a tensor's axes, outermost first. Images are `[N, H, W, C]`, convolution weights `[K, R, S, C]`, linear
/// weights `[out, in]`. A scalar has no axes and one element.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Shape(Vec<usize>);

impl Shape {
    /// Number of elements.
    pub fn numel(&self) -> usize {
        self.0.iter().product()
    }

    /// The size of the last axis; 1 for a scalar. In this crate that is the channel axis.
    pub fn channels(&self) -> usize {
        self.0.last().copied().unwrap_or(1)
    }

    /// The sizes as fastai prints them: an `[N, H, W, C]` image shape in the order N, C, H, W, others as they are.
    pub fn nchw(&self) -> Vec<usize> {
        match self.0[..] {
            [n, h, w, c] => vec![n, c, h, w],
            _ => self.0.clone(),
        }
    }
}

impl Deref for Shape {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        &self.0
    }
}

impl From<&[usize]> for Shape {
    fn from(dims: &[usize]) -> Shape {
        Shape(dims.to_vec())
    }
}
impl From<Vec<usize>> for Shape {
    fn from(dims: Vec<usize>) -> Shape {
        Shape(dims)
    }
}
impl<const N: usize> From<[usize; N]> for Shape {
    fn from(dims: [usize; N]) -> Shape {
        Shape(dims.to_vec())
    }
}
impl From<&Shape> for Shape {
    fn from(shape: &Shape) -> Shape {
        shape.clone()
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}
