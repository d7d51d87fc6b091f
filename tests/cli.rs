//! The program from end to end, as a user runs it: on folders of pictures, good and bad.
#![cfg(feature = "cli")]

mod common;

use common::program::{Place, limited, onecycle, pictures, program, text, train};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Output, Stdio};

#[test]
fn train_predict_evaluate_show() {
    let place = Place::new(3, 12);
    let output = place.train(&["--epochs", "2", "--lr", "5e-3"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines[0], "epoch     train_loss  valid_loss  error_rate  time    ");
    assert!(lines[1].starts_with("0         ") && lines[2].starts_with("1         "), "{table}");
    assert!(!table.contains('\x1b') && !text(&output.stderr).contains('\x1b'), "no terminal, no colours");
    let files = [
        "settings.toml",
        "history.csv",
        "report.html",
        "batch.png",
        "loss.png",
        "schedule.png",
        "confusion.png",
        "top_losses.png",
        "model.safetensors",
        "log.txt",
    ];
    for name in files {
        assert!(place.out.join(name).metadata().unwrap_or_else(|e| panic!("{name}: {e}")).len() > 0, "{name}");
    }
    let history = std::fs::read_to_string(place.out.join("history.csv")).unwrap();
    assert!(history.starts_with("epoch,train_loss,valid_loss,error_rate,time\n0,"), "{history}");
    let report = std::fs::read_to_string(place.out.join("report.html")).unwrap();
    assert!(!report.contains("src=\"http") && report.contains("resnet18-w4"));

    // A run directory is not overwritten by accident, and settings.toml repeats the run to the bit.
    assert!(place.fails(&["--epochs", "1"]).contains("--overwrite"));
    let again = place.out.with_file_name("again");
    let settings = place.out.join("settings.toml");
    let output = onecycle(&[
        "train",
        "--config",
        settings.to_str().unwrap(),
        "--out",
        again.to_str().unwrap(),
        "--threads",
        "1",
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let model = place.out.join("model.safetensors");
    assert!(std::fs::read(&model).unwrap() == std::fs::read(again.join("model.safetensors")).unwrap(), "the same bits");

    let model = model.to_str().unwrap();
    let one = place.data.join("key/key_3.png");
    let one = one.to_str().unwrap();
    let output = onecycle(&["predict", model, one, one]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout).lines().count(), 2);
    assert!(text(&output.stdout).starts_with(one));
    let output = onecycle(&["predict", model, one, "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["file"], one);
    let sum: f64 = json["probabilities"].as_object().unwrap().values().map(|v| v.as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-6);
    assert!(json["probabilities"].get(json["label"].as_str().unwrap()).is_some());
    // One bad file among good ones: the good one is answered, the bad one named, the status 1.
    let output = onecycle(&["predict", model, "nowhere.png", one]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).starts_with(one) && text(&output.stderr).contains("nowhere.png"));

    let output = onecycle(&["evaluate", model, place.data(), "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["n"], 36);
    assert!((0.0..=1.0).contains(&json["error_rate"].as_f64().unwrap()) && json["loss"].as_f64().unwrap() > 0.0);
    let by_name = onecycle(&["evaluate", model, place.data(), "--label-re", r"(.+)_\d+.png$", "--json"]);
    assert_eq!(output.stdout, by_name.stdout);

    let grid = place.out.join("grid.png");
    for unique in [&[][..], &["--unique"]] {
        let args = ["show-batch", place.data(), "--out", grid.to_str().unwrap(), "--item-size", "36", "--size", "32"];
        let output = onecycle(&[&args[..], unique].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(image::open(&grid).unwrap().width() > 300);
    }
}

/// A number that no machine has, so that this holds with GPUs too.
const NO_GPU: &str = "cuda:4711";

#[test]
fn a_gpu_that_is_not_there_fails_before_anything_is_written() {
    let place = Place::new(2, 10);
    let err = place.fails(&["--epochs", "1", "--device", NO_GPU]);
    assert!(err.starts_with("error: cuda:4711: ") && err.trim_end().ends_with(')'), "with its remedy: {err}");
    assert!(!place.out.exists(), "no run directory is left behind");
    for args in [&["evaluate", "model", "pictures"][..], &["predict", "model", "a.png"], &["quickstart"]] {
        let output = onecycle(&[args, &["--device", NO_GPU]].concat());
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(text(&output.stderr).starts_with("error: cuda:4711: "), "{args:?}: {}", text(&output.stderr));
    }
}

#[test]
fn the_cpu_imitates_half_precision_and_says_so() {
    for flag in ["--bf16", "--fp16"] {
        let place = Place::new(2, 12);
        let run =
            onecycle(&train(place.data(), place.out.to_str().unwrap(), &["--epochs", "1", "--device", "cpu", flag]));
        let err = text(&run.stderr);
        assert!(run.status.success() && err.contains("rounds to half precision"), "{err}");
        let log = std::fs::read_to_string(place.out.join("log.txt")).unwrap();
        assert!(log.contains(if flag == "--bf16" { "precision: bf16" } else { "precision: f16" }), "{log}");
    }
    let place = Place::new(2, 12);
    let both = onecycle(&train(place.data(), place.out.to_str().unwrap(), &["--bf16", "--fp16"]));
    assert_eq!(both.status.code(), Some(2));
}

#[test]
fn a_run_says_where_it_was_and_how_long_it_waited() {
    let place = Place::new(2, 10);
    let output = place.train(&["--epochs", "2", "--device", "cpu"]);
    let err = text(&output.stderr);
    assert!(output.status.success(), "{err}");
    assert!(err.contains("waiting for pictures: ") && err.contains(" % of the epochs' time"), "{err}");
    let read = |name: &str| std::fs::read_to_string(place.out.join(name)).unwrap();
    let log = read("log.txt");
    assert!(
        log.contains("\ndevice: cpu") && log.contains("\nprecision: f32\n") && log.contains("waiting for"),
        "{log}"
    );
    assert!(read("report.html").contains("precision") && read("settings.toml").contains("device = \"cpu\""));
    // Without a GPU `auto` is the CPU, and says why to whoever asks.
    if onecycle::Device::best() == onecycle::Device::Cpu {
        let output = place.train(&["--epochs", "1", "--overwrite", "-v"]);
        let err = text(&output.stderr);
        assert!(
            output.status.success() && err.contains("computing on the CPU, since no GPU can be used: cuda:0: "),
            "{err}"
        );
    }
}

#[test]
fn kept_pictures_are_found_by_the_next_run() {
    let place = Place::new(2, 12);
    let cache = place.out.parent().unwrap().join("cache");
    let run = |out: &str, more: &[&str]| {
        let out_dir = place.out.with_file_name(out);
        let args = train(place.data(), out_dir.to_str().unwrap(), &[&["--epochs", "1"], more].concat());
        let run = program().env("ONECYCLE_CACHE", &cache).args(args).output().unwrap();
        assert!(run.status.success(), "{}", text(&run.stderr));
        (std::fs::read(out_dir.join("model.safetensors")).unwrap(), text(&run.stderr))
    };
    let (plain, _) = run("plain", &["--cache", "off"]);
    let (first, said) = run("first", &["--cache", "disk"]);
    assert!(said.contains("24 decoded pictures are in") && said.contains("24 of them written now"), "{said}");
    let (next, said) = run("next", &["--cache", "disk"]);
    assert!(said.contains("24 decoded pictures are in") && !said.contains("written now"), "{said}");
    assert!(plain == first && first == next, "the same bits with and without");
    let (small, said) = run("small", &["--cache", "disk", "--cache-gb", "0.000001"]);
    assert!(
        small == plain && said.contains("24 decoded pictures"),
        "what is there is used whatever the budget: {said}"
    );
    assert_eq!(std::fs::read_dir(&cache).unwrap().count(), 1);
    let wrong = onecycle(&train(place.data(), "x", &["--cache-gb", "0"]));
    assert!(wrong.status.code() == Some(2) && text(&wrong.stderr).contains("--cache-gb"), "{}", text(&wrong.stderr));
}

#[test]
fn a_learning_rate_is_found_and_plotted() {
    let place = Place::new(2, 30);
    let out = place.out.with_file_name("found.png");
    std::fs::create_dir_all(out.parent().unwrap()).unwrap();
    let common = ["lr-find", place.data(), "--arch", "resnet18-w4", "--item-size", "36", "--size", "32", "--bs", "8"];
    let run = |more: &[&str]| {
        onecycle(&[&common[..], &["--out", out.to_str().unwrap(), "--num-it", "40", "--no-stop"], more].concat())
    };
    let one = run(&[]);
    assert!(one.status.success(), "{}", text(&one.stderr));
    let said = text(&one.stdout);
    assert!(said.starts_with("SuggestedLRs(minimum=") && said.contains(", valley="), "{said}");
    assert!(std::fs::read(&out).unwrap().starts_with(b"\x89PNG"));
    // The same seed, the same numbers; several seeds, a plot each and their spread.
    let again = run(&["--json"]);
    let json: serde_json::Value = serde_json::from_slice(&again.stdout).unwrap();
    assert!(said.contains(&format!("valley={:?}", json[0]["valley"].as_f64().unwrap())), "{json} {said}");
    assert_eq!((json[0]["seed"].as_u64(), json[0]["batches"].as_u64()), (Some(42), Some(40)));
    let two = run(&["--seed", "1,2"]);
    let said = text(&two.stdout);
    assert!(said.contains("seed 1: ") && said.contains("seed 2: ") && said.contains("factor between"), "{said}");
    assert!(out.with_file_name("found-1.png").exists() && out.with_file_name("found-2.png").exists());
    for (wrong, flag) in
        [(["--start-lr", "0"], "--start-lr"), (["--end-lr", "1e-9"], "--end-lr"), (["--out", "x.gif"], "--out")]
    {
        let fails = onecycle(&[&common[..], &wrong].concat());
        assert!(fails.status.code() == Some(2) && text(&fails.stderr).contains(flag), "{}", text(&fails.stderr));
    }
}

#[test]
fn several_seeds_make_a_table() {
    let place = Place::new(2, 10);
    let output = place.train(&["--epochs", "1", "--seed", "0,1"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let out = text(&output.stdout);
    assert!(out.contains("\nmean ") && out.contains("\nstd "), "{out}");
    assert!(place.out.join("seed-0/model.safetensors").is_file() && place.out.join("seed-1/report.html").is_file());
}

#[test]
fn split_folders_and_labels_from_names() {
    let place = Place::new(2, 8);
    for part in ["train", "validation"] {
        pictures(&place.data.join(part), 2, 8);
    }
    let output = place.train(&["--train", "train", "--valid", "validation", "--epochs", "1"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let other = place.out.with_file_name("b");
    let args = ["--label-re", r"(.+)_\d+.png$", "--epochs", "1"];
    let output = onecycle(&train(place.data(), other.to_str().unwrap(), &args));
    assert!(output.status.success(), "{}", text(&output.stderr));
}

/// `onecycle doctor`, with the folder in which it finds a stand-in of libcuda.
fn doctor(args: &[&str], libcuda: Option<&Path>) -> Output {
    let mut command = program();
    command.arg("doctor").args(args);
    if let Some(folder) = libcuda {
        command.env("LD_LIBRARY_PATH", folder);
    }
    command.output().expect("the program starts")
}

#[test]
fn doctor_says_what_there_is_and_what_is_missing() {
    let output = doctor(&[], None);
    let out = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for part in ["onecycle\n", "\nprocessor\n", "\nGPUs\n", "\nkernels for a GPU\n", "rustc ", "conv2d.cu", "prim.cuh"]
    {
        assert!(out.contains(part), "{part:?} in\n{out}");
    }
    assert!(!out.contains('\x1b'), "plain where nobody looks");

    let output = doctor(&["--json"], None);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for key in ["onecycle", "build", "processor", "cuda", "kernels", "computes_on"] {
        assert!(json.get(key).is_some(), "{key} in {json}");
    }
    assert!(json["processor"]["cores"].as_u64() >= Some(1) && json["build"]["rustc"].as_str().is_some(), "{json}");
    let files = json["kernels"]["files"].as_array().unwrap();
    assert!(files.iter().any(|file| file["name"] == "batch_norm" && file["entries"].as_u64() > Some(5)), "{json}");
    assert!(files.iter().all(|file| file["standing"]["state"].is_string()), "{json}");

    let gpus = json["cuda"]["gpus"].as_array().unwrap();
    if gpus.is_empty() {
        let fault = &json["cuda"]["fault"];
        let [message, remedy] = ["message", "remedy"].map(|key| fault[key].as_str().unwrap_or_default());
        assert!(!message.is_empty() && !remedy.is_empty(), "{json}");
        assert!(out.contains(&format!("{message} ({remedy})")), "{out}");
        assert_eq!(json["computes_on"], "cpu");
    }
    let output = doctor(&["--device", NO_GPU], None);
    assert_eq!(output.status.code(), Some(1), "a GPU was named, and it is not there");
    assert!(
        text(&output.stdout).contains("cuda:4711 can't be used") && text(&output.stderr).contains("error: cuda:4711")
    );
}

/// A driver that answers: the one that the library's own tests use.
#[cfg(target_os = "linux")]
#[test]
fn doctor_lists_gpus() {
    let folder = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/device/cuda/nvidia/fake_libcuda.c");
    let library = folder.path().join("libcuda.so");
    let cc = Command::new("cc").args(["-shared", "-fPIC", "-std=gnu11", "-o"]).arg(&library).arg(&source).status();
    if !source.is_file() || !cc.is_ok_and(|status| status.success()) {
        return common::skip(format_args!("a fake driver: there is no C compiler, or its source is not there"));
    }
    let output = doctor(&["--json", "--device", "cuda"], Some(folder.path()));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let gpu = &json["cuda"]["gpus"][0];
    if json["kernels"]["origin"] == "nowhere" {
        return common::skip(format_args!("a GPU in the report: no kernels were built in"));
    }
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!((&gpu["device"], &gpu["name"]), (&"cuda:0".into(), &"Fake GPU".into()), "{json}");
    assert!(gpu["memory"]["total"].as_u64() > Some(0) && gpu["fault"].is_null(), "{json}");
    assert_eq!(json["cuda"]["libcuda"], library.to_str().unwrap());
    assert_eq!((&json["computes_on"], &json["cuda"]["fault"]), (&"cuda:0".into(), &serde_json::Value::Null));
    let out = text(&doctor(&[], Some(folder.path())).stdout);
    assert!(out.contains("Fake GPU, compute capability ") && out.contains("cuda:0 (--device auto)"), "{out}");
}

#[test]
fn summary_prints_the_layers() {
    let output = onecycle(&["summary", "--arch", "resnet34", "--classes", "37"]);
    assert!(text(&output.stdout).contains("Total params: 21,830,976"));
    let frozen = onecycle(&["summary", "--arch", "resnet34", "--classes", "37", "--frozen"]);
    assert!(text(&frozen.stdout).contains("Total trainable params: 563,328"));
}

#[test]
fn faults_of_the_data_are_explained() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let fails = |data: &Path, more: &[&str]| {
        let output = onecycle(&train(data.to_str().unwrap(), out.to_str().unwrap(), more));
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{err}");
        assert!(!out.join("model.safetensors").exists());
        std::fs::remove_dir_all(&out).ok();
        err
    };
    let empty = dir.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    assert!(fails(&empty, &[]).contains("empty"));
    assert!(fails(&dir.path().join("nowhere"), &[]).contains("nowhere"));

    let one = dir.path().join("one");
    pictures(&one, 1, 12);
    assert!(fails(&one, &[]).contains("class"), "one class is nothing to tell apart");

    let split = dir.path().join("split");
    pictures(&split.join("train"), 2, 10);
    pictures(&split.join("valid"), 3, 4);
    let err = fails(&split, &["--train", "train", "--valid", "valid"]);
    assert!(err.contains("leaf"), "the class only validation has is named: {err}");

    let odd = dir.path().join("odd");
    pictures(&odd, 2, 10);
    std::fs::copy(odd.join("key/key_1.png"), odd.join("key/holiday.png")).unwrap();
    let err = fails(&odd, &["--label-re", r"(.+)_\d+.png$"]);
    assert!(err.contains("holiday.png") && err.contains("Failed to find"), "{err}");

    let few = dir.path().join("few");
    pictures(&few, 2, 3);
    assert!(fails(&few, &[]).contains("smaller batches"));
}

#[test]
fn bad_pictures_are_named_and_can_be_left_out() {
    let place = Place::new(2, 12);
    let bad = |name: &str, bytes: &[u8]| std::fs::write(place.data.join("key").join(name), bytes).unwrap();
    bad("empty.jpg", b"");
    bad("page.jpg", b"<html><body>404</body></html>");
    let good = std::fs::read(place.data.join("fish/fish_0.png")).unwrap();
    bad("cut.png", &good[..good.len() / 2]);
    let err = place.fails(&["--epochs", "1"]);
    assert!(["empty.jpg", "page.jpg", "cut.png"].iter().any(|name| err.contains(name)), "{err}");
    let output = place.train(&["--epochs", "1", "--skip-bad", "--overwrite"]);
    let err = text(&output.stderr);
    assert!(output.status.success(), "{err}");
    for name in ["empty.jpg", "page.jpg", "cut.png"] {
        assert!(err.contains(name), "{name} was left out and said so: {err}");
        assert!(place.data.join("key").join(name).exists(), "and nothing was deleted");
    }
}

#[test]
fn cut_jpegs_are_used_on_request_and_named_at_the_end() {
    let place = Place::new(2, 12);
    let whole = common::pictures::jpeg();
    std::fs::write(place.data.join("key/cut.jpg"), &whole[..whole.len() * 3 / 4]).unwrap();
    assert!(place.fails(&["--epochs", "1"]).contains("cut.jpg"));
    let output = place.train(&["--epochs", "1", "--truncated", "warn", "--exif", "apply", "--overwrite"]);
    let err = text(&output.stderr);
    assert!(output.status.success(), "{err}");
    assert!(err.contains("cut.jpg: the picture ends early; the missing part is grey"), "{err}");
    let settings = std::fs::read_to_string(place.out.join("settings.toml")).unwrap();
    assert!(settings.contains("exif = \"apply\"") && settings.contains("truncated = \"warn\""), "{settings}");
    // The model turns pictures as it was told; that a cut file is no answer's ground is for its user to decide.
    let model = place.out.join("model.safetensors");
    let cut = place.data.join("key/cut.jpg");
    let output = onecycle(&["predict", model.to_str().unwrap(), cut.to_str().unwrap()]);
    assert!(output.status.code() == Some(1) && text(&output.stderr).contains("ends early"), "{}", text(&output.stderr));
}

#[test]
fn a_model_that_is_none_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let cases: [&[u8]; 3] = [b"", b"{}", b"\x02\0\0\0\0\0\0\0{}"];
    for bytes in cases {
        std::fs::write(&path, bytes).unwrap();
        let output = onecycle(&["predict", path.to_str().unwrap(), "a.png"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains("model.safetensors"), "{}", text(&output.stderr));
    }
}

#[test]
fn a_loss_that_is_no_number_stops_and_saves() {
    let place = Place::new(2, 12);
    let err = place.fails(&["--epochs", "30", "--lr", "100", "--wd", "10"]);
    assert!(err.contains("batch") && err.contains("smaller learning rate"), "{err}");
    assert!(place.out.join("report.html").is_file() && place.out.join("history.csv").exists());
}

#[test]
fn output_that_cannot_be_written_is_named() {
    let place = Place::new(2, 10);
    std::fs::create_dir_all(place.out.parent().unwrap()).unwrap();
    std::fs::write(&place.out, "a file where the directory should be").unwrap();
    assert!(place.fails(&["--epochs", "1"]).contains(place.out()));
}

/// A disk that fills up, played by a limit on file sizes: the model doesn't fit, what was there before stays.
#[cfg(unix)]
#[test]
fn a_full_disk_loses_nothing() {
    let place = Place::new(2, 10);
    assert!(place.train(&["--epochs", "1"]).status.success());
    let before = std::fs::read(place.out.join("model.safetensors")).unwrap();
    let more = ["--epochs", "1", "--overwrite", "--seed", "9", "--checkpoint-every", "0"];
    let args = train(place.data(), place.out(), &more);
    let Some(output) = limited(100, &args) else { return };
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("model.safetensors") && err.contains("free some space"), "{err}");
    assert!(before == std::fs::read(place.out.join("model.safetensors")).unwrap(), "the old model is still there");
    let left = std::fs::read_dir(&place.out)
        .unwrap()
        .filter(|e| e.as_ref().unwrap().path().to_string_lossy().contains(".tmp."));
    assert_eq!(left.count(), 0, "no temporary file is left");
    if Path::new("/dev/full").exists() {
        for told in ["summary", "--help"] {
            let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
            let status = program().arg(told).stdout(full).stderr(Stdio::null()).status().unwrap();
            assert_eq!(status.code(), Some(1), "{told}: results that can't be written are a failure");
        }
    }
}

#[cfg(unix)]
#[test]
fn signals_save_what_there_is() {
    for (signal, number, status) in [("INT", 2, 130), ("TERM", 15, 143)] {
        if common::ignored(signal, number) {
            continue;
        }
        let place = Place::new(2, 12);
        let mut child = program()
            .args(train(place.data(), place.out(), &["--epochs", "5000"]))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        lines.next().unwrap().unwrap(); // the heading
        lines.next().unwrap().unwrap(); // the first epoch
        let kill = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status();
        let Ok(true) = kill.map(|s| s.success()) else {
            child.kill().unwrap();
            child.wait().unwrap();
            common::skip(format_args!("there is no `kill` to send signals with"));
            return;
        };
        std::thread::spawn(move || lines.for_each(drop)); // so that the pipe never fills
        let mut err = String::new();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(status), "{err}");
        assert!(err.contains("stopped on request"), "{err}");
        for name in ["model.safetensors", "history.csv", "report.html", "settings.toml"] {
            assert!(place.out.join(name).is_file(), "{name} after SIG{signal}");
        }
    }
}

#[test]
fn a_closed_pipe_is_quiet() {
    let mut child = program()
        .args(["summary", "--arch", "resnet152"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(err, "");
}
