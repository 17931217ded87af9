//! The commands about a whole cluster: `status` and `pools`, and `peers`, `routes` and `l2` where
//! they ask a cluster instead of the daemon on this host.

mod findings;
mod l2;
mod peers;
mod pools;
mod read;
mod routes;
mod status;
mod watch;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use self::read::{Reader, Seen};
use self::watch::{Lines, watch};
use super::output::{Style, json};
use super::world::WorldArgs;
use super::{Output, block_on};
use crate::core::printable::printable;
use crate::runtime::serve::control::client::AskError;

pub(super) use self::l2::run as run_l2;
pub(super) use self::peers::run as run_peers;
pub(super) use self::pools::{PoolsArgs, run as run_pools};
pub(super) use self::routes::run as run_routes;
pub(super) use self::status::{StatusArgs, run as run_status};

/// How the program was called. As a plugin of kubectl it asks the cluster that kubectl asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Invocation {
    /// As `ferrolb`.
    Own,
    /// As `kubectl-ferrolb`.
    Plugin,
}

/// The cluster, or manifests, that a command asks instead of the daemon on this host.
#[derive(Debug, Args)]
#[command(next_help_heading = "A cluster or manifests, instead of the daemon on this host")]
pub(super) struct InsteadArgs {
    #[command(flatten)]
    pub(super) world: WorldArgs,
}

impl Invocation {
    /// By the name of the program.
    pub(super) fn of(program: Option<&OsString>) -> Self {
        let name = program.and_then(|path| Path::new(path).file_name());
        if name.is_some_and(|name| name == "kubectl-ferrolb") {
            Self::Plugin
        } else {
            Self::Own
        }
    }
}

impl InsteadArgs {
    /// The rule of `peers`, `routes` and `l2`: they ask the daemon on this host, unless the
    /// arguments name a cluster or manifests, or kubectl called the program. A socket always means
    /// the daemon.
    pub(super) const fn is_meant(&self, invocation: Invocation, names_socket: bool) -> bool {
        self.world.is_given() || (matches!(invocation, Invocation::Plugin) && !names_socket)
    }
}

/// An error of the control socket, which proposes to ask the cluster if no daemon listens.
pub(super) fn or_cluster(error: AskError, command: &str) -> anyhow::Error {
    if matches!(error, AskError::NoDaemon { .. }) {
        return anyhow::anyhow!(
            "{error}; or ask a whole cluster through its API server: ferrolb {command} --context \
             NAME, or kubectl ferrolb {command}"
        );
    }
    error.into()
}

/// A question about a cluster.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    /// What is asked.
    pub(super) world: &'a WorldArgs,
    /// The form of the answer.
    pub(super) output: Output,
    /// Whether to print what changes.
    pub(super) watch: bool,
}

/// An answer: the page for people, for programs, and its lines.
trait Answer {
    /// Prints it for people.
    fn print(&self, seen: &Seen, style: Style) -> Result<()>;
    /// Prints it as JSON.
    fn print_json(&self, seen: &Seen) -> Result<()>;
    /// The parts that `--watch` compares.
    fn lines(&self, seen: &Seen) -> Result<Lines>;
    /// The exit code.
    fn exit_code(&self, _: &Seen) -> ExitCode {
        ExitCode::SUCCESS
    }
}

/// Reads the cluster, and prints the answer.
fn answer(question: Question<'_>, answer: &impl Answer) -> Result<ExitCode> {
    block_on(async {
        let mut reader = Reader::new(question.world).await?;
        let seen = reader.read().await?;
        for line in &seen.overview.unseen {
            eprintln!("ferrolb: can't see {}", printable(line));
        }
        match question.output {
            Output::Table => answer.print(&seen, Style::stdout())?,
            Output::Json if question.watch => {}
            Output::Json => answer.print_json(&seen)?,
        }
        if question.watch {
            watch(&mut reader, &seen, question.output, answer).await?;
        }
        Ok(answer.exit_code(&seen))
    })
}

/// A list as JSON.
fn json_list<T: serde::Serialize>(items: &[T]) -> Result<()> {
    json(&items)
}

#[cfg(test)]
mod tests;
