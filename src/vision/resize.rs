//! `Resize` and `RandomResizedCrop`: the item transforms that make all pictures one size.
//!
//! The article's `Resize(460)` works in two steps: take the largest region of the source with the target's aspect ratio,
//! at a **random place in training** and centred in validation, then resample that region. It crops first, at the source's
//! scale, so nothing is computed that is thrown away. [`Resize::region`] is the first step as pure arithmetic,
//! [`resample`](super::resample) the second.
//!
//! ```
//! use onecycle::data::{ItemTransform, Picture, Subset};
//! use onecycle::rng::{Purpose, Rng};
//! use onecycle::vision::Resize;
//! let picture = Picture { width: 40, height: 30, rgb: vec![7; 40 * 30 * 3] };
//! let mut rng = Rng::at(0, Purpose::ItemTransform, 0, 0);
//! let square = Resize::new(20).apply(picture, Subset::Valid, &mut rng).unwrap();
//! assert_eq!((square.width, square.height), (20, 20));
//! ```

use super::crop::{self, Crop, PlaceOrder};
use super::item_tfms::{CropPad, DihedralItem, FlipItem, RandomCrop, RatioResize};
use super::resample::{View, resample_view};
use crate::data::{ItemTransform, Picture, Subset, buffer, python};
use crate::rng::Rng;
use crate::{Error, ErrorKind, Result};
use serde_json::{Value, json};
use std::sync::Arc;

/// A target size: one number for a square, or (height, width).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl From<usize> for Size {
    fn from(side: usize) -> Size {
        Size { height: side, width: side }
    }
}

impl From<(usize, usize)> for Size {
    fn from((height, width): (usize, usize)) -> Size {
        Size { height, width }
    }
}

/// How `Resize` reaches another aspect ratio.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResizeMethod {
    /// Cuts off what is too much.
    #[default]
    Crop,
    /// Adds what is missing, filled by [`PadMode`].
    Pad,
    /// Distorts.
    Squish,
}

/// What lies outside the picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PadMode {
    /// The picture mirrored, without repeating the edge pixel.
    #[default]
    Reflection,
    /// The edge pixel repeated.
    Border,
    /// Black.
    Zeros,
}

impl ResizeMethod {
    fn name(self) -> &'static str {
        match self {
            ResizeMethod::Crop => "crop",
            ResizeMethod::Pad => "pad",
            ResizeMethod::Squish => "squish",
        }
    }
}

impl PadMode {
    pub(super) fn name(self) -> &'static str {
        match self {
            PadMode::Reflection => "reflection",
            PadMode::Border => "border",
            PadMode::Zeros => "zeros",
        }
    }
}

/// A rectangle that may reach beyond the picture, in pixels of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First column; negative where the region begins left of the picture.
    pub left: i64,
    /// First row; negative where the region begins above the picture.
    pub top: i64,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

/// Crops, pads or squishes every picture to one size. fastai: `Resize`.
#[derive(Clone, Copy, Debug)]
pub struct Resize {
    size: Size,
    method: ResizeMethod,
    pad_mode: PadMode,
}

impl Resize {
    /// To a square of `size`, or to (height, width).
    pub fn new(size: impl Into<Size>) -> Resize {
        Resize { size: size.into(), method: ResizeMethod::default(), pad_mode: PadMode::default() }
    }

    /// How to reach another aspect ratio; crop by default.
    pub fn method(mut self, method: ResizeMethod) -> Resize {
        self.method = method;
        self
    }

    /// What [`ResizeMethod::Pad`] fills in; reflection by default.
    pub fn pad_mode(mut self, mode: PadMode) -> Resize {
        self.pad_mode = mode;
        self
    }

    /// The part of a `w` x `h` picture that becomes the result; `px` and `py` in [0, 1) place it.
    ///
    /// All truncations are fastai's, and they are visible: with target 460 a side of 63 or 233 loses a pixel, because
    /// 63 / 460 * 460 is a little less than 63.
    pub fn region(&self, w: usize, h: usize, px: f64, py: f64) -> Region {
        let (tw, th) = (self.size.width as f64, self.size.height as f64);
        let (rw, rh) = (w as f64 / tw, h as f64 / th);
        let m = match self.method {
            ResizeMethod::Squish => return Region { left: 0, top: 0, width: w, height: h },
            ResizeMethod::Crop if rw < rh => rw,
            ResizeMethod::Pad if rw > rh => rw,
            _ => rh,
        };
        // A side of a few pixels can truncate to none.
        let (cw, ch) = (((m * tw) as usize).max(1), ((m * th) as usize).max(1));
        let place = |p: f64, side: usize, part: usize| (p * (side as f64 - part as f64)) as i64;
        Region { left: place(px, w, cw), top: place(py, h, ch), width: cw, height: ch }
    }

