//! Messages to a BMP collector (RFC 7854), with the Adj-RIB-Out (RFC 8671).

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use crate::fsm::{Cause, SessionUp};

/// RFC 7854 §4.1.
const VERSION: u8 = 3;
/// Length of the common header, in octets.
const HEADER: usize = 6;

/// Message types (RFC 7854 §4.1).
mod kind {
    pub(super) const ROUTE_MONITORING: u8 = 0;
    pub(super) const STATISTICS_REPORT: u8 = 1;
    pub(super) const PEER_DOWN: u8 = 2;
    pub(super) const PEER_UP: u8 = 3;
    pub(super) const INITIATION: u8 = 4;
    pub(super) const TERMINATION: u8 = 5;
}

/// Flags of the per-peer header (RFC 7854 §4.2, RFC 8671 §4).
mod flag {
    /// The peer has an IPv6 address.
    pub(super) const V: u8 = 0x80;
    /// After the policy.
    pub(super) const L: u8 = 0x40;
    /// AS numbers in AS_PATH have two octets.
    pub(super) const A: u8 = 0x20;
    /// Of the Adj-RIB-Out.
    pub(super) const O: u8 = 0x10;
}

/// A value of a statistics report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistic {
    /// UPDATEs treated as withdraw (type 11).
    TreatedAsWithdraw(u32),
    /// Routes in the Adj-RIB-Out as sent (type 15, RFC 8671 §6.2).
    AdjRibOut(u64),
}

/// Starts a connection: what sends it, and on which node.
#[must_use]
pub fn initiation(description: &str, name: &str) -> Bytes {
    let mut body = BytesMut::new();
    put_tlv(&mut body, 1, description.as_bytes());
    put_tlv(&mut body, 2, name.as_bytes());
    message(kind::INITIATION, &body)
}

/// Ends a connection: monitoring ends on purpose (reason 0).
#[must_use]
pub fn termination() -> Bytes {
    let mut body = BytesMut::new();
    put_tlv(&mut body, 1, &0_u16.to_be_bytes());
    message(kind::TERMINATION, &body)
}

/// A session is established. `at` is the time since 1970-01-01, 00:00 UTC, here and below.
#[must_use]
pub fn peer_up(up: &SessionUp, at: Duration) -> Bytes {
    let session = &up.session;
    let mut body = peer_header(up, at, 0);
    put_address(&mut body, session.local.ip());
    body.put_u16(session.local.port());
    body.put_u16(session.remote.port());
    body.put_slice(&up.open_sent);
    body.put_slice(&up.open_received);
    message(kind::PEER_UP, &body)
}

/// A session has ended.
#[must_use]
pub fn peer_down(up: &SessionUp, at: Duration, cause: &Cause) -> Bytes {
    let mut body = peer_header(up, at, 0);
    match (cause.notification(), cause) {
        (Some((notification, sent)), _) => {
            body.put_u8(if sent { 1 } else { 3 });
            body.put_slice(&notification.encode());
        }
        (None, Cause::Closed { .. }) => body.put_u8(4),
        (None, cause) => {
            body.put_u8(2);
            // The event of RFC 4271 §8.1 and RFC 9687 §3; 0 for none.
            body.put_u16(match cause {
                Cause::GracefulRestart | Cause::Unusable { .. } => 2,
                Cause::SendHoldTimerExpired => 29,
                _ => 0,
            });
        }
    }
    message(kind::PEER_DOWN, &body)
}

/// An UPDATE that we sent (the Adj-RIB-Out as sent) or received (the Adj-RIB-In before any policy).
#[must_use]
pub fn route_monitoring(up: &SessionUp, at: Duration, sent: bool, update: &[u8]) -> Bytes {
    let flags = if sent { flag::O | flag::L } else { 0 };
    let mut body = peer_header(up, at, flags);
    body.put_slice(update);
    message(kind::ROUTE_MONITORING, &body)
}

/// Counters and gauges of a session.
#[must_use]
pub fn statistics_report(up: &SessionUp, at: Duration, statistics: &[Statistic]) -> Bytes {
    let mut body = peer_header(up, at, 0);
    body.put_u32(u32::try_from(statistics.len()).unwrap_or(u32::MAX));
    for statistic in statistics {
        match *statistic {
            Statistic::TreatedAsWithdraw(count) => put_tlv(&mut body, 11, &count.to_be_bytes()),
            Statistic::AdjRibOut(count) => put_tlv(&mut body, 15, &count.to_be_bytes()),
        }
    }
    message(kind::STATISTICS_REPORT, &body)
}

fn message(kind: u8, body: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(HEADER + body.len());
    message.put_u8(VERSION);
    message.put_u32(u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX));
    message.put_u8(kind);
    message.put_slice(body);
    message.freeze()
}

/// The per-peer header, of a peer in the global instance (RFC 7854 §4.2).
fn peer_header(up: &SessionUp, at: Duration, flags: u8) -> BytesMut {
    let session = &up.session;
    let ipv6 = if session.remote.is_ipv6() { flag::V } else { 0 };
    let two_octet = if session.four_octet_asn { 0 } else { flag::A };
    let mut header = BytesMut::new();
    header.put_u8(0);
    header.put_u8(flags | ipv6 | two_octet);
    // No distinguisher in the global instance.
    header.put_u64(0);
    put_address(&mut header, session.remote.ip());
    header.put_u32(session.remote_asn.0);
    header.put_u32(Ipv4Addr::to_bits(up.remote_router_id));
    header.put_u32(u32::try_from(at.as_secs()).unwrap_or(u32::MAX));
    header.put_u32(at.subsec_micros());
    header
}

/// An IPv4 address is preceded by zeros (RFC 7854 §4.2).
fn put_address(buffer: &mut BytesMut, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            buffer.put_bytes(0, 12);
            buffer.put_slice(&address.octets());
        }
        IpAddr::V6(address) => buffer.put_slice(&address.octets()),
    }
}

/// A value of at most 65,535 octets with its type (RFC 7854 §4.4).
fn put_tlv(buffer: &mut BytesMut, kind: u16, value: &[u8]) {
    let value = value.get(..usize::from(u16::MAX)).unwrap_or(value);
    buffer.put_u16(kind);
    buffer.put_u16(u16::try_from(value.len()).unwrap_or(u16::MAX));
    buffer.put_slice(value);
}

#[cfg(test)]
mod tests;
