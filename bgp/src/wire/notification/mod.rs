//! The NOTIFICATION message (RFC 4271 §4.5).

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use super::capability::{Capability, CapabilityCode};
use super::codes::{AttributeType, ErrorCode, MessageType, subcode, subcode_name};
use super::error::{AttributeErrorKind, BGP_VERSION, DecodeError};
use super::family::{Afi, Family, Safi};
use super::{HEADER_LENGTH, MAX_LENGTH, put_header};

/// A NOTIFICATION: the reason why the sender closes the session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Notification {
    /// The error code.
    pub code: ErrorCode,
    /// The error subcode; its meaning depends on `code`.
    pub subcode: u8,
    /// The data; its format depends on code and subcode.
    pub data: Bytes,
}

/// The longest shutdown message in octets (RFC 9003 §2).
const SHUTDOWN_TEXT_LENGTH: usize = 255;

impl Notification {
    /// The most capabilities that [`capabilities`](Self::capabilities) returns.
    pub const CAPABILITIES_MAX: usize = 16;

    /// A NOTIFICATION without data.
    pub const fn new(code: ErrorCode, subcode: u8) -> Self {
        Self {
            code,
            subcode,
            data: Bytes::new(),
        }
    }

    /// Replaces the data.
    pub fn with_data(self, data: impl Into<Bytes>) -> Self {
        Self {
            data: data.into(),
            ..self
        }
    }

    /// Cease with one of [`subcode::cease`] (RFC 4486).
    pub const fn cease(subcode: u8) -> Self {
        Self::new(ErrorCode::CEASE, subcode)
    }

    /// Cease/Administrative Shutdown with a shutdown message for the peer's operator, truncated to
    /// 255 octets (RFC 9003 §2); without one if `text` is empty.
    pub fn administrative_shutdown(text: &str) -> Self {
        Self::cease(subcode::cease::ADMINISTRATIVE_SHUTDOWN).with_text(text)
    }

    /// Cease/Maximum Number of Prefixes Reached, with the limit for `family` (RFC 4486 §4).
    pub fn maximum_prefixes(family: Family, limit: u32) -> Self {
        let [high, low] = family.afi.0.to_be_bytes();
        let [a, b, c, d] = limit.to_be_bytes();
        Self::cease(subcode::cease::MAXIMUM_NUMBER_OF_PREFIXES_REACHED).with_data(vec![
            high,
            low,
            family.safi.0,
            a,
            b,
            c,
            d,
        ])
    }

    /// Cease/Hard Reset that encloses `inner`: the peer drops our routes although the N bit was
    /// negotiated (RFC 8538 §3.1).
    pub fn hard_reset(inner: &Self) -> Self {
        let data = [&[inner.code.0, inner.subcode], &inner.data[..]].concat();
        Self::cease(subcode::cease::HARD_RESET).with_data(data)
    }

    /// The NOTIFICATION that a Hard Reset encloses (RFC 8538 §3.1); `None` for any other
    /// NOTIFICATION, or if the data is too short.
    pub fn enclosed(&self) -> Option<Self> {
        let hard_reset =
            self.code == ErrorCode::CEASE && self.subcode == subcode::cease::HARD_RESET;
        match *self.data {
            [code, subcode, ..] if hard_reset => Some(Self {
                code: ErrorCode(code),
                subcode,
                data: self.data.slice(2..),
            }),
            _ => None,
        }
    }

    /// Hold Timer Expired (RFC 4271 §6.5).
    pub const fn hold_timer_expired() -> Self {
        Self::new(ErrorCode::HOLD_TIMER_EXPIRED, subcode::UNSPECIFIC)
    }

    /// Finite State Machine Error for a message that is unexpected in this state, with one of
    /// [`subcode::fsm`]. The data is the message type (RFC 6608 §3).
    pub fn unexpected_message(subcode: u8, received: MessageType) -> Self {
        Self::new(ErrorCode::FSM, subcode).with_data(vec![received.0])
    }

    /// The shutdown message of Cease/Administrative Shutdown or Reset, also inside a Hard Reset
    /// (RFC 9003 §2, RFC 8538 §3.1).
    ///
    /// Some senders get the length or the encoding wrong: a text that is too short is used as it
    /// is, and invalid UTF-8 and control characters become U+FFFD.
    pub fn shutdown_text(&self) -> Option<String> {
        match self.enclosed() {
            Some(enclosed) => enclosed.own_shutdown_text(),
            None => self.own_shutdown_text(),
        }
    }

