//! Whole training steps: forward, cross entropy, backward, Adam with fastai's parameter groups. `cargo bench --bench step`.
//!
//! Four networks and sizes, each also as bare inference; `benches/peers/torch_steps.py` times the same in PyTorch under the
//! same names, and `benches/peers/run.sh` runs both in turns. The rate counts 2 FLOP per multiply-add of convolutions and
//! linear layers only, so that it compares across implementations that spend their other passes differently.
//!
//! On a GPU it is the three networks with 64 and 128 pictures of 224 pixels (or `--batch N`), also with a frozen body, in bf16 with
//! f32 masters unless `--dtype` says otherwise. It computes as training does; `--kernels` takes another rung of the ladder. `benches/peers/torch_gpu.py` has the same names.
//!
//! `cargo bench --bench step -- --profile resnet18` prints where a step's time goes, by operation and direction, on a GPU each with its floor
//! and what was predicted; with `--shapes` also by shape.

mod harness;

use harness::Bench;
use onecycle::autograd::{self, watch};
use onecycle::nn::{Arch, Context, HeadOptions, Module, Sequential, create_head, resnet};
use onecycle::ops::ladder;
use onecycle::optim::{Optimizer, OptimizerKind};
use onecycle::rng::{Purpose, Rng};
use onecycle::tensor::Pending;
use onecycle::{Device, Result, Tensor, ops};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The article's 37 breeds.
const CLASSES: usize = 37;

/// Network, pictures, pixels; `torch_steps.py` has the same list.
const CASES: [(&str, usize, usize); 4] =
    [("resnet18", 16, 64), ("resnet18", 16, 224), ("resnet34", 16, 224), ("resnet50", 8, 224)];
/// The networks on a GPU.
const GPU_NETWORKS: [&str; 3] = ["resnet18", "resnet34", "resnet50"];
/// And their batches; `predict.py` and through it `torch_gpu.py` have the same.
const GPU_BATCHES: [usize; 2] = [64, 128];
/// And where nothing is measured.
const TINY_CASES: [(&str, usize, usize); 2] = [("resnet18", 2, 32), ("resnet50", 2, 32)];

struct Trainer {
    model: Sequential,
    opt: Optimizer,
    x: Tensor,
    y: Tensor,
    step: u64,
    /// Losses of the steps before, which nobody has waited for yet.
    losses: VecDeque<Pending>,
}

impl Trainer {
    fn new(b: &Bench, arch: &Arch, n: usize, size: usize) -> Result<Trainer> {
        let head = create_head(arch.features(), CLASSES, &HeadOptions::default());
        let model = Sequential::new().push(arch.body()).push(head);
        model.init_with(1).unwrap();
        model.to_device(b.device)?;
        let mut rng = Rng::at(2, Purpose::Init, 0, 0);
        let pixels: Vec<f32> = (0..n * size * size * 3).map(|_| rng.normal() as f32).collect();
        let targets: Vec<i64> = (0..n).map(|_| rng.below(CLASSES) as i64).collect();
        Ok(Trainer {
            opt: Optimizer::new(OptimizerKind::Adam, resnet::param_groups(&model), false, true),
            model,
            x: Tensor::from_slice(&pixels, [n, size, size, 3], b.device)?.cast(b.dtype)?, // [N, H, W, C]
            y: Tensor::from_slice(&targets, [n], b.device)?,
            step: 0,
            losses: VecDeque::new(),
        })
    }

    /// What the fit loop does with a batch, which is a step of the device.
    fn step(&mut self) -> Result<()> {
        let (device, number) = (self.x.device(), self.step as usize);
        device.step(("train", number), || self.train())
    }

    /// On a GPU nothing waits but for the loss of the step before; of the one before that where steps are given as a whole.
    fn train(&mut self) -> Result<()> {
        let pred = self.model.forward(&self.x, &Context::train(1, self.step))?;
        let loss = ops::cross_entropy(&pred, &self.y, &Default::default())?;
        self.losses.push_back(loss.read_back()?);
        let behind = match self.x.device() {
            Device::Cuda(gpu) => 1 + usize::from(gpu.uses_graphs()?),
            _ => 1,
        };
        while self.losses.len() > behind {
            self.losses.pop_front().map(Pending::wait).transpose()?;
        }
        autograd::backward(&loss)?;
        self.opt.step()?;
        self.step += 1;
        Ok(())
    }

