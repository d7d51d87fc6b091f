//! Whose names a file's tensors have, and which network it is of.

use crate::nn::Module;
use crate::nn::resnet::Arch;
use crate::{Error, ErrorKind, Result, Tensor};
use std::collections::HashMap;

/// What programs put before every name: `DataParallel`, `torch.compile`, a model inside another.
const PREFIXES: [&str; 4] = ["module.", "_orig_mod.", "model.", "backbone."];

/// torchvision's modules, and their numbers in the body.
const MODULES: [(&str, &str); 6] =
    [("conv1.", "0."), ("bn1.", "1."), ("layer1.", "4."), ("layer2.", "5."), ("layer3.", "6."), ("layer4.", "7.")];

/// The tensors of `arch`'s body under the body's own names, each one checked.
pub(super) fn body(tensors: Vec<(String, Tensor)>, arch: &Arch) -> Result<HashMap<String, Tensor>> {
    let tensors = without_prefixes(tensors);
    let fastai = tensors.iter().any(|(name, _)| name == "0.0.weight");
    let mut found: HashMap<String, (String, Tensor)> = HashMap::new();
    let mut strangers = Vec::new();
    for (name, tensor) in tensors {
        // fastai around torchvision's network, and around timm's.
        let rest = name.strip_prefix("0.model.").or(name.strip_prefix("0.").filter(|_| fastai)).unwrap_or(&name);
        let module = MODULES.iter().find_map(|(theirs, ours)| Some(format!("{ours}{}", rest.strip_prefix(theirs)?)));
        let inner = match module {
            Some(inner) => inner,
            // The head's, in fastai's models; the classifier's elsewhere.
            None if rest.starts_with("fc.") || (rest == name && fastai && name.starts_with("1.")) => continue,
            None if name.starts_with("1.") && rest == name && !is_body(rest) => continue,
            // What `Learner::save` keeps of the optimizer.
            None if fastai && name.starts_with("optimizer.") => continue,
            None if is_body(rest) => rest.to_owned(),
            None => {
                strangers.push(name);
                continue;
            }
        };
        if let Some((first, _)) = found.insert(inner, (name.clone(), tensor)) {
            let message = format!("and {first} are the same tensor of the network");
            return Err(misfit(&name, message, "save the network's state_dict() alone"));
        }
    }
    if found.is_empty() {
        let some = strangers.iter().take(3).map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
        let error = Error::new(ErrorKind::Format, format!("has no tensor with a ResNet's name; it has {some}"));
        return Err(error.remedy("names are as in torchvision, timm or fastai: conv1.weight, layer1.0.conv1.weight"));
    }
    let looks = Looks::of(&found);
    let advice = || match &looks {
        Some(looks) if looks.name() != Some(&arch.name) => {
            format!("this looks like {looks}, and {} was expected: choose that one, or its weights", arch.name)
        }
        _ => format!("the file is damaged, or not of {}", arch.name),
    };
    let mut body = HashMap::new();
    for (name, entry) in arch.body().state() {
        let wanted = entry.value();
        match found.remove(&name) {
            Some((theirs, tensor)) if tensor.shape() != wanted.shape() => {
                let (has, needs) = (tensor.shape().nchw(), wanted.shape().nchw());
                return Err(misfit(&theirs, format!("has shape {has:?}, {} needs {needs:?}", arch.name), advice()));
            }
            Some((theirs, tensor)) if tensor.dtype().is_float() != wanted.dtype().is_float() => {
                let kind = if wanted.dtype().is_float() { "floats" } else { "whole numbers" };
                let message = format!("has numbers of type {}, {kind} were expected", tensor.dtype());
                return Err(misfit(&theirs, message, "save the weights again as they came from the network"));
            }
            Some((_, tensor)) => _ = body.insert(name, tensor),
            None if name.ends_with("num_batches_tracked") => {}
            None => return Err(misfit(&torchvision(&name), "is missing", advice())),
        }
    }
    let extra = found.into_values().map(|(name, _)| name).chain(strangers).min();
    match extra {
        Some(name) => Err(misfit(&name, format!("is in the file, but not in {}", arch.name), advice())),
        None => Ok(body),
    }
}

fn misfit(name: &str, message: impl Into<String>, remedy: impl Into<String>) -> Error {
    let shown: String = name.chars().take(100).collect();
    Error::new(ErrorKind::Format, message).on(format!("{:?}", shown)).remedy(remedy)
}

/// A name of [`Arch::body`]'s own state: `0.weight`, `4.1.bn2.bias`.
fn is_body(name: &str) -> bool {
    let (module, rest) = name.split_once('.').unwrap_or((name, ""));
    match module {
        "0" => rest == "weight",
        "1" => ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"].contains(&rest),
        "4" | "5" | "6" | "7" => rest.split('.').next().is_some_and(|block| block.parse::<usize>().is_ok()),
        _ => false,
    }
}

/// The body's name as torchvision has it, which is how people know it.
fn torchvision(name: &str) -> String {
    let found = MODULES.iter().find_map(|(theirs, ours)| Some(format!("{theirs}{}", name.strip_prefix(ours)?)));
    found.unwrap_or_else(|| name.to_owned())
}

fn without_prefixes(mut tensors: Vec<(String, Tensor)>) -> Vec<(String, Tensor)> {
    let common = |tensors: &[(String, Tensor)]| {
        let all = |prefix: &&&str| !tensors.is_empty() && tensors.iter().all(|(name, _)| name.starts_with(**prefix));
        PREFIXES.iter().find(all).map(|prefix| prefix.len())
    };
    while let Some(length) = common(&tensors) {
        tensors = tensors.into_iter().map(|(name, t)| (name[length..].to_owned(), t)).collect();
    }
    tensors
}

/// What a file's tensors say about their network.
struct Looks {
    bottleneck: bool,
    blocks: [usize; 4],
    stem: usize,
}

impl Looks {
    fn of(found: &HashMap<String, (String, Tensor)>) -> Option<Looks> {
        let blocks = ["4.", "5.", "6.", "7."].map(|stage| {
            let number = |name: &String| name.strip_prefix(stage)?.split('.').next()?.parse::<usize>().ok();
            found.keys().filter_map(number).map(|n| n.saturating_add(1)).max().unwrap_or(0)
        });
        let stem = found.get("0.weight")?.1.shape().first().copied()?;
        Some(Looks { bottleneck: found.contains_key("4.0.conv3.weight"), blocks, stem })
    }

    /// The standard architecture of these blocks.
    fn name(&self) -> Option<&'static str> {
        let same =
            |arch: &Arch| (arch.bottleneck, arch.blocks, arch.widths[0]) == (self.bottleneck, self.blocks, self.stem);
        ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]
            .into_iter()
            .find(|name| Arch::by_name(name).is_ok_and(|arch| same(&arch)))
    }
}

impl std::fmt::Display for Looks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if self.bottleneck { "bottleneck" } else { "basic" };
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "a network with {:?} {kind} blocks and {} channels in its stem", self.blocks, self.stem),
        }
    }
}
