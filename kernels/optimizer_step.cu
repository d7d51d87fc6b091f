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

__device__ __forceinline__ u32 half_bits(i32 kind, f32 x) { return kind == 1 ? from_f32<f16>(x).bits : from_f32<bf16>(x).bits; }

// N numbers from i on.
template <i32 RULE, i32 N> __device__ __forceinline__ void update(const Update& u, i64 i)
{
    f32 p[N], d[N], m[N] = {}, v[N] = {};
    load_some(u.p + i, p);
    load_some(u.d + i, d);
    if (u.m)
        load_some(u.m + i, m);
    if (RULE != SGD)
        load_some(u.v + i, v);
    for (i32 j = 0; j < N; j++) {
        const f32 w = p[j] * u.decay;
        d[j] += u.coupled * w;
        f32 along = d[j], by = 1;
        if (u.m)
            m[j] = along = u.mom * m[j] + u.rest * d[j];
        if (RULE != SGD) {
            v[j] = u.sqr_mom * v[j] + u.sqr_rest * (d[j] * d[j]);
            by = sqrtf(RULE == ADAM ? v[j] * u.debias : v[j]) + u.eps;
        }
        p[j] = w - u.rate * along / by;
    }
    store_some(u.p + i, p);
    if (u.m)
        store_some(u.m + i, m);
    if (RULE != SGD)
        store_some(u.v + i, v);
    if (!u.kind)
        return;
    if constexpr (N == 1)
        u.half[i] = (u16)half_bits(u.kind, p[0]);
    else
        for (i32 j = 0; j < N; j += 2)
            *(u32*)(u.half + i + j) = half_bits(u.kind, p[j]) | half_bits(u.kind, p[j + 1]) << 16;
}

// Four numbers a thread and 16 bytes a load: pieces and tensors begin at multiples of that. What is left at the end goes one by one.
template <i32 RULE> __global__ void __launch_bounds__(256) optimizer_step(const Update* updates, const Piece* pieces)
{
    const Piece piece = pieces[blockIdx.x];
    const Update u = updates[piece.tensor];
    const i64 end = piece.from + piece.count;
    i64 i = piece.from + threadIdx.x * 4;
    for (; i + 4 <= end; i += blockDim.x * 4)
        update<RULE, 4>(u, i);
#pragma unroll 1
    for (; i < end; i++)
        update<RULE, 1>(u, i);
}
KERNEL(optimizer_step<0>)
KERNEL(optimizer_step<1>)
KERNEL(optimizer_step<2>)