    /// The transform with the region placed by `px` and `py` in [0, 1).
    ///
    /// # Errors
    /// The target size is 0.
    pub fn apply_at(&self, picture: Picture, px: f64, py: f64) -> Result<Picture> {
        check(self.size, "Resize")?;
        let region = self.region(picture.width, picture.height, px, py);
        Ok(take_and_resample(picture, region, self.pad_mode, self.size))
    }
}

impl ItemTransform for Resize {
    fn describe(&self) -> String {
        let Size { height, width } = self.size;
        let (method, pad) = (self.method.name(), self.pad_mode.name());
        format!(
            "Resize -- {{'size': ({width}, {height}), 'method': '{method}', 'pad_mode': '{pad}', 'resamples': (2, 0), 'p': 1.0}}"
        )
    }

    fn order(&self) -> i32 {
        1
    }

    fn apply(&self, picture: Picture, subset: Subset, rng: &mut Rng) -> Result<Picture> {
        let (px, py) = match subset {
            Subset::Train if self.method != ResizeMethod::Squish => {
                let px = rng.uniform();
                (px, rng.uniform())
            }
            _ => (0.5, 0.5),
        };
        self.apply_at(picture, px, py)
    }

    fn settings(&self) -> Value {
        json!({
            "name": "Resize",
            "height": self.size.height,
            "width": self.size.width,
            "method": self.method.name(),
            "pad_mode": self.pad_mode.name(),
        })
    }
}

/// A random part of each training picture, resized; validation sees the centre. fastai: `RandomResizedCrop`.
///
/// Validation squishes the whole picture to somewhat more than the size (`val_xtra`, 14 % rounded up to a multiple of 8)
/// and takes the centre of that.
#[derive(Clone, Copy, Debug)]
pub struct RandomResizedCrop {
    size: Size,
    min_scale: f64,
    max_scale: f64,
    ratio: (f64, f64),
    val_xtra: f64,
}

impl RandomResizedCrop {
    /// To a square of `size`, or to (height, width), with fastai's defaults.
    pub fn new(size: impl Into<Size>) -> RandomResizedCrop {
        RandomResizedCrop {
            size: size.into(),
            min_scale: 0.08,
            max_scale: 1.0,
            ratio: (0.75, 4.0 / 3.0),
            val_xtra: 0.14,
        }
    }

    /// Smallest share of the picture's area.
    pub fn min_scale(mut self, share: f64) -> RandomResizedCrop {
        self.min_scale = share;
        self
    }

    /// Largest share of the picture's area.
    pub fn max_scale(mut self, share: f64) -> RandomResizedCrop {
        self.max_scale = share;
        self
    }

    /// Limits of width over height.
    pub fn ratio(mut self, low: f64, high: f64) -> RandomResizedCrop {
        self.ratio = (low, high);
        self
    }

    /// How much larger than the size validation resizes before it takes the centre.
    pub fn val_xtra(mut self, share: f64) -> RandomResizedCrop {
        self.val_xtra = share;
        self
    }

    /// The training transform with a given crop.
    ///
    /// # Errors
    /// The target size is 0.
    pub fn apply_at(&self, picture: Picture, crop: Crop) -> Result<Picture> {
        check(self.size, "RandomResizedCrop")?;
        let Crop { top, left, height, width } = crop;
        let region = Region { left: left as i64, top: top as i64, width, height };
        Ok(take_and_resample(picture, region, PadMode::Zeros, self.size))
    }

    fn validate(&self, picture: Picture) -> Result<Picture> {
        check(self.size, "RandomResizedCrop")?;
        let longest = self.size.height.max(self.size.width) as f64;
        let extra = (longest * self.val_xtra / 8.0).ceil() as usize * 8;
        let large = Size { height: self.size.height + extra, width: self.size.width + extra };
        let whole = Region { left: 0, top: 0, width: picture.width, height: picture.height };
        let large = take_and_resample(picture, whole, PadMode::Zeros, large);
        let centre = Region {
            left: (extra / 2) as i64,
            top: (extra / 2) as i64,
            width: self.size.width,
            height: self.size.height,
        };
        Ok(take_and_resample(large, centre, PadMode::Zeros, self.size))
    }
}

