//! Damage by the thousand: whatever the bytes, a reader gives a value or an error that names the item. It never panics, and it never
//! allocates more than its limits say.
//!
//! Few cases run by default, always the same. `ONECYCLE_FUZZ_CASES=1000000 cargo test --release --test fuzz` runs as many of each kind,
//! drawn anew every time. What fails is shrunk to the smallest case and printed.

mod common;
#[path = "common/fuzzing.rs"]
mod fuzzing;

use common::pictures::{self, pattern};
use fuzzing::{cases, damage, peak_of, spoil};
use onecycle::data::{ColReader, CsvOptions, Getter, ItemGetter, Labeller, RegexLabeller, Table};
use onecycle::data::{get_image_files, parent_label, using_attr};
use onecycle::nn::safetensors;
use onecycle::vision::decode::PILLOW_MAX_PIXELS;
use onecycle::vision::{DecodeOptions, Facts, decode};
use proptest::prelude::*;
use std::path::Path;

/// The checksums of a PNG's chunks made right again: a reader that stops at the first wrong one would never see the damage.
fn mend_png(bytes: &mut [u8]) {
    let mut at = 8;
    while let Some(head) = bytes.get(at..at + 4) {
        let end = at + 8 + u32::from_be_bytes(head.try_into().unwrap()) as usize;
        if end + 4 > bytes.len() {
            return;
        }
        let crc = pictures::crc32(&bytes[at + 4..end]).to_be_bytes();
        bytes[end..end + 4].copy_from_slice(&crc);
        at = end + 4;
    }
}

/// Small valid files of every format and of the rarer kinds of pixels.
fn corpus() -> Vec<Vec<u8>> {
    use image::ExtendedColorType as Color;
    let grey: Vec<u8> = pattern().into_iter().step_by(3).collect();
    let wide: Vec<u8> = pattern().iter().flat_map(|&v| [v, v]).collect();
    let (w, h) = (pictures::W, pictures::H);
    vec![
        pictures::jpeg(),
        pictures::progressive_jpeg(),
        pictures::restarting_jpeg(),
        pictures::cmyk_jpeg(),
        pictures::turned(&pictures::jpeg(), 6),
        pictures::rgb_png(),
        pictures::png(&grey, w, h, Color::L8),
        pictures::png(&wide, w, h, Color::Rgb16),
        pictures::palette_png(),
        pictures::gif(&[pattern()]),
        pictures::gif(&[pattern(), pattern()]),
        pictures::webp(),
        pictures::animated_webp(&[pattern(), pattern()]),
        pictures::bmp(),
    ]
}

/// 65,536 pixels at most: with 8 bytes each and the decoders' 64 MiB of scratch memory, that is what a file may cost. Twice, because
/// a buffer that grows is counted before and after.
const PIXELS: u64 = 1 << 16;
const MEMORY: usize = 2 * ((64 << 20) + 8 * PIXELS as usize);

/// Facts know no limit of pixels; a bit for each coefficient of a progressive JPEG of Pillow's largest size is the most.
const FACTS: usize = 3 * (PILLOW_MAX_PIXELS as usize / 8) + (64 << 20);

fn decodes_or_says_why(bytes: &[u8]) -> Result<(), TestCaseError> {
    for (allow_truncated, apply_orientation) in [(false, false), (true, true)] {
        let options =
            DecodeOptions { max_pixels: PIXELS, allow_truncated, apply_orientation, ..DecodeOptions::default() };
        let (result, peak) = peak_of(|| decode(bytes, &options));
        prop_assert!(peak <= MEMORY, "{peak} bytes were held: {result:?}");
        match result {
            Ok(picture) => {
                prop_assert!((picture.width * picture.height) as u64 <= PIXELS && picture.width * picture.height > 0);
                prop_assert_eq!(picture.rgb.len(), picture.width * picture.height * 3);
            }
            Err(e) => {
                // It is an error to the caller, and a reason to look before the decoder does.
                prop_assert!(!e.message().contains("doesn't foresee"), "a decoder panicked");
                prop_assert!(!e.advice().is_empty() && !e.to_string().contains('\n'), "{}", e);
            }
        }
    }
    let (_, peak) = peak_of(|| Facts::of(bytes));
    prop_assert!(peak <= FACTS, "{peak} bytes were held for the facts");
    Ok(())
}

#[test]
fn damaged_pictures() {
    let corpus = corpus();
    let strategy = (0..corpus.len(), prop::collection::vec(damage(), 1..6), any::<bool>());
    cases(3000, strategy, |(which, all, mend)| {
        let mut bytes = corpus[which].clone();
        all.iter().for_each(|damage| spoil(&mut bytes, damage));
        if mend && bytes.starts_with(b"\x89PNG") {
            mend_png(&mut bytes);
        }
        decodes_or_says_why(&bytes)
    });
}

#[test]
fn random_bytes_behind_a_picture_s_first_ones() {
    let heads: [&[u8]; 8] = [
        b"",
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        b"GIF89a",
        b"RIFF\0\x01\0\0WEBPVP8 ",
        b"RIFF\0\x01\0\0WEBPVP8L",
        b"RIFF\0\x01\0\0WEBPVP8X",
        b"BM",
    ];
    cases(1000, (0..heads.len(), prop::collection::vec(any::<u8>(), 0..400)), |(which, tail)| {
        decodes_or_says_why(&[heads[which], &tail].concat())
    });
}

