//! Status of the daemon, published by the control loop for probes, metrics and the control socket.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::ValueEnum;
use ferrolb_bgp::fsm::PeerStatus;
use ferrolb_layer2::config::Interfaces;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::core::api::ObjectName;
use crate::core::config::{Config, Problem, Severity};
use crate::core::decide::layer2::addresses::Layer2Addresses;
use crate::core::decide::node_routes::{NodeRoutes, RouteKey};
use crate::core::decide::{Decision, Reason};
use crate::core::index::Index;
use crate::core::model::Service;

/// Without a turn of the loop for this long, the liveness probe fails.
const STALL_LIMIT: Duration = Duration::from_secs(30);

/// Services announced to at least one peer, with their announced addresses. The loop updates it
/// service by service; all clones share the same data.
#[derive(Clone, Debug, Default)]
pub struct Announced(Arc<Mutex<AnnouncedServices>>);

#[derive(Debug, Default)]
struct AnnouncedServices {
    announced: BTreeMap<Arc<ObjectName>, AnnouncedService>,
    /// The other services that were decided, with the first reason why nothing of them is
    /// announced.
    withheld: BTreeMap<Arc<ObjectName>, Reason>,
}

#[derive(Debug)]
struct AnnouncedService {
    addresses: Box<[IpAddr]>,
    /// The BGPPeers that they are announced to, sorted. Services with equal peers share the list.
    peers: Arc<[Arc<str>]>,
}

impl Announced {
    /// Updates the given services. Every prefix that a decision contributes to has a route.
    pub fn update(&self, index: &Index, node_routes: &NodeRoutes, services: &BTreeSet<ObjectName>) {
        let mut all = self.lock();
        let any = all.announced.values().next();
        let mut last = any.map(|service| service.peers.clone()).unwrap_or_default();
        for name in services {
            all.announced.remove(name);
            all.withheld.remove(name);
            if let Some((name, decision)) = node_routes.decisions().get_key_value(name) {
                all.add(index, name, decision, |_| true, &mut last);
            }
        }
    }

    /// Updates all services. A prefix of a decision may have no route: it may already be drained.
    pub fn update_all(
        &self,
        index: &Index,
        node_routes: &NodeRoutes,
        has_route: impl Fn(&IpNet) -> bool,
    ) {
        let mut last = Arc::default();
        let mut all = AnnouncedServices::default();
        for (name, decision) in node_routes.decisions() {
            all.add(index, name, decision, &has_route, &mut last);
        }
        *self.lock() = all;
    }

    /// All services with their addresses.
    pub fn services(&self) -> Vec<(Arc<ObjectName>, Box<[IpAddr]>)> {
        let services = self.lock();
        let services = services.announced.iter();
        services
            .map(|(name, service)| (name.clone(), service.addresses.clone()))
            .collect()
    }

    /// All services with the BGPPeers that they are announced to, sorted.
    pub(crate) fn peers(&self) -> Vec<AnnouncedTo> {
        let services = self.lock();
        let services = services.announced.iter();
        services
            .map(|(name, service)| (name.clone(), service.peers.clone()))
            .collect()
    }

    /// The addresses of one service that are announced.
    pub(crate) fn addresses_of(&self, name: &ObjectName) -> Box<[IpAddr]> {
        let services = self.lock();
        let service = services.announced.get(name);
        service.map_or_else(Box::default, |service| service.addresses.clone())
    }

    /// The number of services that are announced.
    pub(crate) fn count(&self) -> usize {
        self.lock().announced.len()
    }

    /// The number of services of which nothing is announced over BGP, by the first reason.
    pub(crate) fn withheld(&self) -> BTreeMap<Reason, usize> {
        let mut counts = BTreeMap::new();
        for reason in self.lock().withheld.values() {
            *counts.entry(*reason).or_default() += 1;
        }
        counts
    }

