//! The quickstart's objects, as parts with signed distances.
//!
//! A signed distance tells how far a point is from a shape's edge, negative inside. Edges come out smooth at any size,
//! shapes combine by `min` and `max`, and the distance to the edge is all that shading needs to make a flat outline look
//! round. Coordinates: x to the right, y **down**, the object within about -1..1.

use crate::rng::Rng;

/// A point or a vector.
pub type P = (f32, f32);

/// A signed distance.
pub type Distance = Box<dyn Fn(P) -> f32 + Send + Sync>;

/// What a part looks like; colours are shares of the object's two random ones, never the class's.
#[derive(Clone, Copy)]
pub struct Paint {
    /// 0 is the object's first colour, 1 its second.
    pub mix: f32,
    /// Added to the colour: positive for white, negative for black.
    pub shade: f32,
    /// Width of the rounded edge; large values make the part look like a ball.
    pub bevel: f32,
}

/// A shape with its paint. Later parts cover earlier ones.
pub struct Part {
    /// Where the part is.
    pub distance: Distance,
    /// What it looks like.
    pub paint: Paint,
}

fn part(mix: f32, shade: f32, bevel: f32, distance: impl Fn(P) -> f32 + Send + Sync + 'static) -> Part {
    Part { distance: Box::new(distance), paint: Paint { mix, shade, bevel } }
}

/// Without the care that `f32::hypot` takes of overflow, and several times as fast.
pub fn length(x: f32, y: f32) -> f32 {
    (x * x + y * y).sqrt()
}

pub fn circle(p: P, c: P, r: f32) -> f32 {
    length(p.0 - c.0, p.1 - c.1) - r
}

/// An approximation that is exact on the edge and near enough around it.
pub fn ellipse(p: P, c: P, r: P) -> f32 {
    let (x, y) = (p.0 - c.0, p.1 - c.1);
    let a = length(x / r.0, y / r.1);
    let b = length(x / (r.0 * r.0), y / (r.1 * r.1));
    if b < 1e-6 { -r.0.min(r.1) } else { a * (a - 1.0) / b }
}

/// A box with half sides `r` and corners rounded by `round`.
pub fn cuboid(p: P, c: P, r: P, round: f32) -> f32 {
    let (x, y) = ((p.0 - c.0).abs() - r.0 + round, (p.1 - c.1).abs() - r.1 + round);
    length(x.max(0.0), y.max(0.0)) + x.max(y).min(0.0) - round
}

/// A line from `a` to `b` of half thickness `r`, with round ends.
pub fn line(p: P, a: P, b: P, r: f32) -> f32 {
    let (px, py, bx, by) = (p.0 - a.0, p.1 - a.1, b.0 - a.0, b.1 - a.1);
    let t = ((px * bx + py * by) / (bx * bx + by * by)).clamp(0.0, 1.0);
    length(px - t * bx, py - t * by) - r
}

pub fn polygon(p: P, corners: &[P]) -> f32 {
    let (mut nearest, mut inside) = (f32::MAX, false);
    for (i, &a) in corners.iter().enumerate() {
        let b = corners[(i + 1) % corners.len()];
        nearest = nearest.min(line(p, a, b, 0.0));
        if (a.1 > p.1) != (b.1 > p.1) && p.0 < (b.0 - a.0) * (p.1 - a.1) / (b.1 - a.1) + a.0 {
            inside = !inside;
        }
    }
    if inside { -nearest } else { nearest }
}

/// The union of two shapes with the corner between them filled.
fn melt(a: f32, b: f32, k: f32) -> f32 {
    let h = (k - (a - b).abs()).max(0.0) / k;
    a.min(b) - h * h * k * 0.25
}

/// The parts of an object of `class`, with proportions drawn from `rng`.
pub fn object(class: usize, rng: &mut Rng) -> Vec<Part> {
    match class {
        0 => fish(rng),
        1 => key(rng),
        2 => leaf(rng),
        3 => mug(rng),
        4 => mushroom(rng),
        _ => umbrella(rng),
    }
}

