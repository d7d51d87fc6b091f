//! NVIDIA's driver behind the [`Driver`] trait.
//!
//! libcuda is loaded when the first GPU is asked for; a machine without it gets an error that says so ([`library`]). All calls are
//! the raw ones of the driver API: addresses are numbers and parameters are pointers, as the trait has them, and the safe layer
//! of cudarc would add events and reference counts that the layers above have already.
//!
//! | decision | why |
//! |---|---|
//! | the device's primary context | shared with whatever else in the process uses the GPU |
//! | two streams that don't wait for the null stream | copies run beside kernels |
//! | graphs are captured on a third | what other threads do on the first two meanwhile stays out of them |
//! | the driver's memory pool, which keeps what it got | its default gives everything back at each synchronisation |
//! | one module for each kernel file, loaded at its first kernel | start-up pays for what is used |
//! | machine code first, then text | text is compiled by the driver, a tenth of a second for each kernel |

mod library;
#[cfg(test)]
mod tests;

pub use library::{driver_version, libcuda_path};

use super::driver::{
    Address, Argument, Description, Driver, Event, Failure, Function, Graph, Launch, Stream, Transfer,
};
use super::kernels::{IMAGES, Image, KernelId, TABLE};
use crate::{Error, ErrorKind, Result};
use cudarc::driver::sys::{self, CUresult};
use library::{check, ready, text};
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_int, c_void};
use std::fmt;
use std::ptr::{NonNull, null_mut};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The oldest architecture for which code is built in: Ampere.
const OLDEST: (u32, u32) = (8, 0);

/// Most parameters of a kernel.
const PARAMETERS: usize = 64;

/// Bytes of the driver's compiler's messages that are kept.
const LOG: usize = 8192;

/// A GPU through NVIDIA's driver.
pub(crate) struct Nvidia {
    description: Description,
    device: sys::CUdevice,
    context: sys::CUcontext,
    compute: sys::CUstream,
    copy: sys::CUstream,
    capture: sys::CUstream,
    /// What the copy stream waits for before it may use new memory.
    allocated: sys::CUevent,
    /// The driver's memory pool; null where the GPU has none.
    pool: sys::CUmemoryPool,
    /// Most bytes of shared memory that a block can be given.
    shared: c_int,
    loaded: Mutex<Loaded>,
}

/// Modules by file, kernels by their place in the table.
#[derive(Default)]
struct Loaded {
    modules: HashMap<&'static str, (sys::CUmodule, &'static Image)>,
    functions: HashMap<usize, Function>,
}

// SAFETY: the driver API may be called from any thread, and its handles belong to the process; each call binds the context to its
// thread first.
unsafe impl Send for Nvidia {}
// SAFETY: as above; what changes is behind a mutex.
unsafe impl Sync for Nvidia {}

/// How many GPUs there are; 0 where none can be used.
pub(crate) fn count() -> usize {
    devices().unwrap_or(0)
}

fn devices() -> Result<usize> {
    ready()?;
    let mut count = 0;
    // SAFETY: the driver is ready; it writes one number.
    let code = unsafe { sys::cuDeviceGetCount(&mut count) };
    check(code).map_err(|f| device_error(format!("the GPUs can't be counted: {}", f.message)))?;
    Ok(usize::try_from(count).unwrap_or(0))
}

fn device_error(message: String) -> Error {
    Error::new(ErrorKind::Device, message)
}

