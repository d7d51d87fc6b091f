//! Before a version of a kernel is timed: does it compute what a lower rung does, at the sizes that are timed? A wrong kernel's time is no
//! result, and tests look at small sizes only.

use super::Bench;
use onecycle::ops::ladder;
use onecycle::tensor::Shape;
use onecycle::{DType, Result, Tensor};
use std::ops::Range;

/// The relative error, in the L2 norm, that the rounding of operands or results explains. It is several times what the order of a sum changes.
fn limit(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 1e-3,
        DType::F32 if !ladder::tf32() => 1e-4,
        _ => 5e-3,
    }
}

/// How far results are from what they should be.
#[derive(Debug)]
struct Deviation {
    /// |got - want| / |want|, in the L2 norm.
    relative: f64,
    /// The first numbers that are further off than rounding can be, ten at most, and how many there are.
    faults: Vec<usize>,
    count: usize,
}

impl Deviation {
    /// Of as many numbers on both sides, where `limit` is what the norm may be off.
    fn of(got: &[f32], want: &[f32], limit: f64) -> Deviation {
        let norm: f64 =
            in_parts(want.len(), |part| want[part].iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>())
                .into_iter()
                .sum();
        // A single number's error is one of its own size and of what was added up for it, which all results have alike.
        let typical = (norm / want.len().max(1) as f64).sqrt();
        let parts = in_parts(want.len(), |part| {
            let (mut off, mut faults, mut count) = (0.0, Vec::new(), 0);
            for i in part {
                let error = f64::from(got[i]) - f64::from(want[i]);
                off += error * error;
                // NaN is near nothing. (Inputs have none.)
                let near = error.abs() <= 8.0 * limit * (f64::from(want[i]).abs() + typical);
                if !near {
                    count += 1;
                    if faults.len() < 10 {
                        faults.push(i);
                    }
                }
            }
            (off, faults, count)
        });
        let off: f64 = parts.iter().map(|(off, ..)| off).sum();
        Deviation {
            relative: (off / norm.max(f64::MIN_POSITIVE)).sqrt(),
            count: parts.iter().map(|(.., count)| count).sum(),
            faults: parts.into_iter().flat_map(|(_, faults, _)| faults).take(10).collect(),
        }
    }
}

/// What `f` makes of the parts of `0..n`, in order. By threads, for results have a hundred million numbers while a GPU waits.
fn in_parts<R: Send>(n: usize, f: impl Fn(Range<usize>) -> R + Sync) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = n.div_ceil(threads).max(1);
    let f = &f;
    std::thread::scope(|scope| {
        let parts: Vec<_> =
            (0..n).step_by(share).map(|from| scope.spawn(move || f(from..(from + share).min(n)))).collect();
        parts.into_iter().map(|part| part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

impl Bench {
    /// Whether there is anything to time, and so to check: a profiler's single runs would be counted.
    pub fn checks(&self) -> bool {
        self.on_gpu() && self.roofs.is_some()
    }

    /// Fills memory with NaN and frees it, for who allocates as much next: what a kernel doesn't write is seen then.
    pub fn poison(&self, shape: impl Into<Shape>, dtype: DType) -> Result<()> {
        Tensor::full(f64::NAN, shape, dtype, self.device).map(drop)
    }

    /// Whether `got` is `want` but for rounding. If not, says where, and `end` is an error.
    pub fn agrees(&self, name: &str, way: &str, shape: &[usize], got: &[f32], want: &[f32]) -> bool {
        let limit = limit(self.dtype);
        assert_eq!(got.len(), want.len(), "{name} {way}: results of other shapes");
        let found = Deviation::of(got, want, limit);
        // A NaN makes the error one, and isn't below anything.
        if found.relative <= limit && found.count == 0 {
            return true;
        }
        println!("{name} {way}: WRONG, so it isn't timed");
        println!(
            "  relative error {:.2e} where {limit:.0e} is allowed; {} of {} numbers are off",
            found.relative,
            found.count,
            want.len()
        );
        for &i in &found.faults {
            println!("  {:?}: {} instead of {}", place(i, shape), got[i], want[i]);
        }
        self.wrong.set(self.wrong.get() + 1);
        false
    }
}

/// The indices of number `i`.
fn place(mut i: usize, shape: &[usize]) -> Vec<usize> {
    let mut indices = vec![0; shape.len()];
    for (index, &size) in indices.iter_mut().zip(shape).rev() {
        *index = i % size;
        i /= size;
    }
    indices
}

#[cfg(test)]
mod tests {
    #[allow(unused_imports)] // in a program of benches, which leaves tests out
    use super::*;

    #[test]
    fn rounding_passes_and_faults_are_found() {
        let want: Vec<f32> = (0..1000).map(|i| (i as f32 - 500.0) / 100.0).collect();
        let rounded: Vec<f32> = want.iter().map(|&x| half::bf16::from_f32(x).to_f32()).collect();
        let found = Deviation::of(&rounded, &want, 5e-3);
        assert!(found.relative > 1e-4 && found.relative < 5e-3 && found.count == 0, "{found:?}");
        for (at, value) in [(0, 0.0), (999, f32::NAN), (500, 1.0)] {
            let mut wrong = rounded.clone();
            wrong[at] = value;
            let found = Deviation::of(&wrong, &want, 5e-3);
            assert_eq!((&found.faults[..], found.count), (&[at][..], 1), "{value} at {at}");
        }
        let found = Deviation::of(&vec![9.0; 1000], &want, 5e-3);
        assert_eq!((found.faults.len(), found.count), (10, 1000));
        let every = |step: usize| -> Vec<f32> {
            want.iter().enumerate().map(|(i, x)| if i % step == 0 { x * 1.03 } else { *x }).collect()
        };
        let found = Deviation::of(&every(1), &want, 5e-3);
        assert!(found.count == 0 && found.relative > 5e-3, "many a little off: {found:?}");
        assert!(Deviation::of(&every(100), &want, 5e-3).relative < 5e-3);
    }

    #[test]
    fn numbers_have_places() {
        assert_eq!(place(0, &[2, 3, 4]), [0, 0, 0]);
        assert_eq!(place(23, &[2, 3, 4]), [1, 2, 3]);
        assert_eq!(place(17, &[2, 3, 4]), [1, 1, 1]);
    }
}
