//! The flags of each command, beside those that it shares with others.

use super::{DataFlags, ModelFlags};
use clap::Args;
use serde::Deserialize;
use std::path::PathBuf;

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
    /// Go on with the run in the run directory where it was interrupted, with its settings; begin where there is none
    #[arg(long, conflicts_with = "overwrite")]
    #[serde(skip)]
    pub resume: bool,
    /// Stop after so many minutes, with a checkpoint and exit status 75; --resume goes on
    #[arg(long, allow_hyphen_values = true, value_name = "MINUTES")]
    #[serde(skip)]
    pub time_limit: Option<f64>,
    /// Write a checkpoint after so many batches, and not only after every epoch; 0 for none at all
    #[arg(long, value_name = "N")]
    pub checkpoint_every: Option<usize>,
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
    #[arg(long, allow_hyphen_values = true, value_name = "RATE", help_heading = "Model and schedule")]
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

/// Flags of `interpret`.
#[derive(Args, Clone, Debug)]
pub struct InterpretFlags {
    /// The model file
    pub model: PathBuf,
    /// The folder with the pictures
    pub dir: PathBuf,
    /// Where the pictures and the page go [default: interpret, beside the model]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Pictures with the largest losses to show
    #[arg(long, value_name = "N", default_value_t = 9)]
    pub worst: usize,
    /// Pictures in a batch [default: 64]
    #[arg(long, value_name = "N")]
    pub bs: Option<usize>,
    /// Regular expression whose first group is the label; without it a picture's folder is its label
    #[arg(long, value_name = "RE")]
    pub label_re: Option<String>,
    /// Print one JSON object: n, loss, error_rate, classes, most_confused, top_losses, page
    #[arg(long)]
    pub json: bool,
}

/// Flags of `bench-loader`.
#[derive(Args, Clone, Debug, Default)]
pub struct BenchLoaderFlags {
    /// The folder with the pictures
    pub dir: PathBuf,
    /// Seconds for each measurement
    #[arg(long, allow_hyphen_values = true, value_name = "SECONDS", default_value_t = 5.0)]
    pub seconds: f64,
    /// Print one JSON object: load, cached, compute in pictures a second, limit, advice, device, workers
    #[arg(long)]
    pub json: bool,
    /// Pictures and labels.
    #[command(flatten)]
    pub data: DataFlags,
    /// The network.
    #[command(flatten)]
    pub model: ModelFlags,
}

/// Flags of `report`.
#[derive(Args, Clone, Debug)]
pub struct ReportFlags {
    /// Run directories; one with several seeds stands for all of them
    #[arg(required = true, value_name = "DIR")]
    pub dirs: Vec<PathBuf>,
    /// The page to write
    #[arg(long, value_name = "FILE.html", default_value = "comparison.html")]
    pub out: PathBuf,
    /// Print one JSON array: name, dir, epochs, train_loss, valid_loss, error_rate, best, seconds
    #[arg(long)]
    pub json: bool,
}

/// Flags of `export`.
#[derive(Args, Clone, Debug)]
pub struct ExportFlags {
    /// A run directory, a checkpoint (.ckpt), or a model file
    pub from: PathBuf,
    /// The model file to write: .safetensors, or .onnx in a program that was built with the feature `onnx`
    #[arg(long, value_name = "FILE", default_value = "model.safetensors")]
    pub out: PathBuf,
    /// Of a run: the checkpoint after its best epoch, not the newest
    #[arg(long)]
    pub best: bool,
    /// Write over a file that exists
    #[arg(long)]
    pub overwrite: bool,
}

/// Flags of `chapter5`.
#[derive(Args, Clone, Debug, Default)]
pub struct Chapter5Flags {
    /// A folder of pictures of your own; without it the article's are fetched
    #[arg(long = "data", value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Pretrained weights: auto, a .pth or safetensors file, a URL, hf-hub:OWNER/NAME, or none; without it the article's are fetched if
    /// the pictures are photographs
    #[arg(long, value_name = "FILE|URL|auto|none")]
    pub weights: Option<String>,
    /// Architecture [default: resnet34]
    #[arg(long, value_name = "NAME")]
    pub arch: Option<String>,
    /// Epochs of the last fit [default: 12]
    #[arg(long, value_name = "N")]
    pub epochs: Option<usize>,
    /// The article's last run, a ResNet-50, on a processor too
    #[arg(long)]
    pub resnet50: bool,
    /// Compute in bf16, or the ResNet-50 alone without it on a GPU
    #[arg(long, conflicts_with = "fp16")]
    pub bf16: bool,
    /// Compute in f16
    #[arg(long)]
    pub fp16: bool,
    /// Where figures, models and the report go [default: runs/chapter5]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Write into the directory even if it exists
    #[arg(long)]
    pub overwrite: bool,
    /// Pictures and labels.
    #[command(flatten)]
    pub pictures: DataFlags,
}

/// Flags of `completions`.
#[derive(Args, Clone, Debug)]
pub struct CompletionsFlags {
    /// The shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
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
    #[arg(long, allow_hyphen_values = true, value_name = "RATE", default_value_t = 1e-7)]
    pub start_lr: f64,
    /// The learning rate to rise to
    #[arg(long, allow_hyphen_values = true, value_name = "RATE", default_value_t = 10.0)]
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
