//! Pictures that a data set should not contain and always does. Each becomes a picture or an error that names the file,
//! within a second and 300 MB, measured for each file in a process of its own. The files are made here: valid ones by the encoders of
//! the `image` crate, the rest by cutting and patching bytes.

mod common;

use common::pictures::*;
use image::{ExtendedColorType, ImageEncoder, codecs};
use onecycle::data::{InputBlock, Picture};
use onecycle::nn::Arch;
use onecycle::prelude::*;
use onecycle::vision::{Check, DecodeOptions, Facts, decode, open};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

fn read(bytes: &[u8]) -> onecycle::Result<Picture> {
    decode(bytes, &DecodeOptions::default())
}

fn same_size(picture: &Picture) -> bool {
    (picture.width, picture.height) == (W as usize, H as usize)
}

/// Mean absolute difference to the pattern.
fn off(picture: &Picture) -> f64 {
    let sum: u32 = picture.rgb.iter().zip(pattern()).map(|(a, b)| u32::from(a.abs_diff(b))).sum();
    f64::from(sum) / picture.rgb.len() as f64
}

#[test]
fn what_is_no_picture_is_an_error_that_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut cut_header = jpeg();
    cut_header.truncate(100);
    let mut half = jpeg();
    half.truncate(half.len() / 2);
    let mut no_end = jpeg();
    no_end.truncate(no_end.len() - 2);
    let mut half_png = rgb_png();
    half_png.truncate(half_png.len() / 2);
    let mut bad_crc = rgb_png();
    let (idat, length) = chunk(&bad_crc, b"IDAT");
    bad_crc[idat + 8 + length] ^= 0xff;
    let mut bad_stream = rgb_png();
    patch(&mut bad_stream, b"IDAT", |data| data[2..20].fill(0xff));
    let mut tiff = b"II*\0".to_vec();
    tiff.resize(200, 0);
    let mut avif = b"\0\0\0\x1cftypavif".to_vec();
    avif.resize(200, 0);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty.jpg", vec![], "empty"),
        ("one_byte.jpg", vec![0xff], "not a picture"),
        ("page.jpg", b"<!DOCTYPE html><html><body>404</body></html>".to_vec(), "web page"),
        ("header cut.jpg", cut_header, "ends early"),
        ("half.jpg", half, "ends early"),
        ("no_end.jpg", no_end, "ends early"),
        ("half.png", half_png, "damaged"),
        ("bad_crc.png", bad_crc, "damaged"),
        ("bad_stream.png", bad_stream, "damaged"),
        ("ü.tif", tiff, "TIFF, a format not built in"),
        ("new.avif", avif, "AVIF, a format not built in"),
        ("drawing.svg", b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>".to_vec(), "SVG, a format not built in"),
        ("noise.bin.jpg", (0..5000u32).map(|i| ((i * i) >> 3) as u8 | 1).collect(), "not a picture"),
    ];
    for (name, bytes, expected) in cases {
        let path = dir.path().join(name);
        std::fs::write(&path, &bytes).unwrap();
        let start = Instant::now();
        let error = open(&path, &DecodeOptions::default()).expect_err(name);
        assert!(start.elapsed() < Duration::from_secs(1), "{name} took {:?}", start.elapsed());
        assert_eq!(error.kind(), ErrorKind::Image, "{name}: {error}");
        let text = error.to_string();
        assert!(text.contains(name) && text.contains(expected), "{name}: {text}");
        assert!(text.ends_with(')'), "{name} has no remedy: {text}");
    }
    let vanished = open(&dir.path().join("gone.jpg"), &DecodeOptions::default()).unwrap_err();
    assert!(vanished.kind() == ErrorKind::Io && vanished.to_string().contains("gone.jpg"), "{vanished}");
    let folder = open(dir.path(), &DecodeOptions::default()).unwrap_err();
    assert!(folder.to_string().contains("folder") || folder.kind() == ErrorKind::Io, "{folder}");
}

#[cfg(unix)]
#[test]
fn an_unreadable_file_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret.jpg");
    std::fs::write(&path, jpeg()).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    match open(&path, &DecodeOptions::default()) {
        Ok(_) => common::skip(format_args!("an unreadable file: this user may read everything")),
        Err(e) => assert!(e.kind() == ErrorKind::Io && e.to_string().contains("secret.jpg"), "{e}"),
    }
}

