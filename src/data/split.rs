//! Which items train and which validate.
//!
//! A [`Splitter`] looks at the list of items and returns two lists of indices. [`RandomSplitter`] is fastai's, index for
//! index: it runs the generator that stands behind `torch.manual_seed` and `torch.randperm` (MT19937), so that seed 42
//! picks the same positions here and there. What it cannot match is which *file* a position names, because fastai's
//! listing is unsorted (see [`get_image_files`](super::get_image_files)).
//!
//! | splitter | what validates |
//! |---|---|
//! | [`RandomSplitter`] | a random share |
//! | [`RandomSubsetSplitter`] | a random share; another one trains, and the rest is left out |
//! | [`TrainTestSplitter`](super::TrainTestSplitter) | a random share, on request the same share of every class |
//! | [`EndSplitter`] | the end of the list, or its beginning |
//! | [`IndexSplitter`], [`MaskSplitter`] | the items with these indices, or where a mask is true |
//! | [`GrandparentSplitter`] | what lies in certain folders |
//! | [`FileSplitter`] | what a text file lists |
//! | [`ColSplitter`] | the rows in which a column says so |
//! | [`FuncSplitter`] | what a function picks |
//!
//! ```
//! # fn main() -> onecycle::Result<()> {
//! use onecycle::data::{RandomSplitter, Splitter};
//! let items: Vec<_> = (0..10).map(|i| format!("{i}.jpg").into()).collect();
//! let splits = RandomSplitter::seed(42).split(&items)?;
//! assert_eq!(splits.valid, [2, 6]);
//! assert_eq!(splits.train, [1, 8, 4, 5, 0, 9, 3, 7]);
//! # Ok(())
//! # }
//! ```

use super::item::{Col, Item, Row, Value};
use crate::{Error, ErrorKind, Result};
use std::collections::HashSet;
use std::path::Path;

/// Two lists of indices into the items. An index in neither list is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Splits {
    /// Items to train on, in the order of the training set.
    pub train: Vec<usize>,
    /// Items to validate on, in the order in which the validation loader yields them.
    pub valid: Vec<usize>,
}

/// Divides items into a training and a validation set.
pub trait Splitter: Send + Sync {
    /// The two sets, as indices into `items`.
    ///
    /// # Errors
    /// An argument of the splitter is out of range for these items.
    fn split(&self, items: &[Item]) -> Result<Splits>;
}

impl<S: Splitter + ?Sized> Splitter for Box<S> {
    fn split(&self, items: &[Item]) -> Result<Splits> {
        (**self).split(items)
    }
}

/// A random share for validation. fastai: `RandomSplitter(valid_pct=0.2, seed=None)`.
///
/// Both lists stay in permuted order: the first item of the training set is a random one.
#[derive(Clone, Debug)]
pub struct RandomSplitter {
    valid_pct: f64,
    seed: Option<u64>,
}

impl RandomSplitter {
    /// `valid_pct` (0 to 1) of the items validate. Without a seed, every split differs.
    pub fn new(valid_pct: f64, seed: impl Into<Option<u64>>) -> RandomSplitter {
        RandomSplitter { valid_pct, seed: seed.into() }
    }

    /// fastai's default share of 0.2, from `seed`.
    pub fn seed(seed: u64) -> RandomSplitter {
        RandomSplitter::new(0.2, seed)
    }
}

impl Splitter for RandomSplitter {
    fn split(&self, items: &[Item]) -> Result<Splits> {
        if !(0.0..=1.0).contains(&self.valid_pct) {
            return Err(Error::new(ErrorKind::Argument, format!("{} is no share of the items", self.valid_pct))
                .on("valid_pct")
                .remedy("use a number between 0 and 1, such as 0.2"));
        }
        let seed = self.seed.unwrap_or_else(clock_seed);
        let mut train = torch_permutation(items.len(), seed);
        let rest = train.split_off((self.valid_pct * items.len() as f64) as usize);
        Ok(Splits { train: rest, valid: train })
    }
}

pub(super) fn clock_seed() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    since.as_nanos() as u64 ^ u64::from(std::process::id()) << 32
}

/// `torch.manual_seed(seed); torch.randperm(n)` on a CPU, for n below about 2e8.
pub fn torch_permutation(n: usize, seed: u64) -> Vec<usize> {
    let mut twister = Mt19937::new(seed as u32);
    let mut order: Vec<usize> = (0..n).collect();
    for i in 0..n.saturating_sub(1) {
        let z = twister.next_u32() as usize % (n - i);
        order.swap(i, i + z);
    }
    order
}

/// The Mersenne twister of Matsumoto and Nishimura (1998), with its 2002 initialisation.
struct Mt19937 {
    state: [u32; 624],
    used: usize,
}

