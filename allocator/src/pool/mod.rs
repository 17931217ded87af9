//! One address pool: its entries, settings and usable addresses.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use thiserror::Error;

use crate::exclusion::Exclusion;
use crate::family::{Family, canonical};
use crate::reservation::{self, Reservation};
use crate::reserved::reserved_in;
use crate::service::ServiceKey;
use crate::span::Span;

/// The settings of a pool: everything but its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolOptions {
    /// Whether the pool serves services that do not request this pool or one of its addresses.
    pub auto_assign: bool,
    /// Whether IPv4 addresses that end in .0 or .255 are never allocated.
    pub avoid_buggy_ips: bool,
    /// The priority in the pool's `serviceAllocation`; `None` if the pool has none. Pools are tried
    /// in ascending order of priority, 0 last.
    pub pinned: Option<i64>,
    /// Whether this is the last valid definition of a pool that is now invalid or unreadable, or
    /// whose CRD was deleted. Services keep their addresses, but no further address is allocated
    /// from the pool.
    pub frozen: bool,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            auto_assign: true,
            avoid_buggy_ips: false,
            pinned: None,
            frozen: false,
        }
    }
}

/// Why the definition of a pool is rejected.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PoolError {
    /// The pool lists no addresses.
    #[error("pool {pool} has no addresses: add a CIDR or a start-end range to spec.addresses")]
    Empty {
        /// The pool.
        pool: String,
    },
    /// An entry is neither a CIDR nor a range.
    #[error(
        "pool {pool}: {entry:?} is neither a CIDR (192.0.2.0/24) nor a range \
        (192.0.2.10-192.0.2.20); for one address write it with /32 or /128"
    )]
    Unparsable {
        /// The pool.
        pool: String,
        /// The entry as written.
        entry: String,
    },
    /// A range starts above its end.
    #[error("pool {pool}: range {entry:?} starts above its end: swap the two addresses")]
    Reversed {
        /// The pool.
        pool: String,
        /// The entry as written.
        entry: String,
    },
    /// A range starts in one family and ends in the other.
    #[error("pool {pool}: range {entry:?} mixes IPv4 and IPv6: write one range for each family")]
    MixedFamilies {
        /// The pool.
        pool: String,
        /// The entry as written.
        entry: String,
    },
    /// An entry contains addresses that no service can have.
    #[error(
        "pool {pool}: {entry:?} contains {what} ({network}), which no service can have: exclude \
        them from the entry"
    )]
    Reserved {
        /// The pool.
        pool: String,
        /// The entry as written.
        entry: String,
        /// A description of these addresses.
        what: &'static str,
        /// The reserved network.
        network: IpNet,
    },
    /// An entry of a reservation is neither an address, nor a CIDR, nor a range.
    #[error(
        "pool {pool}: {entry:?} is neither an address, nor a CIDR (192.0.2.0/30), nor a range from \
         its lowest to its highest address (192.0.2.10-192.0.2.20)"
    )]
    ReservationUnparsable {
        /// The pool.
        pool: String,
        /// The entry as written.
        entry: String,
    },
    /// A reservation contains addresses that are not in the pool.
    #[error(
        "pool {pool}: {entry:?} contains addresses that are not in the pool: add them to \
         spec.addresses, or remove them"
    )]
    ReservationOutside {
        /// The pool.
        pool: String,
        /// The entry as written.
        entry: String,
    },
    /// Two entries overlap.
    #[error("pool {pool}: {entry:?} overlaps {other:?}: remove one of them")]
    Overlap {
        /// The pool.
        pool: String,
        /// The later entry as written.
        entry: String,
        /// The earlier entry as written.
        other: String,
    },
}

/// A pool of addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    name: String,
    options: PoolOptions,
    /// In the order of `spec.addresses`.
    entries: Vec<Span>,
    /// The entries without the excluded networks and the reservations: what any service can get.
    usable: Vec<Span>,
    prefixes: Vec<IpNet>,
    /// Only exclusions that overlap an entry.
    excluded: Vec<Exclusion>,
    reservations: Vec<Reservation>,
}

