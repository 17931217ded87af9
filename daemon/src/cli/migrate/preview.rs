//! What changes for Services: the plan of ferrolb beside what MetalLB does now.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::IpAddr;

use anyhow::{Result, anyhow, bail};

use super::facts::{Paths, is_metallb, name};
use super::samples::Samples;
use crate::core::api::Kind;
use crate::core::config::ConfigPlaces;
use crate::core::index::Index;
use crate::core::plan::{Plan, plan};
use crate::runtime::source::kube::{Cluster, Snapshot};

/// The addresses of each Service of type LoadBalancer, by namespace and name.
pub(super) type Addresses = BTreeMap<String, BTreeSet<IpAddr>>;

/// An announcement: the protocol, the address, and with BGP the node. By layer 2 one node announces
/// an address, which may be another one before and after.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Announced {
    Bgp(IpAddr, String),
    Layer2(IpAddr),
}

/// What ferrolb would do, and what differs from now.
pub(super) struct Preview {
    plan: Plan,
    /// Services whose addresses change, with those of now.
    moved: Vec<(String, BTreeSet<IpAddr>, BTreeSet<IpAddr>)>,
    lost: Vec<Announced>,
    new: Vec<Announced>,
}

impl Preview {
    /// Plans with the cluster's objects, and asks MetalLB's speakers what they announce.
    pub(super) async fn of(cluster: &Cluster, namespace: &str, index: Index) -> Result<Self> {
        let namespaces = [namespace.to_owned()];
        let snapshot = Snapshot::read(cluster, &Kind::ALL, &ConfigPlaces::of(&namespaces)).await?;
        if let Some((kind, message)) = snapshot.unreadable.first() {
            bail!("can't list {}: {message}", kind.full_name());
        }
        let plan = plan(index, snapshot.into_changes()?);
        let now = addresses(cluster).await?;
        let announced = announced_by_metallb(cluster, namespace).await?;
        Ok(Self::compare(plan, &now, &announced))
    }

    fn compare(plan: Plan, now: &Addresses, announced: &BTreeSet<Announced>) -> Self {
        let moved = plan.services.iter().filter_map(|service| {
            let id = format!("{}/{}", service.namespace, service.name);
            let before = now.get(&id).cloned().unwrap_or_default();
            let after: BTreeSet<IpAddr> = service.addresses.iter().copied().collect();
            let moves = !before.is_empty() && before != after;
            moves.then_some((id, before, after))
        });
        let moved = moved.collect();
        let addresses: BTreeSet<IpAddr> = plan
            .services
            .iter()
            .flat_map(|service| service.addresses.iter().copied())
            .collect();
        let mut planned: BTreeSet<Announced> = BTreeSet::new();
        for route in &plan.routes {
            let covered = addresses.iter().filter(|ip| route.prefix.contains(*ip));
            planned.extend(covered.map(|ip| Announced::Bgp(*ip, route.node.clone())));
        }
        let by_layer2 = plan.layer2.iter();
        planned.extend(by_layer2.map(|entry| Announced::Layer2(entry.address)));
        Self {
            moved,
            lost: announced.difference(&planned).cloned().collect(),
            new: planned.difference(announced).cloned().collect(),
            plan,
        }
    }

    /// The reasons for which a migration would lose an address or an announcement.
    pub(super) fn losses(&self) -> Vec<String> {
        let moved = self.moved.iter().map(|(service, before, after)| {
            let after = if after.is_empty() {
                "no address".to_owned()
            } else {
                join(after)
            };
            format!("{service} has {}, and would get {after}", join(before))
        });
        let lost = self.lost.iter().map(|announced| {
            format!(
                "{announced} would not be announced{}",
                self.reason(announced)
            )
        });
        let errors = self.plan.errors.iter();
        let errors = errors.map(|error| format!("{}: {}", error.object, error.message));
        errors.chain(moved).chain(lost).collect()
    }

    /// The Services with an address that only one node can announce, with that node: nothing else
    /// carries their traffic while it is moved.
    fn on_one_node(&self) -> Vec<(String, &str)> {
        let services = self.plan.services.iter().filter_map(|service| {
            let mut only = service.addresses.iter().filter_map(|address| {
                let routes = self.plan.routes.iter();
                let of_address = routes.filter(|route| route.prefix.contains(address));
                let layer2 = self
                    .plan
                    .layer2
                    .iter()
                    .filter(|entry| entry.address == *address);
                let candidates = layer2.flat_map(|entry| &entry.candidates);
                let by_bgp = of_address.map(|route| route.node.as_str());
                let by_layer2 = candidates.map(|candidate| candidate.node.as_str());
                let nodes: BTreeSet<&str> = by_bgp.chain(by_layer2).collect();
                let mut nodes = nodes.into_iter();
                nodes.next().filter(|_| nodes.next().is_none())
            });
            let id = format!("{}/{}", service.namespace, service.name);
            only.next().map(|node| (id, node))
        });
        services.collect()
    }

