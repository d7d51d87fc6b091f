//! Files that fastai wrote: those of `learn.save` are read, those of `learn.export` are refused with a way out.
//!
//! `learn.save` writes a PyTorch checkpoint: the model's `state_dict()`, or `{'model': .., 'opt': ..}` with the optimizer. A
//! `vision_learner` on a ResNet has the names that this crate has (`0.0.weight` for the first convolution, `1.8.weight` for the last
//! linear layer), so the model needs no translation. The optimizer's state has no names: it is a list, in the order of the parameter
//! groups and within them of the modules, which is this crate's order too. Taken over are the averages, the step counts, whether weight
//! decay applies (`do_wd`) and whether a parameter trains in a frozen group (`force_train`), and each group's hyper-parameters. After
//! that an epoch more is the same as in fastai, up to the order of floating-point sums.
//!
//! What a list without names can't tell is checked by everything else: the number of groups and of parameters, each average's shape,
//! and the keys, which differ between Adam, RMSProp and SGD. An optimizer that doesn't fit is fastai's warning, not an error.
//!
//! `learn.export` writes a pickle of the whole program object, which only Python with the code that made it can read.

use super::Learner;
use super::save::{LoadOptions, NO_OPTIMIZER, OTHER_OPTIMIZER, put_states};
use crate::fs::read_exact_at;
use crate::nn::pth::{self, Entry, OptimizerState};
use crate::ops::optimizer_step::State;
use crate::optim::{Hyper, OptimizerKind};
use crate::{Error, ErrorKind, Result};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

/// Whether a file begins as PyTorch's and Python's do. One that can't be read doesn't; whoever reads it will say why.
pub(super) fn is_torch(path: &Path) -> bool {
    let head = || -> std::io::Result<Vec<u8>> {
        let file = File::open(path)?;
        let mut head = vec![0; file.metadata()?.len().min(pth::HEAD as u64) as usize];
        read_exact_at(&file, &mut head, 0)?;
        Ok(head)
    };
    head().is_ok_and(|head| pth::is_torch(&head))
}

/// For a reader of exported models that was given one of fastai's files.
pub(super) fn refused() -> Error {
    let message = "is a file of PyTorch or fastai, not a model that this crate has exported";
    Error::new(ErrorKind::Format, message).remedy(
        "a learn.export() pickle can't be read without Python: there, load_learner(..).save('name'); \
         then here, vision_learner(..)?.load(\"name.pth\")? and export",
    )
}

impl Learner {
    /// Takes over what fastai's `learn.save` has written.
    pub(super) fn load_fastai(&mut self, path: &Path, options: LoadOptions) -> Result<Option<&'static str>> {
        let checkpoint = pth::read(path)?;
        self.load_model(path, checkpoint.tensors.into_iter().collect(), options.strict)?;
        match checkpoint.optimizer.filter(|_| options.with_opt) {
            None => Ok(options.with_opt.then_some(NO_OPTIMIZER)),
            Some(optimizer) => Ok((!self.load_fastai_optimizer(optimizer)?).then_some(OTHER_OPTIMIZER)),
        }
    }

    /// Whether it fits; otherwise the optimizer is unchanged.
    fn load_fastai_optimizer(&mut self, saved: OptimizerState) -> Result<bool> {
        let kind = self.opt.kind();
        let hypers = saved.hypers.iter().map(|found| hyper(kind, found)).collect::<Option<Vec<Hyper>>>();
        let states = saved.state.iter().map(|found| state(kind, found)).collect::<Option<Vec<State>>>();
        let (Some(hypers), Some(states)) = (hypers, states) else { return Ok(false) };
        if hypers.len() != self.opt.param_groups().len() || !put_states(&mut self.opt, states)? {
            return Ok(false);
        }
        let flag = |found: &BTreeMap<String, Entry>, key, default| match found.get(key) {
            Some(Entry::Flag(flag)) => *flag,
            _ => default,
        };
        let flags = saved.state.iter().map(|found| (flag(found, "do_wd", true), flag(found, "force_train", false)));
        self.opt.set_flags(&flags.collect::<Vec<_>>());
        self.opt.set(|g, h| *h = hypers[g]);
        Ok(true)
    }
}

/// A group's hyper-parameters; none when they are another optimizer's.
fn hyper(kind: OptimizerKind, found: &BTreeMap<String, f64>) -> Option<Hyper> {
    let get = |key: &str| found.get(key).copied().filter(|v| v.is_finite() && *v >= 0.0);
    let all = Hyper { lr: get("lr")?, mom: get("mom")?, wd: get("wd")?, sqr_mom: 0.0, eps: 0.0 };
    match kind {
        OptimizerKind::Sgd => (!found.contains_key("sqr_mom")).then_some(all),
        _ => Some(Hyper { sqr_mom: get("sqr_mom")?, eps: get("eps")?, ..all }),
    }
}

/// What is remembered of a parameter, nothing of one that has not moved yet; none when it is another optimizer's.
fn state(kind: OptimizerKind, found: &BTreeMap<String, Entry>) -> Option<State> {
    let mut state = State::default();
    let mut counted = false;
    for (key, entry) in found {
        match (key.as_str(), entry) {
            ("grad_avg", Entry::Tensor(t)) => state.grad_avg = Some(t.clone()),
            ("sqr_avg", Entry::Tensor(t)) => state.sqr_avg = Some(t.clone()),
            // Above 2^53 a float is no count any more.
            ("step", Entry::Number(n)) if *n >= 0.0 && *n <= 9e15 && n.fract() == 0.0 => {
                (state.step, counted) = (*n as u64, true);
            }
            ("do_wd" | "force_train", Entry::Flag(_)) => {}
            _ => return None,
        }
    }
    let remembered = (state.grad_avg.is_some(), state.sqr_avg.is_some(), counted);
    let fits = match kind {
        OptimizerKind::Adam => matches!(remembered, (true, true, true) | (false, false, false)),
        OptimizerKind::RmsProp => matches!(remembered, (_, true, false) | (false, false, false)),
        OptimizerKind::Sgd => matches!(remembered, (_, false, false)),
    };
    fits.then_some(state)
}
