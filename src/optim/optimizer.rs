//! The optimizer: groups of parameters, their hyper-parameters and their state.

use crate::nn::parameter::Value;
use crate::nn::{Param, Role};
use crate::ops::gradient_norm::GradientNorm;
use crate::ops::optimizer_step::{Item, Rule, State, Step, optimizer_steps};
use crate::{Error, ErrorKind, Result, Tensor, ops};
use std::ops::Range;

/// The hyper-parameters of a group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hyper {
    /// Learning rate.
    pub lr: f64,
    /// Momentum.
    pub mom: f64,
    /// Momentum of the squared gradient's average.
    pub sqr_mom: f64,
    /// Added to the root of the squares' average.
    pub eps: f64,
    /// Weight decay.
    pub wd: f64,
}

/// Which optimizer; the values are fastai's defaults, which for Adam are not PyTorch's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OptimizerKind {
    /// Adam with decoupled decay: mom 0.9, sqr_mom 0.99, eps 1e-5, wd 0.01.
    #[default]
    Adam,
    /// Stochastic gradient descent: mom 0, wd 0.
    Sgd,
    /// RMSProp: mom 0, sqr_mom 0.99, eps 1e-8, wd 0.
    RmsProp,
}

impl OptimizerKind {
    fn defaults(self) -> Hyper {
        match self {
            OptimizerKind::Adam => Hyper { lr: 1e-3, mom: 0.9, sqr_mom: 0.99, eps: 1e-5, wd: 0.01 },
            OptimizerKind::Sgd => Hyper { lr: 1e-3, mom: 0.0, sqr_mom: 0.0, eps: 0.0, wd: 0.0 },
            OptimizerKind::RmsProp => Hyper { lr: 1e-3, mom: 0.0, sqr_mom: 0.99, eps: 1e-8, wd: 0.0 },
        }
    }

    fn rule(self, h: &Hyper) -> Rule {
        match self {
            OptimizerKind::Adam => Rule::Adam { mom: h.mom, sqr_mom: h.sqr_mom, eps: h.eps },
            OptimizerKind::Sgd => Rule::Sgd { mom: h.mom },
            OptimizerKind::RmsProp => Rule::RmsProp { mom: h.mom, sqr_mom: h.sqr_mom, eps: h.eps },
        }
    }

    /// The name that `learn.summary()` prints.
    pub fn name(self) -> &'static str {
        match self {
            OptimizerKind::Adam => "Adam",
            OptimizerKind::Sgd => "SGD",
            OptimizerKind::RmsProp => "RMSProp",
        }
    }
}

/// A learning rate for every group: fastai's three ways to say it.
///
/// ```
/// use onecycle::optim::{LrMax, slice};
/// assert_eq!(LrMax::from(1e-2).per_group(3), [1e-2, 1e-2, 1e-2]);
/// assert!((LrMax::from(slice(1e-6, 1e-4)).per_group(3)[1] - 1e-5).abs() < 1e-12);    // equal factors between
/// assert_eq!(LrMax::from(..1e-2).per_group(3), [1e-3, 1e-3, 1e-2]);    // slice(1e-2): a tenth below the last
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum LrMax {
    /// The same for all.
    All(f64),
    /// From the first group to the last, each larger by the same factor: `slice(1e-6, 1e-4)`.
    Between(f64, f64),
    /// A tenth of it for all groups but the last: `slice(1e-2)`.
    Last(f64),
    /// One each.
    Each(Vec<f64>),
}

/// fastai's `slice(start, stop)` of learning rates, from the first group to the last.
pub fn slice(start: f64, stop: f64) -> LrMax {
    LrMax::Between(start, stop)
}

impl LrMax {
    /// The learning rates of `groups` groups.
    pub fn per_group(&self, groups: usize) -> Vec<f64> {
        let last = groups.saturating_sub(1);
        (0..groups)
            .map(|g| match self {
                LrMax::All(lr) => *lr,
                LrMax::Between(_, b) if g == last => *b,
                LrMax::Between(a, b) => a * (b / a).powf(g as f64 / last as f64),
                LrMax::Last(lr) => lr / if g == last { 1.0 } else { 10.0 },
                LrMax::Each(lrs) => lrs[g.min(lrs.len() - 1)],
            })
            .collect()
    }

