//! The program as a user runs it, on folders of small pictures.

use onecycle::vision::{QUICKSTART_CLASSES, quickstart_picture};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onecycle"));
    command.env_remove("ONECYCLE_THREADS").stdin(Stdio::null());
    command
}

pub fn onecycle(args: &[&str]) -> Output {
    program().args(args).output().expect("the program starts")
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `dir/CLASS/CLASS_N.png` for the first `classes` of the quickstart's.
pub fn pictures(dir: &Path, classes: usize, per_class: usize) {
    for (class, name) in QUICKSTART_CLASSES.iter().enumerate().take(classes) {
        std::fs::create_dir_all(dir.join(name)).unwrap();
        for n in 0..per_class {
            let p = quickstart_picture(class, n, 7);
            let image = image::RgbImage::from_raw(p.width as u32, p.height as u32, p.rgb).unwrap();
            image::imageops::thumbnail(&image, 40, 36).save(dir.join(name).join(format!("{name}_{n}.png"))).unwrap();
        }
    }
}

/// `onecycle train` with a network of a few thousand parameters.
pub fn train<'a>(dir: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let fixed = ["train", dir, "--out", out, "--arch", "resnet18-w4", "--item-size", "36", "--size", "32", "--bs", "8"];
    [&fixed[..], more].concat()
}

/// The program where no file may be larger than `blocks` of 1,024 bytes: a disk that fills up. None where there is no bash to set the limit.
pub fn limited(blocks: u32, args: &[&str]) -> Option<Output> {
    let script = format!("ulimit -f {blocks}; trap '' XFSZ; exec \"$@\"");
    let mut command = Command::new("bash");
    command.args(["-c", &script, "bash", env!("CARGO_BIN_EXE_onecycle")]).args(args);
    let output = command.output().ok();
    if output.is_none() {
        super::skip(format_args!("there is no bash to set a limit with"));
    }
    output
}

/// Pictures, and a run directory that isn't there yet.
pub struct Place {
    _dir: tempfile::TempDir,
    pub data: PathBuf,
    pub out: PathBuf,
}

impl Place {
    pub fn new(classes: usize, per_class: usize) -> Place {
        let dir = tempfile::tempdir().unwrap();
        let (data, out) = (dir.path().join("pic tures ä"), dir.path().join("runs/a"));
        pictures(&data, classes, per_class);
        Place { data, out, _dir: dir }
    }

    pub fn data(&self) -> &str {
        self.data.to_str().unwrap()
    }

    pub fn out(&self) -> &str {
        self.out.to_str().unwrap()
    }

    pub fn train(&self, more: &[&str]) -> Output {
        onecycle(&train(self.data(), self.out(), more))
    }

    /// The sentence with which a run failed; it must have status 1.
    pub fn fails(&self, more: &[&str]) -> String {
        let output = self.train(more);
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{err}");
        err
    }
}
