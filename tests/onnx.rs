//! Networks as ONNX files: written whole, read by another runtime, and its answers are ours (`scripts/check_onnx.py` asks it).

mod common;

use common::colours::{colours, loaders};
use onecycle::learner::vision_learner_on;
use onecycle::nn::{Arch, Context, Module, safetensors};
use onecycle::prelude::*;
use onecycle::rng::{Purpose, Rng};
use onecycle::{autograd, learner::Learner};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

type Make = fn() -> Arch;

/// Weights, statistics and biases that are no network's first ones, so that every constant counts.
fn scramble(learn: &Learner) {
    for (i, (name, entry)) in learn.model().state().into_iter().enumerate() {
        let mut rng = Rng::at(9, Purpose::Init, 0, i as u64);
        let mut some = |low: f64, high: f64| low + (high - low) * rng.uniform();
        let value = entry.value();
        let numbers: Vec<f64> = match name.rsplit('.').next().unwrap() {
            "running_mean" => (0..value.numel()).map(|_| some(-0.3, 0.3)).collect(),
            "running_var" => (0..value.numel()).map(|_| some(0.5, 1.5)).collect(),
            _ if value.shape().len() == 1 => (0..value.numel()).map(|_| some(0.2, 0.6)).collect(),
            _ => continue,
        };
        let numbers: Vec<f32> = numbers.into_iter().map(|v| v as f32).collect();
        entry.set(Tensor::from_slice(&numbers, value.shape().to_vec(), Device::Cpu).unwrap()).unwrap();
    }
}

/// The file, and beside it pictures `x` [N, 3, H, W] in 0..1 with our `logits`.
fn write(folder: &Path, name: &str, learn: &Learner, size: [usize; 3]) {
    let path = folder.join(format!("{name}.onnx"));
    learn.export_onnx(&path).unwrap();
    let [n, h, w] = size;
    let mut rng = Rng::at(4, Purpose::Picture, 0, 0);
    let pixels: Vec<f32> = (0..n * h * w * 3).map(|_| rng.uniform() as f32).collect();
    let s = IMAGENET_STATS;
    let normal: Vec<f32> = pixels.iter().enumerate().map(|(i, v)| (v - s.mean[i % 3]) / s.std[i % 3]).collect();
    let x = Tensor::from_slice(&normal, [n, h, w, 3], Device::Cpu).unwrap();
    let logits = autograd::no_grad(|| learn.model().forward(&x, &Context::eval())).unwrap();
    let x = Tensor::from_slice(&pixels, [n, h, w, 3], Device::Cpu).unwrap();
    let beside = folder.join(format!("{name}.safetensors"));
    safetensors::write(&beside, &[("x".into(), x), ("logits".into(), logits)], &BTreeMap::new()).unwrap();
}

/// With `ONECYCLE_ONNX` the files stay in that folder, for another runtime.
#[test]
fn networks_of_all_kinds_are_written() {
    let dir = tempfile::tempdir().unwrap();
    colours(dir.path(), 4);
    let folder = std::env::var_os("ONECYCLE_ONNX").map_or(dir.path().to_owned(), PathBuf::from);
    fn thin() -> Arch {
        Arch { name: "thin".into(), bottleneck: true, blocks: [1, 2, 1, 1], widths: [4, 8, 8, 8] }
    }
    let nets: [(Make, [usize; 3]); 4] =
        [(thin, [1, 40, 56]), (resnet18, [3, 64, 64]), (resnet34, [2, 96, 64]), (resnet50, [2, 64, 64])];
    for (arch, size) in nets {
        let mut learn = vision_learner_on(&loaders(dir.path(), 1, 1), arch, Device::Cpu).unwrap();
        learn.remove_cb("ProgressCallback");
        scramble(&learn);
        let name = learn.arch().name.clone();
        write(&folder, &name, &learn, size);

        // The exported model's network is the same file.
        let (model, again) = (dir.path().join("model.safetensors"), dir.path().join("again.onnx"));
        learn.export(&model).unwrap();
        load_learner(&model).unwrap().export_onnx(&again).unwrap();
        let bytes = std::fs::read(folder.join(format!("{name}.onnx"))).unwrap();
        assert!(bytes == std::fs::read(&again).unwrap(), "{name}");
        let weights: usize = learn
            .model()
            .state()
            .iter()
            .map(|(_, e)| e.value())
            .filter(|t| t.dtype().is_float())
            .map(|t| 4 * t.numel())
            .sum();
        assert!(bytes.len() > weights && bytes.len() < weights + 60_000, "{name}: {} bytes for {weights}", bytes.len());
    }
}

#[test]
fn a_place_that_can_not_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    colours(dir.path(), 4);
    let learn = common::colours::learner(&loaders(dir.path(), 1, 1));
    let e = learn.export_onnx(dir.path().join("nowhere/model.onnx")).unwrap_err();
    assert!(e.kind() == ErrorKind::Io && e.to_string().contains("model.onnx"), "{e}");
}
