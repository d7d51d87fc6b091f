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

#include "common.cuh"

struct MaxPool {
    i32 n, h, w, c; // x [N, H, W, C]
    i32 p, q;       // y [N, P, Q, C]
    i32 window, stride, padding;
};
LAYOUT(MaxPool, n, h, w, c, p, q, window, stride, padding)

template <typename T> __global__ void max_pool_forward(MaxPool g, const T* x, T* y, u8* winner)
{
    const i64 count = (i64)g.n * g.p * g.q * g.c;
    for (i64 i = first(); i < count; i += step()) {
        const i32 c = i % g.c, q = i / g.c % g.q, p = i / g.c / g.q % g.p, n = i / g.c / g.q / g.p;
        f32 best = 0;
        i32 won = -1;
        for (i32 r = 0; r < g.window; r++)
            for (i32 s = 0; s < g.window; s++) {
                const i32 h = p * g.stride + r - g.padding, v = q * g.stride + s - g.padding;
                if (h < 0 || h >= g.h || v < 0 || v >= g.w)
                    continue;
                const f32 a = to_f32(x[(((i64)n * g.h + h) * g.w + v) * g.c + c]);
                if (won < 0 || a > best || (is_nan(a) && !is_nan(best))) {
                    best = a;
                    won = r * g.window + s;
                }
            }
        y[i] = from_f32<T>(best);
        winner[i] = (u8)won;
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
        // Windows p with p * stride - padding <= h < p * stride - padding + window; columns likewise.
        const i32 top = h + g.padding, left = v + g.padding;
        const i32 p0 = top < g.window ? 0 : (top - g.window) / g.stride + 1;
        const i32 q0 = left < g.window ? 0 : (left - g.window) / g.stride + 1;
        f32 sum = 0;
        for (i32 p = p0; p <= top / g.stride && p < g.p; p++)
            for (i32 q = q0; q <= left / g.stride && q < g.q; q++) {
                const i64 at = (((i64)n * g.p + p) * g.q + q) * g.c + c;
                if (winner[at] == (top - p * g.stride) * g.window + left - q * g.stride)
                    sum += to_f32(dy[at]);
            }
        dx[i] = from_f32<T>(sum);
    }
}
KERNEL(max_pool_backward<f32>)
KERNEL(max_pool_backward<f16>)
KERNEL(max_pool_backward<bf16>)
