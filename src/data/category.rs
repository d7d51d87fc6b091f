//! Class names and their numbers: targets of one label, and of several.
//!
//! [`Categorize`] says how a vocabulary is made, [`Vocab`] is the result. By default the vocabulary holds the labels of
//! the **training** items, each once, sorted by code point: capitals before `_` before small letters, as Python sorts.
//! (A locale-aware order would change every class number.) A label that only validation items have is an error, because
//! nothing could be learned about it.
//!
//! Unlike fastai, where a `DataBlock` keeps the vocabulary of the first folder it saw and fails on the second, each
//! [`datasets`](super::DataBlock::datasets) call learns its own.
//!
//! ```
//! use onecycle::data::CategoryBlock;
//! let vocab = CategoryBlock.add_na().learn_names(["b", "a", "b"]);
//! assert_eq!(vocab.names(), ["#na#", "a", "b"]);
//! assert_eq!(vocab.target("b").unwrap(), 2);
//! assert_eq!(vocab.target("unheard of").unwrap(), 0);
//! ```

use super::item::Value;
use super::python;
use super::target::{Encode, Target, TargetBlock};
use crate::{Error, ErrorKind, Result};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The name that `add_na` puts at index 0, for everything unknown.
pub const NA: &str = "#na#";

/// The block of a single-label target: `DataBlock::new((ImageBlock, CategoryBlock))`.
///
/// Its methods make a [`Categorize`] with other settings, which is a block too.
#[derive(Clone, Copy, Debug, Default)]
pub struct CategoryBlock;

impl CategoryBlock {
    /// Classes given by the caller. They are sorted nevertheless, unless [`Categorize::sort`] says otherwise: so does fastai.
    pub fn vocab<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Categorize {
        Categorize { vocab: Some(names.into_iter().map(Into::into).collect()), ..Categorize::default() }
    }

    /// Index 0 is `#na#`, and unknown labels go there.
    pub fn add_na(self) -> Categorize {
        Categorize::default().add_na()
    }

    /// With `false` classes stay in the order of their first training item.
    pub fn sort(self, sort: bool) -> Categorize {
        Categorize::default().sort(sort)
    }
}

/// How labels become numbers. fastai: `Categorize(vocab=None, sort=True, add_na=False)`.
#[derive(Clone, Debug)]
pub struct Categorize {
    vocab: Option<Vec<String>>,
    sort: bool,
    add_na: bool,
}

impl Default for Categorize {
    fn default() -> Categorize {
        Categorize { vocab: None, sort: true, add_na: false }
    }
}

impl Categorize {
    /// Index 0 is `#na#`, and unknown labels go there.
    pub fn add_na(mut self) -> Categorize {
        self.add_na = true;
        self
    }

    /// With `false` classes stay in the given order, or in the order of their first training item.
    pub fn sort(mut self, sort: bool) -> Categorize {
        self.sort = sort;
        self
    }

    /// The vocabulary for a training set with these labels, in the order of the set.
    pub fn learn_names<S: AsRef<str>>(&self, labels: impl IntoIterator<Item = S>) -> Vocab {
        let labels: Vec<Value> = labels.into_iter().map(|l| l.as_ref().into()).collect();
        self.vocab_of(labels.iter())
    }

    fn vocab_of<'a>(&self, labels: impl Iterator<Item = &'a Value>) -> Vocab {
        let names = match &self.vocab {
            Some(given) => unique(given.iter().map(|n| n.as_str().into()).collect::<Vec<Value>>().iter(), self.sort),
            None => unique(labels, self.sort),
        };
        Vocab::new(with_na(names, self.add_na), self.add_na)
    }

    fn text(&self, class: &str) -> String {
        // As there, a vocabulary that was given shows in its final order, and one that will be learned is None.
        let vocab = match &self.vocab {
            Some(_) => list_repr(self.vocab_of([].iter()).names()),
            None => "None".into(),
        };
        let (sort, na) = (python::boolean(self.sort), python::boolean(self.add_na));
        format!("{class} -- {{'vocab': {vocab}, 'sort': {sort}, 'add_na': {na}}}")
    }
}

fn list_repr(names: &[String]) -> String {
    format!("[{}]", names.iter().map(|n| python::repr(n)).collect::<Vec<_>>().join(", "))
}

fn with_na(mut names: Vec<String>, add_na: bool) -> Vec<String> {
    if add_na {
        names.insert(0, NA.into());
    }
    names
}

