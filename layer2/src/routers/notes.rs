//! What an operator should know about an interface that leads to an unnumbered router.

use std::net::Ipv6Addr;

/// What an operator should know about an interface, with the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Note {
    /// There is no such interface.
    #[error("interface {0} does not exist on this node: create it, or exclude the node")]
    Missing(Box<str>),
    /// It is down, or has no carrier.
    #[error("interface {0} is down: see ip link")]
    Down(Box<str>),
    /// It has no link-local address.
    #[error(
        "interface {0} has no link-local address: enable IPv6 on it (sysctl \
         net.ipv6.conf.{0}.disable_ipv6=0)"
    )]
    NoAddress(Box<str>),
    /// No router is known.
    #[error(
        "no router was found on {0}: it must send router advertisements (lifetime 0 is enough)"
    )]
    NoRouter(Box<str>),
    /// The router doesn't answer, and there is no other.
    #[error("router {router} on {interface} does not answer Neighbor Solicitations")]
    Unreachable {
        /// The interface.
        interface: Box<str>,
        /// Its address.
        router: Ipv6Addr,
    },
    /// There are others.
    #[error(
        "{interface} has several routers: {used} was found first and is used, {} is not; an \
         unnumbered peer needs a link with one router",
        .others.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    )]
    Several {
        /// The interface.
        interface: Box<str>,
        /// The router that is used.
        used: Ipv6Addr,
        /// The others.
        others: Vec<Ipv6Addr>,
    },
    /// Without the capability NET_RAW.
    #[error(
        "this node does not advertise its address on {0}, because it lacks the capability NET_RAW: \
         routers that learn their neighbor from router advertisements (FRR: neighbor {0} \
         interface) do not accept the session; add NET_RAW to \
         securityContext.capabilities.add of the container"
    )]
    NotAdvertised(Box<str>),
    /// It has no Ethernet address.
    #[error("this node does not advertise its address on {0}, because it is no Ethernet interface")]
    NotEthernet(Box<str>),
}
