//! Whole networks against values recorded from torchvision and fastai: blocks, the head, names and groups, the summary's text,
//! and three training steps of a small ResNet.

mod common;

use common::Recorded;
use onecycle::autograd::{GradSlot, backward, backward_with};
use onecycle::nn::resnet::{BasicBlock, Bottleneck};
use onecycle::nn::summary::{Layout, table};
use onecycle::nn::{
    AdaptiveConcatPool2d, Arch, BatchNorm, Context, Dropout, Flatten, HeadOptions, Linear, Module, Sequential,
    StateKind, create_head,
};
use onecycle::ops::cross_entropy::CrossEntropy;
use onecycle::optim::schedule::{OneCycle, one_cycle};
use onecycle::optim::{LrMax, Optimizer, OptimizerKind};
use onecycle::{DType, Device, Tensor, ops};
use std::collections::HashMap;

fn tensor(r: &Recorded) -> Tensor {
    match r.dtype.as_str() {
        "I64" => Tensor::from_slice(&r.i64(), r.shape.clone(), Device::Cpu).unwrap(),
        _ => Tensor::from_torch(&r.f32(), &r.shape, Device::Cpu).unwrap(),
    }
}

/// The tensors whose names start with `prefix`, without it.
fn with_prefix(file: &HashMap<String, Recorded>, prefix: &str) -> HashMap<String, Tensor> {
    file.iter().filter_map(|(name, r)| Some((name.strip_prefix(prefix)?.to_string(), tensor(r)))).collect()
}

/// Compares in PyTorch's order; `tolerance` is absolute, or relative to the largest magnitude.
fn check(what: &str, got: &Tensor, want: &Recorded, tolerance: f64, relative: bool) {
    let got = got.to(Device::Cpu).unwrap().cast(DType::F64).unwrap().to_nchw_vec::<f64>().unwrap();
    let want: Vec<f64> = match want.dtype.as_str() {
        "I64" => want.i64().iter().map(|&v| v as f64).collect(),
        _ => want.f32().iter().map(|&v| v.into()).collect(),
    };
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = if relative { want.iter().fold(0f64, |m, v| m.max(v.abs())) } else { 1.0 };
    for (i, (g, w)) in got.iter().zip(&want).enumerate() {
        assert!((g - w).abs() <= tolerance * scale, "{what}[{i}]: {g} for {w}");
    }
}

fn check_module(file: &HashMap<String, Recorded>, name: &str, module: &dyn Module, tolerance: f64) {
    for (device, dtype) in common::kinds() {
        let there = |r: &Recorded| tensor(r).cast(dtype).unwrap().to(device).unwrap();
        module.to_device(Device::Cpu).unwrap();
        module.set_dtype(dtype).unwrap();
        module.to_device(device).unwrap();
        module.load_state(&with_prefix(file, &format!("{name}.param."))).unwrap();
        let part = |p: &str| &file[&format!("{name}.{p}")];
        let slot = GradSlot::new();
        let x = slot.leaf(&there(part("x")));
        let training = name.ends_with(".train");
        let cx = if training { Context::train(0, 0) } else { Context::eval() };
        let y = module.forward(&x, &cx).unwrap();
        check(&format!("{name}.y"), &y, part("y"), tolerance, false);
        backward_with(&y, there(part("dy"))).unwrap();
        check(&format!("{name}.dx"), &slot.take().unwrap(), part("dx"), tolerance, false);
        for (key, entry) in module.state() {
            match entry {
                StateKind::Parameter(p) => {
                    let grad = p.take_grad().unwrap_or_else(|| panic!("{name}: {key} has no gradient"));
                    check(&format!("{name}.grad.{key}"), &grad, part(&format!("grad.{key}")), tolerance, false);
                }
                StateKind::Buffer(b) if training => {
                    check(&format!("{name}.after.{key}"), &b.value(), part(&format!("after.{key}")), tolerance, false);
                }
                StateKind::Buffer(_) => {}
            }
        }
    }
}

