//! A pickle read as data.
//!
//! Python's pickle is a program for a small stack machine, and one of its instructions calls any function by name. This reader has
//! the stack and the memo and not the calls: a name is looked up in a list of the dozen that weights need, each of which stands for a
//! piece of data here, and everything else ends the reading with an error that says which name it was. There is nothing to run, so
//! nothing can be run.
//!
//! A file can still try to cost memory or time. Objects lie in one list and refer to each other by their places: shared objects
//! are never copied, nesting needs no recursion, and the numbers of instructions, objects, marks and bytes have limits far above what
//! the largest networks need. A length in the file is believed only as far as bytes follow.
//!
//! | file | what |
//! |---|---|
//! | `mod.rs` | objects, limits, and the machine's parts |
//! | `source.rs` | bytes, counted |
//! | `machine.rs` | the instructions, the stack, the memo |
//! | `names.rs` | the names that weights need |
//! | `calls.rs` | what a call of such a name makes |

mod calls;
mod machine;
mod names;
mod source;

pub(super) use source::Source;

use crate::{Error, ErrorKind, Result};
use std::collections::HashMap;
use std::io::BufRead;

/// An object's place among [`Pickle::objects`].
pub(super) type Id = u32;

/// A value. Containers hold places, not values.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Object {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// fastcore's `L`, and the list in it once that is known.
    L(Option<Id>),
    /// numpy's name of a number type, `f8`.
    NumpyType(String),
    /// A place among [`Pickle::storages`], and what a view of it leaves out at its start.
    Storage(u32, u64),
    Tensor(Box<View>),
    Global(Known),
    /// Something that weights may come with and nothing here needs.
    Other,
}

/// A name that may stand in a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Dict,
    RebuildTensor,
    RebuildParameter,
    Storage(Number),
    /// A class whose only argument says all.
    Same,
    L,
    NumpyScalar,
    NumpyType,
    Encode,
    Other,
}

/// What a storage's numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

impl Number {
    /// Bytes of one.
    pub(super) fn size(self) -> u64 {
        match self {
            Number::F64 | Number::I64 => 8,
            Number::F32 | Number::I32 => 4,
            Number::F16 | Number::BF16 | Number::I16 => 2,
            Number::I8 | Number::U8 | Number::Bool => 1,
        }
    }
}

/// A tensor: a view of a storage, as torch describes it. All in elements.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct View {
    pub storage: u32,
    pub offset: u64,
    pub size: Vec<u64>,
    pub stride: Vec<u64>,
}

/// Memory that tensors look at.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stored {
    pub key: String,
    pub number: Number,
    pub len: u64,
}

/// What a pickle holds.
#[derive(Debug)]
pub(super) struct Pickle {
    objects: Vec<Object>,
    root: Id,
    pub storages: Vec<Stored>,
}

impl Pickle {
    pub(super) fn root(&self) -> &Object {
        self.get(self.root)
    }

    pub(super) fn get(&self, id: Id) -> &Object {
        // Places are made by `Machine::add` only.
        self.objects.get(id as usize).unwrap_or(&Object::None)
    }

    /// The items of a list, a tuple, or fastcore's list around one.
    pub(super) fn items<'a>(&'a self, of: &'a Object) -> Option<&'a [Id]> {
        match of {
            Object::List(items) | Object::Tuple(items) => Some(items),
            Object::L(Some(list)) => match self.get(*list) {
                Object::List(items) | Object::Tuple(items) => Some(items),
                _ => None,
            },
            _ => None,
        }
    }

    /// What a dictionary has under a text.
    pub(super) fn entry(&self, of: &Object, key: &str) -> Option<&Object> {
        let Object::Dict(pairs) = of else { return None };
        let same = |(k, _): &&(Id, Id)| matches!(self.get(*k), Object::Text(text) if text == key);
        pairs.iter().rev().find(same).map(|(_, v)| self.get(*v)) // Python keeps the last
    }
}

/// Bytes of a pickle. Those of the largest networks have some hundred thousand.
const MOST_BYTES: u64 = 16 << 20;
/// Instructions, and objects that they make.
const MOST_STEPS: u64 = 4 << 20;
const MOST_OBJECTS: usize = 1 << 20;
/// Objects on the stack and in the memo.
const MOST_KEPT: usize = 1 << 20;
/// Containers begun and not ended.
const MOST_MARKS: usize = 1000;
/// Tensors. Optimizers have two or three for each of the network's.
const MOST_TENSORS: usize = 1 << 16;
/// Axes of a tensor, as in torch.
const MOST_AXES: usize = 64;
/// Letters of a name.
pub(super) const LONGEST_NAME: usize = 256;

/// A pickle that can't be read.
pub(super) fn bad(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Format, message).remedy("the file is damaged, or it is no file of weights")
}

/// A file of a machine whose numbers begin with their largest byte.
pub(super) fn big_endian() -> Error {
    let error = Error::new(ErrorKind::Format, "has big-endian numbers, which are not read here");
    error.remedy("save it again where numbers are little-endian, as on x86 and ARM: torch.save(torch.load(F), F)")
}

/// A text of the file, as a message can show it.
pub(super) fn shown(text: &str) -> String {
    let head: String = text.chars().take(100).collect();
    let more = if head.len() < text.len() { ".." } else { "" };
    format!("{}{more}", head.escape_debug())
}

/// Reads one pickle.
///
/// # Errors
/// [`ErrorKind::Format`] for everything that is not a checkpoint's description.
pub(super) fn read<R: BufRead>(source: &mut Source<R>) -> Result<Pickle> {
    let mut machine = Machine::default();
    for _ in 0..MOST_STEPS {
        if let Some(root) = machine.step(source)? {
            return Ok(Pickle { objects: machine.objects, root, storages: machine.storages });
        }
    }
    Err(bad(format!("its description has more than {MOST_STEPS} instructions")))
}

#[derive(Default)]
struct Machine {
    objects: Vec<Object>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    storages: Vec<Stored>,
    by_key: HashMap<String, u32>,
    tensors: usize,
}
