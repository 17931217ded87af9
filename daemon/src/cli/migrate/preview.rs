//! What changes for Services: the plan of ferrolb beside what MetalLB does now.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::IpAddr;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::addresses::{Addresses, addresses, join};
use super::announcement::Announced;
use super::sessions::{PlannedPeers, planned_peers};
use super::survey::Survey;
use crate::core::api::Kind;
use crate::core::config::ConfigPlaces;
use crate::core::config::peer::PasswordPlace;
use crate::core::index::Index;
use crate::core::plan::{Plan, plan_and_index};
use crate::runtime::source::kube::{Cluster, Snapshot};

/// What ferrolb would do, and what differs from now.
#[derive(Debug, Default)]
pub(super) struct Preview {
    plan: Plan,
    /// The BGPPeers of each node.
    pub peers: PlannedPeers,
    /// The Secrets with passwords of BGPPeers.
    secrets: BTreeSet<String>,
    /// The addresses of now.
    pub addresses: Addresses,
    /// What MetalLB announces now.
    pub metallb: Survey,
    /// Services whose addresses change, with those of now.
    moved: Vec<(String, BTreeSet<IpAddr>, BTreeSet<IpAddr>)>,
    lost: Vec<Announced>,
    new: Vec<Announced>,
    /// Addresses of the plan that no node can announce by layer 2 with the manifests, and why.
    dark: BTreeMap<IpAddr, String>,
}

impl Preview {
    /// Plans with the cluster's objects, and asks MetalLB's speakers what they announce.
    pub(super) async fn of(cluster: &Cluster, namespace: &str, index: Index) -> Result<Self> {
        let namespaces = [namespace.to_owned()];
        let snapshot = Snapshot::read(cluster, &Kind::ALL, &ConfigPlaces::of(&namespaces)).await?;
        if let Some((kind, message)) = snapshot.unreadable.first() {
            bail!("can't list {}: {message}", kind.full_name());
        }
        let (plan, index) = plan_and_index(index, snapshot.into_changes()?);
        let now = addresses(cluster).await?;
        let metallb = Survey::of_metallb(cluster, namespace, &now).await?;
        Ok(Self {
            peers: planned_peers(&index),
            secrets: secrets(&index),
            ..Self::compare(plan, now, metallb)
        })
    }

    fn compare(plan: Plan, now: Addresses, metallb: Survey) -> Self {
        let moved = plan.services.iter().filter_map(|service| {
            let id = format!("{}/{}", service.namespace, service.name);
            let before = now.get(&id).cloned().unwrap_or_default();
            let after: BTreeSet<IpAddr> = service.addresses.iter().copied().collect();
            let moves = !before.is_empty() && before != after;
            moves.then_some((id, before, after))
        });
        let moved = moved.collect();
        let planned = planned(&plan);
        let new = planned.difference(&metallb.announced);
        Self {
            moved,
            lost: metallb.announced.difference(&planned).cloned().collect(),
            new: new.filter(|new| metallb.covers(new)).cloned().collect(),
            plan,
            addresses: now,
            metallb,
            ..Self::default()
        }
    }

    /// Takes back the addresses whose candidates all are nodes without a DaemonSet for layer 2.
    /// `refusals` has the reasons of these nodes.
    pub(super) fn exclude_layer2(&mut self, refusals: &BTreeMap<&str, String>) {
        for entry in &self.plan.layer2 {
            let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
            let candidates = entry.candidates.iter();
            let refused = candidates.filter_map(|candidate| {
                let node = candidate.node.as_str();
                Some((node, refusals.get(node)?))
            });
            for (node, reason) in refused {
                by_reason.entry(reason).or_default().push(node);
            }
            let refused: usize = by_reason.values().map(Vec::len).sum();
            if refused == 0 || refused < entry.candidates.len() {
                continue;
            }
            let reasons: Vec<String> = by_reason
                .into_iter()
                .map(|(reason, nodes)| format!("{} ({reason})", nodes.join(", ")))
                .collect();
            let reason = format!(
                "ferrolb's DaemonSet for layer 2 can't run on {}",
                reasons.join(", nor on ")
            );
            self.dark.insert(entry.address, reason);
        }
        let dark = |announced: &Announced| {
            let by_layer2 = matches!(announced, Announced::Layer2(_));
            by_layer2 && self.dark.contains_key(&announced.address())
        };
        self.new.retain(|announced| !dark(announced));
        let lost = self.metallb.announced.iter().filter(|found| dark(found));
        self.lost.extend(lost.cloned());
    }