#[test]
fn residual_blocks_parity() {
    let Some(file) = common::safetensors("training/blocks.safetensors") else { return };
    let mut names: Vec<&str> = file.keys().filter_map(|k| k.strip_suffix(".x")).collect();
    names.sort_unstable();
    for name in names {
        let shape = |key: &str| file[&format!("{name}.{key}")].shape.clone();
        let (inputs, planes) = (shape("x")[1], shape("param.conv1.weight")[0]);
        let stride = shape("x")[2].div_ceil(shape("y")[2]);
        if file.contains_key(&format!("{name}.param.conv3.weight")) {
            check_module(&file, name, &Bottleneck::new(inputs, planes, stride), 1e-4);
        } else {
            check_module(&file, name, &BasicBlock::new(inputs, planes, stride), 1e-4);
        }
    }
}

/// fastai's head with dropout that is there, and off.
fn head_without_dropout(features: usize, hidden: usize, classes: usize) -> Sequential {
    Sequential::new()
        .push(AdaptiveConcatPool2d::new())
        .push(Flatten::new())
        .push(BatchNorm::new_1d(2 * features))
        .push(Dropout::new(0.0))
        .push(Linear::new(2 * features, hidden, false))
        .push_relu()
        .push(BatchNorm::new_1d(hidden))
        .push(Dropout::new(0.0))
        .push(Linear::new(hidden, classes, false))
}

#[test]
fn head_parity() {
    let Some(file) = common::safetensors("training/dense.safetensors") else { return };
    for name in ["head.train", "head.eval"] {
        let shape = |key: &str| &file[&format!("{name}.{key}")].shape;
        let head = head_without_dropout(shape("x")[1], shape("param.4.weight")[0], shape("param.8.weight")[0]);
        check_module(&file, name, &head, 3e-5);
    }
}

fn transfer_model(arch: &Arch, classes: usize) -> Sequential {
    Sequential::new().push(arch.body()).push(create_head(arch.features(), classes, &HeadOptions::default()))
}

/// The optimizer over fastai's three groups: stem to layer2, layer3 and layer4, the head.
fn optimizer(model: &dyn Module) -> Optimizer {
    Optimizer::new(OptimizerKind::Adam, onecycle::nn::resnet::param_groups(model), false, true)
}

#[test]
fn architectures_parity() {
    let Some(json) = common::json("training/architectures.json") else { return };
    let classes = json["n_out"].as_u64().unwrap() as usize;
    for (name, want) in json["archs"].as_object().unwrap() {
        let number = |key: &str| want[key].as_u64().unwrap() as usize;
        let model = transfer_model(&Arch::by_name(name).unwrap(), classes);
        let mut opt = optimizer(&model);
        let parameters = model.named_parameters();
        let total: usize = parameters.iter().map(|(_, p)| p.numel()).sum();
        assert_eq!(total, number("total_params"), "{name}");
        assert_eq!(model.state().len(), number("n_state"), "{name}");
        let tensors: Vec<usize> = opt.param_groups().iter().map(|g| g.parameters().count()).collect();
        let numbers: Vec<usize> =
            opt.param_groups().iter().map(|g| g.parameters().map(|(p, _)| p.numel()).sum()).collect();
        assert_eq!(serde_json::json!(tensors), want["group_tensors"], "{name}");
        assert_eq!(serde_json::json!(numbers), want["group_params"], "{name}");
        opt.freeze().unwrap();
        let trainable: usize = parameters.iter().filter(|(_, p)| p.is_trainable()).map(|(_, p)| p.numel()).sum();
        assert_eq!(trainable, number("trainable_when_frozen"), "{name}");
    }
}

