//! The `repquant` command.

fn main() {}
