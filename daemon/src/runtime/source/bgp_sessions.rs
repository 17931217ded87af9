//! BGPSession objects: their names and contents, and the channels about them between this process
//! and a source with an API server.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::status_objects::{
    StatusObjectsReceiver, StatusObjectsSender, hashed, label, node_owner,
};
use crate::core::api::Kind;
use crate::core::api::bgp_session::{BgpSessionStatus, BgpState, KIND, UnknownReason};

/// The label with the node's name.
pub(crate) const NODE_LABEL: &str = "ferrolb.io/node";
/// The label with the BGPPeer's name.
pub(crate) const PEER_LABEL: &str = "ferrolb.io/peer";
/// Maximum length of an object's name.
const MAX_NAME: usize = 253;

/// The name of the object about a session: NODE.PEER where that is a valid name and belongs to no
/// other session, else a readable form with a hash.
pub(crate) fn object_name(node: &str, peer: &str) -> String {
    // The last dot then separates the two.
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let name = format!("{node}.{peer}");
    if peer.chars().all(plain) && name.len() <= MAX_NAME {
        return name;
    }
    // No name of an object has a slash.
    hashed(&name, &format!("{node}/{peer}"), MAX_NAME)
}

/// The complete object, with a session's name for a peer: `session`. Its owner is the Node.
pub(crate) fn object(session: &str, owner_uid: &str, status: &BgpSessionStatus) -> Value {
    let BgpSessionStatus { node, peer, .. } = status;
    json!({
        "apiVersion": Kind::OWN_API_VERSION,
        "kind": KIND,
        "metadata": {
            "name": object_name(node, session),
            "labels": { NODE_LABEL: label(node), PEER_LABEL: label(peer) },
            "ownerReferences": [node_owner(node, owner_uid)],
        },
        "status": status,
    })
}

/// Which nodes may have a session, as the BGPSessions of other nodes say, by BGPPeer and node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionStates(BTreeMap<String, BTreeMap<String, bool>>);

impl SessionStates {
    /// From the statuses of objects.
    pub(crate) fn new<'a>(statuses: impl Iterator<Item = &'a BgpSessionStatus>) -> Self {
        let mut states: BTreeMap<String, BTreeMap<String, bool>> = BTreeMap::new();
        for status in statuses {
            let nodes = states.entry(status.peer.clone()).or_default();
            // Of several routers in the network of one BGPPeer, one is enough.
            *nodes.entry(status.node.clone()).or_default() |= may_be_established(status);
        }
        Self(states)
    }

    /// The BGPPeers that some nodes don't count as having a session with.
    pub(crate) fn peers_with_down(&self) -> impl Iterator<Item = &str> {
        let down = self
            .0
            .iter()
            .filter(|(_, nodes)| nodes.values().any(|up| !up));
        down.map(|(peer, _)| peer.as_str())
    }

    /// Whether a node counts as having no session with the routers of a BGPPeer. A missing object
    /// says nothing.
    pub(crate) fn is_down(&self, peer: &str, node: &str) -> bool {
        let nodes = self.0.get(peer);
        nodes.and_then(|nodes| nodes.get(node)) == Some(&false)
    }
}

/// Whether routes may rely on a session. After an announcer has ended by itself, its state says no
/// more than a missing object: it starts again. On a node that is not Ready it may be dead.
fn may_be_established(status: &BgpSessionStatus) -> bool {
    match status.bgp {
        BgpState::Established => true,
        BgpState::Unknown => status.unknown_reason != Some(UnknownReason::NodeNotReady),
        _ => false,
    }
}

/// The ends of the channels that the control loop and the announcer have. Without an API server
/// nothing is at the other ends.
#[derive(Debug)]
pub struct SessionChannels {
    /// The objects of this node. The announcer's end is taken from here once.
    pub(crate) objects: Option<StatusObjectsSender>,
    /// The nodes that are not Ready, if this process leads.
    pub(crate) unready: watch::Sender<Option<Arc<BTreeSet<String>>>>,
    /// The BGPPeers whose sessions with other nodes matter now. Usually none: to watch all sessions
    /// of a large cluster is expensive.
    pub(crate) wanted: watch::Sender<BTreeSet<String>>,
    /// The sessions with those BGPPeers.
    pub(crate) states: watch::Receiver<Arc<SessionStates>>,
}

/// The ends that the source has.
#[derive(Debug)]
pub(crate) struct SessionEnds {
    pub(crate) objects: StatusObjectsReceiver,
    pub(crate) unready: watch::Receiver<Option<Arc<BTreeSet<String>>>>,
    pub(crate) wanted: watch::Receiver<BTreeSet<String>>,
    pub(crate) states: watch::Sender<Arc<SessionStates>>,
}

