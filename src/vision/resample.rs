//! Pillow's antialiased bilinear resampling of bytes, bit for bit.
//!
//! fastai resizes with Pillow, so equal pixels need Pillow's arithmetic, roundings included. Per axis, with `n` inputs and `m`
//! outputs, `scale = n / m`:
//!
//! * output `i` looks at the input around `c = (i + 0.5) * scale`, at a distance of at most `max(scale, 1)`: shrinking
//!   averages over all that it covers, enlarging blends two neighbours;
//! * the weights fall linearly with the distance (a triangle), are normalised in f64, and become fixed-point numbers with
//!   22 fractional bits;
//! * the output is the weighted sum, rounded **to a byte** before the other axis is done.
//!
//! The horizontal pass comes first, except that Pillow 13 starts vertically when the height shrinks by more than twice as
//! many pixels as the width. The order is worth one level.
//!
//! **Speed.** A weight has up to 23 bits, so a plain SIMD version multiplies 32-bit numbers (`pmulld`, two instructions'
//! time for 8 products). Splitting a weight into two halves of 11 bits makes both fit `pmaddwd`, which multiplies 16 pairs
//! of 16-bit numbers and adds neighbours in one instruction's time: the sum over the high halves, shifted by 11, plus the
//! sum over the low halves is the same integer. So taps are processed in pairs, the pair's weights interleaved as its
//! bytes are. The AVX2 path is chosen at run time; the scalar path gives the same bytes, which a test checks.

use crate::data::{Picture, buffer};

/// Fractional bits of a weight.
const BITS: u32 = 22;
/// Bits of the lower half of a weight.
const HALF: u32 = 11;

/// The picture at another size: Pillow's `resize((width, height), BILINEAR)`. A size of 0 is taken for 1.
///
/// ```
/// use onecycle::{data::Picture, vision::resample};
/// let two = Picture { width: 2, height: 1, rgb: vec![0, 0, 0, 200, 100, 50] };
/// assert_eq!(resample(&two, 1, 1).rgb, [100, 50, 25]);
/// ```
pub fn resample(picture: &Picture, width: usize, height: usize) -> Picture {
    resample_view(View::of(picture), width.max(1), height.max(1))
}

/// A rectangle of RGB pixels inside a larger buffer.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    bytes: &'a [u8], // from the rectangle's first byte on
    stride: usize,   // bytes from row to row
    width: usize,
    height: usize,
}

impl<'a> View<'a> {
    pub fn of(picture: &'a Picture) -> View<'a> {
        View { bytes: &picture.rgb, stride: picture.width * 3, width: picture.width, height: picture.height }
    }

    /// The part at (`left`, `top`), which must lie inside.
    pub fn part(self, left: usize, top: usize, width: usize, height: usize) -> View<'a> {
        debug_assert!(left + width <= self.width && top + height <= self.height);
        View { bytes: &self.bytes[top * self.stride + left * 3..], stride: self.stride, width, height }
    }

    fn row(&self, y: usize) -> &'a [u8] {
        &self.bytes[y * self.stride..][..self.width * 3]
    }

    fn copied(&self) -> Picture {
        let mut rgb = buffer::empty(self.width * self.height * 3);
        (0..self.height).for_each(|y| rgb.extend_from_slice(self.row(y)));
        Picture { width: self.width, height: self.height, rgb }
    }
}

/// [`resample`] of a part of a picture. Nothing outside the part is looked at: the result is that of a copy.
pub(crate) fn resample_view(source: View, width: usize, height: usize) -> Picture {
    resample_with(source, width, height, has_avx2())
}

fn resample_with(source: View, width: usize, height: usize, avx2: bool) -> Picture {
    let (w, h) = (source.width, source.height);
    if (w, h) == (width, height) {
        return source.copied();
    }
    if w == width {
        return vertical(source, height, avx2);
    }
    if h == height {
        return horizontal(source, width, avx2);
    }
    let vertical_first = height < h && (h - height) as i64 > 2 * (w as i64 - width as i64);
    let (half, whole);
    if vertical_first {
        half = vertical(source, height, avx2);
        whole = horizontal(View::of(&half), width, avx2);
    } else {
        half = horizontal(source, width, avx2);
        whole = vertical(View::of(&half), height, avx2);
    }
    half.recycle();
    whole
}

fn has_avx2() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::is_x86_feature_detected!("avx2");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

