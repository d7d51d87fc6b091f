//! A walk over the markers of a JPEG, and through its scans.
//!
//! A JPEG is a list of segments: `ff`, a marker, two bytes of length, data. A scan's segment is followed by compressed data, in which an `ff`
//! that is no marker is written `ff 00`; [`entropy`](super::entropy) reads that. Names are those of the standard (ITU-T T.81).

use super::Scan;
use super::entropy::{Bits, Fault, Table};
use crate::vision::decode::PILLOW_MAX_PIXELS;

/// Scans that are looked into. A file that repeats tiny scans over a huge picture would cost minutes; decoders have such a limit too.
const MAX_SCANS: usize = 100;

/// What the walk finds.
#[derive(Debug)]
pub(super) struct Walk {
    pub components: usize,
    pub scan: Scan,
    pub trailing: u64,
}

/// A channel of the picture.
#[derive(Debug)]
struct Component {
    id: u8,
    /// Sampling factors: blocks of this channel in an MCU.
    h: usize,
    v: usize,
    /// Blocks in the channel, without padding to whole MCUs.
    across: usize,
    down: usize,
    /// Of progressive JPEGs: for each block a bit for each coefficient that is not 0 so far. Later scans are read by it.
    known: Vec<u64>,
}

#[derive(Debug, Default)]
struct Frame {
    progressive: bool,
    width: usize,
    height: usize,
    components: Vec<Component>,
}

/// What a scan's header says.
struct Header {
    /// Which components, and their tables for DC and AC.
    parts: Vec<(usize, usize, usize)>,
    /// The coefficients from `start` to `end`; `refines` says that one more bit of known ones follows.
    start: usize,
    end: usize,
    refines: bool,
}

#[derive(Default)]
struct State {
    frame: Option<Frame>,
    /// Tables by class (DC, AC) and number.
    tables: [[Option<Table>; 4]; 2],
    interval: usize,
}

/// Walks over `bytes`, which begin with `ff d8`.
pub(super) fn walk(bytes: &[u8]) -> Walk {
    let mut state = State::default();
    let (mut at, mut scans, mut extra) = (2, 0, 0u64);
    let mut verdict = None;
    let mut ended = false;
    while let Some(marker) = next_marker(bytes, &mut at, &mut extra) {
        if marker == 0xd9 {
            ended = true;
            break;
        }
        if matches!(marker, 0x01 | 0xd0..=0xd8) {
            continue;
        }
        let Some(length) = bytes.get(at..at + 2).map(|b| usize::from(u16::from_be_bytes([b[0], b[1]]))) else { break };
        let data = bytes.get(at + 2..at + length.max(2)).unwrap_or_default();
        at += length.max(2);
        match marker {
            0xc0..=0xc2 => state.frame = frame(data, marker == 0xc2),
            0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => verdict = Some(Scan::Unchecked),
            0xc4 => tables(data, &mut state.tables),
            0xdd => state.interval = data.get(..2).map_or(0, |b| usize::from(u16::from_be_bytes([b[0], b[1]]))),
            0xda => {
                scans += 1;
                let header = state.frame.as_ref().and_then(|f| header(data, f));
                match header {
                    Some(header) if verdict.is_none() && scans <= MAX_SCANS => {
                        match scan(bytes, &mut at, &mut extra, &header, &mut state) {
                            Ok(()) => {}
                            Err(Fault::Unknown) => verdict = Some(Scan::Unchecked),
                            Err(Fault::Damaged) => verdict = Some(Scan::Damaged),
                        }
                    }
                    _ => verdict = verdict.or(Some(Scan::Unchecked)),
                }
                if verdict.is_some() {
                    // Whatever is left of this scan is no extra byte.
                    skip_scan(bytes, &mut at);
                }
            }
            _ => {}
        }
    }
    let whole = match (ended && scans > 0, extra) {
        (false, _) => Scan::Damaged,
        (true, 0) => Scan::Whole,
        (true, n) => Scan::Extra(n),
    };
    Walk {
        components: state.frame.map_or(3, |f| f.components.len()),
        scan: verdict.unwrap_or(whole),
        trailing: if ended { (bytes.len() - at) as u64 } else { 0 },
    }
}

/// Moves behind the next marker and returns it; bytes on the way that belong to nothing are added to `extra`.
fn next_marker(bytes: &[u8], at: &mut usize, extra: &mut u64) -> Option<u8> {
    loop {
        match (*bytes.get(*at)?, *bytes.get(*at + 1)?) {
            (0xff, 0xff) => *at += 1,
            (0xff, 0) => {
                *at += 2;
                *extra += 1;
            }
            (0xff, marker) => {
                *at += 2;
                return Some(marker);
            }
            _ => {
                *at += 1;
                *extra += 1;
            }
        }
    }
}

/// Moves to the first marker that is no restart.
fn skip_scan(bytes: &[u8], at: &mut usize) {
    while let Some(&[first, second]) = bytes.get(*at..*at + 2).and_then(|b| b.first_chunk()) {
        if first == 0xff && !matches!(second, 0 | 0xff | 0xd0..=0xd7) {
            return;
        }
        *at += 1;
    }
}