/// The GPU with this number.
///
/// # Errors
/// [`ErrorKind::Device`] naming what is missing and what to do about it.
pub(crate) fn open(ordinal: usize) -> Result<Nvidia> {
    let label = format!("cuda:{ordinal}");
    let count = devices().map_err(|e| e.on(&label))?;
    if ordinal >= count {
        let message = match count {
            0 => "there is no GPU".to_owned(),
            1 => "there is one GPU, cuda:0".to_owned(),
            n => format!("there are {n} GPUs, cuda:0 to cuda:{}", n - 1),
        };
        let remedy =
            if count == 0 { "use --device cpu" } else { "choose one of them, or does CUDA_VISIBLE_DEVICES hide one?" };
        return Err(device_error(message).on(label).remedy(remedy));
    }
    let failed = |f: Failure| device_error(format!("the GPU can't be used: {}", f.message)).on(&label);

    let mut device = 0;
    // SAFETY: the driver is ready, the number is one of its devices, and it writes one handle.
    check(unsafe { sys::cuDeviceGet(&mut device, ordinal as c_int) }).map_err(failed)?;
    let attribute = |which| -> Result<c_int, Failure> {
        let mut value = 0;
        // SAFETY: a device of this driver; it writes one number.
        check(unsafe { sys::cuDeviceGetAttribute(&mut value, which, device) }).map(|()| value)
    };
    use sys::CUdevice_attribute_enum as A;
    let major = attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR).map_err(failed)?;
    let minor = attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR).map_err(failed)?;
    let capability = (major.unsigned_abs(), minor.unsigned_abs());
    let mut name = [0; 256];
    // SAFETY: a device of this driver, and a buffer of the announced size, in which a zero stays at the end.
    check(unsafe { sys::cuDeviceGetName(name.as_mut_ptr(), name.len() as c_int - 1, device) }).map_err(failed)?;
    // SAFETY: the buffer ends with a zero.
    let name = unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned();
    suits(&name, capability).map_err(|e| e.on(&label))?;

    let driver = driver_version().unwrap_or_default();
    let mut gpu = Nvidia {
        description: Description { name, capability, driver, caches: true, label: label.clone() },
        device,
        context: null_mut(),
        compute: null_mut(),
        copy: null_mut(),
        capture: null_mut(),
        allocated: null_mut(),
        pool: null_mut(),
        shared: attribute(A::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN).unwrap_or(0),
        loaded: Mutex::default(),
    };
    let pools = attribute(A::CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED).unwrap_or(0) != 0;
    gpu.start(pools).map_err(failed)?;
    Ok(gpu)
}

/// Whether code for a GPU of this capability was built in.
fn suits(name: &str, capability: (u32, u32)) -> Result<()> {
    let (major, minor) = capability;
    if capability < OLDEST {
        let message = format!("{name} has compute capability {major}.{minor}, and 8.0 (Ampere) is needed");
        return Err(device_error(message).remedy("use --device cpu"));
    }
    let missing = TABLE.iter().find(|kernel| codes(kernel.file, capability).next().is_none());
    match missing {
        None => Ok(()),
        Some(kernel) => Err(device_error(format!("the GPU's kernels were not built in ({} is missing)", kernel.file))
            .remedy("run scripts/nvrtc.sh and build again; the build's warnings say more")),
    }
}

/// What can be loaded for `file` on a GPU of this capability, the best first: an image, and whether its machine code is meant.
fn codes(file: &str, capability: (u32, u32)) -> impl Iterator<Item = (&'static Image, bool)> {
    // Machine code runs on its own major version, from its own minor on; code with an `a` on its own version alone. Text is
    // compiled for anything later, and again not with an `a`.
    let choices: &[(&str, bool)] = match capability {
        (9, 0) => &[("sm_90a", true), ("sm_90a", false), ("sm_80", false)],
        (8, _) => &[("sm_80", true), ("sm_80", false)],
        _ => &[("sm_80", false)],
    };
    choices.iter().filter_map(move |&(arch, machine)| {
        let image = IMAGES.iter().find(|image| image.file == file && image.arch == arch)?;
        let code = if machine { image.cubin } else { image.ptx };
        (!code.is_empty()).then_some((image, machine))
    })
}

