// The checker: what the compiler's access hooks report, compared with what went before.
//
// Kernels are compiled a second time with `-fsanitize=thread`: before each access to memory that isn't provably the thread's own,
// the compiler puts a call of `__tsan_read4` and the like. The functions at the end of this file are those; libtsan isn't linked.
//
// **Bounds.** Memory consists of regions: the buffers of the device, the block's dynamic shared memory, the static arrays of the
// kernel's file. An access must lie inside one of them. The few bytes around a buffer are a red zone, so a small step too far is
// reported and done; a wild one ends the launch, as it would on a GPU.
//
// **Order.** Each access is stamped with block, thread and *time*, a counter of the block that every barrier and every collective
// advances. A thread keeps the time of its latest one, so two accesses of a block are in order if
//   - one thread made both, or
//   - the earlier is older than the latest barrier, which all threads passed, or
//   - both are of one warp, and the later thread has met the earlier one in a collective since: `full_at[m]` is the time of lane
//     `m` when the whole warp last met, `seen[l][m]` what lane `l` knows of lane `m` from meetings of fewer lanes.
// Blocks are unordered, but for one pattern: a thread that calls `__threadfence` and then changes a number atomically makes what is
// ordered before it known to whoever changes that number later. That is "the last block finishes the sum".
//
// **Shadow.** For each granule of memory the last write and two of the reads since are kept; two, because one of them is then by
// another thread than the one that writes next, and of another warp if there was any. A granule has 1 to 16 bytes, as small as the
// smallest access to its page so far: f32 read in fours costs 40 bytes of shadow for 16, u8 costs 40 for 1.
//
// **Asynchronous copies.** Their destination is a write that lasts from the issue to the wait: whoever touches it in between is
// wrong, the issuing thread included. After the wait it counts as a write of that thread, which others still need a barrier to see.
//
// **Alignment.** `-fsanitize=alignment` tests each address against the type in the source, and calls the last function of this file
// if it doesn't fit. By the access hooks alone one could not tell: a compiler may load a vector in parts.
//
// Collectives count as order here. CUDA promises that only for `__syncwarp`; `orders_memory` is the place to be stricter.

#include "engine.hh"
#include <algorithm>
#ifdef __linux__
#include <link.h>
#else
#include <dlfcn.h>
#endif

// ---------------------------------------------------------------------------------------------- stamps
const u32 TIME_BITS = 26, THREAD_BITS = 10, BLOCK_BITS = 26;
const u64 ATOMIC_BIT = 1ull << 62, COPY_BIT = 1ull << 63;
const u32 LAST_TIME = (1u << TIME_BITS) - 1;
const u64 LAST_BLOCK = (1ull << BLOCK_BITS) - 1;

static u64 stamp_of(u64 block, u32 thread, u32 time) { return (block << THREAD_BITS | thread) << TIME_BITS | time; }
static u32 time_of(u64 s) { return (u32)s & LAST_TIME; }
static u64 who(u64 s) { return s >> TIME_BITS & ((1ull << (THREAD_BITS + BLOCK_BITS)) - 1); }
static u32 thread_of(u64 s) { return (u32)(s >> TIME_BITS) & (MAX_THREADS - 1); }
static u64 block_of(u64 s) { return s >> (TIME_BITS + THREAD_BITS) & LAST_BLOCK; }
static u64 warp_of(u64 s) { return who(s) / WARP; }

// ---------------------------------------------------------------------------------------------- shadow
// Stamps; 0 is none. Beside each, the low half of the code address.
struct Cell {
    u64 write, read, read2;
    u32 write_pc, read_pc, read2_pc, pad;
};

const u32 PAGE = 512;
const u32 SHIFTS = 5; // granules of 1 to 16 bytes

struct Page {
    Page* next;
    u32 shift, pad;
    Cell cells[1];
};

// Pages that no region uses. They stay with the worker: fresh memory from the system costs more than clearing old one.
struct ShadowPages {
    Page* first[SHIFTS];
    size_t bytes;
};
const size_t KEEP = 128 << 20;

