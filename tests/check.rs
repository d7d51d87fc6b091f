//! `onecycle check` and `vision::Check`: folders with every fault, made here, and what is said of them.

mod common;

use common::pictures::{self, H, W, pattern};
use image::ExtendedColorType as Color;
use onecycle::prelude::*;
use onecycle::vision::check::{Finding, Report, Severity};
use onecycle::vision::{Check, DecodeOptions, Facts, Scan, open};
use std::path::{Path, PathBuf};

/// A picture of `n` that no other number has.
fn png(n: u8) -> Vec<u8> {
    let pixels: Vec<u8> = pattern().iter().map(|v| v.wrapping_mul(n | 1).wrapping_add(n)).collect();
    pictures::png(&pixels, W, H, Color::Rgb8)
}

fn write(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Two classes without a fault: `a` and `b` with four pictures each.
fn sound(dir: &Path) {
    for n in 0..8u8 {
        write(dir, &format!("{}/{n}.png", if n < 4 { "a" } else { "b" }), &png(n));
    }
}

/// A folder with one of everything.
fn faulty(dir: &Path) {
    sound(dir);
    let jpeg = pictures::jpeg();
    write(dir, "a/half.jpg", &jpeg[..jpeg.len() / 2]);
    write(dir, "a/page.jpg", b"<!DOCTYPE html><html>404</html>");
    write(dir, "a/empty.png", b"");
    write(dir, "a/copy of 1.png", &png(1));
    write(dir, "b/copy of 2.bmp", &recoded(&png(2), image::ImageFormat::Bmp));
    write(dir, "a/really a png.jpg", &png(20));
    write(dir, "b/phone.jpg", &pictures::turned(&recoded(&png(50), image::ImageFormat::Jpeg), 6));
    write(dir, "b/junk.jpg", &pictures::jpeg_with_junk(240));
    write(dir, "b/flipped.jpg", &pictures::flipped_jpeg());
    write(dir, "b/zeros.jpg", &[&pictures::restarting_jpeg()[..], &[0; 5000]].concat());
    write(dir, "a/film.gif", &pictures::gif(&[pattern(), vec![7; pattern().len()]]));
    write(dir, "a/dot.png", &pictures::png(&[1, 2, 3], 1, 1, Color::Rgb8));
    write(dir, "a/see through.png", &pictures::png(&vec![60; (W * H * 4) as usize], W, H, Color::Rgba8));
    write(dir, "a/deep.png", &pictures::png(&vec![9; (W * H * 2) as usize], W, H, Color::L16));
    write(dir, "a/print.jpg", &pictures::cmyk_jpeg());
    write(dir, "a/huge.png", &pictures::png(&vec![3; 3000 * 3000], 3000, 3000, Color::L8));
    write(dir, "b/no extension", &png(30));
    write(
        dir,
        "b/BM is how this text begins, and it is long enough.txt",
        b"BM is how this text begins, and it is long",
    );
    write(dir, "rare/only.png", &png(40));
    std::fs::create_dir_all(dir.join("forgotten")).unwrap();
    std::fs::create_dir_all(dir.join(".hidden")).unwrap();
}

/// The picture in another format.
fn recoded(png: &[u8], format: image::ImageFormat) -> Vec<u8> {
    let image = image::load_from_memory(png).unwrap();
    pictures::encoded(|b| image.write_to(&mut std::io::Cursor::new(b), format).unwrap())
}

fn found<'a>(report: &'a Report, kind: &str) -> &'a Finding {
    let finding = report.findings.iter().find(|f| f.kind == kind);
    finding.unwrap_or_else(|| panic!("no {kind} in {:#?}", report.findings))
}

/// The names of a finding's files.
fn names(finding: &Finding) -> Vec<&str> {
    finding.files.iter().map(|n| n.file.file_name().unwrap().to_str().unwrap()).collect()
}

