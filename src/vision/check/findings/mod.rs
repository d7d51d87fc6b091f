//! From what was seen to what is worth saying.
//!
//! [`faults`] is about files (bad ones, copies, damage, what lies beside), [`looks`] about the set as a whole (balance, sizes, colours).

mod faults;
mod looks;

pub(super) use faults::empty_folders;

use super::Check;
use super::file::{Looked, Opened};
use super::report::{Bad, ClassCount, Finding, Noted, Report, Severity};
use crate::Result;
use crate::data::Splits;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// All that was seen; lists run along `paths`.
pub(super) struct Seen {
    pub paths: Vec<PathBuf>,
    pub labels: Vec<Option<Result<String>>>,
    pub splits: Option<Splits>,
    pub looked: Vec<Looked>,
    /// Pictures by content that aren't called so.
    pub hidden: Vec<PathBuf>,
    /// Positions of files with the same pixels.
    pub groups: Vec<Vec<usize>>,
    /// Folders for a class, without pictures.
    pub empty: Vec<PathBuf>,
}

/// Where training uses a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Set {
    Train,
    Valid,
    Neither,
}

pub(super) fn report(check: &Check, seen: Seen) -> Report {
    let mut sets = vec![if seen.splits.is_some() { Set::Neither } else { Set::Train }; seen.paths.len()];
    if let Some(splits) = &seen.splits {
        splits.train.iter().for_each(|&i| sets[i] = Set::Train);
        splits.valid.iter().for_each(|&i| sets[i] = Set::Valid);
    }
    let view = View { check, seen: &seen, sets };
    let classes = view.classes();
    let mut findings = Findings(Vec::new());
    view.bad(&classes, &mut findings);
    view.copies(&mut findings);
    view.damage(&mut findings);
    view.beside(&mut findings);
    view.balance(&classes, &mut findings);
    view.looks(&mut findings);
    let Findings(mut findings) = findings;
    findings.sort_by_key(|f| f.severity);
    Report {
        images: seen.paths.len(),
        bytes: seen.looked.iter().map(|l| l.bytes).sum(),
        bad: bad_files(&findings),
        split: seen.splits.as_ref().map(|s| (s.train.len(), s.valid.len())),
        shapes: view.shapes(),
        formats: tally(view.opened().map(|(_, o)| o.facts.format)),
        colours: tally(view.opened().map(|(_, o)| looks::kind(o))),
        classes,
        findings,
    }
}

/// Each bad file once, by path.
fn bad_files(findings: &[Finding]) -> Vec<Bad> {
    let mut bad = BTreeMap::new();
    for finding in findings.iter().filter(|f| f.severity == Severity::Bad) {
        for noted in &finding.files {
            bad.entry(&noted.file).or_insert(&noted.detail);
        }
    }
    bad.into_iter().map(|(file, reason)| Bad { file: file.clone(), reason: reason.clone() }).collect()
}

fn tally<K: Ord>(all: impl Iterator<Item = K>) -> BTreeMap<K, usize> {
    let mut counts = BTreeMap::new();
    all.for_each(|key| *counts.entry(key).or_default() += 1);
    counts
}

/// `1 picture`, `2 pictures`.
fn count(n: usize, what: &str) -> String {
    match n {
        1 => format!("1 {what}"),
        _ if what.ends_with("ss") => format!("{n} {what}es"),
        _ => format!("{n} {what}s"),
    }
}

/// The verb that goes with the number.
fn verb(n: usize, one: &'static str, several: &'static str) -> &'static str {
    if n == 1 { one } else { several }
}

/// What has been found so far.
struct Findings(Vec<Finding>);

impl Findings {
    /// A finding about files, whose number the message is made for; none without files.
    fn of(
        &mut self,
        (severity, kind): (Severity, &'static str),
        files: Vec<Noted>,
        message: impl Fn(usize) -> String,
        advice: &str,
    ) {
        if !files.is_empty() {
            let message = message(files.len());
            self.0.push(Finding { kind, severity, message, advice: advice.into(), files });
        }
    }

    /// A warning about the whole.
    fn whole(&mut self, kind: &'static str, message: String, advice: &str) {
        let (severity, files) = (Severity::Warning, Vec::new());
        self.0.push(Finding { kind, severity, message, advice: advice.into(), files });
    }
}

struct View<'a> {
    check: &'a Check,
    seen: &'a Seen,
    sets: Vec<Set>,
}

impl View<'_> {
    /// The readable files with their positions.
    fn opened(&self) -> impl Iterator<Item = (usize, &Opened)> {
        self.seen.looked.iter().enumerate().filter_map(|(i, l)| Some((i, l.opened.as_ref().ok()?)))
    }

    fn label(&self, i: usize) -> Option<&str> {
        self.seen.labels[i].as_ref()?.as_ref().ok().map(String::as_str)
    }

    fn noted(&self, i: usize, detail: impl Into<String>) -> Noted {
        Noted { file: self.seen.paths[i].clone(), detail: detail.into() }
    }

    /// Those of the readable files of which `say` has something to say.
    fn those(&self, say: impl Fn(&Opened) -> Option<String>) -> Vec<Noted> {
        self.opened().filter_map(|(i, o)| Some(self.noted(i, say(o)?))).collect()
    }

    fn classes(&self) -> BTreeMap<String, ClassCount> {
        let mut classes: BTreeMap<String, ClassCount> = BTreeMap::new();
        for (i, _) in self.opened() {
            let Some(label) = self.label(i) else { continue };
            let count = classes.entry(label.into()).or_default();
            count.images += 1;
            count.train += usize::from(self.sets[i] == Set::Train);
            count.valid += usize::from(self.sets[i] == Set::Valid);
        }
        classes
    }
}