struct Region {
    u64 base, size;
    u64* written;
    bool known, freed;
    Space space;
    u64 index;
    std::vector<Page*> pages;
};

// What a thread of an earlier block has made known, and from when on a later block knows it.
struct Release {
    u64 block;
    u32 thread, time, barrier_time;
};
struct Ticket {
    std::vector<Release> releases;
    std::unordered_map<u64, size_t> by_block;
};
struct Acquired {
    const Ticket* ticket;
    size_t count;
    u32 thread, time;
};

struct Checker {
    Launch& launch;
    u64 stacks, stacks_size;
    std::vector<Region> globals; // sorted by base
    std::vector<Region> arrays;
    Region dynamic;
    Region* recent[64]; // by code address: an instruction stays with its buffer
    u64 block;
    u32 time, barrier_time;
    std::vector<u64> linear; // block -> its place in the grid
    std::unordered_map<u64, Ticket> tickets;
    std::vector<Acquired> acquired;
    ShadowPages& spare;
    u64 global_read, global_written, shared_used;
};

static size_t page_bytes(u32 shift) { return sizeof(Page) + ((PAGE >> shift) - 1) * sizeof(Cell); }

static Page* new_page(Checker& c, u32 shift)
{
    Page* p = c.spare.first[shift];
    if (p) {
        c.spare.first[shift] = p->next;
        c.spare.bytes -= page_bytes(shift);
        memset((void*)p, 0, page_bytes(shift));
    } else
        p = (Page*)calloc(1, page_bytes(shift));
    if (!p)
        abort();
    p->shift = shift;
    return p;
}

static void put_back(Checker& c, Page* p)
{
    const size_t bytes = page_bytes(p->shift);
    if (c.spare.bytes + bytes > KEEP)
        return free(p);
    p->next = c.spare.first[p->shift];
    c.spare.first[p->shift] = p;
    c.spare.bytes += bytes;
}

// The page with granules of at most 1 << shift bytes.
static Page* page_at(Checker& c, Region& r, u64 number, u32 shift)
{
    if (r.pages.empty())
        r.pages.resize((r.size + PAGE - 1) / PAGE);
    Page*& at = r.pages[number];
    if (!at)
        return at = new_page(c, shift);
    if (at->shift <= shift)
        return at;
    Page* finer = new_page(c, shift);
    const u32 more = at->shift - shift;
    for (u32 i = 0; i < PAGE >> shift; i++)
        finer->cells[i] = at->cells[i >> more];
    put_back(c, at);
    return at = finer;
}

static void free_pages(Checker& c, Region& r)
{
    for (Page* p : r.pages)
        if (p)
            put_back(c, p);
}

// Calls `f` with each cell of a range.
template <typename F> static void each_cell(Checker& c, Region& r, u64 offset, u64 size, F f)
{
    while (size) {
        const u64 in = offset % PAGE, n = std::min<u64>(size, PAGE - in);
        const u32 shift = (u32)__builtin_ctzll(in | n | 16);
        Page* p = page_at(c, r, offset / PAGE, shift);
        for (u64 i = in >> p->shift; i < (in + n) >> p->shift; i++)
            f(p->cells[i]);
        offset += n;
        size -= n;
    }
}

static u64 word_mask(u64 at, u64 n) { return n == 64 ? ~0ull : ((1ull << n) - 1) << at % 64; }
static bool all_written(const u64* written, u64 at, u64 size)
{
    while (size) {
        const u64 n = std::min<u64>(size, 64 - at % 64), mask = word_mask(at, n);
        if ((__atomic_load_n(written + at / 64, __ATOMIC_RELAXED) & mask) != mask)
            return false;
        at += n;
        size -= n;
    }
    return true;
}
static void mark_written(u64* written, u64 at, u64 size)
{
    while (size) {
        const u64 n = std::min<u64>(size, 64 - at % 64), mask = word_mask(at, n);
        if ((__atomic_load_n(written + at / 64, __ATOMIC_RELAXED) & mask) != mask)
            __atomic_fetch_or(written + at / 64, mask, __ATOMIC_RELAXED);
        at += n;
        size -= n;
    }
}

