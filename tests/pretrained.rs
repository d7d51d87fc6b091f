//! Pretrained weights: into a learner's body, from every place and under every name; and what is said when there are none.

mod common;

use common::drawn::tiny;
#[cfg(feature = "cli")]
use common::http::{Answer, Hosted, Server};
use onecycle::nn::{Arch, Module, Weights, safetensors};
use onecycle::optim::OptimizerKind;
use onecycle::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
#[cfg(feature = "cli")]
use std::path::PathBuf;

/// The body's state under torchvision's names, with a classifier.
fn state(arch: &Arch) -> Vec<(String, Tensor)> {
    let body = arch.body();
    body.init_with(77).unwrap();
    let name = |name: &str| {
        let (module, rest) = name.split_once('.').unwrap();
        match module.parse::<usize>().unwrap() {
            0 => format!("conv1.{rest}"),
            1 => format!("bn1.{rest}"),
            stage => format!("layer{}.{rest}", stage - 3),
        }
    };
    let value = |name: &str, t: Tensor| match name.rsplit('.').next().unwrap() {
        "running_mean" => Tensor::full(0.125, t.shape(), DType::F32, Device::Cpu).unwrap(),
        "running_var" => Tensor::full(1.5, t.shape(), DType::F32, Device::Cpu).unwrap(),
        _ => t,
    };
    let mut all: Vec<_> = body.state().iter().map(|(n, entry)| (name(n), value(n, entry.value()))).collect();
    all.push(("fc.weight".into(), Tensor::full(1.0, [10, arch.features()], DType::F32, Device::Cpu).unwrap()));
    all.push(("fc.bias".into(), Tensor::full(1.0, [10], DType::F32, Device::Cpu).unwrap()));
    all
}

fn write(path: &Path, tensors: &[(String, Tensor)]) {
    safetensors::write(path, tensors, &BTreeMap::new()).unwrap();
}

fn renamed(arch: &Arch, to: impl Fn(&str) -> Option<String>) -> Vec<(String, Tensor)> {
    state(arch).into_iter().filter_map(|(name, t)| Some((to(&name)?, t))).collect()
}

/// `layer1.0.bn1.bias` in fastai's numbers.
fn in_fastai(name: &str) -> Option<String> {
    let (module, rest) = name.split_once('.')?;
    let number = match module {
        "conv1" => 0,
        "bn1" => 1,
        "fc" => return None,
        layer => layer.strip_prefix("layer")?.parse::<usize>().ok()? + 3,
    };
    Some(format!("{number}.{rest}"))
}

fn values(body: &dyn Module) -> Vec<(String, Vec<f64>)> {
    body.state().iter().map(|(name, entry)| (name.clone(), entry.value().to_f64_vec().unwrap())).collect()
}

fn colours(dir: &Path) {
    for (class, rgb) in [("red", [200u8, 40, 40]), ("green", [40, 200, 40]), ("blue", [40, 40, 200])] {
        for i in 0..10u8 {
            let pixels: Vec<u8> = (0..24 * 24u32).flat_map(|p| rgb.map(|v| v + i + (p % 7) as u8)).collect();
            std::fs::create_dir_all(dir.join(class)).unwrap();
            image::RgbImage::from_raw(24, 24, pixels).unwrap().save(dir.join(class).join(format!("{i}.png"))).unwrap();
        }
    }
}

fn block() -> DataBlock {
    DataBlock::new((ImageBlock, CategoryBlock))
        .get_items(get_image_files)
        .get_y(parent_label)
        .splitter(RandomSplitter::seed(42))
        .item_tfms(Resize::new(24))
        .bs(8)
        .seed(3)
}

