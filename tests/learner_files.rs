//! Files of learners: fastai's `learn.save` arrives to the bit, what doesn't fit is named, and an exported model is one file of data.

mod common;

use common::Recorded;
use common::colours::{colours, loaders, weights};
use onecycle::learner::{Learner, LoadOptions};
use onecycle::nn::{Arch, Context, Module};
use onecycle::optim::OptimizerKind;
use onecycle::prelude::*;
use std::collections::HashMap;
use std::path::Path;

type Make = fn() -> Arch;

/// The network of `record_learner.py`.
fn thin() -> Arch {
    Arch { name: "thin".into(), bottleneck: false, blocks: [1; 4], widths: [4; 4] }
}

/// A learner of three classes whose `models` are these recordings, each under its own name.
fn reader(dir: &Path, arch: Make, files: &[&Path]) -> Learner {
    if !dir.join("red_0.png").exists() {
        colours(dir, 4);
    }
    std::fs::create_dir_all(dir.join("models")).unwrap();
    for file in files {
        std::fs::copy(file, dir.join("models").join(file.file_name().unwrap())).unwrap();
    }
    let mut learn = vision_learner(&loaders(dir, 1, 1), arch).unwrap().at_path(dir);
    learn.remove_cb("ProgressCallback");
    learn
}

/// Bits, not numbers: -0.0 and NaN count too.
fn same(name: &str, found: &Tensor, expected: &Recorded) {
    assert_eq!(found.shape().nchw(), expected.shape, "{name}");
    match found.dtype() {
        DType::I64 => assert_eq!(found.to_nchw_vec::<i64>().unwrap(), expected.i64(), "{name}"),
        _ => {
            let bits = |all: Vec<f32>| all.into_iter().map(f32::to_bits).collect::<Vec<u32>>();
            assert!(bits(found.to_nchw_vec().unwrap()) == bits(expected.f32()), "{name}");
        }
    }
}

/// Everything in the learner is what the recording says; returns how many parameters have moved.
fn is_as_recorded(learn: &Learner, expected: &HashMap<String, Recorded>) -> usize {
    for (name, entry) in learn.model().state() {
        same(&name, &entry.value(), &expected[&format!("model.{name}")]);
    }
    let (mut moved, mut seen) = (0, 0);
    for (g, group) in learn.opt().param_groups().iter().enumerate() {
        let hyper = &expected["hypers"];
        assert_eq!((hyper.dtype.as_str(), &hyper.shape[..]), ("F64", &[learn.opt().param_groups().len(), 5][..]));
        let row: Vec<f64> =
            hyper.bytes[40 * g..][..40].chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect();
        let h = group.hyper;
        assert_eq!([h.lr, h.mom, h.sqr_mom, h.eps, h.wd], row[..], "group {g}");
        for ((name, state), (_, decays)) in group.states().zip(group.parameters()) {
            let get = |key: &str| expected.get(&format!("opt.{name}.{key}"));
            for (key, average) in [("grad_avg", &state.grad_avg), ("sqr_avg", &state.sqr_avg)] {
                assert_eq!(average.is_some(), get(key).is_some(), "{name} {key}");
                if let (Some(found), Some(expected)) = (average, get(key)) {
                    same(&format!("{name} {key}"), found, expected);
                    seen += 1;
                }
            }
            assert_eq!(state.step, get("step").map_or(0, |step| step.i64()[0] as u64), "{name}");
            assert_eq!(decays, get("do_wd").is_none_or(|flag| flag.i64()[0] == 1), "{name}");
            moved += usize::from(state.step > 0);
        }
    }
    let averages = expected.keys().filter(|key| key.starts_with("opt.") && key.ends_with("_avg")).count();
    assert_eq!(seen, averages, "each average of the file has found its place");
    moved
}

