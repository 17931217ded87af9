//! The sessions of one BGPPeer, as the router sees them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ferrolb_bgp::bfd::{Interval, SessionConfig};
use ferrolb_bgp::config::{PeerConfig, Remote, RemoteAsn};
use ferrolb_bgp::wire::Asn;
use ipnet::IpNet;

use super::filter::{self, Permit};
use crate::core::api::ObjectKey;
use crate::core::config::peer::BGP_PORT;
use crate::core::model::Family;

/// The sessions of one BGPPeer, as the router sees them.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// The BGPPeer.
    pub object: ObjectKey,
    /// Its name in the configuration: letters, digits and underscores.
    pub symbol: String,
    /// The session as the nodes configure it, without its password.
    pub session: PeerConfig,
    /// The router's address in the sessions. None if they are unnumbered.
    pub local: Option<IpAddr>,
    /// The families that the sessions carry.
    pub families: Vec<Family>,
    /// The nodes.
    pub members: Members,
    /// The variable that stands for the password.
    pub password: Option<String>,
    /// What the router accepts.
    pub permits: BTreeSet<Permit>,
}

/// The neighbors of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Members {
    /// Nodes by address.
    Named(Vec<Member>),
    /// Every node that dials from a network, because the objects don't say which address of it
    /// each node has.
    Range {
        /// The network.
        network: IpNet,
        /// The nodes whose InternalIP in it is known.
        known: Vec<Member>,
    },
    /// Nodes at the other ends of links without addresses.
    Interfaces(Vec<Link>),
}

/// A node by address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// Its name. Several nodes may have one source address.
    pub node: String,
    /// Its name in the configuration.
    pub symbol: String,
    /// The address from which it dials.
    pub address: IpAddr,
}

/// A node at the other end of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// The node.
    pub node: String,
    /// Its name in the configuration.
    pub symbol: String,
    /// The name that the router's interface should have.
    pub interface: String,
}

impl Members {
    /// Whether the router has no neighbor at all.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Named(members) => members.is_empty(),
            Self::Range { .. } => false,
            Self::Interfaces(links) => links.is_empty(),
        }
    }

    /// The nodes that are neighbors by address.
    pub(crate) fn named(&self) -> &[Member] {
        match self {
            Self::Named(members) => members,
            Self::Range { .. } | Self::Interfaces(_) => &[],
        }
    }

    /// The network of dynamic neighbors.
    pub(crate) fn range(&self) -> Option<IpNet> {
        match self {
            Self::Range { network, .. } => Some(*network),
            Self::Named(_) | Self::Interfaces(_) => None,
        }
    }

    /// The links.
    pub(crate) fn links(&self) -> &[Link] {
        match self {
            Self::Interfaces(links) => links,
            Self::Named(_) | Self::Range { .. } => &[],
        }
    }
}

/// The router's end of BFD. What the nodes send is what the router must accept, and the reverse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BfdTimes {
    /// The shortest interval at which the router sends, in milliseconds.
    pub transmit: u32,
    /// The shortest interval at which it accepts packets, in milliseconds.
    pub receive: u32,
    /// How many missing packets mean that the peer is down.
    pub multiplier: u8,
}

impl BfdTimes {
    fn of(session: &SessionConfig) -> Self {
        let millis = |interval: Interval| interval.0 / 1000;
        Self {
            transmit: millis(session.timers.required_min_rx),
            receive: millis(session.timers.desired_min_tx),
            multiplier: session.timers.detect_mult.get(),
        }
    }
}

impl Group {
    /// The nodes' AS number.
    pub(crate) fn node_asn(&self) -> Asn {
        self.session.local_asn
    }

    /// The AS number that the nodes expect of the router, if they expect one.
    pub(crate) fn router_asn(&self) -> Option<Asn> {
        match self.session.remote_asn {
            RemoteAsn::Number(asn) => Some(asn),
            RemoteAsn::Internal => Some(self.node_asn()),
            RemoteAsn::External | RemoteAsn::Auto => None,
        }
    }

    /// Whether the sessions are iBGP. False if that is not known.
    pub(crate) fn is_internal(&self) -> bool {
        self.router_asn() == Some(self.node_asn())
    }

    /// Whether the sessions may be iBGP.
    pub(crate) fn may_be_internal(&self) -> bool {
        self.is_internal() || self.session.remote_asn == RemoteAsn::Auto
    }

    /// The hold time in seconds; 0 for none.
    pub(crate) fn hold_time(&self) -> u16 {
        self.session.timers.hold_time.as_secs()
    }

    /// The keepalive time in seconds: at most a third of the hold time.
    pub(crate) fn keepalive_time(&self) -> u16 {
        let third = self.hold_time() / 3;
        let configured = self.session.timers.keepalive_time;
        let configured = configured.and_then(|time| u16::try_from(time.as_secs()).ok());
        configured.map_or(third, |time| time.min(third))
    }

    /// Whether the router dials the nodes, because they only listen.
    pub(crate) fn router_dials(&self) -> bool {
        self.session.transport.passive || matches!(self.session.remote, Remote::Network(_))
    }

    /// The port on which the router listens, if it isn't that of BGP.
    pub(crate) fn other_port(&self) -> Option<u16> {
        let port = match self.session.remote {
            Remote::Router(router) => router.port(),
            Remote::Link(router) => router.port(),
            Remote::Network(_) => BGP_PORT,
        };
        (port != BGP_PORT && !self.router_dials()).then_some(port)
    }

    /// Whether the nodes are several hops away (eBGP).
    pub(crate) fn multihop(&self) -> bool {
        self.session.transport.multihop
    }

    /// The most hops that GTSM allows, if the sessions use it.
    pub(crate) fn ttl_security(&self) -> Option<u8> {
        self.session.transport.ttl_security
    }

    /// The router's end of BFD.
    pub(crate) fn bfd(&self) -> Option<BfdTimes> {
        let bfd = self.session.bfd.as_ref()?;
        Some(BfdTimes::of(&bfd.session))
    }

    /// Whether the nodes announce that they keep forwarding while ferrolb restarts.
    pub(crate) fn graceful_restart(&self) -> bool {
        self.session.graceful_restart.is_some()
    }

    /// Whether the sessions carry a family.
    pub(crate) fn carries(&self, family: Family) -> bool {
        self.families.contains(&family)
    }

    /// Whether IPv4 prefixes have IPv6 next hops (RFC 8950). With addresses, the next hop is the
    /// node's InternalIP of the same family, also over IPv6.
    pub(crate) fn extended_next_hop(&self) -> bool {
        !self.members.links().is_empty() && self.carries(Family::V4)
    }

    /// What the router accepts of a family.
    pub(crate) fn permits_of(&self, family: Family) -> Vec<Permit> {
        let permits = self.permits.iter().copied();
        permits
            .filter(|permit| permit.family() == family && self.carries(family))
            .collect()
    }

    /// The most prefixes of a family that a node may announce.
    pub(crate) fn maximum(&self, family: Family) -> u32 {
        if self.carries(family) {
            filter::maximum(&self.permits, family)
        } else {
            0
        }
    }
}
