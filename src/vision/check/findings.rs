//! From what was seen to what is worth saying.

use super::Check;
use super::file::{Looked, Opened};
use super::report::{Bad, ClassCount, Finding, Noted, Report, Severity, Shapes};
use crate::Result;
use crate::data::Splits;
use crate::vision::facts::{Colour, Scan};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A class this many times as large as another is worth a word.
const IMBALANCE: usize = 10;

/// Pixels from which a picture costs an epoch noticeably, if it also stands out: 8 megapixels take some 100 ms to decode.
const LARGE: usize = 8_000_000;

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
    let mut findings = view.bad(&classes);
    findings.extend(view.copies());
    findings.extend(view.damage());
    findings.extend(view.beside());
    findings.extend(view.balance(&classes));
    findings.extend(view.looks());
    findings.retain(|f| !f.files.is_empty() || !f.message.is_empty());
    findings.sort_by_key(|f| f.severity);
    Report {
        images: seen.paths.len(),
        bytes: seen.looked.iter().map(|l| l.bytes).sum(),
        bad: bad_files(&findings),
        split: seen.splits.as_ref().map(|s| (s.train.len(), s.valid.len())),
        shapes: view.shapes(),
        formats: tally(view.opened().map(|(_, o)| o.facts.format)),
        colours: tally(view.opened().map(|(_, o)| kind(o))),
        classes,
        findings,
    }
}

/// Each bad file once, by path.
fn bad_files(findings: &[Finding]) -> Vec<Bad> {
    let mut bad = BTreeMap::new();
    for finding in findings.iter().filter(|f| f.severity == Severity::Bad) {
        for noted in &finding.files {
            let reason = if noted.detail.is_empty() { &finding.message } else { &noted.detail };
            bad.entry(&noted.file).or_insert(reason);
        }
    }
    bad.into_iter().map(|(file, reason)| Bad { file: file.clone(), reason: reason.clone() }).collect()
}

fn tally<K: Ord>(all: impl Iterator<Item = K>) -> BTreeMap<K, usize> {
    let mut counts = BTreeMap::new();
    all.for_each(|key| *counts.entry(key).or_default() += 1);
    counts
}

fn kind(opened: &Opened) -> String {
    let (colour, bits) = (opened.facts.colour.name(), opened.facts.bits);
    if bits > 8 { format!("{colour}, {bits} bits") } else { colour.into() }
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

/// A finding about files; without files there is none.
fn finding(
    severity: Severity,
    kind: &'static str,
    files: Vec<Noted>,
    message: impl Fn(usize) -> String,
    advice: &str,
) -> Option<Finding> {
    let n = files.len();
    (n > 0).then(|| Finding { kind, severity, message: message(n), advice: advice.into(), files })
}

struct View<'a> {
    check: &'a Check,
    seen: &'a Seen,
    sets: Vec<Set>,
}

