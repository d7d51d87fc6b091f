//! Text with an embedded font.
//!
//! A training machine often has no fonts at all, and a PNG should look the same everywhere: so DejaVu Sans, regular and
//! bold, lies inside the executable, reduced to the Latin, Greek and Cyrillic alphabets (85 KB of 1.4 MB; the list and the
//! command are in `fonts/README.md`). A character outside it is drawn as an empty box, as readers know it; the report,
//! which browsers draw with their own fonts, shows it properly.
//!
//! Glyphs are filled as paths instead of through ab_glyph's own rasteriser: rotation and any scale then come for free
//! from the canvas, and the text of a figure goes through the same anti-aliasing as its lines.

use ab_glyph::{Font, FontRef, OutlineCurve};
use std::sync::LazyLock;
use tiny_skia::{Path, PathBuilder, Rect};

/// A weight of the embedded font.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Face {
    Regular,
    Bold,
}

static REGULAR: LazyLock<FontRef<'static>> = LazyLock::new(|| parse(include_bytes!("fonts/DejaVuSans-subset.ttf")));
static BOLD: LazyLock<FontRef<'static>> = LazyLock::new(|| parse(include_bytes!("fonts/DejaVuSans-Bold-subset.ttf")));

/// What every line of ours needs above its baseline, as a share of the size (capitals are 0.73).
pub(super) const CAP: f32 = 0.73;

/// The width of a missing character's box, as a share of the size.
const BOX: f32 = 0.6;

