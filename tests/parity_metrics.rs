//! Losses and metrics of a learner: fastai's values, the loss that the data ask for, and what doesn't fit said before the first batch.

mod common;

use onecycle::data::*;
use onecycle::learner::*;
use onecycle::nn::Arch;
use onecycle::prelude::*;
use serde_json::Value as Json;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[test]
fn metrics_parity() {
    let Some(json) = common::json("training/metrics.json") else { return };
    let mut seen = 0;
    for part in ["single", "binary", "multi", "regression"] {
        let (part_name, part) = (part, &json[part]);
        let rows = |key: &str| -> (Vec<f32>, usize) {
            let rows = part[key].as_array().unwrap();
            let flat = rows.iter().flat_map(|row| row.as_array().map_or(vec![row], |row| row.iter().collect()));
            (flat.map(|v| v.as_f64().unwrap() as f32).collect(), rows.len())
        };
        let ((preds, n), (targets, _)) = (rows("preds"), rows("targets"));
        let c = preds.len() / n;
        let preds = Tensor::from_slice(&preds, [n, c], Device::Cpu).unwrap();
        let targets = match part_name {
            "single" | "binary" => {
                Tensor::from_slice(&targets.iter().map(|&t| t as i64).collect::<Vec<_>>(), [n], Device::Cpu).unwrap()
            }
            "multi" => Tensor::from_slice(&targets, [n, c], Device::Cpu).unwrap(),
            _ => Tensor::from_slice(&targets, [n], Device::Cpu).unwrap(),
        };
        for (name, value) in part["values"].as_object().unwrap() {
            let average = |of: &str| match of {
                "macro" | "macro_0.3" => Average::Macro,
                "micro" => Average::Micro,
                "weighted" => Average::Weighted,
                "samples" => Average::Samples,
                "binary" => Average::Binary { pos_label: 1 },
                "binary_pos_0" => Average::Binary { pos_label: 0 },
                other => panic!("{other}"),
            };
            let thresh = if name.ends_with("_0.3") { 0.3 } else { 0.5 };
            let metric: Metric = match name.split_once('_').unwrap_or((name.as_str(), "")) {
                ("F1Score", of) => f1_score(average(of)),
                ("Precision", of) => precision(average(of)),
                ("Recall", of) => recall(average(of)),
                ("F1ScoreMulti", of) => f1_score_multi(thresh, average(of)),
                ("PrecisionMulti", of) => precision_multi(thresh, average(of)),
                ("RecallMulti", of) => recall_multi(thresh, average(of)),
                ("top", "k_accuracy_2") => top_k_accuracy(2),
                ("accuracy", "multi_0.2") => accuracy_multi_at(0.2),
                ("accuracy", "multi") => accuracy_multi.into(),
                ("accuracy", _) => accuracy.into(),
                ("error", _) => error_rate.into(),
                ("mse", _) => mse.into(),
                ("mae", _) => mae.into(),
                ("rmse", _) => rmse(),
                other => panic!("{other:?}"),
            };
            let (got, want) = (metric.of(&preds, &targets).unwrap(), value.as_f64().unwrap());
            assert!((got - want).abs() < 1e-6, "{part_name}, {name}: {got} for {want}");
            seen += 1;
        }
    }
    assert_eq!(seen, 38);
}

/// A picture whose colours are its labels: red, green and blue in its name are light or dark.
struct Drawn;

impl OpenPicture for Drawn {
    fn name(&self) -> &str {
        "Drawn"
    }
    fn open(&self, path: &Path) -> Result<Picture> {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let light = ["red", "green", "blue"].map(|colour| if name.contains(colour) { 180u8 } else { 30 });
        let number: usize = name.rsplit('_').next().unwrap().parse().unwrap();
        let rgb = (0..16 * 16 * 3).map(|i| light[i % 3] + ((i * (number + 7)) >> 2) as u8 % 50).collect();
        Ok(Picture { width: 16, height: 16, rgb })
    }
}

impl InputBlock for Drawn {
    fn opener(self) -> Arc<dyn OpenPicture> {
        Arc::new(self)
    }
}

fn colours(item: &Item) -> Result<Vec<String>> {
    let stem = item.path()?.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(stem.split('_').filter(|part| part.parse::<usize>().is_err() && !part.is_empty()).map(String::from).collect())
}

fn dls(target: impl TargetBlock + 'static, get_y: impl IntoGetters) -> DataLoaders {
    let names = |i: usize| -> String {
        let of = |bit: usize, name: &str| if i & bit != 0 { format!("{name}_") } else { String::new() };
        format!("{}{}{}{i}.png", of(1, "red"), of(2, "green"), of(4, "blue"))
    };
    let items: Vec<PathBuf> = (0..64).map(|i| names(i).into()).collect();
    let block = DataBlock::new((Drawn, target)).get_y(get_y).splitter(RandomSplitter::seed(3)).bs(8).val_bs(5);
    block
        .batch_tfms(aug_transforms().size(16).max_lighting(0.0).normalize(IMAGENET_STATS))
        .dataloaders(Files(items))
        .unwrap()
}

