// The first convolution of a network on tensor cores: few channels, a 7x7 window, stride 2. conv2d.cu has the formulas.
//
// CPU reference: src/ops/conv2d/cpu.rs. Launched by src/ops/conv2d/cuda.rs.
//
// conv2d_mma.cu copies 16 bytes of channels at a time, and a picture's pixel has 6. Here a block brings a patch of the picture to shared
// memory and widens its pixels to 4 channels, the last one 0. Then the 7 taps of a row of the window lie side by side, 8 pixels x 4
// channels = 64 bytes with one tap that counts 0, and because the stride is 2, the windows of neighbouring outputs begin 16 bytes apart:
// where ldmatrix wants its rows. So the windows overlap in shared memory and nothing is copied twice. Of the products, 147 of 224 count.
// The tap that counts 0 still multiplies: a pixel that is no number reaches the output left of it, too.
//
//     forward   a tile of 8 x 16 output pixels, 64 channels; 7 steps, one for each row of the window. A block makes TILES of them with
//               one copy of the filters, and may leave the sums of y and y² (see conv2d_mma.cu)
//     dw        [64 channels] x [7 rows, 8 taps, 4 channels], reduced over the tile's pixels; a block walks over many tiles and writes
//               what it has to partial[block]
//
// At 128 pictures of 224 pixels in half precision the arithmetic is 131 us at 350 TFLOP/s, the bytes are 56 us.
//
// Try it: cargo test --test emulator -- conv        Bench: cargo bench --bench ops -- stem

#include "conv2d.cuh"
#include "mma_tile.cuh"

inline constexpr i32 WINDOW = 7;
inline constexpr i32 TAPS = 8, DEEP = 4;       // of a row of the window, of a pixel, as they lie in shared memory
inline constexpr i32 ROW = TAPS * DEEP;        // numbers of a row of the window: a step
inline constexpr i32 TILE_P = 8, TILE_Q = 16;  // output pixels of a tile
inline constexpr i32 PATCH_H = (TILE_P - 1) * 2 + WINDOW, PATCH_W = (TILE_Q - 1) * 2 + TAPS;
inline constexpr i32 PATCH = PATCH_H * PATCH_W * DEEP; // numbers of a patch
inline constexpr i32 CHANNELS = 64;                    // output channels of a block
inline constexpr i32 TILES = 16;                       // of a block, forward

inline constexpr i32 THREADS = 256; // 8 warps: with 7 steps a tile there is little to keep in registers, and much to copy

template <typename T> using Outputs = mma_tile::Product<T, TILE_P * TILE_Q, CHANNELS, THREADS>;

// Tile number `tile` of all pictures.
struct Tile {
    i32 n, p, q; // of its first output pixel
    __device__ Tile(const Conv& g, i32 tile)
    {
        const i32 across = ceil_div(g.q, TILE_Q), down = ceil_div(g.p, TILE_P);
        q = tile % across * TILE_Q;
        p = tile / across % down * TILE_P;
        n = tile / across / down;
    }
    __device__ static i32 count(const Conv& g) { return g.n * ceil_div(g.q, TILE_Q) * ceil_div(g.p, TILE_P); }
};

// The pixels under a tile's windows, on their way to shared memory: asked for before the tile before is multiplied, stored after it.
//
// Pixels of 6 bytes come in pairs, which begin at a multiple of 4 bytes where rows are of an even number of pixels: three loads of 4 bytes instead
// of six of 2. A tile begins an odd number of pixels left of such a pair, so there is one pixel more on that side. Other pictures wait for every
// number.
template <typename T> struct Pixels {
    static constexpr i32 PAIRS = PATCH_W / 2 + 1, EACH = ceil_div(PATCH_H * PAIRS, THREADS);
    u32 pairs[EACH][3];
    __device__ static bool in_pairs(const Conv& g) { return g.c == 3 && g.w % 2 == 0 && g.pad_w % 2 == 1; }

    __device__ __forceinline__ void ask(const Conv& g, const T* x, const Tile& tile)
    {
        if (!in_pairs(g))
            return;
        const i32 top = tile.p * 2 - g.pad_h, left = tile.q * 2 - g.pad_w - 1;
#pragma unroll
        for (i32 e = 0; e < EACH; e++) {
            const i32 i = threadIdx.x + e * THREADS, h = top + i / PAIRS, v = left + i % PAIRS * 2;
            const bool inside = i < PATCH_H * PAIRS && h >= 0 && h < g.h && v >= 0 && v < g.w;
            const u32* from = (const u32*)(x + (((i64)tile.n * g.h + (inside ? h : 0)) * g.w + (inside ? v : 0)) * 3);
            for (i32 j = 0; j < 3; j++)
                pairs[e][j] = inside ? from[j] : 0;
        }
    }

    // Widened; 0 outside the picture.
    __device__ __forceinline__ void store(const Conv& g, const T* x, const Tile& tile, T* patch) const
    {
        if (!in_pairs(g)) {
            const i32 top = tile.p * 2 - g.pad_h, left = tile.q * 2 - g.pad_w;
            for (i32 i = threadIdx.x; i < PATCH_H * PATCH_W; i += THREADS) {
                const i32 h = top + i / PATCH_W, v = left + i % PATCH_W;
                const bool inside = h >= 0 && h < g.h && v >= 0 && v < g.w;
                const T* from = x + (((i64)tile.n * g.h + h) * g.w + v) * g.c;
                for (i32 c = 0; c < DEEP; c++)
                    patch[i * DEEP + c] = inside && c < g.c ? from[c] : from_f32<T>(0);
            }
            return;
        }
#pragma unroll
        for (i32 e = 0; e < EACH; e++) {
            const i32 i = threadIdx.x + e * THREADS, row = i / PAIRS, pixel = i % PAIRS * 2 - 1; // the left one's
            if (row >= PATCH_H)
                continue;
            u32* const to = (u32*)(patch + (row * PATCH_W + pixel) * DEEP);
            const u32(&three)[3] = pairs[e];
            if (pixel >= 0) {
                to[0] = three[0];
                to[1] = three[1] & 0xffff;
            }
            if (pixel + 1 < PATCH_W) {
                to[2] = three[1] >> 16 | three[2] << 16;
                to[3] = three[2] >> 16;
            }
        }
    }
};

