//! Items, split and labelled: what a `DataBlock` makes of a folder.

use super::Picture;
use super::block::{DataBlock, OpenPicture};
use super::category::Vocab;
use super::label::Labeller;
use super::split::Splits;
use super::transform::{BatchTransforms, ItemTransform, Subset};
use crate::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The training and the validation set of a folder. fastai: `Datasets`.
///
/// Labels are read once, when the datasets are made, so that a file without a label is found in the first second and
/// not in the last batch. Pictures are opened when asked for.
#[derive(Clone)]
pub struct Datasets {
    source: PathBuf,
    items: Arc<Vec<PathBuf>>,
    splits: Splits,
    targets: Vec<i64>, // [items]; -1 where the splitter left the item out
    vocab: Arc<Vocab>,
    pub(super) opener: Arc<dyn OpenPicture>,
    pub(super) item_tfms: Vec<Arc<dyn ItemTransform>>,
    pub(super) batch_tfms: Arc<dyn BatchTransforms>,
}

impl Datasets {
    pub(super) fn new(
        block: &DataBlock,
        source: &Path,
        items: Vec<PathBuf>,
        splits: Splits,
        labeller: &dyn Labeller,
    ) -> Result<Datasets> {
        if splits.train.is_empty() {
            return Err(Error::new(
                ErrorKind::Data,
                format!("none of the {} items is in the training set", items.len()),
            )
            .on(source.display())
            .remedy("change the splitter, or add pictures"));
        }
        let label = |&i: &usize| labeller.label(&items[i]).map_err(|e| e.on(items[i].display()));
        let train = splits.train.iter().map(label).collect::<Result<Vec<String>>>()?;
        let valid = splits.valid.iter().map(label).collect::<Result<Vec<String>>>()?;
        let vocab = block.categorize.learn(&train);
        let mut targets = vec![-1; items.len()];
        for (label, &i) in train.iter().chain(&valid).zip(splits.train.iter().chain(&splits.valid)) {
            targets[i] = vocab.target(label).map_err(|e| e.on(items[i].display()))?;
        }
        if vocab.len() < 2 {
            let only = vocab.names().first().map(String::as_str).unwrap_or_default();
            return Err(Error::new(ErrorKind::Data, format!("all training items have the label '{only}'"))
                .on(source.display())
                .remedy("a classifier needs two classes or more: check the labeller and the folder"));
        }
        Ok(Datasets {
            source: source.to_owned(),
            items: Arc::new(items),
            splits,
            targets,
            vocab: Arc::new(vocab),
            opener: block.opener.clone(),
            item_tfms: block.item_tfms.clone(),
            batch_tfms: block.batch_tfms.clone(),
        })
    }

    /// The folder that the items came from.
    pub fn source(&self) -> &Path {
        &self.source
    }

    /// All items, those that the splitter left out included.
    pub fn items(&self) -> &[PathBuf] {
        &self.items
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

    /// The class names.
    pub fn vocab(&self) -> &Arc<Vocab> {
        &self.vocab
    }

    /// Class number of the item at `index` in [`Datasets::items`]; -1 where the splitter left the item out.
    pub fn target(&self, index: usize) -> i64 {
        self.targets[index]
    }

    /// How many items of a set belong to each class.
    pub fn class_counts(&self, subset: Subset) -> Vec<usize> {
        let mut counts = vec![0; self.vocab.len()];
        self.indices(subset).iter().for_each(|&i| counts[self.targets[i] as usize] += 1);
        counts
    }

    /// Path and class number of item `i` of a set.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] when `i` is out of range.
    pub fn sample(&self, subset: Subset, i: usize) -> Result<(&Path, i64)> {
        match self.indices(subset).get(i) {
            Some(&index) => Ok((&self.items[index], self.targets[index])),
            None => Err(Error::new(ErrorKind::Argument, format!("item {i} of {} does not exist", self.len(subset)))
                .on(format!("{subset:?}").to_lowercase())
                .remedy("count from 0")),
        }
    }

    /// Item `i` of a set: the decoded picture, before any transform, and its class number.
    ///
    /// # Errors
    /// `i` is out of range, or the file is no picture.
    pub fn get(&self, subset: Subset, i: usize) -> Result<(Picture, i64)> {
        let (path, target) = self.sample(subset, i)?;
        Ok((self.opener.open(path)?, target))
    }

    pub(super) fn remove(&mut self, bad: impl Fn(usize) -> bool) {
        self.splits.train.retain(|&i| !bad(i));
        self.splits.valid.retain(|&i| !bad(i));
    }
}
