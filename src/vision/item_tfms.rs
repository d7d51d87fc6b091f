//! The smaller item transforms: cropping and padding without resizing, resizing by the longer side, flips and turns.
//!
//! They work on bytes as Pillow does, and none of them but [`RatioResize`] computes a pixel that was not there before.
//!
//! ```
//! use onecycle::data::{ItemTransform, Picture, Subset};
//! use onecycle::rng::{Purpose, Rng};
//! use onecycle::vision::CropPad;
//! let picture = Picture { width: 3, height: 1, rgb: vec![1, 1, 1, 2, 2, 2, 3, 3, 3] };
//! let mut rng = Rng::at(0, Purpose::ItemTransform, 0, 0);
//! let centre = CropPad::new((1, 1)).apply(picture, Subset::Train, &mut rng).unwrap();
//! assert_eq!(centre.rgb, [2, 2, 2]);
//! ```

use super::resize::{PadMode, Region, Resize, Size, check, take_and_resample};
use crate::data::{ItemTransform, Picture, Subset, buffer, python};
use crate::rng::Rng;
use crate::{Error, ErrorKind, Result};
use serde_json::{Value, json};

/// Cuts off or adds on all sides alike until the picture has a size. fastai: `CropPad`.
#[derive(Clone, Copy, Debug)]
pub struct CropPad {
    pub(super) size: Size,
    pub(super) pad_mode: PadMode,
}

impl CropPad {
    /// To a square of `size`, or to (height, width); what is added is black.
    pub fn new(size: impl Into<Size>) -> CropPad {
        CropPad { size: size.into(), pad_mode: PadMode::Zeros }
    }

    /// What is added where the picture is too small.
    pub fn pad_mode(mut self, mode: PadMode) -> CropPad {
        self.pad_mode = mode;
        self
    }
}

/// Where a centred region of `part` begins on an axis of `whole` pixels: rounded down, also below 0.
fn centred(whole: usize, part: usize) -> i64 {
    (whole as i64 - part as i64).div_euclid(2)
}

impl ItemTransform for CropPad {
    fn describe(&self) -> String {
        let Size { height, width } = self.size;
        format!("CropPad -- {{'size': ({width}, {height}), 'pad_mode': '{}'}}", self.pad_mode.name())
    }

    fn order(&self) -> i32 {
        0
    }

    fn apply(&self, picture: Picture, _: Subset, _: &mut Rng) -> Result<Picture> {
        check(self.size, "CropPad")?;
        let Size { height, width } = self.size;
        let (left, top) = (centred(picture.width, width), centred(picture.height, height));
        Ok(take_and_resample(picture, Region { left, top, width, height }, self.pad_mode, self.size))
    }

    fn settings(&self) -> Value {
        let Size { height, width } = self.size;
        json!({ "name": "CropPad", "height": height, "width": width, "pad_mode": self.pad_mode.name() })
    }
}

/// A part of a size at a random place in training, in the centre in validation; a picture that is smaller gets black sides.
/// fastai: `RandomCrop`.
#[derive(Clone, Copy, Debug)]
pub struct RandomCrop {
    pub(super) size: Size,
}

impl RandomCrop {
    /// A square of `size`, or (height, width).
    pub fn new(size: impl Into<Size>) -> RandomCrop {
        RandomCrop { size: size.into() }
    }

    /// The transform with its first column and row given; they are negative where the picture is smaller than the size.
    ///
    /// # Errors
    /// The target size is 0.
    pub fn apply_at(&self, picture: Picture, left: i64, top: i64) -> Result<Picture> {
        check(self.size, "RandomCrop")?;
        let Size { height, width } = self.size;
        Ok(take_and_resample(picture, Region { left, top, width, height }, PadMode::Zeros, self.size))
    }
}

impl ItemTransform for RandomCrop {
    fn describe(&self) -> String {
        let Size { height, width } = self.size;
        format!("RandomCrop -- {{'size': ({width}, {height}), 'p': 1.0}}")
    }

    fn order(&self) -> i32 {
        1
    }

