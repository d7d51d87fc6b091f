// A softmax of rows, one block a row, with one mistake per variant; and small kernels with one mistake each.

#include "common.cuh"

enum Fault {
    CORRECT,
    NO_BARRIER,        // between writing the row's exponentials and reading them
    READ_TOO_SOON,     // the scratch of the maximum is read before anything is written
    ROW_TOO_LONG,      // i <= n in shared memory
    SCRATCH_TOO_SMALL, // one number too far in a static array
    UNWRITTEN_BIAS,    // a global buffer that nobody filled is read
};

template <int FAULT> __global__ void softmax(const f32* x, const f32* bias, f32* y, i32 n)
{
    __shared__ f32 most[32];
    __shared__ f32 scratch[32];
    f32* row = (f32*)smem_raw; // n numbers
    const i64 at = (i64)blockIdx.x * n;
    const i32 warp = threadIdx.x / WARP, warps = blockDim.x / WARP;

    f32 m = -INFINITY;
    for (i32 i = threadIdx.x; i < (FAULT == ROW_TOO_LONG ? n + 1 : n); i += blockDim.x) {
        const f32 v = i < n ? x[at + i] : 0;
        row[i] = v + (FAULT == UNWRITTEN_BIAS ? bias[i < n ? i : 0] : 0);
        m = max_(m, row[i]);
    }
    for (i32 lanes = WARP / 2; lanes > 0; lanes /= 2)
        m = max_(m, shuffle_xor(m, lanes));
    if (threadIdx.x % WARP == 0)
        most[FAULT == SCRATCH_TOO_SMALL ? warp + 32 - warps + 1 : warp] = m;
    if (FAULT != READ_TOO_SOON)
        __syncthreads();
    m = most[0];
    for (i32 i = 1; i < warps; i++)
        m = max_(m, most[i]);

    // Each thread takes a neighbour's numbers: nobody may come before all have written.
    if (FAULT == NO_BARRIER) {
        for (i32 i = threadIdx.x; i < n; i += blockDim.x)
            row[i] = expf(row[i] - m);
    } else {
        for (i32 i = threadIdx.x; i < n; i += blockDim.x)
            row[i] = expf(row[i] - m);
        __syncthreads();
    }
    f32 sum = 0;
    for (i32 i = n - 1 - (i32)threadIdx.x; i >= 0; i -= blockDim.x)
        sum += row[i];
    sum = block_sum(sum, scratch);
    for (i32 i = threadIdx.x; i < n; i += blockDim.x)
        y[at + i] = row[i] / sum;
}
KERNEL(softmax<CORRECT>)
KERNEL(softmax<NO_BARRIER>)
KERNEL(softmax<READ_TOO_SOON>)
KERNEL(softmax<ROW_TOO_LONG>)
KERNEL(softmax<SCRATCH_TOO_SMALL>)
KERNEL(softmax<UNWRITTEN_BIAS>)

// The sum of all numbers in one launch: the last block to come adds up what the others left. Right with the fence.
template <bool FENCE> __global__ void total(const f32* x, f32* parts, u32* ticket, f32* out)
{
    __shared__ f32 scratch[32];
    __shared__ bool last;
    const f32 sum = block_sum(x[(u64)blockIdx.x * blockDim.x + threadIdx.x], scratch);
    if (threadIdx.x == 0) {
        parts[blockIdx.x] = sum;
        if (FENCE)
            __threadfence();
        last = atomicAdd(ticket, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (!last)
        return;
    f32 all = 0;
    for (u32 i = threadIdx.x; i < gridDim.x; i += blockDim.x)
        all += parts[i];
    all = block_sum(all, scratch);
    if (threadIdx.x == 0) {
        out[0] = all;
        *ticket = 0;
    }
}
KERNEL(total<true>)
KERNEL(total<false>)

// Lanes exchange numbers through shared memory, with __syncwarp between or without.
template <bool SYNC> __global__ void neighbours(const u32* in, u32* out)
{
    __shared__ u32 tile[4][32];
    const i32 warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    tile[warp][lane] = in[first()];
    if (SYNC)
        __syncwarp();
    out[first()] = tile[warp][lane ^ 1];
}
KERNEL(neighbours<true>)
KERNEL(neighbours<false>)

// 16 bytes at an address that isn't a multiple of 16, of which two numbers are used.
__global__ void misaligned(const u32* in, u32* out, i32 from)
{
    const Vec4 v = *(const Vec4*)(in + from);
    out[0] = v.x + v.w;
}
KERNEL(misaligned)

// Two threads of a warp come to different barriers; the counts agree.
__global__ void two_barriers(u32* out)
{
    if (threadIdx.x < 16)
        __syncthreads();
    else
        __syncthreads();
    out[threadIdx.x] = 1;
}
KERNEL(two_barriers)

// A lane that its own mask leaves out.
__global__ void wrong_mask(u32* out) { out[threadIdx.x] = __ballot_sync(0x7fffffffu, 1); }
KERNEL(wrong_mask)

// A wild address.
__global__ void wild(u32* out, i64 far) { out[far] = 1; }
KERNEL(wild)

// One number from one place to another.
__global__ void read_one(const u32* in, u32* out) { out[0] = in[0]; }
KERNEL(read_one)
