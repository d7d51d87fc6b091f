//! Batch transforms against values recorded from fastai: sampling, crops, lighting, normalisation, and both whole paths.

mod common;

use common::Recorded;
use onecycle::data::Picture;
use onecycle::ops::augment::{
    Augment, IMAGENET_STATS, Interpolation, Light, Padding, Pass, Sample, Statistics, Window, augment, base_positions,
    logit, preshrink, relight, shift_hue, source_position,
};
use onecycle::vision::augment::{Draws, theta, warp_coefficients, zoom_of};
use onecycle::vision::{Resize, aug_transforms, valid_crop};
use onecycle::{DType, Device, Tensor};
use serde_json::Value;

fn number(v: &Value) -> f64 {
    v.as_f64().unwrap_or_else(|| panic!("a number instead of {v}"))
}

fn pair(v: &Value) -> (usize, usize) {
    (number(&v[0]) as usize, number(&v[1]) as usize)
}

/// A recorded float batch N, C, H, W in 0..1 that was bytes before.
fn bytes_of(r: &Recorded) -> Tensor {
    let bytes: Vec<u8> = r.f32().iter().map(|v| (v * 255.0).round() as u8).collect();
    Tensor::from_torch(&bytes, &r.shape, Device::Cpu).unwrap()
}

fn check(what: &str, got: &[f64], want: &[f32], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    let off = |(g, w): (&f64, &f32)| (g - f64::from(*w)).abs();
    let worst = got.iter().zip(want).map(off).fold(0f64, |m, d| if d.is_nan() { f64::INFINITY } else { m.max(d) });
    println!("{what}: worst difference {worst:.1e}, allowed {tolerance:.0e}");
    assert!(worst <= tolerance, "{what}: worst difference {worst}, allowed {tolerance}");
}

fn check_batch(what: &str, got: &[Tensor], want: &Recorded, tolerance: f64) {
    for got in got {
        let numbers = got.to(Device::Cpu).unwrap().cast(DType::F64).unwrap().to_nchw_vec::<f64>().unwrap();
        check(&format!("{what} on {}", got.device()), &numbers, &want.f32(), tolerance);
    }
}

/// What becomes of a batch, on every device that computes in `dtype`.
fn everywhere(bytes: &Tensor, plan: &Augment, dtype: DType) -> Vec<Tensor> {
    let kinds = common::kinds().into_iter().filter(|(_, d)| *d == dtype);
    kinds.map(|(device, dtype)| augment(&bytes.to(device).unwrap(), plan, dtype).unwrap()).collect()
}

/// The draws of picture `i`, from an object whose keys may be absent.
fn draws(case: &Value, i: usize, names: [&str; 7]) -> Draws {
    let get = |name: &str, neutral: f64| case.get(name).map_or(neutral, |v| number(&v[i]));
    let [flip, rotate, zoom, cx, cy, wx, wy] = names;
    Draws {
        flip: get(flip, 0.0),
        rotate: get(rotate, 0.0),
        zoom: get(zoom, 1.0),
        zoom_centre: (get(cx, 0.5), get(cy, 0.5)),
        warp: (get(wx, 0.0), get(wy, 0.0)),
        dihedral: get("dihedral", 0.0) as usize,
        ..Draws::default()
    }
}

