//! Training steps as graphs: the same bits as without, however a fit is made up; replays and nothing else once they are made; and what
//! happens when something fails. The device is the emulator, with a compute stream that works as late as it may, so that host memory
//! which is written to too soon shows; and every GPU that there is.

mod common;

use common::colours::{colours, learner, loaders, weights};
use common::emulated::{self, Counts, Mode, Watch};
use onecycle::learner::{GradScaler, Learner};
use onecycle::prelude::*;
use onecycle::{DType, Device, Error, ErrorKind, Tensor, ops};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// What a fit leaves: weights, losses of the steps, and the validation's numbers.
type Outcome = (Vec<Vec<f64>>, Vec<f64>, Vec<Option<f64>>);

fn gpu(device: Device) -> onecycle::device::cuda::Gpu {
    match device {
        Device::Cuda(gpu) => gpu,
        other => panic!("{other} is no GPU"),
    }
}

/// Runs a fit on a device with graphs, or without.
fn fitted(dir: &Path, (device, graphs): (Device, bool), mut fit: impl FnMut(Learner) -> Learner) -> Outcome {
    gpu(device).use_graphs(graphs);
    let learn = fit(learner(&loaders(dir, 1, 1)).to_device(device).unwrap());
    let rows = learn.recorder().rows().iter().flat_map(|row| ["valid_loss", "error_rate"].map(|name| row.get(name)));
    (weights(&learn), learn.recorder().losses().to_vec(), rows.collect())
}

/// A fit gives the same bits without graphs, and with them where the device is as late as can be; and it replays.
fn same_bits(what: &str, fit: impl Fn(Learner) -> Learner) {
    let dir = tempfile::tempdir().unwrap();
    colours(dir.path(), 20);
    let plain = emulated::watched(usize::MAX, Mode::Plain).zip(emulated::late(Mode::Plain));
    let emulated = plain.map(|((plain, _), (late, _))| (plain, late));
    // A GPU is the whole program's, and so is whether it uses graphs: one fit at a time.
    static ALONE: Mutex<()> = Mutex::new(());
    for (plain, replaying) in emulated.into_iter().chain(common::gpus().into_iter().map(|gpu| (gpu, gpu))) {
        let _alone = (plain == replaying).then(|| ALONE.lock().unwrap_or_else(PoisonError::into_inner));
        let want = fitted(dir.path(), (plain, false), &fit);
        assert!(want.1.iter().all(|loss| loss.is_finite()));
        let before = gpu(replaying).replays();
        let got = fitted(dir.path(), (replaying, true), &fit);
        let (replays, plan) = (gpu(replaying).replays() - before, gpu(replaying).plan());
        println!("{what} on {replaying}: {replays} replays, {plan:?}");
        assert!(got == want, "{what}: other bits with graphs on {replaying}");
        assert!(replays > 20, "{what}: {replays} replays on {replaying}");
    }
}

fn frozen_and_not(mut learn: Learner) -> Learner {
    learn.freeze().unwrap();
    learn.fit_one_cycle(2, 1e-3).unwrap();
    learn.unfreeze().unwrap();
    learn.fit_one_cycle(4, 1e-3).unwrap();
    learn
}

#[test]
fn graph_steps_have_the_same_bits() {
    same_bits("f32", frozen_and_not);
    same_bits("bf16", |learn| frozen_and_not(learn.to_bf16().unwrap()));
}

/// With a scale that is too large at first, and grows again.
#[test]
fn graph_steps_scale_losses_as_others_do() {
    let scaler = GradScaler { scale: 2f64.powi(22), growth_interval: 5, ..GradScaler::default() };
    same_bits("f16", |learn| {
        let learn = frozen_and_not(learn.to_fp16_with(scaler.clone()).unwrap());
        assert!(learn.loss_scales().windows(2).any(|s| s[1] > s[0]), "it grows: {:?}", learn.loss_scales());
        learn
    });
}

/// Keeps what the network said in each step.
#[derive(Clone, Default)]
struct Keeps(Arc<Mutex<Vec<Tensor>>>);

impl Callback for Keeps {
    fn name(&self) -> &'static str {
        "Keeps"
    }

    fn after_loss(&mut self, learn: &mut Learner) -> Signal {
        self.0.lock().unwrap().extend(learn.pred().cloned());
        Ok(())
    }
}

#[test]
fn graph_steps_leave_callbacks_as_they_are() {
    same_bits("clipping and mixing", |mut learn| {
        learn.add_cb(GradientClip { max_norm: 0.1, ..GradientClip::default() });
        learn.add_cb(MixUp::default());
        learn.fit(5, 1e-3).unwrap();
        learn
    });
    same_bits("accumulation", |mut learn| {
        learn.add_cb(GradientAccumulation::new(24));
        learn.add_cb(CutMix::default());
        learn.fit(7, 1e-3).unwrap();
        learn
    });
}

