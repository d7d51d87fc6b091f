//! Colours, and the meanings that marks are painted with.

/// A colour of 24 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colour {
    /// Red.
    pub r: u8,
    /// Green.
    pub g: u8,
    /// Blue.
    pub b: u8,
}

impl Colour {
    /// A title that says nothing about right or wrong.
    pub const BLACK: Colour = Colour::rgb(0x1f, 0x23, 0x28);
    /// A right prediction.
    pub const GREEN: Colour = Colour::rgb(0x1a, 0x7f, 0x37);
    /// A wrong prediction.
    pub const RED: Colour = Colour::rgb(0xc2, 0x28, 0x2d);

    /// The colour of three bytes.
    pub const fn rgb(r: u8, g: u8, b: u8) -> Colour {
        Colour { r, g, b }
    }

    /// As style sheets write it: `#1f2328`.
    pub fn hex(self) -> String {
        format!("#{:02x}{:02x}{:02x}", self.r, self.g, self.b)
    }
}

/// What a mark's colour means. The light values are here; the report's style sheet overrides the classes in the dark.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Paint {
    /// Text to read.
    Ink,
    /// Text that explains: tick labels, axis labels.
    Muted,
    /// Grid lines.
    Grid,
    /// Axis lines.
    Axis,
    /// The page.
    Paper,
    /// The n-th series of a chart.
    Series(usize),
    /// A cell of a heat map, 0 (nothing) to 1 (the maximum).
    Heat(f64),
    /// Text on a heat map's cell.
    OnHeat(f64),
    /// Exactly this colour.
    Exact(Colour),
}

/// Six colours that stay apart for colour-blind readers too and read on white; blue and orange come first.
pub(super) const SERIES: [Colour; 6] = [
    Colour::rgb(0x2a, 0x64, 0xc8),
    Colour::rgb(0xe0, 0x6c, 0x1f),
    Colour::rgb(0x1f, 0x8a, 0x70),
    Colour::rgb(0xb5, 0x3a, 0x8e),
    Colour::rgb(0x8a, 0x6d, 0x1c),
    Colour::rgb(0x5b, 0x5f, 0x97),
];

/// Number of steps that a heat map's class names distinguish (`oc-h0` .. `oc-h24`).
pub(super) const HEAT_STEPS: usize = 24;

/// ColorBrewer's nine-step "Blues", which matplotlib's map of that name interpolates.
const BLUES: [Colour; 9] = [
    Colour::rgb(0xf7, 0xfb, 0xff),
    Colour::rgb(0xde, 0xeb, 0xf7),
    Colour::rgb(0xc6, 0xdb, 0xef),
    Colour::rgb(0x9e, 0xca, 0xe1),
    Colour::rgb(0x6b, 0xae, 0xd6),
    Colour::rgb(0x42, 0x92, 0xc6),
    Colour::rgb(0x21, 0x71, 0xb5),
    Colour::rgb(0x08, 0x51, 0x9c),
    Colour::rgb(0x08, 0x30, 0x6b),
];

/// The colour of `t` in 0..1 on the map "Blues".
pub(super) fn blues(t: f64) -> Colour {
    let t = if t.is_nan() { 0.0 } else { t.clamp(0.0, 1.0) };
    let at = t * (BLUES.len() - 1) as f64;
    let low = (at as usize).min(BLUES.len() - 2);
    mix(BLUES[low], BLUES[low + 1], at - low as f64)
}

/// `a` at 0, `b` at 1.
pub(super) fn mix(a: Colour, b: Colour, t: f64) -> Colour {
    let channel = |a: u8, b: u8| (f64::from(a) + (f64::from(b) - f64::from(a)) * t).round() as u8;
    Colour::rgb(channel(a.r, b.r), channel(a.g, b.g), channel(a.b, b.b))
}

impl Paint {
    /// The colour on a light page.
    pub(super) fn light(self) -> Colour {
        match self {
            Paint::Ink => Colour::BLACK,
            Paint::Muted => Colour::rgb(0x5d, 0x66, 0x70),
            Paint::Grid => Colour::rgb(0xe6, 0xe8, 0xeb),
            Paint::Axis => Colour::rgb(0x9a, 0xa2, 0xab),
            Paint::Paper => Colour::rgb(0xff, 0xff, 0xff),
            Paint::Series(i) => SERIES[i % SERIES.len()],
            Paint::Heat(t) => blues(t),
            // fastai's rule: white above half of the maximum. A zero is there to be overlooked.
            Paint::OnHeat(t) if t > 0.5 => Colour::rgb(0xff, 0xff, 0xff),
            Paint::OnHeat(0.0) => Colour::rgb(0xa9, 0xb9, 0xc9),
            Paint::OnHeat(_) => Colour::BLACK,
            Paint::Exact(colour) => colour,
        }
    }

    /// The class that a style sheet can override; none for a colour that has to stay.
    pub(super) fn class(self) -> Option<String> {
        Some(match self {
            Paint::Ink => "oc-ink".into(),
            Paint::Muted => "oc-muted".into(),
            Paint::Grid => "oc-grid".into(),
            Paint::Axis => "oc-axis".into(),
            Paint::Paper => "oc-paper".into(),
            Paint::Series(i) => format!("oc-s{}", i % SERIES.len()),
            Paint::Heat(t) => format!("oc-h{}", (t.clamp(0.0, 1.0) * HEAT_STEPS as f64).ceil() as usize),
            Paint::OnHeat(t) if t > 0.5 => "oc-on-high".into(),
            Paint::OnHeat(0.0) => "oc-on-zero".into(),
            Paint::OnHeat(_) => "oc-on-low".into(),
            Paint::Exact(Colour::BLACK) => "oc-ink".into(),
            Paint::Exact(Colour::GREEN) => "oc-right".into(),
            Paint::Exact(Colour::RED) => "oc-wrong".into(),
            Paint::Exact(_) => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blues_runs_from_nearly_white_to_dark() {
        assert_eq!(blues(0.0).hex(), "#f7fbff");
        assert_eq!(blues(1.0).hex(), "#08306b");
        assert_eq!(blues(0.5).hex(), "#6baed6");
        assert_eq!(blues(f64::NAN).hex(), blues(0.0).hex(), "a cell without a number is an empty cell");
    }
}
