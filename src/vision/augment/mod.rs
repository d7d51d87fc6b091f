//! `aug_transforms`: which random changes training pictures go through, and with what odds.
//!
//! [`AugTransforms`] draws the numbers and hands them to one operation, [`ops::augment`](mod@crate::ops::augment), which does
//! all the work in one go over each picture. What is drawn, for each picture of a training batch, with fastai's defaults:
//!
//! | what | drawn from | with probability |
//! |---|---|---|
//! | flip left-right, or one of the square's 8 symmetries with [`AugTransforms::flip_vert`] | yes | 0.5 |
//! | rotate | -10 to 10 degrees | 0.75 |
//! | zoom, around a random centre | 1 to 1.1 | 0.75 |
//! | perspective warp, two axes | -0.2 to 0.2 each | 0.75 each |
//! | crop and resize to `size` | `min_scale` to 1 of the area, when `min_scale` isn't 1 | 1 |
//! | brightness, then contrast | 0.4 to 0.6; 0.8 to 1.25 | 0.75 each |
//! | saturation, if asked for | as contrast, from its own amount | 0.75 |
//! | hue, if asked for | 0.9 to 1.11 of a turn for 0.1 | 0.75 |
//! | boxes of noise, if asked for: [`AugTransforms::random_erasing`] | up to 0.3 of the area | 0.5, for a batch |
//!
//! Validation pictures are resized to `size` and nothing else.
//!
//! **Crops.** fastai's batch transform draws *one* crop for the whole batch, because its pictures are one tensor there. Here every
//! picture gets its own, which augments more at no cost; [`AugTransforms::one_crop_per_batch`] restores fastai's way.
//!
//! ```
//! use onecycle::{data::BatchTransforms, vision::aug_transforms};
//! let tfms = aug_transforms().size(224).min_scale(0.75);
//! assert_eq!(tfms.stages((460, 460)).last().unwrap().height, 224);
//! ```

mod matrices;
mod stages;

pub use matrices::{dihedral, theta, warp_coefficients, zoom_of};

use super::crop::{Crop, choose_crop, valid_crop};
use crate::data::{BatchDraws, BatchTransforms, Stage, Subset};
use crate::ops::augment::{
    Augment, Erase, Interpolation, Light, MOST_BOXES, Padding, Pass, Sample, Statistics, Window, augment, preshrink,
};
use crate::rng::{Purpose, Rng};
use crate::{DType, Error, ErrorKind, Result, Tensor};
use serde::{Deserialize, Serialize};

/// fastai's `aug_transforms()`, to be adjusted by its methods.
pub fn aug_transforms() -> AugTransforms {
    AugTransforms::default()
}

/// Batch transforms of an image classifier; see the [module](self).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AugTransforms {
    do_flip: bool,
    flip_vert: bool,
    max_rotate: f64,
    min_zoom: f64,
    max_zoom: f64,
    max_lighting: f64,
    max_warp: f64,
    p_affine: f64,
    p_lighting: f64,
    size: Option<(usize, usize)>,
    min_scale: f64,
    batch_crop: bool,
    max_saturation: f64,
    max_hue: f64,
    erasing: Option<RandomErasing>,
    interpolation: Interpolation,
    pad_mode: Padding,
    align_corners: bool,
    batch: bool,
    normalize: Option<([f32; 3], [f32; 3])>,
}

/// Boxes of noise; see [`AugTransforms::random_erasing`]. The default is fastai's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RandomErasing {
    /// How often a batch gets boxes.
    pub p: f64,
    /// Smallest and largest share of the area that all boxes of a picture have together.
    pub sl: f64,
    /// The largest.
    pub sh: f64,
    /// Height over width is at least this, and at most 1 over it.
    pub min_aspect: f64,
    /// The most boxes of a picture, up to [`MOST_BOXES`].
    pub max_count: usize,
}

impl Default for RandomErasing {
    fn default() -> Self {
        RandomErasing { p: 0.5, sl: 0.0, sh: 0.3, min_aspect: 0.3, max_count: 1 }
    }
}

impl Default for AugTransforms {
    fn default() -> Self {
        AugTransforms {
            do_flip: true,
            flip_vert: false,
            max_rotate: 10.0,
            min_zoom: 1.0,
            max_zoom: 1.1,
            max_lighting: 0.2,
            max_warp: 0.2,
            p_affine: 0.75,
            p_lighting: 0.75,
            size: None,
            min_scale: 1.0,
            batch_crop: false,
            max_saturation: 0.0,
            max_hue: 0.0,
            erasing: None,
            interpolation: Interpolation::Bilinear,
            pad_mode: Padding::Reflection,
            align_corners: true,
            batch: false,
            normalize: None,
        }
    }
}

