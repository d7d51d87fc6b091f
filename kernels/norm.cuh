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

// From what backward knows where the ReLU clipped.
#define MASK_NONE 0   // there was none
#define MASK_OUTPUT 1 // from y: with a residual nothing else tells
#define MASK_INPUT 2  // from x
