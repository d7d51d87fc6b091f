//! From a file to a [`Picture`], under limits.
//!
//! Data sets contain everything: HTML error pages named `.jpg`, PNGs named `.jpg`, half downloads, pictures of 30,000 x
//! 30,000 pixels in 2 MB. So:
//!
//! * the **content** decides the format, never the extension;
//! * the **size** is compared with [`DecodeOptions::max_pixels`] before a pixel is allocated. The default is Pillow's
//!   limit, 178,956,970;
//! * a **truncated** file is an error. The JPEG decoder fills the missing part with grey and says nothing, so the markers
//!   are walked here: a JPEG without an end-of-image marker was cut. What Pillow tolerates is tolerated: trailing bytes,
//!   and junk between the data and the end marker;
//! * every error **names the file** and says what to do.
//!
//! As in fastai the result is RGB: grey is replicated, palettes are looked up, alpha is dropped without compositing, CMYK
//! is inverted, of an animation the first frame counts, and the EXIF orientation is ignored unless
//! [`DecodeOptions::apply_orientation`] is set. One difference on purpose: 16-bit
//! channels are scaled to 8 bits, where Pillow clips 16-bit grey at 255 and so turns it white.
//!
//! The `image` crate decodes. Its JPEG pixels differ from libjpeg's by at most 7 levels, 0.4 on average (chroma
//! upsampling), so comparisons with fastai start from PNG.

use super::facts::png_chunks;
use super::item_tfms::dihedral;
use crate::data::{InputBlock, OpenPicture, Picture, buffer};
use crate::{Error, ErrorKind, Result};
use image::metadata::Orientation;
use image::{ColorType, ImageDecoder, ImageFormat, ImageReader, Limits};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Pillow's limit, above which it takes a picture for a bomb: twice 1024 * 1024 * 1024 / 4 / 3.
pub const PILLOW_MAX_PIXELS: u64 = 178_956_970;

/// What is accepted as a picture.
#[derive(Clone, Debug)]
pub struct DecodeOptions {
    /// Width times height at most.
    pub max_pixels: u64,
    /// Bytes in a file at most; larger files are not read.
    pub max_file_bytes: u64,
    /// Accept JPEGs that end early; what is missing comes out grey. [`OpenPicture::remarks`] lists them.
    pub allow_truncated: bool,
    /// Turn and mirror pictures as their EXIF orientation says: phones store most pictures lying down. Off, as in fastai; an
    /// exported model remembers it.
    pub apply_orientation: bool,
}

impl Default for DecodeOptions {
    fn default() -> DecodeOptions {
        DecodeOptions {
            max_pixels: PILLOW_MAX_PIXELS,
            max_file_bytes: 1 << 30,
            allow_truncated: false,
            apply_orientation: false,
        }
    }
}

/// The input block of a picture classifier, with default [`DecodeOptions`]. fastai: `ImageBlock`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ImageBlock;

impl ImageBlock {
    /// An input block with other options.
    pub fn with(options: DecodeOptions) -> PilImage {
        PilImage { options, remarks: Arc::default() }
    }
}

impl InputBlock for ImageBlock {
    fn opener(self) -> Arc<dyn OpenPicture> {
        Arc::new(PilImage::default())
    }
}

/// Opens files as RGB pictures. The name is fastai's, which `summary` prints.
#[derive(Clone, Debug, Default)]
pub struct PilImage {
    options: DecodeOptions,
    /// Files that were opened although something is wrong with them.
    remarks: Arc<Mutex<BTreeMap<PathBuf, &'static str>>>,
}

impl PilImage {
    /// What [`OpenPicture::settings`] wrote. Limits are not in it: they protect the machine that reads, so that machine sets them.
    ///
    /// # Errors
    /// [`ErrorKind::Format`]: these are no settings of a block that opens pictures.
    pub fn from_settings(settings: &serde_json::Value) -> Result<PilImage> {
        let apply_orientation = match settings["exif"].as_str() {
            Some("ignore") => false,
            Some("apply") => true,
            _ => {
                return Err(Error::new(
                    ErrorKind::Format,
                    format!("pictures are opened in an unknown way: {settings}"),
                )
                .remedy("use the version that wrote the file"));
            }
        };
        Ok(ImageBlock::with(DecodeOptions { apply_orientation, ..DecodeOptions::default() }))
    }
}

