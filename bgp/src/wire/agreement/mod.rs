//! The result of the OPEN exchange: every parameter of a session that two OPENs settle.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::asn::Asn;
use super::capability::Capability;
use super::context::{DecodeContext, EncodeContext};
use super::error::DecodeError;
use super::family::Family;
use super::hold_time::{HoldTime, KEEPALIVE_TIME_MIN};
use super::open::{Open, check_version};
use super::{MAX_EXTENDED_LENGTH, MAX_LENGTH};

/// The parameters of a session, as settled by our OPEN and the peer's.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Agreement {
    /// The smaller of both hold times (RFC 4271 §4.2).
    pub hold_time: HoldTime,
    /// The interval between our KEEPALIVEs before jitter, in seconds; `None` without a hold time.
    #[cfg_attr(feature = "serde", serde(with = "crate::seconds::option"))]
    pub keepalive_time: Option<Duration>,
    /// The families that both sides offered, in our order (RFC 4760 §8).
    pub families: Vec<Family>,
    /// AS numbers in UPDATEs have four octets (RFC 6793).
    pub four_octet_asn: bool,
    /// The peer accepts ROUTE-REFRESH (RFC 2918).
    pub route_refresh: bool,
    /// Our BGP identifier in this session.
    pub local_router_id: Ipv4Addr,
    /// The peer's BGP identifier.
    pub remote_router_id: Ipv4Addr,
    /// The peer's AS number.
    pub remote_asn: Asn,
    /// Both sides are in the same AS.
    pub ibgp: bool,
    /// Messages to the peer may have up to 65,535 octets: both sides offered it (RFC 8654 §4).
    pub extended_message: bool,
    /// Messages from the peer may have up to 65,535 octets: we offered it, which is enough
    /// (RFC 8654 §6).
    #[cfg_attr(feature = "serde", serde(default))]
    pub extended_message_in: bool,
    /// ROUTE-REFRESH messages mark where a refresh begins and ends (RFC 7313).
    pub enhanced_route_refresh: bool,
    /// IPv4 unicast routes may have IPv6 next hops (RFC 8950).
    pub ipv4_next_hop_v6: bool,
    /// Graceful restart, if both sides offered it.
    pub graceful_restart: Option<RestartAgreement>,
}

/// What the peer does with our routes while we restart (RFC 4724, RFC 8538).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct RestartAgreement {
    /// How long the peer keeps our routes, in seconds.
    pub restart_time: u16,
    /// The peer also keeps them after a NOTIFICATION other than Hard Reset and after its hold
    /// timer expired: both sides set the N bit (RFC 8538 §2).
    pub notification: bool,
}

impl Agreement {
    /// Checks the peer's OPEN against ours and against the AS number configured for the peer
    /// (`None`: any), and combines the two (RFC 4271 §6.2, RFC 6286, RFC 7607).
    ///
    /// # Errors
    /// The first reason why no session is possible.
    pub fn negotiate(
        ours: &Open,
        theirs: &Open,
        expected_asn: Option<Asn>,
    ) -> Result<Self, DecodeError> {
        check_version(theirs.version)?;
        let remote_asn = check_asn(theirs, expected_asn)?;
        let ibgp = remote_asn == ours.sender_asn();
        let remote_router_id = theirs.router_id;
        if remote_router_id.is_unspecified() || (ibgp && remote_router_id == ours.router_id) {
            return Err(DecodeError::BadRouterId(remote_router_id));
        }
        let hold_time = hold_time(theirs)?.min(hold_time(ours)?);
        let families = common_families(ours, theirs)?;
        let both = |capability| {
            theirs.capabilities.contains(capability) && ours.capabilities.contains(capability)
        };
        let restart = ours.graceful_restart().zip(theirs.graceful_restart());
        Ok(Self {
            hold_time,
            keepalive_time: hold_time
                .duration()
                .map(|hold| (hold / 3).max(KEEPALIVE_TIME_MIN)),
            four_octet_asn: theirs.four_octet_asn().is_some() && ours.four_octet_asn().is_some(),
            route_refresh: theirs.capabilities.contains(&Capability::RouteRefresh),
            local_router_id: ours.router_id,
            remote_router_id,
            remote_asn,
            ibgp,
            extended_message: both(&Capability::ExtendedMessage),
            extended_message_in: ours.capabilities.contains(&Capability::ExtendedMessage),
            enhanced_route_refresh: both(&Capability::EnhancedRouteRefresh),
            ipv4_next_hop_v6: theirs.ipv4_next_hop_v6() && ours.ipv4_next_hop_v6(),
            graceful_restart: restart.map(|(ours, theirs)| RestartAgreement {
                restart_time: ours.restart_time,
                notification: ours.notification && theirs.notification,
            }),
            families,
        })
    }

