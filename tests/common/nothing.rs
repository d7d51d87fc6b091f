//! A device that computes nothing: every kernel is taken for done, every number that is read is 0. It shows what whole networks ask a
//! driver for, memory above all, in a second instead of a day.

use onecycle::Device;
use onecycle::device::cuda::Gpu;
use onecycle::device::cuda::driver::{
    Address, Argument, Description, Driver, Event, Failure, Function, Graph, Launch, Stream, Transfer,
};
use onecycle::device::cuda::kernels::KernelId;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What the device was asked for.
#[derive(Debug, Default)]
pub struct Asked {
    pub calls: AtomicU64,
    pub replays: AtomicU64,
    /// Bytes that are allocated now, and the most that ever were.
    pub bytes: AtomicU64,
    pub peak: AtomicU64,
    next: AtomicU64,
}

#[derive(Debug)]
struct Nothing(Description, Arc<Asked>);

pub fn device() -> (Device, Arc<Asked>) {
    let description = Description {
        name: "nothing".into(),
        capability: (9, 0),
        driver: String::new(),
        caches: true,
        label: "nothing".into(),
    };
    let asked = Arc::new(Asked { next: AtomicU64::new(256), ..Asked::default() });
    (Device::Cuda(Gpu::with_driver(Box::new(Nothing(description, asked.clone())))), asked)
}

impl Nothing {
    fn called(&self) -> Result<(), Failure> {
        self.1.calls.fetch_add(1, Relaxed);
        Ok(())
    }
}

impl Driver for Nothing {
    fn description(&self) -> &Description {
        &self.0
    }

    fn memory(&self) -> Result<(usize, usize), Failure> {
        Ok((1 << 40, 1 << 40))
    }

    fn allocate(&self, bytes: usize) -> Result<Address, Failure> {
        let now = self.1.bytes.fetch_add(bytes as u64, Relaxed) + bytes as u64;
        self.1.peak.fetch_max(now, Relaxed);
        Ok(Address(self.1.next.fetch_add(bytes.next_multiple_of(256) as u64, Relaxed)))
    }

    unsafe fn free(&self, _: Address, bytes: usize) {
        self.1.bytes.fetch_sub(bytes as u64, Relaxed);
    }

    fn allocate_pinned(&self, bytes: usize) -> Result<NonNull<u8>, Failure> {
        Ok(NonNull::from(Box::leak(vec![0u8; bytes].into_boxed_slice())).cast())
    }

    unsafe fn free_pinned(&self, at: NonNull<u8>, bytes: usize) {
        // SAFETY: `allocate_pinned` made it from a box of this size.
        drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(at.as_ptr(), bytes)) });
    }

    unsafe fn copy(&self, _: Stream, _: Transfer, _: usize) -> Result<(), Failure> {
        self.called()
    }

    unsafe fn fill(&self, _: Stream, _: Address, _: u8, _: usize) -> Result<(), Failure> {
        self.called()
    }

    fn function(&self, kernel: KernelId) -> Result<Function, Failure> {
        Ok(Function(KernelId::all().position(|k| k == kernel).unwrap() as u64))
    }

    unsafe fn launch(&self, _: Stream, _: Function, _: &Launch, _: &[Argument]) -> Result<(), Failure> {
        self.called()
    }

    fn event(&self) -> Result<Event, Failure> {
        Ok(Event(0))
    }

    fn record(&self, _: Event, _: Stream) -> Result<(), Failure> {
        Ok(())
    }

    fn wait(&self, _: Stream, _: Event) -> Result<(), Failure> {
        Ok(())
    }

    fn synchronize(&self, _: Event) -> Result<(), Failure> {
        Ok(())
    }

    fn is_done(&self, _: Event) -> Result<bool, Failure> {
        Ok(true)
    }

    fn destroy(&self, _: Event) {}

    fn capture_begin(&self) -> Result<(), Failure> {
        Ok(())
    }

    fn capture_end(&self) -> Result<Graph, Failure> {
        Ok(Graph(0))
    }

    unsafe fn replay(&self, _: Graph) -> Result<(), Failure> {
        self.1.replays.fetch_add(1, Relaxed);
        Ok(())
    }

    fn forget(&self, _: Graph) {}
}
