// Convolution on tensor cores: the third and the fourth rung of conv2d.cu's ladder, which has the formulas.
//
// CPU reference: src/ops/conv2d/cpu.rs. Launched by src/ops/conv2d/cuda.rs.
//
//   mma     the tiled rung's products, by mma_tile.cuh. Numbers move 16 bytes at a time, so C and K must be multiples of 8 (of 4 in
//           f32); the first layer of a network, with its 3 channels, has conv2d_stem.cu.
//   fused   the same, and with a tile of results in hand, what would otherwise be a pass over memory of its own:
//             forward   the sums over pixels of y and y², per channel: a batch norm that follows has its statistics
//             dx        the gradient that x has already received is added (a residual block's shortcut); where x is the output of a
//                       batch norm with ReLU, the ReLU's mask is applied and the norm's two sums are taken
//           Results are rounded first, and sums are of what memory holds: dx and y have the bits of the mma rung.
//
// What the reduction runs over, and so where the neighbouring numbers of a copy lie:
//
//               a                              b                          reduction
//   forward     x under a tap, along C         w, along C                 taps x C, 64 bytes of channels a step
//   dx          dy from a tap, along K         w, along C: transposed     taps x K, likewise
//   dw          dy, along K: transposed        x, along C: transposed     pixels, 32 a step (16 in f32)
//
// "Transposed" costs nothing in 16 bits: ldmatrix can turn a fragment while it loads it. So w is never copied into another order.
//
// Grids are one line of blocks: the tiles of one row of results are neighbours, so that what they all read is still in the cache.
//
// Try it: cargo test --test emulator -- conv        Bench: cargo bench --bench ops -- conv

#include "conv2d.cuh"
#include "mma_tile.cuh"
#include "norm.cuh"

using mma_tile::CHUNK;
using mma_tile::DEPTH;
using mma_tile::Product;
using mma_tile::Stage;

// A walk along (tap, channel): a step is a tap and DEPTH of its channels; the last step of a tap may hang over.
template <typename T> struct Walk {
    i32 r = 0, s = 0, c = 0;
    i32 taps_w, channels;
    __device__ Walk(i32 taps_w, i32 channels) : taps_w(taps_w), channels(channels) {}
    __device__ static i32 steps(i32 taps, i32 channels) { return taps * ceil_div(channels, DEPTH<T>); }
    __device__ void next()
    {
        c += DEPTH<T>;
        if (c >= channels) {
            c = 0;
            if (++s == taps_w) {
                s = 0;
                r++;
            }
        }
    }
};

// In the loaders below, thread t brings chunk t % 4 of a step to rows t / 4, t / 4 + 64, ..

// x under the taps: row m is output pixel m0 + m.
template <typename T, i32 BM> struct Pixels {
    static constexpr bool ALONG_K = true;
    Conv g;
    Walk<T> walk;
    const T* x;
    i64 start[BM / 64]; // of this thread's rows: the place of tap (0, 0), which may be outside the picture
    i32 h[BM / 64], v[BM / 64];
    __device__ Pixels(const Conv& g, const T* x, i64 m0, i64 pixels) : g(g), walk(g.s, g.c), x(x)
    {
        for (i32 j = 0; j < BM / 64; j++) {
            const i64 m = m0 + threadIdx.x / 4 + j * 64;
            const i32 i = (i32)m, q = i % g.q, p = i / g.q % g.p, n = i / g.q / g.p;
            h[j] = m < pixels ? p * g.stride_h - g.pad_h : g.h; // beyond the last pixel no tap is inside
            v[j] = q * g.stride_w - g.pad_w;
            start[j] = (((i64)n * g.h + h[j]) * g.w + v[j]) * g.c;
        }
    }
    __device__ __forceinline__ void load(T* stage)
    {
        const i32 chunk = threadIdx.x % 4, c = walk.c + chunk * CHUNK<T>;
        const i64 tap = ((i64)walk.r * g.w + walk.s) * g.c + c;
#pragma unroll
        for (i32 j = 0; j < BM / 64; j++) {
            const i32 y = h[j] + walk.r, z = v[j] + walk.s;
            const bool there = c < g.c && y >= 0 && y < g.h && z >= 0 && z < g.w;
            cp_async16(Stage<T, true, BM>::at(stage, threadIdx.x / 4 + j * 64, chunk), there ? x + start[j] + tap : x, there ? 16 : 0);
        }
        walk.next();
    }
};

