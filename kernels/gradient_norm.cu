// The norm of all gradients together, whether one of them is not finite, and clipping: what comes between backward and a step.
//
//     norm = sqrt(sum over all gradients of d²)        not_finite = how many d are infinite or NaN
//     clip: d = d min(1, max / (norm + 1e-6))
//
// CPU reference: src/ops/gradient_norm/cpu.rs. Launched by src/ops/gradient_norm/cuda.rs.
//
// One pass over the gradients, one block a piece (many.cuh), then one block that adds the pieces' sums in f64, in order.
//
// Try it: cargo test --test emulator -- gradient_norm        Bench: cargo bench --bench ops -- gradient_norm

#include "many.cuh"

struct Gradient {
    f32* d;
};
LAYOUT(Gradient, d)

// -> squares [pieces], not_finite [pieces]
__global__ void __launch_bounds__(256) gradient_norm_pieces(const Gradient* gradients, const Piece* pieces, f64* squares, i64* not_finite)
{
    __shared__ f64 scratch[WARP];
    const Piece piece = pieces[blockIdx.x];
    const f32* d = gradients[piece.tensor].d;
    f64 sum = 0, bad = 0; // counts are exact in f64, too, and so can share the scratch
    for (i64 i = piece.from + threadIdx.x; i < piece.from + piece.count; i += blockDim.x) {
        const f32 v = d[i];
        sum += (f64)v * v;
        bad += (float_bits(v) & 0x7f800000u) == 0x7f800000u; // all exponent bits: infinite or NaN
    }
    sum = block_sum(sum, scratch);
    bad = block_sum(bad, scratch);
    if (threadIdx.x == 0) {
        squares[blockIdx.x] = sum;
        not_finite[blockIdx.x] = (i64)bad;
    }
}
KERNEL(gradient_norm_pieces)

// One block.
__global__ void __launch_bounds__(256) gradient_norm_finish(const f64* squares, const i64* not_finite, i64 pieces, f32* norm, i64* count)
{
    __shared__ f64 scratch[WARP];
    f64 sum = 0, bad = 0;
    for (i64 i = threadIdx.x; i < pieces; i += blockDim.x) {
        sum += squares[i];
        bad += (f64)not_finite[i];
    }
    sum = block_sum(sum, scratch);
    bad = block_sum(bad, scratch);
    if (threadIdx.x == 0) {
        *norm = (f32)sqrt(sum);
        *count = (i64)bad;
    }
}
KERNEL(gradient_norm_finish)

// One block a piece. The host never sees the norm, so it waits for nothing.
__global__ void __launch_bounds__(256) gradient_clip(const Gradient* gradients, const Piece* pieces, const f32* norm, f32 most)
{
    const f32 factor = most / (*norm + 1e-6f);
    if (factor >= 1) // not for a norm that is NaN, which every number becomes then
        return;
    const Piece piece = pieces[blockIdx.x];
    f32* d = gradients[piece.tensor].d;
    for (i64 i = piece.from + threadIdx.x; i < piece.from + piece.count; i += blockDim.x)
        d[i] *= factor;
}
KERNEL(gradient_clip)
