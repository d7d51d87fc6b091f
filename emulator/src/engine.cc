// The engine: runs the blocks of a launch, one fiber for each CUDA thread.
//
// A fiber is a stack and a saved stack pointer. Switching pushes six registers, swaps the pointer and pops six: it needs neither
// the kernel nor a signal mask, which is what makes ucontext an order of magnitude slower. Fibers of a block share one thread of
// the operating system and run until they have to wait; a thread that never waits hands its stack, warm in the cache, to the next.
//
// Who may run is a bit set over *positions* in the order of this launch (forward, reverse, shuffled), and whatever completes sets
// the bits of those that waited for it. So nobody polls, and an empty set with threads alive is a deadlock.
//
// An operation of a warp is computed once, by the last lane that arrives. Each lane leaves a pointer to its operands, which lie
// on its own stack; the last one reads and writes them all, and the others find their results when they wake.
//
// Shared memory is one area per worker, filled with 0xFF (NaN) before each block. Static `__shared__` arrays are thread-local
// variables of the kernels' files (emulator.h); symbols.rs finds them in the program's symbol table, so that they can be filled,
// too.
//
// Asynchronous copies are made at their issue, or (late) when a wait makes them certain, the destination holding 0xFF until then.

#include "engine.hh"
#include <ctime>
#include <sys/mman.h>

const size_t STACK = 64 * 1024;
const size_t GUARD = 16 * 1024; // a page, whatever its size is (16 KiB on Apple's)

__thread Worker* emu_worker;
extern "C" __thread u64 emu_tls_anchor;
__thread u64 emu_tls_anchor = 0;

u8* emu_tls_base() { return (u8*)&emu_tls_anchor; }

// ---------------------------------------------------------------------------------------------- the switch
extern "C" void emu_switch(void** save, void* load) asm("emu_switch");
extern "C" void emu_start() asm("emu_start");
extern "C" [[noreturn]] void emu_fiber_main() asm("emu_fiber_main");

#if defined(__x86_64__)
const size_t FRAME = 9; // words that a new stack starts with
asm(R"(
.text
.globl emu_switch
emu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.globl emu_start
emu_start:
    xorl %ebp, %ebp
    call emu_fiber_main
    ud2
)");
static void* first_frame(u8* top)
{
    // Six registers, the return address, and two words: the stack is 16-aligned where `emu_start` begins.
    void** sp = (void**)top - FRAME;
    for (size_t i = 0; i < FRAME; i++)
        sp[i] = nullptr;
    sp[6] = (void*)emu_start;
    return sp;
}
#elif defined(__aarch64__)
const size_t FRAME = 20;
asm(R"(
.text
.globl emu_switch
.p2align 2
emu_switch:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x2, sp
    str x2, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
.globl emu_start
.p2align 2
emu_start:
    mov x29, xzr
    bl emu_fiber_main
    brk #1
)");
static void* first_frame(u8* top)
{
    void** sp = (void**)top - FRAME;
    for (size_t i = 0; i < FRAME; i++)
        sp[i] = nullptr;
    sp[11] = (void*)emu_start; // x30
    return sp;
}
#else
#error "no fiber switch for this processor"
#endif

// ---------------------------------------------------------------------------------------------- workers
static std::mutex pool_lock;
static std::vector<Worker*>& pool()
{
    static std::vector<Worker*>* p = new std::vector<Worker*>; // never destroyed: threads may outlive static objects
    return *p;
}

static u8* map(size_t bytes)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS;
#ifdef MAP_NORESERVE
    flags |= MAP_NORESERVE;
#endif
    void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    return p == MAP_FAILED ? nullptr : (u8*)p;
}

static Worker* take_worker()
{
    {
        std::lock_guard<std::mutex> hold(pool_lock);
        if (!pool().empty()) {
            Worker* w = pool().back();
            pool().pop_back();
            return w;
        }
    }
    Worker* w = new Worker();
    w->stacks_size = (STACK + GUARD) * MAX_THREADS;
    w->stacks = map(w->stacks_size);
    // Room behind the largest block's shared memory, so that a small step too far is seen and not fatal.
    w->shared = map(MAX_SHARED + 64 * 1024);
    if (!w->stacks || !w->shared) {
        if (w->stacks)
            munmap(w->stacks, w->stacks_size);
        delete w;
        return nullptr;
    }
    return w;
}

static void give_back(Worker* w)
{
    std::lock_guard<std::mutex> hold(pool_lock);
    pool().push_back(w);
}

static u64 random(Worker& w)
{
    w.random ^= w.random << 13;
    w.random ^= w.random >> 7;
    w.random ^= w.random << 17;
    return w.random;
}

// ---------------------------------------------------------------------------------------------- findings
bool emu_report(Launch& launch, const Finding& finding)
{
    std::lock_guard<std::mutex> hold(launch.lock);
    const u64 key = finding.pc * 16 + finding.kind;
    auto [at, is_new] = launch.finding_at.try_emplace(key, launch.findings.size());
    if (is_new)
        launch.findings.push_back(finding);
    else
        launch.findings[at->second].count += finding.count;
    return is_new;
}

