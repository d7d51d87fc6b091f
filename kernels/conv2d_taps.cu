// The weight gradient of a 3x3 window with stride 1 and padding 1 on tensor cores, all nine taps at once. conv2d.cu has the formula.
//
// CPU reference: src/ops/conv2d/cpu.rs. Launched by src/ops/conv2d/cuda.rs.
//
// conv2d_mma.cu brings each number of x to shared memory nine times, once under each tap, and dy as often. With 64 channels that is what it waits
// for: 9.8 TB/s of the second-level cache, measured, are 37.5 bytes a cycle of a processor, and a step of its 64 x 64 tile brings 8 KiB for 111 cycles
// of products. As in conv2d_slab.cu, what 64 output pixels read under all taps is one piece of memory, 64 + 2 W + 2 pixels long. A block brings it
// once, with dy 30 KiB at W = 56, and multiplies for 2,000 cycles: the nine taps' sums, [64 output channels] x [9 taps x 64 channels], are
// 144 registers of each of 256 threads.
//
//     taps      a warp has 8 of the 64 channels under all taps, and all 64 output channels. The reduction runs over pixels; under another
//               tap a fragment begins at another pixel, which is an offset and no copy. A pixel whose tap is outside the picture is read
//               from a line of zeros
//
// Half precision, C and K multiples of 64, W at most 64 (src/ops/conv2d/ladder.rs).
//
// At 128 pictures, 64 channels and 56 pixels arithmetic is 48 us at the rate of mma alone; the bytes are 24 us.
//
// Try it: cargo test --test emulator -- conv        Bench: cargo bench --bench ops -- 64>64

#include "conv2d.cuh"
#include "mma_tile.cuh"

inline constexpr i32 THREADS = 256;
inline constexpr i32 PIXELS = 64; // outputs of a tile, counted through all pictures
inline constexpr i32 TAPS = 9;
inline constexpr i32 CHANNELS = 64, CHUNKS = CHANNELS / 8; // of dy and of x
inline constexpr i32 STAGES = 3;

template <typename T> using Lines = mma_tile::Stage<T, false, CHANNELS>; // a pixel is a line of 8 chunks

// A stage: dy's [64][64], x's [64 + 2 W + 2][64], and of each output pixel, in 16 bits, the taps that are inside its picture.
template <typename T> struct Tile {
    static constexpr i32 X = PIXELS * CHANNELS; // numbers before x
    T* stage;
    i32 rows; // of x
    __device__ static i32 numbers(i32 rows) { return (PIXELS + rows + 1) * CHANNELS; }
    __device__ u16* inside() const { return (u16*)(stage + X + rows * CHANNELS); }

    // Starts a tile's copies. What is outside all pictures is 0.
    __device__ __forceinline__ void ask(const Conv& g, const T* x, const T* dy, i64 m0, i32 k0, i32 c0) const
    {
        const u32 pixels = (u32)g.n * g.h * g.w;
        const i32 chunk = threadIdx.x % CHUNKS, k = k0 + chunk * 8, c = c0 + chunk * 8; // 256 is a multiple of 8
#pragma unroll
        for (i32 j = 0; j < PIXELS * CHUNKS / THREADS; j++) {
            const i32 line = threadIdx.x / CHUNKS + j * (THREADS / CHUNKS);
            const bool there = (u32)m0 + line < pixels;
            cp_async16(stage + Lines<T>::at(line, chunk), dy + (m0 + line) * g.k + k, there ? 16 : 0);
        }
        const i64 first = m0 - g.w - 1;
        for (i32 line = threadIdx.x / CHUNKS; line < rows; line += THREADS / CHUNKS) {
            const bool there = (u32)first + line < pixels;
            cp_async16(stage + X + Lines<T>::at(line, chunk), x + (first + line) * g.c + c, there ? 16 : 0);
        }
        if (threadIdx.x < PIXELS) {
            const u32 m = (u32)m0 + threadIdx.x;
            const i32 q = m % g.w, p = m / g.w % g.h;
            u32 taps = 0;
            for (i32 tap = 0; tap < TAPS; tap++)
                taps |= (u32)(m < pixels && (u32)(p + tap / 3 - 1) < (u32)g.h && (u32)(q + tap % 3 - 1) < (u32)g.w) << tap;
            inside()[threadIdx.x] = (u16)taps;
        }
    }
};