    /// Shortens the keepalive interval to `wish`, but not below [`KEEPALIVE_TIME_MIN`]. A hold time
    /// of zero still means no KEEPALIVEs.
    pub fn shorten_keepalive_time(&mut self, wish: Duration) {
        let shorter = |interval: Duration| interval.min(wish).max(KEEPALIVE_TIME_MIN);
        self.keepalive_time = self.keepalive_time.map(shorter);
    }

    /// How to decode the peer's messages from now on.
    pub fn decode_context(&self) -> DecodeContext {
        DecodeContext {
            four_octet_asn: self.four_octet_asn,
            ibgp: self.ibgp,
            families: self.families.clone(),
            max_length: max_length(self.extended_message_in),
            ipv4_next_hop_v6: self.ipv4_next_hop_v6,
            enhanced_route_refresh: self.enhanced_route_refresh,
            ..DecodeContext::default()
        }
    }

    /// How to encode messages to the peer from now on.
    pub fn encode_context(&self) -> EncodeContext {
        EncodeContext {
            four_octet_asn: self.four_octet_asn,
            max_length: max_length(self.extended_message),
        }
    }
}

/// The longest message in octets, OPEN and KEEPALIVE excepted (RFC 8654 §4).
fn max_length(extended: bool) -> usize {
    if extended {
        MAX_EXTENDED_LENGTH
    } else {
        MAX_LENGTH
    }
}

fn hold_time(open: &Open) -> Result<HoldTime, DecodeError> {
    HoldTime::from_secs(open.hold_time)
        .map_err(|_| DecodeError::UnacceptableHoldTime(open.hold_time))
}

/// The families in both OPENs, in our order. Without one the session is impossible
/// (RFC 5492 §5).
fn common_families(ours: &Open, theirs: &Open) -> Result<Vec<Family>, DecodeError> {
    let offered = theirs.families();
    let needed = ours.families();
    let common: Vec<_> = needed
        .iter()
        .copied()
        .filter(|family| offered.contains(family))
        .collect();
    if common.is_empty() {
        return Err(DecodeError::NoCommonFamily(needed));
    }
    Ok(common)
}

/// The sender's AS number, if the OPEN names only one, which is not zero and is the expected one
/// (RFC 4271 §6.2, RFC 6793 §4.1, RFC 7607 §2).
fn check_asn(theirs: &Open, expected: Option<Asn>) -> Result<Asn, DecodeError> {
    let sender = theirs.sender_asn();
    let wrong = |received| Err(DecodeError::BadPeerAs { received, expected });
    if theirs.asn == 0 {
        return wrong(Asn::ZERO);
    }
    for capability in &theirs.capabilities {
        if let Capability::FourOctetAsn(asn) = capability
            && (*asn != sender || *asn == Asn::ZERO)
        {
            return wrong(*asn);
        }
    }
    match expected {
        Some(asn) if asn != sender => wrong(sender),
        _ => Ok(sender),
    }
}

#[cfg(test)]
mod tests;