impl Pool {
    /// Parses a pool. Each entry of `addresses` is a CIDR (host bits are ignored) or a range
    /// `start-end` that includes both ends. IPv4-mapped IPv6 addresses are converted to IPv4.
    ///
    /// # Errors
    /// [`PoolError`], naming the first invalid entry.
    pub fn parse(
        name: &str,
        addresses: &[String],
        options: PoolOptions,
    ) -> Result<Self, PoolError> {
        if addresses.is_empty() {
            return Err(PoolError::Empty {
                pool: name.to_owned(),
            });
        }
        let mut entries: Vec<Span> = Vec::with_capacity(addresses.len());
        let mut prefixes = Vec::new();
        for entry in addresses {
            let (span, nets) = parse_entry(name, entry)?;
            if let Some((network, what)) = reserved_in(span) {
                return Err(PoolError::Reserved {
                    pool: name.to_owned(),
                    entry: entry.clone(),
                    what,
                    network,
                });
            }
            let mut earlier = entries.iter().zip(addresses);
            if let Some((_, other)) = earlier.find(|(other, _)| other.overlaps(span)) {
                return Err(PoolError::Overlap {
                    pool: name.to_owned(),
                    entry: entry.clone(),
                    other: other.clone(),
                });
            }
            entries.push(span);
            prefixes.extend(nets);
        }
        Ok(Self {
            name: name.to_owned(),
            options,
            usable: entries.clone(),
            entries,
            prefixes,
            excluded: Vec::new(),
            reservations: Vec::new(),
        })
    }

    /// Keeps addresses of the pool for a service. Each entry is an address, a CIDR or a range. The
    /// same address may be reserved for several services, which then may share it.
    ///
    /// # Errors
    /// [`PoolError`], naming the first invalid entry.
    pub fn reserving(
        mut self,
        service: ServiceKey,
        addresses: &[String],
    ) -> Result<Self, PoolError> {
        let mut entries = Vec::with_capacity(addresses.len());
        for entry in addresses {
            let (pool, written) = (self.name.clone(), entry.clone());
            let Some(span) = reservation::parse_entry(entry) else {
                let entry = written;
                return Err(PoolError::ReservationUnparsable { pool, entry });
            };
            let mut outside = vec![span];
            for part in &self.entries {
                outside = outside.iter().flat_map(|o| o.without(*part)).collect();
            }
            if !outside.is_empty() {
                let entry = written;
                return Err(PoolError::ReservationOutside { pool, entry });
            }
            entries.push(span);
        }
        let mut reservation = Reservation::new(service, entries);
        for exclusion in &self.excluded {
            reservation.exclude(exclusion.span());
        }
        for entry in reservation.entries() {
            self.withdraw(entry);
        }
        self.reservations.push(reservation);
        Ok(self)
    }

    /// The reservations.
    #[must_use]
    pub fn reservations(&self) -> &[Reservation] {
        &self.reservations
    }

    /// The reservations for a service.
    pub(crate) fn reserved_for(&self, service: &ServiceKey) -> impl Iterator<Item = &Reservation> {
        let reservations = self.reservations.iter();
        reservations.filter(move |kept| kept.service() == service)
    }

    /// Whether the address is reserved for the service.
    pub(crate) fn is_reserved_for(&self, address: IpAddr, service: &ServiceKey) -> bool {
        self.reserved_for(service)
            .any(|kept| kept.contains(address))
    }

    /// The reservation of the address for other services, unless it is reserved for this one too.
    #[must_use]
    pub fn reserved_for_another(
        &self,
        address: IpAddr,
        service: &ServiceKey,
    ) -> Option<&Reservation> {
        if self.is_reserved_for(address, service) {
            return None;
        }
        let mut reservations = self.reservations.iter();
        reservations.find(|kept| kept.contains(address))
    }

    /// Makes addresses unusable for services in general.
    fn withdraw(&mut self, gap: Span) {
        let usable = self.usable.iter();
        self.usable = usable.flat_map(|span| span.without(gap)).collect();
    }

    /// Excludes networks that belong to nodes, routers or Pods. Their addresses remain part of the
    /// pool but are never allocated. A service that already has one keeps it.
    #[must_use]
    pub fn excluding(mut self, exclusions: &[Exclusion]) -> Self {
        for exclusion in exclusions {
            let gap = exclusion.span();
            if self.entries.iter().any(|entry| entry.overlaps(gap)) {
                self.withdraw(gap);
                for reservation in &mut self.reservations {
                    reservation.exclude(gap);
                }
                self.excluded.push(exclusion.clone());
            }
        }
        self
    }

