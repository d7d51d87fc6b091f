//! The kernels' names and numbers, and the machine code that was built in.
//!
//! The build script reads the `KERNEL(..)` lines of `kernels/*.cu` into [`TABLE`]. Code that launches a kernel names it at compile
//! time, `kernel!("relu_forward<f32>")`: a name that no `.cu` file has doesn't compile, and at run time the kernel is a small
//! number, an index into the device's table of functions. Nothing is looked up by name at a launch.

use crate::tensor::DType;
use crate::{Error, ErrorKind, Result};

/// An entry point of `kernels/*.cu`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// The file without its ending: `relu`.
    pub file: &'static str,
    /// The entry as its `KERNEL` line names it: `relu_forward<f32>`.
    pub name: &'static str,
}

/// A file of `kernels/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File {
    /// Without its ending: `relu`.
    pub name: &'static str,
    /// How many kernels it has.
    pub entries: usize,
    /// A hash over the file, its headers and the compiler's options: what was seen of a kernel holds for one hash.
    pub hash: &'static str,
}

/// What the compiler made of one file for one architecture.
#[derive(Clone, Copy, Debug)]
pub struct Image {
    /// The file without its ending.
    pub file: &'static str,
    /// `sm_80` or `sm_90a`.
    pub arch: &'static str,
    /// Text for the driver's own compiler, NUL-terminated; empty where an earlier architecture's is the same.
    pub ptx: &'static [u8],
    /// Machine code; empty when it was not compiled here.
    pub cubin: &'static [u8],
    /// For every kernel of the file, its name in the image (`_Z12relu_forwardIfEvPKT_PS0_x`).
    pub entries: &'static [(&'static str, &'static str)],
}

include!(concat!(env!("OUT_DIR"), "/kernels.rs"));

/// A kernel's place in [`TABLE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KernelId(pub(crate) usize);

impl KernelId {
    /// The kernel called `name`. At compile time: an unknown name is an error of compilation.
    #[track_caller]
    pub(crate) const fn of(name: &str) -> KernelId {
        let mut i = 0;
        while i < TABLE.len() {
            if same(TABLE[i].name.as_bytes(), name.as_bytes()) {
                return KernelId(i);
            }
            i += 1;
        }
        panic!("no KERNEL line in kernels/*.cu has this name");
    }

    /// File and name.
    pub fn kernel(self) -> Kernel {
        TABLE[self.0]
    }

    /// All kernels.
    pub fn all() -> impl Iterator<Item = KernelId> {
        (0..TABLE.len()).map(KernelId)
    }
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

/// A kernel that exists for each float type of the device: f32, f16, bf16.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PerFloat(pub [KernelId; 3]);

impl PerFloat {
    /// The one for `dtype`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] when the device doesn't compute in it (f64).
    pub fn of(&self, dtype: DType) -> Result<KernelId> {
        match dtype {
            DType::F32 => Ok(self.0[0]),
            DType::F16 => Ok(self.0[1]),
            DType::BF16 => Ok(self.0[2]),
            other => Err(Error::new(ErrorKind::Shape, format!("a GPU computes in f32, f16 and bf16, not in {other}"))
                .on(self.0[0].kernel().file)
                .remedy("cast the operands, or compute on the CPU")),
        }
    }
}

/// `kernel!("conv2d_forward<f32>")`: its [`KernelId`], checked at compile time.
macro_rules! kernel {
    ($name:expr) => {{
        const ID: $crate::device::cuda::kernels::KernelId = $crate::device::cuda::kernels::KernelId::of($name);
        ID
    }};
}

/// `per_float!("relu_forward")`: `relu_forward<f32>`, `<f16>` and `<bf16>`. Further template arguments follow the type:
/// `per_float!("apply", ", true")`.
macro_rules! per_float {
    ($name:literal) => {
        per_float!($name, "")
    };
    ($name:literal, $rest:literal) => {
        $crate::device::cuda::kernels::PerFloat([
            $crate::device::cuda::kernels::kernel!(concat!($name, "<f32", $rest, ">")),
            $crate::device::cuda::kernels::kernel!(concat!($name, "<f16", $rest, ">")),
            $crate::device::cuda::kernels::kernel!(concat!($name, "<bf16", $rest, ">")),
        ])
    };
}
pub(crate) use {kernel, per_float};
