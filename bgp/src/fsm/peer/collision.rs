//! A second connection of a peer: whether it is accepted, and which of the two stays.
//!
//! RFC 4271 §6.8: "Upon receipt of an OPEN message, the local system MUST examine all of its
//! connections that are in the OpenConfirm state. A BGP speaker MAY also examine connections in an
//! OpenSent state if it knows the BGP Identifier of the peer by means outside of the protocol. If,
//! among these connections, there is a connection to a remote BGP speaker whose BGP Identifier
//! equals the one in the OPEN message, and this connection collides with the connection over which
//! the OPEN message is received, then the local system performs the following collision resolution
//! procedure:
//!
//! 1. The BGP Identifier of the local system is compared to the BGP Identifier of the remote system
//!    (as specified in the OPEN message). Comparing BGP Identifiers is done by converting them to
//!    host byte order and treating them as 4-octet unsigned integers.
//! 2. If the value of the local BGP Identifier is less than the remote one, the local system closes
//!    the BGP connection that already exists (the one that is already in the OpenConfirm state),
//!    and accepts the BGP connection initiated by the remote system.
//! 3. Otherwise, the local system closes the newly created BGP connection (the one associated with
//!    the newly received OPEN message), and continues to use the existing one (the one that is
//!    already in the OpenConfirm state).
//!
//! Unless allowed via configuration, a connection collision with an existing BGP connection that is
//! in the Established state causes closing of the newly created connection."
//!
//! RFC 6286 §2.3: if the identifiers are equal, the connection of the speaker with the larger AS
//! number stays.
//!
//! RFC 4724 §4.2, for peers with graceful restart: a speaker that "does not detect the termination
//! of the old TCP session and still considers the BGP session as being established [...] MUST treat
//! the subsequent open connection from the peer as an indication of the termination of the old TCP
//! session". So the second connection replaces the session: the router lost power, or its process
//! died with the link down, and no FIN reached us.
//!
//! Two rules are stricter than the RFCs:
//!
//! * Both ends decide as soon as one OPEN is received, by the same numbers. To wait for the second
//!   OPEN, as RFC 4271 allows, lets each end close another connection.
//! * A session is replaced when the new connection has a valid OPEN, not when TCP is established
//!   (RFC 4724 §5): a connection that never becomes a session must not end one.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::fsm::peer::connection::Connection;
use crate::fsm::peer::dial::Dialer;
use crate::fsm::peer::slots::Slots;
use crate::fsm::state::State;
use crate::fsm::tcp::{ConnectionId, RejectReason};
use crate::wire::Asn;

/// A connection without an OPEN for this long is probably dead, and loses a collision.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections that both ends dialled at the same time arrive within this time, a retransmitted SYN
/// included. No router restarts so soon after its session was established.
const CROSSING_TIME: Duration = Duration::from_secs(5);

/// What to do when a connection received a valid OPEN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resolution {
    /// There is no collision.
    None,
    /// The connection replaces this session. It is closed without a NOTIFICATION: RFC 4724 §4.2,
    /// "the previous TCP session is simply closed".
    Replace(ConnectionId),
    /// Close this one, with Cease/Connection Collision Resolution.
    Close(ConnectionId),
}

/// One end of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Identity {
    /// Compared first.
    router_id: Ipv4Addr,
    asn: Asn,
}

/// The end that dialled a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Ours,
    Theirs,
}

/// Whether a new connection of the peer is accepted.
pub(super) fn admit(slots: &Slots, dialer: &Dialer, now: Instant) -> Result<(), RejectReason> {
    if let Some(session) = slots.established() {
        return if dialer.is_enabled() && is_replaceable(session, now) {
            Ok(())
        } else {
            Err(RejectReason::SessionExists)
        };
    }
    let older = slots.accepted().map(Connection::state);
    if older > Some(State::OpenSent) {
        Err(RejectReason::SessionExists)
    } else if dialer.refuses_inbound() {
        Err(RejectReason::Idle)
    } else {
        Ok(())
    }
}

