//! One bench per operation: the convolutions of ResNet-18, 34 and 50 and what stands between them, with 16 pictures of 224 x 224 on the
//! processor and with 128 on a GPU, where names say how many. `cargo bench --bench ops`; `-- 3x3`, `-- --batch 64`, `-- --dtype f16`.
//!
//! On a GPU a convolution has a row for each rung of its ladder, but for the naive one: a call of it takes tens of milliseconds, so it
//! waits for `--naive`, or for a batch of at most 16. `--tiles` adds a row for each tile that the formula didn't choose. Before a version is timed,
//! its results are compared with the lowest rung's.
//!
//! Inputs go in turns there, as many as no cache keeps: a network comes back to a tensor long after it made it. With `--warm` they stay, as
//! where the operation before has just written a small one.

#[path = "ops/convolution.rs"]
mod convolution;
mod harness;

#[allow(unused_imports)] // for a test that compares them with the predictions'
pub(crate) use convolution::convolution_names;
use harness::Bench;
use onecycle::data::{BatchDraws, BatchTransforms, Subset};
use onecycle::ops::augment::IMAGENET_STATS;
use onecycle::ops::batch_norm::BatchNorm;
use onecycle::ops::cross_entropy::CrossEntropy;
use onecycle::ops::norm_pool::Window;
use onecycle::ops::optimizer_step::{Rule, State, Step};
use onecycle::rng::{Purpose, Rng};
use onecycle::tensor::Shape;
use onecycle::vision::aug_transforms;
use onecycle::{DType, Device, Result, Tensor, autograd, ops};
use std::cell::Cell;

/// The bench with the shapes of its device.
struct Cases {
    b: Bench,
    /// Pictures.
    n: usize,
}

impl Cases {
    fn random_in(&self, dtype: DType, shape: impl Into<Shape>) -> Tensor {
        let shape = shape.into();
        let mut rng = Rng::at(shape.numel() as u64, Purpose::Init, 0, 0);
        // Drawing and sending are slow beside a GPU; what repeats after a million numbers is as random to it.
        let (rows, all) = (shape.first().copied().unwrap_or(1).max(1), shape.numel());
        let few = if shape.len() < 2 { rows } else { ((1 << 20) / (all / rows).max(1)).clamp(1, rows) };
        let mut table = shape.to_vec();
        table.iter_mut().take(1).for_each(|n| *n = few);
        let some: Vec<f32> = (0..(all / rows * few).min(1 << 20)).map(|_| rng.range(-1.0, 1.0) as f32).collect();
        let values: Vec<f32> = some.iter().cycle().take(all / rows * few).copied().collect();
        let there = Tensor::from_slice(&values, table, Device::Cpu).and_then(|t| t.to(self.b.device));
        let there = there.and_then(|t| t.cast(dtype));
        let repeat = |t: Tensor| ops::take_rows(&t, &(0..rows).map(|i| i % few).collect::<Vec<_>>());
        let made = if few == rows { there } else { there.and_then(repeat) };
        made.unwrap_or_else(|e| panic!("{e}"))
    }

    /// An activation.
    fn random(&self, shape: impl Into<Shape>) -> Tensor {
        self.random_in(self.b.dtype, shape)
    }

    /// A parameter that stays f32 beside half precision.
    fn master(&self, shape: impl Into<Shape>) -> Tensor {
        self.random_in(DType::F32, shape)
    }

    /// The side of a picture, or number of channels, or what else is to be small where nothing is measured.
    fn size(&self, size: usize) -> usize {
        if self.b.tiny { (size / 14).clamp(2, 9).min(size) } else { size }
    }

    fn name(&self, name: &str) -> String {
        if self.b.on_gpu() { format!("{name} N{}", self.n) } else { name.to_owned() }
    }

    /// Bytes of activations.
    fn bytes(&self, tensors: &[&Tensor]) -> f64 {
        (tensors.iter().map(|t| t.numel()).sum::<usize>() * self.b.dtype.size()) as f64
    }

    /// A copy with memory of its own, made where it is.
    fn copy(&self, t: &Tensor) -> Tensor {
        let made = match t.shape().first() {
            Some(&rows) => ops::take_rows(t, &(0..rows).collect::<Vec<_>>()),
            None => t.item().and_then(|v| Tensor::full(v, t.shape().clone(), t.dtype(), self.b.device)),
        };
        made.unwrap_or_else(|e| panic!("{e}"))
    }

