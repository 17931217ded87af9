//! A receiver for tests of the Adj-RIB-Out. It has its own parser, so that a mistake shared by the
//! crate's encoder and decoder is found.

#![allow(
    clippy::unwrap_used,
    reason = "clippy.toml spares only functions marked as tests"
)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ferrolb_bgp::rib::SessionEncoding;
use ferrolb_bgp::wire::{Asn, DecodeContext, Family, Framer, Message, NextHop};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Path attributes of an UPDATE.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) as_path: Vec<u32>,
    pub(crate) next_hop: Option<IpAddr>,
    pub(crate) med: Option<u32>,
    pub(crate) local_pref: Option<u32>,
    pub(crate) communities: Vec<u32>,
    pub(crate) large_communities: Vec<[u32; 3]>,
    pub(crate) atomic_aggregate: bool,
    /// AS number and router ID.
    pub(crate) aggregator: Option<[u32; 2]>,
    pub(crate) extended_communities: Vec<[u8; 8]>,
    pub(crate) ipv6_extended_communities: Vec<[u8; 20]>,
}

/// Contents of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    Withdraw(Vec<IpNet>),
    Announce(Attributes, Vec<IpNet>),
    EndOfRib(Family),
    /// ROUTE-REFRESH with this subtype (RFC 7313).
    Refresh(u8, Family),
}

/// Parses `octets`. Panics unless they are complete, well-formed messages with one purpose each.
pub(crate) fn parse(mut octets: &[u8]) -> Vec<(usize, Sent)> {
    let mut messages = Vec::new();
    while !octets.is_empty() {
        let (header, _) = octets.split_at(19);
        assert_eq!(header[..16], [0xff; 16]);
        let (message, rest) = octets.split_at(usize::from(short(&header[16..])));
        let sent = match header[18] {
            2 => parse_update(&message[19..]),
            5 => parse_refresh(&message[19..]),
            other => panic!("unexpected message type {other}"),
        };
        decode_with_crate(message, &sent);
        messages.push((message.len(), sent));
        octets = rest;
    }
    messages
}

/// Checks that the crate's decoder accepts the message and agrees with this parser.
fn decode_with_crate(message: &[u8], sent: &Sent) {
    let ibgp = matches!(sent, Sent::Announce(attributes, _) if attributes.local_pref.is_some());
    let context = DecodeContext {
        four_octet_asn: true,
        ibgp,
        families: vec![Family::IPV4_UNICAST, Family::IPV6_UNICAST],
        max_length: 65_535,
        ipv4_next_hop_v6: true,
        enhanced_route_refresh: true,
        ..DecodeContext::default()
    };
    let mut framer = Framer::default();
    framer.push(message);
    let update = match framer.next(&context) {
        Some(Ok(Message::Update(update))) => update,
        Some(Ok(Message::RouteRefresh(refresh))) => {
            assert_eq!(sent, &Sent::Refresh(refresh.subtype, refresh.family));
            return;
        }
        other => panic!("decoded {other:?} instead of {sent:?}"),
    };
    assert_eq!(update.errors, []);
    match sent {
        Sent::Withdraw(prefixes) => assert!(update.withdrawn_prefixes().eq(prefixes.clone())),
        Sent::Announce(_, prefixes) => assert!(update.announced().eq(prefixes.clone())),
        Sent::EndOfRib(family) => assert_eq!(update.end_of_rib(), Some(*family)),
        Sent::Refresh(..) => panic!("decoded an UPDATE instead of {sent:?}"),
    }
}

fn parse_refresh(body: &[u8]) -> Sent {
    let family = match body {
        [0, 1, _, 1] => Family::IPV4_UNICAST,
        [0, 2, _, 1] => Family::IPV6_UNICAST,
        other => panic!("unexpected refresh {other:?}"),
    };
    Sent::Refresh(body[2], family)
}