#[test]
fn a_learner_begins_with_a_trained_body_and_a_fresh_head() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tiny.safetensors");
    write(&file, &state(&tiny()));
    colours(&dir.path().join("pictures"));
    for augmented in [true, false] {
        let block = block();
        let block = if augmented { block.batch_tfms(aug_transforms().size(16)) } else { block };
        let dls = block.dataloaders(dir.path().join("pictures")).unwrap();
        let quiet = |mut learn: Learner| {
            learn.remove_cb("ProgressCallback");
            learn
        };
        let fresh = quiet(vision_learner(&dls, tiny).unwrap());
        let mut learn = quiet(vision_learner(&dls, tiny).unwrap().pretrained(file.as_path()).unwrap());

        let expected: Vec<_> =
            state(&tiny()).into_iter().filter_map(|(n, t)| Some((in_fastai(&n)?, t.to_f64_vec().unwrap()))).collect();
        assert_eq!(values(learn.model().get(0).unwrap()), expected);
        assert_ne!(values(fresh.model().get(0).unwrap()), expected);
        assert_eq!(values(learn.model().get(1).unwrap()), values(fresh.model().get(1).unwrap()), "the head is fresh");
        let from = learn.pretrained_from().unwrap();
        assert!(
            from.contains("tiny.safetensors") && (!cfg!(feature = "download") || from.contains("(SHA-256 ")),
            "{from}"
        );
        assert_eq!(fresh.pretrained_from(), None);

        // Normalize is there once, whoever comes later, and at the place where fastai has it.
        assert!(fresh.dls().batch_tfms().statistics().is_none());
        let stages = |learn: &Learner| learn.dls().batch_tfms().stages((24, 24));
        let normalizations =
            |learn: &Learner| stages(learn).iter().filter(|s| s.description.starts_with("Normalize")).count();
        assert_eq!(learn.dls().batch_tfms().statistics(), Some(IMAGENET_STATS));
        assert_eq!((normalizations(&learn), stages(&learn).len()), (1, stages(&fresh).len() + 1));
        let again = vision_learner(learn.dls(), tiny).unwrap().pretrained(file.as_path()).unwrap();
        assert_eq!((normalizations(&again), stages(&again)), (1, stages(&learn)));
        let read = Weights::from(file.as_path()).load(&tiny()).unwrap();
        let without = vision_learner(&dls, tiny).unwrap().with_pretrained(&read, false).unwrap();
        assert!(without.dls().batch_tfms().statistics().is_none());

        // Frozen as fastai freezes: what trains are the head and the norms.
        assert_eq!((fresh.opt().frozen_idx(), learn.opt().frozen_idx()), (0, 2));
        for (name, p) in learn.model().named_parameters() {
            let trains = name.starts_with("1.") || p.value().shape().len() == 1;
            assert_eq!(p.is_trainable(), trains, "{name}");
        }
        let picture = dir.path().join("pictures/red/0.png");
        let before = learn.predict(&picture).unwrap().1;
        assert_ne!(before, fresh.predict(&picture).unwrap().1);

        // Of the body, an epoch of the head moves norms only; then all of it moves.
        let convolutions = |learn: &Learner| -> Vec<_> {
            values(learn.model().get(0).unwrap())
                .into_iter()
                .filter(|(n, _)| n.contains("conv") || n == "0.weight")
                .collect()
        };
        let first = convolutions(&learn);
        learn.fit_one_cycle(1, 1e-2).unwrap();
        assert_eq!(convolutions(&learn), first);
        learn.fine_tune(1).unwrap();
        assert_ne!(convolutions(&learn), first);
        assert_ne!(learn.predict(&picture).unwrap().1, before);

        // The exported model normalises too.
        let model = dir.path().join("model.safetensors");
        learn.export(&model).unwrap();
        let (ours, theirs) =
            (learn.predict(&picture).unwrap().1, load_learner(&model).unwrap().predict(&picture).unwrap());
        ours.iter().zip(&theirs.probabilities).for_each(|(a, b)| assert!((a - b).abs() < 1e-6, "{a} and {b}"));
        // It is pretrained weights itself, and so is what `save` writes.
        let learn = learn.at_path(dir.path());
        for file in [model, learn.save("saved").unwrap()] {
            let body = tiny().body();
            Weights::from(file).load(&tiny()).unwrap().load_into(&body).unwrap();
            assert_eq!(values(&body), values(learn.model().get(0).unwrap()));
        }
    }
}

