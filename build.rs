//! Reads the names of the kernels out of `kernels/*.cu`.

use std::fmt::Write;
use std::path::Path;

fn main() {
    let folder = Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("kernels");
    println!("cargo:rerun-if-changed={}", folder.display());
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .expect("kernels/ is part of the package")
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "cu"))
        .collect();
    files.sort();
    let mut table = String::new();
    for file in &files {
        let text = std::fs::read_to_string(file).expect("a kernel file is text");
        let stem = file.file_stem().expect("it has an ending").to_string_lossy();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("KERNEL(").and_then(|l| l.strip_suffix(')')) {
                writeln!(table, "    Kernel {{ file: {stem:?}, name: {name:?} }},").expect("a string takes everything");
            }
        }
    }
    let text = format!(
        "/// All kernels.\npub static TABLE: &[Kernel] = &[\n{table}];\n/// What was built in.\npub static IMAGES: &[Image] = &[];\n/// Where it came from.\npub static ORIGIN: &str = \"nowhere\";\n"
    );
    std::fs::write(Path::new(&std::env::var("OUT_DIR").expect("cargo sets it")).join("kernels.rs"), text)
        .expect("the output folder can be written to");
}
