//! The decision: which addresses of a service a node announces to which peers, with which
//! attributes, and why not to the others. Pure functions of the index.
//! [`crate::core::decide::node_routes`] combines the decisions of all services.

pub(crate) mod aggregates;
pub(crate) mod alike;
pub(crate) mod digest;
pub(crate) mod discards;
pub(crate) mod floor;
pub(crate) mod hello_keys;
pub(crate) mod layer2;
pub(crate) mod node_routes;
pub(crate) mod owner_reason;
pub(crate) mod peer_config;
pub(crate) mod reason;
mod recent;
mod selection;
pub(crate) mod unannounced;
pub(crate) mod weight;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use ferrolb_bgp::rib::{DEFAULT_LOCAL_PREF, Route, RouteAttributes};
use ferrolb_bgp::wire::{Aggregator, Community, LargeCommunity};
use ipnet::IpNet;

pub use self::reason::Reason;
pub(crate) use self::reason::{Detail, Verdict};
use self::selection::Selection;
use self::weight::{Bandwidth, Weight, all_nodes_send_weights};
use crate::core::config::Config;
use crate::core::config::advertisement::{Advertisement, CommunityValue};
use crate::core::config::peer::Peer;
use crate::core::decide::peer_config::{has_next_hop, router_id};
use crate::core::index::Index;
use crate::core::model::drain::Drain;
use crate::core::model::{Family, Node, Service, TrafficPolicy};

/// The decision of a node about a service, or about the aggregates of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// What the service contributes to prefixes, one entry per prefix.
    pub contributions: Vec<Contribution>,
    /// The reasons: one per peer, or one for all peers. Equal values are shared among services,
    /// like [`Contribution::offers`].
    pub verdicts: Arc<[Verdict]>,
}

/// What a service, or a pool whose aggregates are always announced, contributes to a prefix, from
/// all advertisements that select it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contribution {
    /// The address, or the aggregate that contains it.
    pub prefix: IpNet,
    /// The offers. Most services have equal ones: [`crate::core::decide::node_routes::NodeRoutes`]
    /// stores each value once.
    pub offers: Arc<Offers>,
}

/// A service's offers for one prefix, by BGPPeer, sorted by name.
pub(crate) type Offers = [(Arc<str>, Offer)];

/// The attributes and drain settings that a service requests for a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// LOCAL_PREF, iBGP only.
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC, from the peer.
    pub med: Option<u32>,
    /// How many extra times our AS appears in AS_PATH, from the peer.
    pub prepend: u8,
    /// COMMUNITIES.
    pub communities: BTreeSet<Community>,
    /// LARGE_COMMUNITY.
    pub large_communities: BTreeSet<LargeCommunity>,
    /// The node's weight, if the peer requests weights.
    pub bandwidth: Option<Bandwidth>,
    /// AGGREGATOR, if the prefix is an aggregate.
    pub aggregator: Option<Aggregator>,
    /// The drain settings.
    pub drain: Drain,
    /// How many nodes should announce the prefix at least.
    pub min_announcers: u32,
}

/// The BGPPeers that a node has sessions with.
pub(crate) fn peers_of<'a>(
    index: &'a Index,
    node_name: &'a str,
    node: &'a Node,
) -> impl Iterator<Item = &'a Peer> {
    index.peers_on(node_name, node)
}

/// Decides whether and how a node announces a service. A service that is not of type LoadBalancer
/// yields an empty decision.
///
/// `node` may differ from the index: a node that is drained decides as if it weren't. What the
/// decision depends on of a node is in [`alike`] too.
pub(crate) fn decide(
    index: &Index,
    node_name: &str,
    node: Option<&Node>,
    service: &Service,
) -> Decision {
    if !service.load_balancer {
        return Decision::default();
    }
    let decisions = selection::of(index, service).into_iter().map(|selection| {
        let deliverable =
            selection.and_then(|selection| deliverable(index, node_name, node, service, selection));
        match deliverable {
            Err((reason, detail)) => Decision::refused(reason, detail),
            Ok(None) => Decision::default(),
            Ok(Some(deliverable)) => decide_for_peers(index, service, &deliverable),
        }
    });
    decisions.reduce(Decision::and).unwrap_or_default()
}

