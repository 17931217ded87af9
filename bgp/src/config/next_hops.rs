//! Chooses the next hop of the routes in a session.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::PeerConfig;
use crate::wire::{Family, NextHop};

/// Our addresses for routes that can't use the session's local address as next hop: those of the
/// other address family, and IPv6 routes in a session between link-local addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct NextHops {
    /// The next hop of IPv4 routes in an IPv6 session.
    pub v4: Option<Ipv4Addr>,
    /// The next hop of IPv6 routes in an IPv4 session, or between link-local addresses: a global
    /// address.
    pub v6: Option<Ipv6Addr>,
}

impl NextHops {
    /// The next hop of the routes of `family`; `None` if they can't be announced.
    ///
    /// `own` is the session's local address, if known. `ipv4_over_ipv6`: both sides have the
    /// extended next hop capability for IPv4 unicast (RFC 8950).
    ///
    /// A link-local address is only sent together with a global one (RFC 2545 §3). On such a link
    /// the peer may be unable to resolve other addresses, so IPv4 routes use both too if possible.
    ///
    /// The router of an `unnumbered` peer gets the link-local address alone: other addresses are
    /// not on the link, and BIRD then refuses the route, even with a link-local address beside it.
    #[must_use]
    pub fn next_hop(
        self,
        family: Family,
        own: Option<IpAddr>,
        ipv4_over_ipv6: bool,
        unnumbered: bool,
    ) -> Option<NextHop> {
        let Self { mut v4, mut v6 } = self;
        let mut link_local = None;
        match own.map(|own| own.to_canonical()) {
            Some(IpAddr::V4(own)) => v4 = Some(own),
            Some(IpAddr::V6(own)) if own.is_unicast_link_local() => link_local = Some(own),
            Some(IpAddr::V6(own)) => v6 = Some(own),
            None => {}
        }
        let v4 = v4.map(NextHop::V4);
        let global = v6.filter(|address| !address.is_unicast_link_local());
        let v6 = global.map(|global| NextHop::V6 { global, link_local });
        // In the place of the global one, 16 octets in all.
        let alone = link_local.filter(|_| unnumbered).map(NextHop::global_v6);
        let v6 = alone.or(v6);
        match family {
            Family::IPV6_UNICAST => v6,
            Family::IPV4_UNICAST if !ipv4_over_ipv6 => v4,
            Family::IPV4_UNICAST if link_local.is_some() => v6.or(v4),
            Family::IPV4_UNICAST => v4.or(v6),
            _ => None,
        }
    }
}

impl PeerConfig {
    /// [`NextHops::next_hop`] for a session with local address `local`. A configured source address
    /// takes precedence.
    #[must_use]
    pub fn next_hop(
        &self,
        family: Family,
        local: Option<IpAddr>,
        ipv4_over_ipv6: bool,
    ) -> Option<NextHop> {
        let own = self.transport.source_address.or(local);
        let unnumbered = self.remote.is_unnumbered();
        self.next_hops
            .next_hop(family, own, ipv4_over_ipv6, unnumbered)
    }

