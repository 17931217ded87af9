//! A speaker that shuts down while it sends its table withdraws what it has sent and sends no more.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use ferrolb_bgp::rib::{AdjRibOut, PeerIndex, RouteAttributes, SessionEncoding};
use ferrolb_bgp::wire::{Asn, DecodeContext, Family, Framer, MAX_LENGTH, Message, NextHop};
use ipnet::{IpNet, Ipv4Net};

const PEER: PeerIndex = PeerIndex(0);
const PREFIXES: u32 = 5000;

/// Number of announced and of withdrawn prefixes.
fn count_prefixes(octets: &[u8]) -> (usize, usize) {
    let context = DecodeContext {
        four_octet_asn: true,
        ..DecodeContext::default()
    };
    let mut framer = Framer::default();
    framer.push(octets);
    let (mut announced, mut withdrawn) = (0, 0);
    while let Some(message) = framer.next(&context) {
        if let Message::Update(update) = message.expect("a valid message") {
            announced += update.announced().count();
            withdrawn += update.withdrawn_prefixes().count();
        }
    }
    (announced, withdrawn)
}

#[test]
fn withdraw_all_during_the_initial_table_withdraws_only_what_was_sent() {
    let mut rib = AdjRibOut::new();
    let route = Arc::new(RouteAttributes::default());
    for number in 0..PREFIXES {
        let address = Ipv4Addr::from(0xc633_0000 + number);
        let prefix = IpNet::V4(Ipv4Net::new(address, 32).expect("a prefix"));
        rib.set(PEER, prefix, Some(route.clone()));
    }
    rib.open_gate();
    rib.session_up(
        PEER,
        SessionEncoding {
            families: vec![Family::IPV4_UNICAST],
            ebgp: Some(Asn(64512)),
            four_octet_asn: true,
            max_length: MAX_LENGTH,
            ipv4_next_hop: Some(NextHop::V4(Ipv4Addr::new(10, 0, 0, 1))),
            ipv6_next_hop: None,
            enhanced_route_refresh: false,
        },
    );
    let first = rib
        .poll_transmit(Instant::now(), PEER, MAX_LENGTH)
        .expect("a first UPDATE");
    let (sent, _) = count_prefixes(&first);
    assert!(sent > 0 && sent < PREFIXES as usize);

    rib.withdraw_all(PEER);
    rib.commit();
    let mut withdrawn = 0;
    while let Some(octets) = rib.poll_transmit(Instant::now(), PEER, MAX_LENGTH) {
        let (announced, more) = count_prefixes(&octets);
        assert_eq!(announced, 0);
        withdrawn += more;
    }
    assert_eq!(withdrawn, sent);
    assert_eq!(rib.advertised(Instant::now(), PEER).count(), 0);
}
