//! The safetensors format: a JSON table of names, types, shapes and places, then the numbers.
//!
//! ```text
//! 8 bytes   length of the header, little-endian
//! header    {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, .., "__metadata__": {"key": "text"}}
//! data      the numbers, little-endian, without gaps
//! ```
//!
//! The reader is strict, since a file may come from anywhere: sizes are compared with the bytes that are there before
//! anything is allocated, ranges must cover the data exactly, and a name may stand only once. Nothing in a file is executed,
//! and no name is ever used as a path. Pictures' and weights' axes are stored in PyTorch's order (`[K, C, R, S]`), so the
//! files can be exchanged with it; [`read`] and [`write()`] turn them into and out of this crate's order.

use crate::fs::write_atomic;
use crate::tensor::Element;
use crate::{DType, Device, Error, ErrorKind, Result, Tensor};
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::Write;
use std::path::Path;

/// What a file holds.
#[derive(Debug, Default)]
pub struct Contents {
    /// The tensors, four-axis ones in this crate's order.
    pub tensors: HashMap<String, Tensor>,
    /// Free text by key.
    pub metadata: BTreeMap<String, String>,
}

/// Bytes of the header. The format allows 100 MB, which could describe a million tensors; a hundred thousand need 13.
const MAX_HEADER: u64 = 16 << 20;
/// Axes of a tensor, as in torch.
const MOST_AXES: usize = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [usize; 2],
}

