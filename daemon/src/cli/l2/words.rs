//! Texts about owners, self-tests and times that several outputs contain.

use std::time::Duration;

use ferrolb_layer2::config::Time;
use ferrolb_layer2::status::{AddressStatus, NodeState, OwnerReason, PeerStatus, SelfTest};

use crate::cli::output::age;

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
    reason(found.reason, before)
}

/// The reason of a change. `before` is the owner before it.
pub(super) fn reason(reason: OwnerReason, before: Option<&str>) -> String {
    let before = before.unwrap_or("the owner before");
    match reason {
        OwnerReason::Settling => "this node listens before it claims".to_owned(),
        OwnerReason::Placed => "placed, had no owner".to_owned(),
        OwnerReason::OwnerSilent => format!("{before} became silent"),
        OwnerReason::HandedOver => format!("{before} handed it over"),
        OwnerReason::Moved => format!("moved from {before} on request"),
        OwnerReason::Preferred => format!("preferred to {before}"),
        OwnerReason::ConflictWon => format!("claimed by {before} too, won"),
        OwnerReason::Resumed => "resumed after a restart".to_owned(),
        OwnerReason::Probing => "probed before its first use".to_owned(),
        OwnerReason::NoCandidate => "no candidate is alive".to_owned(),
        OwnerReason::NoInterface => "no usable interface here".to_owned(),
        OwnerReason::AddressConflict => "another host answers".to_owned(),
        OwnerReason::OtherSpeaker => "another load balancer answers".to_owned(),
        OwnerReason::Isolated => "no other host is received".to_owned(),
        OwnerReason::NoKey => "no key for hellos".to_owned(),
        OwnerReason::OwnerRestarting => "its owner restarts".to_owned(),
    }
}

/// What the operator can do about an address that no node announces, or that has a conflict.
/// `rejected`: there are nodes whose hellos are rejected.
pub(super) fn remedy(found: &AddressStatus, rejected: bool) -> Option<String> {
    if let Some(mac) = found.conflict {
        let host = match found.reason {
            OwnerReason::OtherSpeaker => format!(
                "a node ({mac}) answers for it but does not claim it: stop the other load balancer \
                 (MetalLB's speaker) on that node"
            ),
            _ => format!(
                "the host {mac}, which is no known node, answers for it: find it in the switch's \
                 table of Ethernet addresses and remove the address there, or exclude it from the \
                 pool{}",
                if rejected {
                    "; or it is one of the nodes whose hellos are rejected, see below"
                } else {
                    ""
                }
            ),
        };
        return Some(host);
    }
    let remedy = match found.reason {
        // The owner is silent, and this node does not take the address over.
        OwnerReason::Isolated => {
            "this node receives no other host, so it takes nothing over: check its cable, switch \
             port and VLAN"
        }
        _ if found.owner.is_some() => return None,
        OwnerReason::NoCandidate => {
            "none of its candidates is received: does ferrolb-layer2 run on them, and do the \
             nodeSelectors and the endpoints of the service permit any?"
        }
        OwnerReason::NoInterface => {
            "no usable interface of this node is selected: check spec.interfaces of the \
             L2Advertisement and the list of excluded interfaces"
        }
        OwnerReason::OtherSpeaker => {
            "another load balancer on a node answers for it: stop MetalLB's speaker there"
        }
        OwnerReason::AddressConflict => {
            "another host answers for it: remove the address there, or exclude it from the pool"
        }
        OwnerReason::NoKey => {
            "there is no key for hellos: create the Secret memberlist, or let the allocator create \
             ferrolb-layer2 (is it running?)"
        }
        // These end by themselves.
        _ => return None,
    };
    Some(remedy.to_owned())
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