#[test]
fn norms_may_rest_and_decay() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tiny.safetensors");
    write(&file, &state(&tiny()));
    colours(&dir.path().join("pictures"));
    let dls = block().dataloaders(dir.path().join("pictures")).unwrap();
    let learn = vision_learner(&dls, tiny).unwrap().pretrained(file.as_path()).unwrap();
    let decays =
        |learn: &Learner| learn.opt().param_groups().iter().flat_map(|g| g.parameters()).filter(|(_, d)| *d).count();
    let trains = |learn: &Learner| learn.model().named_parameters().iter().filter(|(_, p)| p.is_trainable()).count();
    let all = learn.model().named_parameters().len();
    let norms = learn.model().named_parameters().iter().filter(|(_, p)| p.value().shape().len() == 1).count();
    assert_eq!((decays(&learn), trains(&learn)), (all - norms, norms + 2));
    // Another optimizer keeps what is frozen and who decays.
    let learn = learn.train_bn(false).wd_bn_bias(true).opt_func(OptimizerKind::Sgd);
    assert_eq!((decays(&learn), trains(&learn)), (all, 6), "two linear layers and two norms of the head");
    assert_eq!((learn.opt().frozen_idx(), learn.opt().kind()), (2, OptimizerKind::Sgd));
    let learn = learn.train_bn(true).wd_bn_bias(false);
    assert_eq!((decays(&learn), trains(&learn)), (all - norms, norms + 2));
}

#[test]
fn one_body_has_many_names() {
    let dir = tempfile::tempdir().unwrap();
    let arch = Arch::by_name("resnet50").unwrap().slim(4);
    let file = dir.path().join("w.safetensors");
    let expected: Vec<_> =
        state(&arch).into_iter().filter_map(|(n, t)| Some((in_fastai(&n)?, t.to_f64_vec().unwrap()))).collect();
    let head = ("1.2.weight".to_string(), Tensor::full(1.0, [8], DType::F32, Device::Cpu).unwrap());
    let beside = |name: &str| (name.to_string(), Tensor::full(1.0, [1], DType::F32, Device::Cpu).unwrap());
    let forms: [(&str, Vec<(String, Tensor)>); 12] = [
        ("torchvision", state(&arch)),
        ("DataParallel", renamed(&arch, |n| Some(format!("module.{n}")))),
        ("torch.compile of DataParallel", renamed(&arch, |n| Some(format!("_orig_mod.module.{n}")))),
        ("Lightning", renamed(&arch, |n| Some(format!("model.{n}")))),
        ("a backbone", renamed(&arch, |n| in_fastai(n).map(|_| format!("backbone.{n}")))),
        ("fastai", [renamed(&arch, |n| Some(format!("0.{}", in_fastai(n)?))), vec![head.clone()]].concat()),
        ("fastai around timm", [renamed(&arch, |n| in_fastai(n).map(|_| format!("0.model.{n}"))), vec![head]].concat()),
        ("a body alone", renamed(&arch, in_fastai)),
        ("AveragedModel", [renamed(&arch, |n| Some(format!("module.{n}"))), vec![beside("n_averaged")]].concat()),
        ("Lightning with a loss", [renamed(&arch, |n| Some(format!("net.{n}"))), vec![beside("loss.weight")]].concat()),
        (
            "a detector",
            [renamed(&arch, |n| Some(format!("backbone.body.{n}"))), vec![beside("backbone.fpn.conv1.weight")]]
                .concat(),
        ),
        (
            "fastai's U-Net",
            [renamed(&arch, |n| Some(format!("layers.0.{}", in_fastai(n)?))), vec![beside("layers.1.weight")]].concat(),
        ),
    ];
    for (what, tensors) in forms {
        write(&file, &tensors);
        let body = arch.body();
        Weights::from(file.as_path()).load(&arch).unwrap_or_else(|e| panic!("{what}: {e}")).load_into(&body).unwrap();
        assert_eq!(values(&body), expected, "{what}");
    }
    // A header of 128 bytes begins like a pickle, one of 0x4b50 like a zip.
    for length in [0x180, 0x4b50usize] {
        let header = format!(r#"{{"__metadata__":{{"a":"{}"}}}}"#, " ".repeat(length - 25));
        std::fs::write(&file, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat()).unwrap();
        assert_eq!(header.len(), length);
        let error = Weights::from(file.as_path()).load(&arch).unwrap_err().to_string();
        assert!(error.contains("no tensor with a ResNet's name"), "{error}");
    }
    // Counters may be missing, as in old files, and count as 0. Halves are rounded singles.
    let old = renamed(&arch, |n| (!n.ends_with("num_batches_tracked")).then(|| n.into()));
    let halves: Vec<_> = old.iter().map(|(n, t)| (n.clone(), t.cast(DType::F16).unwrap())).collect();
    for tensors in [old, halves] {
        write(&file, &tensors);
        let body = arch.body();
        Weights::from(file.as_path()).load(&arch).unwrap().load_into(&body).unwrap();
        for ((name, found), (_, expected)) in values(&body).iter().zip(&expected) {
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 5e-4 * b.abs() + 1e-7), "{name}");
        }
        assert!(body.state().iter().all(|(_, e)| matches!(e.value().dtype(), DType::F32 | DType::I64)));
    }
}