    fn infer(&mut self) -> Result<Tensor> {
        self.step += 1;
        let number = self.step as usize;
        self.x
            .device()
            .step(("validate", number), || autograd::no_grad(|| self.model.forward(&self.x, &Context::eval())))
    }
}

/// FLOP of one picture: forward, a whole step (forward, weight gradient, input gradient of all but the stem), and a step with a frozen
/// body (no weight gradient but the head's).
fn flop(arch: &Arch, size: usize) -> [f64; 3] {
    let conv = |out: usize, k: usize, filter: usize, c: usize| 2.0 * (out * out * k * filter * filter * c) as f64;
    let expansion = arch.features() / arch.widths[3];
    let stem = conv(size.div_ceil(2), arch.widths[0], 7, 3);
    let (mut rest, mut c, mut side) = (0.0, arch.widths[0], size.div_ceil(4));
    for (stage, (&blocks, &planes)) in arch.blocks.iter().zip(&arch.widths).enumerate() {
        for block in 0..blocks {
            let (input, stride) = (side, if stage > 0 && block == 0 { 2 } else { 1 });
            side = side.div_ceil(stride);
            let k = planes * expansion;
            rest += match arch.bottleneck {
                true => conv(input, planes, 1, c) + conv(side, planes, 3, planes) + conv(side, k, 1, planes),
                false => conv(side, planes, 3, c) + conv(side, planes, 3, planes),
            };
            if stride != 1 || c != k {
                rest += conv(side, k, 1, c);
            }
            c = k;
        }
    }
    let head = 2.0 * (2 * c * 512 + 512 * CLASSES) as f64;
    [stem + rest + head, 2.0 * stem + 3.0 * (rest + head), stem + 2.0 * rest + 3.0 * head]
}

/// What is timed of each network: a step, one with a frozen body, and predictions.
const PARTS: [&str; 3] = ["step", "step_frozen", "infer"];

fn case_name(network: &str, n: usize, size: usize) -> String {
    format!("{network} N{n} {size}px")
}

/// The names of a GPU's cases.
#[allow(dead_code)] // for a test that compares them with the predictions'
pub(crate) fn gpu_names() -> Vec<String> {
    let cases = GPU_NETWORKS.into_iter().flat_map(|network| GPU_BATCHES.map(|n| case_name(network, n, 224)));
    cases.flat_map(|case| PARTS.map(|part| format!("{part}/{case}"))).collect()
}

