// Convolution with a 3x3 window, stride 1 and padding 1 on tensor cores, forward and its input gradient. conv2d.cu has the formulas.
//
// CPU reference: src/ops/conv2d/cpu.rs. Launched by src/ops/conv2d/cuda.rs.
//
// conv2d_mma.cu brings a pixel to shared memory once for each of the nine taps that meet it: 16 KiB for a step of 128 x 128, which at what an H200's
// second-level cache delivers (9.8 TB/s, 37.5 bytes a cycle for each processor) takes 437 cycles, and the products 444. With this window a picture's
// pixels stay where they are: output pixel m, counted through all pictures, reads input pixel m + (r - 1) W + s - 1 under tap (r, s). So what a tile
// of 128 outputs reads under all its taps is one piece of memory, 128 + 2 W + 2 pixels long.
//
//     slab      a block brings this piece once for every 64 bytes of channels, a slab, and multiplies nine times: under a tap, a fragment's rows
//               begin further on. Rows whose tap is outside the picture are read from a row of zeros. A step brings 8 KiB of filters and on
//               average a ninth of the next slab, 9 KiB instead of 16, and stores less to shared memory, too
//
// There are two slabs of shared memory. Copies are asked for three steps ahead: while taps 0 to 5 of a slab are multiplied, the filters of taps 3 to 8 are
// asked for, and with each 64 rows of the next slab. Its memory was last read under tap 8 of the slab before, in front of the barrier that began
// tap 0; and it is complete with the filters of this slab's tap 8, before the next one's tap 0.
//
//     multiplied            tap 0   1   2   3   4   5   6   7   8 | 0   1  ..
//     asked for: filters        3   4   5   6   7   8   0   1   2 | 3   4  ..
//                slab           pieces of the next  -   -   -     | pieces of the one after, where this one was
//
// Half precision, C and K multiples of 32, W at most 127, so that a slab is six times 64 rows at most (src/ops/conv2d/ladder.rs).
//
// The reduction runs over channels outside and taps inside; in conv2d_mma.cu it is the other way round, so the last bits of a sum differ.
//
// Try it: cargo test --test emulator -- conv        Bench: cargo bench --bench ops -- 128>128

#include "conv2d_out.cuh"

using mma_tile::CHUNK;
using mma_tile::DEPTH;
using mma_tile::Product;
using mma_tile::ROWS;
using mma_tile::Stage;

inline constexpr i32 TAPS = 9;
inline constexpr i32 PIECES = 6; // of a slab, asked for with the filters of the last six of nine taps
inline constexpr i32 PIECE = 64; // rows

