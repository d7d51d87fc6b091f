//! The data layer against values recorded from fastai 2.8.12 and Pillow 13: splits, labels, crops, resized bytes, and the
//! text of `DataBlock.summary` in its 2021 spelling. Nothing numeric stands in this file; the cases are in the recordings.

mod common;

use common::{fixture, json, safetensors, text};
use onecycle::data::*;
use onecycle::vision::resize::{PadMode, ResizeMethod};
use onecycle::vision::{Crop, ImageBlock, RandomResizedCrop, Resize, aug_transforms, choose_crop, valid_crop};
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

fn numbers(v: &Value) -> Vec<usize> {
    v.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect()
}

fn whole(v: &Value) -> usize {
    v.as_u64().unwrap() as usize
}

#[test]
fn parity_random_splitter() {
    let Some(recorded) = json("data/random_splitter.json") else { return };
    for case in recorded["cases"].as_array().unwrap() {
        let n = whole(&case["n"]);
        let items: Vec<Item> = (0..n).map(|i| i.to_string().into()).collect();
        let seed = case["seed"].as_u64().or(case["seed"].as_i64().map(|s| s as u64)).unwrap();
        let splits = RandomSplitter::new(case["valid_pct"].as_f64().unwrap(), seed).split(&items).unwrap();
        assert_eq!(splits.valid.len(), whole(&case["n_valid"]), "n={n} seed={seed}");
        assert_eq!(splits.train.len(), whole(&case["n_train"]), "n={n} seed={seed}");
        let (valid, train) = (numbers(&case["valid_head"]), numbers(&case["train_head"]));
        assert_eq!(splits.valid[..valid.len()], valid, "n={n} seed={seed}");
        assert_eq!(splits.train[..train.len()], train, "n={n} seed={seed}");
        let order = [splits.valid, splits.train].concat();
        if !case["permutation"].is_null() {
            assert_eq!(order, numbers(&case["permutation"]), "n={n} seed={seed}");
        }
        let bytes: Vec<u8> = order.iter().flat_map(|&i| (i as i64).to_le_bytes()).collect();
        assert_eq!(sha256(&bytes), case["permutation_sha256_le_i64"].as_str().unwrap(), "n={n} seed={seed}");
    }
}

#[test]
fn parity_vocabulary_and_regex_labels() {
    let Some(recorded) = json("data/labels.json") else { return };
    for case in recorded["vocab"].as_array().unwrap() {
        let strings = |v: &Value| -> Vec<String> {
            v.as_array().unwrap().iter().map(|s| s.as_str().unwrap().to_owned()).collect()
        };
        let mut rule = Categorize::default();
        if case["add_na"] == true {
            rule = rule.add_na();
        }
        if case["sort"] == false {
            rule = rule.sort(false);
        }
        assert_eq!(rule.learn_names(strings(&case["labels"])).names(), strings(&case["vocab"]));
    }
    for case in recorded["regex"].as_array().unwrap() {
        let labeller = RegexLabeller::new(case["pattern"].as_str().unwrap()).unwrap();
        let found = labeller.label(Path::new(case["text"].as_str().unwrap()));
        match case["error"].as_str() {
            Some(error) => assert_eq!(found.unwrap_err().message(), error),
            None => assert_eq!(found.unwrap(), case["label"].as_str().unwrap()),
        }
    }
}

