//! Which prefixes a node must discard packets to, unless they are delivered: the aggregates that it
//! may announce contain addresses that no service has, and a packet to one of them would return to
//! the router by the node's default route, and so on until its TTL expires.

use std::collections::BTreeSet;

use ferrolb_allocator::Pool;
use ipnet::IpNet;

use super::{aggregate, peers_of, selected};
use crate::core::config::advertisement::Advertisement;
use crate::core::config::aggregation::cidrs;
use crate::core::index::Index;
use crate::core::model::Family;

/// The prefixes, as few as possible. They depend on the configuration and the node's labels only,
/// not on services, so they are known before any aggregate is announced. None for an unknown node:
/// what it discards must not change, since it may still have routes.
pub(crate) fn discards(index: &Index, node_name: &str) -> Option<BTreeSet<IpNet>> {
    let node = index.nodes().get(node_name)?;
    let config = index.config();
    let peers: Vec<_> = peers_of(index, node_name, node).collect();
    let mut prefixes = Vec::new();
    for pool in config.pools.iter() {
        let Some(details) = config.pool_details.get(pool.name()) else {
            continue;
        };
        let labels = Some(&details.labels);
        for ad in config.advertisements.values() {
            if ad.selection.selects_pool(pool.name(), labels)
                && ad.selection.nodes.matches(&node.labels)
                && peers.iter().any(|peer| selected(&[ad], &peer.name))
            {
                let families = Family::ALL.into_iter();
                let families = families.filter(|family| {
                    ad.aggregates(*family) && ad.length(*family) >= details.min_aggregation(*family)
                });
                prefixes.extend(families.flat_map(|family| of_pool(pool, ad, family)));
            }
        }
    }
    Some(IpNet::aggregate(&prefixes).into_iter().collect())
}

/// What the aggregates of a pool cover. Those of a range can reach beyond it.
fn of_pool<'a>(
    pool: &'a Pool,
    ad: &'a Advertisement,
    family: Family,
) -> impl Iterator<Item = IpNet> + 'a {
    let length = ad.length(family);
    cidrs(pool, family).map(move |cidr| aggregate(cidr.addr(), length.min(cidr.prefix_len())))
}