// w for the forward product: row n is output channel n0 + n.
template <typename T, i32 BN> struct Filters {
    static constexpr bool ALONG_K = true;
    Conv g;
    Walk<T> walk;
    const T* w;
    i32 n0;
    __device__ Filters(const Conv& g, const T* w, i32 n0) : g(g), walk(g.s, g.c), w(w), n0(n0) {}
    __device__ __forceinline__ void load(T* stage)
    {
        const i32 chunk = threadIdx.x % 4, c = walk.c + chunk * CHUNK<T>;
        const i32 tap = walk.r * g.s + walk.s;
#pragma unroll
        for (i32 j = 0; j < BN / 64; j++) {
            const i32 row = threadIdx.x / 4 + j * 64, k = n0 + row;
            const bool there = k < g.k && c < g.c;
            const T* from = there ? w + ((i64)k * g.r * g.s + tap) * g.c + c : w;
            cp_async16(Stage<T, true, BN>::at(stage, row, chunk), from, there ? 16 : 0);
        }
        walk.next();
    }
};

// sums: null, or [tiles of pixels][2][k], of y and y² over each tile.
template <typename T, i32 BM, i32 BN>
__global__ void __launch_bounds__(mma_tile::THREADS, mma_tile::blocks(BM * BN)) conv_forward_mma(Conv g, const T* x, const T* w, const f32* bias, T* y, f32* sums)
{
    const i32 across = ceil_div(g.k, BN), tile = blockIdx.x / across, n0 = blockIdx.x % across * BN;
    const i64 pixels = (i64)g.n * g.p * g.q, m0 = (i64)tile * BM;
    Product<T, BM, BN> product;
    {
        Pixels<T, BM> a(g, x, m0, pixels);
        Filters<T, BN> b(g, w, n0);
        product.multiply(a, b, Walk<T>::steps(g.r * g.s, g.c));
    }
    product.lay_out([&](i32, i32 column, f32& left, f32& right) {
        if (bias && n0 + column < g.k) {
            left += bias[n0 + column];
            right += bias[n0 + column + 1];
        }
    });
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
KERNEL(conv_forward_mma<f16, 128, 128>)
KERNEL(conv_forward_mma<f16, 128, 64>)
KERNEL(conv_forward_mma<f16, 64, 64>)
KERNEL(conv_forward_mma<bf16, 128, 128>)
KERNEL(conv_forward_mma<bf16, 128, 64>)
KERNEL(conv_forward_mma<bf16, 64, 64>)
KERNEL(conv_forward_mma<f32, 128, 64>)
KERNEL(conv_forward_mma<f32, 64, 64>)

// dy that the taps of a phase send to input pixels: row m is pixel m0 + m of the phase.
template <typename T, i32 BM> struct Gradients {
    static constexpr bool ALONG_K = true;
    Conv g;
    Walk<T> walk;
    const T* dy;
    i64 start[BM / 64]; // where the phase's first tap takes from; may be outside
    i32 p[BM / 64], q[BM / 64];
    __device__ Gradients(const Conv& g, const Phase& rows, const Phase& columns, const T* dy, i64 m0, i64 pixels)
        : g(g), walk(columns.taps, g.k), dy(dy)
    {
        for (i32 j = 0; j < BM / 64; j++) {
            const i64 m = m0 + threadIdx.x / 4 + j * 64;
            const i32 i = (i32)m, column = i % columns.count, row = i / columns.count % rows.count, n = i / columns.count / rows.count;
            p[j] = m < pixels ? (rows.start + row * g.stride_h + g.pad_h - rows.tap) / g.stride_h : -1;
            q[j] = (columns.start + column * g.stride_w + g.pad_w - columns.tap) / g.stride_w;
            start[j] = (((i64)n * g.p + p[j]) * g.q + q[j]) * g.k;
        }
    }
    __device__ __forceinline__ void load(T* stage)
    {
        const i32 chunk = threadIdx.x % 4, k = walk.c + chunk * CHUNK<T>;
        const i64 tap = ((i64)walk.r * g.q + walk.s) * g.k - k;
#pragma unroll
        for (i32 j = 0; j < BM / 64; j++) {
            const i32 y = p[j] - walk.r, z = q[j] - walk.s;
            const bool there = k < g.k && y >= 0 && y < g.p && z >= 0 && z < g.q;
            cp_async16(Stage<T, true, BM>::at(stage, threadIdx.x / 4 + j * 64, chunk), there ? dy + start[j] - tap : dy, there ? 16 : 0);
        }
        walk.next();
    }
};

// w for the input gradient: k's are (tap, output channel), chunks run along the input channels from n0 on.
template <typename T, i32 BN> struct FiltersByInput {
    static constexpr bool ALONG_K = false;
    static constexpr i32 CHUNKS = BN / CHUNK<T>;
    Conv g;
    Walk<T> walk;
    Phase rows, columns;
    const T* w;
    i32 n0;
    __device__ __forceinline__ void load(T* stage)
    {
        const i32 chunk = threadIdx.x % CHUNKS, c = n0 + chunk * CHUNK<T>;
        const i32 r = rows.tap + walk.r * g.stride_h, s = columns.tap + walk.s * g.stride_w;
#pragma unroll
        for (i32 line = threadIdx.x / CHUNKS; line < DEPTH<T>; line += mma_tile::THREADS / CHUNKS) {
            const i32 k = walk.c + line;
            const bool there = k < g.k && c < g.c;
            const T* from = there ? w + (((i64)k * g.r + r) * g.s + s) * g.c + c : w;
            cp_async16(Stage<T, false, BN>::at(stage, line, chunk), from, there ? 16 : 0);
        }
        walk.next();
    }
};

// The way out of the fused rung; with all of it null it is the mma rung's.
//     so_far [N, H, W, C]   the gradient that x has already received, or null; dx may take its place
//     y, norm               what the norm that made x saw, and its numbers; null without sums
//     z                     the norm's output, x, for MASK_OUTPUT
//     sums                  null, or [phases][tiles of pixels][2][c]: of dz (y - mean) and of dz over each tile
// blockIdx.y is the phase; see conv_input_gradient_tiled.
template <typename T, i32 BM, i32 BN>
__global__ void __launch_bounds__(mma_tile::THREADS, mma_tile::blocks(BM * BN))
    conv_input_gradient_mma(Conv g, const T* dy, const T* w, T* dx, const T* so_far, const T* z, const T* y, Norm norm, f32* sums, i32 mask)
{
    constexpr i32 N = CHUNK<T>;
    const Phase rows(blockIdx.y / g.stride_w, g.stride_h, g.pad_h, g.h, g.r);
    const Phase columns(blockIdx.y % g.stride_w, g.stride_w, g.pad_w, g.w, g.s);
    const i32 across = ceil_div(g.c, BN), tile = blockIdx.x / across, n0 = blockIdx.x % across * BN;
    const i64 pixels = (i64)g.n * rows.count * columns.count, m0 = (i64)tile * BM;
    if (sums)
        sums += ((i64)blockIdx.y * (gridDim.x / across) + tile) * 2 * g.c + n0;
    if (m0 >= pixels) { // the grid is made for the largest phase
        if (sums)
            for (i32 i = threadIdx.x; i < 2 * BN; i += mma_tile::THREADS)
                if (i % BN < g.c - n0)
                    sums[(i64)(i / BN) * g.c + i % BN] = 0;
        return;
    }
    Product<T, BM, BN> product;
    {
        Gradients<T, BM> a(g, rows, columns, dy, m0, pixels);
        FiltersByInput<T, BN> b{g, Walk<T>(columns.taps, g.k), rows, columns, w, n0};
        product.multiply(a, b, Walk<T>::steps(rows.taps * columns.taps, g.k));
    }
    product.lay_out([](i32, i32, f32, f32) {});
    const i32 c = n0 + product.column();
    f32 dw[N] = {}, db[N] = {};
    product.each_chunk([&](i32 row, const T* chunk) {
        const i64 m = m0 + row;
        if (m >= pixels || c >= g.c)
            return;
        const i32 i = (i32)m, j = i % columns.count, k = i / columns.count % rows.count, n = i / columns.count / rows.count;
        const i32 h = rows.start + k * g.stride_h, v = columns.start + j * g.stride_w;
        const i64 at = (((i64)n * g.h + h) * g.w + v) * g.c + c;
        f32 d[N], other[N];
        load_pack(chunk, d);
        if (so_far) {
            load_pack(so_far + at, other);
            for (i32 e = 0; e < N; e++)
                d[e] = to_f32(from_f32<T>(d[e] + other[e])); // the sum as memory will hold it
        }
        if (mask == MASK_OUTPUT) {
            load_pack(z + at, other);
            for (i32 e = 0; e < N; e++)
                d[e] = other[e] > 0 ? d[e] : 0;
        }
        if (sums) {
            load_pack(y + at, other);
            for (i32 e = 0; e < N; e++) {
                const f32 mean = norm.mean[c + e];
                if (mask == MASK_INPUT && !(normalized(other[e], mean, norm.weight[c + e] * norm.invstd[c + e], norm.bias[c + e]) > 0))
                    d[e] = 0;
                dw[e] = fmaf(d[e], other[e] - mean, dw[e]);
                db[e] += d[e];
            }
        }
        store_pack(dx + at, d);
    });
    if (sums)
        product.write_column_sums(dw, db, sums, g.c, g.c - n0);
}
KERNEL(conv_input_gradient_mma<f16, 128, 128>)
KERNEL(conv_input_gradient_mma<f16, 128, 64>)
KERNEL(conv_input_gradient_mma<f16, 64, 64>)
KERNEL(conv_input_gradient_mma<bf16, 128, 128>)
KERNEL(conv_input_gradient_mma<bf16, 128, 64>)
KERNEL(conv_input_gradient_mma<bf16, 64, 64>)
KERNEL(conv_input_gradient_mma<f32, 128, 64>)
KERNEL(conv_input_gradient_mma<f32, 64, 64>)

// dy with pixels as k's: chunks run along the output channels from m0 on.
template <typename T, i32 BM> struct GradientsByPixel {
    static constexpr bool ALONG_K = false;
    static constexpr i32 CHUNKS = BM / CHUNK<T>;
    Conv g;
    const T* dy;
    i32 m0;
    i64 pixel, end;
    __device__ __forceinline__ void load(T* stage)
    {
        const i32 chunk = threadIdx.x % CHUNKS, k = m0 + chunk * CHUNK<T>;
#pragma unroll
        for (i32 line = threadIdx.x / CHUNKS; line < DEPTH<T>; line += mma_tile::THREADS / CHUNKS) {
            const bool there = pixel + line < end && k < g.k;
            cp_async16(Stage<T, false, BM>::at(stage, line, chunk), there ? dy + (pixel + line) * g.k + k : dy, there ? 16 : 0);
        }
        pixel += DEPTH<T>;
    }
};

// x under one tap with output pixels as k's: chunks run along the input channels from c0 on.
template <typename T, i32 BN> struct PixelsUnderTap {
    static constexpr bool ALONG_K = false;
    static constexpr i32 CHUNKS = BN / CHUNK<T>, LINES = mma_tile::THREADS / CHUNKS, EACH = DEPTH<T> / LINES;
    Conv g;
    const T* x;
    i32 r, s, c0;
    i64 pixel, end;
    i32 n[EACH], p[EACH], q[EACH]; // of this thread's lines
    i32 dn, dp, dq;                // a step further
    __device__ PixelsUnderTap(const Conv& g, const T* x, i32 tap, i32 c0, i64 begin, i64 end)
        : g(g), x(x), r(tap / g.s - g.pad_h), s(tap % g.s - g.pad_w), c0(c0), pixel(begin), end(end)
    {
        for (i32 j = 0; j < EACH; j++) {
            const i32 i = (i32)(begin + threadIdx.x / CHUNKS + j * LINES);
            q[j] = i % g.q, p[j] = i / g.q % g.p, n[j] = i / g.q / g.p;
        }
        dq = DEPTH<T> % g.q, dp = DEPTH<T> / g.q % g.p, dn = DEPTH<T> / g.q / g.p;
    }
    __device__ __forceinline__ void load(T* stage)
    {
        const i32 chunk = threadIdx.x % CHUNKS, c = c0 + chunk * CHUNK<T>;
#pragma unroll
        for (i32 j = 0; j < EACH; j++) {
            const i32 line = threadIdx.x / CHUNKS + j * LINES;
            const i32 h = p[j] * g.stride_h + r, v = q[j] * g.stride_w + s;
            const bool there = pixel + line < end && c < g.c && h >= 0 && h < g.h && v >= 0 && v < g.w;
            const T* from = there ? x + (((i64)n[j] * g.h + h) * g.w + v) * g.c + c : x;
            cp_async16(Stage<T, false, BN>::at(stage, line, chunk), from, there ? 16 : 0);
            // Additions with carries, where two divisions would cost more.
            q[j] += dq;
            p[j] += dp;
            n[j] += dn;
            if (q[j] >= g.q) {
                q[j] -= g.q;
                p[j]++;
            }
            if (p[j] >= g.p) {
                p[j] -= g.p;
                n[j]++;
            }
        }
        pixel += DEPTH<T>;
    }
};

// blockIdx.x is a tile of output channels, a tap and a tile of its input channels; blockIdx.y the split: its share of the pixels goes to
// partial[split] [K, R*S*C]. With one split that is dw itself.
template <typename T, i32 BM, i32 BN>
__global__ void __launch_bounds__(mma_tile::THREADS, mma_tile::blocks(BM * BN)) conv_weight_gradient_mma(Conv g, const T* x, const T* dy, f32* partial, i64 share)
{
    const i64 pixels = (i64)g.n * g.p * g.q, width = (i64)g.r * g.s * g.c;
    const i64 begin = blockIdx.y * share, end = begin + share < pixels ? begin + share : pixels;
    const i32 per_tap = ceil_div(g.c, BN), across = g.r * g.s * per_tap;
    const i32 m0 = blockIdx.x / across * BM, tap = blockIdx.x % across / per_tap, c0 = blockIdx.x % per_tap * BN;
    Product<T, BM, BN> product;
    {
        GradientsByPixel<T, BM> a{g, dy, m0, begin, end};
        PixelsUnderTap<T, BN> b(g, x, tap, c0, begin, end);
        product.multiply(a, b, begin < end ? (i32)ceil_div(end - begin, (i64)DEPTH<T>) : 0);
    }
    f32* const out = partial + blockIdx.y * (i64)g.k * width + (i64)tap * g.c;
    product.each_pair([&](i32 row, i32 column, f32 left, f32 right) {
        const i32 k = m0 + row, c = c0 + column;
        if (k < g.k && c < g.c)
            mma_tile::store_pair(out + k * width + c, left, right);
    });
}
KERNEL(conv_weight_gradient_mma<f16, 128, 128>)
KERNEL(conv_weight_gradient_mma<f16, 128, 64>)
KERNEL(conv_weight_gradient_mma<f16, 64, 64>)
KERNEL(conv_weight_gradient_mma<bf16, 128, 128>)
KERNEL(conv_weight_gradient_mma<bf16, 128, 64>)
KERNEL(conv_weight_gradient_mma<bf16, 64, 64>)
KERNEL(conv_weight_gradient_mma<f32, 128, 64>)
KERNEL(conv_weight_gradient_mma<f32, 64, 64>)
