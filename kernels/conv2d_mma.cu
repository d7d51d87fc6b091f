// Convolution on tensor cores, in half precision: the third rung of conv2d.cu's ladder, which has the formulas.
//
// CPU reference: src/ops/conv2d/cpu.rs. Launched by src/ops/conv2d/cuda.rs.
//
//   mma     the tiled rung's products, by mma_tile.cuh. Numbers move 8 at a time, so C and K must be multiples of 8; the first layer
//           of a network, with its 3 channels, stays with the tiled rung.
//
// What the reduction runs over, and so where the 8 neighbouring numbers of a copy lie:
//
//               a                              b                          reduction
//   forward     x under a tap, along C         w, along C                 taps x C, 32 channels a step
//   dx          dy from a tap, along K         w, along C: transposed     taps x K, 32 channels a step
//   dw          dy, along K: transposed        x, along C: transposed     pixels, 32 a step
//
// "Transposed" costs nothing: ldmatrix can turn a fragment while it loads it. So w is never copied into another order.
//
// Try it: cargo test --test emulator -- conv        Bench: cargo bench --bench ops -- conv

#include "conv2d.cuh"
#include "mma_tile.cuh"

using mma_tile::CHUNK;
using mma_tile::COLS;
using mma_tile::DEPTH;
using mma_tile::ROWS;
using mma_tile::Stage;

// A walk along (tap, channel): a step is a tap and 32 of its channels; the last step of a tap may hang over.
struct Walk {
    i32 per_tap; // steps
    __device__ Walk(i32 channels) : per_tap(ceil_div(channels, DEPTH)) {}
    __device__ i32 tap(i32 step) const { return step / per_tap; }
    __device__ i32 channel(i32 step) const { return step % per_tap * DEPTH; }
};

// In the loaders below, thread t brings chunk t % 4 (of 32 channels) to rows t / 4, t / 4 + 64, ..

// x under the taps: row m is output pixel m0 + m.
template <typename T> struct Pixels {
    static constexpr bool ALONG_K = true;
    Conv g;
    Walk walk;
    const T* x;
    const T* picture[2]; // of this thread's two rows; null beyond the last pixel
    i32 h[2], v[2];      // where tap (0, 0) lies; may be outside
    __device__ Pixels(const Conv& g, const T* x, i64 m0, i64 pixels) : g(g), walk(g.c), x(x)
    {
        for (i32 j = 0; j < 2; j++) {
            const i64 m = m0 + threadIdx.x / 4 + j * 64;
            const i32 i = (i32)m, q = i % g.q, p = i / g.q % g.p, n = i / g.q / g.p;
            picture[j] = m < pixels ? x + (i64)n * g.h * g.w * g.c : nullptr;
            h[j] = p * g.stride_h - g.pad_h;
            v[j] = q * g.stride_w - g.pad_w;
        }
    }
    __device__ void load(T* stage, i32 step) const
    {
        const i32 tap = walk.tap(step), chunk = threadIdx.x % 4, c = walk.channel(step) + chunk * CHUNK;
        const i32 r = tap / g.s, s = tap % g.s;
        for (i32 j = 0; j < 2; j++) {
            const i32 y = h[j] + r, z = v[j] + s;
            const bool there = picture[j] && c < g.c && y >= 0 && y < g.h && z >= 0 && z < g.w;
            const T* from = there ? picture[j] + ((i64)y * g.w + z) * g.c + c : x;
            cp_async16(Stage<T, true, ROWS>::at(stage, threadIdx.x / 4 + j * 64, chunk), from, there ? 16 : 0);
        }
    }
};

// w for the forward product: row n is output channel n0 + n.
template <typename T> struct Filters {
    static constexpr bool ALONG_K = true;
    Conv g;
    Walk walk;
    const T* w;
    i32 k; // this thread's row
    __device__ Filters(const Conv& g, const T* w, i32 n0) : g(g), walk(g.c), w(w), k(n0 + threadIdx.x / 4) {}
    __device__ void load(T* stage, i32 step) const
    {
        const i32 chunk = threadIdx.x % 4, c = walk.channel(step) + chunk * CHUNK;
        const bool there = k < g.k && c < g.c;
        const T* from = there ? w + ((i64)k * g.r * g.s + walk.tap(step)) * g.c + c : w;
        cp_async16(Stage<T, true, COLS>::at(stage, threadIdx.x / 4, chunk), from, there ? 16 : 0);
    }
};

