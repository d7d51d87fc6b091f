//! One bench per operation, at the shapes of ResNet-18 with 16 pictures of 224 x 224. `cargo bench --bench ops`.

mod harness;

use harness::Bench;
use onecycle::ops::batch_norm::BatchNorm;
use onecycle::ops::cross_entropy::CrossEntropy;
use onecycle::ops::optimizer_step::{Rule, State, Step};
use onecycle::rng::{Purpose, Rng};
use onecycle::tensor::Shape;
use onecycle::{DType, Device, Tensor, autograd, ops};
use std::time::Instant;

const N: usize = 16;

fn random(shape: impl Into<Shape>) -> Tensor {
    let shape = shape.into();
    let mut rng = Rng::at(shape.numel() as u64, Purpose::Init, 0, 0);
    let values: Vec<f32> = (0..shape.numel()).map(|_| rng.range(-1.0, 1.0) as f32).collect();
    Tensor::from_slice(&values, shape, Device::Cpu).expect("the length fits")
}

/// Times `f` without a graph, then the walk back with only input `wanted[i].1` asking for its gradient.
fn both_ways(
    b: &Bench,
    name: &str,
    flop: f64,
    bytes: f64,
    inputs: &[Tensor],
    wanted: &[(&str, &[usize])],
    f: impl Fn(&[Tensor]) -> Tensor,
) {
    b.case(&format!("{name}/forward"), flop, bytes, || drop(f(inputs)));
    for (part, which) in wanted {
        let dy = random(f(inputs).shape());
        b.timed(&format!("{name}/{part}"), flop, bytes, || {
            let slots: Vec<_> = inputs.iter().map(|_| autograd::GradSlot::new()).collect();
            let leaf = |i: usize| if which.contains(&i) { slots[i].leaf(&inputs[i]) } else { inputs[i].clone() };
            let leaves: Vec<Tensor> = (0..inputs.len()).map(leaf).collect();
            let y = f(&leaves);
            // A copy of its own, as in a network: operations that work in place would copy a shared one inside the clock.
            let start_dy =
                Tensor::from_slice(&dy.to_vec::<f32>().expect("f32"), dy.shape().clone(), Device::Cpu).expect("fits");
            let t = Instant::now();
            autograd::backward_with(&y, start_dy).expect("the graph is fresh");
            t.elapsed()
        });
    }
}

fn convolutions(b: &Bench) {
    // (name, H, C, K, filter, stride)
    let layers = [
        ("stem 7x7/2 3>64 224", 224, 3, 64, 7, 2),
        ("layer1 3x3 64>64 56", 56, 64, 64, 3, 1),
        ("layer2 3x3/2 64>128 56", 56, 64, 128, 3, 2),
        ("layer2 3x3 128>128 28", 28, 128, 128, 3, 1),
        ("layer2 1x1/2 64>128 56", 56, 64, 128, 1, 2),
        ("layer3 3x3 256>256 14", 14, 256, 256, 3, 1),
        ("layer4 3x3 512>512 7", 7, 512, 512, 3, 1),
        ("bottleneck 1x1 64>256 56", 56, 64, 256, 1, 1),
        ("bottleneck 1x1 1024>256 14", 14, 1024, 256, 1, 1),
    ];
    for (name, h, c, k, r, stride) in layers {
        let p = (h + 2 * (r / 2) - r) / stride + 1;
        let flop = 2.0 * (N * p * p * k * r * r * c) as f64;
        let bytes = 4.0 * (N * h * h * c + N * p * p * k + k * r * r * c) as f64;
        let inputs = [random([N, h, h, c]), random([k, r, r, c])];
        let wanted: &[(&str, &[usize])] = &[("input_gradient", &[0]), ("weight_gradient", &[1])];
        both_ways(b, &format!("conv2d/{name}"), flop, bytes, &inputs, wanted, |t| {
            ops::conv2d(&t[0], &t[1], None, [stride; 2], [r / 2; 2]).expect("the shapes fit")
        });
    }
}