/// Each label once; sorted by code point, numbers by size.
fn unique<'a>(labels: impl Iterator<Item = &'a Value>, sort: bool) -> Vec<String> {
    let mut seen = HashSet::new();
    let mut labels: Vec<(String, &Value)> =
        labels.map(|l| (l.to_string(), l)).filter(|(name, _)| seen.insert(name.clone())).collect();
    if sort {
        let numbers = labels.iter().all(|(_, l)| l.is_number());
        let key = |l: &Value| l.number().unwrap_or(0.0);
        labels.sort_by(|(a, x), (b, y)| match numbers {
            true => key(x).total_cmp(&key(y)),
            false => a.cmp(b),
        });
    }
    labels.into_iter().map(|(name, _)| name).collect()
}

impl TargetBlock for CategoryBlock {
    fn describe(&self) -> Vec<String> {
        Categorize::default().describe()
    }
    fn learn(&self, labels: &[&Value]) -> Result<Arc<dyn Encode>> {
        Categorize::default().learn(labels)
    }
}

impl TargetBlock for Categorize {
    /// The settings at construction: a learned vocabulary stays `None`.
    fn describe(&self) -> Vec<String> {
        vec![self.text("Categorize")]
    }

    fn learn(&self, labels: &[&Value]) -> Result<Arc<dyn Encode>> {
        Ok(Arc::new(Single { vocab: self.vocab_of(labels.iter().copied()) }))
    }
}

struct Single {
    vocab: Vocab,
}

impl Encode for Single {
    fn vocab(&self) -> &Vocab {
        &self.vocab
    }

    fn encode(&self, label: &Value) -> Result<Target> {
        match label {
            Value::List(_) => Err(Error::new(ErrorKind::Label, format!("the item has a list of labels: {label}"))
                .remedy("CategoryBlock takes one label an item; MultiCategoryBlock takes several")),
            one => Ok(Target::Category(self.vocab.target(&one.to_string())?)),
        }
    }
}

/// The block of a target with any number of labels: `DataBlock::new((ImageBlock, MultiCategoryBlock))`. fastai:
/// `MultiCategoryBlock`.
///
/// The target is a row with a 1 for each class that the item has, f32 `[N, C]` in a batch. Its methods make a
/// [`MultiCategorize`] with other settings, which is a block too.
///
/// ```
/// use onecycle::data::{Encode, MultiCategoryBlock, Target, TargetBlock, Value};
/// let rule = MultiCategoryBlock.learn(&[&Value::from(["cat", "dog"]), &Value::from(["bird"])])?;
/// assert_eq!(rule.vocab().names(), ["bird", "cat", "dog"]);
/// assert_eq!(rule.encode(&["dog", "bird"].into())?, Target::MultiCategory(vec![1.0, 0.0, 1.0]));
/// # Ok::<(), onecycle::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct MultiCategoryBlock;

impl MultiCategoryBlock {
    /// Classes given by the caller, whose order stays.
    pub fn vocab<S: Into<String>>(names: impl IntoIterator<Item = S>) -> MultiCategorize {
        let vocab = Some(names.into_iter().map(Into::into).collect());
        MultiCategorize { rule: Categorize { vocab, sort: false, add_na: false }, encoded: false }
    }

    /// Labels are rows of 0 and 1 already, one for each of these classes, in this order.
    pub fn encoded<S: Into<String>>(names: impl IntoIterator<Item = S>) -> MultiCategorize {
        MultiCategorize { encoded: true, ..MultiCategoryBlock::vocab(names) }
    }

    /// Index 0 is `#na#`. As in fastai, an unknown label is an error all the same.
    pub fn add_na(self) -> MultiCategorize {
        MultiCategorize::default().add_na()
    }
}

impl TargetBlock for MultiCategoryBlock {
    fn describe(&self) -> Vec<String> {
        MultiCategorize::default().describe()
    }
    fn learn(&self, labels: &[&Value]) -> Result<Arc<dyn Encode>> {
        MultiCategorize::default().learn(labels)
    }
}

/// How lists of labels become rows of 0 and 1. fastai: `MultiCategorize` and `OneHotEncode`, or `EncodedMultiCategorize`.
#[derive(Clone, Debug, Default)]
pub struct MultiCategorize {
    rule: Categorize,
    encoded: bool,
}

impl MultiCategorize {
    /// Index 0 is `#na#`. As in fastai, an unknown label is an error all the same.
    pub fn add_na(mut self) -> MultiCategorize {
        self.rule.add_na = true;
        self
    }
}

impl TargetBlock for MultiCategorize {
    fn describe(&self) -> Vec<String> {
        match self.encoded {
            true => vec![self.rule.text("EncodedMultiCategorize")],
            false => vec![self.rule.text("MultiCategorize"), "OneHotEncode -- {'c': None}".into()],
        }
    }

