// The primitives one by one, for tests that compare them with plain Rust.

#include "common.cuh"

template <typename T> __global__ void convert_up(const T* in, f32* out, i64 n)
{
    for (i64 i = first(); i < n; i += step())
        out[i] = to_f32(in[i]);
}
KERNEL(convert_up<f16>)
KERNEL(convert_up<bf16>)

template <typename T> __global__ void convert_down(const f32* in, T* out, i64 n)
{
    for (i64 i = first(); i < n; i += step())
        out[i] = from_f32<T>(in[i]);
}
KERNEL(convert_down<f16>)
KERNEL(convert_down<bf16>)

// out[operation][thread]
__global__ void lanes(u32* out)
{
    const u32 i = threadIdx.x, lane = i % WARP, n = blockDim.x;
    const u32 x = i * i + 3;
    out[0 * n + i] = shuffle_xor(x, 5);
    out[1 * n + i] = shuffle_down(x, 7);
    out[2 * n + i] = shuffle_from(x, 9);
    out[3 * n + i] = __shfl_up_sync(ALL_LANES, x, 3);
    out[4 * n + i] = ballot(x % 3 == 0);
    out[5 * n + i] = __shfl_xor_sync(ALL_LANES, x, 3, 8) + __shfl_sync(ALL_LANES, x, 2, 8);
    out[6 * n + i] = __any_sync(ALL_LANES, i == 40) * 2 + __all_sync(ALL_LANES, i < 40);
    out[7 * n + i] = __reduce_add_sync(ALL_LANES, x);
    out[8 * n + i] = __reduce_max_sync(ALL_LANES, x) - __reduce_min_sync(ALL_LANES, x);
    // The two halves meet among themselves, the upper one more often.
    if (lane < 16)
        out[9 * n + i] = __shfl_xor_sync(0x0000ffffu, x, 1);
    else {
        const u32 y = __shfl_xor_sync(0xffff0000u, x, 1);
        out[9 * n + i] = __shfl_xor_sync(0xffff0000u, y, 1) + 1;
    }
    const u64 wide = shuffle_xor((u64)x << 32 | i, 1);
    out[10 * n + i] = (u32)(wide >> 32) + (u32)wide;
    out[11 * n + i] = float_bits(shuffle_xor((f32)x, 16));
    out[12 * n + i] = __syncthreads_count(i % 3 == 0) * 4 + __syncthreads_or(i == 50) * 2 + __syncthreads_and(i < 50);
}
KERNEL(lanes)

// Each thread's place, in a grid and a block of three dimensions.
__global__ void places(u32* out)
{
    const u32 block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    const u32 thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    out[(u64)block * (blockDim.x * blockDim.y * blockDim.z) + thread] = thread << 16 | block;
}
KERNEL(places)

// A 16 x 16 tile through ldmatrix, both ways: out[lane][4], then the transposed ones.
__global__ void load_matrix(const u16* in, u32* out)
{
    u16* tile = (u16*)smem_raw;
    for (i32 i = threadIdx.x; i < 256; i += WARP)
        tile[i] = in[i];
    __syncwarp();
    u32 r[4];
    const u16* row = tile + threadIdx.x % 16 * 16 + threadIdx.x / 16 * 8;
    ldmatrix_x4(r, row);
    for (i32 i = 0; i < 4; i++)
        out[threadIdx.x * 4 + i] = r[i];
    ldmatrix_x4_trans(r, row);
    for (i32 i = 0; i < 4; i++)
        out[128 + threadIdx.x * 4 + i] = r[i];
}
KERNEL(load_matrix)