    /// The exclusions that overlap the pool.
    #[must_use]
    pub fn excluded(&self) -> &[Exclusion] {
        &self.excluded
    }

    /// The exclusion that contains the address, if any.
    #[must_use]
    pub fn exclusion_of(&self, address: IpAddr) -> Option<&Exclusion> {
        let mut excluded = self.excluded.iter();
        excluded.find(|exclusion| exclusion.span().contains(address))
    }

    /// The pool's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The pool's settings.
    #[must_use]
    pub fn options(&self) -> &PoolOptions {
        &self.options
    }

    /// The addresses as CIDRs, in the order of the entries. A range becomes the smallest set of
    /// CIDRs, in ascending order.
    #[must_use]
    pub fn prefixes(&self) -> &[IpNet] {
        &self.prefixes
    }

    /// Whether the address is in one of the entries, usable or not.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.entries.iter().any(|entry| entry.contains(address))
    }

    /// The number of usable addresses of a family, saturating. Reserved ones count. Excluded
    /// networks and the addresses that `avoid_buggy_ips` rules out do not.
    #[must_use]
    pub fn capacity(&self, family: Family) -> u128 {
        let mut reserved: Vec<Span> = Vec::new();
        let spans = self.reservations.iter().flat_map(|kept| kept.spans(family));
        for span in spans {
            // An address that is reserved twice counts once.
            let mut parts = vec![span];
            for counted in &reserved {
                parts = parts.iter().flat_map(|p| p.without(*counted)).collect();
            }
            reserved.extend(parts);
        }
        self.spans(family)
            .chain(reserved)
            .map(|span| self.count(span))
            .fold(0, u128::saturating_add)
    }

    /// Whether `avoid_buggy_ips` rules the address out.
    pub(crate) fn avoids(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => self.options.avoid_buggy_ips && matches!(v4.octets()[3], 0 | 255),
            IpAddr::V6(_) => false,
        }
    }

    /// The entries in the order of `spec.addresses`.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Span> {
        self.entries.iter().copied()
    }

    /// The addresses of a family that any service can get, in the order of the entries.
    pub(crate) fn spans(&self, family: Family) -> impl Iterator<Item = Span> {
        self.usable
            .iter()
            .copied()
            .filter(move |span| span.family() == family)
    }

    fn count(&self, span: Span) -> u128 {
        match (span.first, span.last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                let (first, last) = (u64::from(first.to_bits()), u64::from(last.to_bits()));
                // The number of addresses below `end` whose last octet is 0 or 255.
                let buggy = |end: u64| end.div_ceil(256) + end / 256;
                let avoided = buggy(last + 1) - buggy(first);
                let all = last - first + 1;
                u128::from(if self.options.avoid_buggy_ips {
                    all - avoided
                } else {
                    all
                })
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => {
                (last.to_bits() - first.to_bits()).saturating_add(1)
            }
            // Unreachable: `parse_entry` rejects ranges of two families.
            _ => 0,
        }
    }
}

fn parse_entry(pool: &str, entry: &str) -> Result<(Span, Vec<IpNet>), PoolError> {
    let unparsable = || PoolError::Unparsable {
        pool: pool.to_owned(),
        entry: entry.to_owned(),
    };
    let Some((start, end)) = entry.split_once('-') else {
        let net = entry.trim().parse().map_err(|_| unparsable())?;
        let net = canonical(net).trunc();
        return Ok((Span::of(net), vec![net]));
    };
    let address = |text: &str| text.trim().parse::<IpAddr>().map_err(|_| unparsable());
    let first = address(start)?.to_canonical();
    let last = address(end)?.to_canonical();
    let reversed = || PoolError::Reversed {
        pool: pool.to_owned(),
        entry: entry.to_owned(),
    };
    let nets: Vec<IpNet> = match (first, last) {
        (IpAddr::V4(a), IpAddr::V4(b)) if a <= b => {
            Ipv4Subnets::new(a, b, 0).map(IpNet::V4).collect()
        }
        (IpAddr::V6(a), IpAddr::V6(b)) if a <= b => {
            Ipv6Subnets::new(a, b, 0).map(IpNet::V6).collect()
        }
        (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => return Err(reversed()),
        _ => {
            return Err(PoolError::MixedFamilies {
                pool: pool.to_owned(),
                entry: entry.to_owned(),
            });
        }
    };
    Ok((Span { first, last }, nets))
}

#[cfg(test)]
mod tests;
