//! What the program answers before any training: help, wrong usage, configuration files, exit statuses.
#![cfg(feature = "cli")]

use onecycle::ErrorKind;
use onecycle::cli::flags::{Cli, Command as Sub, CommonFlags, Device, LabelRule, TrainFlags};
use onecycle::cli::settings::{LrSlice, TrainSettings};
use std::process::{Command, Output, Stdio};

fn onecycle(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_onecycle")).args(args).output().expect("the program starts")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The settings of `onecycle train <args>`.
fn train(args: &[&str]) -> onecycle::Result<TrainSettings> {
    use clap::Parser;
    let cli = Cli::try_parse_from(["onecycle", "train"].iter().chain(args)).unwrap_or_else(|e| panic!("{e}"));
    match cli.command {
        Some(Sub::Train(flags)) => TrainSettings::resolve(flags, cli.common),
        other => panic!("{other:?}"),
    }
}

fn refused(args: &[&str]) -> String {
    let error = train(args).expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Argument);
    error.to_string()
}

#[test]
fn defaults_are_fastais() {
    let s = train(&["pictures/pets"]).unwrap();
    assert_eq!((s.data.item_size, s.data.size, s.data.min_scale), (460, 224, 0.75));
    assert_eq!((s.data.bs, s.data.val_bs, s.data.valid_pct, s.data.workers), (64, 64, 0.2, None));
    assert_eq!((s.model.arch.as_str(), s.epochs, s.lr, s.lr_slice, s.model.wd), ("resnet34", 5, 1e-2, None, 0.01));
    assert_eq!((s.common.seeds.as_slice(), s.common.device), (&[42][..], Device::Auto));
    assert_eq!(s.out.to_str(), Some("runs/pets"));
    assert_eq!(s.data.label, LabelRule::Parent);
}

#[test]
fn flags_are_understood() {
    let args =
        ["d", "--label-re", r"(.+)_\d+.jpg$", "--bs", "32", "--lr-slice", "1e-6..1e-4", "--seed", "0,1,2", "--device"];
    let s =
        train(&[&args[..], &["cpu", "--skip-bad", "--threads", "4", "--train", "a", "--valid", "b"]].concat()).unwrap();
    assert_eq!((s.data.label, s.data.bs, s.data.val_bs, s.data.skip_bad), (LabelRule::Re, 32, 32, true));
    assert_eq!(s.lr_slice, Some(LrSlice { low: 1e-6, high: 1e-4 }));
    assert_eq!((s.common.seeds, s.common.device, s.common.threads), (vec![0, 1, 2], Device::Cpu, Some(4)));
    let on = |device: &str| train(&["d", "--device", device]).unwrap().common.device;
    assert_eq!(
        ["auto", "cuda", "cuda:0", "cuda:12"].map(on),
        [Device::Auto, Device::Cuda(0), Device::Cuda(0), Device::Cuda(12)]
    );
    let halves = [&["--bf16"][..], &["--bf16=true"], &["--bf16=false"], &[]];
    assert_eq!(halves.map(|f| train(&[&["d"], f].concat()).unwrap().model.bf16), [true, true, false, false]);
}

