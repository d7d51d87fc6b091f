//! Promises of a training run: it learns, it repeats to the bit, it stops when it should, and nothing is lost.

mod common;

use common::colours::{colours, learner, loaders, weights};
use onecycle::learner::{Callback, Interpretation, Learner, Level, Signal, Smooth, Stop, StopOnFlag};
use onecycle::nn::Module;
use onecycle::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[test]
fn a_small_network_learns_colours_and_the_exported_model_agrees() {
    let dir = tempfile::tempdir().unwrap();
    colours(dir.path(), 20);
    let dls = loaders(dir.path(), 1, 2);
    let mut learn = learner(&dls);
    learn.fit_one_cycle(8, 1e-2).unwrap();
    let error = learn.recorder().last("error_rate").unwrap();
    assert!(error <= 0.1, "error_rate {error}");
    assert_eq!(learn.recorder().rows().len(), 8);
    assert_eq!(learn.recorder().losses().len(), 8 * dls.train.len());

    let path = dir.path().join("model.safetensors");
    learn.export(&path).unwrap();
    let model = load_learner(&path).unwrap();
    assert_eq!(model.vocab(), ["blue", "green", "red"]);
    let preds = learn.get_preds().unwrap();
    let files = preds.paths.clone();
    let again = model.predict_files(files, 5).unwrap();
    for (i, p) in again.iter().enumerate() {
        assert_eq!(p.path, preds.paths[i]);
        for (a, b) in p.probabilities.iter().zip(&preds.probabilities[i]) {
            assert!((a - b).abs() < 1e-6, "{a} and {b}");
        }
    }
    let (label, probabilities) = learn.predict(&preds.paths[0]).unwrap();
    assert_eq!(label, again[0].label);
    assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-6);

    // Predicting and summarising leave the record of the fit alone.
    learn.summary().unwrap();
    assert_eq!(learn.recorder().losses().len(), 8 * dls.train.len());
    let matrix = Interpretation::from_learner(&learn).unwrap().confusion_matrix();
    assert_eq!(matrix.counts.iter().flatten().sum::<usize>(), dls.valid.n_items());
}

#[test]
fn one_seed_gives_the_same_bits_for_any_number_of_workers() {
    let dir = tempfile::tempdir().unwrap();
    colours(dir.path(), 10);
    let train = |seed, workers| {
        let mut learn = learner(&loaders(dir.path(), seed, workers));
        learn.fit_one_cycle(2, 1e-2).unwrap();
        weights(&learn)
    };
    let first = train(3, 1);
    for workers in [1, 2, 4, 8] {
        assert_eq!(first, train(3, workers), "{workers} workers");
    }
    assert_ne!(first, train(4, 1));
}

/// Kernels cut their work by its size, never by the number of threads. The number is fixed in a process, so this test starts
/// itself again for each.
#[test]
fn one_seed_gives_the_same_bits_for_any_number_of_threads() {
    if let Some(out) = std::env::var_os("ONECYCLE_TEST_WEIGHTS") {
        let dir = tempfile::tempdir().unwrap();
        colours(dir.path(), 10);
        let mut learn = learner(&loaders(dir.path(), 3, 1));
        learn.fit_one_cycle(1, 1e-2).unwrap();
        let bytes: Vec<u8> = weights(&learn).concat().iter().flat_map(|w| w.to_le_bytes()).collect();
        std::fs::write(out, bytes).unwrap();
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let run = |threads: &str| {
        let out = dir.path().join(threads);
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "one_seed_gives_the_same_bits_for_any_number_of_threads"])
            .env("ONECYCLE_TEST_WEIGHTS", &out)
            .env("ONECYCLE_THREADS", threads)
            .output()
            .unwrap();
        assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stdout));
        std::fs::read(out).unwrap()
    };
    let one = run("1");
    assert!(one.len() > 10_000);
    for threads in ["2", "4", "8"] {
        assert_eq!(one, run(threads), "{threads} threads");
    }
}

#[test]
fn a_loss_that_is_no_number_stops_at_its_batch_and_spares_the_weights() {
    let dir = tempfile::tempdir().unwrap();
    colours(dir.path(), 10);
    let mut learn = learner(&loaders(dir.path(), 1, 1));
    let e = learn.fit(3, 1e30).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFinite);
    let text = e.to_string();
    assert!(text.contains("epoch") && text.contains("batch") && text.contains("smaller learning rate"), "{text}");
    learn.export(dir.path().join("still.safetensors")).unwrap();
}

#[test]
fn a_raised_flag_stops_between_batches_and_leaves_a_usable_learner() {
    let dir = tempfile::tempdir().unwrap();
    colours(dir.path(), 10);
    let flag = Arc::new(AtomicUsize::new(0));
    /// Raises the flag in the second epoch.
    struct Raise(Arc<AtomicUsize>);
    impl Callback for Raise {
        fn name(&self) -> &'static str {
            "Raise"
        }
        fn before_batch(&mut self, learn: &mut Learner) -> Signal {
            if learn.epoch() == 1 && learn.iter() == 1 {
                self.0.store(2, Ordering::SeqCst);
            }
            Ok(())
        }
    }
    let mut learn =
        learner(&loaders(dir.path(), 1, 2)).callback(Raise(flag.clone())).callback(StopOnFlag::new(flag.clone()));
    let e = learn.fit_one_cycle(5, 1e-2).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Interrupted);
    assert_eq!(learn.recorder().rows().len(), 1, "one epoch was finished");
    learn.export(dir.path().join("model.safetensors")).unwrap();
    assert_eq!(load_learner(dir.path().join("model.safetensors")).unwrap().vocab().len(), 3);
    flag.store(0, Ordering::SeqCst);
    learn.remove_cb("Raise");
    learn.fit_one_cycle(1, 1e-2).unwrap();
}

