//! Which router a configuration is for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ferrolb_bgp::config::Remote;
use ipnet::IpNet;

use crate::core::config::Config;
use crate::core::config::peer::Peer;
use crate::core::nearest::nearest;

/// A router, by what BGPPeers say about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Router {
    /// `peerAddress`.
    Address(IpAddr),
    /// `peerNetwork`: any router in it.
    Network(IpNet),
    /// `interface`: the router at the other end of this interface of each node.
    Interface(String),
}

impl fmt::Display for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Network(network) => network.fmt(f),
            Self::Interface(name) => f.pad(name),
        }
    }
}

impl Router {
    fn of(peer: &Peer) -> Self {
        match peer.session.remote {
            Remote::Router(router) => Self::Address(router.ip().to_canonical()),
            Remote::Network(network) => Self::Network(network),
            Remote::Link(_) => {
                let interface = peer.session.transport.source_interface.clone();
                Self::Interface(interface.unwrap_or_default())
            }
        }
    }

    /// What the user writes: an address, or the interface of an unnumbered BGPPeer.
    fn parse(text: &str) -> Self {
        match text.parse::<IpAddr>() {
            Ok(address) => Self::Address(address.to_canonical()),
            Err(_) => Self::Interface(text.to_owned()),
        }
    }

    /// Whether a BGPPeer has sessions with it.
    pub(crate) fn is_of(&self, peer: &Peer) -> bool {
        match (self, Self::of(peer)) {
            (Self::Address(address), Self::Network(network)) => network.contains(address),
            (router, other) => *router == other,
        }
    }
}

/// Why there is no router to write a configuration for.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RouterError {
    /// There is no BGPPeer.
    #[error(
        "there is no valid BGPPeer, so no router has a session with the nodes: create one, or \
         correct it (ferrolb check reports errors)"
    )]
    NoPeer,
    /// No BGPPeer names the router.
    #[error("no BGPPeer has a session with the router {router}; {hint}")]
    Unknown {
        /// What the user wrote.
        router: String,
        /// The nearest one.
        hint: String,
    },
    /// There are several routers, and a configuration is for one.
    #[error(
        "a configuration is for one router: choose it with --router, which can be given several \
         times if the router has several addresses. The objects name: {routers}"
    )]
    Several {
        /// The routers with their BGPPeers.
        routers: String,
    },
    /// Two BGPPeers contradict each other.
    #[error(
        "BGPPeer {one} expects AS {one_asn} of the router, but BGPPeer {other} AS {other_asn}: \
         correct one of them, or choose one address with --router"
    )]
    DifferentAsns {
        /// The first BGPPeer.
        one: String,
        /// What it expects.
        one_asn: u32,
        /// The other one.
        other: String,
        /// What that expects.
        other_asn: u32,
    },
}

/// Maximum number of edits between a router and the one that is offered instead.
const DISTANCE_MAX: usize = 3;

/// The router that the user means, by all of its names: the only one if the user names none.
///
/// # Errors
/// There is no such router, or the user must choose.
pub(crate) fn choose(config: &Config, wanted: &[String]) -> Result<BTreeSet<Router>, RouterError> {
    let mut named: BTreeMap<Router, Vec<&str>> = BTreeMap::new();
    for peer in config.peers.values() {
        named.entry(Router::of(peer)).or_default().push(&peer.name);
    }
    if named.is_empty() {
        return Err(RouterError::NoPeer);
    }
    if wanted.is_empty() {
        let routers: Vec<&Router> = named.keys().collect();
        return match routers[..] {
            // A network has no address to configure.
            [router] if !matches!(router, Router::Network(_)) => Ok([router.clone()].into()),
            _ => Err(RouterError::Several {
                routers: listed(&named),
            }),
        };
    }
    let routers = wanted.iter().map(|text| {
        let router = Router::parse(text);
        let mut peers = config.peers.values();
        if peers.any(|peer| router.is_of(peer)) {
            return Ok(router);
        }
        let known: Vec<String> = named.keys().map(Router::to_string).collect();
        let near = nearest(text, known.iter().map(String::as_str), DISTANCE_MAX);
        Err(RouterError::Unknown {
            router: text.clone(),
            hint: match near {
                Some(near) => format!("did you mean {near}?"),
                None => format!("the objects name: {}", listed(&named)),
            },
        })
    });
    routers.collect()
}

/// `10.0.0.1 (BGPPeer tor)` for each.
fn listed(named: &BTreeMap<Router, Vec<&str>>) -> String {
    let line = |(router, peers): (&Router, &Vec<&str>)| {
        let what = match router {
            Router::Address(_) => "",
            Router::Network(_) => "any address in ",
            Router::Interface(_) => "unnumbered, interface ",
        };
        format!("{what}{router} (BGPPeer {})", peers.join(", "))
    };
    named.iter().map(line).collect::<Vec<_>>().join("; ")
}
