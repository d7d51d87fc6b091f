//! Huffman codes of a JPEG's scans, read without making coefficients of them.
//!
//! Only lengths matter here: how many bits each block takes, so that the end of the last block can be compared with the end of
//! the data. The one thing that has to be remembered is, for progressive scans that add a bit to known coefficients, which ones are known.

/// Why a scan can't be followed to its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A code that doesn't exist, too many coefficients, or the data ends.
    Damaged,
    /// The scan needs something that isn't there, a table for instance.
    Unknown,
}

/// Bits that the short way looks at.
const SHORT: u32 = 9;

/// A Huffman table.
#[derive(Debug)]
pub(super) struct Table {
    /// By the next [`SHORT`] bits: length of the code and symbol; length 0 where the code is longer.
    short: Vec<(u8, u8)>,
    /// By length: the first code that is too large for it, on 16 bits; and what to add to a code for its symbol's place.
    limits: [(u32, i32); 17],
    symbols: Vec<u8>,
}

impl Table {
    /// From the number of codes of each length, and the symbols in the order of their codes. None when there are more codes than fit.
    pub fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Table> {
        let mut table = Table { short: vec![(0, 0); 1 << SHORT], limits: [(0, 0); 17], symbols: symbols.to_vec() };
        let (mut code, mut place) = (0u32, 0usize);
        for length in 1..=16u32 {
            let count = usize::from(counts[length as usize - 1]);
            table.limits[length as usize].1 = place as i32 - code as i32;
            for _ in 0..count {
                if length <= SHORT {
                    let from = (code << (SHORT - length)) as usize;
                    table.short.get_mut(from..from + (1 << (SHORT - length)))?.fill((length as u8, symbols[place]));
                }
                (code, place) = (code + 1, place + 1);
            }
            if code > 1 << length {
                return None;
            }
            table.limits[length as usize].0 = code << (16 - length);
            code <<= 1;
        }
        Some(table)
    }
}

/// The bits of a scan, up to the next marker.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The next bits, from the highest on.
    ahead: u64,
    count: u32,
    /// Bits in `ahead` that were made up because the data had ended.
    made_up: u32,
}

