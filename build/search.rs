//! Where an NVRTC may be, and in which order one looks.
//!
//! The first that loads and compiles a line is taken: a toolkit that somebody points at, then what the linker knows, then the
//! usual folders, then the one that came with a Python package (PyTorch brings its own), then the project's own `.nvrtc/`.
//! Nothing is downloaded, ever.

use super::nvrtc::{self, Nvrtc};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file or a folder with the compiler. It ends the search, found or not: `NVRTC_LIB=none` builds as if there were none.
pub const NVRTC_LIB: &str = "NVRTC_LIB";
/// Folders of toolkits.
const TOOLKITS: [&str; 3] = ["CUDA_HOME", "CUDA_PATH", "CUDA_ROOT"];
/// Folders of Python installations.
const PYTHONS: [&str; 2] = ["VIRTUAL_ENV", "CONDA_PREFIX"];

/// Every variable on which the result depends. HOME and PATH are left out: an editor and a shell often disagree on PATH, and every
/// build of one would then undo the other's.
pub fn variables() -> impl Iterator<Item = &'static str> {
    [NVRTC_LIB, "LD_LIBRARY_PATH"].into_iter().chain(TOOLKITS).chain(PYTHONS)
}

/// The first NVRTC that works.
///
/// # Errors
/// None does: what was tried, and what was wrong with each.
pub fn find(root: &Path) -> Result<Nvrtc, Vec<String>> {
    let mut tried = Vec::new();
    let mut attempt = |candidates: Vec<PathBuf>| {
        candidates.into_iter().find_map(|path| match Nvrtc::open(&path) {
            Ok(nvrtc) => Some(nvrtc),
            Err(why) => {
                // A name that the linker doesn't know is no news.
                if path.components().count() > 1 {
                    tried.push(format!("{}: {why}", path.display()));
                }
                None
            }
        })
    };
    if let Some(named) = variable(NVRTC_LIB) {
        return attempt(libraries(&named)).ok_or_else(|| {
            if tried.is_empty() {
                tried.push(format!("{NVRTC_LIB}={} holds no libnvrtc.so", named.display()));
            }
            tried
        });
    }
    // Lazily, one place after the other: asking Python costs a tenth of a second.
    let places: [fn(&Path) -> Vec<PathBuf>; 5] =
        [|_| toolkits(), |_| linker(), |_| usual(), |_| python_packages(), |root| project(root)];
    places.iter().find_map(|place| attempt(place(root))).ok_or(tried)
}

/// Those in the project's own folder, where `scripts/nvrtc.sh` puts the pinned version.
pub fn project(root: &Path) -> Vec<PathBuf> {
    children(&root.join(".nvrtc/nvidia")).iter().flat_map(|package| libraries(&package.join("lib"))).collect()
}

fn toolkits() -> Vec<PathBuf> {
    let homes = TOOLKITS.iter().filter_map(|name| variable(name));
    homes
        .flat_map(|home| ["lib64", "lib", "targets/x86_64-linux/lib"].map(|l| home.join(l)))
        .flat_map(|f| libraries(&f))
        .collect()
}

fn linker() -> Vec<PathBuf> {
    ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"].map(PathBuf::from).to_vec()
}

fn usual() -> Vec<PathBuf> {
    let mut folders = children(Path::new("/usr/local"));
    folders.retain(|f| f.file_name().is_some_and(|n| n.to_string_lossy().starts_with("cuda")));
    folders.push(PathBuf::from("/opt/cuda")); // Arch Linux
    folders.iter().flat_map(|folder| libraries(&folder.join("lib64"))).collect()
}

fn python_packages() -> Vec<PathBuf> {
    let mut sites = Vec::new();
    let mut below = |lib: PathBuf| {
        let pythons = children(&lib).into_iter();
        sites.extend(pythons.filter(|p| p.to_string_lossy().contains("python3")).map(|p| p.join("site-packages")));
    };
    PYTHONS.iter().filter_map(|name| variable(name)).for_each(|home| below(home.join("lib")));
    variable("HOME").into_iter().for_each(|home| below(home.join(".local/lib")));
    let code = "import site, sysconfig; print('\\n'.join([sysconfig.get_path('purelib'), *site.getsitepackages()]))";
    if let Ok(out) = Command::new("python3").args(["-c", code]).output() {
        sites.extend(String::from_utf8_lossy(&out.stdout).lines().map(PathBuf::from));
    }
    let packages = sites.iter().flat_map(|site| ["cu13/lib", "cuda_nvrtc/lib"].map(|p| site.join("nvidia").join(p)));
    packages.flat_map(|folder| libraries(&folder)).collect()
}

/// `at` itself when it is a file, else the compilers in the folder `at`; each file once, whatever links lead to it.
fn libraries(at: &Path) -> Vec<PathBuf> {
    if at.is_file() {
        return vec![at.to_owned()];
    }
    let mut found = nvrtc::files(at, "libnvrtc.so");
    let mut seen = Vec::new();
    found.retain(|path| {
        let real = path.canonicalize().unwrap_or_else(|_| path.clone());
        let new = !seen.contains(&real);
        seen.push(real);
        new
    });
    found
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// What is in a folder, the last name first: the highest version.
fn children(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> =
        std::fs::read_dir(folder).into_iter().flatten().filter_map(|e| Some(e.ok()?.path())).collect();
    found.sort();
    found.reverse();
    found
}