impl Decision {
    /// Nothing is announced to any peer.
    fn refused(reason: Reason, detail: Detail) -> Self {
        Self {
            contributions: Vec::new(),
            verdicts: Arc::new([Verdict {
                peer: None,
                reason,
                detail,
            }]),
        }
    }

    /// These offers, by prefix and peer.
    fn of(offers: BTreeMap<IpNet, Vec<(Arc<str>, Offer)>>, verdicts: Vec<Verdict>) -> Self {
        let contributions = offers.into_iter().map(|(prefix, offers)| Contribution {
            prefix,
            offers: offers.into(),
        });
        Self {
            contributions: contributions.collect(),
            verdicts: verdicts.into(),
        }
    }

    /// Adds the decision about the service's addresses of another pool.
    fn and(mut self, other: Self) -> Self {
        self.contributions.extend(other.contributions);
        self.contributions.sort_by_key(|added| added.prefix);
        let new = other.verdicts.iter();
        let new = new.filter(|verdict| !self.verdicts.contains(verdict));
        self.verdicts = self.verdicts.iter().chain(new).cloned().collect();
        self
    }
}

/// The addresses of a service from one pool, if this node can deliver to it, and the advertisements
/// that select the service, the pool and the node.
struct Deliverable<'a> {
    node_name: &'a str,
    node: &'a Node,
    /// All addresses of the pool.
    all: Vec<IpAddr>,
    /// The addresses whose family has endpoints.
    addresses: Vec<IpAddr>,
    /// Why the other addresses are not announced, if there are any.
    undeliverable: Option<(Reason, Detail)>,
    advertisements: Vec<&'a Advertisement>,
    too_wide: Vec<&'a Advertisement>,
    /// The advertisements that select the service on any node.
    everywhere: Vec<&'a Advertisement>,
}

/// Checks everything that doesn't depend on the peer. The first reason against announcing is
/// returned. None: the service is not announced over BGP, which is no error.
fn deliverable<'a>(
    index: &'a Index,
    node_name: &'a str,
    node: Option<&'a Node>,
    service: &Service,
    mut selection: Selection<'a>,
) -> Result<Option<Deliverable<'a>>, (Reason, Detail)> {
    if selection.bgp.is_empty() {
        // Only layer 2 announces it.
        return Ok(None);
    }
    let all = std::mem::take(&mut selection.addresses);
    let Selected {
        advertisements,
        too_wide,
        everywhere,
    } = on_node(index.config(), selection, &all, node)?;
    let node = node.ok_or_else(|| (Reason::NodeUnknown, node_name.into()))?;
    if node.network_unavailable {
        return Err((Reason::NodeNetworkUnavailable, node_name.into()));
    }
    if node.excluded() {
        return Err((Reason::NodeExcluded, node_name.into()));
    }
    let (addresses, undeliverable) = deliverable_addresses(index, node_name, service, &all);
    if let Some(reason) = undeliverable.clone().filter(|_| addresses.is_empty()) {
        return Err(reason);
    }
    if index.is_delayed(node_name, &service.name) {
        let port = service.health_check_port.map_or(0, NonZeroU16::get);
        let detail = format!("{}, healthCheckNodePort {port}", service.name);
        return Err((Reason::ServiceProxyNotReady, detail.into()));
    }
    Ok(Some(Deliverable {
        node_name,
        node,
        all,
        addresses,
        undeliverable,
        advertisements,
        too_wide,
        everywhere,
    }))
}

/// The BGPAdvertisements that select a service.
struct Selected<'a> {
    advertisements: Vec<&'a Advertisement>,
    too_wide: Vec<&'a Advertisement>,
    everywhere: Vec<&'a Advertisement>,
}

