// The way out of a convolution on tensor cores: what happens to a tile of results between registers and memory. Shared by conv2d_mma.cu and
// conv2d_slab.cu; the upper rung's fusions are here.

#pragma once
#include "conv2d.cuh"
#include "mma_tile.cuh"
#include "norm.cuh"

// y for the output pixels from m0 on and the channels from n0 on, with the bias, or none.
// sums: null, or [tiles of pixels][2][k], of y and y² over each tile; the sums are of what memory holds.
template <typename T, i32 BM, i32 BN>
__device__ __forceinline__ void store_output(const mma_tile::Product<T, BM, BN>& product, const Conv& g, i32 tile, i64 m0, i32 n0, const f32* bias, T* y,
                                             f32* sums)
{
    using mma_tile::CHUNK;
    product.lay_out([&](i32, i32 column, f32& left, f32& right) {
        if (bias && n0 + column < g.k) {
            left += bias[n0 + column];
            right += bias[n0 + column + 1];
        }
    });
    const i64 pixels = (i64)g.n * g.p * g.q;
    const i32 k = n0 + product.column();
    f32 sum[CHUNK<T>] = {}, squares[CHUNK<T>] = {};
    product.each_chunk([&](i32 row, const T* chunk) {
        const i64 m = m0 + row;
        if (m >= pixels || k >= g.k)
            return;
        *(Vec4*)(y + m * g.k + k) = *(const Vec4*)chunk;
        if (sums) {
            f32 v[CHUNK<T>];
            load_pack(chunk, v);
            for (i32 j = 0; j < CHUNK<T>; j++) {
                sum[j] += v[j];
                squares[j] = fmaf(v[j], v[j], squares[j]);
            }
        }
    });
    if (sums)
        product.write_column_sums(sum, squares, sums + (i64)tile * 2 * g.k + n0, g.k, g.k - n0);
}

// dx for the pixels of a phase from m0 on and the channels from n0 on.
//     so_far [N, H, W, C]   the gradient that x has already received, or null; dx may take its place
//     y, norm               what the norm that made x saw, and its numbers; null without sums
//     z                     the norm's output, x, for MASK_OUTPUT
//     sums                  null, or [2][c] of this tile: of dz (y - mean) and of dz over it, from channel n0 on
template <typename T, i32 BM, i32 BN>
__device__ __forceinline__ void store_input_gradient(const mma_tile::Product<T, BM, BN>& product, const Conv& g, const Phase& rows, const Phase& columns,
                                                     i64 m0, i32 n0, T* dx, const T* so_far, const T* z, const T* y, const Norm& norm, f32* sums,
                                                     i32 mask)
{
    using mma_tile::CHUNK;
    using mma_tile::Product;
    using mma_tile::unpack;
    product.lay_out([](i32, i32, f32, f32) {});
    const i64 pixels = (i64)g.n * rows.count * columns.count;
    const i32 c = n0 + product.column();
    const bool dense = g.stride_h == 1 && g.stride_w == 1; // the phase's pixels are the picture's
    // A few rows at once, as many as registers allow: what is read for all of them is under way before the first is done.
    constexpr i32 N = CHUNK<T>, MINE = BM / Product<T, BM, BN>::LANES, AT_ONCE = BM * BN > 4096 && sizeof(T) == 2 ? 4 : 2;
    const Numbers<N> by = sums ? Numbers<N>(norm, c, g.c) : Numbers<N>();
    f32 dw[N] = {}, db[N] = {};
#pragma unroll 1
    for (i32 r = 0; r < MINE; r += AT_ONCE) {
        i64 at[AT_ONCE]; // in dx, or -1
        Vec4 added[AT_ONCE], made[AT_ONCE], seen[AT_ONCE];
#pragma unroll
        for (i32 e = 0; e < AT_ONCE; e++) {
            const i64 m = m0 + product.row(r + e);
            at[e] = -1;
            if (m >= pixels || c >= g.c)
                continue;
            if (dense) {
                at[e] = m * g.c + c;
            } else {
                const i32 i = (i32)m, j = i % columns.count, k = i / columns.count % rows.count, n = i / columns.count / rows.count;
                const i32 h = rows.start + k * g.stride_h, v = columns.start + j * g.stride_w;
                at[e] = (((i64)n * g.h + h) * g.w + v) * g.c + c;
            }
            if (so_far)
                added[e] = *(const Vec4*)(so_far + at[e]);
            if (mask == MASK_OUTPUT)
                made[e] = *(const Vec4*)(z + at[e]);
            if (sums)
                seen[e] = *(const Vec4*)(y + at[e]);
        }
#pragma unroll
        for (i32 e = 0; e < AT_ONCE; e++) {
            if (at[e] < 0)
                continue;
            f32 d[N], other[N];
            load_pack(product.chunk(r + e), d);
            if (so_far) {
                unpack<T>(added[e], other);
                for (i32 j = 0; j < N; j++)
                    d[j] = to_f32(from_f32<T>(d[j] + other[j])); // the sum as memory will hold it
            }
            if (mask == MASK_OUTPUT) {
                unpack<T>(made[e], other);
                for (i32 j = 0; j < N; j++)
                    d[j] = other[j] > 0 ? d[j] : 0;
            }
            if (sums) {
                unpack<T>(seen[e], other);
                for (i32 j = 0; j < N; j++) {
                    if (mask == MASK_INPUT && !(by.of(other[j], j) > 0))
                        d[j] = 0;
                    dw[j] = fmaf(d[j], other[j] - by.mean[j], dw[j]);
                    db[j] += d[j];
                }
            }
            store_pack(dx + at[e], d);
        }
    }
    if (sums)
        product.write_column_sums(dw, db, sums, g.c, g.c - n0);
}
