//! Curves for TensorBoard: fastai's `TensorBoardCallback`, but for pictures, graphs and histograms. Feature `tensorboard`.
//!
//! ```no_run
//! # use onecycle::prelude::*;
//! # use onecycle::learner::{FitOptions, TensorBoardCallback};
//! # fn demo(mut learn: Learner) -> onecycle::Result<()> {
//! learn.fit_with(5, 1e-3, FitOptions::default().cb(TensorBoardCallback::new("runs/first")))?; // then: tensorboard --logdir runs
//! # Ok(()) }
//! ```
//!
//! An event file is a sequence of records, each with a checksum (CRC-32C, rotated and shifted by a constant) of its length and one of its
//! bytes; the bytes are an `Event` in the protocol-buffers format. Of its fields four are needed for curves, so they are written by hand:
//!
//! ```text
//! record   length u64, masked crc of the length u32, bytes, masked crc of the bytes u32; all little-endian
//! Event    1 wall_time: double, 2 step: int64, 3 file_version: string (the first event) or 5 summary: Summary
//! Summary  1 value: Value, repeated          Value   1 tag: string, 2 simple_value: float
//! ```

use super::super::Learner;
use super::super::callback::{AFTER_BATCH, AFTER_EPOCH, AFTER_FIT, AFTER_TRAIN, BEFORE_FIT, Callback, Event, Signal};
use crate::fs::create_dir;
use crate::{Error, Result};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Writes curves for TensorBoard, with fastai's names: `train_loss` (smoothed) after each training batch, `lr_0`, `mom_0` and so on of each
/// parameter group, `valid_loss` and the metrics after each epoch. Steps are training batches, from 1. Each fit makes a file of its own
/// in the directory; what is written is there at once.
#[derive(Debug)]
pub struct TensorBoardCallback {
    dir: PathBuf,
    file: Option<(PathBuf, File)>,
    /// Losses that have been written.
    written: usize,
}

impl TensorBoardCallback {
    /// Writes into `dir`, which is made if need be. Runs in sibling directories are compared in one chart.
    pub fn new(dir: impl Into<PathBuf>) -> TensorBoardCallback {
        TensorBoardCallback { dir: dir.into(), file: None, written: 0 }
    }

    fn write(&mut self, step: usize, values: &[(String, f64)]) -> Result<()> {
        let Some((path, file)) = self.file.as_mut().filter(|_| !values.is_empty()) else { return Ok(()) };
        file.write_all(&record(&event(now(), step, values))).map_err(|e| Error::io("write", path, e))
    }

    /// The losses that have arrived, each at its batch.
    fn losses(&mut self, learn: &Learner) -> Result<()> {
        for (i, &loss) in learn.recorder().losses().iter().enumerate().skip(self.written) {
            self.write(i + 1, &[("train_loss".into(), loss)])?;
            self.written = i + 1;
        }
        Ok(())
    }
}

impl Callback for TensorBoardCallback {
    fn name(&self) -> &'static str {
        "TensorBoardCallback"
    }

    fn order(&self) -> i32 {
        51
    }

    fn events(&self) -> Option<&'static [Event]> {
        Some(&[BEFORE_FIT, AFTER_BATCH, AFTER_TRAIN, AFTER_EPOCH, AFTER_FIT])
    }

    fn runs_in_lr_find(&self) -> bool {
        false
    }

    fn before_fit(&mut self, _: &mut Learner) -> Signal {
        create_dir(&self.dir)?;
        let (path, mut file) = create(&self.dir)?;
        file.write_all(&record(&version(now()))).map_err(|e| Error::io("write", &path, e))?;
        (self.file, self.written) = (Some((path, file)), 0);
        Ok(())
    }

    fn after_batch(&mut self, learn: &mut Learner) -> Signal {
        if learn.is_training() {
            self.losses(learn)?;
            let groups = learn.opt().param_groups().iter().enumerate();
            let hypers =
                groups.flat_map(|(g, group)| [("lr", group.hyper.lr), ("mom", group.hyper.mom)].map(|h| (g, h)));
            let values: Vec<(String, f64)> = hypers.map(|(g, (name, value))| (format!("{name}_{g}"), value)).collect();
            self.write(learn.at.train_iter, &values)?;
        }
        Ok(())
    }

    fn after_train(&mut self, learn: &mut Learner) -> Signal {
        Ok(self.losses(learn)?)
    }

    fn after_epoch(&mut self, learn: &mut Learner) -> Signal {
        let Some(row) = learn.recorder().rows().last() else { return Ok(()) };
        let values = row.names.iter().cloned().zip(row.valid.clone().unwrap_or_default());
        Ok(self.write(learn.at.train_iter, &values.collect::<Vec<_>>())?)
    }

    fn after_fit(&mut self, _: &mut Learner) -> Signal {
        self.file = None;
        Ok(())
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// A new file with the name that TensorBoard looks for; two fits within a second get different ones.
fn create(dir: &Path) -> Result<(PathBuf, File)> {
    let name = format!("events.out.tfevents.{:010}.{}", now() as u64, host());
    let mut path = dir.join(&name);
    for i in 1.. {
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(e) if e.kind() == ErrorKind::AlreadyExists && i < 10_000 => path = dir.join(format!("{name}.{i}")),
            Err(e) => return Err(Error::io("create", &path, e)),
        }
    }
    unreachable!("the loop ends with a file or an error")
}

