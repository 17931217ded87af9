//! Messages as MRT records (RFC 6396): BGP4MP_ET, with microseconds.

use std::net::IpAddr;

use bytes::{BufMut, Bytes, BytesMut};

use super::CapturedMessage;
use crate::wire::MessageType;

/// RFC 6396 §4.
const BGP4MP_ET: u16 = 17;

/// Subtypes (RFC 6396 §4.4). LOCAL ones are for messages that we sent.
const MESSAGE: u16 = 1;
const MESSAGE_AS4: u16 = 4;
const MESSAGE_LOCAL: u16 = 6;
const MESSAGE_AS4_LOCAL: u16 = 7;

/// The message as one record. The subtype says how many octets the AS numbers of an UPDATE have.
#[must_use]
pub fn mrt(message: &CapturedMessage) -> Bytes {
    let session = &message.session;
    let two_octet = !session.four_octet_asn && message.kind() == Some(MessageType::UPDATE);
    let subtype = match (two_octet, message.sent) {
        (true, false) => MESSAGE,
        (true, true) => MESSAGE_LOCAL,
        (false, false) => MESSAGE_AS4,
        (false, true) => MESSAGE_AS4_LOCAL,
    };
    let mut body = BytesMut::new();
    // RFC 6396 §3: the microseconds are part of the length.
    body.put_u32(message.at.subsec_micros());
    for asn in [session.remote_asn, session.local_asn] {
        if two_octet {
            body.put_u16(asn.two_octet());
        } else {
            body.put_u32(asn.0);
        }
    }
    // The index of the interface is not known.
    body.put_u16(0);
    // Both ends have the same family.
    body.put_u16(if session.remote.is_ipv4() { 1 } else { 2 });
    for address in [session.remote.ip(), session.local.ip()] {
        match address {
            IpAddr::V4(address) => body.put_slice(&address.octets()),
            IpAddr::V6(address) => body.put_slice(&address.octets()),
        }
    }
    body.put_slice(&message.octets);
    let mut record = BytesMut::with_capacity(12 + body.len());
    // RFC 6396 §3: 32 bits of seconds, until 2106.
    record.put_u32(u32::try_from(message.at.as_secs()).unwrap_or(u32::MAX));
    record.put_u16(BGP4MP_ET);
    record.put_u16(subtype);
    record.put_u32(u32::try_from(body.len()).unwrap_or(u32::MAX));
    record.put_slice(&body);
    record.freeze()
}
