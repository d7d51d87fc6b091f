//! A trainer inside somebody's program: no command line, no plots, nothing printed by the library.
//!
//!     cargo run --release --no-default-features --example embed
//!
//! The program trains in a thread of its own, hears about every epoch over a channel, exports the model, and then uses the
//! file as another program would: with a [`Predictor`], which knows nothing of training. It has an error type of its own
//! and decides by [`ErrorKind`] what is whose fault.

use onecycle::nn::Arch;
use onecycle::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::{fmt, thread};

/// What this program can fail with.
enum AppError {
    /// The user's pictures are at fault, and the text says which.
    Pictures(String),
    /// Everything else.
    Internal(String),
}

impl From<onecycle::Error> for AppError {
    fn from(e: onecycle::Error) -> AppError {
        match e.kind() {
            ErrorKind::Image | ErrorKind::Data | ErrorKind::Label => AppError::Pictures(e.to_string()),
            _ => AppError::Internal(e.to_string()),
        }
    }
}

impl fmt::Display for AppError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AppError::Pictures(why) => write!(f, "please look at your pictures: {why}"),
            AppError::Internal(why) => write!(f, "something went wrong: {why}"),
        }
    }
}

/// What the rest of the program hears of the training.
struct News {
    epoch: usize,
    of: usize,
    error_rate: Option<f64>,
}

/// Reports each epoch; stops the fit when nobody listens any more.
struct Report(Sender<News>);

impl Callback for Report {
    fn name(&self) -> &'static str {
        "Report"
    }

    // After the recorder, which has order 50: the epoch's row is there then.
    fn order(&self) -> i32 {
        60
    }

    fn after_epoch(&mut self, learn: &mut Learner) -> Signal {
        let news =
            News { epoch: learn.epoch() + 1, of: learn.n_epoch(), error_rate: learn.recorder().last("error_rate") };
        self.0.send(news).map_err(|_| Stop::Cancel(Level::Fit))
    }
}

/// Trains on `pictures` and leaves the model in `file`.
fn train(pictures: &Path, file: &Path, report: Report) -> Result<()> {
    let dls = DataBlock::new((ImageBlock, CategoryBlock))
        .get_y(using_attr(RegexLabeller::new(r"(.+)_\d+.jpg$")?, "name"))
        .splitter(RandomSplitter::seed(42))
        .item_tfms(Resize::new(64))
        .batch_tfms(aug_transforms().size(64).max_warp(0.0).normalize(IMAGENET_STATS))
        .bs(16)
        .dataloaders(pictures)?;
    // An architecture is a plain value: a ResNet-10 with a quarter of the usual width, for small pictures.
    let small =
        || Arch { name: "resnet10-narrow".into(), bottleneck: false, blocks: [1; 4], widths: [16, 32, 64, 128] };
    let mut learn = vision_learner(&dls, small)?.metrics(error_rate).callback(report);
    learn.remove_cb("ProgressCallback"); // there with the feature `cli`; this program speaks for itself
    learn.fit_one_cycle(6, 2e-3)?; // seconds, for show: a model that is any good takes more pictures and more epochs
    learn.export(file)
}

fn run() -> Result<(), AppError> {
    let dir = std::env::temp_dir().join("onecycle-examples");
    let pictures = onecycle::vision::render_quickstart(&dir, 42)?;
    let model = dir.join(format!("embed-{}.safetensors", std::process::id()));

    let (sender, news) = channel();
    let trainer = thread::spawn({
        let (pictures, model) = (pictures.clone(), model.clone());
        move || train(&pictures, &model, Report(sender))
    });
    for News { epoch, of, error_rate } in news {
        println!("epoch {epoch} of {of}: error rate {:.2}", error_rate.unwrap_or(f64::NAN));
    }
    trainer.join().map_err(|_| AppError::Internal("the trainer panicked".into()))??;

    // From here on only the file counts.
    let predictor = Predictor::load(&model)?;
    let some: Vec<PathBuf> = get_image_files(&pictures)?.into_iter().step_by(80).collect();
    for p in predictor.predict_files(some, 8)? {
        let sure = p.probabilities.iter().copied().fold(0.0, f64::max);
        println!("{}: {} ({:.0} %)", p.path.file_name().unwrap_or_default().display(), p.label, 100.0 * sure);
    }
    std::fs::remove_file(&model).map_err(|e| AppError::Internal(format!("{}: {e}", model.display())))
}

fn main() -> std::process::ExitCode {
    match run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e}");
            std::process::ExitCode::FAILURE
        }
    }
}
