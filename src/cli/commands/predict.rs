//! `onecycle predict`: label and probabilities for each file.

use crate::cli::settings::PredictSettings;
use crate::cli::{Context, run};
use crate::learner::{Prediction, Predictor, load_learner};
use crate::{Error, ErrorKind, Result};
use std::path::PathBuf;

/// Files that are read and predicted together.
const TOGETHER: usize = 16;

/// Classes that a line of text shows.
const SHOWN: usize = 3;

/// Runs the command. A file that can't be read is reported and the others are still predicted.
///
/// # Errors
/// When the model can't be read, or at least one picture couldn't.
pub fn run(settings: &PredictSettings, context: &Context) -> Result<()> {
    run::use_threads(settings.common.threads);
    let model = load_learner(&settings.model)?;
    let mut failed = Vec::new();
    for files in settings.files.chunks(TOGETHER) {
        for (file, prediction) in predict(&model, files) {
            if context.console.closed() {
                return Ok(());
            }
            match prediction {
                Ok(p) if settings.json => context.console.result(&json(&model, &p))?,
                Ok(p) => context.console.result(&text(&model, &p))?,
                Err(e) => {
                    context.console.error(&e);
                    failed.push(file);
                }
            }
        }
    }
    match failed.as_slice() {
        [] => Ok(()),
        [one] => Err(Error::new(ErrorKind::Image, "could not be predicted").on(one.display())),
        many => Err(Error::new(ErrorKind::Image, format!("{} files could not be predicted", many.len()))),
    }
}

/// All at once; if that fails, one by one, so that one bad file doesn't take the others with it.
fn predict(model: &Predictor, files: &[PathBuf]) -> Vec<(PathBuf, Result<Prediction>)> {
    match model.predict_files(files.to_vec(), TOGETHER) {
        Ok(all) => all.into_iter().map(|p| (p.path.clone(), Ok(p))).collect(),
        Err(_) => files.iter().map(|f| (f.clone(), model.predict(f))).collect(),
    }
}

/// `cat.jpg  cat 0.9812  dog 0.0145  fox 0.0021`
fn text(model: &Predictor, p: &Prediction) -> String {
    let mut by_probability: Vec<usize> = (0..p.probabilities.len()).collect();
    by_probability.sort_by(|&a, &b| p.probabilities[b].total_cmp(&p.probabilities[a]));
    let cell = |&class: &usize| format!("  {} {:.4}", model.vocab()[class], p.probabilities[class]);
    let cells: String = by_probability.iter().take(SHOWN).map(cell).collect();
    format!("{}{cells}", p.path.display())
}

fn json(model: &Predictor, p: &Prediction) -> String {
    let number = |v: &f64| serde_json::json!(v);
    let probabilities: serde_json::Map<String, serde_json::Value> =
        model.vocab().iter().cloned().zip(p.probabilities.iter().map(number)).collect();
    let file = p.path.display().to_string();
    serde_json::json!({ "file": file, "label": p.label, "probabilities": probabilities }).to_string()
}
