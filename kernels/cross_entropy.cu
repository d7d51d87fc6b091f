// Softmax cross entropy over rows of logits x [rows, C]: loss and gradient in one pass, probabilities, and how many rows are right.
//
//     lse  = log sum exp(x)
//     ce   = (1 - e) w[t] (lse - x[t]) + e/C sum of w (lse - x)   e: label smoothing; w [C]: the classes' weights
//     loss = u/W ce                                               u: the row's own weight, 0 where the target is ignored
//     dx   = u/W (((1 - e) w[t] + e/C sum w) softmax(x) - (1 - e) w[t] onehot(t) - e/C w)
//     W: the sum of all w[t]; the number of rows with a u or a focal exponent
//
// Focal: loss = u/W (1-p)^g ce with p = exp(-ce), and dx times (1-p)^g + g (1-p)^(g-1) p ce.
//
// CPU reference: src/ops/cross_entropy/cpu.rs. Launched by src/ops/cross_entropy/cuda.rs.
//
// A warp takes a row: its lanes stride through the classes, for the maximum, then the sum, then the gradient. A batch has 64 rows
// of a few dozen logits; the time is that of the launch. Each block sums the rows' weights itself, which saves a launch.
// A target that is no class cannot be refused here without waiting for the device: it makes the loss NaN.
//
// Try it: cargo test --test emulator -- cross_entropy        Bench: cargo bench --bench ops -- cross_entropy

#include "loss.cuh"

struct CrossEntropy {
    i64 rows, classes;
    i64 ignore_index;
    f32 smoothing;
    f32 gamma; // negative: not focal
};
LAYOUT(CrossEntropy, rows, classes, ignore_index, smoothing, gamma)

__device__ __forceinline__ f32 warp_max(f32 x)
{
    for (i32 lanes = WARP / 2; lanes > 0; lanes /= 2) {
        const f32 other = shuffle_xor(x, lanes);
        x = is_nan(other) || other > x ? other : x;
    }
    return x;
}

// The largest logit of a row and the logarithm of the sum of exp(x - max), in every lane.
template <typename T> __device__ __forceinline__ void row_statistics(const T* x, i64 classes, f32& max, f32& log_sum)
{
    const i32 lane = threadIdx.x % WARP;
    max = -bits_float(0x7f800000); // minus infinity
    for (i64 i = lane; i < classes; i += WARP) {
        const f32 v = to_f32(x[i]);
        max = is_nan(v) || v > max ? v : max;
    }
    max = warp_max(max);
    f32 sum = 0;
    for (i64 i = lane; i < classes; i += WARP)
        sum += expf(to_f32(x[i]) - max);
    log_sum = logf(warp_sum(sum));
}

__device__ __forceinline__ f32 row_weight(CrossEntropy g, const f32* weights, i64 target)
{
    if (target == g.ignore_index)
        return 0;
    if (target < 0 || target >= g.classes)
        return bits_float(0x7fc00000); // NaN
    return weights ? weights[target] : 1;
}

// What the focal loss makes of a row's cross entropy, and its derivative.
__device__ __forceinline__ void focal(f32 gamma, f32& loss, f32& slope)
{
    const f32 ce = loss, p = expf(-ce), missing = 1 - p;
    if (missing <= 0) { // 0^(gamma - 1) would be infinite below 1; a row that cannot be better has no gradient
        loss = 0;
        slope = gamma == 0 ? 1 : 0;
        return;
    }
    const f32 power = expf(gamma * logf(missing));
    loss = power * ce;
    slope = power + gamma * power / missing * p * ce;
}

