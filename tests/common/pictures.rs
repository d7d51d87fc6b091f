//! Valid pictures of every format, small, made by the encoders of the `image` crate or byte by byte; and the means to spoil them.

use image::{ExtendedColorType, ImageEncoder, codecs};

pub const W: u32 = 48;
pub const H: u32 = 32;

/// A smooth pattern with some texture: [H, W, 3].
pub fn pattern() -> Vec<u8> {
    let value = |i: u32| {
        let (x, y, c) = (i / 3 % W, i / 3 / W, i % 3);
        (x * 4 + y * (c + 1) + (x * 7 + y * 13) % 11) as u8
    };
    (0..W * H * 3).map(value).collect()
}

pub fn encoded(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes);
    bytes
}

pub fn jpeg() -> Vec<u8> {
    encoded(|b| {
        let encoder = codecs::jpeg::JpegEncoder::new_with_quality(b, 90);
        encoder.write_image(&pattern(), W, H, ExtendedColorType::Rgb8).unwrap();
    })
}

pub fn png(pixels: &[u8], w: u32, h: u32, color: ExtendedColorType) -> Vec<u8> {
    encoded(|b| codecs::png::PngEncoder::new(b).write_image(pixels, w, h, color).unwrap())
}

pub fn rgb_png() -> Vec<u8> {
    png(&pattern(), W, H, ExtendedColorType::Rgb8)
}

pub fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &b| {
        (0..8).fold(crc ^ u32::from(b), |c, _| if c & 1 == 1 { c >> 1 ^ 0xedb8_8320 } else { c >> 1 })
    })
}

/// Start of the PNG chunk `name` (its length field), and the length of its data.
pub fn chunk(png: &[u8], name: &[u8; 4]) -> (usize, usize) {
    let mut at = 8;
    loop {
        let length = u32::from_be_bytes(png[at..at + 4].try_into().unwrap()) as usize;
        if &png[at + 4..at + 8] == name {
            return (at, length);
        }
        at += 12 + length;
    }
}

/// Changes a chunk's data and puts the right checksum behind it.
pub fn patch(png: &mut [u8], name: &[u8; 4], change: impl FnOnce(&mut [u8])) {
    let (at, length) = chunk(png, name);
    change(&mut png[at + 8..at + 8 + length]);
    let crc = crc32(&png[at + 4..at + 8 + length]).to_be_bytes();
    png[at + 8 + length..at + 12 + length].copy_from_slice(&crc);
}

/// Position of the byte after `ff marker`.
pub fn after_marker(jpeg: &[u8], marker: u8) -> usize {
    jpeg.windows(2).position(|p| p == [0xff, marker]).unwrap() + 2
}

pub fn gif(frames: &[Vec<u8>]) -> Vec<u8> {
    encoded(|b| {
        let mut encoder = codecs::gif::GifEncoder::new(b);
        for frame in frames {
            let rgba = frame.chunks(3).flat_map(|p| [p[0], p[1], p[2], 255]).collect();
            let buffer = image::RgbaImage::from_raw(W, H, rgba).unwrap();
            encoder.encode_frame(image::Frame::new(buffer)).unwrap();
        }
    })
}

pub fn animated_webp(frames: &[Vec<u8>]) -> Vec<u8> {
    let chunk = |name: &[u8], data: &[u8]| {
        let padding = vec![0; data.len() % 2];
        [name, &(data.len() as u32).to_le_bytes(), data, &padding].concat()
    };
    let u24 = |v: u32| v.to_le_bytes()[..3].to_vec();
    let size = [u24(W - 1), u24(H - 1)].concat();
    let mut body = chunk(b"VP8X", &[vec![2, 0, 0, 0], size.clone()].concat());
    body.extend(chunk(b"ANIM", &[0; 6]));
    for frame in frames {
        let still = encoded(|b| {
            codecs::webp::WebPEncoder::new_lossless(b).write_image(frame, W, H, ExtendedColorType::Rgb8).unwrap();
        });
        let header = [u24(0), u24(0), size.clone(), u24(100), vec![2]].concat();
        body.extend(chunk(b"ANMF", &[header, still[12..].to_vec()].concat()));
    }
    [b"RIFF".to_vec(), (body.len() as u32 + 4).to_le_bytes().to_vec(), b"WEBP".to_vec(), body].concat()
}

