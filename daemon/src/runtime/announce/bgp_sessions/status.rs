//! The state of a peer in the form that a BGPSession has.

use std::time::Duration;

use ferrolb_bgp::fsm::{CauseSummary, LastError as EngineError, PeerStatus, State};
use ferrolb_bgp::wire::Agreement;
use jiff::{SignedDuration, Timestamp};

use crate::core::api::bgp_session::{
    BgpSessionStatus, BgpState, Negotiated, SessionError, SessionNotification,
};
use crate::core::printable::printable;

/// Moments that are computed from durations differ by less than this.
const SAME_MOMENT: SignedDuration = SignedDuration::from_secs(2);

/// What the state of the peer says. The rest is left at its default.
pub(super) fn of(peer: &PeerStatus) -> BgpSessionStatus {
    let remote = peer.remote.router();
    let established = peer.state == State::Established;
    let negotiated = peer.negotiated.as_ref().filter(|_| established);
    BgpSessionStatus {
        peer: peer.template.as_ref().unwrap_or(&peer.name).clone(),
        address: remote
            .map(|remote| remote.ip().to_string())
            .unwrap_or_default(),
        bgp: match peer.state {
            State::Idle => BgpState::Idle,
            State::Active => BgpState::Active,
            State::Connect => BgpState::Connect,
            State::OpenSent => BgpState::OpenSent,
            State::OpenConfirm => BgpState::OpenConfirm,
            State::Established => BgpState::Established,
        },
        bfd: peer.bfd.as_ref().map(|bfd| bfd.state.to_string()),
        negotiated: negotiated.map(negotiated_of),
        prefixes_sent: i64::try_from(peer.prefixes_advertised).unwrap_or(i64::MAX),
        ..BgpSessionStatus::default()
    }
}

fn negotiated_of(agreement: &Agreement) -> Negotiated {
    let restart = agreement.graceful_restart.as_ref();
    Negotiated {
        peer_asn: agreement.remote_asn.0,
        peer_router_id: agreement.remote_router_id.to_string(),
        families: agreement.families.iter().map(ToString::to_string).collect(),
        hold_time: format!("{}s", agreement.hold_time.as_secs()),
        restart_time: restart.map(|restart| format!("{}s", restart.restart_time)),
    }
}

/// Why a session or an attempt ended, and when by the wall clock.
#[derive(Clone, Debug)]
pub(super) struct LastError {
    pub(super) cause: CauseSummary,
    pub(super) at: Timestamp,
}

impl LastError {
    pub(super) fn new(wall: Timestamp, error: &EngineError) -> Self {
        Self {
            cause: error.cause.clone(),
            at: time(wall, error.ago),
        }
    }

    /// As the object has it: texts of routers may contain anything.
    pub(super) fn shown(&self) -> SessionError {
        SessionError {
            time: self.at.to_string(),
            reason: self.cause.code.to_string(),
            message: printable(&self.cause.text).into_owned(),
        }
    }

    pub(super) fn notification(&self) -> Option<SessionNotification> {
        let notification = self.cause.notification.as_ref()?;
        let text = notification.text.as_deref();
        Some(SessionNotification {
            time: self.at.to_string(),
            sent: notification.sent,
            code: notification.code,
            subcode: notification.subcode,
            name: printable(&notification.name).into_owned(),
            text: text.map(|text| printable(text).into_owned()),
        })
    }
}

/// The moment that was so long ago, in whole seconds.
pub(super) fn time(wall: Timestamp, ago: Duration) -> Timestamp {
    let ago = SignedDuration::try_from(ago).unwrap_or(SignedDuration::MAX);
    let then = wall.checked_sub(ago).unwrap_or(Timestamp::UNIX_EPOCH);
    Timestamp::from_second(then.as_second()).unwrap_or(then)
}

/// Whether two results of [`time`] mean two moments.
pub(super) fn times_differ(one: Timestamp, other: Timestamp) -> bool {
    one.duration_since(other).abs() >= SAME_MOMENT
}
