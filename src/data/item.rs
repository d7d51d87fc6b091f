//! What a data set is a list of: files, or rows of a table; and the values that getters find in them.
//!
//! An [`Item`] of a folder is a path. An item of a [`Table`](super::Table) is a [`Row`], whose cells say where the picture is
//! and what its label is. A [`Getter`](super::Getter) turns either into a [`Value`]: where a picture is (`get_x`) or what it
//! shows (`get_y`). Values are Python's where fastai's text shows them, so that vocabularies sort and summaries print as there.
//!
//! ```
//! use onecycle::data::{Item, Value};
//! let item = Item::from("pets/pug_1.jpg");
//! assert_eq!(item.path()?.file_name().unwrap(), "pug_1.jpg");
//! let labels = Value::from(vec!["pug", "asleep"]);
//! assert_eq!(labels.to_string(), "[pug, asleep]");
//! # Ok::<(), onecycle::Error>(())
//! ```

use super::python;
use crate::{Error, ErrorKind, Result};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A label, a place, a number, or several of them.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A file.
    Path(PathBuf),
    /// A label, or any other text.
    Text(String),
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any number.
    Float(f64),
    /// Several values: the labels of one picture, or the numbers of one regression target.
    List(Vec<Value>),
}

impl Value {
    /// The value as a number, if it is one; `true` is 1.
    pub fn number(&self) -> Option<f64> {
        match self {
            Value::Bool(b) => Some(f64::from(u8::from(*b))),
            Value::Int(n) => Some(*n as f64),
            Value::Float(v) => Some(*v),
            _ => None,
        }
    }

    /// What Python would call true: a number other than 0. Text is neither.
    pub(super) fn truth(&self) -> Option<bool> {
        self.number().map(|n| n != 0.0)
    }

    /// Whether this is a number, for a comparison that sorts 9 before 10.
    pub(super) fn is_number(&self) -> bool {
        self.number().is_some()
    }
}

/// As Python's `str`; a list as fastai's summary shows it.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Path(p) => write!(f, "{}", p.display()),
            Value::Text(t) => f.write_str(t),
            Value::Bool(b) => f.write_str(python::boolean(*b)),
            Value::Int(n) => write!(f, "{n}"),
            Value::Float(v) => f.write_str(&python::float(*v)),
            Value::List(all) => {
                write!(f, "[{}]", all.iter().map(Value::to_string).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

macro_rules! value_from {
    ($($from:ty => $make:expr),+ $(,)?) => {
        $(impl From<$from> for Value {
            fn from(value: $from) -> Value {
                #[allow(clippy::redundant_closure_call)]
                ($make)(value)
            }
        })+
    };
}
value_from! {
    PathBuf => Value::Path,
    &Path => |p: &Path| Value::Path(p.to_owned()),
    String => Value::Text,
    &str => |t: &str| Value::Text(t.to_owned()),
    bool => Value::Bool,
    i64 => Value::Int,
    i32 => |n: i32| Value::Int(n.into()),
    f64 => Value::Float,
    f32 => |v: f32| Value::Float(v.into()),
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(all: Vec<T>) -> Value {
        Value::List(all.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<Value>, const N: usize> From<[T; N]> for Value {
    fn from(all: [T; N]) -> Value {
        Value::List(all.into_iter().map(Into::into).collect())
    }
}

/// One entry of a data set.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// A file, found in a folder.
    Path(PathBuf),
    /// A row of a table.
    Row(Row),
}

impl Item {
    /// The file.
    ///
    /// # Errors
    /// [`ErrorKind::Data`] when the item is a row.
    pub fn path(&self) -> Result<&Path> {
        match self {
            Item::Path(path) => Ok(path),
            Item::Row(_) => Err(Error::new(ErrorKind::Data, "the item is a row of a table, and a path was expected")
                .on(self)
                .remedy("read columns with ColReader, in get_x the one that names the file")),
        }
    }

    /// The row.
    ///
    /// # Errors
    /// [`ErrorKind::Data`] when the item is a file.
    pub fn row(&self) -> Result<&Row> {
        match self {
            Item::Row(row) => Ok(row),
            Item::Path(_) => Err(Error::new(ErrorKind::Data, "the item is a path, and a row of a table was expected")
                .on(self)
                .remedy("give the DataBlock a Table, such as Table::read_csv(..)")),
        }
    }
}

/// The path, or the row with its number.
impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Item::Path(path) => write!(f, "{}", path.display()),
            Item::Row(row) => write!(f, "{row}"),
        }
    }
}

impl From<PathBuf> for Item {
    fn from(path: PathBuf) -> Item {
        Item::Path(path)
    }
}

impl From<&Path> for Item {
    fn from(path: &Path) -> Item {
        Item::Path(path.to_owned())
    }
}

impl From<String> for Item {
    fn from(path: String) -> Item {
        Item::Path(path.into())
    }
}

impl From<&str> for Item {
    fn from(path: &str) -> Item {
        Item::Path(path.into())
    }
}

/// What all rows of a table share.
#[derive(Debug, PartialEq)]
pub(super) struct Heading {
    /// The table's name in messages: its file.
    pub table: String,
    pub columns: Vec<String>,
}

/// A row of a table. Cloning is cheap.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub(super) heading: Arc<Heading>,
    pub(super) cells: Arc<[Value]>,
    pub(super) number: usize,
}

impl Row {
    /// The names of the columns.
    pub fn columns(&self) -> &[String] {
        &self.heading.columns
    }

    /// The values, one a column.
    pub fn cells(&self) -> &[Value] {
        &self.cells
    }

    /// The value in a column, by position (from 0) or by name.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] when there is no such column.
    pub fn get(&self, column: impl Into<Col>) -> Result<&Value> {
        let column = column.into();
        let place = match &column {
            Col::At(i) => Some(*i),
            Col::Named(name) => self.columns().iter().position(|c| c == name),
        };
        place.and_then(|i| self.cells.get(i)).ok_or_else(|| {
            Error::new(ErrorKind::Argument, format!("the table has no column {}", column.repr()))
                .on(&self.heading.table)
                .remedy(format!("its columns are {}", self.columns().join(", ")))
        })
    }
}

/// The table, the row's number from 1, and its cells.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cells: Vec<String> = self.cells.iter().map(Value::to_string).collect();
        write!(f, "{}, row {} ({})", self.heading.table, self.number, cells.join(", "))
    }
}

/// A column, by its position from 0 or by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Col {
    /// By position.
    At(usize),
    /// By name.
    Named(String),
}

impl Col {
    pub(super) fn repr(&self) -> String {
        match self {
            Col::At(i) => i.to_string(),
            Col::Named(name) => python::repr(name),
        }
    }
}

impl From<usize> for Col {
    fn from(at: usize) -> Col {
        Col::At(at)
    }
}

impl From<&str> for Col {
    fn from(name: &str) -> Col {
        Col::Named(name.into())
    }
}

impl From<String> for Col {
    fn from(name: String) -> Col {
        Col::Named(name)
    }
}
