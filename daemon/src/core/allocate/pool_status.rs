//! The statuses of IPAddressPools: how many addresses are assigned and available.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::core::api::ObjectKey;
use crate::core::api::metallb::PoolStatus;
use crate::core::index::Index;
use ferrolb_allocator::{Family, Pool};

/// Delay before a write is repeated whose effect is not visible. It doubles each time up to
/// [`REPEAT_MAX`], since older CRDs of MetalLB's lack the fields.
const REPEAT_FIRST: Duration = Duration::from_secs(10);
const REPEAT_MAX: Duration = Duration::from_hours(1);

/// The addresses that Services have, each once.
pub(crate) fn in_use(index: &Index) -> BTreeSet<IpAddr> {
    let ours = index.services().filter(|service| service.is_ours());
    ours.flat_map(|service| service.addresses().iter().copied())
        .collect()
}

/// How many addresses of a family a pool has in use.
pub(crate) fn assigned(pool: &Pool, family: Family, in_use: &BTreeSet<IpAddr>) -> usize {
    let of_family = in_use.iter().filter(|a| Family::of(**a) == family);
    of_family.filter(|a| pool.contains(**a)).count()
}

fn status_of(pool: &Pool, in_use: &BTreeSet<IpAddr>) -> PoolStatus {
    let counts = |family| {
        let assigned = assigned(pool, family, in_use);
        let available = pool
            .capacity(family)
            .saturating_sub(u128::try_from(assigned).unwrap_or(u128::MAX));
        (
            i64::try_from(assigned).unwrap_or(i64::MAX),
            i64::try_from(available).unwrap_or(i64::MAX),
        )
    };
    let (assigned_ipv4, available_ipv4) = counts(Family::V4);
    let (assigned_ipv6, available_ipv6) = counts(Family::V6);
    PoolStatus {
        assigned_ipv4,
        assigned_ipv6,
        available_ipv4,
        available_ipv6,
    }
}

/// A status that was written.
#[derive(Debug)]
struct Written {
    status: PoolStatus,
    repeat: Duration,
    due: Instant,
}

/// The statuses that the leader has written.
#[derive(Debug, Default)]
pub(crate) struct PoolStatuses(BTreeMap<ObjectKey, Written>);

impl PoolStatuses {
    /// Whether all objects had their status at the last call of [`Self::due`].
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The statuses to write now: those that differ from what the objects have.
    pub(crate) fn due(&mut self, now: Instant, index: &Index) -> Vec<(ObjectKey, PoolStatus)> {
        let in_use = in_use(index);
        let config = index.config();
        let mut due = Vec::new();
        let mut differing = BTreeMap::new();
        for pool in config.pools.iter() {
            let Some(details) = config.pool_details.get(pool.name()) else {
                continue;
            };
            let key = &details.object;
            if config.sources.origin(key) != key {
                // A ConfigMap or an AddressPool means it: it has no status.
                continue;
            }
            let status = status_of(pool, &in_use);
            if index.pool_status(key) == Some(status) {
                continue;
            }
            let before = self.0.remove(key);
            let same = before.filter(|written| written.status == status);
            let written = match same {
                Some(written) if written.due > now => written,
                same => {
                    due.push((key.clone(), status));
                    let repeat = same.map_or(REPEAT_FIRST, |w| (w.repeat * 2).min(REPEAT_MAX));
                    Written {
                        status,
                        repeat,
                        due: now + repeat,
                    }
                }
            };
            differing.insert(key.clone(), written);
        }
        self.0 = differing;
        due
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::core::api::{Kind, ObjectName, RawObject};
    use crate::core::index::change::Change;

    fn apply(index: &mut Index, kind: Kind, name: &str, mut body: Value) {
        body["kind"] = json!(kind.name());
        body["metadata"] = json!({ "name": name });
        let raw: RawObject = serde_json::from_value(body).expect("an object");
        let key = ObjectKey::new(kind, ObjectName::new("ns", name));
        index.apply(Change::Apply(key, raw));
    }

    fn pool(index: &mut Index, status: Value) {
        let reserved = json!([{ "namespace": "ns", "name": "later", "addresses": ["192.0.2.9"] }]);
        let spec = json!({
            "addresses": ["192.0.2.0/28", "2001:db8::/64"], "avoidBuggyIPs": true,
            "reservations": reserved
        });
        let body = json!({ "spec": spec, "status": status });
        apply(index, Kind::FerrolbIpAddressPool, "pool", body);
    }

    fn service(index: &mut Index, name: &str, addresses: &[&str]) {
        let ingress: Vec<Value> = addresses.iter().map(|ip| json!({ "ip": ip })).collect();
        let spec = json!({ "type": "LoadBalancer", "clusterIP": "10.96.0.1", "ports": [] });
        let status = json!({ "loadBalancer": { "ingress": ingress } });
        let body = json!({ "spec": spec, "status": status });
        apply(index, Kind::Service, name, body);
    }

    #[test]
    fn the_status_counts_each_address_in_use_once_and_the_free_ones() {
        let mut index = Index::default();
        pool(&mut index, json!({}));
        service(&mut index, "a", &["192.0.2.1", "2001:db8::1"]);
        service(&mut index, "shares", &["192.0.2.1"]);
        service(&mut index, "elsewhere", &["198.51.100.1"]);
        let due = PoolStatuses::default().due(Instant::now(), &index);
        let [(key, status)] = &due[..] else {
            panic!("{due:?}")
        };
        assert_eq!(key.to_string(), "IPAddressPool.ferrolb.io ns/pool");
        let status = serde_json::to_value(status).expect("JSON");
        let expected = json!({
            "assignedIPv4": 1, "assignedIPv6": 1, "availableIPv4": 14, "availableIPv6": i64::MAX
        });
        assert_eq!(status, expected);
        pool(&mut index, expected);
        assert!(
            PoolStatuses::default()
                .due(Instant::now(), &index)
                .is_empty()
        );
    }

    #[test]
    fn a_status_is_written_once_and_again_later_if_it_has_no_effect() {
        let mut index = Index::default();
        pool(&mut index, json!({}));
        let mut statuses = PoolStatuses::default();
        let start = Instant::now();
        assert_eq!(statuses.due(start, &index).len(), 1);
        let almost = Duration::from_millis(9_999);
        assert_eq!(statuses.due(start + almost, &index).len(), 0);
        assert_eq!(statuses.due(start + REPEAT_FIRST, &index).len(), 1);
        let again = start + 2 * REPEAT_FIRST;
        assert_eq!(statuses.due(again, &index).len(), 0, "the delay doubles");
        service(&mut index, "a", &["192.0.2.1"]);
        assert_eq!(statuses.due(again, &index).len(), 1, "another status");
    }
}
