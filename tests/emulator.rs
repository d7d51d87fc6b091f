//! Every operation on every device and in every number type, against the processor in f64.
//!
//! One body per operation ([`CASES`]). It runs first on the processor in f64, on inputs that were rounded to the type under test,
//! and that is the reference; then on each device. A device here is the emulator (the CUDA kernels themselves, run on the
//! processor and checked for races, bounds and reads of what nobody wrote) and every GPU of the machine. Sizes are ragged on
//! purpose: no multiple of a tile, one pixel, one picture, odd channels.
//!
//! The name of a case may follow on the command line: `cargo test --test emulator -- conv`.

mod common;

use common::emulated::{self, Mode};
use onecycle::autograd::{GradSlot, backward_with};
use onecycle::device::cuda::ceilings;
use onecycle::device::cuda::kernels::KernelId;
use onecycle::device::cuda::selftest;
use onecycle::ops::augment::{self, Augment, Erase, Interpolation, Light, Padding, Pass, Sample, Window};
use onecycle::ops::batch_norm::BatchNorm;
use onecycle::ops::conv2d::ladder::{self, Finished, Rung};
use onecycle::ops::conv2d::tile::{Tile, with_tile};
use onecycle::ops::cross_entropy::CrossEntropy;
use onecycle::ops::ladder::set_tf32;
use onecycle::ops::mix::Patch;
use onecycle::ops::norm_pool;
use onecycle::ops::optimizer_step::{Item, Rule, State, Step, optimizer_steps};
use onecycle::ops::pointwise_loss::Pointwise;
use onecycle::rng::{Purpose, Rng};
use onecycle::tensor::Shape;
use onecycle::{DType, Device, Result, Tensor, ops};
use std::sync::Arc;

/// A run of a case: where, in which type, and what came out.
struct Run {
    device: Device,
    dtype: DType,
    /// Inputs are rounded to this type, so that the reference sees the same numbers.
    rounded_to: DType,
    drawn: u64,
    leaves: Vec<(String, Arc<GradSlot>)>,
    made: Made,
}

impl Run {
    fn new(device: Device, dtype: DType, rounded_to: DType) -> Run {
        Run { device, dtype, rounded_to, drawn: 0, leaves: Vec::new(), made: Vec::new() }
    }

    /// Numbers in -1..1, none near 0 or near another of the same tensor: kinks and ties would be decided by rounding.
    fn numbers(&mut self, n: usize) -> Vec<f64> {
        self.drawn += 1;
        let mut rng = Rng::at(self.drawn, Purpose::Init, 0, n as u64);
        let order = rng.permutation(n);
        let place = |i: usize| (order[i] as f64 + 0.5) / n as f64 * 2.0 - 1.0;
        (0..n).map(|i| place(i) + 0.05 * place(i).signum()).collect()
    }

    fn tensor(&mut self, shape: impl Into<Shape>, dtype: DType) -> Tensor {
        let shape = shape.into();
        let values = self.numbers(shape.numel());
        // Numbers that half precision holds exactly, for masters too: the reference then starts from the same.
        let exact = Tensor::from_slice(&values, shape, Device::Cpu).unwrap().cast(self.rounded_to).unwrap();
        exact.cast(dtype).unwrap().to(self.device).unwrap()
    }

    fn leaf_of(&mut self, name: &str, value: Tensor) -> Tensor {
        let slot = GradSlot::new();
        let leaf = slot.leaf(&value);
        self.leaves.push((name.into(), slot));
        leaf
    }

    /// An activation that wants a gradient.
    fn input(&mut self, name: &str, shape: impl Into<Shape>) -> Tensor {
        let t = self.tensor(shape, self.dtype);
        self.leaf_of(name, t)
    }

    /// A parameter that is f32 beside half precision.
    fn master(&mut self, name: &str, shape: impl Into<Shape>) -> Tensor {
        let t = self.tensor(shape, self.dtype.master());
        self.leaf_of(name, t)
    }

    fn keep(&mut self, name: &str, t: &Tensor) {
        self.made.push((name.into(), t.to_f64_vec().unwrap()));
    }

    /// Keeps `y`, sends a gradient back from it and keeps what arrives at the leaves.
    fn backward(&mut self, y: &Tensor) {
        self.keep("y", y);
        let dy = self.tensor(y.shape(), y.dtype());
        backward_with(y, dy).unwrap();
        for (name, slot) in std::mem::take(&mut self.leaves) {
            let grad = slot.take().unwrap_or_else(|| panic!("{name} got no gradient"));
            self.made.push((format!("d{name}"), grad.to_f64_vec().unwrap()));
        }
    }
}

type Body = fn(&mut Run) -> Result<()>;
/// Results with their names.
type Made = Vec<(String, Vec<f64>)>;

