//! The zip that torch writes: entries stored as they are, found through the directory at the end.
//!
//! That is the small half of a zip reader. Compression, encryption, several disks, entries that lie over each other and names that
//! stand twice are not what `torch.save` writes, and are refused: with stored entries that don't overlap, a file can't hold more than
//! its own length. Local headers may leave sizes open and pad the data to 64 bytes, so sizes are the directory's, and of a local
//! header only its own length counts. A name is something to be looked up, never a path.

use super::pickle::{bad, shown};
use crate::fs::read_exact_at;
use crate::{Error, ErrorKind, Result};
use std::collections::HashMap;
use std::fs::File;

/// Where an entry's bytes are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Entry {
    pub at: u64,
    pub len: u64,
    crc: u32,
    /// The bytes are packed.
    compressed: bool,
}

/// The directory of an archive.
#[derive(Debug)]
pub(super) struct Zip {
    entries: HashMap<String, Entry>,
    /// What stands before the first entry's first slash; torch puts everything below it.
    pub root: String,
}

/// Bytes of the directory: a hundred thousand entries.
const MOST: u64 = 8 << 20;

impl Zip {
    /// Reads the directory.
    pub(super) fn open(file: &File, len: u64) -> Result<Zip> {
        let (at, size, count) = directory(file, len)?;
        if size > MOST {
            return Err(bad(format!("its directory has {size} bytes")));
        }
        let mut raw = vec![0; size as usize];
        read(file, &mut raw, at)?;
        let mut entries: HashMap<String, Entry> = HashMap::new();
        let mut spans = Vec::new();
        let mut root = None;
        let mut rest = Fields(&raw);
        for _ in 0..count {
            let (name, entry, header) = central(&mut rest)?;
            let mut local = [0; 30];
            read(file, &mut local, header)?;
            let mut fields = Fields(&local);
            if fields.u32()? != 0x0403_4b50 {
                return Err(bad(format!("its entry {} is not where the directory says", shown(&name))));
            }
            fields.skip(22)?;
            let skip = 30 + u64::from(fields.u16()?) + u64::from(fields.u16()?);
            let data = header.checked_add(skip).and_then(|data| Some((data, data.checked_add(entry.len)?)));
            let Some((data, end)) = data.filter(|(_, end)| *end <= at) else {
                return Err(bad(format!("its entry {} passes the end of the data", shown(&name))));
            };
            spans.push((header, end));
            root.get_or_insert_with(|| name.split_once('/').map_or(String::new(), |(root, _)| root.to_owned()));
            let double = shown(&name);
            if entries.insert(name, Entry { at: data, ..entry }).is_some() {
                return Err(bad(format!("its entry {double} is there twice")));
            }
        }
        spans.sort_unstable();
        if spans.windows(2).any(|pair| pair[1].0 < pair[0].1) {
            return Err(bad("its entries lie over each other"));
        }
        Ok(Zip { entries, root: root.ok_or_else(|| bad("it is an empty archive"))? })
    }

    /// An entry below the root.
    pub(super) fn entry(&self, name: &str) -> Option<Entry> {
        self.entries.get(&format!("{}/{name}", self.root)).copied()
    }

    /// An entry's bytes, compared with their checksum. Where torch was told to write none, it is 0.
    pub(super) fn bytes(&self, file: &File, name: &str, entry: Entry) -> Result<Vec<u8>> {
        if entry.compressed {
            let error = bad(format!("its entry {} is compressed, which torch.save never does", shown(name)));
            return Err(error.remedy("it was packed again by another program: take the original file"));
        }
        // The length lies within the file: see `open`.
        let mut bytes = vec![0; entry.len as usize];
        read(file, &mut bytes, entry.at)?;
        if entry.crc != 0 && crc32fast::hash(&bytes) != entry.crc {
            let error = Error::new(ErrorKind::Format, format!("its entry {} has a wrong checksum", shown(name)));
            return Err(error.remedy("the file is damaged: fetch it again"));
        }
        Ok(bytes)
    }
}

fn read(file: &File, bytes: &mut [u8], at: u64) -> Result<()> {
    read_exact_at(file, bytes, at).map_err(|e| match e.kind() {
        std::io::ErrorKind::UnexpectedEof => bad("it ends early"),
        _ => Error::new(ErrorKind::Io, format!("cannot be read: {e}")).caused_by(e),
    })
}

