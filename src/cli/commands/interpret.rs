//! `onecycle interpret`: where a model errs on a folder. Text on standard output; a page, the confusion matrix and the worst pictures in
//! a directory.

use super::evaluate::{Measured, measure};
use crate::Result;
use crate::cli::settings::InterpretSettings;
use crate::cli::{Context, interpretation};
use crate::fs::create_dir;
use crate::plot::report::Report;
use serde_json::json;

/// Pairs of classes that the text names.
const CONFUSED: usize = 12;

/// Runs the command.
///
/// # Errors
/// As [`super::evaluate::run`]; and when the directory can't be written.
pub fn run(settings: &InterpretSettings, context: &Context) -> Result<()> {
    let Measured { interp, loss, error_rate } = measure(&settings.on, context)?;
    create_dir(&settings.out)?;
    let (n, report) = (interp.predictions().len(), interp.classification_report());
    let name = |path: &std::path::Path| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let (model, dir) = (&settings.on.model, &settings.on.dir);
    // Every run calls its model the same: the run's name says which it is.
    let of_run = model.parent().filter(|run| model.ends_with("model.safetensors") && run.file_name().is_some());
    let model = of_run.unwrap_or(model);
    let page = Report::new(format!("{} on {}", name(model), name(dir)), format!("{n} pictures"))
        .headline("error rate", format!("{:.1} %", 100.0 * error_rate), &format!("of {n} pictures"))
        .headline("loss", format!("{loss:.3}"), "cross entropy");
    let page = interpretation::sections(&interp, page, dir, &settings.out, settings.worst)?;
    let file = settings.out.join("interpretation.html");
    page.save(&file)?;

    let confused = interp.most_confused(1);
    if settings.on.json {
        let pair = |(actual, predicted, n): &(String, String, usize)| json!([actual, predicted, n]);
        let class = |(name, s): &(String, crate::learner::Scores)| json!({ "class": name, "precision": s.precision, "recall": s.recall, "f1": s.f1, "pictures": s.support });
        let worst = interp.top_losses(settings.worst, true);
        let top = |t: &crate::learner::TopLoss| {
            let file = t.path.display().to_string();
            json!({ "file": file, "loss": t.loss, "actual": t.actual, "predicted": t.predicted, "probability": t.probability })
        };
        let line = json!({
            "n": n,
            "loss": loss,
            "error_rate": error_rate,
            "classes": report.classes.iter().map(class).collect::<Vec<_>>(),
            "most_confused": confused.iter().map(pair).collect::<Vec<_>>(),
            "top_losses": worst.iter().map(top).collect::<Vec<_>>(),
            "page": file.display().to_string(),
        });
        return context.console.result(&line.to_string());
    }
    context.console.result(&format!("{n} pictures, loss {loss:.6}, error_rate {error_rate:.6}\n\n{report}"))?;
    if !confused.is_empty() {
        context.console.result("most confused (actual, predicted, times)")?;
    }
    for (actual, predicted, times) in confused.iter().take(CONFUSED) {
        context.console.result(&format!("  {actual}, {predicted}, {times}"))?;
    }
    for t in interp.top_losses(settings.worst, true).iter().take(1) {
        context.console.result(&format!(
            "\nworst: {} was taken for {} ({:.0} %), and is {}; loss {:.2}",
            t.path.display(),
            t.predicted,
            100.0 * t.probability,
            t.actual,
            t.loss
        ))?;
    }
    context.console.note(&format!("the page is {}", file.display()));
    Ok(())
}
