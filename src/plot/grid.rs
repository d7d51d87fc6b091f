//! Pictures with titles in a grid: `show_batch`, `show_results`, top losses.

use super::colour::{Colour, Paint};
use super::figure::{Figure, Panel};
use super::font::{self, Face};
use super::scene::{Anchor, Mark, Scene};
use crate::data::Picture;
use crate::{Error, ErrorKind, Result};
use std::sync::Arc;

/// A picture with the lines of its title and, where it has one, its file's name.
#[derive(Clone, Debug)]
pub struct Captioned {
    /// The picture.
    pub picture: Arc<Picture>,
    /// Title lines from the top, each in its colour.
    pub lines: Vec<(String, Colour)>,
    /// Where the picture came from; the report shows it in small print.
    pub source: String,
}

impl Captioned {
    /// A picture under one black line, as `show_batch` shows it.
    pub fn labelled(picture: Picture, label: impl Into<String>) -> Captioned {
        Captioned { picture: picture.into(), lines: vec![(label.into(), Colour::BLACK)], source: String::new() }
    }

    /// A picture under the true label and the predicted one, green when they agree, else red, as `show_results` shows it.
    pub fn result(picture: Picture, actual: &str, predicted: &str) -> Captioned {
        let colour = if actual == predicted { Colour::GREEN } else { Colour::RED };
        let lines = vec![(actual.to_string(), colour), (predicted.to_string(), colour)];
        Captioned { picture: picture.into(), lines, source: String::new() }
    }

    /// A picture under `predicted/actual / loss / probability`, as `plot_top_losses` shows it.
    pub fn loss(picture: Picture, predicted: &str, actual: &str, loss: f64, probability: f64) -> Captioned {
        Captioned::labelled(picture, format!("{predicted}/{actual} / {loss:.2} / {probability:.2}"))
    }

    /// Names the file.
    pub fn from_file(mut self, source: impl Into<String>) -> Captioned {
        self.source = source.into();
        self
    }

