//! The addresses of Services, which must not change during a migration.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::{Result, anyhow};

use crate::runtime::source::kube::Cluster;

/// The addresses of each Service of type LoadBalancer, by namespace and name.
pub(super) type Addresses = BTreeMap<String, BTreeSet<IpAddr>>;

/// Addresses for people.
pub(super) fn join(addresses: &BTreeSet<IpAddr>) -> String {
    let addresses: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    addresses.join(", ")
}

/// The addresses in the status of all Services of type LoadBalancer.
pub(super) async fn addresses(cluster: &Cluster) -> Result<Addresses> {
    let services = cluster.list("/api/v1/services").await?;
    let balanced = services
        .iter()
        .filter(|service| service["spec"]["type"] == "LoadBalancer");
    let addresses = balanced.map(|service| {
        let text = |field: &str| service["metadata"][field].as_str().unwrap_or_default();
        let id = format!("{}/{}", text("namespace"), text("name"));
        let ingress = service["status"]["loadBalancer"]["ingress"].as_array();
        let ips = ingress
            .into_iter()
            .flatten()
            .filter_map(|entry| entry["ip"].as_str());
        (id, ips.filter_map(|ip| ip.parse().ok()).collect())
    });
    Ok(addresses.collect())
}

/// The Services that had other addresses before, for people. They may appear and be deleted.
pub(super) fn changes(before: &Addresses, now: &Addresses) -> Vec<String> {
    let changed = before.iter().filter_map(|(service, addresses)| {
        let found = now.get(service)?;
        let now = if found.is_empty() {
            "no address".to_owned()
        } else {
            join(found)
        };
        let changed = !addresses.is_empty() && found != addresses;
        changed.then(|| format!("{service} had {}, and has {now} now", join(addresses)))
    });
    changed.collect()
}

/// Checks that each Service has the addresses of before, unless it was deleted.
pub(super) fn check_unchanged(before: &Addresses, now: &Addresses) -> Result<()> {
    match changes(before, now).first() {
        Some(change) => Err(anyhow!("{change}: see kubectl describe service")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(service: &str, address: &str) -> Addresses {
        let addresses = address.parse().into_iter().collect();
        [(format!("shop/{service}"), addresses)].into()
    }

    #[test]
    fn addresses_may_appear_during_a_migration_but_not_change() {
        let before = now("web", "192.0.2.1");
        let mut later = before.clone();
        later.extend(now("new", "192.0.2.2"));
        check_unchanged(&before, &later).expect("nothing changed");
        check_unchanged(&before, &Addresses::new()).expect("the Service was deleted");
        let error = check_unchanged(&before, &now("web", "192.0.2.9")).expect_err("changed");
        assert!(error.to_string().contains("192.0.2.9"), "{error}");
    }
}
