//! Marks with coordinates: what a layout produces and a renderer consumes.
//!
//! Coordinates are in CSS pixels from the top left; a PNG at scale 2 has twice as many of its own.

use super::colour::Paint;
use super::font::Face;
use crate::data::Picture;
use std::sync::Arc;

/// Which point of a text its coordinates mean, along its direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A run of text on one baseline.
#[derive(Clone, Debug)]
pub(super) struct Text {
    pub x: f32,
    /// The baseline.
    pub y: f32,
    pub text: String,
    pub size: f32,
    pub face: Face,
    pub paint: Paint,
    pub anchor: Anchor,
    /// Rotated by a quarter turn against the clock: reads from bottom to top.
    pub upwards: bool,
}

/// One thing to draw.
#[derive(Clone, Debug)]
pub(super) enum Mark {
    Rect { x: f32, y: f32, w: f32, h: f32, paint: Paint },
    Line { points: Vec<(f32, f32)>, width: f32, paint: Paint },
    Dot { x: f32, y: f32, r: f32, paint: Paint },
    Text(Text),
    Picture { x: f32, y: f32, w: f32, h: f32, picture: Arc<Picture> },
}

/// Everything to draw, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Scene {
    pub width: f32,
    pub height: f32,
    pub marks: Vec<Mark>,
}

impl Scene {
    pub(super) fn rect(&mut self, x: f32, y: f32, w: f32, h: f32, paint: Paint) {
        self.marks.push(Mark::Rect { x, y, w, h, paint });
    }

    pub(super) fn line(&mut self, from: (f32, f32), to: (f32, f32), width: f32, paint: Paint) {
        self.marks.push(Mark::Line { points: vec![from, to], width, paint });
    }

    pub(super) fn text(&mut self, x: f32, y: f32, text: impl Into<String>, size: f32, paint: Paint, anchor: Anchor) {
        let text = Text { x, y, text: text.into(), size, face: Face::Regular, paint, anchor, upwards: false };
        self.marks.push(Mark::Text(text));
    }

    /// A title: bold.
    pub(super) fn bold(&mut self, x: f32, y: f32, text: impl Into<String>, size: f32, paint: Paint, anchor: Anchor) {
        let text = Text { x, y, text: text.into(), size, face: Face::Bold, paint, anchor, upwards: false };
        self.marks.push(Mark::Text(text));
    }

    pub(super) fn upwards(&mut self, x: f32, y: f32, text: impl Into<String>, size: f32, paint: Paint, anchor: Anchor) {
        let text = Text { x, y, text: text.into(), size, face: Face::Regular, paint, anchor, upwards: true };
        self.marks.push(Mark::Text(text));
    }

    /// Takes over the marks of `part`, moved to (`dx`, `dy`).
    pub(super) fn place(&mut self, part: Scene, dx: f32, dy: f32) {
        self.marks.extend(part.marks.into_iter().map(|mark| match mark {
            Mark::Rect { x, y, w, h, paint } => Mark::Rect { x: x + dx, y: y + dy, w, h, paint },
            Mark::Line { points, width, paint } => {
                Mark::Line { points: points.into_iter().map(|(x, y)| (x + dx, y + dy)).collect(), width, paint }
            }
            Mark::Dot { x, y, r, paint } => Mark::Dot { x: x + dx, y: y + dy, r, paint },
            Mark::Text(text) => Mark::Text(Text { x: text.x + dx, y: text.y + dy, ..text }),
            Mark::Picture { x, y, w, h, picture } => Mark::Picture { x: x + dx, y: y + dy, w, h, picture },
        }));
    }
}
