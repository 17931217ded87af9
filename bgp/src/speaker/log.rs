//! Events in words, for the log.

use std::collections::HashMap;

use tracing::{debug, info, trace, warn};

use crate::config::Remote;
use crate::fsm::{Cause, Event, Input, TEXT_MAX, shortened};
use crate::wire::ErrorCode;

/// Peers' addresses by name: an event has the name only.
pub(super) type Addresses = HashMap<String, Remote>;

/// Octets of an UPDATE with errors: all of an ordinary one, not all of an extended one (RFC 8654).
const OCTETS_LOGGED: usize = 4096;

/// Writes to the log what the machine is fed.
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

/// Writes an event to the log.
pub(super) fn event(event: &Event, addresses: &Addresses) {
    let at = |peer: &str| {
        addresses
            .get(peer)
            .map(ToString::to_string)
            .unwrap_or_default()
    };
    match event {
        Event::StateChanged { peer, from, to } => {
            debug!(%peer, address = %at(peer), "{from} -> {to}");
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
                "no session"
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
            debug!(%peer, address = %at(peer), ?connection, "one connection of two closed: {cause}");
        }
        Event::Rejected { remote, reason } => {
            debug!(%remote, "connection turned away: {reason}");
        }
        Event::NoNextHop { peer, family } => {
            info!(
                %peer,
                address = %at(peer),
                %family,
                "no next hop is known for this family on this session: its routes are not announced"
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
                "route not announced: its attributes alone fill a message of {max_length} octets; \
                 announce it with fewer communities (others of this session are only counted, see \
                 ferrolb peer)"
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
                "the peer refused capabilities; the next OPEN goes without: {}",
                shortened(names.join(", "), TEXT_MAX)
            );
        }
        // It comes from the owner's end of the channel, and is for the owner.
        Event::Missed { .. } => {}
        Event::UnknownPeer { peer } => {
            warn!(%peer, "routes for a peer that isn't configured were dropped");
        }
    }
}

/// Whether we ended it because of what the peer sent.
fn broke_protocol(cause: &Cause) -> bool {
    let Some((notification, true)) = cause.notification() else {
        return false;
    };
    matches!(
        notification.code,
        ErrorCode::MESSAGE_HEADER | ErrorCode::OPEN | ErrorCode::UPDATE | ErrorCode::FSM
    )
}
