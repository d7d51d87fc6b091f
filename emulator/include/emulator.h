// The emulator's side of kernels/prim.cuh: CUDA's words and the same primitives, in plain C++.
//
// prim.cuh includes this file in place of its PTX when ONECYCLE_EMULATOR is defined. Whatever needs more than one thread, or the
// state of a block, is a call into the engine (src/engine.cc); what is arithmetic stands here.
//
// It is compiled inside the namespace of one `.cu` file (build.rs), so nothing here clashes between files.

#pragma once
#ifndef EMU_ENGINE_H
#error "engine.h comes first; it is included by the wrapper that build.rs writes"
#endif

// ------------------------------------------------------------------------------------------------------ CUDA's words
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
// A thread of the operating system runs one block at a time, so its thread-local memory is the block's shared memory.
#define __shared__ static __thread
#define __constant__ static
#define __grid_constant__
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
// A promise to the optimiser that, broken, would show here in another way than on a GPU.
#define __restrict__

struct uint3 {
    u32 x, y, z;
};
// The unused members' calls vanish: they are `const`.
#define threadIdx (uint3{emu_thread_x(), emu_thread_y(), emu_thread_z()})
#define blockIdx (uint3{emu_block_x(), emu_block_y(), emu_block_z()})
#define blockDim (uint3{emu_block_size_x(), emu_block_size_y(), emu_block_size_z()})
#define gridDim (uint3{emu_grid_x(), emu_grid_y(), emu_grid_z()})
#define warpSize 32

// All shared memory of a kernel whose size comes with the launch: u8*, 1024-aligned.
#define smem_raw (emu_shared())