#[test]
fn a_tensor_that_does_not_fit_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("w.safetensors");
    let arch = Arch::by_name("resnet18").unwrap().slim(4);
    let said = |tensors: Vec<(String, Tensor)>| {
        write(&file, &tensors);
        let error = Weights::from(file.as_path()).load(&arch).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Format);
        assert!(error.item().unwrap().ends_with("w.safetensors"), "{error}");
        error.to_string()
    };
    let without = |gone: &str| renamed(&arch, |n| (n != gone).then(|| n.into()));
    let with = |name: &str, t: Tensor| {
        let mut all = without(name);
        all.push((name.into(), t));
        all
    };
    let zeros = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, Device::Cpu).unwrap();
    let name = "layer2.1.conv2.weight";
    assert!(said(without(name)).contains("\"layer2.1.conv2.weight\" is missing"));
    // [K, R, S, C] here, [K, C, R, S] in the message as in the file.
    assert!(
        said(with(name, zeros(&[8, 3, 3, 5], DType::F32)))
            .contains("\"layer2.1.conv2.weight\" has shape [8, 5, 3, 3], resnet18-w4 needs [8, 8, 3, 3]")
    );
    assert!(
        said(with(name, zeros(&[8, 3, 3, 8], DType::I64)))
            .contains("\"layer2.1.conv2.weight\" has numbers of type i64, floats were expected")
    );
    assert!(
        said(with("bn1.num_batches_tracked", zeros(&[], DType::F32)))
            .contains("\"bn1.num_batches_tracked\" has numbers of type f32, whole numbers")
    );
    assert!(
        said(with("layer1.0.se.weight", zeros(&[4], DType::F32)))
            .contains("\"layer1.0.se.weight\" is in the file, but not in resnet18-w4")
    );
    assert!(
        said(with("decoder.weight", zeros(&[4], DType::F32))).contains("\"decoder.weight\" is in the file, but not")
    );
    assert!(
        said(vec![("encoder.weight".into(), zeros(&[4], DType::F32))])
            .contains("no tensor with a ResNet's name; it has \"encoder.weight\"")
    );
    // The fewest bytes that tell resnet34 from resnet18: the stem, and the numbers of the blocks.
    let other = said(state(&Arch::by_name("resnet34").unwrap().slim(4)));
    assert!(
        other.contains("\"layer1.2.bn1.bias\" is in the file")
            && other.contains("[3, 4, 6, 3] basic blocks and 4 channels"),
        "{other}"
    );
    let real = vec![("conv1.weight".to_string(), zeros(&[64, 7, 7, 3], DType::F32))];
    let stages = [3, 4, 6, 3].into_iter().enumerate();
    let last = stages.map(|(s, n)| (format!("layer{}.{}.conv3.weight", s + 1, n - 1), zeros(&[1], DType::F32)));
    let first = ("layer1.0.conv3.weight".to_string(), zeros(&[1], DType::F32));
    let told = said(real.into_iter().chain(last).chain([first]).collect());
    assert!(told.contains("this looks like resnet50, and resnet18-w4 was expected"), "{told}");
    // Numbers that no training goes on from, and a file that leaves the choice open.
    let mut nan = vec![0.0; 8];
    nan[5] = f64::NAN;
    let nan = Tensor::from_slice(&nan, [8], Device::Cpu).unwrap().cast(DType::F32).unwrap();
    assert!(
        said(with("layer2.0.bn1.bias", nan)).contains("\"layer2.0.bn1.bias\" has numbers that are NaN or infinite")
    );
    let query = renamed(&arch, |n| Some(format!("encoder_q.{n}")));
    let both = said([query, renamed(&arch, |n| Some(format!("encoder_k.{n}")))].concat());
    assert!(both.contains("several networks, such as those below \"encoder_k.\" and \"encoder_q.\""), "{both}");
    // What else is found where weights are looked for.
    for (bytes, what) in [
        (&b""[..], "is empty"),
        (b"\x1f\x8b\x08\0\0\0\0\0", "is packed by gzip"),
        (b"{\"weight_map\": {}}", "is JSON"),
        (b"\x89HDF\r\n\x1a\n", "is HDF5"),
        (b"<!DOCTYPE html>", "is a web page"),
    ] {
        std::fs::write(&file, bytes).unwrap();
        let error = Weights::from(file.as_path()).load(&arch).unwrap_err();
        assert!(error.message().contains(what) && !error.advice().is_empty(), "{error}");
    }
    // A failed load leaves a body as it was, and a body of another architecture is refused.
    write(&file, &state(&arch));
    let loaded = Weights::from(file.as_path()).load(&arch).unwrap();
    let (body, fresh) = (tiny().body(), values(&tiny().body()));
    assert_eq!(loaded.load_into(&body).unwrap_err().kind(), ErrorKind::Format);
    assert_eq!(values(&body), fresh);
}

