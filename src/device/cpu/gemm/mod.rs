//! The two matrix products that convolutions and linear layers are made of.
//!
//! Nothing here copies pictures into columns (im2col). A row of the left matrix is not a place in memory but a list of
//! places, one for each tap of the filter, and the kernel walks them:
//!
//! - [`gather_rows`]: `out[m, :] = sum over taps t: A[m, t] · B[t]`, where `A[m, t]` is a run of `len` numbers found through a
//!   table of offsets. With output pixels as rows it is the convolution, with input pixels as rows its input gradient, with
//!   samples as rows a linear layer.
//! - [`sum_outer`]: `out[i, j] += sum over pixels p: L[p, i] * R[p, j]`: the weight gradient.
//!
//! Both hold a tile of the output in registers (14 x 32 numbers with AVX-512) while they walk the whole depth. Per step of
//! the depth a tile loads 2 vectors and 14 single numbers for 28 multiply-adds, so it is bound by arithmetic, not by loads.
//! The kernels are written once, over the `Vector` trait; `avx.rs` has its 512-bit and 256-bit forms, `portable.rs` the
//! plain one that every other processor, and f64, uses.
//!
//! Every number of the output is summed in the order of the depth, whatever the tile and the thread: the bits don't depend
//! on how the work is cut.

#[cfg(target_arch = "x86_64")]
mod avx;
mod kernel;
mod portable;

use super::buffer::Buffer;
use super::threads::{par_for, thread_count};
use crate::tensor::Float;
use kernel::{OuterArgs, RowsArgs};
use std::marker::PhantomData;

/// A row that isn't there: it counts as zeros (the padding of a convolution).
pub const ABSENT: u32 = u32::MAX;

/// The kernels of one number type on this processor, and the tile they compute.
pub struct Kernels<T: 'static> {
    /// Rows of a tile, at most.
    pub rows: usize,
    /// Columns of a tile: the width of a packed panel.
    pub cols: usize,
    gather: fn(&RowsArgs<T>, usize),
    outer: fn(&OuterArgs<T>, usize),
    /// `to[d * to_step + c] = from[c * from_step + d]` for `c` and `d` in `0..8`.
    transpose: fn(&[T], usize, &mut [T], usize),
    spin: fn(usize) -> usize,
}

impl<T> Kernels<T> {
    /// Does `rounds` rounds of independent multiply-adds on registers and returns how many there were: what the tile kernels
    /// could reach if nothing ever had to be loaded.
    pub fn spin(&self, rounds: usize) -> usize {
        (self.spin)(rounds)
    }
}

/// Number types that have kernels.
pub trait Gemm: Float {
    /// The kernels for this processor.
    fn kernels() -> &'static Kernels<Self>;
}

impl Gemm for f32 {
    fn kernels() -> &'static Kernels<f32> {
        #[cfg(target_arch = "x86_64")]
        match super::simd::level() {
            super::simd::Level::Avx512 => return &avx::AVX512,
            super::simd::Level::Avx2 => return &avx::AVX2,
            super::simd::Level::Portable => {}
        }
        &portable::F32
    }
}

impl Gemm for f64 {
    fn kernels() -> &'static Kernels<f64> {
        &portable::F64
    }
}

/// A matrix `[depth, cols]` cut into panels of [`Kernels::cols`] columns, each panel contiguous and padded with zeros.
pub struct Packed<T> {
    data: Buffer,
    depth: usize,
    cols: usize,
    of: PhantomData<T>,
}

impl<T: Gemm> Packed<T> {
    /// Memory for the panels, zeros where the last one is padded.
    fn panels(depth: usize, cols: usize) -> Buffer {
        let width = T::kernels().cols;
        let mut data = Buffer::uninit(cols.div_ceil(width) * depth * width * size_of::<T>());
        if !cols.is_multiple_of(width) {
            let from = cols / width * depth * width;
            data.as_mut_slice::<T>()[from..].fill(T::ZERO);
        }
        data
    }

