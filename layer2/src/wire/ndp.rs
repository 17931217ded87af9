//! Neighbor Discovery for IPv6 (RFC 4861): Neighbor Solicitation and Neighbor Advertisement.

use std::net::Ipv6Addr;

use super::ethernet::{ETHER_TYPE_IPV6, Header};
use super::icmpv6::{
    ALL_NODES, Message, SOURCE_LINK_LAYER, TARGET_LINK_LAYER, decode, link_layer_option, packet,
};
use crate::mac::Mac;

const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// A packet of Neighbor Discovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ndp {
    /// Asks for the Ethernet address of the target.
    Solicitation {
        /// Address of the sender, `::` in Duplicate Address Detection.
        source: Ipv6Addr,
        /// The target, or its solicited-node group.
        destination: Ipv6Addr,
        /// The address that is asked for.
        target: Ipv6Addr,
        /// Option Source Link-Layer Address.
        source_mac: Option<Mac>,
    },
    /// States the Ethernet address of the target.
    Advertisement {
        /// Address of the sender.
        source: Ipv6Addr,
        /// The host that asked, or `ff02::1`.
        destination: Ipv6Addr,
        /// The address whose Ethernet address is stated.
        target: Ipv6Addr,
        /// Flag R: the sender is a router.
        router: bool,
        /// Flag S: it answers a solicitation.
        solicited: bool,
        /// Flag O: it replaces an existing cache entry.
        overrides: bool,
        /// Option Target Link-Layer Address.
        target_mac: Option<Mac>,
    },
}

