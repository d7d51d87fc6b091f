//! The table of epochs in a file, while it grows.

use super::super::callback::{AFTER_EPOCH, AFTER_FIT, BEFORE_FIT, Callback, Event, Signal};
use super::super::table::{csv_header, csv_line};
use super::super::{Learner, StateDict};
use crate::fs::{create_dir, write_atomic};
use crate::{Error, Result};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

/// Writes a line with full numbers after each epoch: fastai's `CSVLogger`. A line is in the file, synced, before the next epoch
/// begins, so a crash loses the present epoch and nothing else.
///
/// Without `append` the file is replaced, all at once, when a fit begins. With it lines are added; the header is repeated only if the
/// columns have changed (fastai repeats it for every fit).
#[derive(Debug)]
pub struct CSVLogger {
    /// The file, under the learner's path.
    pub fname: String,
    /// Keeps what is in the file.
    pub append: bool,
    file: Option<File>,
    /// Rows that are in the file.
    written: usize,
}

impl CSVLogger {
    /// Writes to `fname` under the learner's path.
    pub fn new(fname: impl Into<String>) -> CSVLogger {
        CSVLogger { fname: fname.into(), append: false, file: None, written: 0 }
    }

    /// Keeps what is in the file.
    pub fn append(mut self) -> CSVLogger {
        self.append = true;
        self
    }

    fn open(&self, path: &Path, header: &str) -> Result<File> {
        if let Some(dir) = path.parent() {
            create_dir(dir)?;
        }
        if !(self.append && path.exists()) {
            write_atomic(path, |out| writeln!(out, "{header}"))?;
        }
        let failed = |e| Error::io("write", path, e);
        let mut file = OpenOptions::new().append(true).read(true).open(path).map_err(failed)?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(failed)?;
        // The last line of a crashed run may be without its end.
        let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        let last = text.lines().rev().find(|line| line.starts_with("epoch,"));
        match last == Some(header) {
            true => file.write_all(end.as_bytes()).map_err(failed)?,
            false => file.write_all(format!("{end}{header}\n").as_bytes()).map_err(failed)?,
        }
        Ok(file)
    }

    fn write(&mut self, learn: &Learner) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        for row in learn.recorder().rows().iter().skip(self.written) {
            let line = csv_line(row) + "\n";
            // One write: a reader never sees half a line.
            let written = file.write_all(line.as_bytes()).and_then(|()| file.sync_data());
            written.map_err(|e| Error::io("write", &learn.path().join(&self.fname), e))?;
            self.written += 1;
        }
        Ok(())
    }
}

impl Default for CSVLogger {
    fn default() -> Self {
        CSVLogger::new("history.csv")
    }
}

impl Callback for CSVLogger {
    fn name(&self) -> &'static str {
        "CSVLogger"
    }

    fn order(&self) -> i32 {
        60
    }

    fn events(&self) -> Option<&'static [Event]> {
        Some(&[BEFORE_FIT, AFTER_EPOCH, AFTER_FIT])
    }

    fn runs_in_lr_find(&self) -> bool {
        false
    }

    fn before_fit(&mut self, learn: &mut Learner) -> Signal {
        let path = learn.path().join(&self.fname);
        (self.file, self.written) = (Some(self.open(&path, &csv_header(&learn.metric_names()))?), 0);
        Ok(())
    }

    fn after_epoch(&mut self, learn: &mut Learner) -> Signal {
        Ok(self.write(learn)?)
    }

    /// In a file that is kept, rows after the checkpoint are written again when its fit goes on.
    fn state_dict(&self) -> StateDict {
        let length = self.file.as_ref().and_then(|file| file.metadata().ok()).map(|meta| meta.len());
        StateDict::new().with("written", self.written).with_some("length", length)
    }

    fn load_state_dict(&mut self, state: &StateDict) -> Result<()> {
        let (Some(file), Some(length)) = (&self.file, state.find::<u64>("length")?) else { return Ok(()) };
        if self.append && file.metadata().is_ok_and(|meta| meta.len() >= length) {
            file.set_len(length).map_err(|e| Error::io("shorten", Path::new(&self.fname), e))?;
            self.written = state.get("written")?;
        }
        Ok(())
    }

    /// The last row is missing yet if somebody has ended the fit in `after_epoch` before it was this callback's turn.
    fn after_fit(&mut self, learn: &mut Learner) -> Signal {
        self.write(learn)?;
        self.file = None;
        Ok(())
    }
}