    /// Packs the matrix whose row `d` is `row(d)`, a slice of `cols` numbers.
    pub fn from_rows<'a>(depth: usize, cols: usize, row: impl Fn(usize) -> &'a [T] + Sync) -> Packed<T> {
        let width = T::kernels().cols;
        let mut data = Self::panels(depth, cols);
        if depth > 0 {
            super::par_chunks_mut(data.as_mut_slice(), depth * width, |panel, out| {
                let from = panel * width;
                let n = width.min(cols - from);
                for (d, out) in out.chunks_exact_mut(width).enumerate() {
                    out[..n].copy_from_slice(&row(d)[from..from + n]);
                }
            });
        }
        Packed { data, depth, cols, of: PhantomData }
    }

    /// Packs the matrix whose column `c` is `m[c * depth..][..depth]`: the transpose of a row-major `[cols, depth]`.
    pub fn from_columns(depth: usize, cols: usize, m: &[T]) -> Packed<T> {
        let width = T::kernels().cols;
        let mut data = Self::panels(depth, cols);
        if depth > 0 {
            super::par_chunks_mut(data.as_mut_slice(), depth * width, |panel, out| {
                let from = panel * width;
                let n = width.min(cols - from);
                let m = &m[from * depth..][..n * depth];
                let (whole_d, whole_c) = (depth / 8 * 8, n / 8 * 8);
                // 16 numbers of each column at a time: whole cache lines of the source, a tile of the target that stays in L1.
                for d0 in (0..whole_d).step_by(16) {
                    for c in (0..whole_c).step_by(8) {
                        for d in (d0..(d0 + 16).min(whole_d)).step_by(8) {
                            (T::kernels().transpose)(&m[c * depth + d..], depth, &mut out[d * width + c..], width);
                        }
                    }
                }
                for c in 0..n {
                    for d in if c < whole_c { whole_d } else { 0 }..depth {
                        out[d * width + c] = m[c * depth + d];
                    }
                }
            });
        }
        Packed { data, depth, cols, of: PhantomData }
    }
}

/// What [`gather_rows`] computes: where each row of the left matrix is, and where its result goes.
pub struct Gather<'a, T> {
    /// The numbers that rows are found in.
    pub source: &'a [T],
    /// How many runs make one row.
    pub taps: usize,
    /// Length of each run.
    pub len: usize,
    /// Number of rows.
    pub rows: usize,
    /// Fills in, for a row, where its runs start in `source` (or [`ABSENT`]), and returns where its result starts in the output.
    pub locate: &'a (dyn Fn(usize, &mut [u32]) -> usize + Sync),
}

/// Row tiles that one task computes against each panel in turn: their offsets are found once and stay in L1.
const TILES_PER_TASK: usize = 16;

/// Numbers that are visited again and again and should stay in the second-level cache meanwhile: 256 KiB of f32.
const CACHED: usize = 64 * 1024;

