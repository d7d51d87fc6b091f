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
// For that to be the limit, instructions have to be few. Pixel by pixel they take 2 to 4 times as long as memory: so for a ResNet's pooling a
// thread goes down a strip of windows (max_pool.cuh). Forward, in half precision, a row of x is normalised once for the two windows that share it, and
// a tap is one integer maximum. Backward takes 2x2 pixels at a time, for which the windows and taps are known.
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

__device__ __forceinline__ i32 largest(i32 a, i32 b) { return a > b ? a : b; }

// The same for 16-bit numbers and a ResNet's pooling, down a strip. z >= 0, so its bits order as integers do, with a NaN (0x7fff) above all. In a
// key, z's bits above and 8 - tap below, the largest has the largest z, and of equals the first tap: one maximum where `Best` compares three times.
// Where z < 0 the key is below 0, too; the ReLU comes at the end, when the key of a 0 at the window's first pixel joins in.
//
// A pixel outside is replaced by the nearest inside, under that one's own tap: it is in the window already, and changes nothing.
template <typename T> struct Row {
    Words<T> x[3];
    i32 low[3]; // of its keys: 8 - tap
    // What lies in row r of the window whose first pixel is (top, left), inside or not.
    __device__ __forceinline__ Row(const MaxPool& g, const T* picture, i32 top, i32 left, i32 r)
    {
        const i32 h = nearest(top + r, g.h);
        for (i32 s = 0; s < 3; s++) {
            const i32 w = nearest(left + s, g.w);
            x[s].load(picture + ((u32)h * g.w + w) * g.c);
            low[s] = 8 - (h - top) * 3 - (w - left);
        }
    }
    // The largest of number j's.
    template <i32 N> __device__ __forceinline__ i32 key(const Numbers<N>& by, i32 j) const
    {
        i32 most = 0;
        for (i32 s = 0; s < 3; s++) {
            const i32 one = ((u32)from_f32<T>(by.of(to_f32(x[s].of[j]), j)).bits << 16) + low[s];
            most = s == 0 ? one : largest(most, one);
        }
        return most;
    }
};
// Grid: a thread for each strip and N channels.
template <typename T, i32 N>
__device__ __forceinline__ void forward_strips(const MaxPool& g, const T* x, Norm norm, T* y, u8* winner)
{
    const u32 packs = g.c / N, count = strips(g) * packs;
    const u32 i = first();
    if (i >= count)
        return;
    const Strip at(g, i / packs, i % packs * N);
    const Numbers<N> by(norm, at.c, g.c);
    const T* picture = x + (u32)at.n * g.h * g.w * g.c + at.c;
    const i32 left = 2 * at.q - 1;
    i32 above[N], zero; // keys of the row that this window shares with the one before, and of a 0 at its first pixel
    {
        const Row<T> row(g, picture, 2 * at.p - 1, left, 0);
        for (i32 j = 0; j < N; j++)
            above[j] = row.key(by, j);
        zero = row.low[0];
    }
#pragma unroll 1
    for (i32 p = at.p; p < at.end; p++) {
        const Row<T> middle(g, picture, 2 * p - 1, left, 1), below(g, picture, 2 * p - 1, left, 2);
        i32 best[N];
        for (i32 j = 0; j < N; j++) {
            const i32 next = below.key(by, j);
            best[j] = largest(largest(above[j], middle.key(by, j)), largest(next, zero));
            above[j] = next + 6; // in the next window it is row 0 and not 2
        }
        zero = middle.low[0] + 3;
        Words<T> value;
        u32 tap[N / 4];
        for (i32 j = 0; j < N; j++)
            value.of[j].bits = (u32)best[j] >> 16;
        for (i32 j = 0; j < N / 4; j++) {
            const i32* four = best + 4 * j;
            const u32 even = (four[0] & 0xffff) | four[2] << 16, odd = (four[1] & 0xffff) | four[3] << 16;
            tap[j] = 0x08080808 - even - odd * 256; // four bytes at once: none borrows from the next
        }
        const u32 to = (((u32)at.n * g.p + p) * g.q + at.q) * g.c + at.c;
        value.store(y + to);
        for (i32 j = 0; j < N / 4; j++)
            ((u32*)(winner + to))[j] = tap[j];
    }
}
template <typename T> __global__ void __launch_bounds__(256, 3) norm_pool_forward(MaxPool g, const T* x, Norm norm, T* y, u8* winner)
{
    constexpr i32 N = Pack<T>::N;
    if (g.c % N == 0 && is_resnets(g)) {
        if constexpr (sizeof(T) == 2)
            forward_strips<T, N>(g, x, norm, y, winner);
        else
            forward<T, N>(resnets(g), x, norm, y, winner);
    } else if (g.c % N == 0)
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
// The same down strips. A tile is ROW_LANES of them.
template <typename T, i32 N>
__device__ __forceinline__ void reduce_strips(const MaxPool& g, const T* x, const T* dy, const u8* winner, Norm norm, f32* partial)
{
    const i32 channel = tile_channel<N>();
    const Numbers<N> by(norm, channel, g.c);
    tile_sums<N, ROW_LANES>(strips(g), g.c, partial, [&](i64 row, f32 (&dw)[N], f32 (&db)[N]) {
        const Strip at(g, (u32)row, channel);
        Blocks<T> blocks(g, dy, winner, at);
#pragma unroll 1
        for (i32 p = at.p; p < at.end; p++) {
            blocks.next(g, x, dy, winner, at, p);
#pragma unroll
            for (i32 j = 0; j < N; j++)
#pragma unroll
                for (i32 i = 0; i < 4; i++) {
                    const f32 v = blocks.v(i / 2, i % 2, j), gathered = blocks.d(i / 2, i % 2, j), d = by.of(v, j) > 0 ? gathered : 0;
                    dw[j] = fmaf(d, v - by.mean[j], dw[j]);
                    db[j] += d;
                }
        }
    });
}
template <typename T>
__global__ void __launch_bounds__(256, 2) norm_pool_reduce(MaxPool g, const T* x, const T* dy, const u8* winner, Norm norm, f32* partial)
{
    constexpr i32 N = Pack<T>::N;
    if (g.c % N == 0 && is_resnets(g))
        reduce_strips<T, N>(g, x, dy, winner, norm, partial);
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
// The same down strips. Grid: a thread for each and N channels.
template <typename T, i32 N>
__device__ __forceinline__ void input_gradient_strips(const MaxPool& g, const T* x, const T* dy, const u8* winner, Norm norm, const f32* dw,
                                                      const f32* db, T* dx)
{
    const f32 share = 1 / (f32)((i64)g.n * g.h * g.w);
    const u32 packs = g.c / N, count = strips(g) * packs;
    const u32 i = first();
    if (i >= count)
        return;
    const Strip at(g, i / packs, i % packs * N);
    const Numbers<N> by(norm, at.c, g.c);
    const Shares<N> shares(norm, dw, db, share, at.c, g.c);
    Blocks<T> blocks(g, dy, winner, at);
#pragma unroll 1
    for (i32 p = at.p; p < at.end; p++) {
        blocks.next(g, x, dy, winner, at, p);
        Words<T> out[2][2];
#pragma unroll
        for (i32 j = 0; j < N; j++)
#pragma unroll
            for (i32 i = 0; i < 4; i++) {
                const f32 v = blocks.v(i / 2, i % 2, j), gathered = blocks.d(i / 2, i % 2, j), d = by.of(v, j) > 0 ? gathered : 0;
                out[i / 2][i % 2].of[j] = from_f32<T>(by.scale[j] * shares.taken_from(d, v - by.mean[j], j));
            }
        for (i32 a = 0; a < 2; a++)
            for (i32 b = 0; b < 2; b++)
                if (blocks.inside(a, b))
                    out[a][b].store(dx + blocks.place(a, b));
    }
}
template <typename T>
__global__ void __launch_bounds__(256, 2) norm_pool_input_gradient(MaxPool g, const T* x, const T* dy, const u8* winner, Norm norm, const f32* dw,
                                                                  const f32* db, T* dx)
{
    constexpr i32 N = Pack<T>::N;
    if (g.c % N == 0 && is_resnets(g))
        input_gradient_strips<T, N>(g, x, dy, winner, norm, dw, db, dx);
    else if (g.c % N == 0)
        input_gradient<T, N>(g, x, dy, winner, norm, dw, db, dx);
    else
        input_gradient<T, 1>(g, x, dy, winner, norm, dw, db, dx);
}
KERNEL(norm_pool_input_gradient<f32>)
KERNEL(norm_pool_input_gradient<f16>)
KERNEL(norm_pool_input_gradient<bf16>)