fn answers_as_recorded(learn: &Learner, expected: &HashMap<String, Recorded>, file: &Path) -> f64 {
    let x = onecycle::nn::safetensors::read(file).unwrap().tensors.remove("x").unwrap();
    let y = learn.model().forward(&x, &Context::eval()).unwrap().to_f64_vec().unwrap();
    let want = expected["y"].f32();
    assert_eq!(y.len(), want.len());
    y.iter().zip(want).fold(0.0, |off: f64, (a, b)| off.max((a - f64::from(b)).abs()))
}

#[test]
fn fastai_s_learner_arrives_to_the_bit() {
    let (Some(file), Some(listed)) =
        (common::fixture("checkpoints/vision.pth"), common::fixture("checkpoints/vision.safetensors"))
    else {
        return;
    };
    let expected = common::safetensors("checkpoints/vision.safetensors").unwrap();
    let dir = tempfile::tempdir().unwrap();
    // A learner that has worked already: nothing of it may stay.
    let mut learn = reader(dir.path(), thin, &[&file]).wd_bn_bias(true);
    learn.fit_one_cycle(1, 1e-2).unwrap();
    assert_eq!(learn.load("vision").unwrap(), None);
    let parameters = learn.model().named_parameters().len();
    assert_eq!(is_as_recorded(&learn, &expected), parameters);
    let off = answers_as_recorded(&learn, &expected, &listed);
    assert!(off < 1e-5, "{off:e}");

    // It goes on from there, and what is saved here is the same again.
    learn.save("ours").unwrap();
    let mut again = reader(dir.path(), thin, &[]);
    assert_eq!(again.load("ours").unwrap(), None);
    is_as_recorded(&again, &expected);
    again.fit(1, 1e-3).unwrap();
}

/// In a frozen phase the body's convolutions have no averages yet.
#[test]
fn a_frozen_learner_s_file_has_gaps_where_nothing_moved() {
    let Some(file) = common::fixture("checkpoints/vision_frozen.pth") else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut learn = reader(dir.path(), thin, &[&file]);
    assert_eq!(learn.load("vision_frozen").unwrap(), None);
    for (g, group) in learn.opt().param_groups().iter().enumerate() {
        for ((name, state), (_, decays)) in group.states().zip(group.parameters()) {
            // 24 pictures, batches of 8; norms train, and don't decay.
            let trains = g == 2 || !decays;
            assert_eq!((state.step, state.sqr_avg.is_some()), (if trains { 2 } else { 0 }, trains), "{name}");
        }
    }
}

