//! Checkpoints that PyTorch wrote: `.pth` files, read without Python and without running anything in them.
//!
//! ```no_run
//! # fn main() -> onecycle::Result<()> {
//! let checkpoint = onecycle::nn::pth::read("resnet34-b627a593.pth".as_ref())?;
//! for (name, tensor) in &checkpoint.tensors {
//!     println!("{name}: {} {}", tensor.dtype(), tensor.shape());
//! }
//! # Ok(()) }
//! ```
//!
//! | file | what |
//! |---|---|
//! | `pickle/` | the description inside: a stack machine that knows a dozen names and calls none |
//! | `zip.rs` | today's container: a zip of stored entries |
//! | `legacy.rs` | the container until 2020: pickles one after the other |
//!
//! **What is read.** A dictionary of tensors by name, as `model.state_dict()` gives it; or one that has such a dictionary under
//! `state_dict`, `model_state_dict`, `model` or whatever single key, as training scripts and fastai's `learn.save` write it. What such
//! scripts put beside it (epochs, schedulers) is left alone; fastai's optimizer state is kept. Where there is a moving average of the
//! model too (`state_dict_ema`, `model_ema`), it is the one that is read: it is what the script measured. Tensors may share storages,
//! begin anywhere in them and have strides. Whole programs (`torch.save(model)`, `learn.export`) are refused: they are instructions to Python.
//!
//! **What was decided.** A file may come from anywhere, and two of PyTorch's own restricted readers had holes (CVE-2025-32434, executed
//! code; CVE-2026-24747, lies about storages). So nothing here can execute; every size, stride, offset and length is compared with the
//! bytes that are there before memory is asked for; and all tensors together may have at most eight times the file's bytes,
//! whatever its strides repeat.
//!
//! **What it costs.** Storages are read one by one, so a file needs its tensors' memory and that of its largest storage. What isn't
//! a type of this crate becomes the next larger one: all signed integers `I64`, booleans `U8`.

mod legacy;
mod pickle;
mod zip;

use crate::fs::read_exact_at;
use crate::tensor::{Element, Shape};
use crate::{DType, Device, Error, ErrorKind, Result, Tensor};
use pickle::{Number, Object, Pickle, Source, View, bad, big_endian, shown};
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::path::Path;

/// What a file holds.
#[derive(Debug, Default)]
pub struct Checkpoint {
    /// The model's tensors in the file's order, four-axis ones in this crate's order of axes.
    pub tensors: Vec<(String, Tensor)>,
    /// fastai's optimizer, where `learn.save` kept it.
    pub optimizer: Option<OptimizerState>,
}

/// What fastai's optimizer remembers.
#[derive(Debug, Default)]
pub struct OptimizerState {
    /// For each parameter, in the order of the groups: `grad_avg`, `sqr_avg`, `step`, `do_wd`, `force_train`; what isn't there is as
    /// it is by default.
    pub state: Vec<BTreeMap<String, Entry>>,
    /// For each group: `lr`, `mom`, `wd` and others.
    pub hypers: Vec<BTreeMap<String, f64>>,
}

/// Something that an optimizer remembers of a parameter.
#[derive(Clone, Debug)]
pub enum Entry {
    /// An average, of the parameter's shape.
    Tensor(Tensor),
    /// A count.
    Number(f64),
    /// A choice.
    Flag(bool),
}

/// Keys under which programs put the model's state, the one to be preferred first.
const WRAPPERS: [&str; 5] = ["state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model"];

/// What an optimizer may remember, all parameters together.
const MOST_ENTRIES: usize = 1 << 17;

/// Reads a checkpoint in either container.
///
/// # Errors
/// [`ErrorKind::Io`] when the file can't be read; [`ErrorKind::Format`] for what is no checkpoint of weights, or lies. Both name
/// `path`, and a tensor where one is at fault.
pub fn read(path: &Path) -> Result<Checkpoint> {
    let failed = |e| Error::io("read the weights", path, e);
    let file = File::open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if meta.is_dir() {
        return Err(Error::new(ErrorKind::Io, "is a folder, not a file")
            .on(path.display())
            .remedy("name a file in it"));
    }
    Archive::open(file, meta.len()).and_then(|archive| archive.checkpoint()).map_err(|e| {
        let message = e.item().map(|item| format!("{item} {}", e.message()));
        match message {
            None => e.on(path.display()),
            Some(message) => Error::new(e.kind(), message).on(path.display()).remedy(e.advice()).caused_by(e),
        }
    })
}

/// Whether a file begins like one that [`read`] reads, or that its errors can explain. A safetensors file begins with a length, which may
/// be any bytes, these too; but then comes its header.
pub(crate) fn is_torch(head: &[u8]) -> bool {
    head.get(8) != Some(&b'{') && (head.starts_with(b"PK") || head.first() == Some(&0x80) || is_tar(head))
}