Finding emu_finding(const Worker& w, const Fiber& f, FindingKind kind, void* pc)
{
    Finding r = {};
    r.kind = kind;
    r.space = NOWHERE;
    r.count = 1;
    r.pc = (u64)pc;
    r.thread[0] = f.x, r.thread[1] = f.y, r.thread[2] = f.z;
    for (u32 i = 0; i < 3; i++)
        r.block[i] = w.block[i];
    return r;
}

// ---------------------------------------------------------------------------------------------- the scheduler
static void set_ready(Worker& w, const Fiber& f)
{
    w.ready[f.position / 64] |= 1ull << f.position % 64;
    w.ready_words |= 1u << f.position / 64;
}

static void all_ready(Worker& w)
{
    w.ready_words = 0;
    for (u32 i = 0; i < w.words; i++) {
        w.ready[i] = w.living[i];
        w.ready_words |= (u32)(w.living[i] != 0) << i;
    }
}

// The first fiber in the order that may run; it leaves the set. So the first warp runs as far ahead of the others as barriers
// let it, which shows more than if all advanced in step: of a GEMM without its second barrier, step by step hides everything.
static inline Fiber* pick(Worker& w)
{
    if (!w.ready_words)
        return nullptr;
    const u32 word = (u32)__builtin_ctz(w.ready_words);
    const u64 bits = w.ready[word];
    w.ready[word] = bits & (bits - 1);
    if (!w.ready[word])
        w.ready_words &= w.ready_words - 1;
    return &w.fibers[w.order[word * 64 + (u32)__builtin_ctzll(bits)]];
}

static void leave(Worker& w, Status status)
{
    w.status = status;
    void* unused;
    emu_switch(&unused, w.main_sp);
}

void emu_abort(Worker& w)
{
    w.launch->stop = true;
    leave(w, ABORTED);
    __builtin_unreachable();
}

static void* entry_of(Fiber& f)
{
    if (!f.fresh)
        return f.sp;
    f.fresh = false;
    return first_frame(f.stack);
}

// The running fiber waits until somebody sets its bit.
static inline __attribute__((always_inline)) void park(Worker& w)
{
    Fiber* f = w.self;
    Fiber* next = pick(w);
    if (next == f)
        return;
    if (!next) {
        leave(w, DEADLOCKED);
        __builtin_unreachable();
    }
    w.self = next;
    emu_switch(&f->sp, entry_of(*next));
}

// A new order for threads that all may run.
static void shuffle_order(Worker& w)
{
    for (u32 i = w.threads - 1; i > 0; i--)
        std::swap(w.order[i], w.order[random(w) % (i + 1)]);
    memset(w.living, 0, sizeof w.living);
    for (u32 i = 0; i < w.threads; i++) {
        Fiber& f = w.fibers[w.order[i]];
        f.position = i;
        if (f.op != EXITED)
            w.living[i / 64] |= 1ull << i % 64;
    }
}

// All threads that are left have arrived at the barrier: they go on, from the first in the order.
static __attribute__((noinline)) void release_barrier(Worker& w)
{
    w.arrived = 0;
    w.barrier_count_result = (int)w.arrived_true;
    w.arrived_true = 0;
    w.barriers++;
    if (w.launch->wish.order == 2)
        shuffle_order(w);
    all_ready(w);
    for (u32 i = 0; i < w.warp_count; i++)
        w.warps[i].at_barrier = nullptr;
    if (w.checker)
        emu_checker_barrier(*w.checker, w);
}

static __attribute__((noinline)) void divergent(Worker& w, const Fiber& f, const Fiber& o)
{
    Finding r = emu_finding(w, f, DIVERGENT_BARRIER, f.pc);
    r.other_pc = (u64)o.pc;
    r.other_thread[0] = o.x, r.other_thread[1] = o.y, r.other_thread[2] = o.z;
    memcpy(r.other_block, r.block, sizeof r.block);
    emu_report(*w.launch, r);
}

static inline __attribute__((always_inline)) void barrier(Worker& w, int line, int predicate, void* pc)
{
    Fiber& f = *w.self;
    f.op = BARRIER;
    f.line = line;
    f.pc = pc;
    // The lanes of a warp must come to the same barrier.
    Warp& p = w.warps[f.warp];
    if (!p.at_barrier)
        p.at_barrier = &f;
    else if (p.at_barrier->line != line)
        divergent(w, f, *p.at_barrier);
    w.arrived_true += predicate != 0;
    if (++w.arrived == w.alive)
        release_barrier(w);
    park(w);
    f.op = RUNNING;
}

// ---------------------------------------------------------------------------------------------- collectives of a warp
struct ShuffleSlot {
    u64 in, out;
    u32 mode, operand, width;
};
struct BallotSlot {
    u32 in, out;
};
struct ReduceSlot {
    u32 in, out, mode;
    bool is_signed;
};
struct LdmatrixSlot {
    u32* r;
    const u8* row;
};
struct MmaSlot {
    float* d;
    const u32* a;
    const u32* b;
};

