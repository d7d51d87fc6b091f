// The sum of two tensors: y = a + b. Its gradients are dy and dy, which need no kernel.
//
// CPU reference: src/ops/add/cpu.rs. Launched by src/ops/add/cuda.rs, and by src/tensor/cuda.rs where a second gradient is added to the
// first.
//
// Memory is the limit: three numbers move per addition. In a residual network the addition runs fused with the normalisation
// before it (batch_norm.cu); this kernel is for the addition that stands alone.
//
// Try it: cargo test --test emulator -- add        Bench: cargo bench --bench ops -- add

#include "common.cuh"

// y[i] = a[i] + b[i]; y may be a.
template <typename T> __global__ void add_forward(const T* a, const T* b, T* y, i64 n)
{
    for (i64 i = first(); i < n; i += step())
        y[i] = from_f32<T>(to_f32(a[i]) + to_f32(b[i]));
}
KERNEL(add_forward<f32>)
KERNEL(add_forward<f16>)
KERNEL(add_forward<bf16>)
