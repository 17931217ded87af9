//! `ferrolb l2`: which node announces which address by layer 2, as a running daemon knows it, and
//! moves of addresses.

mod actions;
mod detail;
mod table;
mod watch;
mod words;

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use self::actions::{MoveArgs, RebalanceArgs, TestArgs};
use super::Output;
use super::cluster::{InsteadArgs, Invocation, Question, or_cluster, run_l2};
use super::output::{Style, json, print};
use crate::runtime::serve::control::client::{AskError, Client};
use crate::runtime::serve::control::layer2::{IDLE, Layer2Status};
use crate::runtime::serve::control::{DEFAULT_SOCKET, LAYER2_SOCKET, Request};

const EXAMPLES: &str = "\
Examples:
  ferrolb l2                            all addresses, neighbors and interfaces
  ferrolb l2 -w                         and print changes until interrupted
  ferrolb l2 203.0.113.10               one address: candidates, last moves, self-test
  ferrolb l2 move 203.0.113.10 node-b   move it to a node
  ferrolb l2 rebalance --dry-run        show the moves that even out the nodes
  ferrolb l2 test 203.0.113.10          let another node resolve it
  ferrolb l2 -o json | jq '.addresses | map_values(.owner)'
  ferrolb l2 --context prod             all addresses of a cluster, by its API server: candidates,
                                        and owners as far as Events and ServiceL2Status name them
  kubectl ferrolb l2                    the same, of the current context

In a cluster, on one node:
  kubectl exec -n metallb-system ferrolb-layer2-x7k2p -- /ferrolb l2

It asks the daemon on this host, unless --kubeconfig, --context or -f is given or the program is
called kubectl-ferrolb: then it asks the cluster. move, rebalance and test always ask the daemon.

Exits with 1 if the daemon does not answer, or a move or self-test fails.";

/// How to ask a daemon in a Pod.
const EXEC: &str = "ds/ferrolb-layer2 -- /ferrolb l2";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(super) struct L2Args {
    #[command(subcommand)]
    action: Option<Action>,
    /// Only this address, with its candidates and last moves.
    #[arg(value_name = "ADDRESS")]
    address: Option<IpAddr>,
    #[command(flatten)]
    ask: L2AskArgs,
    /// Keep running, and print what changes.
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    instead: InsteadArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Move an address to a node, and wait until that node announces it.
    Move(MoveArgs),
    /// Move as few addresses as possible, one after the other, so that equal nodes announce equally
    /// many.
    Rebalance(RebalanceArgs),
    /// Let another node resolve an address, and print which Ethernet addresses answer.
    Test(TestArgs),
}

/// Selects the daemon and the output format.
#[derive(Debug, Args)]
struct L2AskArgs {
    /// Path of the daemon's control socket. [default: the first of /run/ferrolb/layer2.sock and
    /// /run/ferrolb/ferrolb.sock on which a daemon listens]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Output format: tables for people or JSON for programs.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

impl L2AskArgs {
    fn connect(&self) -> Result<Client, AskError> {
        match &self.socket {
            Some(path) => Client::connect(path),
            None => Client::connect_any(LAYER2_SOCKET.as_ref(), &[DEFAULT_SOCKET.as_ref()]),
        }
        .map_err(|error| match error {
            AskError::NoDaemon { path, .. } => AskError::NoDaemon {
                path,
                example: EXEC,
            },
            error => error,
        })
    }
}

pub(super) fn run(args: &L2Args, invocation: Invocation) -> anyhow::Result<ExitCode> {
    match &args.action {
        Some(Action::Move(args)) => actions::run_move(args),
        Some(Action::Rebalance(args)) => actions::run_rebalance(args),
        Some(Action::Test(args)) => actions::run_test(args),
        None if args.instead.is_meant(invocation, args.ask.socket.is_some()) => {
            let question = Question {
                world: &args.instead.world,
                output: args.ask.output,
                watch: args.watch,
            };
            run_l2(question, args.address)
        }
        None => show(args),
    }
}

fn show(args: &L2Args) -> anyhow::Result<ExitCode> {
    let client = args.ask.connect();
    let mut client = client.map_err(|error| or_cluster(error, "l2"))?;
    let first = status(&mut client, args.address)?;
    match (args.ask.output, &first) {
        (Output::Json, status) if !args.watch => json(status)?,
        (Output::Json, _) => {}
        (Output::Table, None) => print(&format!("{IDLE}\n"))?,
        (Output::Table, Some(status)) => print(&match args.address {
            Some(address) => detail::text(status, address, Style::stdout()),
            None => table::text(status, Style::stdout()),
        })?,
    }
    if args.watch {
        watch::run(&mut client, args.address, args.ask.output, first)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The status, or that of one address. None if the engine is idle.
fn status(client: &mut Client, address: Option<IpAddr>) -> Result<Option<Layer2Status>, AskError> {
    client.ask(&Request::L2 { address })
}

#[cfg(test)]
mod tests;