    /// Those of the given services that are announced, with their addresses.
    pub(crate) fn of(&self, names: &BTreeSet<ObjectName>) -> Vec<(Arc<ObjectName>, Box<[IpAddr]>)> {
        let services = self.lock();
        let announced = &services.announced;
        let known = names
            .iter()
            .filter_map(|name| announced.get_key_value(name));
        known
            .map(|(name, service)| (name.clone(), service.addresses.clone()))
            .collect()
    }

    /// A panic while one entry changed leaves the others valid.
    fn lock(&self) -> MutexGuard<'_, AnnouncedServices> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AnnouncedServices {
    /// Adds a service. `last` is the list of BGPPeers of another one, which is shared if it is
    /// equal.
    fn add(
        &mut self,
        index: &Index,
        name: &Arc<ObjectName>,
        decision: &Decision,
        has_route: impl Fn(&IpNet) -> bool,
        last: &mut Arc<[Arc<str>]>,
    ) {
        let addresses = addresses(index, name, decision, &has_route);
        if !addresses.is_empty() {
            let peers = peers(decision, &has_route, last);
            let service = AnnouncedService { addresses, peers };
            self.announced.insert(name.clone(), service);
            return;
        }
        let mut verdicts = decision.verdicts.iter();
        if let Some(verdict) = verdicts.find(|verdict| verdict.reason != Reason::Announced) {
            self.withheld.insert(name.clone(), verdict.reason);
        }
    }
}

/// The addresses of a service that its contributed prefixes contain.
fn addresses(
    index: &Index,
    name: &ObjectName,
    decision: &Decision,
    has_route: impl Fn(&IpNet) -> bool,
) -> Box<[IpAddr]> {
    let addresses = index.service(name).map(Service::addresses);
    let addresses = addresses.into_iter().flatten().copied();
    let announced = |address: &IpAddr| {
        let mut contributions = decision.contributions.iter();
        contributions.any(|c| c.prefix.contains(address) && has_route(&c.prefix))
    };
    addresses.filter(announced).collect()
}

/// The BGPPeers that the contributed prefixes are announced to. `last` is the result for another
/// service, which is shared if it is equal.
fn peers(
    decision: &Decision,
    has_route: impl Fn(&IpNet) -> bool,
    last: &mut Arc<[Arc<str>]>,
) -> Arc<[Arc<str>]> {
    let announced = decision
        .contributions
        .iter()
        .filter(|c| has_route(&c.prefix));
    let peers = announced.flat_map(|c| c.offers.iter().map(|(peer, _)| peer));
    let peers: BTreeSet<&Arc<str>> = peers.collect();
    if !peers.iter().copied().eq(last.iter()) {
        *last = peers.into_iter().cloned().collect();
    }
    last.clone()
}

/// A service, and the BGPPeers that it is announced to.
pub(crate) type AnnouncedTo = (Arc<ObjectName>, Arc<[Arc<str>]>);

/// A service that announces an address by layer 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer2Service {
    /// Its name.
    pub name: Arc<ObjectName>,
    /// Its UID.
    pub uid: Arc<str>,
}