/// Levels are cancelled one at a time, and what follows them still happens: fastai's order of events.
#[test]
fn events_come_in_fastais_order() {
    #[derive(Clone, Default)]
    struct Log(Arc<std::sync::Mutex<Vec<&'static str>>>);
    struct Watch(Log, Option<Level>);
    macro_rules! watch {
        ($($event:ident)*) => {
            impl Callback for Watch {
                fn name(&self) -> &'static str {
                    "Watch"
                }
                $(fn $event(&mut self, learn: &mut Learner) -> Signal {
                    self.0.0.lock().unwrap().push(stringify!($event));
                    match (stringify!($event), self.1) {
                        ("before_step", Some(Level::Step)) => Err(Stop::Cancel(Level::Step)),
                        ("after_pred", Some(Level::Batch)) if learn.is_training() => Err(Stop::Cancel(Level::Batch)),
                        ("before_validate", Some(Level::Validate)) => Err(Stop::Cancel(Level::Validate)),
                        ("after_train", Some(Level::Epoch)) => Err(Stop::Cancel(Level::Epoch)),
                        _ => Ok(()),
                    }
                })*
                fn after_cancel(&mut self, _: Level, _: &mut Learner) -> Signal {
                    self.0.0.lock().unwrap().push("after_cancel");
                    Ok(())
                }
            }
        };
    }
    watch!(before_fit before_epoch before_train before_validate before_batch after_pred after_loss before_backward
           after_backward before_step after_step after_batch after_train after_validate after_epoch after_fit);
    let dir = tempfile::tempdir().unwrap();
    colours(dir.path(), 4);
    let run = |cancel| {
        let log = Log::default();
        let mut learn = learner(&loaders(dir.path(), 1, 1)).callback(Watch(log.clone(), cancel));
        let before = weights(&learn);
        learn.fit(1, 1e-3).unwrap();
        let parameters = |w: &[Vec<f64>]| w[0].clone();
        (log.0.lock().unwrap().join(" "), parameters(&before) == parameters(&weights(&learn)))
    };
    let batch = "before_batch after_pred after_loss before_backward after_backward before_step after_step after_batch";
    let valid = "before_validate before_batch after_pred after_loss after_batch after_validate";
    let whole = |train: &str, rest: &str| {
        format!("before_fit before_epoch before_train {train} after_train{rest} after_epoch after_fit")
    };
    assert_eq!(run(None), (whole(batch, &format!(" {valid}")), false));
    let no_step = batch.replace("before_step", "before_step after_cancel");
    assert_eq!(run(Some(Level::Step)), (whole(&no_step, &format!(" {valid}")), true));
    let no_batch = "before_batch after_pred after_cancel after_batch";
    assert_eq!(run(Some(Level::Batch)), (whole(no_batch, &format!(" {valid}")), true));
    assert_eq!(run(Some(Level::Validate)), (whole(batch, " before_validate after_cancel after_validate"), false));
    assert_eq!(run(Some(Level::Epoch)), (whole(batch, " after_cancel"), false));
}

#[test]
fn freezing_stops_the_body_but_not_its_norms() {
    let dir = tempfile::tempdir().unwrap();
    colours(dir.path(), 6);
    let mut learn = learner(&loaders(dir.path(), 1, 1));
    learn.freeze().unwrap();
    let before: Vec<_> =
        learn.model().state().iter().map(|(n, e)| (n.clone(), e.value().to_f64_vec().unwrap())).collect();
    learn.fit_one_cycle(1, 1e-2).unwrap();
    for ((name, old), (_, entry)) in before.iter().zip(learn.model().state()) {
        let same = *old == entry.value().to_f64_vec().unwrap();
        let is_body_weight = name.starts_with("0.") && entry.value().shape().len() == 4;
        assert_eq!(same, is_body_weight, "{name}");
    }
    assert!(learn.summary().unwrap().contains("Model frozen up to parameter group #2"));
    let steps = |learn: &Learner| learn.opt().param_groups()[2].states().map(|(_, s)| s.step).max();
    assert!(steps(&learn) > Some(0));
    learn.unfreeze().unwrap();
    assert_eq!(steps(&learn), Some(0), "unfreezing forgets the optimizer's state");
    assert!(learn.summary().unwrap().contains("Model unfrozen"));
}

#[test]
fn recorder_parity() {
    let Some(json) = common::json("training/recorder.json") else { return };
    let list = |key: &str| -> Vec<f64> { json[key].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect() };
    let mut smooth = Smooth::default();
    for (i, (loss, want)) in list("train_batch_losses").into_iter().zip(list("smoothed")).enumerate() {
        let got = smooth.push(loss);
        assert!((got - want).abs() < 1e-5 * want.abs(), "batch {i}: {got} for {want}");
    }
}