    /// # Errors
    /// [`ErrorKind::Argument`] unless every rate is positive and finite, a range ascends, and a list has one for each group.
    pub(crate) fn check(&self, groups: usize) -> Result<()> {
        let given = match self {
            LrMax::All(lr) | LrMax::Last(lr) => vec![*lr],
            LrMax::Between(a, b) => vec![*a, *b],
            LrMax::Each(lrs) if lrs.len() != groups => {
                let message = format!("{} learning rates for {groups} parameter groups", lrs.len());
                return Err(Error::new(ErrorKind::Argument, message)
                    .on("lr")
                    .remedy("give one for each group, or one number"));
            }
            LrMax::Each(lrs) => lrs.clone(),
        };
        match given.iter().find(|lr| !(lr.is_finite() && **lr > 0.0)) {
            Some(bad) => Err(Error::new(ErrorKind::Argument, format!("a learning rate must be above 0, not {bad}"))
                .on("lr")
                .remedy("1e-3 is a usual one; lr_find suggests one")),
            None => match *self {
                LrMax::Between(a, b) if a > b => {
                    Err(Error::new(ErrorKind::Argument, format!("the range of learning rates {a:e}..{b:e} descends"))
                        .on("lr")
                        .remedy(format!("the first layers get the smaller one: {b:e}..{a:e}")))
                }
                _ => Ok(()),
            },
        }
    }
}

impl From<f64> for LrMax {
    fn from(lr: f64) -> LrMax {
        LrMax::All(lr)
    }
}
impl From<Range<f64>> for LrMax {
    fn from(range: Range<f64>) -> LrMax {
        LrMax::Between(range.start, range.end)
    }
}
impl From<std::ops::RangeTo<f64>> for LrMax {
    fn from(range: std::ops::RangeTo<f64>) -> LrMax {
        LrMax::Last(range.end)
    }
}
impl From<Vec<f64>> for LrMax {
    fn from(lrs: Vec<f64>) -> LrMax {
        LrMax::Each(lrs)
    }
}

/// A parameter as the optimizer knows it.
#[derive(Debug)]
struct Entry {
    name: String,
    param: Param,
    state: State,
    /// Weight decay applies: not to norms and biases, unless asked for.
    decays: bool,
    /// Trains even in a frozen group: norms, unless asked otherwise.
    always_trains: bool,
}

/// A parameter group.
#[derive(Debug)]
pub struct Group {
    /// Its hyper-parameters.
    pub hyper: Hyper,
    entries: Vec<Entry>,
}

impl Group {
    /// Names of its parameters, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|e| e.name.as_str())
    }

    /// Its parameters with their optimizer state, in order.
    pub fn states(&self) -> impl Iterator<Item = (&str, &State)> {
        self.entries.iter().map(|e| (e.name.as_str(), &e.state))
    }

    /// Its parameters, in order, and whether weight decay applies to each.
    pub fn parameters(&self) -> impl Iterator<Item = (&Param, bool)> {
        self.entries.iter().map(|e| (&e.param, e.decays))
    }
}

/// Changes parameters along their gradients; see the [module](super).
#[derive(Debug)]
pub struct Optimizer {
    kind: OptimizerKind,
    decoupled: bool,
    groups: Vec<Group>,
    frozen_idx: usize,
}

/// What an [`Optimizer`] is at a moment, but for the parameters: [`Optimizer::snapshot`].
#[derive(Clone, Debug)]
pub struct Snapshot {
    groups: Vec<(Hyper, Vec<State>)>,
}