// ------------------------------------------------------------------------------------------------------ registration
#define EMU_JOIN_(a, b) a##b
#define EMU_JOIN(a, b) EMU_JOIN_(a, b)
#define KERNEL(...)                                                                                                                \
    static const ::emu::Kernel EMU_JOIN(emu_kernel_, __COUNTER__)(ONECYCLE_UNIT, ONECYCLE_CHECKED, #__VA_ARGS__, &__VA_ARGS__);

// `LAYOUT(S, a, b)`: up to 32 fields.
#define EMU_OFFSETS_1(s, f) offsetof(s, f)
#define EMU_OFFSETS_2(s, f, ...) offsetof(s, f), EMU_OFFSETS_1(s, __VA_ARGS__)
#define EMU_OFFSETS_3(s, f, ...) offsetof(s, f), EMU_OFFSETS_2(s, __VA_ARGS__)
#define EMU_OFFSETS_4(s, f, ...) offsetof(s, f), EMU_OFFSETS_3(s, __VA_ARGS__)
#define EMU_OFFSETS_5(s, f, ...) offsetof(s, f), EMU_OFFSETS_4(s, __VA_ARGS__)
#define EMU_OFFSETS_6(s, f, ...) offsetof(s, f), EMU_OFFSETS_5(s, __VA_ARGS__)
#define EMU_OFFSETS_7(s, f, ...) offsetof(s, f), EMU_OFFSETS_6(s, __VA_ARGS__)
#define EMU_OFFSETS_8(s, f, ...) offsetof(s, f), EMU_OFFSETS_7(s, __VA_ARGS__)
#define EMU_OFFSETS_9(s, f, ...) offsetof(s, f), EMU_OFFSETS_8(s, __VA_ARGS__)
#define EMU_OFFSETS_10(s, f, ...) offsetof(s, f), EMU_OFFSETS_9(s, __VA_ARGS__)
#define EMU_OFFSETS_11(s, f, ...) offsetof(s, f), EMU_OFFSETS_10(s, __VA_ARGS__)
#define EMU_OFFSETS_12(s, f, ...) offsetof(s, f), EMU_OFFSETS_11(s, __VA_ARGS__)
#define EMU_OFFSETS_13(s, f, ...) offsetof(s, f), EMU_OFFSETS_12(s, __VA_ARGS__)
#define EMU_OFFSETS_14(s, f, ...) offsetof(s, f), EMU_OFFSETS_13(s, __VA_ARGS__)
#define EMU_OFFSETS_15(s, f, ...) offsetof(s, f), EMU_OFFSETS_14(s, __VA_ARGS__)
#define EMU_OFFSETS_16(s, f, ...) offsetof(s, f), EMU_OFFSETS_15(s, __VA_ARGS__)
#define EMU_OFFSETS_17(s, f, ...) offsetof(s, f), EMU_OFFSETS_16(s, __VA_ARGS__)
#define EMU_OFFSETS_18(s, f, ...) offsetof(s, f), EMU_OFFSETS_17(s, __VA_ARGS__)
#define EMU_OFFSETS_19(s, f, ...) offsetof(s, f), EMU_OFFSETS_18(s, __VA_ARGS__)
#define EMU_OFFSETS_20(s, f, ...) offsetof(s, f), EMU_OFFSETS_19(s, __VA_ARGS__)
#define EMU_OFFSETS_21(s, f, ...) offsetof(s, f), EMU_OFFSETS_20(s, __VA_ARGS__)
#define EMU_OFFSETS_22(s, f, ...) offsetof(s, f), EMU_OFFSETS_21(s, __VA_ARGS__)
#define EMU_OFFSETS_23(s, f, ...) offsetof(s, f), EMU_OFFSETS_22(s, __VA_ARGS__)
#define EMU_OFFSETS_24(s, f, ...) offsetof(s, f), EMU_OFFSETS_23(s, __VA_ARGS__)
#define EMU_OFFSETS_25(s, f, ...) offsetof(s, f), EMU_OFFSETS_24(s, __VA_ARGS__)
#define EMU_OFFSETS_26(s, f, ...) offsetof(s, f), EMU_OFFSETS_25(s, __VA_ARGS__)
#define EMU_OFFSETS_27(s, f, ...) offsetof(s, f), EMU_OFFSETS_26(s, __VA_ARGS__)
#define EMU_OFFSETS_28(s, f, ...) offsetof(s, f), EMU_OFFSETS_27(s, __VA_ARGS__)
#define EMU_OFFSETS_29(s, f, ...) offsetof(s, f), EMU_OFFSETS_28(s, __VA_ARGS__)
#define EMU_OFFSETS_30(s, f, ...) offsetof(s, f), EMU_OFFSETS_29(s, __VA_ARGS__)
#define EMU_OFFSETS_31(s, f, ...) offsetof(s, f), EMU_OFFSETS_30(s, __VA_ARGS__)
#define EMU_OFFSETS_32(s, f, ...) offsetof(s, f), EMU_OFFSETS_31(s, __VA_ARGS__)
#define EMU_COUNT_(a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, a17, a18, a19, a20, a21, a22, a23, a24, \
                   a25, a26, a27, a28, a29, a30, a31, a32, n, ...) n
#define EMU_COUNT(...) EMU_COUNT_(__VA_ARGS__, 32, 31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, \
                   3, 2, 1, 0)
#define LAYOUT(s, ...)                                                                                                             \
    static const ::emu::Layout EMU_JOIN(emu_layout_, __COUNTER__)(                                                                 \
        ONECYCLE_UNIT, #s, sizeof(s), alignof(s), #__VA_ARGS__,                                                                    \
        {EMU_JOIN(EMU_OFFSETS_, EMU_COUNT(__VA_ARGS__))(s, __VA_ARGS__)});

// ------------------------------------------------------------------------------------------------------ bits and conversions
inline u32 float_bits(f32 x)
{
    u32 r;
    memcpy(&r, &x, 4);
    return r;
}
inline f32 bits_float(u32 x)
{
    f32 r;
    memcpy(&r, &x, 4);
    return r;
}
inline u32 __float_as_uint(f32 x) { return float_bits(x); }
inline i32 __float_as_int(f32 x) { return (i32)float_bits(x); }
inline f32 __uint_as_float(u32 x) { return bits_float(x); }
inline f32 __int_as_float(i32 x) { return bits_float((u32)x); }

