//! The run directory: made once, never overwritten by accident.
//!
//! It holds `settings.toml`, `history.csv`, `report.html`, the plots and `model.safetensors`: hours of work. So a directory
//! with anything in it is refused unless the user says `--overwrite`, and even then nothing is deleted: files of the same
//! names are replaced, each atomically, and everything else stays.

use super::settings::Common;
use crate::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

/// Makes `out` ready to be written into.
///
/// # Errors
/// [`ErrorKind::Argument`] when there is something in it and `overwrite` is not set; [`ErrorKind::Io`] when it cannot be
/// made.
pub fn prepare(out: &Path, overwrite: bool) -> Result<()> {
    let filled = match std::fs::read_dir(out) {
        Ok(mut entries) => entries.next().is_some(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => false,
        Err(e) => return Err(Error::io("open the run directory", out, e)),
    };
    if filled && !overwrite {
        let error = Error::new(ErrorKind::Argument, "the run directory exists already").on(out.display());
        return Err(
            error.remedy("choose another with --out, go on with it by --resume, or write over it with --overwrite")
        );
    }
    crate::fs::create_dir(out)
}

/// The directory of each seed: `out` itself for one, `out/seed-0`, `out/seed-1` .. for several.
pub fn per_seed(out: &Path, common: &Common) -> Vec<(u64, PathBuf)> {
    match common.seeds.as_slice() {
        [seed] => vec![(*seed, out.to_path_buf())],
        seeds => seeds.iter().map(|seed| (*seed, out.join(format!("seed-{seed}")))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filled_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("runs/pets");
        prepare(&out, false).unwrap();
        prepare(&out, false).unwrap();
        std::fs::write(out.join("model.safetensors"), "hours").unwrap();
        let err = prepare(&out, false).unwrap_err();
        assert!(err.to_string().contains("--overwrite") && err.to_string().contains("runs/pets"));
        prepare(&out, true).unwrap();
        assert!(out.join("model.safetensors").exists());
        assert_eq!(prepare(&out.join("model.safetensors"), true).unwrap_err().kind(), ErrorKind::Io);
    }
}
