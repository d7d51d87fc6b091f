//! What the program's own file tells: the line of a code address, and where the kernels' static shared arrays lie.

use crate::findings::{Frame, Place};
use std::collections::HashMap;

/// A static `__shared__` array of a kernel's file.
#[derive(Clone, Debug)]
pub(crate) struct Array {
    /// Its name in the source.
    pub name: String,
    /// Where it lies in a thread's local memory, counted from the engine's anchor.
    pub offset: i64,
    pub size: u64,
}

/// For each kernel, given by the address of its code, the arrays that it may use: its own, and those of functions of its file that
/// are no kernels. They come from the symbol table of the running program; where it has none, static arrays are neither filled
/// before a block nor checked.
pub(crate) fn arrays(kernels: &[u64]) -> Vec<Vec<Array>> {
    read_arrays(kernels).unwrap_or_else(|| vec![Vec::new(); kernels.len()])
}

/// The part of a mangled name that tells file and copy: `emu_plain_softmax` of `_ZN17emu_plain_softmax12_GLOBAL__N_1..`.
fn unit(mangled: &str) -> Option<&str> {
    let at = mangled.find("emu_")?;
    Some(&mangled[at..at + mangled[at..].find("12_GLOBAL__N_1")?])
}

fn read_arrays(kernels: &[u64]) -> Option<Vec<Vec<Array>>> {
    use object::{Object, ObjectSymbol, SymbolKind};
    let bytes = std::fs::read(std::env::current_exe().ok()?).ok()?;
    let file = object::File::parse(&*bytes).ok()?;
    let named = |name: &str| file.symbols().find(|s| s.name() == Ok(name)).map(|s| s.address());
    let anchor = named("emu_tls_anchor")?;
    // Programs may be loaded anywhere; one function tells where.
    let moved = (crate::ffi::emu_begin as *const () as u64).wrapping_sub(named("emu_begin")?);
    let code: HashMap<u64, &str> = file
        .symbols()
        .filter(|s| s.kind() == SymbolKind::Text)
        .filter_map(|s| Some((s.address().wrapping_add(moved), s.name().ok()?)))
        .filter(|(_, name)| unit(name).is_some())
        .collect();
    let names: Vec<Option<&str>> = kernels.iter().map(|k| code.get(k).copied()).collect();
    let mut all = vec![Vec::new(); kernels.len()];
    for symbol in file.symbols().filter(|s| s.kind() == SymbolKind::Tls) {
        let Some((mangled, file)) = symbol.name().ok().and_then(|n| Some((n, unit(n)?))) else { continue };
        // `_ZZN..7softmaxILi5EEEvPKfE4most` is `most` in `_ZN..7softmaxILi5EEEvPKf`.
        let is_in = |kernel: &str| {
            let inner = mangled.strip_prefix("_ZZ").zip(kernel.strip_prefix("_Z"));
            inner.is_some_and(|(array, kernel)| array.strip_prefix(kernel).is_some_and(|rest| rest.starts_with('E')))
        };
        let owner = names.iter().flatten().find(|n| is_in(n));
        let array = Array {
            name: base_name(mangled),
            offset: symbol.address().wrapping_sub(anchor) as i64,
            size: symbol.size(),
        };
        for (kernel, list) in names.iter().zip(&mut all) {
            if kernel.is_some_and(|k| unit(k) == Some(file) && owner.is_none_or(|o| *o == k)) {
                list.push(array.clone());
            }
        }
    }
    Some(all)
}

/// The last identifier of a mangled name: `4tile` at the end of `_ZZN..E4tile` is `tile`.
fn base_name(mangled: &str) -> String {
    let bytes = mangled.as_bytes();
    for at in (0..bytes.len()).rev().filter(|&i| bytes[i].is_ascii_digit()) {
        let start = (0..=at).rev().take_while(|&i| bytes[i].is_ascii_digit()).last().unwrap_or(at);
        for begin in start..=at {
            let Ok(n) = mangled[begin..=at].parse::<usize>() else { continue };
            let rest = &mangled[at + 1..];
            // A suffix such as `_0` or `E` may follow.
            if n > 0 && n <= rest.len() && rest.len() - n <= 3 && !rest.starts_with('_') {
                return rest[..n].to_string();
            }
        }
    }
    mangled.to_string()
}

/// The place of a code address, with the calls that were inlined there, innermost first. The emulator's own headers are left out.
pub(crate) fn place(pc: u64) -> Place {
    let mut frames = Vec::new();
    backtrace::resolve(pc as *mut std::ffi::c_void, |symbol| {
        let file = symbol.filename().map(|f| {
            let f = f.display().to_string();
            f.strip_prefix(concat!(env!("EMU_ROOT"), "/")).unwrap_or(&f).to_string()
        });
        let ours = |f: &String| f.ends_with("emulator/include/emulator.h") || f.ends_with("emulator/include/engine.h");
        if file.as_ref().is_some_and(ours) {
            return;
        }
        frames.push(Frame {
            file: file.unwrap_or_default(),
            line: symbol.lineno().unwrap_or(0),
            function: symbol.name().map(|n| short(&n.to_string())).unwrap_or_default(),
        });
    });
    Place { address: pc, frames }
}

/// `emu_checked_relu::(anonymous namespace)::relu_forward<float>(float const*, float*, long long)` is `relu_forward<float>`.
fn short(name: &str) -> String {
    let name = name.replace("(anonymous namespace)::", "");
    let mut depth = 0;
    let mut end = name.len();
    for (i, c) in name.char_indices() {
        match c {
            '<' => depth += 1,
            '>' => depth -= 1,
            '(' if depth == 0 => {
                end = i;
                break;
            }
            _ => {}
        }
    }
    let name = name[..end].split("::").filter(|p| !p.contains("emu_")).collect::<Vec<_>>().join("::");
    name.strip_prefix("void ").unwrap_or(&name).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shortened() {
        let long = "void emu_checked_relu::(anonymous namespace)::relu_forward<float>(float const*, float*, long long)";
        assert_eq!(short(long), "relu_forward<float>");
        assert_eq!(base_name("_ZZN14emu_plain_gemm12_GLOBAL__N_14gemmIfEEvPKT_E4tile"), "tile");
        assert_eq!(base_name("_ZZN14emu_plain_gemm12_GLOBAL__N_14gemmIfEEvPKT_E4tile_0"), "tile");
        assert_eq!(base_name("_ZN14emu_plain_gemm12_GLOBAL__N_1L7scratchE"), "scratch");
    }
}
