//! Training on a GPU's kernels and host code, in the emulator (and on a GPU where there is one): the same losses as the processor,
//! the same bits twice, half precision, nothing that waits inside a step, and memory that runs out politely.

mod common;

use common::emulated::{self, Mode};
use onecycle::autograd::backward;
use onecycle::learner::Learner;
use onecycle::nn::{Arch, Context, HeadOptions, Module, Sequential, create_head};
use onecycle::ops::cross_entropy::CrossEntropy;
use onecycle::ops::ladder::Rung;
use onecycle::optim::{Optimizer, OptimizerKind};
use onecycle::prelude::*;
use onecycle::rng::{Purpose, Rng};
use onecycle::{DType, Device, ErrorKind, Tensor, ops};
use std::path::Path;

/// A ResNet with one thin block a stage, and fastai's head.
fn tiny() -> Arch {
    Arch { name: "tiny".into(), bottleneck: false, blocks: [1, 1, 1, 1], widths: [8, 8, 12, 20] }
}

fn network(ps: f64) -> Sequential {
    let head = create_head(tiny().features(), 3, &HeadOptions { lin_ftrs: vec![24], ps });
    let model = Sequential::new().push(tiny().body()).push(head);
    model.init_with(3).unwrap();
    model
}

/// 20 steps on stripes of three directions: the losses, and the weights at the end.
fn twenty_steps(kind: OptimizerKind, device: Device, dtype: DType) -> (Vec<f64>, Vec<Vec<f64>>) {
    let model = network(if kind == OptimizerKind::Sgd { 0.0 } else { 0.5 });
    model.to_device(device).unwrap();
    let mut opt = Optimizer::new(kind, onecycle::nn::resnet::param_groups(&model), false, true);
    match kind {
        OptimizerKind::Sgd => opt.set(|_, h| (h.lr, h.mom) = (1e-4, 0.9)),
        _ => opt.set(|_, h| h.lr = 3e-3),
    }
    let mut losses = Vec::new();
    for step in 0..20 {
        let mut rng = Rng::at(9, Purpose::Picture, step, 0);
        let (n, side) = (9, 25);
        let mut pixels = Vec::new();
        for i in 0..n {
            for p in 0..side * side {
                let (y, x) = (p / side, p % side);
                let stripe = [x, y, x + y][i % 3] % 4 < 2;
                pixels.extend((0..3).map(|_| f32::from(u8::from(stripe)) - 0.5 + rng.range(-0.2, 0.2) as f32));
            }
        }
        let x = Tensor::from_slice(&pixels, [n, side, side, 3], device).unwrap().cast(dtype).unwrap();
        let y: Vec<i64> = (0..n as i64).map(|i| i % 3).collect();
        let y = Tensor::from_slice(&y, [n], device).unwrap();
        let logits = model.forward(&x, &Context::train(5, step)).unwrap();
        let loss = ops::cross_entropy(&logits, &y, &CrossEntropy::default()).unwrap();
        losses.push(loss.read_back().unwrap());
        backward(&loss).unwrap();
        opt.step().unwrap();
    }
    let losses = losses.into_iter().map(|l| l.wait().unwrap()).collect();
    (losses, model.state().iter().map(|(_, entry)| entry.value().to_f64_vec().unwrap()).collect())
}

/// Devices under test: the emulator in a mode, and every GPU.
fn devices(mode: Mode) -> Vec<Device> {
    emulated::device(mode).into_iter().chain(common::gpus()).collect()
}

#[test]
fn emulator_learns_as_the_processor_does() {
    let _ladder = emulated::ladder();
    // SGD: Adam divides by the gradient's size, and so makes a full step of the rounding of a gradient that is nearly zero.
    let (want, _) = twenty_steps(OptimizerKind::Sgd, Device::Cpu, DType::F32);
    assert!(want[19] < 0.7 * want[0], "it doesn't learn: {want:?}");
    for device in devices(Mode::Plain) {
        let (got, _) = twenty_steps(OptimizerKind::Sgd, device, DType::F32);
        for (step, (g, w)) in got.iter().zip(&want).enumerate() {
            println!("{device}, step {step}: {g:.7}, on the processor {w:.7}");
            // Training makes more of every rounding: the processor's own f64 run is 4e-3 away at the end.
            assert!((g - w).abs() < 1e-4 * 1.2f64.powi(step as i32), "{device}, step {step}: {g} for {w}");
        }
    }
}

