// Losses number by number, of predictions x [rows, columns] against targets y: loss and gradient in one pass.
//
//     BCE with logits   loss = (1 - y) x + k softplus(-x),  dx = (1 - y) - k sigmoid(-x),  k = 1 + (weight - 1) y
//     MSE               loss = (x - y)²,                    dx = 2 (x - y)
//     L1                loss = |x - y|,                     dx = sign(x - y)
//
// both times u/(rows columns), with u the row's own weight.
//
// CPU reference: src/ops/pointwise_loss/cpu.rs. Launched by src/ops/pointwise_loss/cuda.rs.
//
// A warp takes a row, so that a row's loss is one sum in one order. A batch has 64 rows of a few labels; the time is that of the launch.
//
// Try it: cargo test --test emulator -- pointwise_loss        Bench: none; it is never more than two launches

#include "loss.cuh"

struct PointwiseLoss {
    i64 rows, columns;
    i32 kind; // 0 BCE with logits, 1 MSE, 2 L1
    i32 pad;
};
LAYOUT(PointwiseLoss, rows, columns, kind, pad)

// The loss of x against y, and its derivative.
__device__ __forceinline__ void one_loss(i32 kind, f32 weight, f32 x, f32 y, f32& loss, f32& slope)
{
    if (kind == 0) {
        const f32 k = 1 + (weight - 1) * y;
        const f32 away = x > 0 ? x : -x, tail = expf(-away); // exp(-|x|) is at most 1
        const f32 softplus = (x < 0 ? -x : 0) + logf(1 + tail);
        const f32 below = (x > 0 ? tail : 1) / (1 + tail); // sigmoid(-x)
        loss = (1 - y) * x + k * softplus;
        slope = (1 - y) - k * below;
    } else if (kind == 1) {
        loss = (x - y) * (x - y);
        slope = 2 * (x - y);
    } else {
        loss = x > y ? x - y : y - x;
        slope = x > y ? 1.0f : x < y ? -1.0f : x - y; // 0 where equal, and NaN stays NaN
    }
}

// x, targets [rows, columns], weights of positives [columns] or null, of rows [rows] or null -> dx [rows, columns], losses [rows] (their shares)
template <typename T>
__global__ void __launch_bounds__(256) pointwise_loss_rows(PointwiseLoss g, const T* x, const f32* targets, const f32* positives, const f32* shares, T* dx, f32* losses)
{
    const i32 lane = threadIdx.x % WARP;
    const f32 each = 1 / (f32)(g.rows * g.columns);
    for (i64 row = first() / WARP; row < g.rows; row += step() / WARP) {
        const f32 share = (shares ? shares[row] : 1) * each;
        f32 sum = 0;
        for (i64 column = lane; column < g.columns; column += WARP) {
            const i64 i = row * g.columns + column;
            f32 loss, slope;
            one_loss(g.kind, positives ? positives[column] : 1, to_f32(x[i]), targets[i], loss, slope);
            sum += loss;
            dx[i] = from_f32<T>(share * slope);
        }
        sum = warp_sum(sum);
        if (lane == 0)
            losses[row] = share * sum;
    }
}
KERNEL(pointwise_loss_rows<f32>)
KERNEL(pointwise_loss_rows<f16>)
KERNEL(pointwise_loss_rows<bf16>)

// loss = the sum of losses [rows]. One block.
__global__ void __launch_bounds__(256) pointwise_loss_sum(const f32* losses, f32* loss, i64 rows)
{
    sum_of_rows(losses, loss, rows);
}
KERNEL(pointwise_loss_sum)
