//! Fits that are interrupted, at every place and in every way, and end as if they had not been.
//!
//! `ONECYCLE_KILLS` and `ONECYCLE_DAMAGES` set how often the random tests try; `scripts/reliability.sh` runs them with the full counts.
#![cfg(feature = "checkpoint")]

mod common;

use common::drawn::{self, light_and_dark};
use common::promise;
use onecycle::fs::faults::{self, Step};
use onecycle::learner::checkpoint::Place;
use onecycle::learner::{
    Callback, Checkpoint, EarlyStopping, FineTune, FitOptions, GradientAccumulation, GradientClip, Learner, Level,
    MixUp, ReduceLROnPlateau, SaveModel, Signal, Stop, StopOnFlag, vision_learner_on,
};
use onecycle::nn::Module;
use onecycle::optim::OptimizerKind;
use onecycle::optim::schedule::OneCycle;
use onecycle::prelude::*;
use onecycle::rng::{Purpose, Rng};
use onecycle::{Device, ErrorKind};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Three batches of four an epoch.
const BATCHES: usize = 3;

fn learner(device: Device) -> Learner {
    drawn::learner(BATCHES, 4, device)
}

/// Everything that a fit changes and that anybody could see: the bits of the weights and statistics, the losses, the table.
fn traces(learn: &Learner) -> Vec<u64> {
    let bits = |values: Vec<f64>| values.into_iter().map(f64::to_bits);
    let mut all: Vec<u64> = Vec::new();
    for (_, entry) in learn.model().state() {
        all.extend(bits(entry.value().to_f64_vec().unwrap()));
    }
    for group in learn.opt().param_groups() {
        for (_, state) in group.states() {
            all.push(state.step);
            [&state.grad_avg, &state.sqr_avg]
                .into_iter()
                .flatten()
                .for_each(|t| all.extend(bits(t.to_f64_vec().unwrap())));
        }
        all.push(group.hyper.lr.to_bits());
    }
    let r = learn.recorder();
    [r.losses(), r.batch_losses(), r.lrs(), r.moms()].into_iter().for_each(|list| all.extend(bits(list.to_vec())));
    for row in r.history() {
        all.extend(row.values().into_iter().map(|v| v.map_or(0, f64::to_bits)));
    }
    all
}

/// A way to train: what is added to the learner, and the fits.
struct Way {
    name: &'static str,
    make: fn(Learner) -> Learner,
    fit: fn(&mut Learner) -> Result<()>,
}

const WAYS: [Way; 5] = [
    Way { name: "one cycle", make: |learn| learn, fit: |learn| learn.fit_one_cycle(2, 1e-2) },
    Way {
        name: "fine-tuning, which is two fits",
        make: |learn| learn,
        fit: |learn| {
            let recipe = FineTune { base_lr: 1e-2, ..FineTune::default() };
            learn.fine_tune_with(1, &recipe, FitOptions::default())
        },
    },
    Way {
        name: "SGD with mixed pictures, clipped and accumulated gradients, in f16",
        make: |learn| {
            let learn = learn.opt_func(OptimizerKind::Sgd).callback(MixUp::default());
            learn.callback(GradientAccumulation::new(8)).callback(GradientClip::default()).to_fp16().unwrap()
        },
        fit: |learn| learn.fit(2, 1e-2),
    },
    Way {
        name: "callbacks that watch the table",
        make: |learn| {
            let learn = learn.opt_func(OptimizerKind::RmsProp);
            let learn = learn.callback(ReduceLROnPlateau { min_delta: 1.0, ..Default::default() });
            learn.callback(EarlyStopping { patience: 2, min_delta: 10.0, ..Default::default() })
        },
        // It ends after the third epoch.
        fit: |learn| learn.fit(6, 1e-3),
    },
    Way {
        name: "two fits and a search for a learning rate between",
        make: |learn| learn,
        fit: |learn| {
            learn.fit_flat_cos(1, 1e-2)?;
            let found = learn.lr_find_with(&onecycle::learner::LrFind {
                num_it: 12,
                end_lr: 1e-2,
                stop_div: false,
                ..Default::default()
            })?;
            learn.fit_with(1, found.lr_min, FitOptions { wd: Some(0.1), reset_opt: true, ..FitOptions::default() })
        },
    },
];

