//! `aug_transforms`: which random changes training pictures go through, and with what odds.
//!
//! [`AugTransforms`] draws the numbers and hands them to one operation, [`ops::augment`](mod@crate::ops::augment), which does
//! all the work in one go over each picture. What is drawn, for each picture of a training batch, with fastai's defaults:
//!
//! | what | drawn from | with probability |
//! |---|---|---|
//! | flip left-right | yes | 0.5 |
//! | rotate | -10 to 10 degrees | 0.75 |
//! | zoom, around a random centre | 1 to 1.1 | 0.75 |
//! | perspective warp, two axes | -0.2 to 0.2 each | 0.75 each |
//! | crop and resize to `size` | `min_scale` to 1 of the area, when `min_scale` isn't 1 | 1 |
//! | brightness, then contrast | 0.4 to 0.6; 0.8 to 1.25 | 0.75 each |
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

use super::crop::{Crop, choose_crop, valid_crop};
use crate::data::{BatchDraws, BatchTransforms, IntToFloat, Stage, Subset};
use crate::ops::augment::{Augment, Light, Pass, Sample, Statistics, augment, preshrink, source_position};
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
    normalize: Option<([f32; 3], [f32; 3])>,
}

impl Default for AugTransforms {
    fn default() -> Self {
        AugTransforms {
            do_flip: true,
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
            normalize: None,
        }
    }
}

/// What was drawn for one picture. The default changes nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draws {
    /// 1 mirrors left and right, 0 doesn't.
    pub flip: f64,
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
}

