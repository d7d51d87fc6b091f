//! The two upper rungs of a GPU's kernels where they meet other operations: the sums that a convolution leaves for a norm, what notes
//! on tensors survive and what not, biases, sizes of 0, and what is refused. The kernels by themselves are in `emulator.rs`.

mod common;

use common::emulated::{self, Mode};
use onecycle::autograd::{self, Backward, GradSlot, backward_with};
use onecycle::nn::{Arch, Module};
use onecycle::ops::batch_norm::BatchNorm;
use onecycle::ops::conv2d::Geometry;
use onecycle::ops::conv2d::ladder::{self, Direction, Rung};
use onecycle::ops::conv2d::tile::{Tile, with_tile};
use onecycle::ops::ladder::set_tf32;
use onecycle::ops::norm_pool;
use onecycle::rng::{Purpose, Rng};
use onecycle::{DType, Device, ErrorKind, Result, Tensor, ops};
use std::sync::Arc;

/// x, w, stride, padding.
type Convolution = ([usize; 4], [usize; 4], [usize; 2], [usize; 2]);

/// Numbers in -1..1 that half precision holds, so that every device starts from the same, and that tf32 doesn't round.
fn numbers(seed: u64, shape: &[usize], dtype: DType, device: Device) -> Tensor {
    let mut rng = Rng::at(seed, Purpose::Init, 0, 0);
    let values: Vec<f64> =
        (0..shape.iter().product()).map(|_| (rng.range(-1.0, 1.0) * 128.0).round() / 128.0).collect();
    Tensor::from_slice(&values, shape, Device::Cpu).unwrap().cast(dtype).unwrap().to(device).unwrap()
}

fn devices(modes: &[Mode]) -> Vec<Device> {
    modes.iter().filter_map(|&mode| emulated::device(mode)).chain(common::gpus()).collect()
}

/// A norm in training, with ReLU and nothing added.
fn norm_args<'a>(weight: &'a Tensor, bias: &'a Tensor, mean: &'a mut Tensor, var: &'a mut Tensor) -> BatchNorm<'a> {
    BatchNorm {
        weight,
        bias,
        running_mean: mean,
        running_var: var,
        eps: 1e-5,
        momentum: 0.1,
        training: true,
        residual: None,
        relu: true,
    }
}