impl Mt19937 {
    fn new(seed: u32) -> Mt19937 {
        let mut state = [seed; 624];
        for i in 1..624 {
            let before = state[i - 1];
            state[i] = (before ^ before >> 30).wrapping_mul(1_812_433_253).wrapping_add(i as u32);
        }
        Mt19937 { state, used: 624 }
    }

    fn next_u32(&mut self) -> u32 {
        if self.used == 624 {
            for i in 0..624 {
                let y = self.state[i] & 0x8000_0000 | self.state[(i + 1) % 624] & 0x7fff_ffff;
                let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[i] = self.state[(i + 397) % 624] ^ y >> 1 ^ odd;
            }
            self.used = 0;
        }
        let mut y = self.state[self.used];
        self.used += 1;
        y ^= y >> 11;
        y ^= y << 7 & 0x9d2c_5680;
        y ^= y << 15 & 0xefc6_0000;
        y ^ y >> 18
    }
}

/// One name, or several.
#[derive(Clone, Debug)]
pub struct Names(Vec<String>);

impl From<&str> for Names {
    fn from(name: &str) -> Names {
        Names(vec![name.into()])
    }
}

impl From<&String> for Names {
    fn from(name: &String) -> Names {
        Names(vec![name.clone()])
    }
}

impl<S: Into<String>> From<Vec<S>> for Names {
    fn from(names: Vec<S>) -> Names {
        Names(names.into_iter().map(Into::into).collect())
    }
}

impl<S: Into<String>, const N: usize> From<[S; N]> for Names {
    fn from(names: [S; N]) -> Names {
        Names(names.into_iter().map(Into::into).collect())
    }
}

/// By the name of the grandparent folder, as in `train/pug/1.jpg`; other items are left out. fastai:
/// `GrandparentSplitter`. Of several names, the items of the first come first.
#[derive(Clone, Debug)]
pub struct GrandparentSplitter {
    train: Names,
    valid: Names,
}

impl GrandparentSplitter {
    /// The names of the two folders, or lists of names; fastai's defaults are `train` and `valid`.
    pub fn new(train: impl Into<Names>, valid: impl Into<Names>) -> GrandparentSplitter {
        GrandparentSplitter { train: train.into(), valid: valid.into() }
    }
}

impl Splitter for GrandparentSplitter {
    fn split(&self, items: &[Item]) -> Result<Splits> {
        let grandparent = |item: &Item| -> Result<Option<String>> {
            let folder = item.path()?.parent().and_then(Path::parent).and_then(Path::file_name);
            Ok(folder.map(|n| n.to_string_lossy().into_owned()))
        };
        let folders = items.iter().map(grandparent).collect::<Result<Vec<_>>>()?;
        let inside = |names: &Names| -> Result<Vec<usize>> {
            let mut all = Vec::new();
            for name in &names.0 {
                let before = all.len();
                all.extend((0..items.len()).filter(|&i| folders[i].as_ref() == Some(name)));
                if all.len() == before {
                    return Err(Error::new(ErrorKind::Data, format!("no item lies in a folder {name}/CLASS/"))
                        .remedy("check the names given to GrandparentSplitter, or use RandomSplitter"));
                }
            }
            Ok(all)
        };
        Ok(Splits { train: inside(&self.train)?, valid: inside(&self.valid)? })
    }
}

/// The listed items validate, in the order given; all others train. fastai: `IndexSplitter`.
#[derive(Clone, Debug)]
pub struct IndexSplitter {
    valid: Vec<usize>,
}

impl IndexSplitter {
    /// `valid`: indices into the items.
    pub fn new(valid: impl Into<Vec<usize>>) -> IndexSplitter {
        IndexSplitter { valid: valid.into() }
    }
}

impl Splitter for IndexSplitter {
    fn split(&self, items: &[Item]) -> Result<Splits> {
        let mut validates = vec![false; items.len()];
        for &i in &self.valid {
            *validates.get_mut(i).ok_or_else(|| {
                Error::new(ErrorKind::Argument, format!("index {i} is out of range: there are {} items", items.len()))
                    .on("IndexSplitter")
                    .remedy("count from 0 in the sorted list of items")
            })? = true;
        }
        Ok(Splits { train: (0..items.len()).filter(|&i| !validates[i]).collect(), valid: self.valid.clone() })
    }
}

/// The last (or the first) share of the items validates, without shuffling. fastai: `EndSplitter`.
#[derive(Clone, Debug)]
pub struct EndSplitter {
    valid_pct: f64,
    valid_last: bool,
}

impl EndSplitter {
    /// `valid_pct` strictly between 0 and 1; `valid_last` chooses the end.
    pub fn new(valid_pct: f64, valid_last: bool) -> EndSplitter {
        EndSplitter { valid_pct, valid_last }
    }
}

