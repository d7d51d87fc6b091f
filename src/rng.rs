//! Random numbers that depend on *what they are for*, never on when they are drawn.
//!
//! A training run draws for shuffling, crops, flips, dropout and initial weights. If all of them took turns at one
//! generator, the numbers would depend on the number of threads, on their order, and on everything drawn before: two runs
//! would differ, and a run could not be resumed in the middle. Here every draw has an address instead,
//! `(seed, purpose, epoch, item)`, and [`Rng::at`] computes the numbers at that address directly. So the same seed gives the
//! same pictures with 1 worker or 8, and batch 1,000 can be made without making the 999 before it.
//!
//! The generator is Philox4x32-10 (Salmon, Moraes, Dror, Shaw: *Parallel Random Numbers: As Easy as 1, 2, 3*, SC'11): ten
//! rounds of multiply and xor turn a 128-bit counter and a 64-bit key into 128 random bits. It is small enough to run
//! inside a CUDA kernel, where the same address gives the same bits.

/// What a stream of random numbers is for. Streams with different purposes never overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
#[non_exhaustive]
pub enum Purpose {
    /// Initial weights; `item` numbers the parameter.
    Init = 1,
    /// The order of the training items; `epoch` matters, `item` is 0.
    Shuffle = 2,
    /// Item transforms, such as the position of `Resize`'s crop; `item` is the index in the data set.
    ItemTransform = 3,
    /// Batch transforms, such as flip, crop and lighting; `item` is the index in the data set.
    BatchTransform = 4,
    /// Dropout masks; `item` numbers the layer, `epoch` is the training step.
    Dropout = 5,
    /// The quickstart's rendered pictures.
    Picture = 6,
    /// Splits of a data set that has no rule of fastai's.
    Split = 7,
    /// Boxes that are erased from a batch, and the noise in them; `item` is the index of the batch's first picture.
    Erase = 8,
    /// Partners and shares of mixed pictures; `item` is the batch.
    Mix = 9,
}

/// A counter-based random number generator; see the [module](self).
///
/// ```
/// use onecycle::rng::{Purpose, Rng};
/// let a = Rng::at(42, Purpose::ItemTransform, 3, 17).uniform();
/// let b = Rng::at(42, Purpose::ItemTransform, 3, 17).uniform();
/// assert_eq!(a, b);
/// ```
#[derive(Clone, Debug)]
pub struct Rng {
    key: [u32; 2],
    counter: [u32; 4],
    block: [u32; 4],
    used: usize,
}

/// Ten rounds of Philox4x32: 128 random bits for a key and a counter.
pub fn philox(key: [u32; 2], counter: [u32; 4]) -> [u32; 4] {
    let (mut k, mut c) = (key, counter);
    for _ in 0..10 {
        let a = u64::from(c[0]) * 0xD251_1F53;
        let b = u64::from(c[2]) * 0xCD9E_8D57;
        c = [(b >> 32) as u32 ^ c[1] ^ k[0], b as u32, (a >> 32) as u32 ^ c[3] ^ k[1], a as u32];
        k = [k[0].wrapping_add(0x9E37_79B9), k[1].wrapping_add(0xBB67_AE85)];
    }
    c
}

impl Rng {
    /// The stream at an address: a run's `seed`, what the numbers are for, the epoch (or step) and the item.
    pub fn at(seed: u64, purpose: Purpose, epoch: u64, item: u64) -> Rng {
        // The counter's first word counts blocks of the stream; epoch and purpose share the last one (24 + 8 bits).
        let tag = (epoch as u32) << 8 | purpose as u32;
        let counter = [0, item as u32, (item >> 32) as u32 ^ (epoch >> 24) as u32, tag];
        Rng { key: [seed as u32, (seed >> 32) as u32], counter, block: [0; 4], used: 4 }
    }

    /// Key and counter of the stream, for a kernel that draws from it: block `i` of 4 x 32 bits is [`philox`] of the key and the
    /// counter with `i` added to its first word. Draws so far don't count.
    pub fn address(&self) -> ([u32; 2], [u32; 4]) {
        let [_, b, c, d] = self.counter;
        (self.key, [0, b, c, d])
    }