#[test]
fn wrong_values_are_refused_in_words() {
    let cases: [(&[&str], &str); 19] = [
        (&[], "the folder with the pictures is missing"),
        (&["d", "--bs", "0"], "--bs: 0 is out of range (it takes a number from 1 to 65536)"),
        (&["d", "--epochs", "0"], "--epochs: 0 is out of range"),
        (&["d", "--valid-pct", "1"], "--valid-pct: 1 is out of range (it takes a number more than 0 and less than 1)"),
        (&["d", "--valid-pct", "nan"], "--valid-pct: NaN is out of range"),
        (
            &["d", "--min-scale", "1.5"],
            "--min-scale: 1.5 is out of range (it takes a number more than 0 and at most 1)",
        ),
        (&["d", "--lr", "0"], "--lr: 0 is out of range"),
        (&["d", "--lr", "inf"], "--lr: inf is out of range"),
        (&["d", "--wd=-1"], "--wd: -1 is out of range"),
        (&["d", "--wd", "-1"], "--wd: -1 is out of range"),
        (&["d", "--lr", "-0.5"], "--lr: -0.5 is out of range"),
        (&["d", "--threads", "0"], "--threads: 0 is out of range"),
        (&["d", "--arch", "resnet35"], "--arch: there is no architecture called `resnet35` (there are resnet18"),
        (&["d", "--label", "re"], "--label: the rule `re` needs an expression"),
        (&["d", "--label-re", "(.+"], "--label-re: `(.+` is not a regular expression: unclosed group"),
        (&["d", "--label-re", "x"], "--label-re: `x` has no group"),
        (&["d", "--train", "t"], "--train: a training folder alone"),
        (&["d", "--lr-slice", "1e-4..1e-6"], "--lr-slice: `1e-4..1e-6` falls"),
        (&["d", "--seed", "3,3"], "--seed: 3 is there twice"),
    ];
    for (args, message) in cases {
        let refused = refused(args);
        assert!(refused.starts_with(message), "{args:?}: {refused}");
    }
    let gone = refused(&["--resume", "--out", "nowhere"]);
    assert!(gone.starts_with("nowhere/settings.toml: the folder with the pictures is missing"), "{gone}");
    assert!(refused(&["d", "--lr-slice", "fast"]).contains("write it as 1e-6..1e-4"));
}

#[test]
fn settings_survive_their_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("settings.toml");
    let args = [
        "d é",
        "--label-re",
        r"(.+)_\d+.jpg$",
        "--lr-slice",
        "1e-6..1e-4",
        "--seed",
        "0,7",
        "--workers",
        "3",
        "--out",
        "o",
    ];
    let more = ["d", "--train", "t", "--valid", "v", "--threads", "2", "--skip-bad", "--bf16", "--device", "cuda:1"];
    for args in
        [&["d"][..], &args[..], &more[..], &["d", "--device", "cpu"], &["d", "--exif", "apply", "--truncated", "warn"]]
    {
        let settings = train(args).unwrap();
        std::fs::write(&path, settings.to_toml().unwrap()).unwrap();
        let again = train(&["--config", path.to_str().unwrap()]).unwrap();
        assert_eq!(again, settings, "{}", settings.to_toml().unwrap());
    }
}

#[test]
fn a_flag_wins_over_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.toml");
    let file = "dir = 'pets'\nepochs = 9\nlr-slice = '1e-6..1e-4'\nskip-bad = true\nseed = 7\nlabel-re = '(a)'\ntrain='t'\nvalid='v'\n";
    std::fs::write(&path, file).unwrap();
    let config = ["--config", path.to_str().unwrap()];
    let s = train(&config).unwrap();
    assert_eq!((s.epochs, s.data.skip_bad, s.common.seeds[0], s.data.label), (9, true, 7, LabelRule::Re));
    let flags = [
        "cats",
        "--epochs",
        "2",
        "--lr",
        "0.1",
        "--skip-bad=false",
        "--seed",
        "1",
        "--label",
        "parent",
        "--valid-pct",
        "0.1",
    ];
    let s = train(&[&config[..], &flags[..]].concat()).unwrap();
    assert_eq!((s.dir.to_str(), s.epochs, s.lr, s.lr_slice), (Some("cats"), 2, 0.1, None));
    assert_eq!((s.data.skip_bad, s.common.seeds[0], s.data.label), (false, 1, LabelRule::Parent));
    assert_eq!((s.data.train, s.data.valid_pct), (None, 0.1));
}

