//! Detects BGPPeers that are valid alone but conflict on one node.
//!
//! Each node is checked separately: peers whose selectors share no node don't conflict, and a
//! conflict on one node has no effect on others.

use std::collections::{BTreeMap, BTreeSet};

use ferrolb_bgp::config::Remote;
use ferrolb_bgp::fsm::{SharedOption, different_options, have_same_session, is_within};
use ipnet::IpNet;

use super::Config;
use super::peer::{BGP_PORT, Peer};
use crate::core::api::ObjectKey;
use crate::core::model::Node;

/// A BGPPeer that selects a node but has no session there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConflictingPeer {
    /// The BGPPeer.
    pub object: ObjectKey,
    /// The field, what is wrong with it, and the remedy.
    pub message: String,
}

/// The BGPPeers that conflict on every node, for manifests without nodes.
pub(crate) fn conflicts_on_every_node(config: &Config) -> BTreeMap<String, ConflictingPeer> {
    let everywhere = config.peers.values().filter(|peer| peer.nodes.is_empty());
    conflicts_among(everywhere, &Node::default(), &BTreeSet::new())
}

/// Of the BGPPeers that select a node, those, by name, that can't run there. Of two that conflict
/// the older one runs, or the first by name. `missing` are the interfaces that BGPPeers name and
/// the node doesn't have.
pub(crate) fn conflicts_among<'a>(
    peers: impl Iterator<Item = &'a Peer>,
    node: &Node,
    missing: &BTreeSet<String>,
) -> BTreeMap<String, ConflictingPeer> {
    let mut peers: Vec<&Peer> = peers.collect();
    peers.sort_by_key(|peer| (&peer.created, &peer.name));
    let mut conflicts = BTreeMap::new();
    let mut accepted: Vec<&Peer> = Vec::new();
    for peer in peers {
        let conflict = own_address(peer, node)
            .or_else(|| missing_interface(peer, missing))
            .or_else(|| same_router(peer, &accepted))
            .or_else(|| md5_shadowed_by_network(peer, &accepted));
        match conflict {
            Some(message) => {
                let object = peer.object.clone();
                conflicts.insert(peer.name.to_string(), ConflictingPeer { object, message });
            }
            None => accepted.push(peer),
        }
    }
    conflicts
}

/// Another BGP speaker on the node is a valid peer, if it has a port of its own.
fn own_address(peer: &Peer, node: &Node) -> Option<String> {
    let router = peer.session.remote.router()?;
    let own = router.port() == BGP_PORT && node.internal_ips.contains(&router.ip());
    own.then(|| {
        format!(
            "spec.peerAddress: {} is an address of this node: set the router's address or, for \
             another BGP speaker on this node, its peerPort",
            router.ip()
        )
    })
}

/// Interfaces come and go, so the caller checks for them repeatedly.
fn missing_interface(peer: &Peer, missing: &BTreeSet<String>) -> Option<String> {
    // The engine follows the interface of an unnumbered peer, and its status says what is missing.
    let numbered = !peer.session.remote.is_unnumbered();
    let name = peer.session.transport.source_interface.as_ref();
    let name = name.filter(|_| numbered)?;
    missing.contains(name).then(|| {
        format!(
            "spec.sourceInterface: interface {name:?} does not exist: create it, name another one \
             (see ip link), or exclude this node with nodeSelectors"
        )
    })
}

/// Two peers with the same remote address conflict if they have the same source address, because
/// the router distinguishes neighbors by address. They also conflict if their connection options
/// differ: the kernel has one MD5 key per remote address, and the other options of an incoming
/// connection depend on the remote address alone.
fn same_router(peer: &Peer, accepted: &[&Peer]) -> Option<String> {
    accepted.iter().find_map(|other| {
        let object = &other.object;
        let field = remote_field(peer);
        let same = have_same_session(&peer.session, &other.session);
        if same && chosen_source(peer) == chosen_source(other) {
            return Some(format!(
                "{field}: conflicts with {object}, which has a session with {} from the same \
                 source address: remove one, set another sourceAddress on one, or use \
                 nodeSelectors to run them on different nodes",
                other.session.address_text()
            ));
        }
        let is_unknown = peer.password_unknown || other.password_unknown;
        let option = different_options(&peer.session, &other.session)
            .find(|option| *option != SharedOption::Password || !is_unknown)?;
        let (differing, differs) = match option {
            SharedOption::Password => ("spec.password", "password"),
            SharedOption::TtlSecurity => ("spec.ttlSecurity", "ttlSecurity"),
            SharedOption::SourceInterface => ("spec.sourceInterface", "sourceInterface"),
        };
        Some(format!(
            "{differing}: conflicts with {object}, which has the same {} but another {differs} or \
             none: set the same {differs} on both, or use nodeSelectors to run them on different \
             nodes",
            field.trim_start_matches("spec.")
        ))
    })
}

/// The network from which the source address will be chosen, if it isn't known yet.
fn chosen_source(peer: &Peer) -> Option<IpNet> {
    let unknown = peer.session.transport.source_address.is_none();
    peer.source_network.filter(|_| unknown)
}

/// The kernel requires the MD5 key of a network from every address in it that has no key of its
/// own. A peer in the network that has no password could never connect.
fn md5_shadowed_by_network(peer: &Peer, accepted: &[&Peer]) -> Option<String> {
    let has_password =
        |peer: &Peer| peer.password_unknown || peer.session.transport.password.is_some();
    let within = |inner: &Peer, outer: &Peer| is_within(&inner.session, &outer.session);
    let field = remote_field(peer);
    accepted.iter().find_map(|other| {
        let object = &other.object;
        let (theirs, remedy) = (
            other.session.remote,
            "or use nodeSelectors to run them on \
            different nodes",
        );
        if within(peer, other) && !has_password(peer) && has_password(other) {
            Some(format!(
                "spec.password: is missing, but {object} requires a password in its peerNetwork \
                 {theirs}, which contains this peer: set a password here too, {remedy}"
            ))
        } else if within(other, peer) && has_password(peer) && !has_password(other) {
            Some(format!(
                "{field}: contains {theirs} of {object}, which has no password: set a password \
                 there too, exclude it from peerNetwork, {remedy}"
            ))
        } else {
            None
        }
    })
}

/// The field that identifies the neighbor.
const fn remote_field(peer: &Peer) -> &'static str {
    match peer.session.remote {
        Remote::Router(_) => "spec.peerAddress",
        Remote::Link(_) => "spec.interface",
        Remote::Network(_) => "spec.peerNetwork",
    }
}

#[cfg(test)]
mod tests;
