//! From a folder to batches of bytes: DataBlock, blocks, getters, labellers, splitters, loaders.

mod picture;

pub use picture::Picture;
