//! What the loop tells the rest of the program: the one source of probes and metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ferrolb_bgp::fsm::PeerStatus;
use tokio::time::Instant;

use crate::api::ObjectName;
use crate::config::{Config, Problem, Severity};

/// Longer than this without a sign of life, and the loop is stuck.
const STUCK: Duration = Duration::from_secs(30);

/// What is going on.
#[derive(Clone, Debug, Default)]
pub struct Report {
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
    pub announced: Vec<(ObjectName, Vec<IpAddr>)>,
    /// How many prefixes each peer, by the BGPPeer's name, should have.
    pub routes: BTreeMap<String, usize>,
    /// BGPPeers that are refused as they stand, or on this node.
    pub refused_peers: Vec<Problem>,
    /// Addresses in the status of services, where this process allocates.
    pub held: Option<BTreeSet<IpAddr>>,
    /// Changes taken in.
    pub updates: u64,
}

impl Report {
    /// Of a process that begins.
    pub fn new() -> Self {
        Self {
            alive: Some(Instant::now()),
            ..Self::default()
        }
    }

    /// Ready: the configuration is loaded and, for an announcer, the first desired state handed over.
    pub const fn ready(&self) -> bool {
        self.config.is_some() && self.handed_over
    }

    /// How many prefixes a peer should have: a dynamic neighbour gets what its template gets.
    pub fn routes_of(&self, peer: &PeerStatus) -> usize {
        let configured = peer.template.as_ref().unwrap_or(&peer.name);
        self.routes.get(configured).copied().unwrap_or_default()
    }

    /// Whether the loop turns.
    pub fn live(&self) -> bool {
        self.alive.is_some_and(|alive| alive.elapsed() < STUCK)
    }

    /// Objects that are refused as they stand.
    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.problems
            .iter()
            .filter(|problem| problem.severity == Severity::Error)
    }
}
