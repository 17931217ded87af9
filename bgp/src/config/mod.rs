//! The configuration of a peer: its types, their limits (`limits`), and the effect of a change on a
//! running session (`diff`).

mod diff;
pub mod limits;
mod next_hops;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use ipnet::IpNet;

pub use self::diff::Impact;
pub use self::limits::ConfigError;
pub use self::next_hops::NextHops;
use crate::bfd::SessionConfig;
pub use crate::wire::HoldTime;
use crate::wire::{Asn, Family};

/// A password. Its `Debug` output hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// Wraps the octets unchanged.
    #[must_use]
    pub fn new(octets: impl Into<Vec<u8>>) -> Self {
        Self(octets.into().into_boxed_slice())
    }

    /// The octets, for the code that sets the socket option.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The address or network of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Remote {
    /// One router: the address to dial. Inbound connections match by IP address, without the port.
    Router(SocketAddr),
    /// Dynamic neighbors: every router that dials from this network gets its own session. We never
    /// dial. Host bits are cleared.
    Network(IpNet),
    /// Unnumbered: the router at the other end of the source interface, with its link-local address
    /// and the interface's index as scope. Until the address is known, it is `::` and the scope 0:
    /// then we don't dial, and no connection matches.
    Link(SocketAddrV6),
}

impl Remote {
    /// An unnumbered peer whose address is not known yet.
    #[must_use]
    pub const fn unknown_on_link(port: u16) -> Self {
        Self::Link(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0))
    }

    /// The address of a single router; `None` for a network, and while it is not known.
    #[must_use]
    pub fn router(&self) -> Option<SocketAddr> {
        match self {
            Self::Router(address) => Some(*address),
            Self::Link(address) => self.is_known().then_some(SocketAddr::V6(*address)),
            Self::Network(_) => None,
        }
    }

    /// Whether the address is known. It is not known for some time if the peer is unnumbered.
    #[must_use]
    pub fn is_known(&self) -> bool {
        !matches!(self, Self::Link(address) if address.ip().is_unspecified())
    }

    /// Whether the peer is one router, whose address may not be known yet.
    #[must_use]
    pub fn is_one_router(&self) -> bool {
        !matches!(self, Self::Network(_))
    }

    /// Whether the peer is unnumbered.
    #[must_use]
    pub fn is_unnumbered(&self) -> bool {
        matches!(self, Self::Link(_))
    }

    /// The index of the interface that the address belongs to; 0 for any.
    #[must_use]
    pub fn scope(&self) -> u32 {
        match self {
            Self::Link(address) => address.scope_id(),
            Self::Router(_) | Self::Network(_) => 0,
        }
    }

    /// The network from which the peer connects; `::/128` while its address is not known.
    #[must_use]
    pub fn network(&self) -> IpNet {
        match self {
            Self::Router(router) => IpNet::from(router.ip().to_canonical()),
            Self::Link(router) => IpNet::from(IpAddr::V6(*router.ip())),
            Self::Network(network) => network.trunc(),
        }
    }

    /// Whether a connection from this address belongs to the peer, on the right interface.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match self {
            Self::Router(router) => router.ip().to_canonical() == address.to_canonical(),
            Self::Link(router) => self.is_known() && IpAddr::V6(*router.ip()) == address,
            Self::Network(network) => network.contains(&address.to_canonical()),
        }
    }

    /// Whether the address is an IPv4 address.
    #[must_use]
    pub fn is_ipv4(&self) -> bool {
        match self {
            Self::Router(router) => router.is_ipv4(),
            Self::Link(_) => false,
            Self::Network(network) => matches!(network, IpNet::V4(_)),
        }
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A dynamic neighbor is never dialled and has port 0.
            Self::Router(router) if router.port() == 0 => router.ip().fmt(f),
            Self::Router(router) => router.fmt(f),
            Self::Link(_) if !self.is_known() => f.pad("unnumbered"),
            Self::Link(router) => router.fmt(f),
            Self::Network(network) => network.fmt(f),
        }
    }
}

/// The AS numbers accepted in the peer's OPEN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum RemoteAsn {
    /// This AS number.
    Number(Asn),
    /// Our AS number: iBGP.
    Internal,
    /// Any except ours: eBGP.
    External,
    /// Any.
    Auto,
}

impl RemoteAsn {
    /// Whether a peer in AS `remote` is accepted, if our AS is `local`.
    #[must_use]
    pub fn accepts(self, local: Asn, remote: Asn) -> bool {
        match self {
            Self::Number(number) => number == remote,
            Self::Internal => local == remote,
            Self::External => local != remote,
            Self::Auto => true,
        }
    }
}

impl From<Asn> for RemoteAsn {
    fn from(asn: Asn) -> Self {
        Self::Number(asn)
    }
}

impl fmt::Display for RemoteAsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(asn) => asn.fmt(f),
            Self::Internal => f.pad("internal"),
            Self::External => f.pad("external"),
            Self::Auto => f.pad("auto"),
        }
    }
}

