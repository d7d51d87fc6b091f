//! Charts, picture grids and the report page.
//!
//! Everything here knows numbers, strings and [`Picture`](crate::data::Picture)s, and nothing of learners or data sets:
//! who has something to show brings it in that form.
//!
//! **One description, two renderers.** A [`Figure`] says what is to be seen (a line chart, a heat map, pictures with
//! titles). Laying it out gives a short list of marks with coordinates, a `Scene`; `svg` writes the marks as text
//! and `raster` paints them on a pixel canvas with an embedded font. So the PNG beside a run and the chart inside its
//! report are the same drawing, on a machine without fonts and without a display. What that costs: marks are only
//! rectangles, lines, dots, text and pictures, so whatever needs a gradient or a clip path has no place here.
//!
//! **Colours have meanings first.** A mark is painted as "ink" or "series 2", and only a renderer turns that into a colour.
//! In a PNG that is a light page; in the report, style sheets give the same classes their dark values.
//!
//! | to show | call |
//! |---|---|
//! | training and validation loss | [`loss_curve`] |
//! | learning rate and momentum | [`schedule`] |
//! | the learning-rate finder | [`lr_find`] |
//! | who is taken for whom | [`confusion_matrix`] |
//! | a batch, results, top losses | [`picture_grid`] |
//! | one page with all of it | [`Report`] |
//!
//! ```
//! use onecycle::plot;
//! let smoothed: Vec<f64> = (0..92).map(|i| 3.6 * (-f64::from(i) / 40.0).exp() + 0.4).collect();
//! let figure = plot::loss_curve(&smoothed, &[(46, 1.2), (92, 0.8)], 5);
//! assert!(figure.to_svg().starts_with("<svg"));
//! assert!(figure.to_png(2.0)?.starts_with(b"\x89PNG"));
//! # Ok::<(), onecycle::Error>(())
//! ```

mod base64;
mod builders;
mod chart;
mod colour;
mod figure;
mod font;
mod grid;
mod heat;
mod raster;
pub mod report;
mod scene;
mod svg;
pub mod terminal;
mod ticks;

pub use builders::{confusion_matrix, loss_chart, loss_curve, lr_find, schedule};
pub use chart::{Chart, Scale, Style};
pub use colour::Colour;
pub use figure::{Figure, Panel};
pub use grid::{Captioned, grid_shape, picture_grid};
pub use heat::HeatMap;
pub use report::Report;