#[test]
fn parity_affine_and_warp() {
    let Some(json) = common::json("data/batch_cases.json") else { return };
    for case in json["affine"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let Some(file) = common::safetensors(&format!("data/{}", case["file"].as_str().unwrap())) else { continue };
        let input = &file[case["input"].as_str().unwrap()];
        let (n, h, w) = (input.shape[0], input.shape[2], input.shape[3]);
        let (oh, ow) = pair(&case["out_hw"]);
        let padding = match case["pad_mode"].as_str().unwrap() {
            "reflection" => Padding::Reflection,
            "border" => Padding::Border,
            _ => Padding::Zeros,
        };
        let align_corners = case["align_corners"] == true;
        let names = ["flip", "rotate_deg", "zoom", "zoom_cx", "zoom_cy", "warp_x", "warp_y"];
        let drawn: Vec<Draws> = (0..n).map(|i| draws(case, i, names)).collect();
        let sample = |d: &Draws| Sample {
            crop: None,
            theta: theta(d, h, w),
            warp: case.get("warp_x").map(|_| warp_coefficients(d.warp)),
            shrink: None,
        };
        let mut samples: Vec<Sample> = drawn.iter().map(sample).collect();
        let all: Vec<f64> = samples.iter().flat_map(|s| s.theta.map(f64::from)).collect();
        check(&format!("{name}.theta"), &all, &file[&format!("{name}.theta")].f32(), 1e-6);
        if let Some(want) = file.get(&format!("{name}.warp_coeffs")) {
            let all: Vec<f64> = samples.iter().flat_map(|s| s.warp.unwrap().map(f64::from)).collect();
            check(&format!("{name}.warp_coeffs"), &all, &want.f32(), 5e-6);
        }
        let (rows, columns) = (base_positions(oh, align_corners), base_positions(ow, align_corners));
        let mut grid = Vec::new();
        for s in &samples {
            for &y in &rows {
                for &x in &columns {
                    let (gx, gy) = source_position(s, x, y);
                    grid.extend([f64::from(gx), f64::from(gy)]);
                }
            }
        }
        check(&format!("{name}.grid"), &grid, &file[&format!("{name}.grid")].f32(), 2e-6);
        let shrink = preshrink((h, w), (oh, ow), zoom_of(&samples));
        let recorded = &case["area_preshrink_hw"];
        assert_eq!(shrink, recorded.is_array().then(|| pair(recorded)), "{name}: pre-shrink");
        samples.iter_mut().for_each(|s| s.shrink = shrink);
        let interpolation = Interpolation::Bilinear;
        let pass = Pass { height: oh, width: ow, padding, interpolation, align_corners, samples };
        let plan = Augment { passes: vec![pass], ..Default::default() };
        for dtype in [DType::F32, DType::F64] {
            let out = everywhere(&bytes_of(input), &plan, dtype);
            check_batch(&format!("{name}.out {dtype}"), &out, &file[&format!("{name}.out")], 1e-5);
        }
    }
}

#[test]
fn parity_crop_and_resize() {
    let (Some(json), Some(file)) = (common::json("data/batch_cases.json"), common::safetensors("data/rrc.safetensors"))
    else {
        return;
    };
    for case in json["rrc"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let input = &file[case["input"].as_str().unwrap()];
        let ((height, width), (top, left)) = (pair(&case["crop_hw"]), pair(&case["top_left_yx"]));
        let (oh, ow) = pair(&case["out_hw"]);
        let shrink = preshrink((height, width), (oh, ow), 1.0);
        let recorded = &case["area_preshrink_hw"];
        assert_eq!(shrink, recorded.is_array().then(|| pair(recorded)), "{name}: pre-shrink");
        let sample =
            Sample { crop: Some(Window { top, left, height, width }), theta: Sample::IDENTITY, warp: None, shrink };
        let pass = |(height, width), sample| Pass {
            height,
            width,
            padding: Padding::Reflection,
            interpolation: Interpolation::Bilinear,
            align_corners: true,
            samples: vec![sample; input.shape[0]],
        };
        let plan = Augment { passes: vec![pass((oh, ow), sample)], ..Default::default() };
        let out = everywhere(&bytes_of(input), &plan, DType::F32);
        check_batch(&format!("{name}.out"), &out, &file[&format!("{name}.out")], 1e-5);
        if let (Some(want), Some(to)) = (file.get(&format!("{name}.area")), shrink) {
            // A pass to the shrunk size samples every averaged pixel at its own centre.
            let plan = Augment { passes: vec![pass(to, sample)], ..Default::default() };
            let out = everywhere(&bytes_of(input), &plan, DType::F32);
            check_batch(&format!("{name}.area"), &out, want, 5e-6);
        }
    }
    for case in json["preshrink_sizes"].as_array().unwrap() {
        let (from, to) = (number(&case["size_in"]) as usize, number(&case["size_out"]) as usize);
        let want = case["preshrink_to"].as_u64().map(|s| (s as usize, s as usize));
        assert_eq!(preshrink((from, from), (to, to), 1.0), want, "{from} to {to}");
    }
}

