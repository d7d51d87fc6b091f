//! How large a tile of results a block of the tensor-core kernels makes, by a formula of the sizes.
//!
//! Not by timing: two runs take the same kernels and give the same bits, on every GPU of a kind. The formula asks how long the busiest of
//! a GPU's processors works. With `b` blocks it makes `ceil(b / 132)` of them, one after the other or side by side, each of `M x N`
//! results at a rate that grows with the tile: of the numbers that a block brings to shared memory, a tile of 128 x 128 uses each 128
//! times, one of 128 x 64 each 85 times on average, one of 64 x 64 each 64 times. 132 is a constant (an H200's), not the device's count.
//!
//! So a wide tile is taken where there are many results, and a small one where the wide would leave most processors without work. A weight
//! gradient has few results, each a sum over all pixels: that is cut into parts until there are enough blocks, and the tile that brings
//! the fewest numbers for its results is the best.

use crate::tensor::DType;
use std::cell::Cell;
use std::fmt;

/// Processors of the GPU that the formula has in mind.
const PROCESSORS: usize = 132;

/// Rows and columns of results of a block; `kernels/mma_tile.cuh` has a kernel for each.
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
            Tile::Tall => 0.8,
            Tile::Small => 0.6,
        }
    }

    /// Shared memory of a block: four stages of 64 bytes of each row and column.
    pub(super) fn shared(self) -> usize {
        let (m, n) = self.sides();
        4 * 64 * (m + n)
    }

    /// Blocks that are to work at the same time where a sum is cut into parts: as many as all processors hold.
    pub(super) fn together(self) -> usize {
        PROCESSORS * if self == Tile::Small { 3 } else { 2 }
    }

    /// The tile for `layers` products of `rows` x `columns` results. Where their sums can be cut into `parts`, blocks are never too few.
    pub(super) fn of(rows: usize, columns: usize, layers: usize, parts: bool, dtype: DType) -> Tile {
        if let Some(tile) = CHOSEN.get() {
            return if tile == Tile::Wide && !dtype.is_half() { Tile::Tall } else { tile };
        }
        let time = |tile: Tile| {
            let (m, n) = tile.sides();
            let blocks = rows.div_ceil(m) * columns.div_ceil(n) * layers;
            let turns = if parts { blocks } else { blocks.div_ceil(PROCESSORS) };
            (turns * m * n) as f64 / tile.rate()
        };
        let fits = |tile: &Tile| dtype.is_half() || *tile != Tile::Wide;
        // Of equals the first, which is the largest.
        Tile::ALL.into_iter().filter(fits).min_by(|a, b| time(*a).total_cmp(&time(*b))).unwrap_or(Tile::Small)
    }
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
        let of = |rows, columns| Tile::of(rows, columns, 1, false, DType::BF16);
        assert_eq!(of(401_408, 64), Tile::Tall, "64 channels fill no wide tile");
        assert_eq!(of(100_352, 128), Tile::Wide);
        assert_eq!(of(25_088, 256), Tile::Wide, "392 tiles are 3 turns of 132, nearly full");
        assert_eq!(of(6_272, 512), Tile::Tall, "196 wide tiles would be 2 turns, the second one half empty");
        assert_eq!(of(64, 512), Tile::Small, "a classifier's head");
        assert_eq!(Tile::of(100_352, 128, 1, false, DType::F32), Tile::Tall);
        assert_eq!(Tile::of(128, 128, 9, true, DType::BF16), Tile::Wide, "parts make as many blocks as are wanted");
    }
}
