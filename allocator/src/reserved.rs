//! Addresses with a special meaning (loopback, link-local, multicast, …), which no service can
//! have.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::family::MAPPED;
use crate::span::Span;

/// Reserved networks with their descriptions.
const RESERVED: [(IpNet, &str); 10] = [
    (
        v4([0, 0, 0, 0], 8),
        "unspecified addresses (RFC 1122 §3.2.1.3)",
    ),
    (v4([127, 0, 0, 0], 8), "loopback addresses"),
    (v4([169, 254, 0, 0], 16), "link-local addresses"),
    (v4([224, 0, 0, 0], 4), "multicast addresses"),
    (v4([255, 255, 255, 255], 32), "the broadcast address"),
    (v6([0; 8], 128), "the unspecified address"),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), "the loopback address"),
    (IpNet::V6(MAPPED), "IPv4-mapped addresses"),
    (
        v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10),
        "link-local addresses",
    ),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), "multicast addresses"),
];

const fn v4([a, b, c, d]: [u8; 4], length: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length))
}

const fn v6([a, b, c, d, e, f, g, h]: [u16; 8], length: u8) -> IpNet {
    let address = Ipv6Addr::new(a, b, c, d, e, f, g, h);
    IpNet::V6(Ipv6Net::new_assert(address, length))
}

/// The networks whose addresses no service can have.
pub fn reserved_networks() -> impl Iterator<Item = IpNet> {
    RESERVED.iter().map(|(network, _)| *network)
}

/// The first reserved network that overlaps the span, with its description.
pub(crate) fn reserved_in(span: Span) -> Option<(IpNet, &'static str)> {
    let overlaps = |(network, _): &&(IpNet, &str)| Span::of(*network).overlaps(span);
    RESERVED.iter().find(overlaps).copied()
}
