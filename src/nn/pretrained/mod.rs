//! Pretrained weights: from a file or the network into a ResNet's body.
//!
//! ```no_run
//! use onecycle::nn::{Weights, resnet34};
//! # fn main() -> onecycle::Result<()> {
//! let body = resnet34().body();
//! let pretrained = Weights::from("resnet34-b627a593.pth").load(&resnet34())?;
//! pretrained.load_into(&body)?;
//! # Ok(()) }
//! ```
//!
//! | file | what |
//! |---|---|
//! | `mod.rs` | [`Weights`]: which ones; [`Pretrained`]: the tensors, and where they came from |
//! | `names.rs` | torchvision's, timm's and fastai's names, and which network a file is of |
//! | `source.rs` | where each set is published, and where it may lie already (feature `download`) |
//!
//! **What was decided.** One set of tensors has several names: torchvision's and timm's (`layer1.0.conv1.weight`), fastai's
//! (`0.4.0.conv1.weight`), and those that wrappers put a prefix before. All of them are understood, in `.pth` and in safetensors files, told
//! apart by their first bytes. Every tensor that the body needs must be there with its shape, a type that fits and finite numbers, and
//! the network may have nothing besides but a classifier, which is left out; what a larger model has beside the network is left alone.
//! The error names the first tensor that doesn't fit, and the network that the file seems to be of. Counters
//! (`num_batches_tracked`) may be missing, as in old files. Where a file has the training's moving average beside the last weights
//! (`state_dict_ema`, `model_ema`), the average is taken, as timm does.
//!
//! **Which set.** torchvision has two: V1, which the article used, and V2, trained longer, which exists from 50 layers on.
//! [`Weights::Default`] is torchvision's own default: V1 for 18 and 34, V2 above.
//!
//! **What it costs.** Twice the weights' memory for the moment of loading, and reading the file once more for its SHA-256.

mod names;
#[cfg(feature = "download")]
mod source;

use super::pth;
use super::resnet::Arch;
use super::{Module, safetensors};
use crate::fs::read_exact_at;
use crate::{Error, ErrorKind, Result, Tensor};
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Which weights to begin with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Weights {
    /// torchvision's default: V1 for ResNet-18 and 34, V2 for 50 and more.
    #[default]
    Default,
    /// torchvision's first weights, `IMAGENET1K_V1`: the article's.
    V1,
    /// torchvision's second weights, `IMAGENET1K_V2`, for ResNet-50 and more.
    V2,
    /// A file: `.pth` in either container, or safetensors.
    File(PathBuf),
    /// A file on a server, kept once it is here. A name such as `resnet34-b627a593.pth` says how its SHA-256 begins.
    Url(String),
    /// A model on the Hugging Face hub, such as `timm/resnet34.tv_in1k`: its `model.safetensors`.
    Hub(String),
}

/// `default` or `auto`, `v1`, `v2`, a URL, `hf-hub:OWNER/NAME` as timm writes it, else a file.
impl From<&str> for Weights {
    fn from(text: &str) -> Weights {
        let hub = ["hf-hub:", "hf_hub:", "hf:"].iter().find_map(|prefix| text.strip_prefix(prefix));
        match (text.to_ascii_lowercase().as_str(), hub) {
            (_, Some(name)) => Weights::Hub(name.into()),
            ("default" | "auto", _) => Weights::Default,
            ("v1", _) => Weights::V1,
            ("v2", _) => Weights::V2,
            _ if text.contains("://") => Weights::Url(text.into()),
            _ => Weights::File(text.into()),
        }
    }
}

impl From<&Path> for Weights {
    fn from(path: &Path) -> Weights {
        Weights::File(path.into())
    }
}

impl From<PathBuf> for Weights {
    fn from(path: PathBuf) -> Weights {
        Weights::File(path)
    }
}

impl fmt::Display for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Weights::Default => f.write_str("auto"),
            Weights::V1 => f.write_str("v1"),
            Weights::V2 => f.write_str("v2"),
            Weights::File(path) => path.display().fmt(f),
            Weights::Url(url) => f.write_str(url),
            Weights::Hub(name) => write!(f, "hf-hub:{name}"),
        }
    }
}

/// A body's tensors, checked against an architecture.
#[derive(Debug)]
pub struct Pretrained {
    arch: Arch,
    tensors: HashMap<String, Tensor>,
    source: String,
    sha256: Option<String>,
}