static void finish_shuffle(Warp& p, u32 lanes)
{
    for (u32 l = 0; l < WARP; l++) {
        if (!(lanes >> l & 1))
            continue;
        ShuffleSlot& s = *(ShuffleSlot*)p.lanes[l]->slot;
        const u32 width = s.width - 1, first = l & ~width, last = l | width;
        u32 from = l;
        switch (s.mode) {
        case EMU_INDEX: from = first | (s.operand & width); break;
        case EMU_UP: from = s.operand <= l - first ? l - s.operand : l; break;
        case EMU_DOWN: from = s.operand <= last - l ? l + s.operand : l; break;
        default: from = (l ^ s.operand) <= last ? l ^ s.operand : l; break;
        }
        // What a lane outside of the mask holds is undefined: NaN here.
        s.out = lanes >> from & 1 ? ((ShuffleSlot*)p.lanes[from]->slot)->in : ~0ull;
    }
}

static void finish_ballot(Warp& p, u32 lanes)
{
    u32 all = 0;
    for (u32 l = 0; l < WARP; l++)
        if (lanes >> l & 1)
            all |= ((BallotSlot*)p.lanes[l]->slot)->in << l;
    for (u32 l = 0; l < WARP; l++)
        if (lanes >> l & 1)
            ((BallotSlot*)p.lanes[l]->slot)->out = all;
}

static void finish_reduce(Warp& p, u32 lanes)
{
    bool first = true;
    u32 all = 0;
    for (u32 l = 0; l < WARP; l++) {
        if (!(lanes >> l & 1))
            continue;
        const ReduceSlot& s = *(ReduceSlot*)p.lanes[l]->slot;
        const u32 x = s.in;
        const bool less = s.is_signed ? (i32)x < (i32)all : x < all;
        if (first)
            all = x;
        else
            switch (s.mode) {
            case EMU_ADD: all += x; break;
            case EMU_MIN: all = less ? x : all; break;
            case EMU_MAX: all = less ? all : x; break;
            case EMU_AND: all &= x; break;
            case EMU_OR: all |= x; break;
            default: all ^= x; break;
            }
        first = false;
    }
    for (u32 l = 0; l < WARP; l++)
        if (lanes >> l & 1)
            ((ReduceSlot*)p.lanes[l]->slot)->out = all;
}

static void finish_ldmatrix(Warp& p, bool transposed)
{
    for (u32 i = 0; i < 4; i++) {
        const u8* rows[8];
        for (u32 r = 0; r < 8; r++)
            rows[r] = ((LdmatrixSlot*)p.lanes[i * 8 + r]->slot)->row;
        for (u32 l = 0; l < WARP; l++) {
            u32 value;
            if (transposed) {
                u16 low, high;
                memcpy(&low, rows[l % 4 * 2] + l / 4 * 2, 2);
                memcpy(&high, rows[l % 4 * 2 + 1] + l / 4 * 2, 2);
                value = (u32)low | (u32)high << 16;
            } else
                memcpy(&value, rows[l / 4] + l % 4 * 4, 4);
            ((LdmatrixSlot*)p.lanes[l]->slot)->r[i] = value;
        }
    }
}

static float as_float(u32 bits)
{
    float r;
    memcpy(&r, &bits, 4);
    return r;
}
// As in emulator.h, for finite numbers; the NaN's bits don't matter inside a sum.
static float f16_to_float(u32 x)
{
    const u32 sign = (x & 0x8000) << 16, rest = x & 0x7fff;
    if (rest >= 0x7c00)
        return as_float(sign | 0x7f800000 | (rest & 0x3ff) << 13);
    // 2^112 moves the exponent's bias; numbers below 2^-14 come right as well, because f32 has them in full.
    return as_float(sign | rest << 13) * 0x1p112f;
}

// The products are exact in f32; they are added to d one after the other along k. Wider registers change the time (a quarter of
// a whole GEMM's), not the bits.
typedef float Row __attribute__((vector_size(32)));
static inline __attribute__((always_inline)) void multiply(const float (*a)[16], const Row* b, Row* d)
{
    for (u32 row = 0; row < 16; row++) {
        Row sum = d[row];
        for (u32 k = 0; k < 16; k++)
            sum += a[row][k] * b[k];
        d[row] = sum;
    }
}
static void multiply_anywhere(const float (*a)[16], const Row* b, Row* d) { multiply(a, b, d); }
#ifdef __x86_64__
__attribute__((target("avx2"))) static void multiply_avx2(const float (*a)[16], const Row* b, Row* d) { multiply(a, b, d); }
static const auto multiply_here = __builtin_cpu_supports("avx2") ? multiply_avx2 : multiply_anywhere;
#else
static const auto multiply_here = multiply_anywhere;
#endif

