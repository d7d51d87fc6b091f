// What the emulator's own parts cost: see emulator/examples/speed.rs.

#include "common.cuh"

__global__ void nothing() {}
KERNEL(nothing)

__global__ void barriers(i32 n)
{
    for (i32 i = 0; i < n; i++)
        __syncthreads();
}
KERNEL(barriers)

__global__ void shuffles(i32 n, u32* out)
{
    u32 x = threadIdx.x;
    for (i32 i = 0; i < n; i++)
        x = shuffle_xor(x, 1) + 1;
    if (x == 0)
        out[0] = x;
}
KERNEL(shuffles)

__global__ void products(i32 n, f32* out)
{
    const u32 a[4] = {0x3f803f80, 0x3f803f80, 0x3f803f80, 0x3f803f80}, b[2] = {0x3f803f80, 0x3f803f80};
    f32 d[4] = {};
    for (i32 i = 0; i < n; i++)
        mma_m16n8k16<bf16>(d, a, b);
    if (d[0] < 0)
        out[0] = d[0];
}
KERNEL(products)

// y = a x + y, number by number and in packs of 16 bytes.
__global__ void axpy(const f32* x, f32* y, i64 n)
{
    for (i64 i = first(); i < n; i += step())
        y[i] += 0.5f * x[i];
}
KERNEL(axpy)

__global__ void axpy_packs(const f32* x, f32* y, i64 n)
{
    for (i64 i = first() * 4; i < n; i += step() * 4) {
        f32 a[4], b[4];
        load_pack(x + i, a);
        load_pack(y + i, b);
        for (i32 k = 0; k < 4; k++)
            b[k] += 0.5f * a[k];
        store_pack(y + i, b);
    }
}
KERNEL(axpy_packs)