#[test]
fn a_sound_folder_has_no_fault() {
    let dir = tempfile::tempdir().unwrap();
    sound(dir.path());
    let report = Check::folder(dir.path()).label(parent_label).run().unwrap();
    assert!(report.bad.is_empty() && report.findings.is_empty(), "{:#?}", report.findings);
    let counts: Vec<_> = report.classes.iter().map(|(name, c)| (name.as_str(), c.images, c.train, c.valid)).collect();
    assert_eq!(counts, [("a", 4, 4, 0), ("b", 4, 4, 0)]);
    assert_eq!((report.images, report.split, report.formats["PNG"], report.colours["RGB"]), (8, None, 8, 8));
    assert_eq!(report.bytes, (0..8).map(|n| png(n).len() as u64).sum::<u64>());
    let shapes = report.shapes.unwrap();
    assert_eq!(shapes.median, (W as usize, H as usize));
    assert_eq!(shapes.aspects.iter().filter(|(_, n)| *n > 0).collect::<Vec<_>>(), [&("landscape", 8)]);
    assert_eq!(shapes.short_sides[0], ("below 64", 8));
}

#[test]
fn every_fault_is_found_and_named() {
    let dir = tempfile::tempdir().unwrap();
    faulty(dir.path());
    let report = Check::folder(dir.path()).label(parent_label).threads(2).run().unwrap();
    let expected: [(&str, Severity, &[&str]); 16] = [
        ("unreadable", Severity::Bad, &["empty.png", "half.jpg", "page.jpg"]),
        ("label-conflict", Severity::Warning, &["2.png", "copy of 2.bmp"]),
        ("duplicates", Severity::Warning, &["copy of 1.png"]),
        ("damaged-data", Severity::Warning, &["flipped.jpg"]),
        ("extra-data", Severity::Warning, &["junk.jpg"]),
        ("orientation", Severity::Warning, &["phone.jpg"]),
        ("hidden-pictures", Severity::Warning, &["no extension"]),
        ("empty-class", Severity::Warning, &["forgotten"]),
        ("single-picture", Severity::Warning, &[]),
        ("imbalance", Severity::Warning, &[]),
        ("wrong-extension", Severity::Note, &["really a png.jpg"]),
        ("small", Severity::Note, &["dot.png", "print.jpg", "zeros.jpg"]),
        ("large", Severity::Note, &["huge.png"]),
        ("animated", Severity::Note, &["film.gif"]),
        ("colours", Severity::Note, &["deep.png", "huge.png", "print.jpg", "see through.png"]),
        ("trailing-data", Severity::Note, &["zeros.jpg"]),
    ];
    for (kind, severity, files) in expected {
        let finding = found(&report, kind);
        assert_eq!((finding.severity, names(finding).as_slice()), (severity, files), "{kind}");
        assert!(!finding.message.is_empty() && !finding.advice.is_empty(), "{finding:?}");
    }
    assert_eq!(report.findings.len(), expected.len(), "{:#?}", report.findings);
    assert!(report.findings.is_sorted_by_key(|f| f.severity), "what matters comes first");
    assert_eq!(found(&report, "extra-data").files[0].detail, "240 bytes");
    assert!(found(&report, "label-conflict").files[0].detail.starts_with("a here, b in "));
    let reasons: Vec<&str> = report.bad.iter().map(|b| b.reason.as_str()).collect();
    assert_eq!(reasons[0], "the file is empty");
    assert!(reasons[1].contains("ends early") && reasons[2].contains("web page"), "{reasons:?}");
    assert_eq!(report.classes["rare"].images, 1);
}