impl ItemTransform for RandomResizedCrop {
    fn describe(&self) -> String {
        let Size { height, width } = self.size;
        let f = python::float;
        format!(
            "RandomResizedCrop -- {{'size': ({width}, {height}), 'min_scale': {}, 'ratio': ({}, {}), 'resamples': (2, 0), \
             'val_xtra': {}, 'max_scale': {}, 'p': 1.0}}",
            f(self.min_scale),
            f(self.ratio.0),
            f(self.ratio.1),
            f(self.val_xtra),
            f(self.max_scale)
        )
    }

    fn order(&self) -> i32 {
        1
    }

    fn apply(&self, picture: Picture, subset: Subset, rng: &mut Rng) -> Result<Picture> {
        if subset == Subset::Valid {
            return self.validate(picture);
        }
        let order = PlaceOrder::LeftFirst;
        let (h, w) = (picture.height, picture.width);
        let crop = crop::choose(h, w, self.min_scale, self.max_scale, self.ratio, order, &mut || rng.uniform());
        self.apply_at(picture, crop)
    }

    fn settings(&self) -> Value {
        json!({
            "name": "RandomResizedCrop",
            "height": self.size.height,
            "width": self.size.width,
            "min_scale": self.min_scale,
            "max_scale": self.max_scale,
            "ratio": [self.ratio.0, self.ratio.1],
            "val_xtra": self.val_xtra,
        })
    }
}

pub(super) fn check(size: Size, on: &str) -> Result<()> {
    match size.height.min(size.width) {
        0 => Err(Error::new(ErrorKind::Argument, "a size of 0 pixels").on(on).remedy("use 1 or more")),
        _ => Ok(()),
    }
}

/// Rebuilds an item transform from its [`ItemTransform::settings`], as an exported model keeps them.
///
/// # Errors
/// [`ErrorKind::Format`] when the settings are not those of a transform of this crate.
pub fn item_transform_from(settings: &Value) -> Result<Arc<dyn ItemTransform>> {
    let fault = |what: &str| {
        Error::new(ErrorKind::Format, format!("{what} in the settings of an item transform: {settings}"))
            .remedy("use the version of onecycle that wrote the file, or build the transform in code")
    };
    let whole = |key: &str| settings[key].as_u64().map(|v| v as usize).ok_or_else(|| fault(key));
    let real = |v: &Value, key: &str| v.as_f64().ok_or_else(|| fault(key));
    let size = || Ok(Size { height: whole("height")?, width: whole("width")? });
    let pad_mode = || {
        let modes = [PadMode::Reflection, PadMode::Border, PadMode::Zeros];
        let name = settings["pad_mode"].as_str().unwrap_or_default();
        modes.into_iter().find(|m| m.name() == name).ok_or_else(|| fault("pad_mode"))
    };
    let p = || real(&settings["p"], "p");
    Ok(match settings["name"].as_str().unwrap_or_default() {
        "Resize" => {
            let methods = [ResizeMethod::Crop, ResizeMethod::Pad, ResizeMethod::Squish];
            let name = settings["method"].as_str().unwrap_or_default();
            let method = methods.into_iter().find(|m| m.name() == name).ok_or_else(|| fault("method"))?;
            Arc::new(Resize { size: size()?, method, pad_mode: pad_mode()? })
        }
        "RandomResizedCrop" => Arc::new(RandomResizedCrop {
            size: size()?,
            min_scale: real(&settings["min_scale"], "min_scale")?,
            max_scale: real(&settings["max_scale"], "max_scale")?,
            ratio: (real(&settings["ratio"][0], "ratio")?, real(&settings["ratio"][1], "ratio")?),
            val_xtra: real(&settings["val_xtra"], "val_xtra")?,
        }),
        "CropPad" => Arc::new(CropPad { size: size()?, pad_mode: pad_mode()? }),
        "RandomCrop" => Arc::new(RandomCrop { size: size()? }),
        "RatioResize" => Arc::new(RatioResize { max_sz: whole("max_sz")? }),
        "FlipItem" => Arc::new(FlipItem { p: p()? }),
        "DihedralItem" => Arc::new(DihedralItem { p: p()? }),
        _ => return Err(fault("an unknown name")),
    })
}