/// `out[locate(m)..][..cols] = A[m] · B` for every row `m`; see the [module](self). The rows' places in `out` must not overlap.
///
/// # Panics
/// When a run or a result would lie outside its slice.
pub fn gather_rows<T: Gemm>(a: &Gather<'_, T>, b: &Packed<T>, out: &mut [T]) {
    assert_eq!(a.taps * a.len, b.depth, "the rows' length is the depth");
    if a.rows == 0 || b.cols == 0 {
        return;
    }
    let kernels = T::kernels();
    let zeros = vec![T::ZERO; a.len];
    // Every panel walks over the block's rows again; neighbouring pixels share most of what a filter sees, so a row brings about
    // one run that is new. 1,024 numbers a row and 16 tiles would be 900 KiB, all of a second-level cache: next to busy neighbours
    // such a 1x1 convolution ran at 67 instead of 98 GFLOP/s; on a quiet machine it makes no difference.
    let tiles = (CACHED / (kernels.rows * a.len)).clamp(2, TILES_PER_TASK);
    let blocks = Tiles::new(a.rows, kernels.rows * tiles);
    let blocks: Vec<(usize, usize)> = blocks.iter().collect();
    let panels = b.cols.div_ceil(kernels.cols);
    // Few rows (late layers, small batches): share out the panels as well.
    let groups = (4 * thread_count()).div_ceil(blocks.len()).clamp(1, panels);
    let per_group = panels.div_ceil(groups);
    let target = SharedMut::new(out);
    par_for(blocks.len() * groups, |task| {
        let (block, group) = (task / groups, task % groups);
        let (first, count) = blocks[block];
        let tiles = Tiles::new(count, kernels.rows);
        // [row][tap], and where each row's result goes
        let mut offsets = vec![ABSENT; count * a.taps];
        let mut results = vec![0usize; count];
        for m in 0..count {
            let runs = &mut offsets[m * a.taps..][..a.taps];
            results[m] = (a.locate)(first + m, runs);
            assert!(results[m] + b.cols <= target.len, "a result lies inside the output");
            let inside = |&o: &u32| o == ABSENT || o as usize + a.len <= a.source.len();
            assert!(runs.iter().all(inside), "a run lies inside the source");
        }
        for panel in (group * per_group)..((group + 1) * per_group).min(panels) {
            let from = panel * kernels.cols;
            for (row, height) in tiles.iter() {
                let args = RowsArgs {
                    source: a.source.as_ptr(),
                    zeros: zeros.as_ptr(),
                    offsets: offsets[row * a.taps..].as_ptr(),
                    taps: a.taps,
                    len: a.len,
                    panel: b.data.as_slice::<T>()[panel * b.depth * kernels.cols..].as_ptr(),
                    out: target.at(from),
                    results: results[row..].as_ptr(),
                    cols: kernels.cols.min(b.cols - from),
                };
                (kernels.gather)(&args, height);
            }
        }
    });
}

/// A stretch of neighbouring pixels of [`sum_outer`].
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Where the first pixel's numbers start in the left source.
    pub left: usize,
    /// Where they start in the right source.
    pub right: usize,
    /// Number of pixels.
    pub count: usize,
}

/// What [`sum_outer`] computes for each group: `out[g][i, j] = sum over the group's pixels: L[p, i] * R[p, j]`.
pub struct Outer<'a, T> {
    /// Numbers of the left factor; a pixel has `rows` of them, pixels of a run are `left_step` apart.
    pub left: &'a [T],
    /// Distance between pixels of a run in `left`.
    pub left_step: usize,
    /// Numbers of the right factor; a pixel has `cols` of them.
    pub right: &'a [T],
    /// Distance between pixels of a run in `right`.
    pub right_step: usize,
    /// Rows of the result.
    pub rows: usize,
    /// Columns of the result.
    pub cols: usize,
    /// The runs of pixels of each group (each tap of the filter).
    pub groups: &'a [Vec<Run>],
}

/// Weight gradient: `out` is `[rows, groups, cols]`; see [`Outer`].
///
/// # Panics
/// When a run lies outside its source.
pub fn sum_outer<T: Gemm>(a: &Outer<'_, T>, out: &mut [T]) {
    let groups = a.groups.len();
    assert_eq!(out.len(), a.rows * groups * a.cols, "the output is [rows, groups, cols]");
    for run in a.groups.iter().flatten().filter(|r| r.count > 0) {
        assert!(run.left + (run.count - 1) * a.left_step + a.rows <= a.left.len(), "a run lies inside the left factor");
        assert!(
            run.right + (run.count - 1) * a.right_step + a.cols <= a.right.len(),
            "a run lies inside the right one"
        );
    }
    if out.is_empty() {
        return;
    }
    let kernels = T::kernels();
    let row_tiles: Vec<_> = Tiles::new(a.rows, kernels.rows).iter().collect();
    let col_tiles = a.cols.div_ceil(kernels.cols);
    // Pixels are taken in slices that fit the cache, and every tile visits a slice before the next one is fetched.
    let slice = (CACHED / (a.rows + a.cols)).max(16);
    let sliced: Vec<Vec<Vec<Run>>> = a.groups.iter().map(|runs| cut(runs, slice, a.left_step, a.right_step)).collect();
    let slices = sliced.iter().map(Vec::len).max().unwrap_or(0).max(1);
    let units = groups * col_tiles * row_tiles.len();
    let tasks = (2 * thread_count()).min(units);
    let target = SharedMut::new(out);
    par_for(tasks, |task| {
        for s in 0..slices {
            for unit in (task * units / tasks)..((task + 1) * units / tasks) {
                let (row, height) = row_tiles[unit % row_tiles.len()];
                let (group, col_tile) = (unit / row_tiles.len() / col_tiles, unit / row_tiles.len() % col_tiles);
                let runs: &[Run] = sliced[group].get(s).map_or(&[], |runs| runs);
                if runs.is_empty() && s > 0 {
                    continue;
                }
                let from = col_tile * kernels.cols;
                let args = OuterArgs {
                    runs,
                    left: a.left[row..].as_ptr(),
                    left_step: a.left_step,
                    right: a.right[from.min(a.right.len())..].as_ptr(),
                    right_step: a.right_step,
                    out: target.at((row * groups + group) * a.cols + from),
                    out_step: groups * a.cols,
                    cols: kernels.cols.min(a.cols - from),
                    first: s == 0,
                };
                (kernels.outer)(&args, height);
            }
        }
    });
}