inline f32 to_f32(f32 x) { return x; }
inline f32 to_f32(bf16 x) { return bits_float((u32)x.bits << 16); }
inline f32 to_f32(f16 x)
{
    const u32 sign = (u32)(x.bits & 0x8000) << 16, rest = x.bits & 0x7fff;
    if (rest > 0x7c00)
        return bits_float(0x7fffffff); // the GPU has one NaN for all
    if (rest == 0x7c00)
        return bits_float(sign | 0x7f800000);
    if (rest < 0x0400) // below 2^-14 the fraction counts steps of 2^-24
        return bits_float(sign | float_bits((f32)rest * 0x1p-24f));
    return bits_float(sign | ((rest << 13) + ((127 - 15) << 23)));
}
template <typename T> inline T from_f32(f32 x);
template <> inline f32 from_f32<f32>(f32 x) { return x; }
template <> inline bf16 from_f32<bf16>(f32 x)
{
    const u32 b = float_bits(x);
    if ((b & 0x7fffffff) > 0x7f800000)
        return bf16{0x7fff};
    return bf16{(u16)((b + 0x7fff + ((b >> 16) & 1)) >> 16)};
}
template <> inline f16 from_f32<f16>(f32 x)
{
    const u32 b = float_bits(x), sign = (b >> 16) & 0x8000, rest = b & 0x7fffffff;
    if (rest > 0x7f800000)
        return f16{0x7fff};
    if (rest >= 0x477ff000) // 65520, half-way from the largest number to 65536
        return f16{(u16)(sign | 0x7c00)};
    if (rest < 0x38800000) // below 2^-14: the last place of 0.5 is 2^-24, so the sum rounds where an f16 does
        return f16{(u16)(sign | (float_bits(bits_float(rest) + 0.5f) - float_bits(0.5f)))};
    return f16{(u16)(sign | ((rest - ((127 - 15) << 23) + 0x0fff + ((rest >> 13) & 1)) >> 13))};
}

// ------------------------------------------------------------------------------------------------------ barriers
inline __attribute__((always_inline)) void __syncthreads(int line = __builtin_LINE()) { emu_syncthreads(line); }
inline __attribute__((always_inline)) int __syncthreads_count(int p, int line = __builtin_LINE())
{
    return emu_syncthreads_count(p != 0, line);
}
inline __attribute__((always_inline)) int __syncthreads_or(int p, int line = __builtin_LINE())
{
    return emu_syncthreads_count(p != 0, line) != 0;
}
inline __attribute__((always_inline)) int __syncthreads_and(int p, int line = __builtin_LINE())
{
    return emu_syncthreads_count(p == 0, line) == 0;
}
inline __attribute__((always_inline)) void __syncwarp(u32 mask = ALL_LANES) { emu_syncwarp(mask); }
inline __attribute__((always_inline)) void __threadfence() { emu_threadfence(); }
inline void __threadfence_block() {}