// ---------------------------------------------------------------------------------------------- order
static bool orders_memory(Op) { return true; }

// Another block's access, made known by a fence and an atomic number.
static __attribute__((noinline)) bool known(const Checker& c, const Fiber& f, u64 earlier)
{
    for (const Acquired& a : c.acquired) {
        if (a.thread != f.thread && a.time >= c.barrier_time)
            continue;
        const auto at = a.ticket->by_block.find(block_of(earlier));
        if (at == a.ticket->by_block.end() || at->second >= a.count)
            continue;
        const Release& r = a.ticket->releases[at->second];
        if (time_of(earlier) < r.barrier_time || (thread_of(earlier) == r.thread && time_of(earlier) <= r.time))
            return true;
    }
    return false;
}

static inline bool ordered(const Checker& c, const Worker& w, const Fiber& f, u64 earlier)
{
    if (!earlier || who(earlier) == who(f.stamp))
        return true;
    if (block_of(earlier) != c.block)
        return known(c, f, earlier);
    const u32 time = time_of(earlier), thread = thread_of(earlier);
    if (time < c.barrier_time)
        return true;
    if (thread / WARP != f.warp)
        return false;
    const Warp& p = w.warps[f.warp];
    return time <= p.full_at[thread % WARP] || (p.partial && time <= p.seen[f.lane][thread % WARP]);
}

static void tick(Checker& c)
{
    // 67 million meetings in one block: from here on order is no longer told apart.
    if (c.time < LAST_TIME)
        c.time++;
}

static void stamp_threads(Checker& c, Worker& w)
{
    for (u32 i = 0; i < w.threads; i++) {
        w.fibers[i].stamp = stamp_of(c.block, i, c.time);
        w.warps[i / WARP].clock[i % WARP] = c.time;
    }
}

void emu_checker_block(Checker& c, Worker& w)
{
    if (c.block < LAST_BLOCK)
        c.block++;
    c.linear.resize(c.block + 1);
    c.linear[c.block] = w.linear_block;
    c.time = c.barrier_time = 1;
    c.acquired.clear();
    for (u32 i = 0; i < w.warp_count; i++) {
        Warp& p = w.warps[i];
        memset(p.full_at, 0, sizeof p.full_at);
        if (p.partial)
            memset(p.seen, 0, sizeof p.seen);
        p.partial = 0;
    }
    stamp_threads(c, w);
}

void emu_checker_barrier(Checker& c, Worker& w)
{
    tick(c);
    c.barrier_time = c.time;
    stamp_threads(c, w);
}

void emu_checker_warp(Checker& c, Worker& w, Warp& p, u32 lanes)
{
    if (!orders_memory(p.lanes[__builtin_ctz(lanes)]->op))
        return;
    tick(c);
    if (lanes == p.alive) {
        for (u32 l = 0; l < WARP; l++)
            if (lanes >> l & 1)
                p.full_at[l] = p.clock[l];
    } else {
        u32 all[WARP] = {};
        p.partial = 1;
        for (u32 l = 0; l < WARP; l++) {
            if (!(lanes >> l & 1))
                continue;
            for (u32 m = 0; m < WARP; m++)
                all[m] = std::max(all[m], p.seen[l][m]);
            all[l] = std::max(all[l], p.clock[l]);
        }
        for (u32 l = 0; l < WARP; l++)
            if (lanes >> l & 1)
                memcpy(p.seen[l], all, sizeof all);
    }
    for (u32 l = 0; l < WARP; l++)
        if (lanes >> l & 1) {
            p.clock[l] = c.time;
            p.lanes[l]->stamp = stamp_of(c.block, p.lanes[l]->thread, c.time);
        }
    (void)w;
}