fn parse_update(body: &[u8]) -> Sent {
    let (withdrawn, body) = block(body);
    let (mut octets, nlri) = block(body);
    let mut attributes = Attributes::default();
    let (mut announced, mut withdrawn) = (prefixes(nlri, false), prefixes(withdrawn, false));
    let mut ended = (octets.is_empty() && announced.is_empty() && withdrawn.is_empty())
        .then_some(Family::IPV4_UNICAST);
    while let [flags, code, rest @ ..] = octets {
        let (value, rest) = if flags & 0x10 != 0 {
            block(rest)
        } else {
            rest[1..].split_at(usize::from(rest[0]))
        };
        let words: Vec<u32> = value
            .chunks_exact(4)
            .map(|word| u32::from_be_bytes(word.try_into().unwrap()))
            .collect();
        match code {
            1 => assert_eq!(value, [0]),
            2 if value.is_empty() => {}
            2 => attributes.as_path = value[2..].chunks(4).map(word).collect(),
            3 => attributes.next_hop = Some(Ipv4Addr::from(word(value)).into()),
            4 => attributes.med = Some(word(value)),
            5 => attributes.local_pref = Some(word(value)),
            6 => attributes.atomic_aggregate = true,
            7 => attributes.aggregator = Some(words.try_into().unwrap()),
            8 => attributes.communities = words,
            16 => {
                let whole = value.chunks_exact(8);
                attributes.extended_communities =
                    whole.map(|one| one.try_into().unwrap()).collect();
            }
            25 => {
                let whole = value.chunks_exact(20);
                let whole = whole.map(|one| one.try_into().unwrap());
                attributes.ipv6_extended_communities = whole.collect();
            }
            14 => {
                assert_eq!((value[0], value[2..4].to_vec()), (0, vec![1, 16]));
                let next_hop = <[u8; 16]>::try_from(&value[4..20]).unwrap();
                attributes.next_hop = Some(Ipv6Addr::from(next_hop).into());
                announced = prefixes(&value[21..], value[1] == 2);
            }
            15 => {
                assert_eq!(value[..3], [0, 2, 1]);
                withdrawn = prefixes(&value[3..], true);
                ended = withdrawn.is_empty().then_some(Family::IPV6_UNICAST);
            }
            32 => {
                attributes.large_communities =
                    words.chunks(3).map(|c| c.try_into().unwrap()).collect();
            }
            _ => panic!("attribute {code}"),
        }
        octets = rest;
    }
    match (ended, announced.is_empty(), withdrawn.is_empty()) {
        (Some(family), true, true) => Sent::EndOfRib(family),
        (None, false, true) => Sent::Announce(attributes, announced),
        (None, true, false) => Sent::Withdraw(withdrawn),
        _ => panic!("an UPDATE with two purposes"),
    }
}

fn short(octets: &[u8]) -> u16 {
    u16::from_be_bytes(octets[..2].try_into().unwrap())
}

fn word(octets: &[u8]) -> u32 {
    u32::from_be_bytes(octets.try_into().unwrap())
}

/// Splits off a block with a two-octet length.
fn block(octets: &[u8]) -> (&[u8], &[u8]) {
    octets[2..].split_at(usize::from(short(octets)))
}

fn prefixes(mut octets: &[u8], v6: bool) -> Vec<IpNet> {
    let mut prefixes = Vec::new();
    while let [length, rest @ ..] = octets {
        let (address, rest) = rest.split_at(usize::from(length.div_ceil(8)));
        let mut padded = [0; 16];
        padded[..address.len()].copy_from_slice(address);
        prefixes.push(if v6 {
            Ipv6Net::new(padded.into(), *length).unwrap().into()
        } else {
            let [a, b, c, d, ..] = padded;
            Ipv4Net::new(Ipv4Addr::new(a, b, c, d), *length)
                .unwrap()
                .into()
        });
        octets = rest;
    }
    prefixes
}

/// An eBGP session from AS 64512 with both families.
pub(crate) fn ebgp() -> SessionEncoding {
    SessionEncoding {
        families: vec![Family::IPV4_UNICAST, Family::IPV6_UNICAST],
        ebgp: Some(Asn(64512)),
        four_octet_asn: true,
        max_length: 4096,
        ipv4_next_hop: Some(NextHop::V4(Ipv4Addr::new(192, 0, 2, 1))),
        ipv6_next_hop: Some(NextHop::global_v6(Ipv6Addr::new(
            0x2001, 0xdb8, 0, 0, 0, 0, 0, 1,
        ))),
        enhanced_route_refresh: false,
    }
}

/// IPv4 host route number `index`.
pub(crate) fn v4(index: u32) -> IpNet {
    Ipv4Net::new(Ipv4Addr::from(0x0a00_0000 + index), 32)
        .unwrap()
        .into()
}

/// IPv6 host route number `index`.
pub(crate) fn v6(index: u32) -> IpNet {
    let address = 0x2001_0db8_0113_0000_0000_0000_0000_0000 + u128::from(index);
    Ipv6Net::new(Ipv6Addr::from(address), 128).unwrap().into()
}