/// Place, size and number of entries of the directory.
fn directory(file: &File, len: u64) -> Result<(u64, u64, u64)> {
    const END: u64 = 22;
    let missing = || bad("it is an archive without a directory: its end is missing");
    // A comment of up to 65,535 bytes may follow the end.
    let from = len.saturating_sub(END + 0xffff);
    let mut tail = vec![0; (len - from) as usize];
    read(file, &mut tail, from)?;
    let is_end = |at: &usize| {
        let end = &tail[*at..];
        end.starts_with(b"PK\x05\x06")
            && end.len() >= 22
            && end.len() - 22 == usize::from(u16::from_le_bytes([end[20], end[21]]))
    };
    let at = (0..tail.len()).rev().find(is_end).ok_or_else(missing)?;
    let mut fields = Fields(&tail[at + 4..]);
    let disks = (fields.u16()?, fields.u16()?);
    let (here, mut count) = (u64::from(fields.u16()?), u64::from(fields.u16()?));
    let (mut size, mut start) = (u64::from(fields.u32()?), u64::from(fields.u32()?));
    let mut end = from + at as u64;
    if count == 0xffff || size == 0xffff_ffff || start == 0xffff_ffff {
        // Zip64: a locator stands before the end, and says where the large numbers are.
        let mut locator = [0; 20];
        read(file, &mut locator, end.checked_sub(20).ok_or_else(missing)?)?;
        let mut fields = Fields(&locator);
        if fields.u32()? != 0x0706_4b50 {
            return Err(missing());
        }
        fields.skip(4)?;
        end = fields.u64()?;
        let mut large = [0; 56];
        read(file, &mut large, end)?;
        let mut fields = Fields(&large);
        if fields.u32()? != 0x0606_4b50 {
            return Err(missing());
        }
        fields.skip(28)?;
        (count, size, start) = (fields.u64()?, fields.u64()?, fields.u64()?);
    } else if here != count || disks != (0, 0) {
        return Err(bad("it is an archive in several parts"));
    }
    match start.checked_add(size) {
        // An entry of the directory has 46 bytes at least.
        Some(stop) if stop <= end && count <= size / 46 => Ok((start, size, count)),
        _ => Err(bad("its directory passes its end")),
    }
}

/// One entry of the directory: its name, what it says of its bytes, and where its local header is.
fn central(rest: &mut Fields) -> Result<(String, Entry, u64)> {
    if rest.u32()? != 0x0201_4b50 {
        return Err(bad("its directory is damaged"));
    }
    rest.skip(4)?;
    let (flags, method) = (rest.u16()?, rest.u16()?);
    rest.skip(4)?;
    let crc = rest.u32()?;
    let (mut packed, mut len) = (u64::from(rest.u32()?), u64::from(rest.u32()?));
    let (name, extra, comment) = (rest.u16()?, rest.u16()?, rest.u16()?);
    rest.skip(8)?;
    let mut header = u64::from(rest.u32()?);
    let name =
        std::str::from_utf8(rest.take(name.into())?).map_err(|_| bad("it has an entry whose name is no Unicode"))?;
    let mut extra = Fields(rest.take(extra.into())?);
    rest.skip(comment.into())?;
    // Zip64: the numbers that don't fit, in this order.
    while extra.0.len() >= 4 {
        let (id, size) = (extra.u16()?, extra.u16()?);
        let mut field = Fields(extra.take(size.into())?);
        if id == 1 {
            for number in [&mut len, &mut packed, &mut header].into_iter().filter(|n| **n == 0xffff_ffff) {
                *number = field.u64()?;
            }
        }
    }
    if flags & 1 != 0 {
        return Err(bad(format!("its entry {} is encrypted", shown(name))));
    }
    let compressed = method != 0 || packed != len;
    Ok((name.to_owned(), Entry { at: 0, len: packed, crc, compressed }, header))
}

/// Little-endian numbers, one after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n).ok_or_else(|| bad("its directory ends early"))?;
        self.0 = rest;
        Ok(head)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| bad("its directory ends early"))
    }

    fn skip(&mut self, n: usize) -> Result<()> {
        self.take(n).map(drop)
    }

    fn u16(&mut self) -> Result<u16> {
        self.fixed().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32> {
        self.fixed().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.fixed().map(u64::from_le_bytes)
    }
}
