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

impl Picture {
    /// Leaves the memory to the next picture that this thread decodes or resizes. Dropping a picture is right too; in a loop over many
    /// this is faster, because the system takes half a megabyte back at once and gives it again page by page.
    pub fn recycle(self) {
        super::buffer::give(self.rgb);
    }
}
