//! One file for each subcommand. Each `run` takes checked settings and returns when its work is done, failed or stopped.

pub mod bench_loader;
pub mod chapter5;
pub mod check;
pub mod completions;
pub mod doctor;
pub mod download;
pub mod evaluate;
pub mod export;
pub mod interpret;
pub mod lr_find;
pub mod predict;
pub mod quickstart;
pub mod report;
pub mod show_batch;
pub mod summary;
pub mod train;