const CASES: &[(&str, Body)] = &[
    ("add", |r| {
        for shape in [vec![2, 3, 5, 7], vec![1, 1], vec![1, 1, 1, 1031]] {
            let (a, b) = (r.input("a", shape.clone()), r.input("b", shape));
            let y = ops::add(&a, &b)?;
            r.backward(&y);
        }
        let a = r.input("twice", [3, 5]);
        let y = ops::add(&a, &a)?;
        r.backward(&y);
        Ok(())
    }),
    ("relu", |r| {
        for shape in [vec![2, 3, 5, 7], vec![1, 1], vec![1, 1000]] {
            let x = r.input("x", shape);
            let y = ops::relu(&x)?;
            r.backward(&y);
        }
        Ok(())
    }),
    ("linear", |r| {
        // The last is more than what warps make result by result; two have packs along the sum and none along the classes.
        for (n, i, o) in
            [(3, 4, 5), (1, 1, 1), (65, 67, 70), (2, 130, 3), (17, 1, 129), (5, 264, 37), (9, 8, 7), (257, 3, 257)]
        {
            for bias in [false, true] {
                let (x, w) = (r.input("x", [n, i]), r.input("w", [o, i]));
                let b = bias.then(|| r.master("b", [o]));
                let y = ops::linear(&x, &w, b.as_ref())?;
                r.backward(&y);
            }
        }
        Ok(())
    }),
    ("conv2d", |r| {
        for (x, w, stride, padding) in CONVOLUTIONS {
            for bias in [false, true] {
                let (x, w) = (r.input("x", x), r.input("w", w));
                let b = bias.then(|| r.master("b", [w.shape()[0]]));
                let y = ops::conv2d(&x, &w, b.as_ref(), stride, padding)?;
                r.backward(&y);
            }
        }
        Ok(())
    }),
    ("batch_norm", |r| {
        for shape in [
            vec![3, 5, 7, 8],
            vec![4, 1, 1, 1],
            vec![5, 33],
            vec![2, 13, 11, 17],
            vec![3, 1, 1, 3],
            vec![259, 40],
            vec![7, 12],   // packs of f32, none of half precision
            vec![300, 64], // packs whose channels stay the same from one to the thread's next
        ] {
            for mode in 0..8 {
                let (training, residual, relu) = (mode & 1 != 0, mode & 2 != 0, mode & 4 != 0);
                let c = [shape[shape.len() - 1]];
                let x = r.input("x", shape.clone());
                let (weight, bias) = (r.master("weight", c), r.master("bias", c));
                let residual = residual.then(|| r.input("residual", shape.clone()));
                let mut mean = r.tensor(c, r.dtype.master());
                let mut var = Tensor::full(0.75, c, r.dtype.master(), r.device)?;
                let y = ops::batch_norm(
                    &x,
                    BatchNorm {
                        weight: &weight,
                        bias: &bias,
                        running_mean: &mut mean,
                        running_var: &mut var,
                        eps: 1e-5,
                        momentum: 0.1,
                        training,
                        residual: residual.as_ref(),
                        relu,
                    },
                )?;
                r.backward(&y);
                r.keep("running_mean", &mean);
                r.keep("running_var", &var);
            }
        }
        // Tiles enough that more than a warp adds them, and a block of channels that isn't full. Without gradients: those are sums of so many
        // numbers that cancel that f32 has no say in them.
        let (x, weight, bias) =
            (r.tensor([8300, 3], r.dtype), r.tensor([3], r.dtype.master()), r.tensor([3], r.dtype.master()));
        let mut mean = r.tensor([3], r.dtype.master());
        let mut var = Tensor::full(0.75, [3], r.dtype.master(), r.device)?;
        let (running_mean, running_var) = (&mut mean, &mut var);
        let (eps, momentum, training, residual, relu) = (1e-5, 0.1, true, None, false);
        let args = BatchNorm {
            weight: &weight,
            bias: &bias,
            running_mean,
            running_var,
            eps,
            momentum,
            training,
            residual,
            relu,
        };
        r.keep("y", &ops::batch_norm(&x, args)?);
        r.keep("running_mean", &mean);
        r.keep("running_var", &var);
        Ok(())
    }),
    ("residual_blocks", |r| {
        // Two basic blocks, one of which halves the picture, and a bottleneck: what a network's tape is made of.
        let x = r.input("x", [2, 9, 8, 16]);
        let y = block(r, &x, &[[16, 3, 1], [16, 3, 1]], None)?;
        let y = block(r, &y, &[[24, 3, 2], [24, 3, 1]], Some([24, 1, 2]))?;
        let y = block(r, &y, &[[8, 1, 1], [8, 3, 1], [24, 1, 1]], None)?;
        r.backward(&y);
        Ok(())
    }),
    ("max_pool", |r| {
        for (shape, window, stride, padding) in [
            ([2, 9, 8, 3], 3, 2, 1),
            ([1, 4, 5, 2], 2, 2, 0),
            ([1, 5, 5, 1], 3, 1, 1),
            ([1, 1, 1, 4], 1, 1, 0),
            ([3, 7, 4, 33], 3, 4, 1),
        ] {
            let x = r.input("x", shape);
            let y = ops::max_pool(&x, window, stride, padding)?;
            r.backward(&y);
        }
        let x = r.leaf_of("x", odd_numbers(r, [1, 9, 7, 3])?);
        let y = ops::max_pool(&x, 3, 2, 1)?;
        r.backward(&y);
        Ok(())
    }),
    ("norm_pool", |r| {
        for (shape, size, stride, padding) in [
            ([2, 9, 8, 3], 3, 2, 1),
            ([1, 4, 5, 16], 2, 2, 0),
            ([3, 11, 13, 24], 3, 2, 1),
            ([1, 36, 5, 72], 3, 2, 1),
            ([5, 1, 2, 8], 3, 2, 1),
            ([2, 5, 7, 65], 3, 1, 1),
            // Each nearly the one that the compiler knows.
            ([1, 5, 6, 8], 3, 2, 0),
            ([1, 5, 6, 8], 3, 1, 1),
            ([1, 5, 6, 8], 2, 2, 1),
        ] {
            for training in [true, false] {
                let c = [shape[3]];
                let x = r.input("x", shape);
                let (weight, bias) = (r.master("weight", c), r.master("bias", c));
                let mut mean = r.tensor(c, r.dtype.master());
                let mut var = Tensor::full(0.75, c, r.dtype.master(), r.device)?;
                let args = BatchNorm {
                    weight: &weight,
                    bias: &bias,
                    running_mean: &mut mean,
                    running_var: &mut var,
                    eps: 1e-5,
                    momentum: 0.1,
                    training,
                    residual: None,
                    relu: true,
                };
                let y = ops::norm_pool(&x, args, norm_pool::Window { size, stride, padding })?;
                r.backward(&y);
                r.keep("running_mean", &mean);
                r.keep("running_var", &var);
            }
        }
        Ok(())
    }),
    ("concat_pool", |r| {
        // The last two have packs of channels; and more pixels than there are layers of blocks.
        for shape in [[2, 3, 4, 5], [1, 1, 1, 3], [3, 7, 7, 33], [3, 3, 5, 24], [1, 17, 16, 8]] {
            let x = r.input("x", shape);
            let y = ops::concat_pool(&x)?;
            r.backward(&y);
        }
        let x = r.leaf_of("x", odd_numbers(r, [4, 5, 7, 3])?);
        let y = ops::concat_pool(&x)?;
        r.backward(&y);
        Ok(())
    }),
    ("flatten", |r| {
        let x = r.input("x", [2, 3, 2, 4]);
        let y = ops::flatten(&x)?;
        r.backward(&y);
        Ok(())
    }),
    ("cross_entropy", |r| {
        for (rows, classes) in [(5, 4), (1, 2), (67, 37), (3, 131)] {
            let weights: Vec<f64> = (0..classes).map(|c| 0.25 + c as f64 / classes as f64).collect();
            let options = [
                CrossEntropy::default(),
                CrossEntropy { label_smoothing: 0.1, ..Default::default() },
                CrossEntropy {
                    class_weights: Some(weights.clone()),
                    ignore_index: 1,
                    label_smoothing: 0.05,
                    focal_gamma: None,
                },
                CrossEntropy { focal_gamma: Some(2.0), class_weights: Some(weights), ..Default::default() },
            ];
            let targets: Vec<i64> = (0..rows).map(|i| (i * 7 % classes) as i64).collect();
            let targets = Tensor::from_slice(&targets, [rows], r.device)?;
            for o in options {
                let logits = r.input("logits", [rows, classes]);
                let loss = ops::cross_entropy(&logits, &targets, &o)?;
                r.backward(&loss);
                let (logits, shares) = (r.input("logits", [rows, classes]), r.tensor([rows], r.dtype.master()));
                let loss = ops::weighted_cross_entropy(&logits, &targets, &shares, &o)?;
                r.backward(&loss);
            }
            // A row that cannot be better, and exponents at which a power of 0 could be no number.
            for gamma in [0.0, 0.5, 1.0] {
                let sure: Vec<f64> = (0..classes).map(|c| if c == 0 { 80.0 } else { -80.0 }).collect();
                let sure = Tensor::from_slice(&sure, [1, classes], Device::Cpu)?.cast(r.dtype)?.to(r.device)?;
                let (sure, zero) = (r.leaf_of("sure", sure), Tensor::from_slice(&[0i64], [1], r.device)?);
                let o = CrossEntropy { focal_gamma: Some(gamma), ..Default::default() };
                let loss = ops::cross_entropy(&sure, &zero, &o)?;
                r.backward(&loss);
            }
            let tied: Vec<f64> = (0..rows * classes).map(|i| (i * 5 % 3) as f64).collect();
            let tied = Tensor::from_slice(&tied, [rows, classes], Device::Cpu)?.cast(r.dtype)?.to(r.device)?;
            r.keep("correct of ties", &ops::count_correct(&tied, &targets)?);
            let logits = r.tensor([rows, classes], r.dtype);
            let (probabilities, right) = (ops::softmax(&logits)?, ops::count_correct(&logits, &targets)?);
            r.keep("softmax", &probabilities);
            r.keep("correct", &right);
        }
        Ok(())
    }),
    ("pointwise_loss", |r| {
        for (rows, columns) in [(5, 4), (1, 1), (67, 1), (3, 131)] {
            let pos_weight = Some((0..columns).map(|c| 0.25 + c as f64 / columns as f64).collect());
            for loss in [
                Pointwise::BceWithLogits { pos_weight: None },
                Pointwise::BceWithLogits { pos_weight },
                Pointwise::Mse,
                Pointwise::L1,
            ] {
                let bit = |i: usize| f64::from(u8::from((i * 7).is_multiple_of(3)));
                let y: Vec<f64> = (0..rows * columns).map(bit).collect();
                let y = Tensor::from_slice(&y, [rows, columns], Device::Cpu)?.cast(r.dtype.master())?.to(r.device)?;
                for weighted in [false, true] {
                    let (x, w) = (r.input("x", [rows, columns]), r.tensor([rows], r.dtype.master()));
                    let mean = ops::pointwise_loss(&x, &y, weighted.then_some(&w), &loss)?;
                    r.backward(&mean);
                }
                // Logits that overflow a careless exponential, and a prediction that is right to the bit.
                let far: Vec<f64> = (0..columns).map(|c| [0.0, 1.0, 200.0, -200.0][c % 4]).collect();
                let far = Tensor::from_slice(&far, [1, columns], Device::Cpu)?.cast(r.dtype)?.to(r.device)?;
                let far = r.leaf_of("far", far);
                let row: Vec<f64> = (0..columns).map(|c| (c % 2) as f64).collect();
                let row = Tensor::from_slice(&row, [1, columns], Device::Cpu)?.cast(r.dtype.master())?.to(r.device)?;
                let mean = ops::pointwise_loss(&far, &row, None, &loss)?;
                r.backward(&mean);
            }
        }
        Ok(())
    }),
    ("dropout", |r| {
        for shape in [vec![4, 6], vec![1, 1], vec![3, 1001]] {
            let x = r.input("x", shape.clone());
            let y = ops::dropout(&x, 0.3, 1 << 40, 2, 3)?;
            r.backward(&y);
            let x = r.input("x", shape);
            let mask: Vec<u8> = (0..x.numel()).map(|i| u8::from(i % 3 != 0)).collect();
            let y = ops::dropout::dropout_with(&x, 0.5, &Tensor::from_slice(&mask, x.shape(), r.device)?)?;
            r.backward(&y);
        }
        Ok(())
    }),
    ("augment", |r| {
        let (n, h, w) = (3, 21, 26);
        let bytes: Vec<u8> = (0..n * h * w * 3).map(|i| (i * 37 % 251) as u8).collect();
        let bytes = Tensor::from_slice(&bytes, [n, h, w, 3], r.device)?;
        for plan in augmentations(n, (h, w)) {
            let y = ops::augment(&bytes, &plan, r.dtype)?;
            r.keep("y", &y);
        }
        Ok(())
    }),
    ("optimizer", |r| {
        let adam = Rule::Adam { mom: 0.9, sqr_mom: 0.99, eps: 1e-5 };
        let rules = [
            adam,
            Rule::Sgd { mom: 0.0 },
            Rule::Sgd { mom: 0.9 },
            Rule::RmsProp { mom: 0.0, sqr_mom: 0.99, eps: 1e-8 },
            Rule::RmsProp { mom: 0.5, sqr_mom: 0.9, eps: 1e-3 },
        ];
        for rule in rules {
            for decoupled in [true, false] {
                // Parameters are masters, and their copies follow where there are some.
                let kind = r.dtype.master();
                let sizes = [1, 7, 70_001];
                let mut p: Vec<Tensor> = sizes.iter().map(|&n| r.tensor([n], kind)).collect();
                let copy = |t: &Tensor| r.dtype.is_half().then(|| t.cast(r.dtype).unwrap());
                let mut halves: Vec<Option<Tensor>> = p.iter().map(copy).collect();
                let mut states = vec![State::default(); sizes.len()];
                for _ in 0..2 {
                    let grads: Vec<Tensor> = sizes.iter().map(|&n| r.tensor([n], kind)).collect();
                    let step = Step { rule, lr: 0.01, wd: 0.1, decoupled };
                    let mut items = Vec::new();
                    for (((p, half), grad), state) in p.iter_mut().zip(&mut halves).zip(&grads).zip(&mut states) {
                        items.push(Item { p, half: half.as_mut(), grad, state, step, name: "p" });
                    }
                    optimizer_steps(&mut items)?;
                }
                for (p, half) in p.iter().zip(&halves) {
                    r.keep("p", p);
                    if let Some(half) = half {
                        assert_eq!(
                            half.to_f64_vec()?,
                            p.cast(half.dtype())?.to_f64_vec()?,
                            "the copy follows the master"
                        );
                    }
                }
            }
        }
        Ok(())
    }),
    ("gradient_norm", |r| {
        let kind = r.dtype.master();
        let mut grads: Vec<Tensor> = [1, 7, 70_001].iter().map(|&n| r.tensor([n], kind)).collect();
        let found = ops::gradient_norm(&grads.iter().collect::<Vec<_>>())?;
        r.keep("norm", &found.norm);
        r.keep("not_finite", &found.not_finite);
        for most in [1e6, 0.5] {
            let mut clipped = grads.clone();
            let norm = ops::clip_gradients(&mut clipped, most, 2.0)?.norm;
            r.keep("norm before", &norm);
            clipped.iter().for_each(|d| r.keep("clipped", d));
            grads.iter().for_each(|d| r.keep("as it was", d));
        }
        let bad = Tensor::from_slice(&[1.0, f64::NAN, f64::INFINITY], [3], Device::Cpu)?.cast(kind)?.to(r.device)?;
        grads.push(bad);
        let found = ops::gradient_norm(&grads.iter().collect::<Vec<_>>())?;
        r.keep("not_finite", &found.not_finite);
        Ok(())
    }),
    ("unscale", |r| {
        let mut gradients: Vec<Tensor> =
            [3, 1, 70_000, 257].into_iter().map(|n| r.tensor([n], r.dtype.master())).collect();
        ops::unscale(&mut gradients, 0.125)?;
        gradients.iter().for_each(|d| r.keep("d", d));
        ops::unscale(&mut [], 2.0)
    }),
    ("mix", |r| {
        let partners = [2, 0, 1, 1];
        for shape in [vec![4, 9, 7, 3], vec![4, 5], vec![4, 1, 1, 1], vec![4, 16, 33, 2]] {
            let x = r.tensor(shape, r.dtype);
            r.keep("mixed", &ops::mix_up(&x, &partners, &[0.75, 1.0, 0.0, 0.3])?);
            if x.shape().len() == 4 {
                let (h, w) = (x.shape()[1], x.shape()[2]);
                let whole = Patch { top: 0, bottom: h, left: 0, right: w };
                let some = Patch { top: h / 3, bottom: h - h / 4, left: w / 2, right: w };
                for patch in [whole, some, Patch { right: 0, ..whole }] {
                    r.keep("cut", &ops::cut_mix(&x, &partners, patch)?);
                }
            }
        }
        Ok(())
    }),
    ("rows", |r| {
        for shape in [vec![7, 3, 5], vec![5, 16], vec![3, 1], vec![4, 9, 16]] {
            let table = r.tensor(shape.clone(), r.dtype);
            r.keep("taken", &ops::take_rows(&table, &[2, 0, 2, 1, 0])?);
            let mut changed = table.clone();
            let mut few = shape.clone();
            few[0] = 2;
            let values = r.tensor(few, r.dtype);
            ops::put_rows(&mut changed, &[2, 0], &values)?;
            r.keep("put", &changed);
            r.keep("as it was", &table);
        }
        let bytes = Tensor::from_slice(&[1u8, 2, 3, 4, 5, 6], [3, 2], r.device)?;
        r.keep("bytes", &ops::take_rows(&bytes, &[2, 1])?);
        Ok(())
    }),
    ("tensor", |r| {
        let x = r.tensor([3, 7], r.dtype);
        r.keep("to f32", &x.cast(DType::F32)?);
        let full = Tensor::full(0.75, [5, 3], r.dtype, r.device)?;
        r.keep("full", &full);
        r.keep("zeros", &Tensor::zeros([17], r.dtype, r.device)?);
        r.keep("scalar", &Tensor::scalar(3.0, DType::I64, r.device)?);
        r.keep("bytes", &Tensor::full(200.0, [70], DType::U8, r.device)?.cast(DType::F32)?);
        r.keep("empty", &ops::relu(&Tensor::zeros([0, 4], r.dtype, r.device)?)?);
        Ok(())
    }),
];