fn checkpoints(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).map_or(Vec::new(), |entries| entries.map(|e| e.unwrap().path()).collect());
    let mut all: Vec<PathBuf> = entries.into_iter().filter(|p| p.extension().is_some_and(|e| e == "ckpt")).collect();
    all.sort();
    all
}

/// A directory with this checkpoint alone.
fn with_only(checkpoint: &Path) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(checkpoint, dir.path().join(checkpoint.file_name().unwrap())).unwrap();
    dir
}

#[test]
fn a_fit_goes_on_from_every_batch_with_the_same_bits() {
    let mut places = 0;
    for device in [Device::Cpu].into_iter().chain(common::gpus()) {
        for Way { name, make, fit } in WAYS {
            let mut whole = make(learner(device));
            fit(&mut whole).unwrap();
            let want = traces(&whole);

            let dir = tempfile::tempdir().unwrap();
            let all = Checkpoint::new(dir.path()).every(1).keep(usize::MAX);
            let mut kept = make(learner(device)).callback(all);
            fit(&mut kept).unwrap();
            assert!(want == traces(&kept), "{name} on {device}: writing checkpoints changes the fit");

            let files = checkpoints(dir.path());
            assert!(files.len() >= 2 * (BATCHES + 1), "{name}: {files:?}");
            for file in &files {
                let at = with_only(file);
                let mut learn = make(learner(device)).callback(Checkpoint::new(at.path()));
                let resumed = learn.resume(at.path()).unwrap().expect("there is a checkpoint");
                assert!(resumed.warnings.is_empty() && file.ends_with(resumed.path.file_name().unwrap()));
                fit(&mut learn).unwrap();
                assert!(want == traces(&learn), "{name} on {device}, {resumed}: other bits");
                places += 1;
            }
        }
    }
    promise("resumed at every batch of five ways to train", format_args!("{places}/{places} went on to the same bits"));
}

/// The emulator is slow: one place in mid-epoch.
#[test]
fn emulator_goes_on_with_the_same_bits() {
    let Some(device) = common::emulated::device(common::emulated::Mode::Plain) else { return };
    let run = |learn: &mut Learner| learn.fit_one_cycle(1, 1e-2);
    let dir = tempfile::tempdir().unwrap();
    let mut whole = learner(device).callback(Checkpoint::new(dir.path()).every(2).keep(9));
    run(&mut whole).unwrap();
    let at = with_only(&checkpoints(dir.path())[0]);
    let mut learn = learner(device);
    let place = learn.resume(at.path()).unwrap().unwrap().place;
    assert_eq!(place, Place { fit: 0, epoch: 0, batch: 2 });
    run(&mut learn).unwrap();
    assert!(traces(&whole) == traces(&learn));
}

/// Threads that compute and threads that load may be others than before.
#[test]
fn other_threads_go_on_with_the_same_bits() {
    let mut whole = learner(Device::Cpu);
    whole.fit_one_cycle(2, 1e-2).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut first = learner(Device::Cpu).callback(Checkpoint::new(dir.path()).every(2)).callback(FailsAt(1, 1));
    first.fit_one_cycle(2, 1e-2).unwrap_err();
    drop(first);
    onecycle::device::cpu::set_threads(3);
    let mut learn = learner(Device::Cpu);
    learn.resume(dir.path()).unwrap().unwrap();
    learn.fit_one_cycle(2, 1e-2).unwrap();
    assert!(traces(&whole) == traces(&learn));
}

/// Fails in an epoch, after a batch.
struct FailsAt(usize, usize);