    fn learn(&self, labels: &[&Value]) -> Result<Arc<dyn Encode>> {
        let mut all = Vec::new();
        for label in labels {
            all.extend(if self.encoded { &[] } else { several(label)? });
        }
        Ok(Arc::new(Multi { vocab: self.rule.vocab_of(all.into_iter()), encoded: self.encoded }))
    }
}

fn several(label: &Value) -> Result<&[Value]> {
    match label {
        Value::List(all) => Ok(all),
        one => Err(Error::new(ErrorKind::Label, format!("'{one}' is one label, and a list was expected"))
            .remedy("make get_y return a list, with ColReader by label_delim; or use CategoryBlock")),
    }
}

struct Multi {
    vocab: Vocab,
    encoded: bool,
}

impl Encode for Multi {
    fn vocab(&self) -> &Vocab {
        &self.vocab
    }

    fn encode(&self, label: &Value) -> Result<Target> {
        let labels = several(label)?;
        if self.encoded {
            let row: Option<Vec<f32>> = labels.iter().map(|v| v.number().map(|n| n as f32)).collect();
            return row.filter(|row| row.len() == self.vocab.len()).map(Target::MultiCategory).ok_or_else(|| {
                let c = self.vocab.len();
                Error::new(ErrorKind::Label, format!("{label} is no row of {c} numbers, one for each class"))
                    .remedy("give a 1 or a 0 for every class; for labels by name use MultiCategoryBlock")
            });
        }
        let mut row = vec![0.0; self.vocab.len()];
        let mut unknown = Vec::new();
        for name in labels.iter().map(Value::to_string) {
            match self.vocab.numbers.get(&name) {
                Some(&n) => row[n as usize] = 1.0,
                None => unknown.push(name),
            }
        }
        match unknown.is_empty() {
            true => Ok(Target::MultiCategory(row)),
            false => {
                let message = format!("Labels '{}' were not included in the training dataset", unknown.join("', '"));
                Err(Error::new(ErrorKind::Label, message)
                    .remedy("give these classes training items, leave their items out, or list them in the vocabulary"))
            }
        }
    }

    fn steps(&self, label: &Value, target: &Target) -> Vec<String> {
        if self.encoded {
            return vec![target.to_string()];
        }
        let names = several(label).unwrap_or_default().iter().map(Value::to_string);
        let numbers: Vec<i64> = names.filter_map(|n| self.vocab.numbers.get(&n).copied()).collect();
        vec![python::integers("TensorMultiCategory", &numbers), target.to_string()]
    }
}

/// Class names; a class's position is its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocab {
    names: Vec<String>,
    numbers: HashMap<String, i64>,
    has_na: bool,
}

impl Vocab {
    /// A vocabulary with these names in this order; with `has_na`, unknown labels get number 0.
    pub fn new(names: Vec<String>, has_na: bool) -> Vocab {
        let numbers = names.iter().enumerate().map(|(i, n)| (n.clone(), i as i64)).collect();
        Vocab { names, numbers, has_na }
    }

    /// The class names, by number.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// How many classes there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is no class.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// A target in words: the class's name; the labels' names, between semicolons as in fastai; the numbers, between commas.
    pub fn title(&self, target: &Target) -> String {
        match target {
            Target::Category(n) => {
                usize::try_from(*n).ok().and_then(|n| self.names.get(n)).cloned().unwrap_or_default()
            }
            Target::MultiCategory(row) => {
                let on = row.iter().zip(&self.names).filter(|(v, _)| **v > 0.5);
                on.map(|(_, name)| name.as_str()).collect::<Vec<_>>().join(";")
            }
            Target::Number(v) => v.to_string(),
            Target::Numbers(row) => row.iter().map(f32::to_string).collect::<Vec<_>>().join(", "),
        }
    }

    /// The number of the class `label`.
    ///
    /// # Errors
    /// [`ErrorKind::Label`], in fastai's words, when there is no such class.
    pub fn target(&self, label: &str) -> Result<i64> {
        match self.numbers.get(label) {
            Some(&n) => Ok(n),
            None if self.has_na => Ok(0),
            None => {
                Err(Error::new(ErrorKind::Label, format!("Label '{label}' was not included in the training dataset"))
                    .remedy("give this class training items, leave its items out, or use CategoryBlock.add_na()"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_classes_are_sorted_too() {
        assert_eq!(CategoryBlock::vocab(["b", "a"]).learn_names([""; 0]).names(), ["a", "b"]);
        assert_eq!(CategoryBlock::vocab(["b", "a"]).sort(false).learn_names([""; 0]).names(), ["b", "a"]);
    }

    #[test]
    fn unknown_label_in_the_words_of_the_reference() {
        let e = Categorize::default().learn_names(["a"]).target("z").unwrap_err();
        assert_eq!(e.message(), "Label 'z' was not included in the training dataset");
    }
}