impl Splitter for EndSplitter {
    fn split(&self, items: &[Item]) -> Result<Splits> {
        if !(self.valid_pct > 0.0 && self.valid_pct < 1.0) {
            return Err(Error::new(ErrorKind::Argument, "valid_pct must be between 0 and 1, both excluded")
                .on("EndSplitter")
                .remedy("use a share such as 0.2"));
        }
        // fastai puts everything into validation when the count comes out 0 and `valid_last` is set (`items[-0:]`); here
        // 0 means none.
        let n = items.len();
        let count = (self.valid_pct * n as f64) as usize;
        let cut = if self.valid_last { n - count } else { count };
        let (first, last) = ((0..cut).collect(), (cut..n).collect());
        Ok(match self.valid_last {
            true => Splits { train: first, valid: last },
            false => Splits { train: last, valid: first },
        })
    }
}

/// Two sets from a mark on each item, both in the order of the items.
fn by_mark(marks: impl Iterator<Item = Result<bool>>) -> Result<Splits> {
    let mut splits = Splits::default();
    for (i, validates) in marks.enumerate() {
        if validates? { &mut splits.valid } else { &mut splits.train }.push(i);
    }
    Ok(splits)
}

type Picks = Box<dyn Fn(&Item) -> Result<bool> + Send + Sync>;

/// Items for which a function says so validate. fastai: `FuncSplitter`.
pub struct FuncSplitter {
    validates: Picks,
}

impl FuncSplitter {
    /// `validates`: true for the files of the validation set.
    pub fn new(validates: impl Fn(&Path) -> bool + Send + Sync + 'static) -> FuncSplitter {
        FuncSplitter { validates: Box::new(move |item| Ok(validates(item.path()?))) }
    }

    /// `validates`: true for the rows of the validation set.
    pub fn rows(validates: impl Fn(&Row) -> Result<bool> + Send + Sync + 'static) -> FuncSplitter {
        FuncSplitter { validates: Box::new(move |item| validates(item.row()?)) }
    }
}

impl Splitter for FuncSplitter {
    fn split(&self, items: &[Item]) -> Result<Splits> {
        by_mark(items.iter().map(|item| (self.validates)(item)))
    }
}

/// Items where the mask is true validate. fastai: `MaskSplitter`.
#[derive(Clone, Debug)]
pub struct MaskSplitter {
    mask: Vec<bool>,
}

impl MaskSplitter {
    /// `mask`: a mark for each item, in the order of the items.
    pub fn new(mask: impl Into<Vec<bool>>) -> MaskSplitter {
        MaskSplitter { mask: mask.into() }
    }
}

impl Splitter for MaskSplitter {
    fn split(&self, items: &[Item]) -> Result<Splits> {
        if self.mask.len() != items.len() {
            let message = format!("a mask of {} for {} items", self.mask.len(), items.len());
            return Err(Error::new(ErrorKind::Argument, message).on("MaskSplitter").remedy("give every item a mark"));
        }
        by_mark(self.mask.iter().map(|&m| Ok(m)))
    }
}

/// Items whose file name stands in a text file, one a line, validate. fastai: `FileSplitter`.
#[derive(Clone, Debug)]
pub struct FileSplitter {
    list: String,
    names: HashSet<String>,
}

impl FileSplitter {
    /// Reads the list at `path`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it cannot be read as text.
    pub fn read(path: impl AsRef<Path>) -> Result<FileSplitter> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|e| Error::io("read the list", path, e))?;
        let names = text.lines().filter(|l| !l.is_empty()).map(str::to_owned).collect();
        Ok(FileSplitter { list: path.display().to_string(), names })
    }
}

impl Splitter for FileSplitter {
    fn split(&self, items: &[Item]) -> Result<Splits> {
        let listed = |item: &Item| {
            let name = item.path()?.file_name().unwrap_or_default();
            Ok(name.to_str().is_some_and(|n| self.names.contains(n)))
        };
        let splits = by_mark(items.iter().map(listed))?;
        if splits.valid.is_empty() && !self.names.is_empty() {
            let message = format!("none of the {} names in this list is the name of an item", self.names.len());
            return Err(Error::new(ErrorKind::Data, message)
                .on(&self.list)
                .remedy("write one file name a line, with its extension and without folders"));
        }
        Ok(splits)
    }
}

/// Rows validate by what stands in a column. fastai: `ColSplitter(col="is_valid", on=None)`.
#[derive(Clone, Debug)]
pub struct ColSplitter {
    col: Col,
    on: Option<Vec<Value>>,
}

impl Default for ColSplitter {
    fn default() -> ColSplitter {
        ColSplitter::new("is_valid")
    }
}

impl ColSplitter {
    /// Rows validate where the column `col`, a name or a position, is `True` or a number other than 0.
    pub fn new(col: impl Into<Col>) -> ColSplitter {
        ColSplitter { col: col.into(), on: None }
    }