#[test]
fn bombs_are_refused_before_anything_is_allocated() {
    let mut jpeg = jpeg();
    let sof = after_marker(&jpeg, 0xc0);
    jpeg[sof + 3..sof + 7].fill(0xff);
    let mut png = rgb_png();
    patch(&mut png, b"IHDR", |data| {
        data[..4].copy_from_slice(&30_000u32.to_be_bytes());
        data[4..8].copy_from_slice(&30_000u32.to_be_bytes());
    });
    let mut bmp = bmp();
    bmp[18..22].copy_from_slice(&60_000u32.to_le_bytes());
    bmp[22..26].copy_from_slice(&60_000u32.to_le_bytes());
    let mut gif = gif(&[pattern()]);
    gif[6..10].fill(0xff);
    for (name, bytes) in [("jpeg", jpeg), ("png", png), ("bmp", bmp), ("gif", gif)] {
        let (start, before) = (Instant::now(), peak_megabytes());
        let error = read(&bytes).expect_err(name);
        assert_eq!(error.kind(), ErrorKind::Image);
        assert!(start.elapsed() < Duration::from_secs(1), "{name} took {:?}", start.elapsed());
        assert!(peak_megabytes() - before < 300, "{name} took {} MB", peak_megabytes() - before);
        assert!(error.to_string().contains("limit"), "{name}: {error}");
    }
    let small = DecodeOptions { max_pixels: u64::from(W * H) - 1, ..DecodeOptions::default() };
    assert!(decode(&rgb_png(), &small).unwrap_err().to_string().contains("limit"));
    let exact = DecodeOptions { max_pixels: u64::from(W * H), ..DecodeOptions::default() };
    assert!(decode(&rgb_png(), &exact).is_ok());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large.png");
    std::fs::write(&path, rgb_png()).unwrap();
    let short = DecodeOptions { max_file_bytes: 100, ..DecodeOptions::default() };
    assert!(open(&path, &short).unwrap_err().to_string().contains("100 is the limit"));
}

/// The process's largest memory so far; 0 where the system does not say.
fn peak_megabytes() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap_or("");
    line.split_whitespace().nth(1).and_then(|n| n.parse::<i64>().ok()).unwrap_or(0) / 1024
}

#[test]
fn what_pillow_tolerates_is_tolerated() {
    let whole = read(&jpeg()).unwrap();
    assert!(same_size(&whole) && off(&whole) < 4.0, "{}", off(&whole));

    let mut zeros = jpeg();
    zeros.resize(zeros.len() + 5000, 0);
    assert_eq!(read(&zeros).unwrap(), whole);

    assert_eq!(read(&jpeg_with_junk(240)).unwrap(), whole, "junk before the end marker");

    assert!(same_size(&read(&flipped_jpeg()).unwrap()), "garbage pixels, but a picture");

    let mut half = jpeg();
    half.truncate(half.len() * 3 / 4);
    let lenient = DecodeOptions { allow_truncated: true, ..DecodeOptions::default() };
    assert!(same_size(&decode(&half, &lenient).unwrap()), "grey where the data ended");
}

#[test]
fn the_content_decides_not_the_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a png.jpg");
    std::fs::write(&path, rgb_png()).unwrap();
    assert_eq!(open(&path, &DecodeOptions::default()).unwrap().rgb, pattern());
    std::fs::write(&path, gif(&[pattern()])).unwrap();
    assert!(same_size(&open(&path, &DecodeOptions::default()).unwrap()));
}

#[test]
fn exif_orientation_is_ignored() {
    let turned = turned(&jpeg(), 6);
    assert_eq!(read(&turned).unwrap(), read(&jpeg()).unwrap());
}

