use std::net::{IpAddr, Ipv4Addr};

use bgpkit_parser::models::{Bgp4MpEnum, Bgp4MpMessage, BgpMessage, CommonHeader, MrtMessage};
use bgpkit_parser::parser::parse_mrt_record;
use etherparse::{NetSlice, SlicedPacket, TransportSlice};

use super::*;
use crate::wire::{
    AsPath, EncodeContext, Family, NextHop, Notification, Open, Origin, PathAttributes,
    UpdateBuilder, keepalive, subcode,
};

const AT: Duration = Duration::new(1_764_000_000, 123_456_000);

fn session(four_octet_asn: bool) -> CapturedSession {
    CapturedSession {
        peer: "tor".to_owned(),
        template: None,
        local: "10.0.0.11:40000".parse().unwrap(),
        remote: "10.0.0.1:179".parse().unwrap(),
        local_asn: Asn(4_200_000_011),
        remote_asn: Asn(64513),
        four_octet_asn,
    }
}

fn over_ipv6() -> CapturedSession {
    CapturedSession {
        local: "[2001:db8::11]:179".parse().unwrap(),
        remote: "[fe80::1]:40001".parse().unwrap(),
        ..session(true)
    }
}

/// Announces 203.0.113.1/32 with the AS path 4200000011 4200000012.
fn update(four_octet_asn: bool) -> Bytes {
    let attributes = PathAttributes {
        origin: Some(Origin::Igp),
        as_path: Some(AsPath(vec![Asn(4_200_000_011), Asn(4_200_000_012)])),
        ..PathAttributes::default()
    };
    let context = EncodeContext {
        four_octet_asn,
        max_length: 4096,
    };
    let next_hop = NextHop::V4(Ipv4Addr::new(10, 0, 0, 11));
    let family = Family::IPV4_UNICAST;
    let mut builder = UpdateBuilder::announce(family, &attributes, &next_hop, &context).unwrap();
    assert!(builder.push(&"203.0.113.1/32".parse().unwrap()));
    builder.finish()
}

fn open() -> Bytes {
    let router_id = Ipv4Addr::new(10, 0, 0, 11);
    Open::new(Asn(4_200_000_011), 90, router_id, &[Family::IPV4_UNICAST]).encode()
}

fn message(session: CapturedSession, sent: bool, octets: Bytes) -> CapturedMessage {
    CapturedMessage {
        at: AT,
        sent,
        session,
        octets,
    }
}

/// The record as bgpkit-parser reads it. Nothing follows it.
fn read(message: &CapturedMessage) -> (CommonHeader, Bgp4MpMessage) {
    let record = mrt(message);
    let mut octets = &record[..];
    let parsed = parse_mrt_record(&mut octets).unwrap_or_else(|error| panic!("{error}"));
    assert!(octets.is_empty());
    let MrtMessage::Bgp4Mp(Bgp4MpEnum::Message(read)) = parsed.message else {
        panic!("{parsed:?}");
    };
    (parsed.common_header, read)
}

#[test]
fn another_program_reads_the_records_with_time_direction_and_ends() {
    for sent in [false, true] {
        let (header, read) = read(&message(session(true), sent, open()));
        assert_eq!(header.timestamp, 1_764_000_000);
        assert_eq!(header.microsecond_timestamp, Some(123_456));
        assert_eq!(read.is_local(), sent);
        assert_eq!(read.local_asn.to_u32(), 4_200_000_011);
        assert_eq!(read.peer_asn.to_u32(), 64513);
        assert_eq!(read.local_ip.to_string(), "10.0.0.11");
        assert_eq!(read.peer_ip.to_string(), "10.0.0.1");
        let BgpMessage::Open(open) = read.bgp_message else {
            panic!("{:?}", read.bgp_message);
        };
        assert_eq!(open.hold_time, 90);
    }
    let (_, ipv6) = read(&message(over_ipv6(), false, keepalive()));
    assert_eq!(ipv6.local_ip.to_string(), "2001:db8::11");
    assert_eq!(ipv6.peer_ip.to_string(), "fe80::1");
    assert!(matches!(ipv6.bgp_message, BgpMessage::KeepAlive));
    let cease = Notification::cease(subcode::cease::ADMINISTRATIVE_SHUTDOWN).encode();
    let (_, cease) = read(&message(session(false), true, cease));
    assert!(matches!(cease.bgp_message, BgpMessage::Notification(_)));
}

#[test]
fn as_numbers_of_an_update_are_read_with_the_size_of_the_session() {
    let path = |four_octet_asn| {
        let (_, read) = read(&message(
            session(four_octet_asn),
            true,
            update(four_octet_asn),
        ));
        assert!(read.is_local());
        let BgpMessage::Update(update) = read.bgp_message else {
            panic!("{:?}", read.bgp_message);
        };
        let prefixes: Vec<String> = update
            .announced_prefixes
            .iter()
            .map(|p| p.to_string())
            .collect();
        assert_eq!(prefixes, ["203.0.113.1/32"]);
        update.attributes.as_path().unwrap().to_string()
    };
    assert_eq!(path(true), "4200000011 4200000012");
    // AS_TRANS (RFC 6793 §9).
    assert_eq!(path(false), "23456 23456");
}

