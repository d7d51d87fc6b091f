//! A line chart: series, axes, legend; and how it is laid out.
//!
//! The layout leaves out what carries no information: no frame, horizontal grid lines only, the legend on a line of its own
//! under the title, where it never hides a curve. A point that is NaN, infinite, or not positive on a logarithmic axis
//! is a gap in its line, never an error: the chart of a run that diverged is the one that has to be looked at.

use super::colour::Paint;
use super::font::{self, Face};
use super::scene::{Anchor, Mark, Scene};
use super::ticks;

/// How an axis maps numbers to places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Scale {
    /// Equal distances for equal differences.
    #[default]
    Linear,
    /// Equal distances for equal ratios; numbers that are not positive have no place on it.
    Log,
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A line.
    Line,
    /// A line with a dot on every point.
    LineAndDots,
    /// Dots alone, larger ones.
    Dots,
}

#[derive(Clone, Debug)]
struct Series {
    name: String,
    style: Style,
    points: Vec<(f64, f64)>,
    /// Grey and behind the others, instead of in a colour of its own.
    quiet: bool,
}

/// A line chart.
///
/// ```
/// use onecycle::plot::{Chart, Figure, Style};
/// let squares: Vec<(f64, f64)> = (0..20).map(|i| (f64::from(i), f64::from(i * i))).collect();
/// let chart = Chart::new("squares").axes("n", "n²").series("exact", Style::LineAndDots, squares);
/// let svg = Figure::of(chart).to_svg();
/// assert!(svg.contains("squares") && svg.contains("exact"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Chart {
    pub(super) title: String,
    x_label: String,
    y_label: String,
    x_scale: Scale,
    y_scale: Scale,
    whole_x: bool,
    series: Vec<Series>,
    verticals: Vec<f64>,
}

impl Chart {
    /// An empty chart; an empty title takes no room.
    pub fn new(title: impl Into<String>) -> Chart {
        Chart { title: title.into(), ..Chart::default() }
    }

    /// Names both axes.
    pub fn axes(mut self, x: impl Into<String>, y: impl Into<String>) -> Chart {
        (self.x_label, self.y_label) = (x.into(), y.into());
        self
    }

    /// Chooses the axes' scales.
    pub fn scales(mut self, x: Scale, y: Scale) -> Chart {
        (self.x_scale, self.y_scale) = (x, y);
        self
    }

    /// Says that x counts something, epochs or steps: there is no tick at one and a half.
    pub fn whole_x(mut self) -> Chart {
        self.whole_x = true;
        self
    }

    /// Adds a series in the next colour; a series without a name is not in the legend.
    pub fn series(mut self, name: impl Into<String>, style: Style, points: Vec<(f64, f64)>) -> Chart {
        self.series.push(Series { name: name.into(), style, points, quiet: false });
        self
    }

    /// Adds a grey line behind all others, for them to be compared with; a name makes it part of the legend.
    pub fn background(mut self, name: impl Into<String>, points: Vec<(f64, f64)>) -> Chart {
        self.series.push(Series { name: name.into(), style: Style::Line, points, quiet: true });
        self
    }

    /// The series with their colours; those behind come first.
    fn painted(&self) -> impl Iterator<Item = (Paint, &Series)> {
        let (quiet, loud): (Vec<&Series>, Vec<&Series>) = self.series.iter().partition(|s| s.quiet);
        let loud = loud.into_iter().enumerate().map(|(i, s)| (Paint::Series(i), s));
        quiet.into_iter().map(|s| (Paint::Axis, s)).chain(loud)
    }

    /// Adds thin vertical lines across the chart, such as the ends of epochs.
    pub fn verticals(mut self, at: impl IntoIterator<Item = f64>) -> Chart {
        self.verticals.extend(at);
        self
    }

