//! The picture: who announces what to whom, and what is wrong, in a form that a page draws. Pure:
//! it repeats the decisions of `ferrolb run`.

mod announcers;
pub(crate) mod colours;
mod problems;
pub(crate) mod scene;
mod services;
mod topology;

use std::net::IpAddr;

use serde::Serialize;

use self::announcers::Announcers;
use self::services::Services;
use self::topology::Topology;
use crate::core::allocate::Outcomes;
use crate::core::api::bgp_session::AllSessions;
use crate::core::decide::layer2::addresses::Layer2Addresses;
use crate::core::index::Index;

/// What the page draws. The lists refer to each other by position.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Picture {
    /// The pools, by name.
    pub pools: Vec<PoolShape>,
    /// The Services of type LoadBalancer, by name.
    pub services: Vec<ServiceShape>,
    /// The nodes, by name.
    pub nodes: Vec<NodeShape>,
    /// The BGPPeers, by name.
    pub peers: Vec<PeerShape>,
    /// The sessions that nodes have, or can't have.
    pub links: Vec<LinkShape>,
    /// Who announces a service to whom. Most services have the same entry.
    pub spreads: Vec<Spread>,
    /// What is wrong with objects, errors first.
    pub problems: Vec<ProblemShape>,
    /// The number of problems beyond those in the list.
    pub more_problems: usize,
}

/// A pool.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct PoolShape {
    /// Its name.
    pub name: String,
    /// Its prefixes.
    pub prefixes: Vec<String>,
    /// What is used of each family that it has.
    pub usage: Vec<Usage>,
    /// Whether it never had a valid version.
    pub invalid: bool,
}

/// What is used of a family of a pool.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Usage {
    /// IPv4 or IPv6.
    pub family: String,
    /// The number of addresses that services have.
    pub used: usize,
    /// The number of addresses that there are; at most 2^64 - 1.
    pub capacity: u64,
}

/// A Service of type LoadBalancer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct ServiceShape {
    /// `namespace/name`.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The pools of the addresses.
    pub pools: Vec<usize>,
    /// externalTrafficPolicy.
    pub policy: &'static str,
    /// Whether it is announced.
    pub state: State,
    /// The code of the reason why it, or an address of it, is not announced by any node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who announces it.
    pub spread: usize,
}

/// Whether a service is announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum State {
    /// Each address by some node.
    Announced,
    /// Some address by no node.
    Partly,
    /// By no node.
    Withheld,
}

/// Who announces a service to whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Spread {
    /// By BGP: the nodes that announce it to the same BGPPeers.
    pub bgp: Vec<Part>,
    /// By layer 2: the nodes of which one owns each address.
    pub layer2: Vec<usize>,
}

/// Nodes that announce a service to the same BGPPeers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Part {
    /// The BGPPeers.
    pub peers: Vec<usize>,
    /// The nodes.
    pub nodes: Vec<usize>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct NodeShape {
    /// Its name.
    pub name: String,
    /// Its InternalIPs.
    pub addresses: Vec<IpAddr>,
    /// The code of the reason why it announces nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub off: Option<&'static str>,
    /// Whether it is cordoned.
    pub cordoned: bool,
    /// Whether it is Ready; absent if the input does not have conditions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,
    /// The number of prefixes that it announces by BGP.
    pub prefixes: usize,
    /// The number of addresses that it may own by layer 2.
    pub candidate: usize,
}

/// A BGPPeer.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PeerShape {
    /// Its name.
    pub name: String,
    /// The address or network of the router, or the interface that leads to it.
    pub address: String,
    /// The router's AS.
    pub asn: String,
    /// Our AS.
    pub local_asn: String,
    /// Whether BFD is configured.
    pub bfd: bool,
}

/// A session of a node with a BGPPeer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct LinkShape {
    /// The node.
    pub node: usize,
    /// The BGPPeer.
    pub peer: usize,
    /// The number of prefixes that the node announces.
    pub prefixes: usize,
    /// Why the node can't have the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// The state of BGP; absent if no BGPSession is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Why the last session ended, if there is none now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The number of prefixes that the node sent, by its own count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent: Option<i64>,
}

/// What is wrong with an object.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct ProblemShape {
    /// The object.
    pub object: String,
    /// Whether the object is invalid; otherwise a part of it has no effect.
    pub error: bool,
    /// What is wrong, and the remedy.
    pub message: String,
}

/// What a picture is drawn of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drawn<'a> {
    /// The models of all objects.
    pub index: &'a Index,
    /// What the allocator decides.
    pub outcomes: &'a Outcomes,
    /// What every node decides.
    pub announcers: &'a Announcers,
    /// The addresses of layer 2.
    pub layer2: &'a Layer2Addresses,
    /// The statuses of sessions.
    pub sessions: &'a AllSessions,
    /// Whether nodes have conditions.
    pub has_conditions: bool,
}

impl Picture {
    /// Draws it.
    pub(crate) fn of(drawn: &Drawn<'_>) -> Self {
        let topology = Topology::of(drawn);
        let Services { services, spreads } = Services::of(drawn, &topology);
        let (problems, more_problems) = problems::of(drawn.index);
        let Topology {
            pools,
            nodes,
            peers,
            links,
            ..
        } = topology;
        Self {
            pools,
            services,
            nodes,
            peers,
            links,
            spreads,
            problems,
            more_problems,
        }
    }
}

#[cfg(test)]
mod tests;