impl View<'_> {
    fn opened(&self) -> impl Iterator<Item = (usize, &Opened)> {
        self.seen.looked.iter().enumerate().filter_map(|(i, l)| Some((i, l.opened.as_ref().ok()?)))
    }

    fn label(&self, i: usize) -> Option<&str> {
        self.seen.labels[i].as_ref()?.as_ref().ok().map(String::as_str)
    }

    fn noted(&self, i: usize, detail: impl Into<String>) -> Noted {
        Noted { file: self.seen.paths[i].clone(), detail: detail.into() }
    }

    /// Those of the opened files of which `say` has something to say.
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

    fn bad(&self, classes: &BTreeMap<String, ClassCount>) -> Vec<Finding> {
        let unreadable = self.seen.looked.iter().enumerate();
        let unreadable = unreadable.filter_map(|(i, l)| Some(self.noted(i, l.opened.as_ref().err()?))).collect();
        let unlabelled = self.seen.labels.iter().enumerate();
        let unlabelled = unlabelled.filter_map(|(i, l)| match l {
            Some(Err(e)) => Some(self.noted(i, e.message())),
            _ => None,
        });
        let untrained =
            |i: usize| self.label(i).and_then(|l| classes.get(l)).is_some_and(|c| c.train == 0 && c.valid > 0);
        let untrained = self.opened().filter(|(i, _)| self.seen.splits.is_some() && untrained(*i));
        let untrained = untrained.map(|(i, _)| self.noted(i, format!("class {}", self.label(i).unwrap_or_default())));
        [
            finding(
                Severity::Bad,
                "unreadable",
                unreadable,
                |n| format!("{} can't be read as {}", count(n, "file"), verb(n, "a picture", "pictures")),
                "fetch them again or move them away; --skip-bad trains without them",
            ),
            finding(
                Severity::Bad,
                "no-label",
                unlabelled.collect(),
                |n| format!("{} {} no label", count(n, "file"), verb(n, "has", "have")),
                "change the expression of --label-re so that its first group holds the class, or move them away",
            ),
            finding(
                Severity::Bad,
                "class-not-trained",
                untrained.collect(),
                |n| format!("{} {} of a class that has no training picture", count(n, "picture"), verb(n, "is", "are")),
                "add training pictures of the class, or take it out of validation; another split may help too",
            ),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Pictures that are there more than once. A group is told by the worst that it does: contradict, leak, or weigh twice.
    fn copies(&self) -> Vec<Finding> {
        let (mut conflicts, mut leaks, mut copies) = (Vec::new(), Vec::new(), Vec::new());
        for group in &self.seen.groups {
            let labels: BTreeSet<&str> = group.iter().filter_map(|&i| self.label(i)).collect();
            let inside = |set: Set| group.iter().copied().find(|&i| self.sets[i] == set);
            let others = |of: &[usize]| {
                let names: Vec<String> = of.iter().map(|&i| self.seen.paths[i].display().to_string()).collect();
                names.join(", ")
            };
            if labels.len() > 1 {
                for &i in group {
                    let labelled = |&&j: &&usize| self.label(j) != self.label(i);
                    let other: Vec<usize> = group.iter().filter(labelled).copied().collect();
                    if let (Some(own), Some(theirs)) = (self.label(i), other.first().and_then(|&j| self.label(j))) {
                        conflicts.push(self.noted(i, format!("{own} here, {theirs} in {}", others(&other[..1]))));
                    }
                }
            }
            match (inside(Set::Train), inside(Set::Valid)) {
                (Some(train), Some(_)) => {
                    let valid = group.iter().filter(|&&i| self.sets[i] == Set::Valid);
                    leaks.extend(valid.map(|&i| self.noted(i, format!("trained on as {}", others(&[train])))));
                }
                _ if labels.len() < 2 => {
                    copies.extend(group[1..].iter().map(|&i| self.noted(i, format!("as {}", others(&group[..1])))));
                }
                _ => {}
            }
        }
        [
            finding(
                Severity::Warning,
                "label-conflict",
                conflicts,
                |n| format!("{n} pictures have the same pixels as one with another label"),
                "find out which label is right, and remove the other copy",
            ),
            finding(
                Severity::Warning,
                "leak",
                leaks,
                |n| format!("{} of the validation set {} trained on too", count(n, "picture"), verb(n, "is", "are")),
                "keep one copy: as it is, the error rate looks better than it is",
            ),
            finding(
                Severity::Warning,
                "duplicates",
                copies,
                |n| format!("{} {} another's pixels", count(n, "picture"), verb(n, "has", "have")),
                "keep one copy of each: copies weigh more than others, and a random split may put one into validation",
            ),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// What decoders are silent about.
    fn damage(&self) -> Vec<Finding> {
        let turned = self.those(|o| (o.facts.orientation != 1).then(|| format!("orientation {}", o.facts.orientation)));
        let applied = self.check.options.apply_orientation;
        [
            finding(
                Severity::Warning,
                "truncated",
                self.those(|o| o.cut.then(String::new)),
                |n| format!("{} {} early; the missing part is grey", count(n, "picture"), verb(n, "ends", "end")),
                "fetch them again",
            ),
            finding(
                Severity::Warning,
                "damaged-data",
                self.those(|o| (o.facts.scan == Scan::Damaged && !o.cut).then(String::new)),
                |n| format!("{} can be opened, but the data inside is damaged", count(n, "picture")),
                "look at them: a part may be grey, striped or shifted; fetch them again",
            ),
            finding(
                Severity::Warning,
                "extra-data",
                self.those(|o| match o.facts.scan {
                    Scan::Extra(n) => Some(count(n as usize, "byte")),
                    _ => None,
                }),
                |n| {
                    format!(
                        "{} {} bytes in the data that belong to nothing",
                        count(n, "picture"),
                        verb(n, "has", "have")
                    )
                },
                "look at them: it may be harmless junk, or a part may be grey, striped or shifted",
            ),
            finding(
                if applied { Severity::Note } else { Severity::Warning },
                "orientation",
                turned,
                |n| match applied {
                    true => format!("{} {} turned as EXIF says", count(n, "picture"), verb(n, "is", "are")),
                    false => format!(
                        "{} {} down: EXIF says that the camera was turned, and that is ignored",
                        count(n, "picture"),
                        verb(n, "lies", "lie")
                    ),
                },
                match applied {
                    true => "nothing; --exif ignore leaves them as they are stored",
                    false => "--exif apply turns them, in training and in every prediction of the model",
                },
            ),
            finding(
                Severity::Warning,
                "stumbled",
                self.those(|o| o.stumbled.clone()),
                |n| format!("{} could be read only at the second try", count(n, "file")),
                "check the disk or the network drive",
            ),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// What lies beside the pictures.
    fn beside(&self) -> Vec<Finding> {
        let plain =
            |paths: &[PathBuf]| paths.iter().map(|p| Noted { file: p.clone(), detail: String::new() }).collect();
        [
            finding(
                Severity::Warning,
                "hidden-pictures",
                plain(&self.seen.hidden),
                |n| {
                    format!(
                        "{} {} left out: by content {}, by extension not",
                        count(n, "file"),
                        verb(n, "is", "are"),
                        verb(n, "a picture", "pictures")
                    )
                },
                "give them the extension of their format",
            ),
            finding(
                Severity::Warning,
                "empty-class",
                plain(&self.seen.empty),
                |n| format!("{} beside the classes {} no picture", count(n, "folder"), verb(n, "holds", "hold")),
                "add pictures, or remove the folder: it makes no class",
            ),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn balance(&self, classes: &BTreeMap<String, ClassCount>) -> Vec<Finding> {
        let mut all = Vec::new();
        let mut say = |kind: &'static str, message: String, advice: &str| {
            all.push(Finding { kind, severity: Severity::Warning, message, advice: advice.into(), files: Vec::new() });
        };
        let named = |which: &dyn Fn(&ClassCount) -> bool| -> Vec<&str> {
            classes.iter().filter(|(_, c)| which(c)).map(|(name, _)| name.as_str()).collect()
        };
        let some = |names: &[&str]| {
            let more = names.len().saturating_sub(5);
            let first = names[..names.len().min(5)].join(", ");
            if more > 0 { format!("{first} and {more} more") } else { first }
        };
        if let (1, Some(only)) = (classes.len(), classes.keys().next()) {
            let message = format!("all pictures have the label {only}, and a classifier needs two");
            say(
                "one-class",
                message,
                "keep each class in a folder of its own, or take labels from file names with --label-re",
            );
        }
        let train = self.sets.iter().filter(|&&s| s == Set::Train).count();
        if self.seen.splits.is_some() && train < self.check.bs {
            let message = format!("{} to train on don't fill a batch of {}", count(train, "picture"), self.check.bs);
            say("few-pictures", message, "add pictures, or train with a smaller --bs");
        }
        let single = named(&|c| c.images == 1);
        if !single.is_empty() && classes.len() > 1 {
            let message = format!("{} of one picture: {}", count(single.len(), "class"), some(&single));
            say("single-picture", message, "add pictures: one can be trained on or validated, not both");
        }
        let unseen = named(&|c| c.valid == 0 && c.train > 0);
        if self.seen.splits.is_some() && !unseen.is_empty() {
            let message = format!("{} without a validation picture: {}", count(unseen.len(), "class"), some(&unseen));
            say(
                "class-not-validated",
                message,
                "nothing will measure how well they are told apart; add pictures, or split differently",
            );
        }
        let by_count = |(_, c): &(&String, &ClassCount)| c.images;
        if let (Some((small, few)), Some((large, many))) =
            (classes.iter().min_by_key(by_count), classes.iter().max_by_key(by_count))
            && many.images >= IMBALANCE * few.images
        {
            let message = format!("{large} has {} pictures, {small} {}", many.images, few.images);
            say(
                "imbalance",
                message,
                "small classes are predicted rarely; read the error rate of each class, not only the mean",
            );
        }
        all
    }

    /// What the pictures look like.
    fn looks(&self) -> Vec<Finding> {
        let misnamed = self.opened().filter_map(|(i, o)| {
            let extension = self.seen.paths[i].extension()?.to_string_lossy().into_owned();
            (!o.facts.fits_extension(&extension)).then(|| self.noted(i, format!("is {}", o.facts.format)))
        });
        let min = self.check.min_side as usize;
        let pixels: Vec<usize> = self.sorted_sizes().iter().map(|(w, h)| w * h).collect();
        let large = pixels.get(pixels.len() / 2).map_or(LARGE, |median| (median * 4).max(LARGE));
        let unusual =
            |o: &Opened| matches!(o.facts.colour, Colour::Cmyk | Colour::GreyAlpha | Colour::Rgba) || o.facts.bits > 8;
        let grey = self.opened().filter(|(_, o)| o.facts.colour == Colour::Grey).count();
        let mixed = grey > 0 && grey < self.opened().count();
        let odd = self.those(|o| (unusual(o) || mixed && o.facts.colour == Colour::Grey).then(|| kind(o)));
        [
            finding(
                Severity::Note,
                "wrong-extension",
                misnamed.collect(),
                |n| format!("{} {} another format than the extension says", count(n, "file"), verb(n, "has", "have")),
                "nothing: the content decides here; other programs may refuse them",
            ),
            finding(
                Severity::Note,
                "small",
                self.those(|o| (o.pixels.0.min(o.pixels.1) < min).then(|| format!("{}x{}", o.pixels.0, o.pixels.1))),
                |n| format!("{} {} a side shorter than {min} pixels", count(n, "picture"), verb(n, "has", "have")),
                "look at them: icons and thumbnails teach little",
            ),
            finding(
                Severity::Note,
                "large",
                self.those(|o| (o.pixels.0 * o.pixels.1 > large).then(|| format!("{}x{}", o.pixels.0, o.pixels.1))),
                |n| {
                    format!(
                        "{} {} far larger than the others and slow to decode",
                        count(n, "picture"),
                        verb(n, "is", "are")
                    )
                },
                "make them smaller on disk: what is above --item-size is thrown away in every epoch",
            ),
            finding(
                Severity::Note,
                "animated",
                self.those(|o| o.facts.animated.then(|| o.facts.format.into())),
                |n| format!("{} {} animated: only the first frame is used", count(n, "file"), verb(n, "is", "are")),
                "nothing, if the first frame shows what the label says",
            ),
            finding(
                Severity::Note,
                "colours",
                odd,
                |n| {
                    format!(
                        "{} {} not plain RGB: alpha is dropped, the rest converted",
                        count(n, "picture"),
                        verb(n, "is", "are")
                    )
                },
                "look at those with alpha: what was transparent may come out in any colour",
            ),
            finding(
                Severity::Note,
                "trailing-data",
                self.those(|o| (o.facts.trailing > 0).then(|| count(o.facts.trailing as usize, "byte"))),
                |n| format!("{} {} after the picture's end", count(n, "file"), verb(n, "goes on", "go on")),
                "nothing: it is ignored",
            ),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Width and height of the readable pictures, by number of pixels.
    fn sorted_sizes(&self) -> Vec<(usize, usize)> {
        let mut sizes: Vec<(usize, usize)> = self.opened().map(|(_, o)| (o.pixels.0, o.pixels.1)).collect();
        sizes.sort_by_key(|&(w, h)| (w * h, w));
        sizes
    }

    fn shapes(&self) -> Option<Shapes> {
        let sizes = self.sorted_sizes();
        // 224 and 460 are the sizes that fastai's texts train with.
        let sides = [
            ("below 64", 64),
            ("64 to 223", 224),
            ("224 to 459", 460),
            ("460 to 1023", 1024),
            ("1024 and more", usize::MAX),
        ];
        let aspects = [
            ("taller than 1:2", 0.5),
            ("portrait, 1:2 to 4:5", 0.8),
            ("about square", 1.25),
            ("landscape, 5:4 to 2:1", 2.0),
            ("wider than 2:1", f64::INFINITY),
        ];
        let place = |&(w, h): &(usize, usize)| sides.iter().position(|(_, below)| w.min(h) < *below).unwrap_or(4);
        let aspect =
            |&(w, h): &(usize, usize)| aspects.iter().position(|(_, to)| w as f64 / h as f64 <= *to).unwrap_or(4);
        let (by_side, by_aspect) = (tally(sizes.iter().map(place)), tally(sizes.iter().map(aspect)));
        let counts = |names: Vec<&'static str>, by: BTreeMap<usize, usize>| {
            names.into_iter().enumerate().map(|(i, name)| (name, by.get(&i).copied().unwrap_or(0))).collect()
        };
        Some(Shapes {
            smallest: *sizes.first()?,
            median: sizes[sizes.len() / 2],
            largest: *sizes.last()?,
            short_sides: counts(sides.iter().map(|s| s.0).collect(), by_side),
            aspects: counts(aspects.iter().map(|a| a.0).collect(), by_aspect),
        })
    }
}

/// Folders without anything beside a folder that holds pictures: most likely meant to be a class. What can't be listed is passed over;
/// finding the pictures has failed then already.
pub(super) fn empty_folders(dir: &Path, pictures: &[PathBuf]) -> Vec<PathBuf> {
    let classes: BTreeSet<&Path> = pictures.iter().filter_map(|p| p.parent()).filter(|p| *p != dir).collect();
    let shelves: BTreeSet<&Path> = classes.iter().filter_map(|c| c.parent()).collect();
    let mut empty = Vec::new();
    for folder in shelves.into_iter().flat_map(|shelf| std::fs::read_dir(shelf).into_iter().flatten().flatten()) {
        let path = folder.path();
        let hidden = folder.file_name().to_string_lossy().starts_with('.');
        let used = pictures.iter().any(|p| p.starts_with(&path));
        let has_folders = || std::fs::read_dir(&path).into_iter().flatten().flatten().any(|e| e.path().is_dir());
        if !hidden && path.is_dir() && !used && !has_folders() {
            empty.push(path);
        }
    }
    empty.sort();
    empty
}
