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

use crate::{Error, ErrorKind, Result};
use std::collections::HashMap;
use std::io::{BufRead, Read};

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
/// Axes of a tensor, as in torch.
const MOST_AXES: usize = 64;
/// Letters of a name.
const LONGEST_NAME: usize = 256;

/// Where a pickle comes from: bytes, counted.
pub(super) struct Source<R> {
    from: R,
    pub at: u64,
    left: u64,
}

impl<R: BufRead> Source<R> {
    pub(super) fn new(from: R) -> Source<R> {
        Source { from, at: 0, left: MOST_BYTES }
    }

    fn bytes(&mut self, n: u64) -> Result<Vec<u8>> {
        if n > self.left {
            return Err(bad(format!("its description is longer than {MOST_BYTES} bytes")));
        }
        let mut bytes = Vec::new();
        (&mut self.from).take(n).read_to_end(&mut bytes).map_err(|e| bad(format!("it can't be read: {e}")))?;
        self.at += bytes.len() as u64;
        self.left -= bytes.len() as u64;
        if (bytes.len() as u64) < n {
            return Err(bad("it ends early"));
        }
        Ok(bytes)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        if N as u64 > self.left {
            return Err(bad(format!("its description is longer than {MOST_BYTES} bytes")));
        }
        self.from.read_exact(&mut bytes).map_err(|_| bad("it ends early"))?;
        (self.at, self.left) = (self.at + N as u64, self.left - N as u64);
        Ok(bytes)
    }

    fn text(&mut self, n: u64) -> Result<Object> {
        let bytes = self.bytes(n)?;
        String::from_utf8(bytes).map(Object::Text).map_err(|_| bad("it has text that is no Unicode"))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        loop {
            match self.fixed::<1>()? {
                [b'\n'] => break,
                [byte] if line.len() < LONGEST_NAME => line.push(byte),
                _ => return Err(bad("it has a name that is too long")),
            }
        }
        String::from_utf8(line).map_err(|_| bad("it has a name that is no Unicode"))
    }
}

/// A pickle that can't be read.
pub(super) fn bad(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Format, message).remedy("the file is damaged, or it is no file of weights")
}

/// A text of the file, as a message can show it.
pub(super) fn shown(text: &str) -> String {
    let head: String = text.chars().take(100).collect();
    let more = if head.len() < text.len() { ".." } else { "" };
    format!("{}{more}", head.escape_debug())
}

/// The names that weights need.
fn known(module: &str, name: &str) -> Result<Known> {
    let number = |name| {
        Some(match name {
            "DoubleStorage" => Number::F64,
            "FloatStorage" => Number::F32,
            "HalfStorage" => Number::F16,
            "BFloat16Storage" => Number::BF16,
            "LongStorage" => Number::I64,
            "IntStorage" => Number::I32,
            "ShortStorage" => Number::I16,
            "CharStorage" => Number::I8,
            "ByteStorage" => Number::U8,
            "BoolStorage" => Number::Bool,
            _ => return None,
        })
    };
    Ok(match (module, name) {
        ("collections", "OrderedDict" | "Counter") => Known::Dict,
        ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => Known::RebuildTensor,
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Known::RebuildParameter,
        ("torch", "Size" | "device") => Known::Same,
        ("torch", "float16" | "bfloat16" | "float32" | "float64" | "uint8" | "int8" | "int16" | "int32") => {
            Known::Other
        }
        ("torch", "int64" | "bool" | "contiguous_format" | "channels_last" | "strided") => Known::Other,
        ("fastcore.foundation", "L") => Known::L,
        ("numpy._core.multiarray" | "numpy.core.multiarray", "scalar") => Known::NumpyScalar,
        ("numpy", "dtype") => Known::NumpyType,
        ("_codecs", "encode") => Known::Encode,
        ("torch" | "torch.cuda", name) if let Some(number) = number(name) => Known::Storage(number),
        _ => return Err(unknown(module, name)),
    })
}

