//! Flags about pictures and labels, which several commands have.

use super::values::{CacheRule, ExifRule, LabelRule, TruncatedRule};
use clap::Args;
use serde::Deserialize;
use std::path::PathBuf;

/// Flags about pictures and labels.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
#[command(next_help_heading = "Data")]
pub struct DataFlags {
    /// Where labels come from [default: parent]
    #[arg(long, value_enum)]
    pub label: Option<LabelRule>,
    /// Regular expression whose first group is the label; implies --label re
    #[arg(long, value_name = "RE")]
    pub label_re: Option<String>,
    /// A table with a row for each picture, as CSV with a heading; its files are below the folder
    #[arg(long, value_name = "FILE", conflicts_with_all = ["label", "label_re", "train", "valid", "classes"])]
    pub csv: Option<PathBuf>,
    /// The table's column of file names, by name or number [default: 0, the first]
    #[arg(long, value_name = "COLUMN")]
    pub x: Option<String>,
    /// The table's column of labels [default: 1]
    #[arg(long, value_name = "COLUMN")]
    pub y: Option<String>,
    /// What the table's file names lack at their end, such as .jpg
    #[arg(long, value_name = "TEXT")]
    pub suff: Option<String>,
    /// The table's column that is True for rows that validate, instead of a random share
    #[arg(long, value_name = "COLUMN", conflicts_with = "valid_pct")]
    pub valid_col: Option<String>,
    /// Use only the pictures of these classes
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    pub classes: Option<Vec<String>>,
    /// Name of the folder that holds the training pictures
    #[arg(long, value_name = "NAME")]
    pub train: Option<String>,
    /// Name of the folder that holds the validation pictures
    #[arg(long, value_name = "NAME")]
    pub valid: Option<String>,
    /// Share of pictures held back for validation [default: 0.2]
    #[arg(long, allow_hyphen_values = true, value_name = "SHARE")]
    pub valid_pct: Option<f64>,
    /// Size to which each picture is cropped on the CPU [default: 460]
    #[arg(long, value_name = "PIXELS")]
    pub item_size: Option<usize>,
    /// Size that the network sees, after augmentation [default: 224]
    #[arg(long, value_name = "PIXELS")]
    pub size: Option<usize>,
    /// Smallest share of a picture's area that augmentation keeps [default: 0.75]
    #[arg(long, allow_hyphen_values = true, value_name = "SHARE")]
    pub min_scale: Option<f64>,
    /// Pictures in a batch [default: 64]
    #[arg(long, value_name = "N")]
    pub bs: Option<usize>,
    /// Pictures in a validation batch [default: as --bs]
    #[arg(long, value_name = "N")]
    pub val_bs: Option<usize>,
    /// Threads that load pictures [default: one for each processor, at most 16]
    #[arg(long, value_name = "N")]
    pub workers: Option<usize>,
    /// What becomes of decoded pictures between epochs [default: auto]
    #[arg(long, value_enum)]
    pub cache: Option<CacheRule>,
    /// At most so many GB (10^9 bytes) for decoded pictures [default: a quarter of the free memory; no limit with ram; 50 on disk]
    #[arg(long, allow_hyphen_values = true, value_name = "GB")]
    pub cache_gb: Option<f64>,
    /// Leave out pictures that cannot be read, instead of stopping
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide_possible_values = true)]
    pub skip_bad: Option<bool>,
    /// The EXIF orientation, by which phones say how they were held [default: ignore]
    #[arg(long, value_enum)]
    pub exif: Option<ExifRule>,
    /// JPEGs that end early [default: error]
    #[arg(long, value_enum)]
    pub truncated: Option<TruncatedRule>,
}
