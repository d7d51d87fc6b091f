//! Paints one picture: background, things lying about, shadow, object, light, lens and sensor.

use super::shapes::{self, Distance, P, Paint, Part};
use crate::data::Picture;
use crate::rng::Rng;

type Rgb = [f32; 3]; // 0..1

/// A picture of an object of `class`; everything else is drawn from `rng`.
pub fn paint(class: usize, rng: &mut Rng) -> Picture {
    let side = rng.range(175.0, 355.0);
    let aspect = rng.range(0.75, 1.33).sqrt();
    let width = ((side * aspect) as usize).clamp(160, 420);
    let height = ((side / aspect) as usize).clamp(160, 420);
    let scene = Scene::new(class, width, height, rng);
    let mut pixels = vec![[0.0; 3]; width * height]; // [H, W]
    for (y, row) in pixels.chunks_exact_mut(width).enumerate() {
        for (x, pixel) in row.iter_mut().enumerate() {
            *pixel = scene.color((x as f32 + 0.5, y as f32 + 0.5));
        }
    }
    let softness = rng.range(0.0, 1.1).powi(2) as f32 * side as f32 / 250.0;
    blur(&mut pixels, width, softness);
    Picture { width, height, rgb: develop(&pixels, rng) }
}

/// From scene coordinates (pixels) to those of a shape and back in scale.
#[derive(Clone, Copy)]
struct Pose {
    center: P,
    across: P, // rows of the inverse rotation, divided by the scale
    down: P,
    scale: f32, // pixels per unit
}

impl Pose {
    fn new(center: P, scale: f32, angle: f32, squeeze: f32, mirrored: bool) -> Pose {
        let (sin, cos) = angle.sin_cos();
        let flip = if mirrored { -1.0 } else { 1.0 };
        let (sx, sy) = (flip / (scale * squeeze), squeeze / scale);
        Pose { center, across: (cos * sx, sin * sx), down: (-sin * sy, cos * sy), scale }
    }

    fn local(&self, p: P) -> P {
        let (x, y) = (p.0 - self.center.0, p.1 - self.center.1);
        (self.across.0 * x + self.across.1 * y, self.down.0 * x + self.down.1 * y)
    }
}

struct Thing {
    pose: Pose,
    parts: Vec<Part>,
    colors: [Rgb; 2],
    gloss: f32,
    grain: f32,
}

struct Scene {
    ground: Ground,
    things: Vec<Thing>, // the last one is the object
    light: P,           // from where it comes, length 1
    shadow: f32,
    reach: f32, // shadow offset in pixels
    slope: P,   // brightness over the picture
    middle: P,
    salt: u32,
}

/// Any colour at all.
fn color(rng: &mut Rng) -> Rgb {
    hsv(rng.uniform(), rng.range(0.05, 0.9), rng.range(0.3, 1.0))
}

/// A colour that objects of `class` often have: leaves are mostly green, keys brass or steel. One in sixteen has any colour, and
/// the palettes overlap with each other and with the backgrounds, so a colour is a hint and no proof.
fn own_color(class: usize, rng: &mut Rng) -> Rgb {
    if rng.chance(0.06) {
        return color(rng);
    }
    // (hue, saturation, value) from .. to; the first palette of a class is the more frequent one.
    type Palette = [(f64, f64); 3];
    const PALETTES: [[Palette; 2]; 6] = [
        [[(0.03, 0.13), (0.55, 0.95), (0.65, 1.0)], [(0.50, 0.62), (0.15, 0.5), (0.55, 0.95)]], // fish: gold, silver
        [[(0.10, 0.15), (0.35, 0.75), (0.5, 0.85)], [(0.0, 1.0), (0.0, 0.12), (0.4, 0.75)]],    // key: brass, steel
        [[(0.22, 0.40), (0.45, 0.9), (0.25, 0.65)], [(0.02, 0.12), (0.6, 0.95), (0.4, 0.8)]],   // leaf: green, autumn
        [[(0.55, 0.70), (0.4, 0.9), (0.4, 0.95)], [(0.0, 1.0), (0.0, 0.15), (0.8, 1.0)]],       // mug: blue, white
        [[(-0.03, 0.05), (0.6, 0.95), (0.4, 0.85)], [(0.05, 0.09), (0.3, 0.7), (0.3, 0.7)]],    // mushroom: red, brown
        [[(0.74, 0.95), (0.5, 0.95), (0.5, 1.0)], [(0.45, 0.55), (0.5, 0.95), (0.5, 0.9)]],     // umbrella: pink, teal
    ];
    let [hue, saturation, value] = PALETTES[class % 6][usize::from(rng.chance(0.35))];
    hsv(rng.range(hue.0, hue.1).rem_euclid(1.0), rng.range(saturation.0, saturation.1), rng.range(value.0, value.1))
}

