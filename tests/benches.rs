//! The benches themselves, where nothing is measured: that a row says what it should, that the names on which predictions and PyTorch's
//! side meet ours are the same strings, and that the scripts beside them read what is written.

// Both benches bring the harness themselves.
#![allow(clippy::duplicate_mod)]

mod common;

#[path = "../benches/ops.rs"]
mod ops;
#[path = "../benches/step.rs"]
mod step;

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The sources' folder of benches, or `None` after saying that a test is skipped.
fn folder() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches");
    if !folder.is_dir() {
        common::skip(format_args!("{} is not there", folder.display()));
        return None;
    }
    Some(folder)
}

/// Runs a script of the benches; `None` after saying that there is no Python.
fn python(script: &Path, arguments: &[&Path]) -> Option<Output> {
    match Command::new("python3").arg(script).args(arguments).output() {
        Ok(output) => Some(output),
        Err(e) => {
            common::skip(format_args!("{}: python3: {e}", script.display()));
            None
        }
    }
}

#[test]
fn every_row_of_a_gpu_has_a_prediction() {
    let Some(folder) = folder() else { return };
    let text = std::fs::read_to_string(folder.join("predictions.json")).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    let predicted: BTreeSet<String> = file["rows"].as_object().unwrap().keys().cloned().collect();
    let convolutions = [64, 128, 256].into_iter().flat_map(ops::convolution_names);
    let ours: BTreeSet<String> = convolutions.chain(step::gpu_names()).collect();
    assert_eq!(ours.len(), (29 * 3 + 29 + 28 * 2) * 3 + 3 * 2 * 3);
    assert_eq!(ours.difference(&predicted).collect::<Vec<_>>(), Vec::<&String>::new(), "no prediction for these");
    assert_eq!(predicted.difference(&ours).collect::<Vec<_>>(), Vec::<&String>::new(), "no bench has these");
}

#[test]
fn a_step_is_the_sum_of_its_operations() {
    let Some(folder) = folder() else { return };
    let text = std::fs::read_to_string(folder.join("predictions.json")).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    for name in step::gpu_names().iter().filter(|name| name.starts_with("step/")) {
        let row = &file["rows"][name];
        let sum = |key: &str| -> f64 {
            row["operations"].as_object().unwrap().values().filter_map(|operation| operation[key].as_f64()).sum()
        };
        for key in ["math_flop", "memory_bytes", "tensor", "fused"] {
            let whole = row[key].as_f64().unwrap();
            assert!((sum(key) / whole - 1.0).abs() < 1e-4, "{name}: {key} is {whole}, of its operations {}", sum(key));
        }
    }
}

