//! Plain arrays as vectors: every processor, and f64 everywhere.

use super::Kernels;
use super::kernel::{OuterArgs, RowsArgs, Vector, by_height};
use crate::tensor::Float;

/// Four numbers that the compiler may keep in whatever registers the processor has.
#[derive(Clone, Copy)]
struct Four<T>([T; 4]);

impl<T: Float> Vector for Four<T> {
    type Elem = T;
    type Mask = usize;
    const LANES: usize = 4;

    #[inline(always)]
    fn zero() -> Self {
        Four([T::ZERO; 4])
    }
    #[inline(always)]
    fn splat(x: T) -> Self {
        Four([x; 4])
    }
    /// Two roundings: without the instruction, a fused multiply-add is a slow library call.
    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        Four(std::array::from_fn(|i| self.0[i] * b.0[i] + c.0[i]))
    }
    #[inline(always)]
    fn mask(n: usize) -> usize {
        n.min(4)
    }
    #[inline(always)]
    unsafe fn load(p: *const T) -> Self {
        // SAFETY: the caller promises four readable numbers.
        Four(unsafe { p.cast::<[T; 4]>().read() })
    }
    #[inline(always)]
    unsafe fn load_masked(p: *const T, mask: usize) -> Self {
        // SAFETY: only the first `mask` numbers are read, which the caller promises.
        Four(std::array::from_fn(|i| if i < mask { unsafe { *p.add(i) } } else { T::ZERO }))
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut T) {
        // SAFETY: the caller promises four writable numbers.
        unsafe { p.cast::<[T; 4]>().write(self.0) }
    }
    #[inline(always)]
    unsafe fn store_masked(self, p: *mut T, mask: usize) {
        for i in 0..mask {
            // SAFETY: only the first `mask` numbers are written, which the caller promises.
            unsafe { *p.add(i) = self.0[i] };
        }
    }
}

fn gather<T: Float>(args: &RowsArgs<T>, rows: usize) {
    // SAFETY: `gather_rows` checked every run, panel and result of the tile.
    unsafe { by_height!(gather::<Four<T>, 2>(args, rows): 1 2 3 4) }
}

fn outer<T: Float>(args: &OuterArgs<'_, T>, rows: usize) {
    // SAFETY: `sum_outer` checked every run and the tile.
    unsafe { by_height!(outer::<Four<T>, 2>(args, rows): 1 2 3 4) }
}

fn transpose<T: Float>(from: &[T], from_step: usize, to: &mut [T], to_step: usize) {
    for c in 0..8 {
        for d in 0..8 {
            to[d * to_step + c] = from[c * from_step + d];
        }
    }
}

fn spin<T: Float>(rounds: usize) -> usize {
    super::kernel::spin::<Four<T>>(rounds, T::of(0.5))
}

const fn kernels<T: Float>() -> Kernels<T> {
    Kernels { rows: 4, cols: 8, gather: gather::<T>, outer: outer::<T>, transpose: transpose::<T>, spin: spin::<T> }
}

pub(super) static F32: Kernels<f32> = kernels();
pub(super) static F64: Kernels<f64> = kernels();