impl Callback for FailsAt {
    fn name(&self) -> &'static str {
        "FailsAt"
    }
    fn after_batch(&mut self, learn: &mut Learner) -> Signal {
        match learn.is_training() && (learn.epoch(), learn.iter()) == (self.0, self.1) {
            true => Err(Stop::Failed(onecycle::Error::new(ErrorKind::Io, "the power is gone"))),
            false => Ok(()),
        }
    }
}

#[test]
fn a_raised_flag_leaves_a_checkpoint_of_that_very_batch() {
    /// Raises the flag in training or in validation.
    struct Raises(Arc<AtomicUsize>, bool);
    impl Callback for Raises {
        fn name(&self) -> &'static str {
            "Raises"
        }
        fn after_pred(&mut self, learn: &mut Learner) -> Signal {
            if learn.epoch() == 1 && learn.iter() == 0 && learn.is_training() == self.1 {
                self.0.store(2, Ordering::SeqCst);
            }
            Ok(())
        }
    }
    let mut whole = learner(Device::Cpu);
    whole.fit_one_cycle(2, 1e-2).unwrap();
    for (training, batch) in [(true, 1), (false, BATCHES)] {
        let (dir, flag) = (tempfile::tempdir().unwrap(), Arc::new(AtomicUsize::new(0)));
        let mut first = learner(Device::Cpu).callback(StopOnFlag::new(flag.clone()));
        first.add_cb(Checkpoint::new(dir.path()).on_flag(flag.clone()));
        first.add_cb(Raises(flag, training));
        assert_eq!(first.fit_one_cycle(2, 1e-2).unwrap_err().kind(), ErrorKind::Interrupted);
        let mut learn = learner(Device::Cpu);
        let resumed = learn.resume(dir.path()).unwrap().unwrap();
        assert_eq!(resumed.place, Place { fit: 0, epoch: 1, batch });
        learn.fit_one_cycle(2, 1e-2).unwrap();
        assert!(traces(&whole) == traces(&learn), "{resumed}");
    }
}

#[test]
fn a_callback_that_ends_a_pass_or_a_fit_has_ended_it_for_good() {
    struct Cancels(Level);
    impl Callback for Cancels {
        fn name(&self) -> &'static str {
            "Cancels"
        }
        fn after_batch(&mut self, learn: &mut Learner) -> Signal {
            match learn.is_training() && (learn.epoch(), learn.iter()) == (0, 1) {
                true => Err(Stop::Cancel(self.0)),
                false => Ok(()),
            }
        }
    }
    for level in [Level::Train, Level::Epoch, Level::Fit] {
        let dir = tempfile::tempdir().unwrap();
        let all = Checkpoint::new(dir.path()).every(1).keep(usize::MAX);
        let mut whole = learner(Device::Cpu).callback(Cancels(level)).callback(all);
        whole.fit(2, 1e-2).unwrap();
        for file in checkpoints(dir.path()) {
            let at = with_only(&file);
            let mut learn = learner(Device::Cpu).callback(Cancels(level));
            let resumed = learn.resume(at.path()).unwrap().unwrap();
            learn.fit(2, 1e-2).unwrap();
            assert!(traces(&whole) == traces(&learn), "{level:?}, {resumed}");
        }
    }
}

/// With `SaveModel` the learner ends with the best model, which an earlier process may have found.
#[test]
fn the_best_model_is_remembered() {
    let place = tempfile::tempdir().unwrap();
    let make = |dir: &str| {
        let learn = learner(Device::Cpu).at_path(place.path().join(dir));
        learn.callback(SaveModel { monitor: "valid_loss".into(), ..SaveModel::default() })
    };
    // So large a rate that the last epoch is not the best.
    let run = |learn: &mut Learner| learn.fit(4, 0.3);
    let mut whole = make("a");
    run(&mut whole).unwrap();
    let dir = place.path().join("checkpoints");
    let mut first = make("b").callback(Checkpoint::new(&dir)).callback(FailsAt(3, 0));
    run(&mut first).unwrap_err();
    drop(first);
    let mut learn = make("b");
    learn.resume(&dir).unwrap().unwrap();
    run(&mut learn).unwrap();
    assert!(traces(&whole) == traces(&learn));
    assert_eq!(whole.recorder().messages(), learn.recorder().messages());
}

