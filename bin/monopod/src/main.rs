//! The `monopod` program: arguments and wiring, one subcommand per part.

fn main() {}