    /// 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.used == 4 {
            self.block = philox(self.key, self.counter);
            self.counter[0] = self.counter[0].wrapping_add(1);
            self.used = 0;
        }
        self.used += 1;
        self.block[self.used - 1]
    }

    /// Uniform in [0, 1), 53 bits.
    pub fn uniform(&mut self) -> f64 {
        let hi = u64::from(self.next_u32());
        let lo = u64::from(self.next_u32());
        ((hi << 32 | lo) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in [a, b): `a + (b - a) * u`, as Python's `random.uniform`.
    pub fn range(&mut self, a: f64, b: f64) -> f64 {
        a + (b - a) * self.uniform()
    }

    /// A whole number in 0..n; 0 when `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.uniform() * n as f64) as usize
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        self.uniform() < p
    }

    /// Standard normal, by Box and Muller's transform.
    pub fn normal(&mut self) -> f64 {
        let (u, v) = (1.0 - self.uniform(), self.uniform());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }

    /// From the gamma distribution of shape `a` and scale 1, by Marsaglia and Tsang's method: a cubed normal, accepted or drawn again.
    pub fn gamma(&mut self, a: f64) -> f64 {
        if a < 1.0 {
            // One more, and down again by a power of a uniform number.
            let power = (1.0 - self.uniform()).powf(1.0 / a);
            return self.gamma(a + 1.0) * power;
        }
        let d = a - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            let u = 1.0 - self.uniform(); // in (0, 1]: it has a logarithm
            if v > 0.0 && u.ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v;
            }
        }
    }

    /// From the beta distribution of `a` and `b`, in 0..=1.
    pub fn beta(&mut self, a: f64, b: f64) -> f64 {
        let (x, y) = (self.gamma(a), self.gamma(b));
        match x + y > 0.0 {
            true => x / (x + y),
            // Both were too small for a double, as happens for an `a` near 0: then it is one end or the other.
            false => f64::from(u8::from(self.chance(a / (a + b)))),
        }
    }

    /// A random order of 0..n (Fisher and Yates).
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i, self.below(i + 1));
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers published with the generator (Random123's `kat_vectors`, philox4x32 10).
    #[test]
    fn philox_known_answers() {
        assert_eq!(philox([0; 2], [0; 4]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox([u32::MAX; 2], [u32::MAX; 4]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        let pi = ([0xa409_3822, 0x299f_31d0], [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344]);
        assert_eq!(philox(pi.0, pi.1), [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
    }

    #[test]
    fn moments_and_addresses() {
        let mut r = Rng::at(1, Purpose::Init, 0, 0);
        let v: Vec<f64> = (0..20_000).map(|_| r.normal()).collect();
        let mean = v.iter().sum::<f64>() / v.len() as f64;
        let var = v.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / v.len() as f64;
        assert!(mean.abs() < 0.03 && (var - 1.0).abs() < 0.05, "{mean} {var}");
        let first = |p, e, i| Rng::at(1, p, e, i).next_u32();
        let all = [
            first(Purpose::Init, 0, 0),
            first(Purpose::Shuffle, 0, 0),
            first(Purpose::Init, 1, 0),
            first(Purpose::Init, 0, 1),
            first(Purpose::Init, 0, 1 << 40),
        ];
        for (i, a) in all.iter().enumerate() {
            assert!(all[..i].iter().all(|b| a != b));
        }
    }

    /// Mean and variance of Beta(a, b) are a/(a+b) and ab/((a+b)²(a+b+1)).
    #[test]
    fn beta_has_its_moments() {
        for (a, b) in [(0.4, 0.4), (1.0, 1.0), (0.1, 0.3), (5.0, 2.0), (1e-9, 1e-9)] {
            let mut r = Rng::at(3, Purpose::Mix, 0, 0);
            let v: Vec<f64> = (0..40_000).map(|_| r.beta(a, b)).collect();
            assert!(v.iter().all(|x| (0.0..=1.0).contains(x)), "Beta({a}, {b})");
            let mean = v.iter().sum::<f64>() / v.len() as f64;
            let var = v.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / v.len() as f64;
            let (wanted, spread) = (a / (a + b), a * b / ((a + b).powi(2) * (a + b + 1.0)));
            assert!((mean - wanted).abs() < 0.01 && (var - spread).abs() < 0.01, "Beta({a}, {b}): {mean} {var}");
        }
        let mut r = Rng::at(3, Purpose::Mix, 0, 0);
        let v: Vec<f64> = (0..40_000).map(|_| r.gamma(2.5)).collect();
        let mean = v.iter().sum::<f64>() / v.len() as f64;
        let var = v.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / v.len() as f64;
        assert!((mean - 2.5).abs() < 0.05 && (var - 2.5).abs() < 0.15, "{mean} {var}");
    }

    #[test]
    fn permutation_holds_each_once() {
        let mut p = Rng::at(7, Purpose::Shuffle, 2, 0).permutation(100);
        assert_ne!(p, (0..100).collect::<Vec<_>>());
        p.sort_unstable();
        assert_eq!(p, (0..100).collect::<Vec<_>>());
    }
}
