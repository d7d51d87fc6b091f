//! fastai's callbacks: what they do, in which order, what they say, and how they get on with each other.

mod common;

use common::colours::{colours, learner, loaders, weights};
use common::drawn::tiny;
use common::emulated::{self, Mode};
use onecycle::data::Item;
use onecycle::learner::callback::{AFTER_EPOCH, BEFORE_EPOCH};
use onecycle::learner::{
    BCEWithLogitsLossFlat, BnFreeze, CSVLogger, CrossEntropyLossFlat, CutMix, EarlyStopping, Event, FitOptions,
    GradientAccumulation, GradientClip, Level, Loss, LrFind, Metric, MixUp, ReduceLROnPlateau, SaveModel, SkipToEpoch,
    StopOnFlag, TerminateOnNaN,
};
use onecycle::nn::Module;
use onecycle::ops;
use onecycle::optim::OptimizerKind;
use onecycle::prelude::*;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

type Shared<T> = Arc<Mutex<T>>;

/// A callback made of closures, for one event each.
struct On<F>(Event, i32, F);

impl<F: FnMut(&mut Learner) -> Result<()> + Send> On<F> {
    fn call(&mut self, event: Event, learn: &mut Learner) -> Signal {
        if event == self.0 { Ok((self.2)(learn)?) } else { Ok(()) }
    }
}

macro_rules! events {
    ($($method:ident: $event:expr,)*) => {
        impl<F: FnMut(&mut Learner) -> Result<()> + Send> Callback for On<F> {
            fn name(&self) -> &'static str {
                "On"
            }
            fn order(&self) -> i32 {
                self.1
            }
            $(fn $method(&mut self, learn: &mut Learner) -> Signal {
                self.call($event, learn)
            })*
        }
    };
}
events! {
    before_epoch: BEFORE_EPOCH,
    before_batch: Event::Before(Level::Batch),
    after_pred: Event::AfterPred,
    after_step: Event::After(Level::Step),
    after_batch: Event::After(Level::Batch),
    after_epoch: AFTER_EPOCH,
}

fn on(event: Event, order: i32, f: impl FnMut(&mut Learner) -> Result<()> + Send + 'static) -> impl Callback {
    On(event, order, f)
}

/// Ends the fit after its first epoch.
struct End;

impl Callback for End {
    fn name(&self) -> &'static str {
        "End"
    }
    fn after_epoch(&mut self, _: &mut Learner) -> Signal {
        Err(Stop::Cancel(Level::Fit))
    }
}

/// A learner whose metric `name` has these values, epoch by epoch.
fn scripted(dir: &Path, name: &str, values: &[f64]) -> Learner {
    let epoch = Arc::new(AtomicUsize::new(0));
    let (values, at) = (values.to_vec(), epoch.clone());
    let metric = Metric::new(name, move |_: &Tensor, _: &Tensor| Ok(values[at.load(Ordering::SeqCst)]));
    let mut learn = learner(&loaders(dir, 1, 1)).metrics(metric).at_path(dir);
    learn.add_cb(on(BEFORE_EPOCH, 0, move |learn| {
        epoch.store(learn.epoch(), Ordering::SeqCst);
        Ok(())
    }));
    learn
}

fn pictures(per_class: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    colours(dir.path(), per_class);
    dir
}

fn score() -> String {
    "score".into()
}

#[test]
fn early_stopping_ends_the_fit_and_the_best_model_comes_back() {
    let dir = pictures(4);
    let mut learn = scripted(dir.path(), "score", &[1.0, 3.0, 2.0, 3.0, 9.0]);
    let seen: Shared<Vec<Vec<Vec<f64>>>> = Shared::default();
    let keep = seen.clone();
    learn.add_cb(on(AFTER_EPOCH, 0, move |learn| {
        keep.lock().unwrap().push(weights(learn));
        Ok(())
    }));
    // The order in which they are added doesn't matter.
    learn.add_cb(EarlyStopping { monitor: score(), patience: 2, ..EarlyStopping::default() });
    learn.add_cb(SaveModel { monitor: score(), fname: "best".into(), ..SaveModel::default() });
    learn.fit(5, 1e-3).unwrap();
    assert_eq!(learn.recorder().rows().len(), 4);
    let said = [
        "Better model found at epoch 0 with score value: 1.0.",
        "Better model found at epoch 1 with score value: 3.0.",
        "No improvement since epoch 1: early stopping",
    ];
    assert_eq!(learn.recorder().messages(), said);
    let seen = seen.lock().unwrap();
    assert!(weights(&learn) == seen[1] && seen[1] != seen[3]);
    assert!(dir.path().join("models/best.safetensors").is_file());
    // Without an optimizer: training goes on with what it remembers.
    assert!(learn.opt().param_groups()[2].states().any(|(_, state)| state.step > 1));
}