/// Time, ends with ports, the numbers of sequence and acknowledgement, and payload of each packet.
type Packet = (Duration, [(IpAddr, u16); 2], [u32; 2], Vec<u8>);

/// The packets of a file as etherparse reads them, which has its own checksums.
fn packets(mut file: &[u8]) -> Vec<Packet> {
    let mut number = || {
        let (word, rest) = file.split_first_chunk::<4>()?;
        file = rest;
        Some(u32::from_be_bytes(*word))
    };
    let header: Vec<u32> = (0..6).map_while(|_| number()).collect();
    assert_eq!(header, [0xa1b2_c3d4, 0x0002_0004, 0, 0, 262_144, 101]);
    let mut packets = Vec::new();
    while let Some((head, rest)) = file.split_first_chunk::<16>() {
        let word = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().unwrap());
        assert_eq!(word(8), word(12));
        let (octets, rest) = rest.split_at(word(8) as usize);
        file = rest;
        let at = Duration::new(word(0).into(), word(4) * 1000);
        let packet = SlicedPacket::from_ip(octets).unwrap();
        let Some(TransportSlice::Tcp(tcp)) = &packet.transport else {
            panic!("{packet:?}");
        };
        let (from, to): (IpAddr, IpAddr) = match &packet.net {
            Some(NetSlice::Ipv4(ip)) => {
                let header = ip.header();
                let (from, to) = (header.source(), header.destination());
                assert_eq!(
                    header.header_checksum(),
                    header.to_header().calc_header_checksum()
                );
                assert_eq!(Ok(tcp.checksum()), tcp.calc_checksum_ipv4(from, to));
                (from.into(), to.into())
            }
            Some(NetSlice::Ipv6(ip)) => {
                let (from, to) = (ip.header().source(), ip.header().destination());
                assert_eq!(Ok(tcp.checksum()), tcp.calc_checksum_ipv6(from, to));
                (from.into(), to.into())
            }
            other => panic!("{other:?}"),
        };
        let ends = [(from, tcp.source_port()), (to, tcp.destination_port())];
        let numbers = [tcp.sequence_number(), tcp.acknowledgment_number()];
        packets.push((at, ends, numbers, tcp.payload().to_vec()));
    }
    assert!(file.is_empty());
    packets
}

fn ends(from: &str, to: &str) -> [(IpAddr, u16); 2] {
    [from, to].map(|end| {
        let end: SocketAddr = end.parse().unwrap();
        (end.ip(), end.port())
    })
}

#[test]
fn packets_are_those_of_a_tcp_connection_with_right_checksums() {
    let mut pcap = Pcap::default();
    let mut file = Pcap::header().to_vec();
    let open = open();
    for (sent, octets) in [
        (true, open.clone()),
        (false, keepalive()),
        (true, keepalive()),
    ] {
        file.extend(pcap.packets(&message(session(true), sent, octets)));
    }
    file.extend(pcap.packets(&message(over_ipv6(), false, keepalive())));
    let packets = packets(&file);
    let (ours, theirs) = ("10.0.0.11:40000", "10.0.0.1:179");
    let after_open = 1 + u32::try_from(open.len()).unwrap();
    assert_eq!(packets[0], (AT, ends(ours, theirs), [1, 1], open.to_vec()));
    let keepalive = keepalive().to_vec();
    let expected = [
        (AT, ends(theirs, ours), [1, after_open], keepalive.clone()),
        (AT, ends(ours, theirs), [after_open, 20], keepalive.clone()),
        (
            AT,
            ends("[fe80::1]:40001", "[2001:db8::11]:179"),
            [1, 1],
            keepalive,
        ),
    ];
    assert_eq!(packets[1..], expected);
}

/// RFC 8654: 65,535 octets don't fit into one packet.
#[test]
fn the_longest_message_takes_several_packets() {
    let octets: Vec<u8> = (0..=254_u8).cycle().take(65_535).collect();
    let mut file = Pcap::header().to_vec();
    let long = message(session(true), true, octets.clone().into());
    file.extend(Pcap::default().packets(&long));
    let packets = packets(&file);
    assert_eq!(packets.len(), 2);
    assert_eq!(packets[1].2, [1 + 32_768, 1]);
    let payload: Vec<u8> = packets.into_iter().flat_map(|packet| packet.3).collect();
    assert_eq!(payload, octets);
}

#[test]
fn a_stream_is_split_into_messages_whatever_its_portions_are() {
    let messages = [open(), keepalive(), update(true), keepalive()];
    let stream = messages.concat();
    for portion in [1, 18, 19, 20, 4096] {
        let mut splitter = Splitter::default();
        let mut found = Vec::new();
        for octets in stream.chunks(portion) {
            splitter.push(octets);
            while let Some(message) = splitter.take_message() {
                found.push(message);
            }
        }
        assert_eq!(found, messages, "{portion}");
    }
}

/// A length below that of the header ends the session.
#[test]
fn octets_that_are_no_message_are_kept_as_they_are() {
    let mut splitter = Splitter::default();
    splitter.push(&[0; 25]);
    assert_eq!(splitter.take_message(), Some(Bytes::from_static(&[0; 25])));
    assert_eq!(splitter.take_message(), None);
    let record = mrt(&message(session(true), false, Bytes::from_static(&[0; 25])));
    assert!(record.ends_with(&[0; 25]));
}
