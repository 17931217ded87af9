//! What a peer is configured to be, and what a change of that means for a running session.

mod next_hops;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

pub use self::next_hops::NextHops;
use crate::bfd::{SessionConfig, TimersError};
pub use crate::wire::HoldTime;
use crate::wire::{Asn, Family};

/// The longest key that TCP MD5 takes, in octets (`TCP_MD5SIG_MAXKEYLEN` in Linux).
pub const PASSWORD_MAX: usize = 80;

/// A password. Its `Debug` prints nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// Takes the octets as they are.
    #[must_use]
    pub fn new(octets: impl Into<Vec<u8>>) -> Self {
        Self(octets.into().into_boxed_slice())
    }

    /// The octets, for the one place that hands them to the kernel.
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

/// Who the neighbour is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Remote {
    /// One router: where to dial, and by its address alone, who may dial us.
    Router(SocketAddr),
    /// Dynamic neighbours: whoever dials us from this network gets a session of its own. We never
    /// dial; host bits are cleared.
    Network(IpNet),
}

impl Remote {
    /// The router's address, if it is one router.
    #[must_use]
    pub fn router(&self) -> Option<SocketAddr> {
        match self {
            Self::Router(address) => Some(*address),
            Self::Network(_) => None,
        }
    }

    /// Where connections of the neighbour come from.
    #[must_use]
    pub fn network(&self) -> IpNet {
        match self {
            Self::Router(router) => IpNet::from(router.ip().to_canonical()),
            Self::Network(network) => network.trunc(),
        }
    }

    /// Whether a connection from this address is the neighbour's.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match self {
            Self::Router(router) => router.ip().to_canonical() == address.to_canonical(),
            Self::Network(network) => network.contains(&address.to_canonical()),
        }
    }

    /// Whether it is of the IPv4 family.
    #[must_use]
    pub fn is_ipv4(&self) -> bool {
        match self {
            Self::Router(router) => router.is_ipv4(),
            Self::Network(network) => matches!(network, IpNet::V4(_)),
        }
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A dynamic neighbour is never dialled, so it has no port.
            Self::Router(router) if router.port() == 0 => router.ip().fmt(f),
            Self::Router(router) => router.fmt(f),
            Self::Network(network) => network.fmt(f),
        }
    }
}

/// Which AS number the peer's OPEN may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum RemoteAsn {
    /// This one.
    Number(Asn),
    /// Ours: iBGP.
    Internal,
    /// Any but ours: eBGP.
    External,
    /// Any.
    Auto,
}

impl RemoteAsn {
    /// Whether a peer of this AS is welcome.
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

/// How the TCP connection is made and kept to the right ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Transport {
    /// The address to dial from; also the next hop of its family.
    pub source_address: Option<IpAddr>,
    /// The interface the connection is bound to, by name.
    pub source_interface: Option<String>,
    /// Never dial, only wait for the peer to.
    pub passive: bool,
    /// TCP MD5 (RFC 2385). A peer with a password never runs without it.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub password: Option<Secret>,
    /// GTSM (RFC 5082): how many hops away the peer may be, 1 for the same link. Both ends must have it.
    pub ttl_security: Option<u8>,
    /// The peer is behind other routers. For BFD this is another port (RFC 5883); TCP goes as far
    /// as the kernel's TTL lets it in any case.
    pub multihop: bool,
}

/// A session's timers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Timers {
    /// The hold time we offer.
    pub hold_time: HoldTime,
    /// The keepalive interval we'd like; never more than a third of the negotiated hold time.
    pub keepalive_time: Option<Duration>,
    /// The longest wait between two attempts to connect. 60 s if not given.
    pub connect_retry: Option<Duration>,
    /// How long a peer may leave unread what we send (RFC 9687); longer than the hold time. If not
    /// given: 480 s or twice the hold time, whichever is longer.
    pub send_hold_time: Option<Duration>,
}

impl Timers {
    /// The longest time that any of them may be.
    pub const MAX: Duration = Duration::from_secs(7 * 24 * 3600);

    fn check(&self) -> Result<(), ConfigError> {
        let Self {
            hold_time,
            keepalive_time,
            connect_retry,
            send_hold_time,
        } = *self;
        let times = [keepalive_time, connect_retry, send_hold_time];
        if let Some(time) = times.into_iter().flatten().find(|time| *time > Self::MAX) {
            return Err(ConfigError::TooLong { time });
        }
        match send_hold_time {
            Some(send_hold) if send_hold <= hold_time.duration().unwrap_or_default() => {
                Err(ConfigError::SendHoldTime {
                    send_hold,
                    hold: hold_time,
                })
            }
            _ => Ok(()),
        }
    }
}

