// One small kernel for each primitive of prim.cuh, and nothing else in it: what comes out of a GPU is what the instruction does.
//
// The emulator has its own version of every primitive, written after the PTX manual. These kernels are how the reading is checked:
// the same inputs go through them on a GPU and in the emulator, and the outputs are compared bit for bit. Inputs and comparison:
// src/device/cuda/selftest.rs, which launches them.
//
// Nothing here knows what a fragment means: registers come from memory and go to memory as they are, lane by lane. So a layout
// that we got wrong can't cancel out.
//
// Try it: cargo test --test ptx_selftest

#include "common.cuh"

// out[i] = the bits of in[i] as an f32
template <typename T> __global__ void selftest_to_f32(const T* in, u32* out, i64 n)
{
    for (i64 i = first(); i < n; i += step())
        out[i] = float_bits(to_f32(in[i]));
}
KERNEL(selftest_to_f32<f32>)
KERNEL(selftest_to_f32<f16>)
KERNEL(selftest_to_f32<bf16>)

// out[i] = in[i], rounded
template <typename T> __global__ void selftest_from_f32(const f32* in, T* out, i64 n)
{
    for (i64 i = first(); i < n; i += step())
        out[i] = from_f32<T>(in[i]);
}
KERNEL(selftest_from_f32<f32>)
KERNEL(selftest_from_f32<f16>)
KERNEL(selftest_from_f32<bf16>)

__global__ void selftest_to_tf32(const f32* in, u32* out, i64 n)
{
    for (i64 i = first(); i < n; i += step())
        out[i] = to_tf32(in[i]);
}
KERNEL(selftest_to_tf32)

__global__ void selftest_float_bits(const f32* in, u32* out, i64 n)
{
    for (i64 i = first(); i < n; i += step())
        out[i] = float_bits(in[i]);
}
KERNEL(selftest_float_bits)

__global__ void selftest_bits_float(const u32* in, f32* out, i64 n)
{
    for (i64 i = first(); i < n; i += step())
        out[i] = bits_float(in[i]);
}
KERNEL(selftest_bits_float)

// Thread t copies 16 bytes of which t % 17 count, then 16 bytes by the default; what lies there afterwards. in, out [threads][2] of 16.
__global__ void selftest_cp_async16(const Vec4* in, Vec4* out)
{
    Vec4* mine = (Vec4*)smem_raw + 2 * threadIdx.x;
    mine[0] = mine[1] = Vec4{~0u, ~0u, ~0u, ~0u};
    cp_async16(mine, in + 2 * threadIdx.x, threadIdx.x % 17);
    cp_async16(mine + 1, in + 2 * threadIdx.x + 1);
    cp_async_commit();
    cp_async_wait<0>();
    out[2 * threadIdx.x] = mine[0];
    out[2 * threadIdx.x + 1] = mine[1];
}
KERNEL(selftest_cp_async16)

// Two copies in the first group and one in the second: waiting for all groups but the last brings the two. in [threads][3],
// out [threads][2] of 16 bytes.
__global__ void selftest_cp_async_commit(const Vec4* in, Vec4* out)
{
    Vec4* mine = (Vec4*)smem_raw + 3 * threadIdx.x;
    in += 3 * threadIdx.x;
    cp_async16(mine, in);
    cp_async16(mine + 1, in + 1);
    cp_async_commit();
    cp_async16(mine + 2, in + 2);
    cp_async_commit();
    cp_async_wait<1>();
    out[2 * threadIdx.x] = mine[0];
    out[2 * threadIdx.x + 1] = mine[1];
    cp_async_wait<0>();
}
KERNEL(selftest_cp_async_commit)

// Four groups of one copy, read as soon as each is guaranteed, by the neighbour in the warp. in, out [threads][4] of 16 bytes.
__global__ void selftest_cp_async_wait(const Vec4* in, Vec4* out)
{
    Vec4* tile = (Vec4*)smem_raw;
    const u32 mine = 4 * threadIdx.x, theirs = 4 * (threadIdx.x ^ 1);
    for (i32 i = 0; i < 4; i++) {
        cp_async16(tile + mine + i, in + mine + i);
        cp_async_commit();
    }
    cp_async_wait<3>();
    __syncthreads();
    out[mine] = tile[theirs];
    cp_async_wait<2>();
    __syncthreads();
    out[mine + 1] = tile[theirs + 1];
    cp_async_wait<1>();
    __syncthreads();
    out[mine + 2] = tile[theirs + 2];
    cp_async_wait<0>();
    __syncthreads();
    out[mine + 3] = tile[theirs + 3];
}
KERNEL(selftest_cp_async_wait)

