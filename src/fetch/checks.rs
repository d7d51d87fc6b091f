//! What a file must be: its size, its SHA-256 or the first digits of that, the MD5 of its first MiB.
//!
//! Three forms, because that is what there is: we pin whole SHA-256 where we can, torchvision puts the first eight digits into
//! a file's name, and fastai recorded size and MD5 of the first MiB of its archives. The last two notice damage and other versions,
//! not an attacker; TLS is what stands against that.

use super::bytes;
use crate::{Error, ErrorKind, Result};
use md5::Md5;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Size and digests that a file must have; none of them by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checks {
    size: Option<u64>,
    sha256: Option<Cow<'static, str>>,
    md5_head: Option<Cow<'static, str>>,
}

/// What fastai's checks look at.
const HEAD: u64 = 1 << 20;

impl Checks {
    /// Nothing is known of the file.
    pub const fn none() -> Checks {
        Checks { size: None, sha256: None, md5_head: None }
    }

    /// fastai's pair: the size in bytes, and the MD5 of the first 2^20 bytes as 32 hexadecimal digits.
    pub const fn fastai(size: u64, md5_head: &'static str) -> Checks {
        Checks { size: Some(size), sha256: None, md5_head: Some(Cow::Borrowed(md5_head)) }
    }

    /// The SHA-256 in hexadecimal digits, or the first of them, as in `resnet34-b627a593.pth`.
    pub fn sha256(digits: impl Into<Cow<'static, str>>) -> Checks {
        Checks { sha256: Some(digits.into()), ..Checks::none() }
    }

    /// With a size in bytes.
    pub fn size(self, size: u64) -> Checks {
        Checks { size: Some(size), ..self }
    }

    /// The size that the file must have, where it is known.
    pub fn bytes(&self) -> Option<u64> {
        self.size
    }

    /// Whether the digests are digests; asked before anything is fetched to be compared with them.
    pub(super) fn are_checks(&self) -> Result<()> {
        for digits in [&self.sha256, &self.md5_head].into_iter().flatten() {
            // An empty prefix would fit every file.
            if digits.len() < 8 || digits.len() > 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
                let error = Error::new(ErrorKind::Argument, format!("`{digits}` is no digest"));
                return Err(error.remedy("it takes 8 to 64 hexadecimal digits"));
            }
        }
        Ok(())
    }

    /// Compares the file at `path`, reading as much of it as the checks need.
    ///
    /// # Errors
    /// [`ErrorKind::Network`] naming `path`, what it is and what was expected; [`ErrorKind::Io`] when it can't be read;
    /// [`ErrorKind::Argument`] when an expected digest isn't one.
    pub fn verify(&self, path: &Path) -> Result<()> {
        let failed = |e| Error::io("read", path, e);
        self.are_checks()?;
        let mut file = File::open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        if let Some(expected) = self.size.filter(|&expected| expected != size) {
            return Err(other(path, format!("it has {}", bytes(size)), bytes(expected)));
        }
        if let Some(expected) = &self.md5_head {
            compare(path, "MD5 of the first MiB", expected, &digest::<Md5>((&mut file).take(HEAD)).map_err(failed)?)?;
        }
        if let Some(expected) = &self.sha256 {
            let file = File::open(path).map_err(failed)?;
            compare(path, "SHA-256", expected, &digest::<Sha256>(file).map_err(failed)?)?;
        }
        Ok(())
    }
}

/// A file's SHA-256 in hexadecimal digits.
pub(crate) fn sha256(path: &Path) -> Result<String> {
    File::open(path).and_then(digest::<Sha256>).map_err(|e| Error::io("read", path, e))
}

/// The SHA-256 of bytes in hexadecimal digits.
pub(crate) fn sha256_of(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

fn hexadecimal(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn compare(path: &Path, what: &str, expected: &str, found: &str) -> Result<()> {
    let same = found.get(..expected.len()).is_some_and(|head| head.eq_ignore_ascii_case(expected));
    same.then_some(()).ok_or_else(|| {
        let found = &found[..expected.len().min(found.len())];
        other(path, format!("its {what} is {found}"), expected.to_owned())
    })
}

fn other(path: &Path, found: String, expected: String) -> Error {
    Error::new(ErrorKind::Network, format!("this is not the expected file: {found}, expected was {expected}"))
        .on(path.display())
}

fn digest<D: Digest>(mut from: impl Read) -> std::io::Result<String> {
    let mut hash = D::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => hash.update(&buffer[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(hexadecimal(&hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Digests by `sha256sum` and `md5sum`; the last is of the first MiB of 1.5 MiB of zeros.
    #[test]
    fn digests_are_those_of_the_usual_tools() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        for right in [abc, "BA7816BF", "ba7816bf8f01"] {
            Checks::sha256(right).size(3).verify(&path).unwrap();
        }
        Checks::fastai(3, "900150983cd24fb0d6963f7d28e17f72").verify(&path).unwrap();
        std::fs::write(&path, vec![0; 3 << 19]).unwrap();
        Checks::fastai(3 << 19, "b6d81b360a5672d80c27430f39153e2c").verify(&path).unwrap();
        Checks::none().verify(&path).unwrap();
    }

    #[test]
    fn what_differs_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abc");
        std::fs::write(&path, "abd").unwrap();
        let told = |checks: Checks| checks.verify(&path).unwrap_err().to_string();
        assert!(
            told(Checks::none().size(4))
                .ends_with("abc: this is not the expected file: it has 3 bytes, expected was 4 bytes")
        );
        assert!(told(Checks::sha256("ba7816bf")).contains("its SHA-256 is a52d159f, expected was ba7816bf"));
        assert!(
            told(Checks::fastai(3, "900150983cd24fb0d6963f7d28e17f72")).contains("MD5 of the first MiB is 4911e516")
        );
        for no_digest in ["", "ba78", "resnet34", &"0".repeat(65)] {
            let error = Checks::sha256(no_digest.to_owned()).verify(&path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Argument, "{no_digest}");
        }
    }
}
