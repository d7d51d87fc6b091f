//! Whether NVIDIA's driver is there and usable, and its error codes in words.
//!
//! cudarc loads libcuda at the first call of a function and looks each function up at its own first call; where one of them is
//! missing it panics. So nothing is called before [`ready`] has looked: for the library, for every function in [`FUNCTIONS`], and
//! for a driver that answers. After that no call can panic. For the same reason cudarc's own error texts are not used: they ask the
//! driver, which may be what is missing.

use super::super::driver::Failure;
use crate::{Error, ErrorKind, Result};
use cudarc::driver::sys::{self, CUresult};
use std::path::PathBuf;
use std::sync::OnceLock;

/// The oldest CUDA version of a driver that runs what is built in: 12.0, drivers from 525 on.
const OLDEST: i32 = 12_000;

const INSTALL: &str = "install NVIDIA's driver, or use --device cpu";
const UPDATE: &str = "install NVIDIA's driver 525 or later, or use --device cpu";

/// Every function of libcuda that is called. A test holds this list against the sources.
#[rustfmt::skip]
pub(super) const FUNCTIONS: &[&str] = &[
    "cuInit", "cuDriverGetVersion", "cuDeviceGetCount", "cuDeviceGet", "cuDeviceGetName", "cuDeviceGetAttribute",
    "cuDevicePrimaryCtxRetain", "cuDevicePrimaryCtxRelease_v2", "cuCtxGetCurrent", "cuCtxSetCurrent",
    "cuStreamCreate", "cuStreamDestroy_v2", "cuStreamSynchronize", "cuStreamWaitEvent",
    "cuEventCreate", "cuEventDestroy_v2", "cuEventRecord", "cuEventSynchronize", "cuEventQuery",
    "cuDeviceGetDefaultMemPool", "cuMemPoolSetAttribute", "cuMemPoolGetAttribute", "cuMemPoolTrimTo",
    "cuMemAllocAsync", "cuMemFreeAsync", "cuMemAlloc_v2", "cuMemFree_v2", "cuMemGetInfo_v2", "cuMemHostAlloc", "cuMemFreeHost",
    "cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2", "cuMemcpyDtoDAsync_v2", "cuMemsetD8Async",
    "cuModuleLoadDataEx", "cuModuleUnload", "cuModuleGetFunction",
    "cuFuncGetAttribute", "cuFuncSetAttribute", "cuLaunchKernel",
    "cuStreamBeginCapture_v2", "cuStreamEndCapture",
    "cuGraphInstantiateWithFlags", "cuGraphLaunch", "cuGraphDestroy", "cuGraphExecDestroy",
];