    /// What a reader who cannot see the chart should know: title, axes, and each series' last value.
    pub(super) fn describe(&self) -> String {
        let mut text = if self.title.is_empty() { self.y_label.clone() } else { self.title.clone() };
        if !self.x_label.is_empty() {
            let y = if self.y_label.is_empty() { String::new() } else { format!("{} ", self.y_label) };
            text += &format!(": {y}over {}", self.x_label);
        }
        for series in self.series.iter().filter(|s| !s.name.is_empty()) {
            if let Some((_, y)) = series.points.iter().rev().find(|(_, y)| y.is_finite()) {
                text += &format!("; {} ends at {}", series.name, short(*y));
            }
        }
        text
    }

    /// The chart as marks on a page of `width` x `height`.
    pub(super) fn layout(&self, width: f32, height: f32) -> Scene {
        let mut scene = Scene { width, height, marks: vec![] };
        let top = self.heading(&mut scene);
        let x = Axis::over(self.x_scale, self.values(|p| p.0));
        let y = Axis::over(self.y_scale, self.values(|p| p.1));
        let bottom = height - if self.x_label.is_empty() { 30.0 } else { 50.0 };
        // An axis that was made up has nothing to tell.
        let empty = self.values(|p| p.1).next().is_none();
        let y_ticks = if empty {
            vec![]
        } else {
            y.ticks(((bottom - top) / if height < SMALL.1 { 24.0 } else { 42.0 }) as usize)
        };
        let widest = y_ticks.iter().map(|t| font::width(&t.1, TICK, Face::Regular)).fold(0.0, f32::max);
        let left = 12.0 + widest + if self.y_label.is_empty() { 6.0 } else { 26.0 };
        let frame = Frame { left, right: width - 18.0, top, bottom };

        for (value, label) in &y_ticks {
            let at = frame.y(y.place(*value));
            scene.line((frame.left, at), (frame.right, at), 1.0, Paint::Grid);
            scene.text(frame.left - 8.0, at + 0.36 * TICK, label, TICK, Paint::Muted, Anchor::End);
        }
        for at in self.verticals.iter().map(|v| x.place(*v)).filter(|at| (0.0..=1.0).contains(at)) {
            scene.line((frame.x(at), frame.top), (frame.x(at), frame.bottom), 1.0, Paint::Grid);
        }
        scene.line((frame.left, frame.bottom), (frame.right, frame.bottom), 1.0, Paint::Axis);
        if !empty {
            self.x_ticks(&mut scene, &x, &frame);
        }
        let middle = (frame.left + frame.right) / 2.0;
        scene.text(middle, height - 10.0, &self.x_label, LABEL, Paint::Muted, Anchor::Middle);
        let middle = (frame.top + frame.bottom) / 2.0;
        scene.upwards(12.0 + LABEL * 0.5, middle, &self.y_label, LABEL, Paint::Muted, Anchor::Middle);

        for (paint, series) in self.painted() {
            let place = |(px, py): &(f64, f64)| {
                let (px, py) = (x.place(*px), y.place(*py));
                (px.is_finite() && py.is_finite()).then(|| (frame.x(px), frame.y(py)))
            };
            draw(&mut scene, series, paint, place);
        }
        if empty {
            let nothing = self.series.iter().all(|s| s.points.is_empty());
            let text = if nothing { "nothing recorded yet" } else { "nothing recorded that has a place here" };
            let (x, y) = ((frame.left + frame.right) / 2.0, (frame.top + frame.bottom) / 2.0);
            scene.text(x, y, text, LABEL, Paint::Muted, Anchor::Middle);
        }
        scene
    }