/// A residual block of convolutions `[channels, filter, stride]`, each with its norm, and perhaps one in the shortcut.
fn block(r: &mut Run, x: &Tensor, path: &[[usize; 3]], shortcut: Option<[usize; 3]>) -> Result<Tensor> {
    let shortcut = match shortcut {
        Some(layer) => layer_of(r, x, layer, None, false)?,
        None => x.clone(),
    };
    let mut y = x.clone();
    for (i, layer) in path.iter().enumerate() {
        let last = i + 1 == path.len();
        y = layer_of(r, &y, *layer, last.then_some(&shortcut), true)?;
    }
    Ok(y)
}

fn layer_of(
    r: &mut Run,
    x: &Tensor,
    [k, filter, stride]: [usize; 3],
    residual: Option<&Tensor>,
    relu: bool,
) -> Result<Tensor> {
    let (w, c) = (r.input("w", [k, filter, filter, x.shape()[3]]), [k]);
    let (weight, bias) = (r.master("weight", c), r.master("bias", c));
    let y = ops::conv2d(x, &w, None, [stride; 2], [filter / 2; 2])?;
    let (mut mean, mut var) = (r.tensor(c, r.dtype.master()), Tensor::full(0.75, c, r.dtype.master(), r.device)?);
    let args = BatchNorm {
        weight: &weight,
        bias: &bias,
        running_mean: &mut mean,
        running_var: &mut var,
        eps: 1e-5,
        momentum: 0.1,
        training: true,
        residual,
        relu,
    };
    let y = ops::batch_norm(&y, args)?;
    r.keep("running_var", &var);
    Ok(y)
}