impl InputBlock for PilImage {
    fn opener(self) -> Arc<dyn OpenPicture> {
        Arc::new(self)
    }
}

impl OpenPicture for PilImage {
    fn name(&self) -> &str {
        "PILBase.create"
    }

    fn open(&self, path: &Path) -> Result<Picture> {
        let bytes = read_file(path, &self.options)?;
        let picture = decode(&bytes, &self.options).map_err(|e| e.on(path.display()))?;
        if self.options.allow_truncated && ends_early(&bytes) {
            let mut remarks = self.remarks.lock().unwrap_or_else(PoisonError::into_inner);
            remarks.insert(path.to_owned(), "the picture ends early; the missing part is grey");
        }
        buffer::give(bytes);
        Ok(picture)
    }

    fn settings(&self) -> serde_json::Value {
        serde_json::json!({ "exif": if self.options.apply_orientation { "apply" } else { "ignore" } })
    }

    fn remarks(&self) -> Vec<(PathBuf, String)> {
        let remarks = self.remarks.lock().unwrap_or_else(PoisonError::into_inner);
        remarks.iter().map(|(path, text)| (path.clone(), text.to_string())).collect()
    }

    fn fingerprint(&self) -> Option<String> {
        // With another release of this crate comes another release of the decoder.
        Some(format!("onecycle {}, {:?}", env!("CARGO_PKG_VERSION"), self.options))
    }
}

/// The picture in the file at `path`. fastai: `PILImage.create`.
///
/// # Errors
/// [`ErrorKind::Io`] when the file cannot be read, [`ErrorKind::Image`] when it is no picture, damaged, or beyond the
/// limits; both name `path`.
pub fn open(path: &Path, options: &DecodeOptions) -> Result<Picture> {
    let bytes = read_file(path, options)?;
    let picture = decode(&bytes, options).map_err(|e| e.on(path.display()));
    buffer::give(bytes);
    picture
}

/// The file's bytes, no more than the options allow.
pub(super) fn read_file(path: &Path, options: &DecodeOptions) -> Result<Vec<u8>> {
    let io = |e| Error::io("read the picture", path, e);
    let mut file = File::open(path).map_err(io)?;
    let meta = file.metadata().map_err(io)?;
    if meta.is_dir() {
        return Err(image_error("this is a folder").on(path.display()).remedy("name a picture file"));
    }
    if meta.len() > options.max_file_bytes {
        return Err(too_large(meta.len(), options).on(path.display()));
    }
    let mut bytes = buffer::empty(meta.len() as usize + 1);
    // A named pipe or a file that grows has no honest length: never read more than the limit.
    file.by_ref().take(options.max_file_bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > options.max_file_bytes {
        return Err(too_large(bytes.len() as u64, options).on(path.display()));
    }
    Ok(bytes)
}

fn too_large(bytes: u64, options: &DecodeOptions) -> Error {
    image_error(format!("the file has {bytes} bytes; {} is the limit", options.max_file_bytes))
        .remedy("make the picture smaller, or raise max_file_bytes")
}

/// The picture in `bytes`, whose format is found by content.
///
/// # Errors
/// [`ErrorKind::Image`]: not a picture, damaged, or beyond the limits.
pub fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Picture> {
    caught(|| decode_pixels(bytes, options))
}

/// What `work` returns; a panic inside a decoder becomes an error. Damaged files have found one in the png crate, and what is found
/// once is found again.
pub(super) fn caught<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    // Nothing outlives the panic: the decoder and its buffers belong to the closure.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(image_error("the data is damaged in a way that the decoder doesn't foresee").remedy(BAD_FILE))
    })
}

