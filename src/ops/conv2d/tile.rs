//! How large a tile of results a block of the tensor-core kernels makes, by a formula of the sizes.
//!
//! Not by timing: two runs take the same kernels and give the same bits, on every GPU of a kind. The formula asks how long the busiest of
//! a GPU's processors works. With `b` blocks it makes `ceil(b / 132)` of them, one after the other or side by side, each of `M x N`
//! results at a rate that grows with the tile: of the numbers that a block brings to shared memory, a tile of 128 x 128 uses each 128
//! times, one of 128 x 64 each 85 times on average, one of 64 x 64 each 64 times. 132 is a constant (an H200's), not the device's count.
//!
//! That is, where blocks end one by one. Where those of a processor begin and end together, as measured for slabs and for input gradients, they come in
//! rounds: the first two to end make room for two where they were, and with 392 wide tiles some processors have 4 and others 2, not 3 each.
//!
//! So a wide tile is taken where there are many results, and a small one where the wide would leave most processors without work. With a short
//! reduction it is the way out that takes the time, which is memory's. A weight gradient has few results, each a sum over all pixels: that is cut
//! into parts until there are enough blocks, and more of them on a processor are better than fewer numbers brought.
//!
//! The rates are those of an H200 (`benches/NOTES.md`).

use crate::device::cuda::driver::PROCESSORS;
use crate::tensor::DType;
use std::cell::Cell;
use std::fmt;

/// Threads of a block; `kernels/mma_tile.cuh` says the same.
pub(super) const THREADS: u32 = 128;

/// What a product's results are sums of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// So many steps of 64 bytes.
    Steps(usize),
    /// Likewise, and the blocks of a processor begin and end together.
    InRounds(usize),
    /// Pixels, which can be cut into parts: blocks are never too few, nor is the way out what takes the time.
    InParts,
}

/// Rows and columns of results of a block; `kernels/conv2d_mma.cu` and `conv2d_slab.cu` have a kernel for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tile {
    /// 128 x 128, in half precision only: in f32 it doesn't fit.
    Wide,
    /// 128 x 64.
    Tall,
    /// 64 x 64.
    Small,
}

impl Tile {
    /// All of them, the largest first.
    pub const ALL: [Tile; 3] = [Tile::Wide, Tile::Tall, Tile::Small];

    /// Rows and columns.
    pub fn sides(self) -> (usize, usize) {
        match self {
            Tile::Wide => (128, 128),
            Tile::Tall => (128, 64),
            Tile::Small => (64, 64),
        }
    }

    /// Its rate beside the wide tile's.
    fn rate(self) -> f64 {
        match self {
            Tile::Wide => 1.0,
            Tile::Tall => 0.86,
            Tile::Small => 0.65,
        }
    }

    /// The same for a weight gradient.
    fn rate_in_parts(self) -> f64 {
        match self {
            Tile::Wide => 1.0,
            Tile::Tall => 1.1,
            Tile::Small => 0.95,
        }
    }

    /// Blocks that a processor holds in half precision; `kernels/mma_tile.cuh` says the same.
    fn resident(self) -> usize {
        match self {
            Tile::Wide => 2,
            Tile::Tall => 3,
            Tile::Small => 4,
        }
    }

    /// Shared memory of a block: four stages of 64 bytes of each row and column.
    pub(super) fn shared(self) -> usize {
        let (m, n) = self.sides();
        4 * 64 * (m + n)
    }

    /// The part of memory's rate that the way out has with as many of these blocks as a processor holds: 8, 12 and 16 warps.
    fn way_out(self) -> f64 {
        match self {
            Tile::Wide => 0.68,
            Tile::Tall => 0.65,
            Tile::Small => 0.6,
        }
    }

    /// The tile for `layers` products of `rows` x `columns` results.
    pub(super) fn of(rows: usize, columns: usize, layers: usize, depth: Depth, dtype: DType) -> Tile {
        /// What a step takes of the time in which memory at its full rate stores the results: 550 cycles of a processor for a wide tile,
        /// whose 32 KiB take 2,048.
        const STEP: f64 = 0.27;
        if let Some(tile) = CHOSEN.get() {
            return if tile == Tile::Wide && !dtype.is_half() { Tile::Tall } else { tile };
        }
        let time = |tile: Tile| {
            let (m, n) = tile.sides();
            let blocks = rows.div_ceil(m) * columns.div_ceil(n) * layers;
            match depth {
                Depth::InParts => (blocks * m * n) as f64 / tile.rate_in_parts(),
                Depth::Steps(steps) | Depth::InRounds(steps) => {
                    let each = STEP * steps as f64 / tile.rate() + 1.0 / tile.way_out();
                    let turn = if matches!(depth, Depth::Steps(_)) { 1 } else { tile.resident() };
                    (blocks.div_ceil(turn * PROCESSORS) * turn * m * n) as f64 * each
                }
            }
        };
        let fits = |tile: &Tile| dtype.is_half() || *tile != Tile::Wide;
        // Of equals the first, which is the largest.
        Tile::ALL.into_iter().filter(fits).min_by(|a, b| time(*a).total_cmp(&time(*b))).unwrap_or(Tile::Small)
    }
}