    /// `t` and copies of it, in turns.
    fn in_turns(&self, inputs: &[Tensor], bytes: f64) -> impl Fn() -> Vec<Tensor> + use<> {
        let copies = self.b.rotation(bytes);
        let sets: Vec<Vec<Tensor>> = (0..copies)
            .map(|i| inputs.iter().map(|t| if i == 0 { t.clone() } else { self.copy(t) }).collect())
            .collect();
        let next = Cell::new(0);
        move || {
            next.set((next.get() + 1) % sets.len());
            sets[next.get()].clone()
        }
    }

    /// Times `f` without a graph, then the walk back with only input `wanted[i].1` asking for its gradient.
    fn both_ways(
        &self,
        name: &str,
        flop: f64,
        bytes: f64,
        inputs: &[Tensor],
        wanted: &[(&str, &[usize])],
        f: impl Fn(&[Tensor]) -> Tensor,
    ) {
        let name = self.name(name);
        let names: Vec<String> = wanted.iter().map(|(part, _)| format!("{name}/{part}")).collect();
        if !self.b.wants(&format!("{name}/forward")) && !names.iter().any(|n| self.b.wants(n)) {
            return;
        }
        let set = self.in_turns(inputs, bytes);
        self.b.case(&format!("{name}/forward"), flop, bytes, || drop(f(&set())));
        for ((_, which), name) in wanted.iter().zip(&names) {
            let dy = self.random_in(f(inputs).dtype(), f(inputs).shape());
            let prepare = || {
                let inputs = set();
                let slots: Vec<_> = inputs.iter().map(|_| autograd::GradSlot::new()).collect();
                let leaf = |i: usize| if which.contains(&i) { slots[i].leaf(&inputs[i]) } else { inputs[i].clone() };
                let leaves: Vec<Tensor> = (0..inputs.len()).map(leaf).collect();
                let y = f(&leaves);
                // A copy of its own, as in a network: operations that work in place would copy a shared one inside the clock.
                (y, self.copy(&dy), slots)
            };
            self.b.prepared(name, flop, bytes, prepare, |(y, dy, _slots)| {
                autograd::backward_with(&y, dy).expect("the graph is fresh");
            });
        }
    }

    fn all(&self) {
        self.convolutions();
        let (b, n) = (&self.b, self.n);
        let all: &[(&str, &[usize])] = &[("backward", &[0, 1, 2, 3])];

        let x = self.random([n, self.size(56), self.size(56), self.size(64)]);
        let channels = self.size(64);
        let with_numbers = |t: &[Tensor], relu, op: &dyn Fn(&Tensor, BatchNorm<'_>) -> onecycle::Result<Tensor>| {
            let (mut mean, mut var) = (
                Tensor::zeros([channels], DType::F32, b.device).unwrap(),
                Tensor::full(1.0, [channels], DType::F32, b.device).unwrap(),
            );
            let args = BatchNorm {
                weight: &t[1],
                bias: &t[2],
                running_mean: &mut mean,
                running_var: &mut var,
                eps: 1e-5,
                momentum: 0.1,
                training: true,
                residual: t.get(3),
                relu,
            };
            op(&t[0], args).expect("the shapes fit")
        };
        let norm = |t: &[Tensor], relu| with_numbers(t, relu, &ops::batch_norm);
        let c = || self.master([channels]);
        // Forward looks at x twice (statistics, then normalising) and writes y; that is the floor of an unfused step too.
        let bytes = self.bytes(&[&x; 3]);
        self.both_ways("batch_norm/relu 64x56", 0.0, bytes, &[x.clone(), c(), c()], all, |t| norm(t, true));
        let with_residual = [x.clone(), c(), c(), self.random(x.shape())];
        let bytes = self.bytes(&[&x; 4]);
        self.both_ways("batch_norm/add+relu 64x56", 0.0, bytes, &with_residual, all, |t| norm(t, true));
        self.both_ways("relu 64x56", 0.0, self.bytes(&[&x; 2]), std::slice::from_ref(&x), all, |t| {
            ops::relu(&t[0]).expect("float")
        });
        let pair = [x.clone(), self.random(x.shape())];
        self.both_ways("add 64x56", 0.0, self.bytes(&[&x; 3]), &pair, all, |t| {
            ops::add(&t[0], &t[1]).expect("same shape")
        });
        let stem = self.random([n, self.size(112), self.size(112), channels]);
        let bytes = self.bytes(&[&stem]) * 1.25;
        self.both_ways("max_pool 3x3/2 64x112", 0.0, bytes, &[stem], all, |t| {
            ops::max_pool(&t[0], 3, 2, 1).expect("fits")
        });
        // With the statistics' own pass, which behind a convolution would be saved; on the lower rungs it is a norm, then a pooling.
        let window = Window { size: 3, stride: 2, padding: 1 };
        let stem = self.random([n, self.size(112), self.size(112), channels]);
        let bytes = self.bytes(&[&stem]) * 2.375;
        self.both_ways("norm_pool 3x3/2 64x112", 0.0, bytes, &[stem, c(), c()], all, |t| {
            with_numbers(t, true, &|x, args| ops::norm_pool(x, args, window))
        });
        let last = self.random([n, self.size(7), self.size(7), self.size(512)]);
        self.both_ways("concat_pool 512x7", 0.0, self.bytes(&[&last]), std::slice::from_ref(&last), all, |t| {
            ops::concat_pool(&t[0]).expect("an image")
        });
        let (rows, wide, narrow) = (self.size(64), self.size(1024), self.size(512));
        let (feat, w) = (self.random([rows, wide]), self.random([narrow, wide]));
        let flop = 2.0 * (rows * wide * narrow) as f64;
        self.both_ways("linear 64x1024>512", flop, self.bytes(&[&feat, &w]), &[feat.clone(), w.clone()], all, |t| {
            ops::linear(&t[0], &t[1], None).expect("fits")
        });
        self.both_ways("dropout 64x1024", 0.0, self.bytes(&[&feat; 2]), std::slice::from_ref(&feat), all, |t| {
            ops::dropout(&t[0], 0.5, 1, 2, 3).expect("p in range")
        });
        let logits = self.random([rows, 37]);
        let targets: Vec<i64> = (0..rows as i64).map(|i| i % 37).collect();
        let targets = Tensor::from_slice(&targets, [rows], b.device).expect("fits");
        self.both_ways(
            "cross_entropy 64x37",
            0.0,
            self.bytes(&[&logits; 2]),
            std::slice::from_ref(&logits),
            all,
            |t| ops::cross_entropy(&t[0], &targets, &CrossEntropy::default()).expect("fits"),
        );
        self.augmentation();
        self.optimizer();
    }