    /// Why the plan withholds an announcement.
    fn reason(&self, announced: &Announced) -> String {
        let (address, node) = match announced {
            Announced::Bgp(address, node) => (address, Some(node.as_str())),
            Announced::Layer2(address) => (address, None),
        };
        let services = self.plan.services.iter();
        let services: Vec<_> = services
            .filter(|service| service.addresses.contains(address))
            .collect();
        let withheld = self.plan.withheld.iter().find(|entry| {
            let here = entry.node.is_none() || node.is_none() || entry.node.as_deref() == node;
            let of_it = |name: &str, namespace: &str| {
                let mut services = services.iter();
                services.any(|service| service.name == name && service.namespace == namespace)
            };
            here && of_it(&entry.name, &entry.namespace)
        });
        withheld.map_or_else(String::new, |entry| {
            format!(" ({}: {})", entry.reason, entry.message)
        })
    }

    /// For people: what stays, and what is new.
    pub(super) fn summary(&self) -> Result<String> {
        let mut text = String::new();
        let plan = &self.plan;
        let with_address = plan.services.iter();
        let with_address = with_address.filter(|service| !service.addresses.is_empty());
        let kept = with_address.count().saturating_sub(self.moved.len());
        writeln!(
            text,
            "{} Services of type LoadBalancer, {kept} keep or get an address, {} would move",
            plan.services.len(),
            self.moved.len()
        )?;
        writeln!(
            text,
            "{} routes, {} addresses by layer 2; {} announcements of MetalLB would be lost",
            plan.routes.len(),
            plan.layer2.len(),
            self.lost.len()
        )?;
        for (service, node) in self.on_one_node() {
            writeln!(
                text,
                "interrupted: {service} is announced from {node} only: it is not reachable while \
                 that node is moved"
            )?;
        }
        for announced in &self.new {
            writeln!(text, "new: {announced} would be announced")?;
        }
        for notice in &plan.notices {
            writeln!(text, "notice: {}: {}", notice.object, notice.message)?;
        }
        Ok(text)
    }
}

impl std::fmt::Display for Announced {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bgp(address, node) => write!(f, "{address} by BGP from {node}"),
            Self::Layer2(address) => write!(f, "{address} by layer 2"),
        }
    }
}

fn join(addresses: &BTreeSet<IpAddr>) -> String {
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
        let namespace = service["metadata"]["namespace"].as_str();
        let id = format!("{}/{}", namespace.unwrap_or_default(), name(service));
        let ingress = service["status"]["loadBalancer"]["ingress"].as_array();
        let ips = ingress
            .into_iter()
            .flatten()
            .filter_map(|entry| entry["ip"].as_str());
        (id, ips.filter_map(|ip| ip.parse().ok()).collect())
    });
    Ok(addresses.collect())
}

/// What MetalLB's speakers announce by their own metrics. A speaker that doesn't answer, for
/// instance because it wants a token, announces nothing here.
async fn announced_by_metallb(cluster: &Cluster, namespace: &str) -> Result<BTreeSet<Announced>> {
    let pods = cluster.list(&Paths::new(namespace).pods).await?;
    let mut announced = BTreeSet::new();
    for pod in pods.iter().filter(|pod| is_metallb(pod, "speaker")) {
        if let Some(samples) = Samples::of(cluster, pod).await {
            announced.extend(
                samples
                    .of_metric("metallb_speaker_announced")
                    .filter_map(read),
            );
        }
    }
    Ok(announced)
}

fn read(labels: &BTreeMap<String, String>) -> Option<Announced> {
    let address = labels.get("ip")?.parse().ok()?;
    match labels.get("protocol")?.as_str() {
        "bgp" => Some(Announced::Bgp(address, labels.get("node")?.clone())),
        _ => Some(Announced::Layer2(address)),
    }
}

