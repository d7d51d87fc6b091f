//! The flags, their names and their help.
//!
//! Every value is optional here: whether it was given decides if the configuration file or the default speaks
//! ([`settings`](super::settings) asks them in that order). One struct serves clap and the file alike, so that a flag and
//! its key cannot drift apart: `--valid-pct 0.2` is `valid-pct = 0.2`.

mod commands;
mod data;
mod model;
mod values;

pub use commands::*;
pub use data::DataFlags;
pub use model::ModelFlags;
pub use values::*;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand};
use serde::Deserialize;

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
  onecycle train --config runs/pets/settings.toml --out runs/again
  onecycle train --resume --out runs/pets          go on with what was interrupted")]
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
    /// Show where a model errs: confusion matrix, most confused classes, worst pictures
    #[command(after_help = "Examples:
  onecycle interpret runs/pets/model.safetensors pets-test/           text; pictures and a page in runs/pets/interpret
  onecycle interpret runs/pets/model.safetensors pets/ --label-re '(.+)_\\d+.jpg$' --worst 25")]
    Interpret(InterpretFlags),
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
    /// Measure whether loading pictures or computing is the limit, and say what to change
    #[command(
        after_help = "Example:\n  onecycle bench-loader pets/ --label-re '(.+)_\\d+.jpg$' --arch resnet34 --bs 64"
    )]
    BenchLoader(BenchLoaderFlags),
    /// Compare runs on one page
    #[command(after_help = "Examples:
  onecycle report runs/scratch runs/pretrained        a table; the page is comparison.html
  onecycle report runs/* --out all.html")]
    Report(ReportFlags),
    /// Make a model file of a run or a checkpoint
    #[command(after_help = "Examples:
  onecycle export runs/pets --out pets.safetensors          of the newest checkpoint, as after a run that was killed
  onecycle export runs/pets --best --out best.safetensors   of the best epoch's")]
    Export(ExportFlags),
    /// Fetch and unpack a data set, and print its folder
    #[command(after_help = "Examples:
  onecycle download PETS                   the article's data, 812 MB; its pictures are in images/
  onecycle train \"$(onecycle download imagenette-160)\" --train train --valid val
  onecycle download --list                 what there is")]
    Download(DownloadFlags),
    /// Run every step of the article, with its figures beside one's own, into one report
    #[command(
        name = "chapter5",
        after_help = "Examples:
  onecycle chapter5                                   the pets and torchvision's weights, fetched once; small drawings where there is no network
  onecycle chapter5 --data flowers/ --weights resnet34-b627a593.pth
  onecycle chapter5 --data clothing/ --train train --valid validation --size 64 --item-size 80"
    )]
    Chapter5(Chapter5Flags),
    /// Print a script that completes commands and flags in a shell
    #[command(after_help = "Examples:
  onecycle completions bash > ~/.local/share/bash-completion/completions/onecycle
  onecycle completions zsh > ~/.zfunc/_onecycle
  onecycle completions fish > ~/.config/fish/completions/onecycle.fish")]
    Completions(CompletionsFlags),
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
