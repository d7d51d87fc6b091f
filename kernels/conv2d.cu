// Two-dimensional convolution: forward, input gradient, weight gradient, for any size, stride and padding.
//
//     y[n, p, q, k]  = b[k] + sum over r, s, c of  x[n, p*u0 + r - p0, q*u1 + s - p1, c] * w[k, r, s, c]
//     dx[n, h, v, c] = sum over r, s, k of  dy[n, p, q, k] * w[k, r, s, c]   where p*u0 + r - p0 = h and q*u1 + s - p1 = v
//     dw[k, r, s, c] = sum over n, p, q of  dy[n, p, q, k] * x[n, p*u0 + r - p0, q*u1 + s - p1, c]
//
// CPU reference: src/ops/conv2d/cpu.rs. Launched by src/ops/conv2d/cuda.rs.
//
// The ladder:
//   naive   one thread per result, which walks through its whole sum. Nothing is shared: a 3x3 layer with 64 channels fetches each
//           number 576 times. It is the text above as code, and what the other rungs are checked against.
//   tiled   the sums are matrix products (tile.cuh), whose rows are pixels: the operands below say where pixel m and tap k lie in
//           the picture. No column matrix is ever made. In the weight gradient the pixels are the *depth*: few results, long sums.
//           There the depth is cut into `splits` parts for as many blocks, which leave partial sums in a workspace, and a second
//           kernel adds those in order: the same bits every time, where atomic additions would give different ones.
//   tensor  the same products on tensor cores: conv2d_mma.cu; for 3x3 windows with stride 1 conv2d_slab.cu and, for dw, conv2d_taps.cu; for
//           the first layer conv2d_stem.cu.
//   fused   the same, and what comes before or after a convolution on the way: conv2d_out.cuh.
// With a stride, which taps reach an input pixel depends on its position modulo the stride; the input gradient is therefore done in
// stride x stride phases (a layer of the grid each), each a dense product over its own taps: 3x3 with stride 2 has 1 + 2 + 2 + 4 instead of
// 4 x 9 of which most would miss.
//
// Results in f32 are rounded once. dw and db are f32, whatever x is: they go to f32 masters.
//
// Try it: cargo test --test emulator -- conv        Bench: cargo bench --bench ops -- conv

#include "conv2d.cuh"
#include "tile.cuh"

// ------------------------------------------------------------------------------------------------------------------- naive

template <typename T> __global__ void conv_forward_naive(Conv g, const T* x, const T* w, const f32* bias, T* y)
{
    const i64 count = (i64)g.n * g.p * g.q * g.k;
    for (i64 i = first(); i < count; i += step()) {
        const i32 k = i % g.k, q = i / g.k % g.q, p = i / g.k / g.q % g.p, n = i / g.k / g.q / g.p;
        f32 sum = 0;
        for (i32 r = 0; r < g.r; r++)
            for (i32 s = 0; s < g.s; s++) {
                const i32 h = p * g.stride_h + r - g.pad_h, v = q * g.stride_w + s - g.pad_w;
                if (h < 0 || h >= g.h || v < 0 || v >= g.w)
                    continue;
                const T* px = x + (((i64)n * g.h + h) * g.w + v) * g.c;
                const T* pw = w + (((i64)k * g.r + r) * g.s + s) * g.c;
                for (i32 c = 0; c < g.c; c++)
                    sum = fmaf(to_f32(px[c]), to_f32(pw[c]), sum);
            }
        y[i] = from_f32<T>(sum + (bias ? bias[k] : 0.0f));
    }
}
KERNEL(conv_forward_naive<f32>)
KERNEL(conv_forward_naive<f16>)
KERNEL(conv_forward_naive<bf16>)

