//! Pictures that a data set should not contain and always does. Each becomes a picture or an error that names the file,
//! within a second and 300 MB. The files are made here: valid ones by the encoders of the `image` crate, the rest by
//! cutting and patching bytes.

mod common;

use common::pictures::*;
use image::{ExtendedColorType, ImageEncoder, codecs};
use onecycle::ErrorKind;
use onecycle::data::Picture;
use onecycle::vision::{DecodeOptions, decode, open};
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

    let mut junk = jpeg();
    let end = junk.len() - 2;
    junk.splice(end..end, [0x55; 240]);
    assert_eq!(read(&junk).unwrap(), whole, "junk before the end marker");

    let mut flipped = jpeg();
    let scan = after_marker(&flipped, 0xda) + 20;
    for i in (scan..flipped.len() - 40).step_by(17).take(40) {
        if flipped[i] < 0xfe && flipped[i - 1] != 0xff {
            flipped[i] ^= 1;
        }
    }
    assert!(same_size(&read(&flipped).unwrap()), "garbage pixels, but a picture");

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
