// Augmentation: bytes [N, H, W, 3] to a normalised float batch [N, h, w, 3], in one pass.
//
//     u8 / 255  ->  up to two resamplings (crop, affine, warp; bilinear or nearest, padded)  ->  brightness, contrast, saturation
//               ->  hue  ->  normalise  ->  boxes of noise
//
// CPU reference: src/ops/augment/cpu.rs. Launched by src/ops/augment/cuda.rs.
//
// fastai resamples twice when it rotates or warps and then crops: affine at full size, then crop to the final size. And it averages
// the picture down first when a resampling shrinks it a lot. Done one after the other these are passes over float pictures that no
// one wants to keep. Here each output pixel asks backwards instead: the second resampling needs four pixels of the first one's
// result, each of which needs four averages of bytes. That is at most some hundred byte reads per output number, all from a small
// neighbourhood that stays in the cache, instead of three trips to memory.
//
// One thread makes one output pixel. What differs from picture to picture (crop, matrix, light) comes in two tables.
//
// Try it: cargo test --test emulator -- augment        Bench: cargo bench --bench ops -- augment

#include "common.cuh"

struct Sample { // one picture's part in a resampling
    i32 top, left, height, width; // the window that is looked at
    i32 shrink_h, shrink_w;       // it is first averaged to this size; 0: it isn't
    f32 theta[6];                 // output position to input position, both in -1..1
    f32 warp[8];                  // a perspective after that
    i32 warps;                    // 0: there is none
};
LAYOUT(Sample, top, left, height, width, shrink_h, shrink_w, theta, warp, warps)

struct Light {
    f32 shift;      // logit of the brightness, added to the pixel's logit
    f32 contrast;   // multiplies it
    f32 saturation; // keeps that much of the colour
    f32 hue;        // added to the hue, a full turn being 1
};
LAYOUT(Light, shift, contrast, saturation, hue)

struct Resample {
    i32 height, width; // of the result
    i32 padding;       // 0 zeros, 1 border, 2 reflection
    i32 nearest;       // the nearest pixel instead of a mean of four
    i32 align_corners; // -1 and 1 are the centres of the outermost pixels, or the picture's edges
};
LAYOUT(Resample, height, width, padding, nearest, align_corners)

struct Rect { // a window of the result
    i32 top, left, height, width;
};
LAYOUT(Rect, top, left, height, width)

struct Augment {
    i32 n, h, w; // bytes [N, H, W, 3]
    Resample pass[2];
    i32 normalizes;
    f32 mean[3], std[3];
};
LAYOUT(Augment, n, h, w, pass, normalizes, mean, std)

struct Erased { // in memory, as all that is drawn for a batch: so every step launches the same
    i32 boxes; // 1 to 8
    Rect areas[8];
    u32 key[2];     // of the noise in the boxes
    u32 counter[4]; // its first word is the number's place in the batch
};
LAYOUT(Erased, boxes, areas, key, counter)

struct Rgb {
    f32 c[3];
};

// Where output pixel i of n looks, in -1..1. The upper half counts back from 1, as PyTorch's linspace: the ends are exact.
__device__ __forceinline__ f32 base_position(i32 i, i32 n, bool align_corners)
{
    if (n == 1)
        return 0;
    const f32 by = 2.0f / (f32)(n - 1), edge = align_corners ? 1.0f : (f32)(n - 1) / (f32)n;
    return (i < n / 2 ? -1.0f + by * i : 1.0f - by * (n - 1 - i)) * edge;
}

__device__ __forceinline__ f32 pixel_position(f32 g, i32 size, bool align_corners)
{
    return align_corners ? (g + 1) / 2 * (size - 1.0f) : ((g + 1) * size - 1) / 2;
}

__device__ __forceinline__ f32 clamp(f32 x, f32 last) { return x >= 0 ? min_(x, last) : 0; } // NaN too

// Mirrors x between low and high as often as it takes.
__device__ __forceinline__ f32 reflect(f32 x, f32 low, f32 high)
{
    const f32 span = high - low;
    if (span <= 0)
        return 0;
    x = fabsf(x - low);
    const f32 times = floorf(x / span), rest = x - times * span;
    return times == 2 * floorf(times / 2) ? low + rest : high - rest;
}

// Brings a position into the picture, as the padding says.
__device__ __forceinline__ f32 inside(f32 x, i32 size, const Resample& pass)
{
    const f32 last = size - 1.0f;
    if (pass.padding == 0) // far outside, or not a number at all, must not become an address
        return x >= -2 ? min_(x, last + 2) : -2;
    if (pass.padding == 1)
        return clamp(x, last);
    return pass.align_corners ? clamp(reflect(x, 0, last), last) : clamp(reflect(x, -0.5f, last + 0.5f), last);
}