/// A name that isn't on the list.
fn unknown(module: &str, name: &str) -> Error {
    let full = format!("{}.{}", shown(module), shown(name));
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let tensor = plain && module.starts_with("torch") && (name.ends_with("Storage") || name.starts_with("_rebuild"));
    if tensor {
        let error = Error::new(ErrorKind::Format, format!("has numbers of a kind that is not read here ({full})"));
        return error.remedy("save them as 32-bit floats and plain tensors");
    }
    let error = Error::new(ErrorKind::Format, format!("asks for `{full}`, which no weights need; nothing was run"));
    let model = ["fastai", "torch", "torchvision", "timm", "__main__"]
        .iter()
        .any(|top| module.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')));
    error.remedy(match model {
        true => {
            "it is a whole program object, such as learn.export or torch.save(model) write; \
             save the weights alone: learn.save, or torch.save(model.state_dict(), ..)"
        }
        false => "a pickle can run any program when Python opens it: ask where this file comes from",
    })
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
}

impl Machine {
    /// One instruction; the result after the last one.
    fn step<R: BufRead>(&mut self, from: &mut Source<R>) -> Result<Option<Id>> {
        let [code] = from.fixed()?;
        let u32_le = |b: [u8; 4]| u64::from(u32::from_le_bytes(b));
        match code {
            b'\x80' => match from.fixed()? {
                [2..=5] => {}
                [other] => return Err(bad(format!("it is written in pickle's protocol {other}; torch writes 2 to 5"))),
            },
            b'\x95' => _ = from.fixed::<8>()?, // FRAME: a hint for buffers
            b'.' => return self.pop().map(Some),
            b'N' => self.push(Object::None)?,
            b'\x88' => self.push(Object::Bool(true))?,
            b'\x89' => self.push(Object::Bool(false))?,
            b'K' => self.push(Object::Int(from.fixed::<1>()?[0].into()))?,
            b'M' => self.push(Object::Int(u16::from_le_bytes(from.fixed()?).into()))?,
            b'J' => self.push(Object::Int(i32::from_le_bytes(from.fixed()?).into()))?,
            b'\x8a' => {
                let n = from.fixed::<1>()?[0].into();
                self.push(Object::Int(long(&from.bytes(n)?)?))?;
            }
            b'G' => self.push(Object::Float(f64::from_be_bytes(from.fixed()?)))?,
            b'\x8c' => {
                let n = from.fixed::<1>()?[0].into();
                self.push(from.text(n)?)?;
            }
            b'X' => {
                let n = u32_le(from.fixed()?);
                self.push(from.text(n)?)?;
            }
            b'U' => {
                let n = from.fixed::<1>()?[0].into();
                self.push(old_text(from.bytes(n)?))?;
            }
            b'T' => {
                let n = u32_le(from.fixed()?);
                self.push(old_text(from.bytes(n)?))?;
            }
            b'\x8d' => {
                let n = u64::from_le_bytes(from.fixed()?);
                self.push(from.text(n)?)?;
            }
            b'C' => {
                let n = from.fixed::<1>()?[0].into();
                self.push(Object::Bytes(from.bytes(n)?))?;
            }
            b'B' => {
                let n = u32_le(from.fixed()?);
                self.push(Object::Bytes(from.bytes(n)?))?;
            }
            b'\x8e' | b'\x96' => {
                let n = u64::from_le_bytes(from.fixed()?);
                self.push(Object::Bytes(from.bytes(n)?))?;
            }
            b'}' => self.push(Object::Dict(Vec::new()))?,
            b']' | b'\x8f' => self.push(Object::List(Vec::new()))?,
            b')' => self.push(Object::Tuple(Vec::new()))?,
            b'(' if self.marks.len() < MOST_MARKS => self.marks.push(self.stack.len()),
            b'(' => return Err(bad(format!("it is nested more than {MOST_MARKS} deep"))),
            b't' => {
                let items = self.since_mark()?;
                self.push(Object::Tuple(items))?;
            }
            b'\x85'..=b'\x87' => {
                let n = usize::from(code - b'\x84');
                let at = self.floor(n)?;
                let items = self.stack.split_off(at);
                self.push(Object::Tuple(items))?;
            }
            b'a' => {
                let item = self.pop()?;
                self.extend(&[item])?;
            }
            b'e' | b'\x90' => {
                let items = self.since_mark()?;
                self.extend(&items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.insert(&[key, value])?;
            }
            b'u' => {
                let items = self.since_mark()?;
                self.insert(&items)?;
            }
            b'0' => _ = self.pop()?,
            b'1' => _ = self.since_mark()?,
            b'2' => {
                let top = self.top()?;
                self.put_back(top)?;
            }
            b'q' => {
                let at = from.fixed::<1>()?[0].into();
                self.memorize(at)?;
            }
            b'r' => {
                let at = u32::from_le_bytes(from.fixed()?);
                self.memorize(at)?;
            }
            b'\x94' => self.memorize(self.memo.len() as u32)?,
            b'h' => {
                let at = from.fixed::<1>()?[0].into();
                self.recall(at)?;
            }
            b'j' => {
                let at = u32::from_le_bytes(from.fixed()?);
                self.recall(at)?;
            }
            b'c' => {
                let (module, name) = (from.line()?, from.line()?);
                self.push(Object::Global(known(&module, &name)?))?;
            }
            b'\x93' => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (self.get(module), self.get(name)) {
                    (Object::Text(module), Object::Text(name)) => {
                        let known = known(module, name)?;
                        self.push(Object::Global(known))?;
                    }
                    _ => return Err(bad("it has a name that is no text")),
                }
            }
            b'Q' => {
                let id = self.pop()?;
                let storage = self.storage(id)?;
                self.push(storage)?;
            }
            b'R' | b'\x81' => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                self.call(function, arguments)?;
            }
            b'b' => {
                let state = self.pop()?;
                self.build(state)?;
            }
            b'i' | b'o' | b'\x92' | b'P' | b'\x82'..=b'\x84' | b'\x97' | b'\x98' => {
                return Err(bad(format!("it has the pickle instruction {}, which no weights need", instruction(code))));
            }
            _ => return Err(bad(format!("it has the unknown pickle instruction {code:#04x}"))),
        }
        Ok(None)
    }

    fn get(&self, id: Id) -> &Object {
        self.objects.get(id as usize).unwrap_or(&Object::None)
    }

    fn push(&mut self, object: Object) -> Result<()> {
        if self.objects.len() >= MOST_OBJECTS {
            return Err(bad(format!("it has more than {MOST_OBJECTS} objects")));
        }
        self.objects.push(object);
        self.put_back(self.objects.len() as Id - 1)
    }

    fn put_back(&mut self, id: Id) -> Result<()> {
        if self.stack.len() >= MOST_KEPT {
            return Err(bad(format!("it has more than {MOST_KEPT} objects in one place")));
        }
        self.stack.push(id);
        Ok(())
    }

    /// Where the stack's last `n` begin, which no mark may cut.
    fn floor(&self, n: usize) -> Result<usize> {
        let bottom = self.marks.last().copied().unwrap_or(0);
        self.stack.len().checked_sub(n).filter(|&at| at >= bottom).ok_or_else(|| bad("it takes what it never put down"))
    }

    fn pop(&mut self) -> Result<Id> {
        self.floor(1)?;
        self.stack.pop().ok_or_else(|| bad("it takes what it never put down"))
    }

    fn top(&self) -> Result<Id> {
        self.floor(1).map(|at| self.stack[at])
    }

    fn since_mark(&mut self) -> Result<Vec<Id>> {
        let mark = self.marks.pop().ok_or_else(|| bad("it ends what it never began"))?;
        Ok(self.stack.split_off(mark))
    }

    fn extend(&mut self, items: &[Id]) -> Result<()> {
        let list = self.top()?;
        match self.objects.get_mut(list as usize) {
            Some(Object::List(list)) => list.extend(items),
            _ => return Err(bad("it appends to what is no list")),
        }
        Ok(())
    }

    fn insert(&mut self, items: &[Id]) -> Result<()> {
        let (pairs, rest) = items.as_chunks::<2>();
        let dict = self.top()?;
        match self.objects.get_mut(dict as usize) {
            Some(Object::Dict(dict)) if rest.is_empty() => dict.extend(pairs.iter().map(|&[k, v]| (k, v))),
            _ => return Err(bad("it sets items of what is no dictionary")),
        }
        Ok(())
    }

    fn memorize(&mut self, at: u32) -> Result<()> {
        if self.memo.len() >= MOST_KEPT {
            return Err(bad(format!("it remembers more than {MOST_KEPT} objects")));
        }
        let top = self.top()?;
        self.memo.insert(at, top);
        Ok(())
    }

    fn recall(&mut self, at: u32) -> Result<()> {
        let id = *self.memo.get(&at).ok_or_else(|| bad("it recalls what it never remembered"))?;
        self.put_back(id)
    }

    fn tuple(&self, id: Id) -> Result<&[Id]> {
        match self.get(id) {
            Object::Tuple(items) => Ok(items),
            _ => Err(bad("it has something else where a tuple belongs")),
        }
    }

    /// A number of elements.
    fn count(&self, id: Id) -> Result<u64> {
        match self.get(id) {
            Object::Int(n) => {
                u64::try_from(*n).map_err(|_| bad(format!("it says {n} where a number of elements belongs")))
            }
            _ => Err(bad("it has something else where a number of elements belongs")),
        }
    }

    fn counts(&self, id: Id) -> Result<Vec<u64>> {
        let items = self.tuple(id)?;
        if items.len() > MOST_AXES {
            return Err(bad(format!("it has a tensor of {} axes", items.len())));
        }
        items.iter().map(|&n| self.count(n)).collect()
    }

    /// `('storage', type, key, location, elements[, view])`; a view is `(key, offset, elements)`.
    fn storage(&mut self, id: Id) -> Result<Object> {
        let (kind, key, len, view) = match *self.tuple(id)? {
            [tag, kind, key, _, len] if *self.get(tag) == Object::Text("storage".into()) => (kind, key, len, None),
            [tag, kind, key, _, len, view] if *self.get(tag) == Object::Text("storage".into()) => {
                (kind, key, len, Some(view).filter(|&view| *self.get(view) != Object::None))
            }
            _ => return Err(bad("it refers to something that is no storage")),
        };
        let Object::Global(Known::Storage(number)) = *self.get(kind) else {
            return Err(bad("it has a storage of an unknown type"));
        };
        let key = match self.get(key) {
            Object::Text(key) if key.len() <= LONGEST_NAME => key.clone(),
            Object::Int(key) => key.to_string(),
            _ => return Err(bad("it has a storage whose key is no short text")),
        };
        let len = self.count(len)?;
        let offset = match view {
            None => 0,
            Some(view) => match *self.tuple(view)? {
                [_, offset, size] => {
                    let (offset, size) = (self.count(offset)?, self.count(size)?);
                    offset.checked_add(size).filter(|end| *end <= len).map(|_| offset)
                }
                .ok_or_else(|| bad(format!("storage {} has a view that passes its end", shown(&key))))?,
                _ => return Err(bad("it has a view of a storage that is none")),
            },
        };
        if let Some(&at) = self.by_key.get(&key) {
            let known = &self.storages[at as usize];
            if (known.number, known.len) != (number, len) {
                return Err(bad(format!("storage {} is described twice, differently", shown(&key))));
            }
            return Ok(Object::Storage(at, offset));
        }
        let at = self.storages.len() as u32;
        self.by_key.insert(key.clone(), at);
        self.storages.push(Stored { key, number, len });
        Ok(Object::Storage(at, offset))
    }

    /// What Python would get from a call or from a class, as data.
    fn call(&mut self, function: Id, arguments: Id) -> Result<()> {
        let Object::Global(function) = *self.get(function) else {
            return Err(bad("it calls what is no name of a checkpoint"));
        };
        let arguments = self.tuple(arguments)?;
        match (function, arguments) {
            (Known::Dict, []) => self.push(Object::Dict(Vec::new())),
            (Known::Dict, &[from]) => self.dict_of(from),
            (Known::RebuildTensor, &[storage, offset, size, stride, ..]) => {
                let Object::Storage(storage, start) = *self.get(storage) else {
                    return Err(bad("it has a tensor without a storage"));
                };
                let offset =
                    start.checked_add(self.count(offset)?).ok_or_else(|| bad("it has a tensor that overflows"))?;
                let view = View { storage, offset, size: self.counts(size)?, stride: self.counts(stride)? };
                self.check(&view)?;
                self.push(Object::Tensor(Box::new(view)))
            }
            (Known::RebuildParameter, &[tensor, ..]) if matches!(self.get(tensor), Object::Tensor(_)) => {
                self.put_back(tensor)
            }
            (Known::Same, &[only]) => self.put_back(only),
            (Known::Same, &[first, _]) => self.put_back(first),
            (Known::L, []) => self.push(Object::L(None)),
            (Known::NumpyType, &[name, ..]) => match self.get(name) {
                Object::Text(name) if name.len() < 8 => {
                    let name = name.clone();
                    self.push(Object::NumpyType(name))
                }
                _ => Err(bad("it has a number of numpy's without a type")),
            },
            (Known::NumpyScalar, &[kind, bytes]) => match (self.get(kind), self.get(bytes)) {
                (Object::NumpyType(kind), Object::Bytes(bytes)) => {
                    let number = numpy_number(kind, bytes)?;
                    self.push(number)
                }
                (Object::NumpyType(kind), Object::Text(bytes)) => {
                    let number = numpy_number(kind, bytes.as_bytes())?;
                    self.push(number)
                }
                _ => Err(bad("it has a number of numpy's without a type or a value")),
            },
            (Known::Encode, &[text, _]) => match self.get(text) {
                // A number's bytes as letters; longer ones are nothing that is needed.
                Object::Text(text) if text.len() <= 64 => {
                    let bytes = text.chars().map(u8::try_from).collect::<std::result::Result<_, _>>();
                    let bytes = bytes.map_err(|_| bad("it has bytes that are none"))?;
                    self.push(Object::Bytes(bytes))
                }
                _ => self.push(Object::Other),
            },
            _ => Err(bad(format!("it calls a name of a checkpoint ({function:?}) in a way that torch doesn't"))),
        }
    }

    /// `OrderedDict([[k, v], ..])`, as Python 2 wrote it, or a `Counter` of a dictionary.
    fn dict_of(&mut self, from: Id) -> Result<()> {
        if matches!(self.get(from), Object::Dict(_)) {
            return self.put_back(from);
        }
        // Taken, not copied: a list can be handed in many times.
        let list = match self.objects.get_mut(from as usize) {
            Some(Object::List(list)) => std::mem::take(list),
            _ => return Err(bad("it makes a dictionary from what is no list")),
        };
        let pair = |&id: &Id| match self.get(id) {
            Object::List(pair) | Object::Tuple(pair) => match pair[..] {
                [k, v] => Ok((k, v)),
                _ => Err(bad("it makes a dictionary from what are no pairs")),
            },
            _ => Err(bad("it makes a dictionary from what are no pairs")),
        };
        let pairs = list.iter().map(pair).collect::<Result<Vec<_>>>()?;
        self.push(Object::Dict(pairs))
    }

    /// Attributes for the object on top. A dictionary's (`_metadata`) are nothing that is needed.
    fn build(&mut self, state: Id) -> Result<()> {
        let top = self.top()?;
        match self.get(top) {
            Object::Dict(_) | Object::Tensor(_) => Ok(()),
            Object::L(_) => {
                let items = match self.get(state) {
                    Object::Dict(pairs) => pairs.iter().find(|(k, _)| *self.get(*k) == Object::Text("items".into())),
                    _ => None,
                };
                let items = items.map(|(_, v)| *v).filter(|v| matches!(self.get(*v), Object::List(_)));
                let items = items.ok_or_else(|| bad("it has a list of fastcore's without items"))?;
                self.objects[top as usize] = Object::L(Some(items));
                Ok(())
            }
            Object::NumpyType(_) => match self.tuple(state)? {
                [_, order, ..] if [">", "!"].map(|o| Object::Text(o.into())).contains(self.get(*order)) => {
                    Err(bad("it has big-endian numbers"))
                }
                _ => Ok(()),
            },
            _ => Err(bad("it gives attributes to what has none")),
        }
    }

    /// Whether a view lies within its storage as that is described; whether the storage is there is another question.
    fn check(&self, view: &View) -> Result<()> {
        let stored = &self.storages[view.storage as usize];
        if view.size.len() != view.stride.len() {
            return Err(bad(format!(
                "it has a tensor with {} sizes and {} strides",
                view.size.len(),
                view.stride.len()
            )));
        }
        // Without its zeros, so that no order of multiplying the sizes can overflow.
        let bound = view.size.iter().try_fold(1u64, |n, &d| n.checked_mul(d.max(1))).filter(|n| *n <= 1 << 48);
        bound.ok_or_else(|| bad(format!("it has a tensor of impossible size {:?}", view.size)))?;
        let numel: u64 = view.size.iter().product();
        // The last element, counted from the storage's start.
        let steps = view.size.iter().zip(&view.stride).filter(|_| numel > 0);
        let last = steps.map(|(&d, &s)| (d - 1).checked_mul(s)).try_fold(view.offset, |at, step| at.checked_add(step?));
        let fits = last.is_some_and(|last| if numel > 0 { last < stored.len } else { last <= stored.len });
        fits.then_some(()).ok_or_else(|| {
            let View { offset, size, stride, .. } = view;
            bad(format!(
                "a tensor of size {size:?}, strides {stride:?} and offset {offset} passes the end of storage {}, which has {} elements",
                shown(&stored.key),
                stored.len
            ))
        })
    }
}

