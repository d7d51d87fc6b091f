// fastai's AdaptiveConcatPool2d(1): the largest and the mean value of each channel over the whole picture, x [N, H, W, C] to
// y [N, 2C], maxima first.
//
//     dx[n, pixel, c] = dy[n, C + c] / pixels  +  dy[n, c] at the first maximum
//
// CPU reference: src/ops/concat_pool/cpu.rs. Launched by src/ops/concat_pool/cuda.rs.
//
// One thread per picture and channel walks through the pixels, 49 of them at the end of a ResNet at 224; neighbouring threads have
// neighbouring channels, so their loads are contiguous.
//
// Try it: cargo test --test emulator -- concat_pool        Bench: cargo bench --bench ops -- concat_pool

#include "common.cuh"

template <typename T> __global__ void concat_pool_forward(const T* x, T* y, i64* winner, i64 pictures, i64 pixels, i64 c)
{
    for (i64 i = first(); i < pictures * c; i += step()) {
        const i64 n = i / c, ch = i % c;
        const T* px = x + n * pixels * c + ch;
        f32 best = to_f32(px[0]), sum = 0;
        i64 won = 0;
        for (i64 pixel = 0; pixel < pixels; pixel++) {
            const f32 v = to_f32(px[pixel * c]);
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

template <typename T> __global__ void concat_pool_backward(const T* dy, const i64* winner, T* dx, i64 pictures, i64 pixels, i64 c)
{
    for (i64 i = first(); i < pictures * pixels * c; i += step()) {
        const i64 ch = i % c, pixel = i / c % pixels, n = i / c / pixels;
        f32 d = to_f32(dy[n * 2 * c + c + ch]) / (f32)pixels;
        if (winner[n * c + ch] == pixel)
            d += to_f32(dy[n * 2 * c + ch]);
        dx[i] = from_f32<T>(d);
    }
}
KERNEL(concat_pool_backward<f32>)
KERNEL(concat_pool_backward<f16>)
KERNEL(concat_pool_backward<bf16>)