// ---------------------------------------------------------------------------------------------- findings
static void describe(Finding& r, const Region& region, u64 at, u64 size, Access access)
{
    r.space = region.space;
    r.region = region.index;
    r.region_size = region.size;
    r.address = at;
    r.offset = (i64)(at - region.base);
    r.size = (u32)size;
    r.access = access;
}

static __attribute__((noinline)) void report(Checker& c, const Worker& w, const Fiber& f, FindingKind kind, const Region& region, u64 at, u64 size, Access access,
                   void* pc)
{
    Finding r = emu_finding(w, f, kind, pc);
    describe(r, region, at, size, access);
    emu_report(c.launch, r);
}

// A finding with another access in it, of which the low half of the code address is known.
static __attribute__((noinline)) void report_pair(Checker& c, const Worker& w, const Fiber& f, FindingKind kind, const Region& region, u64 at, u64 size,
                        Access access, void* pc, u64 other, u32 other_pc, Access other_access)
{
    Finding r = emu_finding(w, f, kind, pc);
    describe(r, region, at, size, access);
    r.other_pc = (u64)pc + (u64)(i64)(i32)(other_pc - (u32)(u64)pc);
    r.other_access = other_access;
    const u32 thread = thread_of(other);
    const u64 block = c.linear[block_of(other)];
    r.other_thread[0] = thread % w.block_size[0];
    r.other_thread[1] = thread / w.block_size[0] % w.block_size[1];
    r.other_thread[2] = thread / w.block_size[0] / w.block_size[1];
    r.other_block[0] = (u32)(block % w.grid[0]);
    r.other_block[1] = (u32)(block / w.grid[0] % w.grid[1]);
    r.other_block[2] = (u32)(block / w.grid[0] / w.grid[1]);
    emu_report(c.launch, r);
}

// Constants of the kernels lie in the program's own file.
static bool in_program(u64 at)
{
#ifdef __linux__
    static const std::vector<std::pair<u64, u64>> ranges = [] {
        std::vector<std::pair<u64, u64>> found;
        dl_iterate_phdr(
            [](dl_phdr_info* info, size_t, void* out) {
                for (int i = 0; i < info->dlpi_phnum; i++)
                    if (info->dlpi_phdr[i].p_type == PT_LOAD)
                        ((std::vector<std::pair<u64, u64>>*)out)
                            ->push_back({info->dlpi_addr + info->dlpi_phdr[i].p_vaddr, info->dlpi_phdr[i].p_memsz});
                return 1; // only the first, the program
            },
            &found);
        return found;
    }();
    for (auto& r : ranges)
        if (at - r.first < r.second)
            return true;
    return false;
#else
    Dl_info info;
    return dladdr((void*)at, &info) != 0;
#endif
}

// The address lies in no region. Says what it is near to; true if the access does no harm.
static __attribute__((noinline)) bool outside(Checker& c, Worker& w, const Fiber& f, u64 at, u64 size, Access access, void* pc)
{
    if (access == READ && in_program(at))
        return true;
    if (at - (u64)w.shared < MAX_SHARED + 64 * 1024 - 16) {
        report(c, w, f, OUT_OF_BOUNDS, c.dynamic, at, size, access, pc);
        return true;
    }
    const Region* nearest = nullptr;
    u64 distance = 1 << 20;
    auto look = [&](const Region& r) {
        const u64 d = at < r.base ? r.base - at : at - (r.base + r.size);
        if (d < distance) {
            distance = d;
            nearest = &r;
        }
    };
    const auto after = std::upper_bound(c.globals.begin(), c.globals.end(), at, [](u64 a, const Region& r) { return a < r.base; });
    if (after != c.globals.end())
        look(*after);
    if (after != c.globals.begin())
        look(*(after - 1));
    for (const Region& r : c.arrays)
        look(r);
    const i64 from_anchor = (i64)(at - (u64)emu_tls_base());
    if (c.arrays.empty() && !nearest && from_anchor > -(1 << 20) && from_anchor < 1 << 20)
        return true; // static arrays in a program without symbols
    if (!nearest) {
        Finding r = emu_finding(w, f, OUT_OF_BOUNDS, pc);
        r.address = at;
        r.size = (u32)size;
        r.access = access;
        emu_report(c.launch, r);
        return false;
    }
    report(c, w, f, nearest->freed ? USE_AFTER_FREE : OUT_OF_BOUNDS, *nearest, at, size, access, pc);
    return distance + size <= RED_ZONE && (nearest->space == GLOBAL || access == READ);
}

