//! The `onecycle` program.

fn main() {}