fn parse(bytes: &'static [u8]) -> FontRef<'static> {
    // Bytes compiled into the program: they parse always or never, and a test below says which.
    FontRef::try_from_slice(bytes).expect("the embedded font is a font")
}

fn font(face: Face) -> &'static FontRef<'static> {
    match face {
        Face::Regular => &REGULAR,
        Face::Bold => &BOLD,
    }
}

fn units(font: &FontRef<'_>) -> f32 {
    font.units_per_em().unwrap_or(2048.0)
}

/// The width of `text` at `size`.
pub(super) fn width(text: &str, size: f32, face: Face) -> f32 {
    let font = font(face);
    let advance = |c| match font.glyph_id(c).0 {
        0 => BOX,
        _ => font.h_advance_unscaled(font.glyph_id(c)) / units(font),
    };
    text.chars().map(advance).sum::<f32>() * size
}

/// `text`, shortened with an ellipsis until it is at most `limit` wide.
pub(super) fn ellipsis(text: &str, size: f32, face: Face, limit: f32) -> String {
    if width(text, size, face) <= limit {
        return text.to_string();
    }
    let mut kept: Vec<char> = text.chars().collect();
    let room = limit - width("…", size, face);
    // Characters only ever add width, so one pass from the left finds the longest beginning that fits.
    let mut used = 0.0;
    let fits = kept.iter().take_while(|c| {
        used += width(c.encode_utf8(&mut [0; 4]), size, face);
        used <= room
    });
    let fits = fits.count();
    kept.truncate(fits);
    kept.into_iter().collect::<String>().trim_end().to_string() + "…"
}

/// Makes `text` fit into `limit`: first smaller, down to `smallest`, then shorter.
pub(super) fn fit(text: &str, size: f32, smallest: f32, face: Face, limit: f32) -> (String, f32) {
    let wanted = width(text, size, face);
    if wanted <= limit {
        return (text.to_string(), size);
    }
    let size = (size * limit / wanted).max(smallest);
    (ellipsis(text, size, face, limit), size)
}

/// The outline of `text` with its first baseline point at the origin, y down; none if there is nothing to fill.
pub(super) fn outline(text: &str, size: f32, face: Face) -> Option<Path> {
    let font = font(face);
    let scale = size / units(font);
    let mut path = PathBuilder::new();
    let mut at = 0.0;
    for c in text.chars() {
        let id = font.glyph_id(c);
        if id.0 == 0 {
            missing(&mut path, at, size);
            at += BOX * size;
            continue;
        }
        if let Some(outline) = font.outline(id) {
            glyph(&mut path, &outline.curves, at, scale);
        }
        at += font.h_advance_unscaled(id) * scale;
    }
    path.finish()
}

fn glyph(path: &mut PathBuilder, curves: &[OutlineCurve], at: f32, scale: f32) {
    let point = |p: &ab_glyph::Point| (at + p.x * scale, -p.y * scale);
    let mut last = None;
    for curve in curves {
        let (start, end) = match curve {
            OutlineCurve::Line(a, b) | OutlineCurve::Quad(a, _, b) | OutlineCurve::Cubic(a, _, _, b) => (a, *b),
        };
        // ab_glyph gives one list for all contours: a curve that does not start where the last one ended opens a new one.
        if last != Some(*start) {
            if last.is_some() {
                path.close();
            }
            let (x, y) = point(start);
            path.move_to(x, y);
        }
        match curve {
            OutlineCurve::Line(_, b) => {
                let (x, y) = point(b);
                path.line_to(x, y);
            }
            OutlineCurve::Quad(_, m, b) => {
                let ((mx, my), (x, y)) = (point(m), point(b));
                path.quad_to(mx, my, x, y);
            }
            OutlineCurve::Cubic(_, m, n, b) => {
                let ((mx, my), (nx, ny), (x, y)) = (point(m), point(n), point(b));
                path.cubic_to(mx, my, nx, ny, x, y);
            }
        }
        last = Some(end);
    }
    if last.is_some() {
        path.close();
    }
}

/// An empty box: the inner contour runs the other way round, so that filling leaves a frame.
fn missing(path: &mut PathBuilder, at: f32, size: f32) {
    let (left, right, top, line) = (at + 0.07 * size, at + (BOX - 0.07) * size, -CAP * size, 0.06 * size);
    if let Some(rect) = Rect::from_ltrb(left, top, right, 0.0) {
        path.push_rect(rect);
    }
    let (l, r, t, b) = (left + line, right - line, top + line, -line);
    path.move_to(l, t);
    path.line_to(l, b);
    path.line_to(r, b);
    path.line_to(r, t);
    path.close();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_faces_parse_and_bold_is_wider() {
        let text = "learning curve";
        assert!(width(text, 12.0, Face::Bold) > width(text, 12.0, Face::Regular));
        assert_eq!(width("", 12.0, Face::Regular), 0.0);
    }

    #[test]
    fn alphabets_that_labels_use_are_there() {
        for c in "Straße Éclair Łódź Αθήνα Москва – “„…→−⁻⁵×±✓".chars().filter(|c| *c != ' ')
        {
            for face in [Face::Regular, Face::Bold] {
                assert!(font(face).glyph_id(c).0 != 0, "{c} is missing in {face:?}");
            }
        }
    }

    #[test]
    fn an_unknown_character_is_a_box() {
        let path = outline("猫", 10.0, Face::Regular).unwrap();
        assert!(path.bounds().width() > 3.0);
        assert!((width("猫", 10.0, Face::Regular) - 6.0).abs() < 1e-4);
        assert!(outline(" ", 10.0, Face::Regular).is_none());
    }

    #[test]
    fn long_text_is_shrunk_then_cut() {
        let (text, size) = fit("short", 13.0, 9.0, Face::Regular, 200.0);
        assert_eq!((text.as_str(), size), ("short", 13.0));
        let (text, size) = fit("a title that is slightly too long", 13.0, 9.0, Face::Regular, 190.0);
        assert!(!text.contains('…') && size < 13.0);
        let (text, size) = fit(&"very long ".repeat(20), 13.0, 9.0, Face::Regular, 190.0);
        assert!(text.ends_with('…') && size == 9.0 && width(&text, size, Face::Regular) <= 190.0);
        assert_eq!(ellipsis("wide", 13.0, Face::Regular, 1.0), "…");
    }
}