impl Default for Draws {
    fn default() -> Self {
        Draws {
            flip: 0.0,
            rotate: 0.0,
            zoom: 1.0,
            zoom_centre: (0.5, 0.5),
            warp: (0.0, 0.0),
            crop: None,
            brightness: 0.5,
            contrast: 1.0,
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
        if self.do_flip {
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
        d
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
            let shrink = preshrink((h, w), affine_out, zoom_of(&samples));
            samples.iter_mut().for_each(|s| s.shrink = shrink);
            passes.push(pass(affine_out, samples));
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
            passes.push(pass(out, samples));
        }
        let light = |d: &Draws| Light { brightness: d.brightness as f32, contrast: d.contrast as f32 };
        let lights = match draws {
            Some(draws) if self.max_lighting != 0.0 => draws.iter().map(light).collect(),
            _ => Vec::new(),
        };
        Augment { passes, lights, normalize: self.statistics() }
    }
}

impl BatchTransforms for AugTransforms {
    fn stages(&self, input: (usize, usize)) -> Vec<Stage> {
        let out = self.size.unwrap_or(input);
        let affine_out = if self.crops() { input } else { out };
        let stage = |description: String, (height, width)| Stage { description, height, width };
        let size_of = |size: Option<(usize, usize)>| size.map_or("None".into(), |(h, w)| format!("({h}, {w})"));
        let affine_size = size_of(self.size.filter(|_| !self.crops()));
        let mut stages = vec![stage(IntToFloat::DESCRIPTION.into(), input)];
        // The whole affine group goes by the name of its first member, the lighting group too: that is how fastai folds them.
        let common = "'mode': 'bilinear', 'pad_mode': 'reflection'";
        let simple = |name: &str, p: f64| {
            format!(
                "{name} -- {{'size': {affine_size}, {common}, 'mode_mask': 'nearest', 'align_corners': True, 'p': {p:?}}}"
            )
        };
        if self.do_flip {
            stages.push(stage(simple("Flip", 0.5), affine_out));
        } else if self.max_warp != 0.0 {
            let text = format!(
                "Warp -- {{'magnitude': {:?}, 'p': 1.0, 'draw_x': None, 'draw_y': None, 'size': {affine_size}, {common}, \
                 'batch': False, 'align_corners': True, 'mode_mask': 'nearest'}}",
                self.max_warp
            );
            stages.push(stage(text, affine_out));
        } else if self.max_rotate != 0.0 {
            stages.push(stage(simple("Rotate", 1.0), affine_out));
        } else if self.zooms() {
            stages.push(stage(simple("Zoom", 1.0), affine_out));
        }
        if self.crops() {
            let text = format!(
                "RandomResizedCropGPU -- {{'size': {}, 'min_scale': {:?}, 'ratio': (1, 1), 'mode': 'bilinear', \
                 'valid_scale': 1.0, 'max_scale': 1.0, 'p': 1.0}}",
                size_of(Some(out)),
                self.min_scale
            );
            stages.push(stage(text, out));
        }
        if self.max_lighting != 0.0 {
            let text = format!(
                "Brightness -- {{'max_lighting': {:?}, 'p': 1.0, 'draw': None, 'batch': False}}",
                self.max_lighting
            );
            stages.push(stage(text, out));
        }
        if let Some((mean, std)) = self.normalize {
            let tensor = |v: [f32; 3]| {
                let rows = v.map(|x| format!("[[{x:.4}]]")).join(",\n\n         ");
                format!("tensor([[{rows}]])")
            };
            let text = format!("Normalize -- {{'mean': {}, 'std': {}, 'axes': (0, 2, 3)}}", tensor(mean), tensor(std));
            stages.push(stage(text, out));
        }
        stages
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
                if self.batch_crop {
                    let first = each.first().and_then(|d| d.crop);
                    each.iter_mut().for_each(|d| d.crop = first);
                }
                self.plan((h, w), n, Some(&each))
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

fn pass((height, width): (usize, usize), samples: Vec<Sample>) -> Pass {
    Pass { height, width, padding: Default::default(), align_corners: true, samples }
}

/// 2 / the extent of all sampling positions of a batch, x and y together. They are extreme at the picture's corners.
pub fn zoom_of(samples: &[Sample]) -> f64 {
    let corners = [(-1.0, -1.0), (1.0, -1.0), (-1.0, 1.0), (1.0, 1.0)];
    let positions = samples.iter().flat_map(|s| corners.map(|(x, y)| source_position(s, x, y)));
    let (low, high) = positions
        .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), (x, y)| (low.min(x).min(y), high.max(x).max(y)));
    2.0 / f64::from(high - low)
}

/// Output position to input position: flip times rotation times zoom, then the correction for pictures that aren't square.
pub fn theta(d: &Draws, h: usize, w: usize) -> [f32; 6] {
    let (sin, cos) = d.rotate.to_radians().sin_cos();
    let s = 1.0 / d.zoom;
    let (tx, ty) = ((1.0 - s) * (2.0 * d.zoom_centre.0 - 1.0), (1.0 - s) * (2.0 * d.zoom_centre.1 - 1.0));
    let mirror = 1.0 - 2.0 * d.flip;
    let aspect = h as f64 / w as f64;
    let row = |a: f64, b: f64| [a * s, b * s, a * tx + b * ty];
    let [a, b, c] = row(mirror * cos, mirror * sin);
    let [d0, e, f] = row(-sin, cos);
    [a, b * aspect, c, d0 / aspect, e, f].map(|v| v as f32)
}

/// The eight numbers of the homography that sends the moved corners back to the picture's own.
pub fn warp_coefficients((mx, my): (f64, f64)) -> [f32; 8] {
    let own = [(-1.0, -1.0), (-1.0, 1.0), (1.0, -1.0), (1.0, 1.0)];
    // The "x" amount moves the corners' ordinates, the "y" amount their abscissae.
    let moved = [(-1.0 - my, -1.0 - mx), (-1.0 + my, 1.0 + mx), (1.0 + my, -1.0 + mx), (1.0 - my, 1.0 - mx)];
    let mut rows = [[0f64; 9]; 8];
    for (i, ((ox, oy), (tx, ty))) in own.into_iter().zip(moved).enumerate() {
        rows[2 * i] = [tx, ty, 1.0, 0.0, 0.0, 0.0, -ox * tx, -ox * ty, ox];
        rows[2 * i + 1] = [0.0, 0.0, 0.0, tx, ty, 1.0, -oy * tx, -oy * ty, oy];
    }
    // Gauss and Jordan, with the largest pivot.
    for i in 0..8 {
        let pivot = (i..8).max_by(|&a, &b| rows[a][i].abs().total_cmp(&rows[b][i].abs())).unwrap_or(i);
        rows.swap(i, pivot);
        let row = rows[i].map(|v| v / rows[i][i]);
        rows[i] = row;
        for (j, other) in rows.iter_mut().enumerate() {
            if j != i {
                let factor = other[i];
                other.iter_mut().zip(row).for_each(|(o, r)| *o -= factor * r);
            }
        }
    }
    rows.map(|row| row[8] as f32)
}
