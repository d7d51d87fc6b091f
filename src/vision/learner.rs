//! From an architecture to a model.

use crate::nn::{Module, Param};

/// fastai's parameter groups of a `Sequential(body, head)` ResNet: stem to `layer2`, `layer3` and `layer4`, the head.
pub fn resnet_groups(model: &dyn Module) -> Vec<Vec<(String, Param)>> {
    let mut groups: Vec<Vec<(String, Param)>> = vec![Vec::new(); 3];
    for (name, p) in model.named_parameters() {
        let group = match name.split('.').take(2).collect::<Vec<_>>()[..] {
            ["0", "6" | "7"] => 1,
            ["0", ..] => 0,
            _ => 2,
        };
        groups[group].push((name, p));
    }
    groups
}