fn on_node<'a>(
    config: &'a Config,
    mut selection: Selection<'a>,
    addresses: &[IpAddr],
    node: Option<&Node>,
) -> Result<Selected<'a>, (Reason, Detail)> {
    let details = config.pool_details.get(&selection.pool);
    // The first of those that conflict takes precedence.
    selection.bgp.sort_by_key(|ad| ad.age());
    let mut selected = selection.bgp;
    let fits = |ad: &&Advertisement| {
        addresses.iter().all(|address| {
            let min = details.map_or(0, |details| details.min_aggregation(Family::of(*address)));
            ad.length(Family::of(*address)) >= min
        })
    };
    let everywhere = selected.iter().copied().filter(fits).collect();
    if let Some(node) = node {
        selected.retain(|ad| ad.selection.nodes.matches(&node.labels));
        if selected.is_empty() {
            let detail = format!("BGP, pool {}", selection.pool);
            return Err((Reason::NodeNotSelected, detail.into()));
        }
    }
    let (advertisements, too_wide) = selected.into_iter().partition(fits);
    Ok(Selected {
        advertisements,
        too_wide,
        everywhere,
    })
}

/// The addresses that this node can deliver to, and why not to the others. Endpoints have the
/// families of the service's cluster addresses, and so do its addresses.
fn deliverable_addresses(
    index: &Index,
    node_name: &str,
    service: &Service,
    all: &[IpAddr],
) -> (Vec<IpAddr>, Option<(Reason, Detail)>) {
    let reached = |address: &IpAddr| {
        let family = Family::of(*address);
        match service.traffic_policy {
            TrafficPolicy::Cluster => index.has_endpoints(&service.name, family),
            TrafficPolicy::Local => index.has_endpoints_on(&service.name, family, node_name),
        }
    };
    let (mut addresses, others): (Vec<IpAddr>, Vec<IpAddr>) =
        all.iter().copied().partition(reached);
    if others.is_empty() {
        let missing = remove_undeliverable_shared(index, node_name, service, &mut addresses);
        return (addresses, missing);
    }
    remove_undeliverable_shared(index, node_name, service, &mut addresses);
    let reason = match service.traffic_policy {
        TrafficPolicy::Cluster => Reason::NoEndpoints,
        TrafficPolicy::Local => Reason::NoLocalEndpoints,
    };
    let is_missing = |family: &Family| others.iter().any(|other| Family::of(*other) == *family);
    let detail = Detail::Families(Family::ALL.into_iter().filter(is_missing).collect());
    (addresses, Some((reason, detail)))
}

/// Removes the addresses that a Local sharer can't deliver to on this node. Returns the sharer.
fn remove_undeliverable_shared(
    index: &Index,
    node_name: &str,
    service: &Service,
    addresses: &mut Vec<IpAddr>,
) -> Option<(Reason, Detail)> {
    let mut missing = None;
    addresses.retain(|address| {
        let mut sharers = index.services_with_address(*address);
        let sharer = sharers.find(|sharer| {
            let family = Family::of(*address);
            service.shares_local_with(sharer)
                && !index.has_endpoints_on(&sharer.name, family, node_name)
        });
        if let Some(sharer) = sharer {
            let detail = format!("{address}, {}", sharer.name);
            missing = Some((Reason::NoLocalEndpointsOfSharer, detail.into()));
        }
        sharer.is_none()
    });
    missing
}

