//! What stands in for the emulator where the build found no C++ compiler.

use crate::{Failure, Kernel, Layout, Memory, Options, Report};
use std::ffi::c_void;

/// Whether kernels can run: false, there was no C++ compiler when this was built.
pub fn available() -> bool {
    false
}

/// The C++ compiler that compiled the kernels: none.
pub fn compiler() -> &'static str {
    ""
}

/// An entry point by its name: none, there was no C++ compiler when this was built.
pub fn kernel(_name: &str) -> Option<Kernel> {
    None
}

/// All entry points: none, there was no C++ compiler when this was built.
pub fn kernels() -> Vec<&'static str> {
    Vec::new()
}

/// All structs that kernels take by value: none, there was no C++ compiler when this was built.
pub fn layouts() -> Vec<Layout> {
    Vec::new()
}

/// Fails: there was no C++ compiler when this was built.
///
/// # Errors
/// Always.
///
/// # Safety
/// Nothing is touched.
pub unsafe fn launch(
    _memory: &Memory,
    _kernel: Kernel,
    _grid: [u32; 3],
    _block: [u32; 3],
    _shared: u32,
    _args: &[(*const c_void, usize)],
    _options: &Options,
) -> Result<Report, Failure> {
    Err(Failure::refused("the emulator was built without a C++ compiler (g++ or clang++)"))
}
