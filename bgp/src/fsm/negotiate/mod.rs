//! Negotiation: our OPEN, and whether the peer's is acceptable (RFC 4271 §4.2, §6.2).

use std::net::Ipv4Addr;

use crate::config::{PeerConfig, RemoteAsn};
use crate::wire::{
    Agreement, Asn, Capability, DecodeError, ExtendedNextHop, Family, GracefulRestartCapability,
    Notification, Open,
};

/// Our OPEN.
///
/// `over_v6`: the connection runs over IPv6, so that IPv4 routes may need IPv6 next hops
/// (RFC 8950).
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

/// Checks the peer's OPEN against ours and against the configuration.
///
/// # Errors
/// The NOTIFICATION to send (RFC 4271 §6.2).
pub(super) fn negotiate(
    theirs: &Open,
    ours: &Open,
    config: &PeerConfig,
) -> Result<Agreement, Notification> {
    let mut agreement = Agreement::negotiate(ours, theirs, expected(config))
        .map_err(|error| error.notification())?;
    if !config
        .remote_asn
        .accepts(config.local_asn, agreement.remote_asn)
    {
        let received = agreement.remote_asn;
        let expected = None;
        return Err(DecodeError::BadPeerAs { received, expected }.notification());
    }
    if let Some(configured) = config.timers.keepalive_time {
        agreement.shorten_keepalive_time(configured);
    }
    Ok(agreement)
}

/// The AS number that the peer must have; `None` if several are acceptable.
fn expected(config: &PeerConfig) -> Option<Asn> {
    match config.remote_asn {
        RemoteAsn::Number(asn) => Some(asn),
        RemoteAsn::Internal => Some(config.local_asn),
        RemoteAsn::External | RemoteAsn::Auto => None,
    }
}

#[cfg(test)]
mod tests;
