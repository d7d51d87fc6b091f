//! From drawn numbers to sampling matrices. Matrices act on output positions and give input positions, x to the right and y down, both
//! in -1..1.

use super::Draws;
use crate::ops::augment::{Sample, source_position};

/// 2 / the extent of all sampling positions of a batch, x and y together. They are extreme at the picture's corners.
pub fn zoom_of(samples: &[Sample]) -> f64 {
    let corners = [(-1.0, -1.0), (1.0, -1.0), (-1.0, 1.0), (1.0, 1.0)];
    let positions = samples.iter().flat_map(|s| corners.map(|(x, y)| source_position(s, x, y)));
    let (low, high) = positions
        .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), (x, y)| (low.min(x).min(y), high.max(x).max(y)));
    2.0 / f64::from(high - low)
}

/// Output position to input position: flip (or dihedral) times rotation times zoom, then the correction for pictures that aren't
/// square.
pub fn theta(d: &Draws, h: usize, w: usize) -> [f32; 6] {
    let (sin, cos) = d.rotate.to_radians().sin_cos();
    let s = 1.0 / d.zoom;
    let (tx, ty) = ((1.0 - s) * (2.0 * d.zoom_centre.0 - 1.0), (1.0 - s) * (2.0 * d.zoom_centre.1 - 1.0));
    let [[a, b], [c, e]] = dihedral(d.dihedral);
    let mirror = 1.0 - 2.0 * d.flip;
    // Two rows of the product, applied to the zoom's scale and centre.
    let row = |x: f64, y: f64| {
        let (u, v) = (x * cos - y * sin, x * sin + y * cos);
        [u * s, v * s, u * tx + v * ty]
    };
    let aspect = h as f64 / w as f64;
    let [m00, m01, m02] = row(mirror * a, mirror * b);
    let [m10, m11, m12] = row(c, e);
    [m00, m01 * aspect, m02, m10 / aspect, m11, m12].map(|v| v as f32)
}

/// The matrix of element `k` of the square's symmetries: 0 nothing, 1 mirror left and right, 2 top and bottom, 3 a quarter turn
/// counter-clockwise, 4 a half turn, 5 a quarter turn clockwise, 6 transpose, 7 transpose over the other diagonal.
pub fn dihedral(k: usize) -> [[f64; 2]; 2] {
    match k {
        1 => [[-1.0, 0.0], [0.0, 1.0]],
        2 => [[1.0, 0.0], [0.0, -1.0]],
        3 => [[0.0, -1.0], [1.0, 0.0]],
        4 => [[-1.0, 0.0], [0.0, -1.0]],
        5 => [[0.0, 1.0], [-1.0, 0.0]],
        6 => [[0.0, 1.0], [1.0, 0.0]],
        7 => [[0.0, -1.0], [-1.0, 0.0]],
        _ => [[1.0, 0.0], [0.0, 1.0]],
    }
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