#[test]
fn tables() {
    // Words that look like numbers, quotes, delimiters, line ends and bytes that are no text.
    let piece = prop_oneof![
        Just(b",".to_vec()),
        Just(b"\"".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"a.jpg".to_vec()),
        Just(b"True".to_vec()),
        Just(b"-9223372036854775809".to_vec()),
        Just(b"1e999".to_vec()),
        Just(b"007".to_vec()),
        Just(b"\xef\xbb\xbf".to_vec()),
        Just(b"\xff".to_vec()),
        "\\PC{0,4}".prop_map(String::into_bytes),
    ];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("labels ü.csv");
    let strategy =
        (prop::collection::vec(piece, 0..60), any::<bool>(), prop_oneof![Just(b','), Just(b';'), any::<u8>()]);
    let getters: [Box<dyn Getter>; 4] = [
        Box::new(ColReader::new("a.jpg").label_delim(" ")),
        Box::new(ColReader::new([0, 1]).pref("x/").suff(".png")),
        Box::new(ColReader::new(0).label_delim("")),
        Box::new(ItemGetter(3)),
    ];
    cases(1000, strategy, |(pieces, header, delimiter)| {
        std::fs::write(&path, pieces.concat()).unwrap();
        match Table::read_csv_with(&path, CsvOptions { header, delimiter }) {
            Err(e) => prop_assert!(e.to_string().contains("labels ü.csv"), "{}", e),
            Ok(table) => {
                for item in table.items() {
                    prop_assert_eq!(item.row().unwrap().cells().len(), table.columns().len());
                    for getter in &getters {
                        if let Err(e) = getter.get(&item) {
                            prop_assert!(e.to_string().contains("labels ü.csv"), "{}", e);
                        }
                    }
                }
            }
        }
        Ok(())
    });
}

#[test]
fn labels_of_any_path_by_any_expression() {
    let pattern =
        prop_oneof!["\\PC{0,12}", "[().*+?|\\[\\]\\\\dw{}0-9a-z_^$-]{0,24}", Just(r"(.+)_\d+.jpg$".to_owned())];
    cases(1000, (pattern, "\\PC{0,20}(_[0-9]{1,3})?(\\.jpg)?"), |(pattern, name)| {
        let path = Path::new(&name);
        let _ = parent_label(path);
        match RegexLabeller::new(&pattern) {
            Err(e) => prop_assert_eq!(e.item(), Some(pattern.as_str())),
            Ok(labeller) => {
                for labeller in
                    [&labeller as &dyn Labeller, &labeller.clone().matching(), &using_attr(labeller.clone(), "name")]
                {
                    if let Err(e) = labeller.label(path) {
                        prop_assert_eq!(e.item(), Some(name.as_str()));
                    }
                }
            }
        }
        Ok(())
    });
}

#[test]
fn files_of_any_name_are_listed_once_and_sorted() {
    let name = "[^/\0]{1,12}(\\.jpg|\\.PNG|\\.txt|)";
    cases(60, prop::collection::btree_set(name, 1..8), |names| {
        let dir = tempfile::tempdir().unwrap();
        // What the system refuses as a name cannot be found either.
        let made: Vec<String> = names.into_iter().filter(|n| std::fs::write(dir.path().join(n), b"").is_ok()).collect();
        let picture = |n: &&String| {
            let lower = n.to_lowercase();
            let stem = lower.strip_suffix(".jpg").or(lower.strip_suffix(".png"));
            !n.starts_with('.') && stem.is_some_and(|s| !s.is_empty())
        };
        let mut expected: Vec<&String> = made.iter().filter(picture).collect();
        expected.sort();
        match get_image_files(dir.path()) {
            Err(e) => prop_assert!(expected.is_empty() && e.to_string().contains("no pictures"), "{}", e),
            Ok(found) => {
                let found: Vec<_> = found.iter().map(|p| p.file_name().unwrap().to_str().unwrap()).collect();
                // A name may end in another picture's extension by chance.
                prop_assert!(expected.iter().all(|n| found.contains(&n.as_str())), "{:?} of {:?}", found, expected);
                prop_assert!(found.is_sorted());
            }
        }
        Ok(())
    });
}

#[test]
fn model_files() {
    let header = br#"{"__metadata__":{"a":"b"},"x":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"y":{"dtype":"U8","shape":[],"data_offsets":[24,25]}}"#;
    let whole = [&(header.len() as u64).to_le_bytes()[..], header, &[7; 25]].concat();
    assert_eq!(safetensors::parse(&whole).unwrap().tensors.len(), 2);
    let number = prop_oneof![any::<u64>(), 0..40u64].prop_map(|n| n.to_string());
    let strategy = (prop::collection::vec(damage(), 0..4), prop::collection::vec((0..8usize, number), 0..3));
    cases(1000, strategy, |(all, numbers)| {
        // Numbers are replaced as texts first: bytes alone rarely make a valid header that lies.
        let mut text = String::from_utf8(header.to_vec()).unwrap();
        for (which, number) in numbers {
            let runs: Vec<(usize, &str)> = text.match_indices(|c: char| c.is_ascii_digit()).collect();
            let (at, digit) = runs[which % runs.len()];
            text.replace_range(at..at + digit.len(), &number);
        }
        let mut bytes = [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), &[7; 25]].concat();
        all.iter().for_each(|damage| spoil(&mut bytes, damage));
        let (result, peak) = peak_of(|| safetensors::parse(&bytes));
        prop_assert!(peak < 1 << 20, "{peak} bytes were held");
        if let Err(e) = result {
            prop_assert!(!e.advice().is_empty(), "{}", e);
        }
        Ok(())
    });
}