    pub(super) fn describe(&self) -> String {
        self.lines.iter().map(|l| l.0.as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// Edge of a picture's square, in pixels at scale 1; fastai's 3 inches at 72 dots an inch.
const CELL: f32 = 216.0;
const TITLE: f32 = 13.0;
const LINE: f32 = 17.0;

/// Rows and columns for `n` pictures, by fastai's rule: neither given, rows are the root of n, rounded down; what is not
/// given is the quotient, rounded up.
///
/// ```
/// use onecycle::plot::grid_shape;
/// assert_eq!(grid_shape(9, None, None), (3, 3));
/// assert_eq!(grid_shape(8, None, None), (2, 4));
/// assert_eq!(grid_shape(5, Some(1), None), (1, 5));
/// ```
pub fn grid_shape(n: usize, nrows: Option<usize>, ncols: Option<usize>) -> (usize, usize) {
    let other = |given: usize| n.div_ceil(given.max(1));
    match (nrows, ncols) {
        (Some(rows), Some(columns)) => (rows, columns),
        (Some(rows), None) => (rows, other(rows)),
        (None, Some(columns)) => (other(columns), columns),
        (None, None) => (n.isqrt(), other(n.isqrt())),
    }
}

/// Pictures in a grid of [`grid_shape`], titles above them; cells without a picture stay blank, pictures without a cell are
/// not shown.
///
/// # Errors
/// [`ErrorKind::Argument`] when a picture's bytes don't match its size.
pub fn picture_grid(cells: &[Captioned], nrows: Option<usize>, ncols: Option<usize>) -> Result<Figure> {
    for cell in cells {
        let Picture { width, height, rgb } = &*cell.picture;
        if *width == 0 || *height == 0 || rgb.len() != width * height * 3 {
            let message = format!("a picture of {width} x {height} has {} bytes", rgb.len());
            return Err(Error::new(ErrorKind::Argument, message).on(cell.describe()));
        }
    }
    let (rows, columns) = grid_shape(cells.len(), nrows, ncols);
    let panels = cells.iter().take(rows * columns).cloned().map(Panel::Picture).collect();
    Ok(Figure::grid(panels, columns.max(1)))
}

/// Height of a row whose titles have up to `lines` lines.
fn row_height(lines: usize) -> f32 {
    CELL + 12.0 + LINE * lines as f32 + 10.0
}

/// One cell with room for `lines` lines of title.
pub(super) fn layout(cell: &Captioned, lines: usize) -> Scene {
    let (width, height) = (CELL + 20.0, row_height(lines));
    let mut scene = Scene { width, height, marks: vec![] };
    let top = 12.0 + LINE * lines as f32;
    let (w, h) = (cell.picture.width as f32, cell.picture.height as f32);
    let scale = (CELL / w).min(CELL / h);
    let (w, h) = (w * scale, h * scale);
    let (x, y) = ((width - w) / 2.0, top + (CELL - h) / 2.0);
    // Titles sit on their picture, however flat it is and however many lines the neighbours have.
    let first = y - 8.0 - LINE * (cell.lines.len() as f32 - 1.0);
    for (i, (line, colour)) in cell.lines.iter().enumerate() {
        let (text, size) = font::fit(line, TITLE, 9.5, Face::Regular, CELL + 8.0);
        scene.text(width / 2.0, first + LINE * i as f32, text, size, Paint::Exact(*colour), Anchor::Middle);
    }
    scene.marks.push(Mark::Picture { x, y, w, h, picture: Arc::clone(&cell.picture) });
    scene
}

/// At most `edge` pixels on the longer side, by averaging: a canvas samples a big picture at points, which glitters.
pub(super) fn shrunk(picture: &Arc<Picture>, edge: usize) -> Arc<Picture> {
    let longest = picture.width.max(picture.height);
    if longest <= edge {
        return Arc::clone(picture);
    }
    let size = |side: usize| (side * edge / longest).max(1);
    let (width, height) = (size(picture.width), size(picture.height));
    let mut rgb = Vec::with_capacity(width * height * 3);
    let span = |i: usize, to: usize, from: usize| (i * from / to, ((i + 1) * from).div_ceil(to));
    for row in 0..height {
        let (y0, y1) = span(row, height, picture.height);
        for column in 0..width {
            let (x0, x1) = span(column, width, picture.width);
            let mut sums = [0u64; 3];
            for y in y0..y1 {
                let row = &picture.rgb[(y * picture.width + x0) * 3..(y * picture.width + x1) * 3];
                row.chunks_exact(3).for_each(|p| (0..3).for_each(|c| sums[c] += u64::from(p[c])));
            }
            let count = ((y1 - y0) * (x1 - x0)) as u64;
            rgb.extend(sums.map(|s| ((s + count / 2) / count) as u8));
        }
    }
    Arc::new(Picture { width, height, rgb })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(width: usize, height: usize) -> Picture {
        Picture { width, height, rgb: vec![128; width * height * 3] }
    }

    #[test]
    fn shapes_follow_the_rule_of_show_batch() {
        let cases = [(1, (1, 1)), (2, (1, 2)), (3, (1, 3)), (5, (2, 3)), (8, (2, 4)), (9, (3, 3)), (64, (8, 8))];
        for (n, shape) in cases {
            assert_eq!(grid_shape(n, None, None), shape, "{n}");
        }
        assert_eq!(grid_shape(9, None, Some(4)), (3, 4));
        assert_eq!(grid_shape(9, Some(2), Some(2)), (2, 2));
        assert_eq!(grid_shape(0, None, None), (0, 0));
    }

    #[test]
    fn shrinking_averages() {
        let stripes = (0..100 * 10).flat_map(|i| if i % 2 == 0 { [0u8; 3] } else { [200; 3] }).collect();
        let small = shrunk(&Arc::new(Picture { width: 100, height: 10, rgb: stripes }), 50);
        assert_eq!((small.width, small.height), (50, 5));
        assert!(small.rgb.iter().all(|&b| b == 100));
        assert_eq!(shrunk(&Arc::new(grey(3000, 1)), 50).height, 1);
    }

    #[test]
    fn a_picture_that_lies_about_its_size_is_an_error() {
        let broken = Picture { width: 4, height: 4, rgb: vec![0; 7] };
        let err = picture_grid(&[Captioned::labelled(broken, "cat")], None, None).unwrap_err();
        assert_eq!(err.to_string(), "cat: a picture of 4 x 4 has 7 bytes");
    }

    #[test]
    fn titles_have_their_colours() {
        let right = Captioned::result(grey(2, 2), "a", "a");
        let wrong = Captioned::result(grey(2, 2), "a", "b");
        assert_eq!((right.lines[0].1, wrong.lines[1].1), (Colour::GREEN, Colour::RED));
        assert_eq!(Captioned::loss(grey(2, 2), "b", "a", 4.4444, 0.7449).describe(), "b/a / 4.44 / 0.74");
    }
}
