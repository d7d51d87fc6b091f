//! Getters for items that are more than a path, and values that are more than a text: columns of a table, any function.

use super::item::{Col, Item, Value};
use super::label::{Getter, function_name, path_attribute};
use super::python;
use crate::Result;
use std::marker::PhantomData;
use std::path::{MAIN_SEPARATOR_STR, Path};

/// A function as a getter; see [`getter`].
pub struct FnGetter<F, V> {
    function: F,
    value: PhantomData<fn() -> V>,
}

/// Any function of an item as a getter: `get_y(getter(|item: &Item| ..))`. It may return one label or a list of them, a number
/// or a list of numbers, and for `get_x` a path. fastai takes functions as they are.
///
/// ```
/// use onecycle::data::{Getter, Item, getter};
/// let labels = getter(|item: &Item| {
///     let stem = item.path()?.file_stem().unwrap_or_default().to_string_lossy().into_owned();
///     Ok(stem.split('+').map(str::to_owned).collect::<Vec<_>>())
/// });
/// assert_eq!(labels.get(&"cat+dog.jpg".into())?.to_string(), "[cat, dog]");
/// # Ok::<(), onecycle::Error>(())
/// ```
pub fn getter<V: Into<Value>, F: Fn(&Item) -> Result<V> + Send + Sync>(function: F) -> FnGetter<F, V> {
    FnGetter { function, value: PhantomData }
}

impl<V: Into<Value>, F: Fn(&Item) -> Result<V> + Send + Sync> Getter for FnGetter<F, V> {
    fn name(&self) -> String {
        function_name::<F>()
    }

    fn get(&self, item: &Item) -> Result<Value> {
        Ok((self.function)(item).map_err(|e| e.on(item))?.into())
    }
}

/// One column, or several: what [`ColReader::new`] takes.
pub trait IntoCols {
    /// The columns, in order.
    fn into_cols(self) -> Vec<Col>;
}

impl<C: Into<Col>> IntoCols for C {
    fn into_cols(self) -> Vec<Col> {
        vec![self.into()]
    }
}

impl<C: Into<Col>> IntoCols for Vec<C> {
    fn into_cols(self) -> Vec<Col> {
        self.into_iter().map(Into::into).collect()
    }
}

impl<C: Into<Col>, const N: usize> IntoCols for [C; N] {
    fn into_cols(self) -> Vec<Col> {
        self.into_iter().map(Into::into).collect()
    }
}

/// Reads a column of a table's row. fastai: `ColReader(cols, pref="", suff="", label_delim=None)`.
///
/// ```
/// # fn main() -> onecycle::Result<()> {
/// use onecycle::data::{ColReader, Getter, Table};
/// let table = Table::parse("labels.csv", "fname,labels\n7,cat dog\n")?;
/// let item = &table.items()[0];
/// assert_eq!(ColReader::new("fname").pref("img/").suff(".jpg").get(item)?.to_string(), "img/7.jpg");
/// assert_eq!(ColReader::new(1).label_delim(" ").get(item)?.to_string(), "[cat, dog]");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ColReader {
    cols: Vec<Col>,
    pref: String,
    folder: bool,
    suff: String,
    label_delim: Option<String>,
}

impl ColReader {
    /// The value in the column, by name or by position from 0; of several columns a list of their values.
    pub fn new(cols: impl IntoCols) -> ColReader {
        let cols = cols.into_cols();
        ColReader { cols, pref: String::new(), folder: false, suff: String::new(), label_delim: None }
    }

    /// Text before the value.
    pub fn pref(mut self, text: &str) -> ColReader {
        (self.pref, self.folder) = (text.into(), false);
        self
    }

    /// A folder before the value, with a separator between: fastai's `pref` when it is a path.
    pub fn folder(mut self, folder: impl AsRef<Path>) -> ColReader {
        (self.pref, self.folder) = (folder.as_ref().to_string_lossy().into_owned(), true);
        self
    }

    /// Text after the value.
    pub fn suff(mut self, text: &str) -> ColReader {
        self.suff = text.into();
        self
    }

    /// Splits the value into a list; an empty value is an empty list. As in fastai this goes before prefix and suffix, which
    /// then don't count.
    pub fn label_delim(mut self, delim: &str) -> ColReader {
        self.label_delim = Some(delim.into());
        self
    }

    fn one(&self, item: &Item, col: &Col) -> Result<Value> {
        let cell = item.row()?.get(col.clone()).map_err(|e| e.rather_on(item))?;
        if let Some(delim) = &self.label_delim {
            let text = cell.to_string();
            return Ok(match text.is_empty() {
                true => Value::List(Vec::new()),
                false => Value::List(text.split(delim.as_str()).map(Value::from).collect()),
            });
        }
        if self.pref.is_empty() && self.suff.is_empty() {
            return Ok(cell.clone());
        }
        let separator = if self.folder { MAIN_SEPARATOR_STR } else { "" };
        Ok(Value::Text(format!("{}{separator}{cell}{}", self.pref, self.suff)))
    }
}

impl Getter for ColReader {
    fn name(&self) -> String {
        let cols: Vec<String> = self.cols.iter().map(Col::repr).collect();
        let cols = if cols.len() == 1 { cols[0].clone() } else { format!("[{}]", cols.join(", ")) };
        let pref = python::repr(&self.pref);
        let pref = if self.folder { format!("PosixPath({pref})") } else { pref };
        let delim = self.label_delim.as_ref().map_or("None".into(), |d| python::repr(d));
        let suff = python::repr(&self.suff);
        format!("ColReader -- {{'cols': {cols}, 'pref': {pref}, 'suff': {suff}, 'label_delim': {delim}}}")
    }

    fn get(&self, item: &Item) -> Result<Value> {
        match self.cols.as_slice() {
            [col] => self.one(item, col),
            cols => Ok(Value::List(cols.iter().map(|col| self.one(item, col)).collect::<Result<_>>()?)),
        }
    }
}

/// The value at a position of a row. fastai: `ItemGetter(i)`.
#[derive(Clone, Copy, Debug)]
pub struct ItemGetter(pub usize);

impl Getter for ItemGetter {
    fn name(&self) -> String {
        "ItemGetter".into()
    }

    fn get(&self, item: &Item) -> Result<Value> {
        item.row()?.get(self.0).cloned().map_err(|e| e.rather_on(item))
    }
}

/// The value under a name: a column of a row, or `name`, `stem`, `suffix` or `parent` of a path. fastai:
/// `AttrGetter(name, default=None)`.
#[derive(Clone, Debug)]
pub struct AttrGetter {
    name: String,
    default: Option<Value>,
}

impl AttrGetter {
    /// The value called `name`.
    pub fn new(name: &str) -> AttrGetter {
        AttrGetter { name: name.into(), default: None }
    }

    /// What items have that lack the name; without it, lacking it is an error.
    pub fn default(mut self, value: impl Into<Value>) -> AttrGetter {
        self.default = Some(value.into());
        self
    }
}

impl Getter for AttrGetter {
    fn name(&self) -> String {
        "AttrGetter".into()
    }

    fn get(&self, item: &Item) -> Result<Value> {
        let found = match item {
            Item::Row(row) => row.get(self.name.as_str()).cloned(),
            Item::Path(path) => path_attribute(path, &self.name).map(|part| part.to_string_lossy().into_owned().into()),
        };
        match (found, &self.default) {
            (Err(_), Some(default)) => Ok(default.clone()),
            (found, _) => found.map_err(|e| e.rather_on(item)),
        }
    }
}
