//! An established session, as monitoring (RFC 7854) describes it.

use std::net::Ipv4Addr;

use bytes::Bytes;

use crate::capture::CapturedSession;
use crate::rib::SessionEncoding;

/// An established session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionUp {
    /// Names, ends and AS numbers.
    pub session: CapturedSession,
    /// The peer's BGP identifier.
    pub remote_router_id: Ipv4Addr,
    /// Our OPEN, the whole message.
    pub open_sent: Bytes,
    /// The peer's OPEN, the whole message as received.
    pub open_received: Bytes,
    /// How UPDATEs to the peer are encoded.
    pub encoding: SessionEncoding,
}
