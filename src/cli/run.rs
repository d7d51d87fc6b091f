//! A training run from settings to a filled run directory. `train` and `quickstart` both end here.

use super::flags::{self, CacheRule};
use super::settings::{ModelSettings, TrainSettings};
use super::{Context, data, interpretation, transfer::watched};
use crate::data::DataLoaders;
use crate::fs::{create_dir, size, write_atomic};
use crate::learner::checkpoint::clear_checkpoints;
use crate::learner::{
    Checkpoint, FineTune, FitOptions, Interpretation, Learner, ProgressCallback, Row, StopOnFlag, Table, Verbosity,
    error_rate, vision_learner_on,
};
use crate::nn::{Arch, Pretrained};
use crate::optim::LrMax;
use crate::plot::report::Report;
use crate::plot::{self, Captioned};
use crate::vision::ShowBatch;
use crate::{Device, Result, device};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file of a run directory with a row for each epoch.
pub const HISTORY: &str = "history.csv";
/// The file of a run directory that says where the run took place.
pub const ENVIRONMENT: &str = "environment.toml";

/// Uses as many threads as the settings say.
pub fn use_threads(threads: Option<usize>) {
    if let Some(n) = threads {
        device::cpu::set_threads(n);
    }
}

/// The device that the settings name; with `auto` the first GPU that can be used, else the CPU, and `-v` says why.
///
/// # Errors
/// When a GPU is named that can't be used: what is missing and what to do about it.
pub fn device(named: flags::Device, context: &Context) -> Result<Device> {
    match named {
        flags::Device::Cpu => Ok(Device::Cpu),
        flags::Device::Cuda(number) => Device::cuda(number),
        flags::Device::Auto => Ok(Device::first_gpu().unwrap_or_else(|why| {
            context.console.detail(&format!("computing on the CPU, since no GPU can be used: {why}"));
            Device::Cpu
        })),
    }
}

/// [`device()`] for a training, which is told when half precision makes it slower.
///
/// # Errors
/// As [`device()`].
pub fn training_device(named: flags::Device, half: bool, context: &Context) -> Result<Device> {
    let device = device(named, context)?;
    if half && device == Device::Cpu {
        context
            .console
            .note("the CPU computes in f32 and rounds to half precision: slower than f32, for trying it out");
    }
    Ok(device)
}

/// Trains once, with one of the seeds, and fills `out`. Returns the last row's (train_loss, valid_loss, error_rate).
///
/// # Errors
/// When training fails or `out` can't be written. What there is by then is saved first: model, history, report.
pub fn train_once(
    whole: &TrainSettings,
    seed: u64,
    out: &Path,
    device: Device,
    context: &Context,
) -> Result<[Option<f64>; 3]> {
    let mut settings = whole.clone();
    settings.common.seeds = vec![seed];
    let (settings, toml) = (&settings, settings.to_toml()?);
    let dls = data::load(&settings.data, &settings.dir, seed, context)?;
    let mut learn = learner(&settings.model, &dls, device, context)?;
    let on_gpu = settings.data.cache == CacheRule::Gpu;
    if on_gpu && device == Device::Cpu {
        context.console.note("--cache gpu: there is no GPU here, so decoded pictures are kept in memory");
    }
    learn = learn.cache_on_gpu(on_gpu);

    let batch = interpretation::named_below(&settings.dir, dls.batch_cells(&ShowBatch::default())?);

    // Weights and the first pictures are good: only now something is left behind.
    create_dir(out)?;
    let claimed = claim(settings, out, context)?;
    plot::picture_grid(&batch, None, None)?.save(out.join("batch.png"))?;
    let learn = &mut resumable(learn, claimed, settings, out, context)?;
    // Not before it is known that they are those of the run that goes on.
    write_text(&out.join(TrainSettings::FILE), &toml)?;
    if whole.common.seeds.len() > 1 {
        // What goes on with all of them, whichever is the one that is killed.
        write_text(&whole.out.join(TrainSettings::FILE), &whole.to_toml()?)?;
    }
    context.console.detail(&format!("training on {}", device_name(device)));
    let lr_max: LrMax = match &settings.lr_slice {
        Some(slice) => LrMax::Between(slice.low, slice.high),
        None => LrMax::All(settings.lr),
    };
    let trained = match settings.freeze_epochs {
        Some(freeze_epochs) => {
            let recipe = FineTune { base_lr: settings.lr, freeze_epochs, ..FineTune::default() };
            learn.fine_tune_with(settings.epochs, &recipe, FitOptions::default())
        }
        None => learn.fit_one_cycle(settings.epochs, lr_max),
    };
    if let Some(why) = learn.cache_refused() {
        context.console.note(&why);
    }
    if let Err(e) = &trained {
        // A loss that is no number says that the weights are worth nothing, but the curve shows where it went wrong.
        context.console.note(&format!("training stopped; saving what there is in {}", out.display()));
        if settings.checkpoint_every != Some(0) {
            context.console.note(&format!("to go on: onecycle train --resume --out {}", settings.out.display()));
        }
        context.console.detail(&format!("because: {e}"));
    }
    let saved = save(learn, settings, seed, out, batch, trained.is_ok(), context);
    trained?;
    saved?;
    let last = |name: &str| learn.recorder().last(name);
    Ok([last("train_loss"), last("valid_loss"), last("error_rate")])
}