// ---------------------------------------------------------------------------------------------- accesses
static __attribute__((noinline)) Region* search(Checker& c, u64 at, Region*& recent)
{
    if (at - c.dynamic.base < c.dynamic.size)
        return recent = &c.dynamic;
    for (Region& r : c.arrays)
        if (at - r.base < r.size)
            return recent = &r;
    const auto after = std::upper_bound(c.globals.begin(), c.globals.end(), at, [](u64 a, const Region& r) { return a < r.base; });
    if (after == c.globals.begin())
        return nullptr;
    Region& r = *(after - 1);
    return at - r.base < r.size ? recent = &r : nullptr;
}

static inline Region* find(Checker& c, u64 at, void* pc)
{
    Region*& recent = c.recent[((u64)pc ^ (u64)pc >> 6) % 64];
    return recent && at - recent->base < recent->size ? recent : search(c, at, recent);
}

// Is the cell's last write one that counts for this region now? Shared memory forgets earlier blocks.
static u64 current(const Checker& c, const Region& r, u64 stamp) { return r.space != GLOBAL && block_of(stamp) != c.block ? 0 : stamp; }

// One access to one granule. True if nothing was written there yet.
static inline __attribute__((always_inline)) bool touch_cell(Checker& c, Worker& w, Fiber& f, Region& r, Cell& cell, u64 at, u64 size,
                                                             Access kind, u64 stamp, void* pc)
{
    bool unwritten = false;
    if (kind == READ) {
        if (cell.read == stamp)
            return false; // again, and nobody wrote since
    } else if (kind == WRITE && cell.write == stamp && !cell.read)
        return false;
    const u64 write = current(c, r, cell.write);
    if (write & COPY_BIT) {
        report_pair(c, w, f, COPY_UNDER_WAY, r, at, size, kind, pc, write, cell.write_pc, COPY);
        if (kind == READ)
            return false;
    } else if (!write)
        unwritten = true;
    else if (!(kind == ATOMIC && (write & ATOMIC_BIT)) && !ordered(c, w, f, write))
        report_pair(c, w, f, RACE, r, at, size, kind, pc, write, cell.write_pc, write & ATOMIC_BIT ? ATOMIC : WRITE);
    if (kind == READ) {
        if (cell.read && who(cell.read) != who(stamp) &&
            (warp_of(cell.read) != warp_of(stamp) || !cell.read2 || warp_of(cell.read2) == warp_of(stamp))) {
            cell.read2 = cell.read;
            cell.read2_pc = cell.read_pc;
        }
        cell.read = stamp;
        cell.read_pc = (u32)(u64)pc;
        return unwritten;
    }
    const u64 read = current(c, r, cell.read), read2 = current(c, r, cell.read2);
    if (!ordered(c, w, f, read))
        report_pair(c, w, f, RACE, r, at, size, kind, pc, read, cell.read_pc, READ);
    else if (!ordered(c, w, f, read2))
        report_pair(c, w, f, RACE, r, at, size, kind, pc, read2, cell.read2_pc, READ);
    cell.write = stamp;
    cell.write_pc = (u32)(u64)pc;
    cell.read = cell.read2 = 0;
    return unwritten;
}