    /// Rows validate where the column holds this value, or one of several after several calls.
    pub fn on(mut self, value: impl Into<Value>) -> ColSplitter {
        self.on.get_or_insert_default().push(value.into());
        self
    }
}

impl Splitter for ColSplitter {
    fn split(&self, items: &[Item]) -> Result<Splits> {
        by_mark(items.iter().map(|item| {
            let cell = item.row()?.get(self.col.clone())?;
            match &self.on {
                // Python compares numbers by value: 1, 1.0 and True are one.
                Some(on) => Ok(on.iter().any(|v| v == cell || v.number().is_some_and(|n| Some(n) == cell.number()))),
                None => cell.truth().ok_or_else(|| {
                    Error::new(ErrorKind::Data, format!("'{cell}' is neither true nor false"))
                        .on(item)
                        .remedy("say which value of the column validates: ColSplitter::new(..).on(value)")
                }),
            }
        }))
    }
}

/// A random share trains, another one validates, the rest is left out. fastai: `RandomSubsetSplitter`.
///
/// From the start of the permutation come the items that *train*: where the shares add up to 1, this is not
/// [`RandomSplitter`]'s split.
#[derive(Clone, Debug)]
pub struct RandomSubsetSplitter {
    train_sz: f64,
    valid_sz: f64,
    seed: Option<u64>,
}

impl RandomSubsetSplitter {
    /// Shares of the items, both above 0 and below 1 and together at most 1. Without a seed, every split differs.
    pub fn new(train_sz: f64, valid_sz: f64, seed: impl Into<Option<u64>>) -> RandomSubsetSplitter {
        RandomSubsetSplitter { train_sz, valid_sz, seed: seed.into() }
    }
}

impl Splitter for RandomSubsetSplitter {
    fn split(&self, items: &[Item]) -> Result<Splits> {
        let share = |s: f64| s > 0.0 && s < 1.0;
        if !share(self.train_sz) || !share(self.valid_sz) || self.train_sz + self.valid_sz > 1.0 {
            let message = format!("{} and {} are no shares of the items", self.train_sz, self.valid_sz);
            return Err(Error::new(ErrorKind::Argument, message)
                .on("RandomSubsetSplitter")
                .remedy("use two numbers between 0 and 1 that add up to 1 at most"));
        }
        let count = |s: f64| (items.len() as f64 * s) as usize;
        let (train, valid) = (count(self.train_sz), count(self.valid_sz));
        let order = torch_permutation(items.len(), self.seed.unwrap_or_else(clock_seed));
        Ok(Splits { train: order[..train].to_vec(), valid: order[train..train + valid].to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(names: &[&str]) -> Vec<Item> {
        names.iter().map(|&n| n.into()).collect()
    }

    /// The first numbers of the reference implementation's `mt19937ar.out` use another initialisation; seed 5489 and
    /// the 10,000th number are the C++ standard's test ([rand.predef]).
    #[test]
    fn twister_known_answer() {
        let mut twister = Mt19937::new(5489);
        let last = (0..10_000).map(|_| twister.next_u32()).last();
        assert_eq!(last, Some(4_123_659_995));
    }

    #[test]
    fn seeds_beyond_32_bits_wrap() {
        assert_eq!(torch_permutation(50, (1 << 32) + 5), torch_permutation(50, 5));
    }

    #[test]
    fn splitters() {
        let tree = items(&["d/train/a/1", "d/valid/a/2", "d/test/a/3", "d/train/b/4"]);
        let splits = GrandparentSplitter::new("train", "valid").split(&tree).unwrap();
        assert_eq!(splits, Splits { train: vec![0, 3], valid: vec![1] });
        assert!(GrandparentSplitter::new("train", "dev").split(&tree).is_err());
        let splits = IndexSplitter::new([2, 0]).split(&tree).unwrap();
        assert_eq!(splits, Splits { train: vec![1, 3], valid: vec![2, 0] });
        assert!(IndexSplitter::new([4]).split(&tree).is_err());
        let splits = EndSplitter::new(0.5, true).split(&tree).unwrap();
        assert_eq!(splits, Splits { train: vec![0, 1], valid: vec![2, 3] });
        let splits = EndSplitter::new(0.25, false).split(&tree).unwrap();
        assert_eq!(splits, Splits { train: vec![1, 2, 3], valid: vec![0] });
        let splits = FuncSplitter::new(|p: &Path| p.ends_with("4")).split(&tree).unwrap();
        assert_eq!(splits, Splits { train: vec![0, 1, 2], valid: vec![3] });
        assert!(RandomSplitter::new(1.5, 1).split(&tree).is_err());
        assert!(RandomSplitter::new(f64::NAN, None).split(&tree).is_err());
        assert_eq!(RandomSplitter::new(0.5, None).split(&tree).unwrap().valid.len(), 2);
    }
}