#[test]
fn labels_and_splits_are_the_training_s() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    for (name, n) in
        [("train/a/1", 1), ("train/a/2", 2), ("train/b/3", 3), ("valid/a/4", 4), ("valid/a/x", 1), ("valid/new/5", 5)]
    {
        write(d, &format!("{name}.png"), &png(n));
    }
    std::fs::create_dir_all(d.join("train/c")).unwrap();
    let check = || Check::folder(d).label(parent_label).splitter(GrandparentSplitter::new("train", "valid"));
    let report = check().bs(4).run().unwrap();
    assert_eq!(report.split, Some((3, 3)));
    assert_eq!(names(found(&report, "class-not-trained")), ["5.png"]);
    assert_eq!(report.bad.iter().map(|b| b.reason.as_str()).collect::<Vec<_>>(), ["class new is not trained"]);
    let leak = found(&report, "leak");
    assert_eq!(names(leak), ["x.png"]);
    assert!(leak.files[0].detail.ends_with("1.png"));
    assert!(found(&report, "few-pictures").message.contains("3 pictures to train on don't fill a batch of 4"));
    assert!(found(&report, "class-not-validated").message.ends_with(": b"));
    assert_eq!(names(found(&report, "empty-class")), ["c"]);
    assert!(check().bs(3).run().unwrap().findings.iter().all(|f| f.kind != "few-pictures"));
    let e = Check::folder(d).splitter(GrandparentSplitter::new("train", "test")).run().unwrap_err();
    assert!(e.to_string().contains("test/CLASS"), "{e}");

    // The class is in the name, and one name has none.
    let files = [write(d, "pug_1.png", &png(7)), write(d, "pug_2.png", &png(8)), write(d, "readme.png", &png(9))];
    let labels = using_attr(RegexLabeller::new(r"(.+)_\d+.png$").unwrap(), "name");
    let report = Check::files(files.to_vec()).label(labels).splitter(IndexSplitter::new([1])).bs(1).run().unwrap();
    assert_eq!(names(found(&report, "no-label")), ["readme.png"]);
    assert!(report.bad[0].reason.contains("Failed to find"), "{:?}", report.bad);
    assert!(found(&report, "one-class").message.contains("pug"));
}

#[test]
fn datasets_bring_labels_and_split_along() {
    let dir = tempfile::tempdir().unwrap();
    let mut csv = "file,kind\n".to_owned();
    for n in 0..6 {
        write(dir.path(), &format!("{n}.png"), &png(if n == 5 { 0 } else { n }));
        csv += &format!("{n}.png,{}\n", if n % 2 == 0 { "cat" } else { "dog" });
    }
    let table = Table::parse("labels.csv", &csv).unwrap();
    let block = DataBlock::new((ImageBlock, CategoryBlock))
        .get_x(ColReader::new("file").folder(dir.path()))
        .get_y(ColReader::new("kind"))
        .splitter(IndexSplitter::new([5, 2]));
    let report = Check::datasets(&block.datasets(&table).unwrap()).bs(4).run().unwrap();
    let counts: Vec<_> = report.classes.iter().map(|(name, c)| (name.as_str(), c.train, c.valid)).collect();
    assert_eq!((counts.as_slice(), report.split), (&[("cat", 2, 1), ("dog", 2, 1)][..], Some((4, 2))));
    assert_eq!(names(found(&report, "label-conflict")), ["0.png", "5.png"]);
    assert_eq!(names(found(&report, "leak")), ["5.png"]);
    assert_eq!(report.findings.len(), 2, "{:#?}", report.findings);
}

#[test]
fn options_of_the_training_change_what_is_bad() {
    let dir = tempfile::tempdir().unwrap();
    sound(dir.path());
    let whole = pictures::jpeg();
    write(dir.path(), "a/cut.jpg", &whole[..whole.len() * 3 / 4]);
    write(dir.path(), "a/turned.jpg", &pictures::turned(&whole, 6));
    let options = DecodeOptions { allow_truncated: true, apply_orientation: true, ..DecodeOptions::default() };
    let report = Check::folder(dir.path()).options(options.clone()).run().unwrap();
    assert!(report.bad.is_empty());
    assert_eq!(names(found(&report, "truncated")), ["cut.jpg"]);
    assert_eq!(found(&report, "orientation").severity, Severity::Note);
    assert_eq!(report.findings.len(), 2, "{:#?}", report.findings);
    let tiny = DecodeOptions { max_pixels: 100, ..options };
    assert_eq!(Check::folder(dir.path()).options(tiny).run().unwrap().bad.len(), 10);
}

