//! Every operation's derivative against central differences in f64, on the processor; other devices are compared with it.
//!
//! The list below is the registry: an operation (a folder in `src/ops`) without an entry fails
//! [`every_operation_has_a_gradient_check`].

use onecycle::autograd::gradcheck::gradcheck;
use onecycle::ops::batch_norm::BatchNorm;
use onecycle::ops::cross_entropy::CrossEntropy;
use onecycle::ops::norm_pool;
use onecycle::ops::pointwise_loss::Pointwise;
use onecycle::rng::{Purpose, Rng};
use onecycle::tensor::Shape;
use onecycle::{DType, Device, Result, Tensor, ops};
use std::collections::BTreeSet;

const TOLERANCE: f64 = 1e-6;

/// Numbers in -1..1, none closer than 0.01 to zero or to each other in one call: kinks and ties have no derivative.
fn random(shape: impl Into<Shape>, device: Device) -> Tensor {
    let shape = shape.into();
    let n = shape.numel();
    let mut rng = Rng::at(n as u64 + 17, Purpose::Init, 0, 0);
    let order = rng.permutation(n);
    let place = |i: usize| (order[i] as f64 + 0.5) / n as f64 * 2.0 - 1.0;
    let values: Vec<f64> = (0..n).map(|i| place(i) + 0.01 * place(i).signum()).collect();
    Tensor::from_slice(&values, shape, device).unwrap()
}

fn ints(values: &[i64], device: Device) -> Tensor {
    Tensor::from_slice(values, [values.len()], device).unwrap()
}

fn batch_norm(t: &[Tensor], training: bool, residual: bool, relu: bool) -> Result<Tensor> {
    normalised(t, training, residual, relu, ops::batch_norm)
}

