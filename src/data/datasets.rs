//! Items, split and labelled: what a `DataBlock` makes of a folder.

use super::Picture;
use super::block::{DataBlock, Source, no_labels};
use super::category::Vocab;
use super::item::{Item, Value};
use super::label::Getter;
use super::split::Splits;
use super::target::{Encode, Target, Targets};
use super::transform::Subset;
use crate::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The training and the validation set of a folder. fastai: `Datasets`.
///
/// Labels and paths are read once, when the datasets are made, so that a file without a label is found in the
/// first second and not in the last batch. Pictures are opened when asked for.
#[derive(Clone)]
pub struct Datasets {
    source: String,
    items: Arc<Vec<Item>>,
    paths: Arc<Vec<PathBuf>>, // [items]
    splits: Splits,
    targets: Arc<Targets>, // [items]; -1 or NaN where the splitter left the item out
    encode: Arc<dyn Encode>,
    /// How items are found, opened and transformed.
    pub(super) block: DataBlock,
}

impl Datasets {
    pub(super) fn new(
        block: &DataBlock,
        source: String,
        items: Vec<Item>,
        splits: Splits,
        labels: &dyn Getter,
    ) -> Result<Datasets> {
        if splits.train.is_empty() {
            return Err(Error::new(
                ErrorKind::Data,
                format!("none of the {} items is in the training set", items.len()),
            )
            .on(source)
            .remedy("change the splitter, or add pictures"));
        }
        let paths = paths(block, &items)?;
        let label = |&i: &usize| labels.get(&items[i]).map_err(|e| e.on(&items[i]));
        let train = splits.train.iter().map(label).collect::<Result<Vec<Value>>>()?;
        let valid = splits.valid.iter().map(label).collect::<Result<Vec<Value>>>()?;
        let encode = match block.target.learn(&train.iter().collect::<Vec<_>>()) {
            Ok(encode) => encode,
            // The block sees labels, not items: the first that it cannot learn from by itself is the culprit.
            Err(e) => {
                let alone = |(_, label): &(&usize, &Value)| block.target.learn(&[label]).is_err();
                let culprit = splits.train.iter().zip(&train).find(alone);
                return Err(e.on(culprit.map_or(source, |(&i, _)| items[i].to_string())));
            }
        };
        let used = splits.train.iter().chain(&splits.valid);
        let known = used.zip(train.iter().chain(&valid)).map(|(&i, label)| {
            let target = encode.encode(label).map_err(|e| e.on(&items[i]))?;
            Ok((i, target))
        });
        let known = known.collect::<Result<Vec<_>>>()?;
        let targets = Targets::collect(items.len(), known).map_err(|(i, e)| e.on(&items[i]))?;
        if matches!(targets, Targets::Categories(_)) && encode.c() < 2 {
            let only = encode.vocab().names().first().map(String::as_str).unwrap_or_default();
            return Err(Error::new(ErrorKind::Data, format!("all training items have the label '{only}'"))
                .on(source)
                .remedy("a classifier needs two classes or more: check the labeller and the folder"));
        }
        Ok(Datasets {
            source,
            items: Arc::new(items),
            paths: Arc::new(paths),
            splits,
            targets: Arc::new(targets),
            encode,
            block: block.clone(),
        })
    }

    /// The folder or the table that the items came from.
    pub fn source(&self) -> &Path {
        Path::new(&self.source)
    }

    /// All items, those that the splitter left out included.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// The files of all items' pictures.
    pub fn paths(&self) -> &Arc<Vec<PathBuf>> {
        &self.paths
    }

    /// Indices into [`Datasets::items`].
    pub fn splits(&self) -> &Splits {
        &self.splits
    }

    /// The indices of one set.
    pub fn indices(&self, subset: Subset) -> &[usize] {
        match subset {
            Subset::Train => &self.splits.train,
            Subset::Valid => &self.splits.valid,
        }
    }

    /// How many items a set has.
    pub fn len(&self, subset: Subset) -> usize {
        self.indices(subset).len()
    }

    /// Whether a set has no item.
    pub fn is_empty(&self, subset: Subset) -> bool {
        self.indices(subset).is_empty()
    }

