//! Which names may become files.
//!
//! An archive's entry, or the end of a URL, is a name that a stranger chose. It becomes a path below a folder of ours, part by part, or it
//! is refused. What only Windows forbids (device names, `:`, a dot at the end) is refused only there: half the photographs of the
//! world have a colon in their name somewhere. Names must be Unicode everywhere, because the same archive should have the same
//! files on each system.

use std::path::PathBuf;

/// Longer paths are refused by every system.
const LONGEST: usize = 4096;

/// The path of an archive's entry below the folder that it is unpacked into; empty for that folder itself. `Err` says what is
/// wrong with it.
pub(super) fn entry(raw: &[u8]) -> Result<PathBuf, &'static str> {
    parts(raw, cfg!(windows))
}

/// The file that a URL names: what stands behind its last slash.
pub(crate) fn of_url(url: &str) -> Option<&str> {
    let path = url.split(['?', '#']).next()?;
    let (_, rest) = path.split_once("://")?;
    let (_, name) = rest.rsplit_once('/')?;
    // It is a name for every system: a cache may be moved.
    (!matches!(name, "" | "." | "..") && part(name, true).is_ok()).then_some(name)
}

fn parts(raw: &[u8], windows: bool) -> Result<PathBuf, &'static str> {
    if raw.len() > LONGEST {
        return Err("its name is too long");
    }
    let name = std::str::from_utf8(raw).map_err(|_| "its name is not Unicode")?;
    if name.starts_with('/') {
        return Err("its name is an absolute path");
    }
    let mut path = PathBuf::new();
    for name in name.split('/') {
        match name {
            "" | "." => {}
            ".." => return Err("its name leads out of the folder"),
            _ => path.push(part(name, windows)?),
        }
    }
    Ok(path)
}

/// One component of a path.
fn part(name: &str, windows: bool) -> Result<&str, &'static str> {
    // Also in messages: a name must not move the cursor of a terminal.
    if name.chars().any(char::is_control) {
        return Err("its name has control characters");
    }
    if windows {
        let stem = name.split('.').next().unwrap_or_default().trim_end().to_ascii_uppercase();
        let numbered = |device: &str| stem.strip_prefix(device).is_some_and(|n| matches!(n.as_bytes(), [b'1'..=b'9']));
        if matches!(&*stem, "CON" | "PRN" | "AUX" | "NUL") || numbered("COM") || numbered("LPT") {
            return Err("its name is that of a device");
        }
        if name.contains(['<', '>', ':', '"', '|', '?', '*', '\\']) || name.ends_with(['.', ' ']) {
            return Err("its name is not possible on this system");
        }
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn names_become_paths_below_a_folder_or_nothing() {
        let unix = |name: &str| parts(name.as_bytes(), false);
        assert_eq!(unix("./pets//images/ä ö:1.jpg").unwrap(), Path::new("pets/images/ä ö:1.jpg"));
        assert_eq!(unix("./").unwrap(), Path::new(""));
        assert_eq!(unix("a...b/...").unwrap(), Path::new("a...b/..."));
        for wrong in
            ["/etc/passwd", "../x", "a/../../x", "a/..", "..", "a\u{1b}[2J", "a\0b", "a\nb", &"a/".repeat(3000)]
        {
            assert!(unix(wrong).is_err(), "{wrong:?}");
        }
        assert!(parts(b"caf\xe9.jpg", false).is_err());
        for wrong in ["a\\..\\x", "C:x", "C:/x", "con", "a/NUL.txt", "com1.jpg", "aux .png", "a.", "b ", "what?"] {
            assert!(parts(wrong.as_bytes(), true).is_err(), "{wrong:?}");
        }
        for right in ["console", "com10", "nul1.txt", "lpt.png", "a.b"] {
            assert_eq!(parts(right.as_bytes(), true).unwrap(), Path::new(right));
        }
    }

    #[test]
    fn a_url_names_a_file() {
        assert_eq!(of_url("https://h/a/pets.tgz?version=2#top"), Some("pets.tgz"));
        assert_eq!(of_url("http://h:80/pets%20.tgz"), Some("pets%20.tgz"));
        for nameless in
            ["https://h", "https://h/", "https://h/..", "pets.tgz", "https://h/a/?x=/b.tgz", "https://h/a:b.tgz"]
        {
            assert_eq!(of_url(nameless), None, "{nameless}");
        }
    }
}
