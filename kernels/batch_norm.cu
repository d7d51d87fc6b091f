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

#include "common.cuh"

#define TILE_ROWS 128
// A block takes 32 channels: a warp reads 32 neighbours, 8 warps take turns at the tile's rows.
#define ROW_LANES 8

// The affine image of x before the ReLU. One expression, spelled so that no compiler can round it differently in one kernel than
// in another: backward asks for its sign.
__device__ __forceinline__ f32 normalized(f32 x, f32 mean, f32 scale, f32 bias) { return fmaf(x - mean, scale, bias); }

// Adds the ROW_LANES sums of each channel, in order, and writes them to partial[tile][which][c].
__device__ __forceinline__ void tile_sums(f32 first, f32 second, f32* partial, i32 channel, i32 c)
{
    __shared__ f32 sums[2][ROW_LANES][WARP];
    const i32 lane = threadIdx.x % WARP, row = threadIdx.x / WARP;
    sums[0][row][lane] = first;
    sums[1][row][lane] = second;
    __syncthreads();
    if (row < 2 && channel < c) {
        f32 sum = 0;
        for (i32 i = 0; i < ROW_LANES; i++)
            sum += sums[row][i][lane];
        partial[((i64)blockIdx.x * 2 + row) * c + channel] = sum;
    }
}

// x [m, c] -> partial [tiles, 2, c]: sum of x and sum of x*x over the tile's rows. Grid: tiles, c / 32.
template <typename T> __global__ void __launch_bounds__(256) batch_norm_tile_sums(const T* x, f32* partial, i64 m, i32 c)
{
    const i32 channel = blockIdx.y * WARP + threadIdx.x % WARP;
    const i64 begin = (i64)blockIdx.x * TILE_ROWS, end = begin + TILE_ROWS < m ? begin + TILE_ROWS : m;
    f32 sum = 0, squares = 0;
    if (channel < c)
        for (i64 row = begin + threadIdx.x / WARP; row < end; row += ROW_LANES) {
            const f32 v = to_f32(x[row * c + channel]);
            sum += v;
            squares = fmaf(v, v, squares);
        }
    tile_sums(sum, squares, partial, channel, c);
}
KERNEL(batch_norm_tile_sums<f32>)
KERNEL(batch_norm_tile_sums<f16>)
KERNEL(batch_norm_tile_sums<bf16>)

// Adds a channel's tiles in f64: each of a block's 8 warps takes every 8th tile, then the 8 sums are added in order. The result
// is valid in warp 0. All threads of the block take part.
__device__ __forceinline__ void channel_sums(const f32* partial, i32 tiles, i32 channel, i32 c, f64& first, f64& second)
{
    __shared__ f64 sums[2][ROW_LANES][WARP];
    const i32 lane = threadIdx.x % WARP, row = threadIdx.x / WARP;
    first = second = 0;
    if (channel < c)
        for (i32 tile = row; tile < tiles; tile += ROW_LANES) {
            first += partial[((i64)tile * 2) * c + channel];
            second += partial[((i64)tile * 2 + 1) * c + channel];
        }
    sums[0][row][lane] = first;
    sums[1][row][lane] = second;
    __syncthreads();
    first = second = 0;
    for (i32 i = 0; i < ROW_LANES; i++) {
        first += sums[0][i][lane];
        second += sums[1][i][lane];
    }
}