fn decode_pixels(bytes: &[u8], options: &DecodeOptions) -> Result<Picture> {
    let format = sniff(bytes)?;
    if !options.allow_truncated && ends_early(bytes) {
        return Err(image_error("the picture ends early: a JPEG without its end marker").remedy(BAD_FILE));
    }
    // The png crate (0.18.1) takes any length and panics over a colour of one byte.
    if format == ImageFormat::Png && png_chunks(bytes).any(|(name, data)| name == *b"PLTE" && data.len() % 3 != 0) {
        return Err(image_error("the PNG data is damaged: its palette ends in mid-colour").remedy(BAD_FILE));
    }
    let mut decoder = header(bytes, format)?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels > options.max_pixels {
        let text = format!("{width}x{height} pixels are more than the limit of {}", options.max_pixels);
        return Err(image_error(text).remedy("make the picture smaller, leave it out, or raise max_pixels"));
    }
    if pixels == 0 {
        return Err(image_error("the picture has no pixel").remedy(BAD_FILE));
    }
    // 8 bytes a pixel is 16-bit RGBA. By the picture's own size, not by the largest allowed: a GIF's frame may claim to be larger.
    let limits = limits(pixels.saturating_mul(8).saturating_add(SCRATCH));
    decoder.set_limits(limits).map_err(|e| damaged(format, e))?;
    let turn = if options.apply_orientation { turn(&mut decoder) } else { 0 };
    let color = decoder.color_type();
    let mut raw = buffer::zeroed(decoder.total_bytes() as usize); // [H, W, channels], native-endian where 16 bits
    decoder.read_image(&mut raw).map_err(|e| damaged(format, e))?;
    let picture = Picture { width: width as usize, height: height as usize, rgb: to_rgb(raw, color)? };
    Ok(dihedral(picture, turn))
}

/// What [`dihedral`] has to do so that the picture stands as its EXIF orientation says. EXIF that can't be read says nothing.
fn turn(decoder: &mut impl ImageDecoder) -> usize {
    match decoder.orientation().unwrap_or(Orientation::NoTransforms) {
        Orientation::NoTransforms => 0,
        Orientation::FlipHorizontal => 1,
        Orientation::FlipVertical => 2,
        Orientation::Rotate270 => 3,
        Orientation::Rotate180 => 4,
        Orientation::Rotate90 => 5,
        Orientation::Rotate90FlipH => 6,
        Orientation::Rotate270FlipH => 7,
    }
}

/// Whether this is a JPEG that was cut.
pub(super) fn ends_early(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xff, 0xd8, 0xff]) && !jpeg_is_whole(bytes)
}

/// Memory that a decoder may take beside the pixels. A PNG's colour profile is compressed: 1 MB of it can unpack to a gigabyte, which
/// decoders do as soon as they read the header.
const SCRATCH: u64 = 64 << 20;

fn limits(max_alloc: u64) -> Limits {
    let mut limits = Limits::default();
    limits.max_alloc = Some(max_alloc);
    limits
}

/// A decoder that has read the header, in little memory.
pub(super) fn header(bytes: &[u8], format: ImageFormat) -> Result<impl ImageDecoder> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits(SCRATCH));
    reader.into_decoder().map_err(|e| damaged(format, e))
}

const BAD_FILE: &str = "fetch the file again, move it away, or leave bad files out with skip_bad";

fn image_error(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Image, message)
}

fn damaged(format: ImageFormat, error: image::ImageError) -> Error {
    let name = format!("{format:?}").to_uppercase();
    let text = error.to_string();
    // The crate's texts can run over several lines, or quote what it read.
    let first = text.lines().next().unwrap_or_default().chars().take(200).collect::<String>();
    image_error(format!("the {name} data is damaged: {first}")).remedy(BAD_FILE).caused_by(error)
}