#[test]
fn parity_lighting() {
    let Some(file) = common::safetensors("data/lighting.safetensors") else { return };
    let Some(manifest) = common::json("data/manifest.json") else { return };
    let x = &file["x"];
    // The draws stand in the description of each result: "brightness draws 0.42, 0.57".
    let draws = |name: &str| -> Vec<f32> {
        let entry = manifest["tensors"].as_array().unwrap().iter().find(|t| t["name"] == format!("{name}.out"));
        let text = entry.and_then(|t| t["desc"].as_str()).unwrap_or_default();
        text.split(&[' ', ','][..]).filter_map(|word| word.parse().ok()).collect()
    };
    let light = |brightness, contrast, saturation| Light { brightness, contrast, saturation };
    let of = |name: &str, make: &dyn Fn(f32) -> Light| draws(name).into_iter().map(make).collect::<Vec<_>>();
    let cases: [(&str, Vec<Light>); 4] = [
        ("brightness", of("brightness", &|b| light(b, 1.0, 1.0))),
        ("contrast", of("contrast", &|c| light(0.5, c, 1.0))),
        ("saturation", of("saturation", &|s| light(0.5, 1.0, s))),
        ("neutral", vec![Light::NEUTRAL; x.shape[0]]),
    ];
    // The recorded pictures are N, C, H, W; the functions work on pixels.
    let nhwc = Tensor::from_torch(&x.f32(), &x.shape, Device::Cpu).unwrap().to_vec::<f32>().unwrap();
    let picture = nhwc.len() / x.shape[0];
    let compare = |name: &str, pixels: Vec<f32>, tolerance: f64| {
        let Some(want) = file.get(&format!("{name}.out")) else { return };
        let got = Tensor::from_slice(&pixels, [x.shape[0], x.shape[2], x.shape[3], 3], Device::Cpu).unwrap();
        let got: Vec<f64> = got.to_nchw_vec::<f32>().unwrap().into_iter().map(f64::from).collect();
        check(name, &got, &want.f32(), tolerance);
    };
    for (name, lights) in cases {
        assert_eq!(lights.len(), x.shape[0], "{name}: a draw for each picture");
        let mut pixels = nhwc.clone();
        pixels.chunks_exact_mut(picture).zip(&lights).for_each(|(pixels, light)| relight(pixels, light));
        compare(name, pixels, 1e-5);
    }
    let shifts = draws("hue");
    assert_eq!(shifts.len(), x.shape[0]);
    let mut pixels = nhwc.clone();
    pixels.chunks_exact_mut(picture).zip(&shifts).for_each(|(pixels, shift)| shift_hue(pixels, *shift));
    compare("hue", pixels, 2e-5);
    let got: Vec<f64> = file["logit.in"].f32().into_iter().map(|v| logit(v).into()).collect();
    check("logit", &got, &file["logit.out"].f32(), 1e-4);
}

#[test]
fn parity_normalize() {
    let Some(file) = common::safetensors("data/normalize.safetensors") else { return };
    let u8s = &file["u8"];
    let bytes = Tensor::from_torch(&u8s.u8(), &u8s.shape, Device::Cpu).unwrap();
    let three = |name: &str| <[f32; 3]>::try_from(file[name].f32()).unwrap();
    let statistics = Statistics { mean: three("mean"), std: three("std") };
    let plain = everywhere(&bytes, &Augment::default(), DType::F32);
    check_batch("float", &plain, &file["float"], 1e-7);
    let plan = Augment { normalize: Some(statistics), ..Default::default() };
    check_batch("norm", &everywhere(&bytes, &plan, DType::F32), &file["norm"], 2e-6);
}