#[test]
fn what_counts_as_better_depends_on_name_and_least_difference() {
    let dir = pictures(3);
    let found = |name: &str, values: &[f64], min_delta| -> Vec<usize> {
        let mut learn = scripted(dir.path(), name, values);
        learn.add_cb(SaveModel { monitor: name.into(), min_delta, ..SaveModel::default() });
        learn.fit(values.len(), 1e-3).unwrap();
        let epoch = |line: &String| line.split_whitespace().nth(5).unwrap().parse().unwrap();
        learn.recorder().messages().iter().map(epoch).collect()
    };
    let values = [0.5, 0.46, 0.55, 0.3, f64::NAN, 0.3];
    assert_eq!(found("score", &values, 0.0), [0, 2]);
    assert_eq!(found("my_error", &values, 0.0), [0, 1, 3]);
    assert_eq!(found("some_loss", &values, 0.1), [0, 3]);
    assert_eq!(found("score", &[f64::NAN, 0.1], 0.0), [1], "no number is no best one");
}

#[test]
fn models_of_some_epochs_or_of_the_last() {
    let dir = pictures(3);
    let mut learn = scripted(dir.path(), "score", &[1.0, 2.0, 3.0, 0.0]);
    let every = SaveModel { fname: "m".into(), every_epoch: Some(2), ..SaveModel::default() };
    learn.fit_with(3, 1e-3, FitOptions::default().cb(every.clone())).unwrap();
    let there = |name: &str| dir.path().join(format!("models/{name}.safetensors")).is_file();
    assert_eq!(["m_0", "m_1", "m_2", "m"].map(there), [true, false, true, false]);
    let last = SaveModel { monitor: score(), fname: "last".into(), at_end: true, ..SaveModel::default() };
    learn.fit_with(4, 1e-3, FitOptions::default().cb(last)).unwrap();
    let now = weights(&learn);
    learn.fit(1, 1e-3).unwrap();
    assert_eq!(learn.load("last").unwrap(), Some("Saved file doesn't contain an optimizer state."));
    assert_eq!(weights(&learn), now);
    let e = learn.fit_with(1, 1e-3, FitOptions::default().cb(SaveModel { at_end: true, ..every })).unwrap_err();
    assert!(e.to_string().contains("cannot both"), "{e}");
}

#[test]
fn the_rate_is_reduced_where_nothing_gets_better() {
    let dir = pictures(3);
    let mut learn = scripted(dir.path(), "my_error", &[0.5, 0.6, 0.4, 0.4, 0.4, 0.4]);
    let rates: Shared<Vec<f64>> = Shared::default();
    let keep = rates.clone();
    learn.add_cb(on(AFTER_EPOCH, 90, move |learn| {
        keep.lock().unwrap().push(learn.opt().param_groups()[2].hyper.lr);
        Ok(())
    }));
    let monitor = "my_error".to_string();
    learn.add_cb(ReduceLROnPlateau { monitor, factor: 10.0, min_lr: 2e-5, ..ReduceLROnPlateau::default() });
    learn.fit(6, 1e-3).unwrap();
    assert_eq!(*rates.lock().unwrap(), [1e-3, 1e-4, 1e-4, 2e-5, 2e-5, 2e-5]);
    let said = ["Epoch 1: reducing lr to 0.0001", "Epoch 3: reducing lr to 2e-05"];
    assert_eq!(learn.recorder().messages(), said, "a rate that stays is not reported");
}

#[test]
fn a_number_that_is_not_in_the_table_is_refused_before_the_first_batch() {
    let dir = pictures(3);
    let mut learn = scripted(dir.path(), "score", &[1.0]);
    let before = weights(&learn);
    let wrong = "accuracy".to_string();
    let cbs: [FitOptions; 3] = [
        FitOptions::default().cb(SaveModel { monitor: wrong.clone(), ..SaveModel::default() }),
        FitOptions::default().cb(EarlyStopping { monitor: wrong.clone(), ..EarlyStopping::default() }),
        FitOptions::default().cb(ReduceLROnPlateau { monitor: wrong, ..ReduceLROnPlateau::default() }),
    ];
    for options in cbs {
        let e = learn.fit_with(1, 1e-3, options).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Argument);
        let text = "accuracy: is not in the table of epochs (watch one of train_loss, valid_loss, error_rate, score)";
        assert_eq!(e.to_string(), text);
    }
    assert_eq!(weights(&learn), before);
}

