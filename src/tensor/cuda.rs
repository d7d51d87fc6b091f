//! What a tensor does by itself on a GPU; the kernels are in `kernels/tensor.cu`, and the sum in `add.cu`.

use super::{DType, Element, Shape, Tensor, for_element};
use crate::Result;
use crate::device::cuda::driver::Launch;
use crate::device::cuda::{Gpu, kernel, per_float};
use crate::device::{Device, Storage};

/// `value` everywhere.
pub(super) fn full(gpu: Gpu, value: f64, shape: Shape, dtype: DType) -> Result<Tensor> {
    let n = shape.numel();
    let mut memory = gpu.allocate(n * dtype.size())?;
    let bits = for_element!(dtype, T => {
        let mut bits = [0u8; 8];
        bits[..size_of::<T>()].copy_from_slice(bytemuck::bytes_of(&T::nearest(value)));
        u64::from_le_bytes(bits)
    });
    let at = memory.address();
    let launch = Launch::over(n);
    match dtype.size() {
        _ if bits == 0 => gpu.zero(&mut memory)?,
        // SAFETY: `at` has room for `n` bytes.
        1 => unsafe { gpu.launch(kernel!("fill<u8>"), launch, (at, bits as u8, n as i64))? },
        // SAFETY: `at` has room for `n` numbers of 16 bits.
        2 => unsafe { gpu.launch(kernel!("fill<u16>"), launch, (at, bits as u16, n as i64))? },
        // SAFETY: `at` has room for `n` numbers of 32 bits.
        4 => unsafe { gpu.launch(kernel!("fill<u32>"), launch, (at, bits as u32, n as i64))? },
        // SAFETY: `at` has room for `n` numbers of 64 bits.
        _ => unsafe { gpu.launch(kernel!("fill<u64>"), launch, (at, bits, n as i64))? },
    }
    Ok(Tensor::from_storage(Storage::Cuda(memory), shape, dtype))
}

/// `x` as another type; `None` for a pair that no kernel serves.
pub(super) fn cast(gpu: Gpu, x: &Tensor, dtype: DType) -> Option<Result<Tensor>> {
    use DType::{BF16, F16, F32, I64, U8};
    let kernel = match (x.dtype(), dtype) {
        (F32, F16) => kernel!("cast<f32, f16>"),
        (F32, BF16) => kernel!("cast<f32, bf16>"),
        (F16, F32) => kernel!("cast<f16, f32>"),
        (BF16, F32) => kernel!("cast<bf16, f32>"),
        (F16, BF16) => kernel!("cast<f16, bf16>"),
        (BF16, F16) => kernel!("cast<bf16, f16>"),
        (U8, F32) => kernel!("cast<u8, f32>"),
        (I64, F32) => kernel!("cast<i64, f32>"),
        _ => return None,
    };
    let run = || -> Result<Tensor> {
        let mut out = Tensor::uninit(x.shape(), dtype, Device::Cuda(gpu))?;
        let n = x.numel();
        let to = out.address_mut()?;
        // SAFETY: both have `n` numbers of the kernel's types.
        unsafe { gpu.launch(kernel, Launch::over(n), (x.address(), to, n as i64))? };
        Ok(out)
    };
    Some(run())
}

/// `a += b`, two tensors of one shape and type on `gpu`.
pub(super) fn accumulate(gpu: Gpu, a: &mut Tensor, b: &Tensor) -> Result<()> {
    let n = a.numel();
    let kernel = per_float!("add_forward").of(a.dtype())?;
    let to = a.address_mut()?;
    // SAFETY: both have `n` numbers of the kernel's type, which allows the sum in the place of its first operand.
    unsafe { gpu.launch(kernel, Launch::over(n), (to, b.address(), to, n as i64)) }
}
