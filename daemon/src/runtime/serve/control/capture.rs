//! Captures on the control socket: one line for each message of a session.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use ferrolb_bgp::capture::{CapturedMessage, CapturedSession};
use ferrolb_bgp::speaker::Captured;
use ferrolb_bgp::wire::Asn;
use serde::{Deserialize, Serialize};

/// A line of a capture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum CaptureLine {
    /// The capture goes on. The first line, and one each second without a message.
    Idle,
    /// This number of messages is missing here, since the client was too slow.
    Missed(u64),
    /// A message.
    Message(MessageLine),
}

/// A captured message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MessageLine {
    /// Time since 1970-01-01, 00:00 UTC.
    pub microseconds: u64,
    /// Whether the daemon sent it.
    pub sent: bool,
    /// Name of the peer.
    pub peer: String,
    /// The daemon's end of the connection.
    pub local: SocketAddr,
    /// The router's end.
    pub remote: SocketAddr,
    /// AS number of the daemon.
    pub local_asn: Asn,
    /// AS number of the router; 0 if unknown.
    pub remote_asn: Asn,
    /// Whether AS numbers in UPDATEs have four octets.
    pub four_octet_asn: bool,
    /// The whole message in hexadecimal digits.
    pub octets: String,
}

impl From<Captured> for CaptureLine {
    fn from(captured: Captured) -> Self {
        match captured {
            Captured::Message(message) => Self::Message(message.into()),
            Captured::Missed(messages) => Self::Missed(messages),
        }
    }
}

impl From<CapturedMessage> for MessageLine {
    fn from(message: CapturedMessage) -> Self {
        let session = message.session;
        Self {
            microseconds: u64::try_from(message.at.as_micros()).unwrap_or(u64::MAX),
            sent: message.sent,
            peer: session.peer,
            local: session.local,
            remote: session.remote,
            local_asn: session.local_asn,
            remote_asn: session.remote_asn,
            four_octet_asn: session.four_octet_asn,
            octets: digits(&message.octets),
        }
    }
}

impl MessageLine {
    /// The message; `None` if `octets` are not hexadecimal digits.
    pub(crate) fn message(self) -> Option<CapturedMessage> {
        Some(CapturedMessage {
            at: Duration::from_micros(self.microseconds),
            sent: self.sent,
            octets: octets(&self.octets)?,
            session: CapturedSession {
                peer: self.peer,
                template: None,
                local: self.local,
                remote: self.remote,
                local_asn: self.local_asn,
                remote_asn: self.remote_asn,
                four_octet_asn: self.four_octet_asn,
            },
        })
    }
}

fn digits(octets: &[u8]) -> String {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
    ];
    let halves = octets.iter().flat_map(|octet| [octet >> 4, octet & 0xf]);
    halves.map(|half| DIGITS[usize::from(half)]).collect()
}

fn octets(digits: &str) -> Option<Bytes> {
    let value = |digit: u8| char::from(digit).to_digit(16);
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let octet = |[high, low]: &[u8; 2]| u8::try_from((value(*high)? << 4) | value(*low)?).ok();
    let octets: Option<Vec<u8>> = pairs.iter().map(octet).collect();
    octets.filter(|_| rest.is_empty()).map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::serve::control::Answer;

    #[test]
    fn a_message_is_the_same_after_its_way_as_a_line() {
        let octets: Vec<u8> = (0..=255).collect();
        let message = CapturedMessage {
            at: Duration::from_micros(1_764_000_000_123_456),
            sent: true,
            session: CapturedSession {
                peer: "tor".into(),
                template: None,
                local: "10.0.0.11:40000".parse().expect("an address"),
                remote: "[2001:db8::1]:179".parse().expect("an address"),
                local_asn: Asn(64512),
                remote_asn: Asn(64513),
                four_octet_asn: true,
            },
            octets: octets.into(),
        };
        let line = MessageLine::from(message.clone());
        assert!(line.octets.starts_with("000102") && line.octets.ends_with("feff"));
        let answer = Answer::Ok(CaptureLine::Message(line));
        let json = serde_json::to_string(&answer).expect("JSON");
        let Ok(Answer::Ok(CaptureLine::Message(line))) = serde_json::from_str(&json) else {
            panic!("{json}");
        };
        assert_eq!(line.message(), Some(message));
    }

    #[test]
    fn what_is_no_hexadecimal_number_of_octets_is_no_message() {
        assert_eq!(octets("0g"), None);
        assert_eq!(octets("000"), None);
        assert_eq!(octets("+1"), None);
        assert_eq!(octets("fF"), Some(Bytes::from_static(&[255])));
    }
}