/// The services of each address that some node announces by layer 2; which node that is, the engine
/// knows. All clones share the same data.
#[derive(Clone, Debug, Default)]
pub struct Layer2Services(Arc<Mutex<BTreeMap<IpAddr, Layer2Address>>>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Layer2Address {
    services: Arc<[Layer2Service]>,
    interfaces: Arc<Interfaces>,
}

impl Layer2Services {
    /// Updates the given addresses. Those that no node announces any more stay until they are
    /// removed.
    pub(crate) fn update(
        &self,
        index: &Index,
        addresses: &Layer2Addresses,
        changed: impl Iterator<Item = IpAddr>,
    ) {
        let mut all = self.lock();
        for address in changed {
            let Some(spec) = addresses.addresses().get(&address) else {
                continue;
            };
            let names = addresses.services_of(address).iter();
            let services = names.filter_map(|name| index.service(name));
            let new = Layer2Address {
                services: services.map(Layer2Service::of).collect(),
                interfaces: spec.interfaces.clone(),
            };
            if all.get(&address) != Some(&new) {
                all.insert(address, new);
            }
        }
    }

    /// Removes an address that no node announces any more.
    pub(crate) fn remove(&self, address: IpAddr) {
        self.lock().remove(&address);
    }

    /// Services of the namespace `default`, for tests.
    #[doc(hidden)]
    pub fn named(services: &[(IpAddr, &[&str])]) -> Self {
        let service = |name: &&str| Layer2Service {
            name: Arc::new(ObjectName::new("default", *name)),
            uid: "".into(),
        };
        let services = services.iter();
        let services = services.map(|(address, names)| {
            (
                *address,
                Layer2Address {
                    services: names.iter().map(service).collect(),
                    interfaces: Arc::default(),
                },
            )
        });
        Self(Arc::new(Mutex::new(services.collect())))
    }

    /// The services of an address, sorted by name.
    pub fn of(&self, address: IpAddr) -> Arc<[Layer2Service]> {
        let all = self.lock();
        all.get(&address)
            .map(|known| known.services.clone())
            .unwrap_or_default()
    }

    /// The interfaces on which this node may announce an address.
    pub(crate) fn interfaces(&self, address: IpAddr) -> Arc<Interfaces> {
        let all = self.lock();
        all.get(&address)
            .map(|known| known.interfaces.clone())
            .unwrap_or_default()
    }

    /// A panic while one entry changed leaves the others valid.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<IpAddr, Layer2Address>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Layer2Service {
    fn of(service: &Service) -> Self {
        Self {
            name: service.name.clone(),
            uid: service.request.uid.as_str().into(),
        }
    }
}

/// A question of the kubelet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "camelCase")]
pub enum Probe {
    /// Whether the process makes progress; else it must be restarted.
    Live,
    /// Whether it announces what it should.
    Ready,
}

/// What a node does not announce yet: its first announcement has to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withheld {
    /// The service. None: everything.
    pub service: Option<Arc<ObjectName>>,
    /// The reason.
    pub reason: Reason,
    /// The reason in words, with its remedy.
    pub message: String,
}

/// Facts about the Node of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnNode {
    /// Its UID.
    pub uid: Box<str>,
    /// Whether its condition Ready is True.
    pub ready: bool,
}

/// A snapshot of the daemon's state.
#[derive(Clone, Debug, Default)]
pub struct DaemonStatus {
    /// Time of the loop's last turn, at first of the process's start.
    pub alive: Option<Instant>,
    /// The configuration in use; none before the initial sync.
    pub config: Option<Arc<Config>>,
    /// Problems of objects.
    pub problems: Vec<Problem>,
    /// Errors of the source, such as unreadable files.
    pub source_errors: Vec<String>,
    /// Whether the first routes were passed to the BGP engine. Always true without an announcer.
    pub initialized: bool,
    /// Whether layer 2 runs if there is an L2Advertisement. Always true in roles without it, and
    /// beside BGP once it has tried.
    pub layer2_ready: bool,
    /// Services announced from this node, and their addresses.
    pub announced: Announced,
    /// The services of each address that is announced by layer 2.
    pub layer2_services: Layer2Services,
    /// Number of prefixes to announce per BGPPeer.
    pub routes: BTreeMap<String, usize>,
    /// Routes of a draining node that are not withdrawn yet, since the router has no other path.
    pub waiting: Arc<BTreeSet<RouteKey>>,
    /// Number of announced prefixes whose unused addresses this node does not discard packets to.
    pub undiscarded: usize,
    /// BGPPeers that are rejected in general or on this node.
    pub rejected_peers: Vec<Problem>,
    /// Addresses allocated in the status of Services, if this process allocates.
    pub allocated: Option<BTreeSet<IpAddr>>,
    /// Whether this process is the leader, which allocates.
    pub leading: bool,
    /// Number of Services of type LoadBalancer that have no address and should get one.
    pub without_address: usize,
    /// What is not announced yet, and why: the whole node, or services.
    pub withheld: Vec<Withheld>,
    /// The Pod of MetalLB's speaker on this node.
    pub metallb_speaker: Option<String>,
    /// The Pod of MetalLB's controller that serves the same Services: this process, which could
    /// allocate, allocates nothing.
    pub metallb_controller: Option<String>,
    /// Number of Services that fewer nodes announce than `minAnnouncers` says; the leader knows.
    pub below_floor: usize,
    /// Number of Services that have an address and that no node announces, by the code of the
    /// reason; the leader knows.
    pub unannounced: BTreeMap<&'static str, usize>,
    /// The Node of this process, if it exists.
    pub own_node: Option<OwnNode>,
    /// Number of changes applied.
    pub updates: u64,
    /// The control loop panicked: nothing here changes any more.
    pub panicked: bool,
}