impl Optimizer {
    /// An optimizer over groups of named parameters. Norms and biases don't decay unless `wd_bn_bias`; norms train in frozen
    /// groups if `train_bn`.
    pub fn new(kind: OptimizerKind, groups: Vec<Vec<(String, Param)>>, wd_bn_bias: bool, train_bn: bool) -> Optimizer {
        let entry = |(name, param): (String, Param)| {
            let role = param.role();
            Entry {
                decays: wd_bn_bias || role == Role::Weight,
                always_trains: train_bn && role == Role::Norm,
                state: State::default(),
                name,
                param,
            }
        };
        let hyper = kind.defaults();
        let group = |params: Vec<(String, Param)>| Group { hyper, entries: params.into_iter().map(entry).collect() };
        Optimizer { kind, decoupled: true, groups: groups.into_iter().map(group).collect(), frozen_idx: 0 }
    }

    /// Adds `wd * p` to the gradient instead of shrinking the parameter: fastai's `decouple_wd=False`.
    pub fn coupled_decay(mut self) -> Optimizer {
        self.decoupled = false;
        self
    }

    /// Becomes another optimizer, as it was when it was made. What is frozen stays frozen.
    pub fn set_kind(&mut self, kind: OptimizerKind) {
        self.kind = kind;
        self.reset();
    }

    /// Whether norms and biases decay too; see [`Optimizer::new`].
    pub fn wd_bn_bias(&mut self, on: bool) {
        for entry in self.groups.iter_mut().flat_map(|g| &mut g.entries) {
            entry.decays = on || entry.param.role() == Role::Weight;
        }
    }

    /// Which optimizer it is.
    pub fn kind(&self) -> OptimizerKind {
        self.kind
    }

    /// The groups, from the network's input to its output.
    pub fn param_groups(&self) -> &[Group] {
        &self.groups
    }

    /// Sets a hyper-parameter of every group.
    pub fn set(&mut self, mut f: impl FnMut(usize, &mut Hyper)) {
        self.groups.iter_mut().enumerate().for_each(|(g, group)| f(g, &mut group.hyper));
    }

    /// The first group that trains: 0 when nothing is frozen.
    pub fn frozen_idx(&self) -> usize {
        self.frozen_idx
    }

    /// Freezes the groups before `n`; a negative `n` counts from the end. Norms keep training (see [`Optimizer::new`]). As in
    /// fastai the state of all parameters is forgotten, the hyper-parameters stay.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] when there is no such group.
    pub fn freeze_to(&mut self, n: isize) -> Result<()> {
        let count = self.groups.len() as isize;
        let first = if n < 0 { count + n } else { n };
        if !(0..=count).contains(&first) {
            let message = format!("cannot freeze up to group {n}: the model has {count} parameter groups");
            let remedy = format!("use 0 to {count}, or -1 to -{count} to count from the end; -1 trains the head alone");
            return Err(Error::new(ErrorKind::Argument, message).on("freeze_to").remedy(remedy));
        }
        self.frozen_idx = first as usize;
        for (g, group) in self.groups.iter_mut().enumerate() {
            for entry in &mut group.entries {
                entry.param.set_trainable(g as isize >= first || entry.always_trains);
                entry.state = State::default();
            }
        }
        Ok(())
    }

    /// Freezes all groups but the last.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] when there is only one group.
    pub fn freeze(&mut self) -> Result<()> {
        if self.groups.len() < 2 {
            return Err(Error::new(ErrorKind::Argument, "a model with one parameter group can't be frozen"));
        }
        self.freeze_to(-1)
    }

    /// Moves every parameter that has a gradient, and forgets the gradients.
    ///
    /// # Errors
    /// When a gradient doesn't fit its parameter.
    pub fn step(&mut self) -> Result<()> {
        // All at once: on a GPU they are one launch. The guards keep the parameters ours meanwhile.
        let mut work = Vec::new();
        for group in &mut self.groups {
            let h = group.hyper;
            let rule = self.kind.rule(&h);
            for Entry { name, param, state, decays, .. } in &mut group.entries {
                let Some(grad) = param.take_grad() else { continue };
                let step = Step { rule, lr: h.lr, wd: if *decays { h.wd } else { 0.0 }, decoupled: self.decoupled };
                work.push((param.lock(), grad, state, step, name));
            }
        }
        let mut items = Vec::with_capacity(work.len());
        for (value, grad, state, step, name) in &mut work {
            let Value { master, half } = &mut **value;
            items.push(Item { p: master, half: half.as_mut(), grad, state, step: *step, name });
        }
        optimizer_steps(&mut items)
    }

