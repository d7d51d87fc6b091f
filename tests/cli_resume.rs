//! `onecycle train --resume`: killed at any moment, stopped by a signal or a full disk, a run ends with the model that it would have had.
//!
//! `ONECYCLE_KILLS` sets how many runs are killed; `scripts/reliability.sh` kills 200.
#![cfg(feature = "cli")]

mod common;

use common::program::{Place, limited, onecycle, program, text, train};
use common::promise;
use onecycle::rng::{Purpose, Rng};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Two epochs of six batches, a checkpoint after each.
const JOB: [&str; 6] = ["--epochs", "2", "--checkpoint-every", "1", "--device", "cpu"];

fn spawn(place: &Place, out: &Path, more: &[&str]) -> Child {
    let args = train(place.data(), out.to_str().unwrap(), more);
    program().args(args).args(JOB).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn model(out: &Path) -> Vec<u8> {
    std::fs::read(out.join("model.safetensors")).unwrap()
}

#[test]
fn killed_at_any_moment_the_run_ends_with_the_same_model() {
    let kills: usize = std::env::var("ONECYCLE_KILLS").map_or(20, |text| text.parse().expect("ONECYCLE_KILLS"));
    let place = Place::new(3, 20);
    let whole = place.out.with_file_name("whole");
    let began = Instant::now();
    assert!(spawn(&place, &whole, &[]).wait().unwrap().success());
    let (length, want) = (began.elapsed(), model(&whole));
    let mut rng = Rng::at(11, Purpose::Picture, 0, 0);
    let (mut killed, mut starts) = (0, 0);
    for run in 0.. {
        if killed >= kills {
            break;
        }
        let out = place.out.with_file_name(format!("run-{run}"));
        loop {
            // The same command every time, as a scheduler gives it.
            let mut child = spawn(&place, &out, &["--resume"]);
            starts += 1;
            let until = Instant::now() + length.mul_f64(rng.uniform());
            let status = loop {
                match child.try_wait().unwrap() {
                    Some(status) => break Some(status),
                    None if killed < kills && Instant::now() >= until => break None,
                    None => std::thread::sleep(Duration::from_millis(1)),
                }
            };
            match status {
                Some(status) => {
                    assert!(status.success(), "run {run} failed");
                    break;
                }
                None => {
                    child.kill().unwrap(); // SIGKILL
                    child.wait().unwrap();
                    killed += 1;
                }
            }
        }
        assert!(model(&out) == want, "run {run} ended with another model");
        let left = std::fs::read_dir(out.join("checkpoints")).unwrap().map(|e| e.unwrap().file_name());
        let odd = |name: &std::ffi::OsString| [".damaged", ".tmp."].iter().any(|s| name.to_string_lossy().contains(s));
        assert_eq!(left.filter(odd).count(), 0);
        std::fs::remove_dir_all(&out).unwrap();
    }
    let result =
        format_args!("{killed} kills in {starts} starts, every run ended with the same model, 0 damaged checkpoints");
    promise("killed (SIGKILL) at random moments", result);
}

#[cfg(unix)]
#[test]
fn a_signal_leaves_a_checkpoint_and_a_word_how_to_go_on() {
    for (signal, number, status) in [("INT", 2, 130), ("TERM", 15, 143), ("HUP", 1, 129)] {
        if common::ignored(signal, number) {
            continue;
        }
        let place = Place::new(2, 20);
        let run = |out: &str, more: &[&str]| {
            let args = train(place.data(), out, &["--epochs", "40", "--cache", "off"]);
            program().args(args).args(more).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let child = run(place.out(), &[]);
        let checkpoints = place.out.join("checkpoints");
        let begun = Instant::now();
        while !checkpoints.join("latest").exists() && begun.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(2));
        }
        let kill = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status();
        if !kill.is_ok_and(|s| s.success()) {
            common::skip(format_args!("there is no `kill` to send signals with, or the training was over"));
            continue;
        }
        let asked = Instant::now();
        let output = child.wait_with_output().unwrap();
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{err}");
        assert!(asked.elapsed() < Duration::from_secs(5), "it took {:?} to stop", asked.elapsed());
        let advice = format!("to go on: onecycle train --resume --out {}", place.out());
        assert!(err.contains(&advice), "{err}");

        // Just that command: the settings are in the run directory.
        let output = onecycle(&["train", "--resume", "--out", place.out()]);
        let err = text(&output.stderr);
        assert!(output.status.success() && err.contains("goes on with epoch"), "{err}");
        let rows = text(&output.stdout).lines().count();
        assert_eq!(rows, 41, "the table has a heading and every epoch");
        let whole = place.out.with_file_name("whole");
        assert!(run(whole.to_str().unwrap(), &[]).wait_with_output().unwrap().status.success());
        assert!(model(&place.out) == model(&whole), "after SIG{signal} the model is another one");
        let epochs = |out: &Path| std::fs::read_to_string(out.join("history.csv")).unwrap().lines().count();
        assert_eq!(epochs(&place.out), epochs(&whole));
    }
}

