// A matrix product on tensor cores: out[m, n] = sum over k of a(m, k) * b(k, n), sums in f32.
//
// The plan is that of tile.cuh, a block makes a tile of results and walks along k, with three differences:
//   - Each of 4 warps multiplies fragments of 16x16 by 16x8 with one instruction (mma), 2,048 multiply-adds, where a thread of
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
//     tile        a warp's part   shared memory   blocks on a processor (sm_80, sm_90)
//     128 x 128   64 x 64         64 KiB          2
//     128 x  64   64 x 32         48 KiB          3
//      64 x  64   32 x 32         32 KiB          4
//
// That is conv2d_mma.cu in half precision; in f32 there are 2 blocks, and conv2d_slab.cu keeps a elsewhere.
//
// A warp's part should be as large as its registers hold, for its fragments are read from shared memory, which hands out 128 bytes a cycle to all
// warps of a processor. A step of 128 x 128 keeps the tensor cores of an H200 busy for 444 cycles. Meanwhile shared memory works 128 cycles to
// store the step's numbers, and to read them 384 with 8 warps of 64 x 32 (512 together, more than the products take) or 256 with 4 warps of 64 x 64.
//
// With so few warps there is none to run while another waits for shared memory. So each warp reads the fragments of the next half of a step
// while it multiplies those of this one.
//
// The operands are a struct with
//     static constexpr bool A_ALONG_K, B_ALONG_K   chunks of 16 bytes of a (of b) run along k (its stage is [row][k]), or along m (n) ([k][row])
//     void load(T* a, T* b, bool live)             starts the copies of the next step's numbers to their stages, by all threads of the block;
//                                                  numbers that don't exist become 0, as all do unless `live`. It is called once for each
//                                                  step, in order, and some more times at the end. No branches (see multiply)
// and places chunks in a stage with Stage<..>::at. Operands that keep a somewhere else have BRINGS_A false, and
//     void turn()                                  goes on to the next step's a, by all threads
//     const T* row(i32 i, i32 half)                where this lane's row of fragment i is, as for ldmatrix
//
// A warp issues an instruction a cycle, and a tensor core takes 6 to 8 for an mma. So every instruction that finds an address counts: a step
// of the 128 x 128 tile has 64 mma and 16 ldmatrix, and each of a thread's 8 copies may cost 10 more at most. Pointers are kept and moved on by
// what all threads share, and what lies outside is asked for with length 0, from wherever the pointer happens to lead.

#pragma once
#include "common.cuh"