#[test]
fn every_kind_of_pixel_becomes_rgb() {
    let rgb = pattern();
    let grey: Vec<u8> = rgb.iter().copied().step_by(3).collect();
    let replicated: Vec<u8> = grey.iter().flat_map(|&v| [v; 3]).collect();
    let (alpha, color) = (|i: usize| (i * 5) as u8, |c: ExtendedColorType| c);
    let la: Vec<u8> = grey.iter().enumerate().flat_map(|(i, &v)| [v, alpha(i)]).collect();
    let rgba: Vec<u8> = rgb.chunks(3).enumerate().flat_map(|(i, p)| [p[0], p[1], p[2], alpha(i)]).collect();
    let wide = |bytes: &[u8]| -> Vec<u8> { bytes.iter().flat_map(|&v| (u16::from(v) * 257).to_ne_bytes()).collect() };
    for (pixels, kind, expected) in [
        (grey.clone(), color(ExtendedColorType::L8), &replicated),
        (la.clone(), ExtendedColorType::La8, &replicated),
        (rgba.clone(), ExtendedColorType::Rgba8, &rgb),
        (wide(&grey), ExtendedColorType::L16, &replicated),
        (wide(&la), ExtendedColorType::La16, &replicated),
        (wide(&rgb), ExtendedColorType::Rgb16, &rgb),
        (wide(&rgba), ExtendedColorType::Rgba16, &rgb),
    ] {
        assert_eq!(&read(&png(&pixels, W, H, kind)).unwrap().rgb, expected, "{kind:?}");
    }
    let palette = read(&palette_png()).unwrap();
    assert_eq!(palette.rgb, [[250, 10, 20], [1, 2, 3], [1, 2, 3], [250, 10, 20]].concat());
    let grey_jpeg = encoded(|b| {
        codecs::jpeg::JpegEncoder::new_with_quality(b, 100).write_image(&grey, W, H, ExtendedColorType::L8).unwrap();
    });
    let picture = read(&grey_jpeg).unwrap();
    assert!(picture.rgb.chunks(3).all(|p| p[0] == p[1] && p[1] == p[2]));
    let cmyk = read(&cmyk_jpeg()).unwrap();
    assert!(
        cmyk.rgb.chunks(3).all(|p| p.iter().zip([200, 100, 128]).all(|(a, b)| a.abs_diff(b) <= 1)),
        "{:?}",
        &cmyk.rgb[..3]
    );
    assert_eq!(read(&webp()).unwrap().rgb, rgb);
    assert_eq!(read(&bmp()).unwrap().rgb, rgb);
}

#[test]
fn of_an_animation_the_first_frame_counts() {
    let other: Vec<u8> = pattern().iter().map(|v| 255 - v).collect();
    let frames = gif(&[pattern(), other.clone(), other.clone(), pattern()]);
    assert_eq!(read(&frames).unwrap(), read(&gif(&[pattern()])).unwrap());
    assert!(off(&read(&frames).unwrap()) < 6.0);
    assert_eq!(read(&animated_webp(&[pattern(), other])).unwrap().rgb, pattern());
}

#[test]
fn the_smallest_and_the_thinnest() {
    for (w, h) in [(1, 1), (1, 2000), (2000, 1)] {
        let pixels = vec![77; (w * h * 3) as usize];
        let picture = read(&png(&pixels, w, h, ExtendedColorType::Rgb8)).unwrap();
        assert_eq!((picture.width as u32, picture.height as u32, picture.rgb), (w, h, pixels));
    }
}

/// What is asked of a file.
#[derive(Clone, Copy)]
enum Wanted {
    /// A picture of this width and height.
    Picture(u32, u32),
    /// An error that names the file and says this.
    Refusal(&'static str),
}

struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    wanted: Wanted,
}