    /// The pictures of a training batch, draws included, as `vision_learner` has it.
    fn augmentation(&self) {
        let name = self.name("augment 460>224");
        if !self.b.on_gpu() || !self.b.wants(&name) {
            return; // the loader's bench has it for the processor
        }
        let (n, from, to) = (self.n, self.size(460), self.size(224));
        let tfms = aug_transforms().size(to).min_scale(0.75).normalize(IMAGENET_STATS);
        let mut rng = Rng::at(3, Purpose::Init, 0, 0);
        let bytes: Vec<u8> = (0..n * from * from * 3).map(|_| rng.next_u32() as u8).collect();
        let pictures = Tensor::from_slice(&bytes, [n, from, from, 3], self.b.device).expect("fits"); // [N, H, W, C]
        let items: Vec<usize> = (0..n).collect();
        let moved = (bytes.len() + n * to * to * 3 * self.b.dtype.size()) as f64;
        self.b.case(&name, 0.0, moved, || {
            let draws = BatchDraws { seed: 1, epoch: 0, items: &items };
            drop(tfms.apply(&pictures, Subset::Train, &draws, self.b.dtype).unwrap_or_else(|e| panic!("{e}")));
        });
    }

    fn optimizer(&self) {
        let name = "optimizer_step adam 21.8M";
        if !self.b.wants(name) {
            return;
        }
        // All of ResNet-34: 21.8 million parameters, four arrays read and three written.
        let parameters = if self.b.tiny { 1000 } else { 21_830_976 };
        let (mut p, grad, mut state) = (self.master([parameters]), self.master([parameters]), State::default());
        let rule = Rule::Adam { mom: 0.9, sqr_mom: 0.99, eps: 1e-5 };
        let step = Step { rule, lr: 1e-3, wd: 0.01, decoupled: true };
        self.b.case(name, 0.0, 7.0 * 4.0 * parameters as f64, || {
            ops::optimizer_step(&mut p, &grad, &mut state, &step).expect("fits");
        });
    }
}

/// All cases that `arguments` ask for.
///
/// # Errors
/// A kernel is wrong.
pub(crate) fn run(arguments: Vec<String>) -> Result<()> {
    let b = Bench::start("operations", arguments);
    let n = match (b.tiny, b.on_gpu()) {
        (true, _) => 2,
        (false, true) => 128,
        (false, false) => 16,
    };
    let cases = Cases { n: b.batch.unwrap_or(n), b };
    cases.all();
    cases.b.end()
}

#[allow(dead_code)] // not where this file is a part of another program
pub(crate) fn main() -> Result<()> {
    run(harness::arguments())
}