fn decide_for_peers(index: &Index, service: &Service, deliverable: &Deliverable<'_>) -> Decision {
    let mut offers: BTreeMap<IpNet, Vec<(Arc<str>, Offer)>> = BTreeMap::new();
    let mut verdicts = Vec::new();
    let mut no_peers = true;
    for peer in peers_of(index, deliverable.node_name, deliverable.node) {
        no_peers = false;
        let verdict = |(reason, detail): (Reason, Detail)| Verdict {
            peer: Some(peer.name.clone()),
            reason,
            detail,
        };
        let carried = |address: &IpAddr| peer.carries(Family::of(*address));
        let some_carried = deliverable.addresses.iter().any(carried);
        if !some_carried && deliverable.all.iter().any(carried) {
            // The addresses that it would carry have no endpoints, which is reported once for all
            // peers.
            continue;
        }
        // If it carries nothing, `offers_to` returns one reason for all addresses.
        let not_carried = deliverable
            .addresses
            .iter()
            .filter(|address| some_carried && !carried(address));
        let not_carried =
            not_carried.map(|address| verdict((Reason::FamilyNotCarried, (*address).into())));
        let without_next_hop = addresses_towards(peer, deliverable)
            .filter(|address| !has_next_hop(peer, deliverable.node, Family::of(*address)))
            .map(|address| verdict((Reason::NoNextHop, address.into())));
        verdicts.extend(not_carried.chain(without_next_hop));
        match offers_to(index, peer, service, deliverable) {
            Ok(added) if added.is_empty() => {}
            Ok(added) => {
                for (prefix, offer) in added {
                    let offers = offers.entry(prefix).or_default();
                    offers.push((peer.name.clone(), offer));
                }
                verdicts.push(verdict((Reason::Announced, Detail::None)));
            }
            Err(reason) => verdicts.push(verdict(reason)),
        }
    }
    let (node_name, advertisements) = (deliverable.node_name, &deliverable.advertisements);
    verdicts.extend(refused_peers(index, node_name, advertisements));
    let for_all = |(reason, detail): (Reason, Detail)| Verdict {
        peer: None,
        reason,
        detail,
    };
    if no_peers && verdicts.is_empty() {
        verdicts.push(for_all((Reason::NoPeer, Detail::None)));
    }
    verdicts.extend(deliverable.undeliverable.clone().map(for_all));
    Decision::of(offers, verdicts)
}

/// Verdicts about the peers that the advertisements select, but that can't run on this node.
fn refused_peers<'a>(
    index: &'a Index,
    node_name: &str,
    advertisements: &'a [&Advertisement],
) -> impl Iterator<Item = Verdict> {
    let conflicting = index.conflicting_peers(node_name).into_iter().flatten();
    let conflicting = conflicting.filter(|(name, _)| selected(advertisements, name));
    conflicting.map(|(name, conflict)| Verdict {
        peer: Some(name.as_str().into()),
        reason: Reason::PeerRefused,
        detail: conflict.message.as_str().into(),
    })
}

/// The deliverable addresses of a service that the session with this peer carries.
fn addresses_towards(peer: &Peer, deliverable: &Deliverable<'_>) -> impl Iterator<Item = IpAddr> {
    deliverable
        .addresses
        .iter()
        .copied()
        .filter(|address| peer.carries(Family::of(*address)))
}

fn selected(advertisements: &[&Advertisement], peer: &str) -> bool {
    advertisements.iter().any(|ad| ad.selects_peer(peer))
}

/// The offers for one peer, or why there are none. Addresses without a next hop are omitted. An
/// advertisement whose LOCAL_PREF differs from an older one adds nothing to their common prefixes
/// ([`crate::core::config::local_pref_conflicts`] reports it).
fn offers_to(
    index: &Index,
    peer: &Peer,
    service: &Service,
    deliverable: &Deliverable<'_>,
) -> Result<Vec<(IpNet, Offer)>, (Reason, Detail)> {
    if !selected(&deliverable.advertisements, &peer.name) {
        if selected(&deliverable.too_wide, &peer.name) {
            let names: Vec<&str> = deliverable
                .too_wide
                .iter()
                .map(|ad| ad.name.as_str())
                .collect();
            return Err((Reason::AggregateTooWide, names.join(", ").into()));
        }
        return Err((Reason::PeerNotSelected, Detail::Peer));
    }
    if addresses_towards(peer, deliverable).next().is_none() {
        return Err((Reason::FamilyNotCarried, Detail::Peer));
    }
    // LOCAL_PREF isn't sent over eBGP (RFC 4271 §5.1.5).
    let may_be_internal = peer.is_ibgp() != Some(false);
    let mut offers: BTreeMap<IpNet, (Offer, &Advertisement)> = BTreeMap::new();
    for ad in deliverable
        .advertisements
        .iter()
        .filter(|ad| ad.selects_peer(&peer.name))
    {
        let addresses = addresses_towards(peer, deliverable);
        for address in
            addresses.filter(|address| has_next_hop(peer, deliverable.node, Family::of(*address)))
        {
            let prefix = aggregate(address, ad.length(Family::of(address)));
            let (offer, first) = offers.entry(prefix).or_insert_with(|| {
                let mut offer = offer(index, peer, service, deliverable, prefix);
                offer.local_pref = ad.local_pref.filter(|_| may_be_internal);
                (offer, *ad)
            });
            offer.min_announcers = offer.min_announcers.max(ad.min_announcers);
            if may_be_internal && !ad.agrees_with(first) {
                continue;
            }
            offer.communities.extend(&ad.communities);
            offer.large_communities.extend(&ad.large_communities);
            for community in index.communities_by_label(service, ad) {
                match community {
                    CommunityValue::Standard(value) => _ = offer.communities.insert(value),
                    CommunityValue::Large(value) => _ = offer.large_communities.insert(value),
                }
            }
        }
    }
    let offers = offers.into_iter();
    Ok(offers.map(|(prefix, (offer, _))| (prefix, offer)).collect())
}

