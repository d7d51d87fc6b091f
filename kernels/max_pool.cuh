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

// What follows is for a ResNet's pooling. There window (p, q) has its middle at pixel (2p, 2q): so 2x2 pixels from there on are a block, there are
// as many blocks as windows, and a pixel lies under the window of its block, and at most under those to the right, below, and between.
// A thread goes down a strip of STRIP windows, or of their blocks: each shares much with the next, and where it lies is found out once.
#define STRIP 8
__device__ __forceinline__ u32 strips(const MaxPool& g) { return (u32)g.n * ceil_div(g.p, STRIP) * g.q; }
struct Strip {
    i32 n, p, end, q, c; // windows (p .. end - 1, q) of picture n, channels from c on
    // Strip `i` of [N, ceil(P / STRIP), Q].
    __device__ __forceinline__ Strip(const MaxPool& g, u32 i, i32 channel)
    {
        const u32 below_one_another = ceil_div(g.p, STRIP);
        c = channel;
        q = i % g.q;
        i /= g.q;
        p = i % below_one_another * STRIP;
        end = p + STRIP < g.p ? p + STRIP : g.p;
        n = i / below_one_another;
    }
};

// The place along an axis that is nearest to `i`, where `i` may lie outside.
__device__ __forceinline__ i32 nearest(i32 i, i32 size) { return i < 0 ? 0 : i < size ? i : size - 1; }

// 16 bytes of numbers as they lie in memory: half as many registers as in f32.
template <typename T> struct Words {
    alignas(16) T of[Pack<T>::N];
    __device__ __forceinline__ void load(const T* p) { *(Vec4*)of = *(const Vec4*)p; }
    // Zeros unless they are wanted. `p` is read in any case: a branch around the load would make what follows wait for it.
    __device__ __forceinline__ void load(const T* p, bool wanted)
    {
        const Vec4 words = *(const Vec4*)p;
        const u32 mask = wanted ? ~0u : 0;
        *(Vec4*)of = {words.x & mask, words.y & mask, words.z & mask, words.w & mask};
    }
    __device__ __forceinline__ void store(T* p) const { *(Vec4*)p = *(const Vec4*)of; }
};

// A strip's blocks, one after the other: x at their pixels, and what the windows send there. `gather` asks nine windows for four pixels and divides to
// find them; here it is four windows, two of them at hand from the block above, and taps that the compiler knows.
//
// Numbers are asked for one by one. Who takes all pixels of a number before the next number has few of them in f32 at a time, and so in registers.
template <typename T> struct Blocks {
    static constexpr i32 N = Pack<T>::N;
    struct Window {
        Words<T> dy;
        u32 won[N / 4]; // a byte each
    };
    Words<T> x[2][2];
    Window sent[2][2]; // windows (p, q), (p, q + 1); (p + 1, q), (p + 1, q + 1)
    u32 at, below, right; // the first pixel's place in x, and how far it is to the others: 0 where the picture ends

    // Before the first block of a strip.
    __device__ __forceinline__ Blocks(const MaxPool& g, const T* dy, const u8* winner, const Strip& strip)
    {
        for (i32 b = 0; b < 2; b++)
            load(g, dy, winner, strip, strip.p, b);
    }
    // The one of window p. All loads come first, so that they are on their way together.
    __device__ __forceinline__ void next(const MaxPool& g, const T* from, const T* dy, const u8* winner, const Strip& strip, i32 p)
    {
        at = (((u32)strip.n * g.h + 2 * p) * g.w + 2 * strip.q) * g.c + strip.c;
        below = 2 * p + 1 < g.h ? (u32)g.w * g.c : 0;
        right = 2 * strip.q + 1 < g.w ? g.c : 0;
        for (i32 a = 0; a < 2; a++)
            for (i32 b = 0; b < 2; b++)
                x[a][b].load(from + place(a, b), inside(a, b));
        for (i32 b = 0; b < 2; b++) {
            sent[0][b] = sent[1][b];
            load(g, dy, winner, strip, p + 1, b);
        }
    }
    __device__ __forceinline__ bool inside(i32 a, i32 b) const { return (!a || below) && (!b || right); }
    __device__ __forceinline__ u32 place(i32 a, i32 b) const { return at + a * below + b * right; }
    // Number j of pixel (a, b): x, or 0 outside; and what it gets, in `gather`'s order and rounded as memory would. Nothing is sent outside.
    __device__ __forceinline__ f32 v(i32 a, i32 b, i32 j) const { return to_f32(x[a][b].of[j]); }
    __device__ __forceinline__ f32 d(i32 a, i32 b, i32 j) const
    {
        f32 sum = 0;
#pragma unroll
        for (i32 i = 0; i <= a; i++)
#pragma unroll
            for (i32 k = 0; k <= b; k++) {
                const u32 tap = 4 + 3 * a + b - 6 * i - 2 * k; // the middle, from there to the pixel, and back by the way to the window
                if (((sent[i][k].won[j / 4] ^ tap * 0x01010101u) & 255u << j % 4 * 8) == 0)
                    sum += to_f32(sent[i][k].dy.of[j]);
            }
        return a || b ? to_f32(from_f32<T>(sum)) : sum; // of one window there is nothing to round
    }

  private:
    __device__ __forceinline__ void load(const MaxPool& g, const T* dy, const u8* winner, const Strip& strip, i32 p, i32 b)
    {
        const i32 q = strip.q + b;
        // A window that doesn't exist is another one that no tap has won.
        const bool exists = p < g.p && q < g.q;
        const u32 from = (((u32)strip.n * g.p + nearest(p, g.p)) * g.q + nearest(q, g.q)) * g.c + strip.c;
        sent[1][b].dy.load(dy + from);
        for (i32 i = 0; i < N / 4; i++)
            sent[1][b].won[i] = exists ? ((const u32*)(winner + from))[i] : ~0u;
    }
};