/// Bytes of a file that [`is_torch`] looks at.
pub(crate) const HEAD: usize = 512;

fn is_tar(head: &[u8]) -> bool {
    head.get(257..262) == Some(b"ustar") || head.starts_with(b"sys_info\0") || head.starts_with(b"./sys_info\0")
}

/// An opened file: its description, and where its storages are.
struct Archive {
    file: File,
    len: u64,
    pickle: Pickle,
    places: Places,
}

enum Places {
    Zip(zip::Zip),
    Legacy(Vec<Option<u64>>),
}

impl Archive {
    fn open(file: File, len: u64) -> Result<Archive> {
        let mut head = vec![0; len.min(HEAD as u64) as usize];
        read_exact_at(&file, &mut head, 0).map_err(|_| bad("it ends early"))?;
        if is_tar(&head) {
            let error =
                Error::new(ErrorKind::Format, "is in torch's oldest container, a tar archive, which is not read here");
            return Err(
                error.remedy("take a later upload, or save it again with PyTorch: torch.save(torch.load(F), F)")
            );
        }
        if !head.starts_with(b"PK") {
            let (pickle, places) = legacy::open(&file, len)?;
            return Ok(Archive { file, len, pickle, places: Places::Legacy(places) });
        }
        let zip = zip::Zip::open(&file, len)?;
        let Some(entry) = zip.entry("data.pkl") else {
            let error = Error::new(ErrorKind::Format, "is a zip archive, but no checkpoint: it has no data.pkl");
            return Err(error.remedy("it takes a file that torch.save wrote"));
        };
        if zip.entry("constants.pkl").is_some() {
            let error = Error::new(ErrorKind::Format, "is a TorchScript program, not weights");
            return Err(error.remedy("save its weights: torch.save(torch.jit.load(F).state_dict(), ..)"));
        }
        if let Some(order) = zip.entry("byteorder").filter(|order| order.len < 16)
            && zip.bytes(&file, "byteorder", order)? != b"little"
        {
            return Err(big_endian());
        }
        if entry.len > 16 << 20 {
            let error = bad(format!("its description has {} bytes", entry.len));
            return Err(error.remedy("weights as numpy's arrays are not read: torch.save(model.state_dict(), ..)"));
        }
        let pickle = pickle::read(&mut Source::new(&zip.bytes(&file, "data.pkl", entry)?[..]))?;
        Ok(Archive { file, len, pickle, places: Places::Zip(zip) })
    }

    /// The bytes of a storage.
    fn storage(&self, at: u32) -> Result<Vec<u8>> {
        let stored = &self.pickle.storages[at as usize];
        let missing = || bad(format!("its storage {} is missing", shown(&stored.key)));
        let size = stored.len.checked_mul(stored.number.size());
        match &self.places {
            Places::Zip(zip) => {
                let name = format!("data/{}", stored.key);
                let entry = zip.entry(&name).ok_or_else(missing)?;
                if size != Some(entry.len) {
                    let (key, len, has) = (shown(&stored.key), stored.len, entry.len);
                    return Err(bad(format!(
                        "its storage {key} has {has} bytes, too many or too few for {len} elements"
                    )));
                }
                zip.bytes(&self.file, &name, entry)
            }
            Places::Legacy(places) => {
                let place = places[at as usize].ok_or_else(missing)?;
                // `legacy::open` has seen that it lies within the file.
                let mut bytes = vec![0; size.filter(|size| *size <= self.len).ok_or_else(missing)? as usize];
                read_exact_at(&self.file, &mut bytes, place).map_err(|_| bad("it ends early"))?;
                Ok(bytes)
            }
        }
    }