/// Ties everywhere, and some NaN and infinities: PyTorch's rules decide which of them wins.
fn odd_numbers(r: &Run, shape: [usize; 4]) -> Result<Tensor> {
    let odd = |i: usize| match i * 7919 % 97 {
        0 => f64::NAN,
        1 => f64::INFINITY,
        2..6 => f64::NEG_INFINITY,
        k => (k % 3) as f64,
    };
    let values: Vec<f64> = (0..shape.iter().product()).map(odd).collect();
    Tensor::from_slice(&values, shape, Device::Cpu)?.cast(r.dtype)?.to(r.device)
}

/// x, w, stride, padding: ragged, strided past the border, a filter as large as the picture, few and many channels, one pixel.
type Convolution = ([usize; 4], [usize; 4], [usize; 2], [usize; 2]);
const CONVOLUTIONS: [Convolution; 15] = [
    ([2, 5, 6, 3], [4, 3, 3, 3], [1, 1], [1, 1]),
    ([1, 7, 5, 2], [3, 3, 3, 2], [2, 2], [1, 1]),
    ([2, 4, 4, 17], [5, 1, 1, 17], [1, 1], [0, 0]),
    ([1, 5, 4, 18], [70, 1, 1, 18], [2, 2], [0, 0]),
    ([1, 6, 5, 16], [9, 3, 3, 16], [2, 2], [1, 1]),
    ([1, 9, 8, 3], [2, 7, 7, 3], [2, 2], [3, 3]),
    ([2, 3, 4, 16], [3, 3, 4, 16], [1, 1], [0, 0]),
    ([1, 5, 7, 2], [2, 2, 3, 2], [3, 2], [2, 0]),
    ([1, 4, 9, 16], [2, 2, 5, 16], [3, 2], [0, 4]),
    ([1, 1, 1, 1], [1, 1, 1, 1], [1, 1], [0, 0]),
    ([1, 9, 8, 65], [67, 3, 3, 65], [1, 1], [1, 1]),
    ([2, 25, 27, 2], [3, 3, 3, 2], [2, 2], [1, 1]),
    ([1, 29, 28, 2], [3, 3, 3, 2], [1, 1], [1, 1]), // pixels enough to split the weight gradient's sum, unevenly
    ([1, 50, 49, 1], [3, 1, 1, 1], [1, 1], [0, 0]), // nine parts: the loads of eight are under way at once
    ([1, 77, 77, 3], [13, 1, 1, 3], [1, 1], [0, 0]), // 23 parts, which are added in eight runs: of three parts, the last of two
];

