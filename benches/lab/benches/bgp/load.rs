//! Load of a measurement: how many routes a daemon announces to how many peers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use ferrolb_bgp::wire::Family;
use ipnet::IpNet;

/// The daemon's address, also its next hop.
pub(crate) const DAEMON4: Ipv4Addr = Ipv4Addr::new(10, 99, 200, 1);
pub(crate) const DAEMON6: Ipv6Addr = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 0xc8);
pub(crate) const DAEMON_ASN: u32 = 65001;

/// Prefix numbers from here on are changes; those below are the table.
pub(crate) const CHANGES: u32 = 1 << 22;

/// A table and its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) peers: u32,
    pub(crate) routes: u32,
    pub(crate) family: Family,
    pub(crate) bfd: Option<BfdLoad>,
}

/// BFD sessions in addition to the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BfdLoad {
    /// Number of sessions, to addresses of the sink that receive no routes.
    pub(crate) sessions: u32,
    /// Whether ferrolb has the capability for the real-time priority that it requests. The other
    /// daemons request none.
    pub(crate) real_time: bool,
}

impl Load {
    pub(crate) fn is_ipv4(self) -> bool {
        self.family == Family::IPV4_UNICAST
    }

    /// The sink's addresses with BGP sessions.
    pub(crate) fn addresses(self) -> Vec<IpAddr> {
        (0..self.peers)
            .map(|index| address(self.is_ipv4(), index))
            .collect()
    }

    /// The sink's addresses with BFD sessions; they follow those of [`Load::addresses`].
    pub(crate) fn bfd_addresses(self) -> Vec<IpAddr> {
        let sessions = self.bfd.map_or(0, |bfd| bfd.sessions);
        (self.peers..self.peers + sessions)
            .map(|index| address(self.is_ipv4(), index))
            .collect()
    }

    pub(crate) fn daemon_address(self) -> IpAddr {
        if self.is_ipv4() {
            DAEMON4.into()
        } else {
            DAEMON6.into()
        }
    }

    pub(crate) fn prefixes(self) -> impl Iterator<Item = IpNet> {
        (0..self.routes).map(move |index| prefix(self.is_ipv4(), index))
    }

    /// The smallest number of UPDATEs that can carry the table to one peer, without End-of-RIB.
    pub(crate) fn fewest_updates(self) -> u32 {
        self.routes.div_ceil(if self.is_ipv4() { 810 } else { 237 })
    }
}

fn address(ipv4: bool, index: u32) -> IpAddr {
    if ipv4 {
        Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 99, 0, 1)) + index).into()
    } else {
        Ipv6Addr::from((0xfd99_u128 << 112) + 1 + u128::from(index)).into()
    }
}

/// The prefix with this number: 16.0.0.0/32 and on, or 2001:db8:1::/128 and on.
pub(crate) fn prefix(ipv4: bool, index: u32) -> IpNet {
    if ipv4 {
        IpNet::from(IpAddr::from(Ipv4Addr::from((16 << 24) + index)))
    } else {
        IpNet::from(IpAddr::from(Ipv6Addr::from(
            (0x2001_0db8_0001_u128 << 80) + u128::from(index),
        )))
    }
}

/// The prefixes of the changes with these numbers.
pub(crate) fn changed(family_is_ipv4: bool, range: Range<u32>) -> impl Iterator<Item = IpNet> {
    range.map(move |index| prefix(family_is_ipv4, CHANGES + index))
}
