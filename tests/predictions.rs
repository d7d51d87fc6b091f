//! Predictions over whole sets: of any loader, with what was asked for, and averaged over augmented versions.

mod common;

use common::colours::{colours, learner, loaders};
use onecycle::autograd;
use onecycle::data::{DataLoader, Subset, Target};
use onecycle::learner::{GetPreds, Learner, Tta};
use onecycle::nn::{Context, Module};
use onecycle::prelude::*;

fn trained(dir: &std::path::Path, workers: usize) -> Learner {
    if !dir.join("red_0.png").exists() {
        colours(dir, 12);
    }
    let mut learn = learner(&loaders(dir, 1, workers));
    learn.fit_one_cycle(1, 3e-3).unwrap();
    learn
}

/// Probabilities of a batch.
fn answers(learn: &Learner, x: &Tensor) -> Tensor {
    let raw = autograd::no_grad(|| learn.model().forward(x, &Context::eval())).unwrap();
    onecycle::ops::softmax(&raw).unwrap()
}

fn close(a: &[Vec<f64>], b: &[Vec<f64>]) {
    assert_eq!(a.len(), b.len());
    a.concat().iter().zip(b.concat()).for_each(|(a, b)| assert!((a - b).abs() < 1e-12, "{a} and {b}"));
}

#[test]
fn any_loader_in_its_own_order_with_what_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let learn = trained(dir.path(), 2);
    let dls = learn.dls();
    let files = |loader: &DataLoader| loader.indices().iter().map(|&i| loader.path(i).to_owned()).collect::<Vec<_>>();

    // All of the training set, unshuffled and unaugmented: a test set of the same files says the same.
    let train = learn.preds_of(&dls.train).unwrap();
    assert_eq!(train.paths, files(&dls.train));
    assert!(dls.train.len() * dls.train.bs() < train.len(), "a training pass would drop some");
    let test = learn.preds_of(&dls.test_dl(files(&dls.train)).unwrap()).unwrap();
    assert_eq!(test.probabilities, train.probabilities);
    assert!(test.loss().is_none() && test.metrics.is_empty() && test.error_rate().is_none());
    assert_eq!(learn.preds_of(&dls.train).unwrap().probabilities, train.probabilities);

    // Labels for a test set: loss and metrics are those of the set that it copies.
    let labels: Vec<String> =
        train.targets.categories().unwrap().iter().map(|&c| dls.vocab()[c as usize].clone()).collect();
    let labelled = dls.test_loader(files(&dls.train), Some(&labels)).unwrap();
    assert_eq!(learn.validate_on(&labelled).unwrap(), learn.validate_on(&dls.train).unwrap());
    let valid = learn.validate().unwrap();
    assert_eq!(valid.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["valid_loss", "error_rate"]);
    assert_eq!(valid[1].1, learn.get_preds().unwrap().error_rate().unwrap());

    // More and less than usual.
    let usual = learn.get_preds().unwrap();
    let more = learn.preds_with(&dls.valid, &GetPreds { with_input: true, ..GetPreds::default() }).unwrap();
    let x = more.inputs.unwrap();
    assert_eq!(x.shape().to_vec(), [dls.valid.n_items(), 16, 16, 3]);
    let y = answers(&learn, &x).to_f64_vec().unwrap();
    y.iter().zip(usual.probabilities.concat()).for_each(|(a, b)| assert!((a - b).abs() < 1e-6));
    let less = GetPreds { with_decoded: false, with_loss: false, act: false, ..GetPreds::default() };
    let less = learn.preds_with(&dls.valid, &less).unwrap();
    assert!(less.inputs.is_none() && less.decoded.is_empty() && less.losses.is_empty() && less.loss().is_none());
    assert_eq!(less.metrics, usual.metrics);
    let raw = Tensor::from_slice(&less.probabilities.concat(), [usual.len(), 3], Device::Cpu).unwrap();
    let activated = onecycle::ops::softmax(&raw).unwrap().to_f64_vec().unwrap();
    activated.iter().zip(usual.probabilities.concat()).for_each(|(a, b)| assert!((a - b).abs() < 1e-6));
}