fn learner(dls: &DataLoaders) -> Learner {
    let tiny = || Arch { name: "tiny".into(), bottleneck: false, blocks: [1, 1, 1, 1], widths: [8, 8, 16, 16] };
    let mut learn = vision_learner_on(dls, tiny, Device::Cpu).unwrap();
    learn.remove_cb("ProgressCallback");
    learn
}

#[test]
fn several_labels_an_item_are_learned_and_predicted_and_exported() {
    let dls = dls(MultiCategoryBlock, getter(colours));
    let mut learn = learner(&dls).metrics(accuracy_multi).metrics(f1_score_multi(0.5, Average::Macro));
    assert!(learn.summary().unwrap().contains("Loss function: FlattenedLoss of BCEWithLogitsLoss()"));
    learn.fit_one_cycle(12, 1e-2).unwrap();
    let last = |name: &str| learn.recorder().last(name).unwrap();
    assert!(last("accuracy_multi") > 0.9, "{}", last("accuracy_multi"));
    assert_eq!(learn.metric_names(), ["accuracy_multi", "f1_score"]);

    // Validation in a fit, in `validate`, and by hand from the predictions.
    let all = learn.get_preds().unwrap();
    let by_name: Vec<(String, f64)> = learn.validate().unwrap();
    for (name, value) in &by_name {
        assert!((value - last(name)).abs() < 1e-6, "{name}: {value} and {}", last(name));
    }
    let right = |i: usize| match (&all.decoded[i], all.targets.get(i)) {
        (Target::MultiCategory(a), Target::MultiCategory(b)) => a.iter().zip(&b).filter(|(a, b)| a == b).count(),
        other => panic!("{other:?}"),
    };
    let by_hand = (0..all.len()).map(right).sum::<usize>() as f64 / (3 * all.len()) as f64;
    assert!((by_hand - last("accuracy_multi")).abs() < 1e-9);
    assert!(all.classes().is_err() && all.error_rate().is_none() && Interpretation::from_learner(&learn).is_err());

    let (text, probabilities) = learn.predict("red_blue_99.png").unwrap();
    let said: Vec<&str> = text.split(';').filter(|name| !name.is_empty()).collect();
    let likely = dls.vocab().iter().zip(&probabilities).filter(|(_, p)| **p > 0.5).map(|(name, _)| name.as_str());
    assert_eq!(said, likely.collect::<Vec<_>>(), "{probabilities:?}");

    // The exported model answers in the same way. Its pictures come from files.
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("labels.safetensors");
    learn.export(&model).unwrap();
    let picture = Drawn.open(Path::new("red_blue_99.png")).unwrap();
    let file = dir.path().join("red_blue_99.png");
    image::RgbImage::from_raw(16, 16, picture.rgb).unwrap().save(&file).unwrap();
    let model = load_learner(&model).unwrap();
    assert_eq!((model.targets(), model.vocab()), (TargetKind::Labels, dls.vocab()));
    let p = model.predict(&file).unwrap();
    assert_eq!(p.label, text);
    p.probabilities.iter().zip(&probabilities).for_each(|(a, b)| assert!((a - b).abs() < 1e-6, "{a} {b}"));
}

#[test]
fn numbers_are_learned_and_predicted_and_exported() {
    let lights = |item: &Item| Ok(colours(item)?.len() as f64 / 3.0);
    let dls = dls(RegressionBlock, getter(lights));
    let mut learn = learner(&dls).metrics(mae).metrics(rmse());
    learn.fit_one_cycle(40, 1e-2).unwrap();
    let last = |name: &str| learn.recorder().last(name).unwrap();
    assert!(last("mae") < 0.2 && (last("rmse").powi(2) - last("valid_loss")).abs() < 1e-6, "mae {}", last("mae"));
    let (text, numbers) = learn.predict("red_green_98.png").unwrap();
    assert!(numbers.len() == 1 && (numbers[0] - 2.0 / 3.0).abs() < 0.4, "{numbers:?}");
    assert_eq!(text, (numbers[0] as f32).to_string());
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("numbers.safetensors");
    learn.export(&model).unwrap();
    let model = load_learner(&model).unwrap();
    assert_eq!((model.targets(), model.vocab().len()), (TargetKind::Numbers, 0));

    // L1 and weights by item, as a user would choose them.
    let mut l1 = learner(&dls).loss_func(L1LossFlat).metrics(mae);
    l1.fit(1, 1e-3).unwrap();
    let (loss, metric) = (l1.recorder().last("valid_loss").unwrap(), l1.recorder().last("mae").unwrap());
    assert!((loss - metric).abs() < 1e-6);
}

