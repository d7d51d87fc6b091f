// The rules of max pooling, for max_pool.cu and for the kernels that pool on their way.

#pragma once
#include "common.cuh"

struct MaxPool {
    i32 n, h, w, c; // x [N, H, W, C]
    i32 p, q;       // y [N, P, Q, C]
    i32 window, stride, padding;
};
LAYOUT(MaxPool, n, h, w, c, p, q, window, stride, padding)

// The largest number so far, and its tap's number: the first of equals, a NaN before all.
struct Best {
    f32 value = 0;
    i32 tap = -1;
    __device__ __forceinline__ void take(f32 a, i32 i)
    {
        if (tap < 0 || a > value || (is_nan(a) && !is_nan(value))) {
            value = a;
            tap = i;
        }
    }
};

// N bytes side by side, in words: as bytes they would take a register each. `p` is a multiple of N.
template <i32 N> struct Bytes {
    u32 word[(N + 3) / 4];
    __device__ __forceinline__ Bytes(const u8* p)
    {
        if constexpr (N == 1)
            word[0] = *p;
        else
            for (i32 i = 0; i < N / 4; i++)
                word[i] = ((const u32*)p)[i];
    }
    __device__ __forceinline__ i32 operator[](i32 i) const { return word[i / 4] >> i % 4 * 8 & 255; }
};

// The pooling of a ResNet's stem; and the same geometry with sizes that the compiler knows, once that was asked: divisions become shifts, and
// loops over a window straight code.
__device__ __forceinline__ bool is_resnets(const MaxPool& g) { return g.window == 3 && g.stride == 2 && g.padding == 1; }
__device__ __forceinline__ MaxPool resnets(MaxPool g)
{
    g.window = 3, g.stride = 2, g.padding = 1;
    return g;
}

// What the windows send to channels c .. c + N - 1 of input pixel (n, h, v): dy of those that it won.
template <typename T, i32 N>
__device__ __forceinline__ void gather(const MaxPool& g, const T* dy, const u8* winner, i32 n, i32 h, i32 v, i32 c, f32 (&sum)[N])
{
    // Windows p with p * stride - padding <= h < p * stride - padding + window; columns likewise.
    const i32 top = h + g.padding, left = v + g.padding;
    const i32 p0 = top < g.window ? 0 : (top - g.window) / g.stride + 1;
    const i32 q0 = left < g.window ? 0 : (left - g.window) / g.stride + 1;
    const i32 most = ceil_div(g.window, g.stride); // windows that cover a pixel, along an axis
    for (i32 j = 0; j < N; j++)
        sum[j] = 0;
#pragma unroll
    for (i32 a = 0; a < most; a++)
#pragma unroll
        for (i32 b = 0; b < most; b++) {
            const i32 p = p0 + a, q = q0 + b;
            if (p > top / g.stride || p >= g.p || q > left / g.stride || q >= g.q)
                continue;
            const i64 at = (((i64)n * g.p + p) * g.q + q) * g.c + c;
            const i32 tap = (top - p * g.stride) * g.window + left - q * g.stride;
            f32 d[N];
            load_some(dy + at, d);
            const Bytes<N> won(winner + at);
            for (i32 j = 0; j < N; j++)
                if (won[j] == tap)
                    sum[j] += d[j];
        }
}
