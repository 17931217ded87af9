//! Networks inside pools that belong to nodes, routers or Pods.

use std::fmt;

use ipnet::IpNet;

use crate::family::canonical;
use crate::span::Span;

/// A network that belongs to a node, a router or Pods. Displays as a description of an address in
/// it: `an address of Node a`, or `in 10.244.0.0/24, the podCIDR of Node a`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Exclusion {
    network: IpNet,
    owner: String,
}

impl Exclusion {
    /// `owner` describes the network, with an article: `the podCIDR of Node a`.
    pub fn new(network: IpNet, owner: impl Into<String>) -> Self {
        Self {
            network: canonical(network).trunc(),
            owner: owner.into(),
        }
    }

    /// The network, without host bits.
    #[must_use]
    pub fn network(&self) -> IpNet {
        self.network
    }

    /// The description of the network.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.owner
    }

    pub(crate) fn span(&self) -> Span {
        Span::of(self.network)
    }
}

impl fmt::Display for Exclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.network.prefix_len() < self.network.max_prefix_len() {
            write!(f, "in {}, ", self.network)?;
        }
        f.write_str(&self.owner)
    }
}
