//! The flags, their names and their help.
//!
//! Every value is optional here: whether it was given decides if the configuration file or the default speaks
//! ([`settings`](super::settings) asks them in that order). One struct serves clap and the file alike, so that a flag and
//! its key cannot drift apart: `--valid-pct 0.2` is `valid-pct = 0.2`.

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// The whole command line.
#[derive(Clone, Debug, Parser)]
#[command(name = "onecycle", version, styles = STYLES, max_term_width = 100)]
#[command(about = "Trains image classifiers: chapter 5 of fastai, from DataBlock down to hand-written kernels")]
#[command(after_help = "Examples:
  onecycle                                     make pictures, train on them, write a report
  onecycle train pets/ --label-re '(.+)_\\d+.jpg$'
  onecycle predict runs/pets/model.safetensors cat.jpg")]
pub struct Cli {
    /// Flags of every command.
    #[command(flatten)]
    pub common: CommonFlags,
    /// Say nothing but results and errors
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "General")]
    pub quiet: bool,
    /// Say more
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "General")]
    pub verbose: u8,
    /// What to do; `quickstart` when nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The subcommands.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Make pictures, train on them, print the table, write report, plots and model
    #[command(after_help = "Example:\n  onecycle quickstart --out runs/first --epochs 3")]
    Quickstart(QuickstartFlags),
    /// Train on a folder of pictures
    #[command(after_help = "Examples:
  onecycle train flowers/                          one folder per class, a fifth held back for validation
  onecycle train imagenette/ --train train --valid val --epochs 5
  onecycle train pets/ --label-re '(.+)_\\d+.jpg$'  the class is in the file name
  onecycle train --config runs/pets/settings.toml --out runs/again")]
    Train(TrainFlags),
    /// Find a learning rate: train a little with rates from tiny to huge, plot the loss, suggest
    #[command(after_help = "Examples:
  onecycle lr-find flowers/                            prints four suggestions, writes lr_find.png
  onecycle lr-find pets/ --label-re '(.+)_\\d+.jpg$' --seed 0,1,2   three times, with the spread")]
    LrFind(LrFindFlags),
    /// Measure a model on a folder: loss, error rate, classes
    #[command(after_help = "Example:\n  onecycle evaluate runs/pets/model.safetensors pets-test/ --json")]
    Evaluate(EvaluateFlags),
    /// Label pictures
    #[command(after_help = "Example:\n  onecycle predict runs/pets/model.safetensors *.jpg")]
    Predict(PredictFlags),
    /// Show a training batch as the network would see it
    #[command(after_help = "Example:\n  onecycle show-batch pets/ --label-re '(.+)_\\d+.jpg$' --unique")]
    ShowBatch(ShowBatchFlags),
    /// Print a network's layers, shapes and parameters
    #[command(after_help = "Example:\n  onecycle summary --arch resnet34 --classes 37")]
    Summary(SummaryFlags),
    /// Find a folder's faults before training: bad files, copies, classes too small
    #[command(after_help = "Examples:
  onecycle check flowers/                    exit status 1 if a file would stop a training
  onecycle check pets/ --label-re '(.+)_\\d+.jpg$' --quarantine bad.txt
  onecycle check flowers/ --json | jq .bad")]
    Check(CheckFlags),
    /// Fetch and unpack a data set, and print its folder
    #[command(after_help = "Examples:
  onecycle download PETS                   the article's data, 812 MB; its pictures are in images/
  onecycle train \"$(onecycle download imagenette-160)\" --train train --valid val
  onecycle download --list                 what there is")]
    Download(DownloadFlags),
    /// Say what this machine and this program can compute on, and what is missing
    #[command(after_help = "Examples:
  onecycle doctor                  what to send along with a question
  onecycle doctor --device cuda    exit status 1 if the first GPU can't be used")]
    Doctor(DoctorFlags),
}

impl Default for Command {
    fn default() -> Command {
        Command::Quickstart(QuickstartFlags::default())
    }
}

