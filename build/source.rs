//! The kernels' sources: what is in `kernels/`, how it is compiled, and what was compiled beforehand.
//!
//! `kernels/prebuilt/` holds the portable text (PTX) of every file, for machines without a compiler. Its first line is a hash over
//! everything that went into it; a file whose hash is another one belongs to another source and is never used.

use super::sha256;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The architectures that are built in: the code for Ampere (and Ada, and as text everything later), and that for Hopper, whose
/// matrix instructions exist nowhere else.
pub const ARCHITECTURES: [&str; 2] = ["sm_80", "sm_90a"];

/// The version of the text's language that is written over the compiler's own. The compiler names its own version whatever the
/// code uses, and a driver refuses what is newer than itself; all that the kernels use up to sm_90a is in 8.0, so drivers from 525
/// on take it.
const PTX_VERSION: (u32, u32) = (8, 0);

/// One `.cu` file.
#[derive(Clone, Debug)]
pub struct Source {
    /// The name without its ending.
    pub stem: String,
    /// The text.
    pub text: String,
    /// The headers that it includes, directly or not: name and text, sorted.
    pub headers: Vec<(String, String)>,
    /// What its `KERNEL` lines name.
    pub entries: Vec<String>,
}

impl Source {
    /// How messages call it.
    pub fn name(&self) -> String {
        format!("kernels/{}.cu", self.stem)
    }

    /// A hash over all that decides what the compiler makes of it, but for the compiler itself.
    pub fn hash(&self, arch: &str) -> String {
        let mut all = String::new();
        for (name, text) in self.headers.iter().map(|(n, t)| (n.as_str(), t)).chain([(self.stem.as_str(), &self.text)])
        {
            write!(all, "{name} {}\n{text}", text.len()).expect("a string takes everything");
        }
        all += &options(arch).join(" ");
        sha256::hex(all.as_bytes())
    }

    /// What is wrong with the machine code, in the entries' own names; see [`faults`].
    pub fn faults(&self, log: &str, lowered: &[String]) -> Vec<String> {
        let named = |fault: String| {
            self.entries.iter().zip(lowered).fold(fault, |fault, (name, lowered)| fault.replace(lowered.as_str(), name))
        };
        faults(log).into_iter().map(named).collect()
    }

    /// The content of its prebuilt files, from what the compiler made for each architecture: text and names in the image. A text
    /// that is the first architecture's but for the target has no file of its own.
    pub fn prebuilt(&self, made: &[(&str, String, Vec<String>)]) -> Vec<(PathBuf, String)> {
        let Some((first, common, _)) = made.first() else { return Vec::new() };
        let target = |arch: &str| format!(".target {arch}\n");
        let same = |arch: &str, text: &str| arch != *first && text.replace(&target(arch), &target(first)) == *common;
        let mut files = Vec::new();
        for (arch, text, lowered) in made.iter().filter(|(arch, text, _)| !same(arch, text)) {
            let mut content = format!("{HASH}{}\n", self.hash(arch));
            for (arch, _, _) in made.iter().filter(|(other, text, _)| arch == first && same(other, text)) {
                content += &format!("{SAME}{arch}\n");
            }
            for (name, lowered) in self.entries.iter().zip(lowered) {
                content += &format!("{ENTRY}{name} = {lowered}\n");
            }
            files.push((self.prebuilt_path(arch), content + text));
        }
        files
    }

