//! What the engine reports: a snapshot for people and metrics, and events.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::config::{Candidate, Time};
use crate::mac::Mac;

/// A snapshot of the engine. Times and intervals are serialized as seconds.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Status {
    /// This node.
    pub node: Arc<str>,
    /// The moment of the snapshot. All other times are relative to the same clock.
    #[cfg_attr(feature = "serde", serde(with = "crate::seconds"))]
    pub now: Time,
    /// What this node does.
    pub state: NodeState,
    /// The addresses, sorted.
    pub addresses: BTreeMap<IpAddr, AddressStatus>,
    /// The usable interfaces, by name.
    pub segments: Vec<SegmentStatus>,
    /// Counters since the start.
    pub counters: Counters,
}

impl Status {
    /// The addresses that this node owns.
    pub fn owned(&self) -> impl Iterator<Item = IpAddr> {
        let addresses = self.addresses.iter();
        let owned = addresses.filter(|(_, found)| found.owner.as_ref() == Some(&self.node));
        owned.map(|(address, _)| *address)
    }
}

/// The state of a node, as its hellos announce it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "camelCase"))]
pub enum NodeState {
    /// It listens and claims nothing: after its start, a link that came up, or a stall.
    #[default]
    Settling,
    /// It claims addresses.
    Ready,
    /// It ends and comes back within [`crate::limits::RESTART_HOLD`].
    Restarting,
    /// It ends.
    Leaving,
}

/// The owner of an address, and why.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "camelCase"))]
pub struct AddressStatus {
    /// The nodes that may own it. Not serialized: equal values are shared among addresses.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub candidates: Arc<[Candidate]>,
    /// The owner, as far as this node knows.
    pub owner: Option<Arc<str>>,
    /// Since when.
    #[cfg_attr(feature = "serde", serde(with = "crate::seconds"))]
    pub since: Time,
    /// The claim epoch.
    pub epoch: u64,
    /// Why the owner is the owner, or why there is none.
    pub reason: OwnerReason,
    /// The Ethernet address of another host that answers for it.
    pub conflict: Option<Mac>,
    /// The interfaces on which this node announces it. Empty on other nodes.
    pub interfaces: Vec<Box<str>>,
    /// The last changes of the owner, the newest first. At most eight.
    pub moves: Vec<Move>,
    /// The result of the last self-test by a peer.
    pub self_test: Option<SelfTest>,
    /// Frames of this node for it since it began to announce it.
    pub traffic: Traffic,
}

/// Frames for an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Traffic {
    /// ARP requests and Neighbor Solicitations received.
    pub requests: u64,
    /// ARP replies and Neighbor Advertisements sent in answer to them.
    pub responses: u64,
    /// Unsolicited ARP requests, ARP replies and Neighbor Advertisements sent.
    pub gratuitous: u64,
}

/// A change of the owner.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Move {
    /// When.
    #[cfg_attr(feature = "serde", serde(with = "crate::seconds"))]
    pub at: Time,
    /// The owner before.
    pub from: Option<Arc<str>>,
    /// The owner after.
    pub to: Option<Arc<str>>,
    /// Why.
    pub reason: OwnerReason,
}

/// Why a node owns an address, or why no node does. The serialized names are stable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum OwnerReason {
    /// The node settles: it listens before it claims anything.
    #[default]
    Settling,
    /// Placement chose the owner when the address had none.
    Placed,
    /// The owner before became silent and did not answer probes.
    OwnerSilent,
    /// The owner before handed it over: it left, was drained, or lost its endpoints.
    HandedOver,
    /// An operator moved it (`ferrolb l2 move` or `rebalance`).
    Moved,
    /// A node with a higher preference took over after the hold-down.
    Preferred,
    /// Two nodes claimed it; this claim has the higher epoch.
    ConflictWon,
    /// The same process or a new one of the same node resumed its claim.
    Resumed,
    /// The address is being probed before its first use.
    Probing,
    /// No candidate is alive.
    NoCandidate,
    /// This node has no usable interface for it.
    NoInterface,
    /// A host that is no peer answers for it.
    AddressConflict,
    /// A peer node answers for it though it doesn't claim it: another load balancer runs there.
    OtherSpeaker,
    /// The node receives from no peer and no other host: its own link may be dead.
    Isolated,
    /// There is no key to authenticate hellos.
    NoKey,
    /// Peers wait for a process that restarts.
    OwnerRestarting,
}

/// What a peer saw when it resolved an address.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SelfTest {
    /// The peer.
    pub by: Arc<str>,
    /// When.
    #[cfg_attr(feature = "serde", serde(with = "crate::seconds"))]
    pub at: Time,
    /// The Ethernet addresses that answered.
    pub answers: Vec<Mac>,
    /// Whether exactly the owner's Ethernet address answered.
    pub passed: bool,
}

