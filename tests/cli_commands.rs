//! The commands beside training: what they print, the files they write, and their errors.
#![cfg(feature = "cli")]

mod common;

use common::program::{Place, onecycle, program, text, train};
use std::path::Path;
use std::process::Output;

fn done(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn refused(output: &Output, status: i32) -> String {
    assert_eq!(output.status.code(), Some(status), "{}", text(&output.stderr));
    text(&output.stderr)
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_str(&done(output)).unwrap()
}

fn shown(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Every command's help, as it was looked at last. `ONECYCLE_BLESS=1 cargo test --test cli_commands help` writes what it is now.
#[test]
fn help_texts_are_those_that_were_looked_at() {
    let top = done(&onecycle(&["--help"]));
    let listed = top.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let commands: Vec<&str> = listed.map(|line| line.split_whitespace().next().unwrap()).collect();
    assert!(commands.len() > 15, "{commands:?}");
    let mut texts = vec![("onecycle", top.clone())];
    for command in commands.iter().filter(|command| **command != "help") {
        let help = done(&onecycle(&[command, "--help"]));
        assert!(help.contains("Example"), "{command} has no example");
        texts.push((command, help));
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/help");
    let bless = std::env::var_os("ONECYCLE_BLESS").is_some();
    for (name, help) in &texts {
        assert!(!help.contains('\x1b'), "{name}: no terminal, no colours");
        let file = folder.join(format!("{name}.txt"));
        if bless {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&file, help).unwrap();
        }
        let seen = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(*help == seen, "the help of {name} has changed: look at it, then ONECYCLE_BLESS=1\n{help}");
    }
    let files = std::fs::read_dir(&folder).unwrap().count();
    assert_eq!(files, texts.len(), "a file in tests/help belongs to no command");
}

#[test]
fn completions_are_scripts_of_their_shells() {
    for (shell, mark) in [("bash", "complete -F"), ("zsh", "#compdef onecycle"), ("fish", "complete -c onecycle")] {
        let script = done(&onecycle(&["completions", shell]));
        assert!(
            script.contains(mark) && script.contains("bench-loader") && script.contains("checkpoint-every"),
            "{shell}"
        );
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("script");
        std::fs::write(&file, script).unwrap();
        match std::process::Command::new(shell).arg("-n").arg(&file).output() {
            Ok(parsed) => assert!(parsed.status.success(), "{shell}: {}", text(&parsed.stderr)),
            Err(_) => common::skip(format_args!("there is no {shell} to parse its script")),
        }
    }
    assert!(refused(&onecycle(&["completions", "tcl"]), 2).contains("possible values"));
}

#[test]
fn interpret_export_and_report_read_a_run() {
    let place = Place::new(3, 12);
    let trained = place.train(&["--epochs", "2", "--lr", "5e-3"]);
    done(&trained);
    let model = place.out.join("model.safetensors");

    // Text, page, pictures; and all of it as JSON.
    let told = done(&onecycle(&["interpret", shown(&model), place.data(), "--worst", "4"]));
    assert!(
        told.starts_with("36 pictures, loss ") && told.contains("weighted avg") && told.contains("\nworst: "),
        "{told}"
    );
    let folder = place.out.join("interpret");
    for name in ["interpretation.html", "confusion.png", "top_losses.png"] {
        assert!(folder.join(name).metadata().unwrap().len() > 1000, "{name}");
    }
    let line =
        json(&onecycle(&["interpret", shown(&model), place.data(), "--json", "--out", shown(&place.out.join("i2"))]));
    let evaluated = json(&onecycle(&["evaluate", shown(&model), place.data(), "--json"]));
    assert_eq!(
        (&line["loss"], &line["error_rate"], &line["n"]),
        (&evaluated["loss"], &evaluated["error_rate"], &evaluated["n"])
    );
    assert_eq!(line["classes"].as_array().unwrap().len(), 3);
    let losses: Vec<f64> = line["top_losses"].as_array().unwrap().iter().map(|t| t["loss"].as_f64().unwrap()).collect();
    assert!(losses.len() == 9 && losses.is_sorted_by(|a, b| a >= b), "{losses:?}");

    // A model made of the newest checkpoint is the file that training has written.
    let again = place.out.join("again.safetensors");
    done(&onecycle(&["export", place.out(), "--out", shown(&again)]));
    assert!(std::fs::read(&again).unwrap() == std::fs::read(&model).unwrap());
    let err = refused(&onecycle(&["export", place.out(), "--out", shown(&again)]), 1);
    assert!(err.contains("the file exists already") && err.contains("--overwrite"), "{err}");
    let best = place.out.join("best.safetensors");
    done(&onecycle(&["export", place.out(), "--best", "--out", shown(&best)]));
    done(&onecycle(&["evaluate", shown(&best), place.data()]));
    let newest = std::fs::read_to_string(place.out.join("checkpoints/latest")).unwrap();
    let checkpoint = place.out.join("checkpoints").join(newest.trim());
    done(&onecycle(&["export", shown(&checkpoint), "--out", shown(&again), "--overwrite"]));
    done(&onecycle(&["export", shown(&model), "--out", shown(&again), "--overwrite"]));
    let neighbour = place.out.join("m.safetensors");
    std::fs::write(&neighbour, "of somebody else").unwrap();
    let onnx = onecycle(&["export", place.out(), "--out", shown(&place.out.join("m.onnx"))]);
    assert_eq!(std::fs::read_to_string(&neighbour).unwrap(), "of somebody else");
    match cfg!(feature = "onnx") {
        true => drop(done(&onnx)),
        false => assert!(refused(&onnx, 1).contains("--features onnx")),
    }
    assert!(
        refused(&onecycle(&["export", place.data(), "--out", shown(&place.out.join("x.safetensors"))]), 1)
            .contains("no checkpoint")
    );
    assert!(refused(&onecycle(&["export", "nowhere"]), 1).contains("neither a run directory nor a model"));
    assert!(refused(&onecycle(&["export", place.out(), "--out", "model.bin"]), 2).contains(".safetensors"));

    // Two runs that differ in one setting, and one of several seeds.
    let (other, seeds) = (place.out.with_file_name("other"), place.out.with_file_name("seeds"));
    done(&onecycle(&train(place.data(), shown(&other), &["--epochs", "1", "--lr", "1e-3"])));
    done(&onecycle(&train(place.data(), shown(&seeds), &["--epochs", "1", "--seed", "1,2"])));
    let page = place.out.with_file_name("comparison.html");
    let runs = [place.out(), shown(&other), shown(&seeds)];
    let told = done(&program().arg("report").args(runs).args(["--out", shown(&page)]).output().unwrap());
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 5, "{told}");
    assert!(lines[0].starts_with("run ") && lines[1].starts_with("a ") && lines[3].starts_with("seed-1"), "{told}");
    let html = std::fs::read_to_string(&page).unwrap();
    assert!(html.contains("4 runs") && html.contains(">lr</t") && html.contains(">epochs</t"), "settings that differ");
    assert!(!html.contains(">bs</t") && !html.contains("src=\"http"), "and only those");
    let lines = json(&program().arg("report").args(runs).args(["--json", "--out", shown(&page)]).output().unwrap());
    assert_eq!(lines.as_array().unwrap().len(), 4);
    let history = std::fs::read_to_string(place.out.join("history.csv")).unwrap();
    let last: f64 = history.lines().last().unwrap().split(',').nth(3).unwrap().parse().unwrap();
    assert_eq!(lines[0]["error_rate"].as_f64(), Some(last));
    assert!(refused(&onecycle(&["report", place.data(), "--out", shown(&page)]), 1).contains("history.csv"));
}

/// On a folder, and on drawings where there is no network: the article's steps in its order, its figures, and a report.
#[test]
fn the_article_runs_on_whatever_there_is() {
    let place = Place::new(2, 16);
    let small = ["--arch", "resnet18-w4", "--size", "32", "--item-size", "36", "--epochs", "2", "--device", "cpu"];
    let steps = [
        ">>> dblock.summary(path)",
        ">>> dls.show_batch()",
        ">>> lr_min, lr_steep = learn.lr_find()",
        "(0.010000000149011612, 0.0063095735386013985)  in the article",
        ">>> learn.fine_tune(2, base_lr=1e-2)",
        "0.089986 in the article",
        ">>> learn.fit_one_cycle(2, lr_max=1e-2)",
        "0.096752 in the article",
        "Model frozen up to parameter group #2",
        ">>> learn.unfreeze()",
        "Model unfrozen",
        ">>> learn.fit_one_cycle(2, lr_max=slice(1e-6, 1e-4))",
        "0.073072 in the article",
        ">>> learn.recorder.plot_loss()",
        ">>> learn.fine_tune(6, freeze_epochs=1)",
        "0.050744 in the article",
    ];
    let in_order = |told: &str, steps: &[&str]| {
        let mut rest = told;
        for step in steps {
            let at = rest.find(step).unwrap_or_else(|| panic!("{step} is missing, or not in its place:\n{told}"));
            rest = &rest[at + step.len()..];
        }
    };
    let out = place.out.with_file_name("chapter5");
    let named =
        ["chapter5", "--data", place.data(), "--weights", "none", "--bs", "8", "--resnet50", "--out", shown(&out)];
    let told = done(&program().args(named).args(small).output().unwrap());
    in_order(&told, &steps);
    assert!(told.contains("not as in the article: the weights are fresh"));
    let report = std::fs::read_to_string(out.join("report.html")).unwrap();
    for part in ["0.477657", "0.177980", "Top losses", "Not as in the article", "onecycle chapter5 --data"] {
        assert!(report.contains(part), "{part}");
    }
    for name in ["show_batch.png", "show_batch_unique.png", "lr_find.png", "lr_find_unfrozen.png", "plot_loss.png"] {
        assert!(out.join(name).metadata().unwrap().len() > 1000, "{name}");
    }
    done(&onecycle(&["evaluate", shown(&out.join("model.safetensors")), place.data()]));

    let drawn = place.out.with_file_name("drawn");
    let mut offline = program();
    offline.args(["chapter5", "--out", shown(&drawn)]).args(small);
    offline.env("ONECYCLE_OFFLINE", "1").env("ONECYCLE_HOME", place.out.with_file_name("home"));
    let output = offline.output().unwrap();
    in_order(&done(&output), &steps[..14]);
    assert!(text(&output.stderr).contains("they can't be had"), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("left out on a processor"));

    let err = refused(&onecycle(&["chapter5", "--data", "nowhere", "--out", shown(&place.out.with_file_name("x"))]), 1);
    assert!(err.contains("nowhere"), "{err}");
}

#[test]
fn bench_loader_names_the_limit() {
    let place = Place::new(2, 20);
    let fixed =
        ["bench-loader", place.data(), "--arch", "resnet18-w4", "--item-size", "36", "--size", "32", "--bs", "8"];
    let fast = [&fixed[..], &["--seconds", "0.2"]].concat();
    let told = done(&onecycle(&fast));
    assert!(
        told.contains("load, decoding") && told.contains("train resnet18-w4, 32 px") && told.contains("the limit is "),
        "{told}"
    );
    let line = json(&onecycle(&[&fast[..], &["--json"]].concat()));
    for rate in ["load", "cached", "compute"] {
        assert!(line[rate].as_f64().unwrap() > 0.0, "{rate}: {line}");
    }
    assert!(["loading", "computing"].contains(&line["limit"].as_str().unwrap()));
    assert!(
        refused(&onecycle(&[&fixed[..], &["--seconds", "0"]].concat()), 2).contains("--seconds: 0 is out of range")
    );
}

#[test]
fn a_table_or_a_choice_of_classes_is_a_data_set_too() {
    let place = Place::new(3, 10);
    let mut rows = String::from("label,file,held out\n");
    let mut classes = Vec::new();
    for class in std::fs::read_dir(&place.data).unwrap().map(|e| e.unwrap()) {
        let name = class.file_name().into_string().unwrap();
        let mut files: Vec<_> = std::fs::read_dir(class.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        files.sort();
        for (i, file) in files.iter().enumerate() {
            let stem = Path::new(file).file_stem().unwrap().to_str().unwrap();
            let held = if i < 2 { "True" } else { "False" };
            rows += &format!("{name}s,{name}/{stem},{held}\n");
        }
        classes.push(name);
    }
    let csv = place.out.parent().unwrap().with_file_name("labels.csv");
    std::fs::write(&csv, rows).unwrap();
    let table = ["--csv", shown(&csv), "--x", "file", "--y", "0", "--suff", ".png", "--valid-col", "held out"];
    let output = place.train(&[&table[..], &["--epochs", "1", "-v"]].concat());
    done(&output);
    let report = std::fs::read_to_string(place.out.join("report.html")).unwrap();
    assert!(
        report.contains("24 training and 6 validation pictures in 3 classes")
            && report.contains(&format!("{}s", classes[0]))
    );
    // The settings repeat it.
    let again = place.out.with_file_name("again");
    let settings = place.out.join("settings.toml");
    done(&onecycle(&["train", "--config", shown(&settings), "--out", shown(&again)]));
    let model = |out: &Path| std::fs::read(out.join("model.safetensors")).unwrap();
    assert!(model(&place.out) == model(&again));
    let checked = json(&onecycle(&[&["check", place.data(), "--json", "--bs", "8"][..], &table].concat()));
    assert_eq!(checked["images"], 30);

    assert!(refused(&place.train(&["--csv", shown(&csv), "--x", "name", "--overwrite"]), 1).contains("name"));
    assert!(refused(&place.train(&["--x", "file"]), 2).contains("--csv"));
    assert!(refused(&place.train(&["--csv", shown(&csv), "--label-re", "(x)"]), 2).contains("--csv"));

    let two = format!("{},{}", classes[0], classes[2]);
    let out = place.out.with_file_name("two");
    done(&onecycle(&train(place.data(), shown(&out), &["--epochs", "1", "--classes", &two])));
    let report = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(report.contains("16 training and 4 validation pictures in 2 classes"), "{report}");
    let err = refused(&onecycle(&train(place.data(), shown(&out), &["--overwrite", "--classes", "unicorn"])), 1);
    assert!(err.contains("no picture is of the class `unicorn`"), "{err}");
}
