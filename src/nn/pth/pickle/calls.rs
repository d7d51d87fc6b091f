//! What Python would get from a call, as data: dictionaries, tensors, numbers. Arguments are checked as strictly as if the call were one.

use super::{Id, Known, LONGEST_NAME, MOST_AXES, MOST_TENSORS, Machine, Object, Stored, View, bad, big_endian, shown};
use crate::{Error, ErrorKind, Result};

impl Machine {
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
    pub(super) fn storage(&mut self, id: Id) -> Result<Object> {
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
    pub(super) fn call(&mut self, function: Id, arguments: Id) -> Result<()> {
        let Object::Global(function) = *self.get(function) else {
            return Err(bad("it calls what is no name of a checkpoint"));
        };
        let arguments = self.tuple(arguments)?;
        match (function, arguments) {
            (Known::Dict, []) => self.push(Object::Dict(Vec::new())),
            (Known::Dict, &[from]) => self.dict_of(from),
            (Known::RebuildTensor, &[storage, offset, size, stride, ref rest @ ..]) => {
                // After requires_grad and hooks: whether the numbers are to be negated or conjugated when they are used.
                if let Some(Object::Dict(bits)) = rest.get(2).map(|&bits| self.get(bits))
                    && !bits.is_empty()
                {
                    let error =
                        Error::new(ErrorKind::Format, "has a negated or conjugated view, which is not read here");
                    return Err(
                        error.remedy("save the numbers themselves: tensor.resolve_neg(), tensor.resolve_conj()")
                    );
                }
                let Object::Storage(storage, start) = *self.get(storage) else {
                    return Err(bad("it has a tensor without a storage"));
                };
                let offset =
                    start.checked_add(self.count(offset)?).ok_or_else(|| bad("it has a tensor that overflows"))?;
                let view = View { storage, offset, size: self.counts(size)?, stride: self.counts(stride)? };
                self.check(&view)?;
                self.tensors += 1;
                if self.tensors > MOST_TENSORS {
                    return Err(bad(format!("it has more than {MOST_TENSORS} tensors")));
                }
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
    pub(super) fn build(&mut self, state: Id) -> Result<()> {
        let top = self.top()?;
        match self.get(top) {
            Object::Dict(_) | Object::Tensor(_) => Ok(()),
            Object::L(_) => {
                let items = match self.get(state) {
                    Object::Dict(pairs) => {
                        pairs.iter().take(16).find(|(k, _)| *self.get(*k) == Object::Text("items".into()))
                    }
                    _ => None,
                };
                let items = items.map(|(_, v)| *v).filter(|v| matches!(self.get(*v), Object::List(_)));
                let items = items.ok_or_else(|| bad("it has a list of fastcore's without items"))?;
                self.objects[top as usize] = Object::L(Some(items));
                Ok(())
            }
            Object::NumpyType(_) => match self.tuple(state)? {
                [_, order, ..] if [">", "!"].map(|o| Object::Text(o.into())).contains(self.get(*order)) => {
                    Err(big_endian())
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
