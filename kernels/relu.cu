// The rectified linear unit: y = max(x, 0), and dx = dy where y > 0.
//
// CPU reference: src/ops/relu/cpu.rs. Launched by src/ops/relu/cuda.rs.
//
// Memory is the limit: 2 numbers move per element and nothing is computed. One version, a loop over the grid; each thread takes
// neighbours' neighbours, so a warp's loads are contiguous. In networks the ReLU runs fused with the normalisation before it
// (batch_norm.cu); this kernel is for the ReLU that stands alone.
//
// Try it: cargo test --test emulator -- relu        Bench: cargo bench --bench ops -- relu

#include "common.cuh"

// y[i] = max(x[i], 0); NaN stays NaN.
template <typename T> __global__ void relu_forward(const T* x, T* y, i64 n)
{
    for (i64 i = first(); i < n; i += step()) {
        const f32 v = to_f32(x[i]);
        y[i] = from_f32<T>(v <= 0 ? 0.0f : v);
    }
}
KERNEL(relu_forward<f32>)
KERNEL(relu_forward<f16>)
KERNEL(relu_forward<bf16>)

// dx[i] = dy[i] where y[i] > 0, else 0. `dx` may be `dy`.
template <typename T> __global__ void relu_backward(const T* y, const T* dy, T* dx, i64 n)
{
    for (i64 i = first(); i < n; i += step())
        dx[i] = to_f32(y[i]) > 0 ? dy[i] : from_f32<T>(0);
}
KERNEL(relu_backward<f32>)
KERNEL(relu_backward<f16>)
KERNEL(relu_backward<bf16>)
