//! `ostler completions`

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;
use super::context::Context;
use super::exit::Exit;
use ostler_protocol::ApiError;

const EXAMPLES: &str = "\
Examples:
  mkdir -p ~/.local/share/bash-completion/completions
  ostler completions bash > ~/.local/share/bash-completion/completions/ostler

  mkdir -p ~/.config/fish/completions
  ostler completions fish > ~/.config/fish/completions/ostler.fish

  mkdir -p ~/.zfunc
  ostler completions zsh > ~/.zfunc/_ostler         # ~/.zfunc must be in fpath, before compinit

New shells complete commands, options and fixed values, and in bash, zsh and fish also providers, \
runs, conversations, profiles, settings and files. No host is started for that.";

/// Print a shell completion script
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Shell
    shell: Shell,
}

pub(super) fn execute(context: &mut Context<'_>, arguments: &Arguments) -> Result<Exit, ApiError> {
    let script = match arguments.shell {
        Shell::Bash => include_str!("complete/ostler.bash").to_owned(),
        Shell::Fish => include_str!("complete/ostler.fish").to_owned(),
        Shell::Zsh => include_str!("complete/ostler.zsh").to_owned(),
        // These generated scripts complete only commands, options and fixed values.
        shell => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "ostler", &mut script);
            String::from_utf8_lossy(&script).into_owned()
        }
    };
    context.out.write(&script)?;
    Ok(Exit::Done)
}
