//! `onecycle evaluate`: loss and error rate of a model on a folder, with a table of its classes; `--json` for scripts.

use crate::cli::settings::EvaluateSettings;
use crate::cli::{Context, data, run};
use crate::data::{Targets, get_image_files};
use crate::learner::{Interpretation, Predictor, TargetKind};
use crate::{Error, ErrorKind, Result};

/// Runs the command.
///
/// # Errors
/// When the device cannot be used, the model or a picture cannot be read, or a label is no class of the model.
pub fn run(settings: &EvaluateSettings, context: &Context) -> Result<()> {
    let Measured { interp, loss, error_rate } = measure(settings, context)?;
    let n = interp.predictions().len();
    if settings.json {
        let line = serde_json::json!({ "error_rate": error_rate, "loss": loss, "n": n });
        return context.console.result(&line.to_string());
    }
    context.console.result(&format!("{n} pictures, loss {loss:.6}, error_rate {error_rate:.6}\n"))?;
    let matrix = interp.confusion_matrix();
    let width = matrix.vocab.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(5);
    context.console.result(&format!("{:width$}  pictures  right  error_rate", "class"))?;
    for (name, of, right, _) in matrix.per_class() {
        let error = if of > 0 { format!("{:.6}", 1.0 - right as f64 / of as f64) } else { "None".into() };
        context.console.result(&format!("{name:width$}  {of:8}  {right:5}  {error:>10}"))?;
    }
    for (actual, predicted, count) in matrix.most_confused(2).into_iter().take(5) {
        context.console.note(&format!("{count} of {actual} were taken for {predicted}"));
    }
    Ok(())
}

/// What a model makes of a folder.
pub struct Measured {
    /// Its predictions.
    pub interp: Interpretation,
    /// Their mean loss.
    pub loss: f64,
    /// The share that is wrong.
    pub error_rate: f64,
}

/// Predicts the pictures of a folder and compares with their labels.
///
/// # Errors
/// As [`run()`].
pub fn measure(settings: &EvaluateSettings, context: &Context) -> Result<Measured> {
    run::use_threads(settings.common.threads);
    let model = Predictor::load_on(&settings.model, run::device(settings.common.device, context)?)?;
    if model.targets() != TargetKind::Classes {
        return Err(Error::new(
            ErrorKind::Argument,
            "this model says labels or numbers, and folders and names hold one class",
        )
        .on(settings.model.display())
        .remedy("measure it in a program, with Learner::validate or Predictor::predictions"));
    }
    let paths = get_image_files(&settings.dir)?;
    let targets = data::targets(&paths, settings.label_re.as_deref(), model.vocab())?;
    let predictions = model.predictions(paths, Some(Targets::Categories(targets)), settings.bs)?;
    let (Some(loss), Some(error_rate)) = (predictions.loss(), predictions.error_rate()) else {
        return Err(Error::new(ErrorKind::Data, "there are no pictures to measure").on(settings.dir.display()));
    };
    Ok(Measured { interp: Interpretation::new(model.vocab().to_vec(), predictions)?, loss, error_rate })
}