/// Which connection ends, now that `id` received a valid OPEN.
pub(super) fn resolve(slots: &Slots, id: ConnectionId, local_asn: Asn, now: Instant) -> Resolution {
    if let Some(session) = slots.established() {
        return Resolution::Replace(session.id());
    }
    let connection = slots.iter().find(|connection| connection.id() == id);
    let agreement = connection.and_then(Connection::agreement);
    let (Some(agreement), Some(other)) = (agreement, slots.other(id)) else {
        return Resolution::None;
    };
    let ours = Identity {
        router_id: agreement.local_router_id,
        asn: local_asn,
    };
    let theirs = Identity {
        router_id: agreement.remote_router_id,
        asn: agreement.remote_asn,
    };
    let side = match id {
        ConnectionId::Dialled(_) => Side::Ours,
        ConnectionId::Accepted(_) => Side::Theirs,
    };
    let stale = other.state() == State::OpenSent && other.opened() + OPEN_TIMEOUT <= now;
    let id = if stale || winner(ours, theirs) == side {
        other.id()
    } else {
        id
    };
    Resolution::Close(id)
}

/// The side whose connection stays. Both ends get the same answer.
fn winner(ours: Identity, theirs: Identity) -> Side {
    if ours > theirs {
        Side::Ours
    } else {
        Side::Theirs
    }
}

/// Whether a new connection replaces this session: one that both ends dialled for this very session
/// does not.
fn is_replaceable(session: &Connection, now: Instant) -> bool {
    let settled = session
        .established_since()
        .is_some_and(|since| since + CROSSING_TIME <= now);
    settled && session.peer_keeps_routes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PeerConfig;
    use crate::fsm::negotiate::our_open;
    use crate::fsm::tcp::SocketPair;
    use crate::wire::Message;

    fn identity(router_id: [u8; 4], asn: u32) -> Identity {
        Identity {
            router_id: router_id.into(),
            asn: Asn(asn),
        }
    }

    #[test]
    fn the_higher_router_id_keeps_its_own_connection_rfc4271_6_8() {
        let low = identity([9, 255, 255, 255], 65001);
        let high = identity([10, 0, 0, 1], 65000);
        assert_eq!(winner(low, high), Side::Theirs);
        assert_eq!(winner(high, low), Side::Ours);
        // In host byte order: 1.0.0.2 > 1.0.0.1, 2.0.0.1 > 1.0.0.2.
        assert_eq!(
            winner(identity([2, 0, 0, 1], 1), identity([1, 0, 0, 2], 1)),
            Side::Ours
        );
        assert_eq!(
            winner(identity([200, 0, 0, 1], 1), identity([100, 0, 0, 1], 1)),
            Side::Ours
        );
    }

    #[test]
    fn with_equal_router_ids_the_larger_as_keeps_its_own_connection_rfc6286_2_3() {
        let low = identity([10, 0, 0, 1], 65001);
        let high = identity([10, 0, 0, 1], 4_200_000_000);
        assert_eq!(winner(low, high), Side::Theirs);
        assert_eq!(winner(high, low), Side::Ours);
    }

    /// Both connections are up, and the accepted one has the peer's OPEN.
    fn colliding(now: Instant, local_id: [u8; 4]) -> Slots {
        let remote = "10.0.0.2:179".parse().unwrap();
        let ours = PeerConfig::new("tor", remote, Asn(65001), Asn(65002));
        let theirs = PeerConfig::new("node", remote, Asn(65002), Asn(65001));
        let connection = |id| {
            let open = our_open(&ours, local_id.into(), false, None);
            let local = "10.0.0.1:179".parse().unwrap();
            Connection::new(now, id, SocketPair { local, remote }, open, None)
        };
        let mut accepted = connection(ConnectionId::Accepted(0));
        let open = our_open(&theirs, [10, 0, 0, 2].into(), false, None);
        let mut rng = fastrand::Rng::with_seed(1);
        accepted.step(now, Ok(Message::Open(open)), &ours, &mut rng);
        let mut slots = Slots::default();
        slots.put_dialled(connection(ConnectionId::Dialled(0)));
        slots.put_accepted(accepted);
        slots
    }

    #[test]
    fn a_connection_without_an_open_for_five_seconds_loses() {
        let now = Instant::now();
        let (dialled, accepted) = (ConnectionId::Dialled(0), ConnectionId::Accepted(0));
        let resolve = |slots: &Slots, now| resolve(slots, accepted, Asn(65001), now);
        let mut low = colliding(now, [10, 0, 0, 1]);
        let mut high = colliding(now, [10, 0, 0, 3]);
        assert_eq!(resolve(&low, now), Resolution::Close(dialled));
        assert_eq!(resolve(&high, now), Resolution::Close(accepted));
        let later = now + OPEN_TIMEOUT;
        assert_eq!(resolve(&high, later), Resolution::Close(dialled));
        for slots in [&mut low, &mut high] {
            slots.take(dialled);
            assert_eq!(resolve(slots, now), Resolution::None);
        }
    }
}
