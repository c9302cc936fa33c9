//! Chores of the workspace, run as `cargo xtask TASK`.

fn main() {}
