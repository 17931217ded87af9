//! The pools: what is in use, what is free, and how long that lasts.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ferrolb_allocator::Pool;
use jiff::SignedDuration;
use serde::Serialize;

use super::{Code, Findings, View, count};
use crate::core::allocate::pool_status::{assigned, in_use};
use crate::core::model::Family;

/// The rate is that of this time before now.
const WINDOW: SignedDuration = SignedDuration::from_hours(30 * 24);
/// Services that were created together, as at the start of a cluster, are no rate.
const MIN_WINDOW: SignedDuration = SignedDuration::from_hours(24);
const DAY: f64 = 86_400.0;
/// A pool that lasts for less than this gets a warning.
const FEW_DAYS: u64 = 7;

/// The addresses of a pool, of one family.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PoolLine {
    /// The IPAddressPool.
    pub pool: String,
    /// IPv4 or IPv6.
    pub family: String,
    /// Its addresses and ranges.
    pub addresses: Vec<String>,
    /// Whether services get addresses of it without a request.
    pub auto_assign: bool,
    /// How many addresses services have.
    pub used: u64,
    /// How many are free.
    pub free: u64,
    /// How many it has.
    pub capacity: u64,
    /// How many more addresses are used each day: by the creation times of the Services of the last
    /// 30 days that have one. Deleted ones don't count.
    pub per_day: f64,
    /// In how many days the free addresses are used at that rate. Absent if it is zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub days_left: Option<u64>,
}

/// A line for each pool and family.
pub(super) fn lines(view: &View<'_>, findings: &mut Findings) -> Vec<PoolLine> {
    let used = in_use(view.index);
    let created = creation_times(view);
    let mut lines = Vec::new();
    for pool in view.index.config().pools.iter() {
        for family in Family::ALL {
            let capacity = pool.capacity(family);
            if capacity == 0 {
                continue;
            }
            let assigned = assigned(pool, family, &used);
            let assigned = u64::try_from(assigned).unwrap_or(u64::MAX);
            let free = saturated(capacity.saturating_sub(u128::from(assigned)));
            let per_day = per_day(view, pool, family, &created);
            let prefixes = pool.prefixes().iter();
            let prefixes = prefixes.filter(|prefix| Family::of(prefix.addr()) == family);
            let line = PoolLine {
                pool: pool.name().to_owned(),
                family: family.to_string(),
                addresses: prefixes.map(ToString::to_string).collect(),
                auto_assign: pool.options().auto_assign,
                used: assigned,
                free,
                capacity: saturated(capacity),
                per_day,
                days_left: days_left(free, per_day),
            };
            add_finding(&line, findings);
            lines.push(line);
        }
    }
    lines
}

fn saturated(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// When the first Service of each address was created, in seconds since 1970.
fn creation_times(view: &View<'_>) -> BTreeMap<IpAddr, i64> {
    let mut created: BTreeMap<IpAddr, i64> = BTreeMap::new();
    let services = view
        .index
        .services()
        .filter(|service| service.load_balancer);
    for service in services {
        for address in service.addresses() {
            let at = service.request.created;
            let first = created.entry(*address).or_insert(at);
            *first = (*first).min(at);
        }
    }
    created
}

/// How many addresses a day came into use.
fn per_day(view: &View<'_>, pool: &Pool, family: Family, created: &BTreeMap<IpAddr, i64>) -> f64 {
    let of_pool = created.iter().filter(|(address, created)| {
        // In manifests there is no time.
        **created > 0 && Family::of(**address) == family && pool.contains(**address)
    });
    let ages = of_pool.map(|(_, created)| view.now.as_second().saturating_sub(*created));
    let mut ages: Vec<i64> = ages.collect();
    ages.sort_unstable();
    let oldest = ages.last().copied().unwrap_or_default();
    let window = oldest.clamp(MIN_WINDOW.as_secs(), WINDOW.as_secs());
    let recent = ages.partition_point(|age| *age <= window);
    // Fewer than 2^32 Services.
    let recent = u32::try_from(recent).unwrap_or(u32::MAX);
    let window = u32::try_from(window).unwrap_or(u32::MAX);
    f64::from(recent) * DAY / f64::from(window)
}

/// None: never, or not within a thousand years.
fn days_left(free: u64, per_day: f64) -> Option<u64> {
    const MAX: f64 = 365_000.0;
    let free = u32::try_from(free).ok()?;
    let days = f64::from(free) / per_day;
    if days.is_nan() || days >= MAX {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is between 0 and the maximum"
    )]
    let days = days as u64;
    Some(days)
}

fn add_finding(line: &PoolLine, findings: &mut Findings) {
    let PoolLine {
        pool, family, free, ..
    } = line;
    let object = format!("IPAddressPool {pool}");
    let command = Some(format!("ferrolb explain pool {pool}"));
    if *free == 0 {
        let text = format!(
            "all {} {family} addresses are in use: add some",
            line.capacity
        );
        findings.add(Code::PoolExhausted, object, text, command);
    } else if let Some(days) = line.days_left.filter(|days| *days < FEW_DAYS) {
        let free = count(usize::try_from(*free).unwrap_or(usize::MAX), "address");
        let days = count(usize::try_from(days).unwrap_or(usize::MAX), "day");
        let text = format!("{free} of {family} left, at the present rate for {days}");
        findings.add(Code::PoolNearlyExhausted, object, text, command);
    }
}
