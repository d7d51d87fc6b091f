//! Decoded pictures that are kept, so that only the first epoch decodes.
//!
//! Decoding a JPEG of 500 x 375 takes about a millisecond, copying its decoded bytes some forty microseconds. What is kept is the
//! picture as the file has it, before any transform: a random crop stays random, and every byte is what it would have been
//! without the cache. Where a budget ends, the pictures that are left are decoded at each use, as before.
//!
//! | | kept in | for | costs |
//! |---|---|---|---|
//! | [`Cache::Ram`], [`Cache::Auto`] | memory (`ram.rs`) | this process | three bytes a pixel of memory, up to the budget |
//! | [`Cache::Disk`] | one file (`disk.rs`) | every later run too | the same on disk; the system keeps in memory what is used, and takes it back when it must |
//!
//! In memory, files are read once: someone who changes a picture while a run goes on trains on what it was.

mod disk;
mod ram;

use super::OpenPicture;
use crate::Result;
use crate::device::cpu;
use crate::fs::size;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Whether, where and how much of decoded pictures is kept.
///
/// ```no_run
/// # use onecycle::{data::{CategoryBlock, Cache, DataBlock, parent_label}, vision::{ImageBlock, Resize}};
/// # fn main() -> onecycle::Result<()> {
/// let dls = DataBlock::new((ImageBlock, CategoryBlock))
///     .get_y(parent_label)
///     .item_tfms(Resize::new(460))
///     .cache(Cache::Disk { file: "flowers.pics".into(), budget: 20 << 30 })
///     .dataloaders("flowers")?;
/// println!("{}", dls.kept()); // 3670 decoded pictures are in flowers.pics (1.9 GiB), 3670 of them written now, in 3.1 s
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cache {
    /// Decode at every use.
    #[default]
    Off,
    /// Keep as many as fit into a quarter of the memory that is free when loading starts; 1 GiB where that isn't known.
    Auto,
    /// Keep as many in memory as fit into so many bytes.
    Ram(usize),
    /// Keep them in a file, which later runs find again.
    Disk {
        /// The file; made when it isn't there, completed when pictures are missing from it.
        file: PathBuf,
        /// How many bytes it may have.
        budget: u64,
    },
}

impl Cache {
    /// Something that opens pictures as `inner` does, and remembers. A file of pictures is read or written here, with the threads
    /// of `pool`; `paths` are all that will be asked for.
    ///
    /// # Errors
    /// The file can't be written.
    pub(super) fn around(
        &self,
        inner: Arc<dyn OpenPicture>,
        paths: &[&Path],
        pool: &rayon::ThreadPool,
    ) -> Result<(Arc<dyn OpenPicture>, Kept)> {
        let budget = match self {
            Cache::Off => return Ok((inner, Kept::Nothing)),
            Cache::Disk { file, budget } => return disk::around(inner, file, *budget, paths, pool),
            Cache::Auto => cpu::memory().map_or(1 << 30, |(free, _)| free / 4),
            Cache::Ram(bytes) => *bytes,
        };
        Ok((ram::around(inner, budget), Kept::InMemory { budget: budget as u64 }))
    }
}

/// What became of a [`Cache`]: [`DataLoaders::kept`](super::DataLoaders::kept). Its text is for people.
#[derive(Clone, Debug, PartialEq)]
pub enum Kept {
    /// Pictures are decoded at every use.
    Nothing,
    /// They stay in memory after their first use.
    InMemory {
        /// Bytes at most.
        budget: u64,
    },
    /// They are in a file.
    OnDisk {
        /// Which.
        file: PathBuf,
        /// Its size in bytes.
        bytes: u64,
        /// Of the data set's pictures those that are in it.
        pictures: usize,
        /// How many of them had to be decoded now.
        decoded: usize,
        /// Pictures that it had no room for: its budget was used up.
        left_out: usize,
        /// How long it took to find or to make the file.
        seconds: f64,
    },
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kept::Nothing => f.write_str("pictures are decoded at every use"),
            Kept::InMemory { budget } if *budget > u64::MAX / 4 => f.write_str("decoded pictures stay in memory"),
            Kept::InMemory { budget } => {
                write!(f, "decoded pictures stay in memory, as far as {} go", size(*budget))
            }
            Kept::OnDisk { file, bytes, pictures, decoded, left_out, seconds } => {
                write!(f, "{pictures} decoded pictures are in {} ({})", file.display(), size(*bytes))?;
                if *decoded > 0 {
                    write!(f, ", {decoded} of them written now, in {seconds:.1} s")?;
                }
                match left_out {
                    0 => Ok(()),
                    n => write!(f, "; {n} had no room in it and are decoded at every use"),
                }
            }
        }
    }
}
