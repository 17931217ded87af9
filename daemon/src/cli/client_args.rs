//! Arguments shared by the commands that query a running daemon.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::Output;
use crate::runtime::serve::control::client::{AskError, Client};
use crate::runtime::serve::control::{DEFAULT_SOCKET, RejectedPeer, Request};

/// Poll interval of `--watch`.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Selects the daemon and the output format.
#[derive(Debug, Args)]
pub(super) struct AskArgs {
    /// Path of the daemon's control socket.
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
    /// Output format: tables for people or JSON for programs.
    #[arg(short, long, value_enum, default_value_t)]
    pub(super) output: Output,
}

impl AskArgs {
    pub(super) fn connect(&self) -> Result<Client, AskError> {
        Client::connect(&self.socket)
    }
}

/// The rejected BGPPeers. A daemon of a version without this request has none to report.
pub(super) fn rejected(client: &mut Client) -> Result<Vec<RejectedPeer>, AskError> {
    match client.ask(&Request::Refused) {
        Err(AskError::Rejected(_)) => Ok(Vec::new()),
        answer => answer,
    }
}