/// What was drawn for one picture. The default changes nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draws {
    /// 1 mirrors left and right, 0 doesn't.
    pub flip: f64,
    /// One of the square's symmetries, 0 to 7; see [`dihedral`]. 0 changes nothing.
    pub dihedral: usize,
    /// Degrees.
    pub rotate: f64,
    /// Factor; above 1 enlarges.
    pub zoom: f64,
    /// The zoom's centre, 0 to 1 from left and from top.
    pub zoom_centre: (f64, f64),
    /// Perspective amounts.
    pub warp: (f64, f64),
    /// Window of the crop, in the picture as it is after the affine pass.
    pub crop: Option<Crop>,
    /// Brightness, 0.5 is neutral.
    pub brightness: f64,
    /// Contrast, 1 is neutral.
    pub contrast: f64,
    /// Saturation, 1 is neutral.
    pub saturation: f64,
    /// Added to the hue; a whole turn is 1.
    pub hue: f64,
}

impl Default for Draws {
    fn default() -> Self {
        Draws {
            flip: 0.0,
            dihedral: 0,
            rotate: 0.0,
            zoom: 1.0,
            zoom_centre: (0.5, 0.5),
            warp: (0.0, 0.0),
            crop: None,
            brightness: 0.5,
            contrast: 1.0,
            saturation: 1.0,
            hue: 0.0,
        }
    }
}

impl AugTransforms {
    /// Output size, square. Without a size pictures keep theirs.
    pub fn size(self, size: usize) -> Self {
        self.size_hw(size, size)
    }

    /// Output size, rows and columns.
    pub fn size_hw(mut self, height: usize, width: usize) -> Self {
        self.size = Some((height.max(1), width.max(1)));
        self
    }

    /// Smallest share of the picture's *area* that a training crop keeps; 1 for no crop.
    pub fn min_scale(mut self, share: f64) -> Self {
        self.min_scale = share;
        self
    }

    /// Mirror half of the pictures, or none.
    pub fn do_flip(mut self, on: bool) -> Self {
        self.do_flip = on;
        self
    }

    /// Any of the square's symmetries for half of the pictures, instead of mirroring left and right alone.
    pub fn flip_vert(mut self, on: bool) -> Self {
        self.flip_vert = on;
        self
    }

    /// Multiplies rotation, lighting and warp, as they are set so far, by `amount`. Zoom stays.
    pub fn mult(mut self, amount: f64) -> Self {
        self.max_rotate *= amount;
        self.max_lighting *= amount;
        self.max_warp *= amount;
        self
    }

    /// Largest change of the colours' strength: fastai's `Saturation`.
    pub fn saturation(mut self, amount: f64) -> Self {
        self.max_saturation = amount;
        self
    }

    /// Largest change of the hue: fastai's `Hue`, which draws from 1 - amount to 1 / (1 - amount) of a turn.
    pub fn hue(mut self, amount: f64) -> Self {
        self.max_hue = amount;
        self
    }

    /// Boxes of normal noise after the normalisation, at the same places in all pictures of a training batch: fastai's
    /// `RandomErasing`.
    pub fn random_erasing(mut self, erasing: RandomErasing) -> Self {
        self.erasing = Some(RandomErasing { max_count: erasing.max_count.clamp(1, MOST_BOXES), ..erasing });
        self
    }

    /// What lies beyond a picture's border; mirrors it unless told otherwise.
    pub fn pad_mode(mut self, padding: Padding) -> Self {
        self.pad_mode = padding;
        self
    }

    /// What lies between pixels; bilinear unless told otherwise. The crop's resizing is always bilinear.
    pub fn mode(mut self, interpolation: Interpolation) -> Self {
        self.interpolation = interpolation;
        self
    }

    /// Whether the corners of input and output are the outermost pixels' centres (fastai's default) or the picture's.
    pub fn align_corners(mut self, on: bool) -> Self {
        self.align_corners = on;
        self
    }

    /// The same draws for all pictures of a batch, crop included: fastai's `batch=True`.
    pub fn batch(mut self, on: bool) -> Self {
        self.batch = on;
        self
    }

    /// Largest rotation in degrees.
    pub fn max_rotate(mut self, degrees: f64) -> Self {
        self.max_rotate = degrees;
        self
    }

    /// Smallest and largest zoom.
    pub fn zoom(mut self, min: f64, max: f64) -> Self {
        (self.min_zoom, self.max_zoom) = (min, max);
        self
    }

    /// Largest change of brightness and contrast.
    pub fn max_lighting(mut self, amount: f64) -> Self {
        self.max_lighting = amount;
        self
    }

    /// Largest perspective warp.
    pub fn max_warp(mut self, amount: f64) -> Self {
        self.max_warp = amount;
        self
    }

