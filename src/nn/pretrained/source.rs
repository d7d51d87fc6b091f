//! Where each set of weights is published, and where it may lie already.
//!
//! | looked at, in this order | for |
//! |---|---|
//! | `models/` in the home of downloads, [`fetch::home`] | all |
//! | `hub/checkpoints/` in `TORCH_HOME`, else in `torch/` of the user's cache: PyTorch's own | torchvision's |
//! | `HF_HUB_CACHE`, `HF_HOME`'s `hub/`, else `huggingface/hub/` in the user's cache | timm's |
//! | `https://download.pytorch.org/models/NAME-DIGITS.pth`, whose SHA-256 begins with the digits | torchvision's |
//! | `HF_ENDPOINT`, else `https://huggingface.co` | timm's |
//!
//! timm's `resnet34.tv_in1k` and its kin are torchvision's weights in another file, so they serve when torchvision's server can't be
//! reached. Nothing outside the home of downloads is written to.

use super::Weights;
use crate::fetch::{self, Checks, Download, Patience, Watch, variable};
use crate::nn::resnet::Arch;
use crate::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

/// A file of weights, and how to call the place that it came from.
pub(super) struct Found {
    pub path: PathBuf,
    pub source: String,
}

/// torchvision's files: architecture, version, digits of the SHA-256, model on the Hugging Face hub.
const PUBLISHED: [(&str, u8, &str, &str); 8] = [
    ("resnet18", 1, "f37072fd", "timm/resnet18.tv_in1k"),
    ("resnet34", 1, "b627a593", "timm/resnet34.tv_in1k"),
    ("resnet50", 1, "0676ba61", "timm/resnet50.tv_in1k"),
    ("resnet101", 1, "63fe2227", "timm/resnet101.tv_in1k"),
    ("resnet152", 1, "394f9c45", "timm/resnet152.tv_in1k"),
    ("resnet50", 2, "11ad3fa6", "timm/resnet50.tv2_in1k"),
    ("resnet101", 2, "cd907fc2", "timm/resnet101.tv2_in1k"),
    ("resnet152", 2, "f82ba261", "timm/resnet152.tv2_in1k"),
];

const TORCHVISION: &str = "https://download.pytorch.org/models";
const HUGGING_FACE: &str = "https://huggingface.co";
const HUB_FILE: &str = "model.safetensors";

/// Where one server doesn't answer, another one or a file will do; so less waiting than for what has one source.
fn patience() -> Patience {
    Patience { retries: 3, ..Patience::default() }
}

/// The file with the weights; fetched if it is nowhere.
pub(super) fn find(weights: &Weights, arch: &Arch, watch: &mut Watch) -> Result<Found> {
    match weights {
        Weights::File(path) => Ok(Found { path: path.clone(), source: path.display().to_string() }),
        Weights::Url(url) => by_url(url, watch),
        Weights::Hub(name) => by_hub(name, watch),
        Weights::Default => published(arch, None, watch),
        Weights::V1 => published(arch, Some(1), watch),
        Weights::V2 => published(arch, Some(2), watch),
    }
}

/// torchvision's weights, from wherever they are.
fn published(arch: &Arch, version: Option<u8>, watch: &mut Watch) -> Result<Found> {
    let sets =
        PUBLISHED.iter().filter(|(name, v, ..)| *name == arch.name && version.is_none_or(|version| *v == version));
    let Some((name, version, digits, hub)) = sets.max_by_key(|(_, v, ..)| *v) else {
        let there = PUBLISHED.map(|(name, v, ..)| format!("{name} V{v}")).join(", ");
        let what = version.map_or(String::new(), |v| format!(" V{v}"));
        let error = Error::new(ErrorKind::Argument, format!("nobody publishes{what} weights for this network"));
        return Err(error.on(&arch.name).remedy(format!("there are {there}; or name a file of its weights")));
    };
    let file = format!("{name}-{digits}.pth");
    let url = format!("{TORCHVISION}/{file}");
    let checks = Checks::sha256(*digits);
    let ours = fetch::home()?.join("models").join(&file);
    let torch = torch_cache().map(|cache| cache.join(&file));
    // A file of that name that isn't the file is passed over: the download will be right.
    if let Some(path) =
        [Some(ours.clone()), torch].into_iter().flatten().find(|p| p.is_file() && checks.verify(p).is_ok())
    {
        return Ok(Found { source: path.display().to_string(), path });
    }
    if let Some(path) = in_hub_cache(hub) {
        return Ok(Found { source: path.display().to_string(), path });
    }
    let first = match Download::new(&url, &ours).checks(checks).patience(patience()).run(watch) {
        Ok(()) => return Ok(Found { path: ours, source: url }),
        Err(error) if error.kind() == ErrorKind::Network => error,
        Err(error) => return Err(error),
    };
    if fetch::is_offline()?.is_none() {
        match by_hub(hub, watch) {
            Err(error) if error.kind() == ErrorKind::Network => {}
            other => return other,
        }
    }
    let remedy = format!(
        "three ways: fetch {url} where there is a network and name the file (--pretrained FILE); \
         put it at {}; \
         let Python fetch it, as torchvision.models.{name}(weights=\"IMAGENET1K_V{version}\") does, or \
         `hf download {hub} {HUB_FILE}`: their caches are looked at. \
         Or train from fresh weights: --no-pretrained",
        ours.display()
    );
    Err(Error::new(ErrorKind::Network, first.message().to_owned()).on(url).remedy(remedy).caused_by(first))
}