    fn checkpoint(&self) -> Result<Checkpoint> {
        let p = &self.pickle;
        let root = p.root();
        let state = self.state(root)?;
        let mut wanted: Vec<(String, &View)> = Vec::new();
        let mut names = HashSet::new();
        if let Object::Dict(pairs) = state {
            for &(key, value) in pairs {
                let Object::Tensor(view) = p.get(value) else { continue };
                let Object::Text(name) = p.get(key) else {
                    return Err(bad("it has a tensor whose name is no text"));
                };
                if !names.insert(name) {
                    return Err(bad(format!("its tensor \"{}\" is there twice", shown(name))));
                }
                wanted.push((name.clone(), view));
            }
        }
        let model = wanted.len();
        let optimizer = p.entry(root, "opt").and_then(|opt| Some((p.entry(opt, "state")?, p.entry(opt, "hypers")?)));
        let optimizer = optimizer.and_then(|(state, hypers)| Some((p.items(state)?, p.items(hypers)?)));
        // One dictionary can stand in these lists many times.
        let length = |&dict: &pickle::Id| if let Object::Dict(pairs) = p.get(dict) { pairs.len() } else { 1 };
        let entries: usize = optimizer.iter().flat_map(|(state, hypers)| state.iter().chain(*hypers)).map(length).sum();
        if entries > MOST_ENTRIES {
            return Err(bad(format!("its optimizer remembers {entries} things")));
        }
        for (i, &entries) in optimizer.iter().flat_map(|(state, _)| state.iter().enumerate()) {
            for (key, value) in self.texts(entries) {
                if let Object::Tensor(view) = value {
                    wanted.push((format!("optimizer {i}.{key}"), view));
                }
            }
        }
        let mut tensors = self.tensors(&wanted)?;
        let mut of_optimizer = tensors.split_off(model).into_iter();
        let optimizer = optimizer.map(|(state, hypers)| OptimizerState {
            state: state.iter().map(|&entries| self.entries(entries, &mut of_optimizer)).collect(),
            hypers: hypers.iter().map(|&hyper| self.numbers(hyper)).collect(),
        });
        let names = wanted.into_iter().map(|(name, _)| name);
        Ok(Checkpoint { tensors: names.zip(tensors).collect(), optimizer })
    }

    /// The dictionary of tensors: under a key that is known for it, else `root` itself, else the only one in it.
    fn state<'a>(&'a self, root: &'a Object) -> Result<&'a Object> {
        let p = &self.pickle;
        if let Some(state) = WRAPPERS.iter().filter_map(|key| p.entry(root, key)).find(|inner| self.has_tensors(inner))
        {
            return Ok(state);
        }
        if self.has_tensors(root) {
            return Ok(root);
        }
        let pairs = if let Object::Dict(pairs) = root { &pairs[..] } else { &[] };
        // Each value is looked into once, however many keys it has.
        let mut seen = HashSet::new();
        let within: Vec<_> =
            pairs.iter().filter(|(_, value)| seen.insert(*value) && self.has_tensors(p.get(*value))).collect();
        let remedy = "save one with torch.save(model.state_dict(), ..)";
        match within[..] {
            [(_, value)] => Ok(p.get(*value)),
            [] => Err(Error::new(ErrorKind::Format, "has no dictionary of tensors").remedy(remedy)),
            _ => {
                let keys = within.iter().take(3).map(|(key, _)| match p.get(*key) {
                    Object::Text(key) => format!("\"{}\"", shown(key)),
                    _ => "what is no text".into(),
                });
                let keys = keys.collect::<Vec<_>>().join(", ");
                let message = format!("has several dictionaries of tensors, under {keys}");
                Err(Error::new(ErrorKind::Format, message).remedy(remedy))
            }
        }
    }

    fn has_tensors(&self, object: &Object) -> bool {
        let Object::Dict(pairs) = object else { return false };
        pairs.iter().any(|(_, value)| matches!(self.pickle.get(*value), Object::Tensor(_)))
    }

    /// A dictionary's items with short texts as keys.
    fn texts(&self, dict: pickle::Id) -> impl Iterator<Item = (&String, &Object)> {
        let pairs = match self.pickle.get(dict) {
            Object::Dict(pairs) => &pairs[..],
            _ => &[],
        };
        pairs.iter().filter_map(|(k, v)| match self.pickle.get(*k) {
            Object::Text(key) if key.len() <= pickle::LONGEST_NAME => Some((key, self.pickle.get(*v))),
            _ => None,
        })
    }

    fn entries(&self, dict: pickle::Id, tensors: &mut impl Iterator<Item = Tensor>) -> BTreeMap<String, Entry> {
        let entry = |(key, value): (&String, &Object)| {
            let entry = match value {
                Object::Tensor(_) => Entry::Tensor(tensors.next()?),
                Object::Bool(flag) => Entry::Flag(*flag),
                Object::Int(n) => Entry::Number(*n as f64),
                Object::Float(n) => Entry::Number(*n),
                _ => return None,
            };
            Some((key.clone(), entry))
        };
        self.texts(dict).filter_map(entry).collect()
    }

    fn numbers(&self, dict: pickle::Id) -> BTreeMap<String, f64> {
        let number = |(key, value): (&String, &Object)| match value {
            Object::Int(n) => Some((key.clone(), *n as f64)),
            Object::Float(n) => Some((key.clone(), *n)),
            _ => None,
        };
        self.texts(dict).filter_map(number).collect()
    }