template <bool BF16> static void finish_mma(Warp& p)
{
    float a[16][16];
    Row b[16], d[16];
    auto low = [](u32 x) { return BF16 ? as_float(x << 16) : f16_to_float(x & 0xffff); };
    auto high = [](u32 x) { return BF16 ? as_float(x & 0xffff0000) : f16_to_float(x >> 16); };
    for (u32 l = 0; l < WARP; l++) {
        const MmaSlot& s = *(MmaSlot*)p.lanes[l]->slot;
        const u32 g = l / 4, t = l % 4 * 2;
        for (u32 i = 0; i < 4; i++) {
            const u32 row = g + i % 2 * 8, column = t + i / 2 * 8;
            a[row][column] = low(s.a[i]);
            a[row][column + 1] = high(s.a[i]);
        }
        for (u32 i = 0; i < 2; i++) {
            b[t + i * 8][g] = low(s.b[i]);
            b[t + i * 8 + 1][g] = high(s.b[i]);
            d[g + i * 8][t] = s.d[i * 2];
            d[g + i * 8][t + 1] = s.d[i * 2 + 1];
        }
    }
    multiply_here(a, b, d);
    for (u32 l = 0; l < WARP; l++) {
        const MmaSlot& s = *(MmaSlot*)p.lanes[l]->slot;
        const u32 g = l / 4, t = l % 4 * 2;
        for (u32 i = 0; i < 2; i++) {
            s.d[i * 2] = d[g + i * 8][t];
            s.d[i * 2 + 1] = d[g + i * 8][t + 1];
        }
    }
}

// As above for tf32: 8 k's, of operands whose low 13 bits the tensor cores don't look at.
static void finish_mma_tf32(Warp& p)
{
    float a[16][8], b[8][8], d[16][8];
    auto cut = [](u32 x) { return as_float(x & 0xffffe000); };
    for (u32 l = 0; l < WARP; l++) {
        const MmaSlot& s = *(MmaSlot*)p.lanes[l]->slot;
        const u32 g = l / 4, t = l % 4;
        for (u32 i = 0; i < 4; i++) {
            a[g + i % 2 * 8][t + i / 2 * 4] = cut(s.a[i]);
            d[g + i / 2 * 8][t * 2 + i % 2] = s.d[i];
        }
        for (u32 i = 0; i < 2; i++)
            b[t + i * 4][g] = cut(s.b[i]);
    }
    for (u32 row = 0; row < 16; row++)
        for (u32 k = 0; k < 8; k++)
            for (u32 column = 0; column < 8; column++)
                d[row][column] += a[row][k] * b[k][column];
    for (u32 l = 0; l < WARP; l++) {
        const MmaSlot& s = *(MmaSlot*)p.lanes[l]->slot;
        for (u32 i = 0; i < 4; i++)
            s.d[i] = d[l / 4 + i / 2 * 8][l % 4 * 2 + i % 2];
    }
}

// All lanes that `f` waits for are inside the same operation with the same mask. Matrix operations are `.aligned`: there it
// must be the same line, too, and no lane may be missing.
static inline bool all_arrived(const Warp& p, const Fiber& f, u32 need)
{
    if ((p.waiting & need) != need)
        return false;
    const bool aligned = f.op >= LDMATRIX;
    if (aligned && need != ALL)
        return false;
    for (u32 l = 0; l < WARP; l++) {
        const Fiber* o = p.lanes[l];
        if ((need >> l & 1) && (o->op != f.op || o->mask != f.mask || (aligned && o->line != f.line)))
            return false;
    }
    return true;
}

static __attribute__((noinline)) void complete(Worker& w, Warp& p, const Fiber& f, u32 lanes)
{
    w.collectives++;
    switch (f.op) {
    case SHUFFLE: finish_shuffle(p, lanes); break;
    case BALLOT: finish_ballot(p, lanes); break;
    case REDUCE: finish_reduce(p, lanes); break;
    case LDMATRIX:
    case LDMATRIX_TRANS:
        if (w.checker)
            for (u32 l = 0; l < WARP; l++) {
                Fiber& o = *p.lanes[l];
                if (!emu_checker_access(*w.checker, w, o, ((LdmatrixSlot*)o.slot)->row, 16, READ, o.pc))
                    emu_abort(w);
            }
        finish_ldmatrix(p, f.op == LDMATRIX_TRANS);
        break;
    case MMA_BF16:
        w.mma++;
        finish_mma<true>(p);
        break;
    case MMA_F16:
        w.mma++;
        finish_mma<false>(p);
        break;
    case MMA_TF32:
        w.mma++;
        finish_mma_tf32(p);
        break;
    default: break;
    }
    p.waiting &= ~lanes;
    for (u32 l = 0; l < WARP; l++)
        if ((lanes >> l & 1) && p.lanes[l] != w.self)
            set_ready(w, *p.lanes[l]);
    if (w.checker)
        emu_checker_warp(*w.checker, w, p, lanes);
}

