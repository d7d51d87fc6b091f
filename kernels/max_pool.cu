// Max pooling: the largest number under each window, per channel.
//
//     y[n, p, q, c] = max over r, s inside the picture of x[n, p*u + r - pad, q*u + s - pad, c]
//     dx gets dy at the place of each window's maximum
//
// CPU reference: src/ops/max_pool/cpu.rs. Launched by src/ops/max_pool/cuda.rs.
//
// Memory is the limit. Forward: one thread per result. The winner is kept as one byte, the tap's number r * window + s; PyTorch's
// rules decide: the first maximum in row-major order wins a tie, a NaN beats everything, padding never wins.
// Backward *gathers*: each input pixel looks at the few windows that cover it and takes the gradient of those it won. Sending the
// gradients out instead would need atomic additions, whose order, and so whose bits, change from run to run.
//
// Try it: cargo test --test emulator -- max_pool        Bench: cargo bench --bench ops -- max_pool

#include "max_pool.cuh"

template <typename T> __global__ void max_pool_forward(MaxPool g, const T* x, T* y, u8* winner)
{
    const i64 count = (i64)g.n * g.p * g.q * g.c;
    for (i64 i = first(); i < count; i += step()) {
        const i32 c = i % g.c, q = i / g.c % g.q, p = i / g.c / g.q % g.p, n = i / g.c / g.q / g.p;
        Best best;
        for (i32 r = 0; r < g.window; r++)
            for (i32 s = 0; s < g.window; s++) {
                const i32 h = p * g.stride + r - g.padding, v = q * g.stride + s - g.padding;
                if (h >= 0 && h < g.h && v >= 0 && v < g.w)
                    best.take(to_f32(x[(((i64)n * g.h + h) * g.w + v) * g.c + c]), r * g.window + s);
            }
        y[i] = from_f32<T>(best.value);
        winner[i] = (u8)best.tap;
    }
}
KERNEL(max_pool_forward<f32>)
KERNEL(max_pool_forward<f16>)
KERNEL(max_pool_forward<bf16>)

template <typename T> __global__ void max_pool_backward(MaxPool g, const T* dy, const u8* winner, T* dx)
{
    const i64 count = (i64)g.n * g.h * g.w * g.c;
    for (i64 i = first(); i < count; i += step()) {
        const i32 c = i % g.c, v = i / g.c % g.w, h = i / g.c / g.w % g.h, n = i / g.c / g.w / g.h;
        f32 sum[1];
        gather(g, dy, winner, n, h, v, c, sum);
        dx[i] = from_f32<T>(sum[0]);
    }
}
KERNEL(max_pool_backward<f32>)
KERNEL(max_pool_backward<f16>)
KERNEL(max_pool_backward<bf16>)
