//! What a callback remembers in the middle of a fit, as names and texts that a checkpoint can hold.

use crate::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

/// Names and values, kept as texts: every number comes back as it was, infinities and NaN among them.
///
/// ```
/// use onecycle::learner::StateDict;
/// let state = StateDict::new().with("best", 0.1 + 0.2).with("wait", 3);
/// assert_eq!((state.get::<f64>("best")?, state.get::<usize>("wait")?), (0.1 + 0.2, 3));
/// assert_eq!(state.find::<f64>("worst")?, None);
/// # Ok::<(), onecycle::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StateDict(BTreeMap<String, String>);

impl StateDict {
    /// One without a value: what a callback has that remembers nothing.
    pub fn new() -> StateDict {
        StateDict::default()
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// With a value called `name`.
    pub fn with(mut self, name: &str, value: impl Display) -> StateDict {
        self.0.insert(name.into(), value.to_string());
        self
    }

    /// With a value called `name`, if there is one.
    pub fn with_some(self, name: &str, value: Option<impl Display>) -> StateDict {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// The value called `name`, if there is one.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] when it is no `T`.
    pub fn find<T: FromStr>(&self, name: &str) -> Result<Option<T>> {
        let parse = |text: &String| {
            text.parse().map_err(|_| Error::new(ErrorKind::Format, format!("cannot be `{text}`")).on(name))
        };
        self.0.get(name).map(parse).transpose()
    }

    /// The value called `name`.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] when there is none, or it is no `T`.
    pub fn get<T: FromStr>(&self, name: &str) -> Result<T> {
        self.find(name)?.ok_or_else(|| Error::new(ErrorKind::Format, "is missing").on(name))
    }
}