#[test]
fn another_run_is_not_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = learner(Device::Cpu).callback(Checkpoint::new(dir.path()).config("lr = 0.01\nwd = 0.1"));
    first.fit_one_cycle(2, 1e-2).unwrap();
    let told = |mut learn: Learner, config: Option<&str>, epochs: usize| -> String {
        let error = learn.resume_with(dir.path(), config).and_then(|_| learn.fit_one_cycle(epochs, 1e-2)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Argument, "{error}");
        assert!(!error.advice().is_empty());
        error.to_string()
    };
    let same = || learner(Device::Cpu);
    assert!(told(same(), None, 3).contains("the number of epochs was 2 when the checkpoint was written, and is 3"));
    assert!(told(same(), Some("lr = 0.02\nwd = 0.1"), 2).contains("was `lr = 0.01`, and is `lr = 0.02`"));
    assert!(told(drawn::learner(BATCHES + 1, 4, Device::Cpu), None, 2).contains("batches was 3"));
    let mut frozen = learner(Device::Cpu);
    frozen.freeze().unwrap();
    assert!(told(frozen, None, 2).contains("frozen parameter groups was 0"));
    let other = vision_learner_on(&light_and_dark(BATCHES, 4), resnet18, Device::Cpu).unwrap();
    assert!(told(other, None, 2).contains("the network was tiny"));
    assert!(told(same().to_bf16().unwrap(), None, 2).contains("the precision was f32"));
    // The same number of other pictures.
    let names = |i: usize| PathBuf::from(format!("{}/x{i}.png", ["dark", "light"][i % 2]));
    let block = onecycle::data::DataBlock::new((drawn::Drawn, CategoryBlock)).get_y(parent_label);
    let block = block.splitter(IndexSplitter::new([0, 1, 2, 3])).batch_tfms(aug_transforms().size(16)).bs(4);
    let dls = block.dataloaders(onecycle::data::Files((0..4 * BATCHES + 4).map(names).collect())).unwrap();
    let other = vision_learner_on(&dls, drawn::tiny, Device::Cpu).unwrap();
    assert!(told(other, None, 2).contains("the pictures, their labels or their split"));
    // A learner that has trained already is past the fit.
    let mut late = learner(Device::Cpu);
    late.fit(1, 1e-3).unwrap();
    assert!(late.resume(dir.path()).unwrap_err().to_string().contains("before the first fit"));
    // And there is nothing to go on with in an empty directory, or in none.
    let empty = tempfile::tempdir().unwrap();
    assert!(learner(Device::Cpu).resume(empty.path()).unwrap().is_none());
    assert!(learner(Device::Cpu).resume(empty.path().join("none")).unwrap().is_none());
}

/// The third epoch with rates that nothing survives: its checkpoint would be worth nothing.
#[test]
fn a_model_that_is_no_number_replaces_none() {
    let dir = tempfile::tempdir().unwrap();
    let mut learn = learner(Device::Cpu).callback(Checkpoint::new(dir.path()));
    learn.fit(1, 1e-3).unwrap();
    let good: Vec<_> = checkpoints(dir.path()).iter().map(|p| std::fs::read(p).unwrap()).collect();
    for p in learn.model().named_parameters().iter().filter(|(name, _)| name == "0.0.weight") {
        p.1.update(|t| {
            *t = onecycle::Tensor::full(f64::NAN, t.shape(), t.dtype(), t.device())?;
            Ok(())
        })
        .unwrap();
    }
    let error = learn.fit(1, 1e-3).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFinite);
    assert!(error.to_string().contains("0.0.weight"), "the first bad tensor is named: {error}");
    let after: Vec<_> = checkpoints(dir.path()).iter().map(|p| std::fs::read(p).unwrap()).collect();
    assert!(good == after);
}

