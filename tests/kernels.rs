//! What can be known of the CUDA kernels without a GPU: that they compile for every architecture and fit into registers, that the
//! text compiled beforehand is up to date, and that their sources keep the rules.
//!
//! Compiling needs NVIDIA's compiler library (scripts/nvrtc.sh fetches it); without it those tests say that they were skipped.
//! The table of registers and shared memory: `cargo test --test kernels resources -- --nocapture`

mod common;

// The build's own code, so that what is checked is what is built in. Not all of it is used here.
#[allow(dead_code)]
#[path = "../build/compile.rs"]
mod compile;
#[allow(dead_code)]
#[path = "../build/nvrtc.rs"]
mod nvrtc;
#[allow(dead_code)]
#[path = "../build/search.rs"]
mod search;
#[path = "../build/sha256.rs"]
mod sha256;
#[allow(dead_code)]
#[path = "../build/source.rs"]
mod source;

use compile::Output;
use nvrtc::Nvrtc;
use source::{ARCHITECTURES, Source};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// Ampere and Hopper, which are built in; and Blackwell in servers and in desktops, whose driver compiles the text for Ampere.
const CHECKED: [&str; 4] = ["sm_80", "sm_90a", "sm_100", "sm_120"];

/// The version that makes kernels/prebuilt/.
const PINNED: &str = "12.9.86";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The kernels' sources, or `None` after saying that a test is skipped: test programs also run on machines without them.
fn sources() -> Option<Vec<Source>> {
    let folder = root().join("kernels");
    if !folder.is_dir() {
        common::skip(format_args!("{} is not there", folder.display()));
        return None;
    }
    Some(source::read(&folder).unwrap())
}

/// A compiler (the pinned one, where it is), or `None` after saying that `what` is skipped.
fn compiler(what: &str) -> Option<Nvrtc> {
    let pinned = search::project(root()).iter().find_map(|path| Nvrtc::open(path).ok());
    match pinned.map_or_else(|| search::find(root()), Ok) {
        Ok(nvrtc) => Some(nvrtc),
        Err(tried) => {
            common::skip(format_args!(
                "{what}: no NVRTC was found (scripts/nvrtc.sh fetches one) {}",
                tried.join("; ")
            ));
            None
        }
    }
}

