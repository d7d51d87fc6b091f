//! Which learning rate and momentum each batch gets, and what the finder suggests: fastai's recorded values, from a learner's own fits.

mod common;

use onecycle::learner::suggest::{self, Curve, Found};
use onecycle::learner::{
    BnFreeze, Callback, FineTune, FitOptions, GradientAccumulation, GradientClip, Learner, LrFind, MixUp, Signal,
};
use onecycle::nn::Module;
use onecycle::optim::schedule::{OneCycle, one_cycle};
use onecycle::optim::{LrMax, slice};
use onecycle::prelude::*;
use serde_json::Value as Json;
use std::sync::{Arc, Mutex};

/// A learner with `n_iter` training batches of two pictures.
fn learner(n_iter: usize, device: Device) -> Learner {
    common::drawn::learner(n_iter, 2, device)
}

/// (epoch, batch, learning rates, momenta, position), as a batch finds them.
type Step = (usize, usize, Vec<f64>, Vec<f64>, f64);

#[derive(Clone, Default)]
struct Watch(Arc<Mutex<Vec<Step>>>);

impl Callback for Watch {
    fn name(&self) -> &'static str {
        "Watch"
    }
    fn order(&self) -> i32 {
        65
    }
    fn before_batch(&mut self, learn: &mut Learner) -> Signal {
        if learn.is_training() {
            let of = |f: fn(&onecycle::optim::Hyper) -> f64| {
                learn.opt().param_groups().iter().map(|g| f(&g.hyper)).collect()
            };
            let step = (learn.epoch(), learn.iter(), of(|h| h.lr), of(|h| h.mom), learn.pct_train());
            self.0.lock().unwrap().push(step);
        }
        Ok(())
    }
}

fn close(what: &str, got: f64, want: &Json, tolerance: f64) {
    let want = want.as_f64().unwrap();
    assert!((got - want).abs() <= tolerance * want.abs(), "{what}: {got} for {want}");
}

fn lr_of(v: &Json) -> LrMax {
    match (v.as_f64(), v["start"].as_f64(), v["stop"].as_f64()) {
        (Some(lr), ..) => LrMax::All(lr),
        (None, Some(a), Some(b)) => LrMax::Between(a, b),
        (None, None, Some(b)) => LrMax::Last(b),
        _ => panic!("a learning rate of another form: {v}"),
    }
}