/// All cases that `arguments` ask for.
pub(crate) fn run(arguments: Vec<String>) -> Result<()> {
    let b = Bench::start("training steps and inference", arguments);
    let cases: Vec<(&str, usize, usize)> = match (b.tiny, b.on_gpu()) {
        (true, _) => TINY_CASES.to_vec(),
        (false, false) => CASES.to_vec(),
        (false, true) => {
            let batches = b.batch.map_or(GPU_BATCHES.to_vec(), |n| vec![n]);
            GPU_NETWORKS.into_iter().flat_map(|network| batches.iter().map(move |&n| (network, n, 224))).collect()
        }
    };
    // With steps given to a GPU work by work, and as graphs.
    let ways: Vec<(String, bool)> = match b.device {
        Device::Cuda(_) => {
            let rung = ladder::highest()?.name();
            vec![(rung.to_owned(), false), (format!("{rung}+graph"), true)]
        }
        _ => Vec::new(),
    };
    for (name, n, size) in cases {
        let mut arch = Arch::by_name(name)?;
        if b.tiny {
            arch = arch.slim(8);
        }
        let [forward, step, frozen_step] = flop(&arch, size).map(|flop| flop * n as f64);
        let case = case_name(name, n, size);
        let [full, frozen, infer] = PARTS.map(|part| format!("{part}/{case}"));
        if ![&full, &frozen, &infer].into_iter().any(|name| b.wants(name)) {
            continue;
        }
        let mut trainer = Trainer::new(&b, &arch, n, size)?;
        if b.flag("--profile") {
            profile(&b, &mut trainer, &case, b.flag("--shapes"))?;
            continue;
        }
        if let Device::Cuda(gpu) = b.device {
            let graphs = |on| gpu.use_graphs(on);
            for (way, on) in &ways {
                graphs(*on);
                b.pictures(&full, way, n, step, || trainer.step().unwrap_or_else(|e| panic!("{e}")));
                b.pictures(&infer, way, n, forward, || drop(trainer.infer().unwrap_or_else(|e| panic!("{e}"))));
            }
            // Batch norm goes on training in a frozen body, so there is a way back through it, but no weight gradient.
            trainer.opt.freeze()?;
            for (way, on) in &ways {
                graphs(*on);
                b.pictures(&frozen, way, n, frozen_step, || trainer.step().unwrap_or_else(|e| panic!("{e}")));
            }
            graphs(false);
            println!("{case}: {} steps were graphs", gpu.replays());
        } else {
            b.case(&full, step, 0.0, || trainer.step().expect("the shapes fit"));
            b.case(&infer, forward, 0.0, || drop(trainer.infer().expect("the shapes fit")));
        }
    }
    b.end()
}

#[allow(dead_code)] // not where this file is a part of another program
pub(crate) fn main() -> Result<()> {
    run(harness::arguments())
}

/// Time per operation, and how often it ran.
type Times = BTreeMap<String, (Duration, usize)>;

fn profile(b: &Bench, trainer: &mut Trainer, case: &str, shapes: bool) -> Result<()> {
    for _ in 0..2 {
        trainer.step()?;
    }
    // The fastest of several steps: on a shared machine the others measure the neighbours.
    let mut best: Option<(Duration, Times)> = None;
    for _ in 0..7 {
        b.synchronize()?;
        let (start, times) = (Instant::now(), Rc::new(RefCell::new(Times::new())));
        let (log, mut last, device) = (times.clone(), start, b.device);
        let listener = move |phase: watch::Phase, op: &'static str, shape: &onecycle::tensor::Shape| {
            // On a GPU each operation is waited for, so the sum is more than a step takes.
            if let Device::Cuda(gpu) = device {
                gpu.synchronize().unwrap_or_else(|e| panic!("{e}"));
            }
            let now = Instant::now();
            let name = if shapes { format!("{phase:?} {op} {shape}") } else { format!("{phase:?} {op}") };
            let mut log = log.borrow_mut();
            let entry = log.entry(name).or_default();
            (entry.0, entry.1) = (entry.0 + (now - last), entry.1 + 1);
            last = now;
        };
        watch::watched(listener, || trainer.step())?;
        b.synchronize()?;
        let total = start.elapsed();
        if best.as_ref().is_none_or(|(t, _)| total < *t) {
            best = Some((total, times.take()));
        }
    }
    let Some((total, mut times)) = best else { return Ok(()) };
    // What remains is what comes after the last operation: the optimizer.
    let rest = total - times.values().map(|(t, _)| *t).sum::<Duration>();
    times.insert("optimizer step".into(), (rest, 1));
    let mut rows: Vec<_> = times.into_iter().collect();
    rows.sort_by_key(|(_, (time, _))| std::cmp::Reverse(*time));
    println!("\n{case}: {:.1} ms a step", total.as_secs_f64() * 1e3);
    println!("{:<48} {:>5} {:>9} {:>6}{}", "operation", "times", "all, ms", "share", b.heading_of_operations());
    let way = ladder::highest()?.name();
    for (name, (time, count)) in rows {
        let seconds = time.as_secs_f64();
        let share = 100.0 * seconds / total.as_secs_f64();
        let beside = b.beside_operation(&format!("step/{case}"), &name, way, seconds);
        println!("{name:<48} {count:>5} {:>9.2} {share:>5.1}%{beside}", seconds * 1e3);
    }
    Ok(())
}
