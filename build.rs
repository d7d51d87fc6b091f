//! Compiles `kernels/*.cu` and puts the result, with the table of the kernels' names, into `OUT_DIR/kernels.rs`.
//!
//! Where the machine has NVIDIA's compiler library ([`search`] says where it may be), every file becomes text and machine code for
//! each of [`source::ARCHITECTURES`]. Where it has none, the text in `kernels/prebuilt/` is taken, which the driver of the GPU
//! finishes; and where that is out of date too, the crate is built without kernels and says so. It never downloads anything.
//!
//! Results are kept in `OUT_DIR` under the hash of what they were made from, so an edit of one kernel compiles one file.

#[path = "build/compile.rs"]
mod compile;
#[path = "build/nvrtc.rs"]
mod nvrtc;
#[path = "build/search.rs"]
mod search;
#[path = "build/sha256.rs"]
mod sha256;
#[path = "build/source.rs"]
mod source;

use compile::write_file;
use nvrtc::Nvrtc;
use source::{ARCHITECTURES, Source};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// `write` puts what was compiled into `kernels/prebuilt/`; scripts/prebuilt.sh sets it.
const PREBUILT: &str = "ONECYCLE_PREBUILT";
/// cudarc's own variable, which overrides the version that this crate asks it for.
const CUDARC: &str = "CUDARC_CUDA_VERSION";
/// The version in Cargo.toml.
const CUDARC_VERSION: &str = "12080";