#[test]
fn schedules_parity() {
    let Some(json) = common::json("training/schedules.json") else { return };
    for case in json["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let phases = case["phases"].as_array().unwrap();
        let args = &phases[0]["args"];
        let mut learn = learner(phases[0]["n_iter"].as_u64().unwrap() as usize, Device::Cpu);
        let watch = Watch::default();
        let options = FitOptions::default().cb(watch.clone());
        let number = |key: &str| args[key].as_f64().unwrap();
        let whole = |key: &str| args[key].as_u64().unwrap() as usize;
        match (args["kind"].as_str().unwrap(), phases.as_slice()) {
            ("one_cycle", [_]) => {
                let moms: Vec<f64> = args["moms"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
                let moms = (moms[0], moms[1], moms[2]);
                let cycle = OneCycle {
                    div: number("div"),
                    div_final: number("div_final"),
                    pct_start: number("pct_start"),
                    moms,
                };
                learn.fit_one_cycle_with(whole("n_epoch"), lr_of(&args["lr_max"]), &cycle, options).unwrap();
                exact(name, &phases[0], &lr_of(&args["lr_max"]), &cycle);
            }
            ("one_cycle", [first, second]) => {
                let settings =
                    FineTune { base_lr: first["args"]["lr_max"]["stop"].as_f64().unwrap(), ..FineTune::default() };
                assert!(name.starts_with("fine_tune"), "{name}");
                let epochs = second["args"]["n_epoch"].as_u64().unwrap() as usize;
                learn.fine_tune_with(epochs, &settings, options).unwrap();
            }
            ("flat_cos", _) => {
                let (epochs, lr) = (whole("n_epoch"), lr_of(&args["lr"]));
                learn.fit_flat_cos_with(epochs, lr, number("div_final"), number("pct_start"), options).unwrap();
            }
            ("sgdr", _) => {
                let (n, len, mult) = (whole("n_cycles"), whole("cycle_len"), whole("cycle_mult"));
                learn.fit_sgdr_with(n, len, lr_of(&args["lr_max"]), mult, options).unwrap();
            }
            ("fit", _) => learn.fit_with(whole("n_epoch"), lr_of(&args["lr"]), options).unwrap(),
            (other, _) => panic!("{name} is of a kind unknown here: {other}"),
        }
        let rows: Vec<&Json> = phases.iter().flat_map(|p| p["rows"].as_array().unwrap()).collect();
        let seen = watch.0.lock().unwrap().clone();
        assert_eq!(seen.len(), rows.len(), "{name}");
        for ((epoch, iter, lrs, moms, position), row) in seen.iter().zip(rows) {
            let what = format!("{name}, epoch {epoch}, batch {iter}");
            assert_eq!(
                (row["epoch"].as_u64(), row["iter"].as_u64()),
                (Some(*epoch as u64), Some(*iter as u64)),
                "{what}"
            );
            lrs.iter().zip(row["lr"].as_array().unwrap()).for_each(|(got, want)| close(&what, *got, want, 1e-5));
            moms.iter().for_each(|got| close(&what, *got, &row["mom"], 1e-5));
            close(&what, *position, &row["pct_train"], 1e-9);
        }
    }
}

/// One-cycle in f64, where fastai rounds positions to f32.
fn exact(name: &str, phase: &Json, lr_max: &LrMax, cycle: &OneCycle) {
    let rows = phase["rows"].as_array().unwrap();
    for (g, lr) in lr_max.per_group(3).into_iter().enumerate() {
        let (lr, mom) = one_cycle(lr, cycle);
        for (k, row) in rows.iter().enumerate() {
            let position = k as f64 / rows.len() as f64;
            close(&format!("{name} step {k}"), lr(position), &row["lr_exact"][g], 1e-12);
            close(&format!("{name} step {k}"), mom(position), &row["mom_exact"], 1e-12);
        }
    }
}

#[test]
fn fits_go_on_where_they_are_told_to() {
    let watched = |start_epoch: usize| {
        let (mut learn, watch) = (learner(3, Device::Cpu), Watch::default());
        let options = FitOptions { start_epoch, ..FitOptions::default() }.cb(watch.clone());
        learn.fit_one_cycle_with(3, slice(1e-4, 1e-2), &OneCycle::default(), options).unwrap();
        let rows: Vec<bool> = learn.recorder().rows().iter().map(|row| row.train_loss.is_some()).collect();
        let steps = watch.0.lock().unwrap().clone();
        (steps, rows)
    };
    let (whole, late) = (watched(0), watched(2));
    assert_eq!((&late.0[..], &late.1[..]), (&whole.0[6..], &[false, false, true][..]));

    // Options hold for one fit, and a reset forgets averages and momentum.
    let mut learn = learner(3, Device::Cpu);
    let wd = |learn: &Learner| learn.opt().param_groups()[0].hyper.wd;
    let steps = |learn: &Learner| learn.opt().param_groups()[2].states().map(|(_, s)| s.step).collect::<Vec<_>>();
    learn
        .fit_one_cycle_with(1, 1e-3, &OneCycle::default(), FitOptions { wd: Some(0.3), ..FitOptions::default() })
        .unwrap();
    assert_eq!((wd(&learn), steps(&learn)), (0.3, vec![3; 6]));
    learn.fit(1, 1e-3).unwrap();
    assert_eq!((wd(&learn), steps(&learn)), (0.3, vec![6; 6]), "as in fastai hyper-parameters and averages stay");
    learn.fit_with(1, 1e-3, FitOptions { reset_opt: true, ..FitOptions::default() }).unwrap();
    let hyper = learn.opt().param_groups()[0].hyper;
    assert_eq!((hyper.wd, hyper.mom, steps(&learn)), (0.01, 0.9, vec![3; 6]));
}

#[test]
fn numbers_out_of_range_are_named() {
    let mut learn = learner(3, Device::Cpu);
    let before: Vec<Vec<f64>> = learn.model().state().iter().map(|(_, e)| e.value().to_f64_vec().unwrap()).collect();
    let cycle = |change: fn(&mut OneCycle)| {
        let mut cycle = OneCycle::default();
        change(&mut cycle);
        cycle
    };
    let fine = |change: fn(&mut FineTune)| {
        let mut settings = FineTune::default();
        change(&mut settings);
        settings
    };
    let none = FitOptions::default;
    let start = |start_epoch| FitOptions { start_epoch, ..none() };
    let all = [
        (learn.fit(0, 1e-3), "epochs"),
        (learn.fit(1, 0.0), "learning rate must be above 0, not 0"),
        (learn.fit(1, f64::NAN), "not NaN"),
        (learn.fit(1, -1e-3), "not -0.001"),
        (learn.fit(1, f64::INFINITY), "not inf"),
        (learn.fit_one_cycle(1, slice(1e-3, 1e-5)), "1e-5..1e-3"),
        (learn.fit_one_cycle(1, vec![1e-3; 2]), "2 learning rates for 3"),
        (learn.fit_with(2, 1e-3, start(2)), "start_epoch"),
        (learn.fit_with(2, 1e-3, FitOptions { wd: Some(-1.0), ..none() }), "wd: a weight decay of -1"),
        (learn.fit_one_cycle_with(1, 1e-3, &cycle(|c| c.pct_start = 0.0), none()), "pct_start: 0 is out of range"),
        (learn.fit_one_cycle_with(1, 1e-3, &cycle(|c| c.div = f64::NAN), none()), "div: NaN"),
        (learn.fit_one_cycle_with(1, 1e-3, &cycle(|c| c.div_final = 0.0), none()), "div_final: 0"),
        (learn.fit_one_cycle_with(1, 1e-3, &cycle(|c| c.moms.1 = 1.0), none()), "moms: 1"),
        (learn.fine_tune_with(1, &fine(|s| s.lr_mult = 0.0), none()), "lr_mult"),
        (learn.fine_tune_with(1, &fine(|s| s.pct_start = 1.5), none()), "pct_start"),
        (learn.fine_tune_with(1, &fine(|s| s.base_lr = 0.0), none()), "learning rate"),
        (learn.fit_flat_cos_with(1, 1e-3, 1e5, -0.5, none()), "pct_start"),
        (learn.fit_sgdr(2, 0, 1e-3), "fit_sgdr"),
        (learn.fit_sgdr(64, 1, 1e-3), "fewer or shorter"),
        (learn.fit_sgdr(0, 1, 1e-3), "epochs"),
        (learn.lr_find_with(&LrFind { start_lr: 1.0, end_lr: 1e-3, ..LrFind::default() }).map(|_| ()), "lr_find"),
        (learn.lr_find_with(&LrFind { start_lr: 0.0, ..LrFind::default() }).map(|_| ()), "above 0"),
    ];
    for (result, part) in all {
        let e = result.expect_err(part);
        let advice = !e.advice().is_empty();
        assert!(e.kind() == onecycle::ErrorKind::Argument && e.to_string().contains(part) && advice, "{part}: {e}");
    }
    let after: Vec<Vec<f64>> = learn.model().state().iter().map(|(_, e)| e.value().to_f64_vec().unwrap()).collect();
    assert!(before == after);
}

#[test]
fn suggestions_parity() {
    let Some(json) = common::json("training/lr_find.json") else { return };
    type Rule = fn(&Curve) -> Option<Found>;
    let rules: [(&str, Rule); 4] = [
        ("minimum", suggest::minimum),
        ("steep", suggest::steep),
        ("valley", suggest::valley),
        ("slide", suggest::slide),
    ];
    for case in json["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let numbers = |key: &str| -> Vec<f64> {
            let number = |v: &Json| v.as_f64().unwrap_or_else(|| v.as_str().unwrap().parse().unwrap());
            case[key].as_array().unwrap().iter().map(number).collect()
        };
        let curve =
            Curve::new(&numbers("lrs"), &numbers("smoothed"), case["args"]["num_it"].as_u64().unwrap() as usize);
        assert_eq!(curve.len() as u64, case["n_used_for_suggestions"].as_u64().unwrap(), "{name}");
        for (rule, of) in rules {
            let recorded = &case["suggestions"][rule];
            match (of(&curve), recorded["value"].as_f64()) {
                (Some(found), Some(value)) => {
                    // Equal, but for the last bit, which reading the JSON may turn.
                    assert!((found.lr - value).abs() <= 3e-16 * value, "{name}: {rule} {} {value}", found.lr);
                    let point = (recorded["point"][0].as_f64().unwrap(), recorded["point"][1].as_f64().unwrap());
                    assert!((found.point.0 - point.0).abs() <= 3e-16 * point.0, "{name}: {rule} {found:?} {point:?}");
                    assert!(
                        (found.point.1 - point.1).abs() <= 1e-6 * point.1.abs(),
                        "{name}: {rule} {found:?} {point:?}"
                    );
                }
                (None, None) => assert!(recorded["error"].is_string()),
                (found, value) => panic!("{name}: {rule} is {found:?}, recorded {value:?}"),
            }
        }
    }
}

