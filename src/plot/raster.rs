//! Marks as pixels.

use super::colour::Paint;
use super::font;
use super::scene::{Anchor, Mark, Scene, Text};
use super::{Colour, grid};
use crate::data::Picture;
use crate::{Error, ErrorKind, Result};
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use std::sync::Arc;
use tiny_skia::{
    Color, FillRule, FilterQuality, LineCap, LineJoin, PathBuilder, Pixmap, PixmapPaint, Rect, Stroke, Transform,
};

/// More than a figure of 500 classes needs; less than a slip of the scale would allocate.
const MOST_PIXELS: f32 = 2e8;

/// The scene as PNG bytes.
pub(super) fn render(scene: &Scene, scale: f32) -> Result<Vec<u8>> {
    encode(&paint(scene, scale)?)
}

/// The scene as a picture.
fn paint(scene: &Scene, scale: f32) -> Result<Picture> {
    let (w, h) = ((scene.width * scale).ceil(), (scene.height * scale).ceil());
    let possible = scale > 0.0 && w * h <= MOST_PIXELS;
    let canvas = if possible { Pixmap::new(w as u32, h as u32) } else { None };
    let Some(mut canvas) = canvas else {
        let message = format!("a figure of {:.0} x {:.0} cannot be drawn at scale {scale}", scene.width, scene.height);
        return Err(Error::new(ErrorKind::Argument, message).remedy("choose a scale between 0.5 and 4"));
    };
    canvas.fill(Color::WHITE);
    let transform = Transform::from_scale(scale, scale);
    for mark in &scene.marks {
        draw(&mut canvas, mark, transform);
    }
    let rgb = canvas.pixels().iter().flat_map(|p| [p.red(), p.green(), p.blue()]).collect();
    Ok(Picture { width: w as usize, height: h as usize, rgb })
}

/// A picture as PNG bytes.
pub(super) fn encode(picture: &Picture) -> Result<Vec<u8>> {
    let mut bytes = vec![];
    let encoder = PngEncoder::new_with_quality(&mut bytes, CompressionType::Default, FilterType::Adaptive);
    encoder
        .write_image(&picture.rgb, picture.width as u32, picture.height as u32, ExtendedColorType::Rgb8)
        .map_err(|e| Error::new(ErrorKind::Image, "the picture cannot be written as PNG").caused_by(e))?;
    Ok(bytes)
}

fn solid(colour: Colour) -> tiny_skia::Paint<'static> {
    let mut paint = tiny_skia::Paint { anti_alias: true, ..Default::default() };
    paint.set_color_rgba8(colour.r, colour.g, colour.b, 255);
    paint
}

fn draw(canvas: &mut Pixmap, mark: &Mark, transform: Transform) {
    match mark {
        Mark::Rect { x, y, w, h, paint } => {
            if let Some(rect) = Rect::from_xywh(*x, *y, *w, *h) {
                canvas.fill_rect(rect, &solid(paint.light()), transform, None);
            }
        }
        Mark::Line { points, width, paint } => {
            let mut path = PathBuilder::new();
            for (i, (x, y)) in points.iter().enumerate() {
                if i == 0 { path.move_to(*x, *y) } else { path.line_to(*x, *y) }
            }
            // Axis and grid lines end where they end; a curve's ends are round.
            let cap = if matches!(paint, Paint::Series(_)) { LineCap::Round } else { LineCap::Butt };
            let stroke = Stroke { width: *width, line_cap: cap, line_join: LineJoin::Round, ..Stroke::default() };
            if let Some(path) = path.finish() {
                canvas.stroke_path(&path, &solid(paint.light()), &stroke, transform, None);
            }
        }
        Mark::Dot { x, y, r, paint } => {
            if let Some(path) = PathBuilder::from_circle(*x, *y, *r) {
                canvas.fill_path(&path, &solid(paint.light()), FillRule::Winding, transform, None);
            }
        }
        Mark::Text(text) => draw_text(canvas, text, transform),
        Mark::Picture { x, y, w, h, picture } => draw_picture(canvas, (*x, *y, *w, *h), picture, transform),
    }
}

fn draw_text(canvas: &mut Pixmap, text: &Text, transform: Transform) {
    let Some(outline) = font::outline(&text.text, text.size, text.face) else { return };
    let width = font::width(&text.text, text.size, text.face);
    let back = match text.anchor {
        Anchor::Start => 0.0,
        Anchor::Middle => -width / 2.0,
        Anchor::End => -width,
    };
    let turn = if text.upwards { -90.0 } else { 0.0 };
    let local =
        transform.pre_translate(text.x, text.y).pre_concat(Transform::from_rotate(turn)).pre_translate(back, 0.0);
    canvas.fill_path(&outline, &solid(text.paint.light()), FillRule::Winding, local, None);
}

fn draw_picture(canvas: &mut Pixmap, (x, y, w, h): (f32, f32, f32, f32), picture: &Arc<Picture>, transform: Transform) {
    let edge = (w.max(h) * transform.sx).ceil() as usize;
    let picture = grid::shrunk(picture, edge.max(1));
    let Some(mut source) = Pixmap::new(picture.width as u32, picture.height as u32) else { return };
    for (to, from) in source.data_mut().chunks_exact_mut(4).zip(picture.rgb.chunks_exact(3)) {
        to[..3].copy_from_slice(from);
        to[3] = 255;
    }
    let (sx, sy) = (w / picture.width as f32, h / picture.height as f32);
    // A thumbnail of 32 pixels shows its pixels; a photograph is smoothed.
    let quality = if sx * transform.sx > 4.0 { FilterQuality::Nearest } else { FilterQuality::Bilinear };
    let paint = PixmapPaint { quality, ..PixmapPaint::default() };
    canvas.draw_pixmap(0, 0, source.as_ref(), &paint, transform.pre_translate(x, y).pre_scale(sx, sy), None);
}