template <typename T> __global__ void conv_input_gradient_naive(Conv g, const T* dy, const T* w, T* dx)
{
    const i64 count = (i64)g.n * g.h * g.w * g.c;
    for (i64 i = first(); i < count; i += step()) {
        const i32 c = i % g.c, v = i / g.c % g.w, h = i / g.c / g.w % g.h, n = i / g.c / g.w / g.h;
        f32 sum = 0;
        for (i32 r = 0; r < g.r; r++)
            for (i32 s = 0; s < g.s; s++) {
                const i32 up = h + g.pad_h - r, left = v + g.pad_w - s; // p * stride, q * stride
                if (up < 0 || up % g.stride_h || left < 0 || left % g.stride_w)
                    continue;
                const i32 p = up / g.stride_h, q = left / g.stride_w;
                if (p >= g.p || q >= g.q)
                    continue;
                const T* pdy = dy + (((i64)n * g.p + p) * g.q + q) * g.k;
                for (i32 k = 0; k < g.k; k++)
                    sum = fmaf(to_f32(pdy[k]), to_f32(w[(((i64)k * g.r + r) * g.s + s) * g.c + c]), sum);
            }
        dx[i] = from_f32<T>(sum);
    }
}
KERNEL(conv_input_gradient_naive<f32>)
KERNEL(conv_input_gradient_naive<f16>)
KERNEL(conv_input_gradient_naive<bf16>)

template <typename T> __global__ void conv_weight_gradient_naive(Conv g, const T* x, const T* dy, f32* dw)
{
    const i64 count = (i64)g.k * g.r * g.s * g.c;
    for (i64 i = first(); i < count; i += step()) {
        const i32 c = i % g.c, s = i / g.c % g.s, r = i / g.c / g.s % g.r, k = i / g.c / g.s / g.r;
        f32 sum = 0;
        for (i32 n = 0; n < g.n; n++)
            for (i32 p = 0; p < g.p; p++) {
                const i32 h = p * g.stride_h + r - g.pad_h;
                if (h < 0 || h >= g.h)
                    continue;
                for (i32 q = 0; q < g.q; q++) {
                    const i32 v = q * g.stride_w + s - g.pad_w;
                    if (v < 0 || v >= g.w)
                        continue;
                    const f32 a = to_f32(dy[(((i64)n * g.p + p) * g.q + q) * g.k + k]);
                    sum = fmaf(a, to_f32(x[(((i64)n * g.h + h) * g.w + v) * g.c + c]), sum);
                }
            }
        dw[i] = sum;
    }
}
KERNEL(conv_weight_gradient_naive<f32>)
KERNEL(conv_weight_gradient_naive<f16>)
KERNEL(conv_weight_gradient_naive<bf16>)

// ------------------------------------------------------------------------------------------------------------------- tiled

// Input pixels under the taps: row m is output pixel (n, p, q), column k is tap and channel (r, s, c).
template <typename T> struct PixelsUnderTaps {
    static constexpr bool ALONG_K = true;
    Conv g;
    const T* x;
    struct Row {
        const T* picture;
        i32 h, v; // of tap (0, 0); may be outside
    };
    __device__ Row row(i64 m) const
    {
        const i32 q = m % g.q, p = m / g.q % g.p, n = m / g.q / g.p;
        return {x + (i64)n * g.h * g.w * g.c, p * g.stride_h - g.pad_h, q * g.stride_w - g.pad_w};
    }
    __device__ f32 at(const Row& row, i64 k) const
    {
        const i32 c = (i32)k % g.c, s = (i32)k / g.c % g.s, r = (i32)k / g.c / g.s;
        const i32 h = row.h + r, v = row.v + s;
        return h >= 0 && h < g.h && v >= 0 && v < g.w ? to_f32(row.picture[((i64)h * g.w + v) * g.c + c]) : 0.0f;
    }
};

