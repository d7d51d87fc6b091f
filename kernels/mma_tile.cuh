// A matrix product on tensor cores: out[m, n] = sum over k of a(m, k) * b(k, n), sums in f32.
//
// The plan is that of tile.cuh, a block makes a tile of results and walks along k, with three differences:
//   - Each of 8 warps multiplies fragments of 16x16 by 16x8 with one instruction (mma), 4,096 multiply-adds, where a thread of
//     tile.cuh does one. Fragments are spread over the lanes of a warp; ldmatrix brings them from shared memory in that order.
//   - Copies to shared memory are asynchronous (cp.async): while one step's numbers are multiplied, those of the next three steps
//     are on their way. Four stages of shared memory, used in turns; one barrier a step.
//   - Rows of a stage lie so that the 8 rows an ldmatrix reads at once fall into different banks: the 16-byte chunks of a row are
//     swapped by a few bits of the row's number (a swizzle), which costs one xor and no memory.
//
// A step is 64 bytes of k: 32 numbers of 16 bits, or 16 of f32, which the tensor cores take as tf32 (rounded to 10 bits of fraction).
//
// The tile's size is a parameter. A number that is brought to shared memory is used once for each row or column on the other side:
// 128 x 128 reads half as much as 128 x 64 for a product, and wants large matrices to fill the GPU's processors; 64 x 64 fills them
// with small ones. The host chooses by a formula of the sizes (src/ops/conv2d/tile.rs).
//
//     tile        warps   a warp's part   shared memory   blocks that fit on a processor (sm_80, sm_90)
//     128 x 128   2 x 4   64 x 32         64 KiB          2
//     128 x  64   4 x 2   32 x 32         48 KiB          3
//      64 x  64   4 x 2   16 x 32         32 KiB          4
//
// An operand is a struct with
//     static constexpr bool ALONG_K     chunks of 16 bytes run along k (its stage is [row][k]), or along m or n ([k][row])
//     void load(T* stage)               starts the copies of the next step's numbers, by all threads of the block; numbers that
//                                       don't exist become 0. It is called once for each step, in order.
// and places chunks in its stage with Stage<..>::at.

#pragma once
#include "common.cuh"

