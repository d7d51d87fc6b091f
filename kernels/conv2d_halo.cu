// The weight gradient of a 3x3 window with stride 1 on tensor cores, all nine taps at once. conv2d.cu has the formula.
//
// CPU reference: src/ops/conv2d/cpu.rs. Launched by src/ops/conv2d/cuda.rs.
//
// conv2d_mma.cu brings each number of x to shared memory nine times, once under each tap, and dy as often. With 64 channels that is what it waits
// for: 9.8 TB/s of the second-level cache, measured, are 37 bytes a cycle of a processor, and a step of its 64 x 64 tile brings 8 KiB for 103 cycles
// of products. Here a block brings a tile of 8 x 8 output pixels and the 10 x 10 pixels under their windows once, 20 KiB, and multiplies for 1,858
// cycles. The nine taps' sums, [64 output channels] x [9 taps x 64 channels], are 144 registers of each of 256 threads.
//
//     halo      a warp has 8 of the 64 channels under all taps, and all 64 output channels. The reduction runs over pixels, 8 of a tile's row at
//               a time; under another tap a fragment begins at another pixel, which is an offset and no copy
//
// Rows of the halo lie 16 pixels apart, not 10: so what the swizzle makes of a pixel's number depends on its column alone, and rows and taps are
// offsets that the compiler knows.
//
// A tile that hangs over the edge is multiplied whole. The host takes this kernel where little does (src/ops/conv2d/ladder.rs).
//
// At 128 pictures, 64 channels and 56 pixels arithmetic is 48 us at the rate of mma alone; the bytes are 24 us.
//
// Try it: cargo test --test emulator -- conv        Bench: cargo bench --bench ops -- 64>64

#include "conv2d.cuh"
#include "mma_tile.cuh"

inline constexpr i32 THREADS = 256;
inline constexpr i32 SIDE = 8, PIXELS = SIDE * SIDE; // output pixels of a tile
inline constexpr i32 HALO = SIDE + 2, PITCH = 16;    // pixels under its windows, and between rows of them
inline constexpr i32 TAPS = 9;
inline constexpr i32 CHANNELS = 64, CHUNKS = CHANNELS / 8; // of dy and of x
inline constexpr i32 STAGES = 3;
inline constexpr i32 STAGE = (PIXELS + HALO * PITCH) * CHANNELS; // numbers: dy's [64 pixels][64], then x's [10][16][64]

template <typename T> using Lines = mma_tile::Stage<T, false, CHANNELS>; // a pixel is a line of 8 chunks

// One step's copies: a tile's dy, and x under it. What lies outside is 0.
template <typename T>
__device__ __forceinline__ void load(const Conv& g, const T* x, const T* dy, i32 tile, i32 k0, i32 c0, T* stage)
{
    const i32 across = ceil_div(g.q, SIDE), down = ceil_div(g.p, SIDE);
    const i32 q0 = tile % across * SIDE, p0 = tile / across % down * SIDE, n = tile / across / down;
    const i32 chunk = threadIdx.x % CHUNKS, k = k0 + chunk * 8, c = c0 + chunk * 8; // 256 is a multiple of 8
#pragma unroll
    for (i32 j = 0; j < PIXELS * CHUNKS / THREADS; j++) {
        const i32 pixel = threadIdx.x / CHUNKS + j * (THREADS / CHUNKS), p = p0 + pixel / SIDE, q = q0 + pixel % SIDE;
        const bool there = p < g.p && q < g.q && k < g.k;
        const T* from = there ? dy + (((i64)n * g.p + p) * g.q + q) * g.k + k : dy;
        cp_async16(stage + Lines<T>::at(pixel, chunk), from, there ? 16 : 0);
    }
    T* const halo = stage + PIXELS * CHANNELS;
#pragma unroll
    for (i32 j = 0; j < ceil_div(HALO * HALO * CHUNKS, THREADS); j++) {
        const i32 pixel = threadIdx.x / CHUNKS + j * (THREADS / CHUNKS), row = pixel / HALO, column = pixel % HALO;
        if (pixel >= HALO * HALO)
            break;
        const i32 h = p0 + row - g.pad_h, v = q0 + column - g.pad_w;
        const bool there = (u32)h < (u32)g.h && (u32)v < (u32)g.w && c < g.c;
        const T* from = there ? x + (((i64)n * g.h + h) * g.w + v) * g.c + c : x;
        cp_async16(halo + Lines<T>::at(row * PITCH + column, chunk), from, there ? 16 : 0);
    }
}

