//! The set as a whole: are the classes balanced, and what do the pictures look like?

use super::super::file::Opened;
use super::super::report::{ClassCount, Severity, Shapes};
use super::{Findings, Set, View, count, tally, verb};
use crate::vision::facts::Colour;
use std::collections::BTreeMap;

/// A class this many times as large as another is worth a word.
const IMBALANCE: usize = 10;

/// Pixels from which a picture that also stands out is worth a word: decoding takes a tenth of a second.
const LARGE: usize = 8_000_000;

/// Classes that a message names.
const NAMED: usize = 5;

/// The shorter side's ranges, by where each ends. 224 and 460 are the sizes that fastai's texts train with.
const SIDES: [(&str, usize); 5] =
    [("below 64", 64), ("64 to 223", 224), ("224 to 459", 460), ("460 to 1023", 1024), ("1024 and more", usize::MAX)];

/// Width to height, by the largest that counts.
const ASPECTS: [(&str, f64); 5] = [
    ("taller than 1:2", 0.5),
    ("portrait", 0.8),
    ("about square", 1.25),
    ("landscape", 2.0),
    ("wider than 2:1", f64::INFINITY),
];

impl View<'_> {
    pub(super) fn balance(&self, classes: &BTreeMap<String, ClassCount>, found: &mut Findings) {
        let named = |which: &dyn Fn(&ClassCount) -> bool| -> Vec<&str> {
            classes.iter().filter(|(_, c)| which(c)).map(|(name, _)| name.as_str()).collect()
        };
        let some = |names: &[&str]| match names.len().saturating_sub(NAMED) {
            0 => names.join(", "),
            more => format!("{} and {more} more", names[..NAMED].join(", ")),
        };
        if let (1, Some(only)) = (classes.len(), classes.keys().next()) {
            found.whole(
                "one-class",
                format!("all pictures have the label {only}, and a classifier needs two"),
                "keep each class in a folder of its own, or take labels from file names (--label-re)",
            );
        }
        let train = self.sets.iter().filter(|&&s| s == Set::Train).count();
        if self.seen.splits.is_some() && train < self.check.bs {
            found.whole(
                "few-pictures",
                format!("{} to train on don't fill a batch of {}", count(train, "picture"), self.check.bs),
                "add pictures, or train with smaller batches (--bs)",
            );
        }
        let single = named(&|c| c.images == 1);
        if !single.is_empty() && classes.len() > 1 {
            found.whole(
                "single-picture",
                format!("{} of one picture: {}", count(single.len(), "class"), some(&single)),
                "add pictures: one can be trained on or validated, not both",
            );
        }
        let unseen = named(&|c| c.valid == 0 && c.train > 0);
        if self.seen.splits.is_some() && !unseen.is_empty() {
            found.whole(
                "class-not-validated",
                format!("{} without a validation picture: {}", count(unseen.len(), "class"), some(&unseen)),
                "nothing will measure how well they are told apart; add pictures, or split differently",
            );
        }
        let images = |(_, c): &(&String, &ClassCount)| c.images;
        let (least, most) = (classes.iter().min_by_key(images), classes.iter().max_by_key(images));
        if let (Some((small, few)), Some((large, many))) = (least, most)
            && many.images >= IMBALANCE * few.images
        {
            found.whole(
                "imbalance",
                format!("{large} has {} pictures, {small} {}", many.images, few.images),
                "small classes are predicted rarely; read the error rate of each class, not only the mean",
            );
        }
    }

    /// What the pictures look like.
    pub(super) fn looks(&self, found: &mut Findings) {
        let misnamed = self.opened().filter_map(|(i, o)| {
            let extension = self.seen.paths[i].extension()?.to_string_lossy().into_owned();
            (!o.facts.fits_extension(&extension)).then(|| self.noted(i, format!("is {}", o.facts.format)))
        });
        found.of(
            (Severity::Note, "wrong-extension"),
            misnamed.collect(),
            |n| format!("{} {} another format than the extension says", count(n, "file"), verb(n, "has", "have")),
            "nothing: the content decides here; other programs may refuse them",
        );
        let (size, min) = (|o: &Opened| format!("{}x{}", o.pixels.0, o.pixels.1), self.check.min_side as usize);
        found.of(
            (Severity::Note, "small"),
            self.those(|o| (o.pixels.0.min(o.pixels.1) < min).then(|| size(o))),
            |n| format!("{} {} a side shorter than {min} pixels", count(n, "picture"), verb(n, "has", "have")),
            "look at them: icons and thumbnails teach little",
        );
        let pixels: Vec<usize> = self.sorted_sizes().iter().map(|(w, h)| w * h).collect();
        let large = pixels.get(pixels.len() / 2).map_or(LARGE, |median| (median * 4).max(LARGE));
        found.of(
            (Severity::Note, "large"),
            self.those(|o| (o.pixels.0 * o.pixels.1 > large).then(|| size(o))),
            |n| {
                format!(
                    "{} {} far larger than the others and slow to decode",
                    count(n, "picture"),
                    verb(n, "is", "are")
                )
            },
            "make them smaller on disk: what is above the item size is thrown away in every epoch",
        );
        found.of(
            (Severity::Note, "animated"),
            self.those(|o| o.facts.animated.then(|| o.facts.format.into())),
            |n| format!("{} {} animated: only the first frame is used", count(n, "file"), verb(n, "is", "are")),
            "nothing, if the first frame shows what the label says",
        );
        // A data set that is grey throughout is as it should be.
        let grey = self.opened().filter(|(_, o)| o.facts.colour == Colour::Grey).count();
        let mixed = grey < self.opened().count();
        let odd = |o: &Opened| match o.facts.colour {
            Colour::Cmyk | Colour::GreyAlpha | Colour::Rgba => true,
            Colour::Grey => mixed || o.facts.bits > 8,
            _ => o.facts.bits > 8,
        };
        found.of(
            (Severity::Note, "colours"),
            self.those(|o| odd(o).then(|| kind(o))),
            |n| {
                format!(
                    "{} {} no plain RGB: alpha is dropped, the rest converted",
                    count(n, "picture"),
                    verb(n, "is", "are")
                )
            },
            "look at those with alpha: what was transparent may come out in any colour",
        );
        found.of(
            (Severity::Note, "trailing-data"),
            self.those(|o| (o.facts.trailing > 0).then(|| count(o.facts.trailing as usize, "byte"))),
            |n| format!("{} {} after the picture's end", count(n, "file"), verb(n, "goes on", "go on")),
            "nothing: it is ignored",
        );
    }

    /// Width and height of the readable pictures, by number of pixels.
    fn sorted_sizes(&self) -> Vec<(usize, usize)> {
        let mut sizes: Vec<(usize, usize)> = self.opened().map(|(_, o)| (o.pixels.0, o.pixels.1)).collect();
        sizes.sort_by_key(|&(w, h)| (w * h, w));
        sizes
    }

    pub(super) fn shapes(&self) -> Option<Shapes> {
        let sizes = self.sorted_sizes();
        let side = |&(w, h): &(usize, usize)| SIDES.iter().position(|(_, below)| w.min(h) < *below);
        let aspect = |&(w, h): &(usize, usize)| ASPECTS.iter().position(|(_, most)| w as f64 / h as f64 <= *most);
        let (by_side, by_aspect) = (tally(sizes.iter().map(side)), tally(sizes.iter().map(aspect)));
        let named = |names: &mut dyn Iterator<Item = &'static str>, by: BTreeMap<Option<usize>, usize>| {
            names.enumerate().map(|(i, name)| (name, by.get(&Some(i)).copied().unwrap_or(0))).collect()
        };
        Some(Shapes {
            smallest: *sizes.first()?,
            median: sizes[sizes.len() / 2],
            largest: *sizes.last()?,
            short_sides: named(&mut SIDES.iter().map(|s| s.0), by_side),
            aspects: named(&mut ASPECTS.iter().map(|a| a.0), by_aspect),
        })
    }
}

/// `RGB with alpha, 16 bits`.
pub(super) fn kind(opened: &Opened) -> String {
    let (colour, bits) = (opened.facts.colour.name(), opened.facts.bits);
    if bits > 8 { format!("{colour}, {bits} bits") } else { colour.into() }
}
