//! A heat map with a label for each row and column: the confusion matrix.
//!
//! It has to be readable for 2 classes and for 120, so the cells decide about everything else: between 9 and 64 pixels,
//! text that shrinks with them, and numbers only where they fit. With more than 15 classes zeros are left out
//! (nearly all of the 14,400 cells of 120 classes), and the picture grows instead of the text vanishing. Colours are shares of
//! the maximum, as fastai's; of cells too small for numbers, their roots.

use super::colour::Paint;
use super::font::{self, Face};
use super::scene::{Anchor, Scene};

/// A square or rectangular field of numbers with labelled rows and columns.
#[derive(Clone, Debug)]
pub struct HeatMap {
    /// Above the field.
    pub title: String,
    /// Under the column labels.
    pub x_label: String,
    /// Left of the row labels.
    pub y_label: String,
    /// One name a row.
    pub rows: Vec<String>,
    /// One name a column.
    pub columns: Vec<String>,
    /// `values[row][column]`; what is missing or not finite is an empty cell.
    pub values: Vec<Vec<f64>>,
    /// Digits after the point.
    pub decimals: usize,
}

const LABEL_LIMIT: f32 = 170.0;
const SMALLEST_CELL: f32 = 9.0;

impl HeatMap {
    fn value(&self, row: usize, column: usize) -> f64 {
        self.values.get(row).and_then(|r| r.get(column)).copied().unwrap_or(f64::NAN)
    }

    fn largest(&self) -> f64 {
        self.values.iter().flatten().copied().filter(|v| v.is_finite()).fold(0.0, f64::max)
    }

    fn cell(&self) -> f32 {
        (760.0 / self.rows.len().max(self.columns.len()).max(1) as f32).clamp(SMALLEST_CELL, 64.0).floor()
    }

    pub(super) fn describe(&self) -> String {
        let of = |n: usize| if n == 1 { "1 class".to_string() } else { format!("{n} classes") };
        let title = if self.title.is_empty() { String::new() } else { format!("{}: ", self.title) };
        format!("{title}{} against {}, {}", self.y_label, self.x_label, of(self.rows.len()))
    }

    /// The map as marks; it decides its own size, which with a `room` is at most that wide, as long as its cells can
    /// be seen.
    pub(super) fn layout(&self, room: Option<f32>) -> Scene {
        // A page has its own margin.
        let edge = if room.is_some() { 4.0 } else { 16.0 };
        let limit = LABEL_LIMIT.min(0.3 * room.unwrap_or(f32::INFINITY));
        let before = |labels: f32| edge + 22.0 + labels + 8.0;
        let mut cell = self.cell();
        let label_size = (cell * 0.74).clamp(7.0, 12.0);
        if let Some(room) = room {
            let width = |l: &String| font::width(l, label_size, Face::Regular).min(limit);
            let left = before(self.rows.iter().map(width).fold(0.0, f32::max));
            let fitting = (room - left - 20.0) / self.columns.len().max(1) as f32;
            cell = cell.min(fitting).max(SMALLEST_CELL).floor();
        }
        let label_size = (cell * 0.74).clamp(7.0, 12.0);
        let shorten = |l: &String| font::ellipsis(l, label_size, Face::Regular, limit);
        let rows: Vec<String> = self.rows.iter().map(shorten).collect();
        let columns: Vec<String> = self.columns.iter().map(shorten).collect();
        let widest = |ls: &[String]| ls.iter().map(|l| font::width(l, label_size, Face::Regular)).fold(0.0, f32::max);
        let top = if self.title.is_empty() { 16.0 } else { 52.0 };
        let left = before(widest(&rows));
        let (field_w, field_h) = (cell * columns.len() as f32, cell * rows.len() as f32);
        let title_width = 32.0 + font::width(&self.title, 15.0, Face::Bold);
        let axis_width = left + field_w / 2.0 + font::width(&self.x_label, 12.0, Face::Regular) / 2.0 + 16.0;
        let width = (left + field_w + 20.0).max(title_width).max(axis_width);
        let height = (top + field_h + 8.0 + widest(&columns) + 34.0).max(top + 90.0);
        let mut scene = Scene { width, height, marks: vec![] };

        scene.bold(16.0, 27.0, &self.title, 15.0, Paint::Ink, Anchor::Start);
        let middle = top + field_h / 2.0;
        let half = font::width(&self.y_label, 12.0, Face::Regular) / 2.0;
        scene.upwards(edge + 8.0, middle.max(top - 8.0 + half), &self.y_label, 12.0, Paint::Muted, Anchor::Middle);
        scene.text(left + field_w / 2.0, height - 12.0, &self.x_label, 12.0, Paint::Muted, Anchor::Middle);
        for (i, label) in rows.iter().enumerate() {
            let y = top + cell * (i as f32 + 0.5) + 0.36 * label_size;
            scene.text(left - 7.0, y, label, label_size, Paint::Ink, Anchor::End);
        }
        for (j, label) in columns.iter().enumerate() {
            let x = left + cell * (j as f32 + 0.5) + 0.36 * label_size;
            scene.upwards(x, top + field_h + 7.0, label, label_size, Paint::Ink, Anchor::End);
        }
        self.cells(&mut scene, cell, left, top);
        scene
    }