/// Results with their names.
type Made = Vec<(&'static str, Vec<f64>)>;

/// Layers on a device, and the leaves that they have asked for.
struct Net {
    device: Device,
    dtype: DType,
    drawn: u64,
    leaves: Vec<(&'static str, Arc<GradSlot>)>,
    made: Made,
}

impl Net {
    fn new(device: Device, dtype: DType) -> Net {
        Net { device, dtype, drawn: 0, leaves: Vec::new(), made: Vec::new() }
    }

    fn constant(&mut self, shape: &[usize], dtype: DType) -> Tensor {
        self.drawn += 1;
        numbers(self.drawn, shape, dtype, self.device)
    }

    fn leaf(&mut self, name: &'static str, value: &Tensor) -> Tensor {
        let slot = GradSlot::new();
        let leaf = slot.leaf(value);
        self.leaves.push((name, slot));
        leaf
    }

    fn input(&mut self, name: &'static str, shape: &[usize]) -> Tensor {
        let value = self.constant(shape, self.dtype);
        self.leaf(name, &value)
    }

    fn master(&mut self, name: &'static str, shape: &[usize]) -> Tensor {
        let value = self.constant(shape, self.dtype.master());
        self.leaf(name, &value)
    }

    /// A 3x3 convolution that keeps the picture's size.
    fn conv(&mut self, x: &Tensor, k: usize, bias: bool) -> Tensor {
        let w = self.input("conv", &[k, 3, 3, x.shape()[3]]);
        let bias = bias.then(|| self.master("conv's bias", &[k]));
        ops::conv2d(x, &w, bias.as_ref(), [1, 1], [1, 1]).unwrap()
    }

    fn norm(&mut self, x: &Tensor, training: bool, relu: bool, residual: Option<&Tensor>) -> Tensor {
        let c = &[*x.shape().last().unwrap()];
        let (weight, bias) = (self.master("norm", c), self.master("norm's bias", c));
        let (mut mean, mut var) = (self.constant(c, self.dtype.master()), self.constant(c, self.dtype.master()));
        if !training {
            var = Tensor::full(0.75, *c, self.dtype.master(), self.device).unwrap();
        }
        let args = BatchNorm { training, residual, relu, ..norm_args(&weight, &bias, &mut mean, &mut var) };
        let y = ops::batch_norm(x, args).unwrap();
        self.made.extend([("mean", mean.to_f64_vec().unwrap()), ("variance", var.to_f64_vec().unwrap())]);
        y
    }

    /// All results: `y`, and what arrives at the leaves.
    fn back(mut self, y: &Tensor) -> Made {
        let dy = self.constant(y.shape(), y.dtype());
        self.back_from(y, dy)
    }

    fn back_from(mut self, y: &Tensor, dy: Tensor) -> Made {
        self.made.push(("y", y.to_f64_vec().unwrap()));
        backward_with(y, dy).unwrap();
        for (name, slot) in self.leaves {
            let grad = slot.take().unwrap_or_else(|| panic!("{name} got no gradient"));
            self.made.push((name, grad.to_f64_vec().unwrap()));
        }
        self.made
    }
}

/// Every number as near as `near` of the largest.
fn compare(what: &str, got: &Made, want: &Made, near: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, ((name, got), (_, want))) in got.iter().zip(want).enumerate() {
        let largest = want.iter().fold(0.1, |m: f64, v| m.max(v.abs()));
        assert_eq!(got.len(), want.len(), "{what}, result {i} ({name})");
        for (j, (g, w)) in got.iter().zip(want).enumerate() {
            assert!((g - w).abs() <= near * largest, "{what}, result {i} ({name}): element {j} is {g} instead of {w}");
        }
    }
}

/// Ways of a norm's output, and of a convolution's, that a note must not follow; and those that it may.
#[test]
fn emulator_notes_reach_only_whom_they_concern() {
    type Body = fn(Net) -> Made;
    let ways: [(&str, Body); 11] = [
        ("a norm's output that became a leaf", |mut net| {
            let x = net.input("x", &[2, 5, 4, 8]);
            let y = net.norm(&x, true, true, None);
            let leaf = net.leaf("leaf", &y);
            let y2 = net.conv(&leaf, 16, false);
            // The norm itself gets its gradient by another way.
            let y2 = ops::add(&ops::flatten(&y2).unwrap(), &ops::flatten(&net.conv(&y, 16, false)).unwrap()).unwrap();
            net.back(&y2)
        }),
        ("a convolution's output in another shape", |mut net| {
            let x = net.input("x", &[6, 3, 4, 8]);
            let y = net.conv(&x, 8, false);
            let y = ops::flatten(&y).unwrap();
            let y = net.norm(&y, true, false, None);
            net.back(&y)
        }),
        ("a norm without ReLU", |mut net| {
            let x = net.input("x", &[2, 5, 4, 8]);
            let y = net.norm(&x, true, false, None);
            let y = net.conv(&y, 8, false);
            net.back(&y)
        }),
        ("another gradient after the convolution's", |mut net| {
            let x = net.input("x", &[2, 5, 4, 8]);
            let y = net.norm(&x, true, true, None);
            let a = ops::relu(&y).unwrap();
            let b = net.conv(&y, 8, false);
            let y = ops::add(&a, &b).unwrap();
            net.back(&y)
        }),
        ("another gradient before the convolution's", |mut net| {
            let x = net.input("x", &[2, 5, 4, 8]);
            let y = net.norm(&x, true, true, None);
            let b = net.conv(&y, 8, false);
            let a = ops::relu(&y).unwrap();
            let y = ops::add(&a, &b).unwrap();
            net.back(&y)
        }),
        ("one gradient for a convolution and for others", |mut net| {
            // The sum's gradient goes to both sides as it is: none may write to it.
            let x = net.input("x", &[2, 5, 4, 8]);
            let y = net.norm(&x, true, true, None);
            let other = net.input("other", &[2, 5, 4, 8]);
            let b = net.conv(&y, 8, false);
            let a = ops::add(&y, &other).unwrap();
            let y = ops::add(&b, &a).unwrap();
            net.back(&y)
        }),
        ("a norm at rest", |mut net| {
            let x = net.input("x", &[2, 5, 4, 8]);
            let y = net.norm(&x, false, true, None);
            let y = net.conv(&y, 8, false);
            let y = net.norm(&y, false, true, None);
            let y = net.conv(&y, 8, false);
            net.back(&y)
        }),
        ("a norm at rest with a residual", |mut net| {
            let (x, r) = (net.input("x", &[2, 5, 4, 8]), net.input("r", &[2, 5, 4, 8]));
            let y = net.norm(&x, false, true, Some(&r));
            let y = net.conv(&y, 8, false);
            net.back(&y)
        }),
        ("a norm whose output is but a shortcut", |mut net| {
            // The gradient that comes along the shortcut brings the other norm's sums.
            let (x, other) = (net.input("x", &[2, 5, 4, 8]), net.input("other", &[2, 5, 4, 8]));
            let shortcut = net.norm(&x, true, true, None);
            let y = net.norm(&other, true, true, Some(&shortcut));
            let y = net.conv(&y, 8, false);
            net.back(&y)
        }),
        ("biases before norms", |mut net| {
            let x = net.input("x", &[2, 5, 4, 8]);
            let y = net.conv(&x, 72, true);
            let y = net.norm(&y, true, true, None);
            let y = net.conv(&y, 8, true);
            let y = net.norm(&y, true, true, None);
            net.back(&y)
        }),
        ("one convolution for two norms", |mut net| {
            let x = net.input("x", &[2, 5, 4, 8]);
            let y = net.conv(&x, 8, false);
            let (a, b) = (net.norm(&y, true, true, None), net.norm(&y, true, true, None));
            let (a, b) = (net.conv(&a, 8, false), net.conv(&b, 8, false));
            let y = ops::add(&a, &b).unwrap();
            net.back(&y)
        }),
    ];
    set_tf32(true);
    for device in devices(&[Mode::Checked]) {
        for (what, body) in ways {
            let want = body(Net::new(Device::Cpu, DType::F64));
            let got = emulated::at_rung(Rung::Fused, || body(Net::new(device, DType::F32)));
            // Between two layers numbers are rounded to tf32; within one they are exact.
            compare(&format!("{what} on {device}"), &got, &want, 4e-3);
        }
    }
}

/// Convolutions of every kind, more tiles than one block of a stem makes, and tiles that nothing fills.
const BEFORE_NORMS: [Convolution; 7] = [
    ([3, 7, 9, 32], [96, 3, 3, 32], [1, 1], [1, 1]), // from a slab
    ([2, 9, 7, 40], [24, 3, 3, 40], [1, 1], [1, 1]),
    ([2, 13, 10, 8], [136, 1, 1, 8], [1, 1], [0, 0]),
    ([1, 9, 7, 4], [12, 3, 3, 4], [2, 1], [1, 1]), // chunks of f32; half precision has no tensor cores for it
    ([3, 35, 37, 3], [72, 7, 7, 3], [2, 2], [3, 3]),
    ([18, 9, 8, 3], [8, 7, 5, 3], [2, 2], [3, 2]),
    ([1, 31, 30, 1], [16, 7, 8, 1], [2, 2], [3, 4]),
];

/// The sums that a convolution leaves are those of what it has stored, rounded: the running statistics, moved all the way, are the mean
/// and the unbiased variance of `y`. And `y` has its bias.
#[test]
fn emulator_convolutions_leave_the_statistics_of_what_they_store() {
    set_tf32(true);
    for (place, device) in devices(&[Mode::Checked, Mode::ReverseLate]).into_iter().enumerate() {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            for (i, (x, w, stride, padding)) in BEFORE_NORMS.into_iter().enumerate() {
                let tiles = if place > 0 || w[1] == 7 { &Tile::ALL[2..] } else { &Tile::ALL };
                for (tile, with_bias) in tiles.iter().flat_map(|tile| [(*tile, false), (*tile, true)]) {
                    let what = format!("convolution {i}, {tile}, bias {with_bias} on {device} in {dtype}");
                    let convolve = |dtype: DType, device| {
                        let (x, w) = (numbers(1, &x, dtype, device), numbers(2, &w, dtype, device));
                        let bias = with_bias.then(|| numbers(3, &w.shape()[..1], dtype.master(), device));
                        ops::conv2d(&x, &w, bias.as_ref(), stride, padding).unwrap()
                    };
                    let k = w[0];
                    let full = |v| Tensor::full(v, [k], DType::F32, device).unwrap();
                    let (mut mean, mut var, one, zero) = (full(9.0), full(9.0), full(1.0), full(0.0));
                    let y = emulated::at_rung(Rung::Fused, || {
                        with_tile(tile, || {
                            let y = convolve(dtype, device);
                            let args =
                                BatchNorm { momentum: 1.0, relu: false, ..norm_args(&one, &zero, &mut mean, &mut var) };
                            ops::batch_norm(&y, args).unwrap();
                            y.to_f64_vec().unwrap()
                        })
                    });
                    let near = if dtype == DType::BF16 { 8e-3 } else { 1e-3 };
                    let want = convolve(DType::F64, Device::Cpu).to_f64_vec().unwrap();
                    compare(&what, &vec![("y", y.clone())], &vec![("y", want)], near);
                    let (means, vars) = (mean.to_f64_vec().unwrap(), var.to_f64_vec().unwrap());
                    for channel in 0..k {
                        let of: Vec<f64> = y.iter().skip(channel).step_by(k).copied().collect();
                        let m = of.len() as f64;
                        let mean = of.iter().sum::<f64>() / m;
                        let var = of.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (m - 1.0);
                        let size = (var + mean * mean).sqrt();
                        assert!(
                            (means[channel] - mean).abs() < 2e-6 * size,
                            "{what}, mean of {channel}: {} for {mean}",
                            means[channel]
                        );
                        assert!(
                            (vars[channel] - var).abs() < 4e-6 * size * size,
                            "{what}, variance of {channel}: {} for {var}",
                            vars[channel]
                        );
                    }
                }
            }
        }
    }
}

