//! `TrainTestSplitter`: a random split of given sizes, and the stratified one, which keeps the shares of the classes.

use super::item::Item;
use super::label::Getter;
use super::split::{Splits, Splitter, clock_seed};
use crate::rng::{Purpose, Rng};
use crate::{Error, ErrorKind, Result};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A number of items, or a share of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Share {
    /// So many.
    Count(usize),
    /// This part of all, between 0 and 1.
    Of(f64),
}

impl From<usize> for Share {
    fn from(count: usize) -> Share {
        Share::Count(count)
    }
}

impl From<f64> for Share {
    fn from(part: f64) -> Share {
        Share::Of(part)
    }
}

/// scikit-learn's `train_test_split`, on request with the same share of every class. fastai: `TrainTestSplitter`.
///
/// Sizes and counts per class are scikit-learn's. Which items are picked is not: its permutation is NumPy's, and this one is the
/// crate's own [`Rng`].
///
/// ```
/// # fn main() -> onecycle::Result<()> {
/// use onecycle::data::{Item, Splitter, TrainTestSplitter, parent_label};
/// let items: Vec<Item> = (0..50).map(|i| format!("{}/{i}.jpg", if i < 40 { "cat" } else { "dog" }).into()).collect();
/// let splits = TrainTestSplitter::new(0.2).seed(1).stratify(parent_label).split(&items)?;
/// let dogs = splits.valid.iter().filter(|&&i| i >= 40).count();
/// assert_eq!((splits.valid.len(), dogs), (10, 2));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TrainTestSplitter {
    test_size: Option<Share>,
    train_size: Option<Share>,
    seed: Option<u64>,
    stratify: Option<Arc<dyn Getter>>,
    shuffle: bool,
}

impl Default for TrainTestSplitter {
    fn default() -> TrainTestSplitter {
        TrainTestSplitter::new(0.2)
    }
}

impl TrainTestSplitter {
    /// `test_size` of the items validate: a share, rounded up, or a number.
    pub fn new(test_size: impl Into<Share>) -> TrainTestSplitter {
        let test_size = Some(test_size.into());
        TrainTestSplitter { test_size, train_size: None, seed: None, stratify: None, shuffle: true }
    }

    /// `train_size` of the items train: a share, rounded down, or a number. All others validate, unless
    /// [`TrainTestSplitter::test_size`] says otherwise.
    pub fn of_train_size(train_size: impl Into<Share>) -> TrainTestSplitter {
        TrainTestSplitter { test_size: None, train_size: Some(train_size.into()), ..TrainTestSplitter::default() }
    }

    /// How much validates, beside a given training size.
    pub fn test_size(mut self, size: impl Into<Share>) -> TrainTestSplitter {
        self.test_size = Some(size.into());
        self
    }

    /// How much trains, beside a given validation size.
    pub fn train_size(mut self, size: impl Into<Share>) -> TrainTestSplitter {
        self.train_size = Some(size.into());
        self
    }

    /// The seed of the permutation; without one, every split differs. fastai: `random_state`.
    pub fn seed(mut self, seed: u64) -> TrainTestSplitter {
        self.seed = Some(seed);
        self
    }

    /// Both sets get the same share of every class; `labels` says what an item's class is.
    pub fn stratify(mut self, labels: impl Getter + 'static) -> TrainTestSplitter {
        self.stratify = Some(Arc::new(labels));
        self
    }

    /// Without shuffling the first items train and those after them validate.
    pub fn shuffle(mut self, shuffle: bool) -> TrainTestSplitter {
        self.shuffle = shuffle;
        self
    }

    /// How many train and how many validate.
    fn sizes(&self, n: usize) -> Result<(usize, usize)> {
        let wrong = |what: String| {
            Error::new(ErrorKind::Argument, what)
                .on("TrainTestSplitter")
                .remedy("use shares between 0 and 1, or numbers that together are at most that of the items")
        };
        let count = |size: Share, up: bool| match size {
            Share::Count(k) if k > 0 && k < n => Ok(k),
            Share::Of(s) if s > 0.0 && s < 1.0 => {
                Ok(if up { (s * n as f64).ceil() } else { (s * n as f64).floor() } as usize)
            }
            _ => Err(wrong(format!("{size:?} is no part of {n} items"))),
        };
        let test = self.test_size.map(|s| count(s, true)).transpose()?;
        let train = self.train_size.map(|s| count(s, false)).transpose()?;
        let (train, test) = match (train, test) {
            (Some(train), Some(test)) => (train, test),
            (Some(train), None) => (train, n - train),
            (None, test) => (n - test.unwrap_or(0).min(n), test.unwrap_or(0)),
        };
        if train + test > n || train == 0 || test == 0 {
            return Err(wrong(format!("{n} items cannot be divided into {train} and {test}")));
        }
        Ok((train, test))
    }

