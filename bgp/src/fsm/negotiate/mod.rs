//! From two OPENs to what the session runs with (RFC 4271 §4.2).

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::config::{HoldTime, PeerConfig, RemoteAsn};
use crate::wire::{
    Asn, Capability, DecodeError, ExtendedNextHop, Family, GracefulRestartCapability, Notification,
    Open,
};

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
    /// Messages to the peer may have 65,535 octets (RFC 8654).
    pub extended_message: bool,
    /// A refresh is told where it begins and ends (RFC 7313).
    pub enhanced_route_refresh: bool,
    /// IPv4 routes may have IPv6 next hops (RFC 8950).
    pub ipv4_next_hop_v6: bool,
    /// Families in which the peer's prefixes come with path identifiers (RFC 7911).
    pub add_path: Vec<Family>,
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
///
/// `over_v6`: the connection is an IPv6 one, so that IPv4 routes need another kind of next hop.
pub(super) fn our_open(
    config: &PeerConfig,
    router_id: Ipv4Addr,
    over_v6: bool,
    restart: Option<GracefulRestartCapability>,
) -> Open {
    let hold_time = config.timers.hold_time.as_secs();
    let base = Open::new(config.local_asn, hold_time, router_id, &config.families);
    let next_hop = (over_v6 && config.families.contains(&Family::IPV4_UNICAST))
        .then(|| Capability::ExtendedNextHop(vec![ExtendedNextHop::IPV4_OVER_IPV6]));
    let optional = next_hop
        .into_iter()
        .chain(restart.map(Capability::GracefulRestart));
    [
        Capability::ExtendedMessage,
        Capability::EnhancedRouteRefresh,
    ]
    .into_iter()
    .chain(optional)
    .fold(base, Open::with)
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
        extended_message: agreed.extended_message,
        enhanced_route_refresh: agreed.enhanced_route_refresh,
        ipv4_next_hop_v6: agreed.ipv4_next_hop_v6,
        add_path: agreed.add_path,
        graceful_restart: config.graceful_restart.zip(agreed.graceful_restart).map(
            |(ours, theirs)| RestartAgreement {
                restart_time: ours.restart_time,
                notification: ours.notification && theirs.notification,
            },
        ),
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
