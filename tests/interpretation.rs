//! Where a model errs: fastai's and scikit-learn's numbers and texts, the set predicted once, and pictures of it.

mod common;

use common::colours::{colours, learner, loaders};
use onecycle::data::{Target, Targets};
use onecycle::learner::{ConfusionMatrix, Interpretation, Predictions, TopLoss, accuracy};
use onecycle::prelude::*;
use serde_json::{Value as Json, json};

fn list<T: serde::de::DeserializeOwned>(json: &Json) -> T {
    serde_json::from_value(json.clone()).unwrap()
}

#[test]
fn interpretation_parity() {
    let Some(json) = common::json("training/interpretation.json") else { return };
    let vocab: Vec<String> = list(&json["vocab"]);
    let targets: Vec<i64> = list(&json["targets"]);
    let logits: Vec<Vec<f32>> = list(&json["logits"]);
    let logits = Tensor::from_slice(&logits.concat(), [logits.len(), vocab.len()], Device::Cpu).unwrap();
    let classes = Tensor::from_slice(&targets, [targets.len()], Device::Cpu).unwrap();
    let losses = onecycle::ops::cross_entropy::cross_entropy_per_item(&logits, &classes, &Default::default()).unwrap();
    let argmax = onecycle::learner::argmax(&logits).unwrap();
    let probabilities = onecycle::ops::softmax(&logits).unwrap().to_f64_vec().unwrap();
    let predictions = Predictions {
        paths: (0..targets.len()).map(|i| format!("{i}.jpg").into()).collect(),
        probabilities: probabilities.chunks(vocab.len()).map(<[f64]>::to_vec).collect(),
        decoded: argmax.iter().map(|&c| Target::Category(c as i64)).collect(),
        targets: Targets::Categories(targets),
        losses,
        ..Predictions::default()
    };
    let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} for {b}");
    let all_close = |a: &[f64], b: &[f64]| {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).for_each(|(a, b)| close(*a, *b));
    };
    let validate: Vec<f64> = list(&json["validate"]);
    close(predictions.loss().unwrap(), validate[0]);
    close(predictions.error_rate().unwrap(), validate[1]);
    close(accuracy(&logits, &classes).unwrap(), validate[2]);
    all_close(&predictions.probabilities.concat(), &list::<Vec<Vec<f64>>>(&json["probs"]).concat());
    all_close(&predictions.losses, &list::<Vec<f64>>(&json["losses"]));
    assert_eq!(json!(argmax), json["decoded"]);

    let interp = Interpretation::new(vocab, predictions).unwrap();
    let matrix = interp.confusion_matrix();
    assert_eq!(json!(matrix.counts), json["confusion_matrix_rows_are_actual"]);
    for min in [1, 2] {
        assert_eq!(json!(interp.most_confused(min)), json[format!("most_confused_min{min}")]);
    }
    for (key, largest) in [("top_losses", true), ("smallest_losses", false)] {
        let (losses, indices): (Vec<f64>, Vec<usize>) = list(&json[key]);
        let found = interp.top_losses(losses.len(), largest);
        all_close(&found.iter().map(|t| t.loss).collect::<Vec<_>>(), &losses);
        assert_eq!(found.iter().map(|t| t.index).collect::<Vec<_>>(), indices, "{key}");
        found.iter().for_each(|t| assert_eq!(t.path.to_str().unwrap(), format!("{}.jpg", t.index)));
    }
    let titles: Vec<String> = list(&json["plot_titles"]);
    let title = |t: &TopLoss| format!("{}/{} / {:.2} / {:.2}", t.predicted, t.actual, t.loss, t.probability);
    assert_eq!(interp.top_losses(titles.len(), true).iter().map(title).collect::<Vec<_>>(), titles);
}

/// `record_reports.py` beside the recording writes more of them: `ONECYCLE_REPORTS` names such a file.
#[test]
fn classification_reports_are_scikit_learns() {
    let more = std::env::var_os("ONECYCLE_REPORTS").map(|path| std::fs::read(path).unwrap());
    let cases = match more {
        Some(bytes) => serde_json::from_slice(&bytes).unwrap(),
        None => match common::json("training/classification_reports.json") {
            Some(cases) => cases,
            None => return,
        },
    };
    for (i, case) in cases.as_array().unwrap().iter().enumerate() {
        let report =
            ConfusionMatrix { vocab: list(&case["vocab"]), counts: list(&case["counts"]) }.classification_report();
        let text = match case["digits"].as_u64().unwrap() {
            2 => report.to_string(),
            digits => format!("{report:.0$}", digits as usize),
        };
        assert_eq!(text, case["text"].as_str().unwrap(), "case {i}");
    }
    assert!(cases.as_array().unwrap().len() >= 40);
}

#[test]
fn shares_of_a_row_are_of_its_class() {
    let matrix = ConfusionMatrix { vocab: vec!["a".into(), "b".into()], counts: vec![vec![3, 1], vec![0, 0]] };
    assert_eq!(matrix.normalized(), [[0.75, 0.25], [0.0, 0.0]]);
    let empty = ConfusionMatrix { vocab: Vec::new(), counts: Vec::new() }.classification_report();
    assert_eq!((empty.accuracy, empty.macro_avg.f1, empty.classes.len()), (0.0, 0.0, 0));
}

