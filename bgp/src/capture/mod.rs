//! Messages of sessions as other programs read them: [`mrt`] (RFC 6396) and [`Pcap`].
//!
//! TCP MD5 keys are no part of messages, so no recording contains them.

mod mrt;
mod pcap;
mod splitter;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

pub use self::mrt::mrt;
pub use self::pcap::Pcap;
pub use self::splitter::Splitter;
use crate::wire::{Asn, MessageType};

/// A message on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapturedMessage {
    /// Time since 1970-01-01, 00:00 UTC.
    pub at: Duration,
    /// Whether we sent it.
    pub sent: bool,
    /// The connection.
    pub session: CapturedSession,
    /// The whole message, or what can't be split into messages.
    pub octets: Bytes,
}

/// The connection that a message belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapturedSession {
    /// The name of the peer.
    pub peer: String,
    /// Of a dynamic neighbor, the name of its template.
    pub template: Option<String>,
    /// Our end.
    pub local: SocketAddr,
    /// The peer's end.
    pub remote: SocketAddr,
    /// Our AS number.
    pub local_asn: Asn,
    /// The peer's AS number; zero if neither its OPEN nor the configuration has it.
    pub remote_asn: Asn,
    /// Whether AS numbers in UPDATEs have four octets (RFC 6793).
    pub four_octet_asn: bool,
}

impl CapturedMessage {
    /// The type, if the message has one.
    pub(crate) fn kind(&self) -> Option<MessageType> {
        self.octets.get(18).copied().map(MessageType)
    }
}

#[cfg(test)]
mod tests;