    /// The class names; empty where targets are numbers.
    pub fn vocab(&self) -> &Vocab {
        self.encode.vocab()
    }

    /// How many numbers a network has to say about a picture: classes, or numbers of a regression.
    pub fn c(&self) -> usize {
        self.encode.c()
    }

    /// What turns labels into targets.
    pub fn encode(&self) -> &Arc<dyn Encode> {
        &self.encode
    }

    /// The targets of all items; -1 or NaN where the splitter left an item out.
    pub fn targets(&self) -> &Arc<Targets> {
        &self.targets
    }

    /// How many items of a set belong to each class; empty where targets are numbers.
    pub fn class_counts(&self, subset: Subset) -> Vec<usize> {
        let mut counts = vec![0; self.vocab().len()];
        for &i in self.indices(subset) {
            match self.targets.get(i) {
                Target::Category(n) => {
                    if let Some(count) = usize::try_from(n).ok().and_then(|n| counts.get_mut(n)) {
                        *count += 1;
                    }
                }
                Target::MultiCategory(row) => counts.iter_mut().zip(row).for_each(|(n, v)| *n += usize::from(v > 0.5)),
                Target::Number(_) | Target::Numbers(_) => {}
            }
        }
        counts
    }

    fn index(&self, subset: Subset, i: usize) -> Result<usize> {
        self.indices(subset).get(i).copied().ok_or_else(|| {
            Error::new(ErrorKind::Argument, format!("item {i} of {} does not exist", self.len(subset)))
                .on(format!("{subset:?}").to_lowercase())
                .remedy("count from 0")
        })
    }

    /// Item `i` of a set, as it was found.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] when `i` is out of range.
    pub fn item(&self, subset: Subset, i: usize) -> Result<&Item> {
        Ok(&self.items[self.index(subset, i)?])
    }

    /// Path and target of item `i` of a set.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] when `i` is out of range.
    pub fn sample(&self, subset: Subset, i: usize) -> Result<(&Path, Target)> {
        let index = self.index(subset, i)?;
        Ok((&self.paths[index], self.targets.get(index)))
    }

    /// Item `i` of a set: the decoded picture, before any transform, and its target.
    ///
    /// # Errors
    /// `i` is out of range, or the file is no picture.
    pub fn get(&self, subset: Subset, i: usize) -> Result<(Picture, Target)> {
        let (path, target) = self.sample(subset, i)?;
        Ok((self.block.opener.open(path)?, target))
    }

    /// Other items, as the `DataBlock` finds and labels them: their files, and their labels if wanted.
    pub(super) fn find(&self, source: &dyn Source, with_labels: bool) -> Result<(Vec<PathBuf>, Option<Vec<Value>>)> {
        let items = self.block.items(source)?;
        let label = |item: &Item| match self.block.labels() {
            Some(getter) => getter.get(item).map_err(|e| e.on(item)),
            None => Err(no_labels()),
        };
        let labels = with_labels.then(|| items.iter().map(label).collect::<Result<Vec<Value>>>()).transpose()?;
        Ok((paths(&self.block, &items)?, labels))
    }

    pub(super) fn remove(&mut self, bad: impl Fn(usize) -> bool) {
        self.splits.train.retain(|&i| !bad(i));
        self.splits.valid.retain(|&i| !bad(i));
    }
}

/// The files of the items' pictures.
fn paths(block: &DataBlock, items: &[Item]) -> Result<Vec<PathBuf>> {
    let path = |item: &Item| match block.paths() {
        None => item.path().map(Path::to_owned),
        Some(getter) => path_of(getter.get(item)?).map_err(|e| e.on(item)),
    };
    items.iter().map(path).collect()
}

/// What `get_x` found, as a path.
fn path_of(value: Value) -> Result<PathBuf> {
    match value {
        Value::Path(path) => Ok(path),
        // A file may be called 7.
        Value::Text(_) | Value::Int(_) => Ok(value.to_string().into()),
        other => Err(Error::new(ErrorKind::Data, format!("get_x gives {other}, which is no path"))
            .remedy("read the column with the file names, as in ColReader::new(\"fname\").folder(..)")),
    }
}