#[test]
fn a_check_can_be_watched_and_stopped() {
    let dir = tempfile::tempdir().unwrap();
    sound(dir.path());
    let e = Check::folder(dir.path()).progress(|done, _| done < 3).run().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Interrupted);
    let (tell, told) = std::sync::mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let check = Check::folder(dir.path()).progress(move |done, of| tell.lock().unwrap().send((done, of)).is_ok());
    check.run().unwrap();
    drop(check);
    let mut told: Vec<_> = told.iter().collect();
    told.sort();
    assert_eq!(told, (1..=8).map(|n| (n, 8)).collect::<Vec<_>>());
    let nothing = tempfile::tempdir().unwrap();
    assert_eq!(Check::folder(nothing.path()).run().unwrap_err().kind(), ErrorKind::Data);
}

#[test]
fn facts_come_from_the_content() {
    let facts = |bytes: &[u8]| Facts::of(bytes).unwrap();
    let said = |bytes: &[u8]| {
        let f = facts(bytes);
        (f.format, f.colour.name(), f.bits, f.animated)
    };
    let two = [pattern(), vec![7; pattern().len()]];
    let wide = vec![9; (W * H * 8) as usize];
    assert_eq!(said(&pictures::jpeg()), ("JPEG", "RGB", 8, false));
    assert_eq!(said(&pictures::cmyk_jpeg()), ("JPEG", "CMYK", 8, false));
    assert_eq!(said(&pictures::palette_png()), ("PNG", "palette", 8, false));
    assert_eq!(said(&pictures::png(&wide, W, H, Color::Rgba16)), ("PNG", "RGB with alpha", 16, false));
    assert_eq!(said(&pictures::gif(&two[..1])), ("GIF", "palette", 8, false));
    assert_eq!(said(&pictures::gif(&two)), ("GIF", "palette", 8, true));
    assert_eq!((facts(&pictures::webp()).animated, facts(&pictures::animated_webp(&two)).animated), (false, true));
    assert_eq!(said(&pictures::bmp()).0, "BMP");
    let mut moving = pictures::rgb_png();
    let (at, _) = pictures::chunk(&moving, b"IDAT");
    let body = [&b"acTL"[..], &[0, 0, 0, 2, 0, 0, 0, 0]].concat();
    let actl = [&8u32.to_be_bytes()[..], &body, &pictures::crc32(&body).to_be_bytes()].concat();
    moving.splice(at..at, actl);
    moving.extend([1; 9]);
    assert_eq!((facts(&moving).animated, facts(&moving).trailing), (true, 9));
    for orientation in 1..=8 {
        assert_eq!(facts(&pictures::turned(&pictures::jpeg(), orientation)).orientation, orientation);
    }
    assert_eq!(facts(&pictures::turned(&pictures::jpeg(), 99)).orientation, 1, "there is no such orientation");
    assert!(Facts::of(b"no picture").is_err());
}

/// The last scan's data of the JPEG, from its first byte to its last.
fn last_scan(jpeg: &[u8]) -> std::ops::Range<usize> {
    let sos = jpeg.windows(2).rposition(|p| p == [0xff, 0xda]).unwrap();
    sos + 2 + usize::from(jpeg[sos + 3])..jpeg.len() - 2
}