impl DaemonStatus {
    /// The status at the start of the process.
    pub fn new() -> Self {
        Self {
            alive: Some(Instant::now()),
            ..Self::default()
        }
    }

    /// Ready: the configuration is loaded, the first routes are announced (announcers), no
    /// controller of MetalLB runs (allocators), and the loop runs.
    pub const fn ready(&self) -> bool {
        self.config.is_some()
            && self.initialized
            && self.layer2_ready
            && self.metallb_controller.is_none()
            && !self.panicked
    }

    /// Number of prefixes to announce to a peer. A dynamic neighbor gets those of its
    /// `peerNetwork`.
    pub fn routes_of(&self, peer: &PeerStatus) -> usize {
        let configured = peer.template.as_ref().unwrap_or(&peer.name);
        self.routes.get(configured).copied().unwrap_or_default()
    }

    /// Whether the drain of this route waits for another path.
    pub fn awaits_path(&self, peer: &PeerStatus, prefix: IpNet) -> bool {
        let configured = peer.template.as_ref().unwrap_or(&peer.name);
        !self.waiting.is_empty() && self.waiting.contains(&(configured.as_str().into(), prefix))
    }

    /// Whether the loop makes progress. After a panic it counts as live: the process restarts by
    /// itself.
    pub fn live(&self) -> bool {
        self.panicked
            || self
                .alive
                .is_some_and(|alive| alive.elapsed() < STALL_LIMIT)
    }

    /// The answer to a probe, as HTTP and the control socket give it.
    ///
    /// # Errors
    ///
    /// Why the probe fails.
    pub fn probe(&self, probe: Probe) -> Result<(), &'static str> {
        match probe {
            Probe::Live if self.live() => Ok(()),
            Probe::Live => Err("the control loop is stalled"),
            Probe::Ready if self.panicked => Err(
                "the control loop panicked (see the log): what it announces stays announced, the \
                 process restarts soon",
            ),
            Probe::Ready if self.config.is_none() => Err("the configuration is not loaded yet"),
            Probe::Ready if self.is_delayed() => Err(
                "the first announcements have to wait: see the log, ferrolb peers or ferrolb l2",
            ),
            Probe::Ready if self.metallb_controller.is_some() => {
                Err("MetalLB's controller runs, so no addresses are allocated: see the log")
            }
            Probe::Ready if !self.initialized => {
                Err("the first routes were not passed to the BGP engine yet")
            }
            Probe::Ready if !self.layer2_ready => {
                Err("layer 2 does not run, or has no key yet: see the log and ferrolb l2")
            }
            Probe::Ready => Ok(()),
        }
    }

    /// Whether the node announces nothing yet, since its first announcements have to wait.
    fn is_delayed(&self) -> bool {
        self.withheld.iter().any(|one| one.service.is_none())
    }

    /// Problems for which an object is rejected.
    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.problems
            .iter()
            .filter(|problem| problem.severity == Severity::Error)
    }
}
