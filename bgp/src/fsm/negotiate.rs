//! From two OPENs to what the session runs with (RFC 4271 §4.2).

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::config::{HoldTime, PeerConfig, RemoteAsn};
use crate::wire::{Asn, DecodeError, Family, Notification, Open};

/// No more than one KEEPALIVE a second (RFC 4271 §4.4).
const KEEPALIVE_MIN: Duration = Duration::from_secs(1);

/// What a session runs with.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Negotiated {
    /// The smaller of both hold times.
    pub hold_time: HoldTime,
    /// How often we send a KEEPALIVE, before jitter, in seconds; `None` with hold time zero.
    #[cfg_attr(feature = "serde", serde(with = "super::seconds::option"))]
    pub keepalive_time: Option<Duration>,
    /// The families both ends offered, in our order.
    pub families: Vec<Family>,
    /// AS numbers in AS_PATH have four octets.
    pub four_octet_asn: bool,
    /// The peer may be asked for its routes again (RFC 2918).
    pub route_refresh: bool,
    /// Our BGP identifier on this session.
    pub local_router_id: Ipv4Addr,
    /// The peer's.
    pub remote_router_id: Ipv4Addr,
    /// The peer's AS number.
    pub remote_asn: Asn,
    /// Both ends are in one AS.
    pub ibgp: bool,
    /// Graceful restart: the peer keeps our routes for a while when we are gone.
    pub graceful_restart: Option<RestartAgreement>,
}

/// What the peer does when we are gone (RFC 4724, RFC 8538).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct RestartAgreement {
    /// How long it keeps our routes, in seconds.
    pub restart_time: u16,
    /// It keeps them also after a NOTIFICATION other than Hard Reset, and after an expired hold timer.
    pub notification: bool,
}

/// The OPEN we send.
pub(super) fn our_open(config: &PeerConfig, router_id: Ipv4Addr) -> Open {
    Open::new(
        config.local_asn,
        config.timers.hold_time.as_secs(),
        router_id,
        &config.families,
    )
}

/// Checks the peer's OPEN against ours and against what is configured.
///
/// # Errors
/// The NOTIFICATION to send (RFC 4271 §6.2).
pub(super) fn negotiate(
    theirs: &Open,
    ours: &Open,
    config: &PeerConfig,
) -> Result<Negotiated, Notification> {
    let agreed = theirs
        .validate(expected(config), ours)
        .map_err(|error| error.notification())?;
    if !config
        .remote_asn
        .accepts(config.local_asn, agreed.remote_asn)
    {
        let received = agreed.remote_asn;
        let expected = None;
        return Err(DecodeError::BadPeerAs { received, expected }.notification());
    }
    // Both sides' hold times have been checked; the smaller of the two is one of them.
    let hold_time = HoldTime::from_secs(agreed.hold_time).unwrap_or(config.timers.hold_time);
    let keepalive_time = hold_time.duration().map(|hold| {
        let third = hold / 3;
        config
            .timers
            .keepalive_time
            .map_or(third, |wish| wish.min(third))
            .max(KEEPALIVE_MIN)
    });
    Ok(Negotiated {
        hold_time,
        keepalive_time,
        families: agreed.families,
        four_octet_asn: agreed.four_octet_asn,
        route_refresh: agreed.route_refresh,
        local_router_id: ours.router_id,
        remote_router_id: agreed.remote_router_id,
        remote_asn: agreed.remote_asn,
        ibgp: agreed.ibgp,
        graceful_restart: None,
    })
}

/// The AS number that it has to be, where there is only one.
fn expected(config: &PeerConfig) -> Option<Asn> {
    match config.remote_asn {
        RemoteAsn::Number(asn) => Some(asn),
        RemoteAsn::Internal => Some(config.local_asn),
        RemoteAsn::External | RemoteAsn::Auto => None,
    }
}

#[cfg(test)]
mod tests;