#[cfg(unix)]
#[test]
fn a_full_disk_keeps_the_last_checkpoint() {
    let place = Place::new(2, 12);
    assert!(place.train(&["--epochs", "1"]).status.success());
    let names = || {
        let entries = std::fs::read_dir(place.out.join("checkpoints")).unwrap().map(|e| e.unwrap().file_name());
        let mut names: Vec<_> = entries.collect();
        names.sort();
        names
    };
    let before = names();
    // The same run with another length is another run, even if it goes on.
    assert!(place.fails(&["--epochs", "2", "--resume"]).contains("the number of epochs was 1"));
    let args = train(place.data(), place.out(), &["--epochs", "1", "--resume", "--checkpoint-every", "1"]);
    let Some(output) = limited(60, &args) else { return };
    // The run was done: its model is written again, and doesn't fit any more.
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("free some space"), "{err}");
    assert_eq!(names(), before);
    let other = place.out.with_file_name("b");
    let output = limited(60, &train(place.data(), other.to_str().unwrap(), &["--epochs", "1"])).unwrap();
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains(".ckpt") && err.contains("free some space"), "{err}");
}

/// Every file of a run directory and what is in it.
fn all(out: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let files = |dir: &Path| -> Vec<_> { std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect() };
    let mut paths = [files(out), files(&out.join("checkpoints"))].concat();
    paths.sort();
    paths.into_iter().filter(|path| path.is_file()).map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

#[test]
fn a_second_process_leaves_the_run_of_the_first_alone() {
    let place = Place::new(2, 12);
    assert!(place.train(&["--epochs", "1"]).status.success());
    let lock = std::fs::File::options().write(true).open(place.out.join("checkpoints/lock")).unwrap();
    lock.lock().unwrap();
    let before = all(&place.out);
    let resumed = ["--epochs", "1", "--resume"];
    let begun = ["--epochs", "1", "--overwrite", "--seed", "7"];
    let without = ["--epochs", "1", "--overwrite", "--seed", "7", "--checkpoint-every", "0"];
    for more in [&resumed[..], &begun, &without] {
        let err = place.fails(more);
        assert!(err.contains("another process") && !err.contains("saving"), "{err}");
        assert!(all(&place.out) == before, "{more:?} has changed the run");
    }
    drop(lock);
    assert!(place.train(&resumed).status.success());
}

#[test]
fn a_picture_that_became_another_one_is_noticed() {
    let place = Place::new(2, 12);
    assert!(place.train(&["--epochs", "1"]).status.success());
    let before = model(&place.out);
    let class = std::fs::read_dir(&place.data).unwrap().next().unwrap().unwrap().path();
    let picture = std::fs::read_dir(class).unwrap().next().unwrap().unwrap().path();
    image::RgbImage::from_pixel(40, 36, image::Rgb([200, 30, 30])).save(picture).unwrap();
    let err = place.fails(&["--epochs", "1", "--resume"]);
    assert!(err.contains("the pictures, their labels or their split are not those of the checkpoint"), "{err}");
    assert!(model(&place.out) == before);
}

#[test]
fn what_fails_at_once_leaves_no_run_directory_in_the_way() {
    let place = Place::new(3, 12);
    assert!(place.fails(&["--epochs", "1", "--pretrained", "nowhere.pth"]).contains("nowhere.pth"));
    let class = std::fs::read_dir(&place.data).unwrap().next().unwrap().unwrap().path();
    std::fs::read_dir(class).unwrap().for_each(|e| std::fs::write(e.unwrap().path(), "no picture").unwrap());
    assert!(place.fails(&["--epochs", "1"]).contains("not a picture"));
    assert!(place.train(&["--epochs", "1", "--skip-bad"]).status.success(), "and no --overwrite is needed");
}

#[test]
fn a_run_out_of_time_says_so_and_goes_on() {
    let place = Place::new(2, 20);
    let whole = place.out.with_file_name("whole");
    let fixed = ["--epochs", "3", "--device", "cpu"];
    assert!(onecycle(&train(place.data(), whole.to_str().unwrap(), &fixed)).status.success());
    let mut stops = 0;
    // So short that each start ends after its first batch.
    let limited = [&fixed[..], &["--resume", "--time-limit", "1e-6"]].concat();
    loop {
        let output = place.train(&limited);
        match output.status.code() {
            Some(75) => stops += 1,
            Some(0) => break,
            other => panic!("{other:?}: {}", text(&output.stderr)),
        }
        assert!(stops < 60, "it doesn't come to an end");
    }
    assert!(stops > 5, "{stops} stops");
    assert!(model(&place.out) == model(&whole));
}

#[test]
fn one_command_goes_on_with_all_seeds() {
    let place = Place::new(2, 12);
    let whole = place.out.with_file_name("whole");
    let fixed = ["--epochs", "1", "--device", "cpu", "--seed", "3,4"];
    assert!(onecycle(&train(place.data(), whole.to_str().unwrap(), &fixed)).status.success());
    let stopped = place.train(&[&fixed[..], &["--time-limit", "1e-6"]].concat());
    assert_eq!(stopped.status.code(), Some(75), "{}", text(&stopped.stderr));
    assert!(text(&stopped.stderr).contains(&format!("to go on: onecycle train --resume --out {}\n", place.out())));
    let output = onecycle(&["train", "--resume", "--out", place.out()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for seed in ["seed-3", "seed-4"] {
        assert!(model(&place.out.join(seed)) == model(&whole.join(seed)), "{seed}");
    }
}

#[test]
fn a_run_goes_on_with_its_own_settings_only() {
    let place = Place::new(2, 12);
    // Where nothing is, it begins.
    let output = place.train(&["--epochs", "1", "--resume"]);
    assert!(
        output.status.success() && text(&output.stderr).contains("there is no checkpoint"),
        "{}",
        text(&output.stderr)
    );
    let settings = std::fs::read_to_string(place.out.join("settings.toml")).unwrap();
    let err = place.fails(&["--epochs", "1", "--resume", "--lr", "0.5"]);
    assert!(err.contains("a setting was `lr = 0.01`, and is `lr = 0.5`"), "{err}");
    let err = place.fails(&["--epochs", "1", "--resume", "--seed", "7"]);
    assert!(err.contains("the seed was 42"), "{err}");
    assert_eq!(std::fs::read_to_string(place.out.join("settings.toml")).unwrap(), settings, "nothing was written over");
    // A run that is done is done again at once, with the same model.
    let before = model(&place.out);
    assert!(place.train(&["--epochs", "1", "--resume", "--workers", "2"]).status.success());
    assert!(model(&place.out) == before);
    // Writing over it begins anew.
    assert!(place.train(&["--epochs", "1", "--overwrite", "--seed", "7"]).status.success());
    assert!(model(&place.out) != before);
    let both = onecycle(&train(place.data(), place.out(), &["--resume", "--overwrite"]));
    assert_eq!(both.status.code(), Some(2));
}
