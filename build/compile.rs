//! Compilations whose results are kept: an edit of one kernel compiles one file, and the tests find what the build made.

use super::nvrtc::{Nvrtc, Program};
use super::source::{self, Source};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// What the compiler made of a file for an architecture.
#[derive(Clone, Debug)]
pub struct Output {
    /// Where the text lies, with its version lowered and a zero byte at its end.
    pub ptx: PathBuf,
    /// Where the machine code lies.
    pub cubin: PathBuf,
    /// The names in the image of all entries, in their order.
    pub lowered: Vec<String>,
    /// What the compiler said.
    pub log: String,
}

/// A text that [`compile`] wrote, without its zero byte.
///
/// # Errors
/// The file can't be read.
pub fn text(ptx: &Path) -> Result<String, String> {
    Ok(read_file(ptx)?.trim_end_matches('\0').to_owned())
}

/// Compiles `source` for `arch` into `folder`, unless the result of the same compiler for the same text is there.
///
/// # Errors
/// The compiler's log, or what couldn't be read or written.
pub fn compile(nvrtc: &Nvrtc, source: &Source, arch: &str, folder: &Path) -> Result<Output, String> {
    if let Some(output) = kept(nvrtc, source, arch, folder) {
        return Ok(output);
    }
    let [ptx, cubin, names, log, key] = files(source, arch, folder);
    let name = source.name();
    let program = Program { name: &name, text: &source.text, headers: &source.headers, entries: &source.entries };
    let compiled = nvrtc
        .compile(&program, &source::options(arch))
        .map_err(|log| format!("{name} does not compile for {arch}:\n{log}"))?;
    // First what must not be believed while the rest changes, and last what says that all is there.
    write_file(&key, b"")?;
    write_file(&ptx, format!("{}\0", source::lower(&compiled.ptx)).as_bytes())?;
    write_file(&cubin, &compiled.cubin)?;
    write_file(&names, compiled.lowered.join("\n").as_bytes())?;
    write_file(&log, compiled.log.as_bytes())?;
    write_file(&key, made_from(nvrtc, source, arch).as_bytes())?;
    Ok(Output { ptx, cubin, lowered: compiled.lowered, log: compiled.log })
}

/// What [`compile`] left in `folder`, when the same compiler would make the same now.
pub fn kept(nvrtc: &Nvrtc, source: &Source, arch: &str, folder: &Path) -> Option<Output> {
    let [ptx, cubin, names, log, key] = files(source, arch, folder);
    if read_file(&key).ok()? != made_from(nvrtc, source, arch) {
        return None;
    }
    let lowered = read_file(&names).ok()?.lines().map(String::from).collect();
    Some(Output { ptx, cubin, lowered, log: read_file(&log).ok()? })
}

fn files(source: &Source, arch: &str, folder: &Path) -> [PathBuf; 5] {
    ["ptx", "cubin", "names", "log", "key"].map(|ending| folder.join(format!("{}.{arch}.{ending}", source.stem)))
}

fn made_from(nvrtc: &Nvrtc, source: &Source, arch: &str) -> String {
    format!("{} {} {}", source.hash(arch), nvrtc.version, nvrtc.path.display())
}

/// `work` on every job by `threads` threads; the results in the order of the jobs. The last job is begun first.
pub fn each<J: Sync, R: Send>(jobs: &[J], threads: usize, work: impl Fn(&J) -> R + Sync) -> Result<Vec<R>, String> {
    let (left, done) = (Mutex::new(jobs.len()), Mutex::new(Vec::with_capacity(jobs.len())));
    let next = || {
        let mut left = left.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        *left = left.checked_sub(1)?;
        Some(*left)
    };
    let run = || {
        while let Some(i) = next() {
            let result = work(&jobs[i]);
            done.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push((i, result));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, jobs.len().max(1)) {
            // The compiler recurses deeply in large kernels.
            let thread = std::thread::Builder::new().stack_size(16 << 20);
            thread.spawn_scoped(scope, run).map_err(|e| format!("cannot start a thread: {e}"))?;
        }
        Ok::<_, String>(())
    })?;
    let mut done = done.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    done.sort_by_key(|(i, _)| *i);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

/// The text of a file.
///
/// # Errors
/// It can't be read.
pub fn read_file(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))
}

/// Writes a file, and the folders above it.
///
/// # Errors
/// It can't be written.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let failed = |e| format!("cannot write {}: {e}", path.display());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    std::fs::write(path, bytes).map_err(failed)
}
