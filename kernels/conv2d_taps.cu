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
    __device__ static i32 numbers(i32 rows) { return (PIXELS + rows) * CHANNELS + THREADS; }
    __device__ u16* inside() const { return (u16*)(stage + X + rows * CHANNELS); }
};

// Brings tiles, a quarter at a time: two lines of dy or none, and two of every eight lines of x, by all threads. What is outside all pictures is 0. No branches:
// see mma_tile.cuh.
template <typename T> struct Copies {
    static constexpr i32 LINES = THREADS / CHUNKS, QUARTERS = 4; // 4 quarters of 2 x 32 lines: the 64 + 2 W + 2 of x fit
    u32 m;          // the next tile's first pixel
    u32 place, far; // where pixel pixel() of the next tile lies, and a tile further: rows << 16 | columns
    i32 dy_at, x_at; // this thread's first chunk of the next tile, counted in numbers. What 32 bits don't hold the host refuses
    __device__ static i32 line() { return threadIdx.x / CHUNKS; } // of this thread's first chunk
    __device__ static i32 pixel() { return threadIdx.x % PIXELS; } // whose taps this thread looks at
    __device__ __forceinline__ Copies(const Conv& g, i32 begin, i32 k0, i32 c0) : m((u32)begin * PIXELS)
    {
        const i32 chunk = threadIdx.x % CHUNKS * 8;
        dy_at = ((i32)m + line()) * g.k + k0 + chunk;
        x_at = ((i32)m - g.w - 1 + line()) * g.c + c0 + chunk;
        const u32 i = m + pixel();
        place = i / g.w % g.h << 16 | i % g.w;
        far = PIXELS / g.w % g.h << 16 | PIXELS % g.w;
    }
    __device__ __forceinline__ void quarter(const Conv& g, const T* x, const T* dy, const Tile<T>& tile, i32 number, bool live)
    {
        const u32 pixels = (u32)g.n * g.h * g.w;
        const i32 to = Lines<T>::at(line(), threadIdx.x % CHUNKS); // 32 lines further on the swizzle is the same
        if (number < PIXELS / LINES) {
            const bool there = live && m + line() + number * LINES < pixels;
            cp_async16(tile.stage + to + number * LINES * CHANNELS, dy + (dy_at + number * LINES * g.k), there ? 16 : 0);
        }
#pragma unroll
        for (i32 j = number * 2; j < number * 2 + 2; j++) {
            const bool there = live && line() + j * LINES < tile.rows;
            const bool inside = m - g.w - 1 + line() + j * LINES < pixels; // before all pictures it is a very large number
            if (there)
                cp_async16(tile.stage + Tile<T>::X + to + j * LINES * CHANNELS, x + (x_at + j * LINES * g.c), inside ? 16 : 0);
        }
        if (number < QUARTERS - 1)
            return;
        const i32 p = place >> 16, q = place & 0xffff;
        u32 taps = 0;
#pragma unroll
        for (i32 tap = 0; tap < TAPS; tap++)
            taps |= (u32)((u32)(p + tap / 3 - 1) < (u32)g.h && (u32)(q + tap % 3 - 1) < (u32)g.w) << tap;
        tile.inside()[threadIdx.x] = (u16)(m + pixel() < pixels ? taps : 0); // the first 64 are read: a branch would cost more than the others
        m += PIXELS;
        dy_at += PIXELS * g.k;
        x_at += PIXELS * g.c;
        place += far;
        place += (place & 0xffff) >= (u32)g.w ? (1 << 16) - g.w : 0;
        place -= place >> 16 >= (u32)g.h ? g.h << 16 : 0;
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
    constexpr i32 PAIRS = TAPS / 2, PARTS = PIXELS / 16;
    const mma_tile::Fragments<T, false, CHANNELS, 4, true> of_dy(0);
    const i32 pixel = matrix % 2 * 8 + lane % 8, ninth_pixel = lane;
    i32 of_x[PAIRS + 1];
#pragma unroll
    for (i32 j = 0; j <= PAIRS; j++) {
        const i32 tap = j < PAIRS ? j * 2 + matrix / 2 : TAPS - 1;
        of_x[j] = Tile<T>::X + Lines<T>::at((j < PAIRS ? pixel : ninth_pixel) + tap / 3 * g.w + tap % 3, warp);
    }
    f32 sum[4][TAPS][4] = {};
    Copies<T> copies(g, begin, k0, c0);
    auto tile = [&](i32 number) { return Tile<T>{stages + (number - begin) % STAGES * Tile<T>::numbers(rows), rows}; };
    for (i32 i = 0; i < STAGES - 1; i++) {
#pragma unroll
        for (i32 quarter = 0; quarter < Copies<T>::QUARTERS; quarter++)
            copies.quarter(g, x, dy, tile(begin + i), quarter, begin + i < end);
        cp_async_commit();
    }
    for (i32 number = begin; number < end; number++) {
        cp_async_wait<STAGES - 2>(); // this thread's copies for the tile are there
        __syncthreads();             // everybody's are, and everybody is done with the stage that is filled next
        T* const stage = tile(number).stage;
        const Tile<T> next = tile(number + STAGES - 1);
        // Read at once, since ldmatrix waits for where they send it. Of 32 pixels: a lane's taps in part 0 and in part 1, 16 bits each, and bit 14
        // for the ninth.
        u32 taps[PARTS / 2];
#pragma unroll
        for (i32 i = 0; i < PARTS / 2; i++) {
            const u16* const inside = tile(number).inside() + i * 32;
            const u32 both = inside[pixel] | (u32)inside[16 + pixel] << 16;
            taps[i] = both >> matrix / 2 | (u32)(inside[ninth_pixel] >> (TAPS - 1)) << 14;
        }
        u32 fa[2][4][4], fb[2][4], ninth[4]; // one is read while the other is multiplied; of the ninth tap 32 pixels
        auto read_dy = [&](i32 part) {
#pragma unroll
            for (i32 i = 0; i < 4; i++)
                of_dy.load(fa[part % 2][i], stage + part * 16 * CHANNELS, i, 0);
        };
        auto read_x = [&](i32 part, i32 pair) {
            ldmatrix_x4_trans(fb[pair % 2], taps[part / 2] >> (part % 2 * 16 + pair * 2) & 1 ? stage + of_x[pair] + part * 16 * CHANNELS : zeros);
        };
        read_x(0, 0);
        read_dy(0);
#pragma unroll
        for (i32 part = 0; part < PARTS; part++) {
            if (part % 2 == 0)
                ldmatrix_x4_trans(ninth, taps[part / 2] >> 14 & 1 ? stage + of_x[PAIRS] + part * 16 * CHANNELS : zeros);
#pragma unroll
            for (i32 j = 0; j <= PAIRS; j++) {
                if (j == 1)
                    copies.quarter(g, x, dy, next, part, number + STAGES - 1 < end);
                if (j == 2 && part + 1 < PARTS)
                    read_dy(part + 1);
                if (j + 1 < PAIRS)
                    read_x(part, j + 1);
                else if (j == PAIRS - 1 && part + 1 < PARTS)
                    read_x(part + 1, 0);
#pragma unroll
                for (i32 e = 0; e < (j < PAIRS ? 2 : 1); e++) {
                    const i32 r = part % 2 * 2; // registers of the ninth tap
                    const u32 pair[2] = {j < PAIRS ? fb[j % 2][e * 2] : ninth[r], j < PAIRS ? fb[j % 2][e * 2 + 1] : ninth[r + 1]};
#pragma unroll
                    for (i32 i = 0; i < 4; i++)
                        mma_m16n8k16<T>(sum[i][j * 2 + e], fa[part % 2][i], pair);
                }
            }
        }
        cp_async_commit();
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
