// What this GPU can do at best, one thing at a time: the roofs that the benches measure everything else against.
//
// No operation is here and there is no CPU reference: each kernel does one thing in a loop with nothing in its way, and its result,
// a sum that nobody looks at, depends on all of it, so that no compiler can leave any out. Launched by src/device/cuda/ceilings.rs,
// which counts the work and takes the time; the roof over memory is a copy by the driver and needs no kernel.
//
// What limits each:
//   - ceiling_l2_read: the second-level cache, and the wires from it. A buffer of 20 MB fits there and not in the first-level caches;
//     every block walks through it in an order of its own, so that what it finds in its own cache is one piece in a hundred.
//   - ceiling_mma: the tensor cores, fed by mma.sync from registers. 8 sums of a warp are independent of each other, and 8 warps
//     share a scheduler, so the 30 cycles until a sum may be added to again are hidden several times over. On Hopper this is not
//     the card's highest rate: mma.sync reaches about 60 % of what wgmma does there. It is the roof of kernels that are made of mma.sync.
//   - ceiling_fma: the f32 units; 16 independent chains in a thread.
//   - ceiling_empty: how fast kernels can follow each other.
//
// Operands of the tensor cores are random numbers and not zeros, with which the same loop draws less power and runs faster.
//
// Try it: cargo test --test emulator -- every_kernel        Bench: the first lines of any, cargo bench --bench ops

#include "common.cuh"

namespace ceilings {

inline constexpr i32 LOADS = 4;    // of 16 bytes, in flight in a thread at once
inline constexpr i32 CHAINS = 16;  // of multiply-adds in a thread
inline constexpr i32 ROWS = 2;     // of the 16x8 sums of a warp
inline constexpr i32 COLS = 4;

// A register of random numbers in -1..1: two of 16 bits, the low half first, or one of tf32.
template <typename T> __device__ __forceinline__ u32 random_register(u32 x)
{
    const f32 low = (f32)(x & 0xffff) / 32768.0f - 1.0f, high = (f32)(x >> 16) / 32768.0f - 1.0f;
    if constexpr (sizeof(T) == 4)
        return to_tf32(low);
    else
        return (u32)from_f32<T>(low).bits | (u32)from_f32<T>(high).bits << 16;
}
template <typename T> __device__ __forceinline__ void product(f32 (&d)[4], const u32 (&a)[4], const u32 (&b)[2])
{
    if constexpr (sizeof(T) == 4)
        mma_m16n8k8_tf32(d, a, b);
    else
        mma_m16n8k16<T>(d, a, b);
}

} // namespace ceilings

// `in` is `pieces` (at least 2) of LOADS * blockDim.x * 16 bytes; each block reads `steps` of them. out [threads of the grid]
__global__ void ceiling_l2_read(const Vec4* in, u32* out, i32 pieces, i32 steps)
{
    using namespace ceilings;
    // With a prime number of pieces every stride visits them all.
    const i32 stride = 1 + blockIdx.x % (pieces - 1);
    i32 piece = blockIdx.x % pieces;
    u32 sum = 0;
    for (i32 s = 0; s < steps; s++) {
        const Vec4* at = in + (i64)piece * LOADS * blockDim.x + threadIdx.x;
        Vec4 v[LOADS];
#pragma unroll
        for (i32 i = 0; i < LOADS; i++)
            v[i] = at[i * blockDim.x];
#pragma unroll
        for (i32 i = 0; i < LOADS; i++)
            sum += v[i].x ^ v[i].y ^ v[i].z ^ v[i].w;
        piece += stride;
        if (piece >= pieces)
            piece -= pieces;
    }
    out[first()] = sum;
}
KERNEL(ceiling_l2_read)

// `steps` times ROWS * COLS products of 16x16 by 16x8 in each warp; in f32 as tf32, and of 16x8 by 8x8. out [threads of the grid]
template <typename T> __global__ void ceiling_mma(f32* out, i32 steps)
{
    using namespace ceilings;
    u32 a[ROWS][4], b[COLS][2];
    f32 sum[ROWS][COLS][4] = {};
    const u32 thread = (u32)first();
#pragma unroll
    for (i32 i = 0; i < ROWS; i++) {
        const Philox x = philox(1, i, {{thread, 0, 0, 0}});
#pragma unroll
        for (i32 r = 0; r < 4; r++)
            a[i][r] = random_register<T>(x.x[r]);
    }
#pragma unroll
    for (i32 j = 0; j < COLS; j++) {
        const Philox x = philox(2, j, {{thread, 0, 0, 0}});
        b[j][0] = random_register<T>(x.x[0]);
        b[j][1] = random_register<T>(x.x[1]);
    }
    for (i32 s = 0; s < steps; s++)
#pragma unroll
        for (i32 i = 0; i < ROWS; i++)
#pragma unroll
            for (i32 j = 0; j < COLS; j++)
                product<T>(sum[i][j], a[i], b[j]);
    f32 total = 0;
#pragma unroll
    for (i32 i = 0; i < ROWS; i++)
#pragma unroll
        for (i32 j = 0; j < COLS; j++)
            total += sum[i][j][0] + sum[i][j][1] + sum[i][j][2] + sum[i][j][3];
    out[first()] = total;
}
KERNEL(ceiling_mma<f16>)
KERNEL(ceiling_mma<bf16>)
KERNEL(ceiling_mma<f32>)

// `steps` times CHAINS multiply-adds in each thread. out [threads of the grid]
__global__ void ceiling_fma(f32 factor, f32 summand, f32* out, i32 steps)
{
    using namespace ceilings;
    f32 x[CHAINS];
#pragma unroll
    for (i32 i = 0; i < CHAINS; i++)
        x[i] = (f32)(threadIdx.x + i);
    for (i32 s = 0; s < steps; s++)
#pragma unroll
        for (i32 i = 0; i < CHAINS; i++)
            x[i] = x[i] * factor + summand;
    f32 total = 0;
#pragma unroll
    for (i32 i = 0; i < CHAINS; i++)
        total += x[i];
    out[first()] = total;
}
KERNEL(ceiling_fma)

// Nothing.
__global__ void ceiling_empty(i32) {}
KERNEL(ceiling_empty)