#[test]
fn what_does_not_fit_is_a_warning_or_an_error_with_the_key() {
    let files = ["vision", "vision_model", "vision_sgd"].map(|n| common::fixture(&format!("checkpoints/{n}.pth")));
    let [Some(whole), Some(model), Some(sgd)] = files else { return };
    let Some(export) = common::fixture("checkpoints/export.pkl") else { return };
    let dir = tempfile::tempdir().unwrap();
    let files: [&Path; 4] = [&whole, &model, &sgd, &export];
    let fresh = || reader(dir.path(), thin, &files);
    let (none, other) = ("Saved file doesn't contain an optimizer state.", "Could not load the optimizer state.");
    let step = |learn: &Learner| learn.opt().param_groups()[2].states().last().unwrap().1.step;

    // Without an optimizer in the file, or unwanted.
    let mut learn = fresh();
    assert_eq!(learn.load("vision_model").unwrap(), Some(none));
    assert_eq!(learn.load_with("vision_model", false).unwrap(), None);
    let only = weights(&learn);
    let mut learn = fresh();
    assert_eq!(learn.load_with("vision.pth", false).unwrap(), None);
    assert_eq!((weights(&learn), step(&learn)), (only.clone(), 0));

    // Another optimizer's, both ways, with the model; and each its own.
    for kind in [OptimizerKind::Sgd, OptimizerKind::RmsProp] {
        let mut learn = fresh().opt_func(kind);
        let hyper = learn.opt().param_groups()[0].hyper;
        assert_eq!(learn.load("vision").unwrap(), Some(other));
        assert_eq!((weights(&learn), step(&learn), learn.opt().param_groups()[0].hyper), (only.clone(), 0, hyper));
    }
    assert_eq!(fresh().load("vision_sgd").unwrap(), Some(other));
    let mut learn = fresh().opt_func(OptimizerKind::Sgd);
    assert_eq!(learn.load("vision_sgd").unwrap(), None);
    let hyper = learn.opt().param_groups()[0].hyper;
    assert_eq!((hyper.lr, hyper.mom), (1e-3, 0.9));
    assert!(learn.opt().param_groups().iter().flat_map(|g| g.states()).all(|(_, s)| s.grad_avg.is_some()));

    // Another network: the file, the tensor, and both shapes.
    fn wide() -> Arch {
        Arch { name: "wide".into(), widths: [4, 4, 4, 8], ..thin() }
    }
    fn deep() -> Arch {
        Arch { name: "deep".into(), blocks: [1, 2, 1, 1], ..thin() }
    }
    fn shallow() -> Arch {
        Arch { name: "shallow".into(), blocks: [1, 0, 1, 1], ..thin() }
    }
    let cases: [(Make, &str); 3] = [
        (wide, "tensor \"0.7.0.conv1.weight\" has shape [4, 4, 3, 3], the model needs [8, 4, 3, 3]"),
        (deep, "tensor \"0.5.1.conv1.weight\" is missing from the file"),
        (shallow, "is in the file, but not in the model"),
    ];
    for (arch, what) in cases {
        let mut learn = reader(dir.path(), arch, &[]);
        let before = weights(&learn);
        let e = learn.load("vision").unwrap_err();
        assert!(e.kind() == ErrorKind::Format && e.to_string().contains("vision.pth"), "{e}");
        assert!(e.to_string().contains(what), "{e}");
        assert_eq!(weights(&learn), before);
    }

    // Not strictly: what is there is taken, what isn't stays; but a shape is a shape.
    let loose = LoadOptions { strict: false, with_opt: true };
    let mut learn = reader(dir.path(), deep, &[]);
    let before: HashMap<String, Vec<f64>> = state(&learn);
    assert_eq!(learn.load_with("vision", loose).unwrap(), Some(other), "its optimizer has more parameters");
    let mut source = fresh();
    source.load("vision").unwrap();
    let source = state(&source);
    for (name, now) in state(&learn) {
        assert_eq!(&now, source.get(&name).unwrap_or(&before[&name]), "{name}");
    }
    assert!(state(&learn).len() > source.len());
    let e = reader(dir.path(), wide, &[]).load_with("vision", loose).unwrap_err();
    assert!(e.to_string().contains("has shape"), "{e}");

    // fastai's export is a program.
    std::fs::rename(dir.path().join("models/export.pkl"), dir.path().join("models/export.pth")).unwrap();
    let e = fresh().load("export").unwrap_err();
    assert!(e.to_string().contains("export.pth") && e.advice().contains("learn.save"), "{e}");
    for file in [&export, &whole] {
        let e = load_learner(file).err().unwrap();
        assert_eq!(e.kind(), ErrorKind::Format);
        assert!(e.to_string().contains(file.to_str().unwrap()) && e.advice().contains(".load("), "{e}");
    }
    let e = fresh().load("nowhere").unwrap_err();
    assert!(e.kind() == ErrorKind::Io && e.to_string().contains("nowhere.safetensors"), "{e}");
}

fn state(learn: &Learner) -> HashMap<String, Vec<f64>> {
    learn.model().state().into_iter().map(|(n, e)| (n, e.value().to_f64_vec().unwrap())).collect()
}

