//! The limits of the configuration: the constants, and the checks against them.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::{HoldTime, PeerConfig, Remote, RemoteAsn, Timers};
use crate::bfd::TimersError;
pub use crate::wire::KEEPALIVE_TIME_MIN;
use crate::wire::{Asn, GracefulRestartCapability};

/// The shortest hold time other than zero (RFC 4271 §4.2).
pub const HOLD_TIME_MIN: HoldTime = HoldTime::MIN;
/// The longest hold time that an OPEN can carry (RFC 4271 §4.2).
pub const HOLD_TIME_MAX: HoldTime = HoldTime::MAX;
/// The hold time in our OPEN by default (RFC 4271 §10).
pub const HOLD_TIME_DEFAULT: HoldTime = HoldTime::DEFAULT;
/// The delay after the first failed connection attempt. It doubles with each further failure.
pub const CONNECT_RETRY_MIN: Duration = Duration::from_secs(1);
/// The longest delay between two connection attempts by default.
pub const CONNECT_RETRY_DEFAULT: Duration = Duration::from_secs(60);
/// The shortest default of the send hold time (RFC 9687 §4). A configured send hold time may be
/// shorter, but must be longer than the hold time.
pub const SEND_HOLD_TIME_DEFAULT_MIN: Duration = Duration::from_secs(480);
/// The longest keepalive time, connect retry time and send hold time.
pub const TIMER_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// The default restart time in seconds: enough for a restart of the daemon, and short enough to
/// limit the traffic lost if the daemon doesn't come back.
pub const RESTART_TIME_DEFAULT: u16 = 20;
/// The longest restart time that an OPEN can carry, in seconds (RFC 4724 §3).
pub const RESTART_TIME_MAX: u16 = GracefulRestartCapability::MAX_RESTART_TIME;
/// The longest TCP MD5 key in octets (`TCP_MD5SIG_MAXKEYLEN` in Linux).
pub const PASSWORD_MAX: usize = 80;

impl Timers {
    fn check(&self) -> Result<(), ConfigError> {
        let Self {
            hold_time,
            keepalive_time,
            connect_retry,
            send_hold_time,
        } = *self;
        let times = [keepalive_time, connect_retry, send_hold_time];
        if let Some(time) = times.into_iter().flatten().find(|time| *time > TIMER_MAX) {
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

impl PeerConfig {
    /// Checks the limits of each field and the rules between fields.
    ///
    /// # Errors
    /// The first violation.
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
        if self.remote.is_unnumbered() {
            self.check_unnumbered()?;
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
            && restart.restart_time > RESTART_TIME_MAX
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

impl PeerConfig {
    fn check_unnumbered(&self) -> Result<(), ConfigError> {
        let Self {
            remote, transport, ..
        } = self;
        if transport.source_interface.is_none() {
            return Err(ConfigError::NoInterface);
        }
        if transport.source_address.is_some() || transport.multihop {
            return Err(ConfigError::NotOnLink);
        }
        match remote {
            Remote::Link(router) if router.port() == 0 && !transport.passive => {
                Err(ConfigError::PortZero)
            }
            _ => Ok(()),
        }
    }
}

/// The reason why a peer configuration is rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// An empty name.
    #[error("the peer has no name")]
    NoName,
    /// An unspecified or multicast address.
    #[error("{address} is not the address of a router")]
    Address {
        /// The address.
        address: IpAddr,
    },
    /// Port 0 for a peer that is dialled.
    #[error("port 0 can't be dialled: use 179, the port of BGP")]
    PortZero,
    /// An unnumbered peer without an interface.
    #[error("an unnumbered peer needs the interface that leads to it")]
    NoInterface,
    /// An unnumbered peer with a source address or multihop.
    #[error(
        "an unnumbered peer is on the link, and our address there is link-local: omit the source \
         address and multihop"
    )]
    NotOnLink,
    /// AS 0 (RFC 7607).
    #[error("AS 0 is reserved (RFC 7607): set the AS number of the peer")]
    AsnZero,
    /// Source address and peer address of different address families.
    #[error("source address {local} and peer address {remote} are of different address families")]
    SourceFamily {
        /// The source address.
        local: IpAddr,
        /// The peer address.
        remote: Remote,
    },
    /// TTL security with 0 hops.
    #[error("TTL security needs at least 1 hop: a peer on the same link is 1 hop away")]
    TtlSecurityZero,
    /// Router ID 0.0.0.0 (RFC 6286 §2.1).
    #[error("router ID 0.0.0.0 is invalid (RFC 6286)")]
    RouterIdZero,
    /// A send hold time that is not longer than the hold time (RFC 9687 §4).
    #[error(
        "send hold time {} s is not longer than the hold time {} s (RFC 9687 §4)",
        .send_hold.as_secs_f64(), .hold.as_secs()
    )]
    SendHoldTime {
        /// The configured value.
        send_hold: Duration,
        /// The hold time.
        hold: HoldTime,
    },
    /// A timer longer than [`TIMER_MAX`].
    #[error("a timer of {} s is too long: at most {} s", .time.as_secs(), TIMER_MAX.as_secs())]
    TooLong {
        /// The configured value.
        time: Duration,
    },
    /// A restart time longer than [`RESTART_TIME_MAX`].
    #[error(
        "restart time {seconds} s is too long: at most {} s (RFC 4724 §3)",
        RESTART_TIME_MAX
    )]
    RestartTime {
        /// The configured value in seconds.
        seconds: u16,
    },
    /// Invalid BFD timers.
    #[error("BFD: {0}")]
    Bfd(#[from] TimersError),
    /// No address family.
    #[error("no address family is enabled")]
    NoFamilies,
    /// An empty password.
    #[error("the password is empty: omit it to run without TCP MD5")]
    PasswordEmpty,
    /// A password longer than [`PASSWORD_MAX`].
    #[error("the password has {length} octets: TCP MD5 allows at most {PASSWORD_MAX}")]
    PasswordTooLong {
        /// The length in octets.
        length: usize,
    },
}
