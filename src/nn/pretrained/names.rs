//! Whose names a file's tensors have, and which network it is of.

use crate::nn::Module;
use crate::nn::resnet::Arch;
use crate::{Error, ErrorKind, Result, Tensor};
use std::collections::{BTreeSet, HashMap};

/// A tensor of every ResNet, as torchvision and timm call it and as fastai does. What stands before it stands before all.
const EVERY: [&str; 2] = ["layer1.0.conv1.weight", "4.0.conv1.weight"];

/// torchvision's modules, and their numbers in the body.
const MODULES: [(&str, &str); 6] =
    [("conv1.", "0."), ("bn1.", "1."), ("layer1.", "4."), ("layer2.", "5."), ("layer3.", "6."), ("layer4.", "7.")];

/// The tensors of `arch`'s body under the body's own names, each one checked.
pub(super) fn body(tensors: Vec<(String, Tensor)>, arch: &Arch) -> Result<HashMap<String, Tensor>> {
    let below = prefix(&tensors)?;
    let mut found: HashMap<String, (String, Tensor)> = HashMap::new();
    let mut strangers = Vec::new();
    for (name, tensor) in tensors {
        // Beside a network within something larger stand the other parts: fastai's head, a detector, an optimizer.
        let Some(rest) = name.strip_prefix(&below) else { continue };
        let module = MODULES.iter().find_map(|(theirs, ours)| Some(format!("{ours}{}", rest.strip_prefix(theirs)?)));
        let inner = match module {
            Some(inner) => inner,
            None if rest.starts_with("fc.") => continue,
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
        let some = if some.is_empty() { "none at all" } else { &some };
        let error = Error::new(ErrorKind::Format, format!("has no tensor with a ResNet's name; it has {some}"));
        return Err(error.remedy("names are as in torchvision, timm or fastai: conv1.weight, layer1.0.conv1.weight"));
    }
    let looks = Looks::of(&found);
    let advice = || match &looks {
        Some(looks) if looks.name() != Some(&arch.name) => {
            format!("this looks like {looks}, and {} was expected: choose that one, or its weights", arch.name)
        }
        _ => format!(
            "the file is damaged, or of another network, such as a ResNet with a deeper stem, wider blocks or more in them: \
             take weights of {} from torchvision or timm",
            arch.name
        ),
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
            Some((theirs, tensor)) if !tensor.is_finite()? => {
                let remedy =
                    "the training that wrote the file had failed: take an earlier checkpoint, or other weights";
                return Err(misfit(&theirs, "has numbers that are NaN or infinite", remedy));
            }
            Some((_, tensor)) => _ = body.insert(name, tensor),
            None if name.ends_with("num_batches_tracked") => {}
            None => return Err(misfit(&format!("{below}{}", torchvision(&name)), "is missing", advice())),
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

/// What stands before every name of the network: nothing, or the `module.`, `model.`, `0.` of the programs around it.
fn prefix(tensors: &[(String, Tensor)]) -> Result<String> {
    let before = |name: &'_ String| {
        let before = EVERY.iter().find_map(|every| name.strip_suffix(every))?;
        (before.is_empty() || before.ends_with('.')).then(|| before.to_owned())
    };
    let all: BTreeSet<String> = tensors.iter().filter_map(|(name, _)| before(name)).collect();
    let mut all = all.into_iter();
    match (all.next(), all.next()) {
        (only, None) => Ok(only.unwrap_or_default()),
        (first, Some(second)) => {
            let message =
                format!("has several networks, such as those below {:?} and {second:?}", first.unwrap_or_default());
            Err(Error::new(ErrorKind::Format, message)
                .remedy("save one of them alone: torch.save(network.state_dict(), ..)"))
        }
    }
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