/// Cuts runs into slices of at most `pixels` pixels in all. Runs that continue each other become one: a 1x1 filter has one run
/// for all pictures.
fn cut(runs: &[Run], pixels: usize, left_step: usize, right_step: usize) -> Vec<Vec<Run>> {
    let mut slices = vec![Vec::new()];
    let mut room = pixels;
    for &run in runs {
        let mut rest = run;
        while rest.count > 0 {
            if room == 0 {
                slices.push(Vec::new());
                room = pixels;
            }
            let count = rest.count.min(room);
            let slice: &mut Vec<Run> = slices.last_mut().expect("there is a slice");
            let continues = |last: &Run| {
                last.left + last.count * left_step == rest.left && last.right + last.count * right_step == rest.right
            };
            match slice.last_mut().filter(|last| continues(last)) {
                Some(last) => last.count += count,
                None => slice.push(Run { count, ..rest }),
            }
            room -= count;
            rest.left += count * left_step;
            rest.right += count * right_step;
            rest.count -= count;
        }
    }
    slices
}

/// `total` rows cut into tiles of nearly equal height, at most `max`: 64 rows in tiles of 14 would leave one of 8 that
/// takes as long as a full one, 13 + 13 + 13 + 13 + 12 doesn't.
struct Tiles {
    total: usize,
    count: usize,
}

impl Tiles {
    fn new(total: usize, max: usize) -> Tiles {
        Tiles { total, count: total.div_ceil(max) }
    }

    fn iter(&self) -> impl Iterator<Item = (usize, usize)> {
        let (total, count) = (self.total, self.count);
        (0..count).map(move |i| {
            let from = i * total / count;
            (from, (i + 1) * total / count - from)
        })
    }
}

/// An output that several tasks write, each its own part.
struct SharedMut<T> {
    start: *mut T,
    len: usize,
}

// SAFETY: tasks write disjoint elements (`gather_rows` asks for rows that don't overlap and gives each task its own rows and
// columns; `sum_outer` gives each task its own tiles), and nobody reads before all tasks are done.
unsafe impl<T: Send> Sync for SharedMut<T> {}

impl<T> SharedMut<T> {
    fn new(out: &mut [T]) -> SharedMut<T> {
        SharedMut { start: out.as_mut_ptr(), len: out.len() }
    }