fn hsv(hue: f64, saturation: f64, value: f64) -> Rgb {
    let channel = |shift: f64| {
        let h = (hue + shift).fract() * 6.0;
        let ramp = ((h - 3.0).abs() - 1.0).clamp(0.0, 1.0);
        (value * (1.0 - saturation + saturation * ramp)) as f32
    };
    [channel(0.0), channel(2.0 / 3.0), channel(1.0 / 3.0)]
}

fn mix(a: Rgb, b: Rgb, t: f32) -> Rgb {
    [0, 1, 2].map(|c| a[c] + (b[c] - a[c]) * t)
}

fn brightness(c: Rgb) -> f32 {
    0.3 * c[0] + 0.59 * c[1] + 0.11 * c[2]
}

impl Scene {
    fn new(class: usize, width: usize, height: usize, rng: &mut Rng) -> Scene {
        let (w, h) = (width as f32, height as f32);
        let short = w.min(h);
        let salt = rng.next_u32();
        let ground = Ground::new(w, h, rng);
        let mut things: Vec<Thing> = (0..rng.below(4)).map(|_| clutter(w, h, rng)).collect();

        let scale = short * 0.5 * rng.range(0.76, 1.04) as f32;
        let slack = |side: f32, rng: &mut Rng| {
            side / 2.0 + rng.range(-0.6, 0.6) as f32 * (side / 2.0 - scale * 0.82).max(0.04 * side)
        };
        let center = (slack(w, rng), slack(h, rng));
        let angle = rng.normal().clamp(-2.0, 2.0) as f32 * 0.3;
        let squeeze = rng.range(0.88, 1.14) as f32;
        let pose = Pose::new(center, scale, angle, squeeze, rng.chance(0.5));
        // An object in the colour of its background would be a riddle, not a photo.
        let mut first = own_color(class, rng);
        for _ in 0..6 {
            let behind = ground.tint();
            let apart: f32 = (0..3).map(|c| (first[c] - behind[c]).abs()).sum();
            if apart > 0.55 && (brightness(first) - brightness(behind)).abs() > 0.1 {
                break;
            }
            first = own_color(class, rng);
        }
        let colors = [first, own_color(class, rng)];
        let parts = shapes::object(class, rng);
        things.push(Thing {
            pose,
            parts,
            colors,
            gloss: rng.range(0.0, 0.5) as f32,
            grain: rng.range(0.0, 0.16) as f32,
        });

        let from = rng.range(0.0, std::f64::consts::TAU);
        let strength = rng.range(0.0, 0.45) as f32;
        let way = rng.range(0.0, std::f64::consts::TAU);
        Scene {
            ground,
            things,
            light: (from.cos() as f32, from.sin() as f32 * 0.6 - 0.5),
            shadow: rng.range(0.15, 0.6) as f32,
            reach: scale * rng.range(0.04, 0.2) as f32,
            slope: (way.cos() as f32 * strength / w, way.sin() as f32 * strength / h),
            middle: (w / 2.0, h / 2.0),
            salt,
        }
    }

