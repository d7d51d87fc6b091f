//! 512-bit and 256-bit vectors of f32.

use super::Kernels;
use super::kernel::{OuterArgs, RowsArgs, Vector, by_height};
use std::arch::x86_64::*;

#[derive(Clone, Copy)]
struct F32x16(__m512);

// Every intrinsic below runs only inside the kernels of `AVX512`, which `Gemm::kernels` hands out on processors that have
// the instructions.
impl Vector for F32x16 {
    type Elem = f32;
    type Mask = __mmask16;
    const LANES: usize = 16;

    #[inline(always)]
    fn zero() -> Self {
        // SAFETY: the processor has AVX-512 (see above).
        F32x16(unsafe { _mm512_setzero_ps() })
    }
    #[inline(always)]
    fn splat(x: f32) -> Self {
        // SAFETY: as above.
        F32x16(unsafe { _mm512_set1_ps(x) })
    }
    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: as above.
        F32x16(unsafe { _mm512_fmadd_ps(self.0, b.0, c.0) })
    }
    #[inline(always)]
    fn mask(n: usize) -> __mmask16 {
        if n >= 16 { !0 } else { (1 << n) - 1 }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: as above, and the caller promises the memory.
        F32x16(unsafe { _mm512_loadu_ps(p) })
    }
    #[inline(always)]
    unsafe fn load_masked(p: *const f32, mask: __mmask16) -> Self {
        // SAFETY: as above; lanes outside the mask don't touch memory.
        F32x16(unsafe { _mm512_maskz_loadu_ps(mask, p) })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: as above, and the caller promises the memory.
        unsafe { _mm512_storeu_ps(p, self.0) }
    }
    #[inline(always)]
    unsafe fn store_masked(self, p: *mut f32, mask: __mmask16) {
        // SAFETY: as above; lanes outside the mask don't touch memory.
        unsafe { _mm512_mask_storeu_ps(p, mask, self.0) }
    }
}

#[derive(Clone, Copy)]
struct F32x8(__m256);

// As above, for `AVX2`.
impl Vector for F32x8 {
    type Elem = f32;
    type Mask = __m256i;
    const LANES: usize = 8;

