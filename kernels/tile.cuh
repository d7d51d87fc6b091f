// A matrix product through shared memory: out[m, n] = sum over k of a(m, k) * b(k, n), in f32.
//
// Convolution (all three of its directions) and the linear layer are this product with different ideas of what "row m" and
// "column k" are. Those ideas are small structs, the operands; the product itself is written once, here.
//
// Each block of 256 threads makes a tile of 64 x 64 results, each thread 4 x 4 of them. Step by step along k, 64 x 16 numbers of
// `a` and 16 x 64 of `b` are brought to shared memory, where every number is used 64 times; straight from memory it would be
// fetched 64 times. Per step and thread that is 8 reads of shared memory for 16 multiply-adds. Tensor cores do this with a
// hundred times fewer instructions: this version is the one to understand first, works for every size and number type, and
// is what the faster ones are compared with.
//
// An operand says
//     static constexpr bool ALONG_K       neighbours in memory differ in k (true), or in m or n (false): lets a warp read
//                                         neighbours together
//     Row row(i64 i) const                what is worth computing once for a row of a, or a column of b
//     f32 at(const Row&, i64 k) const     the number; 0 where there is none. i and k are below the sizes given to product()

#pragma once
#include "common.cuh"

namespace tile {

inline constexpr i32 ROWS = 64;      // of `out`, for a block
inline constexpr i32 COLS = 64;
inline constexpr i32 DEPTH = 16;     // of a step
inline constexpr i32 THREADS = 256;  // 16 x 16, each with 4 x 4 results
inline constexpr i32 EACH = 4;

// Rows are padded by 4 numbers: the 16 threads that write one k for different rows then reach different banks.
struct Shared {
    f32 a[DEPTH][ROWS + 4];
    f32 b[DEPTH][COLS + 4];
};

// A row-major matrix as operand: rows are rows, k runs along them.
template <typename T> struct Rows {
    static constexpr bool ALONG_K = true;
    const T* p;
    i64 width;
    using Row = const T*;
    __device__ Row row(i64 i) const { return p + i * width; }
    __device__ f32 at(Row r, i64 k) const { return to_f32(r[k]); }
};
// The same, transposed: its columns are the operand's rows.
template <typename T> struct Columns {
    static constexpr bool ALONG_K = false;
    const T* p;
    i64 width;
    using Row = i64;
    __device__ Row row(i64 i) const { return i; }
    __device__ f32 at(Row i, i64 k) const { return to_f32(p[k * width + i]); }
};

// Brings 64 rows (or columns) from `base` on, DEPTH numbers of each from `k0` on, to shared memory as [k][row].
template <typename Operand> struct Loader {
    static constexpr i32 PER_THREAD = ROWS * DEPTH / THREADS;
    const Operand& operand;
    i64 base, count;
    typename Operand::Row rows[Operand::ALONG_K ? PER_THREAD : 1];

    __device__ Loader(const Operand& o, i64 base, i64 count) : operand(o), base(base), count(count)
    {
        if constexpr (Operand::ALONG_K) {
            for (i32 j = 0; j < PER_THREAD; j++)
                if (base + row(j) < count)
                    rows[j] = o.row(base + row(j));
        } else if (base + row(0) < count) {
            rows[0] = o.row(base + row(0));
        }
    }
    __device__ i32 row(i32 j) const
    {
        return Operand::ALONG_K ? threadIdx.x / DEPTH + j * (THREADS / DEPTH) : threadIdx.x % ROWS;
    }
    __device__ i32 depth(i32 j) const
    {
        return Operand::ALONG_K ? threadIdx.x % DEPTH : threadIdx.x / ROWS + j * (THREADS / ROWS);
    }
    __device__ void load(f32 (*shared)[ROWS + 4], i64 k0, i64 k_end) const
    {
        for (i32 j = 0; j < PER_THREAD; j++) {
            const i64 k = k0 + depth(j);
            const bool inside = base + row(j) < count && k < k_end;
            shared[depth(j)][row(j)] = inside ? operand.at(rows[Operand::ALONG_K ? j : 0], k) : 0.0f;
        }
    }
};

// The tile at rows `m0`, columns `n0` of the m x n product, over k in [k_begin, k_end). `store(row, column, value)` is called for
// every result inside the matrix. All threads of the block take part.
template <typename A, typename B, typename Store>
__device__ void product(const A& a, const B& b, i64 m0, i64 n0, i64 m, i64 n, i64 k_begin, i64 k_end, Store store)
{
    __shared__ Shared shared;
    const Loader<A> load_a(a, m0, m);
    const Loader<B> load_b(b, n0, n);
    const i32 tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    f32 sum[EACH][EACH] = {};
    for (i64 k0 = k_begin; k0 < k_end; k0 += DEPTH) {
        load_a.load(shared.a, k0, k_end);
        load_b.load(shared.b, k0, k_end);
        __syncthreads(); // the step's numbers are there
#pragma unroll
        for (i32 k = 0; k < DEPTH; k++) {
            f32 x[EACH], y[EACH];
            for (i32 i = 0; i < EACH; i++)
                x[i] = shared.a[k][ty * EACH + i];
            for (i32 i = 0; i < EACH; i++)
                y[i] = shared.b[k][tx * EACH + i];
            for (i32 i = 0; i < EACH; i++)
                for (i32 j = 0; j < EACH; j++)
                    sum[i][j] = fmaf(x[i], y[j], sum[i][j]);
        }
        __syncthreads(); // everybody is done with them
    }
    for (i32 i = 0; i < EACH; i++)
        for (i32 j = 0; j < EACH; j++) {
            const i64 row = m0 + ty * EACH + i, column = n0 + tx * EACH + j;
            if (row < m && column < n)
                store(row, column, sum[i][j]);
        }
}

} // namespace tile
