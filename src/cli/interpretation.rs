//! Where a model errs, as sections of a report and figures beside it.

use crate::Result;
use crate::learner::{ClassificationReport, Interpretation};
use crate::plot::report::{ClassRow, Report};
use crate::plot::{Captioned, picture_grid};
use std::path::Path;

/// Pairs of classes that the report names.
const CONFUSED: usize = 12;

/// Names the pictures' files from `dir` on: that is what tells them apart, and a page that is shown around says nothing of
/// the folders above.
pub fn named_below(dir: &Path, mut cells: Vec<Captioned>) -> Vec<Captioned> {
    for cell in &mut cells {
        if let Ok(rest) = Path::new(&cell.source).strip_prefix(dir) {
            cell.source = rest.display().to_string();
        }
    }
    cells
}

/// Adds confusion matrix, most confused classes, the `worst` pictures and scores of each class; writes `confusion.png` and
/// `top_losses.png` into `out`. The pictures are below `dir`.
///
/// # Errors
/// A picture can't be read again, or a figure can't be written.
pub fn sections(interp: &Interpretation, mut report: Report, dir: &Path, out: &Path, worst: usize) -> Result<Report> {
    let figure = interp.plot_confusion_matrix(false)?;
    figure.save(out.join("confusion.png"))?;
    report = report.confusion(&figure);
    let confused: Vec<_> = interp.most_confused(1).into_iter().take(CONFUSED).collect();
    report = report.most_confused(&confused);
    if worst > 0 {
        let cells = interp.top_loss_cells(worst, true)?;
        picture_grid(&cells, None, None)?.save(out.join("top_losses.png"))?;
        report = report.top_losses(&named_below(dir, cells));
    }
    Ok(report.per_class(&class_rows(&interp.classification_report())))
}

fn class_rows(report: &ClassificationReport) -> Vec<ClassRow> {
    let row = |(label, s): &(String, crate::learner::Scores)| ClassRow {
        label: label.clone(),
        support: s.support,
        precision: s.precision,
        recall: s.recall,
        f1: s.f1,
    };
    report.classes.iter().map(row).collect()
}
