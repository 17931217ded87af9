//! Two other implementations, smoltcp and etherparse, and our codecs read the same packets: they
//! accept the same ones, with equal fields. What RFC 4861 demands beyond that is written here once
//! more.
#![allow(clippy::unwrap_used)] // a panic fails the test

use std::net::Ipv6Addr;

use etherparse::{ArpOperation, ArpPacket, Icmpv6Slice, Ipv6HeaderSlice};
use ferrolb_layer2::mac::Mac;
use ferrolb_layer2::wire::arp::{Arp, Operation};
use ferrolb_layer2::wire::ethernet::Header;
use ferrolb_layer2::wire::ndp::{Ndp, solicited_node};
use proptest::prelude::*;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    self, ArpRepr, Icmpv6Packet, Icmpv6Repr, NdiscNeighborFlags, NdiscRepr, RawHardwareAddress,
};

/// The ARP packet as smoltcp reads it.
fn arp_by_smoltcp(payload: &[u8]) -> Option<Arp> {
    let packet = wire::ArpPacket::new_checked(payload).ok()?;
    let ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr,
        source_protocol_addr,
        target_hardware_addr,
        target_protocol_addr,
    } = ArpRepr::parse(&packet).ok()?
    else {
        return None;
    };
    Some(Arp {
        operation: match operation {
            wire::ArpOperation::Request => Operation::Request,
            wire::ArpOperation::Reply => Operation::Reply,
            wire::ArpOperation::Unknown(_) => return None,
        },
        sender_mac: Mac(source_hardware_addr.0),
        sender: source_protocol_addr,
        target_mac: Mac(target_hardware_addr.0),
        target: target_protocol_addr,
    })
}

/// The ARP packet as etherparse reads it.
fn arp_by_etherparse(payload: &[u8]) -> Option<Arp> {
    let packet = ArpPacket::from_slice(payload).ok()?.try_eth_ipv4().ok()?;
    Some(Arp {
        operation: match packet.operation {
            ArpOperation::REQUEST => Operation::Request,
            ArpOperation::REPLY => Operation::Reply,
            _ => return None,
        },
        sender_mac: Mac(packet.sender_mac),
        sender: packet.sender_ipv4.into(),
        target_mac: Mac(packet.target_mac),
        target: packet.target_ipv4.into(),
    })
}

/// The packet of Neighbor Discovery as smoltcp and etherparse read it, after the checks of RFC 4861
/// §7.1.1 and §7.1.2.
fn ndp_by_others(packet: &[u8]) -> Option<Ndp> {
    let header = Ipv6HeaderSlice::from_slice(packet).ok()?;
    let length = usize::from(header.payload_length());
    let message = packet.get(40..)?.get(..length)?;
    let (source, destination) = (header.source_addr(), header.destination_addr());
    let icmp = Icmpv6Slice::from_slice(message).ok()?;
    let valid = icmp.is_checksum_valid(header.source(), header.destination())
        && header.next_header().0 == 58
        && header.hop_limit() == 255
        && icmp.code_u8() == 0
        && !source.is_multicast();
    if !valid {
        return None;
    }
    let parsed = Icmpv6Packet::new_checked(message).ok()?;
    let capabilities = ChecksumCapabilities::default();
    let repr = Icmpv6Repr::parse(&source, &destination, &parsed, &capabilities).ok()?;
    let address = |raw: RawHardwareAddress| Mac(raw.as_bytes().try_into().unwrap());
    let Icmpv6Repr::Ndisc(repr) = repr else {
        return None;
    };
    match repr {
        NdiscRepr::NeighborSolicit {
            target_addr,
            lladdr,
        } => {
            let detection = source.is_unspecified();
            let to_group = destination == solicited_node(target_addr);
            let valid = !detection || (to_group && lladdr.is_none());
            (valid && !target_addr.is_multicast()).then_some(Ndp::Solicitation {
                source,
                destination,
                target: target_addr,
                source_mac: lladdr.map(address),
            })
        }
        NdiscRepr::NeighborAdvert {
            flags,
            target_addr,
            lladdr,
        } => {
            let solicited = flags.contains(NdiscNeighborFlags::SOLICITED);
            let valid = !(solicited && destination.is_multicast());
            (valid && !target_addr.is_multicast()).then_some(Ndp::Advertisement {
                source,
                destination,
                target: target_addr,
                router: flags.contains(NdiscNeighborFlags::ROUTER),
                solicited,
                overrides: flags.contains(NdiscNeighborFlags::OVERRIDE),
                target_mac: lladdr.map(address),
            })
        }
        _ => None,
    }
}

