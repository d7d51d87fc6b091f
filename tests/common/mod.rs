//! What the test files share: the recorded values and a reader for them.
#![allow(dead_code, missing_docs)]

pub mod colours;
pub mod drawn;
pub mod emulated;
pub mod http;
pub mod nothing;
pub mod pictures;
#[cfg(feature = "cli")]
pub mod program;
pub mod tape;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use onecycle::{DType, Device};

/// Every device there is: the processor, the emulated GPU (every access checked), and the machine's GPUs.
pub fn devices() -> Vec<Device> {
    [Device::Cpu].into_iter().chain(emulated::device(emulated::Mode::Checked)).chain(gpus()).collect()
}

/// The machine's GPUs. With `ONECYCLE_TEST_GPU=required` a machine without one fails: where a GPU is to be judged, tests that
/// silently ran without it would be worse than none.
pub fn gpus() -> Vec<Device> {
    let gpus: Vec<Device> = Device::all().into_iter().filter(|d| *d != Device::Cpu).collect();
    if gpus.is_empty() && std::env::var_os("ONECYCLE_TEST_GPU").is_some_and(|v| v == "required") {
        panic!("ONECYCLE_TEST_GPU=required: {}", Device::cuda(0).map_or_else(|e| e.to_string(), |d| d.to_string()));
    }
    gpus
}

/// Every device with every full-precision type it computes in.
pub fn kinds() -> Vec<(Device, DType)> {
    let mut all: Vec<_> = devices().into_iter().map(|d| (d, DType::F32)).collect();
    all.push((Device::Cpu, DType::F64));
    all
}

/// Whether whoever started this test ignores a signal, as `nohup` and a script's `&` do; its children then ignore it too, and whatever
/// the test wanted to see is skipped with a word.
pub fn ignored(name: &str, number: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|l| l.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|m| u64::from_str_radix(m.trim(), 16).ok()).unwrap_or(0);
    let ignored = mask >> (number - 1) & 1 == 1;
    if ignored {
        skip(format_args!("SIG{name}: whoever started this test ignores it, and so do its children"));
    }
    ignored
}

/// Says that something is skipped, and why. Written to standard error itself: what `println!` prints, the test runner keeps
/// to itself when a test passes, and a skip that nobody sees is no better than a test that isn't there.
pub fn skip(why: std::fmt::Arguments<'_>) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

/// Says how a promise was kept, for `scripts/reliability.sh`.
pub fn promise(what: &str, how: std::fmt::Arguments<'_>) {
    println!("promise: {what}: {how}");
}

/// The recorded file of this name, where it is: in `ONECYCLE_FIXTURES`, else `../shared/fixtures`, else `tests/fixtures`.
pub fn recording(name: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let named = std::env::var_os("ONECYCLE_FIXTURES").map(PathBuf::from);
    let places = [named, Some(root.join("../shared/fixtures")), Some(root.join("tests/fixtures"))];
    places.into_iter().flatten().map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// A recorded file, or `None` after saying that its test is skipped.
pub fn fixture(name: &str) -> Option<PathBuf> {
    let path = recording(name);
    if path.is_none() {
        skip(format_args!("the recording {name} is not there"));
    }
    path
}

pub fn json(name: &str) -> Option<serde_json::Value> {
    let path = fixture(name)?;
    Some(serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
}

pub fn text(name: &str) -> Option<String> {
    Some(std::fs::read_to_string(fixture(name)?).unwrap())
}

/// One tensor of a safetensors file.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub dtype: String,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

impl Recorded {
    pub fn f32(&self) -> Vec<f32> {
        assert_eq!(self.dtype, "F32");
        self.bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    pub fn i64(&self) -> Vec<i64> {
        assert_eq!(self.dtype, "I64");
        self.bytes.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap())).collect()
    }

    pub fn u8(&self) -> Vec<u8> {
        assert_eq!(self.dtype, "U8");
        self.bytes.clone()
    }
}

/// Names to tensors. Layout: length of the header (u64), header (JSON), bytes.
pub fn safetensors(name: &str) -> Option<HashMap<String, Recorded>> {
    let all = std::fs::read(fixture(name)?).unwrap();
    let length = u64::from_le_bytes(all[..8].try_into().unwrap()) as usize;
    let header: HashMap<String, serde_json::Value> = serde_json::from_slice(&all[8..8 + length]).unwrap();
    let data = &all[8 + length..];
    let numbers = |v: &serde_json::Value| v.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
    let tensor = |entry: &serde_json::Value| {
        let range: Vec<usize> = numbers(&entry["data_offsets"]);
        Recorded {
            dtype: entry["dtype"].as_str().unwrap().into(),
            shape: numbers(&entry["shape"]),
            bytes: data[range[0]..range[1]].to_vec(),
        }
    };
    Some(header.iter().filter(|(name, _)| *name != "__metadata__").map(|(n, e)| (n.clone(), tensor(e))).collect())
}