template <typename T>
__global__ void __launch_bounds__(mma_tile::THREADS, 2) conv_forward_mma(Conv g, const T* x, const T* w, const f32* bias, T* y)
{
    const i64 pixels = (i64)g.n * g.p * g.q, m0 = (i64)blockIdx.x * ROWS;
    const i32 n0 = blockIdx.y * COLS;
    const Pixels<T> a(g, x, m0, pixels);
    const Filters<T> b(g, w, n0);
    mma_tile::product<T>(a, b, g.r * g.s * a.walk.per_tap, [&](i32 row, i32 column, f32 left, f32 right) {
        const i64 m = m0 + row;
        const i32 k = n0 + column;
        if (m < pixels && k < g.k) {
            if (bias) {
                left += bias[k];
                right += bias[k + 1];
            }
            mma_tile::store_pair(y + m * g.k + k, left, right);
        }
    });
}
KERNEL(conv_forward_mma<f16>)
KERNEL(conv_forward_mma<bf16>)

// dy that the taps of a phase send to input pixels: row m is pixel m0 + m of the phase.
template <typename T> struct Gradients {
    static constexpr bool ALONG_K = true;
    Conv g;
    Walk walk;
    i32 taps_w;
    const T* dy;
    const T* picture[2];
    i32 p[2], q[2]; // of the phase's first tap
    __device__ Gradients(const Conv& g, const Phase& rows, const Phase& columns, const T* dy, i64 m0, i64 pixels)
        : g(g), walk(g.k), taps_w(columns.taps), dy(dy)
    {
        for (i32 j = 0; j < 2; j++) {
            const i64 m = m0 + threadIdx.x / 4 + j * 64;
            const i32 i = (i32)m, column = i % columns.count, row = i / columns.count % rows.count, n = i / columns.count / rows.count;
            picture[j] = m < pixels ? dy + (i64)n * g.p * g.q * g.k : nullptr;
            p[j] = (rows.start + row * g.stride_h + g.pad_h - rows.tap) / g.stride_h;
            q[j] = (columns.start + column * g.stride_w + g.pad_w - columns.tap) / g.stride_w;
        }
    }
    __device__ void load(T* stage, i32 step) const
    {
        const i32 tap = walk.tap(step), chunk = threadIdx.x % 4, k = walk.channel(step) + chunk * CHUNK;
        const i32 r = tap / taps_w, s = tap % taps_w;
        for (i32 j = 0; j < 2; j++) {
            const i32 y = p[j] - r, z = q[j] - s;
            const bool there = picture[j] && k < g.k && y >= 0 && y < g.p && z >= 0 && z < g.q;
            const T* from = there ? picture[j] + ((i64)y * g.q + z) * g.k + k : dy;
            cp_async16(Stage<T, true, ROWS>::at(stage, threadIdx.x / 4 + j * 64, chunk), from, there ? 16 : 0);
        }
    }
};

// w for the input gradient: k's are (tap, output channel), chunks run along the input channels n0 .. n0 + 63. Thread t brings chunk
// t % 8 of k t / 8.
template <typename T> struct FiltersByInput {
    static constexpr bool ALONG_K = false;
    Conv g;
    Walk walk;
    Phase rows, columns;
    const T* w;
    i32 n0;
    __device__ void load(T* stage, i32 step) const
    {
        const i32 line = threadIdx.x / 8, chunk = threadIdx.x % 8;
        const i32 tap = walk.tap(step), k = walk.channel(step) + line, c = n0 + chunk * CHUNK;
        const i32 r = rows.tap + tap / columns.taps * g.stride_h, s = columns.tap + tap % columns.taps * g.stride_w;
        const bool there = k < g.k && c < g.c;
        const T* from = there ? w + (((i64)k * g.r + r) * g.s + s) * g.c + c : w;
        cp_async16(Stage<T, false, COLS>::at(stage, line, chunk), from, there ? 16 : 0);
    }
};