template <typename T>
__global__ void __launch_bounds__(tile::THREADS) conv_forward_tiled(Conv g, const T* x, const T* w, const f32* bias, T* y)
{
    const i64 pixels = (i64)g.n * g.p * g.q, depth = (i64)g.r * g.s * g.c;
    // The weights of an output channel lie in the order of the taps and channels under it: a matrix as it is.
    tile::product(PixelsUnderTaps<T>{g, x}, tile::Rows<T>{w, depth}, (i64)blockIdx.x * tile::ROWS, (i64)blockIdx.y * tile::COLS, pixels,
                  g.k, 0, depth,
                  [&](i64 m, i64 k, f32 sum) { y[m * g.k + k] = from_f32<T>(sum + (bias ? bias[k] : 0.0f)); });
}
KERNEL(conv_forward_tiled<f32>)
KERNEL(conv_forward_tiled<f16>)
KERNEL(conv_forward_tiled<bf16>)

// Output pixels that the taps send to input pixels: row m is an input pixel of the phase, column k is tap and channel (r', s', k)
// of the phase.
template <typename T> struct PixelsFromTaps {
    static constexpr bool ALONG_K = true;
    Conv g;
    Phase rows, columns;
    const T* dy;
    struct Row {
        const T* picture;
        i32 p, q; // of the phase's first tap; further taps are at p - 1, p - 2, ..
    };
    __device__ Row row(i64 m) const
    {
        const i32 j = m % columns.count, i = m / columns.count % rows.count, n = m / columns.count / rows.count;
        const i32 h = rows.start + i * g.stride_h, v = columns.start + j * g.stride_w;
        // Both sums are multiples of the stride plus the tap; a tap above them gives a negative number, which is outside.
        return {dy + (i64)n * g.p * g.q * g.k, (h + g.pad_h - rows.tap) / g.stride_h, (v + g.pad_w - columns.tap) / g.stride_w};
    }
    __device__ f32 at(const Row& row, i64 k) const
    {
        const i32 channel = (i32)k % g.k, s = (i32)k / g.k % columns.taps, r = (i32)k / g.k / columns.taps;
        const i32 p = row.p - r, q = row.q - s;
        return p >= 0 && p < g.p && q >= 0 && q < g.q ? to_f32(row.picture[((i64)p * g.q + q) * g.k + channel]) : 0.0f;
    }
};

// The weights in the order of PixelsFromTaps' columns; row i is input channel i.
template <typename T> struct WeightsOfPhase {
    static constexpr bool ALONG_K = false;
    Conv g;
    Phase rows, columns;
    const T* w;
    using Row = i64;
    __device__ Row row(i64 i) const { return i; }
    __device__ f32 at(Row c, i64 k) const
    {
        const i32 channel = (i32)k % g.k, s = (i32)k / g.k % columns.taps, r = (i32)k / g.k / columns.taps;
        const i32 tap = (rows.tap + r * g.stride_h) * g.s + columns.tap + s * g.stride_w;
        return to_f32(w[((i64)channel * g.r * g.s + tap) * g.c + c]);
    }
};

// blockIdx.z is the phase. Where no tap reaches a phase's pixels (1x1 with stride 2), the sum is empty and zeros are written.
template <typename T>
__global__ void __launch_bounds__(tile::THREADS) conv_input_gradient_tiled(Conv g, const T* dy, const T* w, T* dx)
{
    const Phase rows(blockIdx.z / g.stride_w, g.stride_h, g.pad_h, g.h, g.r);
    const Phase columns(blockIdx.z % g.stride_w, g.stride_w, g.pad_w, g.w, g.s);
    const i64 pixels = (i64)g.n * rows.count * columns.count, depth = (i64)rows.taps * columns.taps * g.k;
    if ((i64)blockIdx.x * tile::ROWS >= pixels)
        return; // the grid is made for the largest phase
    tile::product(PixelsFromTaps<T>{g, rows, columns, dy}, WeightsOfPhase<T>{g, rows, columns, w}, (i64)blockIdx.x * tile::ROWS,
                  (i64)blockIdx.y * tile::COLS, pixels, g.c, 0, depth, [&](i64 m, i64 c, f32 sum) {
                      const i32 j = m % columns.count, i = m / columns.count % rows.count, n = m / columns.count / rows.count;
                      const i32 h = rows.start + i * g.stride_h, v = columns.start + j * g.stride_w;
                      dx[(((i64)n * g.h + h) * g.w + v) * g.c + c] = from_f32<T>(sum);
                  });
}
KERNEL(conv_input_gradient_tiled<f32>)
KERNEL(conv_input_gradient_tiled<f16>)
KERNEL(conv_input_gradient_tiled<bf16>)

