//! Next hops (RFC 4271 §5.1.3, RFC 2545 §3).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The next hop of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NextHop {
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address.
    V6 {
        /// The global address; `::` if the router has only a link-local one.
        global: Ipv6Addr,
        /// The link-local address, sent in addition if both ends share a link.
        link_local: Option<Ipv6Addr>,
    },
}

impl NextHop {
    /// A global IPv6 address without a link-local one.
    #[must_use]
    pub const fn global_v6(global: Ipv6Addr) -> Self {
        Self::V6 {
            global,
            link_local: None,
        }
    }

    /// The IPv4 or the global IPv6 address.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        match *self {
            Self::V4(address) => address.into(),
            Self::V6 { global, .. } => global.into(),
        }
    }

    /// The link-local address, if any.
    #[must_use]
    pub fn link_local(&self) -> Option<Ipv6Addr> {
        match *self {
            Self::V4(_) => None,
            Self::V6 { link_local, .. } => link_local,
        }
    }
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(address) => address.fmt(f),
            Self::V6 {
                global,
                link_local: None,
            } => global.fmt(f),
            Self::V6 {
                global,
                link_local: Some(link_local),
            } => {
                write!(f, "{global} ({link_local})")
            }
        }
    }
}
