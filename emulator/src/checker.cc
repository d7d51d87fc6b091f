#include "engine.hh"
struct Checker {};
Checker* emu_checker_new(Launch&, Worker&) { return nullptr; }
void emu_checker_free(Checker*, EmuReport&) {}
void emu_checker_block(Checker&, Worker&) {}
void emu_checker_barrier(Checker&, Worker&) {}
void emu_checker_warp(Checker&, Worker&, Warp&, u32) {}
void emu_checker_access(Checker&, Worker&, Fiber&, const void*, u64, Access, void*) {}
void emu_checker_copied(Checker&, Worker&, Fiber&, const Copy&) {}

static inline void hook(void*, u64, Access, void*) {}

#define RETURN ((void*)((u64)__builtin_return_address(0) - 1))
#define HOOKS(n)                                                                                                                   \
    void __tsan_read##n(void* p) { hook(p, n, READ, RETURN); }                                                                     \
    void __tsan_write##n(void* p) { hook(p, n, WRITE, RETURN); }                                                                   \
    void __tsan_volatile_read##n(void* p) { hook(p, n, READ, RETURN); }                                                            \
    void __tsan_volatile_write##n(void* p) { hook(p, n, WRITE, RETURN); }                                                          \
    void __tsan_unaligned_read##n(void* p) { hook(p, n, READ, RETURN); }                                                           \
    void __tsan_unaligned_write##n(void* p) { hook(p, n, WRITE, RETURN); }                                                         \
    void __tsan_unaligned_volatile_read##n(void* p) { hook(p, n, READ, RETURN); }                                                  \
    void __tsan_unaligned_volatile_write##n(void* p) { hook(p, n, WRITE, RETURN); }

extern "C" {
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)
void __tsan_read_range(void* p, size_t n) { hook(p, n, READ, RETURN); }
void __tsan_write_range(void* p, size_t n) { hook(p, n, WRITE, RETURN); }
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_init() {}
void* __tsan_memcpy(void* to, const void* from, size_t n)
{
    hook((void*)from, n, READ, RETURN);
    hook(to, n, WRITE, RETURN);
    return memcpy(to, from, n);
}
void* __tsan_memmove(void* to, const void* from, size_t n)
{
    hook((void*)from, n, READ, RETURN);
    hook(to, n, WRITE, RETURN);
    return memmove(to, from, n);
}
void* __tsan_memset(void* to, int value, size_t n)
{
    hook(to, n, WRITE, RETURN);
    return memset(to, value, n);
}
}