#[test]
fn predictions_are_what_the_script_writes() {
    let Some(folder) = folder() else { return };
    let Some(output) = python(&folder.join("predict.py"), &[Path::new("--check")]) else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Rows of both benches, by the GPU's path in the emulator, with predictions for two of them.
fn rows(place: &Path) -> Option<Vec<Value>> {
    common::emulated::device(common::emulated::Mode::Plain)?;
    let (file, predictions) = (place.join("ours.jsonl"), place.join("predictions.json"));
    let told = json!({"card": "a card", "dtypes": ["bf16"], "rows": {
        "conv2d/64>64 3x3/1 56 N2/forward": {"floor_us": 1.0, "tensor": 12.5},
        "step/resnet18 N2 32px": {"floor_us": 1.0, "bytes": 3e6, "math_flop": 2e6, "memory_bytes": 1e6, "tensor": 40.0},
    }});
    std::fs::write(&predictions, told.to_string()).unwrap();
    let arguments = |more: &[&str]| {
        let files = ["--json", file.to_str().unwrap(), "--predictions", predictions.to_str().unwrap()];
        [&["--device", "emulator"], &files[..], more].concat().into_iter().map(String::from).collect()
    };
    ops::run(arguments(&["--tiles", "conv2d/64>64 3x3", "batch_norm/relu", "optimizer_step"])).unwrap();
    step::run(arguments(&["--kernels", "tensor", "step/resnet18", "infer/resnet18"])).unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    Some(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

#[test]
fn a_row_has_its_floor_its_roof_and_what_was_predicted() {
    let place = tempfile::tempdir().unwrap();
    let Some(rows) = rows(place.path()) else { return };
    let named = |name: &str| rows.iter().filter(|row| row["bench"] == name).collect::<Vec<_>>();
    let number = |row: &Value, key: &str| row[key].as_f64().unwrap_or_else(|| panic!("{key} in {row}"));
    for row in &rows {
        let (copy, math) = (number(&row["ceilings"], "copy"), number(&row["ceilings"], "math"));
        assert_eq!(row["ceilings"]["instruction"], "mma.sync", "{row}");
        assert!(number(&row["ceilings"], "l2_read") > 0.0 && number(&row["ceilings"], "launch_us") > 0.0, "{row}");
        let (computing, moving) = (number(row, "flop") / math * 1e6, number(row, "bytes") / copy * 1e6);
        let (floor, kind) = match row["bench"] == "step/resnet18 N2 32px" {
            true => (2e6 / math * 1e6 + 1e6 / copy * 1e6, "math + mem"),
            false => (computing.max(moving), if computing > moving { "math: mma.sync" } else { "mem" }),
        };
        assert!(
            (number(row, "floor_us") / floor - 1.0).abs() < 0.01 || floor < 1.0,
            "{floor} us is the floor of {row}"
        );
        assert_eq!(row["floor_kind"], kind, "{row}");
        let fraction = number(row, "floor_us") / number(row, "us");
        assert!((number(row, "fraction") - fraction).abs() <= 0.05 * fraction + 1e-3, "{fraction} in {row}");
    }
    for part in ["forward", "input_gradient", "weight_gradient"] {
        let of_part = named(&format!("conv2d/64>64 3x3/1 56 N2/{part}"));
        let ways: Vec<_> = of_part.iter().map(|row| row["mode"].as_str().unwrap()).collect();
        assert_eq!(ways, ["naive", "tiled", "tensor", "tensor 128x128", "tensor 128x64"]);
        for row in of_part {
            let told = part == "forward" && row["mode"] == "tensor";
            assert_eq!(row["predicted_us"], if told { json!(12.5) } else { Value::Null }, "{row}");
        }
    }
    // A gradient of a weight is f32: 4 bytes a number instead of 2.
    let bytes = |part: &str| number(named(&format!("conv2d/64>64 3x3/1 56 N2/{part}"))[0], "bytes");
    assert_eq!(bytes("weight_gradient") - bytes("forward"), 2.0 * (8 * 3 * 3 * 8) as f64);
    let step = named("step/resnet18 N2 32px");
    assert_eq!(
        (&step[0]["mode"], &step[0]["bytes"], &step[0]["predicted_us"]),
        (&json!("tensor"), &json!(3e6 as u64), &json!(40))
    );
    assert!(number(named("infer/resnet18 N2 32px")[0], "flop") * 2.0 < number(step[0], "flop"));
    assert_eq!((named("batch_norm/relu 64x56 N2/backward").len(), named("optimizer_step adam 21.8M").len()), (1, 1));
}

#[test]
fn both_sides_meet_in_one_table() {
    let Some(folder) = folder() else { return };
    let place = tempfile::tempdir().unwrap();
    let line = |name: &str, mode: &str, us: f64| {
        json!({"bench": name, "mode": mode, "dtype": "bf16", "us": us, "predicted_us": 30.0, "fraction": 0.5})
            .to_string()
    };
    let theirs = |name: &str, mode: &str, us: f64| {
        json!({"bench": name, "mode": mode, "dtype": "bf16", "us": us, "flop": 2e9}).to_string()
    };
    let ours = [line("a", "tiled", 100.0), line("a", "tensor", 40.0), line("only ours", "", 7.0)];
    let theirs = [
        theirs("a", "graph", 80.0),
        theirs("a", "eager", 90.0),
        theirs("only theirs", "eager", 1.0),
        theirs("ceiling/product", "eager", 1000.0),
    ];
    let (a, b) = (place.path().join("ours.jsonl"), place.path().join("theirs.jsonl"));
    std::fs::write(&a, ours.join("\n")).unwrap();
    std::fs::write(&b, theirs.join("\n")).unwrap();
    let Some(output) = python(&folder.join("peers/join.py"), &[&a, &b]) else { return };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    for expected in [
        "| a | bf16 | tensor | 40.0 | graph | 80.0 | 0.50 | 30.0 | 50 |",
        "| only ours | bf16 | - | 7.0 |  |  |  | 30.0 | 50 |",
        "Only PyTorch has 1 more, the first of them only theirs in bf16.",
        "ceiling/product in bf16, PyTorch: 2.00 TFLOP/s",
    ] {
        assert!(text.contains(expected), "{expected}\nis missing in\n{text}");
    }
}

#[test]
fn what_a_profiler_writes_is_read() {
    let Some(folder) = folder() else { return };
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("counters.csv");
    let table = [
        "==PROF== Connected to process 12",
        r#""ID","Process ID","Process Name","Host Name","Kernel Name","Grid Size","dram__bytes.sum","gpu__time_duration.sum""#,
        r#""","","","","","","byte","nsecond""#,
        r#""0","1","bench","127.0.0.1","relu(const f32 *)","(7, 1, 1)","2,000,000","3,000""#,
        r#""1","1","bench","127.0.0.1","conv(Conv, f32 *)","(8, 1, 1)","4000000","60000""#,
        r#""2","1","bench","127.0.0.1","conv(Conv, f32 *)","(8, 1, 1)","6000000","61000""#,
    ];
    std::fs::write(&file, table.join("\n")).unwrap();
    let script = folder.with_file_name("scripts").join("bundle/slowest.py");
    let Some(output) = python(&script, &[&file]) else { return };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    // Launches, microseconds each, percent of all, megabytes of memory; the other counters weren't asked for.
    assert!(words.contains(&vec!["conv", "8,1,1", "2", "60.5", "97.6", "5.0", "-", "-", "-"]), "{text}");
    assert!(words.contains(&vec!["relu", "7,1,1", "1", "3.0", "2.4", "2.0", "-", "-", "-"]), "{text}");
    std::fs::write(&file, "==ERROR== ERR_NVGPUCTRPERM").unwrap();
    assert!(!python(&script, &[&file]).unwrap().status.success());
}