    fn at(&self, offset: usize) -> *mut T {
        assert!(offset <= self.len);
        // SAFETY: the offset is inside the slice or one past its end.
        unsafe { self.start.add(offset) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Rng};

    fn random(n: usize, seed: u64) -> Vec<f64> {
        let mut rng = Rng::at(seed, Purpose::Init, 0, 0);
        (0..n).map(|_| rng.normal()).collect()
    }

    /// Against the definition in f64, with ragged sizes, absent runs and a permuted output.
    fn check<T: Gemm>(tolerance: f64) {
        for (rows, taps, len, cols) in
            [(1, 1, 1, 1), (37, 3, 5, 33), (15, 2, 7, 70), (300, 1, 40, 31), (14, 9, 3, 64), (5, 0, 3, 4)]
        {
            let (x, w) = (random(rows * 2 + len + 50, 1), random(taps * len * cols, 2));
            let offset =
                |m: usize, t: usize| if (m + t) % 5 == 4 { None } else { Some((m * 2 + t * 3) % (rows * 2 + 50)) };
            let xt: Vec<T> = x.iter().map(|&v| T::of(v)).collect();
            let wt: Vec<T> = w.iter().map(|&v| T::of(v)).collect();
            let place = |m: usize| (rows - 1 - m) * cols;
            let locate = |m: usize, runs: &mut [u32]| {
                runs.iter_mut().enumerate().for_each(|(t, o)| *o = offset(m, t).map_or(ABSENT, |o| o as u32));
                place(m)
            };
            let gather = Gather { source: &xt, taps, len, rows, locate: &locate };
            let by_rows = Packed::from_rows(taps * len, cols, |d| &wt[d * cols..][..cols]);
            let mut transposed = vec![T::ZERO; wt.len()];
            (0..wt.len()).for_each(|i| transposed[i % cols * taps * len + i / cols] = wt[i]);
            let by_columns = Packed::from_columns(taps * len, cols, &transposed);
            for packed in [by_rows, by_columns] {
                let mut out = vec![T::of(9.0); rows * cols];
                gather_rows(&gather, &packed, &mut out);
                for m in 0..rows {
                    for n in 0..cols {
                        let mut want = 0.0;
                        for t in 0..taps {
                            let Some(o) = offset(m, t) else { continue };
                            want += (0..len).map(|c| x[o + c] * w[(t * len + c) * cols + n]).sum::<f64>();
                        }
                        let got = out[place(m) + n].f64();
                        assert!((got - want).abs() < tolerance, "{rows}x{cols} at {m},{n}: {got} for {want}");
                    }
                }
            }
        }
    }

    fn check_outer<T: Gemm>(tolerance: f64) {
        for (rows, cols, pixels) in [(1, 1, 1), (64, 64, 5000), (17, 35, 333), (70, 21, 60), (3, 100, 0)] {
            let (l, r) = (random(rows * (pixels + 2), 3), random(cols * (pixels + 9), 4));
            let lt: Vec<T> = l.iter().map(|&v| T::of(v)).collect();
            let rt: Vec<T> = r.iter().map(|&v| T::of(v)).collect();
            let third = pixels / 3;
            let groups = [
                vec![
                    Run { left: 0, right: cols, count: third },
                    Run { left: third * rows, right: 0, count: pixels - third },
                ],
                vec![Run { left: 0, right: 0, count: pixels / 2 }],
                vec![],
            ];
            let outer = Outer { left: &lt, left_step: rows, right: &rt, right_step: cols, rows, cols, groups: &groups };
            let mut out = vec![T::of(7.0); rows * groups.len() * cols];
            sum_outer(&outer, &mut out);
            for (g, runs) in groups.iter().enumerate() {
                for i in 0..rows {
                    for j in 0..cols {
                        let one = |run: &Run| -> f64 {
                            (0..run.count).map(|p| l[run.left + p * rows + i] * r[run.right + p * cols + j]).sum()
                        };
                        let want: f64 = runs.iter().map(one).sum();
                        let got = out[(i * groups.len() + g) * cols + j].f64();
                        assert!((got - want).abs() < tolerance, "group {g} at {i},{j}: {got} for {want}");
                    }
                }
            }
        }
    }

    #[test]
    fn gathered_rows_equal_the_definition() {
        check::<f32>(2e-4);
        check::<f64>(1e-11);
    }

    #[test]
    fn outer_sums_equal_the_definition() {
        check_outer::<f32>(2e-3);
        check_outer::<f64>(1e-10);
    }
}
