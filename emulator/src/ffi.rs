//! The engine's C functions and the structs that they take: the Rust side of `engine.hh`.

use std::ffi::{c_char, c_int, c_void};

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Finding {
    pub kind: u32,
    pub space: u32,
    pub access: u32,
    pub size: u32,
    pub count: u64,
    pub pc: u64,
    pub other_pc: u64,
    pub address: u64,
    pub region: u64,
    pub region_size: u64,
    pub offset: i64,
    pub thread: [u32; 3],
    pub block: [u32; 3],
    pub other_thread: [u32; 3],
    pub other_block: [u32; 3],
    pub other_access: u32,
    pub op: u32,
    pub mask: u32,
    pub pad: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Region {
    pub base: u64,
    pub size: u64,
    pub written: *mut u64,
    pub known: u32,
    pub freed: u32,
}

#[repr(C)]
pub(crate) struct Launch {
    pub kernel: u32,
    pub check: u32,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared: u32,
    pub order: u32,
    pub late: u32,
    pub pad: u32,
    pub seed: u64,
    pub args: *mut *mut c_void,
    pub regions: *const Region,
    pub region_count: u64,
    pub arrays: *const Region,
    pub array_count: u64,
}

#[repr(C)]
pub(crate) struct Report {
    pub blocks: u64,
    pub threads: u64,
    pub barriers: u64,
    pub collectives: u64,
    pub copies: u64,
    pub mma: u64,
    pub shared_used: u64,
    pub static_used: u64,
    pub global_read: u64,
    pub global_written: u64,
    pub finding_count: u64,
    pub findings: *const Finding,
}

/// A launch under way, the engine's.
#[repr(C)]
pub(crate) struct Running {
    _private: [u8; 0],
}

unsafe extern "C" {
    pub(crate) fn emu_kernel_count() -> usize;
    pub(crate) fn emu_kernel(
        i: usize,
        unit: *mut *const c_char,
        name: *mut *const c_char,
        checked: *mut u32,
        entry: *mut *const c_void,
        sizes: *mut *const usize,
        n: *mut usize,
    );
    pub(crate) fn emu_layout_count() -> usize;
    pub(crate) fn emu_layout(
        i: usize,
        unit: *mut *const c_char,
        name: *mut *const c_char,
        size: *mut usize,
        align: *mut usize,
        fields: *mut *const c_char,
        offsets: *mut *const usize,
        n: *mut usize,
    );
    pub(crate) fn emu_begin(wish: *const Launch) -> *mut Running;
    pub(crate) fn emu_work(launch: *mut Running, budget_ns: u64) -> c_int;
    pub(crate) fn emu_report_of(launch: *mut Running, report: *mut Report);
    pub(crate) fn emu_end(launch: *mut Running);
}
