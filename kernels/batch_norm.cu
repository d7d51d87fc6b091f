// Batch normalisation over x [M, C] (M = N*H*W), with the addition and the ReLU that follow it in a residual network.
//
//     training:   mu, var = mean and variance over the M rows; running statistics move towards them (variance unbiased)
//     evaluation: mu, var = running statistics
//     z = w (x - mu) / sqrt(var + eps) + b [+ residual]         y = max(z, 0) or z
//
//     dz = dy where y > 0        db = sum dz        dw = sum dz xh        dresidual = dz        xh = (x - mu) / sqrt(var + eps)
//     dx = w / sqrt(var + eps) (dz - db/M - xh dw/M)            in evaluation without the two terms
//
// CPU reference: src/ops/batch_norm/cpu.rs. Launched by src/ops/batch_norm/cuda.rs.
//
// Memory is the limit: the fewest visits to x are one for the statistics and one for the result. So there are four passes over
// activations, two each way, and everything else rides along on them:
//   statistics   sums of x and x*x by tiles of 128 rows in f32; then in f64, in the tiles' order. Over 401,408 numbers of bf16
//                that errs by 1e-7 (mean/std 0) to 7e-7 (mean/std 3) in the variance; one f32 sum errs by 1e-4 to 0.5.
//   apply        normalise, add, clip: one read of x (and of the residual), one write.
//   reduce       the sums dw and db. With a residual it also writes dz, which is the residual's gradient.
//   input        dx. Without a residual it forms dz again: where the ReLU clipped is computed from x by the forward pass's own
//                expression, and neither y is read nor dz written.
// Sums are added in an order that depends on the sizes only: the same bits in every run. Parameters and statistics are f32.
//
// Try it: cargo test --test emulator -- batch_norm        Bench: cargo bench --bench ops -- batch_norm

#include "norm.cuh"
#include "norm_sums.cuh"

// x [m, c] -> partial [tiles, 2, c]: sum of x and sum of x*x over the tile's rows. Grid: norm_sums.cuh.
template <typename T, i32 N> __device__ __forceinline__ void add_up(const T* x, f32* partial, i64 m, i32 c)
{
    const i32 channel = tile_channel<N>();
    tile_sums<N>(m, c, partial, [&](i64 row, f32 (&sum)[N], f32 (&squares)[N]) {
        f32 v[N];
        load_some(x + row * c + channel, v);
        for (i32 j = 0; j < N; j++) {
            sum[j] += v[j];
            squares[j] = fmaf(v[j], v[j], squares[j]);
        }
    });
}
template <typename T> __global__ void __launch_bounds__(256) batch_norm_tile_sums(const T* x, f32* partial, i64 m, i32 c)
{
    if (c % Pack<T>::N == 0)
        add_up<T, Pack<T>::N>(x, partial, m, c);
    else
        add_up<T, 1>(x, partial, m, c);
}
KERNEL(batch_norm_tile_sums<f32>)
KERNEL(batch_norm_tile_sums<f16>)
KERNEL(batch_norm_tile_sums<bf16>)

// Adds the tiles of 2 channels in f64: a block's threads are pairs, one thread for each channel, and each of its `lanes` pairs takes every
// lanes-th tile. Then the pairs of a warp are added, then the warps. Channel 2 * blockIdx.x + threadIdx.x % 2; the result is valid in the
// first 2 threads. All threads of the block take part, whole warps; how many there are is a function of `tiles` (src/ops/batch_norm/cuda.rs).
//
// A convolution's epilogue leaves thousands of tiles, few bytes all in all: the time is that of loads that wait for each other. So blocks are many,
// with few channels each, though each 32 bytes are then fetched by four of them from the second-level cache; and a thread starts the loads of eight
// tiles before it adds the first.
#define CHANNELS 2
#define TILES_AT_ONCE 8

