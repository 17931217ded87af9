//! Ranges of addresses of one family.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::family::Family;

/// A range of addresses of one family. Both ends are included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) first: IpAddr,
    pub(crate) last: IpAddr,
}

impl Span {
    pub(crate) fn of(network: IpNet) -> Self {
        Self {
            first: network.network(),
            last: network.broadcast(),
        }
    }

    pub(crate) fn contains(self, address: IpAddr) -> bool {
        self.first <= address && address <= self.last
    }

    pub(crate) fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// The parts of the span below and above `gap`.
    pub(crate) fn without(self, gap: Self) -> impl Iterator<Item = Self> {
        let below = previous(gap.first).map_or(self.last, |last| last.min(self.last));
        let above = next(gap.last).map_or(self.first, |first| first.max(self.first));
        let parts = if self.overlaps(gap) {
            [
                (self.first < gap.first).then_some((self.first, below)),
                (gap.last < self.last).then_some((above, self.last)),
            ]
        } else {
            [Some((self.first, self.last)), None]
        };
        parts
            .into_iter()
            .flatten()
            .map(|(first, last)| Self { first, last })
    }

    pub(crate) fn family(self) -> Family {
        Family::of(self.first)
    }
}

/// The next address, or `None` after the last address of the family.
pub(crate) fn next(address: IpAddr) -> Option<IpAddr> {
    Some(match address {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits().checked_add(1)?).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits().checked_add(1)?).into(),
    })
}

/// The previous address, or `None` before the first address of the family.
pub(crate) fn previous(address: IpAddr) -> Option<IpAddr> {
    Some(match address {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits().checked_sub(1)?).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits().checked_sub(1)?).into(),
    })
}
