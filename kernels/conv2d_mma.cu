// Convolution on tensor cores: the third and the fourth rung of conv2d.cu's ladder, which has the formulas.
//
// CPU reference: src/ops/conv2d/cpu.rs. Launched by src/ops/conv2d/cuda.rs.
//
//   tensor  the tiled rung's products, by mma_tile.cuh. Numbers move 16 bytes at a time, so C and K must be multiples of 8 (of 4 in
//           f32); the first layer of a network, with its 3 channels, has conv2d_stem.cu.
//   fused   the same, and with a tile of results in hand, what would otherwise be a pass over memory of its own:
//             forward   the sums over pixels of y and y², per channel: a batch norm that follows has its statistics
//             dx        the gradient that x has already received is added (a residual block's shortcut); where x is the output of a
//                       batch norm with ReLU, the ReLU's mask is applied and the norm's two sums are taken
//           Results are rounded first, and sums are of what memory holds: dx and y have the bits of the tensor rung.
//
// What the reduction runs over, and so where the neighbouring numbers of a copy lie:
//
//               a                              b                          reduction
//   forward     x under a tap, along C         w, along C                 taps x C, 64 bytes of channels a step
//   dx          dy from a tap, along K         w, along C: transposed     taps x K, likewise
//   dw          dy, along K: transposed        x, along C: transposed     pixels, 32 a step (16 in f32)
//
// Numbers beyond the end of the reduction, or outside the picture, are brought as 0. Rows and columns of results that don't exist are
// made of 0 or of whatever lies at the beginning, and never stored.
//
// "Transposed" costs nothing in 16 bits: ldmatrix can turn a fragment while it loads it. So w is never copied into another order.
//
// Grids are one line of blocks: the tiles of one row of results are neighbours, so that what they all read is still in the cache.
//
// Try it: cargo test --test emulator -- conv        Bench: cargo bench --bench ops -- conv

#include "conv2d_out.cuh"

using mma_tile::CHUNK;
using mma_tile::DEPTH;
using mma_tile::Product;
using mma_tile::ROWS;
using mma_tile::Stage;

// The pointer so many bytes further on.
template <typename T> __device__ __forceinline__ const T* further(const T* p, i64 bytes) { return (const T*)((const u8*)p + bytes); }

// Whether output pixel m is made of input pixel m alone. Then nobody needs to know where in its picture it is, and a thread divides nothing: for its
// four rows that is more than a hundred instructions, where all of 64 channels are three hundred.
__device__ __forceinline__ bool is_pixelwise(const Conv& g)
{
    return g.r == 1 && g.s == 1 && g.stride_h == 1 && g.stride_w == 1 && g.pad_h == 0 && g.pad_w == 0;
}

// A walk along (tap, channel): a step is a tap and DEPTH of its channels; the last step of a tap may hang over. It knows how far a and b
// have come, in bytes: additions, where products of sizes would cost as much as the step's own. The host refuses what 32 bits don't hold.
template <typename T> struct Walk {
    i32 r = 0, s = 0, c = 0;
    i32 a = 0, b = 0;
    i32 taps_w, channels;
    i32 b_step;       // to the next channels
    i32 a_tap, b_tap; // from behind a tap's last channels to the next tap
    i32 a_row, b_row; // from behind a row's last tap to the next row's first, besides
    __device__ static i32 per_tap(i32 channels) { return ceil_div(channels, DEPTH<T>); }
    __device__ static i32 steps(i32 taps, i32 channels) { return taps * per_tap(channels); }
    __device__ __forceinline__ void next()
    {
        const bool tap_ends = c + DEPTH<T> >= channels, row_ends = tap_ends && s + 1 == taps_w;
        c = tap_ends ? 0 : c + DEPTH<T>;
        s = row_ends ? 0 : s + tap_ends;
        r += row_ends;
        a += mma_tile::STEP_BYTES + (tap_ends ? a_tap : 0) + (row_ends ? a_row : 0);
        b += b_step + (tap_ends ? b_tap : 0) + (row_ends ? b_row : 0);
    }
};

