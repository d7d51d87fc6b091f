//! The benches that a GPU is measured with, as one program for machines that build nothing; scripts/gpu-bundle.sh packs it.
//!
//! `ONECYCLE_BENCH=step` or `ONECYCLE_BENCH=ops` says which of them it is.

// Each of these files also is a program of its own, and so brings what it shares with the others itself.
#![allow(clippy::duplicate_mod)]

#[path = "ops.rs"]
mod ops;
#[path = "step.rs"]
mod step;

fn main() -> onecycle::Result<()> {
    match std::env::var("ONECYCLE_BENCH").as_deref() {
        Ok("step") => step::main(),
        Ok("ops") => ops::main(),
        _ => {
            eprintln!("ONECYCLE_BENCH is neither `step` nor `ops`");
            std::process::exit(2);
        }
    }
}