/// Creates the channels.
pub(crate) fn session_channels() -> (SessionChannels, SessionEnds) {
    let (objects, received_objects) = watch::channel(None);
    let (unready, received_unready) = watch::channel(None);
    let (wanted, received_wanted) = watch::channel(BTreeSet::new());
    let (states_in, states) = watch::channel(Arc::default());
    let channels = SessionChannels {
        objects: Some(objects),
        unready,
        wanted,
        states,
    };
    let ends = SessionEnds {
        objects: received_objects,
        unready: received_unready,
        wanted: received_wanted,
        states: states_in,
    };
    (channels, ends)
}

impl SessionChannels {
    /// Channels of a source without an API server.
    #[must_use]
    pub fn unconnected() -> Self {
        session_channels().0
    }

    /// Says which nodes are not Ready; none if this process doesn't lead.
    pub(crate) fn set_unready(&self, nodes: Option<BTreeSet<String>>) {
        self.unready.send_if_modified(|old| {
            let changed = old.as_deref() != nodes.as_ref();
            if changed {
                *old = nodes.map(Arc::new);
            }
            changed
        });
    }

    /// Says whose sessions with other nodes matter now.
    pub(crate) fn want(&self, peers: BTreeSet<String>) {
        self.wanted.send_if_modified(|old| {
            let changed = *old != peers;
            *old = peers;
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_and_peer_has_one_valid_name() {
        assert_eq!(object_name("node1", "tor"), "node1.tor");
        assert_eq!(object_name("n.example.com", "tor-2"), "n.example.com.tor-2");
        // Both would be a.b.c.
        let (ours, theirs) = (object_name("a.b", "c"), object_name("a", "b.c"));
        assert_eq!(ours, "a.b.c");
        assert!(theirs.starts_with("a-b-c-"), "{theirs}");
        let neighbour = object_name("node1", "rack@FD00::7");
        assert!(neighbour.starts_with("node1-rack-fd00--7-"), "{neighbour}");
        assert_ne!(neighbour, object_name("node1", "rack@FD00::8"));
        let long = "n".repeat(250);
        let name = object_name(&long, "tor");
        assert_eq!(name.len(), MAX_NAME, "{name}");
        assert_eq!(name, object_name(&long, "tor"));
        assert_ne!(name, object_name(&long, "tor2"));
    }

    #[test]
    fn the_object_belongs_to_its_node() {
        let status = BgpSessionStatus {
            node: "node1".to_owned(),
            peer: "rack".to_owned(),
            ..BgpSessionStatus::default()
        };
        let object = object("rack@192.0.2.7", "u-1", &status);
        let metadata = &object["metadata"];
        let owner = json!([{"apiVersion": "v1", "kind": "Node", "name": "node1", "uid": "u-1"}]);
        assert_eq!(metadata["ownerReferences"], owner);
        let labels = json!({"ferrolb.io/node": "node1", "ferrolb.io/peer": "rack"});
        assert_eq!(metadata["labels"], labels);
        assert_eq!(object["status"]["bgp"], "Unknown");
        assert!(object["status"].get("bfd").is_none(), "{object}");
    }

    #[test]
    fn a_session_counts_as_down_if_its_object_says_so_or_the_node_is_not_ready() {
        let status = |node: &str, bgp| BgpSessionStatus {
            node: node.to_owned(),
            peer: "tor".to_owned(),
            bgp,
            ..BgpSessionStatus::default()
        };
        let unknown = |node: &str, reason| BgpSessionStatus {
            unknown_reason: Some(reason),
            ..status(node, BgpState::Unknown)
        };
        let statuses = [
            status("up", BgpState::Established),
            status("down", BgpState::Active),
            status("unknown", BgpState::Unknown),
            unknown("restarts", UnknownReason::AnnouncerEnded),
            unknown("not-ready", UnknownReason::NodeNotReady),
            // Two routers of one network.
            status("half", BgpState::Established),
            status("half", BgpState::Idle),
        ];
        let states = SessionStates::new(statuses.iter());
        for (node, down) in [
            ("up", false),
            ("down", true),
            ("unknown", false),
            ("restarts", false),
            ("not-ready", true),
            ("half", false),
            ("no-object", false),
        ] {
            assert_eq!(states.is_down("tor", node), down, "{node}");
        }
        assert!(!states.is_down("other", "down"));
    }
}
