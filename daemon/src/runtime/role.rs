//! The roles of a daemon process.

use clap::ValueEnum;

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Allocates addresses while it is the leader.
    Allocator,
    /// Announces addresses from its node.
    Announcer,
    /// Both, for the lab, the demo and small clusters.
    All,
}

impl Role {
    /// Whether it allocates addresses.
    pub(crate) const fn allocates(self) -> bool {
        !matches!(self, Self::Announcer)
    }

    /// Whether it announces addresses.
    pub(crate) const fn announces(self) -> bool {
        !matches!(self, Self::Allocator)
    }
}