    /// Title and legend; returns where the plot begins.
    fn heading(&self, scene: &mut Scene) -> f32 {
        let mut y = 14.0;
        if !self.title.is_empty() {
            let (from, to) = if scene.width < SMALL.0 { (13.0, 12.0) } else { (15.0, 10.0) };
            let (title, size) = font::fit(&self.title, from, to, Face::Bold, scene.width - 36.0);
            y += 15.0;
            scene.bold(16.0, y - 2.0, title, size, Paint::Ink, Anchor::Start);
            y += 8.0;
        }
        let mut x = 16.0;
        for (paint, series) in self.painted().filter(|(_, s)| !s.name.is_empty()) {
            let name = font::ellipsis(&series.name, LEGEND, Face::Regular, scene.width - 70.0);
            let needed = 24.0 + font::width(&name, LEGEND, Face::Regular);
            if x == 16.0 {
                y += 16.0;
            } else if x + needed > scene.width - 16.0 {
                (x, y) = (16.0, y + 18.0);
            }
            if series.style != Style::Dots {
                scene.line((x, y - 4.0), (x + 17.0, y - 4.0), 2.4, paint);
            }
            if series.style != Style::Line {
                scene.marks.push(Mark::Dot { x: x + 8.5, y: y - 4.0, r: dot(series.style), paint });
            }
            scene.text(x + 24.0, y, name, LEGEND, Paint::Muted, Anchor::Start);
            x += needed + 20.0;
        }
        if x > 16.0 { y + 16.0 } else { y + 8.0 }
    }

    fn x_ticks(&self, scene: &mut Scene, x: &Axis, frame: &Frame) {
        for (value, label) in x.ticks(((frame.right - frame.left) / if self.whole_x { 54.0 } else { 72.0 }) as usize) {
            let label = match self.whole_x && self.x_scale == Scale::Linear {
                true if value.fract() != 0.0 => continue,
                true => format!("{value:.0}").replace('-', "−"),
                false => label,
            };
            let at = frame.x(x.place(value));
            scene.line((at, frame.bottom), (at, frame.bottom + 5.0), 1.0, Paint::Axis);
            scene.text(at, frame.bottom + 19.0, label, TICK, Paint::Muted, Anchor::Middle);
        }
        for value in x.minor() {
            let at = frame.x(x.place(value));
            scene.line((at, frame.bottom), (at, frame.bottom + 3.0), 0.8, Paint::Axis);
        }
    }

    fn values(&self, of: impl Fn(&(f64, f64)) -> f64) -> impl Iterator<Item = f64> {
        // Points that will be gaps on one axis must not stretch the other.
        let shown = |p: &(f64, f64)| self.x_scale.map(p.0).is_finite() && self.y_scale.map(p.1).is_finite();
        let points = self.series.iter().flat_map(|s| &s.points).filter(|p| shown(p)).map(of);
        points.collect::<Vec<f64>>().into_iter()
    }
}

/// Charts below this width or this height are one of many: ticks closer together, titles of one size.
const SMALL: (f32, f32) = (320.0, 240.0);
const TICK: f32 = 11.0;
const LABEL: f32 = 12.0;
const LEGEND: f32 = 12.0;

fn dot(style: Style) -> f32 {
    if style == Style::Dots { 4.5 } else { 3.2 }
}

/// Four significant digits.
fn short(value: f64) -> String {
    let digits = (3 - value.abs().max(1e-12).log10().floor() as i32).clamp(0, 8);
    if value != 0.0 && value.abs() < 1e-4 { format!("{value:.2e}") } else { format!("{value:.*}", digits as usize) }
}

impl Scale {
    fn map(self, value: f64) -> f64 {
        match self {
            // Beyond this, the width of an axis would overflow; no loss that large says more than "diverged".
            _ if value.abs() > 1e150 => f64::NAN,
            Scale::Linear => value,
            Scale::Log if value > 0.0 => value.log10(),
            Scale::Log => f64::NAN,
        }
    }
}

/// An axis with its limits, already on its scale.
struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
}

impl Axis {
    /// An axis with a margin around all of `values`.
    fn over(scale: Scale, values: impl Iterator<Item = f64>) -> Axis {
        let mapped = values.map(|v| scale.map(v)).filter(|v| v.is_finite());
        let (low, high) = mapped.fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
        let (low, high) = match scale {
            _ if low > high => (0.0, 1.0),
            // One value alone still needs an axis around it.
            Scale::Linear if low == high => {
                let room = if low == 0.0 { 0.5 } else { 0.5 * low.abs().max(1e-12) };
                (low - room, high + room)
            }
            Scale::Log if low == high => (low - 0.5, high + 0.5),
            _ => (low, high),
        };
        let margin = 0.04 * (high - low);
        Axis { scale, low: low - margin, high: high + margin }
    }

