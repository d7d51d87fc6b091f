//! `onecycle export`: a model file of a run that was killed, of its best epoch, or of a checkpoint; or another format of a model file.

use crate::cli::Context;
use crate::cli::settings::ExportSettings;
use crate::learner::Predictor;
use crate::learner::checkpoint::{self, Which};
use crate::{Error, ErrorKind, Result};
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
    // ONNX is made of a model file, and only of one: what a checkpoint holds goes through a temporary one.
    let made = out.with_extension("safetensors");
    let (model, temporary) = match () {
        () if is("safetensors") => (from.clone(), false),
        () => {
            let told = if is("ckpt") {
                checkpoint::export(from, &made)?
            } else {
                let which = if *best { Which::Best } else { Which::Newest };
                checkpoint::export_of_run(&checkpoints(from)?, which, &made)?
            };
            context.console.note(&told.to_string());
            (made, onnx)
        }
    };
    let written = if onnx { to_onnx(&model, out) } else { same(&model, out) };
    if temporary {
        crate::fs::remove(&model)?;
    }
    written?;
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

/// The model is there; a copy of a model file is one that has been read, so that no damaged one gets a second name.
fn same(model: &Path, out: &Path) -> Result<()> {
    Predictor::load(model)?;
    if model == out {
        return Ok(());
    }
    let bytes = std::fs::read(model).map_err(|e| Error::io("read the model", model, e))?;
    crate::fs::write_atomic(out, |w| w.write_all(&bytes))
}

#[cfg(feature = "onnx")]
fn to_onnx(model: &Path, out: &Path) -> Result<()> {
    Predictor::load(model)?.export_onnx(out)
}

#[cfg(not(feature = "onnx"))]
fn to_onnx(_: &Path, out: &Path) -> Result<()> {
    let error = Error::new(ErrorKind::Argument, "this program was built without ONNX").on(out.display());
    Err(error.remedy("build it with `cargo build --release --features onnx`"))
}
