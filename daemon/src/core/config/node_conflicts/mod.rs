//! Where BGPPeers and nodes meet: what can't run on one node, though each object by itself is good.
//!
//! Judged node by node: selectors that never meet are fine, and a clash on one node takes nothing from the others.

use std::collections::{BTreeMap, BTreeSet};

use ferrolb_bgp::config::Remote;

use super::Config;
use super::peer::{BGP_PORT, Peer};
use crate::core::api::ObjectKey;
use crate::core::model::Node;

/// Why a BGPPeer that selects a node has no session there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConflictingPeer {
    /// The BGPPeer.
    pub object: ObjectKey,
    /// Field, what is wrong there, and the remedy.
    pub message: String,
}

/// The BGPPeers, by name, that select a node and are refused there. Of two that clash the older one stays, then the first
/// by name. `missing` are interfaces that BGPPeers name and the node is known not to have.
pub(crate) fn conflicts_on(
    config: &Config,
    node: &Node,
    missing: &BTreeSet<String>,
) -> BTreeMap<String, ConflictingPeer> {
    let selected = |peer: &&Peer| peer.nodes.matches(&node.labels);
    conflicts_among(config.peers.values().filter(selected), node, missing)
}

/// Those that are refused on whatever node there is: for manifests without one.
pub(crate) fn conflicts_on_every_node(config: &Config) -> BTreeMap<String, ConflictingPeer> {
    let everywhere = config.peers.values().filter(|peer| peer.nodes.is_empty());
    conflicts_among(everywhere, &Node::default(), &BTreeSet::new())
}

fn conflicts_among<'a>(
    peers: impl Iterator<Item = &'a Peer>,
    node: &Node,
    missing: &BTreeSet<String>,
) -> BTreeMap<String, ConflictingPeer> {
    let mut peers: Vec<&Peer> = peers.collect();
    peers.sort_by_key(|peer| (&peer.created, &peer.name));
    let mut refused = BTreeMap::new();
    let mut accepted: Vec<&Peer> = Vec::new();
    for peer in peers {
        let conflict = own_address(peer, node)
            .or_else(|| missing_interface(peer, missing))
            .or_else(|| same_router(peer, &accepted))
            .or_else(|| md5_shadowed_by_network(peer, &accepted));
        match conflict {
            Some(message) => {
                let object = peer.object.clone();
                refused.insert(peer.name.to_string(), ConflictingPeer { object, message });
            }
            None => accepted.push(peer),
        }
    }
    refused
}

/// Another speaker on the node itself is a neighbour like any other, if it has a port of its own.
fn own_address(peer: &Peer, node: &Node) -> Option<String> {
    let router = peer.session.remote.router()?;
    let own = router.port() == BGP_PORT && node.internal_ips.contains(&router.ip());
    own.then(|| {
        format!(
            "spec.peerAddress: {} is the node's own: give the router's, or, to another speaker on the node, its peerPort",
            router.ip()
        )
    })
}

/// Interfaces come and go: it is looked for again all the time.
fn missing_interface(peer: &Peer, missing: &BTreeSet<String>) -> Option<String> {
    let name = peer.session.transport.source_interface.as_ref()?;
    missing.contains(name).then(|| {
        format!(
            "spec.sourceInterface: there is no interface {name:?}: make it, name another (see ip link), or let \
             nodeSelectors leave the node out"
        )
    })
}

/// Two sessions between the same two ends are one too many: the router tells its neighbours apart by address. And the
/// kernel knows one MD5 key per address, and an incoming connection's other options depend on where it comes from alone.
fn same_router(peer: &Peer, accepted: &[&Peer]) -> Option<String> {
    let network = peer.session.remote.network();
    let mut others = accepted
        .iter()
        .filter(|other| other.session.remote.network() == network);
    others.find_map(|other| {
        let (ours, theirs) = (&peer.session.transport, &other.session.transport);
        let object = &other.object;
        let field = remote_field(peer);
        if ours.source_address == theirs.source_address && same_port(peer, other) {
            return Some(format!(
                "{field}: {object} has a session with {} from the same source: remove one, give one a \
                 sourceAddress, or let nodeSelectors part them",
                other.session.remote
            ));
        }
        let is_unknown = peer.password_unknown || other.password_unknown;
        let (differing, differs) = if ours.password != theirs.password && !is_unknown {
            ("spec.password", "password")
        } else if ours.ttl_security != theirs.ttl_security {
            ("spec.ttlSecurity", "ttlSecurity")
        } else if ours.source_interface != theirs.source_interface {
            ("spec.sourceInterface", "sourceInterface")
        } else {
            return None;
        };
        Some(format!(
            "{differing}: {object} has the same {} and another {differs}, or none: give both the same, or let \
             nodeSelectors part them",
            field.trim_start_matches("spec.")
        ))
    })
}

/// The kernel demands the MD5 key of a network from everybody in there who has none of their own: one that has no password
/// would never get through.
fn md5_shadowed_by_network(peer: &Peer, accepted: &[&Peer]) -> Option<String> {
    let has_password =
        |peer: &Peer| peer.password_unknown || peer.session.transport.password.is_some();
    let network = |peer: &Peer| peer.session.remote.network();
    let within = |inner: &Peer, outer: &Peer| {
        network(inner) != network(outer) && network(outer).contains(&network(inner))
    };
    let field = remote_field(peer);
    accepted.iter().find_map(|other| {
        let object = &other.object;
        let (theirs, remedy) = (other.session.remote, "or let nodeSelectors part them");
        if within(peer, other) && !has_password(peer) && has_password(other) {
            Some(format!(
                "spec.password: is missing, but {object} demands one of its peerNetwork {theirs}, in which this one lies: give \
                 this one a password as well, {remedy}"
            ))
        } else if within(other, peer) && has_password(peer) && !has_password(other) {
            Some(format!(
                "{field}: {theirs} of {object} lies in it and has no password: give that one a password as well, a \
                 peerNetwork without it, {remedy}"
            ))
        } else {
            None
        }
    })
}

/// What says who the neighbour is.
const fn remote_field(peer: &Peer) -> &'static str {
    match peer.session.remote {
        Remote::Router(_) => "spec.peerAddress",
        Remote::Network(_) => "spec.peerNetwork",
    }
}

/// Whoever is dialled may have a port of its own. Whoever dials us comes from any.
fn same_port(peer: &Peer, other: &Peer) -> bool {
    match (peer.session.dials(), other.session.dials()) {
        (Some(one), Some(two)) => one.port() == two.port(),
        _ => true,
    }
}

#[cfg(test)]
mod tests;