// Where the window's row r of output pixel (p, q) of the tile begins, and chunk (8 numbers) `chunk` of it.
template <typename T> __device__ __forceinline__ T* window(T* patch, i32 p, i32 q, i32 r, i32 chunk)
{
    return patch + ((p * 2 + r) * PATCH_W + q * 2) * DEEP + chunk * 8;
}

template <typename T>
__global__ void __launch_bounds__(THREADS, 2) conv_forward_stem(Conv g, const T* x, const T* w, const f32* bias, T* y, f32* sums)
{
    using P = Outputs<T>;
    // The way out uses the front of shared memory (mma_tile.cuh), so what is read lies behind it.
    T* const filters = (T*)(smem_raw + P::OUT_BYTES); // 7 stages of [64][32]
    T* const patch = filters + WINDOW * CHANNELS * ROW;
    const i32 k0 = blockIdx.y * CHANNELS, tiles = Tile::count(g), lane = threadIdx.x % WARP, matrix = lane / 8, row = lane % 8;
    for (i32 i = threadIdx.x; i < WINDOW * CHANNELS * ROW; i += THREADS) {
        const i32 c = i % DEEP, s = i / DEEP % TAPS, k = i / ROW % CHANNELS, r = i / ROW / CHANNELS;
        const bool there = c < g.c && s < g.s && k0 + k < g.k;
        T* stage = filters + r * CHANNELS * ROW;
        stage[mma_tile::Stage<T, true, CHANNELS>::at(k, i % ROW / 8) + i % 8] =
            there ? w[(((i64)(k0 + k) * WINDOW + r) * g.s + s) * g.c + c] : from_f32<T>(0);
    }
    P product;
    const mma_tile::Fragments<T, true, CHANNELS, P::FRAGMENTS_N / 2, false> of_filters(P::warp_n());
    f32 sum[8] = {}, squares[8] = {};
    const i32 k = k0 + product.column(), begin = blockIdx.x * TILES, end = begin + TILES < tiles ? begin + TILES : tiles;
    Pixels<T> pixels;
    if (begin < end)
        pixels.ask(g, x, Tile(g, begin));
    for (i32 number = begin; number < end; number++) {
        const Tile tile(g, number);
        pixels.store(g, x, tile, patch); // nobody reads the patch of the tile before: its way out began with a barrier
        __syncthreads();
        if (number + 1 < end)
            pixels.ask(g, x, Tile(g, number + 1));
        product.clear();
        // All rows as straight code: what the windows of two rows share is read once.
#pragma unroll
        for (i32 r = 0; r < WINDOW; r++)
#pragma unroll
            for (i32 half = 0; half < 2; half++) {
                u32 fa[P::FRAGMENTS_M][4], fb[P::FRAGMENTS_N / 2][4];
#pragma unroll
                for (i32 i = 0; i < P::FRAGMENTS_M; i++) // 16 results of a fragment are a row of the tile
                    ldmatrix_x4(fa[i], window(patch, P::warp_m() / TILE_Q + i, matrix % 2 * 8 + row, r, half * 2 + matrix / 2));
#pragma unroll
                for (i32 j = 0; j < P::FRAGMENTS_N / 2; j++)
                    of_filters.load(fb[j], filters + r * CHANNELS * ROW, j, half);
                product.multiply_add(fa, fb);
            }
        product.lay_out([&](i32, i32 column, f32& left, f32& right) {
            if (bias && k0 + column < g.k) {
                left += bias[k0 + column];
                right += bias[k0 + column + 1];
            }
        });
        product.each_chunk([&](i32 m, const T* chunk) {
            const i32 p = tile.p + m / TILE_Q, q = tile.q + m % TILE_Q;
            if (p >= g.p || q >= g.q || k >= g.k)
                return;
            *(Vec4*)(y + (((i64)tile.n * g.p + p) * g.q + q) * g.k + k) = *(const Vec4*)chunk;
            if (sums) {
                f32 v[8];
                load_pack(chunk, v);
                for (i32 j = 0; j < 8; j++) {
                    sum[j] += v[j];
                    squares[j] = fmaf(v[j], v[j], squares[j]);
                }
            }
        });
    }
    if (sums)
        product.write_column_sums(sum, squares, sums + (i64)blockIdx.x * 2 * g.k + k0, g.k, g.k - k0);
}
KERNEL(conv_forward_stem<f16>)
KERNEL(conv_forward_stem<bf16>)