/// Where to compute. A name and no more: whether there is such a device is asked when the command runs.
///
/// ```
/// use onecycle::cli::flags::Device;
/// assert_eq!("cuda:1".parse(), Ok(Device::Cuda(1)));
/// assert_eq!("cuda".parse(), Ok(Device::Cuda(0)));
/// assert_eq!("gpu".parse::<Device>(), Err("the devices are auto, cpu, cuda and cuda:N, such as cuda:1"));
/// ```
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Device {
    /// The first GPU that can be used, else the CPU
    #[default]
    Auto,
    /// The CPU
    Cpu,
    /// The GPU of this number
    Cuda(usize),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Auto => f.write_str("auto"),
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl FromStr for Device {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Device, &'static str> {
        // `+1` is a number to Rust, and no name of a device.
        let number = name.strip_prefix("cuda:").filter(|n| n.bytes().all(|b| b.is_ascii_digit()));
        match (name, number.and_then(|n| n.parse().ok())) {
            ("auto", _) => Ok(Device::Auto),
            ("cpu", _) => Ok(Device::Cpu),
            ("cuda", _) => Ok(Device::Cuda(0)),
            (_, Some(number)) => Ok(Device::Cuda(number)),
            _ => Err("the devices are auto, cpu, cuda and cuda:N, such as cuda:1"),
        }
    }
}

impl TryFrom<String> for Device {
    type Error = String;

    fn try_from(name: String) -> Result<Device, String> {
        name.parse().map_err(|devices| format!("`{name}` is no device: {devices}"))
    }
}

impl From<Device> for String {
    fn from(device: Device) -> String {
        device.to_string()
    }
}

/// Where labels come from.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LabelRule {
    /// The name of the folder that a picture lies in
    #[default]
    Parent,
    /// The first group of --label-re, searched in the file's name
    Re,
}

/// What becomes of decoded pictures.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum CacheRule {
    /// Kept in memory, as far as a quarter of the free memory goes
    #[default]
    Auto,
    /// Kept in memory, all of them
    Ram,
    /// Kept in a file, which later runs read too (in ONECYCLE_CACHE, else the user's cache folder)
    Disk,
    /// Kept on the GPU after --item-size, if they fit: from the second epoch on nothing is decoded. Where a picture is cropped
    /// to --item-size is then drawn once
    Gpu,
    /// Decoded at every use
    Off,
}

/// torchvision's sets of weights.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum WeightSet {
    /// The first ones, which the article used
    V1,
    /// Those of 2021, trained longer, for ResNet-50, 101 and 152
    V2,
}

/// Whether pictures are turned as their EXIF orientation says.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ExifRule {
    /// As they are stored, as in fastai
    #[default]
    Ignore,
    /// Turned and mirrored; the exported model does the same
    Apply,
}

/// What becomes of JPEGs that end early.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum TruncatedRule {
    /// They are bad files
    #[default]
    Error,
    /// They are used, with grey for what is missing, and named at the end
    Warn,
}

/// Flags of every command.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
#[command(next_help_heading = "General")]
pub struct CommonFlags {
    /// Random seed; several, separated by commas, make as many runs [default: 42]
    #[arg(long, global = true, value_name = "N,..", value_delimiter = ',')]
    #[serde(deserialize_with = "one_or_many")]
    pub seed: Vec<u64>,
    /// Where to compute: auto (the first GPU that can be used, else the CPU), cpu, cuda, cuda:N [default: auto]
    #[arg(long, global = true, value_name = "DEVICE")]
    pub device: Option<Device>,
    /// Threads that compute [default: one for each processor]
    #[arg(long, global = true, value_name = "N")]
    pub threads: Option<usize>,
}

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
    /// Name of the folder that holds the training pictures
    #[arg(long, value_name = "NAME")]
    pub train: Option<String>,
    /// Name of the folder that holds the validation pictures
    #[arg(long, value_name = "NAME")]
    pub valid: Option<String>,
    /// Share of pictures held back for validation [default: 0.2]
    #[arg(long, allow_negative_numbers = true, value_name = "SHARE")]
    pub valid_pct: Option<f64>,
    /// Size to which each picture is cropped on the CPU [default: 460]
    #[arg(long, value_name = "PIXELS")]
    pub item_size: Option<usize>,
    /// Size that the network sees, after augmentation [default: 224]
    #[arg(long, value_name = "PIXELS")]
    pub size: Option<usize>,
    /// Smallest share of a picture's area that augmentation keeps [default: 0.75]
    #[arg(long, allow_negative_numbers = true, value_name = "SHARE")]
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
    #[arg(long, allow_negative_numbers = true, value_name = "GB")]
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

