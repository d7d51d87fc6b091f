//! Which vector instructions this processor has, and how plain loops get to use them.
//!
//! The crate is compiled for the oldest x86-64, so a plain loop is vectorised for 128-bit SSE2. The macro
//! `vectorized!` around a function compiles it once more for AVX2 and for AVX-512 and picks the copy at run time: the body
//! stays ordinary Rust, the compiler does the rest. On other architectures there is only the plain copy.

use std::sync::OnceLock;

/// The widest instruction set that kernels are written for and this processor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Level {
    /// Whatever the compiler assumes: SSE2 on x86-64, NEON on AArch64.
    Portable,
    /// 256-bit vectors with fused multiply-add.
    Avx2,
    /// 512-bit vectors.
    Avx512,
}

/// This processor's [`Level`]. `ONECYCLE_SIMD=portable|avx2` lowers it, for tests and for comparing.
pub fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(|| {
        let cap = match std::env::var("ONECYCLE_SIMD").as_deref() {
            Ok("portable") => Level::Portable,
            Ok("avx2") => Level::Avx2,
            _ => Level::Avx512,
        };
        detect().min(cap)
    })
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Level {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq");
    match (avx2, avx512) {
        (true, true) => Level::Avx512,
        (true, false) => Level::Avx2,
        _ => Level::Portable,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Level {
    Level::Portable
}

/// Compiles a function three times, for the vectors of each [`Level`], and calls the copy that this processor can run.
macro_rules! vectorized {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<$t:ident: $bound:path>($($arg:ident: $ty:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        $vis fn $name<$t: $bound>($($arg: $ty),*) {
            #[inline(always)]
            fn body<$t: $bound>($($arg: $ty),*) $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
            fn avx512<$t: $bound>($($arg: $ty),*) {
                body($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2<$t: $bound>($($arg: $ty),*) {
                body($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            match $crate::device::cpu::simd::level() {
                // SAFETY: `level` found these instructions on this processor.
                $crate::device::cpu::simd::Level::Avx512 => return unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                $crate::device::cpu::simd::Level::Avx2 => return unsafe { avx2($($arg),*) },
                $crate::device::cpu::simd::Level::Portable => {}
            }
            body($($arg),*)
        }
    };
}
pub(crate) use vectorized;