#[test]
fn state_names_parity() {
    for name in ["resnet34", "resnet50"] {
        let Some(json) = common::json(&format!("training/state_{name}.json")) else { continue };
        let entries = json.as_array().unwrap();
        let text = |e: &serde_json::Value, key: &str| e[key].as_str().unwrap().to_string();
        let classes = entries.last().unwrap()["shape"][0].as_u64().unwrap() as usize;
        let model = transfer_model(&Arch::by_name(name).unwrap(), classes);
        let mut opt = optimizer(&model);
        opt.freeze().unwrap();
        let mut place = HashMap::new();
        for (g, group) in opt.param_groups().iter().enumerate() {
            for (key, (p, decays)) in group.names().zip(group.parameters()) {
                place.insert(key.to_string(), (g, decays, p.is_trainable()));
            }
        }
        let state = model.state();
        assert_eq!(state.len(), entries.len());
        for ((key, entry), want) in state.iter().zip(entries) {
            assert_eq!(*key, text(want, "key"));
            assert_eq!(serde_json::json!(entry.value().shape().nchw()), want["shape"], "{key}");
            let dtype = if entry.value().dtype() == DType::I64 { "int64" } else { "float32" };
            assert_eq!(dtype, text(want, "dtype"), "{key}");
            if let Some(group) = want.get("group").and_then(|g| g.as_u64()) {
                let flags = (group as usize, want["wd"] == true, want["trainable_when_frozen"] == true);
                assert_eq!(place[key], flags, "{key}: group, decays, trains when frozen");
            }
        }
    }
}

#[test]
fn summary_text_parity() {
    for (name, legacy) in [("resnet18", false), ("resnet34", true), ("resnet50", false)] {
        for frozen in [true, false] {
            let model = transfer_model(&Arch::by_name(name).unwrap(), 37);
            if frozen {
                optimizer(&model).freeze().unwrap();
            }
            let state = if frozen { "frozen" } else { "unfrozen" };
            for (layout, suffix) in [(Layout::Current, ""), (Layout::Legacy, "_legacy")] {
                if layout == Layout::Legacy && !legacy {
                    continue;
                }
                let file = format!("training/summary_{name}_37_{state}{suffix}.txt");
                let Some(want) = common::text(&file) else { continue };
                let got = table(&model, &[64, 224, 224, 3].into(), layout).unwrap();
                let end = want.find("Optimizer used").unwrap();
                assert_eq!(got, want[..end], "{file}");
            }
        }
    }
}

/// A convolutional part that stops after each module whose output was recorded.
fn forward_parts(model: &Sequential, x: &Tensor, cx: &Context, mut seen: impl FnMut(&str, &Tensor)) {
    let children = model.children();
    let mut x = x.clone();
    for (name, child) in children[0].1.children() {
        x = child.forward(&x, cx).unwrap();
        let part = match name.as_str() {
            "0" => "conv1",
            "3" => "maxpool",
            "4" => "layer1",
            "5" => "layer2",
            "6" => "layer3",
            "7" => "layer4",
            _ => continue,
        };
        seen(part, &x);
    }
    let head = children[1].1.children();
    for (name, child) in head {
        x = child.forward(&x, cx).unwrap();
        if name == "1" {
            seen("pooled", &x);
        }
    }
    seen("logits", &x);
}

