//! What all commands have in common that ask a running daemon.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::Output;
use crate::runtime::serve::control::client::{AskError, Client};
use crate::runtime::serve::control::{DEFAULT_SOCKET, RejectedPeer, Request};

/// How often `-w` looks.
pub(super) const POLL: Duration = Duration::from_millis(500);

/// Whom to ask, and how to print the answer.
#[derive(Debug, Args)]
pub(super) struct AskArgs {
    /// The daemon's socket.
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
    /// Tables for people, JSON for programs.
    #[arg(short, long, value_enum, default_value_t)]
    pub(super) output: Output,
}

impl AskArgs {
    pub(super) fn connect(&self) -> Result<Client, AskError> {
        Client::connect(&self.socket)
    }
}

/// The BGPPeers that are refused. A daemon that is older than this question refuses none that it could tell of.
pub(super) fn refused(client: &mut Client) -> Result<Vec<RejectedPeer>, AskError> {
    match client.ask(&Request::Refused) {
        Err(AskError::Rejected(_)) => Ok(Vec::new()),
        answer => answer,
    }
}