/// 2x2 pixels, two colours.
pub fn palette_png() -> Vec<u8> {
    let chunk = |name: &[u8; 4], data: &[u8]| {
        let body = [&name[..], data].concat();
        [&(data.len() as u32).to_be_bytes()[..], &body, &crc32(&body).to_be_bytes()].concat()
    };
    let rows = [0u8, 0, 1, 0, 1, 0]; // each row: filter 0, two indices
    let (mut a, mut b) = (1u32, 0u32);
    rows.iter().for_each(|&v| {
        a = (a + u32::from(v)) % 65521;
        b = (b + a) % 65521;
    });
    let stored = [&[0x78, 1, 1, 6, 0, 0xf9, 0xff][..], &rows, &(b << 16 | a).to_be_bytes()].concat();
    [
        &b"\x89PNG\r\n\x1a\n"[..],
        &chunk(b"IHDR", &[0, 0, 0, 2, 0, 0, 0, 2, 8, 3, 0, 0, 0]),
        &chunk(b"PLTE", &[250, 10, 20, 1, 2, 3]),
        &chunk(b"IDAT", &stored),
        &chunk(b"IEND", &[]),
    ]
    .concat()
}

/// 8x8 pixels of one colour in CMYK as Adobe writes it (inverted): stored 200, 100, 128, 255.
pub fn cmyk_jpeg() -> Vec<u8> {
    let segment =
        |marker: u8, data: &[u8]| [&[0xff, marker], &(data.len() as u16 + 2).to_be_bytes()[..], data].concat();
    // A DC coefficient is 8 * (value - 128) with all-one quantisation: 576 (10 bits), -224 (8 bits), 0, 1016 (10 bits).
    // Codes: 0 for "0 bits", 10 for "10 bits", 110 for "8 bits"; the only AC code, 0, ends a block.
    let bits = ["10", "1001000000", "0", "110", "00011111", "0", "0", "0", "10", "1111111000", "0"].concat();
    let padded = format!("{bits:1<40}");
    let scan: Vec<u8> = (0..5).map(|i| u8::from_str_radix(&padded[i * 8..][..8], 2).unwrap()).collect();
    let stuffed = scan.iter().flat_map(|&b| if b == 0xff { vec![0xff, 0] } else { vec![b] }).collect::<Vec<_>>();
    let mut counts = [0u8; 16];
    counts[..3].fill(1);
    let mut one = [0u8; 16];
    one[0] = 1;
    [
        vec![0xff, 0xd8],
        segment(0xee, b"Adobe\0\x64\0\0\0\0\0"),
        segment(0xdb, &[&[0][..], &[1; 64]].concat()),
        segment(0xc0, &[8, 0, 8, 0, 8, 4, 1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0, 4, 0x11, 0]),
        segment(0xc4, &[&[0][..], &counts, &[0, 10, 8]].concat()),
        segment(0xc4, &[&[0x10][..], &one, &[0]].concat()),
        segment(0xda, &[4, 1, 0, 2, 0, 3, 0, 4, 0, 0, 63, 0]),
        stuffed,
        vec![0xff, 0xd9],
    ]
    .concat()
}

pub fn bmp() -> Vec<u8> {
    encoded(|b| codecs::bmp::BmpEncoder::new(b).write_image(&pattern(), W, H, ExtendedColorType::Rgb8).unwrap())
}

pub fn webp() -> Vec<u8> {
    encoded(|b| {
        codecs::webp::WebPEncoder::new_lossless(b).write_image(&pattern(), W, H, ExtendedColorType::Rgb8).unwrap();
    })
}

