//! What a network should say: class numbers, rows of yes and no, or numbers.
//!
//! A target block is a [`TargetBlock`]: it learns from the labels of the training items what there is to know (a vocabulary,
//! how many numbers a label has) and becomes an [`Encode`], which turns each label into a [`Target`]. Three come with the crate:
//! [`CategoryBlock`](super::CategoryBlock), [`MultiCategoryBlock`](super::MultiCategoryBlock) and
//! [`RegressionBlock`]. The targets of a batch are collected in one [`Targets`], whose variant says which
//! loss fits.

use super::category::Vocab;
use super::item::Value;
use super::python;
use crate::{Device, Error, ErrorKind, Result, Tensor};
use std::sync::Arc;

/// A block for the target of a sample.
pub trait TargetBlock: Send + Sync {
    /// The names of the block's transforms, as `summary` prints them: the class, or ``Class -- {dict}``.
    fn describe(&self) -> Vec<String>;

    /// What becomes of the block when it has seen the labels of the training items, in the order of the set.
    ///
    /// # Errors
    /// The labels are not of the block's kind, or nothing can be learned from them.
    fn learn(&self, labels: &[&Value]) -> Result<Arc<dyn Encode>>;
}

impl<T: TargetBlock + ?Sized> TargetBlock for Arc<T> {
    fn describe(&self) -> Vec<String> {
        (**self).describe()
    }
    fn learn(&self, labels: &[&Value]) -> Result<Arc<dyn Encode>> {
        (**self).learn(labels)
    }
}

/// Turns labels into targets.
pub trait Encode: Send + Sync {
    /// The class names; empty where there are none.
    fn vocab(&self) -> &Vocab;

    /// The target of an item with this label.
    ///
    /// # Errors
    /// The label is none of the training set's, or of another kind; the caller adds the item.
    fn encode(&self, label: &Value) -> Result<Target>;

    /// How many numbers a network has to say about a picture: classes, or numbers of a regression. fastai: `dls.c`.
    fn c(&self) -> usize {
        self.vocab().len()
    }

    /// The values after each of the block's transforms, as `summary` prints them: one for each of
    /// [`TargetBlock::describe`]. The default is right for a single transform.
    fn steps(&self, label: &Value, target: &Target) -> Vec<String> {
        let _ = label;
        vec![target.to_string()]
    }

    /// What stands above a picture with this target.
    fn title(&self, target: &Target) -> String {
        self.vocab().title(target)
    }
}

/// The target of one item.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// A class number; -1 where an item has no label.
    Category(i64),
    /// For each class 1 or 0.
    MultiCategory(Vec<f32>),
    /// One number.
    Number(f32),
    /// Several numbers.
    Numbers(Vec<f32>),
}

/// As fastai's summary shows it.
impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&match self {
            Target::Category(n) => format!("TensorCategory({n})"),
            Target::MultiCategory(row) => python::floats("TensorMultiCategory", row),
            Target::Number(v) => python::scalar("tensor", *v),
            Target::Numbers(row) => python::floats("tensor", row),
        })
    }
}

/// Rows of numbers: `values` is `[N, width]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// The numbers, row after row.
    pub values: Vec<f32>,
    /// Numbers in a row.
    pub width: usize,
}

impl Rows {
    /// The rows.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.width.max(1))
    }

    fn select(&self, indices: &[usize]) -> Rows {
        let row = |&i: &usize| self.values[i * self.width..][..self.width].iter().copied();
        Rows { values: indices.iter().flat_map(row).collect(), width: self.width }
    }
}

/// The targets of a batch or of a set.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Targets {
    /// Class numbers, `[N]`; -1 where an item has no label.
    Categories(Vec<i64>),
    /// For each class 1 or 0, `[N, C]`.
    MultiCategories(Rows),
    /// A number each, `[N]`.
    Number(Vec<f32>),
    /// Several numbers each, `[N, C]`.
    Numbers(Rows),
}

impl Default for Targets {
    fn default() -> Targets {
        Targets::Categories(Vec::new())
    }
}

impl Targets {
    /// No label for any of `n` items.
    pub fn unknown(n: usize) -> Targets {
        Targets::Categories(vec![-1; n])
    }