// a: x under the taps, row m is output pixel m0 + m. b: w, row n is output channel n0 + n. Thread t brings chunk t % 4 of a step to rows
// t / 4, t / 4 + 32, .. of both.
template <typename T, i32 BM, i32 BN> struct ForwardOperands {
    static constexpr bool BRINGS_A = true, A_ALONG_K = true, B_ALONG_K = true;
    Conv g;
    Walk<T> walk;
    i32 chunk, to; // what this thread brings, and where to
    const T* x[BM / ROWS]; // this chunk of this thread's rows under tap (0, 0), which may be outside the picture
    i32 h[BM / ROWS], v[BM / ROWS];
    i32 k; // this thread's first filter
    const T* w;
    i32 rows; // bytes from this thread's row to its next
    __device__ ForwardOperands(const Conv& g, const T* x0, const T* w0, i64 m0, i64 pixels, i32 n0) : g(g)
    {
        const i32 size = sizeof(T), behind = Walk<T>::per_tap(g.c) * DEPTH<T>;
        walk.taps_w = g.s, walk.channels = g.c;
        walk.b_step = mma_tile::STEP_BYTES;
        walk.a_tap = walk.b_tap = (g.c - behind) * size;
        walk.a_row = (g.w - g.s) * g.c * size, walk.b_row = 0;
        chunk = threadIdx.x % 4 * CHUNK<T>;
        to = Stage<T, true, BM>::at(threadIdx.x / 4, threadIdx.x % 4);
        const bool same = is_pixelwise(g);
        for (i32 j = 0; j < BM / ROWS; j++) {
            const i64 m = m0 + threadIdx.x / 4 + j * ROWS;
            if (same) {
                h[j] = m < pixels ? 0 : g.h, v[j] = 0;
                x[j] = x0 + m * g.c + chunk;
                continue;
            }
            const i32 i = (i32)m, q = i % g.q, p = i / g.q % g.p, n = i / g.q / g.p;
            h[j] = m < pixels ? p * g.stride_h - g.pad_h : g.h; // beyond the last pixel no tap is inside
            v[j] = q * g.stride_w - g.pad_w;
            x[j] = x0 + (((i64)n * g.h + h[j]) * g.w + v[j]) * g.c + chunk;
        }
        k = n0 + threadIdx.x / 4;
        const i32 filter = g.r * g.s * g.c;
        w = w0 + (i64)k * filter + chunk;
        rows = ROWS * filter * size;
    }
    __device__ __forceinline__ void load(T* a, T* b, bool live)
    {
        const bool inside = live && walk.c + chunk < g.c;
#pragma unroll
        for (i32 j = 0; j < BM / ROWS; j++) {
            const bool valid = inside && (u32)(h[j] + walk.r) < (u32)g.h && (u32)(v[j] + walk.s) < (u32)g.w;
            cp_async16(a + to + j * ROWS * DEPTH<T>, further(x[j], walk.a), valid ? 16 : 0);
        }
#pragma unroll
        for (i32 j = 0; j < BN / ROWS; j++)
            cp_async16(b + to + j * ROWS * DEPTH<T>, further(w, walk.b + j * rows), inside && k + j * ROWS < g.k ? 16 : 0);
        walk.next();
    }
};