#[test]
fn emulator_trains_to_the_same_bits_twice() {
    let _ladder = emulated::ladder();
    for dtype in [DType::F32, DType::BF16] {
        let mut seen: Option<(Vec<f64>, Vec<Vec<f64>>)> = None;
        // A GPU is compared with itself only, the emulator also with its other orders of threads.
        for mode in [Mode::Plain, Mode::Plain, Mode::ReverseLate] {
            let Some(device) = emulated::device(mode) else { break };
            let run = twenty_steps(OptimizerKind::Adam, device, dtype);
            match &seen {
                Some(first) => assert!(*first == run, "{dtype}: other bits in {mode:?}"),
                None => seen = Some(run),
            }
        }
        for gpu in common::gpus() {
            let run = || twenty_steps(OptimizerKind::Adam, gpu, dtype);
            assert!(run() == run(), "{dtype}: other bits on {gpu}");
        }
    }
}

#[test]
fn emulator_learns_in_half_precision() {
    let _ladder = emulated::ladder();
    let (want, _) = twenty_steps(OptimizerKind::Sgd, Device::Cpu, DType::F32);
    for device in devices(Mode::Plain) {
        for (dtype, near) in [(DType::BF16, 0.06), (DType::F16, 0.01)] {
            let (got, _) = twenty_steps(OptimizerKind::Sgd, device, dtype);
            assert!((got[0] - want[0]).abs() < near, "{dtype}, first loss: {} for {}", got[0], want[0]);
            assert!(got[19] < 0.8 * got[0], "{dtype} doesn't learn: {got:?}");
        }
    }
}

/// A whole network on the fused rung: whatever a step does, its notes on tensors reach the right norms.
#[test]
fn emulator_learns_fused() {
    for device in devices(Mode::Plain) {
        for dtype in [DType::BF16, DType::F16] {
            let at = |rung| emulated::at_rung(rung, || twenty_steps(OptimizerKind::Sgd, device, dtype).0);
            let (tensor, fused) = (at(Rung::TensorCores), at(Rung::Fused));
            for (step, (f, t)) in fused.iter().zip(&tensor).enumerate() {
                println!("{device} in {dtype}, step {step}: {f:.5} fused, {t:.5} not");
                // Later, training makes more of every last bit.
                assert!(
                    step >= 6 || (f - t).abs() < 0.01 * 2f64.powi(step as i32),
                    "{device} in {dtype}, step {step}: {f} for {t}"
                );
            }
            assert!(fused[19] < 0.8 * fused[0], "{dtype} doesn't learn: {fused:?}");
        }
    }
}

#[test]
fn emulator_trains_fused_to_the_same_bits_twice() {
    let mut seen: Option<(Vec<f64>, Vec<Vec<f64>>)> = None;
    for mode in [Mode::Plain, Mode::Plain, Mode::ReverseLate] {
        let Some(device) = emulated::device(mode) else { break };
        let run = emulated::at_rung(Rung::Fused, || twenty_steps(OptimizerKind::Adam, device, DType::BF16));
        match &seen {
            Some(first) => assert!(*first == run, "other bits in {mode:?}"),
            None => seen = Some(run),
        }
    }
    for gpu in common::gpus() {
        let run = || emulated::at_rung(Rung::Fused, || twenty_steps(OptimizerKind::Adam, gpu, DType::BF16));
        assert!(run() == run(), "other bits on {gpu}");
    }
}

/// Pictures of one colour each, with noise.
fn colours(dir: &Path) {
    let mut rng = Rng::at(5, Purpose::Picture, 0, 0);
    for (class, rgb) in [("red", [200u8, 40, 40]), ("green", [40, 200, 40]), ("blue", [40, 40, 200])] {
        for i in 0..8 {
            let pixels: Vec<u8> =
                (0..20 * 24).flat_map(|_| rgb.map(|v| v.saturating_add(rng.below(50) as u8))).collect();
            image::RgbImage::from_raw(24, 20, pixels).unwrap().save(dir.join(format!("{class}_{i}.png"))).unwrap();
        }
    }
}

