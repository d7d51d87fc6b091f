// Dropout, inverted: y = x * mask / (1 - p), and the same for the gradient.
//
// CPU reference: src/ops/dropout/cpu.rs. Launched by src/ops/dropout/cuda.rs.
//
// The mask is never stored: it is a function of the element's place and of an address (seed, step, layer), by Philox, the same
// function as on the CPU and so the same mask. One call gives 128 bits, for four elements; backward computes it again, ten rounds of
// arithmetic instead of a byte from memory. The address is read from memory and is no argument: so every step launches the same.
//
// Try it: cargo test --test emulator -- dropout        Bench: cargo bench --bench ops -- dropout

#include "common.cuh"

struct Draw {
    u32 key[2];
    u32 counter[4]; // of the first four elements; the first word counts on
};
LAYOUT(Draw, key, counter)

struct Dropout {
    u64 threshold; // an element is kept when its 32 random bits are not below: p * 2^32
    f32 factor;    // 1 / (1 - p)
};
LAYOUT(Dropout, threshold, factor)

// y may be x.
template <typename T> __global__ void dropout(Dropout g, const Draw* draw, const T* x, T* y, i64 n)
{
    const Draw d = *draw;
    for (i64 four = first(); four * 4 < n; four += step()) {
        const Philox bits = philox(d.key[0], d.key[1], {{d.counter[0] + (u32)four, d.counter[1], d.counter[2], d.counter[3]}});
        for (i32 j = 0; j < 4; j++) {
            const i64 i = four * 4 + j;
            if (i < n)
                y[i] = from_f32<T>(bits.x[j] >= g.threshold ? to_f32(x[i]) * g.factor : 0.0f);
        }
    }
}
KERNEL(dropout<f32>)
KERNEL(dropout<f16>)
KERNEL(dropout<bf16>)

// With a mask of bytes, 0 or not. y may be x.
template <typename T> __global__ void dropout_masked(const u8* mask, f32 factor, const T* x, T* y, i64 n)
{
    for (i64 i = first(); i < n; i += step())
        y[i] = from_f32<T>(mask[i] ? to_f32(x[i]) * factor : 0.0f);
}
KERNEL(dropout_masked<f32>)
KERNEL(dropout_masked<f16>)
KERNEL(dropout_masked<bf16>)
