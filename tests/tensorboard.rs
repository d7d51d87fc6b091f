//! TensorBoard's event files: read back by a reader of the format's own description, and compared with the recorder.

mod common;

use common::colours::{colours, learner, loaders};
use onecycle::learner::{FitOptions, TensorBoardCallback};
use onecycle::optim::schedule::OneCycle;
use std::collections::BTreeMap;
use std::path::Path;

/// Bit by bit, without a table.
fn crc32c(bytes: &[u8]) -> u32 {
    let bit = |crc: u32, _| (crc >> 1) ^ (0x82f6_3b78 & 0u32.wrapping_sub(crc & 1));
    !bytes.iter().fold(u32::MAX, |crc, &b| (0..8).fold(crc ^ u32::from(b), bit))
}

fn masked(bytes: &[u8]) -> u32 {
    let crc = crc32c(bytes);
    ((crc >> 15) | (crc << 17)).wrapping_add(0xa282_ead8)
}

fn number<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let (head, rest) = bytes.split_first_chunk().expect("the file ends early");
    *bytes = rest;
    *head
}

fn records(mut file: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while !file.is_empty() {
        let length = number::<8>(&mut file);
        assert_eq!(u32::from_le_bytes(number(&mut file)), masked(&length));
        let (record, rest) = file.split_at(u64::from_le_bytes(length) as usize);
        file = rest;
        assert_eq!(u32::from_le_bytes(number(&mut file)), masked(record));
        all.push(record.to_vec());
    }
    all
}

enum Field {
    Varint(u64),
    Eight([u8; 8]),
    Bytes(Vec<u8>),
    Four([u8; 4]),
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut n = 0;
    for i in 0.. {
        let [b] = number(bytes);
        n |= u64::from(b & 0x7f) << (7 * i);
        if b < 0x80 {
            break;
        }
    }
    n
}

fn fields(mut message: &[u8]) -> Vec<(u64, Field)> {
    let mut all = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message);
        let field = match key & 7 {
            0 => Field::Varint(varint(&mut message)),
            1 => Field::Eight(number(&mut message)),
            2 => {
                let n = varint(&mut message) as usize;
                let (bytes, rest) = message.split_at(n);
                message = rest;
                Field::Bytes(bytes.to_vec())
            }
            5 => Field::Four(number(&mut message)),
            kind => panic!("a field of kind {kind}"),
        };
        all.push((key >> 3, field));
    }
    all
}

/// Curves by their names, as (step, value).
type Curves = BTreeMap<String, Vec<(u64, f32)>>;

fn curves(path: &Path) -> Curves {
    let mut all = Curves::new();
    for (i, record) in records(&std::fs::read(path).unwrap()).iter().enumerate() {
        let (mut step, mut time) = (0, 0.0);
        for (field, value) in fields(record) {
            match (field, value) {
                (1, Field::Eight(bytes)) => time = f64::from_le_bytes(bytes),
                (2, Field::Varint(n)) => step = n,
                (3, Field::Bytes(text)) => assert_eq!((i, &text[..]), (0, &b"brain.Event:2"[..])),
                (5, Field::Bytes(summary)) => {
                    for (_, value) in fields(&summary) {
                        let Field::Bytes(value) = value else { panic!("a value is a message") };
                        let parts = fields(&value);
                        let [(1, Field::Bytes(tag)), (2, Field::Four(number))] = &parts[..] else {
                            panic!("a value has a tag and a number")
                        };
                        let tag = String::from_utf8(tag.clone()).unwrap();
                        all.entry(tag).or_default().push((step, f32::from_le_bytes(*number)));
                    }
                }
                (field, _) => panic!("an event has no field {field} of this kind"),
            }
        }
        assert!(time > 1.6e9, "seconds since 1970");
    }
    all
}

#[test]
fn what_is_written_is_what_was_recorded() {
    let dir = tempfile::tempdir().unwrap();
    colours(dir.path(), 14);
    // Where the files shall stay, for TensorBoard itself to read.
    let runs = std::env::var_os("ONECYCLE_TENSORBOARD_RUN").map_or(dir.path().join("runs/a"), Into::into);
    let mut learn = learner(&loaders(dir.path(), 1, 1));
    let mut fit = || {
        let options = FitOptions::default().cb(TensorBoardCallback::new(&runs));
        learn.fit_one_cycle_with(3, 1e-2, &OneCycle::default(), options).unwrap();
        learn.recorder().clone()
    };
    let recorder = fit();
    let files = || {
        let mut names: Vec<_> = std::fs::read_dir(&runs).unwrap().map(|e| e.unwrap().path()).collect();
        names.sort();
        names
    };
    let path = files().remove(0);
    let name = path.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("events.out.tfevents.1") || name.starts_with("events.out.tfevents.2"), "{name}");
    let curves = curves(&path);
    let steps = |from: &[f64]| -> Vec<(u64, f32)> { (1..).zip(from.iter().map(|&v| v as f32)).collect() };
    assert_eq!(curves["train_loss"], steps(recorder.losses()));
    assert_eq!(curves["lr_2"], steps(recorder.lrs()));
    assert_eq!(curves["mom_0"], steps(recorder.moms()));
    for metric in ["valid_loss", "error_rate"] {
        let at = |(row, &i): (&onecycle::learner::Row, &usize)| (i as u64, row.get(metric).unwrap() as f32);
        assert_eq!(curves[metric], recorder.rows().iter().zip(recorder.iters()).map(at).collect::<Vec<_>>());
    }
    let names: Vec<&str> = curves.keys().map(String::as_str).collect();
    assert_eq!(names, ["error_rate", "lr_0", "lr_1", "lr_2", "mom_0", "mom_1", "mom_2", "train_loss", "valid_loss"]);
    fit();
    assert_eq!(files().len(), 2, "each fit has a file of its own, however short it is");
}
