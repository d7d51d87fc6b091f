// What the rungs of the convolution share: its sizes, and the phases of a strided input gradient.

#pragma once
#include "common.cuh"

struct Conv {
    i32 n, h, w, c;           // x [N, H, W, C]
    i32 k, r, s;              // w [K, R, S, C]
    i32 p, q;                 // y [N, P, Q, K]
    i32 stride_h, stride_w;
    i32 pad_h, pad_w;
};
LAYOUT(Conv, n, h, w, c, k, r, s, p, q, stride_h, stride_w, pad_h, pad_w)

// One phase of the input gradient along one axis: the input positions `start`, `start + stride`, .. below `size`, which the taps
// `tap`, `tap + stride`, .. reach.
struct Phase {
    i32 start, count, tap, taps;
    __device__ Phase(i32 phase, i32 stride, i32 pad, i32 size, i32 filter)
    {
        tap = phase; // (position + pad) % stride == phase
        start = (phase + stride * pad - pad) % stride;
        count = start < size ? ceil_div(size - start, stride) : 0;
        taps = tap < filter ? ceil_div(filter - tap, stride) : 0;
    }
};
