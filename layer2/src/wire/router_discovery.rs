//! Router Discovery for IPv6 (RFC 4861): Router Solicitation and Router Advertisement, as far as
//! neighbors find each other by them.

use std::net::Ipv6Addr;
use std::time::Duration;

use super::ethernet::{ETHER_TYPE_IPV6, Header};
use super::icmpv6::{ALL_NODES, ALL_ROUTERS, SOURCE_LINK_LAYER, decode, link_layer_option, packet};
use crate::mac::Mac;

const SOLICITATION: u8 = 133;
const ADVERTISEMENT: u8 = 134;

/// The Ethernet address of the group `ff02::2`.
pub const ALL_ROUTERS_MAC: Mac = Mac::of_ipv6_group(ALL_ROUTERS);

/// A packet of Router Discovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouterDiscovery {
    /// Asks routers to advertise themselves.
    Solicitation {
        /// Address of the sender, `::` if it has none yet.
        source: Ipv6Addr,
        /// Option Source Link-Layer Address.
        source_mac: Option<Mac>,
    },
    /// A router advertises itself.
    Advertisement {
        /// Its link-local address.
        source: Ipv6Addr,
        /// How long hosts may use it as a default router; zero: not at all.
        lifetime: Duration,
        /// Option Source Link-Layer Address.
        source_mac: Option<Mac>,
    },
}

impl RouterDiscovery {
    /// Decodes an IPv6 packet, with all checks of RFC 4861 §6.1.1 and §6.1.2. None for other
    /// packets and for those that fail a check.
    pub fn decode(packet: &[u8]) -> Option<Self> {
        let mut message = decode(packet)?;
        let source = message.source;
        match message.kind {
            SOLICITATION => {
                let _reserved = message.body.u32()?;
                let source_mac = link_layer_option(message.body, SOURCE_LINK_LAYER)?;
                (!source.is_unspecified() || source_mac.is_none())
                    .then_some(Self::Solicitation { source, source_mac })
            }
            ADVERTISEMENT => {
                let [_hop_limit, _flags] = message.body.array()?;
                let lifetime = Duration::from_secs(message.body.u16()?.into());
                let _timers = message.body.u64()?;
                let source_mac = link_layer_option(message.body, SOURCE_LINK_LAYER)?;
                source
                    .is_unicast_link_local()
                    .then_some(Self::Advertisement {
                        source,
                        lifetime,
                        source_mac,
                    })
            }
            _ => None,
        }
    }

    /// Our advertisement to all nodes, with lifetime 0: no host uses us as a default router, or
    /// takes any other setting from it.
    pub const fn of_neighbor(source: Ipv6Addr, mac: Mac) -> Self {
        Self::Advertisement {
            source,
            lifetime: Duration::ZERO,
            source_mac: Some(mac),
        }
    }

    /// The Ethernet frame to all routers, or to all nodes. A lifetime is cut to whole seconds, at
    /// most 65,535.
    pub fn frame(&self, mac: Mac) -> Vec<u8> {
        let (kind, source, destination, fixed, source_mac) = match *self {
            Self::Solicitation { source, source_mac } => {
                (SOLICITATION, source, ALL_ROUTERS, vec![0; 4], source_mac)
            }
            Self::Advertisement {
                source,
                lifetime,
                source_mac,
            } => {
                let lifetime = u16::try_from(lifetime.as_secs()).unwrap_or(u16::MAX);
                // Hop limit, flags and timers: 0 means unspecified.
                let mut fixed = vec![0; 12];
                fixed.splice(2..4, lifetime.to_be_bytes());
                (ADVERTISEMENT, source, ALL_NODES, fixed, source_mac)
            }
        };
        let option = source_mac.map(|mac| (SOURCE_LINK_LAYER, mac));
        let header = Header {
            destination: Mac::of_ipv6_group(destination),
            source: mac,
            ether_type: ETHER_TYPE_IPV6,
        };
        header.frame(&packet([source, destination], kind, &fixed, option))
    }
}

#[cfg(test)]
mod tests {
    use smoltcp::wire::{NdiscRepr, NdiscRouterFlags};

    use super::super::icmpv6::tests::check_with_smoltcp;
    use super::*;

    const MAC: Mac = Mac([2, 0, 0x5e, 0, 0x53, 1]);
    const ADDRESS: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);

    fn packet_of(frame: &[u8]) -> &[u8] {
        Header::decode(frame).unwrap().1
    }

    #[test]
    fn our_advertisement_makes_us_no_default_router() {
        let frame = RouterDiscovery::of_neighbor(ADDRESS, MAC).frame(MAC);
        let destination = Header::decode(&frame).unwrap().0.destination;
        assert_eq!(destination.to_string(), "33:33:00:00:00:01");
        check_with_smoltcp(&frame, |ndisc, ip| {
            assert_eq!((ip.src_addr(), ip.dst_addr()), (ADDRESS, ALL_NODES));
            assert_eq!(ip.hop_limit(), 255);
            let NdiscRepr::RouterAdvert {
                flags,
                router_lifetime,
                lladdr,
                mtu,
                prefix_info,
                ..
            } = ndisc
            else {
                panic!("{ndisc:?}");
            };
            assert_eq!(router_lifetime.total_millis(), 0);
            assert_eq!(flags, NdiscRouterFlags::empty());
            assert_eq!((mtu, prefix_info), (None, None));
            assert_eq!(lladdr.unwrap().as_bytes(), MAC.0);
        });
    }

    #[test]
    fn decoding_reverses_encoding() {
        let packets = [
            RouterDiscovery::of_neighbor(ADDRESS, MAC),
            RouterDiscovery::Advertisement {
                source: ADDRESS,
                lifetime: Duration::from_secs(1800),
                source_mac: None,
            },
            RouterDiscovery::Solicitation {
                source: ADDRESS,
                source_mac: Some(MAC),
            },
            RouterDiscovery::Solicitation {
                source: Ipv6Addr::UNSPECIFIED,
                source_mac: None,
            },
        ];
        for expected in packets {
            let frame = expected.frame(MAC);
            let packet = packet_of(&frame);
            assert_eq!(RouterDiscovery::decode(packet), Some(expected));
            for length in 0..packet.len() {
                assert_eq!(RouterDiscovery::decode(&packet[..length]), None, "{length}");
            }
        }
    }

    #[test]
    fn invalid_messages_are_discarded_rfc4861_6_1() {
        let global = "2001:db8::1".parse().unwrap();
        let routed = RouterDiscovery::of_neighbor(global, MAC).frame(MAC);
        assert_eq!(RouterDiscovery::decode(packet_of(&routed)), None);
        let tentative = RouterDiscovery::Solicitation {
            source: Ipv6Addr::UNSPECIFIED,
            source_mac: Some(MAC),
        };
        let frame = tentative.frame(MAC);
        assert_eq!(RouterDiscovery::decode(packet_of(&frame)), None);
        let frame = RouterDiscovery::of_neighbor(ADDRESS, MAC).frame(MAC);
        let valid = packet_of(&frame);
        for position in [0, 6, 7, 8, 40, 41, 42, 57] {
            let mut changed = valid.to_vec();
            changed[position] ^= 0x10;
            assert_eq!(RouterDiscovery::decode(&changed), None, "octet {position}");
        }
    }
}