    /// Targets of `n` items, of which `known` has some, all of one kind; the others are -1 or NaN.
    pub(super) fn collect(n: usize, known: Vec<(usize, Target)>) -> std::result::Result<Targets, (usize, Error)> {
        let rows = |width: usize| Rows { values: vec![f32::NAN; n * width], width };
        let mut all = match known.first() {
            None | Some((_, Target::Category(_))) => Targets::unknown(n),
            Some((_, Target::MultiCategory(row))) => Targets::MultiCategories(rows(row.len())),
            Some((_, Target::Number(_))) => Targets::Number(vec![f32::NAN; n]),
            Some((_, Target::Numbers(row))) => Targets::Numbers(rows(row.len())),
        };
        for (i, target) in known {
            match (&mut all, target) {
                (Targets::Categories(all), Target::Category(n)) => all[i] = n,
                (Targets::Number(all), Target::Number(v)) => all[i] = v,
                (Targets::MultiCategories(all), Target::MultiCategory(row))
                | (Targets::Numbers(all), Target::Numbers(row))
                    if row.len() == all.width =>
                {
                    all.values[i * all.width..][..row.len()].copy_from_slice(&row);
                }
                (_, target) => {
                    let message = format!("the target {target} has another shape than the first training item's");
                    return Err((i, Error::new(ErrorKind::Shape, message).remedy("give all items labels of one kind")));
                }
            }
        }
        Ok(all)
    }

    /// How many targets there are.
    pub fn len(&self) -> usize {
        match self {
            Targets::Categories(all) => all.len(),
            Targets::Number(all) => all.len(),
            Targets::MultiCategories(rows) | Targets::Numbers(rows) => rows.iter().len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The target at place `i`.
    ///
    /// # Panics
    /// When there is no such place.
    pub fn get(&self, i: usize) -> Target {
        let row = |rows: &Rows| rows.values[i * rows.width..][..rows.width].to_vec();
        match self {
            Targets::Categories(all) => Target::Category(all[i]),
            Targets::Number(all) => Target::Number(all[i]),
            Targets::MultiCategories(rows) => Target::MultiCategory(row(rows)),
            Targets::Numbers(rows) => Target::Numbers(row(rows)),
        }
    }

    /// The targets at these places, in this order.
    ///
    /// # Panics
    /// When there is no such place.
    pub fn select(&self, indices: &[usize]) -> Targets {
        match self {
            Targets::Categories(all) => Targets::Categories(indices.iter().map(|&i| all[i]).collect()),
            Targets::Number(all) => Targets::Number(indices.iter().map(|&i| all[i]).collect()),
            Targets::MultiCategories(rows) => Targets::MultiCategories(rows.select(indices)),
            Targets::Numbers(rows) => Targets::Numbers(rows.select(indices)),
        }
    }

    /// Adds the targets of another batch behind these. Whatever is empty becomes what the other is.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] when they are of another kind or width.
    pub fn append(&mut self, other: Targets) -> Result<()> {
        match (&mut *self, other) {
            (mine, other) if mine.is_empty() => *mine = other,
            (Targets::Categories(mine), Targets::Categories(other)) => mine.extend(other),
            (Targets::Number(mine), Targets::Number(other)) => mine.extend(other),
            (Targets::MultiCategories(mine), Targets::MultiCategories(other))
            | (Targets::Numbers(mine), Targets::Numbers(other))
                if mine.width == other.width =>
            {
                mine.values.extend(other.values);
            }
            _ => return Err(Error::new(ErrorKind::Shape, "batches have targets of different kinds").on("targets")),
        }
        Ok(())
    }

    /// The class numbers, for whoever can do nothing with other targets.
    ///
    /// # Errors
    /// [`ErrorKind::Data`] saying what they are, when they are no class numbers.
    pub fn categories(&self) -> Result<&[i64]> {
        let what = match self {
            Targets::Categories(all) => return Ok(all),
            Targets::MultiCategories(_) => "several labels an item",
            Targets::Number(_) | Targets::Numbers(_) => "numbers for labels",
        };
        Err(Error::new(ErrorKind::Data, format!("these data have {what}, and this is for one class an item"))
            .remedy("use CategoryBlock where one class is meant"))
    }

    /// The targets as a tensor: class numbers i64 `[N]`, else f32 `[N, C]` or `[N]`.
    ///
    /// # Errors
    /// The device has too little memory.
    pub fn to_tensor(&self, device: Device) -> Result<Tensor> {
        let n = self.len();
        match self {
            Targets::Categories(all) => Tensor::from_slice(all, [n], device),
            Targets::Number(all) => Tensor::from_slice(all, [n], device),
            Targets::MultiCategories(rows) | Targets::Numbers(rows) => {
                Tensor::from_slice(&rows.values, [n, rows.width], device)
            }
        }
    }
}

/// As fastai's summary shows a batch.
impl std::fmt::Display for Targets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&match self {
            Targets::Categories(all) => python::integers("TensorCategory", all),
            Targets::Number(all) => python::floats("tensor", all),
            Targets::MultiCategories(rows) => {
                format!("TensorMultiCategory of size {}x{}", rows.iter().len(), rows.width)
            }
            Targets::Numbers(rows) => format!("Tensor of size {}x{}", rows.iter().len(), rows.width),
        })
    }
}