namespace mma_tile {

inline constexpr i32 THREADS = 128; // 4 warps
inline constexpr i32 ROWS = THREADS / 4; // that a copy of all threads brings along k, a row being 4 chunks a step
inline constexpr i32 STAGES = 4;
inline constexpr i32 STEP_BYTES = 64; // of a row, along k

// Blocks that shall fit on a processor, for the compiler: it bounds the registers. f32 has addresses of single numbers to keep.
template <typename T> __host__ __device__ constexpr i32 blocks(i32 results)
{
    return results > 8192 || sizeof(T) == 4 ? 2 : results > 4096 ? 3 : 4;
}

// Numbers in a chunk of 16 bytes, and in a step.
template <typename T> inline constexpr i32 CHUNK = 16 / sizeof(T);
template <typename T> inline constexpr i32 DEPTH = STEP_BYTES / sizeof(T);

// Where chunk `chunk` of line `line` lies in the stage of an operand with EXTENT rows: lines are rows of 4 chunks along k, or k's of
// EXTENT / CHUNK chunks along the rows. 16 lines further on (8 of f32's k's) everything is the same, so the swap is found once.
template <typename T, bool ALONG_K, i32 EXTENT> struct Stage {
    __device__ static i32 at(i32 line, i32 chunk)
    {
        if (ALONG_K)
            return line * DEPTH<T> + (chunk ^ ((line >> 1) & 3)) * CHUNK<T>;
        // f32 is read number by number: 4 lines and 2 neighbouring chunks at once, which must not meet.
        const i32 swap = sizeof(T) == 4 ? (line & 3) * 2 : line & 7;
        return line * EXTENT + (chunk ^ swap) * CHUNK<T>;
    }
};

// x, from a register. What follows from a thread's number alone the compiler computes anew each time it runs short of registers, and whoever waits for an
// address waits for all of that. What comes from another lane, be it the same, it can't.
__device__ __forceinline__ i32 kept(i32 x) { return shuffle_xor(x, 0); }

// How the lanes of a warp find an operand's fragments in a stage, for N fragments of 16 rows from `first` on: of a (see mma_m16n8k16), or
// pairs of b's, which are 16 columns: the first two registers, the last two. `half` (0 or 1) is one of the two 32 bytes of k of a step.
template <typename T, bool ALONG_K, i32 EXTENT, i32 N, bool A> struct Fragments {
    // Of fragment 0; the others' are some bits different, or further by what is the same for all lanes.
    i32 at;

    __device__ __forceinline__ Fragments(i32 first)
    {
        const i32 lane = threadIdx.x % WARP, matrix = lane / 8, row = lane % 8;
        // Which of the four matrices of an ldmatrix are further along k, and which along the rows: a's and b's registers differ.
        const i32 along_k = A ? matrix / 2 : matrix % 2, along_rows = A ? matrix % 2 : matrix / 2;
        if constexpr (ALONG_K)
            at = Stage<T, true, EXTENT>::at(first + along_rows * 8 + row, along_k);
        else if constexpr (sizeof(T) == 2)
            at = Stage<T, false, EXTENT>::at(along_k * 8 + row, first / 8 + along_rows); // first / 8 is a multiple of 2 N
        else
            at = first;
        at = kept(at);
    }

    __device__ __forceinline__ void load(u32 (&r)[4], T* stage, i32 i, i32 half) const
    {
        if constexpr (ALONG_K) {
            ldmatrix_x4(r, stage + (at ^ half * 2 * CHUNK<T>) + i * 16 * DEPTH<T>);
        } else if constexpr (sizeof(T) == 2) {
            ldmatrix_x4_trans(r, stage + (at ^ i * 2 * CHUNK<T>) + half * 16 * EXTENT);
        } else { // ldmatrix turns 16-bit numbers only
            const i32 lane = threadIdx.x % WARP;
            for (i32 e = 0; e < 4; e++) {
                const i32 along_k = A ? e / 2 : e % 2, along_rows = A ? e % 2 : e / 2;
                const i32 line = half * 8 + along_k * 4 + lane % 4, number = at + i * 16 + along_rows * 8 + lane / 4;
                r[e] = float_bits(stage[Stage<T, false, EXTENT>::at(line, number / 4) + number % 4]);
            }
        }
    }
};

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

// 16 bytes that were read earlier, as numbers.
template <typename T> __device__ __forceinline__ void unpack(Vec4 raw, f32 (&out)[Pack<T>::N])
{
    alignas(16) T numbers[Pack<T>::N];
    *(Vec4*)numbers = raw;
    for (i32 i = 0; i < Pack<T>::N; i++)
        out[i] = to_f32(numbers[i]);
}

// The product of a block: BM x BN results, in the registers of its threads.
template <typename T, i32 BM, i32 BN, i32 THREADS = mma_tile::THREADS> struct Product {
    static constexpr i32 WARPS_N = 2, WARPS_M = THREADS / WARP / WARPS_N;
    static constexpr i32 FRAGMENTS_M = BM / WARPS_M / 16, FRAGMENTS_N = BN / WARPS_N / 8; // of 16 x 8, for a warp
    // For the way out, through shared memory: a row is longer by a chunk, so that rows begin in different banks.
    static constexpr i32 PITCH = BN + CHUNK<T>;
    static constexpr i32 CHUNKS = BN / CHUNK<T>;  // of a row
    static constexpr i32 LANES = THREADS / CHUNKS; // threads that share a column of chunks
    static constexpr i32 OUT_BYTES = BM * PITCH * sizeof(T) + 2 * LANES * BN * sizeof(f32);

    f32 sum[FRAGMENTS_M][FRAGMENTS_N][4];

    __device__ static i32 warp_m() { return threadIdx.x / WARP % WARPS_M * (BM / WARPS_M); }
    __device__ static i32 warp_n() { return threadIdx.x / WARP / WARPS_M * (BN / WARPS_N); }

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

    template <typename Operands> __device__ __forceinline__ void multiply(Operands& operands, i32 steps)
    {
        constexpr i32 OF_A = Operands::BRINGS_A ? BM * DEPTH<T> : 0, STAGE = OF_A + BN * DEPTH<T>; // numbers: a's, then b's
        T* const shared = (T*)smem_raw;
        const Fragments<T, Operands::A_ALONG_K, BM, FRAGMENTS_M, true> of_a(warp_m());
        const Fragments<T, Operands::B_ALONG_K, BN, FRAGMENTS_N / 2, false> of_b(warp_n());
        clear();
        auto load = [&](i32 step) {
            T* stage = shared + step % STAGES * STAGE;
            operands.load(stage, stage + OF_A, step < steps);
            cp_async_commit(); // a group at the end, of zeros, keeps the count of groups in flight
        };
        u32 fa[2][FRAGMENTS_M][4], fb[2][FRAGMENTS_N / 2][4]; // one is read while the other is multiplied
        auto read_a = [&](T* stage, i32 i, i32 half) {
            if constexpr (Operands::BRINGS_A)
                of_a.load(fa[half][i], stage, i, half);
            else
                ldmatrix_x4(fa[half][i], operands.row(i, half));
            as_operand<T>(fa[half][i]);
        };
        // In the order in which multiply_add wants them.
        auto read = [&](i32 step, i32 half) {
            T* const stage = shared + step % STAGES * STAGE;
            read_a(stage, 0, half);
#pragma unroll
            for (i32 j = 0; j < FRAGMENTS_N / 2; j++) {
                of_b.load(fb[half][j], stage + OF_A, j, half);
                as_operand<T>(fb[half][j]);
            }
#pragma unroll
            for (i32 i = 1; i < FRAGMENTS_M; i++)
                read_a(stage, i, half);
        };
        auto turn = [&] {
            if constexpr (!Operands::BRINGS_A)
                operands.turn();
        };
        auto wait = [&] {
            cp_async_wait<STAGES - 2>(); // this thread's copies for the next step are there
            __syncthreads();             // everybody's are, and everybody has read the stage that is filled next
        };
        if (steps == 0)
            return;
        for (i32 step = 0; step < STAGES - 1; step++)
            load(step);
        turn();
        wait();
        read(0, 0);
        load(STAGES - 1);
        // No branch in here: the compiler puts what finds addresses between the mma, which leave most of a warp's issue slots free. Behind a
        // branch it would stand alone, and the tensor cores with it. And little has to be done before the barrier, so that it comes early and
        // what is read behind it is there when its turn comes.
        for (i32 step = 0; step < steps - 1; step++) {
            read(step, 1);
            turn();
            multiply_add(fa[0], fb[0]);
            wait();
            read(step + 1, 0);
            load(step + STAGES); // to the stage of this step, which everybody has read
            multiply_add(fa[1], fb[1]);
        }
        read(steps - 1, 1);
        multiply_add(fa[0], fb[0]);
        multiply_add(fa[1], fb[1]);
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

    // After lay_out a thread has BM / LANES rows, and of each the 16 bytes of results in column(): always the same, so that what depends
    // on the channel alone is loaded once.
    __device__ static i32 column() { return threadIdx.x % CHUNKS * CHUNK<T>; }
    __device__ static i32 row(i32 i) { return threadIdx.x / CHUNKS + i * LANES; }
    __device__ static const T* chunk(i32 i) { return (const T*)smem_raw + row(i) * PITCH + column(); }
    template <typename Take> __device__ __forceinline__ void each_chunk(Take take) const
    {
#pragma unroll
        for (i32 i = 0; i < BM / LANES; i++)
            take(row(i), chunk(i));
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
