//! Texts about owners, self-tests and times that several outputs contain.

use std::time::Duration;

use ferrolb_layer2::config::Time;
use ferrolb_layer2::status::{AddressStatus, NodeState, OwnerReason, PeerStatus, SelfTest};

use crate::cli::output::age;
use crate::core::decide::owner_reason::{in_words, owner_text};

/// The time since `at`. Below a second in milliseconds.
pub(super) fn ago(now: Time, at: Time) -> String {
    span(now.saturating_sub(at))
}

/// A duration. Below a second in milliseconds.
pub(super) fn span(time: Duration) -> String {
    if time < Duration::from_secs(1) && !time.is_zero() {
        format!("{}ms", time.as_millis())
    } else {
        age(time)
    }
}

/// Why the owner is the owner, or why there is none.
pub(super) fn why(found: &AddressStatus) -> String {
    let before = found.moves.first().and_then(|last| last.from.as_deref());
    in_words(found.reason, before)
}

/// What the operator can do about an address that no node announces, or that has a conflict.
/// `rejected`: there are nodes whose hellos are rejected.
pub(super) fn remedy(found: &AddressStatus, rejected: bool) -> Option<String> {
    let remedy_of = |reason| owner_text(reason).remedy.unwrap_or_default();
    match (found.conflict, found.reason) {
        (Some(mac), reason @ OwnerReason::OtherSpeaker) => Some(format!(
            "a node ({mac}) answers for it but does not claim it: {}",
            remedy_of(reason)
        )),
        (Some(mac), _) => {
            let remedy = remedy_of(OwnerReason::AddressConflict);
            let node = if rejected {
                "; or it is one of the nodes whose hellos are rejected, see below"
            } else {
                ""
            };
            Some(format!(
                "the host {mac}, which is no known node, answers for it: {remedy}{node}"
            ))
        }
        // If this node is isolated, the owner is silent and is not replaced.
        (None, reason) if found.owner.is_none() || reason == OwnerReason::Isolated => {
            let remedy = owner_text(reason).remedy?;
            Some(format!("{}: {remedy}", why(found)))
        }
        (None, _) => None,
    }
}

/// The result of a self-test, in a table.
pub(super) fn self_test(now: Time, test: Option<&SelfTest>) -> String {
    test.map_or_else(
        || "-".to_owned(),
        |test| {
            let result = if test.passed { "passed" } else { "FAILED" };
            format!("{result} {} ago", ago(now, test.at))
        },
    )
}

/// The state of a neighbor.
pub(super) fn peer_state(peer: &PeerStatus) -> &'static str {
    if peer.rejected.is_some() {
        "Rejected"
    } else if peer.alive {
        node_state(peer.state)
    } else {
        "Silent"
    }
}

/// The state of a node.
pub(super) const fn node_state(state: NodeState) -> &'static str {
    match state {
        NodeState::Settling => "Settling",
        NodeState::Ready => "Ready",
        NodeState::Restarting => "Restarting",
        NodeState::Leaving => "Leaving",
    }
}