/// A tensor that outlives its step keeps its numbers, and has memory that nobody else gets.
#[test]
fn graph_steps_leave_kept_tensors_alone() {
    let dir = tempfile::tempdir().unwrap();
    colours(dir.path(), 20);
    let mut seen: Option<Vec<Vec<f32>>> = None;
    for graphs in [false, true] {
        let Some((device, _)) = emulated::late(Mode::Plain) else { return };
        let keeps = Keeps::default();
        fitted(dir.path(), (device, graphs), |mut learn| {
            learn.fit(2, 1e-3).unwrap();
            learn.add_cb(keeps.clone());
            learn.fit(3, 1e-3).unwrap();
            learn
        });
        let kept: Vec<_> = keeps.0.lock().unwrap().iter().map(|pred| pred.to_vec::<f32>().unwrap()).collect();
        assert!(kept.len() > 20, "{}", kept.len());
        match &seen {
            Some(plain) => assert!(*plain == kept, "kept predictions changed"),
            None => seen = Some(kept),
        }
    }
}

/// Looks at what the driver is asked for in each training pass.
struct Counting(Watch, Arc<Mutex<Vec<(Counts, Counts)>>>);

impl Callback for Counting {
    fn name(&self) -> &'static str {
        "Counting"
    }

    fn before_train(&mut self, _: &mut Learner) -> Signal {
        let counts = self.0.counts();
        self.1.lock().unwrap().push((counts.clone(), counts));
        Ok(())
    }

    fn after_train(&mut self, _: &mut Learner) -> Signal {
        self.1.lock().unwrap().last_mut().unwrap().1 = self.0.counts();
        Ok(())
    }
}

#[test]
fn graph_steps_are_replays_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    colours(dir.path(), 20);
    for half in [false, true] {
        let Some((device, watch)) = emulated::watched(usize::MAX, Mode::Plain) else { return };
        let passes = Arc::default();
        let mut steps = 0;
        fitted(dir.path(), (device, true), |mut learn| {
            if half {
                learn = learn.to_bf16().unwrap();
            }
            steps = learn.dls().train.len() as u64;
            learn.add_cb(Counting(watch.clone(), Arc::clone(&passes)));
            learn.fit(6, 1e-3).unwrap();
            learn
        });
        for (epoch, (before, after)) in passes.lock().unwrap().iter().enumerate() {
            let [replayed, captured, launched, moved, allocated, waits] = [
                after.replayed - before.replayed,
                after.captured - before.captured,
                after.launched - before.launched,
                after.moved - before.moved,
                after.allocated - before.allocated,
                after.synchronized - before.synchronized,
            ];
            println!(
                "epoch {epoch}: {steps} steps, {replayed} replays, {captured} captures, {launched} kernels one by one"
            );
            if epoch < 3 {
                continue;
            }
            assert_eq!((replayed, captured, launched, moved), (steps, 0, 0, 0), "epoch {epoch}");
            assert_eq!(allocated, 0, "epoch {epoch}");
            // The loss of each, and the step whose memory is used again.
            assert!(waits <= 2 * steps, "epoch {epoch}: {waits} waits in {steps} steps");
        }
        let plan = gpu(device).plan().expect("there is a plan");
        println!("{plan:?}");
        assert!(plan.arena > 0 && plan.arena <= plan.pool, "{plan:?}");
    }
}

/// A kernel that fails inside a replay ends the fit with an error that says so, and the next fit goes on.
#[test]
fn graph_failures_are_reported_once() {
    let dir = tempfile::tempdir().unwrap();
    colours(dir.path(), 20);
    let Some((device, watch)) = emulated::watched(usize::MAX, Mode::Plain) else { return };
    fitted(dir.path(), (device, true), |mut learn| {
        learn.fit(4, 1e-3).unwrap();
        let before = watch.counts();
        watch.fail_next("optimizer_step<0>");
        let e = learn.fit(1, 1e-3).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Device);
        let text = e.to_string();
        assert!(text.contains("pieces of work failed: as the test wished"), "{text}");
        assert_eq!(watch.counts().replayed, before.replayed + 1, "it was a replay that failed");
        assert_eq!(watch.counts().forgotten, before.forgotten + 1, "and its graph is gone");
        learn.fit(2, 1e-3).unwrap();
        assert!(watch.counts().replayed > before.replayed + 1);
        learn
    });
}

