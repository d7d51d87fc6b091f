// fastai's AdaptiveConcatPool2d(1): the largest and the mean value of each channel over the whole picture, x [N, H, W, C] to
// y [N, 2C], maxima first.
//
//     dx[n, pixel, c] = dy[n, C + c] / pixels  +  dy[n, c] at the first maximum
//
// CPU reference: src/ops/concat_pool/cpu.rs. Launched by src/ops/concat_pool/cuda.rs.
//
// One thread per picture and channel walks through the pixels, 49 of them at the end of a ResNet at 224; neighbouring threads have
// neighbouring channels, so their loads are contiguous. What it reads for a pixel depends on nothing that it has read before: with eight pixels
// under way it waits a sixth as often.
//
// Backward only writes. A thread has 16 bytes' worth of channels where they come in such packs, and finds out once what all of its pixels get: what
// there is to read is a fortieth of what is written. Pixels are dealt to as many layers of blocks as keep all processors busy.
//
// There are fewer than 2^32 numbers: a 64-bit division takes many times as long.
//
// Try it: cargo test --test emulator -- concat_pool        Bench: cargo bench --bench ops -- concat_pool

#include "common.cuh"

template <typename T> __global__ void concat_pool_forward(const T* x, T* y, i64* winner, u32 pictures, u32 pixels, u32 c)
{
    for (i64 i = first(); i < (i64)pictures * c; i += step()) {
        const i64 n = (u32)i / c, ch = (u32)i % c;
        const T* px = x + n * pixels * c + ch;
        f32 best = to_f32(px[0]), sum = 0;
        i64 won = 0;
#pragma unroll 8
        for (u32 pixel = 0; pixel < pixels; pixel++) {
            const f32 v = to_f32(px[(i64)pixel * c]);
            sum += v;
            if (v > best || (is_nan(v) && !is_nan(best))) {
                best = v;
                won = pixel;
            }
        }
        y[n * 2 * c + ch] = from_f32<T>(best);
        y[n * 2 * c + c + ch] = from_f32<T>(sum / (f32)pixels);
        winner[i] = won;
    }
}
KERNEL(concat_pool_forward<f32>)
KERNEL(concat_pool_forward<f16>)
KERNEL(concat_pool_forward<bf16>)

// N channels of every gridDim.y-th pixel.
template <typename T, i32 N> __device__ __forceinline__ void backward(const T* dy, const i64* winner, T* dx, u32 pictures, u32 pixels, u32 c)
{
    for (i64 i = first() * N; i < (i64)pictures * c; i += step() * N) {
        const i64 n = (u32)i / c, ch = (u32)i % c;
        f32 most[N], mean[N];
        i64 won[N];
        load_some(dy + n * 2 * c + ch, most);
        load_some(dy + n * 2 * c + c + ch, mean);
        for (i32 j = 0; j < N; j++) {
            won[j] = winner[i + j];
            mean[j] = mean[j] / (f32)pixels;
        }
        for (u32 pixel = blockIdx.y; pixel < pixels; pixel += gridDim.y) {
            f32 d[N];
            for (i32 j = 0; j < N; j++)
                d[j] = won[j] == pixel ? mean[j] + most[j] : mean[j];
            store_some(dx + (n * pixels + pixel) * c + ch, d);
        }
    }
}
template <typename T>
__global__ void __launch_bounds__(256) concat_pool_backward(const T* dy, const i64* winner, T* dx, u32 pictures, u32 pixels, u32 c)
{
    if (c % Pack<T>::N == 0)
        backward<T, Pack<T>::N>(dy, winner, dx, pictures, pixels, c);
    else
        backward<T, 1>(dy, winner, dx, pictures, pixels, c);
}
KERNEL(concat_pool_backward<f32>)
KERNEL(concat_pool_backward<f16>)
KERNEL(concat_pool_backward<bf16>)
