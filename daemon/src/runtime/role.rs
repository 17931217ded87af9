//! The roles of a daemon process.

use clap::ValueEnum;

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Allocates addresses while it is the leader.
    Allocator,
    /// Announces addresses from its node over BGP. Needs no privilege.
    Announcer,
    /// Answers ARP and NDP for addresses from its node. Needs the capability NET_RAW.
    Layer2,
    /// All of them, for the lab, the demo and small clusters.
    All,
}

impl Role {
    /// Whether it allocates addresses.
    pub(crate) const fn allocates(self) -> bool {
        matches!(self, Self::Allocator | Self::All)
    }

    /// Whether it announces addresses over BGP.
    pub(crate) const fn announces_bgp(self) -> bool {
        matches!(self, Self::Announcer | Self::All)
    }

    /// Whether it announces addresses by layer 2.
    pub(crate) const fn announces_layer2(self) -> bool {
        matches!(self, Self::Layer2 | Self::All)
    }

    /// Whether it announces addresses from a node.
    pub(crate) const fn announces(self) -> bool {
        !matches!(self, Self::Allocator)
    }
}