    /// The tensors of these views, in their order. Each storage is read once.
    fn tensors(&self, views: &[(String, &View)]) -> Result<Vec<Tensor>> {
        // Strides of 0 make a tensor larger than its file: a little, when somebody has saved an expanded one.
        let most = self.len.saturating_mul(8) + (1 << 20);
        let mut total = 0u64;
        for (name, view) in views {
            let numbers: u64 = view.size.iter().product(); // `Machine::check` has seen that it doesn't overflow
            let stored = &self.pickle.storages[view.storage as usize];
            total = total.saturating_add(numbers.saturating_mul(dtype(stored.number).size() as u64));
            if total > most {
                let error =
                    bad(format!("up to tensor \"{}\" there are {total} bytes in a file of {}", shown(name), self.len));
                return Err(error);
            }
        }
        let mut order: Vec<usize> = (0..views.len()).collect();
        order.sort_by_key(|&i| views[i].1.storage);
        let mut done: Vec<Option<Tensor>> = vec![None; views.len()];
        for group in order.chunk_by(|&a, &b| views[a].1.storage == views[b].1.storage) {
            let on = |i: usize| format!("tensor \"{}\"", shown(&views[i].0));
            let storage = views[group[0]].1.storage;
            let bytes = self.storage(storage).map_err(|e| e.on(on(group[0])))?;
            for &i in group {
                let number = self.pickle.storages[storage as usize].number;
                done[i] = Some(gather(&bytes, number, views[i].1).map_err(|e| e.on(on(i)))?);
            }
        }
        done.into_iter().map(|t| t.ok_or_else(|| bad("a tensor was not read"))).collect()
    }
}

/// What numbers of a storage become.
fn dtype(number: Number) -> DType {
    match number {
        Number::F64 => DType::F64,
        Number::F32 => DType::F32,
        Number::F16 => DType::F16,
        Number::BF16 => DType::BF16,
        Number::I64 | Number::I32 | Number::I16 | Number::I8 => DType::I64,
        Number::U8 | Number::Bool => DType::U8,
    }
}

/// A tensor from the bytes that it looks at.
fn gather(bytes: &[u8], number: Number, view: &View) -> Result<Tensor> {
    match number {
        Number::F64 => collect(bytes, view, f64::from_le_bytes),
        Number::F32 => collect(bytes, view, f32::from_le_bytes),
        Number::F16 => collect(bytes, view, half::f16::from_le_bytes),
        Number::BF16 => collect(bytes, view, half::bf16::from_le_bytes),
        Number::I64 => collect(bytes, view, i64::from_le_bytes),
        Number::I32 => collect(bytes, view, |b| i64::from(i32::from_le_bytes(b))),
        Number::I16 => collect(bytes, view, |b| i64::from(i16::from_le_bytes(b))),
        Number::I8 => collect(bytes, view, |b| i64::from(i8::from_le_bytes(b))),
        Number::U8 => collect(bytes, view, |[b]: [u8; 1]| b),
        Number::Bool => collect(bytes, view, |[b]: [u8; 1]| u8::from(b != 0)),
    }
}

fn collect<T: Element, const SIZE: usize>(bytes: &[u8], view: &View, of: impl Fn([u8; SIZE]) -> T) -> Result<Tensor> {
    let numbers = bytes.as_chunks::<SIZE>().0;
    let mut axes: Vec<(usize, usize)> =
        view.size.iter().zip(&view.stride).map(|(&d, &s)| (d as usize, s as usize)).collect();
    if let [_, channels, _, _] = axes[..] {
        // [N, C, H, W] and [K, C, R, S] keep their channels last here.
        axes.remove(1);
        axes.push(channels);
    }
    let shape = Shape::from(axes.iter().map(|(d, _)| *d).collect::<Vec<_>>());
    axes.retain(|(d, _)| *d != 1); // nothing moves along these
    let mut tensor = Tensor::uninit(shape, T::DTYPE, Device::Cpu)?;
    let Some((&(last, step), outer)) = axes.split_last() else {
        tensor.cpu_mut::<T>()[0] = number_at(numbers, view.offset as usize, &of)?;
        return Ok(tensor);
    };
    if tensor.numel() == 0 {
        return Ok(tensor);
    }
    let mut index = vec![0; outer.len()];
    for row in tensor.cpu_mut::<T>().chunks_exact_mut(last) {
        let start = view.offset as usize + index.iter().zip(outer).map(|(i, (_, s))| i * s).sum::<usize>();
        for (i, out) in row.iter_mut().enumerate() {
            *out = number_at(numbers, start + i * step, &of)?;
        }
        for (i, (d, _)) in index.iter_mut().zip(outer).rev() {
            *i += 1;
            if *i < *d {
                break;
            }
            *i = 0;
        }
    }
    Ok(tensor)
}

/// `Machine::check` has seen that all places are within the storage, and `Archive::storage` that the storage has its length.
fn number_at<T, const SIZE: usize>(numbers: &[[u8; SIZE]], at: usize, of: impl Fn([u8; SIZE]) -> T) -> Result<T> {
    numbers.get(at).map(|b| of(*b)).ok_or_else(|| bad("passes the end of its storage"))
}