// blockIdx.x is a tile of output channels and a tile of channels; blockIdx.y the split, which takes `share` tiles of pixels: its sums go to
// partial[split] [K, 3, 3, C]. With one split that is dw itself.
template <typename T>
__global__ void __launch_bounds__(THREADS, 1) conv_weight_gradient_taps(Conv g, const T* x, const T* dy, f32* partial, i32 share)
{
    const i32 tiles = (i32)ceil_div((i64)g.n * g.h * g.w, (i64)PIXELS), across = g.c / CHANNELS;
    const i32 k0 = blockIdx.x / across * CHANNELS, c0 = blockIdx.x % across * CHANNELS;
    const i32 begin = blockIdx.y * share, end = begin + share < tiles ? begin + share : tiles;
    const i32 lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, matrix = lane / 8;
    const i32 rows = PIXELS + 2 * g.w + 2;
    T* const stages = (T*)smem_raw;
    T* const zeros = stages + STAGES * Tile<T>::numbers(rows);
    if (threadIdx.x < CHUNKS) // nobody reads it before a barrier
        *(Vec4*)(zeros + threadIdx.x * 8) = Vec4{};

    // dy turned: fragments of 16 output channels by 16 pixels. x turned: of an ldmatrix's four matrices two lie along the pixels, 8 each, and
    // two under neighbouring taps; the ninth tap has none, and takes 32 pixels at once. `pixel` is whose taps a lane asks for.
    const mma_tile::Fragments<T, false, CHANNELS, 4, true> of_dy(0);
    const i32 pixel = matrix % 2 * 8 + lane % 8, ninth_pixel = lane;
    i32 of_x[TAPS / 2 + 1];
#pragma unroll
    for (i32 j = 0; j <= TAPS / 2; j++) {
        const i32 tap = j < TAPS / 2 ? j * 2 + matrix / 2 : TAPS - 1;
        of_x[j] = Tile<T>::X + Lines<T>::at((j < TAPS / 2 ? pixel : ninth_pixel) + tap / 3 * g.w + tap % 3, warp);
    }
    f32 sum[4][TAPS][4] = {};
    auto tile = [&](i32 number) { return Tile<T>{stages + (number - begin) % STAGES * Tile<T>::numbers(rows), rows}; };
    auto ask = [&](i32 number) {
        if (number < end)
            tile(number).ask(g, x, dy, (i64)number * PIXELS, k0, c0);
        cp_async_commit();
    };
    for (i32 i = 0; i < STAGES - 1; i++)
        ask(begin + i);
    for (i32 number = begin; number < end; number++) {
        cp_async_wait<STAGES - 2>(); // this thread's copies for the tile are there
        __syncthreads();             // everybody's are, and everybody is done with the stage that is filled next
        ask(number + STAGES - 1);
        T* const stage = tile(number).stage;
        const u16* const inside = tile(number).inside();
        u32 ninth[4]; // of 32 pixels
#pragma unroll
        for (i32 m = 0; m < PIXELS; m += 16) {
            u32 fa[4][4], fb[4];
#pragma unroll
            for (i32 i = 0; i < 4; i++)
                of_dy.load(fa[i], stage + m * CHANNELS, i, 0);
            if (m % 32 == 0)
                ldmatrix_x4_trans(ninth, inside[m + ninth_pixel] >> (TAPS - 1) & 1 ? stage + of_x[TAPS / 2] + m * CHANNELS : zeros);
            const u32 taps = inside[m + pixel] >> matrix / 2;
#pragma unroll
            for (i32 j = 0; j <= TAPS / 2; j++) {
                if (j < TAPS / 2)
                    ldmatrix_x4_trans(fb, taps >> j * 2 & 1 ? stage + of_x[j] + m * CHANNELS : zeros);
#pragma unroll
                for (i32 e = 0; e < (j < TAPS / 2 ? 2 : 1); e++) {
                    const i32 r = m % 32 / 8; // registers of the ninth tap
                    const u32 pair[2] = {j < TAPS / 2 ? fb[e * 2] : ninth[r], j < TAPS / 2 ? fb[e * 2 + 1] : ninth[r + 1]};
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
                mma_tile::store_pair(out + ((i64)k * TAPS + tap) * g.c + c, sum[i][tap][half * 2], sum[i][tap][half * 2 + 1]);
            }
}
KERNEL(conv_weight_gradient_taps<f16>)
KERNEL(conv_weight_gradient_taps<bf16>)
