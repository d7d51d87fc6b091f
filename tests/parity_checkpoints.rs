//! Checkpoints that PyTorch, fastai and timm wrote, compared with what those programs say is in them.

mod common;

use common::Recorded;
use onecycle::nn::pth::{self, Checkpoint, Entry};
use onecycle::nn::{Arch, Context, Module, Weights};
use onecycle::{DType, Tensor};
use std::collections::HashMap;

/// The tensor in PyTorch's order of axes, as the bytes that a safetensors file has.
fn bytes(t: &Tensor) -> (String, Vec<usize>, Vec<u8>) {
    let name = t.dtype().to_string().to_uppercase();
    let all = match t.dtype() {
        DType::F32 => t.to_nchw_vec::<f32>().unwrap().into_iter().flat_map(f32::to_le_bytes).collect(),
        DType::F64 => t.to_nchw_vec::<f64>().unwrap().into_iter().flat_map(f64::to_le_bytes).collect(),
        DType::F16 => t.to_nchw_vec::<half::f16>().unwrap().into_iter().flat_map(half::f16::to_le_bytes).collect(),
        DType::BF16 => t.to_nchw_vec::<half::bf16>().unwrap().into_iter().flat_map(half::bf16::to_le_bytes).collect(),
        DType::I64 => t.to_nchw_vec::<i64>().unwrap().into_iter().flat_map(i64::to_le_bytes).collect(),
        other => panic!("{other}"),
    };
    (name, t.shape().nchw(), all)
}

fn same(name: &str, found: &Tensor, expected: &Recorded) {
    let (dtype, shape, bytes) = bytes(found);
    assert_eq!((&dtype, &shape), (&expected.dtype, &expected.shape), "{name}");
    assert_eq!(bytes, expected.bytes, "{name}");
}

fn read(name: &str) -> Option<Checkpoint> {
    Some(pth::read(&common::fixture(name)?).unwrap_or_else(|e| panic!("{e}")))
}

/// Both containers; with shared, transposed, scalar and empty tensors, half precision, and parameters.
#[test]
fn checkpoints_are_read_to_the_bit() {
    let Some(expected) = common::safetensors("training/ckpt_expected.safetensors") else { return };
    for (name, parameter) in
        [("ckpt_zip", false), ("ckpt_legacy", false), ("ckpt_zip_param", true), ("ckpt_legacy_param", true)]
    {
        let Some(checkpoint) = read(&format!("training/{name}.pth")) else { return };
        let found: HashMap<&str, &Tensor> = checkpoint.tensors.iter().map(|(n, t)| (n.as_str(), t)).collect();
        let wanted = expected.iter().filter(|(name, _)| parameter || *name != "param");
        let mut count = 0;
        for (key, expected) in wanted {
            same(&format!("{name}: {key}"), found.get(key.as_str()).unwrap_or_else(|| panic!("{key}")), expected);
            count += 1;
        }
        assert_eq!(count, found.len(), "{name}: {:?}", found.keys());
        assert!(checkpoint.optimizer.is_none());
    }
}

#[test]
fn a_learner_s_files_have_its_model_and_its_optimizer() {
    let Some(expected) = common::safetensors("training/ckpt_learner_expected.safetensors") else { return };
    let Some(described) = common::json("training/ckpt_learner.json") else { return };
    for (name, with_opt) in [("ckpt_learner_with_opt", true), ("ckpt_learner_model_only", false)] {
        let Some(checkpoint) = read(&format!("training/{name}.pth")) else { return };
        let model = expected.iter().filter_map(|(key, e)| Some((key.strip_prefix("model.")?, e)));
        assert_eq!(model.clone().count(), checkpoint.tensors.len());
        for (key, expected) in model {
            let (_, found) = checkpoint.tensors.iter().find(|(n, _)| n == key).unwrap_or_else(|| panic!("{key}"));
            same(key, found, expected);
        }
        assert_eq!(checkpoint.optimizer.is_some(), with_opt);
        let Some(optimizer) = checkpoint.optimizer else { continue };
        let keys: Vec<Vec<&String>> = optimizer.state.iter().map(|entries| entries.keys().collect()).collect();
        assert_eq!(serde_json::json!(keys), described["state_keys"]);
        assert_eq!(optimizer.hypers.len(), described["hypers"].as_array().unwrap().len());
        for (found, expected) in optimizer.hypers.iter().zip(described["hypers"].as_array().unwrap()) {
            assert_eq!(found.len(), expected.as_object().unwrap().len());
            for (key, value) in found {
                // serde_json's own reading of a decimal may be off in the last bit.
                let expected = expected[key].as_f64().unwrap();
                assert!((value / expected - 1.0).abs() < 1e-15, "{key}: {value} and {expected}");
            }
        }
        for (key, expected) in expected.iter().filter_map(|(key, e)| Some((key.strip_prefix("opt.")?, e))) {
            let (i, key) = key.split_once('.').unwrap();
            match &optimizer.state[i.parse::<usize>().unwrap()][key] {
                Entry::Tensor(found) => same(key, found, expected),
                Entry::Number(found) if expected.dtype == "I64" => assert_eq!(*found, expected.i64()[0] as f64),
                Entry::Number(found) => assert_eq!(*found as f32, expected.f32()[0]),
                Entry::Flag(found) => panic!("{key} is {found}"),
            }
        }
    }
}