/// Checks that each Service has the addresses of before, unless it was deleted.
pub(super) fn check_unchanged(before: &Addresses, now: &Addresses) -> Result<()> {
    for (service, addresses) in before {
        let Some(found) = now.get(service) else {
            continue;
        };
        if !addresses.is_empty() && found != addresses {
            return Err(anyhow!(
                "{service} had {}, and has {} now: see kubectl describe service",
                join(addresses),
                if found.is_empty() {
                    "no address".to_owned()
                } else {
                    join(found)
                }
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::plan::{PlanError, PlannedRoute, PlannedService, Withheld};

    fn service(name: &str, address: &str) -> PlannedService {
        PlannedService {
            namespace: "shop".to_owned(),
            name: name.to_owned(),
            addresses: address.parse().into_iter().collect(),
            pool: None,
            reason: None,
            message: None,
        }
    }

    fn route(node: &str, prefix: &str) -> PlannedRoute {
        PlannedRoute {
            node: node.to_owned(),
            peer: "tor".to_owned(),
            prefix: prefix.parse().expect("a prefix"),
            next_hop: None,
            communities: Vec::new(),
            large_communities: Vec::new(),
            extended_communities: Vec::new(),
            atomic_aggregate: false,
            med: None,
            prepend: 0,
            local_pref: None,
        }
    }

    fn now(service: &str, address: &str) -> Addresses {
        let addresses = address.parse().into_iter().collect();
        [(format!("shop/{service}"), addresses)].into()
    }

    fn bgp(address: &str, node: &str) -> Announced {
        Announced::Bgp(address.parse().expect("an address"), node.to_owned())
    }

    #[test]
    fn an_aggregate_of_ferrolb_replaces_the_announcements_of_its_addresses() {
        let plan = Plan {
            services: vec![service("web", "192.0.2.1")],
            routes: vec![route("a", "192.0.2.0/24")],
            ..Plan::default()
        };
        let announced = BTreeSet::from([bgp("192.0.2.1", "a")]);
        let preview = Preview::compare(plan, &now("web", "192.0.2.1"), &announced);
        assert_eq!(preview.losses(), Vec::<String>::new());
        let summary = preview.summary().expect("text");
        assert!(summary.contains("0 would move"), "{summary}");
        assert!(!summary.contains("new:"), "{summary}");
    }

    #[test]
    fn services_with_one_path_are_named_with_their_node() {
        let plan = Plan {
            services: vec![service("one", "192.0.2.1"), service("two", "192.0.2.2")],
            routes: vec![
                route("a", "192.0.2.1/32"),
                route("a", "192.0.2.2/32"),
                route("b", "192.0.2.2/32"),
            ],
            ..Plan::default()
        };
        let preview = Preview::compare(plan, &Addresses::new(), &BTreeSet::new());
        let summary = preview.summary().expect("text");
        let lines = summary
            .lines()
            .filter(|line| line.starts_with("interrupted"));
        let expected = "interrupted: shop/one is announced from a only: it is not reachable while \
                        that node is moved";
        assert_eq!(lines.collect::<Vec<_>>(), [expected]);
    }

    #[test]
    fn an_announcement_that_would_be_lost_has_the_reason_of_the_plan() {
        let plan = Plan {
            services: vec![service("web", "192.0.2.1")],
            withheld: vec![Withheld {
                namespace: "shop".to_owned(),
                name: "web".to_owned(),
                node: Some("a".to_owned()),
                peer: None,
                reason: "NodeExcluded".to_owned(),
                message: "the node has the label".to_owned(),
            }],
            ..Plan::default()
        };
        let announced = BTreeSet::from([bgp("192.0.2.1", "a")]);
        let preview = Preview::compare(plan, &now("web", "192.0.2.1"), &announced);
        let expected = "192.0.2.1 by BGP from a would not be announced (NodeExcluded: the node has \
                        the label)";
        assert_eq!(preview.losses(), [expected]);
    }

    #[test]
    fn services_that_would_move_and_invalid_objects_are_losses() {
        let plan = Plan {
            services: vec![service("web", "192.0.2.7"), service("none", "")],
            errors: vec![PlanError {
                object: "IPAddressPool metallb-system/a".to_owned(),
                message: "spec.addresses: empty".to_owned(),
            }],
            ..Plan::default()
        };
        let mut before = now("web", "192.0.2.1");
        before.extend(now("none", "192.0.2.2"));
        let losses = Preview::compare(plan, &before, &BTreeSet::new()).losses();
        let expected = [
            "IPAddressPool metallb-system/a: spec.addresses: empty",
            "shop/web has 192.0.2.1, and would get 192.0.2.7",
            "shop/none has 192.0.2.2, and would get no address",
        ];
        assert_eq!(losses, expected);
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