#[test]
fn compressed_data_must_end_with_the_picture() {
    for (name, whole) in [
        ("sequential", pictures::jpeg()),
        ("progressive", pictures::progressive_jpeg()),
        ("with restarts", pictures::restarting_jpeg()),
        ("CMYK", pictures::cmyk_jpeg()),
    ] {
        let scan = |bytes: &[u8]| Facts::of(bytes).unwrap().scan;
        assert_eq!(scan(&whole), Scan::Whole, "{name}");
        let data = last_scan(&whole);
        let with = |at: usize, more: &[u8]| [&whole[..at], more, &whole[at..]].concat();
        assert_eq!(scan(&with(data.end, &[1, 0xff, 0, 2])), Scan::Extra(3), "{name}: a stuffed byte is one");
        let mut short = whole.clone();
        short.drain(data.end - 2..data.end);
        assert_ne!(scan(&short), Scan::Whole, "{name}");
        assert_eq!(scan(&whole[..whole.len() - 2]), Scan::Damaged, "{name}: no end marker");
    }
    assert_eq!(Facts::of(&pictures::rgb_png()).unwrap().scan, Scan::Unchecked);

    // 40 bits flipped anywhere in the data: hardly ever do all lengths stay as they were.
    let whole = pictures::jpeg();
    let data = last_scan(&whole);
    let mut rng = onecycle::rng::Rng::at(1, onecycle::rng::Purpose::Picture, 0, 0);
    let mut noticed = 0;
    for _ in 0..200 {
        let mut bytes = whole.clone();
        for _ in 0..40 {
            let at = data.start + rng.below(data.end - data.start);
            let changed = bytes[at] ^ (1 << rng.below(8));
            if changed != 0xff && bytes[at] != 0xff && bytes[at - 1] != 0xff {
                bytes[at] = changed;
            }
        }
        noticed += usize::from(Facts::of(&bytes).unwrap().scan != Scan::Whole);
    }
    println!("40 flipped bits were noticed in {noticed} of 200 pictures");
    assert!(noticed >= 190, "{noticed} of 200");
}

#[test]
fn pictures_are_turned_on_request() -> Result<()> {
    let dir = tempfile::tempdir().unwrap();
    let plain = write(dir.path(), "plain.jpg", &pictures::jpeg());
    let stored = open(&plain, &DecodeOptions::default())?;
    let apply = DecodeOptions { apply_orientation: true, ..DecodeOptions::default() };
    // What a viewer does, in the words of the EXIF standard: where the stored pixel (column, row) ends up.
    let (w, h) = (stored.width - 1, stored.height - 1);
    type Moved = fn(usize, usize, usize, usize) -> (usize, usize);
    let moved: [Moved; 8] = [
        |x, y, _, _| (x, y),
        |x, y, w, _| (w - x, y),
        |x, y, w, h| (w - x, h - y),
        |x, y, _, h| (x, h - y),
        |x, y, _, _| (y, x),
        |x, y, _, h| (h - y, x),
        |x, y, w, h| (h - y, w - x),
        |x, y, w, _| (y, w - x),
    ];
    for (orientation, moved) in (1..=8).zip(moved) {
        let path = write(dir.path(), "turned.jpg", &pictures::turned(&pictures::jpeg(), orientation));
        assert_eq!(open(&path, &DecodeOptions::default())?, stored, "ignored");
        let upright = open(&path, &apply)?;
        let pixel = |p: &onecycle::data::Picture, x: usize, y: usize| p.rgb[(y * p.width + x) * 3..][..3].to_vec();
        for (x, y) in [(0, 0), (w, 0), (0, h), (5, 9)] {
            let (to_x, to_y) = moved(x, y, w, h);
            assert_eq!(pixel(&upright, to_x, to_y), pixel(&stored, x, y), "orientation {orientation}");
        }
    }
    Ok(())
}

#[cfg(feature = "cli")]
mod program {
    use super::*;
    use std::collections::BTreeMap;
    use std::process::{Command, Output, Stdio};

    fn onecycle(args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_onecycle"));
        command.env_remove("ONECYCLE_THREADS").stdin(Stdio::null()).args(args).output().expect("the program starts")
    }

