//! A figure: panels in a grid, to be had as SVG, as PNG, or as a file.

use super::scene::{Anchor, Scene};
use super::{Captioned, Chart, HeatMap, colour::Paint, font, grid, raster, svg};
use crate::{Error, ErrorKind, Result};
use std::io::Write;
use std::path::Path;

/// What one place of a figure's grid shows.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Panel {
    /// A line chart.
    Chart(Chart),
    /// A heat map.
    Heat(HeatMap),
    /// A picture with a title.
    Picture(Captioned),
}

impl From<Chart> for Panel {
    fn from(chart: Chart) -> Panel {
        Panel::Chart(chart)
    }
}

impl From<HeatMap> for Panel {
    fn from(map: HeatMap) -> Panel {
        Panel::Heat(map)
    }
}

/// Panels in a grid. See the [module](super) for an example.
#[derive(Clone, Debug)]
pub struct Figure {
    title: String,
    panels: Vec<Panel>,
    columns: usize,
    chart_size: (f32, f32),
    /// The width that a heat map should keep to, where there is one.
    room: Option<f32>,
}

impl Figure {
    /// A figure with one panel.
    pub fn of(panel: impl Into<Panel>) -> Figure {
        Figure::grid(vec![panel.into()], 1)
    }

    /// Panels in rows of `columns`.
    pub fn grid(panels: Vec<Panel>, columns: usize) -> Figure {
        Figure { title: String::new(), panels, columns: columns.max(1), chart_size: (680.0, 400.0), room: None }
    }

    /// A title over all panels.
    pub fn title(mut self, title: impl Into<String>) -> Figure {
        self.title = title.into();
        self
    }

    /// The size of each chart, in pixels at scale 1 (680 x 400 unless said).
    pub fn chart_size(mut self, width: f32, height: f32) -> Figure {
        self.chart_size = (width.max(120.0), height.max(100.0));
        self
    }

    /// What a reader who cannot see the figure should know.
    pub fn describe(&self) -> String {
        let panel = |p: &Panel| match p {
            Panel::Chart(chart) => chart.describe(),
            Panel::Heat(map) => map.describe(),
            Panel::Picture(cell) => cell.describe(),
        };
        let title = (!self.title.is_empty()).then(|| self.title.clone());
        title.into_iter().chain(self.panels.iter().map(panel)).collect::<Vec<_>>().join(". ")
    }

    /// The figure as an SVG document of its own.
    pub fn to_svg(&self) -> String {
        svg::render(&self.layout(), &self.describe())
    }

    /// The figure as PNG bytes, `scale` pixels of it for one of the layout (2 is sharp on any screen).
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] for a scale that is not positive or makes a picture of more than 200 million pixels.
    pub fn to_png(&self, scale: f32) -> Result<Vec<u8>> {
        raster::render(&self.layout(), scale)
    }

    /// Shows the figure in an evcxr notebook, which finds this method by its name.
    pub fn evcxr_display(&self) {
        // A notebook that has closed its end has nothing to be told.
        let _ = writeln!(std::io::stdout(), "EVCXR_BEGIN_CONTENT image/svg+xml\n{}\nEVCXR_END_CONTENT", self.to_svg());
    }

    /// Writes `path` as its extension says: `.png` (at scale 2) or `.svg`.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] for another extension; [`ErrorKind::Io`] when the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        let bytes = match extension.as_str() {
            "png" => self.to_png(2.0)?,
            "svg" => self.to_svg().into_bytes(),
            _ => {
                let error = Error::new(ErrorKind::Argument, "a figure can be written as .png or .svg only");
                return Err(error.on(path.display()).remedy("choose one of these extensions"));
            }
        };
        crate::fs::write_atomic(path, |w| w.write_all(&bytes))
    }

    fn is_charts(&self) -> bool {
        self.panels.iter().all(|p| matches!(p, Panel::Chart(_)))
    }

    /// Whether it can be drawn for any width.
    pub(super) fn is_elastic(&self) -> bool {
        self.panels.iter().all(|p| matches!(p, Panel::Chart(_) | Panel::Heat(_)))
    }

    /// The figure for a page of `width` that has headings of its own: without titles (unless they tell several charts
    /// apart), and charts one by one, so that they stand side by side where there is room and below each other on a phone.
    pub(super) fn for_page(&self, width: f32) -> Vec<Figure> {
        let charts = self.is_charts();
        let titled = charts && self.panels.len() > 1;
        let size = (width / self.columns as f32, self.chart_size.1.min(width));
        let groups = self.panels.chunks(if charts { 1 } else { self.panels.len().max(1) });
        let part = |panels: &[Panel]| {
            let mut panels = panels.to_vec();
            for panel in &mut panels {
                match panel {
                    Panel::Chart(chart) if !titled => chart.title.clear(),
                    Panel::Heat(map) => map.title.clear(),
                    Panel::Chart(_) | Panel::Picture(_) => {}
                }
            }
            Figure { title: String::new(), panels, columns: self.columns, chart_size: size, room: Some(width) }
        };
        groups.map(part).collect()
    }

    /// All panels on one page; rows are as high as their highest panel, columns as wide as their widest.
    pub(super) fn layout(&self) -> Scene {
        let lines = self.panels.iter().map(|p| if let Panel::Picture(c) = p { c.lines.len() } else { 0 });
        let lines = lines.max().unwrap_or(0);
        let scenes: Vec<Scene> = self.panels.iter().map(|p| self.panel(p, lines)).collect();
        let rows: Vec<f32> =
            scenes.chunks(self.columns).map(|r| r.iter().map(|s| s.height).fold(0.0, f32::max)).collect();
        let column = |c: usize| scenes.iter().skip(c).step_by(self.columns).map(|s| s.width).fold(0.0, f32::max);
        let columns: Vec<f32> = (0..self.columns).map(column).collect();
        let top = if self.title.is_empty() { 0.0 } else { 40.0 };
        let title_width = font::width(&self.title, 15.0, font::Face::Bold) + 40.0;
        let width = columns.iter().sum::<f32>().max(if self.title.is_empty() { 40.0 } else { title_width });
        let mut page = Scene { width, height: (top + rows.iter().sum::<f32>()).max(40.0), marks: vec![] };
        page.rect(0.0, 0.0, page.width, page.height, Paint::Paper);
        page.bold(page.width / 2.0, 27.0, &self.title, 15.0, Paint::Ink, Anchor::Middle);
        for (i, scene) in scenes.into_iter().enumerate() {
            let (row, column) = (i / self.columns, i % self.columns);
            let (x, y) = (columns[..column].iter().sum::<f32>(), top + rows[..row].iter().sum::<f32>());
            page.place(scene, x, y);
        }
        page
    }

    fn panel(&self, panel: &Panel, lines: usize) -> Scene {
        match panel {
            Panel::Chart(chart) => chart.layout(self.chart_size.0, self.chart_size.1),
            Panel::Heat(map) => map.layout(self.room),
            Panel::Picture(cell) => grid::layout(cell, lines),
        }
    }
}
