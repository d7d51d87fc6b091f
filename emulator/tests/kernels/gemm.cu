// A small GEMM the way the real ones are built (cp.async pipeline, ldmatrix, mma.sync, predicates at ragged edges), with one
// mistake per variant: the emulator's tests plant it and look at what is said. c[M, N] = a[M, K] * b[K, N].
//
// A block computes 64 x 32 with four warps, 16 rows each, in steps of 32 along K, two stages ahead.

#include "common.cuh"

enum Fault {
    CORRECT,
    NO_BARRIER_AFTER_WAIT,  // other threads' copies may not have arrived
    NO_BARRIER_AFTER_USE,   // the next copy may overwrite what is still read
    WAIT_ONE_GROUP_TOO_FEW, // wait<1> where wait<0> is needed
    BOUND_OF_ROWS,          // r <= M
    NO_PREDICATE,           // the edge of K is copied in full
    BLOCKS_OVERLAP,         // two blocks write one tile
    DIVERGENT_BARRIER,      // a __syncthreads for some threads only
    LANE_MISSING,           // an mma that one lane doesn't come to
};

struct GemmShape {
    i32 m, n, k;
    i32 ldc;
};
LAYOUT(GemmShape, m, n, k, ldc)

template <typename T, int FAULT> __global__ void gemm(const T* a, const T* b, f32* c, const __grid_constant__ GemmShape s)
{
    constexpr i32 BM = 64, BN = 32, BK = 32, STAGES = 2, PAD = 8;
    typedef T TileA[BM][BK + PAD];
    typedef T TileB[BK][BN + PAD];
    TileA* sa = (TileA*)smem_raw;
    TileB* sb = (TileB*)(smem_raw + STAGES * sizeof(TileA));
    const i32 row0 = blockIdx.y * BM, col0 = FAULT == BLOCKS_OVERLAP ? 0 : blockIdx.x * BN;
    const i32 warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;

    auto copy = [&](i32 stage, i32 k0) {
        for (i32 i = threadIdx.x; i < BM * BK / 8; i += blockDim.x) {
            const i32 r = i / (BK / 8), k = i % (BK / 8) * 8;
            const i32 left = FAULT == NO_PREDICATE ? 8 : row0 + r < s.m ? s.k - k0 - k : 0;
            const u32 valid = left <= 0 ? 0 : left >= 8 ? 16 : left * sizeof(T);
            cp_async16(&sa[stage][r][k], valid ? a + (i64)(row0 + r) * s.k + k0 + k : a, valid);
        }
        for (i32 i = threadIdx.x; i < BK * BN / 8; i += blockDim.x) {
            const i32 k = i / (BN / 8), n = i % (BN / 8) * 8;
            const i32 left = FAULT == NO_PREDICATE ? 8 : k0 + k < s.k ? s.n - col0 - n : 0;
            const u32 valid = left <= 0 ? 0 : left >= 8 ? 16 : left * sizeof(T);
            cp_async16(&sb[stage][k][n], valid ? b + (i64)(k0 + k) * s.n + col0 + n : b, valid);
        }
        cp_async_commit();
    };

    f32 acc[BN / 8][4] = {};
    const i32 steps = ceil_div(s.k, BK);
    copy(0, 0);
    for (i32 step = 0; step < steps; step++) {
        const i32 stage = step % STAGES;
        if (step + 1 < steps) {
            copy((step + 1) % STAGES, (step + 1) * BK);
            cp_async_wait<1>();
        } else if (FAULT == WAIT_ONE_GROUP_TOO_FEW)
            cp_async_wait<1>();
        else
            cp_async_wait<0>();
        if (FAULT != NO_BARRIER_AFTER_WAIT)
            __syncthreads();
        if (FAULT == DIVERGENT_BARRIER && threadIdx.x < 16)
            __syncthreads();
        for (i32 k = 0; k < BK; k += 16) {
            u32 fa[4];
            ldmatrix_x4(fa, &sa[stage][warp * 16 + lane % 16][k + lane / 16 * 8]);
            for (i32 n = 0; n < BN; n += 16) {
                u32 fb[4];
                ldmatrix_x4_trans(fb, &sb[stage][k + lane % 16][n + lane / 16 * 8]);
                const u32 b0[2] = {fb[0], fb[1]}, b1[2] = {fb[2], fb[3]};
                if (FAULT == LANE_MISSING && lane == 5)
                    continue;
                mma_m16n8k16<T>(acc[n / 8], fa, b0);
                mma_m16n8k16<T>(acc[n / 8 + 1], fa, b1);
            }
        }
        if (FAULT != NO_BARRIER_AFTER_USE)
            __syncthreads();
    }

    for (i32 j = 0; j < BN / 8; j++)
        for (i32 i = 0; i < 4; i++) {
            const i32 r = row0 + warp * 16 + lane / 4 + i / 2 * 8, n = col0 + j * 8 + lane % 4 * 2 + i % 2;
            if ((FAULT == BOUND_OF_ROWS ? r <= s.m : r < s.m) && n < s.n)
                c[(i64)r * s.ldc + n] = acc[j][i];
        }
}
KERNEL(gemm<bf16, CORRECT>)
KERNEL(gemm<f16, CORRECT>)
KERNEL(gemm<bf16, NO_BARRIER_AFTER_WAIT>)
KERNEL(gemm<bf16, NO_BARRIER_AFTER_USE>)
KERNEL(gemm<bf16, WAIT_ONE_GROUP_TOO_FEW>)
KERNEL(gemm<bf16, BOUND_OF_ROWS>)
KERNEL(gemm<bf16, NO_PREDICATE>)
KERNEL(gemm<bf16, BLOCKS_OVERLAP>)
KERNEL(gemm<bf16, DIVERGENT_BARRIER>)
KERNEL(gemm<bf16, LANE_MISSING>)
