//! Arguments shared by the commands that query a running daemon.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::Output;
use crate::core::api::duration::duration;
use crate::core::printable::printable;
use crate::runtime::serve::control::client::{AskError, Client};
use crate::runtime::serve::control::{DEFAULT_SOCKET, RejectedPeer, Request, WithheldLine};

/// Poll interval of `--watch`.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// A duration in an argument, as in manifests.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    match duration("", text) {
        Ok(Duration::ZERO) => Err("expected more than 0s".to_owned()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(error.message),
    }
}

/// Selects the daemon and the output format.
#[derive(Debug, Args)]
pub(super) struct AskArgs {
    /// Path of the daemon's control socket. [default: /run/ferrolb/ferrolb.sock]
    #[arg(long, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,
    /// Output format: tables for people or JSON for programs.
    #[arg(short, long, value_enum, default_value_t)]
    pub(super) output: Output,
}

impl AskArgs {
    pub(super) fn connect(&self) -> Result<Client, AskError> {
        let default = Path::new(DEFAULT_SOCKET);
        Client::connect(self.socket.as_deref().unwrap_or(default))
    }
}

/// At most this many services are printed one by one.
const MAX_WITHHELD: usize = 8;

/// Prints to standard error what is not announced yet, and why.
pub(super) fn print_withheld(client: &mut Client) -> Result<(), AskError> {
    let withheld = match client.ask::<Vec<WithheldLine>>(&Request::Withheld) {
        // A daemon of a version without this request has nothing to report.
        Err(AskError::Rejected(_)) => return Ok(()),
        answer => answer?,
    };
    for line in withheld.iter().take(MAX_WITHHELD) {
        eprintln!("{}", printable(&withheld_text(line)));
    }
    if let Some(more) = withheld
        .len()
        .checked_sub(MAX_WITHHELD)
        .filter(|more| *more > 0)
    {
        eprintln!("and {more} more services are not announced yet");
    }
    Ok(())
}

fn withheld_text(line: &WithheldLine) -> String {
    let subject = match &line.service {
        Some(service) => format!("{service} is not announced yet"),
        None => "nothing is announced yet".to_owned(),
    };
    format!("{subject}: {}: {}", line.reason, line.message)
}

/// The rejected BGPPeers. A daemon of a version without this request has none to report.
pub(super) fn rejected(client: &mut Client) -> Result<Vec<RejectedPeer>, AskError> {
    match client.ask(&Request::Refused) {
        Err(AskError::Rejected(_)) => Ok(Vec::new()),
        answer => answer,
    }
}
