//! Targets of the codecs.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use ferrolb_layer2::mac::Mac;
use ferrolb_layer2::status::NodeState;
use ferrolb_layer2::wire::arp::Arp;
use ferrolb_layer2::wire::ethernet::Header;
use ferrolb_layer2::wire::hello::{Claim, Hello, HelloError, Key, Section};
use ferrolb_layer2::wire::hello_frame;
use ferrolb_layer2::wire::ndp::{Ndp, solicited_node};
use ferrolb_layer2::wire::router_discovery::RouterDiscovery;

const MAC: Mac = Mac([2, 0, 0x5e, 0, 0x53, 1]);
const OTHER: Mac = Mac([2, 0, 0x5e, 0, 0x53, 2]);
const CLUSTER: u64 = 7;
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
/// Magic, version, key id and cluster.
const HELLO_HEADER: usize = 17;
const TAG: usize = 16;

/// Payload of an ARP frame: what is decoded equals what its encoding is decoded to.
pub fn arp(data: &[u8]) {
    let Some(decoded) = Arp::decode(data) else {
        return;
    };
    for packet in [decoded, Arp::reply_to(&decoded, MAC)] {
        let frame = packet.frame(MAC, OTHER);
        let (header, payload) = Header::decode(&frame).unwrap();
        assert_eq!((header.source, header.destination), (MAC, OTHER));
        assert_eq!(Arp::decode(payload), Some(packet));
    }
}

pub fn arp_seeds() -> Vec<Vec<u8>> {
    let address = [192, 0, 2, 10].into();
    let forms = [
        Arp::probe(MAC, address),
        Arp::gratuitous_request(MAC, address),
        Arp::gratuitous_reply(MAC, address),
    ];
    let frames = forms.iter().map(|form| form.frame(MAC, Mac::BROADCAST));
    frames.map(|frame| frame[14..].to_vec()).collect()
}

/// Source, destination and ICMPv6 message, which gets a valid IPv6 header and checksum. A decoded
/// message equals the one decoded from its encoding, and the answer to it is valid.
pub fn ndp(data: &[u8]) {
    // As it is: nearly always without a valid checksum.
    _ = Ndp::decode(data);
    let Some((addresses, message)) = data.split_at_checked(32) else {
        return;
    };
    let packet = ipv6(addresses, message);
    if let Some(decoded) = RouterDiscovery::decode(&packet) {
        let frame = decoded.frame(MAC);
        assert_eq!(RouterDiscovery::decode(&frame[14..]), Some(decoded));
    }
    let Some(decoded) = Ndp::decode(&packet) else {
        return;
    };
    let frame = decoded.frame(MAC);
    assert_eq!(Ndp::decode(&frame[14..]), Some(decoded));
    if let Some(answer) = Ndp::answer(&decoded, OTHER, MAC) {
        let answer = Ndp::decode(&answer[14..]);
        assert!(
            matches!(answer, Some(Ndp::Advertisement { .. })),
            "{answer:?}"
        );
    }
}

/// The IPv6 packet with a correct checksum in the message.
fn ipv6(addresses: &[u8], message: &[u8]) -> Vec<u8> {
    let message = &message[..message.len().min(1400)];
    let length = u16::try_from(message.len()).unwrap().to_be_bytes();
    let mut packet = vec![0x60, 0, 0, 0, length[0], length[1], 58, 255];
    packet.extend_from_slice(addresses);
    packet.extend_from_slice(message);
    if let Some(field) = packet.get_mut(42..44) {
        field.fill(0);
    }
    let words = packet[8..].chunks(2).chain([&length[..], &[0, 58]]);
    let sum: u32 = words
        .map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !(folded + (folded >> 16)).to_be_bytes()[2..]
        .iter()
        .fold(0u16, |all, octet| all << 8 | u16::from(*octet));
    if let Some(field) = packet.get_mut(42..44) {
        field.copy_from_slice(&checksum.to_be_bytes());
    }
    packet
}