/// Whole networks: `python tests/fixtures/checkpoints/record_learner.py DIR` writes them.
#[test]
fn whole_learners_of_fastai_arrive_to_the_bit() {
    let Some(folder) = std::env::var_os("ONECYCLE_LEARNERS").map(std::path::PathBuf::from) else {
        return common::skip(format_args!("ONECYCLE_LEARNERS names no folder with whole learners"));
    };
    let nets: [(&str, Make); 3] = [("resnet18", resnet18), ("resnet34", resnet34), ("resnet50", resnet50)];
    for (net, arch) in nets {
        let (file, listed) = (folder.join(format!("{net}.pth")), folder.join(format!("{net}.safetensors")));
        let dir = tempfile::tempdir().unwrap();
        let mut learn = reader(dir.path(), arch, &[&file]);
        let began = std::time::Instant::now();
        assert_eq!(learn.load(net).unwrap(), None);
        let seconds = began.elapsed().as_secs_f64();
        let expected = common::safetensors(listed.to_str().unwrap()).unwrap();
        let moved = is_as_recorded(&learn, &expected);
        let off = answers_as_recorded(&learn, &expected, &listed);
        println!("{net}: {moved} parameters to the bit, read in {seconds:.2} s; answers off by {off:.1e}");
        assert!(moved == learn.model().named_parameters().len() && off < 1e-4);
    }
}

/// A file of safetensors with another header.
fn with_header(from: &Path, to: &Path, change: impl Fn(String) -> String) {
    let all = std::fs::read(from).unwrap();
    let length = u64::from_le_bytes(all[..8].try_into().unwrap()) as usize;
    let header = change(String::from_utf8(all[8..8 + length].to_vec()).unwrap());
    std::fs::write(to, [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &all[8 + length..]].concat()).unwrap();
}

/// The other process has the file alone: no data, no settings, and another number of threads.
#[test]
fn an_exported_model_predicts_the_same_bits_in_another_process() {
    let answers = |files: Vec<std::path::PathBuf>, model: &Path| -> Vec<u64> {
        let predictor = load_learner(model).unwrap();
        let all = predictor.predict_files(files, 4).unwrap();
        all.iter().flat_map(|p| &p.probabilities).map(|p| p.to_bits()).collect()
    };
    let sorted = |dir: &Path| {
        let mut files = get_image_files(dir).unwrap();
        files.sort();
        files
    };
    if let Some(dir) = std::env::var_os("ONECYCLE_TEST_MODEL").map(std::path::PathBuf::from) {
        let bits = answers(sorted(&dir.join("pictures")), &dir.join("model.safetensors"));
        std::fs::write(dir.join("bits"), serde_json::to_vec(&bits).unwrap()).unwrap();
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let pictures = dir.path().join("pictures");
    std::fs::create_dir(&pictures).unwrap();
    let mut learn = reader(&pictures, thin, &[]);
    learn.fit_one_cycle(2, 1e-2).unwrap();
    let model = dir.path().join("model.safetensors");
    learn.export(&model).unwrap();
    let files = sorted(&pictures);
    let here = answers(files.clone(), &model);
    // What the learner itself says.
    let loader = learn.dls().test_dl(files.iter().take(4)).unwrap();
    let own: Vec<u64> = learn.preds_of(&loader).unwrap().probabilities.concat().iter().map(|p| p.to_bits()).collect();
    assert_eq!(own, here[..own.len()]);
    for threads in ["1", "3"] {
        let run = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "an_exported_model_predicts_the_same_bits_in_another_process"])
            .env("ONECYCLE_TEST_MODEL", dir.path())
            .env("ONECYCLE_THREADS", threads)
            .output()
            .unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stdout));
        let there: Vec<u64> = serde_json::from_slice(&std::fs::read(dir.path().join("bits")).unwrap()).unwrap();
        assert_eq!(there, here);
        std::fs::remove_file(dir.path().join("bits")).unwrap();
    }
}

