//! Log messages for inputs and events of the state machine.

use std::collections::HashMap;

use tracing::{debug, info, trace, warn};

use crate::config::Remote;
use crate::fsm::{Cause, Event, Input, TEXT_MAX, shortened};
use crate::wire::ErrorCode;

/// Addresses of peers by name; events contain only the name.
pub(super) type Addresses = HashMap<String, Remote>;

/// Maximum number of logged octets of an UPDATE with errors. Truncates extended messages (RFC 8654)
/// only.
const OCTETS_LOGGED: usize = 4096;

/// Logs an input.
pub(super) fn input(input: &Input) {
    match input {
        Input::Received { connection, octets } => {
            trace!(?connection, octets = octets.len(), "received");
        }
        Input::Routes(routes) => trace!(peers = routes.len(), "routes"),
        Input::Timeout => trace!("timeout"),
        Input::Bfd { peer, event } => trace!(%peer, "{event:?}"),
        other => debug!("{other:?}"),
    }
}

/// Logs an event. Warnings need the attention of an operator.
pub(super) fn event(event: &Event, addresses: &Addresses) {
    let at = |peer: &str| {
        addresses
            .get(peer)
            .map(ToString::to_string)
            .unwrap_or_default()
    };
    match event {
        Event::StateChanged { peer, from, to } => {
            debug!(%peer, address = %at(peer), "state changed: {from} -> {to}");
        }
        Event::Established { peer, negotiated } => {
            let families: Vec<String> = negotiated
                .families
                .iter()
                .map(ToString::to_string)
                .collect();
            info!(
                %peer,
                address = %at(peer),
                asn = %negotiated.remote_asn,
                router_id = %negotiated.remote_router_id,
                hold_time = negotiated.hold_time.as_secs(),
                families = families.join(","),
                "session up"
            );
        }
        Event::Down {
            peer,
            cause,
            was_established,
            retry,
        } => {
            let what = if *was_established {
                "session down"
            } else {
                "session not established"
            };
            let retry = retry.map(|wait| format!("; next attempt in {:.1} s", wait.as_secs_f64()));
            let retry = retry.unwrap_or_default();
            let text = shortened(cause.to_string(), TEXT_MAX);
            if broke_protocol(cause) {
                warn!(%peer, address = %at(peer), "{what}: {text}{retry}");
            } else {
                info!(%peer, address = %at(peer), "{what}: {text}{retry}");
            }
        }
        Event::ConnectionClosed {
            peer,
            connection,
            cause,
        } => {
            let cause = shortened(cause.to_string(), TEXT_MAX);
            let address = at(peer);
            debug!(%peer, %address, ?connection, "closed one of two connections: {cause}");
        }
        Event::Rejected { remote, reason } => {
            debug!(%remote, "connection rejected: {reason}");
        }
        Event::NoNextHop { peer, family } => {
            info!(
                %peer,
                address = %at(peer),
                %family,
                "routes of this family are not announced: the session has no next hop for it; add \
                 an address of this family to the node, or remove the family from this peer"
            );
        }
        Event::RouteTooLong {
            peer,
            prefix,
            max_length,
        } => {
            warn!(
                %peer,
                address = %at(peer),
                %prefix,
                "route not announced: its attributes exceed the maximum message length of \
                 {max_length} octets; announce it with fewer communities (further routes of this \
                 session are counted, not logged: see `ferrolb peer {peer}`)"
            );
        }
        Event::Received { .. } => {}
        Event::UpdateErrors {
            peer,
            errors,
            octets,
            suppressed,
        } => {
            warn!(
                %peer,
                address = %at(peer),
                suppressed,
                octets = %format_args!("{:x}", octets.slice(..octets.len().min(OCTETS_LOGGED))),
                "UPDATE with errors: {}",
                shortened(errors.join("; "), TEXT_MAX)
            );
        }
        Event::Bfd {
            peer,
            state,
            reason,
        } => {
            info!(%peer, address = %at(peer), "BFD {state}: {reason}");
        }
        Event::CapabilitiesDropped { peer, capabilities } => {
            let names: Vec<&str> = capabilities.iter().map(|c| c.text.as_str()).collect();
            info!(
                %peer,
                address = %at(peer),
                "peer rejected our capabilities; retrying without: {}",
                shortened(names.join(", "), TEXT_MAX)
            );
        }
        // Generated by `Events::recv`.
        Event::Missed { .. } => {}
        Event::UnknownPeer { peer } => {
            warn!(%peer, "routes dropped: no peer with this name is configured");
        }
    }
}

/// Whether we closed the connection because of a protocol error of the peer.
fn broke_protocol(cause: &Cause) -> bool {
    let Some((notification, true)) = cause.notification() else {
        return false;
    };
    matches!(
        notification.code,
        ErrorCode::MESSAGE_HEADER | ErrorCode::OPEN | ErrorCode::UPDATE | ErrorCode::FSM
    )
}
