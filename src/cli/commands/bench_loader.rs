//! `onecycle bench-loader`: whether loading pictures or computing is the limit of a training, and what to change.
//!
//! Three rates, each alone and in pictures a second: what the loader delivers when every picture is decoded, what it delivers when they come from
//! memory, and what the network is trained on when batches are there already. A training runs at the lowest of those that apply: the
//! first in its first epoch, the second from then on if the pictures fit into memory.

use crate::autograd::backward;
use crate::cli::flags::CacheRule;
use crate::cli::settings::{BenchLoaderSettings, DataSettings};
use crate::cli::{Context, data, run};
use crate::data::{DataLoaders, Subset};
use crate::nn::Module;
use crate::{Device, Error, ErrorKind, Result};
use serde_json::json;
use std::time::{Duration, Instant};

/// A loader that isn't faster than this, as a share of the network's rate, holds it up now and then.
const MARGIN: f64 = 1.2;

/// Runs the command.
///
/// # Errors
/// When the data can't be trained on, or the device can't be used.
pub fn run(settings: &BenchLoaderSettings, context: &Context) -> Result<()> {
    run::use_threads(settings.common.threads);
    let device = run::training_device(settings.common.device, settings.model.is_half(), context)?;
    let (seed, length) = (settings.common.seeds[0], Duration::from_secs_f64(settings.seconds));
    let load = |data: &DataSettings| data::load(data, &settings.dir, seed, context);
    let without = DataSettings { cache: CacheRule::Off, ..settings.data.clone() };
    let dls = load(&without)?;
    let workers = dls.train.workers();

    context.console.note("loading, every picture decoded");
    let decoded = loading(&dls, length, context)?;
    let more =
        (workers > 1).then(|| load(&DataSettings { workers: Some(workers / 2), ..without.clone() })).transpose()?;
    let half = more.map(|dls| loading(&dls, length, context)).transpose()?;
    context.console.note("loading from memory");
    let cached = match settings.data.cache {
        CacheRule::Off => None,
        _ => {
            let dls = load(&DataSettings { cache: CacheRule::Auto, ..without })?;
            fill(&dls, length, context)?;
            Some(loading(&dls, length, context)?)
        }
    };
    context.console.note("computing");
    let compute = computing(settings, &dls, device, length, context)?;

    let rates = Rates { decoded, half, cached, compute, workers, device };
    let (limit, advice) = rates.verdict();
    if settings.json {
        let line = json!({
            "load": decoded,
            "cached": cached,
            "compute": compute,
            "workers": workers,
            "device": device.to_string(),
            "limit": limit,
            "advice": advice,
        });
        return context.console.result(&line.to_string());
    }
    let say = |what: String, rate: f64| context.console.result(&format!("{what:42}{rate:8.0} pictures/s"));
    say(format!("load, decoding, {workers} workers"), decoded)?;
    if let Some(half) = half {
        say(format!("load, decoding, {} workers", workers / 2), half)?;
    }
    cached.map_or(Ok(()), |rate| say(format!("load from memory, {workers} workers"), rate))?;
    say(format!("train {}, {} px, on {device}", settings.model.arch, settings.data.size), compute)?;
    context.console.result(&format!("\nthe limit is {limit}"))?;
    advice.iter().try_for_each(|line| context.console.result(&format!("  {line}")))
}

/// What was measured, in pictures a second.
struct Rates {
    decoded: f64,
    /// With half the workers.
    half: Option<f64>,
    cached: Option<f64>,
    compute: f64,
    workers: usize,
    device: Device,
}