/// An interface, and the nodes whose hellos arrive on it.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "camelCase"))]
pub struct SegmentStatus {
    /// The interface.
    pub interface: Box<str>,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Whether it has a carrier.
    pub carrier: bool,
    /// Its networks.
    pub networks: Vec<IpNet>,
    /// Whether it is promiscuous because of us.
    pub promiscuous: bool,
    /// The other nodes.
    pub peers: Vec<PeerStatus>,
    /// Conditions of the interface that an operator should know, in plain words.
    pub warnings: Vec<String>,
}

/// Another node on a segment.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "camelCase"))]
pub struct PeerStatus {
    /// Its name.
    pub node: Arc<str>,
    /// Its Ethernet address on this segment.
    pub mac: Mac,
    /// Its networks on this segment, as its hellos announce them.
    pub networks: Vec<IpNet>,
    /// Its state.
    pub state: NodeState,
    /// Whether hellos arrive in time.
    pub alive: bool,
    /// When the last hello arrived.
    #[cfg_attr(feature = "serde", serde(with = "crate::seconds"))]
    pub last_hello: Time,
    /// The interval at which it sends.
    #[cfg_attr(feature = "serde", serde(with = "crate::seconds"))]
    pub interval: Duration,
    /// The number of addresses that it owns.
    pub owned: u32,
    /// Why its hellos are not accepted, in plain words.
    pub rejected: Option<String>,
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Counters since the start of the process.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        #[cfg_attr(feature = "serde", serde(rename_all = "camelCase"))]
        pub struct Counters {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl Counters {
            /// All counters with their names and meanings.
            pub fn all(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                [$((stringify!($name), concat!($($doc),+), self.$name)),+].into_iter()
            }
        }
    };
}

counters! {
    /// ARP requests and Neighbor Solicitations for owned addresses.
    requests_received,
    /// ARP replies and Neighbor Advertisements in answer to requests.
    responses_sent,
    /// Unsolicited ARP requests, ARP replies and Neighbor Advertisements.
    gratuitous_sent,
    /// Answers that were not sent because of the limit per second.
    answers_limited,
    /// Hellos sent.
    hellos_sent,
    /// Hellos accepted.
    hellos_received,
    /// Hellos whose authentication failed.
    hellos_unauthenticated,
    /// Hellos that were received before, or are too old.
    hellos_replayed,
    /// Hellos that arrived later than the interval plus its half.
    hellos_late,
    /// Frames of other clusters, and malformed hellos.
    hellos_ignored,
    /// Addresses that this node took or lost.
    owner_changes,
    /// Times that two nodes claimed one address.
    claim_conflicts,
    /// Times that another host answered for an address.
    address_conflicts,
    /// Times that a silent node turned out to be alive.
    false_suspicions,
    /// Times that this process stopped answering because it was stalled.
    stalls,
    /// Frames that the kernel or this process dropped.
    frames_dropped,
}

/// A change that is reported once.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// This node began to announce an address.
    Announced {
        /// The address.
        address: IpAddr,
        /// The owner before.
        from: Option<Arc<str>>,
        /// Why.
        reason: OwnerReason,
    },
    /// This node stopped announcing an address.
    Withdrawn {
        /// The address.
        address: IpAddr,
        /// The owner after, if known.
        to: Option<Arc<str>>,
        /// Why.
        reason: OwnerReason,
    },
    /// Another host answers for an address that this node owns or would own.
    Conflict {
        /// The address.
        address: IpAddr,
        /// The other host.
        mac: Mac,
        /// The node that it belongs to, if it is a peer.
        node: Option<Arc<str>>,
    },
    /// A peer resolved an address of this node, and did not get exactly its answer.
    SelfTestFailed {
        /// The address.
        address: IpAddr,
        /// The peer.
        by: Arc<str>,
        /// The Ethernet addresses that answered.
        answers: Vec<Mac>,
    },
    /// The conflict ended.
    ConflictResolved {
        /// The address.
        address: IpAddr,
    },
    /// A node was first received on a segment, or is received again.
    PeerUp {
        /// The node.
        node: Arc<str>,
        /// The interface.
        interface: Box<str>,
    },
    /// A node is silent.
    PeerDown {
        /// The node.
        node: Arc<str>,
        /// The interface.
        interface: Box<str>,
    },
    /// Hellos of a node are not accepted, in plain words.
    PeerRejected {
        /// The interface.
        interface: Box<str>,
        /// The node, as the hello names it.
        node: Arc<str>,
        /// Why.
        why: String,
    },
    /// This process was stalled, and stopped answering until it had listened.
    Stalled {
        /// How long.
        gap: Duration,
    },
    /// A warning about an interface, in plain words.
    InterfaceWarning {
        /// The interface.
        interface: Box<str>,
        /// The warning.
        warning: String,
    },
    /// A process that leaves has handed over everything: it can end.
    Left,
}
