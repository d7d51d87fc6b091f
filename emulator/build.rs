//! Compiles the engine, and every `.cu` file twice: as it is, and with the compiler's access hooks for the checker.
//!
//! A file is included by a wrapper of a few lines, inside a namespace of its own: constants of different files don't clash, and the
//! two copies of a file stay apart. An object is compiled again when its file, a header or the compiler changed: one kernel costs
//! half a second.
//!
//! Without a C++ compiler the crate is built all the same, without anything in it (`cfg(no_emu)`).

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// One object file to be.
struct Unit {
    name: String,
    source: PathBuf,
    flags: Vec<&'static str>,
}

/// Kernels lean on pointer casts that C++ leaves undefined and CUDA's compiler takes as meant. No sum may be fused differently
/// from machine to machine.
const COMMON: &[&str] = &[
    "-std=c++17",
    "-O2",
    "-g1",
    "-fno-strict-aliasing",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-exceptions",
    "-fno-rtti",
    "-ftls-model=initial-exec",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
    "-Wno-psabi",
    "-Wno-unused-function",
    "-Wno-unknown-pragmas",
    "-Wno-unused-parameter",
];
const UNSET_LOCALS: &str = "-ftrivial-auto-var-init=pattern";
/// The hooks of accesses and of wrong alignment are ours (src/checker.cc); neither libtsan nor libubsan is linked. Wider accesses than the source has would blur findings.
const CHECKED: &[&str] = &["-fsanitize=thread,alignment", "-fno-tree-vectorize"];

fn main() {
    println!("cargo::rustc-check-cfg=cfg(no_emu)");
    let here = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(std::env::var("OUT_DIR").expect("cargo sets it"));
    let root = here.parent().expect("the crate lies inside the workspace").to_path_buf();
    let folders = [(root.join("kernels"), ""), (here.join("tests/kernels"), "testing_")];
    for path in ["include", "src/engine.hh", "src/engine.cc", "src/checker.cc"] {
        println!("cargo::rerun-if-changed={}", here.join(path).display());
    }
    println!("cargo::rustc-env=EMU_ROOT={}", root.display());
    if let Err(why) = build(&here, &out, &folders) {
        println!("cargo::warning=the emulator of CUDA kernels is left out, its tests will be skipped: {why}");
        println!("cargo::rustc-cfg=no_emu");
    }
}

fn build(here: &Path, out: &Path, folders: &[(PathBuf, &str)]) -> Result<(), String> {
    let os = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    let arch = std::env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    if !["x86_64", "aarch64"].contains(&arch.as_str()) || os == "windows" {
        return Err(format!("it has no fibers for {arch} on {os}"));
    }
    let mut base = cc::Build::new();
    base.cpp(true).cargo_metadata(false).warnings(false);
    let compiler = base.try_get_compiler().map_err(|e| format!("no C++ compiler ({e})"))?;
    if compiler.is_like_msvc() {
        return Err("it needs g++ or clang++".into());
    }
    // A local variable that nobody set is -1.7e38 rather than whatever lay there. Costs nothing that could be measured.
    let extra = base.is_flag_supported(UNSET_LOCALS).unwrap_or(false).then_some(UNSET_LOCALS);
    let version = Command::new(compiler.path())
        .arg("--version")
        .output()
        .map_err(|e| format!("no C++ compiler ({}: {e})", compiler.path().display()))?
        .stdout;
    let name = String::from_utf8_lossy(&version).lines().next().unwrap_or("").trim().to_string();
    println!("cargo::rustc-env=EMU_COMPILER={name}");

    // What all objects depend on.
    let mut shared = DefaultHasher::new();
    version.hash(&mut shared);
    for file in files_in(&here.join("include"), "h").iter().chain(&[here.join("src/engine.hh")]) {
        fs::read(file).map_err(|e| format!("{}: {e}", file.display()))?.hash(&mut shared);
    }
    let mut units = vec![
        Unit { name: "engine".into(), source: here.join("src/engine.cc"), flags: vec![] },
        Unit { name: "checker".into(), source: here.join("src/checker.cc"), flags: vec![] },
    ];
    let mut table = String::from("// References every unit, so that the linker keeps it.\n");
    let mut references = String::new();
    for (folder, prefix) in folders {
        println!("cargo::rerun-if-changed={}", folder.display());
        for header in files_in(folder, "cuh") {
            println!("cargo::rerun-if-changed={}", header.display());
            fs::read(&header).map_err(|e| format!("{}: {e}", header.display()))?.hash(&mut shared);
        }
        for file in files_in(folder, "cu") {
            println!("cargo::rerun-if-changed={}", file.display());
            let text = fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
            if !text.lines().any(|l| l.starts_with("KERNEL(") || l.starts_with("LAYOUT(")) {
                continue;
            }
            let stem = file.file_stem().expect("it has an ending").to_string_lossy();
            let unit: String =
                stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect::<String>();
            for (checked, kind) in [(0, "plain"), (1, "checked")] {
                let name = format!("emu_{kind}_{prefix}{unit}");
                let wrapper = out.join(format!("{name}.cc"));
                let text = format!(
                    "#include \"engine.h\"\n#define ONECYCLE_EMULATOR\n#define ONECYCLE_UNIT \"{prefix}{stem}\"\n\
                     #define ONECYCLE_CHECKED {checked}\n\
                     namespace {name} {{ namespace {{\n#include \"{}\"\n}} }}\n\
                     extern \"C\" {{ extern const char {name}_unit; const char {name}_unit = 0; }}\n",
                    file.display()
                );
                write_if_new(&wrapper, &text)?;
                table.push_str(&format!("extern \"C\" const char {name}_unit;\n"));
                references.push_str(&format!("    &{name}_unit,\n"));
                let flags = if checked == 1 { CHECKED } else { &[] };
                units.push(Unit { name, source: wrapper, flags: flags.iter().copied().chain(extra).collect() });
            }
        }
    }
    table.push_str(&format!(
        "extern \"C\" {{ extern const void* const emu_units[]; const void* const emu_units[] = {{\n{references}    \
         &emu_units, nullptr}}; }}\n"
    ));
    let table_file = out.join("emu_table.cc");
    write_if_new(&table_file, &table)?;
    units.push(Unit { name: "emu_table".into(), source: table_file, flags: vec![] });

    let shared = shared.finish();
    let kernels = &folders[0].0;
    let jobs: usize = std::env::var("NUM_JOBS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let waiting = Mutex::new(units.iter());
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, units.len()) {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().expect("no thread panics").next();
                    let Some(unit) = next else { return };
                    if let Err(e) = compile(&compiler, unit, here, kernels, out, shared) {
                        failures.lock().expect("no thread panics").push(e);
                    }
                }
            });
        }
    });
    // A kernel that doesn't compile is a mistake to be seen, not a missing compiler.
    let failures = failures.into_inner().expect("no thread panics");
    if !failures.is_empty() {
        for line in failures.join("\n").lines() {
            println!("cargo::error={line}");
        }
        std::process::exit(1);
    }
    let mut library = cc::Build::new();
    library.cpp(true);
    // The C++ library goes into the test programs where it can, so that they also run on machines without one.
    if let Some(folder) = static_library(&compiler) {
        library.cpp_link_stdlib(None);
        println!("cargo::rustc-link-search=native={}", folder.display());
    }
    for unit in &units {
        library.object(out.join(format!("{}.o", unit.name)));
    }
    library.compile("onecycle_emulator");
    if static_library(&compiler).is_some() {
        println!("cargo::rustc-link-lib=static:-bundle=stdc++");
    }
    Ok(())
}