// sums: null, or [tiles of pixels][2][k]: see conv2d_out.cuh.
template <typename T, i32 BM, i32 BN>
__global__ void __launch_bounds__(mma_tile::THREADS, mma_tile::blocks<T>(BM * BN)) conv_forward_mma(Conv g, const T* x, const T* w, const f32* bias, T* y, f32* sums)
{
    const i32 across = ceil_div(g.k, BN), tile = blockIdx.x / across, n0 = blockIdx.x % across * BN;
    const i64 pixels = (i64)g.n * g.p * g.q, m0 = (i64)tile * BM;
    Product<T, BM, BN> product;
    {
        ForwardOperands<T, BM, BN> operands(g, x, w, m0, pixels, n0);
        product.multiply(operands, Walk<T>::steps(g.r * g.s, g.c));
    }
    store_output(product, g, tile, m0, n0, bias, y, sums);
}
KERNEL(conv_forward_mma<f16, 128, 128>)
KERNEL(conv_forward_mma<f16, 128, 64>)
KERNEL(conv_forward_mma<f16, 64, 64>)
KERNEL(conv_forward_mma<bf16, 128, 128>)
KERNEL(conv_forward_mma<bf16, 128, 64>)
KERNEL(conv_forward_mma<bf16, 64, 64>)
KERNEL(conv_forward_mma<f32, 128, 64>)
KERNEL(conv_forward_mma<f32, 64, 64>)

// a: dy that the taps of a phase send to input pixels, row m is pixel m0 + m of the phase; brought as in ForwardOperands. b: w, whose k's are
// (tap, output channel) and whose chunks run along the input channels from n0 on.
template <typename T, i32 BM, i32 BN> struct InputOperands {
    static constexpr bool BRINGS_A = true, A_ALONG_K = true, B_ALONG_K = false;
    static constexpr i32 CHUNKS = BN / CHUNK<T>, LINES = mma_tile::THREADS / CHUNKS, EACH = DEPTH<T> / LINES;
    Conv g;
    Walk<T> walk;
    i32 chunk, to_a, to_b; // what this thread brings of dy, and where to
    const T* dy[BM / ROWS]; // this chunk of what this thread's rows take from the phase's first tap; may be outside
    i32 p[BM / ROWS], q[BM / ROWS];
    const T* w; // this thread's first line and its chunk, under the phase's first tap
    __device__ InputOperands(const Conv& g, const Phase& rows, const Phase& columns, const T* dy0, const T* w0, i64 m0, i64 pixels, i32 n0)
        : g(g)
    {
        const i32 size = sizeof(T), behind = Walk<T>::per_tap(g.k) * DEPTH<T>;
        const i32 filter = g.r * g.s * g.c; // from an output channel to the next
        walk.taps_w = columns.taps, walk.channels = g.k;
        walk.b_step = DEPTH<T> * filter * size;
        walk.a_tap = (-g.k - behind) * size, walk.b_tap = (g.stride_w * g.c - behind * filter) * size;
        walk.a_row = (columns.taps - g.q) * g.k * size;
        walk.b_row = (g.stride_h * g.s - columns.taps * g.stride_w) * g.c * size;
        chunk = threadIdx.x % 4 * CHUNK<T>;
        to_a = Stage<T, true, BM>::at(threadIdx.x / 4, threadIdx.x % 4);
        to_b = Stage<T, false, BN>::at(threadIdx.x / CHUNKS, threadIdx.x % CHUNKS);
        const bool same = is_pixelwise(g);
        for (i32 j = 0; j < BM / ROWS; j++) {
            const i64 m = m0 + threadIdx.x / 4 + j * ROWS;
            if (same) {
                p[j] = m < pixels ? 0 : -1, q[j] = 0;
                dy[j] = dy0 + m * g.k + chunk;
                continue;
            }
            const i32 i = (i32)m, column = i % columns.count, row = i / columns.count % rows.count, n = i / columns.count / rows.count;
            p[j] = m < pixels ? (rows.start + row * g.stride_h + g.pad_h - rows.tap) / g.stride_h : -1;
            q[j] = (columns.start + column * g.stride_w + g.pad_w - columns.tap) / g.stride_w;
            dy[j] = dy0 + (((i64)n * g.p + p[j]) * g.q + q[j]) * g.k + chunk;
        }
        const i32 line = threadIdx.x / CHUNKS, c = n0 + threadIdx.x % CHUNKS * CHUNK<T>;
        w = w0 + (((i64)line * g.r + rows.tap) * g.s + columns.tap) * g.c + (c < g.c ? c : 0);
    }
    __device__ __forceinline__ void load(T* a, T* b, bool live)
    {
        const bool inside = live && walk.c + chunk < g.k;
        const i32 k = walk.c + threadIdx.x / CHUNKS, lines = live ? g.k : 0;
#pragma unroll
        for (i32 j = 0; j < BM / ROWS; j++) {
            const bool valid = inside && (u32)(p[j] - walk.r) < (u32)g.p && (u32)(q[j] - walk.s) < (u32)g.q;
            cp_async16(a + to_a + j * ROWS * DEPTH<T>, further(dy[j], walk.a), valid ? 16 : 0);
        }
        const T* from = further(w, walk.b);
#pragma unroll
        for (i32 j = 0; j < EACH; j++) {
            cp_async16(b + to_b + j * LINES * BN, from, k + j * LINES < lines ? 16 : 0);
            from += (i64)LINES * g.r * g.s * g.c;
        }
        walk.next();
    }
};