/// An ARP packet, most often with one field that is not as it must be, or without its end.
fn arp_payload() -> impl Strategy<Value = Vec<u8>> {
    let fields = (1..=3u8, any::<[u8; 20]>());
    let change = prop::option::of((0..8usize, any::<u8>()));
    let length = prop_oneof![3 => Just(28), 1 => 0..60usize];
    (fields, change, length).prop_map(|((operation, rest), change, length)| {
        let mut payload = vec![0, 1, 8, 0, 6, 4, 0, operation];
        payload.extend(rest);
        if let Some((at, value)) = change {
            payload[at] = value;
        }
        payload.resize(length, 0);
        payload
    })
}

fn ipv6() -> impl Strategy<Value = Ipv6Addr> {
    prop_oneof![
        Just(Ipv6Addr::UNSPECIFIED),
        Just("ff02::1".parse().unwrap()),
        Just("fe80::9".parse().unwrap()),
        any::<[u8; 16]>().prop_map(Ipv6Addr::from),
    ]
}

/// Options of different kinds, as the others differ in which of two equal kinds they read.
fn options() -> impl Strategy<Value = Vec<u8>> {
    let option = (
        prop::sample::select(vec![1u8, 2, 5, 14, 200]),
        0..3u8,
        any::<[u8; 14]>(),
    );
    prop::collection::vec(option, 0..4).prop_map(|mut options| {
        options.sort_by_key(|(kind, ..)| *kind);
        options.dedup_by_key(|(kind, ..)| *kind);
        let octets = options.into_iter().flat_map(|(kind, units, value)| {
            let length = (usize::from(units) * 8).saturating_sub(2);
            let head = [kind, units];
            head.into_iter().chain(value.into_iter().take(length))
        });
        octets.collect()
    })
}

/// A packet of Neighbor Discovery with a correct checksum, in which rules of RFC 4861 are violated.
fn ndp_packet() -> impl Strategy<Value = Vec<u8>> {
    let mostly = |value: u8, other: u8| prop_oneof![9 => Just(value), 1 => Just(other)];
    let head = (
        prop::sample::select(vec![135u8, 135, 136, 136, 134]),
        mostly(0, 1),
        any::<u8>(),
        mostly(255, 254),
        mostly(58, 17),
    );
    let addresses = (ipv6(), ipv6(), ipv6(), any::<bool>());
    let cut = prop_oneof![9 => Just(0usize), 1 => 1..30usize];
    (head, addresses, options(), cut).prop_map(|(head, addresses, options, cut)| {
        let (kind, code, flags, hop_limit, next_header) = head;
        let (source, destination, target, to_group) = addresses;
        let destination = if to_group {
            solicited_node(target)
        } else {
            destination
        };
        let mut message = vec![kind, code, 0, 0, flags, 0, 0, 0];
        message.extend(target.octets());
        message.extend(options);
        message.truncate(message.len().saturating_sub(cut).max(8));
        Icmpv6Packet::new_unchecked(&mut message).fill_checksum(&source, &destination);
        let mut packet = vec![0x60, 0, 0, 0, 0, u8::try_from(message.len()).unwrap()];
        packet.extend([next_header, hop_limit]);
        packet.extend(source.octets());
        packet.extend(destination.octets());
        packet.extend(message);
        packet
    })
}

