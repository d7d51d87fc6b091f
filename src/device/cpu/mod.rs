//! The processor as a device: memory, threads and vectors.

pub mod buffer;
pub mod ceilings;
pub mod gemm;
pub mod machine;
pub mod simd;
pub mod threads;

pub use machine::{memory, model_name};
pub use threads::{PIECE, par_chunks_mut, par_chunks2_mut, par_for, set_threads, thread_count};
