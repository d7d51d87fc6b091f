//! `onecycle export`: a model file of a run that was killed, of its best epoch, or of a checkpoint; or another format of a model file.

use crate::cli::Context;
use crate::cli::settings::ExportSettings;
use crate::learner::Predictor;
use crate::learner::checkpoint::{Stored, Which};
use crate::{Device, Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

/// Runs the command.
///
/// # Errors
/// When there is no model to be had, or the file exists already or can't be written.
pub fn run(settings: &ExportSettings, context: &Context) -> Result<()> {
    let ExportSettings { from, out, best, overwrite } = settings;
    if out.exists() && !overwrite {
        let error = Error::new(ErrorKind::Argument, "the file exists already").on(out.display());
        return Err(error.remedy("choose another with --out, or write over it with --overwrite"));
    }
    let onnx = out.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx"));
    let is = |extension: &str| from.extension().is_some_and(|e| e.eq_ignore_ascii_case(extension));
    if *best && !from.is_dir() {
        let error = Error::new(ErrorKind::Argument, "only a run has a best epoch").on("--best");
        return Err(error.remedy("name a run directory, or leave it out"));
    }
    if is("safetensors") {
        // Read whatever becomes of it: no damaged model gets a second name.
        let model = Predictor::load_on(from, Device::Cpu)?;
        if onnx { to_onnx(&model, out)? } else { copy(from, out)? }
    } else {
        let stored = match is("ckpt") {
            true => Stored::read(from)?,
            false => Stored::of_run(&checkpoints(from)?, if *best { Which::Best } else { Which::Newest })?,
        };
        context.console.note(&stored.to_string());
        if onnx { to_onnx(&stored.predictor()?, out)? } else { stored.export(out)? }
    }
    context.console.result(&out.display().to_string())
}

/// The checkpoints of a run directory, or the directory itself if it is theirs.
fn checkpoints(from: &Path) -> Result<PathBuf> {
    let inner = from.join("checkpoints");
    match (inner.is_dir(), from.is_dir()) {
        (true, _) => Ok(inner),
        (false, true) => Ok(from.to_path_buf()),
        (false, false) => {
            let error = Error::new(ErrorKind::Argument, "is neither a run directory nor a model").on(from.display());
            Err(error.remedy("name a directory that `train` has made, a .ckpt or a .safetensors file"))
        }
    }
}

fn copy(from: &Path, out: &Path) -> Result<()> {
    if from == out {
        return Ok(());
    }
    let bytes = std::fs::read(from).map_err(|e| Error::io("read the model", from, e))?;
    crate::fs::write_atomic(out, |w| w.write_all(&bytes))
}

#[cfg(feature = "onnx")]
fn to_onnx(model: &Predictor, out: &Path) -> Result<()> {
    model.export_onnx(out)
}

#[cfg(not(feature = "onnx"))]
fn to_onnx(_: &Predictor, out: &Path) -> Result<()> {
    let error = Error::new(ErrorKind::Argument, "this program was built without ONNX").on(out.display());
    Err(error.remedy("build it with `cargo build --release --features onnx`"))
}