/// Settings that make no sense are said before the first batch, with what to use instead, and change nothing.
#[test]
fn settings_out_of_range_are_refused_with_what_to_use() {
    let dir = pictures(3);
    let mut learn = learner(&loaders(dir.path(), 1, 1));
    let before = weights(&learn);
    let o = FitOptions::default;
    let weighted = |w: &[f64]| CrossEntropyLossFlat::default().weight(w.to_vec());
    for (options, item) in [
        (o().cb(EarlyStopping { patience: 0, ..EarlyStopping::default() }), "patience"),
        (o().cb(ReduceLROnPlateau { patience: 0, ..ReduceLROnPlateau::default() }), "patience"),
        (o().cb(ReduceLROnPlateau { min_lr: f64::NAN, ..ReduceLROnPlateau::default() }), "min_lr"),
        (o().cb(ReduceLROnPlateau { min_lr: -1.0, ..ReduceLROnPlateau::default() }), "min_lr"),
        (o().cb(GradientClip { norm_type: 0.0, ..GradientClip::default() }), "norm_type"),
        (o().cb(GradientClip { max_norm: f64::NAN, ..GradientClip::default() }), "max_norm"),
        (o().cb(MixUp::default()).cb(CutMix::default()), "mix_targets"),
    ] {
        let e = learn.fit_with(1, 1e-3, options).unwrap_err();
        assert!(e.kind() == ErrorKind::Argument && e.item() == Some(item) && !e.advice().is_empty(), "{item}: {e}");
    }
    for n in [4, -4, 99, isize::MIN] {
        let e = learn.freeze_to(n).unwrap_err();
        assert!(e.item() == Some("freeze_to") && e.advice().contains("0 to 3"), "{e}");
    }
    let few = LrFind { num_it: 6, ..LrFind::default() };
    assert!(learn.lr_find_with(&few).unwrap_err().to_string().contains("6 batches are too few"));
    assert_eq!(weights(&learn), before);
    for (w, said) in [
        (&[1.0, 2.0][..], "2 class weights for 3 classes"),
        (&[1.0, f64::NAN, 1.0], "at least one above 0"),
        (&[1.0, -1.0, 1.0], "0 or more"),
        (&[0.0, 0.0, 0.0], "at least one above 0"),
    ] {
        learn = learn.loss_func(weighted(w));
        let e = learn.fit(1, 1e-3).unwrap_err();
        assert!(e.to_string().contains(said) && !e.advice().is_empty(), "{e}");
    }
    learn = learn.loss_func(CrossEntropyLossFlat::default().label_smoothing(1.5));
    assert!(learn.fit(1, 1e-3).unwrap_err().to_string().contains("from 0 to 1"));
    assert_eq!(weights(&learn), before);
    // A number of epochs that no machine counts to is only stopped by somebody.
    learn = learn.loss_func(CrossEntropyLossFlat::default());
    struct Enough;
    impl Callback for Enough {
        fn name(&self) -> &'static str {
            "Enough"
        }
        fn after_epoch(&mut self, _: &mut Learner) -> Signal {
            Err(Stop::Cancel(Level::Fit))
        }
    }
    learn.fit_with(usize::MAX, 1e-3, o().cb(Enough)).unwrap();
}

#[test]
fn the_finder_calls_no_tracker_and_writes_no_file() {
    let dir = pictures(4);
    let mut learn = learner(&loaders(dir.path(), 1, 1)).at_path(dir.path().join("run"));
    learn.add_cb(SaveModel { monitor: "train_loss".into(), ..SaveModel::default() });
    learn.add_cb(EarlyStopping { monitor: "train_loss".into(), ..EarlyStopping::default() });
    learn.add_cb(ReduceLROnPlateau { monitor: "train_loss".into(), ..ReduceLROnPlateau::default() });
    learn.add_cb(CSVLogger::default());
    // These two change training itself, and so what is found.
    learn.add_cb(GradientAccumulation::new(16));
    learn.add_cb(MixUp::default());
    let before = weights(&learn);
    let found = learn.lr_find().unwrap();
    assert!(!dir.path().join("run").exists());
    assert!(learn.recorder().messages().is_empty());
    assert_eq!(weights(&learn), before);
    assert_eq!(learn.recorder().lr_find(), Some(&found));
    learn.fit(1, 1e-3).unwrap();
    assert_eq!(learn.recorder().messages().len(), 1);
    assert!(dir.path().join("run/history.csv").is_file() && dir.path().join("run/models/model.safetensors").is_file());
    assert_eq!(learn.recorder().lr_find(), Some(&found), "a fit leaves the finder's curve alone");
}

#[test]
fn steps_wait_until_enough_items_were_seen() {
    let dir = pictures(14); // 42 pictures, 34 to train on: 4 batches of 8
    let run = |n_acc| {
        let mut learn = learner(&loaders(dir.path(), 1, 1)).opt_func(OptimizerKind::Sgd);
        learn.add_cb(GradientAccumulation::new(n_acc));
        let stepped: Shared<Vec<(usize, usize)>> = Shared::default();
        let keep = stepped.clone();
        learn.add_cb(on(Event::After(Level::Step), 0, move |learn| {
            keep.lock().unwrap().push((learn.epoch(), learn.iter()));
            Ok(())
        }));
        learn.fit_one_cycle(2, 1e-3).unwrap();
        assert_eq!(learn.recorder().lrs().len(), 8, "schedules advance batch by batch");
        assert_eq!(learn.recorder().batch_losses().len(), 8);
        let losses = learn.recorder().batch_losses()[..2].to_vec();
        let stepped = stepped.lock().unwrap().clone();
        (stepped, losses)
    };
    let all: Vec<_> = (0..2).flat_map(|epoch| (0..4).map(move |i| (epoch, i))).collect();
    let (steps, losses) = run(8);
    assert_eq!(steps, all);
    // 20 items are three batches; the fourth of the first epoch goes on into the second.
    let (steps, accumulated) = run(20);
    assert_eq!(steps, [(0, 2), (1, 1)]);
    assert_eq!(losses[0], accumulated[0], "what is reported is not weighted");
    let mut learn = learner(&loaders(dir.path(), 1, 1));
    assert!(learn.fit_with(1, 1e-3, FitOptions::default().cb(GradientAccumulation::new(0))).is_err());
}