/// For tensor cores: channels in multiples of 8, and nothing else round.
const TENSOR_CONVOLUTIONS: [Convolution; 10] = [
    ([2, 6, 9, 8], [16, 3, 3, 8], [1, 2], [1, 1]), // a stride along one axis alone
    ([2, 9, 6, 8], [16, 3, 3, 8], [2, 1], [1, 1]),
    ([2, 9, 7, 40], [24, 3, 3, 40], [1, 1], [1, 1]),
    ([1, 11, 10, 16], [72, 3, 3, 16], [2, 2], [1, 1]),
    ([3, 5, 5, 8], [8, 1, 1, 8], [1, 1], [0, 0]),
    ([2, 7, 6, 72], [136, 1, 1, 72], [2, 2], [0, 0]),
    ([1, 14, 13, 8], [16, 7, 7, 8], [2, 2], [3, 3]),
    ([1, 29, 28, 8], [8, 3, 2, 8], [1, 1], [1, 1]), // as above: 841 pixels in three parts
    ([1, 17, 17, 8], [8, 3, 3, 8], [2, 2], [1, 1]), // one phase has two tiles of pixels, the others one
    ([1, 15, 17, 8], [8, 3, 3, 8], [2, 2], [1, 1]), // likewise, and either side rounded down would leave it one
];

/// For the kernels that bring the pixels under a 3x3 window once: channels in multiples of 32, and nothing else round.
const SLABS: [Convolution; 4] = [
    ([2, 9, 7, 96], [64, 3, 3, 96], [1, 1], [1, 1]), // three blocks of channels, a tile that reaches into the next picture
    ([3, 5, 6, 32], [160, 3, 3, 32], [1, 1], [1, 1]), // one block; filters that fill no tile
    ([1, 67, 1, 64], [32, 3, 3, 64], [1, 1], [1, 1]), // pictures one pixel wide
    ([1, 1, 127, 32], [32, 3, 3, 32], [1, 1], [1, 1]), // the longest rows that fit
];

/// Not for these kernels, for one reason each.
const NEARLY_SLABS: [Convolution; 7] = [
    ([1, 6, 7, 32], [32, 3, 3, 32], [1, 1], [1, 0]),
    ([1, 6, 7, 32], [32, 3, 3, 32], [1, 1], [0, 1]),
    ([1, 6, 7, 32], [32, 3, 3, 32], [1, 2], [1, 1]),
    ([1, 6, 7, 32], [32, 3, 3, 32], [2, 1], [1, 1]),
    ([1, 6, 7, 40], [32, 3, 3, 40], [1, 1], [1, 1]),
    ([1, 6, 7, 32], [40, 3, 3, 32], [1, 1], [1, 1]),
    ([1, 1, 900, 32], [32, 3, 3, 32], [1, 1], [1, 1]), // two such rows are more than shared memory
];

/// For the kernel that makes a weight gradient of nine taps at once: 64 channels, and pixels that fill no tile of 64.
const TAPS: [Convolution; 5] = [
    ([9, 8, 8, 64], [64, 3, 3, 64], [1, 1], [1, 1]), // two uneven parts of more tiles than there are stages
    ([1, 5, 13, 128], [64, 3, 3, 128], [1, 1], [1, 1]), // two blocks of channels, a tile of one pixel
    ([4, 7, 7, 64], [128, 3, 3, 64], [1, 1], [1, 1]), // tiles that begin in every row of a picture
    ([1, 2, 1, 64], [64, 3, 3, 64], [1, 1], [1, 1]),
    ([1, 1, 64, 64], [64, 3, 3, 64], [1, 1], [1, 1]), // the longest rows that fit
];

fn augmentations(n: usize, (h, w): (usize, usize)) -> Vec<Augment> {
    let plain = Sample { crop: None, theta: Sample::IDENTITY, warp: None, shrink: None };
    let turned = |i: usize| {
        let a = 0.3 + i as f32;
        Sample { theta: [a.cos() * 1.2, a.sin(), 0.1, -a.sin(), a.cos(), -0.2], ..plain }
    };
    let warped =
        |i: usize| Sample { warp: Some([1.1, 0.05, 0.02, -0.04, 0.9, 0.03, 0.1, -0.05 * i as f32]), ..turned(i) };
    let crop =
        |i: usize| Sample { crop: Some(Window { top: i, left: 2 * i, height: h - 3 - i, width: w - 7 }), ..plain };
    let shrunk = |i: usize| Sample { shrink: Some((h / 2, w / 3)), ..turned(i) };
    let pass = |height, width, padding, align_corners, of: &dyn Fn(usize) -> Sample| Pass {
        height,
        width,
        padding,
        interpolation: Interpolation::Bilinear,
        align_corners,
        samples: (0..n).map(of).collect(),
    };
    let light = |i: usize| {
        let i = i as f32;
        Light { brightness: 0.4 + 0.1 * i, contrast: 0.9 + 0.1 * i, saturation: 0.6 + 0.4 * i }
    };
    let lights = (0..n).map(light).collect();
    let hues = (0..n).map(|i| 0.3 * i as f32).collect(); // the first picture keeps its own
    let boxes =
        vec![Window { top: 2, left: 3, height: 9, width: 7 }, Window { top: 0, left: 20, height: 21, width: 6 }];
    let all = |passes| Augment { passes, ..Augment::default() };
    let mut plans = vec![
        Augment { normalize: Some(augment::IMAGENET_STATS), ..Augment::default() },
        Augment { lights, normalize: Some(augment::IMAGENET_STATS), ..Augment::default() },
        Augment { hues, ..Augment::default() },
        Augment { erase: Erase { boxes, noise: (1 << 40, 3, 5) }, ..Augment::default() },
        all(vec![pass(h, w, Padding::Reflection, true, &warped), pass(9, 11, Padding::Reflection, true, &crop)]),
        all(vec![pass(9, 11, Padding::Reflection, true, &shrunk)]),
        all(vec![pass(1, 1, Padding::Reflection, true, &crop)]),
    ];
    for padding in [Padding::Zeros, Padding::Border, Padding::Reflection] {
        for align_corners in [true, false] {
            plans.push(all(vec![pass(10, 7, padding, align_corners, &turned)]));
            let nearest =
                Pass { interpolation: Interpolation::Nearest, ..pass(10, 7, padding, align_corners, &turned) };
            plans.push(all(vec![nearest]));
        }
    }
    plans
}

/// Devices under test and the float types they compute in: the emulator in `modes`, then every GPU.
fn devices(modes: &[Mode]) -> Vec<(Device, Vec<DType>)> {
    const TYPES: [DType; 3] = [DType::F32, DType::F16, DType::BF16];
    let emulated = modes.iter().filter_map(|&m| emulated::device(m));
    emulated.chain(common::gpus()).map(|d| (d, TYPES.to_vec())).collect()
}

