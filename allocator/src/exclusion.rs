//! Addresses that no service may have: those that belong to something else, and those that mean
//! something else wherever they are.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::pool::Span;

/// A network whose addresses belong to something else: a node, a router, Pods. Displays as what
/// an address in it is: `an address of Node a`, or `in 10.244.0.0/24, the podCIDR of Node a`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Exclusion {
    network: IpNet,
    owner: String,
}

impl Exclusion {
    /// `owner` says what the network is, with an article: `the podCIDR of Node a`.
    pub fn new(network: IpNet, owner: impl Into<String>) -> Self {
        Self {
            network: canonical(network).trunc(),
            owner: owner.into(),
        }
    }

    /// The network.
    #[must_use]
    pub fn network(&self) -> IpNet {
        self.network
    }

    /// What it is, as given.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.owner
    }

    pub(crate) fn span(&self) -> Span {
        Span::of(self.network)
    }
}

impl fmt::Display for Exclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.network.prefix_len() < self.network.max_prefix_len() {
            write!(f, "in {}, ", self.network)?;
        }
        f.write_str(&self.owner)
    }
}

/// The network in its own family: one of IPv4-mapped IPv6 addresses (RFC 4291 §2.5.5.2) is an
/// IPv4 network, as such an address is an IPv4 address ([`IpAddr::to_canonical`]).
#[must_use]
pub fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else {
        return network;
    };
    v6.addr()
        .to_ipv4_mapped()
        .zip(v6.prefix_len().checked_sub(MAPPED.prefix_len()))
        .and_then(|(address, length)| Ipv4Net::new(address, length).ok())
        .map_or(network, IpNet::V4)
}

const MAPPED: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96);

/// What never is the address of a service.
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

/// The first reserved network that has addresses in a span, and what it is.
pub(crate) fn reserved_in(span: Span) -> Option<(IpNet, &'static str)> {
    let overlaps = |(network, _): &&(IpNet, &str)| Span::of(*network).overlaps(span);
    RESERVED.iter().find(overlaps).copied()
}

/// The next address of the family; none at its end.
pub(crate) fn next(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => v4
            .to_bits()
            .checked_add(1)
            .map(|b| Ipv4Addr::from_bits(b).into()),
        IpAddr::V6(v6) => v6
            .to_bits()
            .checked_add(1)
            .map(|b| Ipv6Addr::from_bits(b).into()),
    }
}

/// The previous address of the family; none at its beginning.
pub(crate) fn previous(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => v4
            .to_bits()
            .checked_sub(1)
            .map(|b| Ipv4Addr::from_bits(b).into()),
        IpAddr::V6(v6) => v6
            .to_bits()
            .checked_sub(1)
            .map(|b| Ipv6Addr::from_bits(b).into()),
    }
}