    fn cells(&self, scene: &mut Scene, cell: f32, left: f32, top: f32) {
        let largest = self.largest();
        let longest = format!("{largest:.0$}", self.decimals);
        let fitting = 12.0 * (cell * 0.8 / font::width(&longest, 12.0, Face::Regular)).min(1.2);
        let size = fitting.min(cell * 0.5);
        let numbers = size >= 5.0;
        // Where no number tells 1 from 0, the colour has to: 1 of 41 is 2 % of the way to dark blue, its root 16 %.
        let share = |v: f64| match largest > 0.0 && v.is_finite() {
            true if numbers => v / largest,
            true => (v / largest).max(0.0).sqrt(),
            false => 0.0,
        };
        let zeros = self.rows.len() <= 15;
        let (w, h) = (cell * self.columns.len() as f32, cell * self.rows.len() as f32);
        // The empty field is one rectangle; only what differs from nothing gets its own (120 classes: 200 instead of
        // 14,400), less a hair's breadth that keeps neighbours apart.
        scene.rect(left, top, w, h, Paint::Heat(0.0));
        let gap = if cell >= 20.0 { 1.0 } else { 0.5 };
        for row in 0..self.rows.len() {
            for column in 0..self.columns.len() {
                let value = self.value(row, column);
                let t = share(value);
                let (x, y) = (left + cell * column as f32, top + cell * row as f32);
                if t > 0.0 {
                    scene.rect(x + gap / 2.0, y + gap / 2.0, cell - gap, cell - gap, Paint::Heat(t));
                }
                if numbers && value.is_finite() && (zeros || value != 0.0) {
                    let text = format!("{value:.0$}", self.decimals);
                    let (x, y) = (x + cell / 2.0, y + cell / 2.0 + 0.365 * size);
                    scene.text(x, y, text, size, Paint::OnHeat(t), Anchor::Middle);
                }
            }
        }
        // Faint lines let the eye follow a row of 37 cells to its label.
        let paint = Paint::Grid;
        for i in (0..=self.rows.len()).step_by(if zeros { 1 } else { 5 }) {
            let y = top + cell * i as f32;
            scene.line((left, y), (left + w, y), 0.6, paint);
        }
        for j in (0..=self.columns.len()).step_by(if zeros { 1 } else { 5 }) {
            let x = left + cell * j as f32;
            scene.line((x, top), (x, top + h), 0.6, paint);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::scene::Mark;

    fn map(n: usize) -> HeatMap {
        let names: Vec<String> = (0..n).map(|i| format!("class {i}")).collect();
        let values = (0..n).map(|i| (0..n).map(|j| if i == j { 20.0 } else { 0.0 }).collect()).collect();
        let (title, x_label, y_label) = ("Confusion matrix".into(), "Predicted".into(), "Actual".into());
        HeatMap { title, x_label, y_label, rows: names.clone(), columns: names, values, decimals: 0 }
    }

    fn numbers(scene: &Scene) -> usize {
        scene.marks.iter().filter(|m| matches!(m, Mark::Text(t) if matches!(t.paint, Paint::OnHeat(_)))).count()
    }

    #[test]
    fn numbers_are_thinned_out() {
        assert_eq!(numbers(&map(2).layout(None)), 4);
        assert_eq!(numbers(&map(37).layout(None)), 37, "only what is not zero");
        assert_eq!(numbers(&map(120).layout(None)), 0, "cells of 9 pixels");
    }

    #[test]
    fn the_smallest_maps_have_room_for_their_words() {
        for n in [0, 1, 2] {
            let scene = map(n).layout(None);
            assert!(scene.width > 140.0 && scene.height > 130.0);
        }
    }

    #[test]
    fn a_map_keeps_to_its_room_while_its_cells_can_be_seen() {
        assert!(map(10).layout(None).width > 640.0);
        let small = map(10).layout(Some(340.0));
        assert!((300.0..=340.0).contains(&small.width), "{}", small.width);
        assert_eq!(numbers(&small), 100, "and with its numbers");
        let cells = 120.0 * SMALLEST_CELL;
        assert!((cells..cells + 120.0).contains(&map(120).layout(Some(340.0)).width));
    }

    #[test]
    fn holes_are_empty_cells() {
        let mut holed = map(3);
        holed.values = vec![vec![f64::NAN, 1.0], vec![]];
        assert_eq!(numbers(&holed.layout(None)), 1);
    }
}
