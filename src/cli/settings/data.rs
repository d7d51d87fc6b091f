//! Which pictures, which labels, which split.

use super::check::{self, Check};
use crate::Result;
use crate::cli::flags::{CacheRule, DataFlags, ExifRule, LabelRule, TruncatedRule};
use serde::Serialize;
use std::path::PathBuf;

/// Pictures and labels.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DataSettings {
    /// Where labels come from.
    pub label: LabelRule,
    /// The expression for [`LabelRule::Re`]; it compiles and has a group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_re: Option<String>,
    /// The table with a row for each picture, when there is one; files are below the folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub csv: Option<PathBuf>,
    /// The table's column of file names; none: the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub x: Option<String>,
    /// The table's column of labels; none: the second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub y: Option<String>,
    /// What the table's file names lack at their end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suff: Option<String>,
    /// The table's column that says which rows validate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid_col: Option<String>,
    /// The classes to use; none: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classes: Option<Vec<String>>,
    /// Name of the training folder, when folders split the data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train: Option<String>,
    /// Name of the validation folder; there exactly when `train` is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid: Option<String>,
    /// Share held back for validation, when folders don't split the data.
    pub valid_pct: f64,
    /// Size of the item transform's crop.
    pub item_size: usize,
    /// Size that the network sees.
    pub size: usize,
    /// Smallest share of the area that augmentation keeps.
    pub min_scale: f64,
    /// Batch size.
    pub bs: usize,
    /// Batch size in validation.
    pub val_bs: usize,
    /// Threads that load pictures; none: the library decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<usize>,
    /// What becomes of decoded pictures between epochs.
    pub cache: CacheRule,
    /// What decoded pictures may take, in 10^9 bytes; none: as the rule says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_gb: Option<f64>,
    /// Whether unreadable pictures are left out.
    pub skip_bad: bool,
    /// Whether pictures are turned as EXIF says.
    pub exif: ExifRule,
    /// What becomes of JPEGs that end early.
    pub truncated: TruncatedRule,
}

impl DataSettings {
    pub(super) fn resolve(flags: DataFlags) -> Result<DataSettings> {
        let implied = if flags.label_re.is_some() { LabelRule::Re } else { LabelRule::Parent };
        let bs = flags.bs.unwrap_or(64);
        let settings = DataSettings {
            label: flags.label.unwrap_or(implied),
            label_re: flags.label_re,
            csv: flags.csv,
            x: flags.x,
            y: flags.y,
            suff: flags.suff,
            valid_col: flags.valid_col,
            classes: flags.classes,
            train: flags.train,
            valid: flags.valid,
            valid_pct: flags.valid_pct.unwrap_or(0.2),
            item_size: flags.item_size.unwrap_or(460),
            size: flags.size.unwrap_or(224),
            min_scale: flags.min_scale.unwrap_or(0.75),
            bs,
            val_bs: flags.val_bs.unwrap_or(bs),
            workers: flags.workers,
            cache: flags.cache.unwrap_or_default(),
            cache_gb: flags.cache_gb,
            skip_bad: flags.skip_bad.unwrap_or(false),
            exif: flags.exif.unwrap_or_default(),
            truncated: flags.truncated.unwrap_or_default(),
        };
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<()> {
        check::label(self.label, self.label_re.as_deref())?;
        check::folders(self.train.as_deref(), self.valid.as_deref())?;
        check::table(self)?;
        self.cache_gb.map_or(Ok(()), |gb| Check("--cache-gb").above(gb, 0.0, 1e6))?;
        Check("--valid-pct").between(self.valid_pct, 0.0, 1.0)?;
        Check("--item-size").within(self.item_size, 1, 4096)?;
        Check("--size").within(self.size, 1, 4096)?;
        Check("--min-scale").above(self.min_scale, 0.0, 1.0)?;
        Check("--bs").within(self.bs, 1, 65_536)?;
        Check("--val-bs").within(self.val_bs, 1, 65_536)?;
        self.workers.map_or(Ok(()), |n| Check("--workers").within(n, 0, 256))
    }
}
