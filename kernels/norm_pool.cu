// Batch normalisation, ReLU and max pooling in one pass, as a ResNet's stem has them; and back.
//
//     z = max(w (x - mu) / sqrt(var + eps) + b, 0)          y = the largest z under each window
//     dz = what the windows send to the pixels that they chose, where z > 0          db, dw, dx: batch_norm.cu
//
// Reference: batch_norm.cu and max_pool.cu, one after the other. Launched by src/ops/norm_pool/cuda.rs.
//
// Memory is the limit. One after the other write z and read it again, and in backward write and read its gradient, each four times as
// large as y. Here z is never in memory: forward computes it anew under each window (2.25 times for 3x3/2), and both backward passes
// gather dz anew from y's gradient and the winners, a quarter and an eighth of x's bytes in half precision. So backward visits memory
// 3.75 times x instead of 6.5 times.
//
// z is rounded as memory would have rounded it, so the winners, and all gradients but for the order of two sums, have the same bits.
//
// Try it: cargo test --test emulator -- norm_pool        Bench: cargo bench --bench ops -- norm_pool

#include "max_pool.cuh"
#include "norm.cuh"
#include "norm_sums.cuh"

// z as memory would hold it, of the norm's image before the ReLU.
template <typename T> __device__ __forceinline__ f32 activated(f32 z)
{
    return to_f32(from_f32<T>(z <= 0 ? 0.0f : z)); // a NaN stays one
}

// A pixel of x [N, H, W, C] by the number of one of its channels. There are fewer than 2^32: divisions of 64 bits take many times as long.
struct Place {
    i32 c, w, h, n;
    __device__ __forceinline__ Place(u32 i, u32 channels, u32 width, u32 height)
    {
        c = i % channels;
        i /= channels;
        w = i % width;
        i /= width;
        h = i % height;
        n = i / height;
    }
};

template <typename T, i32 N>
__device__ __forceinline__ void forward(const MaxPool& g, const T* x, Norm norm, T* y, u8* winner)
{
    const i64 count = (i64)g.n * g.p * g.q * g.c, far = step() * N;
    const bool stays = channel_stays(far, g.c);
    Numbers<N> by(norm, (u32)(first() * N) % g.c, g.c);
    for (i64 i = first() * N; i < count; i += far) {
        const Place at((u32)i, g.c, g.q, g.p);
        if (!stays)
            by = Numbers<N>(norm, at.c, g.c);
        f32 v[N];
        Best best[N];
#pragma unroll
        for (i32 r = 0; r < g.window; r++)
#pragma unroll
            for (i32 s = 0; s < g.window; s++) {
                const i32 h = at.h * g.stride + r - g.padding, w = at.w * g.stride + s - g.padding;
                if (h < 0 || h >= g.h || w < 0 || w >= g.w)
                    continue;
                load_some(x + (((i64)at.n * g.h + h) * g.w + w) * g.c + at.c, v);
                for (i32 j = 0; j < N; j++)
                    best[j].take(activated<T>(by.of(v[j], j)), r * g.window + s);
            }
        for (i32 j = 0; j < N; j++) {
            v[j] = best[j].value;
            winner[i + j] = (u8)best[j].tap;
        }
        store_some(y + i, v);
    }
}
template <typename T> __global__ void __launch_bounds__(256) norm_pool_forward(MaxPool g, const T* x, Norm norm, T* y, u8* winner)
{
    constexpr i32 N = Pack<T>::N;
    if (g.c % N == 0 && is_resnets(g))
        forward<T, N>(resnets(g), x, norm, y, winner);
    else if (g.c % N == 0)
        forward<T, N>(g, x, norm, y, winner);
    else
        forward<T, 1>(g, x, norm, y, winner);
}
KERNEL(norm_pool_forward<f32>)
KERNEL(norm_pool_forward<f16>)
KERNEL(norm_pool_forward<bf16>)

