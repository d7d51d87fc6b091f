//! Operations against values recorded from PyTorch, forward and backward, on every device and float type.
//!
//! The recordings (`tests/fixtures/training`, described in its README) were computed in float64 from inputs that are exact in
//! float32; so both types are compared with the same numbers, f64 far more tightly than the file's own rounding allows.

mod common;

use common::{Recorded, kinds};
use onecycle::autograd::{GradSlot, backward_with};
use onecycle::ops::batch_norm::BatchNorm;
use onecycle::ops::cross_entropy::{CrossEntropy, cross_entropy_per_item};
use onecycle::ops::optimizer_step::{Rule, State, Step, optimizer_step};
use onecycle::ops::pointwise_loss::{Pointwise, pointwise_loss_per_item};
use onecycle::{DType, Device, Tensor, ops};
use std::collections::HashMap;
use std::sync::Arc;

struct Case<'a> {
    file: &'a HashMap<String, Recorded>,
    name: &'a str,
    device: Device,
    dtype: DType,
    slots: HashMap<String, (Arc<GradSlot>, Tensor)>,
}

impl<'a> Case<'a> {
    fn new(file: &'a HashMap<String, Recorded>, name: &'a str, (device, dtype): (Device, DType)) -> Case<'a> {
        Case { file, name, device, dtype, slots: HashMap::new() }
    }

    fn has(&self, part: &str) -> bool {
        self.file.contains_key(&format!("{}.{part}", self.name))
    }

    fn recorded(&self, part: &str) -> &'a Recorded {
        let name = format!("{}.{part}", self.name);
        self.file.get(&name).unwrap_or_else(|| panic!("the file has no {name}"))
    }

    fn tensor(&self, part: &str) -> Tensor {
        let r = self.recorded(part);
        match r.dtype.as_str() {
            "I64" => Tensor::from_slice(&r.i64(), r.shape.clone(), self.device).unwrap(),
            _ => Tensor::from_torch(&r.f32(), &r.shape, self.device).unwrap().cast(self.dtype).unwrap(),
        }
    }

    /// The tensor as a leaf whose gradient [`Case::check_grad`] looks at.
    fn leaf(&mut self, part: &str) -> Tensor {
        let slot = GradSlot::new();
        let leaf = slot.leaf(&self.tensor(part));
        self.slots.insert(part.into(), (slot, leaf.clone()));
        leaf
    }

    fn check(&self, part: &str, got: &Tensor, tolerance: f64) {
        let want = self.recorded(part).f32();
        let got = got.to(Device::Cpu).unwrap().cast(DType::F64).unwrap().to_nchw_vec::<f64>().unwrap();
        assert_eq!(got.len(), want.len(), "{} {part}", self.name);
        for (i, (g, &w)) in got.iter().zip(&want).enumerate() {
            let off = (g - f64::from(w)).abs();
            assert!(
                off <= tolerance,
                "{}.{part}[{i}] {} {}: {g} for {w}, off by {off:.1e}",
                self.name,
                self.device,
                self.dtype
            );
        }
    }

    fn check_grad(&self, leaf: &str, part: &str, tolerance: f64) {
        let grad = self.slots[leaf].0.get().unwrap_or_else(|| panic!("{} has no gradient for {leaf}", self.name));
        self.check(part, &grad, tolerance);
    }

    fn backward(&self, y: &Tensor) {
        backward_with(y, self.tensor("dy")).unwrap();
    }
}

/// Names of the cases in a layer file: what stands before `.x`.
fn case_names(file: &HashMap<String, Recorded>) -> Vec<String> {
    let mut names: Vec<String> = file.keys().filter_map(|k| k.strip_suffix(".x")).map(String::from).collect();
    names.sort();
    names
}

#[test]
fn conv2d_parity() {
    let (Some(file), Some(json)) =
        (common::safetensors("training/conv2d.safetensors"), common::json("training/conv2d.json"))
    else {
        return;
    };
    for spec in json["cases"].as_array().unwrap() {
        let number = |key: &str| spec[key].as_u64().unwrap() as usize;
        for kind in kinds() {
            let mut case = Case::new(&file, spec["name"].as_str().unwrap(), kind);
            let (x, w) = (case.leaf("x"), case.leaf("param.weight"));
            let bias = case.has("param.bias").then(|| case.leaf("param.bias"));
            let y = ops::conv2d(&x, &w, bias.as_ref(), [number("stride"); 2], [number("padding"); 2]).unwrap();
            case.check("y", &y, 3e-5);
            case.backward(&y);
            case.check_grad("x", "dx", 3e-5);
            case.check_grad("param.weight", "grad.weight", 3e-5);
            if bias.is_some() {
                case.check_grad("param.bias", "grad.bias", 3e-5);
            }
        }
    }
}

