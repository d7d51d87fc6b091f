//! How far up the ladder of a GPU's kernels a program goes.
//!
//! Some operations have several versions of their kernels, each faster and harder to read than the one before
//! ([`Rung`]; `kernels/README.md` is the ladder as a table). Training takes the highest rung that serves a tensor, up to [`highest`]:
//! what [`set_highest`] has said, else `ONECYCLE_KERNELS=naive`, `tiled`, `tensor` or `fused` in the environment, else the highest
//! whose kernels a GPU has been seen to compute rightly, as `kernels/verified.json` notes. Nothing is used unverified unless someone asks.
//!
//! With single precision the two upper rungs multiply in tf32, which keeps 10 bits of a number's fraction. PyTorch does so in
//! convolutions unless told otherwise; here f32 means f32 unless `ONECYCLE_TF32=1` or [`set_tf32`] allows it.

use crate::device::report::is_verified;
use crate::{Error, ErrorKind, Result};
use std::ffi::OsStr;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// A version of the kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Rung {
    /// One thread per result.
    Naive,
    /// Matrix products through shared memory.
    Tiled,
    /// Matrix products on tensor cores.
    TensorCores,
    /// The same, with what follows a convolution or leads back into one done on its way: batch norm's sums, its mask, the sum at a
    /// shortcut; and norm, ReLU and pooling of a stem in one pass.
    Fused,
}

impl Rung {
    /// All of them, from the ground up.
    pub const ALL: [Rung; 4] = [Rung::Naive, Rung::Tiled, Rung::TensorCores, Rung::Fused];

    /// Its name in [`VARIABLE`].
    pub fn name(self) -> &'static str {
        match self {
            Rung::Naive => "naive",
            Rung::Tiled => "tiled",
            Rung::TensorCores => "tensor",
            Rung::Fused => "fused",
        }
    }
}

/// The variable of the environment that names the highest rung.
pub const VARIABLE: &str = "ONECYCLE_KERNELS";
/// The variable of the environment that allows tf32.
pub const TF32: &str = "ONECYCLE_TF32";

/// A place in [`Rung::ALL`], once it is known.
static HIGHEST: AtomicUsize = AtomicUsize::new(usize::MAX);
/// 0 or 1, once it is known.
static ALLOWS_TF32: AtomicU8 = AtomicU8::new(u8::MAX);

/// The highest rung that training uses; see the [module](self).
///
/// # Errors
/// [`ErrorKind::Argument`] when the variable names no rung.
pub fn highest() -> Result<Rung> {
    if let Some(rung) = Rung::ALL.get(HIGHEST.load(Ordering::Relaxed)) {
        return Ok(*rung);
    }
    let rung = named(std::env::var_os(VARIABLE).as_deref(), is_verified)?;
    set_highest(rung);
    Ok(rung)
}

/// The files of the third rung, in `kernels/`, and those that the fourth needs besides.
const CONVOLUTIONS: [&str; 4] = ["conv2d_mma", "conv2d_slab", "conv2d_taps", "conv2d_stem"];
const NORMS: [&str; 2] = ["batch_norm", "norm_pool"];

fn named(name: Option<&OsStr>, verified: impl Fn(&str) -> bool) -> Result<Rung> {
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        let all = |files: &[&str]| files.iter().all(|file| verified(file));
        return Ok(match () {
            () if !all(&CONVOLUTIONS) => Rung::Tiled,
            () if !all(&NORMS) => Rung::TensorCores,
            () => Rung::Fused,
        });
    };
    Rung::ALL.into_iter().find(|rung| name == rung.name()).ok_or_else(|| {
        let error = Error::new(ErrorKind::Argument, format!("`{}` is no version of the kernels", name.display()));
        error
            .on(VARIABLE)
            .remedy("it takes naive, tiled, tensor or fused; unset, the fastest that a GPU has verified is used")
    })
}

/// Sets the highest rung that training uses, in the whole program.
pub fn set_highest(rung: Rung) {
    let place = Rung::ALL.iter().position(|r| *r == rung).unwrap_or(1);
    HIGHEST.store(place, Ordering::Relaxed);
}

/// Whether tensor cores may multiply single precision in tf32.
pub fn tf32() -> bool {
    match ALLOWS_TF32.load(Ordering::Relaxed) {
        u8::MAX => {
            let on = std::env::var_os(TF32).is_some_and(|v| v == "1");
            set_tf32(on);
            on
        }
        known => known == 1,
    }
}

/// Allows tensor cores to multiply single precision in tf32, or forbids it, in the whole program.
pub fn set_tf32(on: bool) {
    ALLOWS_TF32.store(u8::from(on), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_wins_over_what_is_verified() {
        let named_with = |name: &str, verified: bool| named(Some(OsStr::new(name)), |_| verified);
        for rung in Rung::ALL {
            assert_eq!(named_with(rung.name(), true).unwrap(), rung);
            assert_eq!(named_with(rung.name(), false).unwrap(), rung);
        }
        assert_eq!(named_with("", true).unwrap(), Rung::Fused);
        let error = named_with("cudnn", true).unwrap_err().to_string();
        assert!(error.starts_with("ONECYCLE_KERNELS: `cudnn` is no version of the kernels"), "{error}");
    }

    #[test]
    fn nothing_is_used_unverified() {
        let without = |missing: &str| {
            let all = CONVOLUTIONS.iter().chain(&NORMS);
            let there: Vec<&str> = all.copied().filter(|file| *file != missing).collect();
            named(None, |file| there.contains(&file)).unwrap()
        };
        assert_eq!(without("nothing"), Rung::Fused);
        for file in CONVOLUTIONS {
            assert_eq!(without(file), Rung::Tiled, "{file}");
        }
        for file in NORMS {
            assert_eq!(without(file), Rung::TensorCores, "{file}");
        }
        assert_eq!(named(None, |_| false).unwrap(), Rung::Tiled);
    }
}