fn learner(dir: &Path) -> Learner {
    let dls = DataBlock::new((ImageBlock, CategoryBlock))
        .get_items(get_image_files)
        .get_y(using_attr(RegexLabeller::new(r"(.+)_\d+.png$").unwrap(), "name"))
        .splitter(RandomSplitter::seed(42))
        .item_tfms(Resize::new(20))
        .batch_tfms(aug_transforms().size(16).min_scale(0.75).normalize(IMAGENET_STATS))
        .bs(6)
        .seed(1)
        .dataloaders(dir)
        .unwrap();
    let mut learn = vision_learner(&dls, tiny).unwrap().metrics(error_rate).metrics(accuracy);
    learn.remove_cb("ProgressCallback");
    learn
}

fn fitted(dir: &Path, device: Device, half: bool) -> Learner {
    let mut learn = learner(dir).to_device(device).unwrap();
    if half {
        learn = learn.to_bf16().unwrap();
    }
    // A small rate, so that rounding stays small too.
    learn.fit_one_cycle(3, 1e-4).unwrap();
    learn
}

#[test]
fn emulator_runs_a_whole_learner() {
    let _ladder = emulated::ladder();
    let dir = tempfile::tempdir().unwrap();
    colours(dir.path());
    let want = fitted(dir.path(), Device::Cpu, false);
    for device in devices(Mode::Plain) {
        let got = fitted(dir.path(), device, false);
        assert_eq!(got.recorder().losses().len(), want.recorder().losses().len(), "every loss arrives in the end");
        for (g, w) in got.recorder().losses().iter().zip(want.recorder().losses()) {
            assert!((g - w).abs() < 2e-3, "{g} for {w}");
        }
        let (row, wanted) = (&got.recorder().rows()[0], &want.recorder().rows()[0]);
        for name in ["train_loss", "valid_loss"] {
            let (g, w) = (row.get(name).unwrap(), wanted.get(name).unwrap());
            assert!((g - w).abs() < 1e-3, "{name}: {g} for {w}");
        }
        assert_eq!(row.get("error_rate").map(|e| (1.0 - e) * 1e6), row.get("accuracy").map(|a| a * 1e6));
        // What leaves the device is what the processor reads.
        let file = dir.path().join("model.safetensors");
        got.export(&file).unwrap();
        let there = got.get_preds().unwrap();
        let here = onecycle::learner::load_learner(&file).unwrap().to_device(Device::Cpu).unwrap();
        let here = here.predictions(there.paths.clone(), Some(there.targets.clone()), 4).unwrap();
        for (a, b) in here.probabilities.concat().iter().zip(there.probabilities.concat()) {
            assert!((a - b).abs() < 1e-4, "{a} for {b}");
        }
        let half = fitted(dir.path(), device, true);
        assert!(half.recorder().losses().iter().all(|l| l.is_finite()));
    }
}

#[test]
fn emulator_keeps_pictures_on_the_device() {
    let _ladder = emulated::ladder();
    let dir = tempfile::tempdir().unwrap();
    colours(dir.path());
    let Some((device, watch)) = emulated::watched(usize::MAX, Mode::Plain) else { return };
    let mut kept = learner(dir.path()).to_device(device).unwrap().cache_on_gpu(true);
    let mut plain = learner(dir.path()).to_device(device).unwrap();
    // These pictures have nothing to crop away but a strip: the first epoch's draws are those of an uncached run.
    kept.fit(1, 1e-4).unwrap();
    plain.fit(1, 1e-4).unwrap();
    assert_eq!(kept.recorder().losses(), plain.recorder().losses());
    // The first epoch dropped its last short batch; after the second everything is there.
    kept.fit(1, 1e-4).unwrap();
    kept.fit(1, 1e-4).unwrap();
    let before = watch.counts().uploads_on_copy_stream;
    kept.fit(2, 1e-4).unwrap();
    assert_eq!(watch.counts().uploads_on_copy_stream, before, "nothing travels any more");
    assert!(kept.recorder().losses().iter().all(|l| l.is_finite()));
    assert_eq!(kept.cache_refused(), None);

    // Where they don't fit, training goes on as it would have, and the learner says why. All memory that was ever asked for is more than
    // is needed at once where steps have a plan of it, so they have none here.
    let unplanned = |device| {
        if let Device::Cuda(gpu) = device {
            gpu.use_graphs(false)
        }
    };
    let Some((large, watch)) = emulated::watched(usize::MAX, Mode::Plain) else { return };
    unplanned(large);
    learner(dir.path()).to_device(large).unwrap().fit(1, 1e-4).unwrap();
    let enough = watch.counts().allocated_bytes as usize + 20_000;
    let Some((small, _)) = emulated::watched(enough, Mode::Plain) else { return };
    unplanned(small);
    let mut refused = learner(dir.path()).to_device(small).unwrap();
    refused.fit(1, 1e-4).unwrap();
    refused = refused.cache_on_gpu(true);
    refused.fit(1, 1e-4).unwrap();
    let why = refused.cache_refused().unwrap();
    assert!(why.contains("MiB"), "{why}");
}