/// The block of targets that are numbers. fastai: `RegressionBlock(n_out=None)`.
///
/// ```
/// use onecycle::data::{Encode, RegressionBlock, Target, TargetBlock, Value};
/// let rule = RegressionBlock.learn(&[&Value::from(1.5)])?;
/// assert_eq!((rule.c(), rule.encode(&2.into())?), (1, Target::Number(2.0)));
/// assert!(rule.encode(&"two".into()).is_err());
/// # Ok::<(), onecycle::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct RegressionBlock;

impl RegressionBlock {
    /// A block of `n` numbers an item; otherwise as many as the first training item has.
    pub fn n_out(n: usize) -> RegressionSetup {
        RegressionSetup { c: Some(n) }
    }
}

impl TargetBlock for RegressionBlock {
    fn describe(&self) -> Vec<String> {
        RegressionSetup::default().describe()
    }
    fn learn(&self, labels: &[&Value]) -> Result<Arc<dyn Encode>> {
        RegressionSetup::default().learn(labels)
    }
}

/// How labels become numbers; made by [`RegressionBlock`]. fastai: `RegressionSetup`.
#[derive(Clone, Copy, Debug, Default)]
pub struct RegressionSetup {
    c: Option<usize>,
}

impl TargetBlock for RegressionSetup {
    fn describe(&self) -> Vec<String> {
        let c = self.c.map_or("None".into(), |c| c.to_string());
        vec![format!("RegressionSetup -- {{'c': {c}}}")]
    }

    fn learn(&self, labels: &[&Value]) -> Result<Arc<dyn Encode>> {
        let c = match labels.first() {
            Some(Value::List(all)) => all.len(),
            _ => 1,
        };
        Ok(Arc::new(Regression { c: self.c.unwrap_or(c), vocab: Vocab::new(Vec::new(), false) }))
    }
}

struct Regression {
    c: usize,
    vocab: Vocab,
}

impl Encode for Regression {
    fn vocab(&self) -> &Vocab {
        &self.vocab
    }

    fn c(&self) -> usize {
        self.c
    }

    fn encode(&self, label: &Value) -> Result<Target> {
        let number = |v: &Value| v.number().map(|n| n as f32).ok_or_else(|| not_a_number(v));
        let target = match label {
            Value::List(all) => Target::Numbers(all.iter().map(number).collect::<Result<_>>()?),
            one => Target::Number(number(one)?),
        };
        let has = if let Target::Numbers(row) = &target { row.len() } else { 1 };
        match has == self.c {
            true => Ok(target),
            false => Err(Error::new(ErrorKind::Label, format!("the label has {has} numbers instead of {}", self.c))
                .remedy("make get_y return as many for every item, or tell RegressionBlock::n_out")),
        }
    }
}

fn not_a_number(label: &Value) -> Error {
    Error::new(ErrorKind::Label, format!("the label '{label}' is no number"))
        .remedy("RegressionBlock takes numbers: check the column that get_y reads, or use CategoryBlock")
}
