//! `onecycle quickstart`: makes its pictures, trains on them, prints the table, writes the report, the plots and the model.

use crate::Result;
use crate::cli::data::ARTICLES_LABEL_RE;
use crate::cli::flags::{CacheRule, ExifRule, LabelRule, TruncatedRule};
use crate::cli::settings::{DataSettings, ModelSettings, QuickstartSettings, TrainSettings};
use crate::cli::{Context, data, run, run_dir};
use crate::vision::render_quickstart;
use std::path::{Path, PathBuf};

/// Epochs that bring the thin ResNet-18 well below 10 % on these pictures.
const EPOCHS: usize = 20;

/// ResNet-18 with half the channels: a quarter of the arithmetic, so that two cores are done in about a minute.
const ARCH: &str = "resnet18-w32";

/// The pictures don't change with the run's seed: it is the training that a seed repeats.
pub const PICTURES_SEED: u64 = 42;

/// Runs the command.
///
/// # Errors
/// When the device cannot be used, the run directory exists already or cannot be written, or the training fails.
pub fn run(settings: &QuickstartSettings, context: &Context) -> Result<()> {
    run::use_threads(settings.common.threads);
    let device = run::training_device(settings.common.device, settings.bf16, context)?;
    let out = free_directory(settings)?;
    let say = |line: &str| context.console.result(line);
    say("onecycle quickstart: pictures, a DataBlock, a thin ResNet-18 from scratch, one cycle\n")?;
    let dir = render_quickstart(&data::cache_dir(), PICTURES_SEED)?;
    say(&format!("pictures: {}\n", dir.display()))?;

    let train = train_settings(settings, dir.clone(), out.clone());
    say(data::data_block(&train.data, &dir, train.common.seeds[0])?.summary(&dir)?.trim_end())?;
    say("")?;
    for (seed, out) in run_dir::per_seed(&out, &train.common) {
        run::train_once(&train, seed, &out, device, context)?;
    }
    let first = run_dir::per_seed(&out, &train.common).remove(0).1;
    let model = first.join("model.safetensors");
    let one = dir.join("mushroom_1.jpg");
    say(&format!("\nreport    {}", first.join("report.html").display()))?;
    say(&format!("pictures  {}", first.join("batch.png").display()))?;
    for name in ["loss.png", "schedule.png", "confusion.png", "top_losses.png"] {
        say(&format!("          {}", first.join(name).display()))?;
    }
    say(&format!("model     {}", model.display()))?;
    say("\nThree commands to try next:")?;
    say(&format!("  onecycle predict {} {}", model.display(), one.display()))?;
    say(&format!("  onecycle evaluate {} {} --label-re '{ARTICLES_LABEL_RE}'", model.display(), dir.display()))?;
    say("  onecycle train DIR                 a folder of your own pictures, one folder per class")?;
    say("(`onecycle` is target/release/onecycle here, or `cargo run --release --`)")
}

/// What the quickstart trains: small pictures, so that two cores are enough.
fn train_settings(settings: &QuickstartSettings, dir: PathBuf, out: PathBuf) -> TrainSettings {
    TrainSettings {
        dir,
        out,
        overwrite: settings.overwrite,
        resume: false,
        time_limit: None,
        checkpoint_every: Some(0), // it is over before it is worth going on with
        data: DataSettings {
            label: LabelRule::Re,
            label_re: Some(ARTICLES_LABEL_RE.into()),
            csv: None,
            x: None,
            y: None,
            suff: None,
            valid_col: None,
            classes: None,
            train: None,
            valid: None,
            valid_pct: 0.2,
            item_size: 72,
            size: 64,
            min_scale: 0.75,
            bs: 32,
            val_bs: 64,
            workers: None,
            cache: CacheRule::Auto,
            cache_gb: None,
            skip_bad: false,
            exif: ExifRule::Ignore,
            truncated: TruncatedRule::Error,
        },
        model: ModelSettings {
            arch: ARCH.into(),
            pretrained: None,
            weights: None,
            wd: 0.01,
            bf16: settings.bf16,
            fp16: false,
        },
        freeze_epochs: None,
        epochs: settings.epochs.unwrap_or(EPOCHS),
        lr: 5e-3,
        lr_slice: None,
        common: settings.common.clone(),
    }
}

/// `runs/quickstart`, and when that is there already `runs/quickstart-2` and so on: the first command a user ever types
/// must also work the second time. A directory that the user names is treated as everywhere else.
fn free_directory(settings: &QuickstartSettings) -> Result<PathBuf> {
    let named = settings.out != Path::new(QuickstartSettings::OUT) || settings.overwrite;
    let taken = |out: &Path| std::fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some());
    let mut out = settings.out.clone();
    for n in 2.. {
        if named || !taken(&out) {
            break;
        }
        out = PathBuf::from(format!("{}-{n}", QuickstartSettings::OUT));
    }
    run_dir::prepare(&out, settings.overwrite)?;
    Ok(out)
}
