//! The two tile kernels, written once for every vector type.

use super::{ABSENT, Run};

/// A register of numbers. All methods are `#[inline(always)]` in their implementations, so that a kernel compiled with an
/// instruction set's features uses that set's instructions.
pub(super) trait Vector: Copy {
    /// The number type.
    type Elem: Copy;
    /// Which lanes of a register take part in a load or store.
    type Mask: Copy;
    /// How many numbers it holds.
    const LANES: usize;

    fn zero() -> Self;
    fn splat(x: Self::Elem) -> Self;
    fn mul_add(self, b: Self, c: Self) -> Self;
    /// The mask of the first `n` lanes; all of them when `n` is larger.
    fn mask(n: usize) -> Self::Mask;
    /// # Safety
    /// `LANES` numbers can be read at `p`.
    unsafe fn load(p: *const Self::Elem) -> Self;
    /// Lanes outside the mask become 0 and their memory isn't touched.
    ///
    /// # Safety
    /// The masked numbers can be read at `p`.
    unsafe fn load_masked(p: *const Self::Elem, mask: Self::Mask) -> Self;
    /// # Safety
    /// `LANES` numbers can be written at `p`.
    unsafe fn store(self, p: *mut Self::Elem);
    /// # Safety
    /// The masked numbers can be written at `p`.
    unsafe fn store_masked(self, p: *mut Self::Elem, mask: Self::Mask);
}

/// One tile of [`super::gather_rows`].
pub(super) struct RowsArgs<T> {
    pub source: *const T,
    pub zeros: *const T,
    /// `[rows][taps]`
    pub offsets: *const u32,
    pub taps: usize,
    pub len: usize,
    /// `[taps * len][LANES * NV]`
    pub panel: *const T,
    pub out: *mut T,
    /// `[rows]`: where each row's result starts, from `out`.
    pub results: *const usize,
    /// Columns of the panel that exist.
    pub cols: usize,
}

/// `MR` rows times one panel of `NV` vectors.
///
/// # Safety
/// `args` describes `MR` rows whose runs, panel and results can be accessed.
#[inline(always)]
pub(super) unsafe fn gather<V: Vector, const MR: usize, const NV: usize>(args: &RowsArgs<V::Elem>) {
    // SAFETY: the caller's promise covers every address computed below.
    unsafe {
        let mut acc = [[V::zero(); NV]; MR];
        let mut b = args.panel;
        for t in 0..args.taps {
            let mut run = [args.zeros; MR];
            for i in 0..MR {
                let offset = *args.offsets.add(i * args.taps + t);
                if offset != ABSENT {
                    run[i] = args.source.add(offset as usize);
                }
            }
            for c in 0..args.len {
                let mut column = [V::zero(); NV];
                for j in 0..NV {
                    column[j] = V::load(b.add(j * V::LANES));
                }
                b = b.add(NV * V::LANES);
                for i in 0..MR {
                    let x = V::splat(*run[i].add(c));
                    for j in 0..NV {
                        acc[i][j] = x.mul_add(column[j], acc[i][j]);
                    }
                }
            }
        }
        let place = |i: usize, j: usize| args.out.wrapping_add(*args.results.add(i) + j * V::LANES);
        if args.cols >= NV * V::LANES {
            // Masked stores are slow even where the mask is full.
            for i in 0..MR {
                for j in 0..NV {
                    acc[i][j].store(place(i, j));
                }
            }
            return;
        }
        for j in 0..NV {
            let mask = V::mask(args.cols.saturating_sub(j * V::LANES));
            for i in 0..MR {
                acc[i][j].store_masked(place(i, j), mask);
            }
        }
    }
}

/// One tile of [`super::sum_outer`].
pub(super) struct OuterArgs<'a, T> {
    pub runs: &'a [Run],
    pub left: *const T,
    pub left_step: usize,
    pub right: *const T,
    pub right_step: usize,
    pub out: *mut T,
    pub out_step: usize,
    pub cols: usize,
    /// The tile starts at zero instead of at what `out` holds.
    pub first: bool,
}

/// `MR` rows and `NV` vectors of columns, over all pixels of the runs.
///
/// # Safety
/// `args` describes runs whose `MR` left and `cols` right numbers can be read, and a tile of `out` that can be written.
#[inline(always)]
pub(super) unsafe fn outer<V: Vector, const MR: usize, const NV: usize>(args: &OuterArgs<'_, V::Elem>) {
    // SAFETY: the caller's promise covers every address computed below.
    unsafe {
        let mut masks = [V::mask(0); NV];
        for j in 0..NV {
            masks[j] = V::mask(args.cols.saturating_sub(j * V::LANES));
        }
        let place = |i: usize, j: usize| args.out.wrapping_add(i * args.out_step + j * V::LANES);
        let mut acc = [[V::zero(); NV]; MR];
        if !args.first {
            for i in 0..MR {
                for j in 0..NV {
                    acc[i][j] = V::load_masked(place(i, j), masks[j]);
                }
            }
        }
        for run in args.runs {
            let mut l = args.left.add(run.left);
            let mut r = args.right.wrapping_add(run.right);
            for _ in 0..run.count {
                let mut right = [V::zero(); NV];
                for j in 0..NV {
                    right[j] = V::load_masked(r.wrapping_add(j * V::LANES), masks[j]);
                }
                for i in 0..MR {
                    let x = V::splat(*l.add(i));
                    for j in 0..NV {
                        acc[i][j] = x.mul_add(right[j], acc[i][j]);
                    }
                }
                l = l.wrapping_add(args.left_step);
                r = r.wrapping_add(args.right_step);
            }
        }
        if args.cols >= NV * V::LANES {
            for i in 0..MR {
                for j in 0..NV {
                    acc[i][j].store(place(i, j));
                }
            }
            return;
        }
        for i in 0..MR {
            for j in 0..NV {
                acc[i][j].store_masked(place(i, j), masks[j]);
            }
        }
    }
}

/// `rounds` times 12 independent multiply-adds of registers; returns the multiply-adds of single numbers.
#[inline(always)]
pub(super) fn spin<V: Vector>(rounds: usize, x: V::Elem) -> usize {
    let (by, mut acc) = (V::splat(x), [V::splat(x); 12]);
    for _ in 0..rounds {
        for a in &mut acc {
            *a = a.mul_add(by, by);
        }
    }
    std::hint::black_box(acc);
    rounds * acc.len() * V::LANES
}

/// Calls `$kernel::<$v, MR, $nv>` with `MR` equal to the run-time `$rows`, one of the listed heights.
macro_rules! by_height {
    ($kernel:ident::<$v:ty, $nv:literal>($args:expr, $rows:expr): $($mr:literal)*) => {
        match $rows {
            $($mr => $crate::device::cpu::gemm::kernel::$kernel::<$v, $mr, $nv>($args),)*
            other => unreachable!("tiles have at most as many rows as the kernel, not {other}"),
        }
    };
}
pub(super) use by_height;
