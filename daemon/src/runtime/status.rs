//! What the loop tells the rest of the program: the one source of probes and metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ferrolb_bgp::fsm::PeerStatus;
use ipnet::IpNet;
use tokio::time::Instant;

use crate::core::api::ObjectName;
use crate::core::config::{Config, Problem, Severity};
use crate::core::decide::Decision;
use crate::core::decide::node_routes::{NodeRoutes, RouteKey};
use crate::core::index::Index;
use crate::core::model::Service;

/// Longer than this without a sign of life, and the loop is stuck.
const STUCK: Duration = Duration::from_secs(30);

/// Services that go to at least one peer, with the addresses that do. The loop keeps it up to date service by service, and all
/// clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Announced(Arc<Mutex<AnnouncedServices>>);

type AnnouncedServices = BTreeMap<Arc<ObjectName>, Box<[IpAddr]>>;

impl Announced {
    /// Notes what is announced of some services. Each prefix that a decision contributes to is a route.
    pub fn note(&self, index: &Index, desired: &NodeRoutes, services: &BTreeSet<ObjectName>) {
        let mut announced = self.lock();
        for name in services {
            announced.remove(name);
            if let Some((name, decision)) = desired.decisions().get_key_value(name) {
                let addresses = addresses(index, name, decision, |_| true);
                if !addresses.is_empty() {
                    announced.insert(name.clone(), addresses);
                }
            }
        }
    }

    /// Notes what is announced of all services, where a prefix may have no route in spite of a decision: its time is over.
    pub fn note_all(
        &self,
        index: &Index,
        desired: &NodeRoutes,
        has_route: impl Fn(&IpNet) -> bool,
    ) {
        let services = desired.decisions().iter().map(|(name, decision)| {
            let addresses = addresses(index, name, decision, &has_route);
            (name.clone(), addresses)
        });
        let announced = services.filter(|(_, addresses)| !addresses.is_empty());
        *self.lock() = announced.collect();
    }

    /// Everything, by service.
    pub fn services(&self) -> Vec<(Arc<ObjectName>, Box<[IpAddr]>)> {
        let services = self.lock();
        let services = services.iter();
        services
            .map(|(name, addresses)| (name.clone(), addresses.clone()))
            .collect()
    }

    /// A thread that panicked while it changed one entry left the others as they were.
    fn lock(&self) -> MutexGuard<'_, AnnouncedServices> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The addresses of a service that lie in its prefixes.
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

/// What is going on.
#[derive(Clone, Debug, Default)]
pub struct DaemonStatus {
    /// When the loop last turned, or the process began.
    pub alive: Option<Instant>,
    /// The configuration that runs; none before the first complete one.
    pub config: Option<Arc<Config>>,
    /// What is wrong with objects.
    pub problems: Vec<Problem>,
    /// Places at the source that can't be read.
    pub source_errors: Vec<String>,
    /// For an announcer: whether the first desired state was handed over. True for others.
    pub handed_over: bool,
    /// Services announced from this node, and their addresses.
    pub announced: Announced,
    /// How many prefixes each peer, by the BGPPeer's name, should have.
    pub routes: BTreeMap<String, usize>,
    /// Routes of a node that drains which stay, since the router shows no other path.
    pub waiting: Arc<BTreeSet<RouteKey>>,
    /// BGPPeers that are refused as they stand, or on this node.
    pub refused_peers: Vec<Problem>,
    /// Addresses in the status of services, where this process allocates.
    pub held: Option<BTreeSet<IpAddr>>,
    /// Changes taken in.
    pub updates: u64,
    /// The loop has panicked: nothing of this changes any more.
    pub panicked: bool,
}

impl DaemonStatus {
    /// Of a process that begins.
    pub fn new() -> Self {
        Self {
            alive: Some(Instant::now()),
            ..Self::default()
        }
    }

    /// Ready: the configuration is loaded, for an announcer the first desired state is handed over, and the loop runs.
    pub const fn ready(&self) -> bool {
        self.config.is_some() && self.handed_over && !self.panicked
    }

    /// How many prefixes a peer should have: a dynamic neighbour gets what its template gets.
    pub fn routes_of(&self, peer: &PeerStatus) -> usize {
        let configured = peer.template.as_ref().unwrap_or(&peer.name);
        self.routes.get(configured).copied().unwrap_or_default()
    }

    /// Whether a route of a node that drains stays, since the router shows no other path.
    pub fn waits(&self, peer: &PeerStatus, prefix: IpNet) -> bool {
        let configured = peer.template.as_ref().unwrap_or(&peer.name);
        !self.waiting.is_empty() && self.waiting.contains(&(configured.as_str().into(), prefix))
    }

    /// Whether the loop turns. One that has panicked is not stuck: the process restarts itself in time.
    pub fn live(&self) -> bool {
        self.panicked || self.alive.is_some_and(|alive| alive.elapsed() < STUCK)
    }

    /// Objects that are refused as they stand.
    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.problems
            .iter()
            .filter(|problem| problem.severity == Severity::Error)
    }
}
