//! What the own routers show of other nodes' paths: the only view of other nodes' sessions that a node has.

use std::collections::{BTreeMap, HashSet};

use ferrolb_bgp::fsm::OtherPaths;
use ipnet::IpNet;

/// The routers with a session, by BGPPeer.
#[derive(Clone, Debug, Default)]
pub struct RouterPaths {
    routers: BTreeMap<String, Vec<OtherPaths>>,
}

impl RouterPaths {
    /// From what the BGP engine sees. Neighbours of a `peerNetwork` count as routers of its BGPPeer.
    pub fn new(seen: Vec<OtherPaths>) -> Self {
        let mut routers: BTreeMap<String, Vec<OtherPaths>> = BTreeMap::new();
        for router in seen {
            let peer = router.template.as_ref().unwrap_or(&router.peer);
            routers.entry(peer.clone()).or_default().push(router);
        }
        Self { routers }
    }

    /// After a drain's earlier view: a router that has lost its session since then will have no other path when it is back, until
    /// it shows one. Neighbours of a `peerNetwork` may be gone for good, and are left out.
    #[must_use]
    pub fn after(mut self, earlier: Self) -> Self {
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

    /// Whether a router of this BGPPeer shows that it has no path to the prefix but ours. A router
    /// that never sent back a prefix of ours of the same family shows nothing.
    pub fn lack(&self, peer: &str, prefix: &IpNet) -> bool {
        let mut routers = self.routers.get(peer).into_iter().flatten();
        routers.any(|router| router.has_only_ours(prefix))
    }
}
