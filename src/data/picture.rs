//! A decoded picture in memory.

/// An RGB picture, one byte a channel, rows from the top: `rgb` is `[H, W, 3]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// `height * width * 3` bytes, row-major.
    pub rgb: Vec<u8>,
}
