//! Rows of a table on the processor.

/// Numbers of a row, when there are `rows` of them in `all`.
fn width<T>(all: &[T], rows: &[usize]) -> usize {
    all.len() / rows.len().max(1)
}

pub(super) fn take<T: Copy>(table: &[T], rows: &[usize], y: &mut [T]) {
    let n = width(y, rows).max(1);
    for (y, &row) in y.chunks_exact_mut(n).zip(rows) {
        y.copy_from_slice(&table[row * n..][..n]);
    }
}

pub(super) fn put<T: Copy>(table: &mut [T], rows: &[usize], values: &[T]) {
    let n = width(values, rows).max(1);
    for (values, &row) in values.chunks_exact(n).zip(rows) {
        table[row * n..][..n].copy_from_slice(values);
    }
}
