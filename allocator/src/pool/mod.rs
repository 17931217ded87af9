//! One address pool: its entries, and what may be taken from it.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use thiserror::Error;

use crate::exclusion::{Exclusion, canonical, next, previous, reserved_in};
use crate::request::Family;

/// The settings of a pool beside its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolOptions {
    /// Whether services that ask for nothing may get addresses from here.
    pub auto_assign: bool,
    /// Whether IPv4 addresses that end in .0 or .255 are never used.
    pub avoid_buggy_ips: bool,
    /// Set if the pool has a `serviceAllocation`; the value is its priority. A smaller number is
    /// tried first, 0 last.
    pub pinned: Option<i64>,
    /// Set if this is the last good value of a pool that is invalid, unreadable or gone with its
    /// CRD: nothing new comes from it.
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

/// Why a pool's definition is refused.
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
    /// A range runs from one family into the other.
    #[error("pool {pool}: range {entry:?} mixes IPv4 and IPv6: write one range for each family")]
    MixedFamilies {
        /// The pool.
        pool: String,
        /// The entry as written.
        entry: String,
    },
    /// An entry has addresses that no service can have.
    #[error(
        "pool {pool}: {entry:?} contains {what} ({network}), which no service can have: leave \
        them out"
    )]
    Reserved {
        /// The pool.
        pool: String,
        /// The entry as written.
        entry: String,
        /// What those addresses are.
        what: &'static str,
        /// The whole network of them.
        network: IpNet,
    },
    /// Two entries have addresses in common.
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

/// Both ends belong to it and are of one family.
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

    fn contains(self, address: IpAddr) -> bool {
        self.first <= address && address <= self.last
    }

    pub(crate) fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// What is left of it below and above `gap`.
    fn without(self, gap: Self) -> impl Iterator<Item = Self> {
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

/// A pool of addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    name: String,
    options: PoolOptions,
    /// In the order written.
    entries: Vec<Span>,
    /// The entries without what is excluded.
    usable: Vec<Span>,
    prefixes: Vec<IpNet>,
    /// Those that have addresses in an entry.
    excluded: Vec<Exclusion>,
}

impl Pool {
    /// Reads a pool. Each entry of `addresses` is a CIDR (host bits don't matter) or a range
    /// `start-end` of which both ends belong to the pool. IPv4-mapped IPv6 addresses are read as
    /// the IPv4 addresses that they are.
    ///
    /// # Errors
    /// [`PoolError`], naming the first entry that is wrong.
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
            if let Some(earlier) = entries.iter().position(|other| other.overlaps(span)) {
                return Err(PoolError::Overlap {
                    pool: name.to_owned(),
                    entry: entry.clone(),
                    other: addresses[earlier].clone(),
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
        })
    }

    /// The same pool with addresses that belong to something else: they still lie in it, but no
    /// service gets one. A service that has one keeps it.
    #[must_use]
    pub fn excluding(mut self, exclusions: &[Exclusion]) -> Self {
        for exclusion in exclusions {
            let gap = exclusion.span();
            if self.entries.iter().any(|entry| entry.overlaps(gap)) {
                let usable = self.usable.iter();
                self.usable = usable.flat_map(|span| span.without(gap)).collect();
                self.excluded.push(exclusion.clone());
            }
        }
        self
    }

    /// What is excluded, as far as it has addresses in the pool.
    #[must_use]
    pub fn excluded(&self) -> &[Exclusion] {
        &self.excluded
    }

    /// What the address belongs to, if that excludes it.
    #[must_use]
    pub fn excludes(&self, address: IpAddr) -> Option<&Exclusion> {
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

    /// The addresses as CIDRs: entries in the order written, a range as its smallest set of
    /// CIDRs, ascending.
    #[must_use]
    pub fn prefixes(&self) -> &[IpNet] {
        &self.prefixes
    }

    /// Whether the address lies in one of the entries, whether or not it may be used.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.entries.iter().any(|entry| entry.contains(address))
    }

    /// How many addresses of a family may be used, saturating. Those that are excluded, by
    /// `avoid_buggy_ips` or because they belong to something else, don't count.
    #[must_use]
    pub fn capacity(&self, family: Family) -> u128 {
        self.spans(family)
            .map(|span| self.count(span))
            .fold(0, u128::saturating_add)
    }

    /// Whether `avoid_buggy_ips` excludes the address.
    #[must_use]
    pub fn avoids(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => self.options.avoid_buggy_ips && matches!(v4.octets()[3], 0 | 255),
            IpAddr::V6(_) => false,
        }
    }

    /// The entries in the order written.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Span> {
        self.entries.iter().copied()
    }

    /// What may be used of a family, in the order of the entries.
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
                // How many below `end` have the last octet 0 or 255.
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
            // `parse_entry` lets no such span through.
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