// dz of N channels of a pixel where x is v: gathered, rounded as memory would have rounded it, masked. A window whose numbers are all 0
// has a winner too; the mask knows.
template <typename T, i32 N>
__device__ __forceinline__ void arriving(const MaxPool& g, const T* dy, const u8* winner, const Place& at, const f32 (&v)[N], const Numbers<N>& by,
                                         f32 (&d)[N])
{
    gather(g, dy, winner, at.n, at.h, at.w, at.c, d);
    for (i32 j = 0; j < N; j++)
        d[j] = by.of(v[j], j) > 0 ? to_f32(from_f32<T>(d[j])) : 0;
}

// partial [tiles, 2, c]: sums of dz (x - mean) and of dz, as batch_norm_reduce. Grid: norm_sums.cuh.
template <typename T, i32 N>
__device__ __forceinline__ void reduce(const MaxPool& g, const T* x, const T* dy, const u8* winner, Norm norm, f32* partial)
{
    const i32 channel = tile_channel<N>();
    const Numbers<N> by(norm, channel, g.c);
    tile_sums<N>((i64)g.n * g.h * g.w, g.c, partial, [&](i64 row, f32 (&dw)[N], f32 (&db)[N]) {
        f32 v[N], d[N];
        load_some(x + row * g.c + channel, v);
        Place at((u32)row, 1, g.w, g.h);
        at.c = channel;
        arriving<T>(g, dy, winner, at, v, by, d);
        for (i32 j = 0; j < N; j++) {
            dw[j] = fmaf(d[j], v[j] - by.mean[j], dw[j]);
            db[j] += d[j];
        }
    });
}
template <typename T>
__global__ void __launch_bounds__(256, 2) norm_pool_reduce(MaxPool g, const T* x, const T* dy, const u8* winner, Norm norm, f32* partial)
{
    constexpr i32 N = Pack<T>::N;
    if (g.c % N == 0 && is_resnets(g))
        reduce<T, N>(resnets(g), x, dy, winner, norm, partial);
    else if (g.c % N == 0)
        reduce<T, N>(g, x, dy, winner, norm, partial);
    else
        reduce<T, 1>(g, x, dy, winner, norm, partial);
}
KERNEL(norm_pool_reduce<f32>)
KERNEL(norm_pool_reduce<f16>)
KERNEL(norm_pool_reduce<bf16>)

// dx; in evaluation dw and db are null.
template <typename T, i32 N>
__device__ __forceinline__ void input_gradient(const MaxPool& g, const T* x, const T* dy, const u8* winner, Norm norm, const f32* dw, const f32* db,
                                               T* dx)
{
    const i64 m = (i64)g.n * g.h * g.w, count = m * g.c, far = step() * N;
    const f32 share = 1 / (f32)m;
    const bool stays = channel_stays(far, g.c);
    const i32 c = (u32)(first() * N) % g.c;
    Numbers<N> by(norm, c, g.c);
    Shares<N> shares(norm, dw, db, share, c, g.c);
    for (i64 i = first() * N; i < count; i += far) {
        const Place at((u32)i, g.c, g.w, g.h);
        if (!stays) {
            by = Numbers<N>(norm, at.c, g.c);
            shares = Shares<N>(norm, dw, db, share, at.c, g.c);
        }
        f32 v[N], d[N];
        load_some(x + i, v);
        arriving<T>(g, dy, winner, at, v, by, d);
        for (i32 j = 0; j < N; j++)
            d[j] = by.scale[j] * shares.taken_from(d[j], v[j] - by.mean[j], j);
        store_some(dx + i, d);
    }
}
template <typename T>
__global__ void __launch_bounds__(256, 2) norm_pool_input_gradient(MaxPool g, const T* x, const T* dy, const u8* winner, Norm norm, const f32* dw,
                                                                  const f32* db, T* dx)
{
    constexpr i32 N = Pack<T>::N;
    if (g.c % N == 0 && is_resnets(g))
        input_gradient<T, N>(resnets(g), x, dy, winner, norm, dw, db, dx);
    else if (g.c % N == 0)
        input_gradient<T, N>(g, x, dy, winner, norm, dw, db, dx);
    else
        input_gradient<T, 1>(g, x, dy, winner, norm, dw, db, dx);
}
KERNEL(norm_pool_input_gradient<f32>)
KERNEL(norm_pool_input_gradient<f16>)
KERNEL(norm_pool_input_gradient<bf16>)