/// A directory in its place, or a link to nowhere: it can't be read, and the one before it can.
#[test]
fn a_checkpoint_that_cannot_be_read_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let want = job(dir.path()).unwrap();
    let files = checkpoints(dir.path());
    let [.., before, newest] = &files[..] else { panic!("{files:?}") };
    std::fs::remove_file(newest).unwrap();
    std::fs::create_dir(newest).unwrap();
    let mut learn = learner(Device::Cpu);
    let resumed = learn.resume(dir.path()).unwrap().unwrap();
    assert_eq!((&resumed.path, resumed.warnings.len()), (before, 1));
    assert!(newest.is_dir(), "nothing is moved that isn't damaged");
    learn.fit_one_cycle(2, 1e-2).unwrap();
    assert!(traces(&learn) == want);
}

/// The job of the tests below: two epochs with checkpoints after every second batch.
fn job(dir: &Path) -> Result<Vec<u64>> {
    let mut learn = learner(Device::Cpu).callback(Checkpoint::new(dir).every(2));
    learn.resume(dir)?;
    learn.fit_one_cycle_with(2, 1e-2, &OneCycle::default(), FitOptions::default())?;
    Ok(traces(&learn))
}

/// Every step of every write fails once: a full disk, a drive that is gone.
#[test]
fn whatever_write_fails_the_next_run_goes_on() {
    let want = job(tempfile::tempdir().unwrap().path()).unwrap();
    let mut failures = 0;
    for n in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let (path, count) = (dir.path().to_path_buf(), Arc::new(AtomicUsize::new(0)));
        let seen = count.clone();
        let fail = move |step: Step, _: &Path| {
            let due = seen.fetch_add(1, Ordering::SeqCst) == n;
            // A directory that can't be synced is no failure: some systems have none that can.
            if due && step != Step::SyncDirectory { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        };
        let outcome = faults::with(fail, || job(&path));
        if count.load(Ordering::SeqCst) <= n {
            assert!(outcome.unwrap() == want);
            break;
        }
        if let Err(e) = outcome {
            failures += 1;
            assert_eq!(e.kind(), ErrorKind::StorageFull);
            assert!(e.item().is_some_and(|item| item.starts_with(&path.display().to_string())), "{e}");
        }
        assert!(job(&path).unwrap() == want, "after the failure of step {n}");
        let names: Vec<String> =
            std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        assert!(!names.iter().any(|name| name.contains(".tmp.") || name.contains(".damaged")), "{names:?}");
    }
    assert!(failures > 20, "{failures} failures");
    promise(
        "every step of every write fails once",
        format_args!("{failures}/{failures} went on to the same bits, 0 damaged files"),
    );
}

/// The child of [`kills_at_eight_points`]: trains, and ends itself at the step of `ONECYCLE_KILL_AT`.
#[test]
fn child_that_is_killed() {
    let Some(dir) = std::env::var_os("ONECYCLE_KILL_DIR").map(PathBuf::from) else { return };
    let at = std::env::var("ONECYCLE_KILL_AT").unwrap_or_default();
    let (mut writes, mut renames) = (0, 0);
    let point = move |step: Step, path: &Path| {
        let latest = path.ends_with("latest");
        let third = path.file_name().is_some_and(|name| name == "fit0-epoch00001-batch0000002.ckpt");
        renames += usize::from(third && step == Step::Rename);
        writes += usize::from(third && step == Step::Write);
        let here = match at.as_str() {
            "before the write" => third && step == Step::Create,
            "in mid-write" => writes == 2,
            "before the sync" => third && step == Step::Sync,
            "before the rename" => third && step == Step::Rename,
            // The next step that is announced after it.
            "after the rename" => third && step == Step::SyncDirectory,
            "before latest is written" => renames == 1 && latest && step == Step::Create,
            "before latest gets its name" => renames == 1 && latest && step == Step::Rename,
            "while old ones are removed" => renames == 1 && step == Step::Remove,
            _ => false,
        };
        if here { std::process::abort() } else { Ok(()) }
    };
    let got = faults::with(point, || job(&dir)).unwrap();
    let bytes: Vec<u8> = got.iter().flat_map(|v| v.to_le_bytes()).collect();
    std::fs::write(dir.join("traces"), bytes).unwrap();
}