    /// Probability of each affine change, and of each change of lighting.
    pub fn p(mut self, affine: f64, lighting: f64) -> Self {
        (self.p_affine, self.p_lighting) = (affine, lighting);
        self
    }

    /// One crop for the whole batch, as fastai, instead of one for each picture.
    pub fn one_crop_per_batch(mut self) -> Self {
        self.batch_crop = true;
        self
    }

    /// Normalises by these statistics at the end (fastai's `Normalize.from_stats`).
    pub fn normalize(mut self, statistics: Statistics) -> Self {
        self.normalize = Some((statistics.mean, statistics.std));
        self
    }

    /// The transforms that [`BatchTransforms::settings`] described.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] when they are no such description.
    pub fn from_settings(settings: &serde_json::Value) -> Result<AugTransforms> {
        let bad = |e: serde_json::Error| Error::new(ErrorKind::Format, format!("batch transforms: {e}"));
        serde_json::from_value(settings["aug_transforms"].clone()).map_err(bad)
    }

    fn crops(&self) -> bool {
        self.min_scale != 1.0
    }

    fn has_affine(&self) -> bool {
        self.do_flip || self.max_rotate != 0.0 || self.max_warp != 0.0 || self.zooms()
    }

    fn zooms(&self) -> bool {
        self.min_zoom < 1.0 || self.max_zoom > 1.0
    }

    /// Draws for one training picture of `h` x `w`, in fastai's order of consumption.
    fn draw(&self, h: usize, w: usize, rng: &mut Rng) -> Draws {
        let mut d = Draws::default();
        // Effective value = the draw where a coin of probability p says so, else neutral: the draw is made either way.
        let maybe = |value: f64, neutral: f64, p: f64, rng: &mut Rng| if rng.chance(p) { value } else { neutral };
        if self.do_flip && self.flip_vert {
            let k = rng.below(8);
            d.dihedral = if rng.chance(0.5) { k } else { 0 };
        } else if self.do_flip {
            d.flip = maybe(1.0, 0.0, 0.5, rng);
        }
        let p = self.p_affine;
        if self.max_rotate != 0.0 {
            let degrees = rng.range(-self.max_rotate, self.max_rotate);
            d.rotate = maybe(degrees, 0.0, p, rng);
        }
        if self.zooms() {
            let zoom = rng.range(self.min_zoom, self.max_zoom);
            d.zoom = maybe(zoom, 1.0, p, rng);
            d.zoom_centre = (rng.uniform(), rng.uniform());
        }
        if self.max_warp != 0.0 {
            let x = rng.range(-self.max_warp, self.max_warp);
            d.warp.0 = maybe(x, 0.0, p, rng);
            let y = rng.range(-self.max_warp, self.max_warp);
            d.warp.1 = maybe(y, 0.0, p, rng);
        }
        if self.crops() {
            d.crop = Some(choose_crop(h, w, self.min_scale, 1.0, (1.0, 1.0), &mut || rng.uniform()));
        }
        if self.max_lighting != 0.0 {
            let a = self.max_lighting;
            let brightness = rng.range(0.5 * (1.0 - a), 0.5 * (1.0 + a));
            d.brightness = maybe(brightness, 0.5, self.p_lighting, rng);
            let contrast = rng.range((1.0 - a).ln(), -(1.0 - a).ln()).exp();
            d.contrast = maybe(contrast, 1.0, self.p_lighting, rng);
        }
        let around = |amount: f64, rng: &mut Rng| rng.range((1.0 - amount).ln(), -(1.0 - amount).ln()).exp();
        if self.max_saturation != 0.0 {
            let saturation = around(self.max_saturation, rng);
            d.saturation = maybe(saturation, 1.0, self.p_lighting, rng);
        }
        if self.max_hue != 0.0 {
            let hue = around(self.max_hue, rng);
            d.hue = maybe(hue, 0.0, self.p_lighting, rng);
        }
        d
    }

    /// Boxes for a batch of pictures of `h` x `w`: most often none.
    fn draw_boxes(&self, (h, w): (usize, usize), noise: (u64, u64, u64)) -> Erase {
        let Some(e) = &self.erasing else { return Erase::default() };
        let mut rng = Rng::at(noise.0, Purpose::Erase, noise.1, noise.2 ^ 1 << 63); // beside the noise's own stream
        if !rng.chance(e.p) {
            return Erase::default();
        }
        let count = 1 + rng.below(e.max_count);
        let area = (h * w) as f64 / count as f64;
        let one = |_| {
            let size = rng.range(e.sl, e.sh) * area;
            let ratio = rng.range(e.min_aspect.ln(), -e.min_aspect.ln()).exp();
            let side = |length: f64, of: usize| (length.round_ties_even() as usize).min(of);
            let (height, width) = (side((size * ratio).sqrt(), h), side((size / ratio).sqrt(), w));
            let (top, left) = (rng.below(h - height + 1), rng.below(w - width + 1));
            Window { top, left, height, width }
        };
        Erase { boxes: (0..count).map(one).collect(), noise }
    }