/// Everything that a fit could change, as bits.
fn bits(learn: &Learner) -> Vec<Vec<u64>> {
    let values = |t: &onecycle::Tensor| t.to_f64_vec().unwrap().into_iter().map(f64::to_bits).collect::<Vec<_>>();
    let mut all: Vec<Vec<u64>> = learn.model().state().iter().map(|(_, e)| values(&e.value())).collect();
    for group in learn.opt().param_groups() {
        let h = group.hyper;
        all.push([h.lr, h.mom, h.sqr_mom, h.eps, h.wd].map(f64::to_bits).to_vec());
        for (_, state) in group.states() {
            all.push(vec![state.step]);
            all.extend([&state.grad_avg, &state.sqr_avg].into_iter().flatten().map(values));
        }
        all.extend(group.parameters().map(|(p, _)| vec![u64::from(p.is_trainable()), u64::from(p.grad().is_some())]));
    }
    all.push(learn.recorder().losses().iter().chain(learn.recorder().lrs()).map(|v| v.to_bits()).collect());
    all
}

#[test]
fn the_finder_changes_nothing() {
    for device in common::devices() {
        let fit = |learn: &mut Learner| learn.fit_one_cycle(1, 1e-3).unwrap();
        let (mut searched, mut plain) = (learner(5, device), learner(5, device));
        // Before the first step, after some, and frozen. The emulator takes a second for a step.
        let (turns, num_it) = if device == Device::Cpu { (0..3, 30) } else { (2..3, 10) };
        for turn in turns {
            if turn == 2 {
                searched.freeze().unwrap();
                plain.freeze().unwrap();
            }
            let before = bits(&searched);
            let found = searched.lr_find_with(&LrFind { num_it, stop_div: false, ..LrFind::default() }).unwrap();
            assert!(bits(&searched) == before, "{device}, turn {turn}");
            assert_eq!((found.losses.len(), found.lrs.len()), (num_it, num_it));
            assert!(found.lrs[0] == 1e-7 && found.lrs.windows(2).all(|w| w[0] < w[1]));
            assert!(found.to_string().starts_with("SuggestedLRs(minimum="), "{found}");
            // What comes next is what would have come without it: order, crops and dropout too.
            fit(&mut searched);
            fit(&mut plain);
            assert!(bits(&searched) == bits(&plain), "{device}, turn {turn}");
        }
    }
}