fn frame(data: &[u8], progressive: bool) -> Option<Frame> {
    let &[_precision, h1, h0, w1, w0, count, ref rest @ ..] = data else { return None };
    let (height, width) = (usize::from(u16::from_be_bytes([h1, h0])), usize::from(u16::from_be_bytes([w1, w0])));
    let mut components: Vec<Component> = Vec::new();
    for part in rest.as_chunks::<3>().0.iter().take(usize::from(count)) {
        let (h, v) = (usize::from(part[1] >> 4), usize::from(part[1] & 15));
        if !(1..=4).contains(&h) || !(1..=4).contains(&v) {
            return None;
        }
        components.push(Component { id: part[0], h, v, across: 0, down: 0, known: Vec::new() });
    }
    // What no decoder here takes is not worth the memory that its blocks would need. A height of 0 is given after the first scan, which nobody does.
    if components.len() != usize::from(count)
        || !(1..=4).contains(&count)
        || width == 0
        || height == 0
        || (width * height) as u64 > PILLOW_MAX_PIXELS
    {
        return None;
    }
    let mut frame = Frame { progressive, width, height, components };
    let (h, v) = frame.most();
    for c in &mut frame.components {
        (c.across, c.down) = ((width * c.h).div_ceil(h * 8), (height * c.v).div_ceil(v * 8));
    }
    Some(frame)
}

impl Frame {
    /// The largest sampling factors.
    fn most(&self) -> (usize, usize) {
        let most = |of: fn(&Component) -> usize| self.components.iter().map(of).max().unwrap_or(1);
        (most(|c| c.h), most(|c| c.v))
    }
}

fn tables(mut data: &[u8], into: &mut [[Option<Table>; 4]; 2]) {
    while let Some((&which, rest)) = data.split_first() {
        let Some((counts, symbols)) = rest.split_first_chunk::<16>() else { return };
        let n = counts.iter().map(|&c| usize::from(c)).sum::<usize>();
        let (Some(symbols), class @ 0..=1, number @ 0..=3) = (symbols.get(..n), which >> 4, which & 15) else { return };
        into[usize::from(class)][usize::from(number)] = Table::new(counts, symbols);
        data = &rest[16 + n..];
    }
}

fn header(data: &[u8], frame: &Frame) -> Option<Header> {
    let (&count, rest) = data.split_first()?;
    let count = usize::from(count);
    let parts = rest.get(..count * 2)?.as_chunks::<2>().0.iter().map(|&[id, tables]| {
        let (dc, ac) = (usize::from(tables >> 4), usize::from(tables & 15));
        let place = frame.components.iter().position(|c| c.id == id)?;
        (dc < 4 && ac < 4).then_some((place, dc, ac))
    });
    let parts = parts.collect::<Option<Vec<_>>>()?;
    let &[start, end, high] = rest.get(count * 2..)?.first_chunk()?;
    let (start, end) = if frame.progressive { (usize::from(start), usize::from(end)) } else { (0, 63) };
    let valid = (1..=4).contains(&count) && start <= end && end < 64 && (start == 0 || count == 1);
    valid.then_some(Header { parts, start, end, refines: frame.progressive && high >> 4 != 0 })
}

/// Reads a scan's codes; afterwards `at` is behind what belongs to its last block.
fn scan(bytes: &[u8], at: &mut usize, extra: &mut u64, header: &Header, state: &mut State) -> Result<(), Fault> {
    let Some(frame) = &mut state.frame else { return Err(Fault::Unknown) };
    let (h, v) = frame.most();
    // The blocks of a scan with one component stand row by row; with several they stand in groups, MCUs, padded at the edges.
    let single = header.parts.len() == 1;
    let (across, down) = match single {
        true => (frame.components[header.parts[0].0].across, frame.components[header.parts[0].0].down),
        false => (frame.width.div_ceil(h * 8), frame.height.div_ceil(v * 8)),
    };
    if frame.progressive && header.end > 0 {
        for &(c, ..) in &header.parts {
            let c = &mut frame.components[c];
            c.known.resize(c.across * c.down, 0);
        }
    }
    let mut bits = Bits::new(bytes, *at);
    let mut run = 0u32;
    let mcus = across * down;
    for mcu in 0..mcus {
        if state.interval > 0 && mcu > 0 && mcu % state.interval == 0 {
            run = 0;
            *extra += bits.restart()?;
        }
        for &(place, dc, ac) in &header.parts {
            let c = &mut frame.components[place];
            let (dc, ac) = (state.tables[0][dc].as_ref(), state.tables[1][ac].as_ref());
            for _ in 0..if single { 1 } else { c.h * c.v } {
                match (frame.progressive, header.start, header.refines) {
                    (false, ..) => {
                        bits.dc(dc)?;
                        bits.ac(ac, 1, 63)?;
                    }
                    (true, 0, false) => bits.dc(dc)?,
                    (true, 0, true) => bits.skip(1)?,
                    (true, start, false) => bits.ac_first(ac, start, header.end, &mut c.known[mcu], &mut run)?,
                    (true, start, true) => bits.ac_refined(ac, start, header.end, &mut c.known[mcu], &mut run)?,
                }
            }
        }
    }
    *at = bits.end();
    Ok(())
}
