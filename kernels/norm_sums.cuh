// Two sums over pixels for each channel, by tiles of rows: the first half of every pass that ends in a norm's statistics or gradients.
// Numbers are read 16 bytes at a time where the channels come in such packs: N of a thread, else 1. A row is a pixel, or as many as `add` takes.

#pragma once
#include "common.cuh"

#define TILE_ROWS 128
// A block's threads: 8 side by side along the channels, 32 rows at a time.
#define SIDE 8
#define ROW_LANES 32

template <i32 N> __device__ __forceinline__ i32 tile_channel() { return (blockIdx.y * SIDE + threadIdx.x % SIDE) * N; }

// `add(row, first, second)` adds what row `row` gives to the sums of the N channels from tile_channel() on; it isn't called for channels
// that don't exist. The sums go to partial[tile][which][c], added in the order of the threads. Grid: tiles of ROWS rows, c / (8 N).
template <i32 N, i32 ROWS = TILE_ROWS, typename Add> __device__ __forceinline__ void tile_sums(i64 m, i32 c, f32* partial, Add add)
{
    // By number, then by thread, and one place more: what a warp writes at a time, 4 rows of 8 threads, is in as many banks.
    __shared__ f32 sums[2][ROW_LANES][N][SIDE + 1];
    const i64 begin = (i64)blockIdx.x * ROWS, end = begin + ROWS < m ? begin + ROWS : m;
    const i32 lane = threadIdx.x / SIDE, side = threadIdx.x % SIDE;
    f32 first[N] = {}, second[N] = {};
    if (tile_channel<N>() < c)
        for (i64 row = begin + lane; row < end; row += ROW_LANES) {
            add(row, first, second);
            if (ROWS == ROW_LANES)
                break; // the compiler doesn't see it, and keeps the loop's registers
        }
    for (i32 j = 0; j < N; j++) {
        sums[0][lane][j][side] = first[j];
        sums[1][lane][j][side] = second[j];
    }
    __syncthreads();
    for (i32 i = threadIdx.x; i < 2 * SIDE * N; i += blockDim.x) {
        const i32 which = i / (SIDE * N), at = i % (SIDE * N), channel = blockIdx.y * SIDE * N + at;
        f32 total = 0;
        for (i32 row = 0; row < ROW_LANES; row++)
            total += sums[which][row][at % N][at / N];
        if (channel < c)
            partial[((i64)blockIdx.x * 2 + which) * c + channel] = total;
    }
}