impl Nvidia {
    /// Context, streams and pool. What was made before a failure is given back by `drop`.
    fn start(&mut self, pools: bool) -> Result<(), Failure> {
        // SAFETY: a device of this driver; it writes one handle, which `drop` gives back.
        check(unsafe { sys::cuDevicePrimaryCtxRetain(&mut self.context, self.device) })?;
        self.bind()?;
        let flags = sys::CUstream_flags_enum::CU_STREAM_NON_BLOCKING as u32;
        let untimed = sys::CUevent_flags_enum::CU_EVENT_DISABLE_TIMING as u32;
        // SAFETY: the context is current; each writes one handle, which `drop` gives back.
        unsafe {
            check(sys::cuStreamCreate(&mut self.compute, flags))?;
            check(sys::cuStreamCreate(&mut self.copy, flags))?;
            check(sys::cuStreamCreate(&mut self.capture, flags))?;
            check(sys::cuEventCreate(&mut self.allocated, untimed))?;
        }
        if pools {
            let mut keep = u64::MAX;
            let threshold = sys::CUmemPool_attribute_enum::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
            // SAFETY: a device of this driver, and an attribute whose value is a u64.
            unsafe {
                check(sys::cuDeviceGetDefaultMemPool(&mut self.pool, self.device))?;
                check(sys::cuMemPoolSetAttribute(self.pool, threshold, (&raw mut keep).cast()))?;
            }
        }
        Ok(())
    }

    /// Makes the context the thread's own. The driver is asked, not a variable of ours: other users of the GPU in this process
    /// may have changed it.
    fn bind(&self) -> Result<(), Failure> {
        let mut current = null_mut();
        // SAFETY: it writes one handle.
        check(unsafe { sys::cuCtxGetCurrent(&mut current) })?;
        if current == self.context {
            return Ok(());
        }
        // SAFETY: the context is retained for as long as `self` lives.
        check(unsafe { sys::cuCtxSetCurrent(self.context) })
    }

    fn stream(&self, stream: Stream) -> sys::CUstream {
        match stream {
            Stream::Compute => self.compute,
            Stream::Copy => self.copy,
            Stream::Capture => self.capture,
        }
    }

    fn loaded(&self) -> MutexGuard<'_, Loaded> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn allocate_once(&self, bytes: usize) -> Result<Address, Failure> {
        let mut at = 0;
        if self.pool.is_null() {
            // SAFETY: the context is current; it writes one address.
            check(unsafe { sys::cuMemAlloc_v2(&mut at, bytes) })?;
            return Ok(Address(at));
        }
        // SAFETY: the stream belongs to the context; it writes one address.
        check(unsafe { sys::cuMemAllocAsync(&mut at, bytes, self.compute) })?;
        // The memory is there when the compute stream gets to this point, and may be another buffer's until then.
        // SAFETY: stream and event belong to the context.
        let ordered = unsafe {
            check(sys::cuEventRecord(self.allocated, self.compute))
                .and_then(|()| check(sys::cuStreamWaitEvent(self.copy, self.allocated, 0)))
        };
        if let Err(failure) = ordered {
            // SAFETY: the address was just allocated and nobody knows it.
            unsafe { self.free(Address(at), bytes) };
            return Err(failure);
        }
        Ok(Address(at))
    }

    /// Bytes that the pool holds and nobody uses.
    fn idle(&self) -> usize {
        if self.pool.is_null() {
            return 0;
        }
        let attribute = |which| -> u64 {
            let mut value = 0u64;
            // SAFETY: a pool of the device, and an attribute whose value is a u64.
            let code = unsafe { sys::cuMemPoolGetAttribute(self.pool, which, (&raw mut value).cast()) };
            if code == CUresult::CUDA_SUCCESS { value } else { 0 }
        };
        use sys::CUmemPool_attribute_enum as A;
        let reserved = attribute(A::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT);
        reserved.saturating_sub(attribute(A::CU_MEMPOOL_ATTR_USED_MEM_CURRENT)) as usize
    }

    /// The module of `file`, loaded at the first call.
    fn module(&self, loaded: &mut Loaded, file: &'static str) -> Result<(sys::CUmodule, &'static Image), Failure> {
        if let Some(module) = loaded.modules.get(file) {
            return Ok(*module);
        }
        let mut refusals = Vec::new();
        for (image, machine) in codes(file, self.description.capability) {
            match load(if machine { image.cubin } else { image.ptx }) {
                Ok(module) => {
                    loaded.modules.insert(file, (module, image));
                    return Ok((module, image));
                }
                Err(why) => {
                    let kind = if machine { "machine code" } else { "text" };
                    refusals.push(format!("{kind} for {}: {why}", image.arch));
                }
            }
        }
        Err(Failure::new(match refusals.is_empty() {
            true => {
                format!("no code of kernels/{file}.cu for this GPU was built in; run scripts/nvrtc.sh and build again")
            }
            false => format!("the driver refuses kernels/{file}.cu: {}", refusals.join("; ")),
        }))
    }
}