namespace mma_tile {

inline constexpr i32 THREADS = 256; // 8 warps
inline constexpr i32 STAGES = 4;
inline constexpr i32 STEP_BYTES = 64; // of a row, along k

// Blocks that shall fit on a processor, for the compiler: it bounds the registers.
__host__ __device__ constexpr i32 blocks(i32 results) { return results > 4096 ? 2 : 4; }

// Numbers in a chunk of 16 bytes, and in a step.
template <typename T> inline constexpr i32 CHUNK = 16 / sizeof(T);
template <typename T> inline constexpr i32 DEPTH = STEP_BYTES / sizeof(T);

// Where chunk `chunk` of line `line` lies in the stage of an operand with EXTENT rows: lines are rows of 4 chunks along k, or k's of
// EXTENT / CHUNK chunks along the rows.
template <typename T, bool ALONG_K, i32 EXTENT> struct Stage {
    __device__ static T* at(T* stage, i32 line, i32 chunk)
    {
        if (ALONG_K)
            return stage + line * DEPTH<T> + (chunk ^ ((line >> 1) & 3)) * CHUNK<T>;
        // f32 is read number by number: 4 lines and 2 neighbouring chunks at once, which must not meet.
        const i32 swap = sizeof(T) == 4 ? (line & 3) * 2 : line & 7;
        return stage + line * EXTENT + (chunk ^ swap) * CHUNK<T>;
    }
};

// The fragment of a (see mma_m16n8k16) for rows m .. m + 15 and the 32 bytes of k in `half` (0 or 1) of the step. Four matrices of 8
// rows and 16 bytes, one address a lane.
template <typename T, bool ALONG_K, i32 EXTENT> __device__ __forceinline__ void load_a(u32 (&a)[4], T* stage, i32 m, i32 half)
{
    const i32 lane = threadIdx.x % WARP, matrix = lane / 8, row = lane % 8;
    if constexpr (ALONG_K) {
        ldmatrix_x4(a, Stage<T, true, EXTENT>::at(stage, m + matrix % 2 * 8 + row, half * 2 + matrix / 2));
    } else if constexpr (sizeof(T) == 2) {
        ldmatrix_x4_trans(a, Stage<T, false, EXTENT>::at(stage, half * 16 + matrix / 2 * 8 + row, m / 8 + matrix % 2));
    } else { // ldmatrix turns 16-bit numbers only
        for (i32 i = 0; i < 4; i++) {
            const i32 line = half * 8 + i / 2 * 4 + lane % 4, at = m + i % 2 * 8 + lane / 4;
            a[i] = float_bits(Stage<T, false, EXTENT>::at(stage, line, at / 4)[at % 4]);
        }
    }
}

// Two fragments of b, for columns n .. n + 7 and n + 8 .. n + 15: the first two registers, the last two.
template <typename T, bool ALONG_K, i32 EXTENT> __device__ __forceinline__ void load_b(u32 (&b)[4], T* stage, i32 n, i32 half)
{
    const i32 lane = threadIdx.x % WARP, matrix = lane / 8, row = lane % 8;
    if constexpr (ALONG_K) {
        ldmatrix_x4(b, Stage<T, true, EXTENT>::at(stage, n + matrix / 2 * 8 + row, half * 2 + matrix % 2));
    } else if constexpr (sizeof(T) == 2) {
        ldmatrix_x4_trans(b, Stage<T, false, EXTENT>::at(stage, half * 16 + matrix % 2 * 8 + row, n / 8 + matrix / 2));
    } else {
        for (i32 i = 0; i < 4; i++) {
            const i32 line = half * 8 + i % 2 * 4 + lane % 4, at = n + i / 2 * 8 + lane / 4;
            b[i] = float_bits(Stage<T, false, EXTENT>::at(stage, line, at / 4)[at % 4]);
        }
    }
}

// d += a * b for fragments of 32 bytes of k.
template <typename T> __device__ __forceinline__ void multiply_add(f32 (&d)[4], const u32 (&a)[4], const u32 (&b)[2])
{
    if constexpr (sizeof(T) == 2)
        mma_m16n8k16<T>(d, a, b);
    else
        mma_m16n8k8_tf32(d, a, b);
}

// Numbers as the tensor cores take them: f32 is rounded, where the instruction itself would cut it off.
template <typename T> __device__ __forceinline__ void as_operand(u32 (&x)[4])
{
    if constexpr (sizeof(T) == 4)
        for (i32 i = 0; i < 4; i++)
            x[i] = to_tf32(bits_float(x[i]));
}

// Two neighbouring numbers, rounded, with one store.
__device__ __forceinline__ void store_pair(f32* at, f32 x, f32 y)
{
    at[0] = x;
    at[1] = y;
}
template <typename T> __device__ __forceinline__ void store_pair(T* at, f32 x, f32 y)
{
    *(u32*)at = (u32)from_f32<T>(x).bits | (u32)from_f32<T>(y).bits << 16;
}

// The product of a block: BM x BN results, in the registers of its threads.
template <typename T, i32 BM, i32 BN> struct Product {
    static constexpr i32 WARPS_N = BN / 32, WARPS_M = 8 / WARPS_N;
    static constexpr i32 FRAGMENTS_M = BM / WARPS_M / 16, FRAGMENTS_N = 4; // of 16 x 8, for a warp
    static constexpr i32 STAGE = (BM + BN) * DEPTH<T>;                     // numbers, a's then b's
    // For the way out, through shared memory: a row is longer by a chunk, so that rows begin in different banks.
    static constexpr i32 PITCH = BN + CHUNK<T>;
    static constexpr i32 CHUNKS = BN / CHUNK<T>;  // of a row
    static constexpr i32 LANES = THREADS / CHUNKS; // threads that share a column of chunks
    static constexpr i32 OUT_BYTES = BM * PITCH * sizeof(T) + 2 * LANES * BN * sizeof(f32);

    f32 sum[FRAGMENTS_M][FRAGMENTS_N][4];

    __device__ static i32 warp_m() { return threadIdx.x / WARP % WARPS_M * (BM / WARPS_M); }
    __device__ static i32 warp_n() { return threadIdx.x / WARP / WARPS_M * 32; }

    __device__ __forceinline__ void clear()
    {
#pragma unroll // `sum` is registers only as long as every index is known
        for (i32 i = 0; i < FRAGMENTS_M; i++)
#pragma unroll
            for (i32 j = 0; j < FRAGMENTS_N; j++)
                for (i32 r = 0; r < 4; r++)
                    sum[i][j][r] = 0;
    }

    // Fragments of 32 bytes of k, by all warps.
    __device__ __forceinline__ void multiply_add(const u32 (&fa)[FRAGMENTS_M][4], const u32 (&fb)[FRAGMENTS_N / 2][4])
    {
#pragma unroll
        for (i32 i = 0; i < FRAGMENTS_M; i++)
#pragma unroll
            for (i32 j = 0; j < FRAGMENTS_N; j++) {
                const u32 pair[2] = {fb[j / 2][j % 2 * 2], fb[j / 2][j % 2 * 2 + 1]};
                mma_tile::multiply_add<T>(sum[i][j], fa[i], pair);
            }
    }

    template <typename A, typename B> __device__ __forceinline__ void multiply(A& a, B& b, i32 steps)
    {
        T* const shared = (T*)smem_raw;
        const i32 m = warp_m(), n = warp_n();
        clear();
        auto load = [&](i32 step) {
            if (step < steps) {
                T* stage = shared + step % STAGES * STAGE;
                a.load(stage);
                b.load(stage + BM * DEPTH<T>);
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
#pragma unroll
            for (i32 half = 0; half < 2; half++) {
                u32 fa[FRAGMENTS_M][4], fb[FRAGMENTS_N / 2][4];
#pragma unroll
                for (i32 i = 0; i < FRAGMENTS_M; i++) {
                    load_a<T, A::ALONG_K, BM>(fa[i], stage, m + i * 16, half);
                    as_operand<T>(fa[i]);
                }
#pragma unroll
                for (i32 j = 0; j < FRAGMENTS_N / 2; j++) {
                    load_b<T, B::ALONG_K, BN>(fb[j], stage + BM * DEPTH<T>, n + j * 16, half);
                    as_operand<T>(fb[j]);
                }
                multiply_add(fa, fb);
            }
        }
        cp_async_wait<0>();
    }

    // Calls `store(row, column, x, y)` for every pair of results of this thread, `row` and `column` counted from the tile's corner, `y`
    // right of `x`.
    template <typename Store> __device__ __forceinline__ void each_pair(Store store) const
    {
        const i32 lane = threadIdx.x % WARP;
#pragma unroll
        for (i32 i = 0; i < FRAGMENTS_M; i++)
#pragma unroll
            for (i32 j = 0; j < FRAGMENTS_N; j++) {
                const i32 row = warp_m() + i * 16 + lane / 4, column = warp_n() + j * 8 + lane % 4 * 2;
                store(row, column, sum[i][j][0], sum[i][j][1]);
                store(row + 8, column, sum[i][j][2], sum[i][j][3]);
            }
    }

    // Lays the results out in shared memory, rounded to T, `change(row, column, x, y)` before. All threads of the block take part.
    template <typename Change> __device__ __forceinline__ void lay_out(Change change) const
    {
        T* const laid = (T*)smem_raw;
        __syncthreads(); // everybody is done with the last stage
        each_pair([&](i32 row, i32 column, f32 x, f32 y) {
            change(row, column, x, y);
            store_pair(laid + row * PITCH + column, x, y);
        });
        __syncthreads();
    }

    // After lay_out: calls `take(row, chunk)` with 16 bytes of results for each row of this thread. Its column is column(), always the
    // same: what depends on the channel alone is loaded once.
    __device__ static i32 column() { return threadIdx.x % CHUNKS * CHUNK<T>; }
    template <typename Take> __device__ __forceinline__ void each_chunk(Take take) const
    {
        const T* const laid = (const T*)smem_raw;
        for (i32 row = threadIdx.x / CHUNKS; row < BM; row += LANES)
            take(row, laid + row * PITCH + column());
    }

    // Two sums of each column over the tile's rows, from each thread's sums over its own: out[0 .. columns) and out[width ..). Added
    // in the order of the threads. All threads of the block take part.
    __device__ static void write_column_sums(const f32 (&first)[CHUNK<T>], const f32 (&second)[CHUNK<T>], f32* out, i32 width, i32 columns)
    {
        f32* const scratch = (f32*)(smem_raw + BM * PITCH * sizeof(T)); // [2][LANES][BN]
        const i32 at = threadIdx.x / CHUNKS * BN + column();
        for (i32 j = 0; j < CHUNK<T>; j++) {
            scratch[at + j] = first[j];
            scratch[LANES * BN + at + j] = second[j];
        }
        __syncthreads();
        for (i32 i = threadIdx.x; i < 2 * BN; i += THREADS) {
            const i32 which = i / BN, n = i % BN;
            f32 total = 0;
            for (i32 lane = 0; lane < LANES; lane++)
                total += scratch[(which * LANES + lane) * BN + n];
            if (n < columns)
                out[(i64)which * width + n] = total;
        }
    }
};

} // namespace mma_tile
