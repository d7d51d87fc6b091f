//! The names that weights need. Whatever else a pickle asks for ends its reading.

use super::{Known, Number, shown};
use crate::{Error, ErrorKind, Result};

/// The names that weights need.
pub(super) fn known(module: &str, name: &str) -> Result<Known> {
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
    if module == "torch.storage" && name == "_load_from_bytes" {
        return error.remedy("pickle.dump wrote this file: use torch.save(model.state_dict(), ..)");
    }
    if module.starts_with("numpy") && ["_reconstruct", "_frombuffer", "ndarray"].contains(&name) {
        return error.remedy("it holds numpy's arrays: save tensors, torch.save(model.state_dict(), ..)");
    }
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
