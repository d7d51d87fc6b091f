// What compiled kernels ask of the engine (src/engine.cc). Each `.cu` file is compiled inside a namespace of its own, so the
// standard headers that emulator.h needs are included here, before that namespace opens.

#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#define EMU_ENGINE_H

extern "C" {

// `const` lets the compiler ask once per function: a thread's place never changes while it runs, and neither does the place of
// the shared memory, because a block stays on one thread of the operating system.
#define EMU_FIXED __attribute__((const))
EMU_FIXED uint32_t emu_thread_x();
EMU_FIXED uint32_t emu_thread_y();
EMU_FIXED uint32_t emu_thread_z();
EMU_FIXED uint32_t emu_block_x();
EMU_FIXED uint32_t emu_block_y();
EMU_FIXED uint32_t emu_block_z();
EMU_FIXED uint32_t emu_block_size_x();
EMU_FIXED uint32_t emu_block_size_y();
EMU_FIXED uint32_t emu_block_size_z();
EMU_FIXED uint32_t emu_grid_x();
EMU_FIXED uint32_t emu_grid_y();
EMU_FIXED uint32_t emu_grid_z();
EMU_FIXED uint8_t* emu_shared();

// `line` tells apart the places that must be one and the same for all lanes of a warp. A return address would not do: the
// compiler may copy a call into two branches.
void emu_syncthreads(int line);
int emu_syncthreads_count(int predicate, int line);
void emu_syncwarp(uint32_t mask);
void emu_threadfence();

enum { EMU_INDEX, EMU_UP, EMU_DOWN, EMU_XOR };
uint64_t emu_shuffle(uint32_t mask, uint64_t value, uint32_t mode, uint32_t operand, uint32_t width);
uint32_t emu_ballot(uint32_t mask, int predicate);
enum { EMU_ADD, EMU_MIN, EMU_MAX, EMU_AND, EMU_OR, EMU_EXOR };
uint32_t emu_reduce(uint32_t mask, uint32_t value, uint32_t mode, int is_signed);

void emu_cp_async16(void* shared, const void* global, uint32_t valid);
void emu_cp_async_commit();
void emu_cp_async_wait(uint32_t groups_left);

void emu_ldmatrix_x4(uint32_t* r, const void* row, int transposed, int line);
void emu_mma_m16n8k16(float* d, const uint32_t* a, const uint32_t* b, int is_bf16, int line);
void emu_mma_m16n8k8_tf32(float* d, const uint32_t* a, const uint32_t* b, int line);

// Atomics: the old value comes back.
enum { EMU_ATOMIC_ADD, EMU_ATOMIC_MIN, EMU_ATOMIC_MAX, EMU_ATOMIC_AND, EMU_ATOMIC_OR, EMU_ATOMIC_XOR, EMU_ATOMIC_EXCH, EMU_ATOMIC_INC };
uint32_t emu_atomic32(void* p, uint32_t x, uint32_t mode, int is_signed);
uint64_t emu_atomic64(void* p, uint64_t x, uint32_t mode, int is_signed);
uint32_t emu_cas32(void* p, uint32_t expected, uint32_t x);
uint64_t emu_cas64(void* p, uint64_t expected, uint64_t x);

// Registration, before `main`.
typedef void (*EmuCall)(void* kernel, void** args);
void emu_register_kernel(const char* unit, int checked, const char* name, void* kernel, EmuCall call, const size_t* sizes, size_t n);
void emu_register_layout(const char* unit, const char* name, size_t size, size_t align, const char* fields, const size_t* offsets,
                         size_t n);
}

#if defined(__clang__)
#define EMU_UNCHECKED __attribute__((no_sanitize("thread")))
#else
#define EMU_UNCHECKED __attribute__((no_sanitize_thread))
#endif

namespace emu {

// Calls a kernel with the parameters that `args` points to, as a launch does.
template <typename... P, size_t... I> EMU_UNCHECKED inline void call_with(void (*kernel)(P...), void** args, std::index_sequence<I...>)
{
    (void)args;
    kernel(*(P*)args[I]...);
}
template <typename... P> EMU_UNCHECKED void call(void* kernel, void** args)
{
    call_with((void (*)(P...))kernel, args, std::index_sequence_for<P...>());
}

struct Kernel {
    template <typename... P> Kernel(const char* unit, int checked, const char* name, void (*kernel)(P...))
    {
        static_assert((std::is_trivially_copyable<P>::value && ...), "parameters of kernels are plain values");
        const size_t sizes[sizeof...(P) + 1] = {sizeof(P)...};
        emu_register_kernel(unit, checked, name, (void*)kernel, &call<P...>, sizes, sizeof...(P));
    }
};

struct Layout {
    template <size_t N>
    Layout(const char* unit, const char* name, size_t size, size_t align, const char* fields, const size_t (&offsets)[N])
    {
        emu_register_layout(unit, name, size, align, fields, offsets, N);
    }
};

} // namespace emu