#[test]
fn batch_norm_parity() {
    let Some(file) = common::safetensors("training/batchnorm.safetensors") else { return };
    for name in case_names(&file) {
        for kind in kinds() {
            let mut case = Case::new(&file, &name, kind);
            let tolerance = if name.contains("const") { 1e-4 } else { 1e-5 };
            let (mut mean, mut var) = (case.tensor("param.running_mean"), case.tensor("param.running_var"));
            let (x, weight, bias) = (case.leaf("x"), case.leaf("param.weight"), case.leaf("param.bias"));
            let training = !name.ends_with(".eval");
            let args = BatchNorm {
                weight: &weight,
                bias: &bias,
                running_mean: &mut mean,
                running_var: &mut var,
                eps: 1e-5,
                momentum: if name.contains("m01") { 0.01 } else { 0.1 },
                training,
                residual: None,
                relu: false,
            };
            let y = ops::batch_norm(&x, args).unwrap();
            case.check("y", &y, tolerance);
            if training {
                case.check("after.running_mean", &mean, tolerance);
                case.check("after.running_var", &var, tolerance);
            }
            case.backward(&y);
            case.check_grad("x", "dx", tolerance);
            case.check_grad("param.weight", "grad.weight", tolerance);
            case.check_grad("param.bias", "grad.bias", tolerance);
        }
    }
}

#[test]
fn pool_parity() {
    let Some(file) = common::safetensors("training/pool.safetensors") else { return };
    for name in case_names(&file) {
        for kind in kinds() {
            let mut case = Case::new(&file, &name, kind);
            let x = case.leaf("x");
            if name.starts_with("max3s2p1") {
                let y = ops::max_pool(&x, 3, 2, 1).unwrap();
                case.check("y", &y, 0.0);
                case.backward(&y);
            } else if name.starts_with("concat_pool") {
                let y = ops::concat_pool(&x).unwrap();
                case.check("y", &y, 1e-6);
                case.backward(&y);
            } else {
                // The plain global average is the second half of our pool; its gradient comes with a first half of zeros.
                let y = ops::concat_pool(&x).unwrap();
                let (half, numbers) = (y.numel() / 2 / y.shape()[0], y.to_f64_vec().unwrap());
                let second = |v: &[f64]| v.chunks(2 * half).flat_map(|row| row[half..].to_vec()).collect::<Vec<f64>>();
                let average = Tensor::from_slice(&second(&numbers), [y.shape()[0], half], Device::Cpu).unwrap();
                case.check("y", &average, 1e-6);
                let dy = case.tensor("dy").to_f64_vec().unwrap();
                let dy: Vec<f64> = dy.chunks(half).flat_map(|row| [vec![0.0; half], row.to_vec()].concat()).collect();
                let dy = Tensor::from_slice(&dy, y.shape(), Device::Cpu).unwrap().cast(kind.1).unwrap();
                backward_with(&y, dy.to(kind.0).unwrap()).unwrap();
            }
            case.check_grad("x", "dx", 1e-6);
        }
    }
}

#[test]
fn linear_relu_dropout_parity() {
    let Some(file) = common::safetensors("training/dense.safetensors") else { return };
    for kind in kinds() {
        for name in ["linear_nobias", "linear_bias"] {
            let mut case = Case::new(&file, name, kind);
            let (x, w) = (case.leaf("x"), case.leaf("param.weight"));
            let bias = case.has("param.bias").then(|| case.leaf("param.bias"));
            let y = ops::linear(&x, &w, bias.as_ref()).unwrap();
            case.check("y", &y, 1e-5);
            case.backward(&y);
            case.check_grad("x", "dx", 1e-5);
            case.check_grad("param.weight", "grad.weight", 1e-5);
            if bias.is_some() {
                case.check_grad("param.bias", "grad.bias", 1e-5);
            }
        }
        let mut case = Case::new(&file, "relu", kind);
        let y = ops::relu(&case.leaf("x")).unwrap();
        case.check("y", &y, 0.0);
        case.backward(&y);
        case.check_grad("x", "dx", 0.0);

        let mut case = Case::new(&file, "dropout", kind);
        let x = case.leaf("x");
        let p = f64::from(case.recorded("p").f32()[0]);
        let mask = case.tensor("mask").cast(DType::U8).unwrap();
        let y = ops::dropout::dropout_with(&x, p, &mask).unwrap();
        case.check("y", &y, 1e-6);
        case.backward(&y);
        case.check_grad("x", "dx", 1e-6);
    }
}