/// Flags about the network and how it computes.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
#[command(next_help_heading = "Model and schedule")]
pub struct ModelFlags {
    /// Architecture: resnet18, resnet34, resnet50, resnet101, resnet152 [default: resnet34]
    #[arg(long, value_name = "NAME")]
    pub arch: Option<String>,
    /// Begin with weights trained on ImageNet: auto (found or fetched), a .pth or safetensors file, a URL, or hf-hub:OWNER/NAME.
    /// --epochs then is fine_tune's: first the head alone, then everything. Without it the weights are fresh
    #[arg(long, value_name = "FILE|URL|auto")]
    pub pretrained: Option<String>,
    /// Which of torchvision's weights: v1, the article's, or v2, for 50 layers and more; implies --pretrained auto
    #[arg(long, value_enum)]
    pub weights: Option<WeightSet>,
    /// Begin with fresh weights, whatever the file of --config says
    #[arg(long, conflicts_with_all = ["pretrained", "weights"])]
    #[serde(skip)]
    pub no_pretrained: bool,
    /// Weight decay [default: 0.01]
    #[arg(long, allow_negative_numbers = true, value_name = "WD")]
    pub wd: Option<f64>,
    /// Compute in bf16: half the memory for activations; weights and sums stay in f32. For GPUs; the CPU only imitates it
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide_possible_values = true)]
    pub bf16: Option<bool>,
    /// Compute in f16, with the loss scaled; otherwise as --bf16
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide_possible_values = true)]
    #[arg(conflicts_with = "bf16")]
    pub fp16: Option<bool>,
}

/// Flags of `train`.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct TrainFlags {
    /// The folder with the pictures
    pub dir: Option<PathBuf>,
    /// Read settings from a TOML file; flags win over it
    #[arg(long, value_name = "FILE.toml")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Where the run's files go [default: runs/NAME, as the folder is called]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Write into the run directory even if it exists
    #[arg(long)]
    #[serde(skip)]
    pub overwrite: bool,
    /// Pictures and labels.
    #[command(flatten)]
    #[serde(flatten)]
    pub data: DataFlags,
    /// The network.
    #[command(flatten)]
    #[serde(flatten)]
    pub model: ModelFlags,
    /// With pretrained weights: times that only the head trains, before --epochs [default: 1]
    #[arg(long, value_name = "N", conflicts_with = "no_pretrained", help_heading = "Model and schedule")]
    pub freeze_epochs: Option<usize>,
    /// Times that training goes through all pictures [default: 5]
    #[arg(long, value_name = "N", help_heading = "Model and schedule")]
    pub epochs: Option<usize>,
    /// Highest learning rate of the one-cycle schedule [default: 1e-2]
    #[arg(long, allow_negative_numbers = true, value_name = "RATE", help_heading = "Model and schedule")]
    pub lr: Option<f64>,
    /// Highest learning rates from the first layers to the last, such as 1e-6..1e-4
    #[arg(long, value_name = "LOW..HIGH", conflicts_with = "lr", help_heading = "Model and schedule")]
    pub lr_slice: Option<String>,
}

/// Flags of `quickstart`.
#[derive(Args, Clone, Debug, Default)]
pub struct QuickstartFlags {
    /// Where the run's files go [default: runs/quickstart]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Write into the run directory even if it exists
    #[arg(long)]
    pub overwrite: bool,
    /// Times that training goes through all pictures [default: what the quickstart is made for]
    #[arg(long, value_name = "N")]
    pub epochs: Option<usize>,
    /// Compute in bf16: half the memory for activations; weights and sums stay in f32. For GPUs; the CPU only imitates it
    #[arg(long)]
    pub bf16: bool,
}

/// Flags of `evaluate`.
#[derive(Args, Clone, Debug)]
pub struct EvaluateFlags {
    /// The model file
    pub model: PathBuf,
    /// The folder with the pictures
    pub dir: PathBuf,
    /// Pictures in a batch [default: 64]
    #[arg(long, value_name = "N")]
    pub bs: Option<usize>,
    /// Regular expression whose first group is the label; without it a picture's folder is its label
    #[arg(long, value_name = "RE")]
    pub label_re: Option<String>,
    /// Print one JSON object: error_rate, loss, n
    #[arg(long)]
    pub json: bool,
}

/// Flags of `predict`.
#[derive(Args, Clone, Debug)]
pub struct PredictFlags {
    /// The model file
    pub model: PathBuf,
    /// Pictures to label; a folder stands for the pictures in it
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Print one JSON object a line: file, label, probabilities
    #[arg(long)]
    pub json: bool,
}

