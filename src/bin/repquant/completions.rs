//! `repquant completions`.

use clap::CommandFactory;
use clap_complete::Shell;

use super::args::Cli;
use super::session::print;
use repquant::{Error, Result};

/// Prints the completions of `shell`.
pub(super) fn run(shell: Shell) -> Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "repquant", &mut text);
    let text = String::from_utf8(text).map_err(|e| Error::output("stdout", "completions are not text").because(e))?;
    print(&text)
}
