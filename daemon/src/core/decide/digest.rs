//! A digest of the routes that a router has from a node: a node publishes it in its BGPSessions,
//! and `ferrolb routes` compares it with the decision.

use std::fmt;
use std::sync::Arc;

use ferrolb_bgp::rib::{Route, RouteAttributes};
use ipnet::IpNet;

use crate::core::hash::fnv1a;

/// The digest of a set of routes. It is the same in all processes and versions, in any order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RouteDigest(u64);

impl RouteDigest {
    /// The digest of these routes.
    pub(crate) fn of<'a>(routes: impl IntoIterator<Item = (&'a IpNet, &'a Route)>) -> Self {
        let mut digester = Digester::default();
        let mut digest = Self::default();
        for (prefix, route) in routes {
            digest = digest.and(digester.route(prefix, route));
        }
        digest
    }

    /// The digest of two sets of routes that have none in common.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }
}

impl fmt::Display for RouteDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Digests routes one by one. Most of them have the attributes of the one before.
#[derive(Debug, Default)]
pub(crate) struct Digester {
    last: Option<(Route, u64)>,
}

impl Digester {
    /// The digest of one route.
    pub(crate) fn route(&mut self, prefix: &IpNet, route: &Route) -> RouteDigest {
        let attributes = match &self.last {
            Some((last, hash)) if Arc::ptr_eq(last, route) => *hash,
            _ => {
                let hash = fnv1a(&text(route));
                self.last = Some((route.clone(), hash));
                hash
            }
        };
        RouteDigest(fnv1a(&format!("{prefix} {attributes:016x}")))
    }
}

/// What a route has beside its prefix. ORIGIN is always IGP.
fn text(route: &RouteAttributes) -> String {
    fn list<T: ToString>(values: &[T]) -> String {
        let values: Vec<String> = values.iter().map(T::to_string).collect();
        values.join(",")
    }
    fn number(value: Option<u32>) -> String {
        value.map_or_else(|| "-".to_owned(), |value| value.to_string())
    }
    let RouteAttributes {
        origin: _,
        med,
        local_pref,
        prepend,
        atomic_aggregate,
        aggregator,
        communities,
        large_communities,
        extended_communities,
        ipv6_extended_communities,
    } = route;
    let aggregator = aggregator.map(|by| format!("{} {}", by.asn, by.router_id));
    [
        number(*med),
        number(*local_pref),
        prepend.to_string(),
        u8::from(*atomic_aggregate).to_string(),
        aggregator.unwrap_or_default(),
        list(communities),
        list(large_communities),
        list(extended_communities),
        list(ipv6_extended_communities),
    ]
    .join(";")
}

#[cfg(test)]
mod tests {
    use ferrolb_bgp::wire::Community;

    use super::*;

    fn route(med: Option<u32>, communities: &[u32]) -> Route {
        Arc::new(RouteAttributes {
            med,
            communities: communities.iter().copied().map(Community).collect(),
            ..RouteAttributes::default()
        })
    }

    fn digest(routes: &[(&str, &Route)]) -> String {
        let routes: Vec<(IpNet, &Route)> = routes
            .iter()
            .map(|(prefix, route)| (prefix.parse().expect("a prefix"), *route))
            .collect();
        RouteDigest::of(routes.iter().map(|(prefix, route)| (prefix, *route))).to_string()
    }

    #[test]
    fn a_digest_depends_on_prefixes_and_attributes_and_not_on_their_order() {
        let (plain, tagged) = (route(None, &[]), route(Some(7), &[0xfc00_0001]));
        let (one, two) = ("192.0.2.1/32", "2001:db8::/64");
        let both = digest(&[(one, &plain), (two, &tagged)]);
        assert_eq!(both, digest(&[(two, &tagged), (one, &plain)]));
        // Another allocation with the same attributes.
        assert_eq!(both, digest(&[(two, &tagged), (one, &route(None, &[]))]));
        for other in [
            digest(&[(one, &plain)]),
            digest(&[(one, &tagged), (two, &plain)]),
            digest(&[(one, &plain), (two, &route(Some(7), &[]))]),
            digest(&[("192.0.2.1/31", &plain), (two, &tagged)]),
        ] {
            assert_ne!(both, other);
        }
        assert_eq!(digest(&[]), "0000000000000000");
    }

    /// Nodes and laptops can have different versions of ferrolb.
    #[test]
    fn a_digest_is_the_same_in_all_versions() {
        let tagged = route(Some(7), &[0xfc00_0001]);
        assert_eq!(text(&tagged), "7;-;0;0;;64512:1;;;");
        let prefix: IpNet = "192.0.2.1/32".parse().expect("a prefix");
        let expected = fnv1a(&format!(
            "192.0.2.1/32 {:016x}",
            fnv1a("7;-;0;0;;64512:1;;;")
        ));
        let digest = RouteDigest::of([(&prefix, &tagged)]);
        assert_eq!(digest.to_string(), format!("{expected:016x}"));
    }
}
