// What a tensor can do by itself: be filled and be cast.
//
// CPU reference: src/tensor/mod.rs. Launched by src/tensor/cuda.rs.
//
// Memory is the limit, one pass each.

#include "common.cuh"

// out[i] = value, which comes as the bits of a T.
template <typename T> __global__ void fill(T* out, T value, i64 n)
{
    for (i64 i = first(); i < n; i += step())
        out[i] = value;
}
KERNEL(fill<u8>)
KERNEL(fill<u16>)
KERNEL(fill<u32>)
KERNEL(fill<u64>)

__device__ __forceinline__ f32 to_f32(u8 x) { return (f32)x; }
__device__ __forceinline__ f32 to_f32(i64 x) { return (f32)x; }

// out[i] = x[i], rounded to nearest.
template <typename From, typename To> __global__ void cast(const From* x, To* out, i64 n)
{
    for (i64 i = first(); i < n; i += step())
        out[i] = from_f32<To>(to_f32(x[i]));
}
KERNEL(cast<f32, f16>)
KERNEL(cast<f32, bf16>)
KERNEL(cast<f16, f32>)
KERNEL(cast<bf16, f32>)
KERNEL(cast<f16, bf16>)
KERNEL(cast<bf16, f16>)
KERNEL(cast<u8, f32>)
KERNEL(cast<i64, f32>)