    fn apply(&self, picture: Picture, subset: Subset, rng: &mut Rng) -> Result<Picture> {
        let mut place = |whole: usize, part: usize| match (subset, whole as i64 - part as i64) {
            (Subset::Valid, _) => centred(whole, part),
            (Subset::Train, room) if room < 0 => room + rng.below(-room as usize) as i64, // room ..= -1
            (Subset::Train, room) => rng.below(room as usize + 1) as i64,
        };
        let left = place(picture.width, self.size.width);
        let top = place(picture.height, self.size.height);
        self.apply_at(picture, left, top)
    }

    fn settings(&self) -> Value {
        json!({ "name": "RandomCrop", "height": self.size.height, "width": self.size.width })
    }
}

/// The longer side to a length, the other in proportion. fastai: `RatioResize`.
///
/// Pictures keep different shapes, so another transform must follow before they make a batch.
#[derive(Clone, Copy, Debug)]
pub struct RatioResize {
    pub(super) max_sz: usize,
}

impl RatioResize {
    /// The longer side's length.
    pub fn new(max_sz: usize) -> RatioResize {
        RatioResize { max_sz }
    }
}

impl ItemTransform for RatioResize {
    fn describe(&self) -> String {
        format!("RatioResize -- {{'max_sz': {}, 'resamples': (2, 0)}}", self.max_sz)
    }

    fn order(&self) -> i32 {
        1
    }

    fn apply(&self, picture: Picture, subset: Subset, rng: &mut Rng) -> Result<Picture> {
        check(self.max_sz.into(), "RatioResize")?;
        let (w, h) = (picture.width, picture.height);
        let other = |side: usize, longer: usize| ((side * self.max_sz) as f64 / longer as f64) as usize;
        let (width, height) = if w >= h { (self.max_sz, other(h, w)) } else { (other(w, h), self.max_sz) };
        // The truncated side no longer has the exact ratio, and as in fastai `Resize` cuts off what is too much. There the
        // place is random in validation too; here only in training.
        Resize::new((height.max(1), width.max(1))).apply(picture, subset, rng)
    }

    fn settings(&self) -> Value {
        json!({ "name": "RatioResize", "max_sz": self.max_sz })
    }
}

/// Mirrors training pictures left to right with a probability. fastai: `FlipItem(p=0.5)`.
#[derive(Clone, Copy, Debug)]
pub struct FlipItem {
    pub(super) p: f64,
}

impl Default for FlipItem {
    fn default() -> FlipItem {
        FlipItem::new(0.5)
    }
}

impl FlipItem {
    /// With probability `p`.
    pub fn new(p: f64) -> FlipItem {
        FlipItem { p }
    }
}

impl ItemTransform for FlipItem {
    fn describe(&self) -> String {
        format!("FlipItem -- {{'p': {}}}", python::float(self.p))
    }

    fn order(&self) -> i32 {
        0
    }

    fn apply(&self, picture: Picture, subset: Subset, rng: &mut Rng) -> Result<Picture> {
        check_p(self.p, "FlipItem")?;
        Ok(if subset == Subset::Train && rng.chance(self.p) { dihedral(picture, 1) } else { picture })
    }

    fn settings(&self) -> Value {
        json!({ "name": "FlipItem", "p": self.p })
    }
}

/// One of the eight ways to lay a picture down, for training pictures with a probability. fastai: `DihedralItem(p=1.0)`.
#[derive(Clone, Copy, Debug)]
pub struct DihedralItem {
    pub(super) p: f64,
}

impl Default for DihedralItem {
    fn default() -> DihedralItem {
        DihedralItem::new(1.0)
    }
}

impl DihedralItem {
    /// With probability `p`; one of the eight ways is to leave it as it is.
    pub fn new(p: f64) -> DihedralItem {
        DihedralItem { p }
    }
}

impl ItemTransform for DihedralItem {
    fn describe(&self) -> String {
        format!("DihedralItem -- {{'p': {}}}", python::float(self.p))
    }