// True if the access may be made.
template <Access kind> static bool access(Checker& c, Worker& w, Fiber& f, u64 at, u64 size, void* pc)
{
    Region* found = find(c, at, pc);
    if (!found)
        return outside(c, w, f, at, size, kind, pc);
    Region& r = *found;
    if (r.freed) {
        report(c, w, f, USE_AFTER_FREE, r, at, size, kind, pc);
        return r.base + r.size - at + RED_ZONE >= size;
    }
    const u64 offset = at - r.base;
    if (offset + size > r.size) {
        report(c, w, f, OUT_OF_BOUNDS, r, at, size, kind, pc);
        if (offset + size > r.size + RED_ZONE)
            return false;
        size = r.size - offset;
    }
    const bool reads = kind == READ || kind == ATOMIC, writes = kind != READ;
    if (r.space == GLOBAL) {
        if (reads) {
            c.global_read += size;
            if (!r.known && !all_written(r.written, offset, size))
                report(c, w, f, UNINITIALISED, r, at, size, kind, pc);
        }
        if (writes) {
            c.global_written += size;
            mark_written(r.written, offset, size);
        }
    } else if (r.space == DYNAMIC_SHARED)
        c.shared_used = std::max(c.shared_used, offset + size);

    const u64 stamp = f.stamp | (kind == ATOMIC ? ATOMIC_BIT : 0) | (kind == COPY ? COPY_BIT : 0);
    bool unwritten = false;
    auto touch = [&](Cell& cell) { unwritten |= touch_cell(c, w, f, r, cell, at, size, kind, stamp, pc); };
    // Nearly always the granules of the page are as large as the access.
    Page* page = r.pages.empty() ? nullptr : r.pages[offset / PAGE];
    if (page && size == 1u << page->shift && offset % size == 0)
        touch(page->cells[offset % PAGE >> page->shift]);
    else
        each_cell(c, r, offset, size, touch);
    if (unwritten && reads && r.space != GLOBAL)
        report(c, w, f, UNINITIALISED, r, at, size, kind, pc);

    if (kind == ATOMIC && r.space == GLOBAL) {
        Ticket& t = c.tickets[at];
        if (!t.releases.empty())
            c.acquired.push_back({&t, t.releases.size(), f.thread, c.time});
        if (f.fenced) {
            t.by_block[c.block] = t.releases.size();
            t.releases.push_back({c.block, f.thread, time_of(f.stamp), c.barrier_time});
        }
    }
    return true;
}

bool emu_checker_access(Checker& c, Worker& w, Fiber& f, const void* at, u64 size, Access kind, void* pc)
{
    switch (kind) {
    case READ: return access<READ>(c, w, f, (u64)at, size, pc);
    case WRITE: return access<WRITE>(c, w, f, (u64)at, size, pc);
    case ATOMIC: return access<ATOMIC>(c, w, f, (u64)at, size, pc);
    default: return access<COPY>(c, w, f, (u64)at, size, pc);
    }
}

// A wait has made this copy certain: from now on it is a write of its thread.
void emu_checker_copied(Checker& c, Worker&, Fiber& f, const Copy& copy)
{
    Region* r = find(c, (u64)copy.to, copy.pc);
    if (!r || (u64)copy.to - r->base + 16 > r->size)
        return;
    each_cell(c, *r, (u64)copy.to - r->base, 16, [&](Cell& cell) {
        if ((cell.write & COPY_BIT) && who(cell.write) == who(f.stamp))
            cell.write = f.stamp;
    });
}

Checker* emu_checker_new(Launch& launch, Worker& w)
{
    const EmuLaunch& wish = launch.wish;
    if (!w.spare_pages)
        w.spare_pages = new ShadowPages();
    Checker* c = new Checker{launch, (u64)w.stacks, w.stacks_size, {}, {}, {}, {}, 0, 1, 1, {}, {}, {}, *w.spare_pages, 0, 0, 0};
    auto region = [](const EmuRegion& r, u64 base, Space space, u64 index) {
        return Region{base, r.size, r.written, r.known != 0, r.freed != 0, space, index, {}};
    };
    for (u64 i = 0; i < wish.region_count; i++)
        c->globals.push_back(region(wish.regions[i], wish.regions[i].base, GLOBAL, i));
    for (u64 i = 0; i < wish.array_count; i++)
        c->arrays.push_back(region(wish.arrays[i], (u64)emu_tls_base() + wish.arrays[i].base, STATIC_SHARED, i));
    c->dynamic = region({0, wish.shared, nullptr, 0, 0}, (u64)w.shared, DYNAMIC_SHARED, 0);
    return c;
}