// The sum over those lanes of a warp that have the same channel; each of them gets it.
__device__ __forceinline__ f64 sum_of_channel(f64 x)
{
    for (i32 lanes = WARP / 2; lanes >= CHANNELS; lanes /= 2)
        x += shuffle_xor(x, lanes);
    return x;
}
__device__ __forceinline__ void channel_sums(const f32* partial, i32 tiles, i32 c, f64& first, f64& second)
{
    __shared__ f64 sums[2][1024 / WARP][CHANNELS];
    const i32 side = threadIdx.x % CHANNELS, lanes = blockDim.x / CHANNELS, channel = blockIdx.x * CHANNELS + side;
    const i32 warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    first = second = 0;
    if (channel < c)
        for (i32 tile = threadIdx.x / CHANNELS; tile < tiles; tile += TILES_AT_ONCE * lanes) {
            f32 a[TILES_AT_ONCE], b[TILES_AT_ONCE];
#pragma unroll
            for (i32 e = 0; e < TILES_AT_ONCE; e++) {
                const i32 at = tile + e * lanes;
                const f32* p = partial + (i64)at * 2 * c + channel;
                a[e] = at < tiles ? p[0] : 0;
                b[e] = at < tiles ? p[c] : 0;
            }
#pragma unroll
            for (i32 e = 0; e < TILES_AT_ONCE; e++) {
                first += a[e];
                second += b[e];
            }
        }
    first = sum_of_channel(first);
    second = sum_of_channel(second);
    if (lane < CHANNELS) {
        sums[0][warp][side] = first;
        sums[1][warp][side] = second;
    }
    __syncthreads();
    if (warp > 0)
        return;
    first = second = 0;
    for (i32 from = lane / CHANNELS; from < blockDim.x / WARP; from += WARP / CHANNELS) {
        first += sums[0][from][side];
        second += sums[1][from][side];
    }
    first = sum_of_channel(first);
    second = sum_of_channel(second);
}

// partial [tiles, 2, c] -> mean, invstd [c], and the running statistics moved. Grid: c / 2.
__global__ void __launch_bounds__(1024, 1) batch_norm_finish(const f32* partial, i32 tiles, i64 m, i32 c, f64 eps, f64 momentum,
                                                         f32* mean, f32* invstd, f32* running_mean, f32* running_var)
{
    const i32 channel = blockIdx.x * CHANNELS + threadIdx.x;
    f64 sum, squares;
    channel_sums(partial, tiles, c, sum, squares);
    if (threadIdx.x >= CHANNELS || channel >= c)
        return;
    const f64 mu = sum / m;
    const f64 around = squares - sum * mu; // sum of (x - mu)^2; rounding may leave a constant channel a hair below 0
    const f64 centred = around < 0 ? 0 : around; // a NaN stays one
    mean[channel] = (f32)mu;
    invstd[channel] = (f32)(1 / sqrt(centred / m + eps));
    running_mean[channel] = (f32)((1 - momentum) * running_mean[channel] + momentum * mu);
    running_var[channel] = (f32)((1 - momentum) * running_var[channel] + momentum * (centred / (m - 1)));
}
KERNEL(batch_norm_finish)

// Evaluation: invstd from the running variance. The mean is the running one itself.
__global__ void batch_norm_fixed(const f32* running_var, f64 eps, f32* invstd, i64 c)
{
    for (i64 i = first(); i < c; i += step())
        invstd[i] = (f32)(1 / sqrt((f64)running_var[i] + eps));
}
KERNEL(batch_norm_fixed)

// N numbers as they lie in memory: a load that is under way is waited for where its numbers are first looked at, which is in `at`.
template <typename T, i32 N> struct Raw {
    alignas(N * sizeof(T)) T numbers[N];
    __device__ __forceinline__ void load(const T* p)
    {
        if constexpr (N == 1)
            numbers[0] = *p;
        else
            *(Vec4*)numbers = *(const Vec4*)p;
    }
    __device__ __forceinline__ f32 at(i32 j) const { return to_f32(numbers[j]); }
};