    fn order(&self) -> i32 {
        0
    }

    fn apply(&self, picture: Picture, subset: Subset, rng: &mut Rng) -> Result<Picture> {
        check_p(self.p, "DihedralItem")?;
        Ok(if subset == Subset::Train && rng.chance(self.p) { dihedral(picture, rng.below(8)) } else { picture })
    }

    fn settings(&self) -> Value {
        json!({ "name": "DihedralItem", "p": self.p })
    }
}

fn check_p(p: f64, on: &str) -> Result<()> {
    match (0.0..=1.0).contains(&p) {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::Argument, format!("{p} is no probability"))
            .on(on)
            .remedy("use a number between 0 and 1")),
    }
}

/// A picture laid down in one of eight ways: 0 as it is, 1 mirrored left to right, 2 top to bottom, 3 turned a quarter
/// counter-clockwise, 4 by half, 5 a quarter clockwise, 6 transposed, 7 transposed about the other diagonal; any other number
/// counts modulo 8. fastai: `PILImage.dihedral`.
pub fn dihedral(picture: Picture, k: usize) -> Picture {
    let (w, h) = (picture.width, picture.height);
    let k = k % 8;
    if k == 0 {
        return picture;
    }
    let (width, height) = if matches!(k, 3 | 5 | 6 | 7) { (h, w) } else { (w, h) };
    let mut rgb = buffer::empty(picture.rgb.len()); // [height, width, 3]
    for y in 0..height {
        for x in 0..width {
            let (row, column) = match k {
                1 => (y, w - 1 - x),
                2 => (h - 1 - y, x),
                3 => (x, w - 1 - y),
                4 => (h - 1 - y, w - 1 - x),
                5 => (h - 1 - x, y),
                6 => (x, y),
                _ => (h - 1 - x, w - 1 - y),
            };
            rgb.extend_from_slice(&picture.rgb[(row * w + column) * 3..][..3]);
        }
    }
    picture.recycle();
    Picture { width, height, rgb }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Purpose;

    /// 5 x 4 pixels, all different.
    fn picture() -> Picture {
        Picture { width: 5, height: 4, rgb: (0..60).collect() }
    }

    #[test]
    fn a_turn_and_its_opposite_cancel() {
        for (k, back) in [(1, 1), (2, 2), (3, 5), (4, 4), (5, 3), (6, 6), (7, 7)] {
            assert_eq!(dihedral(dihedral(picture(), k), back), picture(), "{k}");
        }
    }

    #[test]
    fn validation_is_never_flipped_and_training_by_its_share() {
        let mut flipped = 0;
        for i in 0..1000 {
            let mut rng = Rng::at(1, Purpose::ItemTransform, 0, i);
            assert_eq!(FlipItem::new(1.0).apply(picture(), Subset::Valid, &mut rng).unwrap(), picture());
            assert_eq!(DihedralItem::default().apply(picture(), Subset::Valid, &mut rng).unwrap(), picture());
            flipped += usize::from(FlipItem::default().apply(picture(), Subset::Train, &mut rng).unwrap() != picture());
        }
        assert!((430..570).contains(&flipped), "{flipped}");
        let mut rng = Rng::at(1, Purpose::ItemTransform, 0, 0);
        assert!(FlipItem::new(1.5).apply(picture(), Subset::Train, &mut rng).is_err());
    }

    #[test]
    fn random_crops_reach_every_place() {
        let mut places = std::collections::HashSet::new();
        for i in 0..400 {
            let mut rng = Rng::at(1, Purpose::ItemTransform, 0, i);
            let part = RandomCrop::new((2, 2)).apply(picture(), Subset::Train, &mut rng).unwrap();
            places.insert(part.rgb[0]);
            let wide = RandomCrop::new((4, 7)).apply(picture(), Subset::Train, &mut rng).unwrap();
            assert!(wide.rgb.len() == 84 && picture().rgb.iter().all(|v| wide.rgb.contains(v)), "nothing is cut off");
        }
        assert_eq!(places.len(), 4 * 3);
    }
}