/// The run directory for this process alone, before a file in it is changed: of two that are started in one, the second must neither
/// clear the checkpoints of the first nor write its model over. None for a run without checkpoints in a directory without any.
fn claim(settings: &TrainSettings, out: &Path, context: &Context) -> Result<Option<Checkpoint>> {
    let dir = out.join("checkpoints");
    if settings.checkpoint_every == Some(0) && !dir.exists() {
        return Ok(None);
    }
    let checkpoint = Checkpoint::new(&dir).config(settings.binding()?).on_flag(context.interrupt.flag());
    let checkpoint = match settings.checkpoint_every {
        Some(n) if n > 0 => checkpoint.every(n),
        _ => checkpoint,
    };
    checkpoint.claim().map(Some)
}

/// With checkpoints in the run directory, and where the run was when it was interrupted, if it is to go on.
fn resumable(
    mut learn: Learner,
    claimed: Option<Checkpoint>,
    settings: &TrainSettings,
    out: &Path,
    context: &Context,
) -> Result<Learner> {
    let (dir, binding) = (out.join("checkpoints"), settings.binding()?);
    if let Some(checkpoint) = claimed.filter(|_| settings.checkpoint_every != Some(0)) {
        learn.add_cb(checkpoint);
    }
    if let Some(minutes) = settings.time_limit {
        learn.add_cb(context.interrupt.deadline(context.began + Duration::from_secs_f64(60.0 * minutes)));
    }
    if !settings.resume {
        // Of the run that is written over.
        clear_checkpoints(&dir)?;
        return Ok(learn);
    }
    match learn.resume_with(&dir, Some(&binding))? {
        Some(resumed) => {
            resumed.warnings.iter().for_each(|warning| context.console.note(&format!("note: {warning}")));
            context.console.note(&resumed.to_string());
        }
        None => context.console.note(&format!("there is no checkpoint in {}: beginning", dir.display())),
    }
    Ok(learn)
}

/// A learner as the settings describe it, which shows its progress and stops when it is told to.
///
/// # Errors
/// The weights to begin with can't be had, or the device has too little memory.
pub fn learner(settings: &ModelSettings, dls: &DataLoaders, device: Device, context: &Context) -> Result<Learner> {
    let arch = Arch::by_name(&settings.arch)?;
    let body = pretrained(settings, &arch, context)?;
    let mut learn = vision_learner_on(dls, || arch, device)?.metrics(error_rate).wd(settings.wd);
    if let Some(body) = body {
        context.console.note(&format!("weights from {body}"));
        // Dropped at the end of this block: kept through the training, it would be the weights once more.
        learn = learn.with_pretrained(&body, true)?;
    }
    if settings.bf16 {
        learn = learn.to_bf16()?;
    } else if settings.fp16 {
        learn = learn.to_fp16()?;
    }
    learn.remove_cb("ProgressCallback");
    let quiet = context.console.verbosity() == super::output::Verbosity::Quiet;
    learn.add_cb(ProgressCallback::new(if quiet { Verbosity::TableOnly } else { Verbosity::Full }));
    learn.add_cb(StopOnFlag::new(context.interrupt.flag()));
    Ok(learn)
}

/// The weights to begin with, fetched where they have to be; none: fresh ones.
fn pretrained(settings: &ModelSettings, arch: &Arch, context: &Context) -> Result<Option<Pretrained>> {
    let Some(weights) = settings.body_weights() else { return Ok(None) };
    watched(context, |watch| weights.load_watched(arch, watch)).map(Some)
}