fn main() {
    let b = Bench::start("operations, f32, N = 16");
    convolutions(&b);
    let f32s = |t: &[&Tensor]| 4.0 * t.iter().map(|t| t.numel()).sum::<usize>() as f64;
    let all: &[(&str, &[usize])] = &[("backward", &[0, 1, 2, 3])];

    let x = random([N, 56, 56, 64]);
    let c = || random([64]);
    let norm = |t: &[Tensor], relu: bool| {
        let (mut mean, mut var) = (
            Tensor::zeros([64], DType::F32, Device::Cpu).unwrap(),
            Tensor::full(1.0, [64], DType::F32, Device::Cpu).unwrap(),
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
        ops::batch_norm(&t[0], args).expect("the shapes fit")
    };
    // Forward looks at x twice (statistics, then normalising) and writes y; that is the floor of an unfused step too.
    both_ways(&b, "batch_norm/relu 64x56", 0.0, f32s(&[&x, &x, &x]), &[x.clone(), c(), c()], all, |t| norm(t, true));
    let with_residual = [x.clone(), c(), c(), random(x.shape())];
    both_ways(&b, "batch_norm/add+relu 64x56", 0.0, f32s(&[&x; 4]), &with_residual, all, |t| norm(t, true));
    both_ways(&b, "relu 64x56", 0.0, f32s(&[&x, &x]), std::slice::from_ref(&x), all, |t| {
        ops::relu(&t[0]).expect("float")
    });
    let pair = [x.clone(), random(x.shape())];
    both_ways(&b, "add 64x56", 0.0, f32s(&[&x, &x, &x]), &pair, all, |t| ops::add(&t[0], &t[1]).expect("same shape"));
    let stem = random([N, 112, 112, 64]);
    let bytes = f32s(&[&stem]) * 1.25;
    both_ways(&b, "max_pool 3x3/2 64x112", 0.0, bytes, &[stem], all, |t| ops::max_pool(&t[0], 3, 2, 1).expect("fits"));
    let last = random([N, 7, 7, 512]);
    both_ways(&b, "concat_pool 512x7", 0.0, f32s(&[&last]), std::slice::from_ref(&last), all, |t| {
        ops::concat_pool(&t[0]).expect("an image")
    });
    let (feat, w) = (random([64, 1024]), random([512, 1024]));
    let flop = 2.0 * (64 * 1024 * 512) as f64;
    both_ways(&b, "linear 64x1024>512", flop, f32s(&[&feat, &w]), &[feat.clone(), w.clone()], all, |t| {
        ops::linear(&t[0], &t[1], None).expect("fits")
    });
    both_ways(&b, "dropout 64x1024", 0.0, f32s(&[&feat, &feat]), std::slice::from_ref(&feat), all, |t| {
        ops::dropout(&t[0], 0.5, 1, 2, 3).expect("p in range")
    });
    let logits = random([64, 37]);
    let targets = Tensor::from_slice(&(0..64).map(|i| i % 37).collect::<Vec<i64>>(), [64], Device::Cpu).expect("fits");
    both_ways(&b, "cross_entropy 64x37", 0.0, f32s(&[&logits, &logits]), std::slice::from_ref(&logits), all, |t| {
        ops::cross_entropy(&t[0], &targets, &CrossEntropy::default()).expect("fits")
    });
    // All of ResNet-34: 21.8 million parameters, four arrays read and three written.
    let (mut p, grad, mut state) = (random([21_830_976]), random([21_830_976]), State::default());
    let rule = Rule::Adam { mom: 0.9, sqr_mom: 0.99, eps: 1e-5 };
    let step = Step { rule, lr: 1e-3, wd: 0.01, decoupled: true };
    b.case("optimizer_step adam 21.8M", 0.0, 7.0 * f32s(&[&p]), || {
        ops::optimizer_step(&mut p, &grad, &mut state, &step).expect("fits");
    });
}
