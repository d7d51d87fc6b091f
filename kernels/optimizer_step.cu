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

// One number: p, m and v (if there are some) become the new ones; returns nothing else.
template <i32 RULE> __device__ __forceinline__ void move(const Update& u, f32& p, f32 d, f32& m, f32& v)
{
    const f32 w = p * u.decay;
    d += u.coupled * w;
    f32 along = d, by = 1;
    if (u.m)
        m = along = u.mom * m + u.rest * d;
    if (RULE != SGD) {
        v = u.sqr_mom * v + u.sqr_rest * (d * d);
        by = sqrtf(RULE == ADAM ? v * u.debias : v) + u.eps;
    }
    p = w - u.rate * along / by;
}
__device__ __forceinline__ u32 half_bits(i32 kind, f32 x) { return kind == 1 ? from_f32<f16>(x).bits : from_f32<bf16>(x).bits; }

// Four numbers a thread and 16 bytes a load: pieces and tensors begin at multiples of that.
template <i32 RULE> __global__ void __launch_bounds__(256) optimizer_step(const Update* updates, const Piece* pieces)
{
    const Piece piece = pieces[blockIdx.x];
    const Update u = updates[piece.tensor];
    const i64 end = piece.from + piece.count;
    for (i64 i = piece.from + threadIdx.x * 4; i < end; i += blockDim.x * 4) {
        const i32 n = end - i < 4 ? (i32)(end - i) : 4;
        f32 p[4], d[4], m[4] = {}, v[4] = {};
        if (n == 4) {
            load_pack(u.p + i, p);
            load_pack(u.d + i, d);
            if (u.m)
                load_pack(u.m + i, m);
            if (RULE != SGD)
                load_pack(u.v + i, v);
        } else {
#pragma unroll
            for (i32 j = 0; j < 4; j++) {
                const i64 at = j < n ? i + j : i;
                p[j] = u.p[at], d[j] = u.d[at];
                if (u.m)
                    m[j] = u.m[at];
                if (RULE != SGD)
                    v[j] = u.v[at];
            }
        }
#pragma unroll
        for (i32 j = 0; j < 4; j++)
            move<RULE>(u, p[j], d[j], m[j], v[j]);
        if (n == 4) {
            store_pack(u.p + i, p);
            if (u.m)
                store_pack(u.m + i, m);
            if (RULE != SGD)
                store_pack(u.v + i, v);
            if (u.kind) {
                ((u32*)(u.half + i))[0] = half_bits(u.kind, p[0]) | half_bits(u.kind, p[1]) << 16;
                ((u32*)(u.half + i))[1] = half_bits(u.kind, p[2]) | half_bits(u.kind, p[3]) << 16;
            }
        } else {
#pragma unroll
            for (i32 j = 0; j < 4; j++) {
                if (j >= n)
                    break;
                u.p[i + j] = p[j];
                if (u.m)
                    u.m[i + j] = m[j];
                if (RULE != SGD)
                    u.v[i + j] = v[j];
                if (u.kind)
                    u.half[i + j] = (u16)half_bits(u.kind, p[j]);
            }
        }
    }
}
KERNEL(optimizer_step<0>)
KERNEL(optimizer_step<1>)
KERNEL(optimizer_step<2>)