// The bytes themselves, a picture to look into.
struct Bytes {
    const u8* p;
    i32 width;
    __device__ __forceinline__ Rgb at(i32 y, i32 x) const
    {
        const u8* q = p + ((i64)y * width + x) * 3;
        return {{q[0] / 255.0f, q[1] / 255.0f, q[2] / 255.0f}}; // a true division: times 1/255 differs in the last bit
    }
};

// Another picture seen through a resampling; its pixels are computed when they are asked for.
template <typename Source> struct Resampled {
    Source source;
    const Resample& pass; // references: copies would not fit into registers
    const Sample& s;
    __device__ i32 height() const { return s.shrink_h ? s.shrink_h : s.height; }
    __device__ i32 width() const { return s.shrink_w ? s.shrink_w : s.width; }

    // Pixel (y, x) of the window, or of what the window was averaged to: the mean of rows floor(y H / h) to ceil((y + 1) H / h) - 1.
    __device__ __forceinline__ Rgb window(i32 y, i32 x) const
    {
        if (!s.shrink_h)
            return source.at(s.top + y, s.left + x);
        const i32 y0 = (i32)((i64)y * s.height / s.shrink_h), y1 = (i32)ceil_div((i64)(y + 1) * s.height, (i64)s.shrink_h);
        const i32 x0 = (i32)((i64)x * s.width / s.shrink_w), x1 = (i32)ceil_div((i64)(x + 1) * s.width, (i64)s.shrink_w);
        Rgb sum = {};
        for (i32 i = y0; i < y1; i++)
            for (i32 j = x0; j < x1; j++) {
                const Rgb v = source.at(s.top + i, s.left + j);
                for (i32 c = 0; c < 3; c++)
                    sum.c[c] += v.c[c];
            }
        for (i32 c = 0; c < 3; c++)
            sum.c[c] /= (f32)((y1 - y0) * (x1 - x0));
        return sum;
    }

    // Output pixel (y, x).
    __device__ __forceinline__ Rgb at(i32 y, i32 x) const
    {
        const f32 bx = base_position(x, pass.width, pass.align_corners), by = base_position(y, pass.height, pass.align_corners);
        f32 gx = s.theta[0] * bx + s.theta[1] * by + s.theta[2], gy = s.theta[3] * bx + s.theta[4] * by + s.theta[5];
        if (s.warps) {
            const f32 q = s.warp[6] * gx + s.warp[7] * gy + 1;
            const f32 wx = (s.warp[0] * gx + s.warp[1] * gy + s.warp[2]) / q;
            gy = (s.warp[3] * gx + s.warp[4] * gy + s.warp[5]) / q;
            gx = wx;
        }
        const f32 px = inside(pixel_position(gx, width(), pass.align_corners), width(), pass);
        const f32 py = inside(pixel_position(gy, height(), pass.align_corners), height(), pass);
        if (pass.nearest) {
            const f32 tx = rintf(px), ty = rintf(py); // half-way, the even one
            const bool there = tx >= 0 && ty >= 0 && tx < width() && ty < height();
            return there ? window((i32)ty, (i32)tx) : Rgb{};
        }
        const f32 x0 = floorf(px), y0 = floorf(py), fx = px - x0, fy = py - y0;
        Rgb sum = {};
#pragma unroll 1 // unrolled through two resamplings, this is sixteen copies of everything, and spills
        for (i32 i = 0; i < 2; i++)
#pragma unroll 1
            for (i32 j = 0; j < 2; j++) {
                const f32 ty = y0 + i, tx = x0 + j, weight = (j ? fx : 1 - fx) * (i ? fy : 1 - fy);
                // A neighbour outside has weight 0, unless the padding is black, which adds nothing either.
                if (tx < 0 || ty < 0 || tx >= width() || ty >= height())
                    continue;
                const Rgb v = window((i32)ty, (i32)tx);
                for (i32 c = 0; c < 3; c++)
                    sum.c[c] += v.c[c] * weight;
            }
        return sum;
    }
};

__device__ __forceinline__ f32 logit(f32 x) // the ends are clamped as fastai does
{
    x = x < 1e-7f ? 1e-7f : x > 1 - 1e-7f ? 1 - 1e-7f : x;
    return -logf(1 / x - 1);
}

// Brightness, contrast and saturation, in logit space.
__device__ __forceinline__ void relight(Rgb& v, const Light& light)
{
    for (i32 c = 0; c < 3; c++)
        v.c[c] = (logit(v.c[c]) + light.shift) * light.contrast;
    if (light.saturation != 1) {
        const f32 s = light.saturation, grey = (1 - s) * (v.c[0] * 0.2989f + v.c[1] * 0.5870f + v.c[2] * 0.1140f);
        for (i32 c = 0; c < 3; c++)
            v.c[c] = v.c[c] * s + grey;
    }
    for (i32 c = 0; c < 3; c++)
        v.c[c] = 1 / (1 + expf(-v.c[c]));
}