// The way out of the fused rung is that of conv2d_out.cuh; with all of it null it is the tensor rung's. sums: null, or [phases][tiles of pixels][2][c].
// blockIdx.y is the phase; see conv_input_gradient_tiled.
template <typename T, i32 BM, i32 BN>
__global__ void __launch_bounds__(mma_tile::THREADS, mma_tile::blocks<T>(BM * BN))
    conv_input_gradient_mma(Conv g, const T* dy, const T* w, T* dx, const T* so_far, const T* z, const T* y, Norm norm, f32* sums, i32 mask)
{
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
        InputOperands<T, BM, BN> operands(g, rows, columns, dy, w, m0, pixels, n0);
        product.multiply(operands, Walk<T>::steps(rows.taps * columns.taps, g.k));
    }
    store_input_gradient(product, g, rows, columns, m0, n0, dx, so_far, z, y, norm, sums, mask);
}
KERNEL(conv_input_gradient_mma<f16, 128, 128>)
KERNEL(conv_input_gradient_mma<f16, 128, 64>)
KERNEL(conv_input_gradient_mma<f16, 64, 64>)
KERNEL(conv_input_gradient_mma<bf16, 128, 128>)
KERNEL(conv_input_gradient_mma<bf16, 128, 64>)
KERNEL(conv_input_gradient_mma<bf16, 64, 64>)
KERNEL(conv_input_gradient_mma<f32, 128, 64>)
KERNEL(conv_input_gradient_mma<f32, 64, 64>)

