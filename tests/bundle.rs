//! The tests in which a GPU takes part, as one program for machines that build nothing; scripts/gpu-bundle.sh packs it.
//!
//! Each program of tests carries the kernels and the emulator, so one of 11 MB is packed instead of six. `cargo test` leaves it out:
//! it has the same tests under their own names.

// Each of these files also is a program of its own, and so brings what it shares with the others itself.
#![allow(clippy::duplicate_mod)]

#[path = "parity_augment.rs"]
mod augment;
#[path = "emulator_fused.rs"]
mod fused;
#[path = "graph.rs"]
mod graph;
#[path = "parity_networks.rs"]
mod networks;
#[path = "emulator.rs"]
mod operations;
#[path = "ptx_selftest.rs"]
mod primitives;
#[path = "parity_pytorch.rs"]
mod pytorch;
#[path = "resume.rs"]
mod resume;
#[path = "emulator_training.rs"]
mod training;