/// Everything that a data set has been seen to contain, with what has to become of it.
fn table() -> Vec<Case> {
    use Wanted::{Picture as P, Refusal as R};
    let case = |name, bytes, wanted| Case { name, bytes, wanted };
    let whole = jpeg();
    let cut = |n: usize| whole[..n].to_vec();
    let end = whole.len() - 2;
    let mut huge_jpeg = jpeg();
    let sof = after_marker(&huge_jpeg, 0xc0);
    huge_jpeg[sof + 3..sof + 7].fill(0xff);
    huge_jpeg.splice(end..end, [0x55; 64_000]);
    let mut huge_png = rgb_png();
    patch(&mut huge_png, b"IHDR", |data| data[..8].copy_from_slice(&[30_000u32.to_be_bytes(); 2].concat()));
    let mut bad_crc = rgb_png();
    let (idat, length) = chunk(&bad_crc, b"IDAT");
    bad_crc[idat + 8 + length] ^= 0xff;
    let mut bad_stream = rgb_png();
    patch(&mut bad_stream, b"IDAT", |data| data[2..20].fill(0xff));
    let pixels = |bytes: u32| vec![90; (W * H * bytes) as usize];
    let grey_jpeg = encoded(|b| {
        codecs::jpeg::JpegEncoder::new(b).write_image(&pixels(1), W, H, ExtendedColorType::L8).unwrap();
    });
    // The screen is small, its only frame is not.
    let mut huge_frame = gif(&[pattern()]);
    let frame = huge_frame.iter().rposition(|&b| b == 0x2c).filter(|at| huge_frame[at + 5..at + 9] == [48, 0, 32, 0]);
    let frame =
        frame.or_else(|| huge_frame.windows(10).position(|w| w[0] == 0x2c && w[5..9] == [48, 0, 32, 0])).unwrap();
    huge_frame[frame + 5..frame + 9].copy_from_slice(&[0x50, 0x46, 0x50, 0x46]); // 18,000 x 18,000
    // Found by tests/fuzz.rs: the png crate panics.
    let mut short_palette = palette_png();
    let (plte, _) = chunk(&short_palette, b"PLTE");
    short_palette.drain(plte + 9..plte + 14);
    short_palette[plte..plte + 4].copy_from_slice(&1u32.to_be_bytes());
    patch(&mut short_palette, b"PLTE", |_| {});
    // What a phone takes: nothing hostile, and the largest that is common.
    let large_jpeg = encoded(|b| {
        let pixels: Vec<u8> = (0..4000 * 3000 * 3u32).map(|i| (i / 12_000 * 7 + i % 12_000 / 50) as u8).collect();
        codecs::jpeg::JpegEncoder::new(b).write_image(&pixels, 4000, 3000, ExtendedColorType::Rgb8).unwrap();
    });
    let avif = [&b"\0\0\0\x1cftypavif"[..], &[0; 200]].concat();
    let frames = [pattern(), pixels(3), pixels(3), pattern()];
    vec![
        case("0 bytes.jpg", vec![], R("empty")),
        case("1 byte.jpg", vec![0xff], R("not a picture")),
        case("page.jpg", b"<!DOCTYPE html><html><body>404</body></html>".to_vec(), R("web page")),
        case("100 bytes.jpg", cut(100), R("ends early")),
        case("half.jpg", cut(whole.len() / 2), R("ends early")),
        case("without its last 2 bytes.jpg", cut(end), R("ends early")),
        case("5 KB of zeros behind.jpg", [&whole[..], &[0; 5000]].concat(), P(W, H)),
        case("240 bytes of junk.jpg", jpeg_with_junk(240), P(W, H)),
        case("40 flipped bytes.jpg", flipped_jpeg(), P(W, H)),
        case("says 65535x65535.jpg", huge_jpeg, R("limit")),
        case("says 30000x30000.png", huge_png, R("limit")),
        case("CMYK.jpg", cmyk_jpeg(), P(8, 8)),
        case("grey.jpg", grey_jpeg, P(W, H)),
        case("palette.png", palette_png(), P(2, 2)),
        case("LA.png", png(&pixels(2), W, H, ExtendedColorType::La8), P(W, H)),
        case("RGBA.png", png(&pixels(4), W, H, ExtendedColorType::Rgba8), P(W, H)),
        case("RGB, 16 bits.png", png(&pixels(6), W, H, ExtendedColorType::Rgb16), P(W, H)),
        case("grey, 16 bits.png", png(&pixels(2), W, H, ExtendedColorType::L16), P(W, H)),
        case("turned.jpg", turned(&whole, 6), P(W, H)),
        case("a png.jpg", rgb_png(), P(W, H)),
        case("4 frames.gif", gif(&frames), P(W, H)),
        case("4 frames.webp", animated_webp(&frames), P(W, H)),
        case("frame of 18000x18000.gif", huge_frame, R("damaged")),
        case("new.avif", avif, R("AVIF, a format not built in")),
        case("1x1.png", png(&[1, 2, 3], 1, 1, ExtendedColorType::Rgb8), P(1, 1)),
        case("1x2000.png", png(&[77; 6000], 1, 2000, ExtendedColorType::Rgb8), P(1, 2000)),
        case("bad checksum.png", bad_crc, R("damaged")),
        case("bad stream.png", bad_stream, R("damaged")),
        case("400 MB of colour profile.png", profile_bomb(), P(W, H)),
        case("palette of one byte.png", short_palette, R("palette")),
        case("12 megapixels.jpg", large_jpeg, P(4000, 3000)),
        case("progressive.jpg", progressive_jpeg(), P(40, 24)),
        case("half a progressive one.jpg", progressive_jpeg()[..300].to_vec(), R("ends early")),
    ]
}