#[test]
fn clipped_steps_are_short() {
    let dir = pictures(4);
    for device in common::devices() {
        let moved = |max_norm, norm_type| {
            let dls = loaders(dir.path(), 1, 1);
            let mut learn = learner(&dls).opt_func(OptimizerKind::Sgd).to_device(device).unwrap();
            let parameters = |learn: &Learner| -> Vec<f64> {
                learn.model().named_parameters().iter().flat_map(|(_, p)| p.value().to_f64_vec().unwrap()).collect()
            };
            let before = parameters(&learn);
            let clip = GradientClip { max_norm, norm_type };
            learn.fit_with(1, 1.0, FitOptions { wd: Some(0.0), ..FitOptions::default() }.cb(clip)).unwrap();
            let n = learn.n_iter();
            assert_eq!(n, 1, "one step each");
            before.iter().zip(parameters(&learn)).map(|(a, b)| (a - b).abs()).collect::<Vec<f64>>()
        };
        let length = |step: &[f64]| step.iter().map(|d| d * d).sum::<f64>().sqrt();
        // With a learning rate of 1 a step is the gradient.
        let whole = length(&moved(1e6, 2.0));
        assert!(whole > 0.02, "{whole}");
        let clipped = length(&moved(0.01, 2.0));
        assert!((clipped - 0.01).abs() < 1e-4, "{clipped} on {device}");
        let largest = moved(0.001, f64::INFINITY).into_iter().fold(0.0, f64::max);
        assert!((largest - 0.001).abs() < 1e-5, "{largest} on {device}");
    }
}

/// Inputs of every batch before and after a callback of order 0, in training and validation, and the targets' loss.
#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    before: Vec<f64>,
    after: Vec<f64>,
    training: bool,
}

fn mixed_by(dir: &Path, device: Device, cb: impl Callback + 'static) -> (Vec<Seen>, Vec<Vec<f64>>) {
    let mut learn = learner(&loaders(dir, 1, 1)).to_device(device).unwrap();
    let seen: Shared<Vec<Seen>> = Shared::default();
    let (first, second) = (seen.clone(), seen.clone());
    learn.add_cb(on(Event::Before(Level::Batch), -1, move |learn| {
        let before = learn.x().unwrap().to_f64_vec()?;
        first.lock().unwrap().push(Seen { before, after: Vec::new(), training: learn.is_training() });
        Ok(())
    }));
    learn.add_cb(cb);
    learn.add_cb(on(Event::Before(Level::Batch), 1, move |learn| {
        second.lock().unwrap().last_mut().unwrap().after = learn.x().unwrap().to_f64_vec()?;
        Ok(())
    }));
    learn.fit(1, 1e-3).unwrap();
    let seen = seen.lock().unwrap().clone();
    (seen, weights(&learn))
}

#[test]
fn mixing_is_for_training_and_repeats_to_the_bit() {
    let dir = pictures(4);
    for device in common::devices() {
        let (seen, trained) = mixed_by(dir.path(), device, MixUp::default());
        assert!(seen.iter().any(|batch| batch.training) && seen.iter().any(|batch| !batch.training));
        for batch in &seen {
            assert_eq!(batch.training, batch.before != batch.after, "on {device}");
            // A mean of two pictures is nowhere outside of both.
            let (low, high) = batch.before.iter().fold((f64::MAX, f64::MIN), |(l, h), &v| (l.min(v), h.max(v)));
            assert!(batch.after.iter().all(|&v| low - 1e-5 <= v && v <= high + 1e-5));
        }
        assert!((seen, trained) == mixed_by(dir.path(), device, MixUp::default()), "other bits on {device}");
        let (seen, _) = mixed_by(dir.path(), device, CutMix::default());
        for batch in &seen {
            assert_eq!(batch.training, batch.before != batch.after, "on {device}");
            // Every pixel is some picture's, at the same place.
            let n = 16 * 16 * 3;
            let there = |(i, v): (usize, &f64)| batch.before.iter().skip(i % n).step_by(n).any(|w| w == v);
            assert!(batch.after.iter().enumerate().all(there));
        }
    }
}

