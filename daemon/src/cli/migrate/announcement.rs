//! An announcement of an address, by MetalLB or by ferrolb.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// An announcement: the protocol, the address, and with BGP the node. By layer 2 one node announces
/// an address, which may be another one before and after.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Announced {
    Bgp(IpAddr, String),
    Layer2(IpAddr),
}

impl Announced {
    /// The address.
    pub(super) const fn address(&self) -> IpAddr {
        match self {
            Self::Bgp(address, _) | Self::Layer2(address) => *address,
        }
    }
}

impl fmt::Display for Announced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bgp(address, node) => write!(f, "{address} by BGP from {node}"),
            Self::Layer2(address) => write!(f, "{address} by layer 2"),
        }
    }
}
