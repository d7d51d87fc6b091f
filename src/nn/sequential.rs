//! Modules one after the other.

use super::{Context, MaxPool2d, Module, ReLU};
use crate::{Result, Tensor};

/// A chain of modules; the names of its parts are their numbers, as PyTorch's `nn.Sequential`.
#[derive(Default)]
pub struct Sequential {
    modules: Vec<Entry>,
}

/// ReLUs and poolings are told apart so that the module before can do theirs in its own pass over memory.
enum Entry {
    ReLU(ReLU),
    MaxPool(MaxPool2d),
    Other(Box<dyn Module>),
}

impl Entry {
    fn module(&self) -> &dyn Module {
        match self {
            Entry::ReLU(relu) => relu,
            Entry::MaxPool(pool) => pool,
            Entry::Other(module) => module.as_ref(),
        }
    }
}

impl Sequential {
    /// An empty chain, which returns its input.
    pub fn new() -> Sequential {
        Sequential::default()
    }

    /// Appends `module`.
    pub fn push(mut self, module: impl Module + 'static) -> Sequential {
        self.modules.push(Entry::Other(Box::new(module)));
        self
    }

    /// Appends a ReLU.
    pub fn push_relu(mut self) -> Sequential {
        self.modules.push(Entry::ReLU(ReLU::new()));
        self
    }

    /// Appends a max pooling.
    pub fn push_max_pool(mut self, pool: MaxPool2d) -> Sequential {
        self.modules.push(Entry::MaxPool(pool));
        self
    }

    /// Number of modules.
    pub fn len(&self) -> usize {
        self.modules.len()
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.modules.is_empty()
    }

    /// The module at `index`.
    pub fn get(&self, index: usize) -> Option<&dyn Module> {
        self.modules.get(index).map(Entry::module)
    }
}

impl Module for Sequential {
    fn forward(&self, x: &Tensor, cx: &Context) -> Result<Tensor> {
        let mut x = x.clone();
        let mut entries = &self.modules[..];
        while let [entry, rest @ ..] = entries {
            let module = entry.module();
            (x, entries) = match rest {
                [Entry::ReLU(relu), Entry::MaxPool(pool), rest @ ..] => {
                    (module.forward_relu_pool(&x, relu, pool, cx)?, rest)
                }
                [Entry::ReLU(relu), rest @ ..] => {
                    let y = module.forward_relu(&x, cx)?;
                    relu.ran_fused(&y, cx);
                    (y, rest)
                }
                _ => (module.forward(&x, cx)?, rest),
            };
        }
        Ok(x)
    }

    fn kind(&self) -> &'static str {
        "Sequential"
    }

    fn children(&self) -> Vec<(String, &dyn Module)> {
        self.modules.iter().enumerate().map(|(i, entry)| (i.to_string(), entry.module())).collect()
    }
}