/// The files of `tests/fixtures/checkpoints`, which `record.py` there writes: one network in every dress.
#[test]
fn one_state_in_every_dress() {
    let path = |name: &str| common::fixture(&format!("checkpoints/{name}"));
    let Some(expected) = common::safetensors("checkpoints/expected.safetensors") else { return };
    let exact = [
        "zip.pth",
        "stacked.pth",
        "protocol4.pth",
        "protocol5.pth",
        "stacked_protocol4.pth",
        "no_crc.pth",
        "wrapped.pth",
        "wrapped_stacked.pth",
        "model_state_dict.pth",
        "parameters.pth",
        "channels_last.pth",
    ];
    for name in exact {
        let Some(path) = path(name) else { continue };
        let found = pth::read(&path).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(found.tensors.len(), expected.len(), "{name}");
        found.tensors.iter().for_each(|(key, t)| same(&format!("{name}: {key}"), t, &expected[key]));
    }
    let Some(parallel) = read("checkpoints/parallel.pth") else { return };
    for (key, t) in &parallel.tensors {
        same(key, t, &expected[key.strip_prefix("module.").unwrap()]);
    }
    // The same bits as another program reads from another format.
    for kind in ["half", "bfloat16"] {
        let (Some(stored), Some(pth)) =
            (path(&format!("{kind}.safetensors")), read(&format!("checkpoints/{kind}.pth")))
        else {
            return;
        };
        let reference = common::safetensors(&format!("checkpoints/{kind}.safetensors")).unwrap();
        let ours = onecycle::nn::safetensors::read(&stored).unwrap().tensors;
        assert_eq!((ours.len(), pth.tensors.len()), (expected.len(), expected.len()));
        for (key, t) in &pth.tensors {
            same(key, t, &reference[key]);
            same(key, &ours[key], &reference[key]);
        }
    }
    let Some(expected) = common::safetensors("checkpoints/learner.safetensors") else { return };
    let Some(learner) = read("checkpoints/learner.pth") else { return };
    learner.tensors.iter().for_each(|(key, t)| same(key, t, &expected[key]));
    let optimizer = learner.optimizer.unwrap();
    assert_eq!((optimizer.state.len(), learner.tensors.len()), (4, 4));
    assert!(
        matches!(optimizer.state[0]["grad_avg"], Entry::Tensor(_))
            && matches!(optimizer.state[1]["do_wd"], Entry::Flag(false))
    );
}

/// As `record.py` filled them.
#[test]
fn every_type_and_stride() {
    let Some(checkpoint) = read("checkpoints/dtypes.pth") else { return };
    let found: HashMap<&str, &Tensor> = checkpoint.tensors.iter().map(|(n, t)| (n.as_str(), t)).collect();
    let numbers = |name: &str| (found[name].dtype(), found[name].shape().to_vec(), found[name].to_f64_vec().unwrap());
    let shifted: Vec<f64> = (-3..3).map(f64::from).collect();
    for name in ["i32", "i16", "i8"] {
        assert_eq!(numbers(name), (DType::I64, vec![6], shifted.clone()), "{name}");
    }
    assert_eq!(numbers("u8"), (DType::U8, vec![6], (0..6).map(f64::from).collect()));
    assert_eq!(numbers("bool"), (DType::U8, vec![6], vec![0.0, 1.0, 1.0, 1.0, 1.0, 1.0]));
    assert_eq!(numbers("f64"), (DType::F64, vec![6], (0..6).map(|i| f64::from(i) / 3.0).collect()));
    let rounded = (0..6).map(|i| half::bf16::from_f32(i as f32 / 3.0).to_f64()).collect();
    assert_eq!(numbers("bf16"), (DType::BF16, vec![6], rounded));
    assert_eq!(numbers("expanded"), (DType::F32, vec![3, 4], vec![1.0; 12]));
    assert_eq!(numbers("every other"), (DType::F32, vec![4], vec![3.0, 8.0, 13.0, 18.0]));
    let flipped = (0..4).flat_map(|k| (0..6).map(move |ij| f64::from(ij * 4 + k))).collect();
    assert_eq!(numbers("flipped axes"), (DType::F32, vec![4, 2, 3], flipped));
    assert_eq!(numbers("five"), (DType::F32, vec![2; 5], (0..32).map(f64::from).collect()));
    assert_eq!(found.len(), 11, "{:?}", found.keys());
}