/// To the nearest number of tf32, ties away from 0: the instruction by itself would cut off.
#[test]
fn emulator_rounds_to_the_nearest_tf32() {
    set_tf32(true);
    let nearest = |v: f64| f64::from(f32::from_bits(((v as f32).to_bits() + 0x1000) & !0x1fff));
    // Just under a tie, a tie, just above one; and what has no more places than tf32.
    let parts = [0.0, 0.9, 1.0, 1.1, 2.0, 2.9, 3.0].map(|part: f64| part * 2f64.powi(-11));
    let all: Vec<f64> = parts.into_iter().flat_map(|part| [1.0 + part, -1.0 - part, 0.75 + part / 2.0]).collect();
    for device in devices(&[Mode::Checked]) {
        // Matrices with one number other than 0 in each row of one side, and 1 there on the other: products are the rounded numbers.
        let (n, c) = (all.len(), 8);
        let rows: Vec<f64> =
            all.iter().enumerate().flat_map(|(i, v)| (0..c).map(move |j| if i % c == j { *v } else { 0.0 })).collect();
        let ones: Vec<f64> = (0..c * c).map(|i| f64::from(u8::from(i / c == i % c))).collect();
        let on = |values: &[f64], shape: [usize; 4]| {
            let t = Tensor::from_slice(values, shape, Device::Cpu).unwrap();
            t.cast(DType::F32).unwrap().to(device).unwrap()
        };
        let want: Vec<f64> = rows.iter().map(|v| nearest(*v)).collect();
        let (x, w) = (on(&rows, [n, 1, 1, c]), on(&ones, [c, 1, 1, c]));
        let (rung, one, none) = (Rung::TensorCores, [1; 2], [0; 2]);
        assert_eq!(ladder::forward(rung, &x, &w, one, none).unwrap().to_f64_vec().unwrap(), want, "x on {device}");
        let dx = ladder::input_gradient(rung, &x, &w, &x, one, none).unwrap();
        assert_eq!(dx.to_f64_vec().unwrap(), want, "dy on {device}");
        // The same numbers as the filter: 8 of them at a time.
        for of in rows.chunks_exact(c * c) {
            let want: Vec<f64> = of.iter().map(|v| nearest(*v)).collect();
            let (x, w) = (on(&ones, [c, 1, 1, c]), on(of, [c, 1, 1, c]));
            let turned = |m: &[f64]| -> Vec<f64> { (0..c * c).map(|i| m[i % c * c + i / c]).collect() };
            let y = ladder::forward(rung, &x, &w, one, none).unwrap();
            assert_eq!(turned(&y.to_f64_vec().unwrap()), want, "w on {device}");
            let dx = ladder::input_gradient(rung, &x, &w, &x, one, none).unwrap();
            assert_eq!(dx.to_f64_vec().unwrap(), want, "w in dx on {device}");
            let dw = ladder::weight_gradient(rung, &w, &w, &x, one, none).unwrap();
            assert_eq!(dw.to_f64_vec().unwrap(), want, "x in dw on {device}");
            let dw = ladder::weight_gradient(rung, &x, &w, &w, one, none).unwrap();
            assert_eq!(turned(&dw.to_f64_vec().unwrap()), want, "dy in dw on {device}");
        }
    }
}