/// A PNG whose colour profile is 400 MB of zeros, in 2.5 MB.
fn profile_bomb() -> Vec<u8> {
    const MATCHES: usize = 400_000_000 / 258;
    let (mut stream, mut ahead, mut count) = (vec![0x78, 1], 0u64, 0);
    let mut put = |bits: &str| {
        for bit in bits.bytes() {
            ahead |= u64::from(bit == b'1') << count;
            count += 1;
            if count == 8 {
                stream.push(ahead as u8);
                (ahead, count) = (0, 0);
            }
        }
    };
    put("110"); // the last block, with the fixed codes
    put("00110000"); // a zero
    (0..MATCHES).for_each(|_| put("1100010100000")); // 258 bytes as the one before
    put("00000000000000"); // the end, and the rest of the byte
    let sum = ((1 + 258 * MATCHES as u32) % 65_521) << 16 | 1;
    stream.extend(sum.to_be_bytes());
    let body = [&b"iCCPx\0\0"[..], &stream].concat();
    let mut png = rgb_png();
    let (at, _) = chunk(&png, b"IDAT");
    png.splice(at..at, [&(body.len() as u32 - 4).to_be_bytes()[..], &body, &crc32(&body).to_be_bytes()].concat());
    png
}

/// Names the file of a child process.
const CHILD: &str = "ONECYCLE_HOSTILE_FILE";

/// What a child process says: how long it took, its largest memory in MB, and the size or the error.
fn child(path: &Path) {
    let start = Instant::now();
    let opened = open(path, &DecodeOptions::default());
    // `onecycle check` asks for the facts too.
    let _ = Facts::of(&std::fs::read(path).unwrap());
    let said = opened.map_or_else(|e| e.to_string(), |p| format!("{}x{}", p.width, p.height));
    println!("\noutcome\t{}\t{}\t{said}", start.elapsed().as_millis(), peak_megabytes());
}

#[test]
fn each_file_alone_gets_its_outcome_within_a_second_and_300_mb() {
    if let Some(path) = std::env::var_os(CHILD) {
        return child(Path::new(&path));
    }
    let dir = tempfile::tempdir().unwrap();
    let (mut slowest, mut largest) = (0, 0);
    for Case { name, bytes, wanted } in table() {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let this = ["each_file_alone_gets_its_outcome_within_a_second_and_300_mb", "--exact", "--nocapture"];
        let output = Command::new(std::env::current_exe().unwrap()).args(this).env(CHILD, &path).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{name}: {}\n{text}", output.status);
        let line = text.lines().find_map(|l| l.strip_prefix("outcome\t")).unwrap_or_else(|| panic!("{name}: {text}"));
        let [time, memory, said] = line.splitn(3, '\t').collect::<Vec<_>>().try_into().unwrap();
        let (time, memory): (u64, u64) = (time.parse().unwrap(), memory.parse().unwrap());
        assert!(time < 1000, "{name} took {time} ms");
        assert!(memory < 300, "{name} took {memory} MB");
        (slowest, largest) = (slowest.max(time), largest.max(memory));
        match wanted {
            Wanted::Picture(w, h) => assert_eq!(said, format!("{w}x{h}"), "{name}"),
            Wanted::Refusal(why) => {
                assert!(said.contains(name) && said.contains(why) && said.ends_with(')'), "{name}: {said}");
            }
        }
    }
    match largest {
        0 => common::skip(format_args!("memory of hostile pictures: the system does not tell a process's peak")),
        _ => println!("at most {slowest} ms and {largest} MB"),
    }
}

/// The table in a folder of two classes, beside enough good pictures to train on; and the bad files in the order of their paths.
fn corpus(dir: &Path) -> Vec<PathBuf> {
    let mut bad = Vec::new();
    for (i, Case { name, bytes, wanted }) in table().into_iter().enumerate() {
        let class = dir.join(["a", "b"][i % 2]);
        std::fs::create_dir_all(&class).unwrap();
        std::fs::write(class.join(name), bytes).unwrap();
        if matches!(wanted, Wanted::Refusal(_)) {
            bad.push(class.join(name));
        }
    }
    bad.sort();
    bad
}

