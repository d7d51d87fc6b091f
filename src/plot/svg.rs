//! Marks as SVG text.
//!
//! Every colour is written twice: as an attribute, so that the file looks right alone, and as a class, which a style
//! sheet around an inlined copy can override; attributes lose against any rule.

use super::colour::Paint;
use super::font::Face;
use super::scene::{Anchor, Mark, Scene, Text};
use super::{base64, grid, raster};
use std::fmt::Write;

/// The scene as a document of its own; `description` is for those who cannot see it.
pub(super) fn render(scene: &Scene, description: &str) -> String {
    let (w, h) = (number(scene.width), number(scene.height));
    let description = escape(description);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\" role=\"img\" \
         aria-label=\"{description}\" font-family=\"'DejaVu Sans', Verdana, sans-serif\">\n<title>{description}</title>\n"
    );
    for mark in &scene.marks {
        write_mark(&mut out, mark);
    }
    out + "</svg>\n"
}

/// Text for element content and for attribute values, in XML and in HTML. Control characters, which XML cannot hold even
/// escaped, become the replacement character.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Two decimals at most: a hundredth of a pixel is enough, and 92 points of a line stay short.
fn number(value: f32) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

fn class(paint: Paint) -> String {
    paint.class().map(|c| format!(" class=\"{c}\"")).unwrap_or_default()
}

fn write_mark(out: &mut String, mark: &Mark) {
    // Writing to a String cannot fail.
    let _ = match mark {
        Mark::Rect { x, y, w, h, paint } => {
            let (x, y, w, h) = (number(*x), number(*y), number(*w), number(*h));
            let (class, fill) = (class(*paint), paint.light().hex());
            writeln!(out, "<rect x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\"{class} fill=\"{fill}\"/>")
        }
        Mark::Line { points, width, paint } => {
            let points: Vec<String> = points.iter().map(|(x, y)| format!("{},{}", number(*x), number(*y))).collect();
            // `oc-line` tells a style sheet that the colour goes to the stroke.
            let class = paint.class().map(|c| format!(" class=\"oc-line {c}\"")).unwrap_or_default();
            writeln!(
                out,
                "<polyline points=\"{}\"{class} fill=\"none\" stroke=\"{}\" stroke-width=\"{}\" stroke-linejoin=\"round\"/>",
                points.join(" "),
                paint.light().hex(),
                number(*width)
            )
        }
        Mark::Dot { x, y, r, paint } => {
            let (x, y, r, class, fill) = (number(*x), number(*y), number(*r), class(*paint), paint.light().hex());
            writeln!(out, "<circle cx=\"{x}\" cy=\"{y}\" r=\"{r}\"{class} fill=\"{fill}\"/>")
        }
        Mark::Text(text) => return write_text(out, text),
        Mark::Picture { x, y, w, h, picture } => {
            let (x, y, w, h) = (number(*x), number(*y), number(*w), number(*h));
            let png =
                raster::encode(&grid::shrunk(picture, 448)).map(|bytes| base64::encode(&bytes)).unwrap_or_default();
            writeln!(
                out,
                "<image x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" href=\"data:image/png;base64,{png}\"/>"
            )
        }
    };
}

fn write_text(out: &mut String, text: &Text) {
    if text.text.is_empty() {
        return;
    }
    let (x, y) = (number(text.x), number(text.y));
    let anchor = match text.anchor {
        Anchor::Start => "",
        Anchor::Middle => " text-anchor=\"middle\"",
        Anchor::End => " text-anchor=\"end\"",
    };
    let weight = if text.face == Face::Bold { " font-weight=\"bold\"" } else { "" };
    let turn = if text.upwards { format!(" transform=\"rotate(-90 {x} {y})\"") } else { String::new() };
    let (class, fill, size) = (class(text.paint), text.paint.light().hex(), number(text.size));
    let content = escape(&text.text);
    let _ = writeln!(
        out,
        "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\"{weight}{anchor}{turn}{class} fill=\"{fill}\">{content}</text>"
    );
}
