//! The interfaces that lead to unnumbered peers, as their owner finds them.

use std::net::Ipv6Addr;

/// The router at the other end of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkRouter {
    /// Its link-local address.
    pub address: Ipv6Addr,
    /// The index of our interface, not 0.
    pub interface: u32,
}

/// What is known of an interface that leads to an unnumbered peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkState {
    /// The router, if it is known.
    pub router: Option<LinkRouter>,
    /// What an operator should know about it, for the status of the peers.
    pub notes: Vec<String>,
}
