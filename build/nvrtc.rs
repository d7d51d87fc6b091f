//! NVRTC, NVIDIA's CUDA compiler as a library, opened at run time.
//!
//! The dozen functions that are needed, by hand: the compiler is then no dependency of the build but something that a machine has
//! or hasn't, found by path ([`super::search`]), and a build without it is an ordinary build. Sources and headers go in as strings
//! and nothing is read from the disk.
//!
//! One compilation for an architecture such as `sm_90a` gives the portable text (PTX), the machine code (cubin) and a log with the
//! registers, spills and shared memory of every kernel. Compilations for `compute_90a` would give the text alone, and then nobody
//! has looked at the inline assembler in it; so this module compiles for real architectures only.

use libloading::Library;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};

/// The oldest NVRTC that is used: the first that knows sm_90a. Older ones might refuse a kernel that is fine.
const OLDEST: (c_int, c_int) = (12, 0);

/// `nvrtcResult`; 0 is success.
type Code = c_int;
/// `nvrtcProgram`.
type Handle = *mut c_void;
/// The two functions that belong to each output: how many bytes, and the bytes.
type SizeOf = unsafe extern "C" fn(Handle, *mut usize) -> Code;
type BytesOf = unsafe extern "C" fn(Handle, *mut c_char) -> Code;

/// An opened compiler, which has compiled something already.
#[derive(Debug)]
pub struct Nvrtc {
    api: Api,
    /// Where it was found.
    pub path: PathBuf,
    /// All three parts of the version, `12.9.86`.
    pub version: String,
    /// Compute capabilities that it can compile for: 80, 90, ..
    pub architectures: Vec<c_int>,
}

/// A kernel file and what belongs to it.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    /// The name that messages show.
    pub name: &'a str,
    /// The text.
    pub text: &'a str,
    /// What `#include` finds: name and text.
    pub headers: &'a [(String, String)],
    /// The instantiations to make, `relu_forward<f32>`.
    pub entries: &'a [String],
}

/// What came out.
#[derive(Debug)]
pub struct Compiled {
    /// The portable text.
    pub ptx: String,
    /// The machine code.
    pub cubin: Vec<u8>,
    /// Warnings, and the resources of each kernel.
    pub log: String,
    /// The name in the image of each entry, in their order.
    pub lowered: Vec<String>,
}

#[derive(Debug)]
struct Api {
    version: unsafe extern "C" fn(*mut c_int, *mut c_int) -> Code,
    count_archs: unsafe extern "C" fn(*mut c_int) -> Code,
    archs: unsafe extern "C" fn(*mut c_int) -> Code,
    create: unsafe extern "C" fn(
        *mut Handle,
        *const c_char,
        *const c_char,
        c_int,
        *const *const c_char,
        *const *const c_char,
    ) -> Code,
    add_name: unsafe extern "C" fn(Handle, *const c_char) -> Code,
    compile: unsafe extern "C" fn(Handle, c_int, *const *const c_char) -> Code,
    lowered_name: unsafe extern "C" fn(Handle, *const c_char, *mut *const c_char) -> Code,
    log: (SizeOf, BytesOf),
    ptx: (SizeOf, BytesOf),
    cubin: (SizeOf, BytesOf),
    destroy: unsafe extern "C" fn(*mut Handle) -> Code,
    error_text: unsafe extern "C" fn(Code) -> *const c_char,
}

/// A program that is destroyed in every case.
struct Open<'a>(&'a Api, Handle);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        // SAFETY: the handle came from `create` and nobody uses it afterwards.
        unsafe { (self.0.destroy)(&mut self.1) };
    }
}

