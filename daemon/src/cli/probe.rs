//! `ferrolb probe`: the probes of a Pod whose port another Pod may share or occupy.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::runtime::serve::control::client::Client;
use crate::runtime::serve::control::{ALLOCATOR_SOCKET, DEFAULT_SOCKET, LAYER2_SOCKET, Request};
use crate::runtime::status::Probe;

#[derive(Debug, Args)]
pub(super) struct ProbeArgs {
    /// Which probe.
    #[arg(value_enum)]
    probe: Probe,
    /// Path of the daemon's control socket. [default: the first of /run/ferrolb/ferrolb.sock,
    /// /run/ferrolb/layer2.sock and /run/ferrolb/allocator.sock on which a daemon listens]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

pub(super) fn run(args: &ProbeArgs) -> anyhow::Result<ExitCode> {
    let request = Request::Probe { probe: args.probe };
    let mut client = match &args.socket {
        Some(path) => Client::connect(path)?,
        None => {
            let others = [LAYER2_SOCKET.as_ref(), ALLOCATOR_SOCKET.as_ref()];
            Client::connect_any(DEFAULT_SOCKET.as_ref(), &others)?
        }
    };
    client.ask::<()>(&request)?;
    println!("ok");
    Ok(ExitCode::SUCCESS)
}