/// What is made small is the mean over the batch of both targets' losses, for labels as for classes.
#[test]
fn the_loss_of_mixed_targets_is_the_mean_of_both() {
    let dir = pictures(4);
    let (partners, shares) = ([1, 2, 3, 4, 5, 6, 7, 0], [1.0f32, 0.0, 0.5, 0.75, 0.9, 0.6, 0.25, 0.5]);
    let mix =
        move |learn: &mut Learner| if learn.is_training() { learn.mix_targets(&partners, &shares) } else { Ok(()) };
    fn check<L: Loss + 'static>(
        dls: &DataLoaders,
        loss: L,
        partners: [usize; 8],
        shares: [f32; 8],
        mix: impl Callback + 'static,
    ) {
        let mut learn = vision_learner(dls, tiny).unwrap();
        learn.remove_cb("ProgressCallback");
        learn.add_cb(mix);
        let wanted: Shared<Vec<f64>> = Shared::default();
        let keep = wanted.clone();
        learn.add_cb(on(Event::AfterPred, 0, move |learn| {
            if learn.is_training() {
                let (pred, y) = (learn.pred().unwrap().detach(), learn.y().unwrap());
                let (own, other) = (loss.per_item(&pred, y)?, loss.per_item(&pred, &ops::take_rows(y, &partners)?)?);
                let both = own.into_iter().zip(other).zip(shares.map(f64::from));
                let sum: f64 = both.map(|((own, other), share)| share * own + (1.0 - share) * other).sum();
                keep.lock().unwrap().push(sum / 8.0);
            }
            Ok(())
        }));
        learn.fit(1, 1e-3).unwrap();
        let (got, wanted) = (learn.recorder().batch_losses(), wanted.lock().unwrap());
        assert!(!got.is_empty() && got.len() == wanted.len());
        got.iter().zip(wanted.iter()).for_each(|(g, w)| assert!((g - w).abs() < 1e-6, "{g} instead of {w}"));
    }
    let before = |f| on(Event::Before(Level::Batch), 0, f);
    let dls = loaders(dir.path(), 1, 1);
    check(&dls, CrossEntropyLossFlat::default(), partners, shares, before(mix));
    let label = |item: &Item| -> Result<Vec<String>> {
        let name = item.path()?.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(vec![name[..3].to_string(), format!("ends with {}", &name[name.len() - 1..])])
    };
    let labels = DataBlock::new((ImageBlock, MultiCategoryBlock))
        .get_items(get_image_files)
        .get_y(getter(label))
        .item_tfms(Resize::new(16))
        .bs(8)
        .workers(1)
        .dataloaders(dir.path())
        .unwrap();
    check(&labels, BCEWithLogitsLossFlat::default(), partners, shares, before(mix));

    let too_few = on(Event::Before(Level::Batch), 5, |learn| learn.mix_targets(&[0], &[1.0]));
    let e = learner(&dls).fit_with(1, 1e-3, FitOptions::default().cb(too_few)).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Shape);
}

#[test]
fn the_history_grows_line_by_line() {
    let dir = pictures(3);
    let path = dir.path().join("history.csv");
    let mut learn = scripted(dir.path(), "score", &[0.5, 1e-7, 1e16]);
    let lines: Shared<Vec<usize>> = Shared::default();
    let (keep, file) = (lines.clone(), path.clone());
    learn.add_cb(on(BEFORE_EPOCH, 0, move |_| {
        keep.lock().unwrap().push(std::fs::read_to_string(&file).unwrap().lines().count());
        Ok(())
    }));
    learn.fit_with(3, 1e-3, FitOptions::default().cb(CSVLogger::default())).unwrap();
    assert_eq!(*lines.lock().unwrap(), [1, 2, 3], "a line is there before the next epoch begins");
    let text = std::fs::read_to_string(&path).unwrap();
    let first = &learn.recorder().rows()[0];
    assert!(text.starts_with("epoch,train_loss,valid_loss,error_rate,score,time\n0,"), "{text}");
    let line = format!(
        "0,{:?},{:?},{:?},0.5,00:00",
        first.train_loss.unwrap(),
        first.get("valid_loss").unwrap(),
        first.get("error_rate").unwrap()
    );
    assert_eq!(text.lines().nth(1).unwrap(), line);
    assert!(text.lines().nth(2).unwrap().contains(",1e-07,") && text.lines().nth(3).unwrap().contains(",1e+16,"));

    // As a crash leaves it: the next line is a line nevertheless.
    std::fs::write(&path, text.trim_end()).unwrap();
    learn.fit_with(1, 1e-3, FitOptions::default().cb(CSVLogger::default().append())).unwrap();
    let longer = std::fs::read_to_string(&path).unwrap();
    assert_eq!((longer.lines().count(), longer.starts_with(&text)), (5, true), "{longer}");
    // Other columns get a header of their own.
    let mut learn = learner(&loaders(dir.path(), 1, 1)).at_path(dir.path());
    learn.fit_with(1, 1e-3, FitOptions::default().cb(CSVLogger::default().append())).unwrap();
    assert_eq!(
        std::fs::read_to_string(&path).unwrap().lines().nth(5),
        Some("epoch,train_loss,valid_loss,error_rate,time")
    );
    // An epoch that was left out has its number and its time, as in the table.
    let options = FitOptions { start_epoch: 1, ..FitOptions::default() };
    learn.fit_with(2, 1e-3, options.cb(CSVLogger::new("sub/h.csv"))).unwrap();
    let text = std::fs::read_to_string(dir.path().join("sub/h.csv")).unwrap();
    assert_eq!(text.lines().nth(1), Some("0,00:00"));
    // Somebody who ends the fit before it is the logger's turn doesn't cost a line.
    learn.fit_with(2, 1e-3, FitOptions::default().cb(End).cb(CSVLogger::new("sub/h.csv"))).unwrap();
    assert_eq!(std::fs::read_to_string(dir.path().join("sub/h.csv")).unwrap().lines().count(), 2);
    let all = dir.path().join("all.csv");
    learn.recorder().save_csv(&all).unwrap();
    assert_eq!(std::fs::read_to_string(all).unwrap().lines().count(), 1 + learn.recorder().history().len());
}

