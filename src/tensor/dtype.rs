//! The numbers a tensor can hold.

use bytemuck::Pod;
use half::{bf16, f16};
use std::fmt;

/// What a tensor's numbers are. A GPU computes in `F32`, `F16` and `BF16` (half precision is storage: sums and statistics are f32);
/// the CPU in `F32`, and in `F64` so that gradients can be checked exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DType {
    /// Bytes: pictures before they become numbers.
    U8,
    /// Labels and counters.
    I64,
    /// Half precision with the range of [-65504, 65504] and 10 bits of fraction.
    F16,
    /// Half precision with the range of `F32` and 7 bits of fraction.
    BF16,
    /// What training computes in, unless told otherwise.
    F32,
    /// What gradient checks compute in.
    F64,
}

impl DType {
    /// Bytes of one number.
    pub fn size(self) -> usize {
        match self {
            DType::U8 => 1,
            DType::F16 | DType::BF16 => 2,
            DType::F32 => 4,
            DType::I64 | DType::F64 => 8,
        }
    }

    /// True for the types that can carry a gradient.
    pub fn is_float(self) -> bool {
        matches!(self, DType::F16 | DType::BF16 | DType::F32 | DType::F64)
    }

    /// True for the types of 16 bits.
    pub fn is_half(self) -> bool {
        matches!(self, DType::F16 | DType::BF16)
    }

    /// What parameters, statistics and sums are kept in when activations are of this type: f32 for half precision, else itself.
    pub fn master(self) -> DType {
        if self.is_half() { DType::F32 } else { self }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DType::U8 => "u8",
            DType::I64 => "i64",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::F32 => "f32",
            DType::F64 => "f64",
        })
    }
}

/// A Rust type that a tensor can hold.
pub trait Element: Pod + Send + Sync + PartialEq + fmt::Debug + 'static {
    /// Its [`DType`].
    const DTYPE: DType;
    /// The nearest number of this type; integers cut the fraction off.
    fn nearest(x: f64) -> Self;
    /// This number as a double.
    fn double(self) -> f64;
}

macro_rules! element {
    ($t:ty, $dtype:ident, $x:ident => $nearest:expr, $v:ident => $double:expr) => {
        impl Element for $t {
            const DTYPE: DType = DType::$dtype;
            #[inline(always)]
            fn nearest($x: f64) -> Self {
                $nearest
            }
            #[inline(always)]
            fn double(self) -> f64 {
                let $v = self;
                $double
            }
        }
    };
}
element!(u8, U8, x => x as u8, v => f64::from(v));
element!(i64, I64, x => x as i64, v => v as f64);
element!(f16, F16, x => f16::from_f64(x), v => v.to_f64());
element!(bf16, BF16, x => bf16::from_f64(x), v => v.to_f64());
element!(f32, F32, x => x as f32, v => f64::from(v));
element!(f64, F64, x => x, v => v);

/// Runs `$body` with the type alias `$t` set to the Rust type of `$dtype`, whichever it is.
macro_rules! for_element {
    ($dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            $crate::tensor::DType::U8 => {
                type $t = u8;
                $body
            }
            $crate::tensor::DType::I64 => {
                type $t = i64;
                $body
            }
            $crate::tensor::DType::F16 => {
                type $t = half::f16;
                $body
            }
            $crate::tensor::DType::BF16 => {
                type $t = half::bf16;
                $body
            }
            $crate::tensor::DType::F32 => {
                type $t = f32;
                $body
            }
            $crate::tensor::DType::F64 => {
                type $t = f64;
                $body
            }
        }
    };
}
pub(crate) use for_element;

/// A floating-point element: what the CPU's operations are generic over, so that the readable `f32` code is the very code
/// that the `f64` gradient check runs.
pub trait Float:
    Element
    + Copy
    + PartialOrd
    + std::ops::Add<Output = Self>
    + std::ops::Sub<Output = Self>
    + std::ops::Mul<Output = Self>
    + std::ops::Div<Output = Self>
    + std::ops::Neg<Output = Self>
    + std::ops::AddAssign
    + std::ops::SubAssign
    + std::ops::MulAssign
    + std::iter::Sum
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// Rounds a double to this type.
    fn of(x: f64) -> Self;
    /// This number as a double, exactly.
    fn f64(self) -> f64;
    /// Square root.
    fn sqrt(self) -> Self;
    /// Natural exponential.
    fn exp(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// Not a number.
    fn is_nan(self) -> bool;
}

macro_rules! float {
    ($t:ty) => {
        impl Float for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            #[inline(always)]
            fn of(x: f64) -> Self {
                x as $t
            }
            #[inline(always)]
            fn f64(self) -> f64 {
                f64::from(self)
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                <$t>::sqrt(self)
            }
            #[inline(always)]
            fn exp(self) -> Self {
                <$t>::exp(self)
            }
            #[inline(always)]
            fn ln(self) -> Self {
                <$t>::ln(self)
            }
            #[inline(always)]
            fn is_nan(self) -> bool {
                <$t>::is_nan(self)
            }
        }
    };
}
float!(f32);
float!(f64);