/// Graceful restart (RFC 4724), with us as the one that restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct GracefulRestart {
    /// How long the peer keeps our routes while we are away, in seconds; at most 4095.
    pub restart_time: u16,
    /// Offer the N bit (RFC 8538): the peer keeps them also after a NOTIFICATION or an expired hold
    /// timer. Only sensible with BFD, since a dead node's routes outlive the hold timer.
    pub notification: bool,
}

impl GracefulRestart {
    /// Longer than any restart of ours, shorter than a black hole anybody would forgive.
    pub const DEFAULT_RESTART_TIME: u16 = 20;
    /// The longest time that OPEN can say, in seconds (RFC 4724 §3).
    pub const MAX_RESTART_TIME: u16 = 4095;
}

impl Default for GracefulRestart {
    fn default() -> Self {
        Self {
            restart_time: Self::DEFAULT_RESTART_TIME,
            notification: false,
        }
    }
}

/// BFD beside the session (RFC 5882).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct BfdOptions {
    /// How the BFD session runs.
    pub session: SessionConfig,
    /// No BGP session before BFD is up.
    pub strict: bool,
}

/// One configured neighbour.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PeerConfig {
    /// The name its owner knows it by; unique in a speaker.
    pub name: String,
    /// Who it is.
    pub remote: Remote,
    /// Our AS number towards this peer.
    pub local_asn: Asn,
    /// The AS number we demand in the peer's OPEN.
    pub remote_asn: RemoteAsn,
    /// BGP identifier. Without it: the speaker's own.
    pub router_id: Option<Ipv4Addr>,
    /// How the TCP connection is made.
    pub transport: Transport,
    /// The session's timers.
    pub timers: Timers,
    /// The families offered in OPEN.
    pub families: Vec<Family>,
    /// Next hops where the session's own address is none.
    pub next_hops: NextHops,
    /// Graceful restart, if it is offered.
    pub graceful_restart: Option<GracefulRestart>,
    /// BFD, if it watches over the session.
    pub bfd: Option<BfdOptions>,
    /// How many prefixes of each family the peer may announce before it is told Cease/Maximum Number of Prefixes
    /// Reached (RFC 4486). Without it there is no limit: they are not kept.
    pub prefix_limit: Option<u32>,
    /// Shown to the peer's operator when we leave (RFC 9003), instead of the speaker's own words.
    pub shutdown_text: Option<String>,
    /// Hand out the peer's UPDATEs as events. Otherwise they are checked, counted and dropped.
    pub receive: bool,
}

/// What a changed configuration asks of a running session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Impact {
    /// The session goes on as it is.
    None,
    /// The session must be negotiated anew.
    Reset,
}

impl Transport {
    fn resets(&self, old: &Self) -> bool {
        let Self {
            source_address,
            source_interface,
            passive: _, // only matters to the next attempt
            password,
            ttl_security,
            multihop,
        } = self;
        *source_address != old.source_address
            || *source_interface != old.source_interface
            // Another key can be given to a running connection; having one or none can't.
            || password.is_some() != old.password.is_some()
            || *ttl_security != old.ttl_security
            || *multihop != old.multihop
    }
}

impl Timers {
    fn resets(&self, old: &Self) -> bool {
        let Self {
            hold_time,
            keepalive_time,
            connect_retry: _,  // only matters to the next attempt
            send_hold_time: _, // only matters from the next octet on
        } = self;
        *hold_time != old.hold_time || *keepalive_time != old.keepalive_time
    }
}

impl PeerConfig {
    /// A peer with the defaults: both unicast families, hold time 90 s, active.
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

    /// What becomes of a session that runs under `old` when this takes its place.
    #[must_use]
    pub fn impact(&self, old: &Self) -> Impact {
        // Every field by name: a new one doesn't compile until somebody decides what it means.
        let Self {
            name,
            remote,
            local_asn,
            remote_asn,
            router_id,
            transport,
            timers,
            families,
            next_hops,
            graceful_restart,
            bfd: _,           // a session of its own
            prefix_limit: _,  // counts from now on
            shutdown_text: _, // said at the end
            receive,
        } = self;
        let same = *name == old.name
            && *remote == old.remote
            && *local_asn == old.local_asn
            && *remote_asn == old.remote_asn
            && *router_id == old.router_id
            && !transport.resets(&old.transport)
            && !timers.resets(&old.timers)
            && *families == old.families
            && *next_hops == old.next_hops
            && *graceful_restart == old.graceful_restart
            // Whoever begins to listen wants all of it, not what comes from now on.
            && (*receive == old.receive || !*receive);
        if same { Impact::None } else { Impact::Reset }
    }