    /// The addresses that go dark, if perhaps MetalLB announces them: silent speakers don't say.
    fn perhaps_lost(&self) -> impl Iterator<Item = Announced> {
        let dark = self.dark.keys().copied().map(Announced::Layer2);
        dark.filter(|found| !self.metallb.announced.contains(found) && !self.metallb.covers(found))
    }

    /// What MetalLB announces and ferrolb will announce as well.
    pub(super) fn kept(&self) -> BTreeSet<Announced> {
        let lost = self.lost.iter().collect::<BTreeSet<_>>();
        let announced = self.metallb.announced.iter();
        announced
            .filter(|kept| !lost.contains(kept))
            .cloned()
            .collect()
    }

    /// What MetalLB announces, and the plan of ferrolb.
    pub(super) fn to_json(&self) -> Result<Value> {
        let announced = self.metallb.announced.iter();
        let announced: Vec<String> = announced.map(Announced::to_string).collect();
        Ok(json!({
            "metallb": {
                "addresses": self.addresses,
                "announced": announced,
                "unknownOn": self.metallb.silent,
            },
            "ferrolb": serde_json::to_value(&self.plan)?,
        }))
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
        let lost = self.lost.iter().cloned().chain(self.perhaps_lost());
        let lost = lost.map(|announced| {
            format!(
                "{announced} would not be announced{}",
                self.reason(&announced)
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
        if let (None, Some(reason)) = (node, self.dark.get(address)) {
            return format!(": {reason}");
        }
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
        let routes = plan.routes.len();
        let layer2 = plan.layer2.len().saturating_sub(self.dark.len());
        let lost = self.lost.len();
        write!(
            text,
            "{routes} routes, {layer2} addresses by layer 2; {lost} announcements of MetalLB \
             would be lost"
        )?;
        match self.metallb.gap("speakers of MetalLB") {
            Some(gap) => writeln!(
                text,
                ", of {} that are known\nnotice: {gap}",
                self.metallb.announced.len()
            )?,
            None => text.push('\n'),
        }
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
        for secret in &self.secrets {
            writeln!(
                text,
                "notice: the Secret {secret} has the password of a BGPPeer: it stays in the \
                 cluster, and is not in the file with MetalLB's objects"
            )?;
        }
        Ok(text)
    }
}

/// What ferrolb would announce.
fn planned(plan: &Plan) -> BTreeSet<Announced> {
    let services = plan.services.iter();
    let addresses = services.flat_map(|service| service.addresses.iter().copied());
    let addresses: BTreeSet<IpAddr> = addresses.collect();
    let mut planned = BTreeSet::new();
    for route in &plan.routes {
        let covered = addresses.iter().filter(|ip| route.prefix.contains(*ip));
        planned.extend(covered.map(|ip| Announced::Bgp(*ip, route.node.clone())));
    }
    let by_layer2 = plan.layer2.iter();
    planned.extend(by_layer2.map(|entry| Announced::Layer2(entry.address)));
    planned
}

/// The Secrets that BGPPeers name.
fn secrets(index: &Index) -> BTreeSet<String> {
    let peers = index.config().peers.values();
    let places = peers.filter_map(|peer| match &peer.password_place {
        Some(PasswordPlace::Secret(name)) => Some(name.clone()),
        Some(PasswordPlace::Field) | None => None,
    });
    places.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::plan::{
        PlanError, PlannedAddress, PlannedCandidate, PlannedRoute, PlannedService, Withheld,
    };

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

    fn announced(announced: &[Announced]) -> Survey {
        Survey {
            announced: announced.iter().cloned().collect(),
            ..Survey::default()
        }
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
        let announced = announced(&[bgp("192.0.2.1", "a")]);
        let preview = Preview::compare(plan, now("web", "192.0.2.1"), announced);
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
        let preview = Preview::compare(plan, Addresses::new(), Survey::default());
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
        let announced = announced(&[bgp("192.0.2.1", "a")]);
        let preview = Preview::compare(plan, now("web", "192.0.2.1"), announced);
        let expected = "192.0.2.1 by BGP from a would not be announced (NodeExcluded: the node has \
                        the label)";
        assert_eq!(preview.losses(), [expected]);
    }

    fn on_layer2(address: &str, nodes: &[&str]) -> PlannedAddress {
        let candidates = nodes.iter().map(|node| PlannedCandidate {
            node: (*node).to_owned(),
            weight: 0,
            interfaces: None,
        });
        PlannedAddress {
            address: address.parse().expect("an address"),
            services: Vec::new(),
            owner: None,
            candidates: candidates.collect(),
        }
    }

    #[test]
    fn an_address_of_layer_2_is_lost_if_no_candidate_has_a_daemonset_for_it() {
        let plan = || Plan {
            layer2: vec![
                on_layer2("10.0.0.1", &["a", "b"]),
                on_layer2("10.0.0.2", &["b", "c"]),
                on_layer2("10.0.0.3", &["a"]),
            ],
            ..Plan::default()
        };
        let layer2 = |last: u8| Announced::Layer2([10, 0, 0, last].into());
        let none = "the manifests contain none".to_owned();
        let refusals = BTreeMap::from([("a", none.clone()), ("b", none)]);
        // c can announce 10.0.0.2. MetalLB does not announce 10.0.0.3.
        let survey = announced(&[layer2(1), layer2(2)]);
        let mut preview = Preview::compare(plan(), Addresses::new(), survey);
        preview.exclude_layer2(&refusals);
        let lost = |address: &str, nodes: &str| {
            format!(
                "{address} by layer 2 would not be announced: ferrolb's DaemonSet for layer 2 \
                 can't run on {nodes} (the manifests contain none)"
            )
        };
        assert_eq!(preview.losses(), [lost("10.0.0.1", "a, b")]);
        assert_eq!(preview.kept(), BTreeSet::from([layer2(2)]));
        let summary = preview.summary().expect("text");
        let expected = "0 routes, 1 addresses by layer 2; 1 announcements of MetalLB would be lost";
        assert!(summary.contains(expected), "{summary}");
        assert!(!summary.contains("new:"), "{summary}");

        // Perhaps a silent speaker announces them.
        let survey = Survey {
            silent: BTreeSet::from(["a".to_owned()]),
            ..Survey::default()
        };
        let mut preview = Preview::compare(plan(), Addresses::new(), survey);
        preview.exclude_layer2(&refusals);
        let expected = [lost("10.0.0.1", "a, b"), lost("10.0.0.3", "a")];
        assert_eq!(preview.losses(), expected);
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
        let losses = Preview::compare(plan, before, Survey::default()).losses();
        let expected = [
            "IPAddressPool metallb-system/a: spec.addresses: empty",
            "shop/web has 192.0.2.1, and would get 192.0.2.7",
            "shop/none has 192.0.2.2, and would get no address",
        ];
        assert_eq!(losses, expected);
    }

    #[test]
    fn what_silent_speakers_announce_is_neither_lost_nor_new() {
        let plan = Plan {
            services: vec![service("web", "192.0.2.1"), service("two", "192.0.2.2")],
            routes: vec![
                route("a", "192.0.2.1/32"),
                route("a", "192.0.2.2/32"),
                route("b", "192.0.2.1/32"),
            ],
            ..Plan::default()
        };
        let survey = Survey {
            asked: 2,
            silent: BTreeSet::from(["b".to_owned()]),
            ..announced(&[bgp("192.0.2.1", "a")])
        };
        let preview = Preview::compare(plan, now("web", "192.0.2.1"), survey);
        assert_eq!(preview.losses(), Vec::<String>::new());
        let summary = preview.summary().expect("text");
        let lines: Vec<&str> = summary.lines().skip(1).collect();
        let expected = [
            "3 routes, 0 addresses by layer 2; 0 announcements of MetalLB would be lost, of 1 that \
             are known",
            "notice: 1 of 2 speakers of MetalLB do not answer: b; what they announce is not \
             compared",
        ];
        assert_eq!(lines[..2], expected);
        let new: Vec<&&str> = lines
            .iter()
            .filter(|line| line.starts_with("new:"))
            .collect();
        assert_eq!(new, [&"new: 192.0.2.2 by BGP from a would be announced"]);
    }
}
