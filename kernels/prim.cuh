// The primitives: number types, and every function that is not plain C++.
//
// All kernels include this header (through common.cuh) and no other; NVIDIA's own headers are never needed. It is the only file
// with inline PTX. Each wrapper below is one or two instructions of the PTX manual (section named beside it), and takes pointers:
// the 32-bit shared-memory addresses that PTX wants are made here.
//
// The same kernels also run on the CPU, in the emulator of this project. There `ONECYCLE_EMULATOR` is defined, and everything
// between the two marks below comes from emulator/include/emulator.h instead: the same functions, in plain C++.

#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int i32;
typedef long long i64;
typedef float f32;
typedef double f64;

// Half precision is storage only: kernels load it, compute in f32, and round once when they store.
struct f16 { // IEEE binary16: 10 bits of fraction, largest number 65504
    u16 bits;
};
struct bf16 { // the upper half of an f32: its range, 7 bits of fraction
    u16 bits;
};

// 16 bytes: what one thread moves with one instruction when memory is the limit.
struct alignas(16) Vec4 {
    u32 x, y, z, w;
};

#define WARP 32
#define ALL_LANES 0xffffffffu

#ifdef ONECYCLE_EMULATOR
#include "emulator.h"
#else // ------------------------------------------------------------------------------------------ the PTX side begins here

// `KERNEL(relu_forward<bf16>)` names an entry point: an instantiation that the host can launch. The build script reads these
// lines and asks the compiler for the instantiations; the emulator makes a table of them. One space after a comma.
#define KERNEL(...)
// `LAYOUT(Geometry, n, h, w)` names a struct that the host passes by value, and all its fields. A test compares size and offsets
// with the Rust struct of that name.
#define LAYOUT(...)

// All shared memory of a kernel. Its size comes with the launch.
extern "C" __shared__ __align__(128) u8 smem_raw[];

__device__ __forceinline__ u32 float_bits(f32 x) { return __float_as_uint(x); }
__device__ __forceinline__ f32 bits_float(u32 x) { return __uint_as_float(x); }

// Conversions (9.7.9.21 cvt). Rounding is to nearest, ties to even.
__device__ __forceinline__ f32 to_f32(f32 x) { return x; }
__device__ __forceinline__ f32 to_f32(bf16 x) { return __uint_as_float((u32)x.bits << 16); }
__device__ __forceinline__ f32 to_f32(f16 x)
{
    f32 r;
    asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(x.bits));
    return r;
}
template <typename T> __device__ __forceinline__ T from_f32(f32 x);
template <> __device__ __forceinline__ f32 from_f32<f32>(f32 x) { return x; }
template <> __device__ __forceinline__ bf16 from_f32<bf16>(f32 x)
{
    bf16 r;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(r.bits) : "f"(x));
    return r;
}
template <> __device__ __forceinline__ f16 from_f32<f16>(f32 x)
{
    f16 r;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(r.bits) : "f"(x));
    return r;
}

// Asynchronous copies from global to shared memory (9.7.9.25.3 cp.async). Copies 16 bytes, of which the first `valid` (0 to 16)
// are read and the rest become zero; with `valid` 0 nothing is read. Both addresses are multiples of 16.
__device__ __forceinline__ void cp_async16(void* shared, const void* global, u32 valid = 16)
{
    u32 to = (u32)__cvta_generic_to_shared(shared);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(valid) : "memory");
}
// The copies so far form a group.
__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most `N` of this thread's latest groups are still under way. Other threads' copies need a barrier besides.
template <int N> __device__ __forceinline__ void cp_async_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// Four 8x8 matrices of 16-bit numbers from shared memory into the fragments of mma (9.7.14.5.15 ldmatrix). Lane `l` gives the
// address of row `l % 8` of matrix `l / 8` (16 bytes, a multiple of 16); `r[i]` receives matrix `i`: lane `l` holds the elements
// (row l/4, columns 2(l%4) and 2(l%4)+1), low half first.
__device__ __forceinline__ void ldmatrix_x4(u32 (&r)[4], const void* shared_row)
{
    u32 at = (u32)__cvta_generic_to_shared(shared_row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}
// The same, each matrix transposed: lane `l` holds the elements (rows 2(l%4) and 2(l%4)+1, column l/4).
__device__ __forceinline__ void ldmatrix_x4_trans(u32 (&r)[4], const void* shared_row)
{
    u32 at = (u32)__cvta_generic_to_shared(shared_row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}

// d += a * b for a 16x16 tile `a`, a 16x8 tile `b` and a 16x8 tile `d` in f32, by the whole warp (9.7.14.5 mma, m16n8k16).
// With g = lane / 4 and t = lane % 4, two 16-bit numbers a register, low half first:
//   a[0]: row g, columns 2t..     a[1]: row g+8, columns 2t..     a[2]: row g, columns 2t+8..     a[3]: row g+8, columns 2t+8..
//   b[0]: rows 2t.., column g     b[1]: rows 2t+8.., column g
//   d[0], d[1]: row g, columns 2t, 2t+1                           d[2], d[3]: row g+8, the same columns
template <typename T> __device__ __forceinline__ void mma_m16n8k16(f32 (&d)[4], const u32 (&a)[4], const u32 (&b)[2]);
template <> __device__ __forceinline__ void mma_m16n8k16<bf16>(f32 (&d)[4], const u32 (&a)[4], const u32 (&b)[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
template <> __device__ __forceinline__ void mma_m16n8k16<f16>(f32 (&d)[4], const u32 (&a)[4], const u32 (&b)[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// f32 to tf32, the tensor cores' f32 with 10 bits of fraction (9.7.9.21 cvt.rna): to nearest, ties away from zero.
__device__ __forceinline__ u32 to_tf32(f32 x)
{
    u32 r;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(x));
    return r;
}

// d += a * b for a 16x8 tile `a` and an 8x8 tile `b` in tf32, a 16x8 tile `d` in f32 (9.7.14.5 mma, m16n8k8). With g = lane / 4 and
// t = lane % 4:
//   a[0]: row g, column t     a[1]: row g+8, column t     a[2]: row g, column t+4     a[3]: row g+8, column t+4
//   b[0]: row t, column g     b[1]: row t+4, column g     d as in m16n8k16
__device__ __forceinline__ void mma_m16n8k8_tf32(f32 (&d)[4], const u32 (&a)[4], const u32 (&b)[2])
{
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Lanes of one warp exchange values (9.7.9.6 shfl.sync). All 32 lanes take part.
template <typename T> __device__ __forceinline__ T shuffle_xor(T x, i32 lanes) { return __shfl_xor_sync(ALL_LANES, x, lanes); }
template <typename T> __device__ __forceinline__ T shuffle_down(T x, u32 lanes) { return __shfl_down_sync(ALL_LANES, x, lanes); }
template <typename T> __device__ __forceinline__ T shuffle_from(T x, i32 lane) { return __shfl_sync(ALL_LANES, x, lane); }
// A bit for each lane whose `p` is true.
__device__ __forceinline__ u32 ballot(bool p) { return __ballot_sync(ALL_LANES, p); }

#endif // ------------------------------------------------------------------------------------------- and it ends here
