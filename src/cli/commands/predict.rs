//! `onecycle predict`: label and probabilities for each file; a folder stands for the pictures in it.

use crate::cli::settings::PredictSettings;
use crate::cli::{Context, run};
use crate::data::get_image_files;
use crate::learner::{Prediction, Predictor, TargetKind};
use crate::{Error, ErrorKind, Result};
use std::path::PathBuf;

/// Files that are read and predicted together.
const TOGETHER: usize = 16;

/// Classes that a line of text shows.
const SHOWN: usize = 3;

/// Runs the command. A file that can't be read is reported and the others are still predicted.
///
/// # Errors
/// When the device or the model can't be used, or at least one picture can't be read.
pub fn run(settings: &PredictSettings, context: &Context) -> Result<()> {
    run::use_threads(settings.common.threads);
    let model = Predictor::load_on(&settings.model, run::device(settings.common.device, context)?)?;
    let all = pictures(&settings.files)?;
    let mut failed = 0;
    for files in all.chunks(TOGETHER) {
        for prediction in predict(&model, files) {
            if context.console.closed() {
                return Ok(());
            }
            match prediction {
                Ok(p) if settings.json => context.console.result(&json(&model, &p))?,
                Ok(p) => context.console.result(&text(&model, &p))?,
                Err(e) if all.len() == 1 => return Err(e),
                Err(e) => {
                    context.console.error(&e);
                    failed += 1;
                }
            }
        }
    }
    match failed {
        0 => Ok(()),
        _ => Err(Error::new(ErrorKind::Image, format!("{failed} of {} files could not be predicted", all.len()))),
    }
}

/// The files, with the pictures of folders in the folders' place.
fn pictures(given: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let expand = |path: &PathBuf| if path.is_dir() { get_image_files(path) } else { Ok(vec![path.clone()]) };
    let lists: Vec<_> = given.iter().map(expand).collect::<Result<_>>()?;
    Ok(lists.concat())
}

/// All at once; if that fails, one by one, so that one bad file doesn't take the others with it.
fn predict(model: &Predictor, files: &[PathBuf]) -> Vec<Result<Prediction>> {
    match model.predict_files(files.to_vec(), TOGETHER) {
        Ok(all) => all.into_iter().map(Ok).collect(),
        Err(_) => files.iter().map(|f| model.predict(f)).collect(),
    }
}

/// `cat.jpg  cat 0.9812  dog 0.0145  fox 0.0021`
fn text(model: &Predictor, p: &Prediction) -> String {
    if model.targets() == TargetKind::Numbers {
        return format!("{}  {}", p.path.display(), p.label);
    }
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
    if model.targets() == TargetKind::Numbers {
        return serde_json::json!({ "file": file, "numbers": p.probabilities }).to_string();
    }
    serde_json::json!({ "file": file, "label": p.label, "probabilities": probabilities }).to_string()
}