/// The weights of one axis.
struct Weights {
    /// Per output: the first input and how many there are.
    windows: Vec<(usize, usize)>,
    /// Pairs of weights for which each output has room.
    pairs: usize,
    /// [outputs, 2 * pairs] fixed point, padded with zeros.
    fixed: Vec<i32>,
    /// [outputs, pairs, 2]: the high halves of a pair in one i32 (first weight in the low 16 bits), then the low halves.
    halves: Vec<i32>,
}

impl Weights {
    fn new(n: usize, m: usize) -> Weights {
        let scale = n as f64 / m as f64;
        let support = scale.max(1.0);
        let mut real: Vec<Vec<f64>> = Vec::with_capacity(m);
        let mut windows = Vec::with_capacity(m);
        for i in 0..m {
            let c = (i as f64 + 0.5) * scale;
            // `as usize` truncates, and a negative number becomes 0: Pillow's max(0, trunc(..)).
            let lo = (c - support + 0.5) as usize;
            let hi = ((c + support + 0.5) as usize).min(n);
            let inverse = 1.0 / support;
            let weight = |j: usize| (1.0 - ((j as f64 - c + 0.5) * inverse).abs()).max(0.0);
            let raw: Vec<f64> = (lo..hi).map(weight).collect();
            let sum: f64 = raw.iter().sum();
            windows.push((lo, hi - lo));
            real.push(raw.into_iter().map(|w| w / sum).collect());
        }
        let pairs = windows.iter().map(|w| w.1.div_ceil(2)).max().unwrap_or(0);
        let mut fixed = vec![0; m * pairs * 2];
        for (row, weights) in fixed.chunks_exact_mut(pairs * 2).zip(&real) {
            row.iter_mut().zip(weights).for_each(|(k, w)| *k = (0.5 + w * f64::from(1 << BITS)) as i32);
        }
        let low = (1 << HALF) - 1;
        let halves = fixed
            .chunks_exact(2)
            .flat_map(|k| [k[0] >> HALF | (k[1] >> HALF) << 16, k[0] & low | (k[1] & low) << 16])
            .collect();
        Weights { windows, pairs, fixed, halves }
    }

    fn fixed(&self, i: usize) -> &[i32] {
        &self.fixed[i * self.pairs * 2..][..self.windows[i].1]
    }

    /// The packed pairs of output `i`, as many as its window needs.
    #[cfg(target_arch = "x86_64")]
    fn halves(&self, i: usize) -> &[i32] {
        &self.halves[i * self.pairs * 2..][..self.windows[i].1.div_ceil(2) * 2]
    }
}

fn to_byte(sum: i32) -> u8 {
    (sum >> BITS).clamp(0, 255) as u8
}

const ROUND: i32 = 1 << (BITS - 1);

fn horizontal(source: View, width: usize, avx2: bool) -> Picture {
    let weights = Weights::new(source.width, width);
    let mut rgb = buffer::zeroed(width * source.height * 3); // [h, width, 3]
    let mut y = 0;
    #[cfg(target_arch = "x86_64")]
    if avx2 {
        while y + 4 <= source.height {
            let out = &mut rgb[y * width * 3..][..4 * width * 3];
            // SAFETY: the processor has AVX2, as `avx2` says.
            let done = unsafe { x86::four_rows(&source.bytes[y * source.stride..], source.stride, &weights, out) };
            for r in 0..4 {
                horizontal_row(source.row(y + r), &weights, done, &mut out[r * width * 3..][..width * 3]);
            }
            y += 4;
        }
    }
    let _ = avx2;
    for y in y..source.height {
        horizontal_row(source.row(y), &weights, 0, &mut rgb[y * width * 3..][..width * 3]);
    }
    Picture { width, height: source.height, rgb }
}

/// Outputs `from..` of a row.
fn horizontal_row(row: &[u8], weights: &Weights, from: usize, out: &mut [u8]) {
    for (i, pixel) in out.chunks_exact_mut(3).enumerate().skip(from) {
        let (lo, _) = weights.windows[i];
        let mut sum = [ROUND; 3];
        for (k, rgb) in weights.fixed(i).iter().zip(row[lo * 3..].chunks_exact(3)) {
            for c in 0..3 {
                sum[c] += k * i32::from(rgb[c]);
            }
        }
        pixel.copy_from_slice(&sum.map(to_byte));
    }
}

