// Gradients times a number, all of them in one launch: d = d * by.
//
// CPU reference: src/ops/unscale/cpu.rs. Launched by src/ops/unscale/cuda.rs.
//
// One pass over memory, one block a piece (many.cuh).
//
// Try it: cargo test --test emulator -- unscale        Bench: none; it moves what gradient_norm reads, twice

#include "many.cuh"

struct Scaled {
    f32* d;
};
LAYOUT(Scaled, d)

__global__ void __launch_bounds__(256) unscale(const Scaled* gradients, const Piece* pieces, f32 by)
{
    const Piece piece = pieces[blockIdx.x];
    f32* d = gradients[piece.tensor].d;
    for (i64 i = piece.from + threadIdx.x; i < piece.from + piece.count; i += blockDim.x)
        d[i] *= by;
}
KERNEL(unscale)