    /// What was compiled beforehand for `arch`; `None` where the first architecture's serves for this one too.
    ///
    /// # Errors
    /// The file is missing, belongs to another state of the source, or is damaged.
    pub fn read_prebuilt(&self, root: &Path, arch: &str) -> Result<Option<Prebuilt>, String> {
        let first = ARCHITECTURES[0];
        if arch != first {
            let (_, content) = self.current(root, first)?;
            if content.lines().any(|line| line.strip_prefix(SAME) == Some(arch)) {
                return Ok(None);
            }
        }
        let (path, content) = self.current(root, arch)?;
        let pairs: Vec<_> = content.lines().filter_map(|line| line.strip_prefix(ENTRY)?.split_once(" = ")).collect();
        let lowered = |name: &String| pairs.iter().find(|(n, _)| n == name).map(|(_, lowered)| (*lowered).to_owned());
        let lowered: Option<Vec<_>> = self.entries.iter().map(lowered).collect();
        let lowered = lowered.ok_or_else(|| format!("{} lacks an entry", path.display()))?;
        Ok(Some(Prebuilt { content, lowered }))
    }

    /// The prebuilt file for `arch`, when it was made from these sources.
    fn current(&self, root: &Path, arch: &str) -> Result<(PathBuf, String), String> {
        let path = self.prebuilt_path(arch);
        let content =
            std::fs::read_to_string(root.join(&path)).map_err(|e| format!("{} can't be read ({e})", path.display()))?;
        if content.lines().next().and_then(|line| line.strip_prefix(HASH)) != Some(&self.hash(arch)) {
            return Err(format!("{} was made from other sources than these", path.display()));
        }
        Ok((path, content))
    }

    /// Where the prebuilt file for `arch` lies, from the project's folder.
    pub fn prebuilt_path(&self, arch: &str) -> PathBuf {
        Path::new(PREBUILT).join(format!("{}.{}.ptx", self.stem, arch.replace("sm_", "compute_")))
    }
}

/// A file of [`PREBUILT`] that is up to date.
#[derive(Debug)]
pub struct Prebuilt {
    /// The text.
    pub content: String,
    /// The names in the image of all entries, in their order.
    pub lowered: Vec<String>,
}

/// The folder of what was compiled beforehand.
pub const PREBUILT: &str = "kernels/prebuilt";

/// The header of everything that is not plain C++.
pub const PRIMITIVES: &str = "prim.cuh";

const HASH: &str = "// src-sha256 ";
const SAME: &str = "// the same for ";
const ENTRY: &str = "// entry ";

/// The options of every compilation. No fast math: the CPU's results are the reference, and a division is a division.
pub fn options(arch: &str) -> Vec<String> {
    ["--std=c++17", &format!("-arch={arch}"), "--ptxas-options=-v", "--no-cache"].map(String::from).to_vec()
}

/// All kernel files of the folder, sorted by name.
///
/// # Errors
/// A file can't be read, or two entries have the same name.
pub fn read(folder: &Path) -> Result<Vec<Source>, String> {
    let failed = |path: &Path, e: std::io::Error| format!("cannot read {}: {e}", path.display());
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|e| failed(folder, e))? {
        paths.push(entry.map_err(|e| failed(folder, e))?.path());
    }
    paths.sort();
    let with_ending = |ending: &str| -> Result<Vec<(String, String)>, String> {
        let mut found = Vec::new();
        for path in paths.iter().filter(|p| p.extension().is_some_and(|e| e == ending)) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            found.push((name, std::fs::read_to_string(path).map_err(|e| failed(path, e))?));
        }
        Ok(found)
    };
    let headers = with_ending("cuh")?;
    let sources: Vec<Source> = with_ending("cu")?
        .into_iter()
        .map(|(name, text)| Source {
            stem: name.trim_end_matches(".cu").to_owned(),
            headers: included(&text, &headers),
            entries: entries(&text),
            text,
        })
        .collect();
    let mut names: Vec<_> = sources.iter().flat_map(|s| s.entries.iter().map(move |e| (e, s.name()))).collect();
    names.sort();
    for pair in names.windows(2) {
        if pair[0].0 == pair[1].0 {
            let ((name, first), (_, second)) = (&pair[0], &pair[1]);
            return Err(format!("KERNEL({name}) stands twice, in {first} and in {second}: rename one"));
        }
    }
    Ok(sources)
}