    fn color(&self, p: P) -> Rgb {
        let mut rgb = self.ground.color(p, self.salt);
        for thing in &self.things {
            // No shape and no shadow reaches further: most pixels of most things are done here, which halves the time.
            let at = thing.pose.local(p);
            if at.0 * at.0 + at.1 * at.1 > 3.2 {
                continue;
            }
            let behind = (p.0 + self.light.0 * self.reach, p.1 + self.light.1 * self.reach);
            let soft = thing.outline(thing.pose.local(behind)) * thing.pose.scale / (self.reach + 2.0);
            let shade = 1.0 - self.shadow * (0.5 - soft * 0.7).clamp(0.0, 1.0);
            rgb = rgb.map(|v| v * shade);
            self.lay(thing, p, &mut rgb);
        }
        let (x, y) = (p.0 - self.middle.0, p.1 - self.middle.1);
        let far = (x / self.middle.0).powi(2) + (y / self.middle.1).powi(2);
        let light = 1.0 + self.slope.0 * x * 2.0 + self.slope.1 * y * 2.0 - 0.07 * far;
        rgb.map(|v| v * light)
    }

    fn lay(&self, thing: &Thing, p: P, rgb: &mut Rgb) {
        let at = thing.pose.local(p);
        for part in &thing.parts {
            let distance = (part.distance)(at);
            let cover = (0.5 - distance * thing.pose.scale).clamp(0.0, 1.0);
            if cover > 0.0 {
                let paint = self.shaded(thing, &part.distance, part.paint, p, distance);
                *rgb = mix(*rgb, paint, cover);
            }
        }
    }

    /// The part's colour, lit as if it bulged towards the viewer near its edge.
    fn shaded(&self, thing: &Thing, distance: &Distance, paint: Paint, p: P, d: f32) -> Rgb {
        let step = 1.5;
        let dx = distance(thing.pose.local((p.0 + step, p.1))) - d;
        let dy = distance(thing.pose.local((p.0, p.1 + step))) - d;
        let length = shapes::length(dx, dy).max(1e-6);
        // A quarter circle over the width of the bevel: steep at the edge, flat inside.
        let depth = (-d / paint.bevel).clamp(0.0, 1.0);
        let steep = (1.0 - depth).powi(2) * 0.85;
        let facing = (dx * self.light.0 + dy * self.light.1) / length * steep;
        let lit = 0.86 + 0.34 * facing - 0.1 * steep;
        let shine = thing.gloss * (1.0 - ((facing - 0.45) * 5.0).powi(2)).max(0.0);
        let grain = 1.0 + thing.grain * (clouds(p.0 * 0.09, p.1 * 0.09, self.salt ^ 77) - 0.5) * 2.0;
        let base = mix(thing.colors[0], thing.colors[1], paint.mix);
        let toned = match paint.shade < 0.0 {
            true => mix(base, [0.03; 3], -paint.shade),
            false => mix(base, [0.97; 3], paint.shade),
        };
        toned.map(|v| v * lit * grain + shine)
    }
}

impl Thing {
    /// Distance to the union of all parts.
    fn outline(&self, at: P) -> f32 {
        // Fine parts lie inside the large ones, which come first.
        self.parts.iter().take(4).map(|part| (part.distance)(at)).fold(f32::MAX, f32::min)
    }
}

/// A small plain shape near the border, as in an untidy photo.
fn clutter(w: f32, h: f32, rng: &mut Rng) -> Thing {
    let around = rng.range(0.0, std::f64::consts::TAU);
    let far = rng.range(0.75, 1.1) as f32;
    let center = (w / 2.0 * (1.0 + around.cos() as f32 * far), h / 2.0 * (1.0 + around.sin() as f32 * far));
    let scale = w.min(h) * rng.range(0.07, 0.17) as f32;
    let pose = Pose::new(center, scale, rng.range(0.0, 6.3) as f32, rng.range(0.8, 1.25) as f32, false);
    let distance: Distance = match rng.below(5) {
        0 => Box::new(|p| shapes::circle(p, (0.0, 0.0), 0.9)),
        1 => Box::new(|p| shapes::cuboid(p, (0.0, 0.0), (0.9, 0.6), 0.15)),
        2 => Box::new(|p| shapes::polygon(p, &[(-0.9, 0.7), (0.9, 0.7), (0.0, -0.8)])),
        3 => Box::new(|p| shapes::circle(p, (0.0, 0.0), 0.7).abs() - 0.2),
        _ => Box::new(|p| shapes::line(p, (-1.3, 0.0), (1.3, 0.0), 0.16)),
    };
    let bevel = rng.range(0.05, 0.5) as f32;
    let parts = vec![Part { distance, paint: Paint { mix: 0.0, shade: 0.0, bevel } }];
    let paint = color(rng);
    Thing { pose, parts, colors: [paint, paint], gloss: rng.range(0.0, 0.4) as f32, grain: 0.05 }
}

