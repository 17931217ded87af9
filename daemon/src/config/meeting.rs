//! Where BGPPeers and nodes meet: what can't run on one node, though each object by itself is good.
//!
//! Judged node by node: selectors that never meet are fine, and a clash on one node takes nothing from the others.

use std::collections::BTreeMap;

use super::Config;
use super::peer::{BGP_PORT, Peer};
use crate::api::ObjectKey;
use crate::index::facts::Node;

/// Why a BGPPeer that selects a node has no session there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The BGPPeer.
    pub object: ObjectKey,
    /// Field, what is wrong there, and the remedy.
    pub message: String,
}

/// The BGPPeers, by name, that select a node and are refused there. Of two that clash the older one stays, then the first
/// by name.
pub fn refused(config: &Config, node: &Node) -> BTreeMap<String, Refusal> {
    let selected = config.peers.values();
    let mut peers: Vec<&Peer> = selected
        .filter(|peer| peer.nodes.matches(&node.labels))
        .collect();
    peers.sort_by_key(|peer| (&peer.created, &peer.name));
    let mut refused = BTreeMap::new();
    let mut accepted: Vec<&Peer> = Vec::new();
    for peer in peers {
        match own_address(peer, node).or_else(|| same_ends(peer, &accepted)) {
            Some(message) => {
                let object = peer.object.clone();
                refused.insert(peer.name.clone(), Refusal { object, message });
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

/// Two sessions between the same two ends are one too many: the router takes only one.
fn same_ends(peer: &Peer, accepted: &[&Peer]) -> Option<String> {
    let ends = |peer: &Peer| {
        let transport = &peer.session.transport;
        let source = (transport.source_address, transport.source_interface.clone());
        (peer.session.remote.to_string(), source)
    };
    let other = accepted.iter().find(|other| ends(other) == ends(peer))?;
    Some(format!(
        "spec.peerAddress: {} has a session with {} from the same source: remove one, give one a sourceAddress, or let \
         nodeSelectors part them",
        other.object, peer.session.remote
    ))
}

#[cfg(test)]
mod tests;