/// The machine's name, where it says so, as a part of a file's name.
fn host() -> String {
    let named = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name =
        named.or_else(|| ["HOSTNAME", "COMPUTERNAME"].iter().find_map(|v| std::env::var(v).ok())).unwrap_or_default();
    let fit = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '.' { c } else { '_' };
    match name.trim() {
        "" => "localhost".into(),
        name => name.chars().map(fit).collect(),
    }
}

/// The bytes as a record with its checksums.
fn record(bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u64).to_le_bytes();
    [&length[..], &masked(&length).to_le_bytes(), bytes, &masked(bytes).to_le_bytes()].concat()
}

fn version(time: f64) -> Vec<u8> {
    let mut out = Vec::new();
    double(&mut out, 1, time);
    text(&mut out, 3, b"brain.Event:2");
    out
}

fn event(time: f64, step: usize, values: &[(String, f64)]) -> Vec<u8> {
    let mut summary = Vec::new();
    for (tag, number) in values {
        let mut value = Vec::new();
        text(&mut value, 1, tag.as_bytes());
        key(&mut value, 2, 5);
        value.extend((*number as f32).to_le_bytes());
        text(&mut summary, 1, &value);
    }
    let mut out = Vec::new();
    double(&mut out, 1, time);
    key(&mut out, 2, 0);
    varint(&mut out, step as u64);
    text(&mut out, 5, &summary);
    out
}

/// A field's number and its kind: 0 varint, 1 eight bytes, 2 text or message, 5 four bytes.
fn key(out: &mut Vec<u8>, field: u64, kind: u64) {
    varint(out, field << 3 | kind);
}

fn double(out: &mut Vec<u8>, field: u64, value: f64) {
    key(out, field, 1);
    out.extend(value.to_le_bytes());
}

fn text(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    key(out, field, 2);
    varint(out, bytes.len() as u64);
    out.extend(bytes);
}

/// Seven bits a byte, the lowest first; the eighth says that more follow.
fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// A checksum of bytes that may hold checksums themselves.
fn masked(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C: Castagnoli's polynomial, not the one of PNG and zip.
fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut i = 0;
        while i < 256 {
            let (mut crc, mut bit) = (i as u32, 0);
            while bit < 8 {
                crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
                bit += 1;
            }
            table[i] = crc;
            i += 1;
        }
        table
    };
    !bytes.iter().fold(!0u32, |crc, &b| crc >> 8 ^ TABLE[usize::from(crc as u8 ^ b)])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers of RFC 3720, and the polynomial's check value.
    #[test]
    fn crc32c_known_answers() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    #[test]
    fn varints() {
        let of = |n| {
            let mut out = Vec::new();
            varint(&mut out, n);
            out
        };
        assert_eq!((of(0), of(127), of(128), of(300)), (vec![0], vec![127], vec![128, 1], vec![0xac, 2]));
        assert_eq!(of(u64::MAX).len(), 10);
    }
}
