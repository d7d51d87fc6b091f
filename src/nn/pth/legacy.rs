//! The container that `torch.save` wrote before version 1.6: pickles one after the other, then the storages.
//!
//! ```text
//! pickle   0x1950a86a20f9469cfc6c, by which it is known
//! pickle   1001, the protocol
//! pickle   a dictionary about the system: little_endian, sizes of C's types
//! pickle   the object
//! pickle   the list of storage keys
//! for each key: number of elements (8 bytes), then the elements
//! ```

use super::pickle::{self, Object, Pickle, Source, bad, big_endian, shown};
use crate::fs::read_exact_at;
use crate::{Error, ErrorKind, Result};
use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;

const MAGIC: i128 = 0x1950_a86a_20f9_469c_fc6c;
const PROTOCOL: i128 = 1001;

/// The object, and for each of its storages where the elements are.
pub(super) fn open(file: &File, len: u64) -> Result<(Pickle, Vec<Option<u64>>)> {
    let mut source = Source::new(BufReader::new(file));
    if *pickle::read(&mut source)?.root() != Object::Int(MAGIC) {
        let error = Error::new(ErrorKind::Format, "is a pickle that torch.save didn't write");
        return Err(error.remedy("save the weights with torch.save(model.state_dict(), ..)"));
    }
    let protocol = pickle::read(&mut source)?;
    if *protocol.root() != Object::Int(PROTOCOL) {
        return Err(bad("it is written in an unknown protocol of torch's"));
    }
    let system = pickle::read(&mut source)?;
    if system.entry(system.root(), "little_endian") == Some(&Object::Bool(false)) {
        return Err(big_endian());
    }
    let object = pickle::read(&mut source)?;
    let keys = pickle::read(&mut source)?;
    let Some(list) = keys.items(keys.root()) else { return Err(bad("its list of storages is none")) };

    let mut places = vec![None; object.storages.len()];
    let numbers: HashMap<&str, usize> = object.storages.iter().enumerate().map(|(i, s)| (s.key.as_str(), i)).collect();
    let mut at = source.at;
    for &key in list {
        let key = match keys.get(key) {
            Object::Text(key) => key.clone(),
            Object::Int(key) => key.to_string(),
            _ => return Err(bad("it has a storage whose key is no text")),
        };
        // A storage that nothing refers to has no type, and so no length.
        let found = numbers.get(key.as_str()).copied();
        let found = found.ok_or_else(|| bad(format!("nothing refers to its storage {}", shown(&key))))?;
        let stored = &object.storages[found];
        let mut count = [0; 8];
        read_exact_at(file, &mut count, at).map_err(|_| bad("it ends early"))?;
        let count = u64::from_le_bytes(count);
        if count != stored.len {
            let (key, said) = (shown(&key), stored.len);
            return Err(bad(format!("its storage {key} has {count} elements where {said} were announced")));
        }
        let end = stored.len.checked_mul(stored.number.size()).and_then(|bytes| (at + 8).checked_add(bytes));
        let end =
            end.filter(|end| *end <= len).ok_or_else(|| bad(format!("it ends before its storage {}", shown(&key))))?;
        if places[found].replace(at + 8).is_some() {
            return Err(bad(format!("its storage {} is there twice", shown(&key))));
        }
        at = end;
    }
    Ok((object, places))
}