[[noreturn]] static __attribute__((noinline)) void bad_mask(Worker& w, const Fiber& f)
{
    Finding r = emu_finding(w, f, BAD_MASK, f.pc);
    r.op = f.op;
    r.mask = f.mask;
    emu_report(*w.launch, r);
    emu_abort(w);
}

static inline __attribute__((always_inline)) void collective(Op op, u32 mask, void* slot, int line, void* pc)
{
    Worker& w = *emu_worker;
    Fiber& f = *w.self;
    Warp& p = w.warps[f.warp];
    f.op = op;
    f.mask = mask;
    f.slot = slot;
    f.line = line;
    f.pc = pc;
    if (!(mask >> f.lane & 1))
        bad_mask(w, f);
    p.waiting |= 1u << f.lane;
    const u32 need = mask & p.alive;
    if (all_arrived(p, f, need))
        complete(w, p, f, need);
    else
        park(w);
    f.op = RUNNING;
}

// The address that the kernel's call returns to, less one: inside the call.
#define HERE ((void*)((u64)__builtin_return_address(0) - 1))

extern "C" {

uint32_t emu_thread_x() { return emu_worker->self->x; }
uint32_t emu_thread_y() { return emu_worker->self->y; }
uint32_t emu_thread_z() { return emu_worker->self->z; }
uint32_t emu_block_x() { return emu_worker->block[0]; }
uint32_t emu_block_y() { return emu_worker->block[1]; }
uint32_t emu_block_z() { return emu_worker->block[2]; }
uint32_t emu_block_size_x() { return emu_worker->block_size[0]; }
uint32_t emu_block_size_y() { return emu_worker->block_size[1]; }
uint32_t emu_block_size_z() { return emu_worker->block_size[2]; }
uint32_t emu_grid_x() { return emu_worker->grid[0]; }
uint32_t emu_grid_y() { return emu_worker->grid[1]; }
uint32_t emu_grid_z() { return emu_worker->grid[2]; }
uint8_t* emu_shared() { return emu_worker->shared; }

void emu_syncthreads(int line) { barrier(*emu_worker, line, 0, HERE); }
int emu_syncthreads_count(int predicate, int line)
{
    barrier(*emu_worker, line, predicate, HERE);
    // Nobody can reach the next barrier's end before all have left this one.
    return emu_worker->barrier_count_result;
}
void emu_syncwarp(uint32_t mask) { collective(SYNCWARP, mask, nullptr, 0, HERE); }
void emu_threadfence() { emu_worker->self->fenced = true; }

uint64_t emu_shuffle(uint32_t mask, uint64_t value, uint32_t mode, uint32_t operand, uint32_t width)
{
    ShuffleSlot s = {value, 0, mode, operand, width};
    collective(SHUFFLE, mask, &s, 0, HERE);
    return s.out;
}
uint32_t emu_ballot(uint32_t mask, int predicate)
{
    BallotSlot s = {(u32)predicate, 0};
    collective(BALLOT, mask, &s, 0, HERE);
    return s.out;
}
uint32_t emu_reduce(uint32_t mask, uint32_t value, uint32_t mode, int is_signed)
{
    ReduceSlot s = {value, 0, mode, is_signed != 0};
    collective(REDUCE, mask, &s, 0, HERE);
    return s.out;
}

static void misaligned(const void* at, u32 size, Access access, void* pc)
{
    Worker& w = *emu_worker;
    Finding r = emu_finding(w, *w.self, MISALIGNED, pc);
    r.access = access;
    r.size = size;
    r.address = (u64)at;
    emu_report(*w.launch, r);
    emu_abort(w);
}

void emu_ldmatrix_x4(uint32_t* r, const void* row, int transposed, int line)
{
    LdmatrixSlot s = {r, (const u8*)row};
    if ((u64)row % 16)
        misaligned(row, 16, READ, HERE);
    collective(transposed ? LDMATRIX_TRANS : LDMATRIX, ALL, &s, line, HERE);
}
void emu_mma_m16n8k16(float* d, const uint32_t* a, const uint32_t* b, int is_bf16, int line)
{
    MmaSlot s = {d, a, b};
    collective(is_bf16 ? MMA_BF16 : MMA_F16, ALL, &s, line, HERE);
}

void emu_mma_m16n8k8_tf32(float* d, const uint32_t* a, const uint32_t* b, int line)
{
    MmaSlot s = {d, a, b};
    collective(MMA_TF32, ALL, &s, line, HERE);
}

// ---------------------------------------------------------------------------------------------- asynchronous copies
static void perform(const Copy& c)
{
    memcpy(c.to, c.from, c.valid);
    memset(c.to + c.valid, 0, 16 - c.valid);
}

void emu_cp_async16(void* shared, const void* global, uint32_t valid)
{
    Worker& w = *emu_worker;
    Fiber& f = *w.self;
    void* pc = HERE;
    if ((u64)shared % 16)
        misaligned(shared, 16, COPY, pc);
    if ((u64)global % 16)
        misaligned(global, 16, READ, pc);
    if (valid > 16)
        valid = 16;
    w.copies++;
    if (w.checker) {
        if (valid && !emu_checker_access(*w.checker, w, f, global, valid, READ, pc))
            valid = 0;
        if (!emu_checker_access(*w.checker, w, f, shared, 16, COPY, pc))
            emu_abort(w);
    }
    const Copy copy = {(u8*)shared, (const u8*)global, valid, f.committed, pc};
    if (w.keeps_copies)
        f.copies.push_back(copy);
    if (w.late)
        memset(shared, 0xff, 16);
    else
        perform(copy);
}

void emu_cp_async_commit() { emu_worker->self->committed++; }

void emu_cp_async_wait(uint32_t groups_left)
{
    Worker& w = *emu_worker;
    Fiber& f = *w.self;
    if (!w.keeps_copies)
        return;
    size_t done = 0;
    while (done < f.copies.size() && f.copies[done].group + (u64)groups_left < f.committed) {
        if (w.late)
            perform(f.copies[done]);
        if (w.checker)
            emu_checker_copied(*w.checker, w, f, f.copies[done]);
        done++;
    }
    f.copies.erase(f.copies.begin(), f.copies.begin() + (i64)done);
}

// ---------------------------------------------------------------------------------------------- atomics
static void atomic_access(void* p, u32 size, void* pc)
{
    Worker& w = *emu_worker;
    if ((u64)p % size)
        misaligned(p, size, ATOMIC, pc);
    if (w.checker && !emu_checker_access(*w.checker, w, *w.self, p, size, ATOMIC, pc))
        emu_abort(w);
}

} // extern "C"