/// Writes everything that a run leaves behind. An unfinished run is not measured again: its report has what the epochs had.
fn save(
    learn: &Learner,
    settings: &TrainSettings,
    seed: u64,
    out: &Path,
    batch: Vec<Captioned>,
    finished: bool,
    context: &Context,
) -> Result<()> {
    learn.export(out.join("model.safetensors"))?;
    let recorder = learn.recorder();
    recorder.save_csv(&out.join(HISTORY))?;
    write_text(&out.join(ENVIRONMENT), &environment_toml(learn, seed))?;
    recorder.plot_loss().save(out.join("loss.png"))?;
    recorder.plot_sched().save(out.join("schedule.png"))?;
    let name = settings.dir.file_name().unwrap_or(settings.dir.as_os_str()).to_string_lossy();
    // The folder in the cache has a name for its versions, not for people.
    let name = if name.starts_with("quickstart-") { "the quickstart's pictures" } else { &name };
    let title = format!("{} on {name}", settings.model.arch);
    let dls = learn.dls();
    let subtitle = format!(
        "{} training and {} validation pictures in {} classes, {} px",
        dls.train.n_items(),
        dls.valid.n_items(),
        dls.c(),
        settings.data.size
    );
    let table = Table::new(learn.metric_names());
    // Of all fits: fine-tuning is two.
    let history = recorder.history();
    let rows: Vec<Vec<String>> = history.iter().map(|r| table.cells(r.epoch, &r.values(), r.seconds)).collect();
    let mut report = Report::new(title, subtitle);
    if !finished {
        report = report.headline("status", "stopped", "before its last epoch");
    }
    if let Some(last) = history.last() {
        let seconds: f64 = history.iter().map(|r| r.seconds).sum();
        let of = format!("of {} validation pictures", dls.valid.n_items());
        if let Some(e) = last.get("error_rate") {
            report = report.headline("error rate", format!("{:.1} %", e * 100.0), &of);
        }
        if let Some(loss) = last.get("valid_loss") {
            report = report.headline("validation loss", format!("{loss:.3}"), "cross entropy");
        }
        let policy = if settings.model.pretrained.is_some() { "the head alone, then everything" } else { "one cycle" };
        report = report.headline("epochs", history.len().to_string(), policy).headline(
            "time",
            crate::learner::format_time(seconds),
            "training and validation",
        );
    }
    report = report.epochs(table.names(), &rows).batch(&batch);
    report = report.learning_curve(&recorder.plot_loss()).schedule(&recorder.plot_sched());
    if finished && dls.valid.n_items() > 0 {
        report = interpretation::sections(&Interpretation::from_learner(learn)?, report, &settings.dir, out, 9)?;
    }
    let model = out.join("model.safetensors");
    let report = report.settings(&settings.to_toml()?).environment(&environment(learn, seed)).usage(&[
        ("label pictures", format!("onecycle predict {} cat.jpg dog.jpg", model.display())),
        ("measure it on another folder", format!("onecycle evaluate {} {}", model.display(), settings.dir.display())),
        ("repeat this run", format!("onecycle train --config {} --out again", out.join("settings.toml").display())),
    ]);
    report.save(out.join("report.html"))?;
    let mut log: Vec<String> =
        environment(learn, seed).into_iter().map(|(name, value)| format!("{name}: {value}")).collect();
    log.push(table.header());
    log.extend(history.iter().map(|r| table.row(r.epoch, &r.values(), r.seconds)));
    let waiting = waiting(history);
    log.extend(waiting.clone());
    log.push(if finished { "finished" } else { "stopped early" }.into());
    write_text(&out.join("log.txt"), &(log.join("\n") + "\n"))?;
    waiting.iter().for_each(|line| context.console.note(line));
    tell_remarks(&dls.opener().remarks(), context);
    tell_if_loader_bound(learn, context);
    Ok(())
}

/// Names and values that say where a run took place.
fn environment(learn: &Learner, seed: u64) -> Vec<(String, String)> {
    let pair = |name: &str, value: String| (name.to_string(), value);
    let mut all = vec![
        pair("onecycle", env!("CARGO_PKG_VERSION").into()),
        pair("device", device_name(learn.device())),
        pair("weights", learn.pretrained_from().map_or("fresh".into(), String::from)),
        pair("precision", learn.dtype().to_string()),
    ];
    if let Device::Cuda(gpu) = learn.device() {
        all.push(pair("memory of tensors at most", size(gpu.usage().1 as u64)));
    }
    all.extend([
        pair("threads", device::cpu::thread_count().to_string()),
        pair("vector instructions", format!("{:?}", device::cpu::simd::level()).to_lowercase()),
        pair("system", format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)),
        pair("seed", seed.to_string()),
    ]);
    all
}