// ------------------------------------------------------------------------------------------------------ lanes of a warp
template <typename T> inline __attribute__((always_inline)) T emu_exchange(u32 mask, T x, u32 mode, u32 operand, u32 width)
{
    static_assert(sizeof(T) <= 8, "a shuffle moves 4 or 8 bytes");
    u64 bits = 0;
    memcpy(&bits, &x, sizeof(T));
    bits = emu_shuffle(mask, bits, mode, operand, width);
    memcpy(&x, &bits, sizeof(T));
    return x;
}
template <typename T> inline __attribute__((always_inline)) T __shfl_sync(u32 mask, T x, i32 lane, i32 width = 32)
{
    return emu_exchange(mask, x, EMU_INDEX, (u32)lane, (u32)width);
}
template <typename T> inline __attribute__((always_inline)) T __shfl_up_sync(u32 mask, T x, u32 lanes, i32 width = 32)
{
    return emu_exchange(mask, x, EMU_UP, lanes, (u32)width);
}
template <typename T> inline __attribute__((always_inline)) T __shfl_down_sync(u32 mask, T x, u32 lanes, i32 width = 32)
{
    return emu_exchange(mask, x, EMU_DOWN, lanes, (u32)width);
}
template <typename T> inline __attribute__((always_inline)) T __shfl_xor_sync(u32 mask, T x, i32 lanes, i32 width = 32)
{
    return emu_exchange(mask, x, EMU_XOR, (u32)lanes, (u32)width);
}
inline __attribute__((always_inline)) u32 __ballot_sync(u32 mask, int p) { return emu_ballot(mask, p != 0); }
inline __attribute__((always_inline)) int __any_sync(u32 mask, int p) { return emu_ballot(mask, p != 0) != 0; }
inline __attribute__((always_inline)) int __all_sync(u32 mask, int p) { return emu_ballot(mask, p == 0) == 0; }
inline __attribute__((always_inline)) u32 __reduce_add_sync(u32 mask, u32 x) { return emu_reduce(mask, x, EMU_ADD, 0); }
inline __attribute__((always_inline)) i32 __reduce_add_sync(u32 mask, i32 x) { return (i32)emu_reduce(mask, (u32)x, EMU_ADD, 1); }
inline __attribute__((always_inline)) u32 __reduce_min_sync(u32 mask, u32 x) { return emu_reduce(mask, x, EMU_MIN, 0); }
inline __attribute__((always_inline)) i32 __reduce_min_sync(u32 mask, i32 x) { return (i32)emu_reduce(mask, (u32)x, EMU_MIN, 1); }
inline __attribute__((always_inline)) u32 __reduce_max_sync(u32 mask, u32 x) { return emu_reduce(mask, x, EMU_MAX, 0); }
inline __attribute__((always_inline)) i32 __reduce_max_sync(u32 mask, i32 x) { return (i32)emu_reduce(mask, (u32)x, EMU_MAX, 1); }
inline __attribute__((always_inline)) u32 __reduce_and_sync(u32 mask, u32 x) { return emu_reduce(mask, x, EMU_AND, 0); }
inline __attribute__((always_inline)) u32 __reduce_or_sync(u32 mask, u32 x) { return emu_reduce(mask, x, EMU_OR, 0); }
inline __attribute__((always_inline)) u32 __reduce_xor_sync(u32 mask, u32 x) { return emu_reduce(mask, x, EMU_EXOR, 0); }

template <typename T> inline __attribute__((always_inline)) T shuffle_xor(T x, i32 lanes) { return __shfl_xor_sync(ALL_LANES, x, lanes); }
template <typename T> inline __attribute__((always_inline)) T shuffle_down(T x, u32 lanes) { return __shfl_down_sync(ALL_LANES, x, lanes); }
template <typename T> inline __attribute__((always_inline)) T shuffle_from(T x, i32 lane) { return __shfl_sync(ALL_LANES, x, lane); }
inline __attribute__((always_inline)) u32 ballot(bool p) { return __ballot_sync(ALL_LANES, p); }

// ------------------------------------------------------------------------------------------------------ copies and matrices
inline __attribute__((always_inline)) void cp_async16(void* shared, const void* global, u32 valid = 16)
{
    emu_cp_async16(shared, global, valid);
}
inline __attribute__((always_inline)) void cp_async_commit() { emu_cp_async_commit(); }
template <int N> inline __attribute__((always_inline)) void cp_async_wait() { emu_cp_async_wait(N); }