template <typename U, typename S> static U atomic(void* at, U x, u32 mode, int is_signed)
{
    U* p = (U*)at;
    switch (mode) {
    case EMU_ATOMIC_ADD: return __atomic_fetch_add(p, x, __ATOMIC_SEQ_CST);
    case EMU_ATOMIC_AND: return __atomic_fetch_and(p, x, __ATOMIC_SEQ_CST);
    case EMU_ATOMIC_OR: return __atomic_fetch_or(p, x, __ATOMIC_SEQ_CST);
    case EMU_ATOMIC_XOR: return __atomic_fetch_xor(p, x, __ATOMIC_SEQ_CST);
    case EMU_ATOMIC_EXCH: return __atomic_exchange_n(p, x, __ATOMIC_SEQ_CST);
    default: break;
    }
    U old = __atomic_load_n(p, __ATOMIC_SEQ_CST);
    for (;;) {
        U wish;
        const bool less = is_signed ? (S)x < (S)old : x < old;
        switch (mode) {
        case EMU_ATOMIC_MIN: wish = less ? x : old; break;
        case EMU_ATOMIC_MAX: wish = less ? old : x; break;
        default: wish = old >= x ? 0 : old + 1; break;
        }
        if (__atomic_compare_exchange_n(p, &old, wish, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            return old;
    }
}

extern "C" {

uint32_t emu_atomic32(void* p, uint32_t x, uint32_t mode, int is_signed)
{
    atomic_access(p, 4, HERE);
    return atomic<u32, i32>(p, x, mode, is_signed);
}
uint64_t emu_atomic64(void* p, uint64_t x, uint32_t mode, int is_signed)
{
    atomic_access(p, 8, HERE);
    return atomic<u64, i64>(p, x, mode, is_signed);
}
uint32_t emu_cas32(void* p, uint32_t expected, uint32_t x)
{
    atomic_access(p, 4, HERE);
    __atomic_compare_exchange_n((u32*)p, &expected, x, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    return expected;
}
uint64_t emu_cas64(void* p, uint64_t expected, uint64_t x)
{
    atomic_access(p, 8, HERE);
    __atomic_compare_exchange_n((u64*)p, &expected, x, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    return expected;
}

} // extern "C"

// ---------------------------------------------------------------------------------------------- blocks
// The running thread has returned. Others may have waited for just that.
static Fiber* finish(Worker& w, Fiber& f)
{
    for (const Copy& c : f.copies) {
        if (w.late)
            perform(c);
        if (w.checker)
            emu_checker_copied(*w.checker, w, f, c);
    }
    f.copies.clear();
    f.op = EXITED;
    w.living[f.position / 64] &= ~(1ull << f.position % 64);
    Warp& p = w.warps[f.warp];
    p.alive &= ~(1u << f.lane);
    w.alive--;
    if (w.alive && w.arrived == w.alive)
        release_barrier(w);
    for (u32 l = 0; p.waiting && l < WARP; l++)
        if (p.waiting >> l & 1) {
            const Fiber& o = *p.lanes[l];
            if (all_arrived(p, o, o.mask & p.alive))
                complete(w, p, o, o.mask & p.alive);
        }
    return pick(w);
}

void emu_fiber_main()
{
    Worker& w = *emu_worker;
    for (;;) {
        Fiber* f = w.self;
        w.launch->call(w.launch->kernel, w.launch->wish.args);
        Fiber* next = finish(w, *f);
        if (!next) {
            leave(w, w.alive ? DEADLOCKED : DONE);
            __builtin_unreachable();
        }
        w.self = next;
        if (next->fresh) {
            // It has no frames yet, so it can have this stack, and this loop.
            next->fresh = false;
            std::swap(f->stack, next->stack);
            continue;
        }
        void* unused;
        emu_switch(&unused, next->sp);
        __builtin_unreachable();
    }
}

static void report_deadlock(Worker& w)
{
    for (u32 i = 0; i < w.threads; i++) {
        const Fiber& f = w.fibers[i];
        if (f.op == EXITED)
            continue;
        Finding r = emu_finding(w, f, DEADLOCK, f.pc);
        r.op = f.op;
        r.mask = f.mask;
        emu_report(*w.launch, r);
    }
    w.launch->stop = true;
}

static void run_block(Worker& w, u64 index)
{
    const EmuLaunch& wish = w.launch->wish;
    w.linear_block = index;
    w.block[0] = (u32)(index % wish.grid[0]);
    w.block[1] = (u32)(index / wish.grid[0] % wish.grid[1]);
    w.block[2] = (u32)(index / wish.grid[0] / wish.grid[1]);
    w.alive = w.threads;
    w.arrived = w.arrived_true = 0;
    w.block_count++;
    w.thread_count += w.threads;
    for (u32 i = 0; i < w.threads; i++) {
        Fiber& f = w.fibers[i];
        f.fresh = true;
        f.op = RUNNING;
        f.committed = 0;
        f.fenced = false;
        if (!f.copies.empty())
            f.copies.clear();
    }
    for (u32 i = 0; i < w.warp_count; i++) {
        const u32 lanes = w.threads - i * WARP;
        w.warps[i].alive = lanes >= WARP ? ALL : (1u << lanes) - 1;
        w.warps[i].waiting = 0;
        w.warps[i].at_barrier = nullptr;
    }
    if (wish.order == 2)
        shuffle_order(w);
    for (u32 i = 0; i < w.words; i++) {
        const u32 rest = w.threads - i * 64;
        w.living[i] = rest >= 64 ? ~0ull : (1ull << rest) - 1;
    }
    all_ready(w);
    memset(w.shared, 0xff, wish.shared);
    for (u64 i = 0; i < wish.array_count; i++)
        memset(emu_tls_base() + wish.arrays[i].base, 0xff, wish.arrays[i].size);
    if (w.checker)
        emu_checker_block(*w.checker, w);

    w.self = pick(w);
    emu_switch(&w.main_sp, entry_of(*w.self));
    if (w.status == DEADLOCKED)
        report_deadlock(w);
}

static void prepare(Worker& w, Launch& launch)
{
    const EmuLaunch& wish = launch.wish;
    w.launch = &launch;
    w.threads = wish.block[0] * wish.block[1] * wish.block[2];
    w.warp_count = (w.threads + WARP - 1) / WARP;
    w.words = (w.threads + 63) / 64;
    w.late = wish.late;
    w.keeps_copies = wish.late || wish.check;
    w.random = wish.seed * 0x9E3779B97F4A7C15ull + 0x2545F4914F6CDD1Dull;
    if (!w.random)
        w.random = 1;
    w.barriers = w.collectives = w.copies = w.mma = w.thread_count = w.block_count = w.shared_used = 0;
    for (u32 i = 0; i < 3; i++)
        w.block_size[i] = wish.block[i], w.grid[i] = wish.grid[i];
    for (; w.protected_stacks < w.threads; w.protected_stacks++)
        mprotect(w.stacks + (STACK + GUARD) * w.protected_stacks, GUARD, PROT_NONE);
    for (u32 i = 0; i < w.threads; i++) {
        Fiber& f = w.fibers[i];
        f.thread = i;
        f.x = i % wish.block[0];
        f.y = i / wish.block[0] % wish.block[1];
        f.z = i / wish.block[0] / wish.block[1];
        f.warp = i / WARP;
        f.lane = i % WARP;
        // Equal places of equally aligned stacks would share one set of the first cache: each starts a line lower.
        f.stack = w.stacks + (STACK + GUARD) * (i + 1) - i % 64 * 64;
        w.warps[f.warp].lanes[f.lane] = &f;
        f.position = wish.order == 1 ? w.threads - 1 - i : i;
        w.order[f.position] = (u16)i;
    }
    for (u32 i = w.threads; i < w.warp_count * WARP; i++)
        w.warps[i / WARP].lanes[i % WARP] = nullptr;
    w.checker = wish.check ? emu_checker_new(launch, w) : nullptr;
}

// Bytes of dynamic shared memory up to the last that no longer holds the filling.
static u64 touched(const Worker& w, u32 shared)
{
    while (shared && w.shared[shared - 1] == 0xff)
        shared--;
    return shared;
}

// ---------------------------------------------------------------------------------------------- what Rust calls
struct RegisteredKernel {
    std::string unit, name;
    int checked;
    void* kernel;
    EmuCall call;
    std::vector<size_t> sizes;
};
struct RegisteredLayout {
    std::string unit, name, fields;
    size_t size, align;
    std::vector<size_t> offsets;
};
// Filled before `main`, only read afterwards.
static std::vector<RegisteredKernel>& kernels()
{
    static auto* p = new std::vector<RegisteredKernel>;
    return *p;
}
static std::vector<RegisteredLayout>& layouts()
{
    static auto* p = new std::vector<RegisteredLayout>;
    return *p;
}

static u64 gcd(u64 a, u64 b) { return b ? gcd(b, a % b) : a; }

static u64 now_ns()
{
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (u64)t.tv_sec * 1000000000u + (u64)t.tv_nsec;
}

extern "C" {

void emu_register_kernel(const char* unit, int checked, const char* name, void* kernel, EmuCall call, const size_t* sizes, size_t n)
{
    kernels().push_back({unit, name, checked, kernel, call, std::vector<size_t>(sizes, sizes + n)});
}
void emu_register_layout(const char* unit, const char* name, size_t size, size_t align, const char* fields, const size_t* offsets,
                         size_t n)
{
    layouts().push_back({unit, name, fields, size, align, std::vector<size_t>(offsets, offsets + n)});
}

// References the objects of all kernels (written by build.rs): it makes the linker keep them.
extern const void* const emu_units[];

size_t emu_kernel_count() { return emu_units[0] ? kernels().size() : 0; }
void emu_kernel(size_t i, const char** unit, const char** name, u32* checked, const void** entry, const size_t** sizes, size_t* n)
{
    const RegisteredKernel& k = kernels()[i];
    *unit = k.unit.c_str();
    *name = k.name.c_str();
    *checked = (u32)k.checked;
    *entry = k.kernel;
    *sizes = k.sizes.data();
    *n = k.sizes.size();
}
size_t emu_layout_count() { return emu_units[0] ? layouts().size() : 0; }
void emu_layout(size_t i, const char** unit, const char** name, size_t* size, size_t* align, const char** fields, const size_t** offsets,
                size_t* n)
{
    const RegisteredLayout& l = layouts()[i];
    *unit = l.unit.c_str();
    *name = l.name.c_str();
    *size = l.size;
    *align = l.align;
    *fields = l.fields.c_str();
    *offsets = l.offsets.data();
    *n = l.offsets.size();
}

Launch* emu_begin(const EmuLaunch* wish)
{
    Launch* l = new Launch();
    l->wish = *wish;
    l->kernel = kernels()[wish->kernel].kernel;
    l->call = kernels()[wish->kernel].call;
    l->total = (u64)wish->grid[0] * wish->grid[1] * wish->grid[2];
    l->step = 1;
    l->shift = 0;
    if (wish->order == 1) {
        l->step = l->total - 1;
        l->shift = l->total - 1;
    } else if (wish->order == 2 && l->total > 1) {
        // A step without a common divisor visits each block once.
        u64 r = wish->seed * 0xD1342543DE82EF95ull + 0x2545F4914F6CDD1Dull;
        l->shift = (r >> 33) % l->total;
        l->step = 1 + (r >> 17) % (l->total - 1);
        while (gcd(l->step, l->total) != 1)
            l->step = l->step + 1 < l->total ? l->step + 1 : 1;
    }
    return l;
}

// Runs blocks until none is left or about `budget_ns` have passed. 0: all blocks are taken; 1: some are left; 2: no memory.
int emu_work(Launch* launch, u64 budget_ns)
{
    Worker* w = take_worker();
    if (!w)
        return 2;
    emu_worker = w;
    prepare(*w, *launch);
    const u64 start = now_ns();
    int result = 0;
    for (;;) {
        if (launch->stop)
            break;
        const u64 i = launch->next.fetch_add(1);
        if (i >= launch->total)
            break;
        const u64 index = (u64)(((unsigned __int128)i * launch->step + launch->shift) % launch->total);
        run_block(*w, index);
        if (w->block_count == 1 && !w->shared_used)
            w->shared_used = touched(*w, launch->wish.shared);
        if (budget_ns != ~0ull && now_ns() - start > budget_ns) {
            result = launch->next < launch->total;
            break;
        }
    }
    {
        std::lock_guard<std::mutex> hold(launch->lock);
        EmuReport& r = launch->report;
        r.blocks += w->block_count;
        r.threads += w->thread_count;
        r.barriers += w->barriers;
        r.collectives += w->collectives;
        r.copies += w->copies;
        r.mma += w->mma;
        if (w->shared_used > r.shared_used)
            r.shared_used = w->shared_used;
        if (w->checker)
            emu_checker_free(w->checker, r);
    }
    w->checker = nullptr;
    emu_worker = nullptr;
    give_back(w);
    return result;
}

void emu_report_of(Launch* launch, EmuReport* report)
{
    *report = launch->report;
    report->findings = launch->findings.data();
    report->finding_count = launch->findings.size();
}

void emu_end(Launch* launch) { delete launch; }

} // extern "C"
