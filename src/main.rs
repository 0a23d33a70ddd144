//! The `repquant` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    repquant::cli::main()
}