// The passes below have as many blocks as processors hold at a time (src/ops/batch_norm/cuda.rs), so that a thread fetches its channels' numbers
// once for many packs; and it starts the loads of two packs before it uses the first, so that few threads keep memory busy. Where a step along
// the grid is no multiple of the channels, each pack has other ones: there is no place in registers for their numbers and a second pack.
#define PACKS_IF_CHANNELS_STAY 2

// y = x normalised, plus the residual (or null), clipped if `relu`. Channels are the last axis: element i has channel i % c. There
// are fewer than 2^32 elements: a 64-bit division takes many times as long, and registers.
template <typename T, i32 N, i32 PACKS>
__device__ __forceinline__ void apply(const T* x, const T* residual, Norm norm, T* y, i64 n, u32 c, i32 relu)
{
    const i32 far = (i32)step() * N;
    Numbers<N> by(norm, (u32)(first() * N) % c, c);
    for (i64 i = first() * N; i < n; i += PACKS * far) {
        Raw<T, N> here[PACKS], added[PACKS];
#pragma unroll
        for (i32 e = 0; e < PACKS; e++)
            if (i + e * far < n) {
                here[e].load(x + i + e * far);
                if (residual)
                    added[e].load(residual + i + e * far);
            }
#pragma unroll
        for (i32 e = 0; e < PACKS; e++) {
            const i64 at = i + e * far;
            if (at >= n)
                break;
            if (PACKS == 1)
                by = Numbers<N>(norm, (u32)at % c, c);
            f32 v[N];
            for (i32 j = 0; j < N; j++) {
                v[j] = by.of(here[e].at(j), j) + (residual ? added[e].at(j) : 0);
                if (relu && v[j] <= 0)
                    v[j] = 0;
            }
            store_some(y + at, v);
        }
    }
}
template <typename T>
__global__ void __launch_bounds__(256, 4) batch_norm_apply(const T* x, const T* residual, Norm norm, T* y, i64 n, u32 c, i32 relu)
{
    constexpr i32 N = Pack<T>::N;
    if (c % N == 0 && channel_stays(step() * N, c))
        apply<T, N, PACKS_IF_CHANNELS_STAY>(x, residual, norm, y, n, c, relu);
    else if (c % N == 0)
        apply<T, N, 1>(x, residual, norm, y, n, c, relu);
    else
        apply<T, 1, 1>(x, residual, norm, y, n, c, relu);
}
KERNEL(batch_norm_apply<f32>)
KERNEL(batch_norm_apply<f16>)
KERNEL(batch_norm_apply<bf16>)

// partial [tiles, 2, c]: sums of dz (x - mean) and of dz. With MASK_OUTPUT also writes dz, which may take dy's place. Grid: norm_sums.cuh.
template <typename T, i32 N>
__device__ __forceinline__ void reduce(const T* x, const T* dy, const T* y, Norm norm, T* dz, f32* partial, i64 m, i32 c, i32 mask)
{
    const i32 channel = tile_channel<N>();
    const Numbers<N> by(norm, channel, c);
    tile_sums<N>(m, c, partial, [&](i64 row, f32 (&dw)[N], f32 (&db)[N]) {
        const i64 i = row * c + channel;
        f32 v[N], d[N], out[N];
        load_some(x + i, v);
        load_some(dy + i, d);
        if (mask == MASK_OUTPUT)
            load_some(y + i, out);
        for (i32 j = 0; j < N; j++) {
            if ((mask == MASK_OUTPUT && !(out[j] > 0)) || (mask == MASK_INPUT && !(by.of(v[j], j) > 0)))
                d[j] = 0;
            dw[j] = fmaf(d[j], v[j] - by.mean[j], dw[j]);
            db[j] += d[j];
        }
        if (mask == MASK_OUTPUT)
            store_some(dz + i, d);
    });
}
template <typename T>
__global__ void __launch_bounds__(256, 3) batch_norm_reduce(const T* x, const T* dy, const T* y, Norm norm, T* dz, f32* partial, i64 m, i32 c, i32 mask)
{
    if (c % Pack<T>::N == 0)
        reduce<T, Pack<T>::N>(x, dy, y, norm, dz, partial, m, c, mask);
    else
        reduce<T, 1>(x, dy, y, norm, dz, partial, m, c, mask);
}
KERNEL(batch_norm_reduce<f32>)
KERNEL(batch_norm_reduce<f16>)
KERNEL(batch_norm_reduce<bf16>)

