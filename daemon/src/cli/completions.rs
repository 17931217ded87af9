//! `ferrolb completions` and `ferrolb man`: scripts for shells, and manual pages. Both follow from
//! the definition of the command line.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;
use super::output::print;

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  ferrolb completions bash > /etc/bash_completion.d/ferrolb
  ferrolb completions zsh > \"${fpath[1]}/_ferrolb\"
  ferrolb completions fish > ~/.config/fish/completions/ferrolb.fish";

#[derive(Debug, Args)]
#[command(after_help = COMPLETIONS_EXAMPLES)]
pub(super) struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  ferrolb man /usr/local/share/man/man1")]
pub(super) struct ManArgs {
    /// Folder for the pages, which is created if it doesn't exist.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

pub(super) fn completions(args: &CompletionsArgs) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "ferrolb", &mut script);
    print(&String::from_utf8(script)?)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn man(args: &ManArgs) -> anyhow::Result<ExitCode> {
    let folder = &args.folder;
    fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), folder))
        .with_context(|| format!("can't write manual pages to {}", folder.display()))?;
    Ok(ExitCode::SUCCESS)
}