/// The most parts of a sum over `pixels` for so many results. A part has 256 pixels at least: below, filling the pipeline costs more than a part
/// brings. And all of them together take 64 MiB at most.
pub(super) fn most_parts(results: usize, pixels: usize) -> usize {
    (pixels / 256).min((16 << 20) / results.max(1)).max(1)
}

/// Into how many parts the sums over `pixels` are cut of a product that is `tiles` tiles and `results` numbers.
///
/// Every processor makes `turns` blocks, and with 264 blocks that is 2, with 265 it is 3: time goes up by half for one block. So the number of parts
/// is not what fills the processors somehow but what fills their turns. A block of 4 warps alone doesn't keep a processor busy, so one turn is counted as two; and
/// each part is written and read once more, to be added.
pub(super) fn parts(tile: Tile, tiles: usize, results: usize, pixels: usize) -> usize {
    /// Seconds of a processor for a step of a wide tile, 32 deep, at 400 TFLOP/s of all; and for a byte in the second-level cache.
    const STEP: f64 = 2.0 * 128.0 * 128.0 * 32.0 * PROCESSORS as f64 / 400e12;
    const BYTE: f64 = 1.0 / 5e12;
    let (m, n) = tile.sides();
    let step = STEP * (m * n) as f64 / (128.0 * 128.0) / tile.rate_in_parts();
    let most = most_parts(results, pixels).min((6 * PROCESSORS).div_ceil(tiles.max(1)));
    let time = |parts: usize| {
        let turns = (tiles * parts).div_ceil(PROCESSORS).max(2);
        let steps = pixels.div_ceil(parts).div_ceil(32);
        (turns * steps) as f64 * step + (8 * parts * results) as f64 * BYTE
    };
    (1..=most).min_by(|a, b| time(*a).total_cmp(&time(*b))).unwrap_or(1)
}

thread_local! {
    static CHOSEN: Cell<Option<Tile>> = const { Cell::new(None) };
}

/// Runs `f` with this tile for every product of this thread, whatever the formula says: to compare tiles. In f32 the wide one doesn't exist,
/// and the tall one is taken.
pub fn with_tile<R>(tile: Tile, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<Tile>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CHOSEN.set(self.0);
        }
    }
    let _restore = Restore(CHOSEN.replace(Some(tile)));
    f()
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (m, n) = self.sides();
        write!(f, "{m}x{n}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_where_there_is_much_and_small_where_there_is_little() {
        let of = |rows, columns, steps| Tile::of(rows, columns, 1, Depth::Steps(steps), DType::BF16);
        let in_rounds = |rows, columns, steps| Tile::of(rows, columns, 1, Depth::InRounds(steps), DType::BF16);
        assert_eq!(of(401_408, 64, 18), Tile::Tall, "64 channels fill no wide tile");
        assert_eq!(of(100_352, 128, 36), Tile::Wide);
        assert_eq!(of(25_088, 256, 72), Tile::Wide, "392 tiles are 3 turns of 132, nearly full");
        assert_eq!(of(6_272, 512, 144), Tile::Tall, "196 wide tiles would be 2 turns, the second one half empty");
        assert_eq!(in_rounds(25_088, 256, 72), Tile::Tall, "in rounds of 264 they are 4, and 784 tall ones 3");
        assert_eq!(in_rounds(100_352, 128, 36), Tile::Wide, "784 wide tiles are three rounds, nearly full");
        assert_eq!(of(401_408, 256, 2), Tile::Wide, "64 channels are multiplied in no time, 256 are stored");
        assert_eq!(of(64, 512, 32), Tile::Small, "a classifier's head");
        assert_eq!(Tile::of(100_352, 128, 1, Depth::Steps(72), DType::F32), Tile::Tall);
        assert_eq!(
            Tile::of(128, 128, 9, Depth::InParts, DType::BF16),
            Tile::Tall,
            "parts make as many blocks as are wanted"
        );
    }

    #[test]
    fn parts_fill_the_turns_of_all_processors() {
        let of = |k: usize, c: usize, taps: usize, pixels: usize| {
            let tiles = k.div_ceil(128) * c.div_ceil(128) * taps;
            (tiles, parts(Tile::Wide, tiles, k * c * taps, pixels))
        };
        for (k, c, taps, pixels) in
            [(128, 128, 9, 100_352), (256, 256, 9, 25_088), (1024, 256, 1, 25_088), (2048, 512, 1, 6272)]
        {
            let (tiles, parts) = of(k, c, taps, pixels);
            let blocks = tiles * parts;
            assert!(
                blocks <= 264 && 264 - blocks < tiles,
                "{blocks} blocks are one short of two turns of 132, of {tiles} tiles"
            );
        }
        let (tiles, parts) = of(512, 512, 9, 6272);
        assert!(
            tiles == 144 && parts > 1,
            "144 blocks would leave most processors idle in the second turn, {parts} parts don't"
        );
        assert_eq!(of(128, 128, 1, 255).1, 1, "a part has 256 pixels at least");
    }
}
