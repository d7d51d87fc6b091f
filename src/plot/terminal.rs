//! A picture in the terminal.
//!
//! Any terminal with 24-bit colour shows two pixels a character: the upper half block `▀` in the upper pixel's colour
//! on the lower one's. kitty and iTerm2 (and WezTerm, which speaks iTerm2's dialect) take the picture itself, as PNG inside an
//! escape sequence. Which of them is there, the environment says; when the output is not a terminal, `NO_COLOR` is set or
//! the terminal is dumb, nothing is printed at all: escapes in a log file help nobody.

use super::{base64, grid, raster};
use crate::Result;
use crate::data::Picture;
use std::io::IsTerminal;
use std::sync::Arc;

/// How a terminal shows pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protocol {
    /// Two pixels a character, in 24-bit colour.
    HalfBlocks,
    /// kitty's graphics protocol.
    Kitty,
    /// iTerm2's inline pictures.
    Iterm2,
}

/// What standard output can show; `None` when it is no terminal, or should stay without colour.
pub fn detect() -> Option<Protocol> {
    std::io::stdout().is_terminal().then(|| choose(|name| std::env::var(name).ok())).flatten()
}

/// The columns of the terminal, as far as the environment says; else 80.
pub fn columns() -> usize {
    std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok()).filter(|c| *c > 0).unwrap_or(80)
}

fn choose(variable: impl Fn(&str) -> Option<String>) -> Option<Protocol> {
    let is = |name: &str, part: &str| variable(name).is_some_and(|value| value.contains(part));
    if variable("NO_COLOR").is_some_and(|v| !v.is_empty()) || is("TERM", "dumb") {
        return None;
    }
    // Inside tmux and screen the outer terminal never sees the escapes; half blocks pass.
    let multiplexed = variable("TMUX").is_some() || is("TERM", "screen") || is("TERM", "tmux");
    if !multiplexed && (variable("KITTY_WINDOW_ID").is_some() || is("TERM", "kitty")) {
        return Some(Protocol::Kitty);
    }
    if !multiplexed && (is("TERM_PROGRAM", "iTerm") || is("TERM_PROGRAM", "WezTerm")) {
        return Some(Protocol::Iterm2);
    }
    Some(Protocol::HalfBlocks)
}

/// The text that shows `picture` at most `columns` characters wide.
///
/// # Errors
/// When the picture cannot be written as PNG, which its own size would have to contradict.
pub fn render(picture: &Picture, protocol: Protocol, columns: usize) -> Result<String> {
    match protocol {
        Protocol::HalfBlocks => Ok(half_blocks(picture, columns)),
        Protocol::Kitty => Ok(kitty(&raster::encode(picture)?, columns)),
        Protocol::Iterm2 => Ok(iterm2(&raster::encode(picture)?, columns)),
    }
}

fn half_blocks(picture: &Picture, columns: usize) -> String {
    if picture.width == 0 || picture.height == 0 {
        return String::new();
    }
    let wide = columns.clamp(1, picture.width);
    // `shrunk` limits the longer side; for a tall picture that is the height which belongs to this width.
    let edge = if picture.width >= picture.height { wide } else { wide * picture.height / picture.width };
    let small = grid::shrunk(&Arc::new(picture.clone()), edge.max(1));
    let mut out = String::with_capacity(small.rgb.len() * 14);
    for row in (0..small.height).step_by(2) {
        for column in 0..small.width {
            let pixel = |row: usize| &small.rgb[(row * small.width + column) * 3..][..3];
            let (up, down) = (pixel(row), (row + 1 < small.height).then(|| pixel(row + 1)));
            out += &format!("\x1b[38;2;{};{};{}m", up[0], up[1], up[2]);
            out += &down.map(|d| format!("\x1b[48;2;{};{};{}m", d[0], d[1], d[2])).unwrap_or_default();
            out.push('▀');
        }
        out += "\x1b[0m\n";
    }
    out
}

/// kitty takes 4,096 bytes of base64 an escape; all but the last announce more.
fn kitty(png: &[u8], columns: usize) -> String {
    let data = base64::encode(png);
    let chunks: Vec<&[u8]> = data.as_bytes().chunks(4096).collect();
    let mut out = String::with_capacity(data.len() + 32 * chunks.len());
    for (i, chunk) in chunks.iter().enumerate() {
        let first = if i == 0 { format!("a=T,f=100,c={columns},") } else { String::new() };
        let more = usize::from(i + 1 < chunks.len());
        out += &format!("\x1b_G{first}m={more};{}\x1b\\", String::from_utf8_lossy(chunk));
    }
    out + "\n"
}

fn iterm2(png: &[u8], columns: usize) -> String {
    let size = png.len();
    format!("\x1b]1337;File=inline=1;size={size};width={columns};preserveAspectRatio=1:{}\x07\n", base64::encode(png))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(set: &[(&str, &str)]) -> Option<Protocol> {
        choose(|name| set.iter().find(|(n, _)| *n == name).map(|(_, v)| v.to_string()))
    }

    #[test]
    fn the_environment_decides() {
        assert_eq!(with(&[("TERM", "xterm-256color")]), Some(Protocol::HalfBlocks));
        assert_eq!(with(&[("TERM", "xterm-kitty")]), Some(Protocol::Kitty));
        assert_eq!(with(&[("TERM_PROGRAM", "iTerm.app")]), Some(Protocol::Iterm2));
        assert_eq!(with(&[("TERM_PROGRAM", "WezTerm"), ("TMUX", "1")]), Some(Protocol::HalfBlocks));
        assert_eq!(with(&[("TERM", "xterm-kitty"), ("NO_COLOR", "1")]), None);
        assert_eq!(with(&[("TERM", "dumb")]), None);
        assert_eq!(detect(), None, "a test's output is captured");
    }

    #[test]
    fn two_pixels_a_character() {
        let picture = Picture { width: 2, height: 3, rgb: (0..18).collect() };
        let text = half_blocks(&picture, 80);
        assert_eq!(text.lines().count(), 2);
        assert_eq!(text.matches('▀').count(), 4);
        assert!(text.starts_with("\x1b[38;2;0;1;2m\x1b[48;2;6;7;8m▀"));
        let wide = Picture { width: 400, height: 100, rgb: vec![9; 400 * 100 * 3] };
        assert_eq!(half_blocks(&wide, 40).lines().next().map(|l| l.matches('▀').count()), Some(40));
    }

    #[test]
    fn kitty_is_sent_in_chunks() {
        let text = kitty(&[7; 10_000], 60);
        assert_eq!(text.matches("\x1b_G").count(), 4);
        assert!(text.starts_with("\x1b_Ga=T,f=100,c=60,m=1;") && text.contains("\x1b_Gm=0;"));
        assert!(iterm2(b"png", 60).contains("size=3;width=60;preserveAspectRatio=1:cG5n\x07"));
    }
}
