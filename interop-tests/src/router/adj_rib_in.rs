//! What the output of a program without a table of its own adds up to, peer by peer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::RouteEntry;

/// One peer.
#[derive(Debug, Default)]
pub(super) struct Peer {
    pub(super) established: bool,
    /// How many sessions there were.
    pub(super) sessions: u64,
    /// UPDATEs that were told.
    pub(super) updates: u64,
    pub(super) routes: BTreeMap<IpNet, RouteEntry>,
}

/// The sessions that are up, each with a name of its own.
pub(super) fn sessions(peers: BTreeMap<IpAddr, Peer>) -> BTreeMap<IpAddr, String> {
    peers
        .into_iter()
        .filter(|(_, peer)| peer.established)
        .map(|(address, peer)| (address, format!("number {}", peer.sessions)))
        .collect()
}

/// All routes that were told and not taken back.
pub(super) fn table(peers: BTreeMap<IpAddr, Peer>) -> BTreeSet<RouteEntry> {
    let peers = peers.into_values();
    peers.flat_map(|peer| peer.routes.into_values()).collect()
}