/// What the `KERNEL` lines of `text` name.
fn entries(text: &str) -> Vec<String> {
    let name = |line: &str| Some(line.trim_end().strip_prefix("KERNEL(")?.strip_suffix(')')?.to_owned());
    text.lines().filter_map(name).collect()
}

/// Those of `headers` that `text` includes, and those that they include.
fn included(text: &str, headers: &[(String, String)]) -> Vec<(String, String)> {
    let (mut found, mut open) = (Vec::<(String, String)>::new(), vec![text]);
    while let Some(text) = open.pop() {
        let names = text.lines().filter_map(|l| l.trim_start().strip_prefix("#include \"")?.split('"').next());
        for header in names.filter_map(|name| headers.iter().find(|(n, _)| n == name)) {
            if !found.contains(header) {
                found.push(header.clone());
                open.push(&header.1);
            }
        }
    }
    found.sort();
    found
}

/// `ptx` with its version lowered to [`PTX_VERSION`].
pub fn lower(ptx: &str) -> String {
    let mut out = String::with_capacity(ptx.len());
    for line in ptx.split_inclusive('\n') {
        let version = line.strip_prefix(".version ").and_then(|v| v.trim().split_once('.'));
        let version = version.and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        match version {
            Some(version) if version > PTX_VERSION => {
                writeln!(out, ".version {}.{}", PTX_VERSION.0, PTX_VERSION.1).expect("a string takes everything");
            }
            _ => out += line,
        }
    }
    out
}

/// What the assembler says of one kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The name in the image.
    pub lowered: String,
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes of shared memory of fixed size of a block.
    pub shared: u32,
    /// Bytes of a thread's stack.
    pub stack: u32,
    /// Bytes that didn't fit into registers: written, and read again.
    pub spills: (u32, u32),
}

/// The resources of each kernel, from a compiler's log.
pub fn usage(log: &str) -> Vec<Usage> {
    // "ptxas info : Compiling entry function 'NAME' for 'sm_80'", then, in lines of their own, "N bytes stack frame, N bytes
    // spill stores, N bytes spill loads" and "Used N registers, used N barriers, N bytes smem, ..".
    let before = |line: &str, what: &str| -> u32 {
        let number = line.find(what).and_then(|at| line[..at].trim_end().rsplit([' ', ',']).next()?.parse().ok());
        number.unwrap_or(0)
    };
    let mut found: Vec<Usage> = Vec::new();
    for line in log.lines() {
        if let Some(rest) = line.split("Compiling entry function '").nth(1) {
            let lowered = rest.split('\'').next().unwrap_or_default().to_owned();
            found.push(Usage { lowered, ..Usage::default() });
        }
        let Some(last) = found.last_mut() else { continue };
        if line.contains("bytes stack frame") {
            last.stack = last.stack.max(before(line, " bytes stack frame"));
            last.spills.0 = last.spills.0.max(before(line, " bytes spill stores"));
            last.spills.1 = last.spills.1.max(before(line, " bytes spill loads"));
        }
        if line.contains(" registers") {
            last.registers = before(line, " registers");
            last.shared = before(line, " bytes smem");
        }
    }
    found
}

/// What is wrong with the machine code although it was compiled: memory where registers were meant, and matrix instructions that
/// the assembler runs one by one (its notes C75xx).
pub fn faults(log: &str) -> Vec<String> {
    let mut found = Vec::new();
    for Usage { lowered, stack, spills, .. } in usage(log) {
        if spills != (0, 0) {
            found.push(format!("{lowered} spills registers: {} bytes written, {} read", spills.0, spills.1));
        } else if stack != 0 {
            found.push(format!("{lowered} has a stack frame of {stack} bytes"));
        }
    }
    let is_note = |line: &str| line.contains("(C75") || line.contains("Potential Performance Loss");
    found.extend(log.lines().filter(|line| is_note(line)).map(|line| line.trim().to_owned()));
    found
}