/// A training step gives work and goes on. Only the loss of the step before may be waited for.
#[test]
fn emulator_sees_no_waiting_inside_a_step() {
    let _ladder = emulated::ladder();
    let dir = tempfile::tempdir().unwrap();
    colours(dir.path());
    let Some((device, watch)) = emulated::watched(usize::MAX, Mode::Plain) else { return };
    let mut learn = learner(dir.path()).to_device(device).unwrap();
    learn.fit(1, 1e-3).unwrap();
    let before = watch.counts();
    learn.fit(1, 1e-3).unwrap();
    let after = watch.counts();
    let steps = learn.dls().train.len() as u64;
    let validation = learn.dls().valid.len() as u64 * 3; // loss and two metrics
    let waits = after.synchronized - before.synchronized;
    assert!(waits <= steps + validation, "{waits} waits in {steps} steps");
    assert_eq!(after.allocated, before.allocated, "a second epoch needs no new memory from the driver");
    assert!(after.uploads_on_copy_stream - before.uploads_on_copy_stream >= steps, "batches travel on the copy stream");
}

#[test]
fn emulator_out_of_memory_is_an_error() {
    let _ladder = emulated::ladder();
    let Some((device, _)) = emulated::watched(1 << 20, Mode::Plain) else { return };
    let e = Tensor::zeros([1 << 20], DType::F32, device).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::OutOfMemory);
    let text = e.to_string();
    assert!(text.contains("4.0 MiB") && text.contains("--bs"), "{text}");
    // The device still works, and freed memory that was kept is given back before a request fails.
    let small: Vec<Tensor> = (0..3).map(|_| Tensor::zeros([1 << 16], DType::F32, device).unwrap()).collect();
    drop(small);
    let large = Tensor::full(1.0, [200_000], DType::F32, device).unwrap();
    assert_eq!(large.to_vec::<f32>().unwrap()[199_999], 1.0);
    let dir = tempfile::tempdir().unwrap();
    colours(dir.path());
    let Some((device, _)) = emulated::watched(400_000, Mode::Plain) else { return };
    let mut learn = learner(dir.path()).to_device(device).unwrap();
    let e = learn.fit(1, 1e-3).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::OutOfMemory, "{e}");
    let text = e.to_string();
    let about: usize = text
        .split("about ")
        .nth(1)
        .and_then(|t| t.split(' ').next())
        .unwrap()
        .parse()
        .unwrap_or_else(|_| panic!("{text}"));
    assert!((2..6).contains(&about), "{text}");
}

/// Structs that go to kernels by value are laid out alike on both sides, and none is missing on either.
#[test]
fn emulator_and_rust_agree_on_layouts() {
    let _ladder = emulated::ladder();
    if emulated::device(Mode::Plain).is_none() {
        return;
    }
    let mut theirs = onecycle_emulator::layouts();
    let mut ours = onecycle::ops::kernel_layouts();
    theirs.sort_by(|a, b| a.name.cmp(&b.name));
    ours.sort_by(|a, b| a.name.cmp(b.name));
    let names = |v: &[onecycle_emulator::Layout]| v.iter().map(|l| l.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&theirs), ours.iter().map(|l| l.name.to_string()).collect::<Vec<_>>());
    for (theirs, ours) in theirs.iter().zip(&ours) {
        assert_eq!((theirs.size, theirs.align), (ours.size, ours.align), "{}", ours.name);
        let fields: Vec<(String, usize)> = ours.fields.iter().map(|(n, o)| (n.to_string(), *o)).collect();
        assert_eq!(theirs.fields, fields, "{}", ours.name);
    }
}
