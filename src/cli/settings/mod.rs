//! From flags and a file to settings that are complete and checked.
//!
//! A value comes from its flag; without one from `--config`; without that from the default, which is fastai's wherever fastai
//! has one. Afterwards it is checked once, in one place, in words that name the flag: so a typo in the file gets
//! the same answer as one on the command line.
//!
//! [`TrainSettings::to_toml`] writes every value down, defaults included: the file in a run directory repeats the run
//! even if a later version has other defaults.
//!
//! ```
//! use onecycle::cli::{flags::*, settings::TrainSettings};
//! let flags = TrainFlags { dir: Some("pets".into()), epochs: Some(3), ..TrainFlags::default() };
//! let settings = TrainSettings::resolve(flags, CommonFlags::default())?;
//! assert_eq!((settings.epochs, settings.data.bs, settings.common.seeds[0]), (3, 64, 42));
//! assert!(settings.to_toml()?.contains("epochs = 3"));
//! # Ok::<(), onecycle::Error>(())
//! ```

mod chapter5;
mod check;
mod commands;
mod data;
mod file;
mod model;
mod train;

pub use chapter5::Chapter5Settings;
pub use commands::*;
pub use data::DataSettings;
pub use model::ModelSettings;
pub use train::{LrSlice, TrainSettings};

use super::flags::{CommonFlags, Device};
use crate::Result;
use check::Check;
use serde::Serialize;

/// Settings of every command.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Common {
    /// At least one; each makes a run.
    #[serde(rename = "seed")]
    pub seeds: Vec<u64>,
    /// Where to compute.
    pub device: Device,
    /// Threads that compute; none: one for each processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
}

impl Common {
    fn resolve(flags: CommonFlags) -> Result<Common> {
        let seeds = if flags.seed.is_empty() { vec![42] } else { flags.seed };
        if let Some(twice) = seeds.iter().enumerate().find(|(i, seed)| seeds[..*i].contains(seed)) {
            return Err(check::wrong("--seed", format!("{} is there twice", twice.1)));
        }
        // TOML's integers are signed, and the file in the run directory has to hold the seed.
        if let Some(seed) = seeds.iter().find(|s| **s > i64::MAX as u64) {
            return Err(check::wrong("--seed", format!("{seed} is larger than {}", i64::MAX)));
        }
        if let Some(threads) = flags.threads {
            Check("--threads").within(threads, 1, 1024)?;
        }
        Ok(Common { seeds, device: flags.device.unwrap_or_default(), threads: flags.threads })
    }
}
