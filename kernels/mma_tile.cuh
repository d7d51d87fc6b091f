// A matrix product on tensor cores: out[m, n] = sum over k of a(m, k) * b(k, n), 16-bit operands, f32 sums.
//
// The plan is that of tile.cuh, a block makes a tile of results and walks along k, with three differences:
//   - Each of 8 warps multiplies fragments of 16x16 by 16x8 with one instruction (mma), 4,096 multiply-adds, where a thread of
//     tile.cuh does one. Fragments are spread over the lanes of a warp; ldmatrix brings them from shared memory in that order.
//   - Copies to shared memory are asynchronous (cp.async): while one step's numbers are multiplied, those of the next two steps are
//     on their way. Three stages of shared memory, used in turns; one barrier a step.
//   - Rows of a stage lie so that the 8 rows an ldmatrix reads at once fall into different banks: the 16-byte chunks of a row are
//     swapped by a few bits of the row's number (a swizzle), which costs one xor and no memory.
//
// A block makes 128 x 64 results, a warp 32 x 32, and a step is 32 deep: 36 KiB of shared memory, so several blocks fit on a
// multiprocessor from sm_80 on.
//
// An operand is a struct with
//     static constexpr bool ALONG_K          chunks of 8 numbers run along k (its stage is [row][k]), or along m or n ([k][row])
//     void load(T* stage, i32 step) const    starts the copies of a step's 128 (or 64) x 32 numbers, by all threads of the block;
//                                            numbers that don't exist become 0
// and places chunks in its stage with Stage<..>::at.

#pragma once
#include "common.cuh"

namespace mma_tile {

inline constexpr i32 ROWS = 128;    // of `out`, for a block
inline constexpr i32 COLS = 64;
inline constexpr i32 DEPTH = 32;    // of a step
inline constexpr i32 THREADS = 256; // 8 warps: 4 along m, 2 along n
inline constexpr i32 STAGES = 3;
inline constexpr i32 CHUNK = 8;     // 16-bit numbers in 16 bytes
// 16-bit numbers of a stage, a's and b's.
inline constexpr i32 STAGE = (ROWS + COLS) * DEPTH;
inline constexpr i32 SHARED_BYTES = STAGES * STAGE * 2; // of a block, asked for at the launch

// Where chunk `chunk` of line `line` lies in the stage of an operand with EXTENT rows: lines are rows of 4 chunks along k, or k's of
// EXTENT / 8 chunks along the rows.
template <typename T, bool ALONG_K, i32 EXTENT> struct Stage {
    __device__ static T* at(T* stage, i32 line, i32 chunk)
    {
        return ALONG_K ? stage + line * DEPTH + (chunk ^ ((line >> 1) & 3)) * CHUNK
                       : stage + line * EXTENT + (chunk ^ (line & 7)) * CHUNK;
    }
};

// The fragment of a (see mma_m16n8k16) for rows m .. m + 15 and the 16 k's of `half` (0 or 1). Four 8x8 matrices, one address a lane.
template <typename T, bool ALONG_K> __device__ __forceinline__ void load_a(u32 (&a)[4], T* stage, i32 m, i32 half)
{
    const i32 lane = threadIdx.x % WARP, matrix = lane / 8, row = lane % 8;
    if constexpr (ALONG_K)
        ldmatrix_x4(a, Stage<T, true, ROWS>::at(stage, m + matrix % 2 * 8 + row, half * 2 + matrix / 2));
    else
        ldmatrix_x4_trans(a, Stage<T, false, ROWS>::at(stage, half * 16 + matrix / 2 * 8 + row, m / CHUNK + matrix % 2));
}

// Two fragments of b, for columns n .. n + 7 and n + 8 .. n + 15: the first two registers, the last two.
template <typename T, bool ALONG_K> __device__ __forceinline__ void load_b(u32 (&b)[4], T* stage, i32 n, i32 half)
{
    const i32 lane = threadIdx.x % WARP, matrix = lane / 8, row = lane % 8;
    if constexpr (ALONG_K)
        ldmatrix_x4(b, Stage<T, true, COLS>::at(stage, n + matrix / 2 * 8 + row, half * 2 + matrix % 2));
    else
        ldmatrix_x4_trans(b, Stage<T, false, COLS>::at(stage, half * 16 + matrix % 2 * 8 + row, n / CHUNK + matrix / 2));
}

// The tile of a block, over `steps` steps. `store(row, column, x, y)` is called for every pair of results, `row` and `column` counted
// from the tile's corner, `y` right of `x`. All threads of the block take part.
template <typename T, typename A, typename B, typename Store>
__device__ void product(const A& a, const B& b, i32 steps, Store store)
{
    T* const shared = (T*)smem_raw;
    const i32 warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const i32 m = warp % 4 * 32, n = warp / 4 * 32;
    f32 sum[2][4][4] = {}; // 2 x 4 fragments of 16 x 8

    auto load = [&](i32 step) {
        if (step < steps) {
            T* stage = shared + step % STAGES * STAGE;
            a.load(stage, step);
            b.load(stage + ROWS * DEPTH, step);
        }
        cp_async_commit(); // an empty group at the end keeps the count of groups in flight
    };
    for (i32 step = 0; step < STAGES - 1; step++)
        load(step);
    for (i32 step = 0; step < steps; step++) {
        cp_async_wait<STAGES - 2>(); // this thread's copies for the step are there
        __syncthreads();             // everybody's are, and everybody is done with the stage that is filled next
        load(step + STAGES - 1);
        T* const stage = shared + step % STAGES * STAGE;
        for (i32 half = 0; half < 2; half++) {
            u32 fa[2][4], fb[2][4];
            for (i32 i = 0; i < 2; i++)
                load_a<T, A::ALONG_K>(fa[i], stage, m + i * 16, half);
            for (i32 j = 0; j < 2; j++)
                load_b<T, B::ALONG_K>(fb[j], stage + ROWS * DEPTH, n + j * 16, half);
            for (i32 i = 0; i < 2; i++)
                for (i32 j = 0; j < 4; j++) {
                    const u32 pair[2] = {fb[j / 2][j % 2 * 2], fb[j / 2][j % 2 * 2 + 1]};
                    mma_m16n8k16<T>(sum[i][j], fa[i], pair);
                }
        }
    }
    cp_async_wait<0>();
#pragma unroll // `sum` is registers only as long as every index is known
    for (i32 i = 0; i < 2; i++)
#pragma unroll
        for (i32 j = 0; j < 4; j++) {
            const i32 row = m + i * 16 + lane / 4, column = n + j * 8 + lane % 4 * 2;
            store(row, column, sum[i][j][0], sum[i][j][1]);
            store(row + 8, column, sum[i][j][2], sum[i][j][3]);
        }
}

// Two neighbouring 16-bit numbers, rounded, with one store.
template <typename T> __device__ __forceinline__ void store_pair(T* at, f32 x, f32 y)
{
    *(u32*)at = (u32)from_f32<T>(x).bits | (u32)from_f32<T>(y).bits << 16;
}

} // namespace mma_tile