#[test]
fn faults_of_the_file_name_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.toml");
    let answer = |text: &str| {
        std::fs::write(&path, text).unwrap();
        let flags = TrainFlags { config: Some(path.clone()), dir: Some("d".into()), ..TrainFlags::default() };
        TrainSettings::resolve(flags, CommonFlags::default()).expect_err(text).to_string()
    };
    assert!(answer("epoch = 3").ends_with("c.toml: unknown key `epoch` (did you mean `epochs`?)"));
    assert!(answer("colour = 3").contains("unknown key `colour` (the keys are dir, "));
    assert!(answer("bs = 0").starts_with("--bs: 0 is out of range"));
    assert!(answer("arch = 'x'\nbs = 'many'").contains("c.toml: "));
    assert!(answer("bs = = 3").contains("c.toml: line 1: "));
    let device = answer("device = 'gpu'");
    assert!(device.contains("`gpu` is no device: the devices are auto, cpu, cuda and cuda:N"), "{device}");
    assert!(answer("seed = 'x'").contains("`seed` takes whole numbers"));
    let missing = train(&["d", "--config", "nowhere.toml"]).unwrap_err();
    assert_eq!((missing.kind(), missing.item()), (ErrorKind::Io, Some("nowhere.toml")));
}

#[test]
fn help_shows_examples_and_goes_to_standard_output() {
    let help = onecycle(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    for line in [
        "quickstart",
        "train",
        "evaluate",
        "predict",
        "show-batch",
        "summary",
        "download",
        "doctor",
        "Examples:",
        "--seed <N,..>",
        "--quiet",
    ] {
        assert!(out(&help).contains(line), "{line}\n{}", out(&help));
    }
    assert!(help.stderr.is_empty());
    for command in ["quickstart", "train", "evaluate", "predict", "show-batch", "summary", "download", "doctor"] {
        let help = onecycle(&[command, "--help"]);
        assert!(out(&help).contains(&format!("onecycle {command}")) && out(&help).contains("Example"), "{command}");
        assert!(!out(&help).contains('\u{1b}'), "no colours in a pipe");
    }
    let train = out(&onecycle(&["train", "--help"]));
    for flag in [
        "--label-re <RE>",
        "--valid-pct <SHARE>",
        "--item-size <PIXELS>",
        "--lr-slice <LOW..HIGH>",
        "--config <FILE.toml>",
        "[default: 460]",
        "[default: resnet34]",
        "Data:",
        "Model and schedule:",
        "--skip-bad",
        "--bf16",
        "--fp16",
        "--device <DEVICE>",
        "cuda:N [default: auto]",
    ] {
        assert!(train.contains(flag), "{flag}\n{train}");
    }
    assert!(out(&onecycle(&["--version"])).starts_with("onecycle 0."));
}

#[test]
fn wrong_usage_exits_with_2() {
    let cases: [&[&str]; 11] = [
        &["fly"],
        &["train", "--wings", "2"],
        &["train", "d", "--bs", "many"],
        &["train", "d", "--bs", "0"],
        &["train", "d", "--lr", "1", "--lr-slice", "1..2"],
        &["predict", "model"],
        &["predict", "model", "a.png", "--device", "gpu"],
        &["quickstart", "--device", "cuda:"],
        &["train", "d", "--device", "cuda:+1"],
        &["show-batch", "d", "--out", "batch.jpg"],
        &["-q", "-v", "summary"],
    ];
    for args in cases {
        let output = onecycle(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", err(&output));
        assert!(err(&output).starts_with("error: ") && output.stdout.is_empty(), "{args:?}: {}", err(&output));
        assert!(!err(&output).contains('\u{1b}') && !err(&output).contains("panicked"));
    }
}

#[test]
fn a_device_that_is_none_is_answered_with_the_list() {
    let output = onecycle(&["train", "d", "--device", "gpu"]);
    assert!(err(&output).contains("the devices are auto, cpu, cuda and cuda:N"), "{}", err(&output));
}

#[test]
#[cfg(unix)]
fn closed_pipes_are_quiet() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_onecycle"));
    let mut child = child.args(["train", "--help"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.code().is_some_and(|c| c == 0), "{:?}", output.status);
    assert!(output.stderr.is_empty(), "{}", err(&output));
}