/// How far a result may be from the reference: in relation to the largest number of the reference, and as ‖got - want‖ / ‖want‖.
fn tolerance(dtype: DType) -> (f64, f64) {
    match dtype {
        DType::F32 => (3e-5, 5e-6),
        DType::F16 => (4e-3, 1e-3),
        _ => (3e-2, 8e-3),
    }
}

fn compare(what: &str, got: &[(String, Vec<f64>)], want: &[(String, Vec<f64>)], dtype: DType) {
    assert_eq!(got.len(), want.len());
    let (most, norm) = tolerance(dtype);
    for (i, ((name, got), (_, want))) in got.iter().zip(want).enumerate() {
        let what = format!("{what}, result {i} ({name})");
        assert_eq!(got.len(), want.len(), "{what}");
        // Where everything cancels (a norm over two rows), rounding is all there is: below 0.01 it is judged as if it were 0.01.
        let largest = want.iter().fold(1e-2, |m: f64, v| m.max(v.abs()));
        let (mut off, mut all, mut worst) = (0.0, 1e-4 * want.len().max(1) as f64, (0, 0.0));
        for (j, (g, w)) in got.iter().zip(want).enumerate() {
            if g == w || (g.is_nan() && w.is_nan()) {
                continue; // infinities, too
            }
            let d = (g - w).abs();
            off += d * d;
            all += w * w;
            if d > worst.1 || d.is_nan() {
                worst = (j, if d.is_nan() { f64::INFINITY } else { d });
            }
        }
        let (j, d) = worst;
        let place = || format!("{what}: element {j} is {} instead of {}", got[j], want[j]);
        assert!(d <= most * largest, "{}: off by {d:.1e}, largest {largest}", place());
        assert!((off / all).sqrt() <= norm, "{}: relative error {:.1e}", place(), (off / all).sqrt());
    }
}

fn run(body: Body, device: Device, dtype: DType, rounded_to: DType) -> Made {
    let mut run = Run::new(device, dtype, rounded_to);
    body(&mut run).unwrap_or_else(|e| panic!("{e}"));
    run.made
}

/// Cases whose numbers come near to kinks on their way (a ReLU's zero, two that compete for a window): in half precision rounding takes
/// another turn there than in f64, and only the same rounding can be compared.
const KINKS: [&str; 2] = ["norm_pool", "residual_blocks"];

/// The body of one test below.
fn check(name: &str) {
    let body = CASES.iter().find(|(n, _)| *n == name).expect("it is in the list").1;
    let _ladder = emulated::ladder();
    onecycle::device::cpu::buffer::poison(true);
    // The processor in f32 is a device under test, too.
    let want = run(body, Device::Cpu, DType::F64, DType::F32);
    compare(&format!("{name} on cpu in f32"), &run(body, Device::Cpu, DType::F32, DType::F32), &want, DType::F32);
    // And in half precision, which it imitates.
    let smooth = !KINKS.contains(&name);
    for dtype in [DType::F16, DType::BF16].into_iter().filter(|_| smooth) {
        let want = run(body, Device::Cpu, DType::F64, dtype);
        compare(&format!("{name} on cpu in {dtype}"), &run(body, Device::Cpu, dtype, dtype), &want, dtype);
    }
    let mut bits: Vec<(DType, Made)> = Vec::new();
    for (device, types) in devices(&[Mode::Checked, Mode::ShuffledLate, Mode::ReverseLate]) {
        for dtype in types {
            let want = run(body, Device::Cpu, DType::F64, dtype);
            let got = run(body, device, dtype, dtype);
            if smooth || dtype == DType::F32 {
                compare(&format!("{name} on {device} in {dtype}"), &got, &want, dtype);
            }
            // The order of threads and the moment of copies must not show, not even in the last bit.
            if device.to_string().starts_with("emulator") {
                match bits.iter().find(|(d, _)| *d == dtype) {
                    Some((_, first)) => assert!(same(first, &got), "{name} in {dtype}: other bits on {device}"),
                    None => bits.push((dtype, got)),
                }
            }
        }
    }
}

fn same(a: &[(String, Vec<f64>)], b: &[(String, Vec<f64>)]) -> bool {
    let bits = |v: &[f64]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    a.len() == b.len() && a.iter().zip(b).all(|((_, a), (_, b))| bits(a) == bits(b))
}

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        /// `cargo test emulator` runs what has the word in its name: these have it from their module.
        mod emulator {
            $(#[test] fn $name() { super::check(stringify!($name)); })*

            #[test]
            fn every_case_has_a_test() {
                let tests = [$(stringify!($name)),*];
                assert!(super::CASES.iter().all(|(name, _)| tests.contains(name)));
            }
        }
    };
}
cases!(
    add,
    relu,
    linear,
    conv2d,
    batch_norm,
    residual_blocks,
    max_pool,
    norm_pool,
    concat_pool,
    flatten,
    cross_entropy,
    pointwise_loss,
    dropout,
    augment,
    optimizer,
    gradient_norm,
    mix,
    rows,
    unscale,
    tensor,
);

/// For a network's first layer: few channels, a 7x7 window, stride 2; tiles of 8 x 16 outputs that are full nowhere.
const STEMS: [Convolution; 5] = [
    ([2, 19, 70, 3], [8, 7, 7, 3], [2, 2], [3, 3]), // rows of pairs of pixels, three tiles across
    ([3, 35, 37, 3], [16, 7, 7, 3], [2, 2], [3, 3]), // 18 tiles: two blocks forward, four uneven parts of the weight gradient
    ([1, 9, 8, 3], [72, 7, 7, 3], [2, 2], [3, 3]),
    ([1, 20, 70, 1], [8, 7, 5, 1], [2, 2], [0, 2]),
    ([3, 16, 16, 4], [64, 7, 8, 4], [2, 2], [3, 4]),
];

/// `y`, `dx` and `dw` of a convolution, on a rung or (without one) on the processor in f64.
fn products(r: &mut Run, rung: Option<Rung>, (x, w, stride, padding): Convolution) -> Made {
    let (x, w) = (r.tensor(x, r.dtype), r.tensor(w, r.dtype));
    if let Some(rung) = rung {
        let y = ladder::forward(rung, &x, &w, stride, padding).unwrap();
        let dy = r.tensor(y.shape(), r.dtype);
        r.keep("y", &y);
        r.keep("dx", &ladder::input_gradient(rung, &x, &w, &dy, stride, padding).unwrap());
        r.keep("dw", &ladder::weight_gradient(rung, &x, &w, &dy, stride, padding).unwrap());
    } else {
        let (x, w) = (r.leaf_of("x", x), r.leaf_of("w", w));
        let y = ops::conv2d(&x, &w, None, stride, padding).unwrap();
        r.backward(&y);
    }
    std::mem::take(&mut r.made)
}

