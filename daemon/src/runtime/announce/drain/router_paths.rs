//! A node's view of other nodes' sessions: the paths that routers send back, and the BGPSession
//! objects of those nodes.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use ferrolb_bgp::fsm::OtherPaths;
use ipnet::IpNet;

use crate::runtime::source::bgp_sessions::SessionStates;

/// The paths of routers with a session, by BGPPeer, and the sessions of other nodes.
#[derive(Clone, Debug, Default)]
pub struct RouterPaths {
    routers: BTreeMap<String, Vec<OtherPaths>>,
    sessions: Arc<SessionStates>,
}

impl RouterPaths {
    /// Groups what the BGP engine received. Dynamic neighbors count as routers of their
    /// `peerNetwork`'s BGPPeer.
    pub fn new(seen: Vec<OtherPaths>, sessions: Arc<SessionStates>) -> Self {
        let mut routers: BTreeMap<String, Vec<OtherPaths>> = BTreeMap::new();
        for router in seen {
            let peer = router.template.as_ref().unwrap_or(&router.peer);
            routers.entry(peer.clone()).or_default().push(router);
        }
        Self { routers, sessions }
    }

    /// Merges the previous view of this drain: a router that lost its session since then counts as
    /// having no other path until it sends one. Dynamic neighbors may be gone for good and are left
    /// out.
    #[must_use]
    pub fn with_earlier(mut self, earlier: Self) -> Self {
        for (peer, routers) in earlier.routers {
            let configured = routers.into_iter().filter(|r| r.template.is_none());
            let without = configured.map(|router| OtherPaths {
                prefixes: HashSet::new(),
                ..router
            });
            self.routers
                .entry(peer)
                .or_insert_with(|| without.collect());
        }
        self
    }

    /// Whether a router of this BGPPeer has no path to the prefix except ours. A router that never
    /// sent back one of our prefixes of this family is assumed to have one.
    pub fn lacks_other_path(&self, peer: &str, prefix: &IpNet) -> bool {
        let mut routers = self.routers.get(peer).into_iter().flatten();
        routers.any(|router| router.has_only_ours(prefix))
    }

    /// Whether every router of this BGPPeer sends back a path of another node to the prefix,
    /// whatever the objects say.
    pub fn shows_other_path(&self, peer: &str, prefix: &IpNet) -> bool {
        let routers = self
            .routers
            .get(peer)
            .map(Vec::as_slice)
            .unwrap_or_default();
        !routers.is_empty()
            && routers
                .iter()
                .all(|router| router.prefixes.contains(prefix))
    }

    /// The sessions of other nodes.
    pub const fn sessions(&self) -> &Arc<SessionStates> {
        &self.sessions
    }
}