#[test]
fn cross_entropy_parity() {
    let Some(file) = common::safetensors("training/losses.safetensors") else { return };
    let mut names: Vec<&str> = file.keys().filter_map(|k| k.strip_suffix(".logits")).collect();
    names.sort_unstable();
    for name in names {
        if name == "mixup" {
            continue; // of two targets: below
        }
        for kind in kinds() {
            let mut case = Case::new(&file, name, kind);
            let options = CrossEntropy {
                class_weights: case
                    .has("weight")
                    .then(|| case.recorded("weight").f32().iter().map(|&w| w.into()).collect()),
                label_smoothing: if name.starts_with("label_smoothing") { 0.1 } else { 0.0 },
                ..Default::default()
            };
            let (logits, targets) = (case.leaf("logits"), case.tensor("target"));
            let loss = ops::cross_entropy(&logits, &targets, &options).unwrap();
            case.check("loss", &loss, if name == "ce_large" { 1e-4 } else { 1e-6 });
            onecycle::autograd::backward(&loss).unwrap();
            case.check_grad("logits", "dlogits", 1e-6);
            if case.has("per_item") {
                let plain = case.tensor("logits");
                let each = cross_entropy_per_item(&plain, &targets, &options).unwrap();
                case.check("per_item", &Tensor::from_slice(&each, [each.len()], Device::Cpu).unwrap(), 1e-6);
                case.check("softmax", &ops::softmax(&plain).unwrap(), 1e-6);
            }
        }
    }
}

/// MixUp's loss: each picture counts for its own class, and for that of the picture mixed into it.
#[test]
fn mixup_loss_parity() {
    let Some(file) = common::safetensors("training/losses.safetensors") else { return };
    for kind in kinds() {
        let mut case = Case::new(&file, "mixup", kind);
        let (logits, targets) = (case.leaf("logits"), case.recorded("target").i64());
        let (lam, perm) = (case.recorded("lam").f32(), case.recorded("perm").i64());
        let mixed: Vec<i64> = perm.iter().map(|&p| targets[p as usize]).collect();
        let on = |t: Tensor| t.to(kind.0).unwrap();
        let ints = |all: &[i64]| on(Tensor::from_slice(all, [all.len()], Device::Cpu).unwrap());
        let floats = |all: Vec<f32>| {
            let t = Tensor::from_slice(&all, [all.len()], Device::Cpu).unwrap();
            on(t.cast(kind.1.master()).unwrap())
        };
        let (own, other) = (floats(lam.clone()), floats(lam.iter().map(|l| 1.0 - l).collect()));
        let o = CrossEntropy::default();
        let a = ops::weighted_cross_entropy(&logits, &ints(&targets), &own, &o).unwrap();
        let b = ops::weighted_cross_entropy(&logits, &ints(&mixed), &other, &o).unwrap();
        let loss = ops::add(&a, &b).unwrap();
        case.check("loss", &loss, 1e-6);
        onecycle::autograd::backward(&loss).unwrap();
        case.check_grad("logits", "dlogits", 1e-6);
    }
}

