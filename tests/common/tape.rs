//! Tar archives byte by byte, so that a test can write what no tar program would.

/// One header and its bytes.
#[derive(Clone, Debug)]
pub struct Entry {
    pub name: Vec<u8>,
    pub kind: u8,
    pub link: &'static str,
    pub mode: u32,
    pub body: Vec<u8>,
    /// The size in the header, if not the body's.
    pub size: Option<u64>,
}

impl Entry {
    fn new(name: impl AsRef<[u8]>, kind: u8) -> Entry {
        Entry { name: name.as_ref().to_vec(), kind, link: "", mode: 0o644, body: Vec::new(), size: None }
    }

    pub fn file(name: impl AsRef<[u8]>, body: impl Into<Vec<u8>>) -> Entry {
        Entry { body: body.into(), ..Entry::new(name, b'0') }
    }

    pub fn folder(name: impl AsRef<[u8]>) -> Entry {
        Entry { mode: 0o755, ..Entry::new(name, b'5') }
    }

    /// `1` a hard link, `2` a symbolic one, `3` and `4` devices, `6` a pipe.
    pub fn special(name: impl AsRef<[u8]>, kind: u8, link: &'static str) -> Entry {
        Entry { link, ..Entry::new(name, kind) }
    }

    pub fn mode(self, mode: u32) -> Entry {
        Entry { mode, ..self }
    }

    /// Claims another size than it has.
    pub fn size(self, size: u64) -> Entry {
        Entry { size: Some(size), ..self }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut header = [0u8; 512];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.name[..self.name.len().min(100)]);
        put(100, format!("{:07o}", self.mode).as_bytes());
        put(108, b"0000000\x000000000\0");
        let size = self.size.unwrap_or(self.body.len() as u64);
        match size < 1 << 33 {
            true => put(124, format!("{size:011o}").as_bytes()),
            // Eight octal gigabytes are not enough for some: base 256.
            false => {
                put(124, &[0x80, 0, 0, 0]);
                put(128, &size.to_be_bytes());
            }
        }
        put(136, b"00000000000");
        put(156, &[self.kind]);
        put(157, self.link.as_bytes());
        match self.kind {
            // GNU's own, with a second size behind its table of holes.
            b'S' => {
                put(257, b"ustar  \0");
                put(483, b"00000000000");
            }
            _ => put(257, b"ustar\x0000"),
        }
        checksum(&mut header);
        out.extend_from_slice(&header);
        out.extend_from_slice(&self.body);
        out.resize(out.len().next_multiple_of(512), 0);
    }
}

/// Makes a header's checksum right.
pub fn checksum(header: &mut [u8]) {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// The archive, with its end.
pub fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::new();
    entries.iter().for_each(|entry| entry.write(&mut out));
    out.extend_from_slice(&[0; 1024]);
    out
}