/// An offer without the attributes that come from advertisements.
fn offer(
    index: &Index,
    peer: &Peer,
    service: &Service,
    deliverable: &Deliverable<'_>,
    prefix: IpNet,
) -> Offer {
    let Deliverable {
        node_name, node, ..
    } = *deliverable;
    let family = Family::of(prefix.addr());
    let bandwidth =
        Bandwidth::for_peer(peer, || Weight::of(index, node_name, node, service, family));
    Offer {
        local_pref: None,
        med: peer.med,
        prepend: peer.prepend,
        communities: BTreeSet::new(),
        large_communities: BTreeSet::new(),
        bandwidth: bandwidth
            .filter(|_| all_nodes_send_weights(index, &deliverable.everywhere, family)),
        aggregator: aggregator(peer, node_name, node, prefix),
        drain: service.drain.applied_to(peer.drain),
        min_announcers: 1,
    }
}

/// AGGREGATOR, if the prefix is an aggregate.
fn aggregator(peer: &Peer, node_name: &str, node: &Node, prefix: IpNet) -> Option<Aggregator> {
    (prefix.prefix_len() < prefix.max_prefix_len()).then(|| Aggregator {
        asn: peer.session.local_asn,
        router_id: router_id(peer, node_name, node),
    })
}

/// The prefix that is announced for an address.
fn aggregate(address: IpAddr, length: u8) -> IpNet {
    let full = IpNet::from(address);
    IpNet::new(address, length).unwrap_or(full).trunc()
}

/// The route of a prefix to which several services contribute. It has all communities, the highest
/// LOCAL_PREF, and the combined weight ([`Weight::combine`]), or no weight if one offer has none.
/// If the services of an aggregate differ, it has ATOMIC_AGGREGATE and AGGREGATOR (RFC 4271 §5.1.6,
/// §5.1.7).
pub(crate) fn merge<'a>(offers: impl IntoIterator<Item = &'a Offer>) -> Option<Route> {
    let mut offers = offers.into_iter();
    let first = offers.next()?;
    let mut merged = first.clone();
    let mut differ = false;
    for other in offers {
        let preference = |offer: &Offer| offer.local_pref.unwrap_or(DEFAULT_LOCAL_PREF);
        differ |= preference(other) != preference(first)
            || other.communities != first.communities
            || other.large_communities != first.large_communities;
        if preference(other) > preference(&merged) {
            merged.local_pref = other.local_pref;
        }
        merged.communities.extend(&other.communities);
        merged.large_communities.extend(&other.large_communities);
        merged.bandwidth = merged
            .bandwidth
            .zip(other.bandwidth)
            .map(|(a, b)| Bandwidth {
                weight: a.weight.combine(b.weight),
                ..a
            });
    }
    let aggregator = merged.aggregator.filter(|_| differ);
    Some(Arc::new(RouteAttributes {
        local_pref: merged.local_pref,
        med: merged.med,
        prepend: merged.prepend,
        communities: merged.communities.into_iter().collect(),
        large_communities: merged.large_communities.into_iter().collect(),
        extended_communities: merged.bandwidth.map(Into::into).into_iter().collect(),
        atomic_aggregate: aggregator.is_some(),
        aggregator,
        ..RouteAttributes::default()
    }))
}

#[cfg(test)]
mod tests;