    /// Lets `f` see and change the gradients of all parameters that have one, in the groups' order.
    ///
    /// # Errors
    /// Whatever `f` fails with; the gradients are forgotten then.
    pub fn with_gradients<R>(&self, f: impl FnOnce(&mut [Tensor]) -> Result<R>) -> Result<R> {
        let taken = self.groups.iter().flat_map(|g| &g.entries).filter_map(|e| Some((&e.param, e.param.take_grad()?)));
        let (params, mut gradients): (Vec<&Param>, Vec<Tensor>) = taken.unzip();
        let result = f(&mut gradients)?;
        params.into_iter().zip(gradients).for_each(|(param, gradient)| param.set_grad(gradient));
        Ok(result)
    }

    /// Whether norms train in frozen groups; see [`Optimizer::new`].
    pub fn train_bn(&mut self, on: bool) {
        for (g, group) in self.groups.iter_mut().enumerate() {
            for entry in group.entries.iter_mut().filter(|entry| entry.param.role() == Role::Norm) {
                entry.always_trains = on;
                entry.param.set_trainable(on || g >= self.frozen_idx);
            }
        }
    }

    /// Scales all gradients by one factor so that their norm, taken as one long vector, is at most `max_norm`; see
    /// [`ops::clip_gradients`] for `norm_type`, usually 2. Returns the norm they had, if there are any.
    ///
    /// # Errors
    /// As [`ops::clip_gradients`]; the device has too little memory.
    pub fn clip_gradients(&mut self, max_norm: f64, norm_type: f64) -> Result<Option<GradientNorm>> {
        self.with_gradients(|gradients| match gradients.is_empty() {
            true => Ok(None),
            false => ops::clip_gradients(gradients, max_norm, norm_type).map(Some),
        })
    }

    /// Forgets all gradients.
    pub fn zero_grad(&self) {
        for entry in self.groups.iter().flat_map(|g| &g.entries) {
            entry.param.take_grad();
        }
    }

    /// Hyper-parameters, averages and step counts, to come back to. Costs memory only for what steps change afterwards.
    pub fn snapshot(&self) -> Snapshot {
        let states = |group: &Group| group.entries.iter().map(|e| e.state.clone()).collect();
        Snapshot { groups: self.groups.iter().map(|group| (group.hyper, states(group))).collect() }
    }

    /// Goes back to a [`Snapshot`] of this optimizer.
    pub fn restore(&mut self, snapshot: Snapshot) {
        for (group, (hyper, states)) in self.groups.iter_mut().zip(snapshot.groups) {
            group.hyper = hyper;
            group.entries.iter_mut().zip(states).for_each(|(entry, state)| entry.state = state);
        }
    }

    /// Replaces what it remembers of its parameters, in the order of [`Group::states`].
    pub(crate) fn set_states(&mut self, states: Vec<State>) {
        let entries = self.groups.iter_mut().flat_map(|group| &mut group.entries);
        entries.zip(states).for_each(|(entry, state)| entry.state = state);
    }

    /// Says for each parameter, in the order of [`Group::states`], whether weight decay applies to it and whether it trains in frozen
    /// groups. What is frozen stays frozen.
    pub(crate) fn set_flags(&mut self, flags: &[(bool, bool)]) {
        let entries = self.groups.iter_mut().flat_map(|group| &mut group.entries);
        entries.zip(flags).for_each(|(entry, flags)| (entry.decays, entry.always_trains) = *flags);
    }

    /// As it was when it was made: default hyper-parameters, no averages. What is frozen stays frozen. fastai: `reset_opt=True`.
    pub fn reset(&mut self) {
        let hyper = self.kind.defaults();
        self.set(|_, h| *h = hyper);
        self.clear_state();
    }

    /// Forgets the averages and step counts.
    pub fn clear_state(&mut self) {
        for entry in self.groups.iter_mut().flat_map(|g| &mut g.entries) {
            entry.state = State::default();
        }
    }
}
