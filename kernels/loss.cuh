// The last step of every loss: the sum of the rows' shares, in an order that never changes.

#pragma once
#include "common.cuh"

// *loss = the sum of losses [rows]. For one block.
__device__ __forceinline__ void sum_of_rows(const f32* losses, f32* loss, i64 rows)
{
    __shared__ f64 scratch[WARP];
    f64 sum = 0;
    for (i64 row = threadIdx.x; row < rows; row += blockDim.x)
        sum += losses[row];
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0)
        *loss = (f32)sum;
}
