//! The rules that read a learning rate off the finder's curve: fastai's four, in the arithmetic of fastai (f32).
//!
//! All of them see the smoothed losses without the first tenth, where the loss is still what it was, and without the last five points,
//! where it explodes; and only up to the first NaN.
//!
//! | rule | answer |
//! |---|---|
//! | [`minimum`] | a tenth of where the loss is smallest: there it is about to rise |
//! | [`steep`] | where it falls fastest over the logarithm of the learning rate |
//! | [`valley`] | half-way down the longest descent: today's default of fastai, by ESRI |
//! | [`slide`] | from the right, where the slope starts to differ from that of the points before: by Novetta |

/// The part of the finder's curve that the rules see.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    lrs: Vec<f32>,
    losses: Vec<f32>,
}

/// A rule's answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// The learning rate to use.
    pub lr: f64,
    /// The point of the curve that it was read from: learning rate, loss.
    pub point: (f64, f64),
}

impl Curve {
    /// From the learning rate and the smoothed loss of every batch, of which there were to be `num_it`.
    pub fn new(lrs: &[f64], losses: &[f64], num_it: usize) -> Curve {
        let end = lrs.len().min(losses.len()).saturating_sub(5);
        let shown = (num_it / 10).min(end)..end;
        let f32s = |all: &[f64]| all[shown.clone()].iter().map(|&v| v as f32).collect::<Vec<_>>();
        let (mut lrs, mut losses) = (f32s(lrs), f32s(losses));
        let n = losses.iter().position(|v| v.is_nan()).unwrap_or(losses.len());
        lrs.truncate(n);
        losses.truncate(n);
        Curve { lrs, losses }
    }

    /// How many points there are.
    pub fn len(&self) -> usize {
        self.losses.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.losses.is_empty()
    }

    fn at(&self, k: usize) -> Found {
        let point = (f64::from(self.lrs[k]), f64::from(self.losses[k]));
        Found { lr: point.0, point }
    }
}

/// The first of the smallest.
fn argmin(values: &[f32]) -> Option<usize> {
    (0..values.len()).reduce(|best, i| if values[i] < values[best] { i } else { best })
}

/// A tenth of the learning rate with the smallest loss; nothing without points.
pub fn minimum(curve: &Curve) -> Option<Found> {
    let found = curve.at(argmin(&curve.losses)?);
    Some(Found { lr: found.lr / 10.0, ..found })
}

/// The learning rate after which the loss falls fastest, by the logarithm of the learning rate; nothing with fewer than two points.
pub fn steep(curve: &Curve) -> Option<Found> {
    let Curve { lrs, losses } = curve;
    let slope = |i: usize| (losses[i + 1] - losses[i]) / (lrs[i + 1].ln() - lrs[i].ln());
    let slopes: Vec<f32> = (0..curve.len().saturating_sub(1)).map(slope).collect();
    Some(curve.at(argmin(&slopes)?))
}

/// A point in the longest descent, half-way into its middle third; nothing without points.
///
/// The descent is the longest strictly falling subsequence, which may skip points. fastai takes its end, counts back as many points as
/// it has, and calls that its start, although skipped points make it begin earlier; the same here.
pub fn valley(curve: &Curve) -> Option<Found> {
    let n = curve.len();
    if n == 0 {
        return None;
    }
    let mut longest = vec![1usize; n]; // of the descents that end at each point
    let (mut start, mut end) = (0isize, 0usize);
    for i in 1..n {
        let before = (0..i).filter(|&j| curve.losses[i] < curve.losses[j]).map(|j| longest[j]).max();
        longest[i] = before.unwrap_or(0) + 1;
        if longest[i] > longest[end] {
            end = i;
            start = end as isize - longest[end] as isize;
        }
    }
    let third = (end as isize - start) as f64 / 3.0;
    let k = start + third as isize + (third / 2.0) as isize;
    // The start can be one before the first point; Python then counts from the end.
    Some(curve.at(k.rem_euclid(n as isize) as usize))
}

/// The learning rate at the left of the last stretch of 15 points whose two ends have different slopes (by more than 0.005 a batch); nothing with
/// fewer than 16 points.
pub fn slide(curve: &Curve) -> Option<Found> {
    /// Points between the two slopes that are compared.
    const APART: usize = 15;
    const DIFFERENT: f32 = 0.005;
    let Curve { lrs, losses } = curve;
    let n = curve.len();
    let slope = |i: usize| match i {
        0 => losses[1] - losses[0],
        _ if i == n - 1 => losses[i] - losses[i - 1],
        _ => (losses[i + 1] - losses[i - 1]) / 2.0,
    };
    let mut left = n.checked_sub(APART + 1)?;
    let mut lr = lrs[left];
    while (slope(left + APART) - slope(left)).abs() > DIFFERENT {
        lr = lrs[left];
        match left.checked_sub(1) {
            Some(next) => left = next,
            None => break,
        }
    }
    let lr = f64::from(lr);
    let height = interpolate(lr.log10(), &lrs.iter().map(|lr| f64::from(lr.log10())).collect::<Vec<_>>(), losses);
    Some(Found { lr, point: (lr, height) })
}

/// The broken line through (`xs`, `ys`) at `x`; `xs` rise.
fn interpolate(x: f64, xs: &[f64], ys: &[f32]) -> f64 {
    let after = xs.partition_point(|&at| at <= x);
    match (after.checked_sub(1), ys.get(after)) {
        (None, _) => ys.first().map_or(f64::NAN, |&y| f64::from(y)),
        (Some(before), None) => f64::from(ys[before]),
        (Some(before), Some(&y)) => {
            let (x0, y0) = (xs[before], f64::from(ys[before]));
            (f64::from(y) - y0) / (xs[after] - x0) * (x - x0) + y0
        }
    }
}