/// Where libstdc++.a is; a compiler that doesn't have it repeats the name.
fn static_library(compiler: &cc::Tool) -> Option<PathBuf> {
    let said = compiler.to_command().arg("-print-file-name=libstdc++.a").output().ok()?.stdout;
    let path = PathBuf::from(String::from_utf8_lossy(&said).trim());
    path.is_absolute().then(|| path.parent().map(Path::to_path_buf)).flatten().filter(|_| path.is_file())
}

/// Compiles a unit unless its object is of the same text, headers, flags and compiler.
fn compile(
    compiler: &cc::Tool,
    unit: &Unit,
    here: &Path,
    kernels: &Path,
    out: &Path,
    shared: u64,
) -> Result<(), String> {
    let read = |p: &Path| fs::read(p).map_err(|e| format!("{}: {e}", p.display()));
    let mut hash = DefaultHasher::new();
    shared.hash(&mut hash);
    (COMMON, &unit.flags, compiler.path(), compiler.args()).hash(&mut hash);
    let text = read(&unit.source)?;
    text.hash(&mut hash);
    if let Some(path) = String::from_utf8_lossy(&text).lines().find_map(|l| l.strip_prefix("#include \"/")) {
        read(&Path::new("/").join(path.trim_end_matches('"')))?.hash(&mut hash);
    }
    let hash = format!("{:016x}", hash.finish());
    let object = out.join(format!("{}.o", unit.name));
    let stamp = out.join(format!("{}.hash", unit.name));
    if object.exists() && fs::read_to_string(&stamp).is_ok_and(|s| s == hash) {
        return Ok(());
    }
    let _ = fs::remove_file(&stamp);
    let mut command = compiler.to_command();
    command.args(COMMON).args(&unit.flags);
    if unit.name == "engine" || unit.name == "checker" {
        // An unwinder never crosses a fiber, but the standard containers may throw for want of memory.
        command.arg("-fexceptions");
    }
    command.arg("-I").arg(here.join("include")).arg("-I").arg(kernels);
    let done = command.arg("-c").arg(&unit.source).arg("-o").arg(&object).output().map_err(|e| e.to_string())?;
    let said = String::from_utf8_lossy(&done.stderr);
    if !done.status.success() {
        return Err(format!("{} does not compile for the emulator:\n{said}", unit.name));
    }
    for line in said.lines() {
        println!("cargo::warning={line}");
    }
    fs::write(&stamp, hash).map_err(|e| e.to_string())
}

fn files_in(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.extension().is_some_and(|e| e == ending))
        .collect();
    files.sort();
    files
}

fn write_if_new(path: &Path, text: &str) -> Result<(), String> {
    if fs::read_to_string(path).is_ok_and(|t| t == text) {
        return Ok(());
    }
    fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}