/// A linear layer on tensor cores is that on the processor, with a bias beyond the first tile of columns.
#[test]
fn emulator_linear_layers_use_tensor_cores() {
    set_tf32(true);
    for device in devices(&[Mode::Checked]) {
        for (dtype, near) in [(DType::F32, 1e-5), (DType::F16, 2e-3), (DType::BF16, 1e-2)] {
            for [n, i, o] in [[3, 8, 8], [9, 72, 136], [70, 40, 24]] {
                let body = |mut net: Net| {
                    let (x, w, b) = (net.input("x", &[n, i]), net.input("w", &[o, i]), net.master("b", &[o]));
                    let y = ops::linear(&x, &w, Some(&b)).unwrap();
                    net.back(&y)
                };
                let want = body(Net::new(Device::Cpu, DType::F64));
                let got = emulated::at_rung(Rung::TensorCores, || body(Net::new(device, dtype)));
                compare(&format!("{n}, {i}, {o} on {device} in {dtype}"), &got, &want, near);
            }
        }
    }
}

/// NaN and infinities go the same way through norm, ReLU and pooling whether they are one pass or three: a NaN wins its windows.
#[test]
fn emulator_norm_pool_of_odd_numbers() {
    for device in devices(&[Mode::Checked]) {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            for c in [3, 8] {
                let shape = [2, 9, 8, c];
                let value = |i: usize| match i * 7919 % 97 {
                    0 => f64::NAN,
                    1 => f64::INFINITY,
                    2 => f64::NEG_INFINITY,
                    k => (k % 5) as f64 - 2.0,
                };
                let values: Vec<f64> = (0..shape.iter().product()).map(value).collect();
                let x =
                    Tensor::from_slice(&values, shape, Device::Cpu).unwrap().cast(dtype).unwrap().to(device).unwrap();
                let at = |rung| {
                    emulated::at_rung(rung, || {
                        let mut net = Net::new(device, dtype);
                        let x = net.leaf("x", &x);
                        let (weight, bias) = (net.master("norm", &[c]), net.master("norm's bias", &[c]));
                        let full = |v| Tensor::full(v, [c], DType::F32, device).unwrap();
                        let (mut mean, mut var) = (full(0.25), full(0.75));
                        let args = BatchNorm { training: false, ..norm_args(&weight, &bias, &mut mean, &mut var) };
                        let window = norm_pool::Window { size: 3, stride: 2, padding: 1 };
                        let y = ops::norm_pool(&x, args, window).unwrap();
                        net.back(&y)
                    })
                };
                let (one, three) = (at(Rung::Fused), at(Rung::TensorCores));
                assert!(one[0].1.iter().any(|v| v.is_nan()) && one[0].1.iter().any(|v| v.is_infinite()));
                // dw and db add in another order; y and dx have the same bits.
                for ((name, one), (_, three)) in one.iter().zip(&three).take(2) {
                    let same = one.iter().zip(three).all(|(a, b)| a == b || (a.is_nan() && b.is_nan()));
                    assert!(same, "{name} of {c} channels on {device} in {dtype}: {one:?} for {three:?}");
                }
            }
        }
    }
}