    fn text(bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).into_owned()
    }

    /// All paths below a folder with their contents.
    fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut all = BTreeMap::new();
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => all.extend(contents(&path)),
                false => drop(all.insert(path.clone(), std::fs::read(&path).unwrap())),
            }
        }
        all
    }

    #[test]
    fn the_exit_status_tells_scripts() {
        let dir = tempfile::tempdir().unwrap();
        sound(dir.path());
        let d = dir.path().to_str().unwrap();
        let output = onecycle(&["check", d, "--bs", "4"]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let shown = text(&output.stdout);
        assert!(shown.starts_with("8 pictures, ") && shown.contains("2: a 4, b 4"), "{shown}");
        assert!(!shown.contains('\x1b'), "no terminal, no colours");
        write(dir.path(), "a/bad.jpg", b"nothing");
        let output = onecycle(&["check", d, "-q"]);
        assert_eq!(output.status.code(), Some(1));
        let (shown, complaint) = (text(&output.stdout), text(&output.stderr));
        assert!(shown.contains("bad: training stops at this\n  1 file can't be read as a picture\n    a"), "{shown}");
        assert_eq!(complaint.lines().count(), 1, "quiet: {complaint}");
        assert!(complaint.contains("1 of 9 files would stop a training"), "{complaint}");
        assert_eq!(onecycle(&["check", d, "--valid-pct", "3"]).status.code(), Some(2));
        assert_eq!(onecycle(&["check"]).status.code(), Some(2));
        assert_eq!(onecycle(&["check", "/nowhere/at/all"]).status.code(), Some(1));
    }

    #[test]
    fn json_and_quarantine() {
        let dir = tempfile::tempdir().unwrap();
        let (data, list) = (dir.path().join("pic tures ä"), dir.path().join("bad.txt"));
        faulty(&data);
        let before = contents(&data);
        let output = onecycle(&["check", data.to_str().unwrap(), "--json", "--quarantine", list.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1));
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(json["images"], 25);
        assert_eq!(json["classes"]["rare"], 1);
        let bad: Vec<&str> = json["bad"].as_array().unwrap().iter().map(|b| b["file"].as_str().unwrap()).collect();
        assert_eq!(bad.len(), 3);
        assert_eq!(std::fs::read_to_string(&list).unwrap().lines().collect::<Vec<_>>(), bad);
        assert!(json["findings"].as_array().unwrap().iter().any(|f| f["kind"] == "leak" || f["kind"] == "duplicates"));
        assert_eq!(json["findings"][0]["severity"], "bad");
        assert_eq!(json["shapes"]["largest"], serde_json::json!([3000, 3000]));
        assert!(contents(&data) == before, "nothing is moved, changed or deleted");
        // What is left when the list has been followed by hand is sound enough to train on.
        bad.iter().for_each(|file| std::fs::remove_file(file).unwrap());
        let output = onecycle(&["check", data.to_str().unwrap(), "--json", "--quarantine", list.to_str().unwrap()]);
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let unread = |b: &&serde_json::Value| !b["reason"].as_str().unwrap().starts_with("class ");
        assert_eq!(json["bad"].as_array().unwrap().iter().filter(unread).count(), 0, "{}", json["bad"]);
    }

    #[test]
    fn the_check_has_the_flags_of_a_training() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..6 {
            write(dir.path(), &format!("{}_{n}.png", if n % 2 == 0 { "cat" } else { "dog" }), &png(n));
        }
        let whole = pictures::jpeg();
        write(dir.path(), "cat_9.jpg", &pictures::turned(&whole[..whole.len() * 3 / 4], 6));
        let d = dir.path().to_str().unwrap();
        let flags = ["check", d, "--label-re", r"(.+)_\d+.(png|jpg)$", "--valid-pct", "0.4", "--bs", "2"];
        let output = onecycle(&[&flags[..], &["--truncated", "warn", "--exif", "apply"]].concat());
        let shown = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{shown}");
        assert!(
            shown.contains("1 picture ends early; the missing part is grey") && shown.contains("2: dog 3, cat 4"),
            "{shown}"
        );
        assert_eq!(onecycle(&flags).status.code(), Some(1));
    }
}
