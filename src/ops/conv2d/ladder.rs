//! The rungs of a GPU's convolution, one by one: for benches and for tests that compare them.
//!
//! Training takes the highest rung that serves a layer, up to [`highest`]. That is [`Rung::Tiled`] until a GPU has been seen to compute rightly
//! with the one above, as `kernels/verified.json` notes; `ONECYCLE_KERNELS=naive`, `tiled` or `tensor` in the environment, or
//! [`set_highest`], say otherwise.

use super::{Geometry, cuda};
use crate::device::Device;
use crate::device::report::is_verified;
use crate::tensor::{DType, Tensor, same_kind};
use crate::{Error, ErrorKind, Result};
use std::ffi::OsStr;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A version of the kernels; `kernels/conv2d.cu` tells what each is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rung {
    /// One thread per result.
    Naive,
    /// Matrix products through shared memory.
    Tiled,
    /// Matrix products on tensor cores: half precision, channels in multiples of 8.
    TensorCores,
}

impl Rung {
    /// All of them, from the ground up.
    pub const ALL: [Rung; 3] = [Rung::Naive, Rung::Tiled, Rung::TensorCores];

    /// Whether it computes a layer of these sizes in `dtype`.
    pub fn serves(self, g: &Geometry, dtype: DType) -> bool {
        self != Rung::TensorCores || (dtype.is_half() && g.c.is_multiple_of(8) && g.k.is_multiple_of(8))
    }

    /// What training uses for a layer.
    ///
    /// # Errors
    /// As [`highest`].
    pub(super) fn best(g: &Geometry, dtype: DType) -> Result<Rung> {
        let highest = highest()?;
        Ok(if highest.serves(g, dtype) { highest } else { Rung::Tiled })
    }

    /// Its name in [`VARIABLE`].
    pub fn name(self) -> &'static str {
        match self {
            Rung::Naive => "naive",
            Rung::Tiled => "tiled",
            Rung::TensorCores => "tensor",
        }
    }
}

/// The variable of the environment that names the highest rung.
pub const VARIABLE: &str = "ONECYCLE_KERNELS";

/// A place in [`Rung::ALL`], once it is known.
static HIGHEST: AtomicUsize = AtomicUsize::new(usize::MAX);

/// The highest rung that training uses: what [`set_highest`] has said, else [`VARIABLE`], else what a GPU has verified.
///
/// # Errors
/// [`ErrorKind::Argument`] when the variable names no rung.
pub fn highest() -> Result<Rung> {
    if let Some(rung) = Rung::ALL.get(HIGHEST.load(Ordering::Relaxed)) {
        return Ok(*rung);
    }
    let rung = named(std::env::var_os(VARIABLE).as_deref(), is_verified("conv2d_mma"))?;
    set_highest(rung);
    Ok(rung)
}

fn named(name: Option<&OsStr>, verified: bool) -> Result<Rung> {
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return Ok(if verified { Rung::TensorCores } else { Rung::Tiled });
    };
    Rung::ALL.into_iter().find(|rung| name == rung.name()).ok_or_else(|| {
        let error = Error::new(ErrorKind::Argument, format!("`{}` is no version of the kernels", name.display()));
        error.on(VARIABLE).remedy("it takes naive, tiled or tensor; unset, the fastest that a GPU has verified is used")
    })
}

/// Sets the highest rung that training uses, in the whole program.
pub fn set_highest(rung: Rung) {
    let place = Rung::ALL.iter().position(|r| *r == rung).unwrap_or(1);
    HIGHEST.store(place, Ordering::Relaxed);
}

fn gpu(op: &str, operands: &[&Tensor]) -> Result<crate::device::cuda::Gpu> {
    match same_kind(op, operands)?.1 {
        Device::Cuda(gpu) => Ok(gpu),
        other => {
            Err(Error::new(ErrorKind::Device, format!("the ladder is for GPUs, the operands are on {other}")).on(op))
        }
    }
}

/// `x [N, H, W, C]` and `weight [K, R, S, C]` to `y [N, P, Q, K]`.
///
/// # Errors
/// As [`ops::conv2d`](crate::ops::conv2d()); [`ErrorKind::Device`] when the operands are not on a GPU; [`ErrorKind::Argument`] when the
/// rung doesn't serve them.
pub fn forward(rung: Rung, x: &Tensor, weight: &Tensor, stride: [usize; 2], padding: [usize; 2]) -> Result<Tensor> {
    let g = Geometry::new(x, weight, stride, padding)?;
    let gpu = gpu("conv2d", &[x, weight])?;
    check_rung(rung, &g, x)?;
    let mut y = Tensor::uninit([g.n, g.p, g.q, g.k], x.dtype(), x.device())?;
    cuda::forward(gpu, rung, &g, x, weight, None, &mut y)?;
    Ok(y)
}