/// Options of the TCP connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Transport {
    /// The local address; also the next hop of its address family.
    pub source_address: Option<IpAddr>,
    /// The name of the interface that the connection is bound to.
    pub source_interface: Option<String>,
    /// Never dial; wait for the peer to connect.
    pub passive: bool,
    /// TCP MD5 (RFC 2385), at most [`limits::PASSWORD_MAX`] octets. Connections without the
    /// signature are rejected.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub password: Option<Secret>,
    /// GTSM (RFC 5082): the most hops to the peer, 1 for the same link. Both sides must enable it.
    pub ttl_security: Option<u8>,
    /// The peer is several hops away. BFD then uses the multihop port (RFC 5883); the TTL of TCP
    /// does not change.
    pub multihop: bool,
}

/// The timers of a session. The limits are in [`limits`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Timers {
    /// The hold time in our OPEN.
    pub hold_time: HoldTime,
    /// The keepalive interval; shortened to a third of the negotiated hold time.
    pub keepalive_time: Option<Duration>,
    /// The longest delay between two connection attempts. Default:
    /// [`limits::CONNECT_RETRY_DEFAULT`].
    pub connect_retry: Option<Duration>,
    /// The send hold time (RFC 9687), longer than the hold time. Default: twice the hold time, at
    /// least [`limits::SEND_HOLD_TIME_DEFAULT_MIN`].
    pub send_hold_time: Option<Duration>,
}

/// Graceful restart (RFC 4724), with us as the restarting speaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct GracefulRestart {
    /// How long the peer keeps our routes while we restart, in seconds; at most
    /// [`limits::RESTART_TIME_MAX`].
    pub restart_time: u16,
    /// Set the N bit (RFC 8538): the peer also keeps our routes after a NOTIFICATION and after its
    /// hold timer expired. Requires BFD to withdraw the routes of a dead node in time.
    pub notification: bool,
}

impl Default for GracefulRestart {
    fn default() -> Self {
        Self {
            restart_time: limits::RESTART_TIME_DEFAULT,
            notification: false,
        }
    }
}

/// BFD for the session (RFC 5882).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct BfdOptions {
    /// The configuration of the BFD session.
    pub session: SessionConfig,
    /// Establish the BGP session only while BFD is up.
    pub strict: bool,
}

/// The configuration of one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PeerConfig {
    /// The name, unique within a speaker.
    pub name: String,
    /// The address or network. An unnumbered peer needs a
    /// [`source_interface`](Transport::source_interface).
    pub remote: Remote,
    /// Our AS number in this session.
    pub local_asn: Asn,
    /// The AS numbers accepted in the peer's OPEN.
    pub remote_asn: RemoteAsn,
    /// Our BGP identifier. Default: the speaker's.
    pub router_id: Option<Ipv4Addr>,
    /// Options of the TCP connection.
    pub transport: Transport,
    /// The timers.
    pub timers: Timers,
    /// The families offered in the OPEN.
    pub families: Vec<Family>,
    /// Next hops for routes that can't use the session's local address.
    pub next_hops: NextHops,
    /// Graceful restart; `None` to not offer it.
    pub graceful_restart: Option<GracefulRestart>,
    /// BFD; `None` to run without it.
    pub bfd: Option<BfdOptions>,
    /// The most prefixes per family that the peer may announce. A peer that exceeds it gets
    /// Cease/Maximum Number of Prefixes Reached (RFC 4486). `None`: no limit, since received
    /// prefixes are not stored.
    pub prefix_limit: Option<u32>,
    /// The shutdown message for the peer's operator (RFC 9003). Default: the speaker's.
    pub shutdown_text: Option<String>,
    /// Deliver the peer's UPDATEs as events. Otherwise they are checked, counted and dropped.
    pub receive: bool,
}

impl PeerConfig {
    /// A peer with the defaults: both unicast families, a hold time of 90 s, actively dialled.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        address: SocketAddr,
        local_asn: Asn,
        remote_asn: impl Into<RemoteAsn>,
    ) -> Self {
        Self {
            name: name.into(),
            remote: Remote::Router(address),
            local_asn,
            remote_asn: remote_asn.into(),
            router_id: None,
            transport: Transport::default(),
            timers: Timers::default(),
            families: vec![Family::IPV4_UNICAST, Family::IPV6_UNICAST],
            next_hops: NextHops::default(),
            graceful_restart: None,
            bfd: None,
            prefix_limit: None,
            shutdown_text: None,
            receive: false,
        }
    }

    /// The address to dial; `None` for passive and dynamic peers, and while it is not known.
    #[must_use]
    pub fn dials(&self) -> Option<SocketAddr> {
        self.remote.router().filter(|_| !self.transport.passive)
    }

    /// The peer's address for people: with the name of the interface if it is unnumbered.
    #[must_use]
    pub fn address_text(&self) -> String {
        let interface = self.transport.source_interface.as_deref();
        address_text(&self.remote, interface)
    }
}

/// An address for people: with the name of the interface if the peer is unnumbered.
pub(crate) fn address_text(remote: &Remote, interface: Option<&str>) -> String {
    match (remote, interface) {
        (Remote::Link(router), Some(interface)) if remote.is_known() => {
            format!("[{}%{interface}]:{}", router.ip(), router.port())
        }
        (Remote::Link(_), Some(interface)) => interface.to_owned(),
        (remote, _) => remote.to_string(),
    }
}

#[cfg(test)]
mod tests;
