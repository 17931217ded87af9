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
    print(&with_names(args.shell, String::from_utf8(script)?))?;
    Ok(ExitCode::SUCCESS)
}

/// Adds the names of objects, which the program itself lists.
fn with_names(shell: Shell, script: String) -> String {
    const FUNCTION: &str = "_ferrolb() {\n";
    match shell {
        Shell::Bash => script.replacen(FUNCTION, &format!("{FUNCTION}{BASH_NAMES}"), 1),
        Shell::Zsh => script.replacen(FUNCTION, &format!("{FUNCTION}{ZSH_NAMES}"), 1),
        Shell::Fish => script + FISH_NAMES,
        _ => script,
    }
}

const BASH_NAMES: &str = r#"    local names
    names=$("$1" complete-names -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    if [[ -n "$names" ]]; then
        mapfile -t COMPREPLY <<<"$names"
        return 0
    fi
"#;

const ZSH_NAMES: &str = r#"    local -a names
    names=(${(f)"$($words[1] complete-names -- "${(@)words[2,CURRENT]}" 2>/dev/null)"})
    if (( $#names )); then
        compadd -a names
        return
    fi
"#;

const FISH_NAMES: &str = r#"
function __ferrolb_names
    set -l words (commandline -opc) (commandline -ct)
    $words[1] complete-names -- $words[2..-1] 2>/dev/null
end
complete -c ferrolb -a '(__ferrolb_names)'
"#;

pub(super) fn man(args: &ManArgs) -> anyhow::Result<ExitCode> {
    let folder = &args.folder;
    fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), folder))
        .with_context(|| format!("can't write manual pages to {}", folder.display()))?;
    Ok(ExitCode::SUCCESS)
}
