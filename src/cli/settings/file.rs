//! `--config FILE.toml`: the flags' long names as keys, under no table.

use super::check::nearest;
use crate::cli::flags::{CommonFlags, LabelRule, TrainFlags};
use crate::{Error, ErrorKind, Result};
use clap::Args;
use serde::Deserialize;
use std::path::Path;

#[derive(Deserialize)]
struct File {
    #[serde(flatten)]
    train: TrainFlags,
    #[serde(flatten)]
    common: CommonFlags,
}

/// Fills what the command line left open from the file.
pub(super) fn merge(mut flags: TrainFlags, mut common: CommonFlags, path: &Path) -> Result<(TrainFlags, CommonFlags)> {
    let text = std::fs::read_to_string(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::InvalidData => Error::new(ErrorKind::Format, "is no text")
            .on(path.display())
            .remedy("name a TOML file, such as a run's settings.toml"),
        _ => Error::io("read the settings", path, e),
    })?;
    let mut file = parse(&text).map_err(|e| e.on(path.display()))?;
    // The two ways to give a rate exclude each other: one on the command line takes both out of the file.
    if flags.lr.is_none() && flags.lr_slice.is_none() {
        (flags.lr, flags.lr_slice) = (file.train.lr, file.train.lr_slice);
    }
    // So do the two ways to split: folders in the file would make `--valid-pct` a flag without effect.
    let splits = flags.data.valid_pct.is_some();
    let mut data = file.train.data;
    if splits {
        (data.train, data.valid) = (None, None);
    }
    // And `--label parent` means it, whatever expression the file has.
    if flags.data.label == Some(LabelRule::Parent) {
        data.label_re = None;
    }
    // Fresh weights, or others, on the command line take out all that the file says of weights.
    let mut model = file.train.model;
    let others = flags.model.pretrained.is_some() || flags.model.weights.is_some();
    if flags.model.no_pretrained || others {
        (model.pretrained, model.weights) = (None, None);
    }
    if flags.model.no_pretrained {
        file.train.freeze_epochs = None;
    }
    macro_rules! fill {
        ($into:expr, $from:expr; $($field:ident)*) => { $($into.$field = $into.$field.take().or($from.$field);)* };
    }
    fill!(flags, file.train; dir out checkpoint_every freeze_epochs epochs);
    fill!(flags.model, model; arch pretrained weights wd bf16 fp16);
    if flags.data.label_re.is_some() {
        data.label = None;
    }
    fill!(flags.data, data; label label_re csv x y suff valid_col classes train valid valid_pct item_size size min_scale bs val_bs workers cache cache_gb skip_bad exif truncated);
    fill!(common, file.common; device threads);
    if common.seed.is_empty() {
        common.seed = file.common.seed;
    }
    Ok((flags, common))
}

fn parse(text: &str) -> Result<File> {
    let malformed = |e: toml::de::Error| {
        let line = e.span().map(|s| text[..s.start.min(text.len())].matches('\n').count() + 1);
        let place = line.map(|l| format!("line {l}: ")).unwrap_or_default();
        Error::new(ErrorKind::Argument, format!("{place}{}", e.message().replace('\n', " "))).caused_by(e)
    };
    let table: toml::Table = toml::from_str(text).map_err(malformed)?;
    let known = keys();
    if let Some(unknown) = table.keys().find(|key| !known.contains(key)) {
        let remedy = match nearest(unknown, &known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the keys are {}", known.join(", ")),
        };
        return Err(Error::new(ErrorKind::Argument, format!("unknown key `{unknown}`")).remedy(remedy));
    }
    table.try_into().map_err(malformed)
}

/// What a file may hold: all flags of `train` but those that are about the file or the moment.
fn keys() -> Vec<String> {
    let command = CommonFlags::augment_args(TrainFlags::augment_args(clap::Command::new("train")));
    let names = command.get_arguments().map(|a| a.get_long().map_or_else(|| a.get_id().to_string(), String::from));
    names
        .filter(|name| !["config", "overwrite", "resume", "time-limit", "no-pretrained"].contains(&name.as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_read() {
        // A key of `keys` that `File` does not know would be accepted and ignored.
        let text = "dir='d'\nout='o'\ncheckpoint-every=50\nlabel='re'\nlabel-re='(x)'\ncsv='c'\nx='0'\ny='1'\nsuff='.jpg'\nvalid-col='v'\nclasses=['a']\ntrain='t'\nvalid='v'\nvalid-pct=0.3\nitem-size=1\nsize=2\n\
                    min-scale=0.5\nbs=3\nval-bs=4\nworkers=5\ncache='ram'\ncache-gb=1.5\nskip-bad=true\nexif='apply'\ntruncated='warn'\narch='a'\npretrained='auto'\nweights='v2'\nfreeze-epochs=1\nepochs=6\nlr=0.1\nlr-slice='1..2'\nwd=0.2\n\
                    bf16=true\nfp16=false\nseed=[7]\ndevice='cuda:1'\nthreads=8\n";
        let table: toml::Table = toml::from_str(text).unwrap();
        let mut known = keys();
        known.sort();
        assert_eq!(known, table.keys().cloned().collect::<Vec<_>>());
        let File { train, common } = parse(text).unwrap();
        let shown = format!("{train:?} {common:?}");
        assert_eq!(shown.matches("None").count(), 2, "all but config and the time limit: {shown}");
        assert_eq!(common.seed, [7]);
    }
}