#[test]
fn parity_crop_search() {
    let Some(recorded) = json("data/rrc_crops.json") else { return };
    for case in recorded["cases"].as_array().unwrap() {
        let real = |key: &str| case[key].as_f64().unwrap();
        let (h, w) = (whole(&case["h"]), whole(&case["w"]));
        let ratio = (case["ratio"][0].as_f64().unwrap(), case["ratio"][1].as_f64().unwrap());
        let u: Vec<f64> = case["u"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
        let mut drawn = 0;
        let crop = match whole(&case["split_idx"]) {
            0 => choose_crop(h, w, real("min_scale"), real("max_scale"), ratio, &mut || {
                drawn += 1;
                u[drawn - 1]
            }),
            _ => valid_crop(h, w, ratio, real("valid_scale")),
        };
        let (size, place) = (numbers(&case["crop_hw"]), numbers(&case["top_left_yx"]));
        let expected = Crop { top: place[0], left: place[1], height: size[0], width: size[1] };
        assert_eq!(crop, expected, "{case}");
        let tries = whole(&case["attempts_used"]);
        assert_eq!(drawn, 2 * tries + if case["used_fallback"] == true { 0 } else { 2 }, "{case}");
    }
}

/// CHW to HWC.
fn picture(chw: &common::Recorded) -> Picture {
    let (h, w) = (chw.shape[1], chw.shape[2]);
    let at = |i: usize| chw.bytes[i % 3 * h * w + i / 3];
    Picture { width: w, height: h, rgb: (0..h * w * 3).map(at).collect() }
}

#[test]
fn parity_resize() {
    let Some(recorded) = json("data/resize.json") else { return };
    let (Some(images), Some(expected)) =
        (safetensors("data/images.safetensors"), safetensors("data/resize.safetensors"))
    else {
        return;
    };
    let Some(manifest) = json("data/manifest.json") else { return };
    let tolerance: HashMap<&str, i32> = manifest["tensors"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|t| t["file"] == "resize.safetensors")
        .map(|t| (t["name"].as_str().unwrap(), t["tol"].as_f64().unwrap_or(0.0) as i32))
        .collect();
    for case in recorded["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let source = &images[case["image"].as_str().unwrap()];
        let source = Picture { width: source.shape[1], height: source.shape[0], rgb: source.bytes.clone() };
        let size = (whole(&case["size_hw"][0]), whole(&case["size_hw"][1]));
        let pair = |key: &str| case[key].as_array().map(|a| [a[0].as_i64().unwrap(), a[1].as_i64().unwrap()]);
        let made = if case["method"] == "RandomResizedCrop" {
            let transform = RandomResizedCrop::new(size);
            match (pair("region_wh"), pair("top_left_xy")) {
                (Some([w, h]), Some([x, y])) => {
                    let crop = Crop { top: y as usize, left: x as usize, height: h as usize, width: w as usize };
                    transform.apply_at(source, crop).unwrap()
                }
                _ => {
                    let mut unused = onecycle::rng::Rng::at(0, onecycle::rng::Purpose::ItemTransform, 0, 0);
                    transform.apply(source, Subset::Valid, &mut unused).unwrap()
                }
            }
        } else {
            let method = match case["method"].as_str().unwrap() {
                "crop" => ResizeMethod::Crop,
                "pad" => ResizeMethod::Pad,
                "squish" => ResizeMethod::Squish,
                other => panic!("{name}: unknown method {other}"),
            };
            let mode = match case["pad_mode"].as_str().unwrap() {
                "reflection" => PadMode::Reflection,
                "border" => PadMode::Border,
                "zeros" => PadMode::Zeros,
                other => panic!("{name}: unknown padding {other}"),
            };
            let transform = Resize::new(size).method(method).pad_mode(mode);
            let (px, py) = (case["pcts_xy"][0].as_f64().unwrap(), case["pcts_xy"][1].as_f64().unwrap());
            let region = transform.region(source.width, source.height, px, py);
            assert_eq!(Some([region.width as i64, region.height as i64]), pair("region_wh"), "{name}: region");
            assert_eq!(Some([region.left, region.top]), pair("top_left_xy"), "{name}: place");
            transform.apply_at(source, px, py).unwrap()
        };
        let expected = picture(&expected[name]);
        assert_eq!((made.height, made.width), (expected.height, expected.width), "{name}");
        let differences = made.rgb.iter().zip(&expected.rgb).map(|(a, b)| (i32::from(*a) - i32::from(*b)).abs());
        let worst = differences.max().unwrap();
        let allowed = tolerance.get(name).copied().unwrap_or(0);
        println!("{name}: worst difference {worst}, allowed {allowed}");
        assert!(worst <= allowed, "{name}: worst difference {worst}, allowed {allowed}");
    }
}

/// Decoding a PNG gives the recorded bytes.
#[test]
fn parity_png_decode() {
    let Some(images) = safetensors("data/images.safetensors") else { return };
    for (name, expected) in images {
        let Some(path) = fixture(&format!("data/{name}.png")) else { continue };
        let picture = onecycle::vision::open(&path, &Default::default()).unwrap();
        assert_eq!(vec![picture.height, picture.width, 3], expected.shape);
        assert_eq!(picture.rgb, expected.bytes, "{name}");
    }
}

/// The recorded set: 20 files from three PNGs. They stay PNG inside, because the name decides nothing.
fn pets(root: &Path) -> Option<PathBuf> {
    let dir = root.join("pets/images");
    std::fs::create_dir_all(&dir).unwrap();
    let shapes = ["landscape", "portrait", "square"];
    let mut count = 0;
    for class in ["Bombay", "beagle", "Abyssinian", "pug"] {
        for number in 1..=5 {
            let source = fixture(&format!("data/img_{}.png", shapes[count % 3]))?;
            std::fs::copy(source, dir.join(format!("{class}_{number}.jpg"))).unwrap();
            count += 1;
        }
    }
    Some(dir)
}

fn described() -> DataBlock {
    DataBlock::new((ImageBlock, CategoryBlock))
        .get_items(get_image_files)
        .get_y(using_attr(RegexLabeller::new(r"(.+)_\d+.jpg$").unwrap(), "name"))
        .splitter(RandomSplitter::seed(42))
}

#[test]
fn parity_summary_text() {
    let Some(expected) = text("data/summary_2021_style.txt") else { return };
    let root = tempfile::tempdir().unwrap();
    let Some(dir) = pets(root.path()) else { return };
    let dblock = described().item_tfms(Resize::new(46)).batch_tfms(aug_transforms().size(16).min_scale(0.75));
    let made = dblock.summary(&dir).unwrap().replace(&format!("{}/", root.path().display()), "");
    for (line, (a, b)) in made.lines().zip(expected.lines()).enumerate() {
        assert_eq!(a, b, "line {}", line + 1);
    }
    assert_eq!(made.trim_end(), expected.trim_end());
}

#[test]
fn parity_summary_of_a_collate_failure() {
    let Some(expected) = text("data/summary_collate_failure_2021_style.txt") else { return };
    let root = tempfile::tempdir().unwrap();
    let Some(dir) = pets(root.path()) else { return };
    let mut made = String::new();
    let error = described().write_summary(&dir, 4, &mut made).unwrap_err().to_string();
    let made = made.replace(&format!("{}/", root.path().display()), "");
    for (line, (a, b)) in made.lines().zip(expected.lines()).enumerate() {
        assert_eq!(a, b, "line {}", line + 1);
    }
    assert_eq!(made.trim_end(), expected.trim_end());
    assert!(error.contains(".jpg") && error.contains("Resize"), "{error}");
    let whole = described().summary(&dir).unwrap_err().to_string();
    assert!(whole.contains("Setting-up type transforms pipelines"), "{whole}");
}

/// FIPS 180-4, for comparing whole permutations with their recorded hash.
fn sha256(message: &[u8]) -> String {
    fn primes(n: usize) -> Vec<u64> {
        (2u64..).filter(|c| (2..*c).take_while(|d| d * d <= *c).all(|d| c % d != 0)).take(n).collect()
    }
    // The constants are the first 32 fractional bits of square and cube roots of primes, found here in integers.
    let root = |p: u64, power: u32| {
        let target = u128::from(p) << (32 * power);
        let (mut lo, mut hi) = (0u128, 1u128 << 40);
        while lo + 1 < hi {
            let middle = (lo + hi) / 2;
            if middle.pow(power) <= target { lo = middle } else { hi = middle }
        }
        lo as u32
    };
    let k: Vec<u32> = primes(64).into_iter().map(|p| root(p, 3)).collect();
    let mut h: Vec<u32> = primes(8).into_iter().map(|p| root(p, 2)).collect();
    let mut padded = message.to_vec();
    padded.push(0x80);
    padded.resize(padded.len().next_multiple_of(64) + if padded.len() % 64 > 56 { 64 } else { 0 }, 0);
    let at = padded.len() - 8;
    padded[at..].copy_from_slice(&(message.len() as u64 * 8).to_be_bytes());
    for block in padded.chunks_exact(64) {
        let mut w: Vec<u32> = block.chunks_exact(4).map(|b| u32::from_be_bytes(b.try_into().unwrap())).collect();
        for i in 16..64 {
            let s0 = w[i - 15].rotate_right(7) ^ w[i - 15].rotate_right(18) ^ w[i - 15] >> 3;
            let s1 = w[i - 2].rotate_right(17) ^ w[i - 2].rotate_right(19) ^ w[i - 2] >> 10;
            w.push(w[i - 16].wrapping_add(s0).wrapping_add(w[i - 7]).wrapping_add(s1));
        }
        let mut v = h.clone();
        for i in 0..64 {
            let s1 = v[4].rotate_right(6) ^ v[4].rotate_right(11) ^ v[4].rotate_right(25);
            let choice = v[4] & v[5] ^ !v[4] & v[6];
            let t1 = v[7].wrapping_add(s1).wrapping_add(choice).wrapping_add(k[i]).wrapping_add(w[i]);
            let s0 = v[0].rotate_right(2) ^ v[0].rotate_right(13) ^ v[0].rotate_right(22);
            let t2 = s0.wrapping_add(v[0] & v[1] ^ v[0] & v[2] ^ v[1] & v[2]);
            v.rotate_right(1);
            v[4] = v[4].wrapping_add(t1);
            v[0] = t1.wrapping_add(t2);
        }
        h.iter_mut().zip(v).for_each(|(h, v)| *h = h.wrapping_add(v));
    }
    h.iter().map(|v| format!("{v:08x}")).collect()
}