#[test]
fn norms_rest_where_they_are_frozen() {
    let dir = pictures(4);
    let run = |freeze: bool, train_bn: bool| {
        let mut learn = learner(&loaders(dir.path(), 1, 1)).train_bn(train_bn);
        learn.freeze().unwrap();
        let statistics = |learn: &Learner, part: &str| -> Vec<Vec<f64>> {
            let own = learn.model().state().into_iter().filter(|(name, _)| name.starts_with(part));
            own.filter(|(name, _)| name.contains("running")).map(|(_, e)| e.value().to_f64_vec().unwrap()).collect()
        };
        let before = ["0.", "1."].map(|part| statistics(&learn, part));
        let mut options = FitOptions::default();
        if freeze {
            options = options.cb(BnFreeze);
        }
        learn.fit_with(1, 1e-3, options).unwrap();
        let after = ["0.", "1."].map(|part| statistics(&learn, part));
        [before[0] == after[0], before[1] == after[1]]
    };
    assert_eq!(run(true, false), [true, false], "the body's rest, the head's don't");
    assert_eq!(run(false, false), [false, false]);
    assert_eq!(run(true, true), [false, false], "norms that train are left alone");
}

#[test]
fn a_saved_learner_goes_on_as_if_nothing_had_happened() {
    let dir = pictures(6);
    let dls = loaders(dir.path(), 1, 1);
    let fresh = || learner(&dls).at_path(dir.path());
    let mut learn = fresh();
    learn.fit(1, 1e-3).unwrap();
    let path = learn.save("one").unwrap();
    assert_eq!(path, dir.path().join("models/one.safetensors"));
    learn.save_with("model", false).unwrap();
    let (at, steps) =
        (weights(&learn), |learn: &Learner| learn.opt().param_groups()[2].states().last().unwrap().1.step);
    let averages = |learn: &Learner| -> Vec<Vec<f64>> {
        let groups = learn.opt().param_groups().iter();
        groups.flat_map(|g| g.states()).map(|(_, s)| s.sqr_avg.as_ref().unwrap().to_f64_vec().unwrap()).collect()
    };
    let mut other = fresh();
    assert_eq!(other.load("one").unwrap(), None);
    assert_eq!(weights(&other), at);
    assert_eq!((steps(&other), averages(&other)), (steps(&learn), averages(&learn)));
    assert_eq!(other.opt().param_groups()[0].hyper, learn.opt().param_groups()[0].hyper);

    // A rate that a JSON reader would round.
    learn.fit(1, 1.2129019498825073e-3).unwrap();
    learn.save("two_epochs").unwrap();
    let mut again = fresh();
    again.load("two_epochs").unwrap();
    assert_eq!(again.opt().param_groups()[0].hyper.lr, 1.2129019498825073e-3);
    assert_eq!(weights(&again), weights(&learn));
    assert_eq!(fresh().load("model").unwrap(), Some("Saved file doesn't contain an optimizer state."));
    assert_eq!(fresh().load_with("model", false).unwrap(), None);
    let mut sgd = fresh().opt_func(OptimizerKind::Sgd);
    assert_eq!(sgd.load("one").unwrap(), Some("Could not load the optimizer state."));
    assert_eq!(weights(&sgd), at);

    let e = fresh().load("two").unwrap_err();
    assert!(e.kind() == ErrorKind::Io && e.to_string().contains("two.safetensors"), "{e}");
    let mut wide = vision_learner(&dls, resnet18).unwrap().at_path(dir.path());
    let e = wide.load("one").unwrap_err();
    assert!(e.to_string().contains("is of a tiny, this learner has a resnet18"), "{e}");
    learn.export(dir.path().join("models/exported.safetensors")).unwrap();
    let e = fresh().load("exported").unwrap_err();
    assert!(e.to_string().contains("exported.safetensors: is not a saved learner"), "{e}");
    // Two classes instead of three: the tensor, its shape, and the shape that was expected.
    for i in 0..6 {
        std::fs::remove_file(dir.path().join(format!("blue_{i}.png"))).unwrap();
    }
    let mut two = learner(&loaders(dir.path(), 1, 1)).at_path(dir.path());
    let before = weights(&two);
    let e = two.load("one").unwrap_err();
    let text = e.to_string();
    assert!(
        text.contains("one.safetensors")
            && text.contains("\"1.8.weight\" has shape [3, 512], the model needs [2, 512]"),
        "{text}"
    );
    assert_eq!(weights(&two), before);
}