/// Nothing to do is no launch, and a sum over nothing is 0.
#[test]
fn emulator_sizes_of_zero() {
    set_tf32(true);
    for device in devices(&[Mode::Checked]) {
        for dtype in [DType::F32, DType::BF16] {
            for (x, w) in [
                ([0, 5, 4, 8], [8, 3, 3, 8]),
                ([2, 5, 4, 8], [0, 3, 3, 8]),
                ([2, 5, 4, 0], [8, 3, 3, 0]),
                ([0, 9, 8, 3], [8, 7, 7, 3]),
                ([0, 5, 4, 64], [64, 3, 3, 64]),
            ] {
                for rung in Rung::ALL {
                    let made = emulated::at_rung(rung, || {
                        let mut net = Net::new(device, dtype);
                        let (stride, pad) = if w[1] == 7 { ([2; 2], [3; 2]) } else { ([1; 2], [1; 2]) };
                        let (x, w) = (net.input("x", &x), net.input("w", &w));
                        let y = ops::conv2d(&x, &w, None, stride, pad).unwrap();
                        net.back(&y)
                    });
                    assert!(made.iter().all(|(_, values)| values.iter().all(|v| *v == 0.0)), "{x:?} {w:?} at {rung:?}");
                }
            }
        }
    }
}

/// `y` and the batch's variance of 1,000 rows of `c` channels; `value` says number `i`.
fn normed_rows(device: Device, c: usize, value: impl FnMut(usize) -> f64) -> (Vec<f64>, Vec<f64>) {
    let values: Vec<f64> = (0..1000 * c).map(value).collect();
    let x = Tensor::from_slice(&values, [1000, c], Device::Cpu).unwrap().cast(DType::F32).unwrap();
    let full = |v| Tensor::full(v, [c], DType::F32, device).unwrap();
    let (mut mean, mut var, one, zero) = (full(0.0), full(0.0), full(1.0), full(0.0));
    let args = BatchNorm { momentum: 1.0, ..norm_args(&one, &zero, &mut mean, &mut var) };
    let y = ops::batch_norm(&x.to(device).unwrap(), args).unwrap();
    (y.to_f64_vec().unwrap(), var.to_f64_vec().unwrap())
}

/// A sum of squares and a square of a sum may differ by a hair to either side; a variance is never below 0 for that.
#[test]
fn emulator_variances_are_never_negative() {
    for device in devices(&[Mode::Plain]) {
        let (_, var) = normed_rows(device, 64, |i| 1000.0 + (i % 64) as f64 * 0.37);
        // 1000² is 1e6; a sum of 128 of them in f32 errs by a few millionths.
        assert!(var.iter().all(|v| (0.0..5.0).contains(v)), "{device}: {var:?}");
        assert!(var.contains(&0.0), "{device}: rounding went to one side everywhere, so this shows nothing: {var:?}");
    }
}

/// A channel that is the same everywhere has no variance, although rounding may leave one below 0; a NaN stays in its channel.
#[test]
fn emulator_norms_of_odd_channels() {
    for device in devices(&[Mode::Checked]) {
        let (y, var) = normed_rows(device, 3, |i| match i % 3 {
            0 if i == 300 => f64::NAN,
            1 => 1000.1,
            _ => (i % 7) as f64,
        });
        assert!(var[0].is_nan() && y.iter().step_by(3).all(|v| v.is_nan()), "{device}: the NaN was lost: {var:?}");
        // 1000.1² is 1e6; a sum of 128 of them in f32 errs by 1e-7 of it, or a few.
        assert!((0.0..1.0).contains(&var[1]) && y[1].is_finite(), "{device}: {var:?}");
        assert!((3.0..5.0).contains(&var[2]), "{device}: {var:?}");
    }
}