/// `region` of `picture`, resampled to `size`. A region inside the picture is read where it lies; only one that reaches
/// beyond is copied first.
pub(super) fn take_and_resample(picture: Picture, region: Region, pad: PadMode, size: Size) -> Picture {
    let (w, h) = (picture.width as i64, picture.height as i64);
    let Region { left, top, width, height } = region;
    let inside = left >= 0 && top >= 0 && left + width as i64 <= w && top + height as i64 <= h;
    let result;
    if inside {
        let view = View::of(&picture).part(left as usize, top as usize, width, height);
        result = resample_view(view, size.width, size.height);
    } else {
        let padded = copy_padded(&picture, region, pad);
        result = resample_view(View::of(&padded), size.width, size.height);
        padded.recycle();
    }
    picture.recycle();
    result
}

fn copy_padded(picture: &Picture, region: Region, pad: PadMode) -> Picture {
    let (w, h) = (picture.width, picture.height);
    let columns: Vec<Option<usize>> = (0..region.width as i64).map(|x| source_index(region.left + x, w, pad)).collect();
    let mut rgb = buffer::empty(region.width * region.height * 3); // [region.height, region.width, 3]
    for y in 0..region.height as i64 {
        let row = source_index(region.top + y, h, pad).map(|r| &picture.rgb[r * w * 3..][..w * 3]);
        for column in &columns {
            match (row, column) {
                (Some(row), Some(c)) => rgb.extend_from_slice(&row[c * 3..][..3]),
                _ => rgb.extend([0; 3]),
            }
        }
    }
    Picture { width: region.width, height: region.height, rgb }
}

/// Which of `n` pixels stands at position `i` of an axis that goes on beyond them; `None` is black.
fn source_index(i: i64, n: usize, pad: PadMode) -> Option<usize> {
    let last = n as i64 - 1;
    match pad {
        _ if (0..=last).contains(&i) => Some(i as usize),
        PadMode::Zeros => None,
        PadMode::Border => Some(i.clamp(0, last) as usize),
        PadMode::Reflection if last == 0 => Some(0),
        PadMode::Reflection => {
            // There and back again is a period of twice the distance between the edge pixels.
            let phase = i.rem_euclid(2 * last);
            Some(phase.min(2 * last - phase) as usize)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reflection_goes_to_and_fro() {
        let at = |i| source_index(i, 4, PadMode::Reflection).unwrap();
        assert_eq!((-7..10).map(at).collect::<Vec<_>>(), [1, 0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1, 2, 3]);
    }

    #[test]
    fn a_side_can_lose_a_pixel() {
        let resize = Resize::new(460);
        for side in [63, 117, 233, 243, 466] {
            assert_eq!(resize.region(side, 1000, 0.0, 0.0).width, side - 1);
        }
        assert_eq!((50..1200).filter(|&s| resize.region(s, 5000, 0.0, 0.0).width < s).count(), 43);
    }

    #[test]
    fn settings_come_back() {
        let all: [Arc<dyn ItemTransform>; 7] = [
            Arc::new(Resize::new((4, 5)).method(ResizeMethod::Pad).pad_mode(PadMode::Border)),
            Arc::new(RandomResizedCrop::new(7).min_scale(0.35).ratio(0.5, 2.0)),
            Arc::new(CropPad::new((4, 5)).pad_mode(PadMode::Reflection)),
            Arc::new(RandomCrop::new((4, 5))),
            Arc::new(RatioResize::new(9)),
            Arc::new(FlipItem::new(0.25)),
            Arc::new(DihedralItem::new(0.75)),
        ];
        for t in all {
            assert_eq!(item_transform_from(&t.settings()).unwrap().describe(), t.describe());
        }
        assert_eq!(item_transform_from(&json!({ "name": "Blur" })).unwrap_err().kind(), ErrorKind::Format);
    }

    #[test]
    fn extreme_shapes_work() {
        for (w, h) in [(1, 1), (1, 2000), (2000, 1), (3, 2)] {
            let picture = Picture { width: w, height: h, rgb: vec![9; w * h * 3] };
            for method in [ResizeMethod::Crop, ResizeMethod::Pad, ResizeMethod::Squish] {
                let out = Resize::new(46).method(method).apply_at(picture.clone(), 0.3, 0.9).unwrap();
                assert!(out.rgb.len() == 46 * 46 * 3 && out.rgb.iter().all(|&v| v == 9));
            }
        }
        let dot = Picture { width: 1, height: 1, rgb: vec![1, 2, 3] };
        assert!(Resize::new(0).apply_at(dot, 0.0, 0.0).is_err());
    }
}