// d[16][8] += a[16][16] * b[16][8], the fragments by hand as prim.cuh describes them.
template <typename T> __global__ void multiply(const T* a, const T* b, f32* d)
{
    const i32 g = threadIdx.x / 4, t = threadIdx.x % 4;
    auto pair = [](T low, T high) { return (u32)low.bits | (u32)high.bits << 16; };
    u32 fa[4], fb[2];
    f32 fd[4];
    for (i32 i = 0; i < 4; i++) {
        const i32 row = g + i % 2 * 8, column = 2 * t + i / 2 * 8;
        fa[i] = pair(a[row * 16 + column], a[row * 16 + column + 1]);
    }
    for (i32 i = 0; i < 2; i++)
        fb[i] = pair(b[(2 * t + i * 8) * 8 + g], b[(2 * t + i * 8 + 1) * 8 + g]);
    for (i32 i = 0; i < 4; i++)
        fd[i] = d[(g + i / 2 * 8) * 8 + 2 * t + i % 2];
    mma_m16n8k16<T>(fd, fa, fb);
    for (i32 i = 0; i < 4; i++)
        d[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = fd[i];
}
KERNEL(multiply<bf16>)
KERNEL(multiply<f16>)

// Sums over blocks of f32 and f64, twice in a row with one scratch.
__global__ void sums(const f32* x, f64* out)
{
    __shared__ f32 narrow[32];
    f64* wide = (f64*)smem_raw;
    const f32 v = x[(u64)blockIdx.x * blockDim.x + threadIdx.x];
    const f32 a = block_sum(v, narrow), b = block_sum(v * 2, narrow);
    const f64 c = block_sum((f64)v, wide);
    if (threadIdx.x == blockDim.x - 1) {
        out[blockIdx.x * 3] = a;
        out[blockIdx.x * 3 + 1] = b;
        out[blockIdx.x * 3 + 2] = c;
    }
}
KERNEL(sums)

// What a copy of `valid` bytes leaves, before and after its wait: out[0] sees it at once, out[1] after the groups that `wait<1>`
// guarantees, out[2] after all.
__global__ void copies(const u32* in, u32* out, u32 valid)
{
    u32* tile = (u32*)smem_raw + threadIdx.x * 8;
    for (i32 i = 0; i < 8; i++)
        tile[i] = 7;
    cp_async16(tile, in, valid);
    cp_async_commit();
    cp_async16(tile + 4, in + 4, valid);
    cp_async_commit();
    for (i32 i = 0; i < 8; i++)
        out[i] = tile[i];
    cp_async_wait<1>();
    for (i32 i = 0; i < 8; i++)
        out[8 + i] = tile[i];
    cp_async_wait<0>();
    for (i32 i = 0; i < 8; i++)
        out[16 + i] = tile[i];
}
KERNEL(copies)

// Integer atomics in both memories, by all threads of all blocks.
__global__ void counts(u32* out, i64* wide, i32* least)
{
    __shared__ u32 local;
    if (threadIdx.x == 0)
        local = 0;
    __syncthreads();
    atomicAdd(&local, threadIdx.x);
    __syncthreads();
    if (threadIdx.x == 0)
        atomicAdd(&out[0], local);
    atomicMax(&out[1], blockIdx.x * 100 + threadIdx.x);
    atomicInc(&out[2], 9);
    for (u32 old = 0, seen; (seen = atomicCAS(&out[3], old, old + 2)) != old; old = seen) {
    }
    atomicAdd(wide, -(i64)threadIdx.x);
    atomicMin(least, (i32)threadIdx.x - 60);
}
KERNEL(counts)

// The functions that have another name or another meaning in C.
__global__ void functions(const f32* x, f32* out)
{
    const f32 v = x[threadIdx.x];
    f32* o = out + threadIdx.x * 8;
    o[0] = rsqrtf(v);
    o[1] = __expf(v);
    o[2] = __logf(v);
    o[3] = __fdividef(1.0f, v);
    o[4] = (f32)__float2int_rn(v);
    o[5] = __saturatef(v);
    o[6] = fmaf(v, v, -1.0f);
    o[7] = (f32)(__popc(float_bits(v)) * 10000 + __clz((i32)float_bits(v)) * 100 + __ffs((i32)float_bits(v)));
}
KERNEL(functions)

// A parameter struct with everything that moves offsets.
struct Mixed {
    u8 a;
    f64 b;
    u16 c;
    const f32* d;
    i32 e[3];
};
LAYOUT(Mixed, a, b, c, d, e)
__global__ void parameters(u8 small, const __grid_constant__ Mixed m, i64 n, f64* out)
{
    if (threadIdx.x == 0)
        out[0] = small + m.a + m.b + m.c + m.d[1] + m.e[2] + (f64)n;
}
KERNEL(parameters)