/// A wall, a table, cloth, wood or foliage.
struct Ground {
    kind: usize,
    colors: [Rgb; 3],
    horizon: f32,
    across: P,
    scale: f32,
    rough: f32,
}

impl Ground {
    fn new(w: f32, h: f32, rng: &mut Rng) -> Ground {
        let muted = |rng: &mut Rng| {
            let c = color(rng);
            let grey = [brightness(c); 3];
            mix(grey, c, rng.range(0.15, 0.75) as f32)
        };
        let first = muted(rng);
        let near = mix(first, muted(rng), rng.range(0.1, 0.5) as f32);
        let other = muted(rng);
        let angle = rng.range(0.0, std::f64::consts::TAU) as f32;
        let wave = w.min(h) * rng.range(0.05, 0.2) as f32;
        Ground {
            kind: rng.below(5),
            colors: [first, near, other],
            horizon: h * rng.range(0.45, 0.75) as f32,
            across: (angle.cos() / wave, angle.sin() / wave),
            scale: rng.range(0.008, 0.03) as f32,
            rough: rng.range(0.04, 0.3) as f32,
        }
    }

    /// The colour in most places.
    fn tint(&self) -> Rgb {
        mix(self.colors[0], self.colors[1], 0.5)
    }

    fn color(&self, p: P, salt: u32) -> Rgb {
        let cloud = clouds(p.0 * self.scale, p.1 * self.scale, salt);
        let along = p.0 * self.across.0 + p.1 * self.across.1;
        let [a, b, c] = self.colors;
        let base = match self.kind {
            // A sweep of paper with a soft gradient.
            0 => mix(a, b, (0.5 + along * 0.08).clamp(0.0, 1.0)),
            // A table before a wall.
            1 => mix(a, mix(b, c, 0.35), ((p.1 - self.horizon) * 0.25).clamp(0.0, 1.0)),
            // Wood: stretched clouds, sharpened to grain.
            2 => {
                let side = -p.0 * self.across.1 + p.1 * self.across.0;
                let rings = (clouds(along * 0.25, side * 2.2, salt ^ 5) * 9.0).sin();
                mix(a, b, 0.5 + 0.4 * rings)
            }
            // Cloth: fine threads both ways, and wide stripes.
            3 => {
                let thread = (p.0 * 1.7).sin() * (p.1 * 1.7).sin() * 0.12;
                let stripe = ((along * 1.6).sin() * 4.0).clamp(-1.0, 1.0) * 0.3;
                mix(a, b, 0.5 + thread + stripe)
            }
            // Out of focus: blotches of three colours.
            _ => mix(
                mix(a, b, smooth(0.35, 0.65, cloud)),
                c,
                0.5 * smooth(0.5, 0.75, clouds(p.0 * self.scale, p.1 * self.scale, salt ^ 9)),
            ),
        };
        let rough = 1.0 + self.rough * (clouds(p.0 * 0.07, p.1 * 0.07, salt ^ 3) - 0.5) + 0.25 * (cloud - 0.5);
        base.map(|v| v * rough)
    }
}

