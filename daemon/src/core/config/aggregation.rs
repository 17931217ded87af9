//! The aggregates of pools: the prefixes that an aggregation length means, and which lengths are
//! refused.

use ferrolb_allocator::Pool;
use ipnet::IpNet;

use super::Config;
use super::advertisement::Advertisement;
use crate::core::api::{Errors, FieldError};
use crate::core::model::Family;

/// Maximum number of aggregates of a pool in one family that are announced without a service.
pub(crate) const AGGREGATES_MAX: u32 = 1024;

/// The aggregates of a whole pool in one family: its CIDRs, cut at this length. None exceeds the
/// pool: a CIDR that is longer is one aggregate, for instance an end of a range.
///
/// # Errors
/// Their number, if it exceeds [`AGGREGATES_MAX`].
pub(crate) fn aggregates(pool: &Pool, family: Family, length: u8) -> Result<Vec<IpNet>, u128> {
    let parts = |cidr: &IpNet| {
        let bits = u32::from(length.saturating_sub(cidr.prefix_len()));
        1_u128.checked_shl(bits).unwrap_or(u128::MAX)
    };
    let count = cidrs(pool, family).map(parts).fold(0, u128::saturating_add);
    if count > u128::from(AGGREGATES_MAX) {
        return Err(count);
    }
    let cut = |cidr: &IpNet| {
        let parts = cidr.subnets(length.max(cidr.prefix_len()));
        parts.into_iter().flatten()
    };
    Ok(cidrs(pool, family).flat_map(cut).collect())
}

/// The CIDRs of a pool in one family.
pub(crate) fn cidrs(pool: &Pool, family: Family) -> impl Iterator<Item = &IpNet> {
    let all = pool.prefixes().iter();
    all.filter(move |cidr| Family::of(cidr.addr()) == family)
}

/// Rejects an aggregate that exceeds an entry of its pool, which would attract traffic for foreign
/// addresses; and too many aggregates that are announced without a service.
pub(super) fn check(advertisement: &Advertisement, config: &Config) -> Result<(), FieldError> {
    let mut errors = Errors::default();
    for (name, details) in &config.pool_details {
        let labels = Some(&details.labels);
        if !advertisement.selection.selects_pool(name, labels) {
            continue;
        }
        for (family, field) in [
            (Family::V4, "spec.aggregationLength"),
            (Family::V6, "spec.aggregationLengthV6"),
        ] {
            let length = advertisement.length(family);
            let min = details.min_aggregation(family);
            if length < min {
                let message = format!(
                    "{length} is shorter than /{min}, the largest CIDR in an entry of pool {name}: \
                     the aggregate would contain addresses outside of that entry: use {min} or more"
                );
                errors.add(FieldError::new(field, message));
            } else if advertisement.is_always_announced()
                && advertisement.aggregates(family)
                && let Some(pool) = config.pools.get(name)
                && let Err(count) = aggregates(pool, family, length)
            {
                let message = format!(
                    "{length} cuts pool {name} into {count} aggregates, which are all announced \
                     with announceAggregates: always: use a shorter length, for at most \
                     {AGGREGATES_MAX}"
                );
                errors.add(FieldError::new(field, message));
            }
        }
    }
    errors.into_result(Some(()))
}

#[cfg(test)]
mod tests {
    use ferrolb_allocator::PoolOptions;

    use super::*;

    fn texts(entries: &[&str], length: u8) -> Result<Vec<String>, u128> {
        let entries: Vec<String> = entries.iter().map(|entry| (*entry).to_owned()).collect();
        let pool = Pool::parse("pool", &entries, PoolOptions::default()).expect("a pool");
        let found = aggregates(&pool, Family::V4, length)?;
        Ok(found.iter().map(IpNet::to_string).collect())
    }

    #[test]
    fn a_cidr_is_cut_at_the_length() {
        let halves = ["192.0.2.0/25", "192.0.2.128/25"].map(str::to_owned);
        assert_eq!(
            texts(&["192.0.2.0/24", "2001:db8::/64"], 25),
            Ok(halves.into())
        );
    }

    #[test]
    fn aggregates_of_a_range_do_not_exceed_it() {
        let parts = ["192.0.2.1/32", "192.0.2.2/31", "192.0.2.4/30"].map(str::to_owned);
        assert_eq!(texts(&["192.0.2.1-192.0.2.7"], 29), Ok(parts.into()));
    }

    #[test]
    fn too_many_aggregates_are_counted_not_listed() {
        assert_eq!(texts(&["10.0.0.0/8"], 24), Err(65536));
        assert_eq!(texts(&["10.0.0.0/14"], 24).map(|all| all.len()), Ok(1024));
    }
}