/// The solicited-node group of an address (RFC 4291 §2.7.1).
pub const fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::from_octets([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

impl Ndp {
    /// Decodes an IPv6 packet, with all checks of RFC 4861 §7.1.1 and §7.1.2. None for other
    /// packets and for those that fail a check. Octets after the packet are padding.
    pub fn decode(packet: &[u8]) -> Option<Self> {
        let Message {
            source,
            destination,
            kind,
            mut body,
        } = decode(packet)?;
        let [flags, ..] = body.array::<4>()?;
        let target = body.ipv6()?;
        if target.is_multicast() {
            return None;
        }
        let option = |kind| link_layer_option(body, kind);
        match kind {
            SOLICITATION => {
                let source_mac = option(SOURCE_LINK_LAYER)?;
                let group = solicited_node(target);
                if source.is_unspecified() && (destination != group || source_mac.is_some()) {
                    return None;
                }
                Some(Self::Solicitation {
                    source,
                    destination,
                    target,
                    source_mac,
                })
            }
            ADVERTISEMENT => {
                let solicited = flags & SOLICITED != 0;
                let target_mac = option(TARGET_LINK_LAYER)?;
                (!(solicited && destination.is_multicast())).then_some(Self::Advertisement {
                    source,
                    destination,
                    target,
                    router: flags & ROUTER != 0,
                    solicited,
                    overrides: flags & OVERRIDE != 0,
                    target_mac,
                })
            }
            _ => None,
        }
    }

    /// The answer to a solicitation for an address of ours, as a frame. `asker` is the Ethernet
    /// source of the solicitation. The answer to Duplicate Address Detection goes to all nodes
    /// (RFC 4861 §7.2.4). Flag O is set: an address of a service has one owner at a time, so its
    /// answer replaces the entry of an earlier owner. None for an advertisement.
    pub fn answer(solicitation: &Self, asker: Mac, mac: Mac) -> Option<Vec<u8>> {
        let Self::Solicitation { source, target, .. } = *solicitation else {
            return None;
        };
        if source.is_unspecified() {
            return Some(Self::unsolicited(mac, target).frame(mac));
        }
        let advertisement = Self::Advertisement {
            source: target,
            destination: source,
            target,
            router: false,
            solicited: true,
            overrides: true,
            target_mac: Some(mac),
        };
        Some(advertisement.frame_to(mac, asker))
    }

    /// An unsolicited advertisement to all nodes (RFC 4861 §7.2.6).
    pub const fn unsolicited(mac: Mac, address: Ipv6Addr) -> Self {
        Self::Advertisement {
            source: address,
            destination: ALL_NODES,
            target: address,
            router: false,
            solicited: false,
            overrides: true,
            target_mac: Some(mac),
        }
    }

    /// The solicitation of Duplicate Address Detection (RFC 4862 §5.4.2).
    pub const fn probe(address: Ipv6Addr) -> Self {
        Self::Solicitation {
            source: Ipv6Addr::UNSPECIFIED,
            destination: solicited_node(address),
            target: address,
            source_mac: None,
        }
    }

    /// The Ethernet frame to the group that is the packet's destination.
    pub fn frame(&self, source_mac: Mac) -> Vec<u8> {
        let (Self::Solicitation { destination, .. } | Self::Advertisement { destination, .. }) =
            self;
        self.frame_to(source_mac, Mac::of_ipv6_group(*destination))
    }

    /// The Ethernet frame to one host.
    pub fn frame_to(&self, source_mac: Mac, destination_mac: Mac) -> Vec<u8> {
        let header = Header {
            destination: destination_mac,
            source: source_mac,
            ether_type: ETHER_TYPE_IPV6,
        };
        header.frame(&self.packet())
    }

    /// The type of the message, its flags, and its link-layer address option.
    fn parts(&self) -> (u8, u8, Option<(u8, Mac)>) {
        match *self {
            Self::Solicitation { source_mac, .. } => (
                SOLICITATION,
                0,
                source_mac.map(|mac| (SOURCE_LINK_LAYER, mac)),
            ),
            Self::Advertisement {
                router,
                solicited,
                overrides,
                target_mac,
                ..
            } => {
                let flags = if router { ROUTER } else { 0 }
                    | if solicited { SOLICITED } else { 0 }
                    | if overrides { OVERRIDE } else { 0 };
                (
                    ADVERTISEMENT,
                    flags,
                    target_mac.map(|mac| (TARGET_LINK_LAYER, mac)),
                )
            }
        }
    }

    /// The IPv6 packet.
    fn packet(&self) -> Vec<u8> {
        let (kind, flags, option) = self.parts();
        let (Self::Solicitation {
            source,
            destination,
            target,
            ..
        }
        | Self::Advertisement {
            source,
            destination,
            target,
            ..
        }) = *self;
        let mut fixed = vec![flags, 0, 0, 0];
        fixed.extend_from_slice(&target.octets());
        packet([source, destination], kind, &fixed, option)
    }
}

#[cfg(test)]
mod tests {
    use smoltcp::wire::{NdiscNeighborFlags, NdiscRepr};

    use super::super::checksum::Checksum;
    use super::super::icmpv6::tests::check_with_smoltcp;
    use super::*;

    const ICMPV6: u8 = 58;

    const MAC: Mac = Mac([2, 0, 0x5e, 0, 0x53, 1]);
    const ASKER: Mac = Mac([2, 0, 0x5e, 0, 0x53, 9]);
    const ADDRESS: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0x12, 0x3456);
    const CLIENT: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);

    fn packet(frame: &[u8]) -> &[u8] {
        let (header, payload) = Header::decode(frame).unwrap();
        assert_eq!(header.ether_type, ETHER_TYPE_IPV6);
        payload
    }

    fn solicitation(source: Ipv6Addr, source_mac: Option<Mac>) -> Ndp {
        Ndp::Solicitation {
            source,
            destination: solicited_node(ADDRESS),
            target: ADDRESS,
            source_mac,
        }
    }

    #[test]
    fn the_group_has_the_last_three_octets_rfc4291_2_7_1() {
        let group: Ipv6Addr = "ff02::1:ff12:3456".parse().unwrap();
        assert_eq!(solicited_node(ADDRESS), group);
        assert_eq!(Mac::of_ipv6_group(group).to_string(), "33:33:ff:12:34:56");
    }

    #[test]
    fn an_answer_is_solicited_and_overrides() {
        let frame = Ndp::answer(&solicitation(CLIENT, Some(ASKER)), ASKER, MAC).unwrap();
        assert_eq!(Header::decode(&frame).unwrap().0.destination, ASKER);
        check_with_smoltcp(&frame, |ndisc, ip| {
            assert_eq!((ip.src_addr(), ip.dst_addr()), (ADDRESS, CLIENT));
            assert_eq!(ip.hop_limit(), 255);
            let NdiscRepr::NeighborAdvert {
                flags,
                target_addr,
                lladdr,
            } = ndisc
            else {
                panic!("{ndisc:?}");
            };
            assert_eq!(
                flags,
                NdiscNeighborFlags::SOLICITED | NdiscNeighborFlags::OVERRIDE
            );
            assert_eq!(target_addr, ADDRESS);
            assert_eq!(lladdr.unwrap().as_bytes(), MAC.0);
        });
    }

    #[test]
    fn the_answer_to_duplicate_address_detection_goes_to_all_nodes_rfc4861_7_2_4() {
        let probe = solicitation(Ipv6Addr::UNSPECIFIED, None);
        let frame = Ndp::answer(&probe, ASKER, MAC).unwrap();
        let destination = Header::decode(&frame).unwrap().0.destination;
        assert_eq!(destination.to_string(), "33:33:00:00:00:01");
        check_with_smoltcp(&frame, |ndisc, ip| {
            assert_eq!(ip.dst_addr(), ALL_NODES);
            let NdiscRepr::NeighborAdvert { flags, .. } = ndisc else {
                panic!("{ndisc:?}");
            };
            assert_eq!(flags, NdiscNeighborFlags::OVERRIDE);
        });
    }

    #[test]
    fn smoltcp_reads_a_probe() {
        let frame = Ndp::probe(ADDRESS).frame(MAC);
        check_with_smoltcp(&frame, |ndisc, ip| {
            assert_eq!(ip.src_addr(), Ipv6Addr::UNSPECIFIED);
            let NdiscRepr::NeighborSolicit {
                target_addr,
                lladdr,
            } = ndisc
            else {
                panic!("{ndisc:?}");
            };
            assert_eq!((target_addr, lladdr), (ADDRESS, None));
        });
    }

    #[test]
    fn decoding_reverses_encoding() {
        let packets = [
            solicitation(CLIENT, Some(ASKER)),
            solicitation(CLIENT, None),
            Ndp::probe(ADDRESS),
            Ndp::unsolicited(MAC, ADDRESS),
        ];
        for expected in packets {
            assert_eq!(Ndp::decode(packet(&expected.frame(MAC))), Some(expected));
        }
    }

    #[test]
    fn every_changed_octet_of_the_message_is_noticed() {
        let frame = Ndp::unsolicited(MAC, ADDRESS).frame(MAC);
        let original = packet(&frame);
        for position in 8..original.len() {
            let mut changed = original.to_vec();
            changed[position] ^= 0x01;
            assert_eq!(Ndp::decode(&changed), None, "octet {position}");
        }
        for length in 0..original.len() {
            assert_eq!(Ndp::decode(&original[..length]), None, "{length} octets");
        }
    }

    /// The packet with a changed octet and a correct checksum.
    fn with_octet(frame: &[u8], position: usize, value: u8) -> Vec<u8> {
        let mut changed = packet(frame).to_vec();
        changed[position] = value;
        changed[42..44].fill(0);
        let address = |range: std::ops::Range<usize>| {
            let octets: [u8; 16] = changed[range].try_into().unwrap();
            Ipv6Addr::from(octets)
        };
        let length = u16::from_be_bytes([changed[4], changed[5]]);
        let sum = Checksum::ipv6(address(8..24), address(24..40), ICMPV6, length)
            .add(&changed[40..])
            .finish();
        changed[42..44].copy_from_slice(&sum.to_be_bytes());
        changed
    }

    #[test]
    fn invalid_messages_are_discarded_rfc4861_7_1() {
        let advertisement = Ndp::unsolicited(MAC, ADDRESS).frame(MAC);
        let asked = solicitation(CLIENT, Some(ASKER)).frame(MAC);
        let probe = Ndp::probe(ADDRESS).frame(MAC);
        let cases = [
            ("hop limit", &advertisement, 7, 254),
            ("code", &advertisement, 41, 1),
            ("multicast target", &advertisement, 48, 0xff),
            ("multicast source", &advertisement, 8, 0xff),
            ("solicited, to a group", &advertisement, 44, 0x60),
            ("option of length 0", &advertisement, 65, 0),
            ("incomplete option", &advertisement, 65, 2),
            ("probe to another group", &probe, 39, 0),
            ("another ICMPv6 type", &asked, 40, 134),
        ];
        for (name, frame, position, value) in cases {
            assert_eq!(
                Ndp::decode(&with_octet(frame, position, value)),
                None,
                "{name}"
            );
        }
        let probe_with_option = solicitation(Ipv6Addr::UNSPECIFIED, Some(ASKER)).frame(MAC);
        assert_eq!(Ndp::decode(packet(&probe_with_option)), None);
        // The helper changes nothing else.
        let same = with_octet(&advertisement, 7, 255);
        assert_eq!(Ndp::decode(&same), Some(Ndp::unsolicited(MAC, ADDRESS)));
    }
}