/// All rungs of a ladder compute the same; only the best is used by training.
#[test]
fn emulator_rungs_of_the_convolution() {
    set_tf32(true);
    for (place, (device, types)) in
        devices(&[Mode::Checked, Mode::ShuffledLate, Mode::ReverseLate]).into_iter().enumerate()
    {
        // The larger tiles take the emulator long: once, with everything checked.
        let few = place > 0 && device.to_string().starts_with("emulator");
        let tiles = if few { &Tile::ALL[2..] } else { &Tile::ALL };
        for dtype in types {
            // What only some kernels of the third rung take is for these alone.
            let special = TAPS.into_iter().chain(SLABS).chain(NEARLY_SLABS);
            let special = special.map(|conv| (conv, true)).filter(|_| dtype.is_half());
            let general = CONVOLUTIONS.into_iter().chain(TENSOR_CONVOLUTIONS).chain(STEMS).map(|conv| (conv, false));
            for (i, (conv, special)) in general.chain(special).enumerate() {
                // Numbers of f16 are numbers of tf32, too: so f32 has to be exact on every rung.
                let rounded_to = if dtype == DType::F32 { DType::F16 } else { dtype };
                let want = products(&mut Run::new(Device::Cpu, DType::F64, rounded_to), None, conv);
                let (c, k) = (conv.0[3], conv.1[0]);
                let chunk = if dtype.is_half() { 8 } else { 4 };
                let stem = dtype.is_half() && conv.2 == [2, 2] && conv.1[1] == 7 && c <= 4 && k % 8 == 0;
                let tensor_cores = c % chunk == 0 && k % chunk == 0 || stem;
                let served = |r: &Rung| *r < Rung::TensorCores || tensor_cores;
                for rung in Rung::ALL.into_iter().filter(|r| served(r) && (!special || *r == Rung::TensorCores)) {
                    let what = format!("{rung:?} convolution {i} on {device} in {dtype}");
                    let run = || products(&mut Run::new(device, dtype, rounded_to), Some(rung), conv);
                    if rung < Rung::TensorCores {
                        compare(&what, &run(), &want, dtype);
                        continue;
                    }
                    // Every tile makes the same bits of y and dx: each number is one sum, in one order.
                    let made: Vec<Made> = tiles.iter().map(|tile| with_tile(*tile, run)).collect();
                    for (tile, made) in tiles.iter().zip(&made) {
                        compare(&format!("{what}, {tile}"), made, &want, dtype);
                    }
                    assert!(made.iter().all(|m| same(&m[..2], &made[0][..2])), "{what}: tiles differ");
                    if special {
                        compare(&format!("{what}, as planned"), &run(), &want, dtype);
                    }
                }
            }
        }
    }
}

/// What the fused rung does with an input gradient on its way out, beside the same done one after the other.
#[test]
fn emulator_finishes_input_gradients() {
    for (place, (device, types)) in devices(&[Mode::Checked, Mode::ReverseLate]).into_iter().enumerate() {
        for dtype in types.into_iter().filter(|dtype| dtype.is_half()) {
            let all = TENSOR_CONVOLUTIONS.into_iter().chain(SLABS);
            for (i, (shape, w, stride, padding)) in all.enumerate() {
                let mut r = Run::new(device, dtype, dtype);
                let (x, w, c) = (r.tensor(shape, dtype), r.tensor(w, dtype), [shape[3]]);
                let y = ladder::forward(Rung::Tiled, &x, &w, stride, padding).unwrap();
                let (dy, added, seen) = (r.tensor(y.shape(), dtype), r.tensor(shape, dtype), r.tensor(shape, dtype));
                let numbers: Vec<Tensor> = (0..4).map(|_| r.tensor(c, DType::F32)).collect();
                let plain = ladder::input_gradient(Rung::TensorCores, &x, &w, &dy, stride, padding).unwrap();
                for mode in 0..4 {
                    let (so_far, made) = ((mode & 1 != 0).then_some(&added), (mode & 2 != 0).then_some(&x));
                    let finished = Finished { so_far, seen: &seen, numbers: [0, 1, 2, 3].map(|j| &numbers[j]), made };
                    // Rounded where memory would hold it.
                    let sum = plain.to_f64_vec().unwrap().into_iter().zip(added.to_f64_vec().unwrap());
                    let sum: Vec<f64> = sum.map(|(d, a)| if so_far.is_some() { d + a } else { d }).collect();
                    let sum = Tensor::from_slice(&sum, shape, Device::Cpu)
                        .unwrap()
                        .cast(dtype)
                        .unwrap()
                        .to_f64_vec()
                        .unwrap();
                    let [mean, invstd, scale, bias] = [0, 1, 2, 3].map(|j| numbers[j].to_vec::<f32>().unwrap());
                    let (seen, x_values) = (seen.to_f64_vec().unwrap(), x.to_f64_vec().unwrap());
                    let passes = |j: usize| match made {
                        Some(_) => x_values[j] > 0.0,
                        None => {
                            let ch = j % c[0];
                            (seen[j] as f32 - mean[ch]).mul_add(scale[ch] * invstd[ch], bias[ch]) > 0.0
                        }
                    };
                    let want: Vec<f64> = (0..sum.len()).map(|j| if passes(j) { sum[j] } else { 0.0 }).collect();
                    let mut sums = vec![0.0; 2 * c[0]];
                    for (j, d) in want.iter().enumerate() {
                        sums[j % c[0]] += d * (seen[j] - f64::from(mean[j % c[0]]));
                        sums[c[0] + j % c[0]] += d;
                    }
                    let tiles = if place == 0 { &Tile::ALL[..] } else { &Tile::ALL[2..] };
                    for tile in tiles {
                        let what = format!("convolution {i}, mode {mode}, {tile} on {device} in {dtype}");
                        let run = || ladder::input_gradient_finished(&x, &w, &dy, finished, stride, padding).unwrap();
                        let (dx, partial) = with_tile(*tile, run);
                        assert!(dx.to_f64_vec().unwrap() == want, "{what}: other numbers");
                        let partial = partial.to_f64_vec().unwrap();
                        for (channel, want) in sums.iter().enumerate() {
                            let got: f64 = partial.iter().skip(channel).step_by(2 * c[0]).sum();
                            assert!(
                                (got - want).abs() < 1e-4 * want.abs().max(1.0),
                                "{what}, {channel}: {got} for {want}"
                            );
                        }
                    }
                }
            }
        }
    }
}

/// tf32 keeps 10 bits of a number's fraction: a product of other numbers is as near as that of f16.
#[test]
fn emulator_rounds_single_precision_to_tf32() {
    set_tf32(true);
    for (device, _) in devices(&[Mode::Plain]) {
        for conv in TENSOR_CONVOLUTIONS {
            let want = products(&mut Run::new(Device::Cpu, DType::F64, DType::F32), None, conv);
            let got = products(&mut Run::new(device, DType::F32, DType::F32), Some(Rung::TensorCores), conv);
            compare("tf32", &got, &want, DType::F16);
            let [got, want] = [&got, &want].map(|made| &made[0].1);
            assert!(got.iter().zip(want).any(|(g, w)| (g - w).abs() > 1e-5), "it was not rounded");
        }
    }
}