#[test]
fn the_loop_prints_itself() {
    let dir = pictures(3);
    let mut learn = learner(&loaders(dir.path(), 1, 1));
    let text = "\
Start Fit
   - before_fit     : [TrainEvalCallback, Recorder]
  Start Epoch Loop
     - before_epoch   : [Recorder]
    Start Train
       - before_train   : [TrainEvalCallback]
      Start Batch Loop
         - before_batch   : []
         - after_pred     : []
         - after_loss     : [TerminateOnNaN]
         - before_backward: []
         - after_backward : []
         - before_step    : []
         - after_cancel_step: []
         - after_step     : []
         - after_cancel_batch: []
         - after_batch    : [TrainEvalCallback, Recorder]
      End Batch Loop
    End Train
     - after_cancel_train: []
     - after_train    : [Recorder, TerminateOnNaN]
    Start Valid
       - before_validate: [TrainEvalCallback]
      Start Batch Loop
         - **CBs same as train batch**: []
      End Batch Loop
    End Valid
     - after_cancel_validate: []
     - after_validate : []
  End Epoch Loop
   - after_cancel_epoch: []
   - after_epoch    : [Recorder]
End Fit
 - after_cancel_fit: []
 - after_fit      : []
";
    assert_eq!(learn.show_training_loop(), text);
    learn.add_cb(GradientClip::default());
    learn.add_cb(GradientAccumulation::new(8));
    learn.add_cb(MixUp::default());
    let shown = learn.show_training_loop();
    assert!(shown.contains("         - before_step    : [GradientAccumulation, GradientClip]\n"), "{shown}");
    assert!(shown.contains("         - before_batch   : [MixUp]\n"), "{shown}");
}

/// Passes everything on to another callback, but says nothing about it.
struct Silent<C>(C);

macro_rules! silent {
    ($($event:ident)*) => {
        impl<C: Callback> Callback for Silent<C> {
            fn name(&self) -> &'static str {
                self.0.name()
            }
            fn order(&self) -> i32 {
                self.0.order()
            }
            $(fn $event(&mut self, learn: &mut Learner) -> Signal {
                self.0.$event(learn)
            })*
        }
    };
}
silent!(before_fit before_epoch before_train before_validate before_batch after_pred after_loss before_backward
        after_backward before_step after_step after_batch after_train after_validate after_epoch after_fit);

/// What callbacks say of themselves is what a fit sees of them; one that says nothing is listed everywhere before, and rightly afterwards.
#[test]
fn the_printed_loop_tells_the_truth() {
    let dir = pictures(3);
    fn check<C: Callback + 'static>(dir: &Path, cb: impl Fn() -> C) {
        let lines = |learn: &Learner, name: &str| -> Vec<String> {
            let shown = learn.show_training_loop();
            let acts = |line: &&str| line.contains(name) && !line.contains("after_cancel");
            shown.lines().filter(acts).map(|line| line.split(':').next().unwrap().trim().to_string()).collect()
        };
        let name = cb().name();
        let mut learn = learner(&loaders(dir, 1, 1)).at_path(dir);
        learn.remove_cb("TerminateOnNaN");
        learn.add_cb(cb());
        let said = lines(&learn, name);
        assert_eq!(said.len(), cb().events().expect("it says where it acts").len(), "{name}");
        let mut learn = learner(&loaders(dir, 1, 1)).at_path(dir);
        learn.remove_cb("TerminateOnNaN");
        learn.add_cb(Silent(cb()));
        assert_eq!(lines(&learn, name).len(), 16, "{name}: nothing is known yet");
        learn.fit(1, 1e-3).unwrap();
        assert_eq!(lines(&learn, name), said, "{name}");
    }
    let dir = dir.path();
    check(dir, || TerminateOnNaN);
    check(dir, MixUp::default);
    check(dir, CutMix::default);
    check(dir, || BnFreeze);
    check(dir, || GradientAccumulation::new(1));
    check(dir, GradientClip::default);
    check(dir, CSVLogger::default);
    check(dir, SaveModel::default);
    check(dir, ReduceLROnPlateau::default);
    check(dir, EarlyStopping::default);
    check(dir, || SkipToEpoch(0));
    check(dir, || StopOnFlag::new(Arc::default()));
    #[cfg(feature = "cli")]
    check(dir, || onecycle::learner::ProgressCallback::new(onecycle::learner::Verbosity::TableOnly));
}

#[test]
fn orders_are_fastais() {
    let orders = [
        TerminateOnNaN.order(),
        MixUp::default().order(),
        CutMix::default().order(),
        BnFreeze.order(),
        GradientAccumulation::new(1).order(),
        GradientClip::default().order(),
        CSVLogger::default().order(),
        SaveModel::default().order(),
        ReduceLROnPlateau::default().order(),
        EarlyStopping::default().order(),
        SkipToEpoch(0).order(),
    ];
    assert_eq!(orders, [-9, 0, 0, 0, 6, 11, 60, 61, 62, 63, 70]);
}

