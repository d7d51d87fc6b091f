// What kernels share: sizes, sums over a block, 16-byte loads and stores, random numbers.

#pragma once
#include "prim.cuh"

template <typename T> __host__ __device__ constexpr T ceil_div(T a, T b) { return (a + b - 1) / b; }

__device__ __forceinline__ f32 min_(f32 a, f32 b) { return a < b ? a : b; }
__device__ __forceinline__ f32 max_(f32 a, f32 b) { return a > b ? a : b; }
__device__ __forceinline__ bool is_nan(f32 x) { return x != x; }

// The place of this thread among all of the grid, and how many there are: loops go `for (i = first(); i < n; i += step())`, so any
// number of blocks does the work of any n.
__device__ __forceinline__ i64 first() { return (i64)blockIdx.x * blockDim.x + threadIdx.x; }
__device__ __forceinline__ i64 step() { return (i64)gridDim.x * blockDim.x; }

// Sum over a warp; every lane gets it. The order of additions is fixed, so the bits are too.
template <typename T> __device__ __forceinline__ T warp_sum(T x)
{
    for (i32 lanes = WARP / 2; lanes > 0; lanes /= 2)
        x += shuffle_xor(x, lanes);
    return x;
}

// Sum over a block of at most 1,024 threads, a multiple of 32; every thread gets it. `scratch` is shared memory for 32 numbers.
// It may be called again at once: the second barrier protects the scratch.
template <typename T> __device__ T block_sum(T x, T* scratch)
{
    const i32 warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
    x = warp_sum(x);
    if (threadIdx.x % WARP == 0)
        scratch[warp] = x;
    __syncthreads();
    T total = scratch[0];
    for (i32 i = 1; i < warps; i++)
        total += scratch[i];
    __syncthreads();
    return total;
}

// How many numbers of type T fit into 16 bytes.
template <typename T> struct Pack {
    static constexpr i32 N = 16 / sizeof(T);
};

// 16 bytes of numbers at once, as f32; `p` is a multiple of 16.
template <typename T> __device__ __forceinline__ void load_pack(const T* p, f32 (&out)[Pack<T>::N])
{
    alignas(16) T raw[Pack<T>::N];
    *(Vec4*)raw = *(const Vec4*)p;
    for (i32 i = 0; i < Pack<T>::N; i++)
        out[i] = to_f32(raw[i]);
}
template <typename T> __device__ __forceinline__ void store_pack(T* p, const f32 (&in)[Pack<T>::N])
{
    alignas(16) T raw[Pack<T>::N];
    for (i32 i = 0; i < Pack<T>::N; i++)
        raw[i] = from_f32<T>(in[i]);
    *(Vec4*)p = *(const Vec4*)raw;
}
// N numbers at once: 16 bytes of them, or a single one where rows don't come in packs.
template <typename T, i32 N> __device__ __forceinline__ void load_some(const T* p, f32 (&out)[N])
{
    if constexpr (N == 1)
        out[0] = to_f32(*p);
    else
        load_pack(p, out);
}
template <typename T, i32 N> __device__ __forceinline__ void store_some(T* p, const f32 (&in)[N])
{
    if constexpr (N == 1)
        *p = from_f32<T>(in[0]);
    else
        store_pack(p, in);
}

// Ten rounds of Philox4x32 (Salmon et al., SC'11): 128 random bits for a key and a counter, the same bits as on the CPU (src/rng.rs).
struct Philox {
    u32 x[4];
};
__device__ inline Philox philox(u32 key0, u32 key1, Philox c)
{
    for (i32 round = 0; round < 10; round++) {
        const u64 a = (u64)c.x[0] * 0xD2511F53u, b = (u64)c.x[2] * 0xCD9E8D57u;
        c = {{(u32)(b >> 32) ^ c.x[1] ^ key0, (u32)b, (u32)(a >> 32) ^ c.x[3] ^ key1, (u32)a}};
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return c;
}
