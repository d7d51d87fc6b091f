//! The report's HTML, piece by piece.

use super::ClassRow;
use crate::plot::colour::{Colour, HEAT_STEPS, Paint, SERIES, mix};
use crate::plot::svg::escape;
use crate::plot::{Captioned, Figure, base64, grid, raster};

const STYLE: &str = include_str!("style.css");

/// An element without attributes of its own.
pub(super) struct Tag(pub(super) &'static str);

impl Tag {
    /// Appends the element with escaped text.
    pub(super) fn text(self, out: &mut String, text: &str) {
        *out += &format!("<{0}>{1}</{0}>\n", self.0, escape(text));
    }

    pub(super) fn class(self, class: &'static str) -> Classed {
        Classed(self.0, class)
    }
}

/// An element with a class.
pub(super) struct Classed(&'static str, &'static str);

impl Classed {
    pub(super) fn text(self, out: &mut String, text: &str) {
        *out += &format!("<{0} class=\"{1}\">{2}</{0}>\n", self.0, self.1, escape(text));
    }
}

/// The whole page around `body`.
pub(super) fn page(title: &str, subtitle: &str, language: &str, headlines: &[[String; 3]], body: &str) -> String {
    let mut out = String::with_capacity(body.len() + 16_384);
    out += &format!("<!DOCTYPE html>\n<html lang=\"{}\">\n<head>\n<meta charset=\"utf-8\">\n", escape(language));
    out += "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n";
    out += "<meta name=\"color-scheme\" content=\"light dark\">\n";
    Tag("title").text(&mut out, title);
    out += &format!("<style>\n{STYLE}{}</style>\n</head>\n<body>\n<main>\n<header>\n", colours());
    Tag("p").class("brand").text(&mut out, "onecycle");
    Tag("h1").text(&mut out, title);
    if !subtitle.is_empty() {
        Tag("p").class("subtitle").text(&mut out, subtitle);
    }
    out += "</header>\n";
    if !headlines.is_empty() {
        out += "<dl class=\"headlines\">\n";
        for [label, value, note] in headlines {
            let (label, value, note) = (escape(label), escape(value), escape(note));
            out += &format!("<div><dt>{label}</dt><dd>{value}<span>{note}</span></dd></div>\n");
        }
        out += "</dl>\n";
    }
    out += body;
    out + "</main>\n</body>\n</html>\n"
}

pub(super) fn figure(out: &mut String, class: &str, parts: &[Figure]) {
    *out += &format!("<div class=\"{class}\">");
    parts.iter().for_each(|part| *out += &part.to_svg());
    *out += "</div>\n";
}

/// [`escape`], with places where a line may break: file names and labels such as `staffordshire_bull_terrier` have no spaces.
fn breakable(text: &str) -> String {
    let text = escape(text);
    if text.contains(['/', '_']) { text.replace('/', "/<wbr/>").replace('_', "_<wbr/>") } else { text }
}

/// `best` is the row that is marked as such.
pub(super) fn table(out: &mut String, header: &[String], rows: &[Vec<String>], best: Option<usize>) {
    if rows.is_empty() {
        Tag("p").class("none").text(out, "none");
        return;
    }
    let numeric = |column: usize| {
        let number = |cell: &String| cell.parse::<f64>().is_ok() || cell == "None" || is_time(cell);
        rows.iter().all(|r| r.get(column).is_some_and(number))
    };
    // The first column names its row, even where the name is a number.
    let class = |column| if column > 0 && numeric(column) { " class=\"n\"" } else { "" };
    *out += "<div class=\"scroll\"><table>\n";
    if !header.is_empty() {
        *out += "<thead><tr>";
        for (i, name) in header.iter().enumerate() {
            *out += &format!("<th scope=\"col\"{}>{}</th>", class(i), escape(name));
        }
        *out += "</tr></thead>\n";
    }
    *out += "<tbody>\n";
    for (r, row) in rows.iter().enumerate() {
        let (kind, mark) = if best == Some(r) { (" class=\"best\"", " <b>best</b>") } else { ("", "") };
        *out += &format!("<tr{kind}>");
        for (i, cell) in row.iter().enumerate() {
            let text = if class(i).is_empty() { breakable(cell) } else { escape(cell) };
            *out += &format!("<td{}>{text}{}</td>", class(i), if i == 0 { mark } else { "" });
        }
        *out += "</tr>\n";
    }
    *out += "</tbody></table></div>\n";
}

/// `01:05` and `1:01:05`.
fn is_time(cell: &str) -> bool {
    cell.contains(':') && cell.chars().all(|c| c.is_ascii_digit() || c == ':')
}

pub(super) fn class_table(out: &mut String, rows: &[ClassRow]) {
    if rows.is_empty() {
        Tag("p").class("none").text(out, "none");
        return;
    }
    *out += "<div class=\"scroll\"><table>\n<thead><tr><th scope=\"col\">class</th><th scope=\"col\" class=\"n\">pictures</th>\
             <th scope=\"col\" class=\"n\">precision</th><th scope=\"col\" class=\"n\">recall</th>\
             <th scope=\"col\" class=\"bar\"></th><th scope=\"col\" class=\"n\">f1</th></tr></thead>\n<tbody>\n";
    for row in rows {
        // The bar repeats the number beside it: nothing for a screen reader.
        let width = if row.recall.is_finite() { 100.0 * row.recall.clamp(0.0, 1.0) } else { 0.0 };
        let share = |v: f64| if v.is_finite() { format!("{v:.3}") } else { "–".to_string() };
        *out += &format!(
            "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"bar\" aria-hidden=\"true\"><i style=\"width:{width:.1}%\"></i></td><td class=\"n\">{}</td></tr>\n",
            breakable(&row.label),
            row.support,
            share(row.precision),
            share(row.recall),
            share(row.f1)
        );
    }
    *out += "</tbody></table></div>\n";
}

pub(super) fn pictures(out: &mut String, cells: &[Captioned]) {
    if cells.is_empty() {
        Tag("p").class("none").text(out, "none");
        return;
    }
    *out += "<div class=\"pictures\">\n";
    for cell in cells {
        // Twice the width at which the page shows them, for dense screens; larger ones would only make the file heavy.
        let picture = grid::shrunk(&cell.picture, 448);
        // A picture whose bytes don't fit its size keeps its place and its text.
        let png = raster::encode(&picture).map(|bytes| base64::encode(&bytes)).unwrap_or_default();
        let (width, height, alt) = (picture.width, picture.height, escape(&cell.describe()));
        *out += "<figure><figcaption>";
        for (line, colour) in &cell.lines {
            *out += &format!("<span{}>{}</span>", coloured(*colour), breakable(line));
        }
        *out += &format!(
            "</figcaption><img src=\"data:image/png;base64,{png}\" width=\"{width}\" height=\"{height}\" alt=\"{alt}\">"
        );
        *out += &format!("<small>{}</small></figure>\n", breakable(&cell.source));
    }
    *out += "</div>\n";
}

/// The attribute for a line of a title: a class where there is one, so that it changes in the dark.
fn coloured(colour: Colour) -> String {
    match Paint::Exact(colour).class() {
        Some(class) => format!(" class=\"t-{}\"", class.trim_start_matches("oc-")),
        None => format!(" style=\"color:{}\"", colour.hex()),
    }
}

/// The dark values of the classes that figures use; light ones are in the figures themselves.
fn colours() -> String {
    let mut dark = String::new();
    let mut rule = |class: &str, colour: Colour| {
        let hex = colour.hex();
        dark += &format!("svg .{class}{{fill:{hex}}}svg .oc-line.{class}{{fill:none;stroke:{hex}}}\n");
    };
    let (page, accent) = (Colour::rgb(0x1b, 0x1e, 0x24), Colour::rgb(0x7c, 0xb4, 0xff));
    rule("oc-ink", Colour::rgb(0xe8, 0xea, 0xed));
    rule("oc-muted", Colour::rgb(0x9d, 0xa5, 0xb0));
    rule("oc-grid", Colour::rgb(0x2f, 0x34, 0x3c));
    rule("oc-axis", Colour::rgb(0x68, 0x70, 0x7c));
    rule("oc-right", Colour::rgb(0x5c, 0xc9, 0x7a));
    rule("oc-wrong", Colour::rgb(0xff, 0x7b, 0x78));
    for (i, colour) in SERIES.iter().enumerate() {
        rule(&format!("oc-s{i}"), mix(*colour, Colour::rgb(0xff, 0xff, 0xff), 0.35));
    }
    // In the dark more is brighter: the same steps, from the page's colour to a light blue.
    for step in 0..=HEAT_STEPS {
        let t = step as f64 / HEAT_STEPS as f64;
        rule(&format!("oc-h{step}"), mix(mix(page, accent, 0.07), accent, t.powf(0.8)));
    }
    rule("oc-on-high", Colour::rgb(0x0c, 0x16, 0x24));
    rule("oc-on-low", Colour::rgb(0xe8, 0xea, 0xed));
    rule("oc-on-zero", Colour::rgb(0x5b, 0x66, 0x76));
    format!("@media screen and (prefers-color-scheme:dark){{\n{dark}}}\n")
}