/// `dy [N, P, Q, K]` to `dx`, for an `x` of that shape; its numbers are not looked at.
///
/// # Errors
/// As [`forward`].
pub fn input_gradient(
    rung: Rung,
    x: &Tensor,
    weight: &Tensor,
    dy: &Tensor,
    stride: [usize; 2],
    padding: [usize; 2],
) -> Result<Tensor> {
    let g = Geometry::new(x, weight, stride, padding)?;
    let gpu = gpu("conv2d", &[x, weight, dy])?;
    check_rung(rung, &g, x)?;
    check_gradient(&g, dy)?;
    let mut dx = Tensor::uninit(x.shape(), x.dtype(), x.device())?;
    cuda::input_gradient(gpu, rung, &g, dy, weight, &mut dx)?;
    Ok(dx)
}

/// `x [N, H, W, C]` and `dy [N, P, Q, K]` to `dw` (f32), for a `weight` of that shape; its numbers are not looked at.
///
/// # Errors
/// As [`forward`].
pub fn weight_gradient(
    rung: Rung,
    x: &Tensor,
    weight: &Tensor,
    dy: &Tensor,
    stride: [usize; 2],
    padding: [usize; 2],
) -> Result<Tensor> {
    let g = Geometry::new(x, weight, stride, padding)?;
    let gpu = gpu("conv2d", &[x, weight, dy])?;
    check_rung(rung, &g, x)?;
    check_gradient(&g, dy)?;
    let mut dw = Tensor::uninit(weight.shape(), x.dtype().master(), x.device())?;
    cuda::weight_gradient(gpu, rung, &g, x, dy, &mut dw)?;
    Ok(dw)
}

fn check_rung(rung: Rung, g: &Geometry, x: &Tensor) -> Result<()> {
    match rung.serves(g, x.dtype()) {
        true => Ok(()),
        false => {
            Err(Error::new(ErrorKind::Argument, format!("{rung:?} doesn't serve {g:?} in {}", x.dtype())).on("conv2d"))
        }
    }
}

fn check_gradient(g: &Geometry, dy: &Tensor) -> Result<()> {
    match dy.shape()[..] == [g.n, g.p, g.q, g.k] {
        true => Ok(()),
        false => Err(Error::shape("conv2d", format!("gradient {} for {g:?}", dy.shape()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn training_takes_what_serves_and_no_more_than_it_may() {
        let g = |c, k| Geometry { n: 1, h: 8, w: 8, c, k, r: 3, s: 3, p: 8, q: 8, stride: [1, 1], padding: [1, 1] };
        let best = |c, k, dtype| Rung::best(&g(c, k), dtype).unwrap();
        set_highest(Rung::Tiled);
        assert_eq!(best(64, 64, DType::BF16), Rung::Tiled);
        set_highest(Rung::TensorCores);
        assert_eq!(best(64, 64, DType::BF16), Rung::TensorCores);
        assert_eq!(best(3, 64, DType::BF16), Rung::Tiled, "three channels are no chunk of eight");
        assert_eq!(best(64, 64, DType::F32), Rung::Tiled);
        set_highest(Rung::Naive);
        assert_eq!(best(64, 64, DType::BF16), Rung::Naive);
        set_highest(Rung::Tiled);
    }

    #[test]
    fn the_environment_wins_over_what_is_verified() {
        let named = |name: &str, verified| named(Some(OsStr::new(name)), verified);
        for (name, rung) in [("naive", Rung::Naive), ("tiled", Rung::Tiled), ("tensor", Rung::TensorCores)] {
            assert_eq!(named(name, true).unwrap(), rung);
            assert_eq!(named(name, false).unwrap(), rung);
        }
        assert_eq!(named("", true).unwrap(), Rung::TensorCores);
        assert_eq!(super::named(None, false).unwrap(), Rung::Tiled, "nothing is used unverified");
        let error = named("cudnn", true).unwrap_err().to_string();
        assert!(error.starts_with("ONECYCLE_KERNELS: `cudnn` is no version of the kernels"), "{error}");
    }
}
