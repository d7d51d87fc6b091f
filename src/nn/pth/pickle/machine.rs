//! The instructions, and what they work on: a stack with marks, and a memo.

use super::names::known;
use super::source::Source;
use super::{Id, MOST_KEPT, MOST_MARKS, MOST_OBJECTS, Machine, Object, bad};
use crate::Result;
use std::io::BufRead;

impl Machine {
    /// One instruction; the result after the last one.
    pub(super) fn step<R: BufRead>(&mut self, from: &mut Source<R>) -> Result<Option<Id>> {
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

    pub(super) fn get(&self, id: Id) -> &Object {
        self.objects.get(id as usize).unwrap_or(&Object::None)
    }

    pub(super) fn push(&mut self, object: Object) -> Result<()> {
        if self.objects.len() >= MOST_OBJECTS {
            return Err(bad(format!("it has more than {MOST_OBJECTS} objects")));
        }
        self.objects.push(object);
        self.put_back(self.objects.len() as Id - 1)
    }

    pub(super) fn put_back(&mut self, id: Id) -> Result<()> {
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

    pub(super) fn pop(&mut self) -> Result<Id> {
        self.floor(1)?;
        self.stack.pop().ok_or_else(|| bad("it takes what it never put down"))
    }

    pub(super) fn top(&self) -> Result<Id> {
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