    /// 0 at the low end, 1 at the high end.
    fn place(&self, value: f64) -> f64 {
        (self.scale.map(value) - self.low) / (self.high - self.low)
    }

    fn ticks(&self, wanted: usize) -> Vec<ticks::Tick> {
        match self.scale {
            Scale::Linear => ticks::linear(self.low, self.high, wanted.max(2)),
            Scale::Log => ticks::log(10f64.powf(self.low), 10f64.powf(self.high), wanted.max(2)),
        }
    }

    fn minor(&self) -> Vec<f64> {
        // Beyond some decades they would be a hatching.
        let few = self.scale == Scale::Log && self.high - self.low < 12.0;
        if few { ticks::log_minor(10f64.powf(self.low), 10f64.powf(self.high)) } else { vec![] }
    }
}

/// Where on the page the plot is.
struct Frame {
    left: f32,
    right: f32,
    top: f32,
    bottom: f32,
}

impl Frame {
    fn x(&self, place: f64) -> f32 {
        self.left + (self.right - self.left) * place as f32
    }

    fn y(&self, place: f64) -> f32 {
        self.bottom - (self.bottom - self.top) * place as f32
    }
}

fn draw(scene: &mut Scene, series: &Series, paint: Paint, place: impl Fn(&(f64, f64)) -> Option<(f32, f32)>) {
    let places: Vec<Option<(f32, f32)>> = series.points.iter().map(place).collect();
    for run in places.split(Option::is_none) {
        let run: Vec<(f32, f32)> = run.iter().flatten().copied().collect();
        // A point between two gaps has no line to be seen by.
        if series.style != Style::Line || run.len() == 1 {
            let r = dot(series.style);
            scene.marks.extend(run.iter().map(|&(x, y)| Mark::Dot { x, y, r, paint }));
        }
        if series.style != Style::Dots && run.len() > 1 {
            let width = if series.quiet { 1.0 } else { 1.8 };
            scene.marks.push(Mark::Line { points: thin(run), width, paint });
        }
    }
}