    /// Where to dial, if we do.
    #[must_use]
    pub fn dials(&self) -> Option<SocketAddr> {
        self.remote.router().filter(|_| !self.transport.passive)
    }

    /// Checks what no session could ever run with.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.name.is_empty() {
            return Err(ConfigError::NoName);
        }
        if let Remote::Router(address) = self.remote {
            if address.ip().is_unspecified() || address.ip().is_multicast() {
                return Err(ConfigError::Address {
                    address: address.ip(),
                });
            }
            if address.port() == 0 && !self.transport.passive {
                return Err(ConfigError::PortZero);
            }
        }
        if self.local_asn == Asn(0) || self.remote_asn == RemoteAsn::Number(Asn(0)) {
            return Err(ConfigError::AsnZero);
        }
        if let Some(source) = self.transport.source_address
            && source.is_ipv4() != self.remote.is_ipv4()
        {
            return Err(ConfigError::SourceFamily {
                local: source,
                remote: self.remote,
            });
        }
        self.timers.check()?;
        if let Some(restart) = self.graceful_restart
            && restart.restart_time > GracefulRestart::MAX_RESTART_TIME
        {
            return Err(ConfigError::RestartTime {
                seconds: restart.restart_time,
            });
        }
        if let Some(bfd) = self.bfd {
            bfd.session.timers.check()?;
        }
        if self.transport.ttl_security == Some(0) {
            return Err(ConfigError::TtlSecurityZero);
        }
        if self.router_id == Some(Ipv4Addr::UNSPECIFIED) {
            return Err(ConfigError::RouterIdZero);
        }
        if self.families.is_empty() {
            return Err(ConfigError::NoFamilies);
        }
        match &self.transport.password {
            Some(password) if password.expose().is_empty() => Err(ConfigError::PasswordEmpty),
            Some(password) if password.expose().len() > PASSWORD_MAX => {
                Err(ConfigError::PasswordTooLong {
                    length: password.expose().len(),
                })
            }
            _ => Ok(()),
        }
    }
}

/// Why a peer can't be run as configured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No name.
    #[error("the peer has no name")]
    NoName,
    /// An address nobody can have.
    #[error("{address} is not the address of a router")]
    Address {
        /// The address given.
        address: IpAddr,
    },
    /// Port 0 can't be dialled.
    #[error("port 0 can't be dialled; BGP's port is 179")]
    PortZero,
    /// RFC 7607.
    #[error("AS 0 is reserved (RFC 7607); give the real AS number")]
    AsnZero,
    /// An IPv4 source towards an IPv6 peer, or the other way round.
    #[error("source address {local} and peer address {remote} are of different families")]
    SourceFamily {
        /// The source address given.
        local: IpAddr,
        /// The peer.
        remote: Remote,
    },
    /// A peer in no distance.
    #[error("TTL security over 0 hops is not possible; a peer on the same link is 1 hop away")]
    TtlSecurityZero,
    /// RFC 6286 §2.1.
    #[error("router ID 0.0.0.0 is not valid (RFC 6286)")]
    RouterIdZero,
    /// Not longer than the hold time.
    #[error(
        "send hold time {} s is not longer than the hold time {} s (RFC 9687 §4)",
        .send_hold.as_secs_f64(), .hold.as_secs()
    )]
    SendHoldTime {
        /// What was given.
        send_hold: Duration,
        /// The hold time beside it.
        hold: HoldTime,
    },
    /// A timer that would never run out.
    #[error("a timer of {} s is too long: at most {} s", .time.as_secs(), Timers::MAX.as_secs())]
    TooLong {
        /// What was given.
        time: Duration,
    },
    /// More than OPEN can say.
    #[error(
        "restart time {seconds} s is too long: at most {} s (RFC 4724 §3)",
        GracefulRestart::MAX_RESTART_TIME
    )]
    RestartTime {
        /// What was given, in seconds.
        seconds: u16,
    },
    /// BFD faster or slower than anybody should.
    #[error("BFD: {0}")]
    Bfd(#[from] TimersError),
    /// Nothing to talk about.
    #[error("no address family is enabled")]
    NoFamilies,
    /// A password that protects nothing.
    #[error("the password is empty; leave it out to run without TCP MD5")]
    PasswordEmpty,
    /// Longer than the kernel takes.
    #[error("the password has {length} octets; TCP MD5 takes at most 80")]
    PasswordTooLong {
        /// Its length in octets.
        length: usize,
    },
}

#[cfg(test)]
mod tests;
