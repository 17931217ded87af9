//! `ferrolb router-config`: the router's side of the sessions.

use std::process::ExitCode;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::output::print;
use super::world::WorldArgs;
use crate::core::printable::printable;
use crate::core::router_config::{Syntax, router_config};

const EXAMPLES: &str = "\
Examples:
  ferrolb router-config --for frr -f manifests/ > frr.conf
                                        the only router that the BGPPeers in a folder name
  ferrolb router-config --for bird --router 10.0.0.1
                                        one of the routers of a cluster
  ferrolb router-config --for eos --router 10.0.0.1 --router fd00::1
                                        a router with two addresses
  ferrolb router-config --for frr --router eth1
                                        the router at the other end of each node's eth1

It needs the BGPPeers, BFDProfiles, IPAddressPools, BGPAdvertisements and Nodes, and no Secret: the
configuration contains no password, but says where it is. What the syntax can't express is named in
a comment and on standard error, and the exit code is 1.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct RouterConfigArgs {
    /// The syntax of the configuration.
    #[arg(
        long = "for",
        value_name = "SYNTAX",
        value_parser = PossibleValuesParser::new(Syntax::ALL.map(Syntax::name))
            .try_map(|name| name.parse::<Syntax>())
    )]
    syntax: Syntax,
    /// The router: a peerAddress, an address in a peerNetwork, or the interface of an unnumbered
    /// BGPPeer. Several times if the router has several. Default: the only router.
    #[arg(long, value_name = "ADDRESS")]
    router: Vec<String>,
    #[command(flatten)]
    world: WorldArgs,
}

pub(super) fn run(args: &RouterConfigArgs) -> anyhow::Result<ExitCode> {
    let objects = args.world.read_objects()?;
    for line in &objects.unseen {
        eprintln!("ferrolb: can't see {}", printable(line));
    }
    let config = router_config(&objects.index, &args.router, args.syntax)?;
    print(&config.text)?;
    for line in &config.left_out {
        eprintln!("ferrolb: not configured: {}", printable(line));
    }
    for line in &config.remarks {
        eprintln!("ferrolb: note: {}", printable(line));
    }
    Ok(if config.left_out.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests;
