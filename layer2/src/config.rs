//! What the owner of the engine decides: which addresses there are, which nodes may own them, keys
//! and timers.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// A moment: the time since the host was booted, by CLOCK_BOOTTIME, which also advances while the
/// host is suspended.
pub type Time = Duration;

/// The identity of this process, fixed at its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The name of the node.
    pub node: Arc<str>,
    /// Distinguishes this process from earlier ones of the same node: the wall clock at the start,
    /// in milliseconds since 1970. A later process has a higher value.
    pub instance: u64,
    /// Seed of jitter.
    pub seed: u64,
}

/// Settings of the node. All can change at run time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Distinguishes clusters that share a segment. Hellos of other clusters are ignored.
    pub cluster: u64,
    /// The minimum interval of hellos. See [`crate::limits`].
    pub hello_interval: Duration,
    /// Maximum number of unsolicited frames per second and interface.
    pub gratuitous_rate: u32,
}

/// An address, and where it may be announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressSpec {
    /// When its oldest service was created, in seconds since 1970. Older addresses are placed
    /// first.
    pub created: i64,
    /// The nodes that may own it, sorted by name. Equal values are shared among addresses.
    pub candidates: Arc<[Candidate]>,
    /// The interfaces on which this node announces it.
    pub interfaces: Arc<Interfaces>,
    /// How the segment is searched for another host with this address before its first use.
    pub conflict_detection: ConflictDetection,
    /// Whether its owner keeps it when placement would choose another node.
    pub sticky: bool,
}

/// A node that may own an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Candidate {
    /// The node's name.
    pub node: Arc<str>,
    /// The sum of the weights of its preferences. Higher is better.
    pub weight: u32,
}

/// A selection of interfaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Interfaces {
    /// All usable ones.
    #[default]
    All,
    /// These, if they are usable.
    Named(BTreeSet<Box<str>>),
}

impl Interfaces {
    /// Whether it selects an interface.
    pub fn selects(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.contains(name),
        }
    }
}

/// How the segment is searched for another host with an address before its first use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConflictDetection {
    /// Three probes within 300 ms.
    #[default]
    Fast,
    /// The times of RFC 5227 §2.1.1: 4 to 7 s.
    Rfc5227,
    /// No probes.
    Off,
}

/// Keys that authenticate hellos.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Keys {
    /// Authenticates what this node sends.
    pub current: Option<Arc<[u8]>>,
    /// Also accepted, during a rotation.
    pub accepted: Vec<Arc<[u8]>>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the keys themselves.
        write!(
            f,
            "Keys(current: {}, accepted: {})",
            self.current.is_some(),
            self.accepted.len()
        )
    }
}

/// What changes while the engine runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Replaces the settings.
    Settings(Settings),
    /// Replaces the keys. Without a current key nothing is sent and nothing is claimed.
    Keys(Keys),
    /// Adds or replaces an address.
    SetAddress(IpAddr, AddressSpec),
    /// The node announces an address no longer.
    RemoveAddress(IpAddr),
    /// All addresses were added once. Before this, nothing is claimed.
    AddressesComplete,
    /// The nodes whose layer 2 process is ready according to the Kubernetes API. None without an
    /// API: then only hellos show which nodes are alive.
    ReadyNodes(Option<BTreeSet<Arc<str>>>),
    /// Asks the owner of an address to hand it over to a node.
    Move(IpAddr, Arc<str>),
    /// Probes an address from a peer node, and reports which Ethernet addresses answered.
    SelfTest(IpAddr),
    /// Hands over everything and ends. `restarting`: the process comes back within seconds.
    Leave {
        /// Whether the process comes back within seconds: peers wait for it instead of taking over.
        restarting: bool,
    },
}