/// Looks once for everything, and starts the driver.
///
/// # Errors
/// [`ErrorKind::Device`] naming what is missing and what to do about it.
pub(super) fn ready() -> Result<()> {
    static FOUND: OnceLock<Result<(), (String, &'static str)>> = OnceLock::new();
    match FOUND.get_or_init(look) {
        Ok(()) => Ok(()),
        Err((message, remedy)) => Err(Error::new(ErrorKind::Device, message).remedy(*remedy)),
    }
}

fn look() -> Result<(), (String, &'static str)> {
    if !present() {
        return Err(("NVIDIA's driver (libcuda) was not found".into(), INSTALL));
    }
    let place = libcuda_path().map_or_else(|| "libcuda".to_owned(), |path| path.display().to_string());
    if let Some(name) = FUNCTIONS.iter().find(|name| address(name).is_none()) {
        return Err((format!("{place} has no function {name}: the driver is too old, or this is no driver"), UPDATE));
    }
    // SAFETY: the library and the function are there.
    let code = unsafe { sys::cuInit(0) };
    if code != CUresult::CUDA_SUCCESS {
        let remedy = match code {
            CUresult::CUDA_ERROR_STUB_LIBRARY => {
                "that is the stand-in of a CUDA toolkit, for linking: take its folder out of LD_LIBRARY_PATH"
            }
            CUresult::CUDA_ERROR_NO_DEVICE => {
                "is there a GPU, and does CUDA_VISIBLE_DEVICES show it? Else use --device cpu"
            }
            CUresult::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH | CUresult::CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE => {
                "libcuda and the kernel's module have different versions: restart the machine, or install the driver again"
            }
            _ => "does nvidia-smi work? Else install NVIDIA's driver again, or use --device cpu",
        };
        return Err((format!("the driver does not start: {} ({place})", text(code)), remedy));
    }
    let version = cuda_version();
    if version < OLDEST {
        let message = format!("the driver is too old: it knows CUDA {}, and 12.0 is needed", shown(version));
        return Err((message, UPDATE));
    }
    Ok(())
}

/// Whether there is a library that cudarc will find.
fn present() -> bool {
    static PRESENT: OnceLock<bool> = OnceLock::new();
    // SAFETY: it opens libcuda, whose initialisers are NVIDIA's, and closes it again.
    *PRESENT.get_or_init(|| unsafe { sys::is_culib_present() })
}

/// Where a function of libcuda is, if it is.
fn address(name: &str) -> Option<usize> {
    if !present() {
        return None;
    }
    // SAFETY: the library is there; the function is looked for and not called through this type.
    unsafe { sys::culib().get::<unsafe extern "C" fn()>(name.as_bytes()) }.ok().map(|function| *function as usize)
}

/// The library's path, once it is loaded: it tells a toolkit's stand-in from the driver.
pub fn libcuda_path() -> Option<PathBuf> {
    let address = address("cuInit")?;
    // `from-to permissions offset device inode path`, the addresses in hexadecimal.
    std::fs::read_to_string("/proc/self/maps").ok()?.lines().find_map(|line| {
        let (from, to) = line.split_once(' ')?.0.split_once('-')?;
        let range = usize::from_str_radix(from, 16).ok()?..usize::from_str_radix(to, 16).ok()?;
        range.contains(&address).then(|| line.find('/').map(|at| PathBuf::from(&line[at..])))?
    })
}

/// The version of the driver, as its users know it, and the CUDA version that it knows: `575.57.08, CUDA 12.9`.
pub fn driver_version() -> Option<String> {
    ready().ok()?;
    let cuda = format!("CUDA {}", shown(cuda_version()));
    let module = std::fs::read_to_string("/proc/driver/nvidia/version").unwrap_or_default();
    let is_version = |word: &&str| word.contains('.') && word.split('.').all(|part| part.parse::<u32>().is_ok());
    Some(match module.lines().next().unwrap_or_default().split_whitespace().find(is_version) {
        Some(version) => format!("{version}, {cuda}"),
        None => cuda,
    })
}

/// 12090 for 12.9; 0 when the driver doesn't say. Only after libcuda has been found.
fn cuda_version() -> i32 {
    let mut version = 0;
    // SAFETY: the function is there (`look` asked); it writes one number.
    let code = unsafe { sys::cuDriverGetVersion(&mut version) };
    if code == CUresult::CUDA_SUCCESS { version } else { 0 }
}

fn shown(version: i32) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}

/// A failure unless `code` is success.
pub(super) fn check(code: CUresult) -> Result<(), Failure> {
    match code {
        CUresult::CUDA_SUCCESS => Ok(()),
        code => Err(Failure { out_of_memory: code == CUresult::CUDA_ERROR_OUT_OF_MEMORY, message: text(code) }),
    }
}

/// Name, number and meaning of an error.
pub(super) fn text(code: CUresult) -> String {
    let number = code as u32;
    let meaning = match number {
        1 => "a value is out of range",
        2 => "out of memory",
        3 | 4 => "the driver is not started, or ends",
        34 => "this libcuda is no driver",
        36 => "the driver is too old for this call",
        46 => "the device is used by another process alone, or is not available",
        100 => "there is no GPU",
        101 => "there is no device of this number",
        200 | 300 => "the code that was built in is damaged",
        201 | 709 => "the device's context is gone",
        209 => "no code for this GPU was built in",
        214 => "an error in the device's memory that could not be corrected",
        218 => "the driver's compiler refuses the code that was built in",
        221 => "the driver's compiler (libnvidia-ptxjitcompiler) is not installed",
        222 => "the driver is too old for the code that was built in",
        223 => "compiling by the driver is switched off (CUDA_DISABLE_PTX_JIT)",
        304 => "the operating system refused a call",
        500 => "there is nothing of this name",
        700 => "a kernel read or wrote memory that is not there; the device answers nothing more in this process",
        701 => "a kernel needs more registers or shared memory than there are",
        702 => "a kernel ran for too long; the device answers nothing more in this process",
        710 => "an assertion in a kernel failed; the device answers nothing more in this process",
        715 => {
            "a kernel met an instruction that this GPU doesn't have; the device answers nothing more in this process"
        }
        716 => "a kernel used a misaligned address; the device answers nothing more in this process",
        717 | 718 => "a kernel went astray; the device answers nothing more in this process",
        719 => "a kernel failed; the device answers nothing more in this process",
        800 => "not permitted",
        801 => "not supported by this GPU or driver",
        802 => "the machine's GPUs are not ready yet (is nvidia-fabricmanager running?)",
        803 => "libcuda and the driver's kernel module have different versions",
        804 => "this compatibility library does not support the GPU",
        900..=909 => "work that can't be kept as a graph",
        999 => "an unknown failure",
        _ => "",
    };
    // The name comes from the enumeration: the driver is not asked.
    let name = format!("{code:?}");
    if meaning.is_empty() { format!("{name} ({number})") } else { format!("{meaning} ({name}, {number})") }
}