    fn stratified(&self, classes: &[Vec<usize>], train: usize, test: usize, rng: &mut Rng) -> Result<Splits> {
        if let Some(rare) = classes.iter().filter(|c| c.len() < 2).map(|c| c[0]).next() {
            let message = "the least populated class has only 1 member, which is too few: both sets need one";
            return Err(Error::new(ErrorKind::Data, message).on(format!("item {rare}")).remedy("leave this class out"));
        }
        for (size, what) in [(train, "training"), (test, "validation")] {
            if size < classes.len() {
                let message =
                    format!("a {what} set of {size} is smaller than the number of classes, {}", classes.len());
                return Err(Error::new(ErrorKind::Argument, message)
                    .on("TrainTestSplitter")
                    .remedy("use a larger share"));
            }
        }
        let sizes: Vec<usize> = classes.iter().map(Vec::len).collect();
        let of_train = shares(&sizes, train, rng);
        let left: Vec<usize> = sizes.iter().zip(&of_train).map(|(n, t)| n - t).collect();
        let of_test = shares(&left, test, rng);
        let mut splits = Splits::default();
        for ((class, t), v) in classes.iter().zip(of_train).zip(of_test) {
            let order: Vec<usize> = rng.permutation(class.len()).into_iter().map(|i| class[i]).collect();
            splits.train.extend(&order[..t]);
            splits.valid.extend(&order[t..t + v]);
        }
        let mixed = |set: Vec<usize>, rng: &mut Rng| rng.permutation(set.len()).into_iter().map(|i| set[i]).collect();
        Ok(Splits { train: mixed(splits.train, rng), valid: mixed(splits.valid, rng) })
    }
}

impl Splitter for TrainTestSplitter {
    fn split(&self, items: &[Item]) -> Result<Splits> {
        let (train, test) = self.sizes(items.len())?;
        let mut rng = Rng::at(self.seed.unwrap_or_else(clock_seed), Purpose::Split, 0, 0);
        let Some(getter) = &self.stratify else {
            return Ok(match self.shuffle {
                true => {
                    let order = rng.permutation(items.len());
                    Splits { train: order[test..test + train].to_vec(), valid: order[..test].to_vec() }
                }
                false => Splits { train: (0..train).collect(), valid: (train..train + test).collect() },
            });
        };
        if !self.shuffle {
            return Err(Error::new(ErrorKind::Argument, "a stratified split needs shuffling")
                .on("TrainTestSplitter")
                .remedy("leave out shuffle(false)"));
        }
        let mut classes = BTreeMap::<String, Vec<usize>>::new();
        for (i, item) in items.iter().enumerate() {
            classes.entry(getter.get(item)?.to_string()).or_default().push(i);
        }
        let classes: Vec<Vec<usize>> = classes.into_values().collect();
        self.stratified(&classes, train, test, &mut rng)
    }
}

/// `total` divided in proportion to `sizes`: the whole parts, then one more for the largest remainders; of equal
/// remainders chance picks. scikit-learn's `_approximate_mode`.
fn shares(sizes: &[usize], total: usize, rng: &mut Rng) -> Vec<usize> {
    let all = sizes.iter().sum::<usize>().max(1) as f64;
    let exact: Vec<f64> = sizes.iter().map(|&n| total as f64 * (n as f64 / all)).collect();
    let mut whole: Vec<usize> = exact.iter().map(|e| *e as usize).collect();
    let mut order = rng.permutation(sizes.len());
    let remainder = |i: usize| exact[i] - exact[i].floor();
    order.sort_by(|&a, &b| remainder(b).total_cmp(&remainder(a))); // stable: chance decides among equals
    let missing = total - whole.iter().sum::<usize>();
    order.into_iter().take(missing).for_each(|i| whole[i] += 1);
    whole
}
