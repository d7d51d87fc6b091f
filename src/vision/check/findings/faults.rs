//! Faults of single files: those that training stops at, copies, damage that decoders are silent about, and what lies beside.

use super::super::report::{ClassCount, Noted, Severity};
use super::{Findings, Set, View, count, verb};
use crate::vision::facts::Scan;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

impl View<'_> {
    /// What training stops at.
    pub(super) fn bad(&self, classes: &BTreeMap<String, ClassCount>, found: &mut Findings) {
        let looked = self.seen.looked.iter().enumerate();
        let unreadable = looked.filter_map(|(i, l)| Some(self.noted(i, l.opened.as_ref().err()?))).collect();
        found.of(
            (Severity::Bad, "unreadable"),
            unreadable,
            |n| format!("{} can't be read as {}", count(n, "file"), verb(n, "a picture", "pictures")),
            "fetch them again, move them away, or train without them (skip_bad)",
        );
        let labels = self.seen.labels.iter().enumerate();
        let unlabelled = labels.filter_map(|(i, l)| Some(self.noted(i, l.as_ref()?.as_ref().err()?.message())));
        found.of(
            (Severity::Bad, "no-label"),
            unlabelled.collect(),
            |n| format!("{} {} no label", count(n, "file"), verb(n, "has", "have")),
            "change the expression so that its first group holds the class, or move them away",
        );
        let untrained = self.opened().filter_map(|(i, _)| {
            let label = self.label(i)?;
            let class = classes.get(label)?;
            (class.train == 0 && class.valid > 0).then(|| self.noted(i, format!("class {label} is not trained")))
        });
        found.of(
            (Severity::Bad, "class-not-trained"),
            untrained.collect(),
            |n| format!("{} {} of a class that has no training picture", count(n, "picture"), verb(n, "is", "are")),
            "add training pictures of the class, or take it out of validation; another split may help too",
        );
    }

    /// Pictures that are there more than once. A group contradicts itself, leaks into validation, or merely weighs twice.
    pub(super) fn copies(&self, found: &mut Findings) {
        let (mut conflicts, mut leaks, mut copies) = (Vec::new(), Vec::new(), Vec::new());
        let path = |i: usize| self.seen.paths[i].display();
        for group in &self.seen.groups {
            let labelled = |i: usize| self.label(i).map(|label| (i, label));
            let labels: Vec<(usize, &str)> = group.iter().filter_map(|&i| labelled(i)).collect();
            let mut contradicts = false;
            for &(i, own) in &labels {
                if let Some((j, theirs)) = labels.iter().find(|(_, label)| *label != own) {
                    conflicts.push(self.noted(i, format!("{own} here, {theirs} in {}", path(*j))));
                    contradicts = true;
                }
            }
            let of = |set: Set| group.iter().copied().filter(move |&i| self.sets[i] == set);
            match (of(Set::Train).next(), of(Set::Valid).next()) {
                (Some(train), Some(_)) => {
                    leaks.extend(of(Set::Valid).map(|i| self.noted(i, format!("trained on as {}", path(train)))));
                }
                _ if contradicts => {}
                _ => copies.extend(group[1..].iter().map(|&i| self.noted(i, format!("as {}", path(group[0]))))),
            }
        }
        found.of(
            (Severity::Warning, "label-conflict"),
            conflicts,
            |n| format!("{n} pictures have the same pixels as one with another label"),
            "find out which label is right, and remove the other copy",
        );
        found.of(
            (Severity::Warning, "leak"),
            leaks,
            |n| format!("{} of the validation set {} trained on too", count(n, "picture"), verb(n, "is", "are")),
            "keep one copy: as it is, the error rate looks better than it is",
        );
        found.of(
            (Severity::Warning, "duplicates"),
            copies,
            |n| format!("{} {} the same pixels as another", count(n, "picture"), verb(n, "has", "have")),
            "keep one copy of each: copies weigh more than others, and a random split may put one into validation",
        );
    }

    /// What decoders are silent about.
    pub(super) fn damage(&self, found: &mut Findings) {
        found.of(
            (Severity::Warning, "truncated"),
            self.those(|o| o.cut.then(String::new)),
            |n| format!("{} {} early; the missing part is grey", count(n, "picture"), verb(n, "ends", "end")),
            "fetch them again",
        );
        found.of(
            (Severity::Warning, "damaged-data"),
            self.those(|o| (o.facts.scan == Scan::Damaged && !o.cut).then(String::new)),
            |n| format!("{} can be opened, but the data inside is damaged", count(n, "picture")),
            "look at them: a part may be grey, striped or shifted; fetch them again",
        );
        found.of(
            (Severity::Warning, "extra-data"),
            self.those(|o| match o.facts.scan {
                Scan::Extra(n) => Some(count(n as usize, "byte")),
                _ => None,
            }),
            |n| format!("{} {} bytes in the data that belong to nothing", count(n, "picture"), verb(n, "has", "have")),
            "look at them: it may be harmless junk, or a part may be grey, striped or shifted",
        );
        let turned = self.those(|o| (o.facts.orientation != 1).then(|| format!("orientation {}", o.facts.orientation)));
        if self.check.options.apply_orientation {
            found.of(
                (Severity::Note, "orientation"),
                turned,
                |n| format!("{} {} turned as EXIF says", count(n, "picture"), verb(n, "is", "are")),
                "nothing; predictions of the model will do the same",
            );
        } else {
            found.of(
                (Severity::Warning, "orientation"),
                turned,
                |n| {
                    let stored = verb(n, "is stored", "are stored");
                    format!("{} {stored} turned: EXIF says so, and is ignored", count(n, "picture"))
                },
                "--exif apply (apply_orientation) sets them upright, in training and in every prediction of the model",
            );
        }
        found.of(
            (Severity::Warning, "stumbled"),
            self.those(|o| o.stumbled.clone()),
            |n| format!("{} could be read only at the second try", count(n, "file")),
            "check the disk or the network drive",
        );
    }

    /// What lies beside the pictures.
    pub(super) fn beside(&self, found: &mut Findings) {
        let plain =
            |paths: &[PathBuf]| paths.iter().map(|p| Noted { file: p.clone(), detail: String::new() }).collect();
        found.of(
            (Severity::Warning, "hidden-pictures"),
            plain(&self.seen.hidden),
            |n| {
                let are = verb(n, "is a picture", "are pictures");
                format!(
                    "{} {are} by content but not by extension, and {} left out",
                    count(n, "file"),
                    verb(n, "is", "are")
                )
            },
            "give them the extension of their format",
        );
        found.of(
            (Severity::Warning, "empty-class"),
            plain(&self.seen.empty),
            |n| format!("{} beside the classes {} no picture", count(n, "folder"), verb(n, "holds", "hold")),
            "add pictures, or remove the folder: it makes no class",
        );
    }
}

/// Folders without anything beside a folder that holds pictures: most likely meant to be a class. What can't be listed is passed over;
/// finding the pictures has failed then already.
pub(in super::super) fn empty_folders(dir: &Path, pictures: &[PathBuf]) -> Vec<PathBuf> {
    let used: BTreeSet<&Path> = pictures.iter().flat_map(|p| p.ancestors().skip(1)).collect();
    let classes: BTreeSet<&Path> = pictures.iter().filter_map(|p| p.parent()).filter(|p| *p != dir).collect();
    let shelves: BTreeSet<&Path> = classes.iter().filter_map(|c| c.parent()).collect();
    let entries = |dir: &Path| std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut empty = Vec::new();
    for folder in shelves.into_iter().flat_map(entries) {
        let path = folder.path();
        let hidden = folder.file_name().to_string_lossy().starts_with('.');
        if !hidden && !used.contains(path.as_path()) && path.is_dir() && !entries(&path).any(|e| e.path().is_dir()) {
            empty.push(path);
        }
    }
    empty.sort();
    empty
}