fn vertical(source: View, height: usize, avx2: bool) -> Picture {
    let weights = Weights::new(source.height, height);
    let len = source.width * 3;
    let mut rgb = buffer::zeroed(height * len); // [height, w, 3]
    for (i, out) in rgb.chunks_exact_mut(len).enumerate() {
        let (lo, taps) = weights.windows[i];
        let mut from = 0;
        #[cfg(target_arch = "x86_64")]
        if avx2 {
            // SAFETY: the processor has AVX2, as `avx2` says.
            from = unsafe {
                x86::blend_rows(&source.bytes[lo * source.stride..], source.stride, taps, weights.halves(i), out)
            };
        }
        let _ = avx2;
        for x in from..len {
            let mut sum = ROUND;
            for (t, k) in weights.fixed(i).iter().enumerate().take(taps) {
                sum += k * i32::from(source.bytes[(lo + t) * source.stride + x]);
            }
            out[x] = to_byte(sum);
        }
    }
    Picture { width: source.width, height, rgb }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{BITS, HALF, ROUND, Weights};
    use std::arch::x86_64::*;

    /// The horizontal pass over four rows at once, which share weights: `out` is `[4, outputs, 3]`. Returns how many outputs
    /// of each row are done; the rest is the caller's, because a load of 8 bytes or a store of 4 could leave the buffers.
    #[target_feature(enable = "avx2")]
    pub fn four_rows(bytes: &[u8], stride: usize, weights: &Weights, out: &mut [u8]) -> usize {
        let outputs = weights.windows.len();
        // The last load of an output starts at its last pair of pixels, in the fourth row.
        let fits = |i: usize| {
            let (lo, taps) = weights.windows[i];
            3 * stride + (lo + taps.div_ceil(2) * 2 - 2) * 3 + 8 <= bytes.len()
        };
        // Windows only move right, so once an output fits, all before it do. The last one stores 4 bytes for 3.
        let mut done = outputs - 1;
        while done > 0 && !fits(done - 1) {
            done -= 1;
        }
        // r0 g0 b0 r1 g1 b1 becomes the 16-bit pairs (r0 r1) (g0 g1) (b0 b1); -1 writes 0.
        let spread =
            _mm256_broadcastsi128_si256(_mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1));
        let round = _mm256_set1_epi32(ROUND);
        for i in 0..done {
            let (lo, _) = weights.windows[i];
            let (mut high_a, mut low_a) = (_mm256_setzero_si256(), _mm256_setzero_si256());
            let (mut high_b, mut low_b) = (_mm256_setzero_si256(), _mm256_setzero_si256());
            for (pair, k) in weights.halves(i).chunks_exact(2).enumerate() {
                let (k_high, k_low) = (_mm256_set1_epi32(k[0]), _mm256_set1_epi32(k[1]));
                let at = (lo + 2 * pair) * 3;
                let load = |row: usize| {
                    debug_assert!(row * stride + at + 8 <= bytes.len());
                    // SAFETY: `fits` holds for this output, so the 8 bytes lie inside `bytes` for rows 0 to 3.
                    unsafe { _mm_loadl_epi64(bytes.as_ptr().add(row * stride + at).cast()) }
                };
                let a = _mm256_shuffle_epi8(_mm256_set_m128i(load(1), load(0)), spread);
                let b = _mm256_shuffle_epi8(_mm256_set_m128i(load(3), load(2)), spread);
                high_a = _mm256_add_epi32(high_a, _mm256_madd_epi16(a, k_high));
                low_a = _mm256_add_epi32(low_a, _mm256_madd_epi16(a, k_low));
                high_b = _mm256_add_epi32(high_b, _mm256_madd_epi16(b, k_high));
                low_b = _mm256_add_epi32(low_b, _mm256_madd_epi16(b, k_low));
            }
            let a = join(high_a, low_a, round); // lanes: row 0 | row 1
            let b = join(high_b, low_b, round); // lanes: row 2 | row 3
            let words = _mm256_packs_epi32(a, b); // row 0, row 2 | row 1, row 3
            let packed = _mm256_packus_epi16(words, words);
            let even = _mm256_castsi256_si128(packed);
            let odd = _mm256_extracti128_si256::<1>(packed);
            let pixels = [
                _mm_cvtsi128_si32(even),
                _mm_cvtsi128_si32(odd),
                _mm_extract_epi32::<1>(even),
                _mm_extract_epi32::<1>(odd),
            ];
            for (row, pixel) in pixels.into_iter().enumerate() {
                // The fourth byte lands on the next pixel, which is written later; `done` leaves out the last one.
                let at = (row * outputs + i) * 3;
                out[at..at + 4].copy_from_slice(&pixel.to_le_bytes());
            }
        }
        done
    }

    /// One output row as a weighted sum of `taps` rows. Returns how many bytes are done.
    #[target_feature(enable = "avx2")]
    pub fn blend_rows(bytes: &[u8], stride: usize, taps: usize, halves: &[i32], out: &mut [u8]) -> usize {
        let len = out.len();
        if len < 16 {
            return 0;
        }
        assert!((taps - 1) * stride + len <= bytes.len());
        let round = _mm256_set1_epi32(ROUND);
        let mut x = 0;
        loop {
            let (mut high_a, mut low_a) = (_mm256_setzero_si256(), _mm256_setzero_si256());
            let (mut high_b, mut low_b) = (_mm256_setzero_si256(), _mm256_setzero_si256());
            for (pair, k) in halves.chunks_exact(2).enumerate() {
                let (k_high, k_low) = (_mm256_set1_epi32(k[0]), _mm256_set1_epi32(k[1]));
                let load = |tap: usize| {
                    // SAFETY: `tap` < `taps` and x + 16 <= len, so the assertion above covers these 16 bytes.
                    unsafe { _mm_loadu_si128(bytes.as_ptr().add(tap * stride + x).cast()) }
                };
                // An odd tap at the end has no partner: any row will do, its weight is 0.
                let (first, second) = (load(2 * pair), load((2 * pair + 1).min(taps - 1)));
                let a = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(first, second)); // pairs of bytes 0..8
                let b = _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(first, second)); // pairs of bytes 8..16
                high_a = _mm256_add_epi32(high_a, _mm256_madd_epi16(a, k_high));
                low_a = _mm256_add_epi32(low_a, _mm256_madd_epi16(a, k_low));
                high_b = _mm256_add_epi32(high_b, _mm256_madd_epi16(b, k_high));
                low_b = _mm256_add_epi32(low_b, _mm256_madd_epi16(b, k_low));
            }
            let words = _mm256_packs_epi32(join(high_a, low_a, round), join(high_b, low_b, round));
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words); // undoes packing by halves
            let row = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            // SAFETY: x + 16 <= len = out.len().
            unsafe { _mm_storeu_si128(out.as_mut_ptr().add(x).cast(), row) };
            if x + 16 == len {
                return len;
            }
            // The last block overlaps the one before it instead of leaving a tail.
            x = (x + 16).min(len - 16);
        }
    }

    /// `(high << 11) + low`, rounded and shifted down to bytes.
    #[target_feature(enable = "avx2")]
    fn join(high: __m256i, low: __m256i, round: __m256i) -> __m256i {
        let sum = _mm256_add_epi32(_mm256_slli_epi32::<{ HALF as i32 }>(high), low);
        _mm256_srai_epi32::<{ BITS as i32 }>(_mm256_add_epi32(sum, round))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Rng};

    fn noise(rng: &mut Rng, width: usize, height: usize) -> Picture {
        Picture { width, height, rgb: (0..width * height * 3).map(|_| rng.next_u32() as u8).collect() }
    }

    #[test]
    fn simd_and_scalar_agree() {
        let mut rng = Rng::at(1, Purpose::Picture, 0, 0);
        for _ in 0..300 {
            let mut side = |limit: usize| 1 + rng.below(limit);
            let (w, h, tw, th) = (side(90), side(90), side(120), side(120));
            let picture = noise(&mut rng, w, h);
            let (pw, ph) = (1 + rng.below(w), 1 + rng.below(h));
            let view = View::of(&picture).part(rng.below(w - pw + 1), rng.below(h - ph + 1), pw, ph);
            let scalar = resample_with(view, tw, th, false);
            assert_eq!(resample_with(view, tw, th, has_avx2()).rgb, scalar.rgb, "{pw}x{ph} to {tw}x{th}");
            assert_eq!(resample_with(View::of(&view.copied()), tw, th, false).rgb, scalar.rgb);
        }
    }

    #[test]
    fn constant_pictures_stay_constant() {
        for value in [0, 1, 127, 255] {
            for (w, h, tw, th) in [(7, 5, 460, 460), (460, 460, 7, 3), (1, 1, 9, 9), (3000, 2, 5, 2)] {
                let flat = Picture { width: w, height: h, rgb: vec![value; w * h * 3] };
                assert!(resample(&flat, tw, th).rgb.iter().all(|&v| v == value), "{value} {w}x{h}");
            }
        }
    }
}