// partial [tiles, 2, c] -> mean, invstd [c], and the running statistics moved. Grid: c / 32.
__global__ void __launch_bounds__(256) batch_norm_finish(const f32* partial, i32 tiles, i64 m, i32 c, f64 eps, f64 momentum,
                                                         f32* mean, f32* invstd, f32* running_mean, f32* running_var)
{
    const i32 channel = blockIdx.x * WARP + threadIdx.x % WARP;
    f64 sum, squares;
    channel_sums(partial, tiles, channel, c, sum, squares);
    if (threadIdx.x >= WARP || channel >= c)
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

struct Norm { // [c] each
    const f32* mean;
    const f32* invstd;
    const f32* weight;
    const f32* bias;
};
LAYOUT(Norm, mean, invstd, weight, bias)

// y = x normalised, plus the residual (or null), clipped if `relu`. Channels are the last axis: element i has channel i % c. There
// are fewer than 2^32 elements: a 64-bit division takes many times as long, and registers.
template <typename T> __global__ void __launch_bounds__(256) batch_norm_apply(const T* x, const T* residual, Norm norm, T* y, i64 n, u32 c, i32 relu)
{
    constexpr i32 N = Pack<T>::N;
    if (c % N == 0) { // 16 bytes at a time: all of one pack's channels lie side by side
        for (i64 i = first() * N; i < n; i += step() * N) {
            const i32 channel = (u32)i % c;
            f32 v[N], r[N] = {};
            load_pack(x + i, v);
            if (residual)
                load_pack(residual + i, r);
            for (i32 j = 0; j < N; j++) {
                const i32 ch = channel + j;
                v[j] = normalized(v[j], norm.mean[ch], norm.weight[ch] * norm.invstd[ch], norm.bias[ch]) + r[j];
                if (relu && v[j] <= 0)
                    v[j] = 0;
            }
            store_pack(y + i, v);
        }
        return;
    }
    for (i64 i = first(); i < n; i += step()) {
        const i32 ch = (u32)i % c;
        f32 v = normalized(to_f32(x[i]), norm.mean[ch], norm.weight[ch] * norm.invstd[ch], norm.bias[ch]);
        if (residual)
            v += to_f32(residual[i]);
        y[i] = from_f32<T>(relu && v <= 0 ? 0.0f : v);
    }
}
KERNEL(batch_norm_apply<f32>)
KERNEL(batch_norm_apply<f16>)
KERNEL(batch_norm_apply<bf16>)

// From what backward knows where the ReLU clipped.
#define MASK_NONE 0   // there was none
#define MASK_OUTPUT 1 // from y: with a residual nothing else tells
#define MASK_INPUT 2  // from x

// partial [tiles, 2, c]: sums of dz (x - mean) and of dz. With MASK_OUTPUT also writes dz, which may take dy's place.
template <typename T>
__global__ void __launch_bounds__(256) batch_norm_reduce(const T* x, const T* dy, const T* y, Norm norm, T* dz, f32* partial, i64 m, i32 c, i32 mask)
{
    const i32 channel = blockIdx.y * WARP + threadIdx.x % WARP;
    const i64 begin = (i64)blockIdx.x * TILE_ROWS, end = begin + TILE_ROWS < m ? begin + TILE_ROWS : m;
    f32 dw = 0, db = 0;
    if (channel < c) {
        const f32 mean = norm.mean[channel], bias = norm.bias[channel], scale = norm.weight[channel] * norm.invstd[channel];
        for (i64 row = begin + threadIdx.x / WARP; row < end; row += ROW_LANES) {
            const i64 i = row * c + channel;
            const f32 v = to_f32(x[i]);
            f32 d = to_f32(dy[i]);
            if ((mask == MASK_OUTPUT && !(to_f32(y[i]) > 0)) || (mask == MASK_INPUT && !(normalized(v, mean, scale, bias) > 0)))
                d = 0;
            if (mask == MASK_OUTPUT)
                dz[i] = from_f32<T>(d);
            dw = fmaf(d, v - mean, dw);
            db += d;
        }
    }
    tile_sums(dw, db, partial, channel, c);
}
KERNEL(batch_norm_reduce<f32>)
KERNEL(batch_norm_reduce<f16>)
KERNEL(batch_norm_reduce<bf16>)

// partial [tiles, 2, c] -> dw, db [c]. Grid: c / 32.
__global__ void __launch_bounds__(256) batch_norm_reduce_finish(const f32* partial, i32 tiles, i32 c, const f32* invstd, f32* dw, f32* db)
{
    const i32 channel = blockIdx.x * WARP + threadIdx.x % WARP;
    f64 first, second;
    channel_sums(partial, tiles, channel, c, first, second);
    if (threadIdx.x >= WARP || channel >= c)
        return;
    dw[channel] = (f32)(first * invstd[channel]);
    db[channel] = (f32)second;
}
KERNEL(batch_norm_reduce_finish)

// dx from dz; with MASK_INPUT from dy. dx may take the place of dz. In evaluation dw and db are null.
template <typename T>
__global__ void __launch_bounds__(256) batch_norm_input_gradient(const T* x, const T* dz, Norm norm, const f32* dw, const f32* db, T* dx,
                                                                i64 n, u32 c, i32 mask)
{
    const f32 share = 1 / (f32)((u32)n / c); // 1 / M
    for (i64 i = first(); i < n; i += step()) {
        const i32 ch = (u32)i % c;
        const f32 scale = norm.weight[ch] * norm.invstd[ch], v = to_f32(x[i]), centred = v - norm.mean[ch];
        f32 d = to_f32(dz[i]);
        if (mask == MASK_INPUT && !(normalized(v, norm.mean[ch], scale, norm.bias[ch]) > 0))
            d = 0;
        if (dw)
            d -= (db[ch] + centred * norm.invstd[ch] * dw[ch]) * share;
        dx[i] = from_f32<T>(scale * d);
    }
}
KERNEL(batch_norm_input_gradient<f32>)
KERNEL(batch_norm_input_gradient<f16>)
KERNEL(batch_norm_input_gradient<bf16>)