/// [`environment`] as a file for other programs.
fn environment_toml(learn: &Learner, seed: u64) -> String {
    let line = |(name, value): (String, String)| format!("{} = {}\n", name.replace(' ', "-"), toml::Value::from(value));
    environment(learn, seed).into_iter().map(line).collect()
}

/// `cpu, AMD EPYC 9754`, `cuda:0, NVIDIA H200, driver 575.57.08, CUDA 12.9`.
fn device_name(device: Device) -> String {
    match device {
        Device::Cuda(gpu) => {
            let of = gpu.description();
            format!("{device}, {}, driver {}", of.name, of.driver)
        }
        Device::Cpu => match device::cpu::model_name() {
            Some(name) => format!("{device}, {name}"),
            None => device.to_string(),
        },
    }
}

/// How much of each epoch went into waiting for the loader; nothing to say without an epoch.
fn waiting(rows: &[Row]) -> Option<String> {
    /// Epochs that are told one by one.
    const EACH: usize = 10;
    let shares: Vec<f64> =
        rows.iter().map(|r| if r.seconds > 0.0 { 100.0 * r.waited / r.seconds } else { 0.0 }).collect();
    let mut sorted = shares.clone();
    sorted.sort_by(f64::total_cmp);
    let percent = |share: &f64| format!("{share:.0} %");
    match (shares.as_slice(), sorted.as_slice()) {
        ([], _) | (_, []) => None,
        ([only], _) => Some(format!("waiting for pictures: {} of the epoch's time", percent(only))),
        (shares, _) if shares.len() <= EACH => {
            let all: Vec<String> = shares.iter().map(percent).collect();
            Some(format!("waiting for pictures: {} of the epochs' time", all.join(", ")))
        }
        ([first, ..], [.., worst]) => Some(format!(
            "waiting for pictures: {} of the first epoch's time, {} of the median one's, {} of the worst one's",
            percent(first),
            percent(&sorted[sorted.len() / 2]),
            percent(worst)
        )),
    }
}

/// Files that were used although something is wrong with them: the first few, or with `-v` all.
fn tell_remarks(remarks: &[(PathBuf, String)], context: &Context) {
    const FIRST: usize = 5;
    for (i, (path, remark)) in remarks.iter().enumerate() {
        let line = format!("{}: {remark}", path.display());
        if i < FIRST { context.console.note(&line) } else { context.console.detail(&line) }
    }
    if remarks.len() > FIRST && context.console.verbosity() < super::output::Verbosity::Verbose {
        context.console.note(&format!("and {} more such files; `onecycle check` lists them", remarks.len() - FIRST));
    }
}

/// A user whose training waits for pictures should hear it, and what to do.
fn tell_if_loader_bound(learn: &Learner, context: &Context) {
    let rows = learn.recorder().history();
    let (waited, seconds) = rows.iter().fold((0.0, 0.0), |(w, s), r| (w + r.waited, s + r.seconds));
    if seconds > 5.0 && waited > 0.1 * seconds {
        context.console.note(&format!(
            "loader-bound: {:.0} % of the time went into waiting for pictures; try more --workers, a smaller --item-size, \
             or pictures resized on disk",
            100.0 * waited / seconds
        ));
    }
}

fn write_text(path: &Path, text: &str) -> Result<()> {
    write_atomic(path, |w| w.write_all(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_told_by_epoch_while_that_can_be_read() {
        let rows = |waited: &[f64]| -> Vec<Row> {
            let row = |(epoch, waited): (usize, &f64)| Row {
                epoch,
                train_loss: None,
                valid: None,
                names: Vec::new(),
                seconds: 50.0,
                waited: *waited,
            };
            waited.iter().enumerate().map(row).collect()
        };
        assert_eq!(waiting(&[]), None);
        let say = |waited: &[f64]| waiting(&rows(waited)).unwrap();
        assert_eq!(say(&[6.0]), "waiting for pictures: 12 % of the epoch's time");
        assert_eq!(say(&[6.0, 1.5, 1.0]), "waiting for pictures: 12 %, 3 %, 2 % of the epochs' time");
        let mut many = vec![1.0; 20];
        (many[0], many[7]) = (6.0, 20.0);
        assert_eq!(
            say(&many),
            "waiting for pictures: 12 % of the first epoch's time, 2 % of the median one's, 40 % of the worst one's"
        );
    }
}