    /// What the operation is to do with pictures of `h` x `w`, given the draws of each; `None` for validation.
    pub fn plan(&self, (h, w): (usize, usize), n: usize, draws: Option<&[Draws]>) -> Augment {
        let out = self.size.unwrap_or((h, w));
        let mut passes = Vec::new();
        // With a crop the affine pass keeps the size and the crop resizes; without one the affine pass resizes.
        let affine_out = if self.crops() { (h, w) } else { out };
        let affine_needed = draws.is_some() && self.has_affine();
        if affine_needed || affine_out != (h, w) {
            let sample = |d: &Draws| Sample {
                crop: None,
                theta: theta(d, h, w),
                warp: (d.warp != (0.0, 0.0)).then(|| warp_coefficients(d.warp)),
                shrink: None,
            };
            let mut samples: Vec<Sample> = match draws {
                Some(draws) => draws.iter().map(sample).collect(),
                None => vec![sample(&Draws::default()); n],
            };
            if self.interpolation == Interpolation::Bilinear {
                let shrink = preshrink((h, w), affine_out, zoom_of(&samples));
                samples.iter_mut().for_each(|s| s.shrink = shrink);
            }
            let (padding, interpolation, align_corners) = (self.pad_mode, self.interpolation, self.align_corners);
            let (height, width) = affine_out;
            passes.push(Pass { height, width, padding, interpolation, align_corners, samples });
        }
        if self.crops() {
            let resize = |crop: Crop| Sample {
                crop: Some(crop),
                theta: Sample::IDENTITY,
                warp: None,
                shrink: preshrink((crop.height, crop.width), out, 1.0),
            };
            let whole = || valid_crop(h, w, (1.0, 1.0), 1.0);
            let samples = match draws {
                Some(draws) => draws.iter().map(|d| resize(d.crop.unwrap_or_else(whole))).collect(),
                None => vec![resize(whole()); n],
            };
            let ((height, width), padding) = (out, Padding::Reflection);
            passes.push(Pass {
                height,
                width,
                padding,
                interpolation: Interpolation::Bilinear,
                align_corners: true,
                samples,
            });
        }
        let light = |d: &Draws| Light {
            brightness: d.brightness as f32,
            contrast: d.contrast as f32,
            saturation: d.saturation as f32,
        };
        let lights = match draws {
            Some(draws) if self.max_lighting != 0.0 || self.max_saturation != 0.0 => draws.iter().map(light).collect(),
            _ => Vec::new(),
        };
        let hues = match draws {
            Some(draws) if self.max_hue != 0.0 => draws.iter().map(|d| d.hue as f32).collect(),
            _ => Vec::new(),
        };
        Augment { passes, lights, hues, normalize: self.statistics(), erase: Erase::default() }
    }
}

impl BatchTransforms for AugTransforms {
    fn stages(&self, input: (usize, usize)) -> Vec<Stage> {
        stages::of(self, input)
    }

    fn apply(&self, bytes: &Tensor, subset: Subset, draws: &BatchDraws<'_>, dtype: DType) -> Result<Tensor> {
        let [n, h, w, _] = bytes.dims4("augment")?;
        let plan = match subset {
            Subset::Valid => self.plan((h, w), n, None),
            Subset::Train => {
                let one = |&item: &usize| {
                    let mut rng = Rng::at(draws.seed, Purpose::BatchTransform, draws.epoch, item as u64);
                    self.draw(h, w, &mut rng)
                };
                let mut each: Vec<Draws> = draws.items.iter().map(one).collect();
                if let (true, Some(&first)) = (self.batch, each.first()) {
                    each.fill(first);
                }
                if self.batch_crop {
                    let first = each.first().and_then(|d| d.crop);
                    each.iter_mut().for_each(|d| d.crop = first);
                }
                let mut plan = self.plan((h, w), n, Some(&each));
                let first = draws.items.first().map_or(0, |&i| i as u64);
                plan.erase = self.draw_boxes(self.output_size((h, w)), (draws.seed, draws.epoch, first));
                plan
            }
        };
        augment(bytes, &plan, dtype)
    }

    fn output_size(&self, input: (usize, usize)) -> (usize, usize) {
        self.size.unwrap_or(input)
    }

    fn statistics(&self) -> Option<Statistics> {
        self.normalize.map(|(mean, std)| Statistics { mean, std })
    }

    fn settings(&self) -> serde_json::Value {
        serde_json::json!({ "name": "aug_transforms", "aug_transforms": self })
    }
}