#[test]
fn texts_name_weights() {
    let of = |text: &str| Weights::from(text);
    assert_eq!(
        [of("auto"), of("default"), of("V1"), of("v2")],
        [Weights::Default, Weights::Default, Weights::V1, Weights::V2]
    );
    assert_eq!(of("https://h/w.pth"), Weights::Url("https://h/w.pth".into()));
    assert_eq!(of("hf-hub:timm/resnet34.tv_in1k"), Weights::Hub("timm/resnet34.tv_in1k".into()));
    assert_eq!(of("v1.pth"), Weights::File("v1.pth".into()));
    for text in ["auto", "v1", "v2", "https://h/w.pth", "hf-hub:timm/resnet34.tv_in1k", "dir/w.pth"] {
        assert_eq!(of(text).to_string(), text);
    }
}

/// The program, in a home of its own and with a server of this test's.
#[cfg(feature = "cli")]
struct Place {
    dir: tempfile::TempDir,
    weights: Vec<u8>,
    digits: String,
}

#[cfg(feature = "cli")]
impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        colours(&dir.path().join("pictures"));
        let file = dir.path().join("mine.safetensors");
        let arch = Arch::by_name("resnet18").unwrap().slim(4);
        write(&file, &state(&arch));
        let digits = Weights::from(file.as_path()).load(&arch).unwrap().sha256().unwrap()[..8].to_owned();
        Place { weights: std::fs::read(&file).unwrap(), dir, digits }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `onecycle train pictures .. more`, with the exit status, and both outputs as one text.
    fn train(&self, more: &[&str], environment: &[(&str, &str)]) -> (bool, String) {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_onecycle"));
        command.current_dir(self.dir.path()).args([
            "train",
            "pictures",
            "--overwrite",
            "--item-size",
            "24",
            "--size",
            "16",
        ]);
        command.args(["--bs", "8", "--device", "cpu", "--epochs", "1"]).args(more);
        for name in ["TORCH_HOME", "HF_HOME", "HF_HUB_CACHE", "HF_ENDPOINT", "HF_HUB_OFFLINE", "ONECYCLE_OFFLINE"] {
            command.env_remove(name);
        }
        command.env("XDG_CACHE_HOME", self.path("cache")).env("ONECYCLE_HOME", self.path("home"));
        let output = command.envs(environment.iter().copied()).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    }
}

#[cfg(feature = "cli")]
const SMALL: [&str; 2] = ["--arch", "resnet18-w4"];

