//! Rows of a table by their numbers.
//!
//! ```text
//! take_rows: y[i, ..] = table[rows[i], ..]
//! put_rows:  table[rows[i], ..] = values[i, ..]
//! ```
//!
//! Neither has a gradient: tables of pictures are made of bytes.

mod cpu;
pub(crate) mod cuda;

use crate::autograd::refuse_grad;
use crate::device::Device;
use crate::tensor::{Tensor, for_element};
use crate::{Error, Result};

/// The `rows` of `table [M, ..]`, in that order and as often as they are named: `[N, ..]`.
///
/// # Errors
/// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when `table` is a scalar or a row isn't in it.
pub fn take_rows(table: &Tensor, rows: &[usize]) -> Result<Tensor> {
    refuse_grad("take_rows", &[table])?;
    let mut shape = check("take_rows", table, rows)?;
    shape[0] = rows.len();
    let mut y = Tensor::uninit(shape, table.dtype(), table.device())?;
    match table.device() {
        Device::Cpu => for_element!(table.dtype(), T => cpu::take::<T>(table.cpu(), rows, y.cpu_mut())),
        Device::Cuda(gpu) => cuda::take(gpu, table, rows, &mut y)?,
    }
    Ok(y)
}

/// Replaces the `rows` of `table [M, ..]` by those of `values [N, ..]`, in place.
///
/// # Errors
/// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when shapes, dtypes or devices don't fit, or a row isn't in the table or is named
/// twice.
pub fn put_rows(table: &mut Tensor, rows: &[usize], values: &Tensor) -> Result<()> {
    refuse_grad("put_rows", &[table, values])?;
    let mut shape = check("put_rows", table, rows)?;
    shape[0] = rows.len();
    if values.shape()[..] != shape[..] || values.dtype() != table.dtype() || values.device() != table.device() {
        let of = |t: &Tensor| format!("{} {} on {}", t.dtype(), t.shape(), t.device());
        return Err(Error::shape("put_rows", format!("{} rows of {} from {}", rows.len(), of(table), of(values))));
    }
    let mut sorted = rows.to_vec();
    sorted.sort_unstable();
    if let Some(twice) = sorted.windows(2).find(|w| w[0] == w[1]) {
        return Err(Error::shape("put_rows", format!("row {} is named twice", twice[0])));
    }
    match table.device() {
        Device::Cpu => for_element!(table.dtype(), T => cpu::put::<T>(table.cpu_mut(), rows, values.cpu())),
        Device::Cuda(gpu) => cuda::put(gpu, table, rows, values)?,
    }
    Ok(())
}

/// The table's shape, if all rows are in it.
fn check(op: &str, table: &Tensor, rows: &[usize]) -> Result<Vec<usize>> {
    let Some(&m) = table.shape().first() else { return Err(Error::shape(op, "a scalar has no rows")) };
    match rows.iter().find(|&&r| r >= m) {
        Some(r) => Err(Error::shape(op, format!("row {r} of a table {}", table.shape()))),
        None => Ok(table.shape().to_vec()),
    }
}
