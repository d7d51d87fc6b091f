//! Finding the files of a data set.
//!
//! [`get_image_files`] walks a folder and returns every picture in it, as fastai's function of that name does: hidden
//! files and folders (those whose name starts with a dot) are skipped, links are followed, and a file counts as a
//! picture when its extension says so, whatever its case.
//!
//! Two things differ on purpose:
//!
//! * **The list is sorted by path.** fastai keeps the order in which the file system happens to list a folder, so that
//!   "item 17" names different files on different disks and a seeded split cannot be repeated elsewhere. Here the split
//!   is a function of the file names and the seed alone.
//! * **The extensions are written down here.** fastai asks the operating system's table of MIME types, which has 23 to
//!   more than 100 entries depending on the machine. Ours are those 23 and `webp`. Some of them (`tif`, `svg`) cannot be
//!   decoded: they are listed nevertheless, because an error that names the file is better than a picture that is
//!   silently missing.
//!
//! ```
//! # fn main() -> onecycle::Result<()> {
//! use onecycle::data::get_image_files;
//! let dir = tempfile::tempdir().unwrap();
//! for name in ["pug_2.JPG", "beagle_1.png", ".hidden.jpg", "notes.txt"] {
//!     std::fs::write(dir.path().join(name), b"").unwrap();
//! }
//! let files = get_image_files(dir.path())?;
//! let names: Vec<_> = files.iter().map(|f| f.file_name().unwrap().to_str().unwrap()).collect();
//! assert_eq!(names, ["beagle_1.png", "pug_2.JPG"]);
//! # Ok(())
//! # }
//! ```

use crate::{Error, ErrorKind, Result};
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The extensions of pictures, lower case and without the dot: Python 3.11's `image/*` table and `webp`.
pub const IMAGE_EXTENSIONS: &[&str] = &[
    "avif", "bmp", "gif", "heic", "heif", "ico", "ief", "jpe", "jpeg", "jpg", "pbm", "pgm", "png", "pnm", "ppm", "ras",
    "rgb", "svg", "tif", "tiff", "webp", "xbm", "xpm", "xwd",
];

/// All pictures under `path`, recursively, sorted by path. fastai: `get_image_files`.
///
/// # Errors
/// `path` is missing or no folder, a folder below it cannot be read, or there is no picture in it.
pub fn get_image_files(path: &Path) -> Result<Vec<PathBuf>> {
    get_files(path, IMAGE_EXTENSIONS)
}

/// All files under `path` with one of `extensions` (lower case, without the dot; none given: every file), recursively,
/// sorted by path. fastai: `get_files`.
///
/// # Errors
/// As [`get_image_files`].
pub fn get_files(path: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>> {
    let meta = fs::metadata(path).map_err(|e| Error::io("open the folder", path, e))?;
    if !meta.is_dir() {
        return Err(Error::new(ErrorKind::Data, "this is a file, and a folder was expected")
            .on(path.display())
            .remedy("name the folder that holds the pictures"));
    }
    let mut found = Vec::new();
    walk(path, extensions, &mut HashSet::new(), &mut found)?;
    if found.is_empty() {
        let what = if extensions == IMAGE_EXTENSIONS { "pictures" } else { "matching files" };
        return Err(Error::new(ErrorKind::Data, format!("no {what} in this folder or below it"))
            .on(path.display())
            .remedy("check the path; names that start with a dot are skipped"));
    }
    found.sort();
    Ok(found)
}

fn walk(dir: &Path, extensions: &[&str], seen: &mut HashSet<PathBuf>, found: &mut Vec<PathBuf>) -> Result<()> {
    // A link to a parent folder would be walked for ever: each real folder is entered once.
    let real = dir.canonicalize().map_err(|e| Error::io("open the folder", dir, e))?;
    if !seen.insert(real) {
        return Ok(());
    }
    for entry in fs::read_dir(dir).map_err(|e| Error::io("list the folder", dir, e))? {
        let entry = entry.map_err(|e| Error::io("list the folder", dir, e))?;
        let name = entry.file_name();
        if name.to_string_lossy().starts_with('.') {
            continue;
        }
        let path = entry.path();
        // A dangling link has no metadata; it stays in the list by its name, so that the loader can name it.
        let is_dir = fs::metadata(&path).map(|m| m.is_dir()).unwrap_or(false);
        if is_dir {
            walk(&path, extensions, seen, found)?;
        } else if extensions.is_empty() || has_extension(&path, extensions) {
            found.push(path);
        }
    }
    Ok(())
}

/// Whether the extension makes this a picture.
pub(crate) fn is_image_file(path: &Path) -> bool {
    has_extension(path, IMAGE_EXTENSIONS)
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    path.extension().is_some_and(|e| extensions.contains(&e.to_string_lossy().to_lowercase().as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_walked_sorted_and_hidden_names_skipped() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b/2.jpg", "b/1.JPEG", "a/x.webp", ".git/y.png", "a/.z.png", "a/notes.mat", "ü ber/ö.png"] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"").unwrap();
        }
        let files = get_image_files(dir.path()).unwrap();
        let names: Vec<_> = files.iter().map(|f| f.strip_prefix(dir.path()).unwrap().display().to_string()).collect();
        assert_eq!(
            names,
            ["a/x.webp", "b/1.JPEG", "b/2.jpg", "ü ber/ö.png"].map(|s| s.replace('/', std::path::MAIN_SEPARATOR_STR))
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_the_parent_ends() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("1.png"), b"").unwrap();
        std::os::unix::fs::symlink(dir.path(), dir.path().join("loop")).unwrap();
        assert_eq!(get_image_files(dir.path()).unwrap().len(), 1);
    }

    #[test]
    fn missing_and_empty_folders_say_so() {
        let dir = tempfile::tempdir().unwrap();
        let missing = get_image_files(&dir.path().join("nowhere")).unwrap_err().to_string();
        assert!(missing.contains("nowhere") && missing.contains("spelling"), "{missing}");
        let empty = get_image_files(dir.path()).unwrap_err();
        assert_eq!(empty.kind(), ErrorKind::Data);
        assert!(empty.to_string().contains("no pictures"));
    }
}