/// Any loader, in its own order and with all of its items; and nothing is predicted after that.
#[test]
fn a_set_is_predicted_once_and_names_its_files() {
    let dir = tempfile::tempdir().unwrap();
    colours(dir.path(), 12);
    let dls = loaders(dir.path(), 1, 2);
    let mut learn = learner(&dls);
    learn.fit_one_cycle(2, 1e-2).unwrap();
    for loader in [&dls.valid, &dls.train] {
        let interp = Interpretation::from_dl(&learn, loader).unwrap();
        let places: Vec<_> = loader.indices().iter().map(|&i| loader.path(i).to_owned()).collect();
        assert_eq!(interp.predictions().paths, places);
        let worst = interp.top_losses(usize::MAX, true);
        assert_eq!(worst.len(), loader.n_items());
        for t in &worst {
            assert_eq!(t.path, places[t.index]);
            assert!(t.path.file_name().unwrap().to_str().unwrap().starts_with(&t.actual), "{t:?}");
        }
        let report = interp.classification_report();
        let wrong = interp.most_confused(1).iter().map(|(.., n)| n).sum::<usize>();
        let right = (report.accuracy * loader.n_items() as f64).round() as usize;
        assert_eq!(right + wrong, loader.n_items());
        // The files may go: everything but the plots is known.
        assert_eq!(
            format!("{interp:?}"),
            format!("Interpretation {{ vocab: {:?}, items: {} }}", dls.vocab(), places.len())
        );
    }
    // Averages have a matrix, but no losses; and classes have names.
    let averaged = learn.tta().unwrap();
    let rate = averaged.error_rate().unwrap();
    let interp = Interpretation::new(dls.vocab().to_vec(), averaged.clone()).unwrap();
    assert!(
        (interp.classification_report().accuracy - (1.0 - rate)).abs() < 1e-12 && interp.top_losses(3, true).is_empty()
    );
    let e = Interpretation::new(vec!["red".into()], averaged).unwrap_err();
    assert!(e.kind() == ErrorKind::Argument && e.to_string().contains("none of the 1 of the vocabulary"), "{e}");

    let interp = Interpretation::from_learner(&learn).unwrap();
    let before = interp.confusion_matrix();
    dir.close().unwrap();
    assert_eq!(interp.confusion_matrix(), before);
    assert_eq!(interp.top_losses(3, true).len(), 3);
    #[cfg(feature = "plot")]
    assert_eq!(interp.plot_top_losses(3, true).unwrap_err().kind(), ErrorKind::Io);
}

#[cfg(feature = "plot")]
mod pictures {
    use super::*;
    use onecycle::plot::Colour;

    #[test]
    fn top_losses_and_results_show_what_the_network_saw() {
        let dir = tempfile::tempdir().unwrap();
        colours(dir.path(), 12);
        let dls = loaders(dir.path(), 1, 2);
        let mut learn = learner(&dls);
        learn.fit_one_cycle(1, 1e-3).unwrap();
        let interp = Interpretation::from_learner(&learn).unwrap();
        let (worst, cells) = (interp.top_losses(4, true), interp.top_loss_cells(4, true).unwrap());
        assert_eq!((worst.len(), cells.len()), (4, 4));
        for (t, cell) in worst.iter().zip(&cells) {
            assert_eq!(cell.source, t.path.display().to_string());
            assert_eq!((cell.picture.width, cell.picture.height), (16, 16), "after Resize and aug_transforms");
            let said = format!("{}/{} / {:.2} / {:.2}", t.predicted, t.actual, t.loss, t.probability);
            assert_eq!(cell.lines, [(said, Colour::BLACK)]);
            // The picture is of its class: its channel is the brightest.
            let sums: Vec<u64> =
                (0..3).map(|c| cell.picture.rgb.iter().skip(c).step_by(3).map(|&b| u64::from(b)).sum()).collect();
            let brightest = (0..3).max_by_key(|&c| sums[c]).unwrap();
            assert_eq!(["red", "green", "blue"][brightest], t.actual);
        }
        assert!(interp.plot_top_losses(4, true).unwrap().describe().starts_with("Prediction/Actual/Loss/Probability"));
        let share = interp.plot_confusion_matrix(true).unwrap().to_svg();
        assert!(share.contains("Confusion matrix") && share.contains("0."));

        // All of the set: as many wrong ones in red as the error rate says.
        let n = dls.valid.n_items();
        let figure = learn.show_results(n).unwrap();
        assert!(figure.to_png(1.0).unwrap().starts_with(b"\x89PNG"));
        assert_eq!(figure.to_svg(), learn.show_results(n).unwrap().to_svg(), "the same pictures each time");
        let places: Vec<usize> = (0..n).rev().collect();
        let described = learn.show_results_of(&dls.valid, &places).unwrap().describe();
        let preds = learn.get_preds().unwrap();
        let title = |i: usize| {
            dls.datasets().encode().title(&preds.targets.get(i)).to_string()
                + ", "
                + &dls.datasets().encode().title(&preds.decoded[i])
        };
        let expected: Vec<String> = places.iter().map(|&i| title(i)).collect();
        assert_eq!(described, expected.join(". "));
        let e = learn.show_results_of(&dls.valid, &[n]).unwrap_err();
        assert!(e.to_string().contains(&format!("item {n} of {n} does not exist")), "{e}");

        // Without a learner the files themselves are shown.
        let alone = Interpretation::new(dls.vocab().to_vec(), preds).unwrap();
        assert!(alone.top_loss_cells(2, false).unwrap().iter().all(|c| c.picture.width >= 20));
    }
}