fn between(rng: &mut Rng, a: f64, b: f64) -> f32 {
    rng.range(a, b) as f32
}

fn fish(rng: &mut Rng) -> Vec<Part> {
    let high = between(rng, 0.28, 0.44);
    let fork = between(rng, 0.26, 0.5);
    let tail_in = between(rng, 0.62, 0.8);
    let fin = between(rng, 0.12, 0.3);
    let stripes = if rng.chance(0.5) { between(rng, 7.0, 14.0) } else { 0.0 };
    let body = move |p: P| {
        // Two arcs that meet in points left and right: higher in front, slender towards the tail.
        let lean = high * (1.0 - 0.25 * (p.0 + 0.15));
        ellipse(p, (-0.18, 0.0), (0.76, lean.max(0.1)))
    };
    let mut parts = vec![
        part(0.7, -0.05, 0.1, move |p| polygon(p, &[(0.3, 0.0), (0.95, -fork), (tail_in, 0.0), (0.95, fork)]) - 0.03),
        part(0.7, -0.05, 0.1, move |p| {
            polygon(p, &[(-0.45, -high * 0.8), (-0.1, -high - fin), (0.28, -high - fin * 0.7), (0.25, -high * 0.6)])
                - 0.02
        }),
        part(0.7, -0.05, 0.1, move |p| {
            polygon(p, &[(-0.15, high * 0.8), (0.12, high + fin * 0.8), (0.2, high * 0.6)]) - 0.02
        }),
        part(0.0, 0.0, 0.34, body),
    ];
    if stripes > 0.0 {
        parts.push(part(1.0, 0.0, 0.34, move |p| {
            let band = ((p.0 * stripes + p.1 * 2.0).sin() - 0.3) / stripes;
            body(p).max(-band).max(-0.35 - p.0) + 0.012
        }));
    }
    parts.push(part(0.3, -0.2, 0.05, move |p| polygon(p, &[(-0.2, 0.03), (0.1, 0.16), (0.06, -0.04)]) - 0.03));
    // The gill, the mouth and the eye.
    parts.push(part(0.0, -0.3, 0.02, move |p| {
        (circle(p, (-0.62, 0.0), 0.26).abs() - 0.014).max(-0.42 - p.0).max(p.1.abs() - high * 0.6)
    }));
    parts.push(part(0.0, -0.5, 0.01, move |p| line(p, (-0.94, 0.05), (-0.78, 0.1), 0.014)));
    parts.push(part(0.0, 0.8, 0.05, |p| circle(p, (-0.66, -0.08), 0.075)));
    parts.push(part(0.0, -1.0, 0.03, |p| circle(p, (-0.67, -0.08), 0.038)));
    parts
}

fn key(rng: &mut Rng) -> Vec<Part> {
    let bow = between(rng, 0.27, 0.36);
    let hole = bow * between(rng, 0.4, 0.62);
    let thick = between(rng, 0.055, 0.085);
    let square = rng.chance(0.35);
    let clover = !square && rng.chance(0.35);
    let end = between(rng, 0.8, 0.95);
    let depth = between(rng, 0.17, 0.3);
    let gap = between(rng, 0.15, 0.21);
    let three = rng.chance(0.5);
    let center = (-0.6, 0.0);
    vec![part(0.0, 0.0, 0.08, move |p| {
        let head = if square {
            cuboid(p, center, (bow, bow * 0.9), bow * 0.35)
        } else if clover {
            let r = bow * 0.62;
            let at = |x: f32, y: f32| circle(p, (center.0 + x * r, center.1 + y * r), r);
            at(-0.75, 0.0).min(at(0.1, -0.85)).min(at(0.1, 0.85))
        } else {
            circle(p, center, bow)
        };
        let ring = head.max(-circle(p, (center.0 - 0.04, center.1), hole));
        let shaft = cuboid(p, ((end - 0.3) / 2.0, 0.0), ((end + 0.3) / 2.0, thick), thick * 0.5);
        let collar = cuboid(p, (-0.22, 0.0), (0.045, thick * 1.7), 0.02);
        let tooth = |x: f32, d: f32| cuboid(p, (x, d / 2.0), (0.05, d / 2.0 + thick * 0.5), 0.012);
        let mut bit = tooth(end - 0.06, depth).min(tooth(end - 0.06 - gap, depth * 0.75));
        if three {
            bit = bit.min(tooth(end - 0.06 - 2.0 * gap, depth * 0.9));
        }
        melt(ring, shaft, 0.06).min(collar).min(bit)
    })]
}