#[test]
fn a_model_that_is_not_whole_is_refused_with_its_fault() {
    let dir = tempfile::tempdir().unwrap();
    let learn = reader(dir.path(), thin, &[]);
    let (good, bad) = (dir.path().join("good.safetensors"), dir.path().join("bad.safetensors"));
    learn.export(&good).unwrap();
    assert_eq!(load_learner(&good).unwrap().vocab(), ["blue", "green", "red"]);
    let header = |from: &'static str, to: &'static str| {
        move |header: String| {
            assert!(header.contains(from), "{from}: {header}");
            header.replacen(from, to, 1)
        }
    };
    let vocab = r#"\"vocab\":[\"blue\",\"green\",\"red\"]"#;
    type Change = Box<dyn Fn(String) -> String>;
    let cases: Vec<(Change, &str)> = vec![
        // Two tensors of one name, and one that no network of this description has.
        (Box::new(header("\"0.1.weight\":", "\"0.1.bias\":")), "\"0.1.bias\" stands twice"),
        (Box::new(header("\"1.8.weight\":", "\"1.9.weight\":")), "1.8.weight: is missing from the file"),
        (Box::new(header("\"0.4.0.bn1.num_batches_tracked\":", "\"stranger\":")), "not in the model"),
        (Box::new(header(vocab, r#"\"words\":[\"blue\",\"green\",\"red\"]"#)), "missing field `vocab`"),
        (Box::new(header(vocab, r#"\"vocab\":[]"#)), "sizes out of range"),
        (Box::new(header(vocab, r#"\"vocab\":[\"blue\",\"green\"]"#)), "sizes out of range"),
        (Box::new(header(vocab, r#"\"vocab\":[\"blue\",\"red\",\"red\"]"#)), "has \"red\" twice"),
        (Box::new(header(vocab, r#"\"vocab\":[\"a\"],\"vocab\":[\"b\"]"#)), "duplicate field `vocab`"),
        (Box::new(header(r#"\"format\":1"#, r#"\"format\":2"#)), "is a model of format 2, written by version"),
        // A later version may describe a model in other words.
        (Box::new(header(r#"\"format\":1"#, r#"\"format\":2,\"library\":\"9.0\""#)), "duplicate field"),
        (
            Box::new(|h| h.replacen("\"__metadata__\":{", "\"__metadata__\":{\"onecycle\":\"{}\",", 1)),
            "\"onecycle\" twice",
        ),
        (Box::new(|h| h.replacen("\"onecycle\":", "\"another\":", 1)), "is no exported model"),
    ];
    for (change, fault) in cases {
        with_header(&good, &bad, change);
        let e = load_learner(&bad).err().unwrap_or_else(|| panic!("{fault}"));
        let text = e.to_string();
        assert!(
            e.kind() == ErrorKind::Format && text.contains("bad.safetensors") && text.contains(fault),
            "{fault}: {text}"
        );
    }
    // Other words altogether: still it says which version is needed.
    with_header(&good, &bad, |h| {
        let at = h.find("\"onecycle\":\"").unwrap() + "\"onecycle\":\"".len();
        let end = at + h[at..].find("}\"").unwrap();
        format!("{}{}{}", &h[..at], r#"{\"format\":7,\"library\":\"9.0\",\"network\":{}"#, &h[end..])
    });
    let text = load_learner(&bad).err().unwrap().to_string();
    assert!(text.contains("format 7, written by version 9.0"), "{text}");
    // A tensor of a type that no tensor has: the file and the tensor.
    with_header(&good, &bad, |h| h.replacen("\"F32\"", "\"F4\"", 1));
    let text = load_learner(&bad).err().unwrap().to_string();
    assert!(text.contains("bad.safetensors: tensor \"") && text.contains("F4"), "{text}");
    let learner_file = learn.save("saved").unwrap();
    let e = load_learner(learner_file).err().unwrap();
    assert!(e.to_string().contains("is no exported model"), "{e}");
}

#[test]
fn what_loading_costs() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("model.safetensors");
    let learn = reader(dir.path(), resnet34, &[]);
    let began = std::time::Instant::now();
    learn.export(&model).unwrap();
    let (written, began) = (began.elapsed(), std::time::Instant::now());
    let predictor = load_learner(&model).unwrap();
    let (read, size) = (began.elapsed(), std::fs::metadata(&model).unwrap().len());
    println!("resnet34, {:.1} MB: exported in {written:.0?}, loaded in {read:.0?}", size as f64 / 1e6);
    assert_eq!(predictor.parameters(), learn.model().named_parameters().iter().map(|(_, p)| p.numel()).sum::<usize>());
}