const POINTS: [&str; 8] = [
    "before the write",
    "in mid-write",
    "before the sync",
    "before the rename",
    "after the rename",
    "before latest is written",
    "before latest gets its name",
    "while old ones are removed",
];

#[test]
fn kills_at_eight_points() {
    let want: Vec<u8> =
        job(tempfile::tempdir().unwrap().path()).unwrap().iter().flat_map(|v| v.to_le_bytes()).collect();
    for point in POINTS {
        let dir = tempfile::tempdir().unwrap();
        let child = |at: &str| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", "child_that_is_killed", "--test-threads=1"]);
            command.env("ONECYCLE_KILL_DIR", dir.path()).env("ONECYCLE_KILL_AT", at);
            command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap()
        };
        assert!(child(point).code().is_none(), "{point}: it was not killed");
        assert!(!dir.path().join("traces").exists());
        assert!(child("").success(), "{point}: it doesn't go on");
        assert!(std::fs::read(dir.path().join("traces")).unwrap() == want, "{point}: other bits");
    }
    promise("killed at 8 named points of a write", format_args!("{0}/{0} went on to the same bits", POINTS.len()));
}

/// Bytes that flip and files that end early: the digest tells, and the checkpoint before is used.
#[test]
fn a_damaged_checkpoint_is_never_used() {
    let tries = count("ONECYCLE_DAMAGES", 100);
    let dir = tempfile::tempdir().unwrap();
    let want = job(dir.path()).unwrap();
    let files = checkpoints(dir.path());
    let [.., before, newest] = &files[..] else { panic!("{files:?}") };
    let whole = std::fs::read(newest).unwrap();
    let mut rng = Rng::at(5, Purpose::Picture, 0, 0);
    let mut learn = learner(Device::Cpu);
    for i in 0..tries {
        let at = with_only(before);
        let mut bytes = whole.clone();
        // One in six is cut, the others have a byte that is another one.
        if i % 6 == 0 {
            bytes.truncate(rng.below(whole.len()));
        } else {
            let place = rng.below(whole.len());
            bytes[place] ^= 1 << rng.below(8);
        }
        let name = newest.file_name().unwrap();
        std::fs::write(at.path().join(name), &bytes).unwrap();
        std::fs::write(at.path().join("latest"), name.as_encoded_bytes()).unwrap();
        let resumed = learn.resume(at.path()).unwrap().unwrap();
        assert_eq!(resumed.path.file_name(), before.file_name(), "damage {i} was not noticed");
        assert!(
            resumed.warnings.len() == 1 && resumed.warnings[0].contains(&*name.to_string_lossy()),
            "{:?}",
            resumed.warnings
        );
        if i == 0 {
            learn.fit_one_cycle(2, 1e-2).unwrap();
            assert!(traces(&learn) == want, "the one before leads to the same end");
            learn = learner(Device::Cpu);
        }
        // Alone it is an error, not a panic and not a fresh start.
        let alone = tempfile::tempdir().unwrap();
        std::fs::write(alone.path().join(name), &bytes).unwrap();
        assert_eq!(learn.resume(alone.path()).unwrap_err().kind(), ErrorKind::Format);
    }
    promise(
        "damaged checkpoints (flipped bits, cut files)",
        format_args!("{tries}/{tries} noticed and the one before used, 0 panics"),
    );
}

fn count(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}