// 32 rows of 16 bytes lie in shared memory, 48 bytes apart; each block hands them to the lanes in another order.
// in [32] of 16 bytes, out [blocks][32][4]
template <bool TRANSPOSED> __device__ void load_matrices(const Vec4* in, u32* out)
{
    Vec4* rows = (Vec4*)smem_raw;
    rows[3 * threadIdx.x] = in[threadIdx.x];
    __syncthreads();
    const u32 row = (threadIdx.x * (2 * blockIdx.x + 1) + blockIdx.x) % WARP;
    u32 r[4];
    if (TRANSPOSED)
        ldmatrix_x4_trans(r, rows + 3 * row);
    else
        ldmatrix_x4(r, rows + 3 * row);
    for (i32 i = 0; i < 4; i++)
        out[(blockIdx.x * WARP + threadIdx.x) * 4 + i] = r[i];
}
__global__ void selftest_ldmatrix_x4(const Vec4* in, u32* out) { load_matrices<false>(in, out); }
KERNEL(selftest_ldmatrix_x4)
__global__ void selftest_ldmatrix_x4_trans(const Vec4* in, u32* out) { load_matrices<true>(in, out); }
KERNEL(selftest_ldmatrix_x4_trans)

// One product a block. a [blocks][32][4], b [blocks][32][2], c and out [blocks][32][4]
template <typename T> __global__ void selftest_mma_m16n8k16(const u32* a, const u32* b, const f32* c, f32* out)
{
    const u32 lane = blockIdx.x * WARP + threadIdx.x;
    u32 fa[4], fb[2];
    f32 d[4];
    for (i32 i = 0; i < 4; i++)
        fa[i] = a[lane * 4 + i];
    for (i32 i = 0; i < 2; i++)
        fb[i] = b[lane * 2 + i];
    for (i32 i = 0; i < 4; i++)
        d[i] = c[lane * 4 + i];
    mma_m16n8k16<T>(d, fa, fb);
    for (i32 i = 0; i < 4; i++)
        out[lane * 4 + i] = d[i];
}
KERNEL(selftest_mma_m16n8k16<f16>)
KERNEL(selftest_mma_m16n8k16<bf16>)

// The same in tf32: a and b are f32, rounded on the way.
__global__ void selftest_mma_m16n8k8_tf32(const f32* a, const f32* b, const f32* c, f32* out)
{
    const u32 lane = blockIdx.x * WARP + threadIdx.x;
    u32 fa[4], fb[2];
    f32 d[4];
    for (i32 i = 0; i < 4; i++)
        fa[i] = to_tf32(a[lane * 4 + i]);
    for (i32 i = 0; i < 2; i++)
        fb[i] = to_tf32(b[lane * 2 + i]);
    for (i32 i = 0; i < 4; i++)
        d[i] = c[lane * 4 + i];
    mma_m16n8k8_tf32(d, fa, fb);
    for (i32 i = 0; i < 4; i++)
        out[lane * 4 + i] = d[i];
}
KERNEL(selftest_mma_m16n8k8_tf32)

// in [threads], out [steps][threads]; the number of a step is the mask, the distance or the lane. The value travels as a T of the
// same bits, or of twice as many.
template <typename T> __device__ T carried(u32 x);
template <> __device__ u32 carried<u32>(u32 x) { return x; }
template <> __device__ f32 carried<f32>(u32 x) { return bits_float(x); }
template <> __device__ f64 carried<f64>(u32 x) { return (f64)x * 1048577.0; }

template <typename T> __global__ void selftest_shuffle_xor(const u32* in, T* out)
{
    for (i32 i = 0; i < WARP; i++)
        out[i * blockDim.x + threadIdx.x] = shuffle_xor(carried<T>(in[threadIdx.x]), i);
}
KERNEL(selftest_shuffle_xor<u32>)
KERNEL(selftest_shuffle_xor<f32>)
KERNEL(selftest_shuffle_xor<f64>)

template <typename T> __global__ void selftest_shuffle_down(const u32* in, T* out)
{
    for (i32 i = 0; i < WARP; i++)
        out[i * blockDim.x + threadIdx.x] = shuffle_down(carried<T>(in[threadIdx.x]), (u32)i);
}
KERNEL(selftest_shuffle_down<u32>)
KERNEL(selftest_shuffle_down<f32>)
KERNEL(selftest_shuffle_down<f64>)

template <typename T> __global__ void selftest_shuffle_from(const u32* in, T* out)
{
    for (i32 i = 0; i < WARP; i++)
        out[i * blockDim.x + threadIdx.x] = shuffle_from(carried<T>(in[threadIdx.x]), i);
}
KERNEL(selftest_shuffle_from<u32>)
KERNEL(selftest_shuffle_from<f32>)
KERNEL(selftest_shuffle_from<f64>)

// Bit i of each thread's number, for all i. in [threads], out [32][threads]
__global__ void selftest_ballot(const u32* in, u32* out)
{
    for (i32 i = 0; i < 32; i++)
        out[i * blockDim.x + threadIdx.x] = ballot(in[threadIdx.x] >> i & 1);
}
KERNEL(selftest_ballot)