pub fn ndp_seeds() -> Vec<Vec<u8>> {
    let address: Ipv6Addr = "2001:db8::10".parse().unwrap();
    let asked = Ndp::Solicitation {
        source: "fe80::1".parse().unwrap(),
        destination: solicited_node(address),
        target: address,
        source_mac: Some(OTHER),
    };
    let packets = [asked, Ndp::probe(address), Ndp::unsolicited(MAC, address)];
    // Without padding, and without the first eight octets of the IPv6 header.
    let without_header = |frame: Vec<u8>| {
        let length = usize::from(u16::from_be_bytes([frame[18], frame[19]]));
        frame[22..14 + 40 + length].to_vec()
    };
    let router = RouterDiscovery::of_neighbor("fe80::1".parse().unwrap(), MAC);
    let frames = packets.iter().map(|packet| packet.frame(MAC));
    frames
        .chain([router.frame(MAC)])
        .map(without_header)
        .collect()
}

/// A hello without its header and authentication, which are added. A decoded hello equals the one
/// decoded from its encoding, and its parts fit into their frames.
pub fn hello(data: &[u8]) {
    let keys = [Key::new(SECRET)];
    let decode = |octets: &[u8]| Hello::decode(octets, CLUSTER, &keys);
    _ = hello_frame::decapsulate(data);
    assert!(decode(data).is_err(), "accepted without authentication");
    let mut octets = b"FLB2\x01".to_vec();
    octets.extend_from_slice(&keys[0].id().to_be_bytes());
    octets.extend_from_slice(&CLUSTER.to_be_bytes());
    octets.extend_from_slice(data);
    let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET);
    let tag = ring::hmac::sign(&secret, &octets);
    octets.extend_from_slice(&tag.as_ref()[..TAG]);
    let decoded = match decode(&octets) {
        Ok(decoded) => decoded,
        Err(error) => {
            assert_eq!(error, HelloError::Malformed);
            return;
        }
    };
    let encoded = decoded.encode(&keys[0]);
    assert!(encoded.len() <= octets.len());
    assert_eq!(decode(&encoded), Ok(decoded.clone()));
    if decoded.sequence < u64::MAX / 2 {
        for part in decoded.split(2048) {
            assert!(part.encode(&keys[0]).len() <= 2048);
        }
    }
    for source in ["192.0.2.11", "fe80::11"] {
        let source: IpAddr = source.parse().unwrap();
        let frame = hello_frame::encapsulate(MAC, source, &encoded);
        assert_eq!(hello_frame::decapsulate(&frame), Some((MAC, &encoded[..])));
    }
}

pub fn hello_seeds() -> Vec<Vec<u8>> {
    let address = IpAddr::from([192, 0, 2, 10]);
    let claims = || vec![Claim { address, epoch: 5 }];
    let node = || "node2".into();
    let sections = vec![
        Section::Claims(claims()),
        Section::Intents(claims()),
        Section::Released(claims()),
        Section::Successors {
            node: node(),
            claims: claims(),
        },
        Section::Remembered {
            node: node(),
            claims: claims(),
        },
        Section::RequestClaims { node: node() },
        Section::Move {
            node: node(),
            addresses: vec![address],
        },
        Section::TestRequest {
            node: node(),
            addresses: vec!["2001:db8::10".parse().unwrap()],
        },
        Section::TestResult {
            node: node(),
            answers: vec![(address, vec![MAC, OTHER])],
        },
    ];
    let hello = |sections: Vec<Section>| Hello {
        cluster: CLUSTER,
        node: "node1".into(),
        instance: 1,
        sequence: 2,
        sent: 3,
        state: NodeState::Ready,
        interval: Duration::from_millis(100),
        multiplier: 3,
        owned: 1,
        digest: 4,
        mac: MAC,
        networks: vec!["192.0.2.11/24".parse().unwrap()],
        sections,
    };
    let key = Key::new(SECRET);
    let mut seeds = vec![hello(Vec::new()), hello(sections.clone())];
    seeds.extend(sections.into_iter().map(|section| hello(vec![section])));
    let octets = seeds.iter().map(|seed| seed.encode(&key));
    let inner = octets.map(|octets| octets[HELLO_HEADER..octets.len() - TAG].to_vec());
    inner.collect()
}