impl Weights {
    /// Finds the weights, fetches them if they aren't here, and reads them.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] naming the file and the first tensor that doesn't fit `arch`; [`ErrorKind::Argument`] when nobody
    /// publishes these weights; [`ErrorKind::Network`] with the ways to get them when they can't be had; [`ErrorKind::Io`].
    pub fn load(&self, arch: &Arch) -> Result<Pretrained> {
        #[cfg(feature = "download")]
        return self.load_watched(arch, &mut crate::fetch::unwatched);
        #[cfg(not(feature = "download"))]
        match self {
            Weights::File(path) => Pretrained::read(path, path.display().to_string(), arch),
            other => {
                let message = "these weights may have to be fetched, and this build has no downloads";
                let error = Error::new(ErrorKind::Network, message).on(other);
                Err(error.remedy("name a file, or build with the feature `download`"))
            }
        }
    }

    /// As [`Weights::load`], telling how far a download is.
    ///
    /// # Errors
    /// As [`Weights::load`]; [`ErrorKind::Interrupted`] when `watch` says so.
    #[cfg(feature = "download")]
    pub fn load_watched(&self, arch: &Arch, watch: &mut crate::fetch::Watch) -> Result<Pretrained> {
        let found = source::find(self, arch, watch)?;
        Pretrained::read(&found.path, found.source, arch)
    }
}

impl Pretrained {
    fn read(path: &Path, source: String, arch: &Arch) -> Result<Pretrained> {
        let tensors = read_any(path)?;
        let tensors = names::body(tensors, arch).map_err(|e| {
            let message = e.item().map_or_else(|| e.message().to_owned(), |item| format!("{item} {}", e.message()));
            Error::new(e.kind(), message).on(path.display()).remedy(e.advice())
        })?;
        #[cfg(feature = "download")]
        let sha256 = Some(crate::fetch::sha256(path)?);
        #[cfg(not(feature = "download"))]
        let sha256 = None;
        Ok(Pretrained { arch: arch.clone(), tensors, source, sha256 })
    }

    /// Puts the tensors into a body, [`Arch::body`].
    ///
    /// # Errors
    /// [`ErrorKind::Format`] when it is the body of another architecture; it is unchanged then.
    pub fn load_into(&self, body: &dyn Module) -> Result<()> {
        body.load_state(&self.tensors)
    }

    /// The architecture that they are for.
    pub fn arch(&self) -> &Arch {
        &self.arch
    }

    /// Where they came from: a path or a URL.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The file's SHA-256 in hexadecimal digits; none without the feature `download`.
    pub fn sha256(&self) -> Option<&str> {
        self.sha256.as_deref()
    }
}

/// Source and the first digits of the SHA-256.
impl fmt::Display for Pretrained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)?;
        match self.sha256.as_deref().and_then(|digits| digits.get(..8)) {
            Some(digits) => write!(f, " (SHA-256 {digits}..)"),
            None => Ok(()),
        }
    }
}

/// The tensors of a file of either format, by its first bytes.
fn read_any(path: &Path) -> Result<Vec<(String, Tensor)>> {
    let failed = |e| Error::io("read the weights", path, e);
    let file = File::open(path).map_err(failed)?;
    let len = file.metadata().map_err(failed)?.len();
    let mut head = vec![0; len.min(pth::HEAD as u64) as usize];
    // A folder can't be read, and `pth::read` says so.
    let read = read_exact_at(&file, &mut head, 0);
    if read.is_err() || pth::is_torch(&head) {
        return pth::read(path).map(|checkpoint| checkpoint.tensors);
    }
    let text = head.trim_ascii_start();
    let others: [(&[u8], &str, &str); 5] = [
        (b"<", "is a web page, not a file of weights", "fetch the file itself"),
        (b"version https://git-lfs", "is git-lfs's note about a file, not the file itself", "fetch the file itself"),
        (b"{", "is JSON, such as the list of a model's parts, not a file of weights", "name the file that it tells of"),
        (b"\x1f\x8b", "is packed by gzip", "unpack it: gunzip FILE"),
        (b"\x89HDF", "is HDF5, as Keras writes it", "it takes a file of PyTorch's or a safetensors file"),
    ];
    // A safetensors file's length may be any bytes, these too; but then comes its header.
    let other = others.into_iter().find(|(begin, ..)| text.starts_with(begin)).filter(|_| head.get(8) != Some(&b'{'));
    if let Some((_, what, remedy)) = other {
        return Err(Error::new(ErrorKind::Format, what).on(path.display()).remedy(remedy));
    }
    if head.is_empty() {
        let error = Error::new(ErrorKind::Format, "is empty").on(path.display());
        return Err(error.remedy("fetch it again: the download or the copy has failed"));
    }
    let mut tensors: Vec<(String, Tensor)> = safetensors::read(path)?.tensors.into_iter().collect();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(tensors)
}