/// A file compiled for an architecture.
struct Image {
    arch: &'static str,
    /// Where the text lies, with a zero byte at its end.
    ptx: PathBuf,
    /// Where the machine code lies, when there is some.
    cubin: Option<PathBuf>,
    /// The names in the image of all entries, in their order.
    lowered: Vec<String>,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            message.lines().filter(|line| !line.trim().is_empty()).for_each(|line| println!("cargo::error={line}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let folder = |name| std::env::var_os(name).map(PathBuf::from).ok_or(format!("cargo sets {name}"));
    let (root, out) = (folder("CARGO_MANIFEST_DIR")?, folder("OUT_DIR")?);
    for name in search::variables().chain([PREBUILT, CUDARC]) {
        println!("cargo::rerun-if-env-changed={name}");
    }
    // Cargo runs this script every time when a path that it watches isn't there.
    for path in [root.join("kernels"), root.join(".nvrtc")].iter().filter(|path| path.exists()) {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    check_cudarc()?;

    let sources = source::read(&root.join("kernels"))?;
    let (images, origin) = match search::find(&root) {
        Ok(nvrtc) => {
            println!("cargo::rerun-if-changed={}", nvrtc.path.display());
            let images = compile_all(&nvrtc, &sources, &root, &out)?;
            (images, format!("NVRTC {}, {}", nvrtc.version, nvrtc.path.display()))
        }
        Err(tried) => {
            if let Some(named) = std::env::var_os(search::NVRTC_LIB).filter(|named| named != "none") {
                warn(&format!("NVRTC_LIB={}: {}", named.display(), tried.join("; ")));
            }
            (prebuilt(&sources, &root, &out, &tried)?, "kernels/prebuilt".to_owned())
        }
    };
    describe_build();
    let empty = images.iter().all(Vec::is_empty);
    let text = render(&sources, &images, if empty { "nowhere" } else { &origin });
    write_file(&out.join("kernels.rs"), text.as_bytes())
}

/// What a report on this build says of the compiler; the crate reads it with `env!`.
fn describe_build() {
    let said = |name: &str| std::env::var(name).unwrap_or_default();
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = std::process::Command::new(rustc).arg("--version").output();
    let version = version.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned()).unwrap_or_default();
    println!("cargo::rustc-env=ONECYCLE_RUSTC={}", if version.is_empty() { "an unknown rustc" } else { &version });
    println!("cargo::rustc-env=ONECYCLE_TARGET={}", said("TARGET"));
    println!("cargo::rustc-env=ONECYCLE_PROFILE={}", said("PROFILE"));
}

/// Another version than ours breaks the build of cudarc with hundreds of errors, none of which names the cause.
fn check_cudarc() -> Result<(), String> {
    match std::env::var(CUDARC) {
        Ok(version) if version != CUDARC_VERSION => Err(format!(
            "{CUDARC}={version} is set in the environment, and this crate needs cudarc for {CUDARC_VERSION}: unset {CUDARC}"
        )),
        _ => Ok(()),
    }
}

/// All files for all architectures, by as many threads as cargo grants; for each file the images that there are.
fn compile_all(nvrtc: &Nvrtc, sources: &[Source], root: &Path, out: &Path) -> Result<Vec<Vec<Image>>, String> {
    let mut jobs: Vec<_> = sources.iter().flat_map(|s| ARCHITECTURES.map(|arch| (s, arch))).collect();
    // The longest work is begun first.
    jobs.sort_by_key(|(source, _)| source.text.len() * source.entries.len());
    let threads = std::env::var("NUM_JOBS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let results = compile::each(&jobs, threads, |(source, arch)| compile_one(nvrtc, source, arch, root, out))?;
    let mut images: Vec<Vec<Image>> = sources.iter().map(|_| Vec::new()).collect();
    for ((source, _), image) in jobs.iter().zip(results) {
        let of_file = sources.iter().position(|s| s.stem == source.stem).unwrap_or_default();
        // One log is enough: an error in a header stands in all of them.
        images[of_file].extend(image?);
    }
    images.iter_mut().for_each(|of_file| of_file.sort_by_key(|image| image.arch));
    if std::env::var_os(PREBUILT).is_some_and(|value| value == "write") {
        write_prebuilt(sources, &images, root)?;
    }
    Ok(images)
}

/// Brings `kernels/prebuilt/` up to date.
fn write_prebuilt(sources: &[Source], images: &[Vec<Image>], root: &Path) -> Result<(), String> {
    let mut files = Vec::new();
    for (source, images) in sources.iter().zip(images) {
        let mut made = Vec::new();
        for image in images {
            made.push((image.arch, compile::text(&image.ptx)?, image.lowered.clone()));
        }
        files.extend(source.prebuilt(&made).into_iter().map(|(path, content)| (root.join(path), content)));
    }
    for entry in std::fs::read_dir(root.join(source::PREBUILT)).into_iter().flatten() {
        let path = entry.map_err(|e| e.to_string())?.path();
        if path.extension().is_some_and(|e| e == "ptx") && !files.iter().any(|(wanted, _)| *wanted == path) {
            std::fs::remove_file(&path).map_err(|e| format!("cannot remove {}: {e}", path.display()))?;
        }
    }
    // Only what changed is written: cargo looks at the dates.
    files.retain(|(path, content)| compile::read_file(path).ok().as_ref() != Some(content));
    files.iter().try_for_each(|(path, content)| write_file(path, content.as_bytes()))
}

/// One file for one architecture; from `kernels/prebuilt/` when this compiler doesn't know the architecture.
fn compile_one(
    nvrtc: &Nvrtc,
    source: &Source,
    arch: &'static str,
    root: &Path,
    out: &Path,
) -> Result<Option<Image>, String> {
    if !nvrtc.compiles_for(arch) {
        return prebuilt_one(source, arch, root, out)?.or_else(|fault| {
            warn(&format!("NVRTC {} doesn't compile for {arch}, and {fault}: run scripts/nvrtc.sh", nvrtc.version));
            Ok(None)
        });
    }
    let output = compile::compile(nvrtc, source, arch, out)?;
    for fault in source.faults(&output.log, &output.lowered) {
        warn(&format!("{}, {arch}: {fault}", source.name()));
    }
    Ok(Some(Image { arch, ptx: output.ptx, cubin: Some(output.cubin), lowered: output.lowered }))
}

/// All images from `kernels/prebuilt/`. What is missing or out of date is named once, with the ways out.
fn prebuilt(sources: &[Source], root: &Path, out: &Path, tried: &[String]) -> Result<Vec<Vec<Image>>, String> {
    let (mut images, mut faults) = (Vec::new(), Vec::new());
    for source in sources {
        let mut of_file = Vec::new();
        for arch in ARCHITECTURES {
            match prebuilt_one(source, arch, root, out)? {
                Ok(image) => of_file.extend(image),
                Err(fault) => faults.push(fault),
            }
        }
        images.push(of_file);
    }
    if let Some(first) = faults.first() {
        let tried = if tried.is_empty() { String::new() } else { format!("; tried {}", tried.join("; ")) };
        warn(&format!(
            "{} of the GPU's kernels are left out: NVIDIA's compiler library (NVRTC) was not found{tried}, and {first}. The CPU is \
             not concerned. For a GPU: run scripts/nvrtc.sh, or set NVRTC_LIB to a libnvrtc.so of version 12 or 13",
            if images.iter().all(Vec::is_empty) { "All" } else { "Some" },
        ));
    }
    Ok(images)
}

/// One image from `kernels/prebuilt/`, none where another architecture's serves, or why it can't be had.
fn prebuilt_one(
    source: &Source,
    arch: &'static str,
    root: &Path,
    out: &Path,
) -> Result<Result<Option<Image>, String>, String> {
    let source::Prebuilt { content, lowered } = match source.read_prebuilt(root, arch) {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(Ok(None)),
        Err(fault) => return Ok(Err(fault)),
    };
    let ptx = out.join(format!("{}.{arch}.prebuilt.ptx", source.stem));
    write_file(&ptx, format!("{content}\0").as_bytes())?;
    Ok(Ok(Some(Image { arch, ptx, cubin: None, lowered })))
}

/// The text of `kernels.rs`, which src/device/cuda/kernels.rs includes.
fn render(sources: &[Source], images: &[Vec<Image>], origin: &str) -> String {
    let (mut table, mut all, mut files) = (String::new(), String::new(), String::new());
    for (source, images) in sources.iter().zip(images) {
        let file = &source.stem;
        let hash = source.hash(ARCHITECTURES[0]);
        files += &format!("    File {{ name: {file:?}, entries: {}, hash: {hash:?} }},\n", source.entries.len());
        for name in &source.entries {
            table += &format!("    Kernel {{ file: {file:?}, name: {name:?} }},\n");
        }
        for Image { arch, ptx, cubin, lowered } in images {
            let spare = cubin.is_some() && images.first().is_some_and(|first| serves(first, arch, ptx));
            let pairs: String = source.entries.iter().zip(lowered).map(|(n, l)| format!("({n:?}, {l:?}), ")).collect();
            let include = |path: &Path| format!("include_bytes!({:?})", path.display().to_string());
            let cubin = cubin.as_deref().map_or("&[]".to_owned(), include);
            let ptx = if spare { "&[]".to_owned() } else { include(ptx) };
            all += &format!(
                "    Image {{ file: {file:?}, arch: {arch:?}, ptx: {ptx}, cubin: {cubin}, entries: &[{pairs}] }},\n"
            );
        }
    }
    let primitives = sources.iter().flat_map(|s| &s.headers).find(|(name, _)| name == source::PRIMITIVES);
    let primitives = primitives.map(|(_, text)| sha256::hex(text.as_bytes())).unwrap_or_default();
    let mut text = String::new();
    write!(
        text,
        "/// All kernel files, sorted by name.\npub static FILES: &[File] = &[\n{files}];\n\
         /// The hash of `kernels/prim.cuh`, which holds all instructions that only a GPU can vouch for.\n\
         pub static PRIMITIVES: &str = {primitives:?};\n\
         /// All kernels, sorted by file, then in the file's order.\npub static TABLE: &[Kernel] = &[\n{table}];\n\
         /// What was built in: for each file and architecture one image.\npub static IMAGES: &[Image] = &[\n{all}];\n\
         /// Where the images come from.\npub static ORIGIN: &str = {origin:?};\n"
    )
    .expect("a string takes everything");
    text
}

/// Whether the text of `first` is also that of `arch`, but for the line that names the target: one is enough then. It is a quarter
/// of what is built in.
fn serves(first: &Image, arch: &str, ptx: &Path) -> bool {
    let target = |arch: &str| format!(".target {arch}\n");
    let (Ok(common), Ok(text)) = (compile::text(&first.ptx), compile::text(ptx)) else { return false };
    arch != first.arch && text.replace(&target(arch), &target(first.arch)) == common
}

fn warn(message: &str) {
    println!("cargo::warning={message}");
}