    fn own_shutdown_text(&self) -> Option<String> {
        let with_text = self.code == ErrorCode::CEASE
            && [
                subcode::cease::ADMINISTRATIVE_SHUTDOWN,
                subcode::cease::ADMINISTRATIVE_RESET,
            ]
            .contains(&self.subcode);
        let (&length, rest) = self.data.split_first().filter(|_| with_text)?;
        let text = rest.get(..length.into()).unwrap_or(rest);
        let text = String::from_utf8_lossy(text);
        let printable = |c: char| {
            if c.is_control() {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        };
        (!text.is_empty()).then(|| text.chars().map(printable).collect())
    }

    /// The data as text, if code and subcode define its format and it is well-formed: for example
    /// `length 4097`, `attribute NEXT_HOP` or `limit of 100 ipv4-unicast prefixes`. For a shutdown
    /// message see [`shutdown_text`](Self::shutdown_text).
    pub fn data_in_words(&self) -> Option<String> {
        if let Some(enclosed) = self.enclosed() {
            return enclosed.own_data_in_words();
        }
        self.own_data_in_words()
    }

    /// The capabilities in an Unsupported Capability (RFC 5492 §5), at most
    /// [`CAPABILITIES_MAX`](Self::CAPABILITIES_MAX). Empty for any other NOTIFICATION, and for
    /// malformed data.
    pub fn capabilities(&self) -> Vec<Capability> {
        self.listed_capabilities().0
    }

    /// These capabilities, and the number of capabilities beyond the limit.
    fn listed_capabilities(&self) -> (Vec<Capability>, usize) {
        let listed =
            (self.code, self.subcode) == (ErrorCode::OPEN, subcode::open::UNSUPPORTED_CAPABILITY);
        if !listed {
            return (Vec::new(), 0);
        }
        let (mut capabilities, mut omitted) = (Vec::new(), 0);
        let mut input = &self.data[..];
        while let [code, length, rest @ ..] = input {
            let whole = rest.split_at_checked((*length).into());
            let Some((value, tail)) = whole else {
                return (Vec::new(), 0);
            };
            input = tail;
            if capabilities.len() == Self::CAPABILITIES_MAX {
                omitted += 1;
                continue;
            }
            match Capability::decode(CapabilityCode(*code), value) {
                Ok(capability) => capabilities.push(capability),
                Err(_) => return (Vec::new(), 0),
            }
        }
        if !input.is_empty() {
            return (Vec::new(), 0);
        }
        (capabilities, omitted)
    }

    fn own_data_in_words(&self) -> Option<String> {
        use subcode::{cease, fsm, header, open, update};
        let number = |text: &str| match *self.data {
            [high, low] => Some(format!("{text} {}", u16::from_be_bytes([high, low]))),
            _ => None,
        };
        match (self.code, self.subcode, &self.data[..]) {
            (ErrorCode::MESSAGE_HEADER, header::BAD_MESSAGE_LENGTH, _) => number("length"),
            (ErrorCode::MESSAGE_HEADER, header::BAD_MESSAGE_TYPE, [kind]) => {
                Some(format!("message type {kind}"))
            }
            (ErrorCode::OPEN, open::UNSUPPORTED_VERSION_NUMBER, _) => number("supported version"),
            (ErrorCode::OPEN, open::UNSUPPORTED_CAPABILITY, _) => {
                let (listed, omitted) = self.listed_capabilities();
                let mut words: Vec<_> = listed.iter().map(ToString::to_string).collect();
                if omitted > 0 {
                    words.push(format!("and {omitted} more"));
                }
                (!words.is_empty()).then(|| words.join(", "))
            }
            (ErrorCode::UPDATE, update::MISSING_WELL_KNOWN_ATTRIBUTE, [code]) => {
                Some(attribute(*code))
            }
            (
                ErrorCode::UPDATE,
                update::UNRECOGNIZED_WELL_KNOWN_ATTRIBUTE
                | update::ATTRIBUTE_FLAGS_ERROR
                | update::ATTRIBUTE_LENGTH_ERROR
                | update::INVALID_ORIGIN_ATTRIBUTE
                | update::INVALID_NEXT_HOP_ATTRIBUTE
                | update::OPTIONAL_ATTRIBUTE_ERROR,
                [_flags, code, ..],
            ) => Some(attribute(*code)),
            (
                ErrorCode::FSM,
                fsm::UNEXPECTED_MESSAGE_IN_OPEN_SENT
                | fsm::UNEXPECTED_MESSAGE_IN_OPEN_CONFIRM
                | fsm::UNEXPECTED_MESSAGE_IN_ESTABLISHED,
                [kind],
            ) => Some(format!("{}", MessageType(*kind))),
            (
                ErrorCode::CEASE,
                cease::MAXIMUM_NUMBER_OF_PREFIXES_REACHED,
                &[high, low, safi, a, b, c, d],
            ) => {
                let afi = Afi(u16::from_be_bytes([high, low]));
                let family = Family {
                    afi,
                    safi: Safi(safi),
                };
                let limit = u32::from_be_bytes([a, b, c, d]);
                Some(format!("limit of {limit} {family} prefixes"))
            }
            _ => None,
        }
    }

    /// Encodes the message. Data beyond 4096 octets is truncated.
    pub fn encode(&self) -> Bytes {
        let longest = MAX_LENGTH - HEADER_LENGTH - 2;
        let data = self.data.get(..longest).unwrap_or(&self.data);
        let mut message = BytesMut::with_capacity(HEADER_LENGTH + 2 + data.len());
        put_header(
            &mut message,
            HEADER_LENGTH + 2 + data.len(),
            MessageType::NOTIFICATION,
        );
        message.put_u8(self.code.0);
        message.put_u8(self.subcode);
        message.put_slice(data);
        message.freeze()
    }

    /// Decodes a body. The framer ensures that it has at least two octets.
    pub(super) fn decode(body: &[u8]) -> Self {
        let octet = |position| body.get(position).copied().unwrap_or(0);
        Self {
            code: ErrorCode(octet(0)),
            subcode: octet(1),
            data: Bytes::copy_from_slice(body.get(2..).unwrap_or_default()),
        }
    }

    fn fmt_name(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(name) = subcode_name(self.code, self.subcode) {
            write!(f, "/{name}")?;
        }
        write!(f, " ({}/{})", self.code.0, self.subcode)
    }

    fn with_text(self, text: &str) -> Self {
        let text = &text[..text.floor_char_boundary(SHUTDOWN_TEXT_LENGTH)];
        let Some(length) = u8::try_from(text.len()).ok().filter(|&length| length > 0) else {
            return self;
        };
        self.with_data([&[length], text.as_bytes()].concat())
    }
}

impl DecodeError {
    /// The NOTIFICATION to send before closing the connection.
    pub fn notification(&self) -> Notification {
        use subcode::{header, open, update};
        let header_error = |subcode| Notification::new(ErrorCode::MESSAGE_HEADER, subcode);
        let open_error = |subcode| Notification::new(ErrorCode::OPEN, subcode);
        let update_error = |subcode| Notification::new(ErrorCode::UPDATE, subcode);
        match self {
            Self::NotSynchronized => header_error(header::CONNECTION_NOT_SYNCHRONIZED),
            Self::BadLength { length, .. } => {
                header_error(header::BAD_MESSAGE_LENGTH).with_data(length.to_be_bytes().to_vec())
            }
            Self::BadType(kind) => header_error(header::BAD_MESSAGE_TYPE).with_data(vec![*kind]),
            Self::RouteRefreshLength(message) => Notification::new(
                ErrorCode::ROUTE_REFRESH,
                subcode::route_refresh::INVALID_MESSAGE_LENGTH,
            )
            .with_data(message.clone()),
            Self::UnsupportedVersion(_) => {
                open_error(open::UNSUPPORTED_VERSION_NUMBER).with_data(vec![0, BGP_VERSION])
            }
            Self::BadPeerAs { .. } => open_error(open::BAD_PEER_AS),
            Self::BadRouterId(_) => open_error(open::BAD_BGP_IDENTIFIER),
            Self::UnsupportedParameter(_) => open_error(open::UNSUPPORTED_OPTIONAL_PARAMETER),
            Self::MalformedOpen => open_error(subcode::UNSPECIFIC),
            Self::UnacceptableHoldTime(_) => open_error(open::UNACCEPTABLE_HOLD_TIME),
            Self::NoCommonFamily(families) => {
                let mut data = BytesMut::new();
                for family in families {
                    Capability::Multiprotocol(*family).put(&mut data);
                }
                open_error(open::UNSUPPORTED_CAPABILITY).with_data(data)
            }
            Self::MalformedAttributeList => update_error(update::MALFORMED_ATTRIBUTE_LIST),
            Self::InvalidNetwork => update_error(update::INVALID_NETWORK_FIELD),
            Self::Attribute {
                attribute,
                kind,
                octets,
            } => {
                let data = match kind {
                    AttributeErrorKind::Missing => Bytes::copy_from_slice(&[attribute.0]),
                    _ if kind.subcode() == update::MALFORMED_AS_PATH => Bytes::new(),
                    _ => octets.clone(),
                };
                update_error(kind.subcode()).with_data(data)
            }
        }
    }
}

fn attribute(code: u8) -> String {
    let code = AttributeType(code);
    let prefix = code.name().map_or("", |_| "attribute ");
    format!("{prefix}{code}")
}

/// Names and numbers, for example `Cease/Administrative Shutdown (6/2)`; for a Hard Reset also
/// those of the enclosed NOTIFICATION, for example `Cease/Hard Reset (6/9), Cease/BFD Down (6/10)`.
impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_name(f)?;
        match self.enclosed() {
            Some(enclosed) => {
                f.write_str(", ")?;
                enclosed.fmt_name(f)
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