inline __attribute__((always_inline)) void ldmatrix_x4(u32 (&r)[4], const void* shared_row, int line = __builtin_LINE())
{
    emu_ldmatrix_x4(r, shared_row, 0, line);
}
inline __attribute__((always_inline)) void ldmatrix_x4_trans(u32 (&r)[4], const void* shared_row, int line = __builtin_LINE())
{
    emu_ldmatrix_x4(r, shared_row, 1, line);
}
template <typename T>
inline __attribute__((always_inline)) void mma_m16n8k16(f32 (&d)[4], const u32 (&a)[4], const u32 (&b)[2], int line = __builtin_LINE())
{
    static_assert(std::is_same<T, bf16>::value || std::is_same<T, f16>::value, "16-bit numbers");
    emu_mma_m16n8k16(d, a, b, std::is_same<T, bf16>::value, line);
}
inline u32 to_tf32(f32 x)
{
    u32 bits;
    memcpy(&bits, &x, 4);
    // Half of the last place that stays is added, then the rest is cut off: ties go away from zero. A carry may go into the exponent.
    // Of infinities and NaNs nothing but the last places is lost; a NaN that has no others becomes an infinity. A GPU said so.
    return (bits & 0x7f800000) == 0x7f800000 ? bits & 0xffffe000 : (bits + 0x1000) & 0xffffe000;
}
inline __attribute__((always_inline)) void mma_m16n8k8_tf32(f32 (&d)[4], const u32 (&a)[4], const u32 (&b)[2], int line = __builtin_LINE())
{
    emu_mma_m16n8k8_tf32(d, a, b, line);
}

// ------------------------------------------------------------------------------------------------------ atomics
// None for floats, on purpose: their order would change the bits.
#define EMU_ATOMIC(name, mode)                                                                                                     \
    inline __attribute__((always_inline)) i32 name(i32* p, i32 x) { return (i32)emu_atomic32(p, (u32)x, mode, 1); }                \
    inline __attribute__((always_inline)) u32 name(u32* p, u32 x) { return emu_atomic32(p, x, mode, 0); }                          \
    inline __attribute__((always_inline)) i64 name(i64* p, i64 x) { return (i64)emu_atomic64(p, (u64)x, mode, 1); }                \
    inline __attribute__((always_inline)) u64 name(u64* p, u64 x) { return emu_atomic64(p, x, mode, 0); }
EMU_ATOMIC(atomicAdd, EMU_ATOMIC_ADD)
EMU_ATOMIC(atomicMin, EMU_ATOMIC_MIN)
EMU_ATOMIC(atomicMax, EMU_ATOMIC_MAX)
EMU_ATOMIC(atomicAnd, EMU_ATOMIC_AND)
EMU_ATOMIC(atomicOr, EMU_ATOMIC_OR)
EMU_ATOMIC(atomicXor, EMU_ATOMIC_XOR)
EMU_ATOMIC(atomicExch, EMU_ATOMIC_EXCH)
inline __attribute__((always_inline)) u32 atomicSub(u32* p, u32 x) { return emu_atomic32(p, 0u - x, EMU_ATOMIC_ADD, 0); }
inline __attribute__((always_inline)) i32 atomicSub(i32* p, i32 x) { return (i32)emu_atomic32(p, 0u - (u32)x, EMU_ATOMIC_ADD, 1); }
inline __attribute__((always_inline)) u32 atomicInc(u32* p, u32 last) { return emu_atomic32(p, last, EMU_ATOMIC_INC, 0); }
inline __attribute__((always_inline)) u32 atomicCAS(u32* p, u32 expected, u32 x) { return emu_cas32(p, expected, x); }
inline __attribute__((always_inline)) i32 atomicCAS(i32* p, i32 expected, i32 x) { return (i32)emu_cas32(p, (u32)expected, (u32)x); }
inline __attribute__((always_inline)) u64 atomicCAS(u64* p, u64 expected, u64 x) { return emu_cas64(p, expected, x); }