/// The losses that PyTorch's and fastai's own code was asked for: see record_losses.py beside the fixture.
#[test]
fn other_losses_parity() {
    let Some(file) = common::safetensors("training/losses_more.safetensors") else { return };
    let mut names: Vec<&str> = file.keys().filter_map(|k| k.strip_suffix(".x")).collect();
    names.sort_unstable();
    assert_eq!(names.len(), 13);
    for (name, kind) in names.iter().flat_map(|name| kinds().into_iter().map(move |kind| (*name, kind))) {
        let mut case = Case::new(&file, name, kind);
        let floats = |part: &str| case.has(part).then(|| case.recorded(part).f32().iter().map(|&w| w.into()).collect());
        let (weight, pos_weight) = (floats("weight"), floats("pos_weight"));
        let (x, target) = (case.leaf("x"), case.tensor("target"));
        let (loss, each) = if name.starts_with("focal") || name.starts_with("ce_") {
            let gamma = if name == "focal_gamma_0.5" { 0.5 } else { 2.0 };
            let focal_gamma = name.starts_with("focal").then_some(gamma);
            // ignore_index and label_smoothing, all in one with the weights: the divisor is PyTorch's too.
            let options = if case.has("options") { case.recorded("options").f32() } else { vec![-100.0, 0.0] };
            let (ignore_index, label_smoothing) = (options[0] as i64, f64::from(options[1]));
            let o = CrossEntropy { class_weights: weight, focal_gamma, ignore_index, label_smoothing };
            let each = cross_entropy_per_item(&x.detach(), &target, &o).unwrap();
            (ops::cross_entropy(&x, &target, &o).unwrap(), each)
        } else {
            let target = target.cast(kind.1.master()).unwrap();
            let loss = match &name[..2] {
                "bc" => Pointwise::BceWithLogits { pos_weight },
                "ms" => Pointwise::Mse,
                _ => Pointwise::L1,
            };
            let each = pointwise_loss_per_item(&x.detach(), &target, &loss).unwrap();
            (ops::pointwise_loss(&x, &target, None, &loss).unwrap(), each)
        };
        let size = case.recorded("loss").f32()[0].abs().max(1.0);
        case.check("loss", &loss, 1e-6 * f64::from(size));
        onecycle::autograd::backward(&loss).unwrap();
        case.check_grad("x", "dx", 1e-6);
        if case.has("per_item") {
            case.check("per_item", &Tensor::from_slice(&each, [each.len()], Device::Cpu).unwrap(), 2e-6);
        }
    }
}

/// PyTorch's `clip_grad_norm_`, as fastai's GradientClip calls it.
#[test]
fn clipping_parity() {
    let (Some(file), Some(json)) =
        (common::safetensors("training/optim.safetensors"), common::json("training/optim.json"))
    else {
        return;
    };
    let names: Vec<&String> = json["groups"].as_object().unwrap().keys().collect();
    for (case, recorded) in ["clip_1", "clip_big"].iter().zip(json["clip_grad_norm"].as_array().unwrap()) {
        let number = |key: &str| recorded[key].as_f64().unwrap();
        for device in common::devices() {
            let first = |name: &&String| {
                let shape = file[&format!("init.{name}")].shape.clone();
                let n = shape.iter().product::<usize>();
                Tensor::from_slice(&file[&format!("grad.{name}")].f32()[..n], shape, device).unwrap()
            };
            let mut grads: Vec<Tensor> = names.iter().map(first).collect();
            let norm = ops::clip_gradients(&mut grads, number("max_norm"), 2.0).unwrap().norm.item().unwrap();
            assert!((norm / number("total_norm") - 1.0).abs() < 1e-6, "{case} on {device}: norm {norm}");
            for (name, got) in names.iter().zip(&grads) {
                let want = file[&format!("{case}.{name}")].f32();
                for (g, w) in got.to_vec::<f32>().unwrap().into_iter().zip(want) {
                    assert!((g - w).abs() <= 2e-6 * w.abs().max(1.0), "{case}.{name} on {device}: {g} for {w}");
                }
            }
        }
    }
}