/// A channel that is the same everywhere becomes 0 exactly, where a ReLU's derivative is 0: no gradient comes through it, on whatever way.
#[test]
fn emulator_relu_passes_nothing_at_zero() {
    const STILL: usize = 3;
    type Way = fn(&mut Net, &Tensor, BatchNorm<'_>) -> Tensor;
    let ways: [(&str, Way); 4] = [
        ("norm", |_, x, args| ops::batch_norm(x, args).unwrap()),
        ("norm and convolution", |net, x, args| {
            let y = ops::batch_norm(x, args).unwrap();
            net.conv(&y, 32, false)
        }),
        ("norm of a sum, and convolution", |net, x, args| {
            let residual = Tensor::zeros(x.shape().clone(), x.dtype(), x.device()).unwrap();
            let y = ops::batch_norm(x, BatchNorm { residual: Some(&residual), ..args }).unwrap();
            net.conv(&y, 32, false)
        }),
        ("norm and pooling", |_, x, args| {
            ops::norm_pool(x, args, norm_pool::Window { size: 3, stride: 2, padding: 1 }).unwrap()
        }),
    ];
    let on_gpus = devices(&[Mode::Checked]).into_iter().flat_map(|device| {
        let rungs = [Rung::Tiled, Rung::TensorCores, Rung::Fused];
        rungs.into_iter().flat_map(move |rung| [DType::F32, DType::BF16].map(|dtype| (device, dtype, rung)))
    });
    for (device, dtype, rung) in std::iter::once((Device::Cpu, DType::F32, Rung::Naive)).chain(on_gpus) {
        // From a slab, by tiles, and number by number.
        for c in [32, 40, 5] {
            for (what, way) in ways {
                let what = format!("{what}, {c} channels on {device} in {dtype} at {rung:?}");
                let made = emulated::at_rung(rung, || {
                    let mut net = Net::new(device, dtype);
                    let shape = [2, 6, 5, c];
                    let mut values = net.constant(&shape, DType::F32).to_f64_vec().unwrap();
                    values.iter_mut().skip(STILL).step_by(c).for_each(|x| *x = 0.5);
                    let x = Tensor::from_slice(&values, shape, Device::Cpu).unwrap();
                    let x = net.leaf("x", &x.cast(dtype).unwrap().to(device).unwrap());
                    let weight = net.master("weight", &[c]);
                    let zero = Tensor::zeros([c], DType::F32, device).unwrap();
                    let bias = net.leaf("bias", &zero);
                    let (mut mean, mut var) = (zero.clone(), zero);
                    let args = norm_args(&weight, &bias, &mut mean, &mut var);
                    let y = way(&mut net, &x, args);
                    net.back(&y)
                });
                for (name, values) in made.iter().filter(|(name, _)| ["x", "weight", "bias"].contains(name)) {
                    let still = values.iter().skip(STILL).step_by(c);
                    assert!(
                        still.clone().all(|d| *d == 0.0),
                        "{what}: gradients of {name}: {:?}",
                        still.collect::<Vec<_>>()
                    );
                    assert!(values.iter().any(|d| *d != 0.0), "{what}: {name} got no gradient at all");
                }
            }
        }
    }
}

/// More numbers than threads: each takes another turn, and comes to another channel there.
#[test]
fn emulator_norms_of_many_numbers() {
    type Way = fn(&Tensor, BatchNorm<'_>) -> Result<Tensor>;
    let ways: [(&str, Way); 2] = [
        ("norm", ops::batch_norm),
        ("norm and pooling", |x, args| ops::norm_pool(x, args, norm_pool::Window { size: 2, stride: 1, padding: 0 })),
    ];
    let body = |mut net: Net, way: Way| {
        let (c, device, master) = ([5], net.device, net.dtype.master());
        let x = net.input("x", &[1, 240, 240, c[0]]);
        let (weight, bias) = (net.master("weight", &c), net.master("bias", &c));
        let (mut mean, mut var) = (net.constant(&c, master), Tensor::full(0.75, c, master, device).unwrap());
        let args = norm_args(&weight, &bias, &mut mean, &mut var);
        let y = way(&x, args).unwrap();
        net.back(&y)
    };
    for device in devices(&[Mode::Plain]) {
        for (what, way) in ways {
            let want = body(Net::new(Device::Cpu, DType::F64), way);
            let got = emulated::at_rung(Rung::Fused, || body(Net::new(device, DType::F32), way));
            // A sum over 57,600 numbers is as near as they are many; the others are nearer.
            compare(&format!("{what} on {device}"), &got, &want, 1e-4);
        }
    }
}

#[test]
fn emulator_refuses_what_no_kernel_serves() {
    set_tf32(true);
    for device in devices(&[Mode::Plain]) {
        let zeros = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, device).unwrap();
        let forward = |dtype, x: &[usize], w: &[usize], stride, padding| {
            ladder::forward(Rung::TensorCores, &zeros(x, dtype), &zeros(w, dtype), stride, padding)
        };
        // One step beside what tensor cores take: channels in, channels out, and a stem's five conditions.
        for (x, w, stride) in [
            ([1, 9, 9, 12], [16, 3, 3, 12], [1, 1]),
            ([1, 9, 9, 16], [12, 3, 3, 16], [1, 1]),
            ([1, 9, 9, 5], [8, 7, 7, 5], [2, 2]),
            ([1, 9, 9, 3], [12, 7, 7, 3], [2, 2]),
            ([1, 9, 9, 3], [8, 6, 7, 3], [2, 2]),
            ([1, 9, 9, 3], [8, 7, 9, 3], [2, 2]),
            ([1, 9, 9, 3], [8, 7, 7, 3], [1, 2]),
            ([1, 9, 9, 3], [8, 7, 7, 3], [2, 1]),
        ] {
            for dtype in [DType::F16, DType::BF16] {
                let refused = forward(dtype, &x, &w, stride, [3, 3]).unwrap_err();
                assert_eq!(refused.kind(), ErrorKind::Argument, "{x:?} {w:?}: {refused}");
            }
        }
        assert!(forward(DType::F32, &[1, 9, 9, 12], &[20, 3, 3, 12], [1, 1], [1, 1]).is_ok(), "four in f32");
        assert!(forward(DType::F32, &[1, 9, 9, 3], &[8, 7, 7, 3], [2, 2], [3, 3]).is_err(), "no stem in f32");

        // Indices of 32 bits: a border of a thousand million pixels, as many results (of no channel, so that there is memory), more phases
        // than a grid has.
        let big = 1 << 30;
        for (k, stride, padding) in [(8, [big; 2], [big; 2]), (0, [1; 2], [30_000; 2]), (8, [300; 2], [1; 2])] {
            let refused = forward(DType::BF16, &[1, 4, 4, 8], &[k, 3, 3, 8], stride, padding).unwrap_err();
            assert!(refused.to_string().contains("too large for a GPU's kernels"), "{refused}");
        }

        let c = |v| Tensor::full(v, [8], DType::F32, device).unwrap();
        let (x, mut mean, mut var) = (zeros(&[1, 4, 4, 8], DType::F32), c(0.0), c(1.0));
        let (one, zero) = (c(1.0), c(0.0));
        let args = BatchNorm { residual: Some(&x), ..norm_args(&one, &zero, &mut mean, &mut var) };
        let window = norm_pool::Window { size: 3, stride: 2, padding: 1 };
        let refused = ops::norm_pool(&x, args, window).unwrap_err();
        assert!(refused.to_string().contains("residual"), "{refused}");
    }
}

/// An operation from elsewhere whose gradient is of another type than its input: half as many bytes as the kernel would read.
struct WrongType;

impl Backward for WrongType {
    fn backward(self: Box<Self>, dy: Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(dy.cast(DType::BF16)?)])
    }
}

