//! The services of a picture, and who announces each of them to whom.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::announcers::Outcome;
use super::topology::Topology;
use super::{Drawn, Part, ServiceShape, Spread, State};
use crate::core::api::ObjectName;
use crate::core::decide::Reason;
use crate::core::model::{Service, TrafficPolicy};

/// The services, and the entries that they refer to.
#[derive(Debug)]
pub(super) struct Services {
    pub services: Vec<ServiceShape>,
    pub spreads: Vec<Spread>,
}

/// What the nodes decide about one service.
#[derive(Debug, Default)]
struct Decided {
    /// The nodes by the BGPPeers to which they announce it.
    nodes: BTreeMap<Vec<usize>, Vec<usize>>,
    prefixes: BTreeSet<IpNet>,
    /// How many nodes have a reason not to announce it.
    reasons: BTreeMap<Reason, usize>,
}

impl Services {
    pub(super) fn of(drawn: &Drawn<'_>, topology: &Topology<'_>) -> Self {
        let mut known: BTreeMap<Spread, usize> = BTreeMap::new();
        let mut services = Vec::new();
        for service in drawn
            .index
            .services()
            .filter(|service| service.load_balancer)
        {
            let decided = &Decided::of(drawn, topology, &service.name);
            let owned = owned(drawn, service);
            let layer2 = candidates(drawn, topology, &owned);
            let bgp = decided.nodes.iter().map(|(peers, nodes)| Part {
                peers: peers.clone(),
                nodes: nodes.clone(),
            });
            let spread = Spread {
                bgp: bgp.collect(),
                layer2,
            };
            let next = known.len();
            let spread = *known.entry(spread).or_insert(next);
            let state = state(service, decided, &owned);
            services.push(ServiceShape {
                name: service.name.to_string(),
                addresses: service.addresses().to_vec(),
                pools: pools(drawn, topology, service),
                policy: match service.traffic_policy {
                    TrafficPolicy::Cluster => "Cluster",
                    TrafficPolicy::Local => "Local",
                },
                state,
                reason: reason(drawn, service, decided).filter(|_| state != State::Announced),
                spread,
            });
        }
        let mut spreads = vec![Spread::default(); known.len()];
        for (spread, place) in known {
            spreads[place] = spread;
        }
        Self { services, spreads }
    }
}

impl Decided {
    fn of(drawn: &Drawn<'_>, topology: &Topology<'_>, service: &ObjectName) -> Self {
        let mut decided = Self::default();
        for (outcome, nodes) in drawn.announcers.outcomes(service) {
            let nodes = nodes
                .iter()
                .filter_map(|place| usize::try_from(*place).ok());
            decided.add(outcome, nodes.collect(), topology);
        }
        decided
            .nodes
            .values_mut()
            .for_each(|nodes| nodes.sort_unstable());
        decided
    }

    fn add(&mut self, outcome: &Outcome, nodes: Vec<usize>, topology: &Topology<'_>) {
        for reason in &outcome.reasons {
            *self.reasons.entry(*reason).or_default() += nodes.len();
        }
        let peers = outcome.prefixes.values().flatten();
        let peers = peers.filter_map(|peer| topology.place_of_peer.get(&**peer).copied());
        let peers: BTreeSet<usize> = peers.collect();
        if !peers.is_empty() {
            let known = self.nodes.entry(peers.into_iter().collect());
            known.or_default().extend(nodes);
            self.prefixes.extend(outcome.prefixes.keys());
        }
    }
}

/// The addresses of a service that some node may own by layer 2.
fn owned(drawn: &Drawn<'_>, service: &Service) -> Vec<IpAddr> {
    let addresses = service.addresses().iter().copied();
    let owned = addresses.filter(|address| {
        let users = drawn.layer2.services_of(*address);
        users.contains(&service.name) && drawn.layer2.addresses().contains_key(address)
    });
    owned.collect()
}

/// The nodes of which one owns each of these addresses.
fn candidates(drawn: &Drawn<'_>, topology: &Topology<'_>, owned: &[IpAddr]) -> Vec<usize> {
    let specs = owned
        .iter()
        .filter_map(|address| drawn.layer2.addresses().get(address));
    let candidates = specs.flat_map(|spec| spec.candidates.iter());
    let nodes = candidates.filter_map(|one| topology.place_of_node.get(&*one.node).copied());
    let nodes: BTreeSet<usize> = nodes.collect();
    nodes.into_iter().collect()
}

fn pools(drawn: &Drawn<'_>, topology: &Topology<'_>, service: &Service) -> Vec<usize> {
    let pools = &drawn.index.config().pools;
    let addresses = service.addresses().iter();
    let pools = addresses.filter_map(|address| pools.containing(*address));
    let places = pools.filter_map(|pool| topology.place_of_pool.get(pool.name()).copied());
    let places: BTreeSet<usize> = places.collect();
    places.into_iter().collect()
}

fn state(service: &Service, decided: &Decided, owned: &[IpAddr]) -> State {
    let is_announced = |address: &IpAddr| {
        owned.contains(address)
            || decided
                .prefixes
                .iter()
                .any(|prefix| prefix.contains(address))
    };
    let addresses = service.addresses();
    let announced = addresses.iter().filter(|address| is_announced(address));
    match announced.count() {
        0 => State::Withheld,
        count if count == addresses.len() => State::Announced,
        _ => State::Partly,
    }
}

/// The reason of the allocator without an address, else the one that most nodes have; of equal
/// ones, that which is decided first.
fn reason(drawn: &Drawn<'_>, service: &Service, decided: &Decided) -> Option<String> {
    if service.addresses().is_empty() && service.invalid_address.is_none() {
        let code = match drawn.outcomes.get(&*service.name) {
            Some(outcome) => outcome.reason().map(|reason| reason.code()),
            None => Some(Reason::ForeignLoadBalancerClass.code()),
        };
        return Some(code.unwrap_or(Reason::NoAddress.code()).to_owned());
    }
    let mut most: Option<(Reason, usize)> = None;
    for (reason, nodes) in &decided.reasons {
        if most.is_none_or(|(_, best)| *nodes > best) {
            most = Some((*reason, *nodes));
        }
    }
    let by_layer2 = || Some(drawn.layer2.withheld(&service.name)?.0);
    let reason = most.map(|(reason, _)| reason).or_else(by_layer2);
    reason.map(|reason| reason.code().to_owned())
}