// blockIdx.z is the phase; see conv_input_gradient_tiled.
template <typename T>
__global__ void __launch_bounds__(mma_tile::THREADS, 2) conv_input_gradient_mma(Conv g, const T* dy, const T* w, T* dx)
{
    const Phase rows(blockIdx.z / g.stride_w, g.stride_h, g.pad_h, g.h, g.r);
    const Phase columns(blockIdx.z % g.stride_w, g.stride_w, g.pad_w, g.w, g.s);
    const i64 pixels = (i64)g.n * rows.count * columns.count, m0 = (i64)blockIdx.x * ROWS;
    const i32 n0 = blockIdx.y * COLS;
    if (m0 >= pixels)
        return; // the grid is made for the largest phase
    const Gradients<T> a(g, rows, columns, dy, m0, pixels);
    const FiltersByInput<T> b{g, Walk(g.k), rows, columns, w, n0};
    mma_tile::product<T>(a, b, rows.taps * columns.taps * a.walk.per_tap, [&](i32 row, i32 column, f32 left, f32 right) {
        const i64 m = m0 + row;
        const i32 c = n0 + column;
        if (m < pixels && c < g.c) {
            const i32 i = (i32)m, j = i % columns.count, k = i / columns.count % rows.count, n = i / columns.count / rows.count;
            const i32 h = rows.start + k * g.stride_h, v = columns.start + j * g.stride_w;
            mma_tile::store_pair(dx + (((i64)n * g.h + h) * g.w + v) * g.c + c, left, right);
        }
    });
}
KERNEL(conv_input_gradient_mma<f16>)
KERNEL(conv_input_gradient_mma<bf16>)

// dy with pixels as k's: chunks run along the output channels m0 .. m0 + 127. Thread t brings chunk t % 16 of pixels t / 16 and
// t / 16 + 16.
template <typename T> struct GradientsByPixel {
    static constexpr bool ALONG_K = false;
    Conv g;
    const T* dy;
    i32 m0;
    i64 begin, end; // pixels
    __device__ void load(T* stage, i32 step) const
    {
        const i32 chunk = threadIdx.x % 16, k = m0 + chunk * CHUNK;
        for (i32 j = 0; j < 2; j++) {
            const i32 line = threadIdx.x / 16 + j * 16;
            const i64 pixel = begin + step * DEPTH + line;
            const bool there = pixel < end && k < g.k;
            cp_async16(Stage<T, false, ROWS>::at(stage, line, chunk), there ? dy + pixel * g.k + k : dy, there ? 16 : 0);
        }
    }
};

// x under one tap with output pixels as k's: chunks run along the input channels c0 .. c0 + 63. Thread t brings chunk t % 8 of
// pixel t / 8.
template <typename T> struct PixelsUnderTap {
    static constexpr bool ALONG_K = false;
    Conv g;
    const T* x;
    i32 r, s, c0;
    i64 begin, end;
    __device__ void load(T* stage, i32 step) const
    {
        const i32 line = threadIdx.x / 8, chunk = threadIdx.x % 8, c = c0 + chunk * CHUNK;
        const i64 pixel = begin + step * DEPTH + line;
        const i32 i = (i32)pixel, q = i % g.q, p = i / g.q % g.p, n = i / g.q / g.p;
        const i32 h = p * g.stride_h + r - g.pad_h, v = q * g.stride_w + s - g.pad_w;
        const bool there = pixel < end && c < g.c && h >= 0 && h < g.h && v >= 0 && v < g.w;
        const T* from = there ? x + (((i64)n * g.h + h) * g.w + v) * g.c + c : x;
        cp_async16(Stage<T, false, COLS>::at(stage, line, chunk), from, there ? 16 : 0);
    }
};

// blockIdx.y is a tap and 64 of its input channels, blockIdx.z the split: its share of the pixels goes to partial[split] [K, R*S*C].
// With one split that is dw itself.
template <typename T>
__global__ void __launch_bounds__(mma_tile::THREADS, 2) conv_weight_gradient_mma(Conv g, const T* x, const T* dy, f32* partial, i64 share)
{
    const i64 pixels = (i64)g.n * g.p * g.q, width = (i64)g.r * g.s * g.c;
    const i64 begin = blockIdx.z * share, end = begin + share < pixels ? begin + share : pixels;
    const i32 per_tap = ceil_div(g.c, COLS), tap = blockIdx.y / per_tap, c0 = blockIdx.y % per_tap * COLS, m0 = blockIdx.x * ROWS;
    const GradientsByPixel<T> a{g, dy, m0, begin, end};
    const PixelsUnderTap<T> b{g, x, tap / g.s, tap % g.s, c0, begin, end};
    f32* out = partial + blockIdx.z * (i64)g.k * width;
    const i32 steps = begin < end ? (i32)ceil_div(end - begin, (i64)DEPTH) : 0;
    mma_tile::product<T>(a, b, steps, [&](i32 row, i32 column, f32 left, f32 right) {
        const i32 k = m0 + row, c = c0 + column;
        if (k < g.k && c < g.c) {
            f32* at = out + k * width + (i64)tap * g.c + c;
            at[0] = left;
            at[1] = right;
        }
    });
}
KERNEL(conv_weight_gradient_mma<f16>)
KERNEL(conv_weight_gradient_mma<bf16>)
