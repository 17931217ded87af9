//! The pools, nodes, BGPPeers and sessions of a picture.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ferrolb_allocator::Pool;
use ferrolb_bgp::config::Remote;

use super::announcers::Counts;
use super::{Drawn, LinkShape, NodeShape, PeerShape, PoolShape, Usage};
use crate::core::allocate::pool_status::{assigned, in_use};
use crate::core::api::bgp_session::{AllSessions, BgpSessionStatus, BgpState};
use crate::core::config::peer::{BGP_PORT, Peer};
use crate::core::decide::Reason;
use crate::core::model::{Family, Node};

/// All but the services, and where each is in its list.
#[derive(Debug)]
pub(super) struct Topology<'a> {
    pub pools: Vec<PoolShape>,
    pub nodes: Vec<NodeShape>,
    pub peers: Vec<PeerShape>,
    pub links: Vec<LinkShape>,
    pub place_of_pool: BTreeMap<&'a str, usize>,
    pub place_of_node: BTreeMap<&'a str, usize>,
    pub place_of_peer: BTreeMap<&'a str, usize>,
}

impl<'a> Topology<'a> {
    pub(super) fn of(drawn: &Drawn<'a>) -> Self {
        let config = drawn.index.config();
        let pools = config.pools.iter();
        let names: BTreeSet<&str> = pools.map(Pool::name).collect();
        let nodes = drawn.index.nodes();
        let candidates = candidates(drawn);
        let counts = drawn.announcers.counts();
        let mut topology = Self {
            pools: pools_of(drawn, &names),
            nodes: Vec::new(),
            peers: config.peers.values().map(peer).collect(),
            links: Vec::new(),
            place_of_pool: places(names.iter().copied()),
            place_of_node: places(nodes.keys().map(String::as_str)),
            place_of_peer: places(config.peers.keys().map(String::as_str)),
        };
        for (place, (name, node)) in nodes.iter().enumerate() {
            let candidate = candidates.get(&**name).copied().unwrap_or_default();
            let prefixes = counts.get(place).map_or(0, |counts| counts.prefixes);
            let shape = shape(name, node, drawn.has_conditions);
            topology.nodes.push(NodeShape {
                prefixes,
                candidate,
                ..shape
            });
        }
        topology.links = topology.links_of(drawn, &counts);
        topology
    }

    fn links_of(&self, drawn: &Drawn<'a>, counts: &[Counts]) -> Vec<LinkShape> {
        let states = by_node_and_peer(drawn.sessions);
        let mut links = Vec::new();
        for (place, (name, node)) in drawn.index.nodes().iter().enumerate() {
            let counts = counts.get(place).map(|counts| &counts.by_peer);
            for peer in drawn.index.peers_on(name, node) {
                let count = counts.and_then(|counts| counts.get(&peer.name));
                let status = states.get(&(&**name, &*peer.name)).copied();
                links.push(LinkShape {
                    node: place,
                    peer: self.place_of_peer[&*peer.name],
                    prefixes: count.copied().unwrap_or_default(),
                    refused: None,
                    state: status.map(|status| format!("{:?}", status.bgp)),
                    error: status.and_then(error_of),
                    sent: status.map(|status| status.prefixes_sent),
                });
            }
            let conflicts = drawn.index.conflicting_peers(name).into_iter().flatten();
            for (peer, conflict) in conflicts {
                let Some(peer) = self.place_of_peer.get(&**peer) else {
                    continue;
                };
                links.push(LinkShape {
                    node: place,
                    peer: *peer,
                    prefixes: 0,
                    refused: Some(conflict.message.clone()),
                    state: None,
                    error: None,
                    sent: None,
                });
            }
        }
        links
    }
}

fn places<'a>(names: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, usize> {
    names
        .enumerate()
        .map(|(place, name)| (name, place))
        .collect()
}

/// The number of addresses that each node may own by layer 2.
fn candidates<'a>(drawn: &Drawn<'a>) -> BTreeMap<&'a str, usize> {
    let mut counts = BTreeMap::new();
    for spec in drawn.layer2.addresses().values() {
        for candidate in spec.candidates.iter() {
            *counts.entry(&*candidate.node).or_default() += 1;
        }
    }
    counts
}

fn pools_of(drawn: &Drawn<'_>, names: &BTreeSet<&str>) -> Vec<PoolShape> {
    let config = drawn.index.config();
    let used = in_use(drawn.index);
    let valid = names.iter().filter_map(|name| config.pools.get(name));
    let mut pools: Vec<PoolShape> = valid.map(|pool| pool_shape(pool, &used)).collect();
    let unreadable = config.unreadable_pools.keys();
    let unreadable = unreadable.filter(|name| !names.contains(name.as_str()));
    pools.extend(unreadable.map(|name| PoolShape {
        name: name.clone(),
        prefixes: Vec::new(),
        usage: Vec::new(),
        invalid: true,
    }));
    pools
}

fn pool_shape(pool: &Pool, used: &BTreeSet<IpAddr>) -> PoolShape {
    let families = Family::ALL.into_iter();
    let families = families.filter(|family| pool.capacity(*family) > 0);
    PoolShape {
        name: pool.name().to_owned(),
        prefixes: pool.prefixes().iter().map(ToString::to_string).collect(),
        usage: families
            .map(|family| Usage {
                family: family.to_string(),
                used: assigned(pool, family, used),
                capacity: u64::try_from(pool.capacity(family)).unwrap_or(u64::MAX),
            })
            .collect(),
        invalid: false,
    }
}

/// Without counts.
fn shape(name: &str, node: &Node, has_conditions: bool) -> NodeShape {
    NodeShape {
        name: name.to_owned(),
        addresses: node.internal_ips.clone(),
        off: why_off(node).map(Reason::code),
        cordoned: node.cordoned,
        ready: has_conditions.then_some(node.ready),
        prefixes: 0,
        candidate: 0,
    }
}

/// Why a node announces nothing at all.
fn why_off(node: &Node) -> Option<Reason> {
    if node.network_unavailable {
        Some(Reason::NodeNetworkUnavailable)
    } else if node.deleting || node.shutting_down {
        Some(Reason::NodeLeaving)
    } else if node.excluded() {
        Some(Reason::NodeExcluded)
    } else {
        None
    }
}

fn peer(peer: &Peer) -> PeerShape {
    let session = &peer.session;
    let interface = session.transport.source_interface.as_deref();
    PeerShape {
        name: peer.name.to_string(),
        address: match session.remote {
            Remote::Router(router) if router.port() == BGP_PORT => {
                router.ip().to_canonical().to_string()
            }
            Remote::Router(router) => router.to_string(),
            Remote::Network(network) => network.to_string(),
            Remote::Link(_) => format!("unnumbered {}", interface.unwrap_or_default()),
        },
        asn: session.remote_asn.to_string(),
        local_asn: session.local_asn.to_string(),
        bfd: session.bfd.is_some(),
    }
}

type States<'a> = BTreeMap<(&'a str, &'a str), &'a BgpSessionStatus>;

/// A network of routers has several sessions: the best one is shown.
fn by_node_and_peer(sessions: &AllSessions) -> States<'_> {
    let mut states = States::new();
    for status in sessions.values() {
        let known = states.entry((&*status.node, &*status.peer));
        let known = known.or_insert(status);
        if known.bgp != BgpState::Established && status.bgp == BgpState::Established {
            *known = status;
        }
    }
    states
}

fn error_of(status: &BgpSessionStatus) -> Option<String> {
    let error = status.last_error.as_ref()?;
    (status.bgp != BgpState::Established).then(|| error.message.clone())
}
