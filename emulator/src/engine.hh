// What the engine and the checker share, and the C functions that src/ffi.rs declares.

#pragma once
#include "../include/engine.h"
#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t i32;
typedef int64_t i64;

const u32 MAX_THREADS = 1024;
const u32 WARP = 32;
const u32 ALL = 0xffffffffu;
const u32 MAX_SHARED = 227 * 1024;
const u32 RED_ZONE = 256; // bytes on each side of a buffer (memory.rs) that belong to nobody

// ---------------------------------------------------------------------------------------------- what Rust passes and gets
// The numbers are those of `FindingKind` and `Space` in findings.rs.
enum FindingKind : u32 { RACE, OUT_OF_BOUNDS, USE_AFTER_FREE, MISALIGNED, UNINITIALISED, COPY_UNDER_WAY, DIVERGENT_BARRIER, DEADLOCK, BAD_MASK };
enum Space : u32 { GLOBAL, DYNAMIC_SHARED, STATIC_SHARED, NOWHERE };
enum Access : u32 { READ, WRITE, ATOMIC, COPY };
enum Op : u32 { RUNNING, BARRIER, SYNCWARP, SHUFFLE, BALLOT, REDUCE, LDMATRIX, LDMATRIX_TRANS, MMA_BF16, MMA_F16, MMA_TF32, EXITED };

struct Finding {
    u32 kind, space, access, size;
    u64 count;
    u64 pc, other_pc;
    u64 address;
    u64 region; // index of the buffer or the static array
    u64 region_size;
    i64 offset;
    u32 thread[3], block[3];
    u32 other_thread[3], other_block[3];
    u32 other_access, op;
    u32 mask, pad;
};

// A buffer of the emulated device, or a static shared array.
struct EmuRegion {
    u64 base, size;
    u64* written; // one bit a byte; null for shared memory
    u32 known;    // what lies in it may have been written unseen: nothing is uninitialised
    u32 freed;
};

struct EmuLaunch {
    u32 kernel, check;
    u32 grid[3], block[3];
    u32 shared;
    u32 order; // 0 forward, 1 reverse, 2 shuffled
    u32 late, pad;
    u64 seed;
    void** args;
    const EmuRegion* regions; // sorted by base; only when `check`
    u64 region_count;
    const EmuRegion* arrays; // static shared arrays of the kernel's file: `base` counts from emu_tls_anchor
    u64 array_count;
};

struct EmuReport {
    u64 blocks, threads, barriers, collectives, copies, mma;
    u64 shared_used, static_used, global_read, global_written;
    u64 finding_count;
    const Finding* findings;
};

// ---------------------------------------------------------------------------------------------- fibers
struct Checker;
struct ShadowPages;
struct Launch;

struct Copy {
    u8* to;
    const u8* from;
    u32 valid, group;
    void* pc;
};

// One CUDA thread. What a switch touches fills the first cache line.
struct alignas(64) Fiber {
    void* sp; // where it was left
    // Where it waits, for what.
    void* pc;
    void* slot;
    Op op;
    int line;
    u32 mask;
    u32 warp, lane;
    u32 position; // its place in the order
    u32 x, y, z;
    bool fresh;  // not started in this block
    bool fenced; // for the checker: __threadfence was its last word
    u8* stack;   // the top of its stack
    u32 thread;
    // Asynchronous copies under way, and how many groups were closed.
    u32 committed;
    std::vector<Copy> copies;
    u64 stamp; // the checker's
};

struct Warp {
    u32 alive;   // lanes that have not returned
    u32 waiting; // lanes inside a collective
    Fiber* at_barrier; // the first lane that came to the present barrier
    Fiber* lanes[WARP];
    // The checker's clocks: see checker.cc.
    u32 clock[WARP], full_at[WARP];
    u32 partial; // `seen` holds something
    u32 seen[WARP][WARP];
};

enum Status { DONE, DEADLOCKED, ABORTED };

// What one thread of the operating system needs to run blocks. Kept in a pool between launches.
struct Worker {
    Launch* launch;
    Fiber* self;
    void* main_sp;
    Status status;
    u32 threads, warp_count;
    u32 alive, arrived, arrived_true;
    int barrier_count_result;
    u32 words;
    u32 ready_words;                                       // which words of `ready` aren't 0
    u64 ready[MAX_THREADS / 64], living[MAX_THREADS / 64]; // by position
    u16 order[MAX_THREADS];                                // position -> thread
    u32 block[3], block_size[3], grid[3];
    u64 linear_block;
    u64 random;
    bool late, keeps_copies;
    u8* shared;
    u8* stacks;
    size_t stacks_size;
    u32 protected_stacks;
    Checker* checker;
    ShadowPages* spare_pages; // the checker's, kept for the next launch
    u64 barriers, collectives, copies, mma, thread_count, block_count, shared_used;
    Fiber fibers[MAX_THREADS];
    Warp warps[MAX_THREADS / WARP];
};

struct Launch {
    EmuLaunch wish;
    void* kernel;
    EmuCall call;
    u64 total;
    u64 step, shift; // the order of blocks: i -> (i * step + shift) % total
    std::atomic<u64> next;
    std::atomic<bool> stop;
    std::mutex lock; // guards what follows
    EmuReport report;
    std::vector<Finding> findings;
    std::unordered_map<u64, size_t> finding_at;
};

extern __thread Worker* emu_worker;

// Counts a finding; the first at its place is kept whole. True when it is new.
bool emu_report(Launch& launch, const Finding& finding);
// A finding about `f` at `pc`, still without its subject.
Finding emu_finding(const Worker& w, const Fiber& f, FindingKind kind, void* pc);
// Ends the launch from within a fiber.
[[noreturn]] void emu_abort(Worker& w);
u8* emu_tls_base();

// ---------------------------------------------------------------------------------------------- checker.cc
Checker* emu_checker_new(Launch& launch, Worker& w);
void emu_checker_free(Checker* c, EmuReport& report);
void emu_checker_block(Checker& c, Worker& w);
void emu_checker_barrier(Checker& c, Worker& w);
void emu_checker_warp(Checker& c, Worker& w, Warp& p, u32 lanes);
// False: the access would do harm.
bool emu_checker_access(Checker& c, Worker& w, Fiber& f, const void* at, u64 size, Access access, void* pc);
void emu_checker_copied(Checker& c, Worker& w, Fiber& f, const Copy& copy);