/// A whole number in as few bytes as it needs, little-endian with a sign.
fn long(bytes: &[u8]) -> Result<i128> {
    if bytes.len() > 16 {
        return Err(bad("it has a number of more than 16 bytes"));
    }
    let fill = if bytes.last().is_some_and(|top| top & 0x80 != 0) { 0xff } else { 0 };
    let mut all = [fill; 16];
    all[..bytes.len()].copy_from_slice(bytes);
    Ok(i128::from_le_bytes(all))
}

/// Python 2 has one type for text and for bytes.
fn old_text(bytes: Vec<u8>) -> Object {
    String::from_utf8(bytes).map_or_else(|e| Object::Bytes(e.into_bytes()), Object::Text)
}

fn numpy_number(kind: &str, bytes: &[u8]) -> Result<Object> {
    fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N]> {
        bytes.try_into().map_err(|_| bad("it has a number of numpy's with more or fewer bytes than its type"))
    }
    Ok(match kind {
        "f8" => Object::Float(f64::from_le_bytes(fixed(bytes)?)),
        "f4" => Object::Float(f32::from_le_bytes(fixed(bytes)?).into()),
        "f2" => Object::Float(half::f16::from_le_bytes(fixed(bytes)?).to_f64()),
        "i8" => Object::Int(i64::from_le_bytes(fixed(bytes)?).into()),
        "i4" => Object::Int(i32::from_le_bytes(fixed(bytes)?).into()),
        "b1" => Object::Bool(fixed::<1>(bytes)?[0] != 0),
        _ => Object::Other,
    })
}

/// Names of the instructions that are refused, for the message.
fn instruction(code: u8) -> &'static str {
    match code {
        b'i' => "INST",
        b'o' => "OBJ",
        b'\x92' => "NEWOBJ_EX",
        b'P' => "PERSID",
        b'\x82'..=b'\x84' => "EXT",
        _ => "NEXT_BUFFER",
    }
}