/// Nor with callbacks that remember something, and in f16, whose scaled losses may leave steps out.
#[test]
fn the_finder_changes_nothing_with_callbacks_and_in_f16() {
    let make = || {
        let mut learn = learner(5, Device::Cpu).to_fp16().unwrap();
        learn.add_cb(MixUp::default());
        learn.add_cb(GradientAccumulation::new(4));
        learn.add_cb(GradientClip { max_norm: 0.1, norm_type: f64::INFINITY });
        learn.add_cb(BnFreeze);
        learn
    };
    let (mut searched, mut plain) = (make(), make());
    for turn in 0..2 {
        let before = bits(&searched);
        let settings = LrFind { num_it: 23, end_lr: 1e4, stop_div: turn == 0, ..LrFind::default() };
        let found = searched.lr_find_with(&settings).unwrap();
        assert!(found.losses.len() > 10 && bits(&searched) == before, "turn {turn}");
        searched.fit_one_cycle(1, 1e-3).unwrap();
        plain.fit_one_cycle(1, 1e-3).unwrap();
        assert!(bits(&searched) == bits(&plain), "turn {turn}");
        assert_eq!(searched.show_training_loop(), plain.show_training_loop());
    }
}

#[test]
fn the_finder_survives_a_failure_and_an_explosion() {
    struct Fails;
    impl Callback for Fails {
        fn name(&self) -> &'static str {
            "Fails"
        }
        fn after_backward(&mut self, learn: &mut Learner) -> Signal {
            match learn.iter() {
                2 => Err(onecycle::Error::new(onecycle::ErrorKind::Data, "on purpose").into()),
                _ => Ok(()),
            }
        }
    }
    let mut learn = learner(5, Device::Cpu);
    let before = bits(&learn);
    learn.add_cb(Fails);
    assert!(learn.lr_find().unwrap_err().to_string().contains("on purpose"));
    assert!(bits(&learn) == before && !learn.in_lr_find());
    learn.remove_cb("Fails");
    // A loss that is infinite at once leaves no curve.
    let hot = LrFind { start_lr: 1e30, end_lr: 1e38, num_it: 40, stop_div: true };
    let e = learn.lr_find_with(&hot).unwrap_err();
    assert!(e.kind() == onecycle::ErrorKind::Data && e.advice().contains("start_lr"), "{e}");
    assert!(bits(&learn) == before);
}
