//! `ostler completions`

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;
use super::context::Context;
use super::exit::Exit;
use crate::model::ApiError;

const EXAMPLES: &str = "\
Examples:
  ostler completions bash > ~/.local/share/bash-completion/completions/ostler
  ostler completions zsh > ~/.zfunc/_ostler        with ~/.zfunc in fpath, before compinit
  ostler completions fish > ~/.config/fish/completions/ostler.fish

A shell that is started afterwards completes verbs and options. It needs no host.";

/// Print what makes a shell complete verbs and options
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The shell
    shell: Shell,
}

pub(super) fn execute(context: &mut Context<'_>, arguments: &Arguments) -> Result<Exit, ApiError> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "ostler", &mut script);
    context.out.write(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