/// fastai's formula, put together here from single passes over batches that were augmented as in training.
#[test]
fn tta_is_the_mean_of_augmented_passes_with_the_plain_one() {
    let dir = tempfile::tempdir().unwrap();
    let learn = trained(dir.path(), 2);
    let dls = learn.dls();
    let pass = |subset, epoch| -> Vec<Vec<f64>> {
        let mut rows = Vec::new();
        for batch in dls.valid.in_order(subset).epoch(epoch) {
            let place = (dls.seed(), epoch);
            let x = batch.unwrap().inputs(dls.batch_tfms().as_ref(), subset, place, (Device::Cpu, DType::F32)).unwrap();
            let y = answers(&learn, &x);
            rows.extend(y.to_f64_vec().unwrap().chunks(3).map(<[f64]>::to_vec));
        }
        rows
    };
    let join = |all: &[Vec<Vec<f64>>], f: &dyn Fn(&[f64]) -> f64| -> Vec<Vec<f64>> {
        let at = |i: usize, c: usize| f(&all.iter().map(|rows| rows[i][c]).collect::<Vec<_>>());
        (0..all[0].len()).map(|i| (0..3).map(|c| at(i, c)).collect()).collect()
    };
    let augmented: Vec<_> = (0..4).map(|epoch| pass(Subset::Train, epoch)).collect();
    let plain = pass(Subset::Valid, 0);
    assert!(augmented.iter().enumerate().all(|(i, a)| *a != plain && augmented[..i].iter().all(|b| b != a)));
    let mean = join(&augmented, &|p| p.iter().sum::<f64>() / p.len() as f64);
    let max = |p: &[f64]| p.iter().copied().fold(0.0, f64::max);

    let usual = learn.tta().unwrap();
    close(&usual.probabilities, &join(&[mean.clone(), plain.clone()], &|p| 0.75 * p[0] + 0.25 * p[1]));
    let sets = [augmented, vec![plain.clone()]].concat();
    let most = learn.tta_with(&dls.valid, &Tta { use_max: true, ..Tta::default() }).unwrap();
    close(&most.probabilities, &join(&sets, &max));
    let two = learn.tta_with(&dls.valid, &Tta { n: 2, beta: 0.5, use_max: false }).unwrap();
    close(
        &two.probabilities,
        &join(&[sets[0].clone(), sets[1].clone(), plain.clone()], &|p| 0.25 * (p[0] + p[1]) + 0.5 * p[2]),
    );
    let (apart, alone) = learn.tta_parts(&dls.valid, 4, false).unwrap();
    close(&apart, &mean);
    close(&alone.probabilities, &plain);

    // Items keep their place, and what is read from the averages is their largest.
    assert_eq!(usual.paths, learn.get_preds().unwrap().paths);
    for (row, decoded) in usual.probabilities.iter().zip(&usual.decoded) {
        let best = (0..3).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
        assert_eq!(*decoded, Target::Category(best as i64));
    }
    assert!(usual.error_rate().is_some() && usual.loss().is_none() && usual.losses.is_empty());

    // One seed, one answer, whatever the number of workers.
    let other = trained(dir.path(), 1);
    assert_eq!(other.tta().unwrap().probabilities, usual.probabilities);

    for (how, what) in [
        (Tta { n: 0, ..Tta::default() }, "n: there must be an augmented pass"),
        (Tta { beta: 1.5, ..Tta::default() }, "beta: the plain pass can't have the share 1.5"),
        (Tta { beta: f64::NAN, ..Tta::default() }, "NaN"),
    ] {
        let e = learn.tta_with(&dls.valid, &how).unwrap_err();
        assert!(e.kind() == ErrorKind::Argument && e.to_string().contains(what), "{e}");
    }
}