fn by_url(url: &str, watch: &mut Watch) -> Result<Found> {
    let Some(name) = fetch::of_url(url) else {
        let error = Error::new(ErrorKind::Argument, "this is not the address of a file").on(url);
        return Err(error.remedy("it looks like https://HOST/NAME.pth"));
    };
    let checks = digits_in(name).map_or(Checks::none(), |digits| Checks::sha256(digits.to_owned()));
    // Two servers may have files of one name.
    let kept = match url.strip_prefix(TORCHVISION) {
        Some(_) => name.to_owned(),
        None => format!("{}-{name}", &fetch::sha256_of(url.as_bytes())[..8]),
    };
    let path = fetch::home()?.join("models").join(kept);
    Download::new(url, &path).checks(checks).run(watch)?;
    Ok(Found { path, source: url.to_owned() })
}

/// `b627a593` of `resnet34-b627a593.pth`: torch.hub's custom.
fn digits_in(name: &str) -> Option<&str> {
    let (_, tail) = name.split('.').next()?.rsplit_once('-')?;
    let digits =
        (8..=64).contains(&tail.len()) && tail.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    digits.then_some(tail)
}

fn by_hub(name: &str, watch: &mut Watch) -> Result<Found> {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    if !name.split_once('/').is_some_and(|(owner, model)| part(owner) && part(model)) {
        let error = Error::new(ErrorKind::Argument, "is no model on the Hugging Face hub").on(name);
        return Err(error.remedy("it looks like hf-hub:timm/resnet34.tv_in1k"));
    }
    if let Some(path) = in_hub_cache(name) {
        return Ok(Found { source: path.display().to_string(), path });
    }
    let endpoint = variable("HF_ENDPOINT").and_then(|e| e.into_string().ok()).unwrap_or_else(|| HUGGING_FACE.into());
    let url = format!("{}/{name}/resolve/main/{HUB_FILE}", endpoint.trim_end_matches('/'));
    let path = fetch::home()?.join("models").join(format!("{}.safetensors", name.replace('/', "--")));
    Download::new(&url, &path).patience(patience()).run(watch)?;
    Ok(Found { path, source: url })
}

/// The user's folder for caches, as Python's tools see it.
fn user_cache() -> Option<PathBuf> {
    let cache = variable("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || variable("HOME").or_else(|| variable("USERPROFILE")).map(|home| Path::new(&home).join(".cache"));
    cache.or_else(home)
}

fn torch_cache() -> Option<PathBuf> {
    let torch = variable("TORCH_HOME").map(PathBuf::from).or_else(|| user_cache().map(|cache| cache.join("torch")));
    torch.map(|torch| torch.join("hub/checkpoints"))
}

/// The hub's own cache: `models--OWNER--NAME/snapshots/COMMIT/FILE`, the commit of `refs/main` first.
fn in_hub_cache(name: &str) -> Option<PathBuf> {
    let hub = variable("HF_HUB_CACHE").map(PathBuf::from).or_else(|| {
        let home = variable("HF_HOME").map(PathBuf::from);
        home.or_else(|| user_cache().map(|cache| cache.join("huggingface"))).map(|home| home.join("hub"))
    });
    let model = hub?.join(format!("models--{}", name.replace('/', "--")));
    let snapshots = model.join("snapshots");
    let main = std::fs::read_to_string(model.join("refs/main")).unwrap_or_default();
    let main = Some(main.trim().to_owned()).filter(|c| !c.is_empty() && c.bytes().all(|b| b.is_ascii_hexdigit()));
    let mut commits: Vec<PathBuf> =
        std::fs::read_dir(&snapshots).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    commits.sort();
    let first = main.map(|commit| snapshots.join(commit));
    first.into_iter().chain(commits).map(|commit| commit.join(HUB_FILE)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_say_its_digest() {
        assert_eq!(digits_in("resnet34-b627a593.pth"), Some("b627a593"));
        for none in ["resnet34.pth", "resnet34-short.pth", "my-resnets1.pth", "a-B627A593.pth", ""] {
            assert_eq!(digits_in(none), None, "{none}");
        }
    }

    #[test]
    fn the_list_is_torchvisions() {
        for (name, _, digits, hub) in PUBLISHED {
            assert!(Arch::by_name(name).is_ok() && digits_in(&format!("{name}-{digits}.pth")) == Some(digits));
            assert!(hub.starts_with(&format!("timm/{name}.tv")));
        }
    }
}
