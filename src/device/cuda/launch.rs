//! How a kernel gets its parameters.
//!
//! A kernel's parameters are addresses, numbers and structs, all by value; `Gpu::launch` takes them as a tuple in the order of the
//! `.cu` file. Structs are declared with `geometry!`, which fixes their layout as C's and remembers it, so that a test can
//! compare size and offsets with the kernel's side. The driver checks number and sizes where it can (the emulator does).
//! Inside a [step](super::step) a launch is noted, with copies of its parameters, and given to the driver with the rest of the step.

use super::driver::{Address, Argument, Launch, Stream};
use super::kernels::KernelId;
use super::step::Arguments;
use super::{Gpu, Memory};
use crate::Result;

/// A value that a kernel takes as a parameter.
///
/// # Safety
/// The type has C's layout and means the same on the device.
pub unsafe trait Parameter: Copy {
    /// Copies the value to `bytes`, which are as many as it has. Padding isn't written.
    fn store(&self, bytes: &mut [u8]);
}

macro_rules! parameter {
    ($($t:ty),*) => { $(
        // SAFETY: the same size and meaning in C.
        unsafe impl Parameter for $t {
            fn store(&self, bytes: &mut [u8]) {
                bytes.copy_from_slice(&self.to_ne_bytes());
            }
        }
    )* };
}
parameter!(u8, u16, u32, i32, u64, i64, f32, f64);

// SAFETY: a number of 64 bits, as a pointer is.
unsafe impl Parameter for Address {
    fn store(&self, bytes: &mut [u8]) {
        self.0.store(bytes);
    }
}

// SAFETY: as in C, where it is a field of a struct.
unsafe impl<T: Parameter, const N: usize> Parameter for [T; N] {
    fn store(&self, bytes: &mut [u8]) {
        for (value, bytes) in self.iter().zip(bytes.chunks_exact_mut(size_of::<T>())) {
            value.store(bytes);
        }
    }
}

/// A struct's layout, to be compared with the kernel's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Its name, the same on both sides.
    pub name: &'static str,
    /// Bytes.
    pub size: usize,
    /// Alignment in bytes.
    pub align: usize,
    /// Its fields with their offsets.
    pub fields: Vec<(&'static str, usize)>,
}

/// Declares a struct that goes to a kernel by value, the twin of a `LAYOUT(..)` line in the `.cu` file.
macro_rules! geometry {
    ($(#[$doc:meta])* $vis:vis struct $name:ident { $($(#[$fdoc:meta])* $field:ident: $t:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        #[repr(C)]
        $vis struct $name {
            $($(#[$fdoc])* pub $field: $t,)*
        }

        // SAFETY: `repr(C)` with plain fields; a test compares the layout with the kernel's.
        unsafe impl $crate::device::cuda::launch::Parameter for $name {
            fn store(&self, bytes: &mut [u8]) {
                $(
                    let from = std::mem::offset_of!($name, $field);
                    let field = &mut bytes[from..from + size_of::<$t>()];
                    $crate::device::cuda::launch::Parameter::store(&self.$field, field);
                )*
            }
        }

        impl $name {
            /// Size and offsets.
            pub(crate) fn layout() -> $crate::device::cuda::launch::Layout {
                $crate::device::cuda::launch::Layout {
                    name: stringify!($name),
                    size: size_of::<$name>(),
                    align: align_of::<$name>(),
                    fields: vec![$((stringify!($field), std::mem::offset_of!($name, $field))),*],
                }
            }
        }
    };
}
pub(crate) use geometry;

/// A kernel's parameters: a tuple of [`Parameter`]s.
pub trait Parameters {
    /// Calls `f` with where each value lies.
    fn with<R>(&self, f: impl FnOnce(&[Argument]) -> R) -> R;

    /// Copies each value.
    fn store(&self, to: &mut Arguments);
}

macro_rules! parameters {
    ($($t:ident $i:tt),+) => {
        impl<$($t: Parameter),+> Parameters for ($($t,)+) {
            fn with<R>(&self, f: impl FnOnce(&[Argument]) -> R) -> R {
                f(&[$(Argument { at: std::ptr::from_ref(&self.$i).cast(), size: size_of::<$t>() }),+])
            }

            fn store(&self, to: &mut Arguments) {
                $(to.push(&self.$i);)+
            }
        }
    };
}
parameters!(A 0);
parameters!(A 0, B 1);
parameters!(A 0, B 1, C 2);
parameters!(A 0, B 1, C 2, D 3);
parameters!(A 0, B 1, C 2, D 3, E 4);
parameters!(A 0, B 1, C 2, D 3, E 4, F 5);
parameters!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
parameters!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
parameters!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8);
parameters!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9);
parameters!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10);
parameters!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11);
parameters!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12);

impl Gpu {
    /// A table of what kernels take as parameters, on the device: for kernels that get a row for each of many things.
    ///
    /// # Errors
    /// As [`Gpu::upload`].
    pub(crate) fn upload_table<T: Parameter>(self, rows: &[T]) -> Result<Memory> {
        // SAFETY: the bytes of numbers, or of `repr(C)` structs of them; padding between fields is copied along and never read.
        let bytes = unsafe { std::slice::from_raw_parts(rows.as_ptr().cast::<u8>(), size_of_val(rows)) };
        self.upload(bytes)
    }

    /// Starts a kernel on the compute stream. An empty grid is nothing to do.
    ///
    /// # Errors
    /// [`ErrorKind::Device`](crate::ErrorKind::Device) naming the kernel, its geometry and the driver's word.
    ///
    /// # Safety
    /// The parameters are the kernel's, in number, order and type, and each address leads to as much memory as the kernel uses.
    pub(crate) unsafe fn launch(self, kernel: KernelId, launch: Launch, parameters: impl Parameters) -> Result<()> {
        if launch.grid.contains(&0) || launch.block.contains(&0) {
            return Ok(());
        }
        let function = self.function(kernel)?;
        if let Some(mut list) = self.gathering() {
            list.push_launch(kernel, function, launch, &parameters);
            return Ok(());
        }
        // SAFETY: the caller's promise; memory is given back in stream order, so it lives until the kernel is done.
        let launched = parameters.with(|a| unsafe { self.driver().launch(Stream::Compute, function, &launch, a) });
        launched.map_err(|f| self.failed(format!("kernel {} ({launch})", kernel.kernel().name), f))
    }
}