// x with output pixels as depth: row i is tap and channel (r, s, c).
template <typename T> struct TapsByPixel {
    static constexpr bool ALONG_K = false;
    Conv g;
    const T* x;
    struct Row {
        i32 h, v, c; // relative to the output pixel's corner
    };
    __device__ Row row(i64 i) const
    {
        const i32 c = (i32)i % g.c, s = (i32)i / g.c % g.s, r = (i32)i / g.c / g.s;
        return {r - g.pad_h, s - g.pad_w, c};
    }
    __device__ f32 at(const Row& row, i64 pixel) const
    {
        const i32 i = (i32)pixel; // 32-bit divisions are several times faster; there are never 2^31 pixels
        const i32 q = i % g.q, p = i / g.q % g.p, n = i / g.q / g.p;
        const i32 h = p * g.stride_h + row.h, v = q * g.stride_w + row.v;
        return h >= 0 && h < g.h && v >= 0 && v < g.w ? to_f32(x[(((i64)n * g.h + h) * g.w + v) * g.c + row.c]) : 0.0f;
    }
};

// blockIdx.z is the split: its share of the pixels goes to partial[split] [K, R*S*C]. With one split that is dw itself.
template <typename T>
__global__ void __launch_bounds__(tile::THREADS) conv_weight_gradient_tiled(Conv g, const T* x, const T* dy, f32* partial, i64 share)
{
    const i64 pixels = (i64)g.n * g.p * g.q, width = (i64)g.r * g.s * g.c;
    const i64 begin = blockIdx.z * share, end = begin + share < pixels ? begin + share : pixels;
    f32* out = partial + blockIdx.z * (i64)g.k * width;
    // dy with pixels as depth is a matrix lying on its side.
    tile::product(tile::Columns<T>{dy, g.k}, TapsByPixel<T>{g, x}, (i64)blockIdx.x * tile::ROWS, (i64)blockIdx.y * tile::COLS,
                  g.k, width, begin, end, [&](i64 k, i64 i, f32 sum) { out[k * width + i] = sum; });
}
KERNEL(conv_weight_gradient_tiled<f32>)
KERNEL(conv_weight_gradient_tiled<f16>)
KERNEL(conv_weight_gradient_tiled<bf16>)

// dw[i] = the sum over splits of partial[split][i]. A block is blockDim.x numbers and blockDim.y runs of parts: each run adds its parts in order, then
// the runs are added in order. A weight gradient of 64 x 64 in 262 parts has so few numbers that a thread for each would wait 262 times, or 66
// times with the loads of four parts under way; with eight runs it waits nine times.
__global__ void __launch_bounds__(256) conv_add_splits(const f32* partial, f32* dw, i32 splits, i64 n)
{
    __shared__ f32 sums[256];
    const i32 share = ceil_div(splits, (i32)blockDim.y), begin = threadIdx.y * share;
    const i32 end = begin + share < splits ? begin + share : splits;
    for (i64 base = (i64)blockIdx.x * blockDim.x; base < n; base += step()) {
        const i64 i = base + threadIdx.x;
        f32 sum = 0;
        if (i < n)
#pragma unroll 4
            for (i32 split = begin; split < end; split++)
                sum += partial[split * n + i];
        if (blockDim.y > 1) {
            sums[threadIdx.y * blockDim.x + threadIdx.x] = sum;
            __syncthreads(); // all runs are there
            for (i32 run = 1; run < blockDim.y && threadIdx.y == 0; run++)
                sum += sums[run * blockDim.x + threadIdx.x];
            __syncthreads(); // and have been read
        }
        if (threadIdx.y == 0 && i < n)
            dw[i] = sum;
    }
}
KERNEL(conv_add_splits)