#[test]
fn a_training_stops_at_bad_files_or_leaves_them_out_or_lists_them() {
    let dir = tempfile::tempdir().unwrap();
    let bad = corpus(dir.path());
    let block = DataBlock::new((ImageBlock, CategoryBlock)).get_y(parent_label).item_tfms(Resize::new(16)).bs(4);
    let block = block.splitter(RandomSplitter::new(0.0, 1));
    let files = get_image_files(dir.path()).unwrap();

    // Stop: the epoch ends with an error that names a bad file.
    let dls = block.dataloaders(dir.path()).unwrap();
    let error = dls.train.epoch(0).find_map(|batch| batch.err()).expect("there are bad files");
    assert!(bad.iter().any(|b| error.to_string().starts_with(&b.display().to_string())), "{error}");

    // Leave out: all of them and no other, and the epoch goes through.
    let dls = block.clone().skip_bad(true).dataloaders(dir.path()).unwrap();
    let skipped: Vec<PathBuf> = dls.skipped().iter().map(|(path, _)| path.clone()).collect();
    assert_eq!(skipped, bad);
    assert_eq!(dls.train.n_items(), files.len() - bad.len());
    assert!(dls.train.epoch(0).all(|batch| batch.is_ok()));

    // List: the same, for whoever wants to decide by hand.
    let report = Check::folder(dir.path()).run().unwrap();
    assert_eq!(report.bad.iter().map(|b| b.file.clone()).collect::<Vec<_>>(), bad);
    assert!(report.bad.iter().all(|b| !b.reason.is_empty()));
    assert_eq!(get_image_files(dir.path()).unwrap(), files, "nothing was moved");
}

#[test]
fn a_cut_jpeg_is_used_on_request_and_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cut.jpg");
    std::fs::write(&path, &jpeg()[..jpeg().len() * 3 / 4]).unwrap();
    std::fs::write(dir.path().join("whole.jpg"), jpeg()).unwrap();
    let strict = ImageBlock.opener();
    assert!(strict.open(&path).is_err() && strict.remarks().is_empty());
    let lenient = ImageBlock::with(DecodeOptions { allow_truncated: true, ..DecodeOptions::default() }).opener();
    (0..2).for_each(|_| assert!(same_size(&lenient.open(&path).unwrap())));
    lenient.open(&dir.path().join("whole.jpg")).unwrap();
    let remarks = lenient.remarks();
    assert!(remarks.len() == 1 && remarks[0].0 == path && remarks[0].1.contains("ends early"), "{remarks:?}");
}

#[test]
fn an_exported_model_turns_pictures_as_its_training_did() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    for (class, v) in [("a", 10u8), ("b", 200)] {
        std::fs::create_dir_all(data.join(class)).unwrap();
        for n in 0..4 {
            let pixels = pattern().iter().map(|p| p.wrapping_add(v + n)).collect::<Vec<_>>();
            std::fs::write(data.join(class).join(format!("{n}.png")), png(&pixels, W, H, ExtendedColorType::Rgb8))
                .unwrap();
        }
    }
    let lying = dir.path().join("lying.jpg");
    std::fs::write(&lying, turned(&jpeg(), 6)).unwrap();
    // The same picture as a viewer shows it, pixel by pixel: a quarter clockwise.
    let upright = dir.path().join("upright.png");
    let stored = image::RgbImage::from_raw(W, H, read(&jpeg()).unwrap().rgb).unwrap();
    image::imageops::rotate90(&stored).save(&upright).unwrap();
    for apply_orientation in [true, false] {
        let options = DecodeOptions { apply_orientation, ..DecodeOptions::default() };
        let dls = DataBlock::new((ImageBlock::with(options), CategoryBlock))
            .get_y(parent_label)
            .splitter(RandomSplitter::new(0.25, 1))
            .item_tfms(Resize::new(32))
            .bs(2)
            .dataloaders(&data)
            .unwrap();
        let thin = || Arch { name: "thin".into(), bottleneck: false, blocks: [1, 1, 1, 1], widths: [8, 8, 16, 16] };
        let learn = vision_learner(&dls, thin).unwrap();
        let path = dir.path().join("model.safetensors");
        learn.export(&path).unwrap();
        let model = load_learner(&path).unwrap();
        let answer = |path: &Path| model.predict(path).unwrap().probabilities;
        assert_eq!(answer(&lying) == answer(&upright), apply_orientation);
    }
}