impl Nvrtc {
    /// Opens the library at `path` (or of that name, where the linker finds it) and compiles three words with it.
    ///
    /// # Errors
    /// It can't be loaded, is too old, or doesn't work; the text says which.
    pub fn open(path: &Path) -> Result<Nvrtc, String> {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
        // NVRTC 13.0 doesn't look for its builtins beside itself. Once they are loaded it finds them by name.
        for builtins in folder.map(|f| files(f, "libnvrtc-builtins.so")).unwrap_or_default() {
            // SAFETY: NVIDIA's library of data; loading it runs no code of note.
            if let Ok(library) = unsafe { Library::new(builtins) } {
                std::mem::forget(library);
            }
        }
        // SAFETY: NVIDIA's library, whose initialisers only set up itself.
        let library = unsafe { Library::new(path) }.map_err(|e| e.to_string())?;
        // SAFETY: see `Api::of`.
        let api = unsafe { Api::of(&library) }?;
        // It keeps threads and caches: unloading it, ever, is asking for trouble.
        std::mem::forget(library);

        let (mut major, mut minor, mut count) = (0, 0, 0);
        // SAFETY: they write one int each.
        unsafe {
            api.check((api.version)(&mut major, &mut minor))?;
            api.check((api.count_archs)(&mut count))?;
        }
        if (major, minor) < OLDEST {
            return Err(format!("is version {major}.{minor}; {}.{} or later is needed", OLDEST.0, OLDEST.1));
        }
        let mut architectures = vec![0; count.max(0) as usize];
        // SAFETY: the array has room for as many as were announced.
        unsafe { api.check((api.archs)(architectures.as_mut_ptr())) }?;
        let mut nvrtc = Nvrtc { api, path: path.to_owned(), version: format!("{major}.{minor}"), architectures };
        if folder.is_none() {
            nvrtc.path = loaded_from(path).unwrap_or(nvrtc.path);
        }
        nvrtc.version = nvrtc.probe()?;
        Ok(nvrtc)
    }

    /// Compiles a line, which proves that the builtins were found. The whole version stands only in what it writes.
    fn probe(&self) -> Result<String, String> {
        let program = Program { name: "probe.cu", text: "__global__ void probe() {}", headers: &[], entries: &[] };
        let arch = self.architectures.iter().max().ok_or("it knows no architecture")?;
        let compiled = self.compile(&program, &[format!("-arch=sm_{arch}")])?;
        let full = compiled.ptx.lines().find_map(|l| l.rsplit_once(", V").filter(|_| l.starts_with("//")));
        Ok(full.map_or(self.version.clone(), |(_, version)| version.trim().to_owned()))
    }

    /// True when it compiles for `arch`: `sm_90a`.
    pub fn compiles_for(&self, arch: &str) -> bool {
        let digits = arch.trim_start_matches("sm_").trim_end_matches(|c: char| c.is_ascii_alphabetic());
        digits.parse().is_ok_and(|number| self.architectures.contains(&number))
    }

    /// Compiles `program`.
    ///
    /// # Errors
    /// What the compiler says of an error in the source, with file and line; or how it failed otherwise.
    pub fn compile(&self, program: &Program, options: &[String]) -> Result<Compiled, String> {
        let api = &self.api;
        let text = c_string(program.text)?;
        let name = c_string(program.name)?;
        let header_names = c_strings(program.headers.iter().map(|(name, _)| name.as_str()))?;
        let header_texts = c_strings(program.headers.iter().map(|(_, text)| text.as_str()))?;
        let entries = c_strings(program.entries.iter().map(String::as_str))?;
        let options = c_strings(options.iter().map(String::as_str))?;

        let mut handle: Handle = std::ptr::null_mut();
        let (texts, names) = (pointers(&header_texts), pointers(&header_names));
        // SAFETY: strings and arrays of the announced lengths, alive during the call.
        api.check(unsafe {
            (api.create)(
                &mut handle,
                text.as_ptr(),
                name.as_ptr(),
                texts.len() as c_int,
                texts.as_ptr(),
                names.as_ptr(),
            )
        })?;
        let open = Open(api, handle);
        for entry in &entries {
            // SAFETY: an open program and a string.
            api.check(unsafe { (api.add_name)(open.1, entry.as_ptr()) })?;
        }
        let flags = pointers(&options);
        // SAFETY: an open program, and an array of the announced length.
        let code = unsafe { (api.compile)(open.1, flags.len() as c_int, flags.as_ptr()) };
        let log = open.text(api.log)?;
        if let Err(failure) = api.check(code) {
            return Err(if log.trim().is_empty() { failure } else { log });
        }
        let mut lowered = Vec::with_capacity(entries.len());
        for entry in &entries {
            let mut at = std::ptr::null();
            // SAFETY: the program was compiled with this entry among its names.
            api.check(unsafe { (api.lowered_name)(open.1, entry.as_ptr(), &mut at) })?;
            // SAFETY: a C string that lives as long as the program.
            lowered.push(unsafe { CStr::from_ptr(at) }.to_string_lossy().into_owned());
        }
        Ok(Compiled { ptx: open.text(api.ptx)?, cubin: open.bytes(api.cubin)?, log, lowered })
    }
}

