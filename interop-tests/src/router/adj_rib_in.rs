//! Adj-RIB-In of a peer, rebuilt from the events of a router without a table of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::RouteEntry;

/// State of one peer.
#[derive(Debug, Default)]
pub(super) struct AdjRibIn {
    pub(super) established: bool,
    /// Number of sessions established so far.
    pub(super) sessions: u64,
    /// Number of UPDATEs received.
    pub(super) updates: u64,
    /// The current routes.
    pub(super) routes: BTreeMap<IpNet, RouteEntry>,
}

/// The Established peers, each with the number of its session.
pub(super) fn sessions(peers: BTreeMap<IpAddr, AdjRibIn>) -> BTreeMap<IpAddr, String> {
    peers
        .into_iter()
        .filter(|(_, peer)| peer.established)
        .map(|(address, peer)| (address, format!("session {}", peer.sessions)))
        .collect()
}

/// The current routes of all peers.
pub(super) fn table(peers: BTreeMap<IpAddr, AdjRibIn>) -> BTreeSet<RouteEntry> {
    let peers = peers.into_values();
    peers.flat_map(|peer| peer.routes.into_values()).collect()
}
