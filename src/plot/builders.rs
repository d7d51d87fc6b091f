//! The figures that fastai draws, from plain numbers.

use super::{Chart, Figure, HeatMap, Scale, Style};
use crate::{Error, ErrorKind, Result};

/// `recorder.plot_loss()`: smoothed training losses from step `skip_start` on (5 unless you know better: the first ones
/// would squeeze all others; a run of fewer is shown whole), and validation losses as `(step, loss)` at the end of each epoch.
pub fn loss_curve(train: &[f64], valid: &[(usize, f64)], skip_start: usize) -> Figure {
    Figure::of(loss_chart(train, valid, skip_start))
}

/// [`loss_curve`] as a chart, to go on with.
pub fn loss_chart(train: &[f64], valid: &[(usize, f64)], skip_start: usize) -> Chart {
    let skip_start = if train.len() > skip_start { skip_start } else { 0 };
    let train = train.iter().enumerate().skip(skip_start).map(|(i, loss)| (i as f64, *loss)).collect();
    let valid: Vec<_> = valid.iter().filter(|v| v.0 >= skip_start).map(|v| (v.0 as f64, v.1)).collect();
    let chart = Chart::new("learning curve").axes("steps", "loss").whole_x();
    let mut chart = chart.series("train", Style::Line, train);
    if !valid.is_empty() {
        chart = chart.series("valid", Style::LineAndDots, valid);
    }
    chart
}

/// `recorder.plot_sched()`: each hyper-parameter's value in every step, two side by side.
pub fn schedule(hps: &[(&str, &[f64])]) -> Figure {
    let panel = |(name, values): &(&str, &[f64])| {
        let points = values.iter().enumerate().map(|(i, v)| (i as f64, *v)).collect();
        Chart::new("").axes("steps", *name).whole_x().series("", Style::Line, points).into()
    };
    Figure::grid(hps.iter().map(panel).collect(), hps.len().clamp(1, 2)).chart_size(460.0, 300.0)
}

/// The plot of the learning-rate finder: smoothed losses over a logarithmic learning rate, the last `skip_end` left out
/// (5 in fastai: the loss explodes there), and each suggestion as a dot: `(label, lr, loss)`.
pub fn lr_find(lrs: &[f64], losses: &[f64], suggestions: &[(String, f64, f64)], skip_end: usize) -> Figure {
    let points: Vec<_> = lrs.iter().copied().zip(losses.iter().copied()).collect();
    let shown = points.len().saturating_sub(skip_end);
    let mut chart = Chart::new("learning-rate finder").axes("Learning Rate", "Loss").scales(Scale::Log, Scale::Linear);
    chart = chart.series("", Style::Line, points[..shown].to_vec());
    for (label, lr, loss) in suggestions {
        chart = chart.series(label, Style::Dots, vec![(*lr, *loss)]);
    }
    Figure::of(chart)
}

/// `interp.plot_confusion_matrix()`: `counts[actual][predicted]`; with `normalize` each row becomes shares of its sum.
///
/// # Errors
/// [`ErrorKind::Argument`] when there is not one row and one column for each label.
pub fn confusion_matrix(labels: &[String], counts: &[Vec<usize>], normalize: bool) -> Result<Figure> {
    if counts.len() != labels.len() || counts.iter().any(|row| row.len() != labels.len()) {
        let message = format!("{} labels need as many rows and columns of counts", labels.len());
        return Err(Error::new(ErrorKind::Argument, message).on("confusion matrix"));
    }
    let row = |counts: &Vec<usize>| {
        let sum: usize = counts.iter().sum();
        // An empty row stays a row of zeros: 0/0 is no share of anything.
        let by = if normalize { sum.max(1) as f64 } else { 1.0 };
        counts.iter().map(|&c| c as f64 / by).collect()
    };
    Ok(Figure::of(HeatMap {
        title: "Confusion matrix".into(),
        x_label: "Predicted".into(),
        y_label: "Actual".into(),
        rows: labels.to_vec(),
        columns: labels.to_vec(),
        values: counts.iter().map(row).collect(),
        decimals: if normalize { 2 } else { 0 },
    }))
}