/// A JSON object that refuses to hold a key twice (serde's maps keep the last).
struct Header {
    entries: BTreeMap<String, Entry>,
    metadata: BTreeMap<String, String>,
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Header, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Header;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of tensors")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> std::result::Result<Header, A::Error> {
                let mut header = Header { entries: BTreeMap::new(), metadata: BTreeMap::new() };
                while let Some(key) = map.next_key::<String>()? {
                    if key == "__metadata__" {
                        if !header.metadata.is_empty() {
                            return Err(serde::de::Error::custom("there are two __metadata__"));
                        }
                        header.metadata = map.next_value::<Metadata>()?.0;
                    } else if header.entries.insert(key.clone(), map.next_value()?).is_some() {
                        return Err(serde::de::Error::custom(format!("the name {key:?} stands twice")));
                    }
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// Texts by key, none of which stands twice: two descriptions would be one for each reader.
struct Metadata(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Metadata, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Metadata;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("texts by key")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> std::result::Result<Metadata, A::Error> {
                let mut all = BTreeMap::new();
                while let Some((key, text)) = map.next_entry::<String, String>()? {
                    if all.insert(key.clone(), text).is_some() {
                        return Err(serde::de::Error::custom(format!("the metadata has {key:?} twice")));
                    }
                }
                Ok(Metadata(all))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// Reads a file.
///
/// # Errors
/// [`ErrorKind::Io`] when it can't be read, [`ErrorKind::Format`] when it isn't a valid safetensors file of types this crate
/// has, both naming `path`.
pub fn read(path: &Path) -> Result<Contents> {
    let bytes = std::fs::read(path).map_err(|e| Error::io("read the model", path, e))?;
    parse(&bytes).map_err(|e| e.within(path.display()))
}

/// As [`read`], from memory.
///
/// # Errors
/// [`ErrorKind::Format`] as [`read`].
pub fn parse(bytes: &[u8]) -> Result<Contents> {
    let bad = |message: String| {
        Error::new(ErrorKind::Format, message).remedy("the file is damaged, cut short, or no safetensors file at all")
    };
    let length = bytes.first_chunk::<8>().map(|b| u64::from_le_bytes(*b));
    let length = length.ok_or_else(|| bad(format!("{} bytes are too few for a header", bytes.len())))?;
    if length > MAX_HEADER || length > (bytes.len() - 8) as u64 {
        return Err(bad(format!("the header's length {length} exceeds the file or the limit of {MAX_HEADER}")));
    }
    let (header, data) = bytes[8..].split_at(length as usize);
    let header: Header = serde_json::from_slice(header).map_err(|e| bad(format!("the header is not valid: {e}")))?;

    let mut by_place: Vec<(&String, &Entry)> = header.entries.iter().collect();
    by_place.sort_by_key(|(_, e)| e.data_offsets);
    let mut end = 0;
    for (name, entry) in &by_place {
        let [from, to] = entry.data_offsets;
        if from != end || to < from || to > data.len() {
            return Err(bad(format!("the bytes {from}..{to} of {name:?} overlap, leave a gap or pass the end")));
        }
        end = to;
    }
    if end != data.len() {
        return Err(bad(format!("{} bytes follow the last tensor", data.len() - end)));
    }

    let mut tensors = HashMap::with_capacity(by_place.len());
    for (name, entry) in by_place {
        let raw = &data[entry.data_offsets[0]..entry.data_offsets[1]];
        let tensor = match entry.dtype.as_str() {
            "F32" => tensor::<f32, 4>(raw, &entry.shape, f32::from_le_bytes),
            "F64" => tensor::<f64, 8>(raw, &entry.shape, f64::from_le_bytes),
            "I64" => tensor::<i64, 8>(raw, &entry.shape, i64::from_le_bytes),
            "F16" => tensor::<half::f16, 2>(raw, &entry.shape, half::f16::from_le_bytes),
            "BF16" => tensor::<half::bf16, 2>(raw, &entry.shape, half::bf16::from_le_bytes),
            "I32" => tensor::<i64, 4>(raw, &entry.shape, |b| i32::from_le_bytes(b).into()),
            "I16" => tensor::<i64, 2>(raw, &entry.shape, |b| i16::from_le_bytes(b).into()),
            "I8" => tensor::<i64, 1>(raw, &entry.shape, |b| i8::from_le_bytes(b).into()),
            "U8" => tensor::<u8, 1>(raw, &entry.shape, u8::from_le_bytes),
            "BOOL" => tensor::<u8, 1>(raw, &entry.shape, |[b]| u8::from(b != 0)),
            other => {
                Err(Error::new(ErrorKind::Format, format!("holds {other} numbers, which this build doesn't read"))
                    .remedy("save the file again with 32-bit floats"))
            }
        };
        tensors.insert(name.clone(), tensor.map_err(|e| e.on(format!("tensor {name:?}")))?);
    }
    Ok(Contents { tensors, metadata: header.metadata })
}

fn tensor<T: Element, const SIZE: usize>(raw: &[u8], shape: &[usize], number: fn([u8; SIZE]) -> T) -> Result<Tensor> {
    if shape.len() > MOST_AXES {
        let error = Error::new(ErrorKind::Format, format!("has {} axes", shape.len()));
        return Err(error.remedy("the file is damaged: fetch it again"));
    }
    let numel = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).and_then(|n| n.checked_mul(SIZE));
    if numel != Some(raw.len()) {
        let message = format!("of shape {shape:?} doesn't fit its {} bytes", raw.len());
        return Err(Error::new(ErrorKind::Format, message).remedy("the file is damaged: fetch it again"));
    }
    let numbers: Vec<T> = raw.as_chunks::<SIZE>().0.iter().map(|b| number(*b)).collect();
    Tensor::from_torch(&numbers, shape, Device::Cpu)
}

/// Writes a file, atomically.
///
/// # Errors
/// [`ErrorKind::Io`] or [`ErrorKind::StorageFull`] naming `path`; what was there before stays.
pub fn write(path: &Path, tensors: &[(String, Tensor)], metadata: &BTreeMap<String, String>) -> Result<()> {
    write_atomic(path, |out| write_to(out, tensors, metadata))
}

/// As [`write()`], into anything.
pub(crate) fn write_to(
    out: &mut dyn Write,
    tensors: &[(String, Tensor)],
    metadata: &BTreeMap<String, String>,
) -> std::io::Result<()> {
    let mut header = serde_json::Map::new();
    if !metadata.is_empty() {
        header.insert("__metadata__".into(), serde_json::json!(metadata));
    }
    let mut at = 0;
    for (name, t) in tensors {
        let (dtype, end) = (format!("{}", t.dtype()).to_uppercase(), at + t.numel() * t.dtype().size());
        let entry = serde_json::json!({ "dtype": dtype, "shape": t.shape().nchw(), "data_offsets": [at, end] });
        header.insert(name.clone(), entry);
        at = end;
    }
    let mut header = serde_json::Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' '); // keeps the numbers aligned in a mapped file
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    tensors.iter().try_for_each(|(_, t)| write_numbers(out, t))
}

/// Writes a tensor's numbers, little-endian, in PyTorch's order.
fn write_numbers(out: &mut dyn Write, t: &Tensor) -> std::io::Result<()> {
    fn write<T: Element, const SIZE: usize>(
        out: &mut dyn Write,
        t: &Tensor,
        bytes: fn(T) -> [u8; SIZE],
    ) -> std::io::Result<()> {
        let numbers = t.to_nchw_vec::<T>().map_err(std::io::Error::other)?;
        match cfg!(target_endian = "little") {
            true => out.write_all(bytemuck::cast_slice(&numbers)),
            false => numbers.into_iter().try_for_each(|number| out.write_all(&bytes(number))),
        }
    }
    match t.dtype() {
        DType::U8 => write(out, t, u8::to_le_bytes),
        DType::I64 => write(out, t, i64::to_le_bytes),
        DType::F16 => write(out, t, half::f16::to_le_bytes),
        DType::BF16 => write(out, t, half::bf16::to_le_bytes),
        DType::F32 => write(out, t, f32::to_le_bytes),
        DType::F64 => write(out, t, f64::to_le_bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.safetensors");
        let w = Tensor::from_slice(&(0..24).map(|i| i as f32).collect::<Vec<_>>(), [2, 2, 2, 3], Device::Cpu).unwrap();
        let n = Tensor::on_cpu(7.0, [], DType::I64);
        let empty = Tensor::on_cpu(0.0, [0, 3], DType::F64);
        let tensors = [("w".to_string(), w.clone()), ("n".into(), n), ("empty".into(), empty)];
        write(&path, &tensors, &[("onecycle".to_string(), "{\"a\": \"ä\"}".to_string())].into()).unwrap();
        let back = read(&path).unwrap();
        assert_eq!(back.metadata["onecycle"], "{\"a\": \"ä\"}");
        assert_eq!(back.tensors.len(), 3);
        assert_eq!(back.tensors["w"].shape(), w.shape());
        assert_eq!(back.tensors["w"].to_vec::<f32>().unwrap(), w.to_vec::<f32>().unwrap());
        assert_eq!(back.tensors["n"].item().unwrap(), 7.0);
    }

    #[test]
    fn damaged_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let one = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
        assert!(parse(&file(one, &[0; 4])).is_ok());
        let cases: Vec<(&str, Vec<u8>)> = vec![
            ("empty", vec![]),
            ("no header", vec![1, 2, 3]),
            ("huge length", u64::MAX.to_le_bytes().to_vec()),
            ("length past the end", 50u64.to_le_bytes().to_vec()),
            ("cut", file(one, &[0; 3])),
            ("trailing bytes", file(one, &[0; 5])),
            ("not JSON", file("{", &[])),
            ("shape too large", file(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#, &[0; 4])),
            (
                "shape overflows",
                file(r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#, &[]),
            ),
            ("reversed", file(r#"{"a":{"dtype":"U8","shape":[0],"data_offsets":[4,0]}}"#, &[0; 4])),
            ("unknown type", file(r#"{"a":{"dtype":"F4","shape":[1],"data_offsets":[0,4]}}"#, &[0; 4])),
            ("extra field", file(r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1}}"#, &[0])),
            (
                "overlap",
                file(
                    r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}"#,
                    &[0; 3],
                ),
            ),
            (
                "a name twice",
                file(
                    r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#,
                    &[0],
                ),
            ),
            (
                "a million axes",
                file(
                    &format!(r#"{{"a":{{"dtype":"U8","shape":[{}1],"data_offsets":[0,1]}}}}"#, "1,".repeat(1_000_000)),
                    &[0],
                ),
            ),
            ("metadata twice", file(r#"{"__metadata__":{"k":"1"},"__metadata__":{"k":"2"}}"#, &[])),
            ("a key of the metadata twice", file(r#"{"__metadata__":{"k":"1","k":"2"}}"#, &[])),
            ("deep", file(&("[".repeat(100_000)), &[])),
        ];
        for (what, bytes) in cases {
            let e = parse(&bytes).expect_err(what);
            assert!(e.kind() == ErrorKind::Format && e.to_string().len() < 1000, "{what}: {e}");
            // From a file it names the file, and the tensor where one is at fault.
            let path = dir.path().join("damaged.safetensors");
            std::fs::write(&path, bytes).unwrap();
            let named = read(&path).expect_err(what).to_string();
            let tensor = e.item().unwrap_or_default();
            assert!(named.contains("damaged.safetensors") && named.contains(tensor), "{what}: {named}");
        }
    }
}
