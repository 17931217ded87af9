//! `ferrolb probe`: the probes of a Pod whose port another Pod of the node may share.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::runtime::serve::control::client::Client;
use crate::runtime::serve::control::{DEFAULT_SOCKET, Request};
use crate::runtime::status::Probe;

#[derive(Debug, Args)]
pub(super) struct ProbeArgs {
    /// Which probe.
    #[arg(value_enum)]
    probe: Probe,
    /// Path of the daemon's control socket.
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
}

pub(super) fn run(args: &ProbeArgs) -> anyhow::Result<ExitCode> {
    let request = Request::Probe { probe: args.probe };
    Client::connect(&args.socket)?.ask::<()>(&request)?;
    println!("ok");
    Ok(ExitCode::SUCCESS)
}