#[test]
fn losses_and_metrics_that_do_not_fit_are_named_before_the_first_batch() {
    let classes = || dls(CategoryBlock, getter(|item: &Item| Ok(colours(item)?.len().to_string())));
    let labels = || dls(MultiCategoryBlock, getter(colours));
    let numbers = || dls(RegressionBlock, getter(|item: &Item| Ok(colours(item)?.len() as f64)));
    let cases: Vec<(Learner, &str, &str)> = vec![
        (
            learner(&classes()).loss_func(BCEWithLogitsLossFlat::default()),
            "BCEWithLogitsLoss() is for several",
            "CrossEntropyLoss()",
        ),
        (learner(&labels()).loss_func(FocalLossFlat::default()), "FocalLoss() is for a class", "BCEWithLogitsLoss()"),
        (learner(&numbers()).loss_func(CrossEntropyLossFlat::default()), "the data have numbers", "MSELoss()"),
        (learner(&labels()).metrics(error_rate), "error_rate", "accuracy_multi"),
        (learner(&numbers()).metrics(accuracy), "accuracy", "mse"),
        (learner(&labels()).metrics(f1_score(Average::Macro)), "f1_score", "_multi"),
        (learner(&classes()).metrics(accuracy_multi), "accuracy_multi", "MultiCategoryBlock"),
        (learner(&classes()).metrics(rmse()), "rmse", "RegressionBlock"),
        (learner(&classes()).metrics(top_k_accuracy(5)), "the 5 best of 4 classes", "from 1 to 4"),
        (learner(&classes()).metrics(f1_score(Average::Samples)), "Samples", "Macro"),
        (learner(&classes()).metrics(precision(Average::Binary { pos_label: 4 })), "Binary", "vocabulary"),
        (learner(&labels()).metrics(recall_multi(0.5, Average::Binary { pos_label: 1 })), "Binary", "Samples"),
        (learner(&classes()).loss_func(CrossEntropyLossFlat::default().weight([1.0; 3])), "3 class weights for 4", ""),
        (
            learner(&labels()).loss_func(BCEWithLogitsLossFlat { pos_weight: Some(vec![1.0]), thresh: 0.5 }),
            "1 weights for 3 labels",
            "",
        ),
    ];
    for (mut learn, what, remedy) in cases {
        let e = learn.fit(1, 1e-3).expect_err(what);
        assert!(e.to_string().contains(what) && e.advice().contains(remedy), "{what}: {e}");
        assert!(learn.recorder().losses().is_empty(), "{what}: nothing was trained");
    }
}

/// Each option of each loss reaches the operation: the mean over the training set changes as the formula says.
#[test]
fn loss_options_count() {
    let classes = dls(CategoryBlock, getter(|item: &Item| Ok(colours(item)?.len().to_string())));
    let valid = |loss: Box<dyn Fn(Learner) -> Learner>| {
        let mut learn = loss(learner(&classes));
        learn.fit(1, 1e-9).unwrap();
        (learn.recorder().last("valid_loss").unwrap(), learn.get_preds().unwrap())
    };
    let (plain, all) = valid(Box::new(|l| l));
    let by = |f: &dyn Fn(&[f64], usize) -> f64| {
        let item = |i: usize| match all.targets.get(i) {
            Target::Category(t) => f(&all.probabilities[i], t as usize),
            other => panic!("{other}"),
        };
        (0..all.len()).map(item).sum::<f64>() / all.len() as f64
    };
    let close = |what: &str, got: f64, want: f64| assert!((got - want).abs() < 1e-5, "{what}: {got} for {want}");
    close("cross entropy", plain, by(&|p, t| -p[t].ln()));
    let smooth = |p: &[f64], t: usize| 0.9 * -p[t].ln() + 0.1 * p.iter().map(|p| -p.ln()).sum::<f64>() / p.len() as f64;
    close("smoothed", valid(Box::new(|l| l.loss_func(LabelSmoothingCrossEntropyFlat::default()))).0, by(&smooth));
    let (same, _) = valid(Box::new(|l| l.loss_func(CrossEntropyLossFlat::default().label_smoothing(0.1))));
    close("smoothed", same, by(&smooth));
    let focal = |p: &[f64], t: usize| (1.0 - p[t]).powi(2) * -p[t].ln();
    close("focal", valid(Box::new(|l| l.loss_func(FocalLossFlat::default()))).0, by(&focal));
}

/// Everything that is known about an item's target can be wrong: text instead of a recorded number must not pass as one.
#[test]
fn recorded_values_are_numbers() {
    let Some(json) = common::json("training/metrics.json") else { return };
    assert!(json["single"]["values"].as_object().unwrap().values().all(Json::is_number));
}
