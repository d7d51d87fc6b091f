//! `onecycle train`: trains on a folder of pictures.

use crate::Result;
use crate::cli::settings::TrainSettings;
use crate::cli::{Context, run, run_dir};

/// Runs the command: once for each seed, then a table over the seeds if there are several.
///
/// # Errors
/// When the device cannot be used, the data cannot be trained on, the run directory exists already or cannot be written, or the training fails.
pub fn run(settings: &TrainSettings, context: &Context) -> Result<()> {
    run::use_threads(settings.common.threads);
    // Before anything is written: a device that isn't there leaves no folder behind.
    let device = run::training_device(settings.common.device, settings.model.is_half(), context)?;
    run_dir::prepare(&settings.out, settings.overwrite || settings.resume)?;
    let mut results = Vec::new();
    for (seed, out) in run_dir::per_seed(&settings.out, &settings.common) {
        if settings.common.seeds.len() > 1 {
            context.console.result(&format!("seed {seed}"))?;
        }
        results.push((seed, run::train_once(settings, seed, &out, device, context)?));
    }
    if results.len() > 1 {
        table(&results, context)?;
    }
    context.console.note(&format!("the run is in {}: report.html, model.safetensors", settings.out.display()));
    Ok(())
}

/// The last row of every seed, their mean and their standard deviation.
fn table(results: &[(u64, [Option<f64>; 3])], context: &Context) -> Result<()> {
    context.console.result("seed      train_loss  valid_loss  error_rate")?;
    let row = |name: String, values: [Option<f64>; 3]| {
        let cell = |v: Option<f64>| v.map_or("None".into(), |v| format!("{v:.6}"));
        let cells: Vec<String> = values.into_iter().map(|v| format!("{:12}", cell(v))).collect();
        format!("{name:10}{}", cells.concat())
    };
    for (seed, values) in results {
        context.console.result(&row(seed.to_string(), *values))?;
    }
    let column = |i: usize| -> Option<Vec<f64>> { results.iter().map(|(_, v)| v[i]).collect() };
    let mean = |v: &Vec<f64>| v.iter().sum::<f64>() / v.len() as f64;
    let spread = |v: &Vec<f64>| {
        let m = mean(v);
        (v.iter().map(|x| (x - m).powi(2)).sum::<f64>() / (v.len() - 1) as f64).sqrt()
    };
    context.console.result(&row("mean".into(), [0, 1, 2].map(|i| column(i).as_ref().map(mean))))?;
    context.console.result(&row("std".into(), [0, 1, 2].map(|i| column(i).as_ref().map(spread))))
}