#[test]
fn graph_refusals_leave_everything_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    colours(dir.path(), 20);
    let Some((plain, watch)) = emulated::watched(usize::MAX, Mode::Plain) else { return };
    let fit = |mut learn: Learner| -> Learner {
        learn.fit(3, 1e-3).unwrap();
        learn
    };
    let want = fitted(dir.path(), (plain, false), fit);
    let launched = watch.counts().launched;
    let Some((without, watch)) = emulated::without_graphs(Mode::Plain) else { return };
    assert!(fitted(dir.path(), (without, true), fit) == want, "other bits without graphs");
    assert_eq!((watch.counts().replayed, watch.counts().launched), (0, launched));
}

/// Who waits for nothing still finds its numbers: memory from which tables and batches travel is not written to before they have.
#[test]
fn graph_steps_may_be_given_without_waiting() {
    let dir = tempfile::tempdir().unwrap();
    colours(dir.path(), 20);
    let batches: Vec<_> =
        (0..3).flat_map(|epoch| loaders(dir.path(), 1, 1).train.epoch(epoch)).map(Result::unwrap).collect();
    // The sum of all batches, each with a number added; two in a step, of which the second may not travel into the first.
    let summed = |device: Device| {
        let mut sum = batches[0].on_device(Device::Cpu)?.cast(DType::F32)?.to(device)?;
        for (step, pair) in batches.chunks(2).enumerate() {
            let work = || -> Result<()> {
                for batch in pair {
                    let bytes = batch.on_device(device)?.cast(DType::F32)?;
                    let numbers = vec![step as f32; bytes.numel()];
                    let table = Tensor::from_slice(&numbers, bytes.shape(), device)?;
                    sum = ops::add(&sum, &ops::add(&ops::relu(&bytes)?, &table)?)?;
                }
                Ok(())
            };
            device.step(("test", step), work)?;
        }
        Ok::<_, Error>(sum)
    };
    let Some((device, watch)) = emulated::late(Mode::Plain) else { return };
    gpu(device).use_graphs(true);
    let (got, steps) = (summed(device).unwrap(), batches.len() as u64 / 2);
    let Counts { replayed, synchronized, .. } = watch.counts();
    assert!(replayed >= steps / 3, "{replayed} replays of {steps}");
    assert_eq!(synchronized, steps - 3, "the host waits from the fourth step on, for the step three before");
    assert!(got.to_vec::<f32>().unwrap() == summed(Device::Cpu).unwrap().to_vec::<f32>().unwrap());
}

/// Inside a step the device's numbers can be asked for at any time, and its reading may be left to later.
#[test]
fn graph_steps_hand_over_what_is_waited_for() {
    let Some((device, watch)) = emulated::late(Mode::Checked) else { return };
    gpu(device).use_graphs(true);
    let mut unread = Vec::new();
    for step in 0..12u32 {
        let work = || -> Result<_> {
            let x = Tensor::from_slice(&[step as f32, 1.0, -2.0], [3], device)?;
            let y = ops::relu(&ops::add(&x, &x)?)?;
            assert_eq!(y.to_vec::<f32>()?, [2.0 * step as f32, 2.0, 0.0]);
            let z = ops::dropout(&ops::relu(&y)?, 0.5, 1, u64::from(step), 0)?;
            gpu(device).synchronize()?;
            let number = Tensor::full(f64::from(step), [], DType::F32, device)?;
            drop(number.read_back()?);
            let (now, later) = (number.read_back()?, number.read_back()?);
            assert_eq!(now.wait()?, f64::from(step));
            Ok((later, z))
        };
        unread.push(device.step(("test", step as usize), work).unwrap());
    }
    let here = |step: u64| {
        let y = Tensor::from_slice(&[2.0 * step as f32, 2.0, 0.0], [3], Device::Cpu).unwrap();
        ops::dropout(&y, 0.5, 1, step, 0).unwrap().to_vec::<f32>().unwrap()
    };
    for (step, (number, z)) in (0u64..).zip(unread) {
        assert_eq!(number.wait().unwrap(), step as f64);
        assert_eq!(z.to_vec::<f32>().unwrap(), here(step));
    }
    // What fails inside is told, whatever else the step gave; outside everything is as ever.
    let failed: Result<()> = device.step(("test", 0), || {
        let _ = Tensor::full(1.0, [3], DType::F32, device)?;
        Err(Error::new(ErrorKind::Argument, "of the step's own"))
    });
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::Argument);
    watch.fail_next("relu_forward<f32>");
    let x = Tensor::from_slice(&[1f32], [1], device).unwrap();
    let failed = device.step(("test", 1), || ops::relu(&x).and_then(|y| y.to_vec::<f32>()));
    assert!(failed.unwrap_err().to_string().contains("as the test wished"));
    assert_eq!(ops::relu(&x).unwrap().to_vec::<f32>().unwrap(), [1.0]);
}
