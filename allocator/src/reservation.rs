//! Addresses of a pool that are kept for one service.

use std::net::IpAddr;

use crate::family::{Family, canonical};
use crate::service::ServiceKey;
use crate::span::Span;

/// Addresses that are kept for one service, which need not exist. No other service gets one of them
/// unless they are reserved for it as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    service: ServiceKey,
    /// The reserved addresses, in the order of the entries.
    entries: Vec<Span>,
    /// The entries without the excluded networks.
    usable: Vec<Span>,
}

impl Reservation {
    /// The service.
    #[must_use]
    pub fn service(&self) -> &ServiceKey {
        &self.service
    }

    /// Whether the address is reserved.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.entries.iter().any(|entry| entry.contains(address))
    }

    /// The first address of a family, usable or not.
    #[must_use]
    pub fn first(&self, family: Family) -> Option<IpAddr> {
        let mut entries = self.entries.iter();
        Some(entries.find(|entry| entry.family() == family)?.first)
    }

    /// The usable addresses of a family, in the order of the entries.
    pub(crate) fn spans(&self, family: Family) -> impl Iterator<Item = Span> {
        let usable = self.usable.iter().copied();
        usable.filter(move |span| span.family() == family)
    }

    pub(crate) fn new(service: ServiceKey, entries: Vec<Span>) -> Self {
        Self {
            service,
            usable: entries.clone(),
            entries,
        }
    }

    /// Makes the addresses of a gap unusable.
    pub(crate) fn exclude(&mut self, gap: Span) {
        let usable = self.usable.iter();
        self.usable = usable.flat_map(|span| span.without(gap)).collect();
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = Span> {
        self.entries.iter().copied()
    }
}

/// Parses an address, a CIDR or a range. `None` if it is none of them, or if the range starts above
/// its end or mixes families.
pub(crate) fn parse_entry(entry: &str) -> Option<Span> {
    let address = |text: &str| Some(text.trim().parse::<IpAddr>().ok()?.to_canonical());
    if let Some((first, last)) = entry.split_once('-') {
        let span = Span {
            first: address(first)?,
            last: address(last)?,
        };
        let is_range = Family::of(span.first) == Family::of(span.last) && span.first <= span.last;
        return is_range.then_some(span);
    }
    if let Some(address) = address(entry) {
        return Some(Span {
            first: address,
            last: address,
        });
    }
    Some(Span::of(canonical(entry.trim().parse().ok()?).trunc()))
}
