//! `onecycle show-batch`: a batch as a grid of pictures, as PNG and in the terminal.

use crate::Result;
use crate::cli::settings::ShowBatchSettings;
use crate::cli::{Context, data, run};
use crate::plot::{picture_grid, terminal};
use crate::vision::{ShowBatch, decode};

/// Runs the command.
///
/// # Errors
/// When the data has no batch, or the picture cannot be written.
pub fn run(settings: &ShowBatchSettings, context: &Context) -> Result<()> {
    run::use_threads(settings.common.threads);
    let seed = settings.common.seeds[0];
    // A small data set shows what it has.
    let mut data = settings.data.clone();
    data.bs = data.bs.min(settings.max_n);
    let dls = data::load(&data, &settings.dir, seed, context)?;
    let options = ShowBatch { max_n: settings.max_n, unique: settings.unique, ..ShowBatch::default() };
    let figure = picture_grid(&dls.batch_cells(&options)?, None, None)?;
    figure.save(&settings.out)?;
    if let Some(protocol) = terminal::detect() {
        let picture = decode(&figure.to_png(1.0)?, &Default::default())?;
        context.console.result(&terminal::render(&picture, protocol, terminal::columns())?)?;
    }
    context.console.result(&settings.out.display().to_string())
}
