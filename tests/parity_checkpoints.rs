//! Checkpoints that PyTorch, fastai and timm wrote, compared with what those programs say is in them.

mod common;

use common::Recorded;
use onecycle::nn::pth::{self, Checkpoint, Entry};
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