#[test]
#[cfg(feature = "cli")]
fn the_program_fine_tunes_and_says_with_which_weights() {
    let place = Place::new();
    let (done, text) = place.train(
        &[&SMALL[..], &["--pretrained", "mine.safetensors", "--out", "a", "--freeze-epochs", "2"]].concat(),
        &[],
    );
    assert!(done, "{text}");
    assert!(text.contains(&format!("weights from mine.safetensors (SHA-256 {}..)", place.digits)), "{text}");
    // Two epochs of the head, then one of everything: two tables.
    assert_eq!(text.matches("train_loss").count(), 2, "{text}");
    assert_eq!(text.lines().filter(|l| l.starts_with("0   ") || l.starts_with("1   ")).count(), 3, "{text}");
    let settings = std::fs::read_to_string(place.path("a/settings.toml")).unwrap();
    for line in ["pretrained = \"mine.safetensors\"", "freeze-epochs = 2"] {
        assert!(settings.lines().any(|l| l == line), "{settings}");
    }
    for file in ["a/log.txt", "a/report.html"] {
        assert!(std::fs::read_to_string(place.path(file)).unwrap().contains(&place.digits), "{file}");
    }
    // The file repeats the run, and fresh weights are a flag away.
    let (done, text) = place.train(&["--config", "a/settings.toml", "--out", "b"], &[]);
    assert!(done, "{text}");
    assert_eq!(
        std::fs::read(place.path("a/model.safetensors")).unwrap(),
        std::fs::read(place.path("b/model.safetensors")).unwrap()
    );
    let (done, text) = place.train(&["--config", "a/settings.toml", "--out", "c", "--no-pretrained"], &[]);
    assert!(done && !text.contains("weights from"), "{text}");
    assert!(!std::fs::read_to_string(place.path("c/settings.toml")).unwrap().contains("pretrained"));
    assert!(std::fs::read_to_string(place.path("c/log.txt")).unwrap().contains("weights: fresh"));
    let cases: [(&[&str], &str); 5] = [
        (&["--freeze-epochs", "1"], "--freeze-epochs: fresh weights are not frozen"),
        (&["--pretrained", "x.pth", "--weights", "v1"], "--weights: it chooses between torchvision's weights"),
        (&["--pretrained", "auto", "--lr-slice", "1e-6..1e-4"], "--lr-slice: with pretrained weights"),
        (&["--pretrained", "auto", "--no-pretrained"], "cannot be used with"),
        (&["--arch", "resnet18", "--pretrained", "nowhere.pth"], "nowhere.pth: cannot read the weights"),
    ];
    for (args, said) in cases {
        let (done, text) = place.train(args, &[]);
        assert!(!done && text.contains(said), "{text}");
    }
}

#[test]
#[cfg(feature = "cli")]
fn weights_are_fetched_once_and_checked() {
    let place = Place::new();
    let server = Server::hosting(Hosted::new(place.weights.clone()));
    let url = server.url(&format!("w-{}.safetensors", place.digits));
    let args =
        |url: &str| [&SMALL[..], &["--pretrained", url]].concat().into_iter().map(String::from).collect::<Vec<_>>();
    let train = |url: &str, environment: &[(&str, &str)]| {
        let args = args(url);
        place.train(&args.iter().map(String::as_str).collect::<Vec<_>>(), environment)
    };
    let offline = [("ONECYCLE_OFFLINE", "1")];
    let (done, text) = train(&url, &offline);
    assert!(!done && text.contains(&url) && text.contains("ONECYCLE_OFFLINE forbids it"), "{text}");
    assert_eq!(server.requests().len(), 0);
    let (done, text) = train(&url, &[]);
    assert!(done && text.contains(&format!("weights from {url} (SHA-256 {}..)", place.digits)), "{text}");
    // From now on neither the server nor the network is needed.
    let (done, text) = train(&url, &offline);
    assert!(done, "{text}");
    assert_eq!(server.requests().len(), 1);
    // Another file than its name says never becomes one.
    let (done, text) = train(&server.url("w-0badc0de.safetensors"), &[]);
    assert!(
        !done && text.contains("this is not the expected file") && text.contains("expected was 0badc0de"),
        "{text}"
    );
    let kept = |name: &str| {
        std::fs::read_dir(place.path("home/models"))
            .unwrap()
            .any(|e| e.unwrap().file_name().to_str().unwrap().ends_with(name))
    };
    assert!(!kept("-w-0badc0de.safetensors"));
    let (done, text) = train("http://127.0.0.1:1/", &[]);
    assert!(!done && text.contains("not the address of a file"), "{text}");
}