void emu_checker_free(Checker* c, EmuReport& report)
{
    report.global_read += c->global_read;
    report.global_written += c->global_written;
    report.shared_used = c->shared_used;
    for (Region& r : c->globals)
        free_pages(*c, r);
    u64 used = 0; // static arrays with a shadow: somebody touched them
    for (Region& r : c->arrays) {
        if (std::any_of(r.pages.begin(), r.pages.end(), [](Page* p) { return p != nullptr; }))
            used += r.size;
        free_pages(*c, r);
    }
    report.static_used = std::max(report.static_used, used);
    free_pages(*c, c->dynamic);
    delete c;
}

// ---------------------------------------------------------------------------------------------- the hooks
template <Access kind> static inline __attribute__((always_inline)) void hook(void* p, u64 size, void* pc)
{
    Worker* w = emu_worker;
    if (!w || !w->checker) // the registration before `main`
        return;
    Checker& c = *w->checker;
    if ((u64)p - c.stacks < c.stacks_size) // local variables, parameters
        return;
    if (!access<kind>(c, *w, *w->self, (u64)p, size, pc))
        emu_abort(*w);
}

#define RETURN ((void*)((u64)__builtin_return_address(0) - 1))
#define HOOKS(n)                                                                                                                   \
    void __tsan_read##n(void* p) { hook<READ>(p, n, RETURN); }                                                                     \
    void __tsan_write##n(void* p) { hook<WRITE>(p, n, RETURN); }                                                                   \
    void __tsan_volatile_read##n(void* p) { hook<READ>(p, n, RETURN); }                                                            \
    void __tsan_volatile_write##n(void* p) { hook<WRITE>(p, n, RETURN); }                                                          \
    void __tsan_unaligned_read##n(void* p) { hook<READ>(p, n, RETURN); }                                                           \
    void __tsan_unaligned_write##n(void* p) { hook<WRITE>(p, n, RETURN); }                                                         \
    void __tsan_unaligned_volatile_read##n(void* p) { hook<READ>(p, n, RETURN); }                                                  \
    void __tsan_unaligned_volatile_write##n(void* p) { hook<WRITE>(p, n, RETURN); }

extern "C" {
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)
void __tsan_read_range(void* p, size_t n) { hook<READ>(p, n, RETURN); }
void __tsan_write_range(void* p, size_t n) { hook<WRITE>(p, n, RETURN); }
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_init() {}
void* __tsan_memcpy(void* to, const void* from, size_t n)
{
    hook<READ>((void*)from, n, RETURN);
    hook<WRITE>(to, n, RETURN);
    return memcpy(to, from, n);
}
void* __tsan_memmove(void* to, const void* from, size_t n)
{
    hook<READ>((void*)from, n, RETURN);
    hook<WRITE>(to, n, RETURN);
    return memmove(to, from, n);
}
void* __tsan_memset(void* to, int value, size_t n)
{
    hook<WRITE>(to, n, RETURN);
    return memset(to, value, n);
}

struct TypeMismatch { // what the compiler tells, by its own convention
    const char* file;
    u32 line, column;
    const void* type;
    u8 log_alignment, kind; // kind 1: a store
};
void __ubsan_handle_type_mismatch_v1(TypeMismatch* data, void* p)
{
    Worker* w = emu_worker;
    const u64 alignment = 1ull << data->log_alignment;
    if (!w || !w->checker || (u64)p % alignment == 0)
        return;
    Finding r = emu_finding(*w, *w->self, MISALIGNED, RETURN);
    r.access = data->kind == 1 ? WRITE : READ;
    r.size = (u32)alignment;
    r.address = (u64)p;
    emu_report(*w->launch, r);
    emu_abort(*w);
}
}