/// What the two upper rungs change, in all their modes: operations by themselves, and the tape of a few residual blocks.
#[test]
fn emulator_fusions_change_no_result() {
    set_tf32(true);
    let cases = ["conv2d", "batch_norm", "linear", "norm_pool", "residual_blocks"];
    for (device, types) in devices(&[Mode::Checked, Mode::ShuffledLate, Mode::ReverseLate]) {
        for dtype in types {
            for name in cases {
                let body = CASES.iter().find(|(n, _)| *n == name).expect("it is in the list").1;
                let rounded_to = if dtype == DType::F32 { DType::F16 } else { dtype };
                let at = |rung| emulated::at_rung(rung, || run(body, device, dtype, rounded_to));
                let (tensor, fused) = (at(Rung::TensorCores), at(Rung::Fused));
                // A last bit of a norm's statistics is a last bit of what it makes, and so of all that follows in the blocks.
                let near = match dtype {
                    DType::F32 if name == "residual_blocks" => DType::F16,
                    other => other,
                };
                compare(&format!("{name} fused on {device} in {dtype}"), &fused, &tensor, near);
                if !KINKS.contains(&name) {
                    let want = run(body, Device::Cpu, DType::F64, rounded_to);
                    compare(&format!("{name} on tensor cores on {device} in {dtype}"), &tensor, &want, dtype);
                }
            }
        }
    }
}

/// The fused rung leaves passes out; counted, because a fusion that doesn't happen changes no result either.
#[test]
fn emulator_fusions_save_launches() {
    let Some((device, watch)) = emulated::watched(usize::MAX, Mode::Plain) else { return };
    let body = CASES.iter().find(|(n, _)| *n == "residual_blocks").unwrap().1;
    let launches = |rung| {
        emulated::at_rung(rung, || {
            let before = watch.counts().launched;
            run(body, device, DType::BF16, DType::BF16);
            watch.counts().launched - before
        })
    };
    // 8 norms find their sums taken. 6 of them (not the shortcut's nor the last) find their gradients masked and summed. The three
    // places where a shortcut's gradient joins need no pass for it.
    assert_eq!(launches(Rung::TensorCores) - launches(Rung::Fused), 8 + 6 + 3);
}

/// The checker has seen every kernel that can be launched.
#[test]
fn emulator_checks_every_kernel() {
    let Some((device, watch)) = emulated::watched(usize::MAX, Mode::Checked) else { return };
    set_tf32(true);
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        for (name, body) in CASES {
            let mut run = Run::new(device, dtype, dtype);
            body(&mut run).unwrap_or_else(|e| panic!("{name} in {dtype}: {e}"));
        }
        for rung in Rung::ALL {
            let conv = ([1, 4, 5, 8], [16, 3, 3, 8], [1, 1], [1, 1]);
            for tile in Tile::ALL {
                with_tile(tile, || products(&mut Run::new(device, dtype, dtype), Some(rung), conv));
            }
        }
        if dtype.is_half() {
            products(&mut Run::new(device, dtype, dtype), Some(Rung::Fused), STEMS[1]);
            products(&mut Run::new(device, dtype, dtype), Some(Rung::Fused), TAPS[1]);
            for tile in Tile::ALL {
                with_tile(tile, || products(&mut Run::new(device, dtype, dtype), Some(Rung::Fused), SLABS[3]));
            }
        }
        let body = CASES.iter().find(|(n, _)| *n == "norm_pool").unwrap().1;
        emulated::at_rung(Rung::Fused, || run(body, device, dtype, dtype));
        let x = Run::new(device, dtype, dtype).tensor([1, 4, 5, 8], dtype);
        for (from, to) in
            [(DType::F32, dtype), (dtype, DType::F32), (DType::F16, DType::BF16), (DType::BF16, DType::F16)]
        {
            x.cast(from).unwrap().cast(to).unwrap();
        }
    }
    Tensor::full(3.0, [5], DType::I64, device).unwrap().cast(DType::F32).unwrap();
    let Device::Cuda(gpu) = device else { unreachable!("the emulator stands for a GPU") };
    selftest::cases().iter().for_each(|case| drop(case.run(gpu).unwrap()));
    ceilings::measure(gpu, true).unwrap();
    let launched = watch.kernels();
    let missing: Vec<_> = KernelId::all().map(|k| k.kernel().name).filter(|k| !launched.contains(*k)).collect();
    assert!(missing.is_empty(), "no test launches {missing:?}");
}

/// A kernel that fails says which one, how it was launched and what the driver said; the device goes on.
#[test]
fn emulator_failure_of_a_kernel_is_reported_and_poisons_nothing() {
    let Some((device, watch)) = emulated::watched(usize::MAX, Mode::Plain) else { return };
    let x = Tensor::full(-1.0, [300], DType::F32, device).unwrap();
    watch.fail_next("relu_forward<f32>");
    let text = ops::relu(&x).unwrap_err().to_string();
    for part in ["relu_forward<f32>", "2x1x1 blocks of 256x1x1 threads", "as the test wished", "emulator"] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    assert_eq!(ops::relu(&x).unwrap().to_vec::<f32>().unwrap(), [0.0; 300]);
}

#[test]
fn emulator_misuse_is_refused_before_a_launch() {
    let Some(device) = emulated::device(Mode::Plain) else { return };
    let of = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, device).unwrap();
    let here = Tensor::zeros([2, 3], DType::F32, Device::Cpu).unwrap();
    let there = of(&[2, 3], DType::F32);
    let say = |e: onecycle::Error| e.to_string();
    let mixed = say(ops::add(&here, &there).unwrap_err());
    assert!(mixed.contains("cpu") && mixed.contains("emulator") && mixed.contains("add"), "{mixed}");
    let types = say(ops::add(&there, &of(&[2, 3], DType::F16)).unwrap_err());
    assert!(types.contains("f32") && types.contains("f16"), "{types}");
    let doubles = say(ops::relu(&of(&[2, 3], DType::F64)).unwrap_err());
    assert!(doubles.contains("f64") && doubles.contains("relu"), "{doubles}");
    let bias =
        say(ops::linear(&of(&[2, 3], DType::F16), &of(&[4, 3], DType::F16), Some(&of(&[4], DType::F16))).unwrap_err());
    assert!(bias.contains("f32") || bias.contains("f16"), "{bias}");
    let shapes =
        say(ops::conv2d(&of(&[1, 4, 4, 3], DType::F32), &of(&[2, 3, 3, 5], DType::F32), None, [1, 1], [1, 1])
            .unwrap_err());
    assert!(shapes.contains("conv2d"), "{shapes}");
}