/// Both paths from the recorded pictures to the normalised batch, stage by stage.
#[test]
fn parity_whole_pipeline() {
    let (Some(json), Some(file), Some(images)) = (
        common::json("data/batch_cases.json"),
        common::safetensors("data/pipeline.safetensors"),
        common::safetensors("data/images.safetensors"),
    ) else {
        return;
    };
    for (run, case) in json["pipeline"].as_object().unwrap() {
        let side = number(&case["resize"]) as usize;
        let resize = Resize::new(side);
        let mut bytes = Vec::new();
        for (i, name) in case["images"].as_array().unwrap().iter().enumerate() {
            let image = &images[name.as_str().unwrap()];
            let picture = Picture { height: image.shape[0], width: image.shape[1], rgb: image.u8() };
            let (px, py) = (number(&case["pcts_xy"][i][0]), number(&case["pcts_xy"][i][1]));
            bytes.extend(resize.apply_at(picture, px, py).unwrap().rgb);
        }
        let n = bytes.len() / (side * side * 3);
        let batch = Tensor::from_slice(&bytes, [n, side, side, 3], Device::Cpu).unwrap();
        let recorded = &file[&format!("{run}.bytes")];
        assert_eq!(batch.to_nchw_vec::<u8>().unwrap(), recorded.u8(), "{run}.bytes");

        let (oh, _) = pair(&case["out_hw"]);
        let tfms = aug_transforms().size(oh).min_scale(0.75).normalize(IMAGENET_STATS);
        let ((height, width), (top, left)) = (pair(&case["crop_hw"]), pair(&case["top_left_yx"]));
        let names = ["flip", "rotate", "zoom", "zx", "zy", "wx", "wy"];
        let drawn: Option<Vec<Draws>> = case["draws"].is_object().then(|| {
            (0..n)
                .map(|i| Draws {
                    crop: Some(onecycle::vision::Crop { top, left, height, width }),
                    brightness: number(&case["draws"]["br"][i]),
                    contrast: number(&case["draws"]["ct"][i]),
                    ..draws(&case["draws"], i, names)
                })
                .collect()
        });
        if drawn.is_none() {
            let crop = valid_crop(side, side, (1.0, 1.0), 1.0);
            assert_eq!((crop.height, crop.width, crop.top, crop.left), (height, width, top, left), "{run}");
        }
        let plan = tfms.plan((side, side), n, drawn.as_deref());
        let stage = |name: &str, plan: &Augment, tolerance: f64| {
            let out = everywhere(&batch, plan, DType::F32);
            check_batch(&format!("{run}.{name}"), &out, &file[&format!("{run}.{name}")], tolerance);
        };
        let affine_passes = plan.passes.len() - 1; // none in validation, where fastai resamples in place
        let part = |passes: usize, lights: bool| Augment {
            passes: plan.passes[..passes].to_vec(),
            lights: if lights { plan.lights.clone() } else { Vec::new() },
            ..Augment::default()
        };
        stage("affine", &part(affine_passes, false), 1e-5);
        stage("crop", &part(plan.passes.len(), false), 1e-5);
        stage("light", &part(plan.passes.len(), true), 1e-5);
        stage("norm", &plan, 5e-5);
    }
}

#[test]
fn draws_follow_their_distributions() {
    use onecycle::data::{BatchDraws, BatchTransforms, Subset};
    let bytes = Tensor::full(128.0, [64, 8, 8, 3], DType::U8, Device::Cpu).unwrap();
    let items: Vec<usize> = (0..64).collect();
    let at = |epoch| BatchDraws { seed: 1, epoch, items: &items };
    let tfms = aug_transforms().size(8).min_scale(0.75);
    let run = |subset, epoch| tfms.apply(&bytes, subset, &at(epoch), DType::F32).unwrap().to_vec::<f32>().unwrap();
    assert_eq!(run(Subset::Train, 3), run(Subset::Train, 3), "one address, one result");
    assert_ne!(run(Subset::Train, 3), run(Subset::Train, 4));
    assert_eq!(run(Subset::Valid, 3), run(Subset::Valid, 4));
    // A grey picture shows its lighting: a quarter of a quarter stays exactly as it was, the rest spreads around it.
    let lit: Vec<f32> = (0..40).flat_map(|e| run(Subset::Train, e)).step_by(8 * 8 * 3).collect();
    let mean = lit.iter().sum::<f32>() / lit.len() as f32;
    assert!((mean - 128.0 / 255.0).abs() < 0.01, "{mean}");
    assert!(lit.iter().all(|v| (0.37..0.63).contains(v)));
    // The order of the batch doesn't matter: the item's address decides.
    let reversed: Vec<usize> = items.iter().rev().copied().collect();
    let back = BatchDraws { seed: 1, epoch: 3, items: &reversed };
    let other = tfms.apply(&bytes, Subset::Train, &back, DType::F32).unwrap().to_vec::<f32>().unwrap();
    let one = run(Subset::Train, 3);
    assert_eq!(one[..192], other[63 * 192..]);
}