/// At most four points for each pixel column (first, lowest, highest, last): a line of 100,000 steps looks the same and its
/// SVG stays below 100 KB instead of 1.5 MB.
fn thin(run: Vec<(f32, f32)>) -> Vec<(f32, f32)> {
    if run.len() < 2000 {
        return run;
    }
    let mut kept: Vec<(f32, f32)> = vec![];
    for column in run.chunk_by(|a, b| a.0.floor() == b.0.floor()) {
        let by = |order: fn(f32, f32) -> bool| {
            (0..column.len()).reduce(|a, b| if order(column[b].1, column[a].1) { b } else { a }).unwrap_or(0)
        };
        let mut picked = [0, by(|b, a| b < a), by(|b, a| b > a), column.len() - 1];
        picked.sort_unstable();
        kept.extend(picked.iter().map(|&i| column[i]));
    }
    kept.dedup();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(scene: &Scene) -> Vec<usize> {
        let series = |m: &Mark| match m {
            Mark::Line { points, paint: Paint::Series(_), .. } => Some(points.len()),
            _ => None,
        };
        scene.marks.iter().filter_map(series).collect()
    }

    #[test]
    fn what_is_not_a_number_is_a_gap() {
        let points = [1.0, 2.0, f64::NAN, 3.0, f64::INFINITY, 4.0, 5.0, 6.0].iter().enumerate();
        let points = points.map(|(i, y)| (i as f64, *y)).collect();
        let scene = Chart::new("").series("", Style::Line, points).layout(600.0, 400.0);
        assert_eq!(lines(&scene), [2, 3]);
        let dots = scene.marks.iter().filter(|m| matches!(m, Mark::Dot { .. })).count();
        assert_eq!(dots, 1, "the 3 between two gaps");
    }

    /// Every word and number on the chart, in the order in which it is drawn.
    fn texts(chart: Chart) -> Vec<String> {
        let text = |m: Mark| if let Mark::Text(t) = m { Some(t.text) } else { None };
        chart.layout(600.0, 400.0).marks.into_iter().filter_map(text).filter(|t| !t.is_empty()).collect()
    }

    #[test]
    fn what_is_counted_has_whole_ticks() {
        let points = |n: u32| (0..n).map(|i| (f64::from(i), 7.0)).collect::<Vec<_>>();
        let ticks = |n, whole: bool| {
            let chart = Chart::new("").series("", Style::Line, points(n));
            let all = texts(if whole { chart.whole_x() } else { chart });
            // The loss is 7 everywhere: its ticks are 4 .. 10 and come first.
            all.into_iter().skip_while(|t| t != "10").skip(1).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(ticks(2, false), "0.0 0.2 0.4 0.6 0.8 1.0");
        assert_eq!(ticks(2, true), "0 1");
        assert_eq!(ticks(1, true), "0", "one epoch stands in the middle of half an epoch on each side");
    }

    #[test]
    fn a_background_takes_no_colour_and_stands_behind() {
        let line = || vec![(0.0, 1.0), (1.0, 2.0)];
        let chart = Chart::new("").series("run", Style::Line, line()).background("others", line());
        let scene = chart.layout(600.0, 400.0);
        let places: Vec<Paint> = scene
            .marks
            .iter()
            .filter_map(|m| match m {
                Mark::Line { points, paint, .. } if points[0].0 != points[1].0 && points[0].1 != points[1].1 => {
                    Some(*paint)
                }
                _ => None,
            })
            .collect();
        assert_eq!(places, [Paint::Axis, Paint::Series(0)]);
    }

    #[test]
    fn axes_that_nothing_stands_behind_have_no_ticks() {
        assert_eq!(texts(Chart::new("")), ["nothing recorded yet"]);
        let diverged = Chart::new("").series("", Style::Line, vec![(0.0, f64::NAN)]);
        assert_eq!(texts(diverged), ["nothing recorded that has a place here"]);
    }

    #[test]
    fn every_mark_stays_on_the_page() {
        let extreme = vec![(0.0, -f64::MAX), (1.0, f64::MAX), (2.0, 1e-300), (3.0, 0.0)];
        for points in [vec![], vec![(1.0, 1.0)], vec![(0.0, f64::NAN)], extreme] {
            for scale in [Scale::Linear, Scale::Log] {
                let chart = Chart::new("t").axes("x", "y").scales(Scale::Linear, scale);
                let scene = chart.series("s", Style::LineAndDots, points.clone()).layout(600.0, 400.0);
                for mark in scene.marks {
                    let ends = match mark {
                        Mark::Line { points, .. } => points,
                        Mark::Dot { x, y, .. } => vec![(x, y)],
                        _ => vec![],
                    };
                    let inside = |p: &(f32, f32)| (0.0..=600.0).contains(&p.0) && (0.0..=400.0).contains(&p.1);
                    assert!(ends.iter().all(inside), "{ends:?} of {points:?}");
                }
            }
        }
    }

    #[test]
    fn long_lines_are_thinned_and_keep_their_peaks() {
        let mut run: Vec<(f32, f32)> = (0..100_000).map(|i| (i as f32 / 200.0, (i % 7) as f32)).collect();
        run[54_321].1 = 99.0;
        let thinned = thin(run.clone());
        assert!(thinned.len() <= 4 * 501);
        assert!(thinned.contains(&run[54_321]) && thinned[0] == run[0] && thinned.last() == run.last());
    }

    #[test]
    fn the_description_tells_the_ends() {
        let chart =
            Chart::new("learning curve").axes("steps", "loss").series("train", Style::Line, vec![(0.0, 0.98765)]);
        assert_eq!(chart.describe(), "learning curve: loss over steps; train ends at 0.9877");
    }
}