#[cfg(feature = "plot")]
#[test]
fn what_was_scheduled_is_what_is_plotted() {
    use onecycle::learner::PlotLoss;
    let dir = pictures(3);
    let mut learn = learner(&loaders(dir.path(), 1, 1));
    let names = |learn: &Learner| learn.recorder().hps().iter().map(|(name, _)| *name).collect::<Vec<_>>();
    assert!(learn.recorder().plot_lr_find().is_none());
    learn.lr_find().unwrap();
    learn.fit(2, 1e-3).unwrap();
    assert_eq!(names(&learn), [""; 0]);
    assert!(learn.recorder().plot_sched().to_svg().contains(">lr<"), "the rate as it was");
    learn.fit_flat_cos(1, 1e-3).unwrap();
    assert_eq!(names(&learn), ["lr"]);
    assert!(!learn.recorder().plot_sched().to_svg().contains(">mom<"));
    learn.fit_one_cycle(8, 1e-3).unwrap();
    assert_eq!(names(&learn), ["lr", "mom"]);
    assert!(learn.recorder().hps().iter().all(|(_, values)| values.len() == learn.recorder().lrs().len()));
    assert!(learn.recorder().plot_sched().to_svg().contains(">mom<"));
    let svg = |settings: PlotLoss| learn.recorder().plot_loss_with(&settings).to_svg();
    let plain = svg(PlotLoss::default());
    assert_eq!(plain, learn.recorder().plot_loss().to_svg());
    assert!(
        plain.contains(">valid<") && !svg(PlotLoss { with_valid: false, ..PlotLoss::default() }).contains(">valid<")
    );
    assert_ne!(svg(PlotLoss { log: true, ..PlotLoss::default() }), plain);
    assert_ne!(svg(PlotLoss { show_epochs: true, ..PlotLoss::default() }), plain);
    assert_ne!(svg(PlotLoss { skip_start: 0, ..PlotLoss::default() }), plain);
    assert!(learn.recorder().plot_lr_find().is_some());
}

/// An epoch after which a callback has ended the fit was an epoch: the next fit draws other numbers.
#[test]
fn the_fit_after_an_early_end_goes_on() {
    let dir = pictures(4);
    let mut learn = learner(&loaders(dir.path(), 1, 1));
    let seen: Shared<Vec<Vec<f64>>> = Shared::default();
    let keep = seen.clone();
    learn.add_cb(on(Event::Before(Level::Batch), 0, move |learn| {
        if learn.is_training() {
            keep.lock().unwrap().push(learn.x().unwrap().to_f64_vec()?);
        }
        Ok(())
    }));
    learn.fit_with(2, 1e-3, FitOptions::default().cb(End)).unwrap();
    assert_eq!(learn.recorder().rows().len(), 1);
    learn.fit(1, 1e-3).unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 2);
    assert_ne!(seen[0], seen[1]);
}

/// Clipping and mixing are the device's own work: with them the host waits no more often than without.
#[test]
fn no_callback_makes_the_host_wait_for_the_gpu() {
    let dir = pictures(4);
    let Some((device, watch)) = emulated::watched(usize::MAX, Mode::Plain) else { return };
    let mut learn = learner(&loaders(dir.path(), 1, 1)).to_device(device).unwrap();
    let mut waits = |options: FitOptions| {
        let before = watch.counts().synchronized;
        learn.fit_with(1, 1e-3, options).unwrap();
        watch.counts().synchronized - before
    };
    let plain = waits(FitOptions::default());
    assert!(plain > 0);
    let clip = GradientClip { max_norm: 1e-3, ..GradientClip::default() };
    let with = || FitOptions::default().cb(GradientAccumulation::new(8)).cb(clip);
    assert_eq!(waits(with().cb(MixUp::default())), plain);
    assert_eq!(waits(with().cb(CutMix::default())), plain);
    assert!(watch.kernels().iter().any(|name| name.contains("gradient_clip")));
}

/// The table and what callbacks say stand on standard output in the order in which they happened, as in fastai. The test runs itself
/// again to look at it.
#[cfg(feature = "cli")]
#[test]
fn what_callbacks_say_is_printed_under_its_row() {
    use onecycle::learner::{ProgressCallback, Verbosity};
    const NAME: &str = "what_callbacks_say_is_printed_under_its_row";
    if std::env::var_os("ONECYCLE_TEST_PRINTS").is_some() {
        let dir = pictures(3);
        let mut learn = scripted(dir.path(), "score", &[1.0, 2.0, 1.0, 1.0]);
        learn.add_cb(ProgressCallback::new(Verbosity::TableOnly));
        learn.add_cb(SaveModel { monitor: score(), ..SaveModel::default() });
        learn.add_cb(EarlyStopping { monitor: score(), ..EarlyStopping::default() });
        learn.add_cb(on(Event::Before(Level::Batch), 0, |learn| {
            if learn.epoch() == 2 && !learn.is_training() {
                learn.say("in the third epoch");
            }
            Ok(())
        }));
        return learn.fit(4, 1e-3).unwrap();
    }
    let out = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", NAME])
        .env("ONECYCLE_TEST_PRINTS", "1")
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success(), "{text}");
    let runner = |line: &&str| line.is_empty() || line.starts_with("test ") || line.starts_with("running ");
    let shown: Vec<&str> = text.lines().filter(|line| !runner(line)).collect();
    let begins = [
        "epoch     train_loss  valid_loss  error_rate  score     time",
        "0         ",
        "Better model found at epoch 0 with score value: 1.0.",
        "1         ",
        "Better model found at epoch 1 with score value: 2.0.",
        "in the third epoch",
        "2         ",
        "No improvement since epoch 1: early stopping",
    ];
    assert_eq!(shown.len(), begins.len(), "{text}");
    shown.iter().zip(begins).for_each(|(line, begin)| assert!(line.starts_with(begin), "{text}"));
}