/// As above in other norms: `clip_grad_norm_` of [3, -4] and [12, 0, -0.25] by torch 2.15, to a norm of 1.
#[test]
fn clipping_parity_in_other_norms() {
    for (p, norm, first, last) in [
        (1.0, 19.25, 0.15584415, -0.012987012),
        (2.0, 13.002403, 0.23072657, -0.019227214),
        (3.0, 12.207092, 0.24575874, -0.020479895),
        (0.5, 59.230766, 0.050649352, -0.0042207795),
        (f64::INFINITY, 12.0, 0.24999999, -0.020833332),
    ] {
        for device in common::devices() {
            let grads = [&[3.0f32, -4.0][..], &[12.0, 0.0, -0.25]].map(|d| Tensor::from_slice(d, [d.len()], device));
            let grads = grads.map(Result::unwrap);
            let mut clipped = grads.clone();
            let found = ops::clip_gradients(&mut clipped, 1.0, p).unwrap();
            assert!((found.norm.item().unwrap() / norm - 1.0).abs() < 1e-6, "{p} on {device}: {:?}", found.norm);
            let got = (clipped[0].to_vec::<f32>().unwrap()[0], clipped[1].to_vec::<f32>().unwrap()[2]);
            assert!((got.0 - first).abs() < 1e-6 && (got.1 - last).abs() < 1e-6, "{p} on {device}: {got:?}");
            let mut small = grads.clone();
            ops::clip_gradients(&mut small, 100.0, p).unwrap();
            assert_eq!(small[1].to_vec::<f32>().unwrap(), [12.0, 0.0, -0.25]);
            // A number that is none spoils all of them, as in PyTorch, where nobody would see it otherwise.
            let nan = Tensor::from_slice(&[f32::NAN, 1.0], [2], device).unwrap();
            let mut spoilt = [grads[0].clone(), nan];
            let found = ops::clip_gradients(&mut spoilt, 1.0, p).unwrap();
            assert_eq!(found.not_finite.item().unwrap(), 1.0);
            assert!(spoilt[0].to_vec::<f32>().unwrap().iter().all(|v| v.is_nan()), "{p} on {device}");
        }
    }
    for p in [0.0, -1.0, f64::NAN] {
        let mut d = [Tensor::from_slice(&[1.0f32], [1], Device::Cpu).unwrap()];
        assert_eq!(ops::clip_gradients(&mut d, 1.0, p).unwrap_err().kind(), onecycle::ErrorKind::Argument);
    }
}

#[test]
fn optimizer_parity() {
    let (Some(file), Some(json)) =
        (common::safetensors("training/optim.safetensors"), common::json("training/optim.json"))
    else {
        return;
    };
    let steps = json["steps"].as_u64().unwrap() as usize;
    let undecayed: Vec<&str> =
        json["no_weight_decay"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
    let mut seen = 0;
    for case in json["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let number = |key: &str| case[key].as_f64().unwrap_or(0.0);
        for (tensor, group) in json["groups"].as_object().unwrap() {
            let Some(want) = file.get(&format!("{name}.{tensor}")) else { continue };
            let group = group.as_u64().unwrap() as usize;
            let init = &file[&format!("init.{tensor}")];
            let grads = file[&format!("grad.{tensor}")].f32();
            let first = case["no_grad_before_step"].get(tensor).and_then(|v| v.as_u64()).unwrap_or(0) as usize;
            for (device, dtype) in kinds() {
                let mut p = Tensor::from_slice(&init.f32(), init.shape.clone(), device).unwrap().cast(dtype).unwrap();
                let mut state = State::default();
                let n = p.numel();
                for k in 0..steps {
                    let scheduled = case.get("schedule").map(|s| &s[k]);
                    let lr = scheduled.map_or(&case["lr"], |s| &s["lr"]);
                    let lr = lr.get(group).and_then(|v| v.as_f64()).or(lr.as_f64()).unwrap();
                    let mom = scheduled.map_or(number("mom"), |s| s["mom"].as_f64().unwrap());
                    let (sqr_mom, eps) = (number("sqr_mom"), number("eps"));
                    let rule = match case["opt"].as_str().unwrap() {
                        "adam" => Rule::Adam { mom, sqr_mom, eps },
                        "sgd" => Rule::Sgd { mom },
                        "rmsprop" => Rule::RmsProp { mom, sqr_mom, eps },
                        other => panic!("{name} is of an unknown kind {other}"),
                    };
                    let wd = if undecayed.contains(&tensor.as_str()) { 0.0 } else { number("wd") };
                    let step = Step { rule, lr, wd, decoupled: case["decoupled"].as_bool().unwrap_or(true) };
                    if k >= first {
                        let grad = Tensor::from_slice(&grads[k * n..][..n], init.shape.clone(), device)
                            .unwrap()
                            .cast(dtype)
                            .unwrap();
                        optimizer_step(&mut p, &grad, &mut state, &step).unwrap();
                    }
                    for (i, (got, want)) in p.to_f64_vec().unwrap().iter().zip(&want.f32()[k * n..][..n]).enumerate() {
                        let off = (got - f64::from(*want)).abs();
                        assert!(off <= 2e-6, "{name} {tensor}[{i}] step {k} {dtype}: {got} for {want}");
                    }
                }
                seen += 1;
            }
        }
    }
    assert!(seen > 0, "optim.json names cases that optim.safetensors has");
}