/// Flags of `show-batch`.
#[derive(Args, Clone, Debug, Default)]
pub struct ShowBatchFlags {
    /// The folder with the pictures
    pub dir: PathBuf,
    /// The picture to write
    #[arg(long, value_name = "FILE.png", default_value = "batch.png")]
    pub out: PathBuf,
    /// Show one picture in all its augmentations
    #[arg(long)]
    pub unique: bool,
    /// Pictures to show, at most
    #[arg(long, value_name = "N", default_value_t = 9)]
    pub max_n: usize,
    /// Pictures and labels.
    #[command(flatten)]
    pub data: DataFlags,
}

/// Flags of `lr-find`.
#[derive(Args, Clone, Debug, Default)]
pub struct LrFindFlags {
    /// The folder with the pictures
    pub dir: PathBuf,
    /// The plot to write, .png or .svg
    #[arg(long, value_name = "FILE", default_value = "lr_find.png")]
    pub out: PathBuf,
    /// The first batch's learning rate
    #[arg(long, allow_negative_numbers = true, value_name = "RATE", default_value_t = 1e-7)]
    pub start_lr: f64,
    /// The learning rate to rise to
    #[arg(long, allow_negative_numbers = true, value_name = "RATE", default_value_t = 10.0)]
    pub end_lr: f64,
    /// Batches
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub num_it: usize,
    /// Go on when the loss explodes
    #[arg(long)]
    pub no_stop: bool,
    /// Print JSON: an array with an object for each seed
    #[arg(long)]
    pub json: bool,
    /// Pictures and labels.
    #[command(flatten)]
    pub data: DataFlags,
    /// The network.
    #[command(flatten)]
    pub model: ModelFlags,
}

/// Flags of `summary`.
#[derive(Args, Clone, Debug)]
pub struct SummaryFlags {
    /// Architecture: resnet18, resnet34, resnet50, resnet101, resnet152
    #[arg(long, value_name = "NAME", default_value = "resnet34")]
    pub arch: String,
    /// Classes to tell apart
    #[arg(long, value_name = "N", default_value_t = 37)]
    pub classes: usize,
    /// Size of a picture
    #[arg(long, value_name = "PIXELS", default_value_t = 224)]
    pub size: usize,
    /// Pictures in a batch
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub bs: usize,
    /// As it is with all but the last group frozen
    #[arg(long)]
    pub frozen: bool,
}

/// Flags of `check`. Those of `train` are here too, so that what is checked is what would be trained on.
#[derive(Args, Clone, Debug, Default)]
pub struct CheckFlags {
    /// The folder with the pictures
    pub dir: PathBuf,
    /// Print one JSON object: images, bad, classes, findings and more
    #[arg(long)]
    pub json: bool,
    /// Write the paths of bad files into this file, one a line; nothing is moved or deleted
    #[arg(long, value_name = "FILE")]
    pub quarantine: Option<PathBuf>,
    /// Pictures and labels.
    #[command(flatten)]
    pub data: DataFlags,
}

/// Flags of `download`.
#[derive(Args, Clone, Debug, Default)]
pub struct DownloadFlags {
    /// A data set of fastai's, such as PETS, or the URL of a .tgz
    #[arg(value_name = "NAME", required_unless_present = "list")]
    pub name: Option<String>,
    /// Where it goes: archive/ and data/ in this folder [default: ONECYCLE_HOME, else the user's folder for data]
    #[arg(long, value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// Fetch and unpack it again, even if it is there
    #[arg(long)]
    pub force: bool,
    /// List the names with sizes and URLs
    #[arg(long, conflicts_with_all = ["name", "home", "force"])]
    pub list: bool,
    /// Print JSON: name, url, path; with --list an array of name, url, size
    #[arg(long)]
    pub json: bool,
}

/// Flags of `doctor`.
#[derive(Args, Clone, Debug, Default)]
pub struct DoctorFlags {
    /// Print one JSON object: onecycle, build, processor, cuda, kernels, computes_on
    #[arg(long)]
    pub json: bool,
}

/// `seed = 42` and `seed = [0, 1, 2]` alike.
fn one_or_many<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "`seed` takes whole numbers, such as 42 or [0, 1, 2]")]
    enum Seeds {
        One(u64),
        Many(Vec<u64>),
    }
    Ok(match Seeds::deserialize(from)? {
        Seeds::One(seed) => vec![seed],
        Seeds::Many(seeds) => seeds,
    })
}