// blockIdx.x is the split, which takes `share` tiles; partial [splits][k][7][s][c].
template <typename T>
__global__ void __launch_bounds__(THREADS, 2) conv_weight_gradient_stem(Conv g, const T* x, const T* dy, f32* partial, i32 share)
{
    constexpr i32 PIXELS = TILE_P * TILE_Q;
    T* const gradients = (T*)smem_raw; // 2 stages of [128 pixels][64 channels]
    T* const patch = gradients + 2 * PIXELS * CHANNELS;
    const i32 k0 = blockIdx.y * CHANNELS, tiles = Tile::count(g), lane = threadIdx.x % WARP, matrix = lane / 8, row = lane % 8;
    // 4 x 2 warps: 16 channels, and half of the 14 pairs of chunks that 7 rows of the window have.
    const i32 warp = threadIdx.x / WARP, m = warp % 4 * 16, first = warp / 4 * WINDOW;
    const mma_tile::Fragments<T, false, CHANNELS, 1, true> of_gradients(m);
    f32 sum[WINDOW][2][4] = {};
    const i32 begin = blockIdx.x * share, end = begin + share < tiles ? begin + share : tiles;
    Pixels<T> pixels;
    auto ask = [&](i32 number) {
        if (number < end) {
            const Tile tile(g, number);
            for (i32 i = threadIdx.x; i < PIXELS * CHANNELS / 8; i += THREADS) {
                const i32 chunk = i % (CHANNELS / 8), pixel = i / (CHANNELS / 8), k = k0 + chunk * 8;
                const i32 p = tile.p + pixel / TILE_Q, q = tile.q + pixel % TILE_Q;
                const bool there = p < g.p && q < g.q && k < g.k;
                const T* from = there ? dy + (((i64)tile.n * g.p + p) * g.q + q) * g.k + k : dy;
                T* stage = gradients + (number - begin) % 2 * PIXELS * CHANNELS;
                cp_async16(stage + mma_tile::Stage<T, false, CHANNELS>::at(pixel, chunk), from, there ? 16 : 0);
            }
            pixels.ask(g, x, tile);
        }
        cp_async_commit();
    };
    ask(begin);
    for (i32 number = begin; number < end; number++) {
        __syncthreads(); // everybody is done with the tile before
        pixels.store(g, x, Tile(g, number), patch);
        ask(number + 1);
        cp_async_wait<1>();
        __syncthreads();
        T* const stage = gradients + (number - begin) % 2 * PIXELS * CHANNELS;
#pragma unroll 1
        for (i32 p = 0; p < TILE_P; p++) { // 16 pixels of the reduction are a row of the tile
            u32 fa[4], fb[4];
            of_gradients.load(fa, stage + p * TILE_Q * CHANNELS, 0, 0);
#pragma unroll
            for (i32 i = 0; i < WINDOW; i++) {
                const i32 pair = first + i; // of chunks: the window's row pair / 2
                ldmatrix_x4_trans(fb, window(patch, p, matrix % 2 * 8 + row, pair / 2, pair % 2 * 2 + matrix / 2));
                for (i32 j = 0; j < 2; j++) {
                    const u32 columns[2] = {fb[j * 2], fb[j * 2 + 1]};
                    mma_m16n8k16<T>(sum[i][j], fa, columns);
                }
            }
        }
    }
    f32* const out = partial + (i64)blockIdx.x * g.k * WINDOW * g.s * g.c;
#pragma unroll
    for (i32 i = 0; i < WINDOW; i++)
#pragma unroll
        for (i32 j = 0; j < 2; j++)
#pragma unroll
            for (i32 e = 0; e < 4; e++) {
                const i32 k = k0 + m + lane / 4 + e / 2 * 8, n = (first + i) * 16 + j * 8 + lane % 4 * 2 + e % 2;
                const i32 r = n / ROW, s = n % ROW / DEEP, c = n % DEEP;
                if (k < g.k && s < g.s && c < g.c)
                    out[(((i64)k * WINDOW + r) * g.s + s) * g.c + c] = sum[i][j][e];
            }
}
KERNEL(conv_weight_gradient_stem<f16>)
KERNEL(conv_weight_gradient_stem<bf16>)