fn leaf(rng: &mut Rng) -> Vec<Part> {
    let wide = between(rng, 0.34, 0.58);
    let bend = between(rng, -0.22, 0.22);
    let teeth = if rng.chance(0.5) { between(rng, 0.015, 0.035) } else { 0.0 };
    let often = between(rng, 26.0, 40.0);
    let slant = between(rng, 0.35, 0.7);
    let veins = between(rng, 6.0, 9.0);
    // The midrib is a parabola; everything is drawn in coordinates along it.
    let straight = move |p: P| (p.0, p.1 - bend * (p.0 * p.0 - 0.4));
    let blade = move |p: P| {
        let (x, y) = straight(p);
        let t = (x + 0.72) / 1.6; // 0 at the stem, 1 at the tip
        if !(0.0..=1.0).contains(&t) {
            return length(if t < 0.0 { -t } else { t - 1.0 } * 1.6, y).max(0.02);
        }
        let half = wide * (t.powf(0.6) * (1.0 - t).powf(0.85) * 1.95) + teeth * (x * often).sin().abs() * (1.0 - t);
        (y.abs() - half) * 0.75
    };
    vec![
        part(0.0, -0.25, 0.03, move |p| {
            let (x, y) = straight(p);
            line((x, y), (-1.0, 0.0), (-0.6, 0.0), 0.032)
        }),
        part(0.0, 0.0, 0.16, blade),
        // One half a little darker, as leaves fold along the midrib.
        part(0.15, -0.1, 0.16, move |p| blade(p).max(-straight(p).1)),
        part(0.0, 0.28, 0.01, move |p| {
            let (x, y) = straight(p);
            let rib = line((x, y), (-0.72, 0.0), (0.84, 0.0), 0.016);
            let phase = (x - y.abs() * slant) * veins;
            let side = (phase - phase.round()).abs() / veins - 0.008;
            rib.min(side.max(blade(p) + 0.03))
        }),
    ]
}

fn mug(rng: &mut Rng) -> Vec<Part> {
    let wide = between(rng, 0.42, 0.56);
    let high = between(rng, 0.5, 0.7);
    let taper = between(rng, -0.1, 0.14);
    let tilt = between(rng, 0.07, 0.17);
    let grip = between(rng, 0.2, 0.32);
    let tall = between(rng, 0.28, 0.42);
    let band = rng.chance(0.55);
    let band_at = between(rng, -0.25, 0.25);
    let band_high = between(rng, 0.06, 0.2);
    let left = -0.18;
    let body = move |p: P| {
        let half = wide * (1.0 - taper * (p.1 / high + 1.0) * 0.5);
        let side = (p.0 - left).abs() - half;
        // The bottom bulges as the rim does, because both are circles seen from above.
        let x = ((p.0 - left) / half).clamp(-1.0, 1.0);
        let arc = tilt * (1.0 - x * x).sqrt();
        side.max(p.1 - high - arc * 0.7 + 0.1).max(-high - p.1)
    };
    let mut parts = vec![
        part(0.0, -0.06, 0.07, move |p| {
            let ring = ellipse(p, (left + wide * 0.93, 0.02), (grip + 0.14, tall)).abs() - 0.065;
            ring.max(left + wide * 0.7 - p.0)
        }),
        part(0.0, 0.0, 0.4, body),
    ];
    if band {
        parts.push(part(1.0, 0.0, 0.4, move |p| {
            let half = wide * (1.0 - taper * (p.1 / high + 1.0) * 0.5);
            let x = ((p.0 - left) / half).clamp(-1.0, 1.0);
            let y = p.1 - tilt * (1.0 - x * x).sqrt() * 0.8;
            body(p).max((y - band_at).abs() - band_high)
        }));
    }
    parts.push(part(0.0, 0.18, 0.03, move |p| ellipse(p, (left, -high), (wide, tilt + 0.02))));
    parts.push(part(0.0, -0.55, 0.1, move |p| ellipse(p, (left, -high + 0.01), (wide - 0.05, tilt - 0.02))));
    parts
}

