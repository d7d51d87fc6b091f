//! The search for a random crop, as a function of the numbers drawn.
//!
//! `RandomResizedCrop` looks for a rectangle with a random share of the picture's area and a random aspect ratio. Up to ten
//! rectangles are tried; the first that fits inside is put at a random place. If none fits, the largest centred one
//! whose aspect ratio is within the limits is taken. Validation always takes that one.
//!
//! The uniform numbers come in through a closure, so that tests can feed recorded ones, and that the item-level and the
//! batch-level transform share the search. They differ in one thing: which coordinate of the place is drawn first.
//!
//! ```
//! use onecycle::vision::{Crop, choose_crop};
//! let mut draws = [0.0, 0.5, 0.0, 0.999].into_iter();
//! // min_scale is a share of the *area*: 0.75 of it is a side of 0.866.
//! let crop = choose_crop(460, 460, 0.75, 1.0, (1.0, 1.0), &mut || draws.next().unwrap());
//! assert_eq!(crop, Crop { top: 0, left: 62, height: 398, width: 398 });
//! ```

/// A rectangle inside a picture, in pixels: what [`augment`](mod@crate::ops::augment) takes.
pub use crate::ops::augment::Window as Crop;

/// Which coordinate of the place is drawn first.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum PlaceOrder {
    /// fastai's batch transform.
    TopFirst,
    /// fastai's item transform.
    LeftFirst,
}

/// The training crop of fastai's `RandomResizedCropGPU` in a picture of `h` x `w`: an area of `min_scale` to `max_scale` of
/// the whole, width over height within `ratio`. `draw` gives uniform numbers in [0, 1): area and ratio for each try, then
/// top and left.
pub fn choose_crop(
    h: usize,
    w: usize,
    min_scale: f64,
    max_scale: f64,
    ratio: (f64, f64),
    draw: &mut dyn FnMut() -> f64,
) -> Crop {
    choose(h, w, min_scale, max_scale, ratio, PlaceOrder::TopFirst, draw)
}

pub(crate) fn choose(
    h: usize,
    w: usize,
    min_scale: f64,
    max_scale: f64,
    ratio: (f64, f64),
    order: PlaceOrder,
    draw: &mut dyn FnMut() -> f64,
) -> Crop {
    let mut uniform = |a: f64, b: f64| a + (b - a) * draw();
    for _ in 0..10 {
        let area = uniform(min_scale, max_scale) * w as f64 * h as f64;
        let r = uniform(ratio.0.ln(), ratio.1.ln()).exp();
        // Python's round: halves go to the even neighbour.
        // A tiny share of a tiny picture rounds to nothing, but one pixel can at least be resized.
        let width = ((area * r).sqrt().round_ties_even() as usize).max(1);
        let height = ((area / r).sqrt().round_ties_even() as usize).max(1);
        if width <= w && height <= h {
            let mut whole = |n: usize| ((uniform(0.0, 1.0) * (n + 1) as f64) as usize).min(n);
            let (top, left) = match order {
                PlaceOrder::TopFirst => {
                    let top = whole(h - height);
                    (top, whole(w - width))
                }
                PlaceOrder::LeftFirst => {
                    let left = whole(w - width);
                    (whole(h - height), left)
                }
            };
            return Crop { top, left, height, width };
        }
    }
    valid_crop(h, w, ratio, 1.0)
}

/// The crop of validation, and of training when no try fits: the largest centred rectangle with width over height within
/// `ratio`, both sides then multiplied by `valid_scale`.
pub fn valid_crop(h: usize, w: usize, ratio: (f64, f64), valid_scale: f64) -> Crop {
    let aspect = w as f64 / h as f64;
    let (height, width) = if aspect < ratio.0 {
        ((w as f64 / ratio.0) as usize, w)
    } else if aspect > ratio.1 {
        (h, (h as f64 * ratio.1) as usize)
    } else {
        (h, w)
    };
    let shrink = |side: usize, limit: usize| ((side as f64 * valid_scale) as usize).clamp(1, limit);
    let (height, width) = (shrink(height, h), shrink(width, w));
    Crop { top: (h - height) / 2, left: (w - width) / 2, height, width }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Rng};

    #[test]
    fn crops_stay_inside_any_picture() {
        let mut rng = Rng::at(3, Purpose::ItemTransform, 0, 0);
        for _ in 0..2000 {
            let (h, w) = (1 + rng.below(40), 1 + rng.below(40));
            let crop = choose_crop(h, w, 0.001, 1.0, (0.75, 4.0 / 3.0), &mut || rng.uniform());
            assert!(crop.height >= 1 && crop.top + crop.height <= h, "{crop:?} in {h}x{w}");
            assert!(crop.width >= 1 && crop.left + crop.width <= w, "{crop:?} in {h}x{w}");
        }
    }
}
