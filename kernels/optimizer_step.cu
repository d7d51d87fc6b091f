// One step of an optimizer on all parameters: fastai's Adam, SGD and RMSProp.
//
//     w = p (1 - lr wd)                               decoupled decay; coupled: d = d + wd p
//     Adam     m = mom m + (1 - mom) d,  v = sq v + (1 - sq) d²,  p = w - lr/(1 - mom^t) m / (sqrt(v/(1 - sq^t)) + eps)
//     SGD      m = mom m + d,            p = w - lr m
//     RMSProp  v = sq v + (1 - sq) d²,   m = mom m + d,           p = w - lr m / (sqrt(v) + eps)
//
// CPU reference: src/ops/optimizer_step/cpu.rs. Launched by src/ops/optimizer_step/cuda.rs.
//
// Memory is the limit: Adam reads p, d, m, v and writes p, m, v, and the half-precision copy of p that the next forward pass computes
// with, all in one pass: 30 bytes a parameter. One launch does all tensors (many.cuh). What depends on the step (rates, powers of the
// momenta) is computed by the host in f64 and comes with the table.
//
// Try it: cargo test --test emulator -- optimizer        Bench: cargo bench --bench ops -- optimizer

#include "many.cuh"

struct Update {
    f32* p;       // parameter
    const f32* d; // gradient
    f32* m;       // average of the gradient, or null
    f32* v;       // average of its square, or null
    u16* half;    // copy of p in half precision, or null
    i32 kind;     // of the copy: 1 f16, 2 bf16
    f32 rate;     // lr; Adam: lr / (1 - mom^t)
    f32 decay;    // 1 - lr wd, or 1
    f32 coupled;  // wd when it is coupled, or 0
    f32 mom, rest;       // what m keeps, what it takes of d
    f32 sqr_mom, sqr_rest;
    f32 debias;          // Adam: 1 / (1 - sq^t)
    f32 eps;
};
LAYOUT(Update, p, d, m, v, half, kind, rate, decay, coupled, mom, rest, sqr_mom, sqr_rest, debias, eps)

#define ADAM 0
#define SGD 1
#define RMSPROP 2

template <i32 RULE> __global__ void __launch_bounds__(256) optimizer_step(const Update* updates, const Piece* pieces)
{
    const Piece piece = pieces[blockIdx.x];
    const Update u = updates[piece.tensor];
    for (i64 i = piece.from + threadIdx.x; i < piece.from + piece.count; i += blockDim.x) {
        const f32 w = u.p[i] * u.decay;
        const f32 d = u.d[i] + u.coupled * w;
        f32 along = d, by = 1;
        if (u.m)
            u.m[i] = along = u.mom * u.m[i] + u.rest * d;
        if (RULE != SGD) {
            const f32 v = u.v[i] = u.sqr_mom * u.v[i] + u.sqr_rest * (d * d);
            by = sqrtf(RULE == ADAM ? v * u.debias : v) + u.eps;
        }
        const f32 p = u.p[i] = w - u.rate * along / by;
        if (u.kind == 1)
            u.half[i] = from_f32<f16>(p).bits;
        else if (u.kind == 2)
            u.half[i] = from_f32<bf16>(p).bits;
    }
}
KERNEL(optimizer_step<0>)
KERNEL(optimizer_step<1>)
KERNEL(optimizer_step<2>)