fn mac() -> impl Strategy<Value = Mac> {
    any::<[u8; 6]>().prop_map(Mac)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..<_>::default() })]

    #[test]
    fn arp_packets_are_accepted_as_by_smoltcp_and_etherparse(payload in arp_payload()) {
        let decoded = Arp::decode(&payload);
        prop_assert_eq!(decoded, arp_by_smoltcp(&payload));
        prop_assert_eq!(decoded, arp_by_etherparse(&payload));
    }

    #[test]
    fn smoltcp_and_etherparse_read_our_arp_packets(
        (mac, other) in (mac(), mac()), (ours, theirs) in (any::<[u8; 4]>(), any::<[u8; 4]>()),
    ) {
        let asked = Arp {
            operation: Operation::Request,
            sender_mac: other,
            sender: theirs.into(),
            target_mac: Mac::ZERO,
            target: ours.into(),
        };
        let forms = [
            Arp::reply_to(&asked, mac),
            Arp::gratuitous_request(mac, ours.into()),
            Arp::gratuitous_reply(mac, ours.into()),
            Arp::probe(mac, ours.into()),
        ];
        for form in forms {
            let frame = form.frame(mac, other);
            let (_, payload) = Header::decode(&frame).unwrap();
            prop_assert_eq!(arp_by_smoltcp(payload), Some(form));
            prop_assert_eq!(arp_by_etherparse(payload), Some(form));
        }
    }

    #[test]
    fn packets_of_neighbor_discovery_are_accepted_by_rfc4861_7_1(packet in ndp_packet()) {
        prop_assert_eq!(Ndp::decode(&packet), ndp_by_others(&packet));
    }

    #[test]
    fn a_wrong_checksum_is_noticed_as_by_smoltcp_and_etherparse(
        packet in ndp_packet(), at in 8..64usize, bit in 0..8,
    ) {
        let mut packet = packet;
        if let Some(octet) = packet.get_mut(at) {
            *octet ^= 1u8 << bit;
        }
        prop_assert_eq!(Ndp::decode(&packet), ndp_by_others(&packet));
    }

    #[test]
    fn smoltcp_and_etherparse_read_our_packets_of_neighbor_discovery(
        mac in mac(), other in mac(), target in any::<[u8; 16]>(), client in any::<[u8; 16]>(),
    ) {
        let (target, client) = (Ipv6Addr::from(target), Ipv6Addr::from(client));
        prop_assume!(!target.is_multicast() && !client.is_multicast() && !client.is_unspecified());
        let asked = Ndp::Solicitation {
            source: client,
            destination: solicited_node(target),
            target,
            source_mac: Some(other),
        };
        for packet in [asked, Ndp::probe(target), Ndp::unsolicited(mac, target)] {
            let frame = packet.frame(mac);
            let (_, payload) = Header::decode(&frame).unwrap();
            prop_assert_eq!(ndp_by_others(payload), Some(packet));
        }
        for packet in [asked, Ndp::probe(target)] {
            let frame = Ndp::answer(&packet, other, mac).unwrap();
            let (_, payload) = Header::decode(&frame).unwrap();
            let answer = ndp_by_others(payload);
            prop_assert!(answer.is_some());
            prop_assert_eq!(answer, Ndp::decode(payload));
        }
    }
}

/// Octets that were written from RFC 826 and RFC 5227 by hand.
#[test]
fn arp_has_the_octets_of_rfc826_and_rfc5227() {
    let mac = Mac([2, 0, 0x5e, 0, 0x53, 1]);
    let request = b"\0\x01\x08\0\x06\x04\0\x01\
        \x02\0\x5e\0\x53\x09\xc0\0\x02\x01\0\0\0\0\0\0\xc0\0\x02\x0a";
    let asked = Arp::decode(request).unwrap();
    let reply = b"\x02\0\x5e\0\x53\x09\x02\0\x5e\0\x53\x01\x08\x06\
        \0\x01\x08\0\x06\x04\0\x02\
        \x02\0\x5e\0\x53\x01\xc0\0\x02\x0a\x02\0\x5e\0\x53\x09\xc0\0\x02\x01";
    let frame = Arp::reply_to(&asked, mac).frame(mac, asked.sender_mac);
    assert_eq!(&frame[..42], reply);
    let announcement = b"\0\x01\x08\0\x06\x04\0\x01\
        \x02\0\x5e\0\x53\x01\xc0\0\x02\x0a\0\0\0\0\0\0\xc0\0\x02\x0a";
    let frame = Arp::gratuitous_request(mac, asked.target).frame(mac, Mac::BROADCAST);
    assert_eq!(&frame[14..42], announcement);
}

/// Octets that were written from RFC 4861 §4.3, §4.4 and §4.6.1 by hand; checksums by RFC 1071.
#[test]
fn neighbor_discovery_has_the_octets_of_rfc4861() {
    let mac = Mac([2, 0, 0x5e, 0, 0x53, 1]);
    let address: Ipv6Addr = "2001:db8::10".parse().unwrap();
    let frame = Ndp::unsolicited(mac, address).frame(mac);
    let mut expected = b"\x33\x33\0\0\0\x01\x02\0\x5e\0\x53\x01\x86\xdd".to_vec();
    expected.extend(b"\x60\0\0\0\0\x20\x3a\xff");
    expected.extend(b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x10");
    expected.extend(b"\xff\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\x01");
    // The complement of the sum of all words with the pseudo-header.
    expected.extend(b"\x88\0\x48\x0c");
    expected.extend(b"\x20\0\0\0\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x10\x02\x01");
    expected.extend(b"\x02\0\x5e\0\x53\x01");
    assert_eq!(frame, expected);
}