/// Every file for every one of `architectures` that the compiler knows. What the build or an earlier test has made is taken.
fn compiled<'a>(
    nvrtc: &Nvrtc,
    sources: &'a [Source],
    architectures: &[&'static str],
) -> Vec<(&'a Source, &'static str, Output)> {
    // Two tests want the same files.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());

    let (known, unknown): (Vec<&'static str>, Vec<_>) =
        architectures.iter().copied().partition(|arch| nvrtc.compiles_for(arch));
    if !unknown.is_empty() {
        common::skip(format_args!("NVRTC {} doesn't compile for {unknown:?}", nvrtc.version));
    }
    let jobs: Vec<_> = sources.iter().flat_map(|s| known.iter().map(move |arch| (s, *arch))).collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernels");
    let outputs = compile::each(&jobs, threads, |(source, arch)| {
        match compile::kept(nvrtc, source, arch, Path::new(env!("OUT_DIR"))) {
            Some(output) => Ok(output),
            None => compile::compile(nvrtc, source, arch, &folder),
        }
    });
    let output = |output: Result<Output, String>| output.unwrap_or_else(|log| panic!("{log}"));
    jobs.iter().zip(outputs.unwrap()).map(|((source, arch), o)| (*source, *arch, output(o))).collect()
}

#[test]
fn resources_and_faults() {
    let Some(sources) = sources() else { return };
    let Some(nvrtc) = compiler("compiling the kernels") else { return };
    let mut faults = Vec::new();
    println!("{:<14} {:<44} {:<7} {:>9} {:>6}", "file", "kernel", "arch", "registers", "shared");
    for (source, arch, output) in compiled(&nvrtc, &sources, &CHECKED) {
        let mut fault = |what: &str| faults.push(format!("{}, {arch}: {what}", source.name()));
        let text = compile::text(&output.ptx).unwrap();
        source.faults(&output.log, &output.lowered).iter().for_each(|what| fault(what));
        float_atomics(&text).for_each(&mut fault);
        // The compiler may put the number of its process into such a name, and the text would be another one each time.
        if text.contains("_INTERNAL_") {
            fault("a name that is known in its file only: constants are `inline constexpr`");
        }
        let usage = source::usage(&output.log);
        for (name, lowered) in source.entries.iter().zip(&output.lowered) {
            match usage.iter().find(|u| u.lowered == *lowered) {
                Some(u) => println!("{:<14} {name:<44} {arch:<7} {:>9} {:>6}", source.stem, u.registers, u.shared),
                None => fault(&format!("the log says nothing of {name}")),
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Additions to one float by many threads: their order, and so the result, is another one each time.
fn float_atomics(ptx: &str) -> impl Iterator<Item = &str> {
    let is_one = |line: &str| {
        let word = line.split_whitespace().find(|w| !w.starts_with('@')).unwrap_or_default();
        let atomic = word.starts_with("atom.") || word.starts_with("red.");
        atomic && word.contains(".add") && [".f16", ".bf16", ".f32", ".f64"].iter().any(|t| word.contains(t))
    };
    ptx.lines().map(str::trim).filter(move |line| is_one(line))
}

/// In the machine code itself: nothing goes through a thread's memory, and a file with matrix multiplications in it has the
/// instructions for them. Read by NVIDIA's disassembler.
#[test]
fn machine_code() {
    let Some(sources) = sources() else { return };
    let Some(nvrtc) = compiler("reading the machine code") else { return };
    let Some(disassembler) = disassembler() else { return };
    let (mut faults, mut matrices) = (Vec::new(), 0);
    for (source, arch, output) in compiled(&nvrtc, &sources, &ARCHITECTURES) {
        let out = Command::new(&disassembler).arg(&output.cubin).output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout);
        let name = format!("{}, {arch}", source.name());
        assert!(out.status.success() && text.contains("EXIT"), "{name}: {}", String::from_utf8_lossy(&out.stderr));
        let has = |instruction: &str| {
            let is_it = |word: &str| word.split('.').next() == Some(instruction);
            text.lines().any(|line| line.split(|c: char| c.is_whitespace() || c == ';').any(is_it))
        };
        for memory in ["LDL", "STL"].into_iter().filter(|i| has(i)) {
            faults.push(format!("{name}: {memory}, a thread's memory instead of registers"));
        }
        // What a file calls itself, or through its headers; prim.cuh, which has all primitives, calls none.
        let headers = source.headers.iter().filter(|(name, _)| name != "prim.cuh").map(|(_, text)| text);
        let texts: Vec<&String> = std::iter::once(&source.text).chain(headers).collect();
        for (primitive, instruction) in [("mma_m16n8k16", "HMMA"), ("mma_m16n8k8_tf32", "HMMA"), ("wgmma_", "HGMMA")] {
            // wgmma is for Hopper, and the file has another way for the others.
            let meant =
                texts.iter().any(|text| text.contains(primitive)) && (primitive != "wgmma_" || arch == "sm_90a");
            matrices += usize::from(meant);
            if meant && !has(instruction) {
                faults.push(format!("{name}: {primitive} in the source, and no {instruction} in the machine code"));
            }
        }
    }
    assert!(matrices >= 12, "only {matrices} files multiply matrices: is the search broken?");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Which instructions the entries on tensor cores have, each in its own type: f16 multiplied as bf16, or f32 without tf32, would be a
/// wrong result that the emulator, which has primitives of its own, can't see. The same for a fragment that is turned where it shouldn't be, and
/// for copies that go through registers.
#[test]
fn machine_code_of_tensor_cores() {
    let Some(sources) = sources() else { return };
    let Some(nvrtc) = compiler("reading the machine code") else { return };
    let Some(disassembler) = disassembler() else { return };
    let mut faults = Vec::new();
    let sources: Vec<Source> = sources.into_iter().filter(|s| s.stem.starts_with("conv2d_")).collect();
    let mut seen = 0;
    for (source, arch, output) in compiled(&nvrtc, &sources, &ARCHITECTURES) {
        let out = Command::new(&disassembler).arg(&output.cubin).output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        for (entry, lowered) in source.entries.iter().zip(&output.lowered) {
            let code = text.split(&format!("\n.text.{lowered}:")).nth(1).unwrap_or_else(|| panic!("{entry}: no code"));
            let code = code.split("\n\t.section").next().unwrap_or_default();
            let all = |kind: &str| -> BTreeSet<String> {
                let words = code.split(|c: char| c.is_whitespace() || c == ';');
                // The compiler has two ways to bring zeros, and may ask the second-level cache for the neighbours, too.
                let found =
                    words.filter(|word| word.split('.').next() == Some(kind)).map(|word| word.replace(".LTC128B", ""));
                found.map(|word| word.trim_end_matches(".ZFILL").to_owned()).collect()
            };
            let single = entry.contains("<f32");
            let product = match () {
                () if single => "HMMA.1688.F32.TF32",
                () if entry.contains("<bf16") => "HMMA.16816.F32.BF16",
                () => "HMMA.16816.F32",
            };
            // ldmatrix: of rows as they lie, and turned; f32 can't be turned by it. The filters of a stem are not copied 16 bytes at a time.
            let (straight, turned) = ("LDSM.16.M88.4", "LDSM.16.MT88.4");
            let (loads, copies): (&[&str], &[&str]) = match entry.split('<').next().unwrap_or_default() {
                "conv_forward_mma" | "conv_forward_slab" => (&[straight], &["LDGSTS.E.BYPASS.128"]),
                "conv_forward_stem" => (&[straight], &[]),
                "conv_input_gradient_mma" if single => (&[straight], &["LDGSTS.E.BYPASS.128"]),
                "conv_input_gradient_mma" | "conv_input_gradient_slab" => {
                    (&[straight, turned], &["LDGSTS.E.BYPASS.128"])
                }
                "conv_weight_gradient_mma" if single => (&[], &["LDGSTS.E.BYPASS.128"]),
                _ => (&[turned], &["LDGSTS.E.BYPASS.128"]),
            };
            for (kind, want) in [("HMMA", &[product][..]), ("LDSM", loads), ("LDGSTS", copies)] {
                if all(kind) != want.iter().map(|word| (*word).to_owned()).collect() {
                    faults.push(format!("{entry}, {arch}: {:?} instead of {want:?}", all(kind)));
                }
            }
            seen += 1;
        }
    }
    assert!(seen >= 42, "only {seen} entries were looked at");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The disassembler, or `None` after saying that reading machine code is skipped.
fn disassembler() -> Option<PathBuf> {
    let fetched = root().join(".nvrtc/nvidia/cu13/bin/nvdisasm");
    let disassembler = if fetched.is_file() { fetched } else { PathBuf::from("nvdisasm") };
    match Command::new(&disassembler).arg("--version").output() {
        Ok(_) => Some(disassembler),
        Err(_) => {
            common::skip(format_args!("reading the machine code: there is no nvdisasm (scripts/nvrtc.sh fetches it)"));
            None
        }
    }
}

/// Each primitive's own entry in selftest.cu has the PTX instruction that the primitive is for: of this shape, of these types, with this
/// rounding. What it computes, only a GPU tells (tests/ptx_selftest.rs); the emulator has C++ in its place.
#[test]
fn primitives_are_their_instructions() {
    let Some(sources) = sources() else { return };
    let source = sources.iter().find(|s| s.stem == "selftest").expect("selftest.cu is there");
    // As it is built in, compiled beforehand: no compiler is needed to read it.
    let built = source.read_prebuilt(root(), ARCHITECTURES[0]).unwrap().expect("the first architecture has a text");
    let of_entry = |name: &str| {
        let place = source.entries.iter().position(|e| e == name).unwrap_or_else(|| panic!("{name} is no entry"));
        let body = built.content.split(".entry ").find(|part| part.starts_with(&built.lowered[place]));
        body.unwrap_or_else(|| panic!("{name} has no text")).to_owned()
    };
    let mut faults = Vec::new();
    for (entry, family, instruction) in [
        ("selftest_to_f32<f16>", "cvt.f32.f16", "cvt.f32.f16"),
        ("selftest_from_f32<f16>", "cvt.rn.f16", "cvt.rn.f16.f32"),
        ("selftest_from_f32<bf16>", "cvt.rn.bf16", "cvt.rn.bf16.f32"),
        ("selftest_to_tf32", "cvt.r", "cvt.rna.tf32.f32"),
        ("selftest_cp_async16", "cp.async.c", "cp.async.cg.shared.global"),
        ("selftest_ldmatrix_x4", "ldmatrix", "ldmatrix.sync.aligned.m8n8.x4.shared.b16"),
        ("selftest_ldmatrix_x4_trans", "ldmatrix", "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16"),
        ("selftest_mma_m16n8k16<f16>", "mma.", "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"),
        ("selftest_mma_m16n8k16<bf16>", "mma.", "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32"),
        ("selftest_mma_m16n8k8_tf32", "mma.", "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32"),
    ] {
        let text = of_entry(entry);
        let found: BTreeSet<&str> = text
            .lines()
            .filter_map(|line| line.split_whitespace().find(|word| !word.starts_with(['@', '{'])))
            .map(|word| word.trim_end_matches(';'))
            .filter(|word| word.starts_with(family) && !word.ends_with("group"))
            .collect();
        if found != BTreeSet::from([instruction]) {
            faults.push(format!("{entry}: {found:?} instead of {instruction}"));
        }
    }
    // 16 bytes, as many of them read as the third operand says.
    let copy = of_entry("selftest_cp_async16");
    let operands = copy.lines().find_map(|l| l.trim().strip_prefix("cp.async.cg.shared.global ")).unwrap_or_default();
    if !operands.contains(", 16, %r") {
        faults.push(format!("cp_async16: {operands}"));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn prebuilt_is_up_to_date() {
    let Some(sources) = sources() else { return };
    let mut faults = Vec::new();
    let mut expected = BTreeSet::new();
    for source in &sources {
        for arch in ARCHITECTURES {
            match source.read_prebuilt(root(), arch) {
                Ok(Some(_)) => _ = expected.insert(root().join(source.prebuilt_path(arch))),
                Ok(None) => {}
                Err(fault) => faults.push(fault),
            }
        }
    }
    let there: BTreeSet<PathBuf> = std::fs::read_dir(root().join(source::PREBUILT))
        .into_iter()
        .flatten()
        .map(|e| e.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "ptx"))
        .collect();
    // What is out of date is named already.
    if faults.is_empty() {
        faults.extend(there.difference(&expected).map(|path| format!("{} belongs to no kernel file", path.display())));
    }
    assert!(faults.is_empty(), "run scripts/prebuilt.sh:\n{}", faults.join("\n"));
}

#[test]
fn prebuilt_is_what_the_pinned_compiler_makes() {
    let Some(sources) = sources() else { return };
    let Some(nvrtc) = compiler("comparing kernels/prebuilt/ byte by byte") else { return };
    if nvrtc.version != PINNED {
        return common::skip(format_args!(
            "comparing kernels/prebuilt/ byte by byte: {} is NVRTC {}, not {PINNED} (scripts/nvrtc.sh fetches it)",
            nvrtc.path.display(),
            nvrtc.version
        ));
    }
    let outputs = compiled(&nvrtc, &sources, &ARCHITECTURES);
    for of_file in outputs.chunks(ARCHITECTURES.len()) {
        let made = |(_, arch, output): &(_, &'static str, Output)| {
            (*arch, compile::text(&output.ptx).unwrap(), output.lowered.clone())
        };
        let made: Vec<_> = of_file.iter().map(made).collect();
        for (path, content) in of_file[0].0.prebuilt(&made) {
            let same = std::fs::read_to_string(root().join(&path)).is_ok_and(|there| there == content);
            assert!(same, "{} is not what NVRTC {PINNED} makes: run scripts/prebuilt.sh", path.display());
        }
    }
}

#[test]
fn only_the_primitives_are_not_plain_cpp() {
    let Some(sources) = sources() else { return };
    let mut faults = Vec::new();
    let headers = sources.iter().flat_map(|s| s.headers.iter().cloned());
    let mut files: Vec<(String, String)> = sources.iter().map(|s| (format!("{}.cu", s.stem), s.text.clone())).collect();
    files.extend(headers.filter(|(name, _)| name != "prim.cuh"));
    files.sort();
    files.dedup();
    assert!(!files.is_empty(), "no kernels were found");
    for (file, text) in files {
        for (i, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
            let included = code.trim_start().strip_prefix("#include").map(str::trim);
            let fault = if words.clone().any(|w| matches!(w, "asm" | "__asm__" | "__asm")) {
                "inline assembler belongs into prim.cuh"
            } else if included
                .is_some_and(|name| !name.starts_with('"') || !root().join("kernels").join(unquoted(name)).is_file())
            {
                "kernels include headers of kernels/ only"
            } else {
                continue;
            };
            faults.push(format!("kernels/{file}:{}: {fault}: {line}", i + 1));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn unquoted(name: &str) -> &str {
    name.trim_start_matches('"').split('"').next().unwrap_or_default()
}

#[test]
fn the_ladder_lists_every_file() {
    let Some(sources) = sources() else { return };
    let page = std::fs::read_to_string(root().join("kernels/README.md")).unwrap();
    let row = |s: &Source| format!("| [{0}.cu]({0}.cu) | {1} |", s.stem, s.entries.len());
    let missing: Vec<_> = sources.iter().map(row).filter(|row| !page.contains(row)).collect();
    assert!(missing.is_empty(), "kernels/README.md lacks rows that begin with {missing:#?}");
    let rows = page.lines().filter(|line| line.starts_with("| [") && line.contains(".cu](")).count();
    assert_eq!(rows, sources.len(), "kernels/README.md lists a file that is not there");
}

/// `source::read` has found the names to be unique. Here: each is launched from somewhere, so that no kernel is built in vain.
#[test]
fn every_kernel_is_launched() {
    let Some(sources) = sources() else { return };
    let mut text = String::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if ["cuda.rs", "cuda/selftest.rs", "cuda/ceilings.rs"].iter().any(|end| path.ends_with(end)) {
                text += &std::fs::read_to_string(path).unwrap();
            }
        }
    }
    if text.is_empty() {
        return common::skip(format_args!("no operation launches kernels"));
    }
    let launched = launches(&text);
    let entries = sources.iter().flat_map(|s| s.entries.iter().map(move |entry| (s.name(), entry)));
    let idle: Vec<_> = entries.filter(|(_, entry)| !launched.iter().any(|l| l.covers(entry))).collect();
    assert!(idle.is_empty(), "no src/**/cuda.rs names these kernels through kernel! or per_float!: {idle:#?}");
}

/// What a `kernel!` or a `per_float!` names.
#[derive(Debug, PartialEq)]
enum Named {
    /// The whole name.
    Exactly(String),
    /// The beginning of a name that is put together from parts.
    From(String),
}

impl Named {
    fn covers(&self, entry: &str) -> bool {
        match self {
            Named::Exactly(name) => name == entry,
            Named::From(start) => entry.starts_with(start.as_str()),
        }
    }
}

fn launches(text: &str) -> Vec<Named> {
    let mut found = Vec::new();
    let literal = |text: &str| Some(text.trim_start().strip_prefix('"')?.split('"').next()?.to_owned());
    for rest in text.split("per_float!").skip(1).filter_map(|r| r.strip_prefix(['(', '[', '{'])) {
        match literal(rest) {
            Some(name) => {
                let behind = rest.trim_start()[name.len() + 2..].trim_start();
                let more = behind.strip_prefix(',').and_then(literal).unwrap_or_default();
                found.extend(["f32", "f16", "bf16"].map(|t| Named::Exactly(format!("{name}<{t}{more}>"))));
            }
            None => found.extend(parts(rest)),
        }
    }
    for rest in text.split("kernel!").skip(1).filter_map(|r| r.strip_prefix(['(', '[', '{'])) {
        match literal(rest) {
            Some(name) => found.push(Named::Exactly(name)),
            None => found.extend(parts(rest)),
        }
    }
    // A table of the convolution's kernels, one for each type and tile.
    let tables = text.split("by_tile!(").skip(1).filter_map(literal);
    found.extend(tables.map(|name| Named::From(format!("{name}<"))));
    found
}

/// `concat!("apply<", $dtype, ">")`: all names that begin as its first part does.
fn parts(rest: &str) -> Option<Named> {
    let first = rest.trim_start().strip_prefix("concat!(")?.trim_start().strip_prefix('"')?.split('"').next()?;
    Some(Named::From(first.to_owned())).filter(|_| !first.is_empty())
}

#[test]
fn the_scanners_see_what_they_should() {
    let text = "kernel!(\"a<f32>\"); per_float!( \"b\" , \", true\"), kernel!(concat!(\"c<\", $t)) per_float!(\"d\")";
    let launched = launches(text);
    let is_launched = |entry: &str| launched.iter().any(|l| l.covers(entry));
    for entry in ["a<f32>", "b<f32, true>", "b<bf16, true>", "c<f16>", "d<f16>"] {
        assert!(is_launched(entry), "{entry} in {launched:?}");
    }
    for entry in ["a<f16>", "b<f32>", "b<f32, false>", "cc<f16>", "d<f16, true>"] {
        assert!(!is_launched(entry), "{entry} in {launched:?}");
    }

    let ptx = "\tatom.global.add.f32 %f1, [%rd1], %f2;\n@%p1 red.shared.add.u32 [%r1], 1;\n@%p1 red.global.add.noftz.bf16 x;\natom.max.f32";
    assert_eq!(float_atomics(ptx).count(), 2);

    assert_eq!(source::lower("//\n.version 8.8\n.target"), "//\n.version 8.0\n.target");
    assert_eq!(source::lower(".version 10.1\n"), ".version 8.0\n");
    assert_eq!(source::lower(".version 7.4\n"), ".version 7.4\n");

    // FIPS 180-4's own examples, and one whose padding needs a block of its own.
    assert_eq!(sha256::hex(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_eq!(sha256::hex(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    let two_blocks = b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    assert_eq!(sha256::hex(two_blocks), "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

/// The log of a kernel that keeps an array in memory, and of one whose matrix instructions were serialised.
#[test]
fn faults_in_a_log_are_seen() {
    let log = "ptxas info    : 0 bytes gmem\n\
        ptxas info    : Compiling entry function '_Z1qIfEvPT_i' for 'sm_80'\n\
        ptxas info    : Function properties for _Z1qIfEvPT_i\n\
        ptxas         .     256 bytes stack frame, 12 bytes spill stores, 16 bytes spill loads\n\
        ptxas info    : Used 40 registers, used 1 barriers, 1024 bytes smem, 364 bytes cmem[0]\n\
        ptxas info    : (C7511) Potential Performance Loss: wgmma.mma_async instructions are serialized due to ..\n\
        ptxas info    : Compiling entry function 'clean' for 'sm_80'\n\
        ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n\
        ptxas info    : Used 8 registers, used 0 barriers, 364 bytes cmem[0]\n";
    let usage = source::usage(log);
    assert_eq!((usage[0].registers, usage[0].shared, usage[0].stack, usage[0].spills), (40, 1024, 256, (12, 16)));
    assert_eq!((usage[1].lowered.as_str(), usage[1].registers, usage[1].shared), ("clean", 8, 0));
    let faults = source::faults(log);
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(faults[0].contains("12 bytes written, 16 read") && faults[1].contains("C7511"), "{faults:?}");
}