#[test]
#[cfg(feature = "cli")]
fn the_hub_and_its_cache_are_known() {
    let place = Place::new();
    let weights = place.weights.clone();
    let server = Server::new(move |request, _| match request.path.as_str() {
        "/timm/tiny.tv_in1k/resolve/main/model.safetensors" => Hosted::new(weights.clone()).answer(request),
        _ => Answer::status(404),
    });
    let endpoint = server.url("");
    let from = |name: &str, environment: &[(&str, &str)]| {
        place.train(&[&SMALL[..], &["--pretrained", name]].concat(), environment)
    };
    let (done, text) = from("hf-hub:timm/tiny.tv_in1k", &[("HF_ENDPOINT", &endpoint)]);
    assert!(done && text.contains("/timm/tiny.tv_in1k/resolve/main/model.safetensors (SHA-256"), "{text}");
    let (done, text) = from("hf-hub:timm/other", &[("HF_ENDPOINT", &endpoint)]);
    assert!(!done && text.contains("404"), "{text}");
    for wrong in ["hf-hub:tiny", "hf-hub:../../x/y", "hf-hub:a/b/c", "hf-hub:timm/.."] {
        let (done, text) = from(wrong, &[]);
        assert!(!done && text.contains("is no model on the Hugging Face hub"), "{text}");
    }
    // huggingface_hub's own cache: a commit, and a file in it. No network is needed.
    let snapshot = place.path("hub/models--timm--cached/snapshots/0123456789abcdef0123456789abcdef01234567");
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::create_dir_all(place.path("hub/models--timm--cached/refs")).unwrap();
    std::fs::write(snapshot.join("model.safetensors"), &place.weights).unwrap();
    std::fs::write(place.path("hub/models--timm--cached/refs/main"), "0123456789abcdef0123456789abcdef01234567")
        .unwrap();
    let cache = place.path("hub").to_str().unwrap().to_owned();
    let (done, text) = from("hf-hub:timm/cached", &[("HF_HUB_CACHE", &cache), ("HF_HUB_OFFLINE", "1")]);
    assert!(done && text.contains("snapshots"), "{text}");
    assert_eq!(server.requests().len(), 2);
}

#[test]
#[cfg(feature = "cli")]
fn where_none_can_be_had_the_ways_to_get_them_are_told() {
    let place = Place::new();
    // A file of the right name that isn't the file is passed over.
    let torch = place.path("torch/hub/checkpoints");
    std::fs::create_dir_all(&torch).unwrap();
    std::fs::write(torch.join("resnet18-f37072fd.pth"), &place.weights).unwrap();
    let torch = place.path("torch").to_str().unwrap().to_owned();
    let environment = [("ONECYCLE_OFFLINE", "1"), ("TORCH_HOME", torch.as_str())];
    let (done, text) = place.train(&["--arch", "resnet18", "--pretrained", "auto"], &environment);
    assert!(!done);
    for said in [
        "https://download.pytorch.org/models/resnet18-f37072fd.pth",
        "ONECYCLE_OFFLINE forbids it",
        "--pretrained FILE",
        "home/models/resnet18-f37072fd.pth",
        "torchvision.models.resnet18(weights=\"IMAGENET1K_V1\")",
        "hf download timm/resnet18.tv_in1k model.safetensors",
        "--no-pretrained",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
    let (done, text) = place.train(&["--arch", "resnet50", "--pretrained", "auto"], &environment);
    assert!(!done && text.contains("resnet50-11ad3fa6.pth"), "the default of 50 layers is V2: {text}");
    let (done, text) = place.train(&["--arch", "resnet50", "--weights", "v1"], &environment);
    assert!(!done && text.contains("resnet50-0676ba61.pth"), "{text}");
    let (done, text) = place.train(&["--arch", "resnet34", "--weights", "v2"], &environment);
    assert!(!done && text.contains("nobody publishes V2 weights"), "{text}");
    let (done, text) = place.train(&["--arch", "resnet18-w4", "--pretrained", "auto"], &environment);
    assert!(!done && text.contains("resnet18-w4: nobody publishes weights for this network"), "{text}");
    // timm's file, where the hub's cache has it, serves as well; here it is of another network, which is said.
    let snapshot = place.path("hub/models--timm--resnet18.tv_in1k/snapshots/0123");
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::write(snapshot.join("model.safetensors"), &place.weights).unwrap();
    let hub = place.path("hub").to_str().unwrap().to_owned();
    let (done, text) =
        place.train(&["--arch", "resnet18", "--pretrained", "auto"], &[environment[0], ("HF_HUB_CACHE", &hub)]);
    assert!(!done && text.contains("\"conv1.weight\" has shape [4, 3, 7, 7], resnet18 needs [64, 3, 7, 7]"), "{text}");
}
