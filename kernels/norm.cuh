// What a batch normalisation has made of x: shared by batch_norm.cu and by the kernels that do a part of its work on their way.

#pragma once
#include "common.cuh"

struct Norm { // [c] each
    const f32* mean;
    const f32* invstd;
    const f32* weight;
    const f32* bias;
};
LAYOUT(Norm, mean, invstd, weight, bias)

// The affine image of x before the ReLU. One expression, spelled so that no compiler can round it differently in one kernel than
// in another: backward asks for its sign.
__device__ __forceinline__ f32 normalized(f32 x, f32 mean, f32 scale, f32 bias) { return fmaf(x - mean, scale, bias); }

// N numbers from p on: a single one, or 16 bytes at a time. Where N is no 1, p is a multiple of 16: a tensor begins where its memory does, at a
// multiple of 256, and channels come in packs of N.
template <i32 N> __device__ __forceinline__ void load_channels(const f32* p, f32 (&out)[N])
{
    if constexpr (N == 1)
        out[0] = *p;
    else
        for (i32 j = 0; j < N; j += Pack<f32>::N) {
            f32 some[Pack<f32>::N];
            load_pack(p + j, some);
            for (i32 i = 0; i < Pack<f32>::N; i++)
                out[j + i] = some[i];
        }
}

// What N channels from c on are normalised by, in registers: read once for all rows of a thread. Through pointers each row would read them again,
// 32 loads beside the one of the row itself, since for all that the compiler knows a store may have changed them.
template <i32 N> struct Numbers {
    f32 mean[N], scale[N], bias[N];
    __device__ __forceinline__ Numbers() {}
    // N channels exist together or not at all; in the place of some that don't, the first ones are read.
    __device__ __forceinline__ Numbers(Norm norm, i32 c, i32 channels)
    {
        const i32 from = c < channels ? c : 0;
        f32 invstd[N];
        load_channels(norm.mean + from, mean);
        load_channels(norm.weight + from, scale);
        load_channels(norm.invstd + from, invstd);
        load_channels(norm.bias + from, bias);
        for (i32 j = 0; j < N; j++)
            scale[j] *= invstd[j];
    }
    __device__ __forceinline__ f32 of(f32 x, i32 j) const { return normalized(x, mean[j], scale[j], bias[j]); }
};

// What the mean's and the variance's part in x takes from dz, for N channels: db/M + xh dw/M, or nothing in evaluation (dw null).
template <i32 N> struct Shares {
    f32 fixed[N], slope[N];
    __device__ __forceinline__ Shares(Norm norm, const f32* dw, const f32* db, f32 share, i32 c, i32 channels)
    {
        const i32 from = c < channels ? c : 0;
        f32 invstd[N];
        for (i32 j = 0; j < N; j++)
            fixed[j] = slope[j] = 0;
        if (!dw)
            return;
        load_channels(norm.invstd + from, invstd);
        load_channels(dw + from, slope);
        load_channels(db + from, fixed);
        for (i32 j = 0; j < N; j++) {
            fixed[j] *= share;
            slope[j] = invstd[j] * slope[j] * share;
        }
    }
    __device__ __forceinline__ f32 taken_from(f32 d, f32 centred, i32 j) const { return d - fmaf(centred, slope[j], fixed[j]); }
};

// The channel of a thread's number i where it goes through [.., c] in steps of `step`: if a step is a multiple of c it stays the same.
__device__ __forceinline__ bool channel_stays(i64 step, u32 c) { return (u32)step % c == 0; }

// From what backward knows where the ReLU clipped.
#define MASK_NONE 0   // there was none
#define MASK_OUTPUT 1 // from y: with a residual nothing else tells
#define MASK_INPUT 2  // from x