fn smooth(a: f32, b: f32, x: f32) -> f32 {
    let t = ((x - a) / (b - a)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// Three octaves of value noise in 0..1.
fn clouds(x: f32, y: f32, salt: u32) -> f32 {
    let octave = |f: f32, s: u32| noise(x * f, y * f, salt.wrapping_add(s));
    octave(1.0, 0) * 0.57 + octave(2.1, 101) * 0.28 + octave(4.3, 202) * 0.15
}

fn noise(x: f32, y: f32, salt: u32) -> f32 {
    // `f32::floor` is a call on processors without SSE 4.1, for which the crate is compiled too.
    let floor = |v: f32| v as i32 - i32::from(v < 0.0);
    let (ix, iy) = (floor(x), floor(y));
    let (fx, fy) = (ix as f32, iy as f32);
    let (ix, iy) = (ix as u32, iy as u32);
    let at = |dx: u32, dy: u32| {
        let mut h =
            ix.wrapping_add(dx).wrapping_mul(0x9e37_79b1) ^ iy.wrapping_add(dy).wrapping_mul(0x85eb_ca77) ^ salt;
        h = (h ^ h >> 15).wrapping_mul(0x2c1b_3c6d);
        h = (h ^ h >> 12).wrapping_mul(0x297a_2d39);
        (h >> 8) as f32 / (1 << 24) as f32
    };
    let (tx, ty) = (x - fx, y - fy);
    let (tx, ty) = (tx * tx * (3.0 - 2.0 * tx), ty * ty * (3.0 - 2.0 * ty));
    let top = at(0, 0) + (at(1, 0) - at(0, 0)) * tx;
    let bottom = at(0, 1) + (at(1, 1) - at(0, 1)) * tx;
    top + (bottom - top) * ty
}

/// The lens: a small Gaussian, rows then columns.
fn blur(pixels: &mut [Rgb], width: usize, sigma: f32) {
    if sigma < 0.3 {
        return;
    }
    let reach = (sigma * 2.5).ceil() as usize;
    let raw: Vec<f32> =
        (0..=2 * reach).map(|i| (-(i as f32 - reach as f32).powi(2) / (2.0 * sigma * sigma)).exp()).collect();
    let sum: f32 = raw.iter().sum();
    let weights: Vec<f32> = raw.iter().map(|w| w / sum).collect();
    let height = pixels.len() / width;
    for (n, step, lines, line_step) in [(width, 1, height, width), (height, width, width, 1)] {
        // A line with its ends repeated, so that the inner loop asks nothing.
        let mut padded = vec![[0.0; 3]; n + 2 * reach];
        for line in 0..lines {
            let start = line * line_step;
            for (i, slot) in padded.iter_mut().enumerate() {
                *slot = pixels[start + i.saturating_sub(reach).min(n - 1) * step];
            }
            for (i, window) in padded.windows(weights.len()).enumerate() {
                let mut total = [0.0; 3];
                for (rgb, weight) in window.iter().zip(&weights) {
                    (0..3).for_each(|c| total[c] += rgb[c] * weight);
                }
                pixels[start + i * step] = total;
            }
        }
    }
}

/// The sensor: white balance, exposure, noise, and rounding to bytes.
fn develop(pixels: &[Rgb], rng: &mut Rng) -> Vec<u8> {
    let exposure = rng.range(0.82, 1.18) as f32;
    let warm = rng.range(-0.08, 0.08) as f32;
    let gain = [exposure * (1.0 + warm), exposure, exposure * (1.0 - warm)];
    let grain = rng.range(1.5, 9.0) as f32;
    let mut rgb = Vec::with_capacity(pixels.len() * 3);
    for pixel in pixels {
        for c in 0..3 {
            // Four uniform bytes add up to a bell of standard deviation 148.
            let bits = rng.next_u32();
            let bell = (bits & 255) + (bits >> 8 & 255) + (bits >> 16 & 255) + (bits >> 24);
            let noise = (bell as f32 - 510.0) / 148.0 * grain;
            rgb.push((pixel[c] * gain[c] * 255.0 + noise + 0.5).clamp(0.0, 255.0) as u8);
        }
    }
    rgb
}
