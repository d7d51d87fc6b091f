//! Rows of a table on a GPU: `kernels/rows.cu`.

use crate::Result;
use crate::device::cuda::driver::{Launch, THREADS};
use crate::device::cuda::{Gpu, Memory, kernel};
use crate::tensor::Tensor;

/// Bytes of a row of `table [M, ..]`.
fn row_bytes(table: &Tensor) -> usize {
    table.numel() / table.shape()[0].max(1) * table.dtype().size()
}

fn upload(gpu: Gpu, rows: &[usize]) -> Result<Memory> {
    let rows: Vec<i64> = rows.iter().map(|&r| r as i64).collect();
    gpu.upload_table(&rows)
}

/// A column of blocks for each row, at most 64 of them.
fn launch(rows: usize, bytes: usize) -> Launch {
    let blocks = bytes.div_ceil(16 * THREADS as usize).min(64);
    Launch { grid: [blocks as u32, rows as u32, 1], block: [THREADS, 1, 1], shared: 0 }
}

pub(super) fn take(gpu: Gpu, table: &Tensor, rows: &[usize], y: &mut Tensor) -> Result<()> {
    let bytes = row_bytes(table);
    for (i, rows) in rows.chunks(MOST_ROWS).enumerate() {
        let numbers = upload(gpu, rows)?;
        let to = y.address_mut()?.offset(i * MOST_ROWS * bytes);
        let arguments = (table.address(), numbers.address(), to, bytes as i64);
        // SAFETY: every row is in the table, and y has room for all of them.
        unsafe { gpu.launch(kernel!("take_rows"), launch(rows.len(), bytes), arguments)? };
    }
    Ok(())
}

pub(super) fn put(gpu: Gpu, table: &mut Tensor, rows: &[usize], values: &Tensor) -> Result<()> {
    let bytes = row_bytes(table);
    let to = table.address_mut()?;
    for (i, rows) in rows.chunks(MOST_ROWS).enumerate() {
        let numbers = upload(gpu, rows)?;
        let from = values.address().offset(i * MOST_ROWS * bytes);
        let arguments = (to, numbers.address(), from, bytes as i64);
        // SAFETY: every row is in the table and named once, and `values` has that many.
        unsafe { gpu.launch(kernel!("put_rows"), launch(rows.len(), bytes), arguments)? };
    }
    Ok(())
}

/// The most blocks along y.
const MOST_ROWS: usize = 65_535;