/// The format, by the first bytes.
pub(super) fn sniff(bytes: &[u8]) -> Result<ImageFormat> {
    let not_built_in = |name: &str| {
        image_error(format!("this is {name}, a format not built in")).remedy("convert the file to JPEG, PNG or WebP")
    };
    Err(match bytes {
        [] => image_error("the file is empty").remedy(BAD_FILE),
        [0xff, 0xd8, 0xff, ..] => return Ok(ImageFormat::Jpeg),
        [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, ..] => return Ok(ImageFormat::Png),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => return Ok(ImageFormat::Gif),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => return Ok(ImageFormat::WebP),
        [b'B', b'M', ..] if bytes.len() > 26 => return Ok(ImageFormat::Bmp),
        [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => not_built_in("TIFF"),
        [_, _, _, _, b'f', b't', b'y', b'p', brand @ ..] => match brand {
            [b'a', b'v', b'i', ..] => not_built_in("AVIF"),
            _ => not_built_in("HEIF or a film"),
        },
        [0, 0, 1, 0, ..] => not_built_in("an icon file"),
        _ => {
            let head = String::from_utf8_lossy(&bytes[..bytes.len().min(256)]).trim_start().to_lowercase();
            let what = if head.starts_with("<svg") || head.starts_with("<?xml") && head.contains("<svg") {
                return Err(not_built_in("SVG"));
            } else if head.starts_with("<!doctype html") || head.starts_with("<html") {
                "not a picture but a web page"
            } else {
                "not a picture of a known format"
            };
            image_error(what).remedy(BAD_FILE)
        }
    })
}

/// Whether a JPEG has an end-of-image marker after the start of its first scan.
///
/// Segments before the scan are skipped by their lengths, because the thumbnail in an EXIF segment has an end marker of
/// its own. Inside the scan `ff` is always followed by `00` or a marker, so a cut scan has no `ff d9` by accident. Nothing
/// more is asked for: junk before the end marker and bytes after it are common and harmless.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    let mut at = 2;
    loop {
        let Some(&[first, marker]) = bytes.get(at..at + 2).and_then(|b| b.first_chunk()) else { return false };
        match (first, marker) {
            (0xff, 0xff) => at += 1,
            (0xff, 0xda) => return bytes[at..].windows(2).any(|pair| pair == [0xff, 0xd9]),
            (0xff, 0x01 | 0xd0..=0xd8) => at += 2,
            (0xff, 0xd9) => return false,
            (0xff, 1..) => {
                let Some(&[hi, lo]) = bytes.get(at + 2..at + 4).and_then(|b| b.first_chunk()) else { return false };
                at += 2 + usize::from(u16::from_be_bytes([hi, lo])).max(2);
            }
            // Junk between segments: decoders look for the next marker, and so does this.
            _ => at += 1,
        }
    }
}

/// `raw` `[H, W, channels]` to `[H, W, 3]`.
fn to_rgb(raw: Vec<u8>, color: ColorType) -> Result<Vec<u8>> {
    let wide = |i: usize| {
        let value = u16::from_ne_bytes([raw[i], raw[i + 1]]);
        // 65535 is 257 * 255; rounded, as a division by 257 would truncate.
        ((u32::from(value) + 128) / 257) as u8
    };
    let grey = |v: u8| [v; 3];
    Ok(match color {
        ColorType::Rgb8 => raw,
        ColorType::L8 => raw.iter().flat_map(|&v| grey(v)).collect(),
        ColorType::La8 => raw.chunks_exact(2).flat_map(|p| grey(p[0])).collect(),
        ColorType::Rgba8 => raw.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect(),
        ColorType::L16 => (0..raw.len()).step_by(2).flat_map(|i| grey(wide(i))).collect(),
        ColorType::La16 => (0..raw.len()).step_by(4).flat_map(|i| grey(wide(i))).collect(),
        ColorType::Rgb16 => (0..raw.len()).step_by(2).map(wide).collect(),
        ColorType::Rgba16 => (0..raw.len()).step_by(8).flat_map(|i| [wide(i), wide(i + 2), wide(i + 4)]).collect(),
        other => {
            return Err(image_error(format!("pixels of type {other:?} are not supported"))
                .remedy("convert the file to 8 bits a channel"));
        }
    })
}