#[test]
fn tiny_resnet_trajectory_parity() {
    let (Some(file), Some(json)) =
        (common::safetensors("training/tiny_resnet.safetensors"), common::json("training/tiny_resnet.json"))
    else {
        return;
    };
    let numbers = |key: &str| -> Vec<usize> {
        json[key].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect()
    };
    let (widths, blocks) = (numbers("widths"), numbers("blocks"));
    let arch = Arch {
        name: "tiny".into(),
        bottleneck: false,
        blocks: blocks.try_into().unwrap(),
        widths: widths.clone().try_into().unwrap(),
    };
    let steps = json["steps"].as_u64().unwrap() as usize;
    let classes = json["n_classes"].as_u64().unwrap() as usize;
    let hidden = numbers("head_lin_ftrs")[0];
    let runs = json["runs"].as_object().unwrap();
    for (device, (run, want)) in common::devices().into_iter().flat_map(|d| runs.iter().map(move |r| (d, r))) {
        let there = |r: &Recorded| tensor(r).to(device).unwrap();
        let model = Sequential::new().push(arch.body()).push(head_without_dropout(widths[3], hidden, classes));
        model.to_device(device).unwrap();
        model.load_state(&with_prefix(&file, "init.")).unwrap();
        if run == "unfrozen" {
            let cx = Context::train(0, 0);
            forward_parts(&model, &there(&file["batch0.x"]), &cx, |part, y| {
                check(&format!("forward0.{part}"), y, &file[&format!("forward0.{part}")], 5e-5, false);
            });
            model.load_state(&with_prefix(&file, "init.")).unwrap(); // the pass above moved the running statistics
        }
        let mut opt = optimizer(&model);
        opt.freeze_to(if run == "frozen" { -1 } else { 0 }).unwrap();
        let lr_max = match (want["lr_max"]["start"].as_f64(), want["lr_max"]["stop"].as_f64()) {
            (Some(start), Some(stop)) => LrMax::Between(start, stop),
            (None, Some(stop)) => LrMax::Last(stop),
            _ => panic!("an lr_max of another form"),
        };
        let schedules: Vec<_> = lr_max.per_group(3).into_iter().map(|lr| one_cycle(lr, &OneCycle::default())).collect();
        for step in 0..steps {
            let position = step as f64 / steps as f64;
            opt.set(|g, h| (h.lr, h.mom) = (schedules[g].0(position), schedules[g].1(position)));
            let (x, y) = (there(&file[&format!("batch{step}.x")]), there(&file[&format!("batch{step}.y")]));
            let logits = model.forward(&x, &Context::train(0, step as u64)).unwrap();
            let loss = ops::cross_entropy(&logits, &y, &CrossEntropy::default()).unwrap();
            let recorded = want["losses"][step].as_f64().unwrap();
            assert!((loss.item().unwrap() - recorded).abs() < 1e-4, "{run} step {step}: {loss:?} for {recorded}");
            backward(&loss).unwrap();
            if step == 0 {
                for (key, p) in model.named_parameters() {
                    let recorded = file.get(&format!("{run}.grad0.{key}"));
                    assert_eq!(p.grad().is_some(), recorded.is_some(), "{run}: a gradient for {key}");
                    if let (Some(grad), Some(recorded)) = (p.grad(), recorded) {
                        check(&format!("{run}.grad0.{key}"), &grad, recorded, 1e-4, true);
                    }
                }
            }
            opt.step().unwrap();
        }
        for (key, entry) in model.state() {
            let changed = file.get(&format!("{run}.final.{key}"));
            match changed {
                Some(recorded) => check(&format!("{run}.final.{key}"), &entry.value(), recorded, 1e-4, false),
                None => check(
                    &format!("{run}: {key} stays as it was"),
                    &entry.value(),
                    &file[&format!("init.{key}")],
                    0.0,
                    false,
                ),
            }
        }
        let logits = model.forward(&there(&file["batch0.x"]), &Context::eval()).unwrap();
        check(&format!("{run}.eval_logits"), &logits, &file[&format!("{run}.eval_logits")], 1e-4, false);
    }
}

/// A gradient that vanishes silently is the worst defect of such a library: none may, in any architecture.
#[test]
fn every_parameter_gets_a_gradient() {
    for name in ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"] {
        let model = transfer_model(&Arch::by_name(name).unwrap(), 5);
        model.init_with(1).unwrap();
        let numbers: Vec<f32> = (0..2 * 64 * 64 * 3).map(|i| ((i * 7919) % 255) as f32 / 128.0 - 1.0).collect();
        let x = Tensor::from_slice(&numbers, [2, 64, 64, 3], Device::Cpu).unwrap();
        let y = Tensor::from_slice(&[1i64, 3], [2], Device::Cpu).unwrap();
        let logits = model.forward(&x, &Context::train(1, 0)).unwrap();
        backward(&ops::cross_entropy(&logits, &y, &CrossEntropy::default()).unwrap()).unwrap();
        for (key, p) in model.named_parameters() {
            let grad = p.take_grad().unwrap_or_else(|| panic!("{name}: {key} has no gradient"));
            assert!(grad.to_f64_vec().unwrap().iter().any(|&g| g != 0.0), "{name}: the gradient of {key} is all zeros");
            assert!(
                grad.to_f64_vec().unwrap().iter().all(|g| g.is_finite()),
                "{name}: the gradient of {key} isn't finite"
            );
        }
    }
}