#[test]
fn emulator_a_gradient_of_another_type_is_not_added_to() {
    set_tf32(true);
    for device in devices(&[Mode::Checked]) {
        let refused = emulated::at_rung(Rung::Fused, || {
            let mut net = Net::new(device, DType::F32);
            let x = net.input("x", &[2, 5, 4, 8]);
            let y = net.conv(&x, 8, false);
            let other = autograd::record("wrong", &[&x], x.detach(), |_| WrongType);
            let y = ops::add(&y, &other).unwrap();
            let dy = net.constant(y.shape(), DType::F32);
            backward_with(&y, dy).unwrap_err().to_string()
        });
        assert!(refused.contains("operands differ: bf16"), "{device}: {refused}");
    }
}

/// Norm, ReLU and pooling in one pass have the bits of one after the other, also where numbers tie, are infinite or none: what lies between
/// is rounded as memory would have rounded it. At rest, where no sums come into it.
#[test]
fn emulator_pooling_in_one_pass_has_the_same_bits() {
    const WAYS: [([usize; 4], usize, usize, usize); 14] = [
        ([2, 9, 8, 16], 3, 2, 1),
        ([1, 7, 9, 3], 3, 1, 1),
        ([2, 6, 6, 8], 2, 2, 0),
        ([1, 9, 9, 5], 5, 3, 2),
        // A ResNet's, where threads go down strips of 8 windows: pictures of almost nothing, ..
        ([2, 1, 1, 8], 3, 2, 1),
        ([1, 1, 3, 8], 3, 2, 1),
        ([1, 2, 1, 16], 3, 2, 1),
        ([3, 2, 2, 8], 3, 2, 1),
        ([1, 3, 2, 8], 3, 2, 1),
        ([2, 3, 3, 4], 3, 2, 1), // a pack of f32 alone
        // .. a strip to the last window of it, one window more, and one pixel less; tiles of 32 strips that are full, and that are not;
        // and more channels than a tile's 8 threads take.
        ([1, 16, 5, 8], 3, 2, 1),
        ([1, 34, 6, 72], 3, 2, 1),
        ([2, 33, 7, 24], 3, 2, 1),
        ([4, 15, 17, 8], 3, 2, 1),
    ];
    for device in devices(&[Mode::Plain]) {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            // So small that a 64th of it is rounded to 0, which is no more than the 0 of a negative number; only the ReLU's mask knows.
            let tiny = if dtype == DType::F16 { 2f64.powi(-20) } else { 2f64.powi(-130) };
            for ((shape, size, stride, padding), kind) in
                WAYS.into_iter().flat_map(|way| ["odd", "tiny", "even"].map(|kind| (way, kind)))
            {
                let mut rng = Rng::at(4, Purpose::Init, 0, 0);
                let odd = |i: usize| match i * 7919 % 97 {
                    _ if kind == "tiny" => [-1.0, 0.0, tiny, -tiny][rng.below(4)],
                    _ if kind == "even" => (rng.range(-1.0, 1.0) * 128.0).round() / 128.0,
                    0 => f64::NAN,
                    1 => f64::INFINITY,
                    2..6 => f64::NEG_INFINITY,
                    k if k % 2 == 0 => (k % 5) as f64 * 0.37,
                    _ => rng.range(0.4, 0.6), // so near that many are one number once they are rounded
                };
                let values: Vec<f64> = (0..shape.iter().product()).map(odd).collect();
                let x =
                    Tensor::from_slice(&values, shape, Device::Cpu).unwrap().cast(dtype).unwrap().to(device).unwrap();
                let at = |rung| {
                    emulated::at_rung(rung, || {
                        let mut net = Net::new(device, dtype);
                        let (c, x) = (&shape[3..], net.leaf("dx", &x));
                        let full = |v| Tensor::full(v, c, DType::F32, device).unwrap();
                        let (mut weight, mut bias) = (net.constant(c, DType::F32), net.constant(c, DType::F32));
                        let mut mean = net.constant(c, DType::F32);
                        let mut var = full(0.7);
                        if kind == "tiny" {
                            (weight, bias, mean) = (full(0.7 / 64.0), full(0.0), full(0.0));
                        }
                        (weight, bias) = (net.leaf("dw", &weight), net.leaf("db", &bias));
                        let args = BatchNorm { training: false, ..norm_args(&weight, &bias, &mut mean, &mut var) };
                        let y = ops::norm_pool(&x, args, norm_pool::Window { size, stride, padding }).unwrap();
                        if kind == "even" {
                            return net.back(&y); // sums of such numbers are exact, in whatever order
                        }
                        // As many digits as the type has, so that the sum of two has more.
                        let mut rng = Rng::at(5, Purpose::Init, 0, 0);
                        let dy: Vec<f64> = (0..y.numel()).map(|_| rng.range(-1.0, 1.0)).collect();
                        let dy = Tensor::from_slice(&dy, y.shape().clone(), Device::Cpu).unwrap();
                        net.back_from(&y, dy.cast(dtype).unwrap().to(device).unwrap())
                    })
                };
                let (apart, at_once) = (at(Rung::TensorCores), at(Rung::Fused));
                for ((name, apart), (_, at_once)) in apart.iter().zip(&at_once) {
                    let near = kind != "even" && ["dw", "db"].contains(name);
                    let same = |a: f64, b: f64| {
                        a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()) || (near && (a - b).abs() < 1e-5)
                    };
                    let other = apart.iter().zip(at_once).enumerate().find(|(_, (a, b))| !same(**a, **b));
                    assert!(other.is_none(), "{kind}, {shape:?} on {device} in {dtype}: {name} is {other:?}");
                }
                let is_nan = at_once[0].1.iter().any(|v| v.is_nan());
                assert_eq!(is_nan, kind == "odd", "a NaN wins its window: {shape:?} on {device} in {dtype}");
                if kind == "tiny" && shape[1] > 9 && dtype.is_half() {
                    assert!(at_once[0].1.iter().all(|v| *v == 0.0), "{shape:?} in {dtype}: it was not rounded to 0");
                    assert!(at_once[1].1.iter().any(|v| *v != 0.0), "{shape:?} in {dtype}: no gradient at all");
                }
            }
        }
    }
}