__device__ __forceinline__ f32 unit(f32 x) { return x < 0 ? 0 : x > 1 ? 1 : x; }

// To HSV, a turn of the hue, and back. A grey has hue and saturation 0; of equal largest channels red goes before green before blue.
__device__ __forceinline__ void shift_hue(Rgb& v, f32 shift)
{
    const f32 r = v.c[0], g = v.c[1], b = v.c[2], max = max_(max_(r, g), b), range = max - min_(min_(r, g), b);
    const f32 divisor = range == 0 ? 1 : range, saturation = range == 0 ? 0 : range / max;
    const f32 rc = (max - r) / divisor, gc = (max - g) / divisor, bc = (max - b) / divisor;
    const f32 sextant = max == r ? bc - gc : max == g ? 2 + rc - bc : 4 + gc - rc;
    f32 hue = sextant / 6 + 1;
    hue -= floorf(hue);
    hue += shift;
    hue -= floorf(hue);
    const f32 place = floorf(hue * 6), f = hue * 6 - place;
    const f32 p = unit(max * (1 - saturation)), q = unit(max * (1 - saturation * f)), t = unit(max * (1 - saturation * (1 - f)));
    const i32 i = (i32)place % 6;
    v.c[0] = i == 0 || i == 5 ? max : i == 1 ? q : i == 4 ? t : p;
    v.c[1] = i == 1 || i == 2 ? max : i == 0 ? t : i == 3 ? q : p;
    v.c[2] = i == 3 || i == 4 ? max : i == 2 ? t : i == 5 ? q : p;
}

// Normal noise (Box and Muller) for number `place` of the batch, from two words of its own block of random bits.
__device__ __forceinline__ f32 noise(const Erased& a, i64 place)
{
    const Philox bits = philox(a.key[0], a.key[1], {{(u32)place, a.counter[1], a.counter[2], a.counter[3]}});
    const f32 u = ((f32)(bits.x[0] >> 8) + 0.5f) / 16777216.0f, v = ((f32)(bits.x[1] >> 8) + 0.5f) / 16777216.0f;
    return sqrtf(-2 * logf(u)) * cospif(2 * v); // cosf would keep a table on the stack for large angles
}

// samples [passes, N], lights [N] or null, erased or null -> out [N, h, w, 3]
template <typename T, i32 PASSES>
__global__ void __launch_bounds__(256, 2) augment(
    const __grid_constant__ Augment a, const u8* bytes, const Sample* samples, const Light* lights, const Erased* erased, T* out)
{
    const i32 height = PASSES ? a.pass[PASSES - 1].height : a.h, width = PASSES ? a.pass[PASSES - 1].width : a.w;
    const i64 count = (i64)a.n * height * width;
    for (i64 i = first(); i < count; i += step()) {
        const i32 x = i % width, y = i / width % height, n = i / width / height;
        const Bytes source = {bytes + (i64)n * a.h * a.w * 3, a.w};
        Rgb v;
        if constexpr (PASSES == 0) {
            v = source.at(y, x);
        } else {
            const Resampled<Bytes> once = {source, a.pass[0], samples[n]};
            if constexpr (PASSES == 1)
                v = once.at(y, x);
            else
                v = Resampled<Resampled<Bytes>>{once, a.pass[1], samples[a.n + n]}.at(y, x);
        }
        if (lights) {
            relight(v, lights[n]);
            if (lights[n].hue != 0)
                shift_hue(v, lights[n].hue);
        }
        bool covered = false;
        for (i32 k = 0; erased && k < erased->boxes; k++) {
            const Rect& box = erased->areas[k];
            covered |= y >= box.top && y < box.top + box.height && x >= box.left && x < box.left + box.width;
        }
        for (i32 c = 0; c < 3; c++) {
            f32 z = a.normalizes ? (v.c[c] - a.mean[c]) / a.std[c] : v.c[c];
            if (covered)
                z = noise(*erased, i * 3 + c);
            out[i * 3 + c] = from_f32<T>(z);
        }
    }
}
KERNEL(augment<f32, 0>)
KERNEL(augment<f16, 0>)
KERNEL(augment<bf16, 0>)
KERNEL(augment<f32, 1>)
KERNEL(augment<f16, 1>)
KERNEL(augment<bf16, 1>)
KERNEL(augment<f32, 2>)
KERNEL(augment<f16, 2>)
KERNEL(augment<bf16, 2>)