// partial [tiles, 2, c] -> dw, db [c]. Grid: c / 2.
__global__ void __launch_bounds__(1024, 1) batch_norm_reduce_finish(const f32* partial, i32 tiles, i32 c, const f32* invstd, f32* dw, f32* db)
{
    const i32 channel = blockIdx.x * CHANNELS + threadIdx.x;
    f64 first, second;
    channel_sums(partial, tiles, c, first, second);
    if (threadIdx.x >= CHANNELS || channel >= c)
        return;
    dw[channel] = (f32)(first * invstd[channel]);
    db[channel] = (f32)second;
}
KERNEL(batch_norm_reduce_finish)

// dx from dz; with MASK_INPUT from dy. dx may take the place of dz. In evaluation dw and db are null.
template <typename T, i32 N, i32 PACKS>
__device__ __forceinline__ void input_gradient(const T* x, const T* dz, Norm norm, const f32* dw, const f32* db, T* dx, i64 n, u32 c, i32 mask)
{
    const f32 share = 1 / (f32)((u32)n / c); // 1 / M
    const i32 far = (i32)step() * N;
    const i32 begin = (u32)(first() * N) % c;
    Numbers<N> by(norm, begin, c);
    Shares<N> shares(norm, dw, db, share, begin, c);
    for (i64 i = first() * N; i < n; i += PACKS * far) {
        Raw<T, N> here[PACKS], arrived[PACKS];
#pragma unroll
        for (i32 e = 0; e < PACKS; e++)
            if (i + e * far < n) {
                here[e].load(x + i + e * far);
                arrived[e].load(dz + i + e * far);
            }
#pragma unroll
        for (i32 e = 0; e < PACKS; e++) {
            const i64 at = i + e * far;
            if (at >= n)
                break;
            if (PACKS == 1) {
                by = Numbers<N>(norm, (u32)at % c, c);
                shares = Shares<N>(norm, dw, db, share, (u32)at % c, c);
            }
            f32 d[N];
            for (i32 j = 0; j < N; j++) {
                const f32 v = here[e].at(j);
                d[j] = mask == MASK_INPUT && !(by.of(v, j) > 0) ? 0 : arrived[e].at(j);
                d[j] = by.scale[j] * shares.taken_from(d[j], v - by.mean[j], j);
            }
            store_some(dx + at, d);
        }
    }
}
template <typename T>
__global__ void __launch_bounds__(256, 3) batch_norm_input_gradient(const T* x, const T* dz, Norm norm, const f32* dw, const f32* db, T* dx,
                                                                i64 n, u32 c, i32 mask)
{
    constexpr i32 N = Pack<T>::N;
    if (c % N == 0 && channel_stays(step() * N, c))
        input_gradient<T, N, PACKS_IF_CHANNELS_STAY>(x, dz, norm, dw, db, dx, n, c, mask);
    else if (c % N == 0)
        input_gradient<T, N, 1>(x, dz, norm, dw, db, dx, n, c, mask);
    else
        input_gradient<T, 1, 1>(x, dz, norm, dw, db, dx, n, c, mask);
}
KERNEL(batch_norm_input_gradient<f32>)
KERNEL(batch_norm_input_gradient<f16>)
KERNEL(batch_norm_input_gradient<bf16>)