#[test]
fn the_further_transforms_follow_their_rules() {
    use onecycle::data::{BatchDraws, BatchTransforms, Subset};
    use onecycle::vision::augment::RandomErasing;
    // A grey ramp: every place has a value of its own.
    let (n, side) = (16usize, 8usize);
    let bytes: Vec<u8> = (0..n * side * side).flat_map(|i| [(i % (side * side) * 4) as u8; 3]).collect();
    let bytes = Tensor::from_slice(&bytes, [n, side, side, 3], Device::Cpu).unwrap();
    let items: Vec<usize> = (0..n).collect();
    let run = |tfms: &onecycle::vision::AugTransforms, epoch| {
        let draws = BatchDraws { seed: 3, epoch, items: &items };
        tfms.apply(&bytes, Subset::Train, &draws, DType::F32).unwrap().to_vec::<f32>().unwrap()
    };
    let still = || aug_transforms().max_rotate(0.0).max_warp(0.0).max_lighting(0.0).zoom(1.0, 1.0).do_flip(false);
    let plain = run(&still(), 0);

    // The square's symmetries: pixels change places and nothing else. Of 16 x 20 pictures 7/16 are moved.
    let dihedral = still().do_flip(true).flip_vert(true);
    let sorted = |v: &[f32]| {
        let mut v: Vec<i32> = v.iter().map(|x| (x * 255.0).round() as i32).collect();
        v.sort_unstable();
        v
    };
    let mut moved = 0;
    for epoch in 0..20 {
        for (got, was) in run(&dihedral, epoch).chunks(side * side * 3).zip(plain.chunks(side * side * 3)) {
            assert_eq!(sorted(got), sorted(was));
            moved += usize::from(got.iter().zip(was).any(|(a, b)| (a - b).abs() > 1e-3));
        }
    }
    assert!((110..170).contains(&moved), "{moved} of 320 were moved, 140 are expected");

    // One set of draws for the whole batch.
    let batch = run(&aug_transforms().batch(true), 1);
    assert!(batch.chunks(side * side * 3).all(|picture| picture == &batch[..side * side * 3]));
    assert_ne!(run(&aug_transforms(), 1), batch);

    // Greys have no colour to strengthen and no hue to move. (fastai's weights of the channels sum to 0.9999.)
    let coloured = run(&still().saturation(0.5).hue(0.3), 2);
    assert!(coloured.iter().zip(&plain).all(|(a, b)| (a - b).abs() < 2e-4));

    // Boxes: at the same places in all pictures, in half of the batches, of 15 % of the area on average, filled with normal noise.
    let erasing = still().random_erasing(RandomErasing::default());
    let (mut batches, mut share, mut noise) = (0, 0.0, Vec::new());
    for epoch in 0..200 {
        let got = run(&erasing, epoch);
        let changed: Vec<bool> = got.iter().zip(&plain).map(|(a, b)| a != b).collect();
        assert!(changed.chunks(side * side * 3).all(|picture| picture == &changed[..side * side * 3]), "{epoch}");
        let count = changed.iter().filter(|c| **c).count();
        batches += usize::from(count > 0);
        share += count as f64 / changed.len() as f64;
        noise.extend(got.iter().zip(&changed).filter(|(_, c)| **c).map(|(v, _)| f64::from(*v)));
    }
    assert!((75..125).contains(&batches), "{batches} of 200 batches");
    assert!((0.1..0.2).contains(&(share / batches as f64)), "{}", share / batches as f64);
    let mean = noise.iter().sum::<f64>() / noise.len() as f64;
    let variance = noise.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / noise.len() as f64;
    assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
    // None of this touches validation.
    let draws = BatchDraws { seed: 3, epoch: 0, items: &items };
    let all =
        still().random_erasing(RandomErasing { p: 1.0, ..RandomErasing::default() }).saturation(0.5).flip_vert(true);
    let valid = all.apply(&bytes, Subset::Valid, &draws, DType::F32).unwrap().to_vec::<f32>().unwrap();
    assert!(valid.iter().zip(&plain).all(|(a, b)| (a - b).abs() < 1e-5));

    // The settings survive an export.
    let described = all.settings();
    assert_eq!(onecycle::vision::AugTransforms::from_settings(&described).unwrap(), all);
}
