//! Which prefixes a router may receive, and how many: from the pools, the advertisements and the
//! nodes.

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::core::config::advertisement::Advertisement;
use crate::core::config::aggregation::cidrs;
use crate::core::config::peer::Peer;
use crate::core::decide::peer_config::has_next_hop;
use crate::core::index::Index;
use crate::core::model::{Family, Node};

/// Maximum number of prefixes from a node that a router expects, where pools are larger: more than
/// any cluster has Services. A pool of IPv6 has more addresses than any router has routes.
pub(crate) const PREFIXES_MAX: u32 = 100_000;

/// Prefixes that a router accepts: those of one length in a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Permit {
    /// The network that contains them.
    pub network: IpNet,
    /// Their length, at least that of the network.
    pub length: u8,
}

impl Permit {
    /// Their family.
    pub(crate) fn family(&self) -> Family {
        Family::of(self.network.addr())
    }

    /// Whether the network is the only one.
    pub(crate) fn is_exact(&self) -> bool {
        self.length == self.network.prefix_len()
    }

    /// How many there are, saturating.
    fn count(&self) -> u128 {
        let bits = self.length.saturating_sub(self.network.prefix_len());
        1_u128.checked_shl(bits.into()).unwrap_or(u128::MAX)
    }
}

/// The maximum number of prefixes of a family, at most [`PREFIXES_MAX`].
pub(crate) fn maximum(permits: &BTreeSet<Permit>, family: Family) -> u32 {
    let of_family = permits.iter().filter(|permit| permit.family() == family);
    let count = of_family.map(Permit::count).fold(0, u128::saturating_add);
    u32::try_from(count).map_or(PREFIXES_MAX, |count| count.min(PREFIXES_MAX))
}

/// The prefixes that these nodes may announce to a BGPPeer, with any Services.
pub(crate) fn permits(index: &Index, peer: &Peer, nodes: &[&Node]) -> BTreeSet<Permit> {
    let config = index.config();
    let mut permits = BTreeSet::new();
    for pool in config.pools.iter() {
        let Some(details) = config.pool_details.get(pool.name()) else {
            continue;
        };
        let ads = config.advertisements.values().filter(|ad| {
            ad.selects_peer(&peer.name)
                && ad
                    .selection
                    .selects_pool(pool.name(), Some(&details.labels))
        });
        for (ad, family) in ads.flat_map(|ad| Family::ALL.map(|family| (ad, family))) {
            let announces = |node: &&Node| {
                ad.selection.nodes.matches(&node.labels) && has_next_hop(peer, node, family)
            };
            let too_wide = ad.length(family) < details.min_aggregation(family);
            if too_wide || !peer.carries(family) || !nodes.iter().any(announces) {
                continue;
            }
            permits.extend(cidrs(pool, family).flat_map(|cidr| of_cidr(*cidr, ad, family)));
        }
    }
    permits
}

/// The prefixes of an advertisement in a CIDR of a pool. The CIDRs at the ends of a range may be
/// longer than the advertisement's prefixes: a Service there is announced with the whole prefix,
/// but `announceAggregates: always` keeps to the range.
fn of_cidr(cidr: IpNet, ad: &Advertisement, family: Family) -> Vec<Permit> {
    let length = ad.length(family);
    if length >= cidr.prefix_len() {
        let network = cidr.trunc();
        return vec![Permit { network, length }];
    }
    let whole = IpNet::new(cidr.addr(), length).map(|net| net.trunc());
    let own = ad.is_always_announced().then(|| cidr.trunc());
    let exact = |network: IpNet| Permit {
        network,
        length: network.prefix_len(),
    };
    whole.into_iter().chain(own).map(exact).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permit(network: &str, length: u8) -> Permit {
        Permit {
            network: network.parse().expect("a network"),
            length,
        }
    }

    #[test]
    fn the_maximum_is_the_number_of_prefixes_of_all_lengths() {
        let permits = BTreeSet::from([
            permit("192.0.2.0/24", 32),
            permit("192.0.2.0/24", 24),
            permit("198.51.100.8/32", 32),
            permit("2001:db8::/120", 128),
        ]);
        assert_eq!(maximum(&permits, Family::V4), 258);
        assert_eq!(maximum(&permits, Family::V6), 256);
        assert_eq!(maximum(&BTreeSet::new(), Family::V4), 0);
    }

    #[test]
    fn a_pool_with_more_addresses_than_a_cluster_has_services_is_capped() {
        for wide in [permit("2001:db8::/64", 128), permit("::/0", 128)] {
            assert_eq!(maximum(&BTreeSet::from([wide]), Family::V6), PREFIXES_MAX);
        }
    }
}