// ------------------------------------------------------------------------------------------------------ integers
template <typename T> inline T __ldg(const T* p) { return *p; }
inline i32 __popc(u32 x) { return __builtin_popcount(x); }
inline i32 __popcll(u64 x) { return __builtin_popcountll(x); }
inline i32 __ffs(i32 x) { return __builtin_ffs(x); }
inline i32 __clz(i32 x) { return x ? __builtin_clz((u32)x) : 32; }
inline i32 __clzll(i64 x) { return x ? __builtin_clzll((u64)x) : 64; }
inline u32 __umulhi(u32 a, u32 b) { return (u32)((u64)a * b >> 32); }
inline i32 __mulhi(i32 a, i32 b) { return (i32)((i64)a * b >> 32); }
inline u64 __umul64hi(u64 a, u64 b) { return (u64)((unsigned __int128)a * b >> 64); }
inline u32 __brev(u32 x)
{
    u32 r = 0;
    for (i32 i = 0; i < 32; i++)
        r |= ((x >> i) & 1) << (31 - i);
    return r;
}
#define EMU_MIN_MAX(T)                                                                                                             \
    inline T min(T a, T b) { return b < a ? b : a; }                                                                               \
    inline T max(T a, T b) { return a < b ? b : a; }
EMU_MIN_MAX(i32)
EMU_MIN_MAX(u32)
EMU_MIN_MAX(i64)
EMU_MIN_MAX(u64)
inline f32 min(f32 a, f32 b) { return fminf(a, b); }
inline f32 max(f32 a, f32 b) { return fmaxf(a, b); }

// ------------------------------------------------------------------------------------------------------ floats
// expf, logf, sqrtf, fmaf, tanhf and their like come from the C library. Names with two underscores are the GPU's fast, less exact
// forms; some of them are the C library's own too, hence macros. No kernel may depend on their last bits.
inline f32 rsqrtf(f32 x) { return 1.0f / sqrtf(x); }
inline f32 __saturatef(f32 x) { return x > 0 ? (x < 1 ? x : 1.0f) : 0.0f; }
#define __expf(x) expf(x)
#define __exp10f(x) powf(10.0f, (x))
#define __logf(x) logf(x)
#define __log2f(x) log2f(x)
#define __powf(x, y) powf((x), (y))
#define __sinf(x) sinf(x)
#define __cosf(x) cosf(x)
inline f32 cospif(f32 x) { return (f32)cos(3.14159265358979323846 * (f64)x); }
#define __tanf(x) tanf(x)
#define __fdividef(a, b) ((a) / (b))
// These round to nearest and are never fused; the flags of this build (-ffp-contract=off) see to that.
inline f32 __fadd_rn(f32 a, f32 b) { return a + b; }
inline f32 __fsub_rn(f32 a, f32 b) { return a - b; }
inline f32 __fmul_rn(f32 a, f32 b) { return a * b; }
inline f32 __fdiv_rn(f32 a, f32 b) { return a / b; }
inline f32 __fsqrt_rn(f32 a) { return sqrtf(a); }
inline f32 __frcp_rn(f32 a) { return 1.0f / a; }
inline f32 __fmaf_rn(f32 a, f32 b, f32 c) { return fmaf(a, b, c); }
// f32 to i32 as the GPU does: out of range stops at the ends, NaN becomes 0.
inline i32 emu_to_int(f32 x)
{
    if (x != x)
        return 0;
    return x >= 2147483648.0f ? 2147483647 : x < -2147483648.0f ? (-2147483647 - 1) : (i32)x;
}
inline i32 __float2int_rn(f32 x) { return emu_to_int(rintf(x)); }
inline i32 __float2int_rd(f32 x) { return emu_to_int(floorf(x)); }
inline i32 __float2int_ru(f32 x) { return emu_to_int(ceilf(x)); }
inline i32 __float2int_rz(f32 x) { return emu_to_int(truncf(x)); }
inline f32 __int2float_rn(i32 x) { return (f32)x; }