#[test]
fn what_is_no_weights_is_refused_with_its_name() {
    let cases = [
        ("whole.pth", "torch.nn.modules.container.Sequential", "save the weights alone"),
        ("script.pth", "TorchScript", "state_dict()"),
        ("export.pkl", "asks for `fastai", "save the weights alone"),
        ("complex.pth", "torch.ComplexFloatStorage", "32-bit floats"),
        ("uint16.pth", "torch._utils._rebuild_tensor_v3", "32-bit floats"),
        ("sparse.pth", "torch._utils._rebuild_sparse_tensor", "plain tensors"),
        ("list.pth", "no dictionary of tensors", "state_dict()"),
    ];
    for (name, what, remedy) in cases {
        let Some(path) = common::fixture(&format!("checkpoints/{name}")) else { return };
        let error = pth::read(&path).expect_err(name);
        assert_eq!(error.kind(), onecycle::ErrorKind::Format);
        let text = error.to_string();
        assert!(text.contains(name) && text.contains(what) && error.advice().contains(remedy), "{text}");
    }
}

/// Whole networks, whose features PyTorch computed for the same pictures. The files are large, so they are not kept here:
/// `python tests/fixtures/checkpoints/record.py DIR` writes them.
#[test]
fn networks_compute_what_pytorch_and_timm_compute() {
    let Some(folder) = std::env::var_os("ONECYCLE_CHECKPOINTS").map(std::path::PathBuf::from) else {
        return common::skip(format_args!("ONECYCLE_CHECKPOINTS names no folder with whole networks"));
    };
    let tensor = |name: &str, key: &str| {
        onecycle::nn::safetensors::read(&folder.join(name)).unwrap().tensors.remove(key).unwrap()
    };
    let x = tensor("x.safetensors", "x");
    let mut files: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    let mut seen = 0;
    for file in files.iter().filter(|f| !f.ends_with(".y.safetensors") && *f != "x.safetensors") {
        let (net, dress) = file.split_once('.').unwrap();
        let loaded = |arch: &str| Weights::File(folder.join(file)).load(&Arch::by_name(arch).unwrap());
        if net == "wide" || dress.starts_with("whole") || dress.starts_with("script") {
            let error = loaded(if net == "wide" { "resnet50" } else { net }).expect_err(file).to_string();
            println!("{error}");
            assert!(net != "wide" || error.contains("\"layer1.0.conv1.weight\" has shape [128, 64, 1, 1]"), "{error}");
            continue;
        }
        let arch = Arch::by_name(net.rsplit('_').next().unwrap()).unwrap();
        let body = arch.body();
        loaded(&arch.name).unwrap_or_else(|e| panic!("{e}")).load_into(&body).unwrap();
        let y = body.forward(&x, &Context::eval()).unwrap().to_f64_vec().unwrap();
        let expected = tensor(&format!("{net}.y.safetensors"), "y").to_f64_vec().unwrap();
        let largest = expected.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
        let off = y.iter().zip(&expected).fold(0.0, |m: f64, (a, b)| m.max((a - b).abs())) / largest;
        println!("{file}: off by {off:.1e} of the largest feature");
        // Rounded weights compute something else, by about their rounding times the root of the layers.
        let limit = if dress.starts_with("half") {
            5e-3
        } else if dress.starts_with("bfloat16") {
            5e-2
        } else {
            1e-5
        };
        assert!(y.len() == expected.len() && off < limit, "{file}: {off:e}");
        let other = Arch::by_name(if arch.name == "resnet18" { "resnet50" } else { "resnet18" }).unwrap();
        let error = loaded(&other.name).expect_err(file).to_string();
        assert!(error.contains(&format!("this looks like {}, and {} was expected", arch.name, other.name)), "{error}");
        seen += 1;
    }
    assert!(seen > 10);
}
