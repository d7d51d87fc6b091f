//! The bytes of a pickle, counted, so that a length in them is believed only as far as bytes follow.

use super::{LONGEST_NAME, MOST_BYTES, Object, bad};
use crate::Result;
use std::io::{BufRead, Read};

/// Where a pickle comes from: bytes, counted.
pub(in crate::nn::pth) struct Source<R> {
    from: R,
    pub(in crate::nn::pth) at: u64,
    left: u64,
}

impl<R: BufRead> Source<R> {
    pub(in crate::nn::pth) fn new(from: R) -> Source<R> {
        Source { from, at: 0, left: MOST_BYTES }
    }

    pub(super) fn bytes(&mut self, n: u64) -> Result<Vec<u8>> {
        if n > self.left {
            return Err(bad(format!("its description is longer than {MOST_BYTES} bytes")));
        }
        let mut bytes = Vec::new();
        (&mut self.from).take(n).read_to_end(&mut bytes).map_err(|e| bad(format!("it can't be read: {e}")))?;
        self.at += bytes.len() as u64;
        self.left -= bytes.len() as u64;
        if (bytes.len() as u64) < n {
            return Err(bad("it ends early"));
        }
        Ok(bytes)
    }

    pub(super) fn fixed<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        if N as u64 > self.left {
            return Err(bad(format!("its description is longer than {MOST_BYTES} bytes")));
        }
        self.from.read_exact(&mut bytes).map_err(|_| bad("it ends early"))?;
        (self.at, self.left) = (self.at + N as u64, self.left - N as u64);
        Ok(bytes)
    }

    pub(super) fn text(&mut self, n: u64) -> Result<Object> {
        let bytes = self.bytes(n)?;
        String::from_utf8(bytes).map(Object::Text).map_err(|_| bad("it has text that is no Unicode"))
    }

    pub(super) fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        loop {
            match self.fixed::<1>()? {
                [b'\n'] => break,
                [byte] if line.len() < LONGEST_NAME => line.push(byte),
                _ => return Err(bad("it has a name that is too long")),
            }
        }
        String::from_utf8(line).map_err(|_| bad("it has a name that is no Unicode"))
    }
}