// blockIdx.x is a tile of output channels and a tile of channels; blockIdx.y the split, which takes `share` tiles of pixels: its sums go to
// partial[split] [K, 3, 3, C]. With one split that is dw itself.
template <typename T>
__global__ void __launch_bounds__(THREADS, 1) conv_weight_gradient_halo(Conv g, const T* x, const T* dy, f32* partial, i32 share)
{
    const i32 tiles = g.n * ceil_div(g.p, SIDE) * ceil_div(g.q, SIDE), across = ceil_div(g.c, CHANNELS);
    const i32 k0 = blockIdx.x / across * CHANNELS, c0 = blockIdx.x % across * CHANNELS;
    const i32 begin = blockIdx.y * share, end = begin + share < tiles ? begin + share : tiles;
    const i32 lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, matrix = lane / 8;
    T* const stages = (T*)smem_raw;

    // dy turned: fragments of 16 output channels by 16 pixels. x turned: of an ldmatrix's four matrices two lie along the pixels, a row of the
    // tile each, and two under neighbouring taps; the ninth tap has none, and takes four rows at once.
    const mma_tile::Fragments<T, false, CHANNELS, 4, true> of_dy(0);
    i32 of_x[TAPS / 2 + 1];
#pragma unroll
    for (i32 j = 0; j <= TAPS / 2; j++) {
        const i32 tap = j * 2 + (j < TAPS / 2 ? matrix / 2 : 0), row = j < TAPS / 2 ? matrix % 2 : matrix;
        of_x[j] = PIXELS * CHANNELS + Lines<T>::at((row + tap / 3) * PITCH + lane % 8 + tap % 3, warp);
    }
    f32 sum[4][TAPS][4] = {};
    auto ask = [&](i32 number) {
        if (number < end)
            load(g, x, dy, number, k0, c0, stages + (number - begin) % STAGES * STAGE);
        cp_async_commit();
    };
    for (i32 i = 0; i < STAGES - 1; i++)
        ask(begin + i);
    for (i32 number = begin; number < end; number++) {
        cp_async_wait<STAGES - 2>(); // this thread's copies for the tile are there
        __syncthreads();             // everybody's are, and everybody is done with the stage that is filled next
        ask(number + STAGES - 1);
        T* const stage = stages + (number - begin) % STAGES * STAGE;
        u32 ninth[4]; // of 32 pixels
#pragma unroll
        for (i32 row = 0; row < SIDE; row += 2) { // 16 pixels
            u32 fa[4][4], fb[4];
#pragma unroll
            for (i32 i = 0; i < 4; i++)
                of_dy.load(fa[i], stage + row * SIDE * CHANNELS, i, 0);
            if (row % 4 == 0)
                ldmatrix_x4_trans(ninth, stage + of_x[TAPS / 2] + row * PITCH * CHANNELS);
#pragma unroll
            for (i32 j = 0; j <= TAPS / 2; j++) {
                if (j < TAPS / 2)
                    ldmatrix_x4_trans(fb, stage + of_x[j] + row * PITCH * CHANNELS);
#pragma unroll
                for (i32 e = 0; e < (j < TAPS / 2 ? 2 : 1); e++) {
                    const u32 pair[2] = {j < TAPS / 2 ? fb[e * 2] : ninth[row % 4], j < TAPS / 2 ? fb[e * 2 + 1] : ninth[row % 4 + 1]};
#pragma unroll
                    for (i32 i = 0; i < 4; i++)
                        mma_m16n8k16<T>(sum[i][j * 2 + e], fa[i], pair);
                }
            }
        }
    }
    cp_async_wait<0>();
    f32* const out = partial + blockIdx.y * (i64)g.k * TAPS * g.c;
#pragma unroll
    for (i32 i = 0; i < 4; i++)
#pragma unroll
        for (i32 tap = 0; tap < TAPS; tap++)
#pragma unroll
            for (i32 half = 0; half < 2; half++) {
                const i32 k = k0 + i * 16 + lane / 4 + half * 8, c = c0 + warp * 8 + lane % 4 * 2;
                if (k < g.k && c < g.c)
                    mma_tile::store_pair(out + ((i64)k * TAPS + tap) * g.c + c, sum[i][tap][half * 2], sum[i][tap][half * 2 + 1]);
            }
}
KERNEL(conv_weight_gradient_halo<f16>)
KERNEL(conv_weight_gradient_halo<bf16>)
