//! Values of flags that are one of a few words.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

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