    /// Whether the session will have a link-local local address: as the peer's address, unless a
    /// source address is configured.
    #[must_use]
    pub fn is_link_local(&self) -> bool {
        if self.remote.is_unnumbered() {
            return true;
        }
        let own = self.transport.source_address;
        match own.unwrap_or_else(|| self.remote.network().addr()) {
            IpAddr::V4(_) => false,
            IpAddr::V6(address) => address.is_unicast_link_local(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Asn;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// The next hop as text.
    fn shown(next_hops: NextHops, own: &str, over: bool, family: Family) -> String {
        let next_hop = next_hops.next_hop(family, Some(address(own)), over, false);
        next_hop.map_or("none".to_owned(), |next_hop| next_hop.to_string())
    }

    const V4: Family = Family::IPV4_UNICAST;
    const V6: Family = Family::IPV6_UNICAST;

    #[test]
    fn the_local_address_is_the_next_hop_of_its_family_and_a_configured_one_of_the_other() {
        let none = NextHops::default();
        let both = NextHops {
            v4: Some([10, 0, 0, 1].into()),
            v6: Some("2001:db8::1".parse().unwrap()),
        };
        for (next_hops, own, family, expected) in [
            (none, "10.0.0.9", V4, "10.0.0.9"),
            (none, "10.0.0.9", V6, "none"),
            (both, "10.0.0.9", V4, "10.0.0.9"),
            (both, "10.0.0.9", V6, "2001:db8::1"),
            (both, "::ffff:10.0.0.9", V4, "10.0.0.9"),
            (none, "2001:db8::9", V6, "2001:db8::9"),
            (none, "2001:db8::9", V4, "none"),
            (both, "2001:db8::9", V6, "2001:db8::9"),
            (both, "2001:db8::9", V4, "10.0.0.1"),
        ] {
            assert_eq!(
                shown(next_hops, own, false, family),
                expected,
                "{own} {family}"
            );
        }
        assert_eq!(
            both.next_hop(V6, None, false, false),
            both.v6.map(NextHop::global_v6)
        );
        assert_eq!(
            both.next_hop(
                Family {
                    afi: crate::wire::Afi(25),
                    ..V4
                },
                None,
                true,
                false
            ),
            None
        );
    }

    #[test]
    fn ipv4_routes_use_an_ipv6_next_hop_only_if_negotiated_rfc8950() {
        let none = NextHops::default();
        let v4 = NextHops {
            v4: Some([10, 0, 0, 1].into()),
            ..none
        };
        assert_eq!(shown(none, "2001:db8::9", true, V4), "2001:db8::9");
        assert_eq!(shown(none, "2001:db8::9", false, V4), "none");
        assert_eq!(shown(v4, "2001:db8::9", true, V4), "10.0.0.1");
    }

    #[test]
    fn a_link_local_next_hop_is_sent_only_with_a_global_one_rfc2545_3() {
        let none = NextHops::default();
        let v6 = NextHops {
            v6: Some("2001:db8::1".parse().unwrap()),
            ..none
        };
        let both = NextHops {
            v4: Some([10, 0, 0, 1].into()),
            ..v6
        };
        let misled = NextHops {
            v6: Some("fe80::7".parse().unwrap()),
            ..none
        };
        for (next_hops, over, family, expected) in [
            (none, false, V6, "none"),
            (misled, false, V6, "none"),
            (v6, false, V6, "2001:db8::1 (fe80::9)"),
            (v6, false, V4, "none"),
            (v6, true, V4, "2001:db8::1 (fe80::9)"),
            (both, false, V4, "10.0.0.1"),
            (both, true, V4, "2001:db8::1 (fe80::9)"),
        ] {
            assert_eq!(
                shown(next_hops, "fe80::9", over, family),
                expected,
                "{over} {family}"
            );
        }
    }

    /// draft-ietf-idr-linklocal-capability §3: 16 octets.
    #[test]
    fn an_unnumbered_peer_gets_a_link_local_next_hop_alone() {
        let global = "2001:db8::1".parse().unwrap();
        let v4 = NextHops {
            v4: Some([10, 0, 0, 1].into()),
            v6: None,
        };
        let both = NextHops {
            v6: Some(global),
            ..v4
        };
        let own = Some(address("fe80::9"));
        for (next_hops, over, family, expected) in [
            (NextHops::default(), false, V6, Some("fe80::9")),
            (NextHops::default(), true, V4, Some("fe80::9")),
            (NextHops::default(), false, V4, None),
            (v4, true, V4, Some("fe80::9")),
            (v4, false, V4, Some("10.0.0.1")),
            (both, true, V4, Some("fe80::9")),
            (both, false, V6, Some("fe80::9")),
        ] {
            let next_hop = next_hops.next_hop(family, own, over, true);
            let shown = next_hop.map(|next_hop| next_hop.to_string());
            assert_eq!(shown.as_deref(), expected, "{over} {family}");
        }
    }

    #[test]
    fn a_session_is_link_local_if_the_peers_address_is_unless_its_source_is_global() {
        let router = |text: &str| {
            let remote = std::net::SocketAddr::new(address(text), 179);
            PeerConfig::new("tor", remote, Asn(64512), Asn(64513))
        };
        assert!(router("fe80::1").is_link_local());
        assert!(!router("2001:db8::1").is_link_local());
        assert!(
            !router("169.254.0.1").is_link_local(),
            "IPv4 next hops have no scope"
        );
        let mut sourced = router("fe80::1");
        sourced.transport.source_address = Some(address("2001:db8::9"));
        assert!(!sourced.is_link_local());
        let expected = NextHop::global_v6("2001:db8::9".parse().unwrap());
        assert_eq!(sourced.next_hop(V6, None, false), Some(expected));
    }
}
