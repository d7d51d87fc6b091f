//! Class names and their numbers.
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
//! let vocab = CategoryBlock.add_na().learn(["b", "a", "b"]);
//! assert_eq!(vocab.names(), ["#na#", "a", "b"]);
//! assert_eq!(vocab.target("b").unwrap(), 2);
//! assert_eq!(vocab.target("unheard of").unwrap(), 0);
//! ```

use super::python;
use crate::{Error, ErrorKind, Result};
use std::collections::{HashMap, HashSet};

/// The name that `add_na` puts at index 0, for everything unknown.
pub const NA: &str = "#na#";

/// The block of a single-label target: `DataBlock::new((ImageBlock, CategoryBlock))`.
///
/// Its methods make a [`Categorize`] with other settings, which is a block too.
#[derive(Clone, Copy, Debug, Default)]
pub struct CategoryBlock;

impl CategoryBlock {
    /// Classes given by the caller. They are sorted nevertheless, unless [`Categorize::unsorted`] follows: so does fastai.
    pub fn vocab<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Categorize {
        Categorize { vocab: Some(names.into_iter().map(Into::into).collect()), ..Categorize::default() }
    }

    /// Index 0 is `#na#`, and unknown labels go there.
    pub fn add_na(self) -> Categorize {
        Categorize::default().add_na()
    }

    /// Classes stay in the order of their first training item.
    pub fn unsorted(self) -> Categorize {
        Categorize::default().unsorted()
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

    /// Classes stay in the given order, or in the order of their first training item.
    pub fn unsorted(mut self) -> Categorize {
        self.sort = false;
        self
    }

    /// The vocabulary for a training set with these `labels`, in the order of the set.
    pub fn learn<S: AsRef<str>>(&self, labels: impl IntoIterator<Item = S>) -> Vocab {
        let mut names: Vec<String> = match &self.vocab {
            Some(given) => given.clone(),
            None => {
                let mut seen = HashSet::new();
                labels.into_iter().map(|l| l.as_ref().to_owned()).filter(|l| seen.insert(l.clone())).collect()
            }
        };
        if self.sort {
            names.sort();
        }
        if self.add_na {
            names.insert(0, NA.into());
        }
        Vocab::new(names, self.add_na)
    }

    /// As `DataBlock::summary` prints it, with the settings at construction: the learned vocabulary stays `None`.
    pub fn describe(&self) -> String {
        let vocab = match &self.vocab {
            Some(names) => format!("[{}]", names.iter().map(|n| python::repr(n)).collect::<Vec<_>>().join(", ")),
            None => "None".into(),
        };
        let (sort, na) = (python::boolean(self.sort), python::boolean(self.add_na));
        format!("Categorize -- {{'vocab': {vocab}, 'sort': {sort}, 'add_na': {na}}}")
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
        assert_eq!(CategoryBlock::vocab(["b", "a"]).learn([""; 0]).names(), ["a", "b"]);
        assert_eq!(CategoryBlock::vocab(["b", "a"]).unsorted().learn([""; 0]).names(), ["b", "a"]);
        let shown = CategoryBlock::vocab(["b", "a"]).describe();
        assert_eq!(shown, "Categorize -- {'vocab': ['b', 'a'], 'sort': True, 'add_na': False}");
    }

    #[test]
    fn unknown_label_in_the_words_of_the_reference() {
        let e = Categorize::default().learn(["a"]).target("z").unwrap_err();
        assert_eq!(e.message(), "Label 'z' was not included in the training dataset");
    }
}