// Pixels begin .. end - 1 as k's. a: dy, chunks run along the output channels from m0 on. b: x under one tap, chunks run along the input
// channels from c0 on.
template <typename T, i32 BM, i32 BN> struct WeightOperands {
    static constexpr bool BRINGS_A = true, A_ALONG_K = false, B_ALONG_K = false;
    static constexpr i32 A_CHUNKS = BM / CHUNK<T>, A_LINES = mma_tile::THREADS / A_CHUNKS;
    static constexpr i32 B_CHUNKS = BN / CHUNK<T>, B_LINES = mma_tile::THREADS / B_CHUNKS, EACH = DEPTH<T> / B_LINES;
    Conv g;
    i32 left;    // pixels, from the next step on
    i32 to_a, to_b;
    const T* dy; // this thread's first line and its chunk
    const T* x; // this thread's chunk of the first pixel
    i32 r, s;   // where the tap lies beside an output pixel
    i32 n[EACH], p[EACH], q[EACH]; // of this thread's lines
    i32 dn, dp, dq;                // a step further
    __device__ WeightOperands(const Conv& g, const T* x0, const T* dy0, i32 tap, i32 m0, i32 c0, i64 begin, i64 end)
        : g(g), left((i32)(end - begin)), r(tap / g.s - g.pad_h), s(tap % g.s - g.pad_w)
    {
        const i32 k = m0 + threadIdx.x % A_CHUNKS * CHUNK<T>, c = c0 + threadIdx.x % B_CHUNKS * CHUNK<T>;
        to_a = Stage<T, false, BM>::at(threadIdx.x / A_CHUNKS, threadIdx.x % A_CHUNKS);
        to_b = Stage<T, false, BN>::at(threadIdx.x / B_CHUNKS, threadIdx.x % B_CHUNKS);
        dy = dy0 + (begin + threadIdx.x / A_CHUNKS) * g.k + (k < g.k ? k : 0);
        x = x0 + (c < g.c ? c : 0);
        for (i32 j = 0; j < EACH; j++) {
            const i32 i = (i32)(begin + threadIdx.x / B_CHUNKS + j * B_LINES);
            q[j] = i % g.q, p[j] = i / g.q % g.p, n[j] = i / g.q / g.p;
        }
        dq = DEPTH<T> % g.q, dp = DEPTH<T> / g.q % g.p, dn = DEPTH<T> / g.q / g.p;
    }
    __device__ __forceinline__ void load(T* a, T* b, bool) // beyond the last step no pixels are left
    {
        const i32 a_line = threadIdx.x / A_CHUNKS, b_line = threadIdx.x / B_CHUNKS;
        const i64 row = (i64)g.k * (i64)sizeof(T);
#pragma unroll
        for (i32 j = 0; j < DEPTH<T> / A_LINES; j++) {
            const bool valid = a_line + j * A_LINES < left;
            cp_async16(a + to_a + j * A_LINES * BM, further(dy, j * A_LINES * row), valid ? 16 : 0);
        }
        dy = further(dy, DEPTH<T> * row);
#pragma unroll
        for (i32 j = 0; j < EACH; j++) {
            const i32 h = p[j] * g.stride_h + r, v = q[j] * g.stride_w + s;
            const bool valid = b_line + j * B_LINES < left && (u32)h < (u32)g.h && (u32)v < (u32)g.w;
            // A product of 32 bits by 32 bits and a sum: one instruction.
            const T* from = further(x, (i64)((n[j] * g.h + h) * g.w + v) * (i32)(g.c * sizeof(T)));
            cp_async16(b + to_b + j * B_LINES * BN, from, valid ? 16 : 0);
            // Additions with carries, where two divisions would cost more.
            const bool row_ends = q[j] + dq >= g.q;
            q[j] += dq - (row_ends ? g.q : 0);
            p[j] += dp + row_ends;
            const bool picture_ends = p[j] >= g.p;
            p[j] -= picture_ends ? g.p : 0;
            n[j] += dn + picture_ends;
        }
        left -= DEPTH<T>;
    }
};

// blockIdx.x is a tile of output channels, a tap and a tile of its input channels; blockIdx.y the split: its share of the pixels goes to
// partial[split] [K, R*S*C]. With one split that is dw itself.
template <typename T, i32 BM, i32 BN>
__global__ void __launch_bounds__(mma_tile::THREADS, mma_tile::blocks<T>(BM * BN)) conv_weight_gradient_mma(Conv g, const T* x, const T* dy, f32* partial, i64 share)
{
    const i64 pixels = (i64)g.n * g.p * g.q, width = (i64)g.r * g.s * g.c;
    const i64 begin = blockIdx.y * share, end = begin + share < pixels ? begin + share : pixels;
    const i32 per_tap = ceil_div(g.c, BN), across = g.r * g.s * per_tap;
    const i32 m0 = blockIdx.x / across * BM, tap = blockIdx.x % across / per_tap, c0 = blockIdx.x % per_tap * BN;
    Product<T, BM, BN> product;
    {
        WeightOperands<T, BM, BN> operands(g, x, dy, tap, m0, c0, begin, end);
        product.multiply(operands, begin < end ? (i32)ceil_div(end - begin, (i64)DEPTH<T>) : 0);
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
