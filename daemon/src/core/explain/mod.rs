//! Explains why something is or is not announced, from the end that the user asks for: a service,
//! an address, a node, a BGPPeer or a pool. Each step of an explanation has a verdict. What is
//! withheld has the first failing rule, and a command that shows or mends the cause.
//!
//! Pure: it reads the index and repeats the decisions of `ferrolb run`. Of a cluster it also knows
//! what objects say about sessions and owners. [`on_node`] explains what one process decided.

mod address;
mod announcements;
mod command;
mod groups;
mod node;
mod not_found;
mod observed;
mod on_node;
mod peer;
mod pool;
mod service;
mod session;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use self::not_found::NotFound;
pub(crate) use self::not_found::no_service;
pub(crate) use self::observed::Observed;
pub(crate) use self::on_node::OnNode;
pub(crate) use self::session::OwnSession;
use super::allocate::{Allocation, Outcomes};
use super::api::ObjectName;
use super::decide::layer2::addresses::Layer2Addresses;
use super::index::Index;
use super::plan::allocate;

/// Why something is or is not announced. Programs read it as JSON: field names must not change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Explanation {
    /// What is explained, such as `Service shop/web`.
    pub subject: String,
    /// Whether an address of it, or through it, is announced.
    pub announced: bool,
    /// The result in one line.
    pub summary: String,
    /// The chain, in the order in which it is decided.
    pub steps: Vec<Step>,
}

/// One step of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Step {
    /// What the step is about.
    pub stage: Stage,
    /// Its verdict.
    pub verdict: Verdict,
    /// The nodes that the step concerns. Empty: all.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub nodes: BTreeSet<String>,
    /// The BGPPeers that the step concerns. Empty: all.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub peers: BTreeSet<String>,
    /// The services that the step concerns, as `namespace/name`. Empty: the one that is explained.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub services: BTreeSet<String>,
    /// The code of the reason, if something is withheld.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The objects that cause it, and what they say.
    pub text: String,
    /// A command that shows or mends the cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

/// What a step is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Stage {
    /// The Service itself.
    Service,
    /// A pool.
    Pool,
    /// The addresses, and their allocation.
    Address,
    /// The Pods behind the service.
    Endpoints,
    /// The advertisements that select the pool and the service.
    Advertisement,
    /// A node.
    Node,
    /// A BGPPeer.
    Peer,
    /// The decisions of nodes about BGP.
    Bgp,
    /// The sessions over which routers get the routes.
    Session,
    /// The nodes that may announce by layer 2.
    Layer2,
    /// The node that announces by layer 2.
    Owner,
    /// An invalid object of the configuration.
    Configuration,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Service => "service",
            Self::Pool => "pool",
            Self::Address => "address",
            Self::Endpoints => "endpoints",
            Self::Advertisement => "advertisement",
            Self::Node => "node",
            Self::Peer => "peer",
            Self::Bgp => "bgp",
            Self::Session => "session",
            Self::Layer2 => "layer 2",
            Self::Owner => "owner",
            Self::Configuration => "configuration",
        })
    }
}

/// The verdict of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Verdict {
    /// Nothing is in the way.
    Ok,
    /// Something is withheld.
    Withheld,
}

impl Step {
    const fn new(stage: Stage, verdict: Verdict, text: String) -> Self {
        Self {
            stage,
            verdict,
            nodes: BTreeSet::new(),
            peers: BTreeSet::new(),
            services: BTreeSet::new(),
            reason: None,
            text,
            command: None,
        }
    }

    pub(crate) fn ok(stage: Stage, text: impl Into<String>) -> Self {
        Self::new(stage, Verdict::Ok, text.into())
    }

    fn withheld(stage: Stage, text: impl Into<String>) -> Self {
        Self::new(stage, Verdict::Withheld, text.into())
    }

    fn because(mut self, code: &str) -> Self {
        self.reason = Some(code.to_owned());
        self
    }

    fn with_command(mut self, command: impl Into<Option<String>>) -> Self {
        self.command = command.into();
        self
    }
}

/// What is explained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Service(ObjectName),
    Address(IpAddr),
    Node(String),
    Peer(String),
    Pool(String),
}

/// What explanations are computed from.
#[derive(Debug)]
pub(crate) struct Explainer {
    index: Index,
    outcomes: Outcomes,
    layer2: Layer2Addresses,
    observed: Observed,
}

impl Explainer {
    /// For manifests: services get the addresses that the allocator would allocate.
    pub(crate) fn of_manifests(mut index: Index) -> Self {
        let outcomes = allocate(&mut index);
        Self::new(index, outcomes, Observed::default())
    }

    /// For a cluster: services have the addresses that are in their status.
    pub(crate) fn of_cluster(index: Index, observed: Observed) -> Self {
        let outcomes = Allocation::default().decide_all(&index).outcomes;
        Self::new(index, outcomes, observed)
    }

    fn new(index: Index, outcomes: Outcomes, observed: Observed) -> Self {
        let mut layer2 = Layer2Addresses::new("");
        layer2.update_all(&index);
        Self {
            index,
            outcomes,
            layer2,
            observed,
        }
    }

    /// Explains something.
    ///
    /// # Errors
    /// It does not exist: the error offers the nearest name.
    pub(crate) fn explain(&self, subject: &Subject) -> Result<Explanation, NotFound> {
        match subject {
            Subject::Service(name) => self.service(name),
            Subject::Address(address) => Ok(self.address(*address)),
            Subject::Node(name) => self.node(name),
            Subject::Peer(name) => self.peer(name),
            Subject::Pool(name) => self.pool(name),
        }
    }

    /// The services of type LoadBalancer.
    #[cfg(test)]
    pub(crate) fn services(&self) -> impl Iterator<Item = &ObjectName> {
        let services = self.index.services();
        let balanced = services.filter(|service| service.load_balancer);
        balanced.map(|service| &*service.name)
    }
}

/// `3 nodes`, `1 node`.
fn count(number: usize, one: &str) -> String {
    let plural = match number {
        1 => "",
        _ if one.ends_with(['s', 'x']) => "es",
        _ => "s",
    };
    format!("{number} {one}{plural}")
}

fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    items.join(", ")
}
