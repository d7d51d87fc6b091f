//! The report: plain data, for printing and as JSON.

use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Training stops at this.
    Bad,
    /// It makes the model worse, or its error rate wrong.
    Warning,
    /// Good to know.
    Note,
}

/// A file, and what there is to say of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Noted {
    /// The file, or the folder.
    #[serde(serialize_with = "shown")]
    pub file: PathBuf,
    /// In a few words; may be empty, when the finding has said all.
    pub detail: String,
}

/// Something that was found, with the files that it is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A name for programs, which stays: `unreadable`, `no-label`, `class-not-trained`; `label-conflict`, `leak`, `duplicates`,
    /// `truncated`, `damaged-data`, `extra-data`, `orientation`, `hidden-pictures`, `empty-class`, `single-picture`,
    /// `class-not-validated`, `one-class`, `few-pictures`, `imbalance`, `stumbled`; `wrong-extension`, `small`, `large`,
    /// `animated`, `colours`, `trailing-data`.
    pub kind: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// One sentence.
    pub message: String,
    /// What to do about it.
    pub advice: String,
    /// All files concerned, in the order of their paths.
    pub files: Vec<Noted>,
}

/// A file that training would stop at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bad {
    /// The file.
    #[serde(serialize_with = "shown")]
    pub file: PathBuf,
    /// Why.
    pub reason: String,
}

/// Readable pictures of a class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ClassCount {
    /// In both sets, and in neither.
    pub images: usize,
    /// In the training set; all, if there is no splitter.
    pub train: usize,
    /// In the validation set.
    pub valid: usize,
}

/// Sizes of the readable pictures, as width and height in pixels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shapes {
    /// The picture with the fewest pixels.
    pub smallest: (usize, usize),
    /// The one in the middle.
    pub median: (usize, usize),
    /// The one with the most.
    pub largest: (usize, usize),
    /// Pictures by the length of their shorter side, from short to long.
    pub short_sides: Vec<(&'static str, usize)>,
    /// Pictures by width to height, from tall to wide. What is called about square lies between 4:5 and 5:4.
    pub aspects: Vec<(&'static str, usize)>,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Files that were checked.
    pub images: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Files that training would stop at, each once, with the first reason. Empty exactly when no finding is [`Severity::Bad`].
    pub bad: Vec<Bad>,
    /// Readable, labelled pictures of each class.
    #[serde(serialize_with = "counts")]
    pub classes: BTreeMap<String, ClassCount>,
    /// Pictures in the training set and in the validation set, if there is a splitter.
    pub split: Option<(usize, usize)>,
    /// Everything that was found, what matters most first.
    pub findings: Vec<Finding>,
    /// Sizes; none when no picture is readable.
    pub shapes: Option<Shapes>,
    /// Readable pictures by format.
    pub formats: BTreeMap<&'static str, usize>,
    /// Readable pictures by the kind of their pixels.
    pub colours: BTreeMap<String, usize>,
}

impl Report {
    /// The findings of one severity.
    pub fn of(&self, severity: Severity) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(move |f| f.severity == severity)
    }
}

/// A path as text: JSON has nothing else.
fn shown<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&path.display())
}

/// A name and a number for each class; the split is told by `split` and by findings.
fn counts<S: Serializer>(classes: &BTreeMap<String, ClassCount>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(classes.iter().map(|(name, count)| (name, count.images)))
}
