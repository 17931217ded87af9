//! Which aggregates of a pool a node announces with or without a service inside
//! (`announceAggregates: always`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ferrolb_allocator::Pool;
use ipnet::IpNet;

use super::peer_config::has_next_hop;
use super::{
    Decision, Detail, Offer, Reason, Verdict, aggregator, peers_of, refused_peers, selected,
};
use crate::core::config::Config;
use crate::core::config::advertisement::Advertisement;
use crate::core::config::aggregation::{AGGREGATES_MAX, aggregates, cidrs};
use crate::core::config::peer::Peer;
use crate::core::index::Index;
use crate::core::model::drain::DrainOverride;
use crate::core::model::{Family, Node};

/// A pool whose aggregates this node may announce.
struct Announceable<'a> {
    index: &'a Index,
    node_name: &'a str,
    node: &'a Node,
    pool: &'a Pool,
    /// The advertisements that select the pool and the node, the oldest first.
    all: Vec<&'a Advertisement>,
    /// Those of them that announce its aggregates without a service.
    always: Vec<&'a Advertisement>,
}

/// Decides which aggregates of a pool a node announces to which peers, whatever services it has. A
/// pool without an advertisement that says so yields an empty decision.
///
/// As in [`super::decide`], `node` may differ from the index.
pub(crate) fn decide_pool(
    index: &Index,
    node_name: &str,
    node: Option<&Node>,
    pool: &Pool,
) -> Decision {
    let mut all: Vec<_> = selecting(index.config(), pool).collect();
    if !all.iter().any(|ad| ad.is_always_announced()) {
        return Decision::default();
    }
    all.sort_by_key(|ad| ad.age());
    match announceable(index, node_name, node, pool, all) {
        Ok(announceable) => announceable.for_peers(),
        Err((reason, detail)) => Decision::refused(reason, detail),
    }
}

/// The advertisements that select a pool.
fn selecting<'a>(config: &'a Config, pool: &Pool) -> impl Iterator<Item = &'a Advertisement> {
    let details = config.pool_details.get(pool.name());
    let labels = details.map(|details| &details.labels);
    let all = config.advertisements.values();
    all.filter(move |ad| ad.selection.selects_pool(pool.name(), labels))
}

/// Checks everything that doesn't depend on the peer.
fn announceable<'a>(
    index: &'a Index,
    node_name: &'a str,
    node: Option<&'a Node>,
    pool: &'a Pool,
    mut all: Vec<&'a Advertisement>,
) -> Result<Announceable<'a>, (Reason, Detail)> {
    let node = node.ok_or_else(|| (Reason::NodeUnknown, node_name.into()))?;
    all.retain(|ad| ad.selection.nodes.matches(&node.labels));
    let always = all.iter().copied().filter(|ad| ad.is_always_announced());
    let always: Vec<_> = always.collect();
    if always.is_empty() {
        let detail = format!("BGP, pool {}", pool.name());
        return Err((Reason::NodeNotSelected, detail.into()));
    }
    if node.network_unavailable {
        return Err((Reason::NodeNetworkUnavailable, node_name.into()));
    }
    if node.excluded() {
        return Err((Reason::NodeExcluded, node_name.into()));
    }
    if let Some(error) = index.discard_error(node_name) {
        return Err((Reason::CannotDiscard, error.into()));
    }
    Ok(Announceable {
        index,
        node_name,
        node,
        pool,
        all,
        always,
    })
}

