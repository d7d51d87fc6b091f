// Mixed pictures: every item of a batch with another one of it, as a weighted mean (MixUp) or with a rectangle of it (CutMix).
//
//     mix_up:  y[i] = share[i] x[i] + (1 - share[i]) x[partner[i]]        cut_mix: y[i] = x[partner[i]] inside the rectangle, x[i] outside
//
// CPU reference: src/ops/mix/cpu.rs. Launched by src/ops/mix/cuda.rs.
//
// Memory is the limit: two reads and a write, or one and one. blockIdx.y is the item.
//
// Try it: cargo test --test emulator -- mix

#include "common.cuh"

// `n` numbers an item.
template <typename T> __global__ void mix_up(const T* x, const i64* partners, const f32* shares, T* y, i64 items, i64 n)
{
    for (i64 item = blockIdx.y; item < items; item += gridDim.y) {
        const T *own = x + item * n, *other = x + partners[item] * n;
        const f32 share = shares[item], rest = 1.0f - share;
        for (i64 i = first(); i < n; i += step())
            y[item * n + i] = from_f32<T>(share * to_f32(own[i]) + rest * to_f32(other[i]));
    }
}
KERNEL(mix_up<f32>)
KERNEL(mix_up<f16>)
KERNEL(mix_up<bf16>)

struct CutMix {
    i32 height, width, channels;
};
LAYOUT(CutMix, height, width, channels)

struct Cut { // the rectangle: first row and column, and those behind the last
    i32 top, bottom, left, right;
};
LAYOUT(Cut, top, bottom, left, right)

// Pictures [N, H, W, C]. The rectangle is read from memory and is no argument: so every step launches the same.
template <typename T> __global__ void cut_mix(CutMix g, const Cut* rectangle, const T* x, const i64* partners, T* y, i64 items)
{
    const Cut cut = *rectangle;
    const i64 line = (i64)g.width * g.channels, n = g.height * line;
    for (i64 item = blockIdx.y; item < items; item += gridDim.y) {
        const T *own = x + item * n, *other = x + partners[item] * n;
        for (i64 i = first(); i < n; i += step()) {
            const i32 row = (i32)(i / line), column = (i32)(i % line) / g.channels;
            const bool inside = row >= cut.top && row < cut.bottom && column >= cut.left && column < cut.right;
            y[item * n + i] = inside ? other[i] : own[i];
        }
    }
}
KERNEL(cut_mix<f32>)
KERNEL(cut_mix<f16>)
KERNEL(cut_mix<bf16>)