fn mushroom(rng: &mut Rng) -> Vec<Part> {
    let wide = between(rng, 0.62, 0.9);
    let high = between(rng, 0.5, 0.8);
    let edge = between(rng, -0.05, 0.12);
    let stem = between(rng, 0.15, 0.27);
    let foot = between(rng, 0.0, 0.12);
    let under = between(rng, 0.08, 0.17);
    let spots = if rng.chance(0.6) { 4 + rng.below(5) } else { 0 };
    let mut parts = vec![
        part(1.0, 0.25, 0.2, move |p| {
            let half = stem + foot * ((p.1 - 0.2) / 0.7).clamp(0.0, 1.0).powi(2);
            cuboid(p, (0.0, 0.42), (half, 0.5), 0.1)
        }),
        part(1.0, -0.2, 0.08, move |p| ellipse(p, (0.0, edge), (wide * 0.97, under))),
        part(0.0, 0.0, 0.35, move |p| {
            // A dome, its lower edge curved as the rim of a hat seen from above.
            let x = (p.0 / wide).clamp(-1.0, 1.0);
            let rim = edge + under * 0.55 * (1.0 - x * x).sqrt();
            ellipse(p, (0.0, edge), (wide, high)).max(p.1 - rim)
        }),
    ];
    for _ in 0..spots {
        let (a, r) = (between(rng, 0.0, std::f64::consts::PI), between(rng, 0.1, 0.85));
        let at = (a.cos() * r * wide * 0.85, edge - a.sin() * r * high * 0.85);
        let size = between(rng, 0.05, 0.12);
        parts.push(part(0.0, 0.75, 0.05, move |p| {
            ellipse(p, at, (size, size * 0.8)).max(ellipse(p, (0.0, edge), (wide, high)) + 0.03)
        }));
    }
    parts
}

fn umbrella(rng: &mut Rng) -> Vec<Part> {
    let wide = between(rng, 0.78, 0.97);
    let high = between(rng, 0.5, 0.78);
    let base = between(rng, -0.1, 0.08);
    let panels = 4 + rng.below(3);
    let dip = between(rng, 0.06, 0.12);
    let thick = between(rng, 0.025, 0.045);
    let hook = between(rng, 0.1, 0.17);
    let two_tone = rng.chance(0.5);
    let canopy = move |p: P| {
        let panel = 2.0 * wide / panels as f32;
        let phase = ((p.0 + wide) / panel).rem_euclid(1.0);
        let scallop = base - dip * (phase * std::f32::consts::PI).sin();
        ellipse(p, (0.0, base), (wide, high)).max(p.1 - scallop)
    };
    let mut parts = vec![
        part(1.0, -0.35, 0.03, move |p| {
            let shaft = line(p, (0.0, base - high - 0.08), (0.0, 0.82), thick);
            let bow = (circle(p, (hook, 0.82), hook).abs() - thick * 1.3).max(0.82 - p.1);
            shaft.min(bow)
        }),
        part(0.0, 0.0, 0.3, canopy),
    ];
    for i in 0..panels {
        // Ribs are arcs from the tip to the corners of the panels: ellipses of one height and growing width.
        let t = (2 * i) as f32 / panels as f32 - 1.0;
        let shade = if two_tone && i % 2 == 0 { 1.0 } else { 0.0 };
        let next = t + 2.0 / panels as f32;
        parts.push(part(shade, -0.04 * (i % 2) as f32, 0.12, move |p| {
            let along = ((base - p.1) / high).clamp(0.0, 1.0);
            let reach = wide * (1.0 - along * along).sqrt();
            let inside = (t * reach - p.0).max(p.0 - next * reach);
            canopy(p).max(inside + 0.006)
        }));
    }
    parts
}