impl Announceable<'_> {
    fn for_peers(&self) -> Decision {
        let mut offers: BTreeMap<IpNet, Vec<(Arc<str>, Offer)>> = BTreeMap::new();
        let mut verdicts = Vec::new();
        for peer in peers_of(self.index, self.node_name, self.node) {
            let (added, mut reasons) = self.offers_to(peer);
            if !added.is_empty() {
                reasons.insert(0, (Reason::Announced, Detail::None));
            }
            for (prefix, offer) in added {
                let offers = offers.entry(prefix).or_default();
                offers.push((peer.name.clone(), offer));
            }
            verdicts.extend(reasons.into_iter().map(|(reason, detail)| Verdict {
                peer: Some(peer.name.clone()),
                reason,
                detail,
            }));
        }
        let refused = refused_peers(self.index, self.node_name, &self.always);
        verdicts.extend(refused);
        if verdicts.is_empty() {
            verdicts.push(Verdict {
                peer: None,
                reason: Reason::NoPeer,
                detail: Detail::None,
            });
        }
        Decision::of(offers, verdicts)
    }

    /// The offers for one peer, and why there are no others. As for services, the oldest
    /// advertisement determines LOCAL_PREF, and one that differs adds nothing else.
    fn offers_to(&self, peer: &Peer) -> (BTreeMap<IpNet, Offer>, Vec<(Reason, Detail)>) {
        let mut offers: BTreeMap<IpNet, Offer> = BTreeMap::new();
        let mut reasons = Vec::new();
        if !selected(&self.always, &peer.name) {
            return (offers, vec![(Reason::PeerNotSelected, Detail::Peer)]);
        }
        // LOCAL_PREF isn't sent over eBGP (RFC 4271 §5.1.5).
        let may_be_internal = peer.is_ibgp() != Some(false);
        let selected = self.always.iter().filter(|ad| ad.selects_peer(&peer.name));
        for (ad, family) in selected.flat_map(|ad| Family::ALL.map(|family| (*ad, family))) {
            let prefixes = match self.prefixes(peer, ad, family) {
                Ok(prefixes) => prefixes,
                Err(reason) => {
                    if !reasons.contains(&reason) {
                        reasons.push(reason);
                    }
                    continue;
                }
            };
            let first = self.first(peer, ad, family);
            for prefix in prefixes {
                let offer = offers.entry(prefix).or_insert_with(|| Offer {
                    local_pref: first.local_pref.filter(|_| may_be_internal),
                    ..self.offer(peer, prefix)
                });
                offer.min_announcers = offer.min_announcers.max(ad.min_announcers);
                if !may_be_internal || ad.agrees_with(first) {
                    offer.communities.extend(&ad.communities);
                    offer.large_communities.extend(&ad.large_communities);
                }
            }
        }
        (offers, reasons)
    }

    /// The oldest advertisement with the prefixes of this one, whenever it announces them.
    fn first<'a>(
        &'a self,
        peer: &Peer,
        ad: &'a Advertisement,
        family: Family,
    ) -> &'a Advertisement {
        let mut others = self.all.iter().copied();
        let first = others.find(|other| {
            other.selects_peer(&peer.name) && other.length(family) == ad.length(family)
        });
        first.unwrap_or(ad)
    }

    /// The aggregates of one family that an advertisement requests for a peer.
    fn prefixes(
        &self,
        peer: &Peer,
        ad: &Advertisement,
        family: Family,
    ) -> Result<Vec<IpNet>, (Reason, Detail)> {
        if !ad.aggregates(family) || cidrs(self.pool, family).next().is_none() {
            return Ok(Vec::new());
        }
        let of_family = || format!("pool {}, {family}", self.pool.name()).into();
        if !peer.carries(family) {
            return Err((Reason::FamilyNotCarried, of_family()));
        }
        if !has_next_hop(peer, self.node, family) {
            return Err((Reason::NoNextHop, of_family()));
        }
        let details = self.index.config().pool_details.get(self.pool.name());
        let min = details.map_or(0, |details| details.min_aggregation(family));
        if ad.length(family) < min {
            return Err((Reason::AggregateTooWide, ad.name.as_str().into()));
        }
        aggregates(self.pool, family, ad.length(family)).map_err(|count| {
            let detail = format!("{}: {count}, at most {AGGREGATES_MAX}", ad.name);
            (Reason::TooManyAggregates, detail.into())
        })
    }

    /// An offer without the attributes that come from advertisements. It has no weight: what the
    /// node can deliver inside doesn't decide whether it announces the aggregate.
    fn offer(&self, peer: &Peer, prefix: IpNet) -> Offer {
        Offer {
            local_pref: None,
            med: peer.med,
            prepend: peer.prepend,
            communities: BTreeSet::new(),
            large_communities: BTreeSet::new(),
            bandwidth: None,
            aggregator: aggregator(peer, self.node_name, self.node, prefix),
            drain: DrainOverride::default().applied_to(peer.drain),
            min_announcers: 1,
        }
    }
}
