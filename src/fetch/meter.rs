//! How much an archive may grow while it is read.
//!
//! A few kilobytes of deflate can stand for gigabytes, in a file's bytes as well as in headers that a tar reader collects in memory. So
//! every byte that comes out of the inflater is counted here, against an allowance that [`unpack`](super::unpack) sets for what it
//! reads next: an entry's header, an entry's bytes, the padding at the end.

use flate2::bufread::MultiGzDecoder;
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;

/// Before so much has come out, no ratio is looked at: a small archive of empty files shrinks a thousandfold.
const FREE: u64 = 16 << 20;

/// What went through so far, and what may.
pub(super) struct Tally {
    /// Bytes read from the archive.
    pub(super) packed: Cell<u64>,
    /// Bytes that became of them.
    unpacked: Cell<u64>,
    /// Bytes that may come out before somebody asks again.
    allowance: Cell<u64>,
    /// Whether the archive's last byte has been read.
    pub(super) ended: Cell<bool>,
    /// Bytes that may become of one.
    ratio: u64,
    fault: RefCell<Option<String>>,
}

impl Tally {
    pub(super) fn allow(&self, bytes: u64) {
        self.allowance.set(bytes);
    }

    /// What the meter objected to, where it was the meter.
    pub(super) fn fault(&self) -> Option<String> {
        self.fault.borrow().clone()
    }

    fn object(&self, fault: String) -> io::Error {
        *self.fault.borrow_mut() = Some(fault.clone());
        io::Error::other(fault)
    }
}

/// The bytes of a tar archive, inflated if they are compressed.
pub(super) struct Meter {
    inner: Box<dyn Read>,
    tally: Rc<Tally>,
}

impl Meter {
    /// Reads `file`, compressed or not, as its first bytes say; also returns these.
    pub(super) fn new(file: File, ratio: u64) -> io::Result<(Meter, Rc<Tally>, Vec<u8>)> {
        let tally = Rc::new(Tally {
            packed: Cell::new(0),
            unpacked: Cell::new(0),
            allowance: Cell::new(0),
            ended: Cell::new(false),
            ratio,
            fault: RefCell::new(None),
        });
        let mut counted = BufReader::with_capacity(1 << 17, Counted { inner: file, tally: Rc::clone(&tally) });
        let head = counted.fill_buf()?;
        let head = head[..head.len().min(512)].to_vec();
        let inner: Box<dyn Read> = match head.starts_with(&[0x1f, 0x8b]) {
            true => Box::new(MultiGzDecoder::new(counted)),
            false => Box::new(counted),
        };
        Ok((Meter { inner, tally: Rc::clone(&tally) }, tally, head))
    }
}

impl Read for Meter {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let tally = &self.tally;
        let allowance = tally.allowance.get();
        if allowance == 0 {
            return Err(tally.object("it has more bytes than fit its headers".into()));
        }
        let room = buffer.len().min(usize::try_from(allowance).unwrap_or(usize::MAX));
        let n = self.inner.read(&mut buffer[..room])?;
        tally.ended.set(n == 0);
        tally.allowance.set(allowance - n as u64);
        let unpacked = tally.unpacked.get() + n as u64;
        tally.unpacked.set(unpacked);
        if unpacked > FREE && unpacked / tally.packed.get().max(1) >= tally.ratio {
            return Err(tally.object(format!("its bytes become more than {} times as many", tally.ratio)));
        }
        Ok(n)
    }
}

/// Counts what is read of the file.
struct Counted {
    inner: File,
    tally: Rc<Tally>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.tally.packed.set(self.tally.packed.get() + n as u64);
        Ok(n)
    }
}