/// No layer of the five networks falls to a lower rung in half precision: neither a convolution, nor the head's wide linear layer. (Its last
/// one, to the classes, is as odd as their number.)
#[test]
fn emulator_rungs_serve_all_layers_of_the_networks() {
    for (name, convolutions) in
        [("resnet18", 20), ("resnet34", 36), ("resnet50", 53), ("resnet101", 104), ("resnet152", 155)]
    {
        let body = Arch::by_name(name).unwrap().body();
        let mut seen = 0;
        for (parameter, value) in body.named_parameters() {
            let shape = value.value().shape().to_vec();
            let [k, r, s, c] = shape[..] else { continue };
            let stride = if r == 7 { 2 } else { 1 };
            let g = Geometry {
                n: 1,
                h: 56,
                w: 56,
                c,
                k,
                r,
                s,
                p: 56 / stride,
                q: 56 / stride,
                stride: [stride; 2],
                padding: [r / 2; 2],
            };
            for dtype in [DType::F16, DType::BF16] {
                assert!(Rung::Fused.serves(&g, dtype), "{name}: {parameter} {shape:?}");
                assert!(ladder::plan(Direction::Forward, &g, dtype).is_some(), "{name}: {parameter} {shape:?}");
            }
            seen += 1;
        }
        assert_eq!(seen, convolutions, "convolutions of {name}");
    }
}