impl<'a> Bits<'a> {
    pub fn new(bytes: &'a [u8], at: usize) -> Bits<'a> {
        Bits { bytes, at, ahead: 0, count: 0, made_up: 0 }
    }

    /// Makes at least 32 bits available: the data's, then zeros.
    fn fill(&mut self) {
        while self.count <= 56 {
            let byte = match (self.bytes.get(self.at), self.bytes.get(self.at + 1)) {
                (Some(0xff), Some(0)) => {
                    self.at += 2;
                    0xff
                }
                (Some(0xff), _) | (None, _) => {
                    self.made_up += 8;
                    0
                }
                (Some(&byte), _) => {
                    self.at += 1;
                    byte
                }
            };
            self.ahead |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    fn take(&mut self, n: u32) -> Result<u32, Fault> {
        if self.count < n {
            self.fill();
        }
        let value = if n == 0 { 0 } else { (self.ahead >> (64 - n)) as u32 };
        self.ahead <<= n;
        self.count -= n;
        if self.count < self.made_up { Err(Fault::Damaged) } else { Ok(value) }
    }

    pub fn skip(&mut self, n: u32) -> Result<(), Fault> {
        self.take(n).map(drop)
    }

    fn symbol(&mut self, table: Option<&Table>) -> Result<u8, Fault> {
        let table = table.ok_or(Fault::Unknown)?;
        if self.count < 16 {
            self.fill();
        }
        let (length, symbol) = table.short[(self.ahead >> (64 - SHORT)) as usize];
        if length > 0 {
            self.skip(u32::from(length))?;
            return Ok(symbol);
        }
        let next = (self.ahead >> 48) as u32;
        let length = (SHORT + 1..=16).find(|&l| next < table.limits[l as usize].0).ok_or(Fault::Damaged)?;
        let place = (next >> (16 - length)) as i32 + table.limits[length as usize].1;
        self.skip(length)?;
        usize::try_from(place).ok().and_then(|p| table.symbols.get(p)).copied().ok_or(Fault::Damaged)
    }

    /// The first coefficient of a block.
    pub fn dc(&mut self, table: Option<&Table>) -> Result<(), Fault> {
        match self.symbol(table)? {
            size @ 0..=15 => self.skip(size.into()),
            _ => Err(Fault::Damaged),
        }
    }

    /// The other coefficients of a block, in one scan.
    pub fn ac(&mut self, table: Option<&Table>, start: usize, end: usize) -> Result<(), Fault> {
        let mut k = start;
        while k <= end {
            let symbol = self.symbol(table)?;
            let (zeros, size) = (usize::from(symbol >> 4), symbol & 15);
            if size == 0 && zeros < 15 {
                break;
            }
            k += zeros + 1;
            if size > 0 && k > end + 1 {
                return Err(Fault::Damaged);
            }
            self.skip(size.into())?;
        }
        Ok(())
    }

    /// The first bits of a progressive block's coefficients. `run` counts the blocks ahead that have none.
    pub fn ac_first(
        &mut self,
        table: Option<&Table>,
        start: usize,
        end: usize,
        known: &mut u64,
        run: &mut u32,
    ) -> Result<(), Fault> {
        if *run > 0 {
            *run -= 1;
            return Ok(());
        }
        let mut k = start;
        while k <= end {
            let symbol = self.symbol(table)?;
            let (zeros, size) = (symbol >> 4, symbol & 15);
            if size == 0 && zeros < 15 {
                *run = (1 << zeros) - 1 + self.take(zeros.into())?;
                break;
            }
            k += usize::from(zeros);
            if size > 0 {
                if k > end {
                    return Err(Fault::Damaged);
                }
                *known |= 1 << k;
                self.skip(size.into())?;
            }
            k += 1;
        }
        Ok(())
    }

    /// One more bit of the coefficients that are known, and new ones of size 1 between them.
    pub fn ac_refined(
        &mut self,
        table: Option<&Table>,
        start: usize,
        end: usize,
        known: &mut u64,
        run: &mut u32,
    ) -> Result<(), Fault> {
        let mut k = start;
        while *run == 0 && k <= end {
            let symbol = self.symbol(table)?;
            let (mut zeros, size) = (symbol >> 4, symbol & 15);
            match size {
                0 if zeros < 15 => {
                    *run = (1 << zeros) + self.take(zeros.into())?;
                    break;
                }
                0 => {}
                1 => self.skip(1)?,
                _ => return Err(Fault::Damaged),
            }
            // Over `zeros` coefficients that stay unknown; each known one on the way has its bit here.
            while k <= end {
                if *known >> k & 1 == 1 {
                    self.skip(1)?;
                } else if zeros == 0 {
                    break;
                } else {
                    zeros -= 1;
                }
                k += 1;
            }
            if size == 1 {
                if k > end {
                    return Err(Fault::Damaged);
                }
                *known |= 1 << k;
            }
            k += 1;
        }
        if *run > 0 {
            for k in k..=end {
                self.skip((*known >> k & 1) as u32)?;
            }
            *run -= 1;
        }
        Ok(())
    }

    /// Passes a restart marker, which begins anew on a whole byte. Returns the bytes before it that belong to nothing.
    pub fn restart(&mut self) -> Result<u64, Fault> {
        let (mut at, mut extra) = (self.end(), 0);
        loop {
            match (self.bytes.get(at), self.bytes.get(at + 1)) {
                (Some(0xff), Some(0xd0..=0xd7)) => break,
                (Some(0xff), Some(0xff)) => at += 1,
                (Some(0xff), Some(0)) => (at, extra) = (at + 2, extra + 1),
                (Some(0xff), _) | (None, _) => return Err(Fault::Damaged),
                _ => (at, extra) = (at + 1, extra + 1),
            }
        }
        *self = Bits::new(self.bytes, at + 2);
        Ok(extra)
    }

    /// Where the byte after the last one that was read from begins.
    pub fn end(&self) -> usize {
        let mut unread = (self.count - self.made_up.min(self.count)) / 8;
        let mut at = self.at;
        while unread > 0 {
            at -= if self.bytes[at - 1] == 0 && at >= 2 && self.bytes[at - 2] == 0xff { 2 } else { 1 };
            unread -= 1;
        }
        at
    }
}