impl Open<'_> {
    fn bytes(&self, (size_of, bytes_of): (SizeOf, BytesOf)) -> Result<Vec<u8>, String> {
        let mut size = 0;
        // SAFETY: an open program; it writes one number.
        self.0.check(unsafe { size_of(self.1, &mut size) })?;
        let mut bytes = vec![0u8; size];
        // SAFETY: there is room for as many bytes as were announced.
        self.0.check(unsafe { bytes_of(self.1, bytes.as_mut_ptr().cast()) })?;
        Ok(bytes)
    }

    fn text(&self, functions: (SizeOf, BytesOf)) -> Result<String, String> {
        let mut bytes = self.bytes(functions)?;
        while bytes.last() == Some(&0) {
            bytes.pop();
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Api {
    /// # Safety
    /// `library` is an NVRTC, whose functions have the types of nvrtc.h (which have not changed since CUDA 11), and stays loaded
    /// for as long as the result is used.
    unsafe fn of(library: &Library) -> Result<Api, String> {
        /// # Safety
        /// The function called `name` has type `T`.
        unsafe fn function<T: Copy>(library: &Library, name: &str) -> Result<T, String> {
            // SAFETY: the caller vouches for the type.
            unsafe { library.get::<T>(name) }.map(|symbol| *symbol).map_err(|e| e.to_string())
        }
        // SAFETY: the caller vouches for the library, and the types above are those of nvrtc.h.
        unsafe {
            Ok(Api {
                version: function(library, "nvrtcVersion")?,
                count_archs: function(library, "nvrtcGetNumSupportedArchs")?,
                archs: function(library, "nvrtcGetSupportedArchs")?,
                create: function(library, "nvrtcCreateProgram")?,
                add_name: function(library, "nvrtcAddNameExpression")?,
                compile: function(library, "nvrtcCompileProgram")?,
                lowered_name: function(library, "nvrtcGetLoweredName")?,
                log: (function(library, "nvrtcGetProgramLogSize")?, function(library, "nvrtcGetProgramLog")?),
                ptx: (function(library, "nvrtcGetPTXSize")?, function(library, "nvrtcGetPTX")?),
                cubin: (function(library, "nvrtcGetCUBINSize")?, function(library, "nvrtcGetCUBIN")?),
                destroy: function(library, "nvrtcDestroyProgram")?,
                error_text: function(library, "nvrtcGetErrorString")?,
            })
        }
    }

    fn check(&self, code: Code) -> Result<(), String> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: it returns a constant string for every number.
        let text = unsafe { CStr::from_ptr((self.error_text)(code)) };
        Err(format!("NVRTC: {} ({code})", text.to_string_lossy()))
    }
}

/// The files of `folder` called `prefix`, with or without a version behind it; the highest version first.
pub fn files(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(|e| Some(e.ok()?.path()));
    let version = |path: &Path| {
        let rest = path.file_name()?.to_str()?.strip_prefix(prefix)?;
        rest.split('.').skip(1).map(|part| part.parse().ok()).collect::<Option<Vec<u32>>>()
    };
    let mut found: Vec<_> = entries.filter_map(|path| Some((version(&path)?, path))).collect();
    found.sort();
    found.into_iter().rev().map(|(_, path)| path).collect()
}

/// Where the linker found the library called `name`, as far as the system tells.
fn loaded_from(name: &Path) -> Option<PathBuf> {
    let (maps, name) = (std::fs::read_to_string("/proc/self/maps").ok()?, name.to_str()?);
    let path = maps.lines().filter_map(|line| Some(&line[line.find('/')?..])).find(|path| {
        path.rsplit('/').next().is_some_and(|file| file.starts_with(name.trim_end_matches(char::is_numeric)))
    })?;
    Some(PathBuf::from(path))
}

fn c_string(text: &str) -> Result<CString, String> {
    CString::new(text).map_err(|_| format!("a zero byte in {:?}", text.chars().take(40).collect::<String>()))
}

fn c_strings<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Vec<CString>, String> {
    texts.map(c_string).collect()
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|s| s.as_ptr()).collect()
}
