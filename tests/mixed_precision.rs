//! Half precision: the scaler's rules are PyTorch's, a step whose gradients aren't finite leaves no trace, and every device does the same.

mod common;

use onecycle::learner::*;
use onecycle::nn::Module;
use onecycle::prelude::*;

#[test]
fn grad_scaler_parity() {
    let Some(json) = common::json("training/grad_scaler.json") else { return };
    let cases = json["cases"].as_array().unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let number = |key: &str| case[key].as_f64().unwrap();
        let mut scaler = GradScaler {
            scale: number("init_scale"),
            growth_factor: number("growth_factor"),
            backoff_factor: number("backoff_factor"),
            growth_interval: case["growth_interval"].as_u64().unwrap() as usize,
            growth_tracker: 0,
        };
        for (i, row) in case["rows"].as_array().unwrap().iter().enumerate() {
            let what = format!("{}, row {i}", case["name"]);
            let not_finite = row["non_finite_grad"].as_bool().unwrap();
            assert_eq!(scaler.scale, row["scale_used"].as_f64().unwrap(), "{what}");
            assert_eq!(!not_finite, row["optimizer_stepped"].as_bool().unwrap(), "{what}");
            scaler.update(not_finite);
            assert_eq!(scaler.scale, row["scale_after"].as_f64().unwrap(), "{what}");
            assert_eq!(scaler.growth_tracker as u64, row["growth_tracker_after"].as_u64().unwrap(), "{what}");
        }
    }
}

fn learner(device: Device) -> Learner {
    common::drawn::learner(4, 8, device)
}

fn weights(learn: &Learner) -> Vec<Vec<f64>> {
    learn.model().named_parameters().iter().map(|(_, p)| p.value().to_f64_vec().unwrap()).collect()
}

/// (steps, averages) of every parameter.
fn state(learn: &Learner) -> (Vec<u64>, Vec<Vec<f64>>) {
    let all: Vec<_> = learn.opt().param_groups().iter().flat_map(|g| g.states()).map(|(_, s)| s).collect();
    let values = |t: &Option<Tensor>| t.as_ref().map_or(Vec::new(), |t| t.to_f64_vec().unwrap());
    (all.iter().map(|s| s.step).collect(), all.iter().map(|s| values(&s.grad_avg)).collect())
}

#[test]
fn a_step_whose_gradients_overflow_leaves_no_trace() {
    for device in common::devices() {
        // A scale that no f16 gradient survives: every step is left out, and the schedule goes on.
        let huge = GradScaler { scale: 2f64.powi(100), ..GradScaler::default() };
        let mut learn = learner(device).to_fp16_with(huge).unwrap();
        let before = weights(&learn);
        learn.fit_one_cycle(1, 1e-2).unwrap();
        assert!(weights(&learn) == before, "{device}: not even weight decay");
        let (steps, averages) = state(&learn);
        assert!(steps.iter().all(|&n| n == 0) && averages.iter().flatten().all(|&v| v == 0.0), "{device}");
        assert_eq!(learn.loss_scales(), [100, 99, 98, 97].map(|e| 2f64.powi(e)), "{device}");
        assert_eq!((learn.recorder().losses().len(), learn.recorder().lrs().len()), (4, 4), "{device}");
        assert!(
            learn.recorder().losses().iter().all(|l| *l > 0.0 && *l < 3.0),
            "{device}: the loss is recorded as it is"
        );

        // The same fit with a usable scale: all steps are taken.
        let mut learn = learner(device).to_fp16_with(GradScaler { scale: 256.0, ..GradScaler::default() }).unwrap();
        learn.fit_one_cycle(1, 1e-2).unwrap();
        assert!(state(&learn).0.iter().all(|&n| n == 4) && weights(&learn) != before, "{device}");
        assert_eq!(learn.loss_scales(), [256.0; 4], "{device}");
    }
}

#[test]
fn half_precision_follows_full_precision_on_every_device() {
    let run = |learn: Learner, device: Device| {
        let mut learn = learn;
        let epochs = if device == Device::Cpu { 6 } else { 2 };
        // A small rate, so that rounding does not grow from step to step.
        learn.fit(epochs, 1e-6).unwrap();
        (learn.recorder().batch_losses().to_vec(), learn.recorder().last("valid_loss").unwrap())
    };
    let mut firsts = Vec::new();
    for device in common::devices() {
        let (full, _) = run(learner(device), device);
        let (bf16, valid) = run(learner(device).to_bf16().unwrap(), device);
        let (fp16, _) =
            run(learner(device).to_fp16_with(GradScaler { scale: 1024.0, ..GradScaler::default() }).unwrap(), device);
        let off = |half: &[f64]| half.iter().zip(&full).map(|(a, b)| (a - b).abs()).sum::<f64>() / full.len() as f64;
        assert!(off(&bf16) < 0.15 && off(&fp16) < 0.03, "{device}: bf16 {} f16 {}", off(&bf16), off(&fp16));
        assert!(off(&bf16) > 1e-6 && off(&fp16) > 1e-7, "{device}: rounding must show, or nothing was rounded");
        assert!(valid.is_finite());
        firsts.push((device, bf16[0], fp16[0]));
    }
    // Rounded at the same places: the first batch agrees between devices far better than with full precision.
    let (_, bf16, fp16) = firsts[0];
    for (device, b, f) in &firsts[1..] {
        assert!((b - bf16).abs() < 0.02 && (f - fp16).abs() < 0.002, "{device}: {b} for {bf16}, {f} for {fp16}");
    }
}

#[test]
fn the_same_learner_goes_from_one_precision_to_another() {
    let learn = learner(Device::Cpu).to_fp16().unwrap();
    assert!(learn.summary().unwrap().contains("\n  - MixedPrecision"));
    let learn = learn.to_bf16().unwrap();
    assert!(!learn.summary().unwrap().contains("MixedPrecision") && learn.dtype() == onecycle::DType::BF16);
    let mut learn = learn.to_fp32().unwrap();
    learn.fit(1, 1e-3).unwrap();
    assert!(learn.loss_scales().is_empty() && learn.dtype() == onecycle::DType::F32);
    // Predictions in half precision are close to those in full.
    let full = learn.get_preds().unwrap();
    let half = learn.to_bf16().unwrap().get_preds().unwrap();
    let off = full
        .probabilities
        .concat()
        .iter()
        .zip(half.probabilities.concat())
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f64::max);
    assert!(off > 0.0 && off < 0.05, "{off}");
}
