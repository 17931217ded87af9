//! What a peer is configured to be, and what a change of that means for a running session.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

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

/// A hold time as RFC 4271 §4.2 allows it: zero (no timers at all) or at least three seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HoldTime(u16);

impl HoldTime {
    /// 90 seconds, the RFC's suggestion.
    pub const DEFAULT: Self = Self(90);
    /// Neither hold nor keepalive timers.
    pub const ZERO: Self = Self(0);

    /// From seconds.
    ///
    /// # Errors
    /// One and two seconds don't exist in BGP (RFC 4271 §4.2).
    pub fn from_secs(seconds: u16) -> Result<Self, ConfigError> {
        match seconds {
            1 | 2 => Err(ConfigError::HoldTime { seconds }),
            _ => Ok(Self(seconds)),
        }
    }

    /// In seconds.
    #[must_use]
    pub fn as_secs(self) -> u16 {
        self.0
    }

    /// As a duration, or `None` for zero.
    #[must_use]
    pub fn duration(self) -> Option<Duration> {
        (self.0 != 0).then(|| Duration::from_secs(self.0.into()))
    }
}

impl Default for HoldTime {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Next hops for the family that a session doesn't run over.
///
/// The session's own family uses [`PeerConfig::source_address`], or else the session's local
/// address; over link-local addresses there is no global one, and `v6` is taken from here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NextHops {
    /// For IPv4 prefixes over an IPv6 session.
    pub v4: Option<Ipv4Addr>,
    /// For IPv6 prefixes over an IPv4 session.
    pub v6: Option<Ipv6Addr>,
}

/// One configured neighbour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// The name its owner knows it by; unique in a speaker.
    pub name: String,
    /// Where to dial, and by its address alone, who may dial us.
    pub address: SocketAddr,
    /// Our AS number towards this peer.
    pub local_asn: Asn,
    /// The AS number we demand in the peer's OPEN. Equal to `local_asn`: iBGP.
    pub remote_asn: Asn,
    /// The address to dial from; also the next hop of its family.
    pub source_address: Option<IpAddr>,
    /// BGP identifier. Without it: the session's local IPv4 address, or else the speaker's own.
    pub router_id: Option<Ipv4Addr>,
    /// The hold time we offer.
    pub hold_time: HoldTime,
    /// The keepalive interval we'd like; never more than a third of the negotiated hold time.
    pub keepalive_time: Option<Duration>,
    /// The longest wait between two attempts to connect. 60 s if not given.
    pub connect_retry: Option<Duration>,
    /// TCP MD5 (RFC 2385). A peer with a password never runs without it.
    pub password: Option<Secret>,
    /// Never dial, only wait for the peer to.
    pub passive: bool,
    /// The families offered in OPEN.
    pub families: Vec<Family>,
    /// Next hops for the other family.
    pub next_hops: NextHops,
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

impl PeerConfig {
    /// A peer with the defaults: both unicast families, hold time 90 s, active.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        address: SocketAddr,
        local_asn: Asn,
        remote_asn: Asn,
    ) -> Self {
        Self {
            name: name.into(),
            address,
            local_asn,
            remote_asn,
            source_address: None,
            router_id: None,
            hold_time: HoldTime::DEFAULT,
            keepalive_time: None,
            connect_retry: None,
            password: None,
            passive: false,
            families: vec![Family::IPV4_UNICAST, Family::IPV6_UNICAST],
            next_hops: NextHops::default(),
            receive: false,
        }
    }

    /// Whether both ends are in one AS.
    #[must_use]
    pub fn ibgp(&self) -> bool {
        self.local_asn == self.remote_asn
    }

    /// What becomes of a session that runs under `old` when this takes its place.
    #[must_use]
    pub fn impact(&self, old: &Self) -> Impact {
        // Every field by name: a new one doesn't compile until somebody decides what it means.
        let Self {
            name,
            address,
            local_asn,
            remote_asn,
            source_address,
            router_id,
            hold_time,
            keepalive_time,
            connect_retry: _, // only matters to the next attempt
            password,
            passive: _, // only matters to the next attempt
            families,
            next_hops,
            receive,
        } = self;
        let same = *name == old.name
            && *address == old.address
            && *local_asn == old.local_asn
            && *remote_asn == old.remote_asn
            && *source_address == old.source_address
            && *router_id == old.router_id
            && *hold_time == old.hold_time
            && *keepalive_time == old.keepalive_time
            && *password == old.password
            && *families == old.families
            && *next_hops == old.next_hops
            // Whoever begins to listen wants all of it, not what comes from now on.
            && (*receive == old.receive || !*receive);
        if same { Impact::None } else { Impact::Reset }
    }

    /// Checks what no session could ever run with.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.name.is_empty() {
            return Err(ConfigError::NoName);
        }
        if self.address.ip().is_unspecified() || self.address.ip().is_multicast() {
            return Err(ConfigError::Address {
                address: self.address.ip(),
            });
        }
        if self.address.port() == 0 && !self.passive {
            return Err(ConfigError::PortZero);
        }
        if self.local_asn == Asn(0) || self.remote_asn == Asn(0) {
            return Err(ConfigError::AsnZero);
        }
        if let Some(source) = self.source_address
            && source.is_ipv4() != self.address.is_ipv4()
        {
            return Err(ConfigError::SourceFamily {
                local: source,
                address: self.address.ip(),
            });
        }
        if self.router_id == Some(Ipv4Addr::UNSPECIFIED) {
            return Err(ConfigError::RouterIdZero);
        }
        if self.families.is_empty() {
            return Err(ConfigError::NoFamilies);
        }
        match &self.password {
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
    #[error("source address {local} and peer address {address} are of different families")]
    SourceFamily {
        /// The source address given.
        local: IpAddr,
        /// The peer's address.
        address: IpAddr,
    },
    /// RFC 6286 §2.1.
    #[error("router ID 0.0.0.0 is not valid (RFC 6286)")]
    RouterIdZero,
    /// One or two seconds.
    #[error("hold time {seconds} s is not valid: 0, or 3 s and more (RFC 4271 §4.2)")]
    HoldTime {
        /// What was given, in seconds.
        seconds: u16,
    },
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
