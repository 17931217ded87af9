//! What objects of a cluster say about sessions and owners. No decision depends on it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::core::api::ObjectName;
use crate::core::api::bgp_session::{AllSessions, BgpSessionStatus, BgpState, statuses};
use crate::core::owners::{Owner, Owners};

/// What the objects say. The default: nothing was looked at.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    /// The statuses of BGPSessions, by node and BGPPeer. One with `peerNetwork` has several. None:
    /// they are not known, so that sessions are not explained.
    sessions: Option<BTreeMap<String, BTreeMap<String, Vec<BgpSessionStatus>>>>,
    /// The owners of addresses by layer 2. None: not looked at.
    owners: Option<Owners>,
}

/// What is known about the session of a node with a BGPPeer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Session<'a> {
    /// A router has the routes.
    Established(&'a BgpSessionStatus),
    /// No router has them.
    Down(&'a BgpSessionStatus),
    /// No process observes the session.
    Unknown(&'a BgpSessionStatus),
    /// There is no BGPSession.
    Missing,
}

impl Observed {
    /// The statuses of all BGPSessions. Without any, sessions are not explained: a watch has not
    /// listed them yet, or can't.
    pub(crate) fn of_sessions(sessions: &AllSessions) -> Self {
        let mut observed = Self::default();
        for status in sessions.values() {
            observed.add_session(status.clone());
        }
        observed
    }

    fn add_session(&mut self, status: BgpSessionStatus) {
        let sessions = self.sessions.get_or_insert_default();
        let of_node = sessions.entry(status.node.clone()).or_default();
        let of_peer = of_node.entry(status.peer.clone()).or_default();
        of_peer.push(status);
    }

    /// Adds BGPSessions. Returns the names of those that can't be read.
    pub(crate) fn add_sessions(&mut self, objects: &[Value]) -> Vec<String> {
        self.sessions.get_or_insert_default();
        let (statuses, invalid) = statuses(objects);
        for status in statuses {
            self.add_session(status);
        }
        invalid
    }

    /// Sets the owners of addresses by layer 2.
    pub(crate) fn set_owners(&mut self, owners: Owners) {
        self.owners = Some(owners);
    }

    /// Whether the state of sessions is known.
    pub(super) const fn has_sessions(&self) -> bool {
        self.sessions.is_some()
    }

    /// The session of a node with a BGPPeer, of several the best one. None: sessions are not known.
    pub(super) fn session(&self, node: &str, peer: &str) -> Option<Session<'_>> {
        let of_node = self.sessions.as_ref()?.get(node);
        let of_peer = of_node.and_then(|peers| peers.get(peer));
        let all = || of_peer.into_iter().flatten();
        let newest = |wanted: fn(BgpState) -> bool| {
            let of_state = all().filter(|status| wanted(status.bgp));
            of_state.max_by(|one, other| one.since.cmp(&other.since))
        };
        let established = newest(|state| state == BgpState::Established);
        let known = || newest(|state| state != BgpState::Unknown);
        let found = established.map(Session::Established);
        let found = found.or_else(|| known().map(Session::Down));
        let found = found.or_else(|| newest(|_| true).map(Session::Unknown));
        Some(found.unwrap_or(Session::Missing))
    }

    /// The nodes that own addresses of a service by layer 2. None: not looked at.
    pub(super) fn owners(&self, service: &ObjectName) -> Option<&[Owner]> {
        let owners = self.owners.as_ref()?;
        Some(owners.get(service).map_or(&[], Vec::as_slice))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn session(node: &str, address: &str, state: &str) -> Value {
        json!({ "metadata": { "name": format!("{node}.tor") }, "status": {
            "node": node, "peer": "tor", "address": address, "bgp": state,
            "since": "2026-01-01T00:00:00Z", "prefixesSent": 1,
        }})
    }

    #[test]
    fn the_best_session_with_the_routers_of_a_peer_counts_and_a_missing_one_is_no_unknown_one() {
        let mut observed = Observed::default();
        assert_eq!(observed.session("a", "tor"), None);
        let invalid = observed.add_sessions(&[
            session("a", "10.0.0.1", "Active"),
            session("a", "10.0.0.2", "Established"),
            session("b", "10.0.0.1", "Unknown"),
            session("c", "10.0.0.1", "Unknown"),
            session("c", "10.0.0.2", "Idle"),
            json!({ "metadata": { "name": "odd" }, "status": { "bgp": 7 } }),
        ]);
        assert_eq!(invalid, ["odd"]);
        let of = |node| observed.session(node, "tor").expect("sessions are known");
        assert!(matches!(of("a"), Session::Established(status) if status.address == "10.0.0.2"));
        assert!(matches!(of("b"), Session::Unknown(_)));
        assert!(matches!(of("c"), Session::Down(status) if status.bgp == BgpState::Idle));
        assert_eq!(of("d"), Session::Missing);
    }
}
