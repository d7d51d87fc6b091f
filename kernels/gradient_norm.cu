// The norm of all gradients together, and whether one of them is not finite: what clipping and loss scaling ask.
//
//     norm = sqrt(sum over all gradients of d²)        not_finite = how many d are infinite or NaN
//
// CPU reference: src/ops/gradient_norm/cpu.rs. Launched by src/ops/gradient_norm/cuda.rs.
//
// One pass over the gradients, one block a piece (many.cuh), then one block that adds the pieces' sums in f64, in order.
//
// Try it: cargo test --test emulator -- gradient_norm        Bench: cargo bench --bench ops -- gradient_norm

#include "many.cuh"

struct Gradient {
    const f32* d;
};
LAYOUT(Gradient, d)

// -> squares [pieces], not_finite [pieces]
__global__ void __launch_bounds__(256) gradient_norm_pieces(const Gradient* gradients, const Piece* pieces, f64* squares, i64* not_finite)
{
    __shared__ f64 scratch[WARP];
    __shared__ i64 counts[WARP];
    const Piece piece = pieces[blockIdx.x];
    const f32* d = gradients[piece.tensor].d;
    f64 sum = 0;
    i64 bad = 0;
    for (i64 i = piece.from + threadIdx.x; i < piece.from + piece.count; i += blockDim.x) {
        const f32 v = d[i];
        sum += (f64)v * v;
        bad += (float_bits(v) & 0x7f800000u) == 0x7f800000u; // all exponent bits: infinite or NaN
    }
    sum = block_sum(sum, scratch);
    bad = block_sum(bad, counts);
    if (threadIdx.x == 0) {
        squares[blockIdx.x] = sum;
        not_finite[blockIdx.x] = bad;
    }
}
KERNEL(gradient_norm_pieces)

// One block.
__global__ void __launch_bounds__(256) gradient_norm_finish(const f64* squares, const i64* not_finite, i64 pieces, f32* norm, i64* count)
{
    __shared__ f64 scratch[WARP];
    __shared__ i64 counts[WARP];
    f64 sum = 0;
    i64 bad = 0;
    for (i64 i = threadIdx.x; i < pieces; i += blockDim.x) {
        sum += squares[i];
        bad += not_finite[i];
    }
    sum = block_sum(sum, scratch);
    bad = block_sum(bad, counts);
    if (threadIdx.x == 0) {
        *norm = (f32)sqrt(sum);
        *count = bad;
    }
}
KERNEL(gradient_norm_finish)