/// 40x24 pixels in nine scans, colours at half the resolution; written by Pillow 13 (`progressive=True, quality=40`, without its
/// JFIF segment).
pub fn progressive_jpeg() -> Vec<u8> {
    hex(
        "ffd8ffdb004300140e0f120f0d14121012171514181e32211e1c1c1e3d2c2e243249404c4b47404645505a736250556d5645466488656d777b8182\
        814e608d978c7d96737e817cffdb0043011517171e1a1e3b21213b7c5346537c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c\
        7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7cffc20011080018002803012200021101031101ffc400190000030101010000000000000000\
        000000000203010405ffc4001801010003010000000000000000000000000200030405ffda000c03010002100310000001f31efac4b6ee7440e905\
        d8e1390cc1469701dbffc400161001010100000000000000000000000000001211ffda000801010001050294b189631296252c625fffc400171101\
        01010100000000000000000000000000020111ffda0008010301013f019a4d3299a9d75fffc4001911000301010100000000000000000000000001\
        02121131ffda0008010201013f01d293ae8dca1234ebd123ffc40014100100000000000000000000000000000030ffda0008010100063f027fffc4\
        00191001010003010000000000000000000000000110216111ffda0008010100013f2184c1ba1a37421c210e13da1fffda000c0301000200030000\
        00105c60dd801fffc400161101010100000000000000000000000000010011ffda0008010301013f1056125c9e421e5fffc4001911010100030100\
        00000000000000000000010011213151ffda0008010201013f1075bacf7689d6ec412cf1062fffc4001b1000020301010100000000000000000000\
        0001113161517181ffda0008010100013f10cccc48a94b1358cc4ba626f1c3320b170fa6664245491b6333ffd9",
    )
}

/// The same pixels in one scan with a restart marker after every second block; written by Pillow 13 (`restart_marker_blocks=2`).
pub fn restarting_jpeg() -> Vec<u8> {
    hex(
        "ffd8ffdb004300140e0f120f0d14121012171514181e32211e1c1c1e3d2c2e243249404c4b47404645505a736250556d5645466488656d777b8182\
        814e608d978c7d96737e817cffdb0043011517171e1a1e3b21213b7c5346537c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c\
        7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7cffc00011080018002803012200021101031101ffc4001f0000010501010101010100000000\
        000000000102030405060708090a0bffc400b5100002010303020403050504040000017d01020300041105122131410613516107227114328191a1\
        082342b1c11552d1f02433627282090a161718191a25262728292a3435363738393a434445464748494a535455565758595a636465666768696a73\
        7475767778797a838485868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9\
        dae1e2e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8f9faffc4001f0100030101010101010101010000000000000102030405060708090a0bffc400b511\
        00020102040403040705040400010277000102031104052131061241510761711322328108144291a1b1c109233352f0156272d10a162434e125f1\
        1718191a262728292a35363738393a434445464748494a535455565758595a636465666768696a737475767778797a82838485868788898a929394\
        95969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae2e3e4e5e6e7e8e9eaf2f3f4f5f6f7f8f9\
        faffdd00040002ffda000c03010002110311003f00e652dbdaa74b6f6aba220bee69e212df4f4addd5853d376654eab6541181d064d38425bad5e4\
        b6f6a9d6df1d6b3739d4df4477d3aa91ffd0cd4b6f6a2b4847fdd1f8d150ebd28e9b9ebc6abb0d4b6f6a9d2dfda8a29422923e461367ffd1b22303\
        ee8cd3d602dd68a2bcd756551fbdb18d39344c96ded451456d18ab1d6a6ec7ffd9",
    )
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

/// The JPEG with an EXIF segment that says how the camera was held: 1 is upright, 6 "turn right to see it".
pub fn turned(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    // Big-endian TIFF with one entry: tag 0x112, short, 1 value.
    let tiff = [&b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0"[..], &[orientation, 0, 0], &[0; 4]].concat();
    [&jpeg[..2], b"\xff\xe1\x00\x22Exif\0\0", &tiff, &jpeg[2..]].concat()
}

/// A JPEG with so many bytes too many before its end marker.
pub fn jpeg_with_junk(n: usize) -> Vec<u8> {
    let mut jpeg = jpeg();
    let end = jpeg.len() - 2;
    jpeg.splice(end..end, vec![0x55; n]);
    jpeg
}

/// A JPEG with a flipped bit in 40 bytes of its data; no marker comes or goes.
pub fn flipped_jpeg() -> Vec<u8> {
    let mut jpeg = jpeg();
    let scan = after_marker(&jpeg, 0xda) + 20;
    for i in (scan..jpeg.len() - 40).step_by(17).take(40) {
        if jpeg[i] < 0xfe && jpeg[i - 1] != 0xff {
            jpeg[i] ^= 1;
        }
    }
    jpeg
}