// The slabs of a tile: x's, or for the input gradient dy's, whose taps are flipped. Behind the filters' stages in shared memory lie two slabs of
// rows of 64 bytes, swizzled as a stage's, and a row of zeros.
template <typename T, i32 BM, i32 BN, bool FLIPPED> struct Slabs {
    using P = Product<T, BM, BN>;
    T* slabs;
    const T* x;        // this thread's chunk of the first slab's row threadIdx.x / 4, which may be before all pictures
    u32 first, pixels; // the first row, below 0 a very large number; pixels of all pictures
    i32 rows, width, channels;
    // What is brought with the next step's filters: this piece of the next slab, or nothing while that is below 0; the slab's number, and how
    // many there are.
    i32 piece = PIECES - TAPS, next = 1, all;
    // What is read: this lane's row of fragment 0 under the tap at the slab's beginning; the tap as a bit, and the rows that it is further on; the
    // slab's first number.
    i32 row_at, under = 0, slab;
    u32 seen_tap = 1 << (TAPS - 1);
    u32 inside[ceil_div(P::FRAGMENTS_M, 2)]; // taps inside the picture, a bit each, of two fragments' rows
    i32 place[P::FRAGMENTS_M];  // bytes from the slabs' beginning to this lane's rows

    __device__ Slabs(const T* x0, i64 m0, i32 n, i32 h, i32 w, i32 c) : width(w), channels(c)
    {
        slabs = (T*)smem_raw + mma_tile::STAGES * BN * DEPTH<T>;
        rows = BM + 2 * w + 2;
        first = (u32)(m0 - w - 1);
        pixels = (u32)n * h * w;
        x = x0 + (m0 - w - 1 + threadIdx.x / 4) * c + threadIdx.x % 4 * CHUNK<T>;
        row_at = mma_tile::kept(P::warp_m() + threadIdx.x % 16); // of fragment 0; the others' are 16 further each
#pragma unroll
        for (i32 i = 0; i < P::FRAGMENTS_M; i++) {
            const i64 m = m0 + row_at + i * 16;
            const i32 q = (i32)m % w, p = (i32)m / w % h;
            u32 taps = 0;
            for (i32 r = 0; r < 3; r++)
                for (i32 s = 0; s < 3; s++) {
                    const bool there = (u32)(p + r - 1) < (u32)h && (u32)(q + s - 1) < (u32)w;
                    taps |= (u32)there << (FLIPPED ? 8 - (r * 3 + s) : r * 3 + s);
                }
            inside[i / 2] = i % 2 ? inside[i / 2] | taps << 16 : taps;
        }
        if (threadIdx.x < 4) // nobody reads it before a barrier
            *(Vec4*)(slabs + 2 * rows * DEPTH<T> + threadIdx.x * CHUNK<T>) = Vec4{};
        all = c / DEPTH<T>;
        slab = rows * DEPTH<T>; // turn() takes the other one
        for (i32 i = 0; i < PIECES; i++) // belongs to the first step's copies
            bring(0, i, true);
    }

    // 64 rows of a slab, two by four threads: 32 rows further on the swizzle is the same.
    __device__ __forceinline__ void bring(i32 number, i32 piece, bool wanted)
    {
        const i32 lane = threadIdx.x / 4, begin = piece * PIECE; // a negative one leads beyond the end
        T* const to = slabs + Stage<T, true, BM>::at(lane, threadIdx.x % 4) + (number % 2 * rows + begin) * DEPTH<T>;
        const T* const from = x + (begin * channels + number * DEPTH<T>);
#pragma unroll
        for (i32 j = 0; j < PIECE / ROWS; j++) {
            const u32 row = lane + begin + j * ROWS;
            if (wanted && row < (u32)rows)
                cp_async16(to + j * ROWS * DEPTH<T>, from + j * ROWS * channels, first + row < pixels ? 16 : 0);
        }
    }

    // Together with the filters of the next step. Returns whether that is the last of its block of channels.
    __device__ __forceinline__ bool load()
    {
        bring(next, piece, next < all);
        const bool ends = piece == PIECES - 1;
        piece = ends ? PIECES - TAPS : piece + 1;
        next += ends;
        return ends;
    }

    __device__ __forceinline__ void turn()
    {
        // r W + s for tap (r, s), flipped (2 - r) W + 2 - s.
        const bool first_tap = seen_tap == 1 << (TAPS - 1), row_ends = seen_tap == 1 << 2 || seen_tap == 1 << 5;
        seen_tap = first_tap ? 1 : seen_tap << 1;
        under = first_tap ? 0 : under + (row_ends ? width - 2 : 1);
        slab = first_tap ? rows * DEPTH<T> - slab : slab; // the other one
        const i32 row = row_at + (FLIPPED ? 2 * width + 2 - under : under), size = sizeof(T);
        const i32 at = (slab + Stage<T, true, BM>::at(row, threadIdx.x % WARP / 16)) * size;
#pragma unroll
        for (i32 i = 0; i < P::FRAGMENTS_M; i++) // 16 rows further on the swizzle is the same
            place[i] = inside[i / 2] & seen_tap << i % 2 * 16 ? at + i * 16 * mma_tile::STEP_BYTES : 2 * rows * mma_tile::STEP_BYTES;
    }

    // Chunks 2 and 3 of a row are where 0 and 1 are but for one bit.
    __device__ __forceinline__ const T* row(i32 i, i32 half) const { return (const T*)((const u8*)slabs + (place[i] ^ half * 32)); }
};

// b: w, row n is output channel n0 + n; brought as in conv2d_mma.cu.
template <typename T, i32 BM, i32 BN> struct ForwardOperands : Slabs<T, BM, BN, false> {
    static constexpr bool BRINGS_A = false, A_ALONG_K = true, B_ALONG_K = true;
    i32 c, filters, to; // how many of this thread's filters exist
    const T* w;        // this thread's chunk of its first filter, of the next step
    __device__ ForwardOperands(const Conv& g, const T* x, const T* w0, i64 m0, i32 n0) : Slabs<T, BM, BN, false>(x, m0, g.n, g.h, g.w, g.c), c(g.c)
    {
        const i32 k = n0 + threadIdx.x / 4;
        filters = ceil_div(g.k - k, ROWS);
        to = mma_tile::kept(Stage<T, true, BN>::at(threadIdx.x / 4, threadIdx.x % 4));
        w = w0 + (i64)k * TAPS * c + threadIdx.x % 4 * CHUNK<T>;
    }
    __device__ __forceinline__ void load(T*, T* b, bool live)
    {
#pragma unroll
        for (i32 j = 0; j < BN / ROWS; j++)
            cp_async16(b + to + j * ROWS * DEPTH<T>, w + j * ROWS * TAPS * c, live && j < filters ? 16 : 0);
        w += Slabs<T, BM, BN, false>::load() ? DEPTH<T> - (TAPS - 1) * c : c;
    }
};

