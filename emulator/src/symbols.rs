//! What the program's own file tells: the line of a code address, and where the kernels' static shared arrays lie.

use crate::findings::{Frame, Place};
use std::collections::HashMap;
use std::sync::OnceLock;

/// A static `__shared__` array of a kernel's file.
#[derive(Clone, Debug)]
pub(crate) struct Array {
    /// Its name in the source.
    pub name: String,
    /// Where it lies in a thread's local memory, counted from the engine's anchor.
    pub offset: i64,
    pub size: u64,
}

/// The arrays of a compiled unit (`emu_plain_softmax`), from the symbol table of the running program. Empty where there is none:
/// then static arrays are neither filled before a block nor checked.
pub(crate) fn arrays(unit: &str) -> &'static [Array] {
    static ALL: OnceLock<HashMap<String, Vec<Array>>> = OnceLock::new();
    ALL.get_or_init(|| read_arrays().unwrap_or_default()).get(unit).map_or(&[], |v| v)
}

fn read_arrays() -> Option<HashMap<String, Vec<Array>>> {
    use object::{Object, ObjectSymbol, SymbolKind};
    let bytes = std::fs::read(std::env::current_exe().ok()?).ok()?;
    let file = object::File::parse(&*bytes).ok()?;
    let tls = || file.symbols().filter(|s| s.kind() == SymbolKind::Tls);
    let anchor = tls().find(|s| s.name() == Ok("emu_tls_anchor"))?.address();
    let mut all: HashMap<String, Vec<Array>> = HashMap::new();
    for symbol in tls() {
        let Ok(mangled) = symbol.name() else { continue };
        // `_ZZN<length>emu_plain_softmax12_GLOBAL__N_1...`
        let Some(at) = mangled.find("emu_") else { continue };
        let Some(end) = mangled[at..].find("12_GLOBAL__N_1") else { continue };
        let unit = &mangled[at..at + end];
        let offset = symbol.address().wrapping_sub(anchor) as i64;
        let name = base_name(mangled);
        all.entry(unit.to_string()).or_default().push(Array { name, offset, size: symbol.size() });
    }
    for list in all.values_mut() {
        list.sort_by_key(|a| a.offset);
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
