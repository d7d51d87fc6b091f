//! `onecycle summary`: the layers of an architecture with their shapes and parameters, as `learn.summary()` prints them.

use crate::Result;
use crate::cli::Context;
use crate::cli::settings::SummarySettings;
use crate::nn::summary::{Layout, table};
use crate::nn::{Arch, HeadOptions, Sequential, create_head, resnet};
use crate::optim::{Optimizer, OptimizerKind};

/// Runs the command.
///
/// # Errors
/// When the architecture cannot be built for that size.
pub fn run(settings: &SummarySettings, context: &Context) -> Result<()> {
    let arch = Arch::by_name(&settings.arch)?;
    let head = create_head(arch.features(), settings.classes, &HeadOptions::default());
    let model = Sequential::new().push(arch.body()).push(head);
    if settings.frozen {
        Optimizer::new(OptimizerKind::Adam, resnet::param_groups(&model), false, true).freeze()?;
    }
    let text = table(&model, &[settings.bs, settings.size, settings.size, 3].into(), Layout::Current)?;
    context.console.result(text.trim_end())
}