    #[inline(always)]
    fn zero() -> Self {
        // SAFETY: the processor has AVX2 and FMA (see above).
        F32x8(unsafe { _mm256_setzero_ps() })
    }
    #[inline(always)]
    fn splat(x: f32) -> Self {
        // SAFETY: as above.
        F32x8(unsafe { _mm256_set1_ps(x) })
    }
    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: as above.
        F32x8(unsafe { _mm256_fmadd_ps(self.0, b.0, c.0) })
    }
    #[inline(always)]
    fn mask(n: usize) -> __m256i {
        // SAFETY: as above.
        unsafe { _mm256_cmpgt_epi32(_mm256_set1_epi32(n.min(8) as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: as above, and the caller promises the memory.
        F32x8(unsafe { _mm256_loadu_ps(p) })
    }
    #[inline(always)]
    unsafe fn load_masked(p: *const f32, mask: __m256i) -> Self {
        // SAFETY: as above; lanes outside the mask don't touch memory.
        F32x8(unsafe { _mm256_maskload_ps(p, mask) })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: as above, and the caller promises the memory.
        unsafe { _mm256_storeu_ps(p, self.0) }
    }
    #[inline(always)]
    unsafe fn store_masked(self, p: *mut f32, mask: __m256i) {
        // SAFETY: as above; lanes outside the mask don't touch memory.
        unsafe { _mm256_maskstore_ps(p, mask, self.0) }
    }
}

#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
fn gather_512(args: &RowsArgs<f32>, rows: usize) {
    // SAFETY: `gather_rows` checked every run, panel and result of the tile.
    unsafe { by_height!(gather::<F32x16, 2>(args, rows): 1 2 3 4 5 6 7 8 9 10 11 12 13 14) }
}

#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
fn outer_512(args: &OuterArgs<'_, f32>, rows: usize) {
    // SAFETY: `sum_outer` checked every run and the tile.
    unsafe { by_height!(outer::<F32x16, 2>(args, rows): 1 2 3 4 5 6 7 8 9 10 11 12 13 14) }
}

#[target_feature(enable = "avx2,fma")]
fn gather_256(args: &RowsArgs<f32>, rows: usize) {
    // SAFETY: as `gather_512`.
    unsafe { by_height!(gather::<F32x8, 2>(args, rows): 1 2 3 4 5 6) }
}

#[target_feature(enable = "avx2,fma")]
fn outer_256(args: &OuterArgs<'_, f32>, rows: usize) {
    // SAFETY: as `outer_512`.
    unsafe { by_height!(outer::<F32x8, 2>(args, rows): 1 2 3 4 5 6) }
}

/// Transposes blocks of 8 x 8 in registers: 8 loads, 24 shuffles and 8 stores for 64 numbers, instead of 64 loads and 64 stores.
#[target_feature(enable = "avx2,fma")]
fn transpose_8x8(from: &[f32], from_step: usize, to: &mut [f32], to_step: usize) {
    assert!(7 * from_step + 8 <= from.len() && 7 * to_step + 8 <= to.len(), "the block lies inside both matrices");
    let (p, q) = (from.as_ptr(), to.as_mut_ptr());
    // SAFETY: the assertion covers all eight rows of both.
    let row = |i: usize| unsafe { _mm256_loadu_ps(p.add(i * from_step)) };
    // Pairs of rows, then of pairs, then of halves: after each, twice as many numbers of one column stand together.
    let pair = |i: usize| (_mm256_unpacklo_ps(row(i), row(i + 1)), _mm256_unpackhi_ps(row(i), row(i + 1)));
    let four = |i: usize| {
        let ((a, b), (c, d)) = (pair(i), pair(i + 2));
        [
            _mm256_shuffle_ps::<0b01_00_01_00>(a, c),
            _mm256_shuffle_ps::<0b11_10_11_10>(a, c),
            _mm256_shuffle_ps::<0b01_00_01_00>(b, d),
            _mm256_shuffle_ps::<0b11_10_11_10>(b, d),
        ]
    };
    let (upper, lower) = (four(0), four(4));
    for j in 0..4 {
        let (left, right) =
            (_mm256_permute2f128_ps::<0x20>(upper[j], lower[j]), _mm256_permute2f128_ps::<0x31>(upper[j], lower[j]));
        // SAFETY: as above.
        unsafe {
            _mm256_storeu_ps(q.add(j * to_step), left);
            _mm256_storeu_ps(q.add((j + 4) * to_step), right);
        }
    }
}

#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
fn spin_512(rounds: usize) -> usize {
    super::kernel::spin::<F32x16>(rounds, 0.5)
}

#[target_feature(enable = "avx2,fma")]
fn spin_256(rounds: usize) -> usize {
    super::kernel::spin::<F32x8>(rounds, 0.5)
}

// Register budgets: 14 x 2 accumulators + 2 columns + 1 broadcast of 32 registers; 6 x 2 + 2 + 1 of 16.
pub(super) static AVX512: Kernels<f32> = Kernels {
    rows: 14,
    cols: 32,
    // SAFETY: `Gemm::kernels` hands this table out only where `simd::level` found the instructions.
    gather: |args, rows| unsafe { gather_512(args, rows) },
    // SAFETY: as above.
    outer: |args, rows| unsafe { outer_512(args, rows) },
    // SAFETY: as above.
    transpose: |from, from_step, to, to_step| unsafe { transpose_8x8(from, from_step, to, to_step) },
    // SAFETY: as above.
    spin: |rounds| unsafe { spin_512(rounds) },
};
pub(super) static AVX2: Kernels<f32> = Kernels {
    rows: 6,
    cols: 16,
    // SAFETY: as above.
    gather: |args, rows| unsafe { gather_256(args, rows) },
    // SAFETY: as above.
    outer: |args, rows| unsafe { outer_256(args, rows) },
    // SAFETY: as above.
    transpose: |from, from_step, to, to_step| unsafe { transpose_8x8(from, from_step, to, to_step) },
    // SAFETY: as above.
    spin: |rounds| unsafe { spin_256(rounds) },
};
