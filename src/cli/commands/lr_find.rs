//! `onecycle lr-find`: the learning-rate finder's suggestions and its plot; over several seeds with the spread.

use crate::Result;
use crate::cli::settings::LrFindSettings;
use crate::cli::{Context, data, run};
use crate::learner::SuggestedLrs;
use serde_json::json;
use std::path::PathBuf;

/// Runs the command, once for each seed. Nothing is trained by it: the finder throws its training away.
///
/// # Errors
/// When the device cannot be used, the data cannot be trained on, the loss explodes at once, or the plot cannot be written.
pub fn run(settings: &LrFindSettings, context: &Context) -> Result<()> {
    run::use_threads(settings.common.threads);
    let device = run::training_device(settings.common.device, settings.model.is_half(), context)?;
    let seeds = &settings.common.seeds;
    let mut all = Vec::new();
    for &seed in seeds {
        let dls = data::load(&settings.data, &settings.dir, seed, context)?;
        let mut learn = run::learner(&settings.model, &dls, device, context)?;
        let found = learn.lr_find_with(&settings.find)?;
        let plot = plot_file(settings, seed);
        found.plot().save(&plot)?;
        if !settings.json {
            let name = if seeds.len() > 1 { format!("seed {seed}: ") } else { String::new() };
            context.console.result(&format!("{name}{found}"))?;
            context.console.note(&format!("the plot is {}", plot.display()));
        }
        all.push((seed, found, plot));
    }
    if settings.json {
        let one = |(seed, found, plot): &(u64, SuggestedLrs, PathBuf)| {
            json!({
                "seed": seed,
                "minimum": found.lr_min,
                "steep": found.lr_steep,
                "valley": found.valley,
                "slide": found.slide,
                "batches": found.losses.len(),
                "plot": plot.display().to_string(),
            })
        };
        return context.console.result(&serde_json::Value::from(all.iter().map(one).collect::<Vec<_>>()).to_string());
    }
    if all.len() > 1 {
        spread(&all, context)?;
    }
    Ok(())
}

/// `lr_find.png`, and with several seeds `lr_find-7.png` and so on.
fn plot_file(settings: &LrFindSettings, seed: u64) -> PathBuf {
    if settings.common.seeds.len() == 1 {
        return settings.out.clone();
    }
    let part = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let (stem, extension) = (part(settings.out.file_stem()), part(settings.out.extension()));
    settings.out.with_file_name(format!("{stem}-{seed}.{extension}"))
}

/// How far the seeds agree: a rule whose answers lie a factor of ten apart says little.
fn spread(all: &[(u64, SuggestedLrs, PathBuf)], context: &Context) -> Result<()> {
    type Rule = fn(&SuggestedLrs) -> Option<f64>;
    let rules: [(&str, Rule); 4] = [
        ("minimum", |f| Some(f.lr_min)),
        ("steep", |f| Some(f.lr_steep)),
        ("valley", |f| Some(f.valley)),
        ("slide", |f| f.slide),
    ];
    context.console.result("\nrule      lowest    middle    highest   factor between")?;
    for (name, of) in rules {
        let mut rates: Vec<f64> = all.iter().filter_map(|(_, found, _)| of(found)).collect();
        rates.sort_by(f64::total_cmp);
        if let (Some(low), Some(high)) = (rates.first(), rates.last()) {
            let middle = rates[rates.len() / 2];
            context
                .console
                .result(&format!("{name:8}  {low:<8.1e}  {middle:<8.1e}  {high:<8.1e}  {:.1}", high / low))?;
        }
    }
    Ok(())
}