/// Loads machine code or text; the context is current.
fn load(code: &[u8]) -> Result<sys::CUmodule, String> {
    use sys::CUjit_option_enum as O;
    // The driver reads headers in it as they lie; what was built in lies anywhere.
    let mut aligned = vec![0u64; code.len().div_ceil(8) + 1];
    for (word, bytes) in aligned.iter_mut().zip(code.chunks(8)) {
        let mut whole = [0; 8];
        whole[..bytes.len()].copy_from_slice(bytes);
        *word = u64::from_ne_bytes(whole);
    }
    let mut log = vec![0u8; LOG];
    let mut options = [O::CU_JIT_ERROR_LOG_BUFFER, O::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
    // A number is passed in the place of a pointer: so the driver wants it. One byte stays zero.
    let mut values: [*mut c_void; 2] = [log.as_mut_ptr().cast(), std::ptr::without_provenance_mut(LOG - 1)];
    let mut module = null_mut();
    // SAFETY: an image that says where it ends (text with a zero byte), two options with their values, and a log of the announced
    // size, all alive during the call.
    let code = unsafe {
        sys::cuModuleLoadDataEx(
            &mut module,
            aligned.as_ptr().cast(),
            options.len() as u32,
            options.as_mut_ptr(),
            values.as_mut_ptr(),
        )
    };
    if code == CUresult::CUDA_SUCCESS {
        return Ok(module);
    }
    let said = CStr::from_bytes_until_nul(&log).map(|s| s.to_string_lossy().trim().to_owned()).unwrap_or_default();
    Err(if said.is_empty() { text(code) } else { format!("{}\n{said}", text(code)) })
}

impl Driver for Nvidia {
    fn description(&self) -> &Description {
        &self.description
    }

    fn memory(&self) -> Result<(usize, usize), Failure> {
        self.bind()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: it writes two numbers.
        check(unsafe { sys::cuMemGetInfo_v2(&mut free, &mut total) })?;
        Ok(((free + self.idle()).min(total), total))
    }

    fn allocate(&self, bytes: usize) -> Result<Address, Failure> {
        self.bind()?;
        match self.allocate_once(bytes) {
            Err(failure) if failure.out_of_memory && !self.pool.is_null() => {
                // The pool may hold enough in pieces of other sizes: give them back and ask again.
                // SAFETY: stream and pool belong to the device.
                unsafe {
                    check(sys::cuStreamSynchronize(self.compute))?;
                    check(sys::cuMemPoolTrimTo(self.pool, 0))?;
                }
                self.allocate_once(bytes)
            }
            other => other,
        }
    }

    unsafe fn free(&self, at: Address, _: usize) {
        // A failure here is one of earlier work, and the next call that can tell will tell it.
        if self.bind().is_err() {
            return;
        }
        // SAFETY: the caller gives back what `allocate` gave, in the same way, and no later work touches it.
        unsafe {
            if self.pool.is_null() {
                sys::cuStreamSynchronize(self.compute);
                sys::cuMemFree_v2(at.0);
            } else {
                sys::cuMemFreeAsync(at.0, self.compute);
            }
        }
    }

    fn allocate_pinned(&self, bytes: usize) -> Result<NonNull<u8>, Failure> {
        self.bind()?;
        let mut at: *mut c_void = null_mut();
        // Not write-combined: that is fast to copy from, and very slow to read.
        // SAFETY: the context is current; it writes one address.
        check(unsafe { sys::cuMemHostAlloc(&mut at, bytes, sys::CU_MEMHOSTALLOC_PORTABLE) })?;
        NonNull::new(at.cast()).ok_or_else(|| Failure::new("the driver gave no memory"))
    }

    unsafe fn free_pinned(&self, at: NonNull<u8>, _: usize) {
        if self.bind().is_ok() {
            // SAFETY: the caller gives back what `allocate_pinned` gave.
            unsafe { sys::cuMemFreeHost(at.as_ptr().cast()) };
        }
    }

    unsafe fn copy(&self, stream: Stream, transfer: Transfer, bytes: usize) -> Result<(), Failure> {
        self.bind()?;
        let stream = self.stream(stream);
        // SAFETY: the caller vouches for both ends; the stream belongs to the context.
        check(unsafe {
            match transfer {
                Transfer::Up(from, to) => sys::cuMemcpyHtoDAsync_v2(to.0, from.cast(), bytes, stream),
                Transfer::Down(from, to) => sys::cuMemcpyDtoHAsync_v2(to.cast(), from.0, bytes, stream),
                Transfer::Across(from, to) => sys::cuMemcpyDtoDAsync_v2(to.0, from.0, bytes, stream),
            }
        })
    }

    unsafe fn fill(&self, stream: Stream, at: Address, value: u8, bytes: usize) -> Result<(), Failure> {
        self.bind()?;
        // SAFETY: the caller vouches for the memory; the stream belongs to the context.
        check(unsafe { sys::cuMemsetD8Async(at.0, value, bytes, self.stream(stream)) })
    }

    fn function(&self, kernel: KernelId) -> Result<Function, Failure> {
        self.bind()?;
        let mut loaded = self.loaded();
        if let Some(function) = loaded.functions.get(&kernel.0) {
            return Ok(*function);
        }
        let wanted = kernel.kernel();
        let (module, image) = self.module(&mut loaded, wanted.file)?;
        let entry = image.entries.iter().find(|(name, _)| *name == wanted.name);
        let missing = || Failure::new(format!("kernels/{}.cu was built in without {}", wanted.file, wanted.name));
        let entry = CString::new(entry.ok_or_else(missing)?.1).map_err(|_| missing())?;
        let mut function = null_mut();
        // SAFETY: a loaded module and a string; it writes one handle, which lives as long as the module.
        check(unsafe { sys::cuModuleGetFunction(&mut function, module, entry.as_ptr()) })?;

        use sys::CUfunction_attribute_enum as A;
        let mut fixed = 0;
        // Without this a block gets at most 48 KiB. How much it really gets is said at each launch.
        // SAFETY: a function of the module; one call writes a number, the other takes one.
        unsafe {
            check(sys::cuFuncGetAttribute(&mut fixed, A::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, function))?;
            let most = self.shared.saturating_sub(fixed).max(0);
            check(sys::cuFuncSetAttribute(function, A::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, most))?;
        }
        let function = Function(function.expose_provenance() as u64);
        loaded.functions.insert(kernel.0, function);
        Ok(function)
    }

    unsafe fn launch(
        &self,
        stream: Stream,
        function: Function,
        launch: &Launch,
        arguments: &[Argument],
    ) -> Result<(), Failure> {
        self.bind()?;
        let mut parameters = [null_mut::<c_void>(); PARAMETERS];
        if arguments.len() > PARAMETERS {
            return Err(Failure::new(format!("a kernel with {} parameters; at most {PARAMETERS}", arguments.len())));
        }
        for (parameter, argument) in parameters.iter_mut().zip(arguments) {
            *parameter = argument.at.cast_mut(); // the driver only reads
        }
        let (Launch { grid, block, shared }, stream) = (launch, self.stream(stream));
        // SAFETY: the function came from `function`; the caller vouches for the arguments and for what they lead to.
        let code = unsafe {
            sys::cuLaunchKernel(
                std::ptr::with_exposed_provenance_mut(function.0 as usize),
                grid[0],
                grid[1],
                grid[2],
                block[0],
                block[1],
                block[2],
                *shared,
                stream,
                parameters.as_mut_ptr(),
                null_mut(),
            )
        };
        check(code).map_err(|f| Failure { message: format!("{} at a launch of {launch}", f.message), ..f })
    }

    fn event(&self) -> Result<Event, Failure> {
        self.bind()?;
        let mut event: sys::CUevent = null_mut();
        // SAFETY: the context is current; it writes one handle.
        check(unsafe { sys::cuEventCreate(&mut event, sys::CUevent_flags_enum::CU_EVENT_DISABLE_TIMING as u32) })?;
        Ok(Event(event.expose_provenance() as u64))
    }

    fn record(&self, event: Event, stream: Stream) -> Result<(), Failure> {
        self.bind()?;
        // SAFETY: an event of this driver, and a stream of the context.
        check(unsafe { sys::cuEventRecord(raw(event), self.stream(stream)) })
    }

    fn wait(&self, stream: Stream, event: Event) -> Result<(), Failure> {
        self.bind()?;
        // SAFETY: as above.
        check(unsafe { sys::cuStreamWaitEvent(self.stream(stream), raw(event), 0) })
    }

    fn synchronize(&self, event: Event) -> Result<(), Failure> {
        self.bind()?;
        // SAFETY: an event of this driver.
        check(unsafe { sys::cuEventSynchronize(raw(event)) })
    }

    fn is_done(&self, event: Event) -> Result<bool, Failure> {
        self.bind()?;
        // SAFETY: an event of this driver.
        match unsafe { sys::cuEventQuery(raw(event)) } {
            CUresult::CUDA_ERROR_NOT_READY => Ok(false),
            code => check(code).map(|()| true),
        }
    }

    fn destroy(&self, event: Event) {
        if self.bind().is_ok() {
            // SAFETY: an event of this driver; its owner gives it back.
            unsafe { sys::cuEventDestroy_v2(raw(event)) };
        }
    }

    fn capture_begin(&self) -> Result<(), Failure> {
        self.bind()?;
        // Other threads may allocate and copy as they like while this one captures.
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: a stream of the context, to which no other work is given.
        check(unsafe { sys::cuStreamBeginCapture_v2(self.capture, mode) })
    }

    fn capture_end(&self) -> Result<Graph, Failure> {
        self.bind()?;
        let (mut graph, mut ready) = (null_mut(), null_mut());
        // SAFETY: the stream captures, or the driver says that it doesn't; it writes one handle.
        check(unsafe { sys::cuStreamEndCapture(self.capture, &mut graph) })?;
        // SAFETY: a graph of this driver, which is given back once; what is made of it has all that it needs.
        unsafe {
            let made = check(sys::cuGraphInstantiateWithFlags(&mut ready, graph, 0));
            sys::cuGraphDestroy(graph);
            made?;
        }
        Ok(Graph(ready.expose_provenance() as u64))
    }

    unsafe fn replay(&self, graph: Graph) -> Result<(), Failure> {
        self.bind()?;
        // SAFETY: a graph of this driver; the caller vouches for the memory that its work leads to.
        check(unsafe { sys::cuGraphLaunch(std::ptr::with_exposed_provenance_mut(graph.0 as usize), self.compute) })
    }

    fn forget(&self, graph: Graph) {
        if self.bind().is_ok() {
            // SAFETY: a graph of this driver; its owner gives it back.
            unsafe { sys::cuGraphExecDestroy(std::ptr::with_exposed_provenance_mut(graph.0 as usize)) };
        }
    }
}

fn raw(event: Event) -> sys::CUevent {
    std::ptr::with_exposed_provenance_mut(event.0 as usize)
}

impl Drop for Nvidia {
    fn drop(&mut self) {
        if self.context.is_null() {
            return;
        }
        let modules = std::mem::take(&mut self.loaded().modules);
        // Failures here concern nobody any more.
        // SAFETY: these handles were made by this value and are given back once; null ones were not made.
        unsafe {
            if self.bind().is_ok() {
                for (module, _) in modules.into_values() {
                    sys::cuModuleUnload(module);
                }
                if !self.allocated.is_null() {
                    sys::cuEventDestroy_v2(self.allocated);
                }
                for stream in [self.compute, self.copy, self.capture].into_iter().filter(|stream| !stream.is_null()) {
                    sys::cuStreamDestroy_v2(stream);
                }
            }
            sys::cuDevicePrimaryCtxRelease_v2(self.device);
        }
    }
}

impl fmt::Debug for Nvidia {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nvidia").field("description", &self.description).finish_non_exhaustive()
    }
}