// sums: null, or [tiles of pixels][2][k]: see conv2d_out.cuh.
template <typename T, i32 BM, i32 BN>
__global__ void __launch_bounds__(mma_tile::THREADS, mma_tile::blocks<T>(BM * BN)) conv_forward_slab(Conv g, const T* x, const T* w, const f32* bias, T* y, f32* sums)
{
    const i32 across = ceil_div(g.k, BN), tile = blockIdx.x / across, n0 = blockIdx.x % across * BN;
    const i64 m0 = (i64)tile * BM;
    Product<T, BM, BN> product;
    {
        ForwardOperands<T, BM, BN> operands(g, x, w, m0, n0);
        product.multiply(operands, TAPS * (g.c / DEPTH<T>));
    }
    store_output(product, g, tile, m0, n0, bias, y, sums);
}
KERNEL(conv_forward_slab<f16, 128, 128>)
KERNEL(conv_forward_slab<f16, 128, 64>)
KERNEL(conv_forward_slab<f16, 64, 64>)
KERNEL(conv_forward_slab<bf16, 128, 128>)
KERNEL(conv_forward_slab<bf16, 128, 64>)
KERNEL(conv_forward_slab<bf16, 64, 64>)

// b: w, whose k's are output channels under a tap and whose chunks run along the input channels from n0 on.
template <typename T, i32 BM, i32 BN> struct InputOperands : Slabs<T, BM, BN, true> {
    static constexpr bool BRINGS_A = false, A_ALONG_K = true, B_ALONG_K = false;
    static constexpr i32 CHUNKS = BN / CHUNK<T>, LINES = mma_tile::THREADS / CHUNKS, EACH = DEPTH<T> / LINES;
    i32 c, to;
    const T* w; // this thread's first line and its chunk, of the next step
    __device__ InputOperands(const Conv& g, const T* dy, const T* w0, i64 m0, i32 n0) : Slabs<T, BM, BN, true>(dy, m0, g.n, g.h, g.w, g.k), c(g.c)
    {
        const i32 line = threadIdx.x / CHUNKS, from = n0 + threadIdx.x % CHUNKS * CHUNK<T>;
        to = Stage<T, false, BN>::at(line, threadIdx.x % CHUNKS);
        w = w0 + (i64)line * TAPS * c + (from < c ? from : 0); // columns that don't exist are made of the first, and never stored
    }
    __device__ __forceinline__ void load(T*, T* b, bool live)
    {
#pragma unroll
        for (i32 j = 0; j < EACH; j++)
            cp_async16(b + to + j * LINES * BN, w + j * LINES * TAPS * c, live ? 16 : 0);
        w += Slabs<T, BM, BN, true>::load() ? (DEPTH<T> * TAPS - (TAPS - 1)) * c : c;
    }
};

// With all of so_far, z, y and sums null it is the tensor rung's. sums: null, or [tiles of pixels][2][c].
template <typename T, i32 BM, i32 BN>
__global__ void __launch_bounds__(mma_tile::THREADS, mma_tile::blocks<T>(BM * BN))
    conv_input_gradient_slab(Conv g, const T* dy, const T* w, T* dx, const T* so_far, const T* z, const T* y, Norm norm, f32* sums, i32 mask)
{
    const i32 across = ceil_div(g.c, BN), tile = blockIdx.x / across, n0 = blockIdx.x % across * BN;
    const i64 m0 = (i64)tile * BM;
    Product<T, BM, BN> product;
    {
        InputOperands<T, BM, BN> operands(g, dy, w, m0, n0);
        product.multiply(operands, TAPS * (g.k / DEPTH<T>));
    }
    const Phase rows(0, 1, g.pad_h, g.h, g.r), columns(0, 1, g.pad_w, g.w, g.s);
    store_input_gradient(product, g, rows, columns, m0, n0, dx, so_far, z, y, norm, sums ? sums + (i64)tile * 2 * g.c + n0 : sums, mask);
}
KERNEL(conv_input_gradient_slab<f16, 128, 128>)
KERNEL(conv_input_gradient_slab<f16, 128, 64>)
KERNEL(conv_input_gradient_slab<f16, 64, 64>)
KERNEL(conv_input_gradient_slab<bf16, 128, 128>)
KERNEL(conv_input_gradient_slab<bf16, 128, 64>)
KERNEL(conv_input_gradient_slab<bf16, 64, 64>)