impl Rates {
    /// What limits a training, and what to do about it.
    fn verdict(&self) -> (&'static str, Vec<String>) {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let mut advice = Vec::new();
        if self.decoded >= MARGIN * self.compute {
            advice.push(format!("the loader could feed a device {:.1} times as fast", self.decoded / self.compute));
            match self.device {
                Device::Cpu => advice.push("a GPU, a smaller --size or a smaller --arch would make it faster".into()),
                Device::Cuda(_) => {
                    advice.push("--bf16, a smaller --size or a smaller --arch would make it faster".into())
                }
            }
            if self.device == Device::Cpu && self.decoded < 4.0 * self.compute {
                advice.push("both share the processor's cores, so that each takes from the other".into());
            }
            return ("computing", advice);
        }
        advice.push(format!(
            "the network waits {:.0} % of the time",
            100.0 * (1.0 - self.decoded / self.compute).max(0.0)
        ));
        if let Some(cached) = self.cached.filter(|cached| *cached > MARGIN * self.decoded) {
            advice.push(format!("from the second epoch on, pictures in memory come {:.1} times as fast (--cache auto, or disk for more runs)", cached / self.decoded));
        }
        match self.half {
            _ if self.workers < cores => advice.push(format!("there are {cores} processors: try --workers {cores}")),
            Some(half) if self.decoded < 1.3 * half => {
                advice.push(format!(
                    "{} workers are hardly faster than {}: the disk is the limit, not decoding",
                    self.workers,
                    self.workers / 2
                ));
            }
            _ => {}
        }
        advice.push("pictures stored no larger than --item-size, or a smaller --item-size, are decoded faster".into());
        ("loading", advice)
    }
}

fn stopped(context: &Context) -> Result<()> {
    match context.interrupt.is_set() {
        true => Err(Error::new(ErrorKind::Interrupted, "stopped on request")),
        false => Ok(()),
    }
}

/// Training pictures a second, over as many passes as fit into `length`; the first batch, for which threads start, doesn't count.
fn loading(dls: &DataLoaders, length: Duration, context: &Context) -> Result<f64> {
    let (mut pictures, mut began) = (0, None);
    'passes: for epoch in 0.. {
        for batch in dls.train.epoch(epoch) {
            stopped(context)?;
            let n = batch?.len();
            match began {
                None => began = Some(Instant::now()),
                Some(since) => {
                    pictures += n;
                    if since.elapsed() >= length {
                        break 'passes;
                    }
                }
            }
        }
    }
    Ok(pictures as f64 / began.map_or(1.0, |since| since.elapsed().as_secs_f64()))
}

/// Opens pictures until all are in memory, or a while has passed.
fn fill(dls: &DataLoaders, length: Duration, context: &Context) -> Result<()> {
    let began = Instant::now();
    for batch in dls.train.epoch(0) {
        stopped(context)?;
        batch?;
        if began.elapsed() > 10 * length {
            break;
        }
    }
    Ok(())
}

/// Pictures a second in training steps on one batch that is there.
fn computing(
    settings: &BenchLoaderSettings,
    dls: &DataLoaders,
    device: Device,
    length: Duration,
    context: &Context,
) -> Result<f64> {
    let mut learn = run::learner(&settings.model, dls, device, context)?;
    learn.opt_mut().set(|_, h| h.lr = 1e-6);
    let (batch, seed) = (dls.one_batch()?, dls.seed());
    let mut step = |i: u64| -> Result<()> {
        let x = batch.inputs(dls.batch_tfms().as_ref(), Subset::Train, (seed, i), (device, learn.dtype()))?;
        let y = batch.targets.to_tensor(device)?;
        let pred = learn.model().forward(&x, &crate::nn::Context::train(seed, i))?;
        let loss = learn.loss_fn().mean(&pred, &y, None)?;
        backward(&loss)?;
        learn.opt_mut().step()?;
        loss.item().map(drop) // waits for the device
    };
    step(0)?;
    let began = Instant::now();
    let mut steps = 0;
    while steps == 0 || began.elapsed() < length {
        stopped(context)?;
        steps += 1;
        step(steps)?;
    }
    Ok((steps as usize * batch.len()) as f64 / began.elapsed().as_secs_f64())
}
