// The linear layer y = x Wᵀ + b, and its gradients:
//
//     y[n, o]  = b[o] + sum over i of x[n, i] * W[o, i]
//     dx[n, i] = sum over o of dy[n, o] * W[o, i]
//     dW[o, i] = sum over n of dy[n, o] * x[n, i]         in f32, whatever x is: it goes to f32 masters
//     db[o]    = sum over n of dy[n, o]                   likewise
//
// CPU reference: src/ops/linear/cpu.rs. Launched by src/ops/linear/cuda.rs.
//
// The layers of a classifier's head are small (64 x 512 x 1024): their time is latency.
//   tiled   the product of tile.cuh, with plain matrices as operands.
//   few     forward, for few results. 128 pictures and 37 classes are two tiles: 2 of 132 processors work, and wait for memory at each of 32 steps.
//           Here each result is a warp's, whose lanes share the sum, and nothing is shared between results but what a cache holds.
//   tensor  the layer is a convolution of pictures with one pixel, and conv2d_mma.cu computes it, where classes come in packs.
//
// Try it: cargo test --test emulator -- linear        Bench: cargo bench --bench ops -- linear

#include "tile.cuh"

// x [n, i], w [o, i], bias [o] or null -> y [n, o]
template <typename T>
__global__ void __launch_bounds__(tile::THREADS) linear_forward(const T* x, const T* w, const f32* bias, T* y, i64 n, i64 i, i64 o)
{
    tile::product(tile::Rows<T>{x, i}, tile::Rows<T>{w, i}, (i64)blockIdx.x * tile::ROWS, (i64)blockIdx.y * tile::COLS, n, o, 0, i,
                  [&](i64 row, i64 column, f32 sum) { y[row * o + column] = from_f32<T>(sum + (bias ? bias[column] : 0.0f)); });
}
KERNEL(linear_forward<f32>)
KERNEL(linear_forward<f16>)
KERNEL(linear_forward<bf16>)

// The same, a warp for each result. There are fewer than 2^31.
template <typename T, i32 N>
__device__ __forceinline__ void forward_few(const T* x, const T* w, const f32* bias, T* y, u32 n, i64 i, u32 o)
{
    const i32 lane = threadIdx.x % WARP;
    for (u32 at = first() / WARP; at < n * o; at += step() / WARP) {
        const u32 row = at / o, column = at % o;
        f32 sum = 0;
        for (i64 k = lane * N; k < i; k += WARP * N) {
            f32 a[N], b[N];
            load_some(x + row * i + k, a);
            load_some(w + column * i + k, b);
            for (i32 j = 0; j < N; j++)
                sum = fmaf(a[j], b[j], sum);
        }
        sum = warp_sum(sum);
        if (lane == 0)
            y[at] = from_f32<T>(sum + (bias ? bias[column] : 0.0f));
    }
}
template <typename T>
__global__ void __launch_bounds__(256) linear_forward_few(const T* x, const T* w, const f32* bias, T* y, i64 n, i64 i, i64 o)
{
    if (i % Pack<T>::N == 0)
        forward_few<T, Pack<T>::N>(x, w, bias, y, n, i, o);
    else
        forward_few<T, 1>(x, w, bias, y, n, i, o);
}
KERNEL(linear_forward_few<f32>)
KERNEL(linear_forward_few<f16>)
KERNEL(linear_forward_few<bf16>)

// dy [n, o], w [o, i] -> dx [n, i]
template <typename T>
__global__ void __launch_bounds__(tile::THREADS) linear_input_gradient(const T* dy, const T* w, T* dx, i64 n, i64 i, i64 o)
{
    tile::product(tile::Rows<T>{dy, o}, tile::Columns<T>{w, i}, (i64)blockIdx.x * tile::ROWS, (i64)blockIdx.y * tile::COLS, n, i, 0, o,
                  [&](i64 row, i64 column, f32 sum) { dx[row * i + column] = from_f32<T>(sum); });
}
KERNEL(linear_input_gradient<f32>)
KERNEL(linear_input_gradient<f16>)
KERNEL(linear_input_gradient<bf16>)

// dy [n, o], x [n, i] -> dw [o, i]
template <typename T>
__global__ void __launch_bounds__(tile::THREADS) linear_weight_gradient(const T* dy, const T* x, f32* dw, i64 n, i64 i, i64 o)
{
    tile::product(tile::Columns<T>{dy, o}, tile::Columns<T>{x, i}, (i64)blockIdx.x * tile::ROWS, (i64)blockIdx.y * tile::COLS, o, i, 0, n,
                  [&](i64 row, i64 column, f32 sum) { dw[row * i + column] = sum; });
}
KERNEL(linear_weight_gradient<f32>)
KERNEL(linear_weight_gradient<f16>)
KERNEL(linear_weight_gradient<bf16>)

// dy [rows, o] -> db [o]; also the bias gradient of a convolution, whose rows are pixels. One block per column: the threads
// stride through the rows, in the end their sums are added in order.
template <typename T> __global__ void column_sums(const T* dy, f32* db, i64 rows, i64 o)
{
    __shared__ f64 scratch[WARP];
    f64 sum = 0; // rows may be a million pixels
    for (i64 row = threadIdx.x; row < rows; row += blockDim.x)
        sum += to_f32(dy[row * o + blockIdx.x]);
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0)
        db[blockIdx.x] = (f32)sum;
}
KERNEL(column_sums<f32>)
KERNEL(column_sums<f16>)
KERNEL(column_sums<bf16>)