// logits [rows, C], targets [rows], class weights [C] or null, row weights [rows] or null -> dx [rows, C], losses [rows] (each with its share)
template <typename T>
__global__ void __launch_bounds__(256) cross_entropy_rows(CrossEntropy g, const T* logits, const i64* targets, const f32* weights, const f32* shares, T* dx, f32* losses)
{
    __shared__ f64 scratch[WARP];
    f64 total = (f64)g.rows;
    if (!shares && g.gamma < 0) {
        total = 0;
        for (i64 row = threadIdx.x; row < g.rows; row += blockDim.x)
            total += row_weight(g, weights, targets[row]);
        total = block_sum(total, scratch);
    }
    const f32 each = (f32)(1 / total);
    const i32 lane = threadIdx.x % WARP;
    for (i64 row = first() / WARP; row < g.rows; row += step() / WARP) {
        const T* x = logits + row * g.classes;
        const i64 target = targets[row];
        const f32 weight = row_weight(g, weights, target), e = g.smoothing;
        if (target == g.ignore_index) {
            for (i64 i = lane; i < g.classes; i += WARP)
                dx[row * g.classes + i] = from_f32<T>(0);
            if (lane == 0)
                losses[row] = 0;
            continue;
        }
        f32 max, log_sum;
        row_statistics(x, g.classes, max, log_sum);
        f32 spread = 0, all = 0; // sums of w (lse - x) and of w
        for (i64 i = lane; i < g.classes && e > 0; i += WARP) {
            const f32 w = weights ? weights[i] : 1;
            spread -= w * (to_f32(x[i]) - max - log_sum);
            all += w;
        }
        spread = warp_sum(spread);
        const f32 part = e / (f32)g.classes, hot = (1 - e) * weight;
        const f32 every = hot + part * warp_sum(all);
        const bool is_class = target >= 0 && target < g.classes;
        const f32 plain = is_class ? max + log_sum - to_f32(x[target]) : weight;
        f32 loss = hot * plain + (e > 0 ? part * spread : 0), slope = 1;
        if (g.gamma >= 0)
            focal(g.gamma, loss, slope);
        const f32 share = (shares ? shares[row] : 1) * each;
        for (i64 i = lane; i < g.classes; i += WARP) {
            const f32 below = to_f32(x[i]) - max - log_sum; // log probability
            const f32 own = (i == target ? hot : 0) + (e > 0 && weights ? part * weights[i] : part);
            dx[row * g.classes + i] = from_f32<T>(share * slope * (every * expf(below) - own));
        }
        if (lane == 0)
            losses[row] = share * loss;
    }
}
KERNEL(cross_entropy_rows<f32>)
KERNEL(cross_entropy_rows<f16>)
KERNEL(cross_entropy_rows<bf16>)

// loss = the sum of losses [rows]. One block.
__global__ void __launch_bounds__(256) cross_entropy_sum(const f32* losses, f32* loss, i64 rows)
{
    sum_of_rows(losses, loss, rows);
}
KERNEL(cross_entropy_sum)

// dx[i] *= *by: the gradient that arrives at the loss, 1 unless the loss is scaled.
template <typename T> __global__ void cross_entropy_scale(T* dx, const f32* by, i64 n)
{
    for (i64 i = first(); i < n; i += step())
        dx[i] = from_f32<T>(to_f32(dx[i]) * *by);
}
KERNEL(cross_entropy_scale<f32>)
KERNEL(cross_entropy_scale<f16>)
KERNEL(cross_entropy_scale<bf16>)

// y = softmax(x) over rows, in f32.
template <typename T> __global__ void __launch_bounds__(256) softmax(const T* x, f32* y, i64 rows, i64 classes)
{
    const i32 lane = threadIdx.x % WARP;
    for (i64 row = first() / WARP; row < rows; row += step() / WARP) {
        f32 max, log_sum;
        row_statistics(x + row * classes, classes, max, log_sum);
        for (i64 i = lane; i < classes; i += WARP)
            y[row * classes + i] = expf(to_f32(x[row * classes + i]) - max - log_sum);
    }
}
KERNEL(softmax<f32>)
KERNEL(softmax<f16>)
KERNEL(softmax<bf16>)

// How many rows have their largest number at the target; ties go to the lower class. One block.
template <typename T> __global__ void __launch_bounds__(256) count_correct(const T* x, const i64* targets, i64* count, i64 rows, i64 classes)
{
    __shared__ i64 scratch[WARP];
    i64 right = 0;
    for (i64 row = threadIdx.x; row < rows; row += blockDim.x) {
        const T* p = x + row * classes;
        i64 best = 0;
        for (i64 i = 1; i < classes; i++)
            best = to_f32(p[i]) > to_f32(p[best]) ? i : best;
        right += best == targets[row];
    }
    right = block_sum(right, scratch);
    if (threadIdx.x == 0)
        *count = right;
}
KERNEL(count_correct<f32>)
KERNEL(count_correct<f16>)
KERNEL(count_correct<bf16>)