fn normalised(
    t: &[Tensor],
    training: bool,
    residual: bool,
    relu: bool,
    op: impl Fn(&Tensor, BatchNorm<'_>) -> Result<Tensor>,
) -> Result<Tensor> {
    let c = t[1].shape().clone();
    let (mut mean, mut var) = (random(&c, Device::Cpu), Tensor::full(0.7, &c, DType::F64, Device::Cpu).unwrap());
    let args = BatchNorm {
        weight: &t[1],
        bias: &t[2],
        running_mean: &mut mean,
        running_var: &mut var,
        eps: 1e-5,
        momentum: 0.1,
        training,
        residual: residual.then(|| &t[3]),
        relu,
    };
    op(&t[0], args)
}

/// Operation, and its checks.
type Check = (&'static str, fn(Device));

fn check(what: &str, inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    gradcheck(inputs, TOLERANCE, f).unwrap_or_else(|e| panic!("{what}: {e}"));
}

const REGISTRY: &[Check] = &[
    ("add", |d| {
        let x = random([2, 2, 3, 5], d);
        check("add", &[x.clone(), random([2, 2, 3, 5], d)], |t| ops::add(&t[0], &t[1]));
        check("add to itself", &[x], |t| ops::add(&t[0], &t[0]));
    }),
    ("batch_norm", |d| {
        let shapes: [Shape; 4] = [[3, 2, 3, 5].into(), [4, 1, 1, 1].into(), [5, 7].into(), [2, 6, 5, 17].into()];
        for shape in shapes {
            let c = [shape.channels()];
            let inputs = [random(&shape, d), random(c, d), random(c, d), random(&shape, d)];
            for mode in 0..8 {
                let (training, residual, relu) = (mode & 1 != 0, mode & 2 != 0, mode & 4 != 0);
                let n = if residual { 4 } else { 3 };
                let what = format!("batch_norm {shape} training {training} residual {residual} relu {relu}");
                check(&what, &inputs[..n], |t| batch_norm(t, training, residual, relu));
            }
        }
    }),
    ("concat_pool", |d| {
        for shape in [[2, 3, 4, 5], [1, 1, 1, 3], [3, 7, 7, 2]] {
            check("concat_pool", &[random(shape, d)], |t| ops::concat_pool(&t[0]));
        }
    }),
    ("conv2d", |d| {
        // x, w, stride, padding: ragged, strided past the border, filter as large as the picture, few and many channels
        type Case = ([usize; 4], [usize; 4], [usize; 2], [usize; 2]);
        let cases: [Case; 9] = [
            ([2, 5, 6, 3], [4, 3, 3, 3], [1, 1], [1, 1]),
            ([1, 7, 5, 2], [3, 3, 3, 2], [2, 2], [1, 1]),
            ([2, 4, 4, 17], [5, 1, 1, 17], [1, 1], [0, 0]),
            ([1, 5, 4, 18], [3, 1, 1, 18], [2, 2], [0, 0]),
            ([1, 6, 5, 16], [9, 3, 3, 16], [2, 2], [1, 1]),
            ([1, 9, 8, 3], [2, 7, 7, 3], [2, 2], [3, 3]),
            ([2, 3, 4, 16], [3, 3, 4, 16], [1, 1], [0, 0]),
            ([1, 5, 7, 2], [2, 2, 3, 2], [3, 2], [2, 0]),
            ([1, 4, 9, 16], [2, 2, 5, 16], [3, 2], [0, 4]),
        ];
        for (x, w, stride, padding) in cases {
            let inputs = [random(x, d), random(w, d), random([w[0]], d)];
            let what = format!("conv2d {x:?} {w:?} {stride:?} {padding:?}");
            check(&what, &inputs[..2], |t| ops::conv2d(&t[0], &t[1], None, stride, padding));
            check(&what, &inputs, |t| ops::conv2d(&t[0], &t[1], Some(&t[2]), stride, padding));
        }
    }),
    ("cross_entropy", |d| {
        let logits = random([5, 4], d);
        let targets = ints(&[3, 0, 2, -100, 1], d);
        let options = [
            CrossEntropy::default(),
            CrossEntropy { label_smoothing: 0.1, ..Default::default() },
            CrossEntropy { class_weights: Some(vec![1.0, 0.3, 2.0, 0.7]), ..Default::default() },
            CrossEntropy { class_weights: Some(vec![1.0, 0.3, 2.0, 0.7]), label_smoothing: 0.2, ..Default::default() },
            CrossEntropy { focal_gamma: Some(2.0), ..Default::default() },
            CrossEntropy {
                focal_gamma: Some(0.5),
                class_weights: Some(vec![1.0, 0.3, 2.0, 0.7]),
                ..Default::default()
            },
        ];
        let weights = random([5], d);
        for o in options {
            let logits = std::slice::from_ref(&logits);
            check("cross_entropy", logits, |t| ops::cross_entropy(&t[0], &targets, &o));
            check("cross_entropy by rows", logits, |t| ops::weighted_cross_entropy(&t[0], &targets, &weights, &o));
        }
    }),
    ("dropout", |d| check("dropout", &[random([4, 6], d)], |t| ops::dropout(&t[0], 0.3, 1, 2, 3))),
    ("flatten", |d| check("flatten", &[random([2, 3, 2, 4], d)], |t| ops::flatten(&t[0]))),
    ("linear", |d| {
        for (n, i, o) in [(3, 4, 5), (1, 1, 1), (7, 33, 18)] {
            let inputs = [random([n, i], d), random([o, i], d), random([o], d)];
            check("linear", &inputs[..2], |t| ops::linear(&t[0], &t[1], None));
            check("linear with bias", &inputs, |t| ops::linear(&t[0], &t[1], Some(&t[2])));
        }
    }),
    ("max_pool", |d| {
        for (shape, window, stride, padding) in [
            ([2, 9, 8, 3], 3, 2, 1),
            ([1, 4, 5, 2], 2, 2, 0),
            ([1, 5, 5, 1], 3, 1, 1),
            ([1, 1, 1, 4], 1, 1, 0),
            ([1, 7, 4, 2], 3, 4, 1),
        ] {
            check("max_pool", &[random(shape, d)], |t| ops::max_pool(&t[0], window, stride, padding));
        }
    }),
    ("norm_pool", |d| {
        for (shape, size, stride, padding) in [([2, 9, 8, 3], 3, 2, 1), ([1, 4, 5, 2], 2, 2, 0)] {
            let c = [shape[3]];
            for training in [false, true] {
                let window = norm_pool::Window { size, stride, padding };
                check("norm_pool", &[random(shape, d), random(c, d), random(c, d)], |t| {
                    normalised(t, training, false, false, |x, args| ops::norm_pool(x, args, window))
                });
            }
        }
    }),
    ("pointwise_loss", |d| {
        for loss in [
            Pointwise::BceWithLogits { pos_weight: None },
            Pointwise::BceWithLogits { pos_weight: Some(vec![0.3, 1.0, 4.0]) },
            Pointwise::Mse,
            Pointwise::L1,
        ] {
            let (x, y, w) = (random([5, 3], d), random([3, 5], d), random([5], d));
            // Targets of 0, of 1, and between.
            let y: Vec<f64> = y.to_f64_vec().unwrap().into_iter().map(|v| (v * 1.5 + 0.5).clamp(0.0, 1.0)).collect();
            let y = Tensor::from_slice(&y, [5, 3], d).unwrap();
            let what = format!("{loss:?}");
            check(&what, std::slice::from_ref(&x), |t| ops::pointwise_loss(&t[0], &y, None, &loss));
            check(&what, &[x], |t| ops::pointwise_loss(&t[0], &y, Some(&w), &loss));
        }
    }),
    ("relu", |d| check("relu", &[random([3, 2, 2, 5], d)], |t| ops::relu(&t[0]))),
];

/// Operations that change parameters or make inputs, and have no gradient by nature.
const WITHOUT_GRADIENT: &[&str] = &["augment", "gradient_norm", "mix", "optimizer_step", "rows", "unscale"];

#[test]
fn derivatives_equal_central_differences() {
    for (name, checks) in REGISTRY {
        println!("{name}");
        checks(Device::Cpu);
    }
}

#[test]
fn every_operation_has_a_gradient_check() {
    let rooms = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/ops")).unwrap();
    let rooms: BTreeSet<String> = rooms
        .map(Result::<_, std::io::Error>::unwrap)
        .filter(|entry| entry.path().join("mod.rs").is_file())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    let checked: BTreeSet<String> =
        REGISTRY.iter().map(|(name, _)| *name).chain(WITHOUT_GRADIENT.iter().copied()).map(String::from).collect();
    assert!(rooms.iter().all(|room| checked.contains(room)), "without a check: {:?}", &rooms - &checked);
}

/// The check itself: a derivative that is off by 0.1 % must not pass.
#[test]
fn a_wrong_derivative_is_found() {
    let x = random([3, 4], Device::Cpu);
    let wrong = gradcheck(&[x], TOLERANCE, |t| {
        let doubled = ops::add(&t[0], &t[0])?;
        // The value of 2x + 0.001x with the derivative of 2x.
        let hidden: Vec<f64> = t[0].to_f64_vec().unwrap().iter().map(|v| v * 0.001).collect();
        ops::add(&doubled, &Tensor::from_slice(&hidden, t[0].shape(), Device::Cpu)?)
    });
    assert!(wrong.unwrap_err().to_string().contains("element 0"));
}
